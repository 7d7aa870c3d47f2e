package kernel

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/vr"
	"vrgate/xfrm"
)

// staticTunnel is a tunnel with two pairs of networks, one of which is for a protocol and ports.
func staticTunnel(mode config.StaticMode) *config.StaticTunnel {
	t := &config.StaticTunnel{
		Name: "hq", Mode: mode, LocalAddress: netip.MustParseAddr("192.0.2.1"),
		Peers: []config.StaticPeer{{Address: netip.MustParseAddr("198.51.100.1")}, {Name: "backup.example.net"}},
		Networks: []config.StaticNetwork{
			{Name: "1", Local: netip.MustParsePrefix("10.1.0.0/16"), Remote: netip.MustParsePrefix("0.0.0.0/0")},
			{Name: "2", Local: netip.MustParsePrefix("10.1.0.0/16"), Remote: netip.MustParsePrefix("10.2.0.0/16"), Protocol: 6, LocalPort: 80, RemotePort: 8080},
		},
	}
	if mode == config.StaticTransport {
		t.Networks = []config.StaticNetwork{{Name: "1", Protocol: 47}, {Name: "2", Protocol: 4}}
	}
	return t
}

// TestStaticPolicies: in every mode, carried or not, all policies are valid, what is sent goes by the SAs of the connection that carries or by none, what
// comes may come by any SA, and both are about the same packets.
func TestStaticPolicies(t *testing.T) {
	backup := netip.MustParseAddr("203.0.113.9")
	idle := xfrm.Idle(5)
	for _, tc := range []struct {
		mode  config.StaticMode
		ifID  uint32
		c     carried
		count map[xfrm.PolicyDirection]int
		sends int // of those out
	}{
		{config.StaticRoute, 77, carried{idle: idle}, map[xfrm.PolicyDirection]int{xfrm.PolicyOut: 2, xfrm.PolicyIn: 2, xfrm.PolicyForward: 2}, 0},
		{config.StaticRoute, 77, carried{idle: idle, conn: 9, remote: backup}, map[xfrm.PolicyDirection]int{xfrm.PolicyOut: 2, xfrm.PolicyIn: 2, xfrm.PolicyForward: 2}, 2},
		{config.StaticPolicy, 0, carried{idle: idle, remote: backup}, map[xfrm.PolicyDirection]int{xfrm.PolicyOut: 2, xfrm.PolicyIn: 2, xfrm.PolicyForward: 2}, 0},
		{config.StaticPolicy, 0, carried{idle: idle, conn: 9, remote: backup}, map[xfrm.PolicyDirection]int{xfrm.PolicyOut: 2, xfrm.PolicyIn: 2, xfrm.PolicyForward: 2}, 2},
		{config.StaticTransport, 0, carried{idle: idle}, map[xfrm.PolicyDirection]int{xfrm.PolicyOut: 2, xfrm.PolicyIn: 2}, 0},
		// A peer that is known by name has been at an address: it stays protected there.
		{config.StaticTransport, 0, carried{idle: idle, remote: backup}, map[xfrm.PolicyDirection]int{xfrm.PolicyOut: 4, xfrm.PolicyIn: 4}, 0},
		{config.StaticTransport, 0, carried{idle: idle, conn: 9, remote: backup}, map[xfrm.PolicyDirection]int{xfrm.PolicyOut: 4, xfrm.PolicyIn: 4}, 2},
	} {
		got := staticPolicies(staticTunnel(tc.mode), tc.ifID, tc.c)
		count, sends := map[xfrm.PolicyDirection]int{}, 0
		for slot, p := range got {
			count[p.Dir]++
			if err := p.Validate(); err != nil || slot != p.Slot() || p.IfID != tc.ifID || (p.Mode == xfrm.Transport) != (tc.mode == config.StaticTransport) {
				t.Errorf("%v: %+v: %v", tc.mode, p, err)
			}
			if p.Dir != xfrm.PolicyOut {
				if p.Reqid != 0 {
					t.Errorf("%v: %+v takes only some SAs", tc.mode, p)
				}
				back := p
				back.Dir, back.Src, back.Dst, back.SrcPort, back.DstPort = xfrm.PolicyOut, p.Dst, p.Src, p.DstPort, p.SrcPort
				if _, ok := got[back.Slot()]; !ok {
					t.Errorf("%v: nothing is sent where %v comes from", tc.mode, p)
				}
				continue
			}
			switch {
			case p.Reqid == xfrm.Tag(9) && tc.c.conn == 9 && p.Remote == backup:
				sends++
				if tc.mode == config.StaticTransport && p.Dst != netip.PrefixFrom(backup, 32) {
					t.Errorf("%+v sends elsewhere", p)
				}
			case p.Reqid != idle:
				t.Errorf("%v: %+v", tc.mode, p)
			}
		}
		for dir, n := range tc.count {
			if count[dir] != n {
				t.Errorf("%v, %+v: %d policies %v, want %d", tc.mode, tc.c, count[dir], dir, n)
			}
		}
		if sends != tc.sends || len(got) != count[xfrm.PolicyOut]+count[xfrm.PolicyIn]+count[xfrm.PolicyForward] {
			t.Errorf("%v, %+v: %d policies send, want %d", tc.mode, tc.c, sends, tc.sends)
		}
	}
}

