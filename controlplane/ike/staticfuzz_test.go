package ike

import (
	"net/netip"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// FuzzSelectors reads arbitrary selectors of a static tunnel's peer: what is read is written and read again the same, and
// only what is exactly a pair of the tunnel is taken for it.
func FuzzSelectors(f *testing.F) {
	net := netip.MustParsePrefix
	for _, s := range []selector{
		{local: net("10.2.0.0/24"), remote: net("10.1.0.0/24")}, {local: net("10.2.0.0/25"), remote: net("10.1.0.0/24")}, {local: net("0.0.0.0/0"), remote: net("0.0.0.0/0")},
		{local: net("192.0.2.1/32"), remote: net("198.51.100.7/32"), protocol: gre}, {local: net("2001:db8::/48"), remote: net("2001:db8:1::/48"), protocol: 6, localPort: 22},
	} {
		l, r := s.ids()
		f.Add(r, l, false)
		f.Add(l, r, true)
	}
	f.Add([]byte{7, 0, 0, 0, 10, 1, 0, 0, 10, 1, 0, 255}, []byte{7, 0, 0, 0, 10, 2, 0, 0, 10, 2, 0, 255}, false)
	f.Fuzz(func(t *testing.T, first, second []byte, nat bool) {
		p := &phase1{Local: netip.MustParseAddrPort("192.0.2.1:500"), Remote: netip.MustParseAddrPort("198.51.100.7:500"), NATPeer: nat}
		ids := []isakmp.Payload{{Type: isakmp.TypeID, Body: first}, {Type: isakmp.TypeID, Body: second}}
		s, text := readSelectors(ids, p.Local.Addr(), p.Remote.Addr())
		if text != "" {
			return
		}
		l, r := s.ids()
		again, text := readSelectors([]isakmp.Payload{{Type: isakmp.TypeID, Body: r}, {Type: isakmp.TypeID, Body: l}}, p.Local.Addr(), p.Remote.Addr())
		if text != "" || again != s {
			t.Fatalf("%v, again %v %s", s, again, text)
		}
		tunnel := crossRig(t).e.cfg.Statics[0]
		x := tunnel.pair(s, p)
		switch {
		case x == nil:
			if d := tunnel.differs(s, p); len(d) < 20 || len(d) > 1024 {
				t.Errorf("%q", d)
			}
		case x.Tunnel:
			if s != (selector{local: x.LocalNet, remote: x.RemoteNet}) {
				t.Errorf("%v is taken for %s", s, x.Name)
			}
		case s.protocol != gre || s.local != host(p.Local.Addr()) || !s.remote.IsSingleIP() || !nat && s.remote != host(p.Remote.Addr()):
			t.Errorf("%v is taken for %s", s, x.Name)
		}
	})
}

// FuzzStaticAuthenticated is the peer of a static tunnel, or an L2TP client from the same address, that sends arbitrary
// payloads in every exchange, properly hashed and encrypted: no panic, bounded state, nobody else is touched, and what comes up
// is of the kind of its phase 1 SA (J11).
func FuzzStaticAuthenticated(f *testing.F) {
	l, r := (selector{local: netip.MustParsePrefix("10.2.0.0/24"), remote: netip.MustParsePrefix("10.1.0.0/24")}).ids()
	sa := quickOffer().QuickSA(0x12345, isakmp.NATTNone)
	quick := isakmp.AppendPayloads(nil, []isakmp.Payload{sa.Payload(), {Type: isakmp.TypeNonce, Body: make([]byte, 16)}, {Type: isakmp.TypeID, Body: r}, {Type: isakmp.TypeID, Body: l}})
	for kind := range uint8(6) {
		f.Add(kind, uint8(isakmp.TypeSA), quick)
		f.Add(kind, uint8(isakmp.TypeNotify), isakmp.AppendPayloads(nil, []isakmp.Payload{isakmp.Notify{DOI: 1, Protocol: 1, Type: isakmp.InitialContact}.Payload()}))
		f.Add(kind, uint8(isakmp.TypeAttributes), isakmp.AppendPayloads(nil, []isakmp.Payload{isakmp.AttributeSet{Type: isakmp.ConfigRequest}.Payload()}))
	}
	f.Fuzz(func(t *testing.T, kind, first uint8, rest []byte) {
		g := crossRig(t)
		other := newScript(g, quickOffer())
		other.psk = keymat.Secret("the secret of the link")
		s := newScript(g, quickOffer())
		s.psk = groupKey.Key
		if kind&1 != 0 {
			s.psk, other.psk = other.psk, s.psk
		}
		if !other.phase1() || !s.phase1() || len(g.e.conns) != 2 {
			t.Fatal("not up")
		}
		oq := other.quick(quickOffer())
		if kind&1 == 0 {
			oq.nets("10.1.0.0/24", "10.2.0.0/24", 0)
		}
		if !oq.run() {
			t.Fatal("not up")
		}
		mid := uint32(0x01020304)
		ex, hash := isakmp.Informational, s.keys.HashInfo(mid, rest)
		switch kind / 2 % 3 {
		case 1:
			ex, hash = isakmp.QuickMode, s.keys.HashQuick1(mid, rest)
		case 2:
			ex = isakmp.Transaction
		}
		body := append([]byte{first, 0, 0, byte(4 + len(hash))}, hash...)
		ct, _, err := s.keys.Encrypt(s.suite.MessageIV(s.last, mid), append(body, rest...))
		if err != nil {
			t.Fatal(err)
		}
		out := s.send(isakmp.AppendEncrypted(nil, s.header(ex, mid), isakmp.TypeHash, ct))
		if len(out) > 3 {
			t.Errorf("%d answers", len(out))
		}
		if static := kind&1 != 0; len(g.kernel) > 2 {
			for _, x := range g.kernel {
				if x.Conn == g.e.sas[s.cookies].Conn && (x.Static != "") != static {
					t.Errorf("an SA of another kind: %+v", x)
				}
			}
		}
		for range 5 {
			g.pass(20 * time.Second)
		}
		if len(g.kernel) > 4 || len(g.e.timers) > 20 || len(g.e.jobs) != 0 {
			t.Errorf("%d SAs, %d timers, %d jobs", len(g.kernel), len(g.e.timers), len(g.e.jobs))
		}
		if g.e.sas[other.cookies] == nil || g.e.conns[g.e.sas[other.cookies].Conn].current() == nil {
			t.Error("another connection has suffered")
		}
		g.give(CloseAll{Reason: ReasonShutdown})
		if len(g.kernel)+len(g.e.sas)+len(g.e.conns)+len(g.e.timers)+len(g.e.spis)+len(g.e.outs) != 0 {
			t.Error("something is left")
		}
	})
}
