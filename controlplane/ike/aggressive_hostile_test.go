package ike

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
	"vrgate/controlplane/keymat"
)

// groupScript is a peer of the group "office" in aggressive mode.
func groupScript(r *rig, o offers.Offer) *script {
	s := newScript(r, o)
	s.id, s.psk, s.cert = isakmp.TextID(isakmp.IDKeyID, "office"), keymat.Secret("a secret of the office"), "client"
	return s
}

// TestAggressiveMalformed: what is wrong with message 1 costs us no job and no state, and
// brings one small answer at most.
func TestAggressiveMalformed(t *testing.T) {
	replace := func(ps []isakmp.Payload, typ isakmp.PayloadType, body []byte) []isakmp.Payload {
		ps = slices.Clone(ps)
		i := slices.IndexFunc(ps, func(p isakmp.Payload) bool { return p.Type == typ })
		ps[i].Body = body
		return ps
	}
	without := func(ps []isakmp.Payload, typ isakmp.PayloadType) []isakmp.Payload {
		return slices.DeleteFunc(slices.Clone(ps), func(p isakmp.Payload) bool { return p.Type == typ })
	}
	ones := slices.Repeat([]byte{0xff}, 128)
	for _, c := range []struct {
		name    string
		change  func([]isakmp.Payload) []isakmp.Payload
		reason  Reason
		answers int
	}{
		{"public value 0", func(ps []isakmp.Payload) []isakmp.Payload { return replace(ps, isakmp.TypeKE, make([]byte, 128)) }, ReasonPublicValue, 1},
		{"public value 1", func(ps []isakmp.Payload) []isakmp.Payload {
			return replace(ps, isakmp.TypeKE, append(make([]byte, 127), 1))
		}, ReasonPublicValue, 1},
		{"public value above the prime", func(ps []isakmp.Payload) []isakmp.Payload { return replace(ps, isakmp.TypeKE, ones) }, ReasonPublicValue, 1},
		{"public value of another group", func(ps []isakmp.Payload) []isakmp.Payload { return replace(ps, isakmp.TypeKE, make([]byte, 256)) }, ReasonNoProposal, 1},
		{"no public value", func(ps []isakmp.Payload) []isakmp.Payload { return without(ps, isakmp.TypeKE) }, DropMalformed, 0},
		{"empty public value", func(ps []isakmp.Payload) []isakmp.Payload { return replace(ps, isakmp.TypeKE, nil) }, ReasonPublicValue, 1},
		{"short nonce", func(ps []isakmp.Payload) []isakmp.Payload { return replace(ps, isakmp.TypeNonce, make([]byte, 7)) }, DropMalformed, 0},
		{"long nonce", func(ps []isakmp.Payload) []isakmp.Payload { return replace(ps, isakmp.TypeNonce, make([]byte, 257)) }, DropMalformed, 0},
		{"no identity", func(ps []isakmp.Payload) []isakmp.Payload { return without(ps, isakmp.TypeID) }, DropMalformed, 0},
		{"short identity", func(ps []isakmp.Payload) []isakmp.Payload { return replace(ps, isakmp.TypeID, []byte{1, 0, 0, 0, 1}) }, DropMalformed, 0},
		{"long identity", func(ps []isakmp.Payload) []isakmp.Payload {
			return replace(ps, isakmp.TypeID, append([]byte{11, 0, 0, 0}, make([]byte, isakmp.MaxIDLen+1)...))
		}, DropMalformed, 0},
		{"bad SA", func(ps []isakmp.Payload) []isakmp.Payload { return replace(ps, isakmp.TypeSA, []byte{0, 0, 0, 1}) }, DropMalformed, 0},
		{"two identities", func(ps []isakmp.Payload) []isakmp.Payload {
			return append(slices.Clone(ps), isakmp.TextID(isakmp.IDKeyID, "office").Payload())
		}, DropMalformed, 0},
	} {
		r := subscriberRig(t, ProfileLegacy)
		s := groupScript(r, offers.VPNC())
		m, err := isakmp.Parse(s.aggressiveMessage1())
		if err != nil {
			t.Fatal(err)
		}
		m.Payloads = c.change(m.Payloads)
		out := s.send(m.Append(nil))
		if len(out) != c.answers || len(out) > 0 && (out[0].Data[18] != byte(isakmp.Informational) || len(out[0].Data) > 64) {
			t.Errorf("%s: %d answers", c.name, len(out))
		}
		if r.e.Counters()[c.reason] != 1 || len(r.jobs)+len(r.e.sas)+len(r.e.timers) != 0 || r.e.guard.HalfOpen+r.e.guard.Eager != 0 {
			t.Errorf("%s: %v, %d jobs, %d SAs", c.name, r.e.Counters(), len(r.jobs), len(r.e.sas))
		}
	}
}