// TestStaticSelectors: what passes an SA of a static tunnel is what both sides have agreed on, in mode transport what is between the outer
// addresses whatever the two call each other behind a NAT.
func TestStaticSelectors(t *testing.T) {
	prefix := netip.MustParsePrefix
	for _, tunnel := range []bool{true, false} {
		for _, dir := range []ike.Direction{ike.Inbound, ike.Outbound} {
			f := ike.SA{
				Conn: 9, Dir: dir, SPI: 0x1000, Local: netip.MustParseAddrPort("192.0.2.1:4500"), Remote: netip.MustParseAddrPort("198.51.100.1:40000"), Encap: true, Tunnel: tunnel,
				Cipher: ike.ESPAESCBC, Auth: ike.ESPAuthSHA1, AuthBits: 96, EncKey: make([]byte, 16), AuthKey: make([]byte, 20), Static: "hq", Child: "2",
				LocalNet: prefix("10.1.0.0/16"), RemoteNet: prefix("10.2.0.0/16"), Protocol: 6, LocalPort: 80, RemotePort: 8080,
			}
			want := xfrm.Selector{Proto: 6, Src: f.LocalNet, Dst: f.RemoteNet, SrcPort: 80, DstPort: 8080}
			if !tunnel {
				f.Protocol, f.LocalPort, f.RemotePort = 47, 0, 0
				want = xfrm.Selector{Proto: 47, Src: prefix("192.0.2.1/32"), Dst: prefix("198.51.100.1/32")}
			}
			if dir == ike.Inbound {
				want.Src, want.Dst, want.SrcPort, want.DstPort = want.Dst, want.Src, want.DstPort, want.SrcPort
			}
			sa, err := xfrmSA(f)
			if err != nil || sa.Validate() != nil || sa.Selector != want || sa.SetMark != 0 || (sa.Mode == xfrm.Tunnel) != tunnel {
				t.Errorf("tunnel %t, %v: %+v, %v, want %+v", tunnel, dir, sa.Selector, err, want)
			}
		}
	}
}

// TestIdleNumbers: no two tunnels are asked for by the same number, also when the numbers begin anew.
func TestIdleNumbers(t *testing.T) {
	d := &dataplane{idle: map[uint32]*static{}, lastIdle: 0xfffffd}
	var got []uint32
	for range 5 {
		got = append(got, d.newIdle(&static{}))
	}
	d.forgetIdle(xfrm.Idle(2))
	d.lastIdle = 0xffffff
	got = append(got, d.newIdle(&static{}))
	want := []uint32{xfrm.Idle(0xfffffe), xfrm.Idle(0xffffff), xfrm.Idle(1), xfrm.Idle(2), xfrm.Idle(3), xfrm.Idle(2)}
	if !slices.Equal(got, want) {
		t.Errorf("%#x, want %#x", got, want)
	}
}

