package fakekernel

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/site"
	"vrgate/controlplane/subscriber"
)

// loop is a wire that brings what goes out of red by its tunnel in at blue, and the other way round.
type loop struct {
	notes
	k *Kernel
}

func (l *loop) SendInner(router string, sa ike.SA, p Packet) {
	l.k.ReceiveInner(map[string]string{"red": "blue", "blue": "red"}[router], sa.SPI, p)
}

func (n *notes) TunnelWanted(tunnel string) { n.got = append(n.got, "wanted "+tunnel) }

func staticRouter(name, local, remote string, start config.StaticStart) *config.Router {
	return &config.Router{Name: name, StaticTunnels: []config.StaticTunnel{{
		Name: "hq", Terminating: name, Mode: config.StaticRoute, Start: start,
		Networks: []config.StaticNetwork{{Name: "lan", Local: netip.MustParsePrefix(local), Remote: netip.MustParsePrefix(remote)}},
	}}}
}

// staticSAs are those of a connection in one virtual router.
func staticSAs(t *config.StaticTunnel, conn ike.ConnID, in, out uint32) (inbound, outbound ike.SA) {
	sa := ike.SA{
		Conn: conn, SPI: in, Dir: ike.Inbound, Remote: netip.MustParseAddrPort("198.51.100.7:500"), Tunnel: true, Static: t.Name, Child: "lan",
		LocalNet: t.Networks[0].Local, RemoteNet: t.Networks[0].Remote,
	}
	inbound = sa
	sa.Dir, sa.SPI = ike.Outbound, out
	return inbound, sa
}

// TestStatics: packets pass what carries and nothing else, what nobody carries is wanted, and hosts answer.
func TestStatics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &loop{}
		l.k = New(l)
		l.k.AddHost("blue", netip.MustParseAddr("10.2.0.1"))
		l.k.AddHost("red", netip.MustParseAddr("10.1.0.1"))
		red, blue := staticRouter("red", "10.1.0.0/16", "10.2.0.0/16", config.StartOnDemand), staticRouter("blue", "10.2.0.0/16", "10.1.0.0/16", config.StartRespond)
		r, err := l.k.Open(nil, red, l)
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.k.Open(nil, blue, l)
		if err != nil {
			t.Fatal(err)
		}
		ping := Packet{Source: netip.MustParseAddr("10.1.0.1"), Destination: netip.MustParseAddr("10.2.0.1"), Protocol: ICMP, Text: "ping"}
		if got := l.k.Send("red", ping); got != Dropped || l.take() != "wanted hq" {
			t.Errorf("without connection: %s", got)
		}
		elsewhere := ping
		elsewhere.Destination = netip.MustParseAddr("10.3.0.1")
		if got := l.k.Send("red", elsewhere); got != NoRoute || l.take() != "" {
			t.Errorf("to nowhere: %s", got)
		}
		in, out := staticSAs(&red.StaticTunnels[0], 7, 1, 2)
		back, forth := staticSAs(&blue.StaticTunnels[0], 8, 2, 1)
		if err := errors.Join(r.InstallSA(in), r.InstallSA(out), b.InstallSA(back), b.InstallSA(forth)); err != nil {
			t.Fatal(err)
		}
		if got := l.k.Send("red", ping); got != Dropped {
			t.Errorf("before it carries: %s", got)
		}
		if err := errors.Join(r.CarryTunnel(controlplane.CarryTunnel{Tunnel: "hq", Conn: 7}), b.CarryTunnel(controlplane.CarryTunnel{Tunnel: "hq", Conn: 8})); err != nil {
			t.Fatal(err)
		}
		if got := l.k.Send("red", ping); got != Sent {
			t.Errorf("when it carries: %s", got)
		}
		if got := l.k.Received("red"); len(got) != 1 || got[0].Text != "re: ping" {
			t.Errorf("answers %v", got)
		}
		if got := l.k.Received("blue"); len(got) != 1 || got[0] != ping {
			t.Errorf("received %v", got)
		}
		l.k.ReceiveInner("blue", 2, elsewhere)
		l.k.ReceiveInner("blue", 99, ping)
		if got := l.k.Received("blue"); len(got) != 0 {
			t.Errorf("received %v", got)
		}
		results := map[uint64]site.CheckResult{}
		for i, target := range []string{"10.2.0.1", "10.2.0.2"} {
			p := site.Probe{Tunnel: "hq", Seq: uint64(i), Check: site.Check{Target: netip.MustParseAddr(target), Timeout: time.Second}}
			r.Probe(p, func(res site.CheckResult) { results[res.Seq] = res })
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !results[0].OK || results[1].OK || results[1].Text != "no answer" {
			t.Errorf("probes %v", results)
		}
		if c, ok := r.Traffic(7); !ok || c.OutPackets != 3 || c.InPackets != 2 {
			t.Errorf("traffic %+v %v", c, ok)
		}
		if got := l.k.String(); !strings.Contains(got, "static tunnel hq of red carried by 198.51.100.7\n") || !strings.Contains(got, "sa in from 198.51.100.7 of hq/lan\n") {
			t.Errorf("%s", got)
		}
		if err := errors.Join(r.CarryTunnel(controlplane.CarryTunnel{Tunnel: "hq"}), r.RemoveSA(ike.RemoveSA{Conn: 7, Dir: ike.Inbound, SPI: 1}),
			r.RemoveSA(ike.RemoveSA{Conn: 7, Dir: ike.Outbound, SPI: 2})); err != nil {
			t.Fatal(err)
		}
		r.CloseStatic(7)
		if got := r.StaticTraffic()["hq"]; got != (subscriber.Counters{InPackets: 2, OutPackets: 3}) {
			t.Errorf("at the end %+v", got)
		}
		if _, ok := r.Traffic(7); ok {
			t.Error("traffic of a connection that is over")
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		var typed *controlplane.DataplaneError
		red.StaticTunnels[0].Terminating = "blue"
		if err := r.InstallSA(in); !errors.As(err, &typed) || typed.Reason != "no-terminating-router" {
			t.Errorf("into a virtual router that does not run: %v", err)
		}
	})
}
