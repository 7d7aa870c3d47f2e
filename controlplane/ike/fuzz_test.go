package ike

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
)

// FuzzPacket gives arbitrary datagrams to an engine with an SA in each state: no
// panic, nothing installed, no connection lost, bounded answers.
func FuzzPacket(f *testing.F) {
	r := serverRig(f, ProfileCompatible)
	var ladders []*ladder
	for i := range ladderLen {
		l := newLadder(r, quickOffer())
		l.s.remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}), 500)
		l.s.inner = l.s.remote.Addr()
		l.s.id = isakmp.AddrID(l.s.inner, 0, 0)
		if err := l.climb(0, i); err != nil {
			f.Fatal(err)
		}
		ladders = append(ladders, l)
	}
	for i, l := range ladders {
		for _, m := range l.s.sent {
			f.Add(uint8(i), m[16:])
		}
	}
	kernel, conns := len(r.kernel), len(r.e.conns)
	f.Fuzz(func(t *testing.T, which uint8, tail []byte) {
		l := ladders[int(which)%len(ladders)]
		msg := append(append(clone(l.s.cookies.I[:]), l.s.cookies.R[:]...), tail...)
		if len(msg) >= isakmp.HeaderLen {
			binary.BigEndian.PutUint32(msg[24:], uint32(len(msg)))
		}
		r.sends, r.reports, r.jobs = r.sends[:0], r.reports[:0], r.jobs[:0]
		r.t = t
		out := r.give(Packet{Local: l.s.local, Remote: l.s.remote, Data: msg})
		r.now = r.now.Add(time.Microsecond)
		bytes := 0
		for _, s := range out {
			bytes += len(s.Data)
		}
		if len(out) > 1 || bytes > 3*len(msg)+200 {
			t.Errorf("%d answers of %d bytes to %d bytes", len(out), bytes, len(msg))
		}
		if len(r.kernel) != kernel || len(r.e.conns) != conns {
			t.Errorf("%d SAs and %d connections, were %d and %d", len(r.kernel), len(r.e.conns), kernel, conns)
		}
	})
}

// FuzzAuthenticated is a peer that knows the key and sends arbitrary payloads in
// every exchange, properly hashed and encrypted: no panic, bounded state, and
// nobody else is touched.
func FuzzAuthenticated(f *testing.F) {
	f.Add(uint8(0), uint8(isakmp.TypeDelete), isakmp.AppendPayloads(nil, []isakmp.Payload{isakmp.DeleteESP(0x1234).Payload()}))
	f.Add(uint8(0), uint8(isakmp.TypeNotify), isakmp.AppendPayloads(nil, []isakmp.Payload{isakmp.Notify{DOI: 1, Protocol: 1, Type: isakmp.InitialContact}.Payload()}))
	sa := quickOffer().QuickSA(0x12345, isakmp.NATTNone)
	f.Add(uint8(1), uint8(isakmp.TypeSA), isakmp.AppendPayloads(nil, []isakmp.Payload{sa.Payload(), {Type: isakmp.TypeNonce, Body: make([]byte, 16)},
		isakmp.AddrID(netip.MustParseAddr("198.51.100.7"), udp, 1701).Payload(), isakmp.AddrID(netip.MustParseAddr("192.0.2.1"), udp, 1701).Payload()}))
	f.Add(uint8(0x80|1), uint8(isakmp.TypeSA), isakmp.AppendPayloads(nil, []isakmp.Payload{sa.Payload(), {Type: isakmp.TypeNonce, Body: make([]byte, 16)},
		isakmp.AddrID(netip.MustParseAddr("10.0.0.5"), udp, 1701).Payload(), isakmp.AddrID(netip.MustParseAddr("192.0.2.1"), udp, 1701).Payload()}))
	f.Add(uint8(2), uint8(0), []byte{})
	f.Fuzz(func(t *testing.T, kind, first uint8, rest []byte) {
		r := serverRig(t, ProfileCompatible)
		if kind&0x80 != 0 {
			r = passRig(t)
		}
		other := newLadder(r, quickOffer())
		other.s.remote = netip.MustParseAddrPort("198.51.100.8:500")
		other.s.inner = other.s.remote.Addr()
		other.s.id = isakmp.AddrID(other.s.inner, 0, 0)
		l := newLadder(r, quickOffer())
		if other.climb(0, 5) != nil || l.climb(0, 5) != nil {
			t.Fatal("not up")
		}
		s := l.s
		mid := uint32(0x01020304)
		ex := isakmp.Informational
		hash := s.keys.HashInfo(mid, rest)
		if kind%3 != 0 {
			ex = isakmp.QuickMode
			hash = s.keys.HashQuick1(mid, rest)
		}
		body := append([]byte{first, 0, 0, byte(4 + len(hash))}, hash...)
		ct, _, err := s.keys.Encrypt(s.suite.MessageIV(s.last, mid), append(body, rest...))
		if err != nil {
			t.Fatal(err)
		}
		s.send(isakmp.AppendEncrypted(nil, s.header(ex, mid), isakmp.TypeHash, ct))
		for range 5 {
			r.pass(20 * time.Second)
		}
		if len(r.kernel) > 4 || len(r.e.timers) > 20 || len(r.e.jobs) != 0 {
			t.Errorf("%d SAs, %d timers, %d jobs", len(r.kernel), len(r.e.timers), len(r.e.jobs))
		}
		if r.e.sas[other.s.cookies] == nil || r.e.conns[r.e.sas[other.s.cookies].Conn].current() == nil {
			t.Error("another connection has suffered")
		}
		r.give(CloseAll{Reason: ReasonShutdown})
		if len(r.kernel)+len(r.e.sas)+len(r.e.conns)+len(r.e.timers)+len(r.e.spis)+len(r.e.outs) != 0 {
			t.Error("something is left")
		}
	})
}