// TestWanted: only a tunnel that starts on demand and that nothing carries is said to be wanted, not more than once a second, and not what is
// another virtual router's of the namespace.
func TestWanted(t *testing.T) {
	told := &wantedNews{}
	s := &static{name: "hq", config: config.StaticTunnel{Start: config.StartOnDemand}}
	server := netip.MustParseAddr("192.0.2.1")
	d := &dataplane{in: told, idle: map[uint32]*static{xfrm.Idle(3): s}, servers: []netip.Addr{server}}
	ask := func(reqid uint32, local netip.Addr) int {
		before := told.n
		d.wanted(xfrm.Acquire{Policy: xfrm.Policy{Reqid: reqid, Local: local}})
		return told.n - before
	}
	if ask(xfrm.Idle(4), server) != 0 || ask(xfrm.Idle(3), netip.MustParseAddr("192.0.2.2")) != 0 {
		t.Error("another's tunnel is wanted")
	}
	if ask(xfrm.Idle(3), server) != 1 || ask(xfrm.Idle(3), server) != 0 {
		t.Error("not told once")
	}
	for name, change := range map[string]func(){
		"nailed up": func() { s.config.Start = config.StartNailedUp }, "carried": func() { s.conn = 7 }, "closed": func() { s.closed = true },
	} {
		s.asked = time.Time{}
		change()
		if ask(xfrm.Idle(3), server) != 0 {
			t.Errorf("%s: told", name)
		}
		s.config.Start, s.conn, s.closed = config.StartOnDemand, 0, false
	}
	s.asked = time.Now().Add(-wantedPause)
	if ask(xfrm.Idle(3), server) != 1 {
		t.Error("not told again")
	}
}

// wantedNews counts.
type wantedNews struct {
	controlplane.Inlet
	n int
}

func (w *wantedNews) TunnelWanted(string) { w.n++ }

// TestProbingEnds: nothing is made to ask hosts from within a router that closes.
func TestProbingEnds(t *testing.T) {
	life, cancel := context.WithCancel(t.Context())
	cancel()
	if p, err := (&dataplane{life: life}).probing(); p != nil || !errors.Is(err, vr.ErrClosed) {
		t.Errorf("%v, %v", p, err)
	}
}

// TestWithheld: a link is withheld while the policies of the tunnel that encrypts its packets are not there, unless it is up already.
func TestWithheld(t *testing.T) {
	here, hq, branch := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")
	gre := vr.Link{Name: "gre", Kind: vr.LinkGRE, Local: here, Remote: hq, MTU: 1400}
	transport := &config.Router{StaticTunnels: []config.StaticTunnel{*staticTunnel(config.StaticTransport)}}
	for name, tc := range map[string]struct {
		c      *config.Router
		change func(link, was *vr.Link)
		want   bool
	}{
		"new":                    {transport, func(_, was *vr.Link) { was.Name = "other" }, true},
		"another key":            {transport, func(l, _ *vr.Link) { l.Key = 7 }, true},
		"it was down":            {transport, func(_, was *vr.Link) { was.Down = true }, true},
		"IP-in-IP":               {transport, func(l, _ *vr.Link) { l.Kind = vr.LinkIPIP }, true},
		"it is there":            {transport, func(_, _ *vr.Link) {}, false},
		"another MTU":            {transport, func(l, _ *vr.Link) { l.MTU = 1300 }, false},
		"down":                   {transport, func(l, was *vr.Link) { l.Down, was.Down = true, true }, false},
		"to somebody else":       {transport, func(l, _ *vr.Link) { l.Remote = branch }, false},
		"from another address":   {transport, func(l, _ *vr.Link) { l.Local = branch }, false},
		"of another kind":        {transport, func(l, _ *vr.Link) { l.Kind = vr.LinkVLAN }, false},
		"tunnel of another mode": {&config.Router{StaticTunnels: []config.StaticTunnel{*staticTunnel(config.StaticPolicy)}}, func(l, _ *vr.Link) { l.Key = 7 }, false},
	} {
		link, was := gre, gre
		tc.change(&link, &was)
		spec := vr.Spec{Links: []vr.Link{link}}
		held, some := withheld(tc.c, spec, []vr.Link{was})
		if some != tc.want || held.Links[0].Down != (tc.want || link.Down) || spec.Links[0].Down != link.Down {
			t.Errorf("%s: withheld %t, %+v", name, some, held.Links)
		}
	}
}