// TestAggressiveForeign: messages of the other exchange, of a later step, in clear or
// encrypted where they must not be, change nothing.
func TestAggressiveForeign(t *testing.T) {
	r := subscriberRig(t, ProfileLegacy)
	s := groupScript(r, offers.VPNC())
	if !s.aggressive1() {
		t.Fatal("no message 2")
	}
	p := r.only(t)
	m3 := s.aggressiveMessage3(true, 500)
	for name, m := range map[string][]byte{
		"main mode message 3": s.message3(),
		"main mode message 5": s.seal(isakmp.IdentityProtection, 0, s.suite.FirstIV(s.pair.Public, s.gxr), s.id.Payload(), s.proof()[0]),
		"with a message id":   isakmp.Message{Header: s.header(isakmp.Aggressive, 7), Payloads: s.proof()}.Append(nil),
		"without a proof":     isakmp.Message{Header: s.header(isakmp.Aggressive, 0), Payloads: s.vendors}.Append(nil),
		"a notify in clear":   isakmp.Message{Header: s.header(isakmp.Informational, 7), Payloads: []isakmp.Payload{isakmp.Notify{DOI: 1, Protocol: 1, Type: isakmp.AuthenticationFailed}.Payload()}}.Append(nil),
	} {
		jobs := len(r.jobs)
		out := s.send(m)
		if p.State != StateAMDoneR || len(r.jobs) != jobs || len(out) > 1 || p.neg.Attempts != 0 {
			t.Errorf("%s: state %v, %d answers, %d attempts", name, p.State, len(out), p.neg.Attempts)
		}
	}
	// Somebody else's address is not the peer's.
	r.give(Packet{Local: s.local, Remote: ap("198.51.100.99:500"), Data: m3})
	if p.State != StateAMDoneR || r.e.Counters()[DropWrongAddress] != 1 {
		t.Errorf("state %v, %v", p.State, r.e.Counters())
	}
	for range maxKeyAttempts + 2 {
		bad := clone(m3)
		copy(bad[isakmp.HeaderLen:], randomBytes(16))
		s.send(bad)
	}
	// And once for the notify, which is what a client with another key sends.
	if r.e.Counters()[ReasonPSKMismatch] != maxKeyAttempts+1 || r.e.Counters()[DropLimit] != 2 {
		t.Errorf("%v", r.e.Counters())
	}
	r.pass(2 * time.Minute)
	if len(r.e.sas)+len(r.e.timers)+len(r.e.jobs)+r.e.guard.HalfOpen+r.e.guard.Eager != 0 {
		t.Error("something is left")
	}
}

// forgeAggressive sends a valid message 1 from an address that will never answer.
func forgeAggressive(r *rig, m []byte, from uint32) []Send {
	m = clone(m)
	copy(m, randomBytes(8))
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], from)
	return r.give(Packet{Local: ap("192.0.2.1:500"), Remote: netip.AddrPortFrom(netip.AddrFrom4(a), 500), Data: m})
}

