package fakekernel

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
)

// notes is both ends of the fake: what is sent and what comes up, as words.
type notes struct {
	controlplane.Inlet
	got []string
}

func (n *notes) SendIKE(string, ike.Send) { n.got = append(n.got, "sent IKE") }
func (n *notes) SendESP(_ string, sa ike.SA, _ []byte) {
	n.got = append(n.got, "sent by "+sa.Remote.Addr().String())
}
func (n *notes) L2TPPacket(socket l2tp.TunnelID, _, _ netip.AddrPort, _ l2tp.ConnID, _ []byte) {
	if socket == 0 {
		n.got = append(n.got, "listener")
	} else {
		n.got = append(n.got, "tunnel")
	}
}
func (n *notes) PPPFrame(subscriber.CallKey, []byte) { n.got = append(n.got, "frame") }

// take returns what came since the last call.
func (n *notes) take() string {
	out := strings.Join(n.got, ", ")
	n.got = nil
	return out
}

func sas(conn ike.ConnID, peer string, spi uint32) (in, out ike.SA) {
	in = ike.SA{Conn: conn, Dir: ike.Inbound, SPI: spi, Local: netip.MustParseAddrPort("192.0.2.1:500"), Remote: netip.AddrPortFrom(netip.MustParseAddr(peer), 500)}
	out = in
	out.Dir, out.SPI = ike.Outbound, spi+1000
	return in, out
}

// open makes a virtual router with two peers' SAs and a tunnel and session of the first.
func open(t *testing.T, n *notes, fail ...int) (*Kernel, controlplane.Dataplane) {
	t.Helper()
	k := New(n)
	for _, f := range fail {
		k.Fail(f)
	}
	d, err := k.Open(nil, &config.Router{Name: "red"}, n)
	if err != nil {
		t.Fatal(err)
	}
	for conn, peer := range map[ike.ConnID]string{1: "198.51.100.1", 2: "198.51.100.2"} {
		in, out := sas(conn, peer, uint32(conn))
		for _, sa := range []ike.SA{in, out} {
			if err := d.InstallSA(sa); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := d.OpenTunnel(l2tp.OpenSocket{Tunnel: 7, Remote: netip.MustParseAddrPort("198.51.100.1:1701"), Conn: 1}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.OpenSession(subscriber.OpenSession{ID: 5, Call: subscriber.CallKey{Tunnel: 7, Session: 9}, Terminating: "red", MTU: 1400}); err != nil {
		t.Fatal(err)
	}
	return k, d
}

// TestSteering: what comes up is what the kernel's rules let through.
func TestSteering(t *testing.T) {
	n := &notes{}
	k, d := open(t, n)
	control := func(tunnel byte) []byte { return []byte{0xc8, 2, 0, 12, 0, tunnel, 0, 0, 0, 0, 0, 0} }
	data := func(tunnel, session byte) []byte { return []byte{0, 2, 0, tunnel, 0, session, 0xff, 3, 0xc0, 0x21} }
	for _, tc := range []struct {
		name string
		spi  uint32
		data []byte
		want string
	}{
		{"first message", 1, control(0), "listener"},
		{"tunnel's own", 1, control(7), "tunnel"},
		{"another client's tunnel", 2, control(7), ""},
		{"no such tunnel", 1, control(8), ""},
		{"no such SA", 3, control(0), ""},
		{"an outbound SA", 1001, control(0), ""},
		{"session in the kernel", 1, data(7, 9), "frame"},
		{"session that is not", 1, data(7, 8), "tunnel"},
		{"another client's session", 2, data(7, 9), ""},
		{"too short", 1, []byte{0xc8, 2, 0}, ""},
	} {
		k.ReceiveESP("red", tc.spi, tc.data)
		if got := n.take(); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
	k.ReceiveESP("blue", 1, control(0))
	if err := d.SendTunnel(l2tp.Send{Tunnel: 7, Data: control(1)}); err != nil || n.take() != "sent by 198.51.100.1" {
		t.Errorf("sending: %v", err)
	}
	in, out := sas(1, "198.51.100.1", 1)
	for _, sa := range []ike.SA{in, out} {
		if err := d.RemoveSA(ike.RemoveSA{Conn: 1, Dir: sa.Dir, SPI: sa.SPI, Remote: sa.Remote.Addr()}); err != nil {
			t.Error(err)
		}
	}
	if err := d.SendTunnel(l2tp.Send{Tunnel: 7, Data: control(1)}); err == nil || n.take() != "" {
		t.Error("a tunnel sent without its SA")
	}
}

// TestFailures: the n-th call fails, makes nothing, and leaves what it should have removed.
func TestFailures(t *testing.T) {
	n := &notes{}
	k, d := open(t, n, 8, 9, 11)
	if got := len(k.Calls()); got != 7 {
		t.Fatalf("%d calls so far: %q", got, k.Calls())
	}
	if err := d.Activate(subscriber.Activate{ID: 5, Peer: netip.MustParseAddr("10.0.0.2"), Gateway: netip.MustParseAddr("10.0.0.1"), MTU: 1300}); !errors.Is(err, ErrInjected) {
		t.Errorf("activate: %v", err)
	}
	if _, err := d.CloseSession(5); !errors.Is(err, ErrInjected) {
		t.Errorf("close session: %v", err)
	}
	if err := d.CloseTunnel(7); err != nil {
		t.Error(err)
	}
	want := `router red
  leaked session of 198.51.100.1 in red mtu 1400, no traffic
  leaked tunnel of 198.51.100.1
  sa in from 198.51.100.1
  sa in from 198.51.100.2
  sa out to 198.51.100.1
  sa out to 198.51.100.2
`
	if got := k.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := d.Close(); !errors.Is(err, ErrInjected) {
		t.Errorf("close: %v", err)
	}
	if got := k.String(); got != "" {
		t.Errorf("left after Close:\n%s", got)
	}
}
