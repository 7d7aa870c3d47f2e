//go:build kernel

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
)

// nobody takes what comes up from the kernel.
type nobody struct{}

func (nobody) IKEPacket(_, _ netip.AddrPort, _ bool, _ []byte)                             {}
func (nobody) L2TPPacket(_ l2tp.TunnelID, _, _ netip.AddrPort, _ l2tp.ConnID, data []byte) {}
func (nobody) PPPFrame(subscriber.CallKey, []byte)                                         {}
func (nobody) SAExpired(uint32, ike.Direction, bool)                                       {}
func (nobody) IPsecMissing(_, _ int)                                                       {}
func (nobody) PeerMoved(uint32, netip.AddrPort)                                            {}
func (nobody) LinkChanged(controlplane.LinkState)                                          {}
func (nobody) TunnelWanted(string)                                                         {}
func (nobody) SessionLost(subscriber.ID)                                                   {}

// TestSeveralSessions: sessions of one tunnel come and go without touching each other; the
// tunnel's socket outlives its order to close until the last of them, and then its id can be
// used again. Data is numbered where the session asked for it (RFC 2661 section 5.4).
func TestSeveralSessions(t *testing.T) {
	space := fmt.Sprintf("vrd%d", os.Getpid())
	run := func(command string, args ...string) string {
		t.Helper()
		out, err := exec.Command(command, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", command, args, err, out)
		}
		return string(out)
	}
	in := func(args ...string) string { return run("ip", append([]string{"-n", space}, args...)...) }
	run("ip", "netns", "add", space)
	t.Cleanup(func() { run("ip", "netns", "del", space) })
	in("link", "set", "lo", "up")
	in("link", "add", "ext", "type", "dummy")
	in("address", "add", "192.0.2.1/24", "dev", "ext")
	in("link", "set", "ext", "up")
	state := func() string {
		return in("-o", "link", "show", "type", "ppp") + in("route", "show", "table", "all") + run("ip", "netns", "exec", space, "ss", "-Hauln") +
			run("ip", "netns", "exec", space, "nft", "list", "tables")
	}
	before := state()

	gateway := netip.MustParseAddr("10.0.0.1")
	red := &config.Router{
		Name: "red", Kind: config.KindNamespace, Namespace: config.Namespace{Name: space}, ServerAddresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		IPProfiles: []config.IPProfile{{Name: "users", Router: "red", Unnumbered: gateway}},
	}
	d, err := New().Open(&config.Config{Routers: []*config.Router{red}}, red, nobody{})
	if err != nil {
		t.Fatal(err)
	}
	const id = l2tp.TunnelIDMin + 7
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	openTunnel := func() error {
		return d.OpenTunnel(l2tp.OpenSocket{
			Tunnel: id, Local: netip.MustParseAddrPort("192.0.2.1:1701"), Remote: netip.MustParseAddrPort("192.0.2.9:1701"), Conn: 5,
		})
	}
	check(openTunnel())
	names := map[subscriber.ID]string{}
	for n := subscriber.ID(1); n <= 3; n++ {
		call := subscriber.CallKey{Tunnel: uint16(id), Session: uint16(10 + n)}
		names[n], _, err = d.OpenSession(subscriber.OpenSession{
			ID: n, Call: call, PeerTunnel: 1, PeerSession: uint16(n), Sequencing: n == 2, Terminating: "red", MTU: 1400,
		})
		check(err)
		check(d.Activate(subscriber.Activate{
			ID: n, Call: call, Terminating: "red", Peer: netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + n)}), Gateway: gateway, MTU: 1390, Link: usualLink,
		}))
	}
	if out := in("l2tp", "show", "session"); strings.Count(out, "Session ") != 3 || strings.Count(out, "sequence numbering: send recv") != 1 {
		t.Errorf("three sessions, of which one numbers its data:\n%s", out)
	}
	up := func(want ...subscriber.ID) {
		t.Helper()
		links, routes := in("-o", "link", "show", "type", "ppp"), in("route", "show")
		if n := strings.Count(links, "\n"); n != len(want) {
			t.Errorf("%d interfaces, want %d:\n%s", n, len(want), links)
		}
		for _, n := range want {
			if route := fmt.Sprintf("10.0.0.%d dev %s ", 10+n, names[n]); !strings.Contains(links, names[n]+":") || !strings.Contains(routes, route) {
				t.Errorf("session %d has lost its interface or route %q:\n%s%s", n, route, links, routes)
			}
			if _, ok := d.SessionCounters(n); !ok {
				t.Errorf("session %d has no counters", n)
			}
		}
	}
	up(1, 2, 3)
	_, err = d.CloseSession(1)
	check(err)
	up(2, 3)
	check(d.CloseTunnel(id))
	up(2, 3)
	if err := openTunnel(); !errors.Is(err, controlplane.ErrPortInUse) {
		t.Errorf("the tunnel's id is given again while its sessions last: %v", err)
	}
	for _, n := range []subscriber.ID{3, 2} {
		_, err = d.CloseSession(n)
		check(err)
	}
	up()
	// Kernels from 6.11 remove tunnels in a work queue.
	for end := time.Now().Add(10 * time.Second); strings.TrimSpace(in("l2tp", "show", "tunnel")) != ""; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("left: %s", in("l2tp", "show", "tunnel"))
		}
	}
	check(openTunnel())
	check(d.Close())
	if after := state(); after != before {
		t.Errorf("left:\n%s\nwas before:\n%s", after, before)
	}
}

// TestIPsecErrors: what is lost is counted in the namespace of the SAs, and nowhere else.
func TestIPsecErrors(t *testing.T) {
	w := placed(t, "another namespace")
	p := w.peers[0]
	w.connect(p)
	lost := func(plane controlplane.Dataplane) uint64 {
		t.Helper()
		list, err := plane.IPsecErrors()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.Name == "XfrmInNoStates" {
				return e.Value
			}
		}
		t.Fatalf("%+v", list)
		return 0
	}
	w.check(w.plane.RemoveSA(ike.RemoveSA{Conn: p.in.Conn, Dir: p.in.Dir, SPI: p.in.SPI, Local: p.in.Local.Addr(), Remote: p.in.Remote.Addr()}))
	if n := pingFor(t, p.space, p.inner.String(), intranetText, 3, 100, briefly); n != 0 {
		t.Errorf("%d of 3 answered", n)
	}
	if here, there := lost(w.plane), lost(w.other); here != 3 || there != 0 {
		t.Errorf("%d lost here, %d there", here, there)
	}
	w.close()
}