// TestAggressiveFlood: forged first messages in any number have us compute a bounded
// number of answers at once, hold a bounded number of SAs, and send one answer each; each
// source gets no more than its limit, and who is real gets in.
func TestAggressiveFlood(t *testing.T) {
	o := offers.AppleGroup()
	o.Phase1 = asMethod(offers.Offer{Phase1: offerOf(keymat.ECP256)}, AuthXAuthPSK).Phase1
	first := func(r *rig) []byte { return groupScript(r, o).aggressiveMessage1() }

	// Workers that have fallen behind.
	r := subscriberRig(t, ProfileCompatible)
	r.noDH = true
	m := first(r)
	for i := range 2000 {
		if out := forgeAggressive(r, m, uint32(0x0a000000+i)); len(out) != 0 {
			t.Fatal("an answer without a shared secret")
		}
	}
	if len(r.jobs) != maxEager || r.e.guard.Eager != maxEager || r.e.guard.HalfOpen != maxEager || r.e.Counters()[DropBusy] != 2000-maxEager {
		t.Errorf("%d jobs, %d half open, %v", len(r.jobs), r.e.guard.HalfOpen, r.e.Counters())
	}
	// Main mode is not in the way of it.
	if !newScript(r, offers.NetworkManager()).main1() {
		t.Error("main mode is refused")
	}
	r.pass(2 * time.Minute)
	if len(r.e.sas)+len(r.e.timers)+len(r.e.jobs)+r.e.guard.HalfOpen+r.e.guard.Eager != 0 {
		t.Errorf("%d SAs, %d jobs, %d half open, %d eager are left", len(r.e.sas), len(r.e.jobs), r.e.guard.HalfOpen, r.e.guard.Eager)
	}

	// Workers that keep up: the total holds, and the oldest make room.
	r = subscriberRig(t, ProfileCompatible)
	r.e.cfg.HalfOpen = Config{HalfOpen: HalfOpenLimits{Total: 200}}.withDefaults().HalfOpen
	m = first(r)
	for i := range 200 {
		if out := forgeAggressive(r, m, uint32(0x0a000000+i)); len(out) != 1 || out[0].Data[18] != byte(isakmp.Aggressive) {
			t.Fatalf("message %d: %d answers", i, len(out))
		}
	}
	for i := range 100 {
		forgeAggressive(r, m, uint32(0x0b000000+i))
	}
	if r.e.guard.HalfOpen != 200 || r.e.Counters()[DropHalfOpenTotal] != 100 {
		t.Errorf("%d half open, %v", r.e.guard.HalfOpen, r.e.Counters())
	}
	r.pass(time.Second)
	s := groupScript(r, o)
	if !s.aggressive1() {
		t.Fatal("who is real is kept out")
	}
	s.send(s.aggressiveMessage3(true, 500))
	if p := r.e.sas[s.cookies]; p == nil || !p.done() {
		t.Error("who is real does not get in")
	}

	// One source.
	r = subscriberRig(t, ProfileCompatible)
	r.e.cfg.HalfOpen.PerSource = 10
	m = first(r)
	n := 0
	for range 100 {
		n += len(forgeAggressive(r, m, 7))
	}
	if n != 10 || len(r.jobs) != 10 || r.e.Counters()[DropHalfOpenSource] != 90 {
		t.Errorf("%d answers and %d jobs for one source", n, len(r.jobs))
	}
}

// TestAggressiveAmplification: with a pre-shared key message 2 is no larger than what
// clients send as message 1; with a certificate it is larger by the certificates.
func TestAggressiveAmplification(t *testing.T) {
	for _, o := range offers.Subscribers() {
		if o.Exchange != isakmp.Aggressive {
			continue
		}
		r := subscriberRig(t, ProfileLegacy)
		s := groupScript(r, o)
		m := s.aggressiveMessage1()
		out := s.send(m)
		if len(out) != 1 {
			t.Fatalf("%s: %d answers", o.Name, len(out))
		}
		certs := 0
		if p := r.only(t); !p.Method.preShared() {
			certs = len(r.e.cfg.Credentials[0].Chain[0]) + 256
		}
		if got := len(out[0].Data); got > len(m)+certs {
			t.Errorf("%s: %d bytes for %d", o.Name, got, len(m))
		}
	}
}

