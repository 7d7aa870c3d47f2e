package ike

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// drops adds up what an engine has thrown away, repeats left out.
func drops(e *Engine) uint64 {
	n := e.counters[ReasonAuthFailed] + e.counters[ReasonBadAnswer]
	for r, c := range e.counters {
		if strings.HasPrefix(string(r), "drop-") && r != DropDuplicate && r != DropReplay {
			n += c
		}
	}
	return n
}

// answers counts the messages of one exchange that the server sends, and lets a
// test change the one with the number.
func tamper(w *world, ex isakmp.ExchangeType, number int, change func([]byte) []byte) {
	n := 0
	w.swap = func(from, _ netip.AddrPort, data []byte) []byte {
		if from.Addr() != netip.MustParseAddr("192.0.2.1") || isakmp.ExchangeType(data[18]) != ex {
			return data
		}
		if n++; n != number {
			return data
		}
		return change(slices.Clone(data))
	}
}

// TestInitiatorBitFlip changes bits of the responder's answers. What is protected
// is dropped and the true repeat taken; what is not leads to an agreement of both
// sides or to none.
func TestInitiatorBitFlip(t *testing.T) {
	for _, m := range []struct {
		name      string
		ex        isakmp.ExchangeType
		number    int
		protected bool
	}{
		{"message 2", isakmp.IdentityProtection, 1, false},
		{"message 4", isakmp.IdentityProtection, 2, false},
		{"message 6", isakmp.IdentityProtection, 3, true},
		{"quick mode message 2", isakmp.QuickMode, 1, true},
	} {
		size := 0
		for bit := 0; size == 0 || bit < size*8; bit++ {
			if bit%5 != 0 && !m.protected {
				continue
			}
			w, client, server := pair(t)
			for _, n := range []*node{client, server} {
				n.e.cfg.Rules = n.e.cfg.Rules[:1]
				n.e.cfg.Rules[0].Group = []keymat.Group{keymat.ECP256}
			}
			tamper(w, m.ex, m.number, func(b []byte) []byte {
				size = len(b)
				b[bit/8] ^= 1 << (bit % 8)
				return b
			})
			client.dial("192.0.2.1", 1, 1701)
			w.run(20 * time.Second)
			switch {
			case m.protected && !uncovered(bit):
				if len(client.up) != 1 || drops(client.e) != 1 {
					t.Fatalf("%s, bit %d: up %d, %d drops, %v", m.name, bit, len(client.up), drops(client.e), client.e.counters)
				}
				agree(t, client, server)
			case len(client.up) == 1 && len(server.up) == 1:
				agree(t, client, server)
			case len(client.up) > 0:
				t.Fatalf("%s, bit %d: the client alone is up", m.name, bit)
			}
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}

// TestResponderLies has a responder that knows the key answer with what was not
// offered.
func TestResponderLies(t *testing.T) {
	for _, c := range []struct {
		name   string
		lie    func(q *quick)
		reason Reason
	}{
		{"other selectors", func(q *quick) { q.lid = isakmp.AddrID(netip.MustParseAddr("192.0.2.9"), udp, 1701).Payload().Body }, ReasonBadAnswer},
		{"a port of the client", func(q *quick) { q.rid = isakmp.AddrID(netip.MustParseAddr("198.51.100.7"), udp, 53).Payload().Body }, ReasonBadAnswer},
		{"another transform", func(q *quick) {
			q.chosen = isakmp.ESPTransform{Number: 1, ID: isakmp.ESPDES, Auth: isakmp.ESPAuthMD5, Mode: isakmp.ModeTransport}.Transform()
		}, ReasonBadAnswer},
		{"another mode", func(q *quick) {
			x := q.chosen.ESP()
			x.Mode = isakmp.ModeTunnel
			q.chosen = x.Transform()
		}, ReasonBadAnswer},
		{"extended sequence numbers", func(q *quick) {
			x := q.chosen.ESP()
			x.ESN = true
			q.chosen = x.Transform()
		}, ReasonBadAnswer},
		{"reserved SPI", func(q *quick) { q.spiIn = 17 }, ReasonBadAnswer},
		{"surplus public value", func(q *quick) { q.pfs, q.pair.Public = keymat.ECP256, make([]byte, 64) }, ReasonBadAnswer},
		{"the truth", func(*quick) {}, ""},
	} {
		w, client, server := pair(t)
		server.refuse = func(sa SA) string {
			if sa.Dir == Inbound {
				for _, p := range server.e.sas {
					for _, q := range p.quicks {
						c.lie(q)
					}
				}
			}
			return ""
		}
		client.dial("192.0.2.1", 1, 1701)
		w.run(10 * time.Second)
		if c.reason == "" {
			mustUp(t, client, server)
			continue
		}
		if len(client.up) != 0 || len(client.kernel) != 0 || client.e.counters[c.reason] == 0 || len(client.down) != 1 {
			t.Errorf("%s: up %v, down %+v, %d SAs, %v", c.name, client.up, client.down, len(client.kernel), client.e.counters)
		}
	}
}

// TestChoiceNotOffered: a message 2 with a transform of its own is ignored.
func TestChoiceNotOffered(t *testing.T) {
	w, client, server := pair(t)
	tamper(w, isakmp.IdentityProtection, 1, func(b []byte) []byte {
		m, err := isakmp.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		x := isakmp.Phase1Transform{Number: 1, Enc: isakmp.EncDES, Hash: isakmp.HashMD5, Auth: isakmp.AuthPSK, Group: isakmp.GroupMODP768}
		m.Payloads[0] = isakmp.SA{DOI: 1, Situation: 1, Proposals: []isakmp.Proposal{{Number: 1, Protocol: 1, Transforms: []isakmp.Transform{x.Transform()}}}}.Payload()
		return m.Append(nil)
	})
	client.dial("192.0.2.1", 1, 1701)
	w.run(10 * time.Second)
	mustUp(t, client, server)
	if client.e.counters[ReasonBadAnswer] != 1 {
		t.Errorf("%v", client.e.counters)
	}
}

// TestResponderIdentity: an initiator's key may name who must answer.
func TestResponderIdentity(t *testing.T) {
	for id, ok := range map[string]bool{"192.0.2.1": true, "": true, "192.0.2.9": false, "@server.example.com": false} {
		w, client, server := pair(t)
		client.e.cfg.Keys[0].ID = id
		client.dial("192.0.2.1", 1, 1701)
		w.run(10 * time.Second)
		if ok != (len(client.up) == 1) || !ok && (len(client.down) != 1 || client.down[0].Reason != ReasonIdentity) {
			t.Errorf("identity %q: up %v, down %+v\n%s", id, client.up, client.down, words(server.reports))
		}
	}
	w, client, server := pair(t)
	client.e.cfg.Keys[0].ID, server.e.cfg.Keys[0].LocalID = "@server.example.com", "@server.example.com"
	client.dial("192.0.2.1", 1, 1701)
	w.run(10 * time.Second)
	mustUp(t, client, server)
}

// TestRekeyReachesAnother: when somebody else answers at the peer's address, the
// connection is not given to him.
func TestRekeyReachesAnother(t *testing.T) {
	w, client, server := pair(t)
	client.dial("192.0.2.1", 1, 1701)
	w.run(5 * time.Second)
	mustUp(t, client, server)
	client.e.cfg.Keys[0].LocalID = "@mallory.example.com"
	server.step(Rekey{Conn: server.up[0].ID, Phase1: true})
	w.run(5 * time.Second)
	c := server.e.conns[server.up[0].ID]
	if len(c.Phase1) != 1 || len(server.e.conns) != 2 {
		t.Errorf("%d phase 1 SAs, %d connections", len(c.Phase1), len(server.e.conns))
	}
	for _, x := range server.e.sortedConns() {
		if x != c && x.Announced {
			t.Error("a stranger's connection is up")
		}
	}
}

// TestOtherKeyOtherConnection: the same place and name with another key is
// another peer.
func TestOtherKeyOtherConnection(t *testing.T) {
	o := quickOffer()
	r := serverRig(t, ProfileCompatible, PresharedKey{Name: "a", Key: secret("a"), Group: true}, PresharedKey{Name: "b", Key: secret("b"), Group: true})
	a, b := newScript(r, o), newScript(r, o)
	a.psk, b.psk = secret("a"), secret("b")
	if !a.phase1() || !a.quick(o).run() || !b.phase1() || !b.quick(o).run() {
		t.Fatal("not up")
	}
	if len(r.up) != 2 || r.up[0].ID == r.up[1].ID || r.up[0].Key == r.up[1].Key {
		t.Errorf("up %+v", r.up)
	}
}

// TestWrongAddress: before the key is proven, messages must come from where the
// first one came.
func TestWrongAddress(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	s := newScript(r, quickOffer())
	if !s.main1() {
		t.Fatal("no message 2")
	}
	home := s.remote
	s.remote = netip.MustParseAddrPort("203.0.113.66:500")
	if out := s.send(s.message3()); len(out) != 0 || r.e.counters[DropWrongAddress] != 1 || len(r.jobs) != 0 {
		t.Errorf("message 3 from elsewhere: %d answers, %v", len(out), r.e.counters)
	}
	s.remote = home
	if !s.main3() {
		t.Fatal("no message 4")
	}
	s.remote = netip.MustParseAddrPort("203.0.113.66:500")
	if s.main5() {
		t.Error("message 5 from elsewhere is taken")
	}
	s.remote = home
	local := s.local
	s.local = netip.MustParseAddrPort("192.0.2.2:500")
	if s.main5() {
		t.Error("message 5 to another address of ours is taken")
	}
	s.local = local
	if !s.main5() {
		t.Error("the true message 5 is not taken")
	}
}

// TestPruneInTwoSteps: after a rekey the old SA is deleted after the overlap, and
// what is still on its way then is received a little longer.
func TestPruneInTwoSteps(t *testing.T) {
	o := quickOffer()
	r, s, old := upScript(t, o)
	if !s.quick(o).run() {
		t.Fatal("no rekey")
	}
	in, out := saKey(Inbound, old.theirs, s.remote.Addr()), saKey(Outbound, old.spi, s.remote.Addr())
	has := func(k string) bool { _, ok := r.kernel[k]; return ok }
	r.pass(overlap)
	if !has(in) || !has(out) {
		t.Error("gone before the overlap has passed")
	}
	before := len(r.sends)
	r.pass(overlap/4 + time.Second)
	if !has(in) || has(out) || len(r.sends) != before+1 {
		t.Errorf("after the overlap: inbound %v, outbound %v, %d deletes", has(in), has(out), len(r.sends)-before)
	}
	r.pass(lateInbound)
	if has(in) || len(r.kernel) != 2 || len(r.sends) != before+2 {
		t.Errorf("at the end: inbound %v, %d SAs, %d deletes", has(in), len(r.kernel), len(r.sends)-before)
	}
}