// TestAggressiveBitFlip changes bits of messages 2 and 3. Where HASH_I is broken in message
// 3, the true repeat of it is taken. What no hash covers (RFC 2409 section 5.4), the
// NAT-D payloads among it, leads to an agreement of both sides or to none.
func TestAggressiveBitFlip(t *testing.T) {
	for _, number := range []int{2, 3} {
		size := 0
		for bit := 0; size == 0 || bit < size*8; bit += 3 {
			w, client, server, open := modePair(t, mode{true, AuthPSK})
			for _, n := range []*node{client, server} {
				n.e.cfg.Rules = n.e.cfg.Rules[:1]
				n.e.cfg.Rules[0].Group = []keymat.Group{keymat.ECP256}
			}
			from, seen := server.addr, false
			if number == 3 {
				from = client.addr
			}
			w.swap = func(a, _ netip.AddrPort, data []byte) []byte {
				if seen || a.Addr() != from || isakmp.ExchangeType(data[18]) != isakmp.Aggressive || number == 3 && data[19]&1 == 0 {
					return data
				}
				seen, size = true, len(data)
				data[bit/8] ^= 1 << (bit % 8)
				return data
			}
			client.step(open)
			w.run(2 * time.Minute)
			if hash := bit/8 - isakmp.HeaderLen; number == 3 && hash >= 0 && hash < 36 && (len(client.up) != 1 || len(server.up) != 1) {
				t.Fatalf("message 3, bit %d: client up %d, server up %d, %v\n%s", bit, len(client.up), len(server.up), server.e.Counters(), words(server.reports))
			}
			if len(client.up) != len(server.up) {
				t.Fatalf("message %d, bit %d: client up %d, server up %d", number, bit, len(client.up), len(server.up))
			}
			if len(client.up) == 1 {
				agree(t, client, server)
			} else if len(client.down) != 1 {
				t.Fatalf("message %d, bit %d: neither up nor down", number, bit)
			}
		}
	}
}

// TestAggressiveInitiatorFails: why we give up as initiator, in words and by type.
func TestAggressiveInitiatorFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		m      mode
		change func(client, server *node, open *Initiate)
		reason Reason
		text   string
	}{
		{"wrong key", mode{true, AuthPSK}, func(client, _ *node, _ *Initiate) { client.e.cfg.Keys[0].Key = keymat.Secret("wrong") },
			ReasonPSKMismatch, "its proof is wrong: the pre-shared keys differ"},
		{"unknown group", mode{true, AuthPSK}, func(client, _ *node, _ *Initiate) { client.e.cfg.Keys[0].LocalID = "keyid:unknown" },
			ReasonTimeout, "AUTHENTICATION-FAILED"},
		{"not allowed", mode{true, AuthPSK}, func(_, server *node, _ *Initiate) {
			for i := range server.e.cfg.Rules {
				server.e.cfg.Rules[i].Aggressive = AggressiveNotAllowed
			}
		}, ReasonTimeout, "INVALID-EXCHANGE-TYPE"},
		{"not allowed here", mode{true, AuthPSK}, func(client, _ *node, _ *Initiate) {
			for i := range client.e.cfg.Rules {
				client.e.cfg.Rules[i].Aggressive = AggressiveNotAllowed
			}
		}, ReasonConfig, "no IKE policy rule can be offered"},
		{"required, but main mode wanted", mode{false, AuthPSK}, func(client, _ *node, _ *Initiate) {
			for i := range client.e.cfg.Rules {
				client.e.cfg.Rules[i].Aggressive = AggressiveRequired
			}
		}, ReasonConfig, "no IKE policy rule can be offered"},
		{"another server", mode{true, AuthRSA}, func(_, _ *node, open *Initiate) { open.PeerID = "dn:CN=other" }, ReasonIdentity, `peer calls itself DER_ASN1_DN "CN=server"`},
		{"another server", mode{false, AuthRSA}, func(_, _ *node, open *Initiate) { open.PeerID = "dn:CN=other" }, ReasonIdentity, `peer calls itself DER_ASN1_DN "CN=server"`},
		{"bad certificate", mode{true, AuthRSA}, func(_, server *node, _ *Initiate) { server.e.cfg.Credentials[1].Subject = nameDER("x") },
			"certificate-identity", "the certificate is another's"},
		{"bad certificate", mode{false, AuthHybridRSA}, func(_, server *node, _ *Initiate) { server.e.cfg.Credentials[1].Subject = nameDER("x") },
			"certificate-identity", "the certificate is another's"},
		{"no certificate", mode{false, AuthRSA}, func(_, _ *node, open *Initiate) { open.Credential = "none" }, ReasonConfig, `there is no certificate "none"`},
	} {
		t.Run(c.m.String()+" "+c.name, func(t *testing.T) {
			w, client, server, open := modePair(t, c.m)
			c.change(client, server, &open)
			client.step(open)
			w.run(10 * time.Minute) // a server that waits for XAuth is patient
			if len(client.down) != 1 || client.down[0].Reason != c.reason || !strings.Contains(client.down[0].Text, c.text) || client.down[0].Conn.Ref != 7 {
				t.Errorf("down %+v, want %s: %s", client.down, c.reason, c.text)
			}
			empty(t, client, server)
		})
	}
}

// TestAggressiveRestart: SAs of aggressive mode and with certificates live on in the next
// process, and go on being replaced in the same kind of exchange (K5).
func TestAggressiveRestart(t *testing.T) {
	for _, m := range []mode{{true, AuthPSK}, {true, AuthRSA}, {false, AuthRSA}} {
		w, client, server, open := modePair(t, m)
		client.step(open)
		w.run(5 * time.Second)
		mustUp(t, client, server)
		before := server.only(t).newest()
		server.restart(t)
		client.restart(t)
		p := server.only(t).newest()
		if p.Method != before.Method || p.Aggressive != before.Aggressive || p.Subject != before.Subject || p.KeyName != before.KeyName || p.Vendor != before.Vendor {
			t.Errorf("%v: %+v, was %+v", m, p, before)
		}
		for _, n := range []*node{client, server} {
			old := n.only(t).newest()
			n.step(Rekey{Conn: n.only(t).Info.ID, Phase1: true})
			w.run(5 * time.Second)
			p := n.only(t).newest()
			if p == old || p.Aggressive != m.aggressive || p.Method != m.method || !p.Initiator {
				t.Errorf("%v: %s: after the rekey %v, aggressive %v, method %v\n%s", m, n.name, p != old, p.Aggressive, p.Method, words(client.reports, server.reports))
			}
		}
		w.run(5 * time.Hour)
		agree(t, client, server)
		client.step(CloseAll{Reason: ReasonShutdown})
		w.run(3 * time.Minute)
		empty(t, client, server)
	}
}

// FuzzAggressive gives arbitrary payloads to aggressive mode, as message 1 and, in clear and
// encrypted with the right keys, as message 3: no panic, one small answer at most, nobody is
// let in, and nothing is left.
func FuzzAggressive(f *testing.F) {
	seed := func(o offers.Offer) {
		r := subscriberRig(f, ProfileLegacy)
		s := groupScript(r, o)
		m1 := s.aggressiveMessage1()
		f.Add(uint8(0), uint8(isakmp.TypeSA), m1[isakmp.HeaderLen:])
		if !s.aggressive1() {
			f.Fatal("no message 2")
		}
		ps := append(s.proof(), s.vendors...)
		for i := range ps {
			if ps[i].Type == isakmp.TypeHash || ps[i].Type == isakmp.TypeSignature {
				ps[i].Body = make([]byte, len(ps[i].Body))
			}
		}
		for _, kind := range []uint8{1, 2, 4, 5} {
			f.Add(kind, uint8(ps[0].Type), isakmp.AppendPayloads(nil, ps))
		}
	}
	seed(offers.VPNC())
	seed(offers.AppleHybrid())
	seed(asMethod(offers.AppleGroup(), AuthXAuthRSA))
	small := offers.AppleGroup()
	small.Phase1 = offerOf(keymat.ECP256)
	f.Fuzz(func(t *testing.T, kind, first uint8, data []byte) {
		if len(data) == 0 {
			return
		}
		r := subscriberRig(t, ProfileLegacy)
		r.noDH = kind%3 == 0 // what follows costs more than it finds
		s := groupScript(r, asMethod(small, []AuthMethod{AuthXAuthPSK, AuthXAuthRSA}[kind/3%2]))
		var m []byte
		if kind%3 == 0 {
			m = append(isakmp.Message{Header: s.header(isakmp.Aggressive, 0)}.Append(nil), data...)
			m[16] = first
			binary.BigEndian.PutUint32(m[24:], uint32(len(m)))
		} else {
			if !s.aggressive1() {
				t.Fatal("no message 2")
			}
			m = append(isakmp.Message{Header: s.header(isakmp.Aggressive, 0)}.Append(nil), data...)
			if kind%3 == 2 {
				ct, _, err := s.keys.Encrypt(s.suite.FirstIV(s.pair.Public, s.gxr), data)
				if err != nil {
					t.Fatal(err)
				}
				m = isakmp.AppendEncrypted(nil, s.header(isakmp.Aggressive, 0), isakmp.PayloadType(first), ct)
			} else {
				m[16] = first
				binary.BigEndian.PutUint32(m[24:], uint32(len(m)))
			}
		}
		r.verifies = nil
		out := s.send(m)
		if len(out) > 1 || len(out) == 1 && len(out[0].Data) > 64 {
			t.Errorf("%d answers", len(out))
		}
		if len(r.e.conns) != 0 || len(r.jobs) > 1 || len(r.verifies) > 1 || r.e.guard.Eager > 1 {
			t.Errorf("%d connections, %d jobs, %d certificates, %d eager", len(r.e.conns), len(r.jobs), len(r.verifies), r.e.guard.Eager)
		}
		r.pass(2 * time.Minute)
		if len(r.e.sas)+len(r.e.timers)+len(r.e.jobs)+r.e.guard.HalfOpen+r.e.guard.Eager+r.e.guard.FragBytes != 0 {
			t.Error("something is left")
		}
	})
}

// TestAggressiveGivesUp: a client with another key sees our proof first. What it says then is told
// once, as the reason that it is, and changes nothing: in clear at once, and encrypted with keys that
// we do not have when message 3 never came.
func TestAggressiveGivesUp(t *testing.T) {
	for name, encrypted := range map[string]bool{"in clear": false, "encrypted": true} {
		for _, proves := range []bool{true, false} {
			r := subscriberRig(t, ProfileLegacy)
			s := groupScript(r, offers.VPNC())
			if !s.aggressive1() {
				t.Fatal("no message 2")
			}
			h := s.header(isakmp.Informational, 7)
			m := isakmp.Message{Header: h, Payloads: []isakmp.Payload{isakmp.Notify{DOI: 1, Protocol: 1, Type: isakmp.AuthenticationFailed}.Payload()}}.Append(nil)
			if encrypted {
				m = isakmp.AppendEncrypted(nil, h, isakmp.TypeHash, randomBytes(48))
			}
			for range 3 {
				s.send(m)
			}
			told := func() (n int) {
				for _, f := range r.reports {
					if f.Level == LevelInfo && f.Reason == ReasonPSKMismatch && strings.Contains(f.Text, "another key than") {
						n++
					}
				}
				return n
			}
			want := 1
			if encrypted {
				want = 0
			}
			if told() != want || r.only(t).State != StateAMDoneR {
				t.Errorf("%s: told %d times, want %d; %v", name, told(), want, r.e.Counters())
			}
			if proves { // it was somebody else
				if s.send(s.aggressiveMessage3(true, 500)); r.only(t).State != StateDone {
					t.Errorf("%s: the peer that has the key is in state %v", name, r.only(t).State)
				}
				continue
			}
			r.pass(2 * time.Minute)
			if told() != 1 || len(r.e.sas) != 0 {
				t.Errorf("%s: told %d times at the end, %v", name, told(), r.e.Counters())
			}
		}
	}
}
