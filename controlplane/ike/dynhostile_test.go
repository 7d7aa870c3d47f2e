package ike

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
	"vrgate/controlplane/keymat"
)

// TestRecognition: who is a dynamic subscriber, and of which profile (J10, J11,
// J15, J19).
func TestRecognition(t *testing.T) {
	l2tp := TransportProfile{Name: "l2tp", Local: netip.MustParseAddr("192.0.2.1")}
	open := PresharedKey{Name: "open", Key: xauthKey.Key}
	vid := func(o offers.Offer) offers.Offer {
		o.Vendors = append(o.Vendors[:len(o.Vendors):len(o.Vendors)], isakmp.VendorPayload(isakmp.VendorXAuth, 0))
		return o
	}
	for _, c := range []struct {
		name    string
		offer   offers.Offer
		key     PresharedKey
		id      isakmp.ID
		tunnels []TunnelProfile
		l2tp    bool
		want    string // tunnel profile, "" L2TP, "refused", "phase 1"
	}{
		{"XAuth method", offers.AppleCisco(), open, isakmp.ID{}, []TunnelProfile{{Name: "a"}}, true, "a"},
		{"strongSwan under L2TP", vid(offers.NetworkManager()), open, isakmp.ID{}, []TunnelProfile{{Name: "a"}}, true, ""},
		{"the same without a transport profile", vid(offers.NetworkManager()), open, isakmp.ID{}, []TunnelProfile{{Name: "a"}}, false, "a"},
		{"the same with a key of a profile", vid(offers.NetworkManager()), xauthKey, isakmp.ID{}, []TunnelProfile{{Name: "a"}, {Name: "staff"}}, true, "staff"},
		{"no vendor ID", offers.AppleL2TP(), open, isakmp.ID{}, []TunnelProfile{{Name: "a"}}, false, ""},
		{"another server address", offers.AppleCisco(), open, isakmp.ID{}, []TunnelProfile{{Name: "a", Local: netip.MustParseAddr("192.0.2.9")}, {Name: "b"}}, false, "b"},
		{"by identity", offers.AppleCisco(), open, isakmp.TextID(isakmp.IDUserFQDN, "joe@example.net"),
			[]TunnelProfile{{Name: "a", PeerIDs: []string{"@example.net", "10.0.0.1"}}, {Name: "b", PeerIDs: []string{"*@example.org", "*@example.net"}}}, false, "b"},
		{"no profile for the identity", offers.AppleCisco(), open, isakmp.TextID(isakmp.IDKeyID, "guests"), []TunnelProfile{{Name: "a", PeerIDs: []string{"staff"}}}, true, "refused"},
		{"no profile at all", offers.AppleCisco(), open, isakmp.ID{}, nil, true, "refused"},
		{"key of another profile", offers.AppleCisco(), xauthKey, isakmp.ID{}, []TunnelProfile{{Name: "a"}}, true, "refused"},
	} {
		r := dynRig(t, ProfileCompatible)
		r.e.cfg.Keys, r.e.cfg.Tunnels = []PresharedKey{c.key}, c.tunnels
		for i := range c.tunnels {
			c.tunnels[i].ESP = []ESPProposal{{Cipher: ESPAESCBC, KeyBits: 256, Auth: ESPAuthSHA1}}
		}
		if c.l2tp {
			l2tp.ESP = []ESPProposal{{Cipher: ESPAESCBC, KeyBits: 256, Auth: ESPAuthSHA1}}
			r.e.cfg.Transports = []TransportProfile{l2tp}
		}
		s := newSubscriber(r, c.offer)
		if c.id.Type != 0 {
			s.id2(c.id)
		}
		up := s.phase1()
		got := "phase 1"
		switch {
		case up && len(r.e.conns) == 0:
			got = "refused"
		case up:
			got = ""
			if len(r.dynamic) > 0 {
				got = r.dynamic[0].(DynamicUp).Conn.Profile
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q\n%s", c.name, got, c.want, words(r.reports))
		}
		if got == "refused" && (r.e.counters[ReasonNoTunnel] != 1 || len(r.e.sas)+len(r.e.timers) != 0) {
			t.Errorf("%s: %v, %d SAs", c.name, r.e.counters, len(r.e.sas))
		}
		if got == "" && c.l2tp {
			// It stays what it was: no tunnel, no mode config.
			if q := s.tunnel(offers.AppleCisco(), "198.51.100.7", "0.0.0.0/0"); q.run() {
				t.Errorf("%s: opens a tunnel", c.name)
			}
			if out := s.request(1, isakmp.ConfigIP4Address); len(out) != 0 {
				t.Errorf("%s: mode config is answered", c.name)
			}
		}
	}
}

// id2 sets the peer's identity.
func (s *subscriberScript) id2(id isakmp.ID) { s.script.id = id }

// TestHybridIsAlwaysAsked: with hybrid authentication phase 1 proves nothing about
// the peer, so that a profile without XAuth never takes it.
func TestHybridIsAlwaysAsked(t *testing.T) {
	p := &phase1{Local: ap("192.0.2.1:500"), Method: AuthHybridRSA, session: &session{}}
	for _, c := range []struct {
		x    XAuthType
		want bool
	}{{XAuthGeneric, true}, {XAuthRADIUSCHAP, true}, {XAuthNone, false}} {
		profile := &TunnelProfile{Name: "a", XAuth: c.x}
		if got := profile.takes(p, isakmp.TextID(isakmp.IDKeyID, "x")); got != c.want {
			t.Errorf("XAuth type %d: %v", c.x, got)
		}
		if asks := asksAgain(profile, p); !asks {
			t.Errorf("XAuth type %d: a rekey is let in unasked", c.x)
		}
	}
}

// TestHostileTransactions: messages of a transaction exchange that are forged,
// replayed, too long or out of place change nothing.
func TestHostileTransactions(t *testing.T) {
	joe := []isakmp.Attribute{text(isakmp.XAuthUserName, "joe"), text(isakmp.XAuthUserPassword, "secret of joe")}
	offer := offers.AppleCisco()
	reply := func(s *subscriberScript, q config, change func(*isakmp.AttributeSet)) []byte {
		set := isakmp.AttributeSet{Type: isakmp.ConfigReply, Identifier: q.set.Identifier, Attributes: joe}
		if change != nil {
			change(&set)
		}
		keep := s.ivs[q.mid]
		_, b := s.transaction(q.mid, set)
		s.ivs[q.mid] = keep
		return b
	}
	for _, c := range []struct {
		name  string
		make  func(s *subscriberScript, q config) []byte
		count Reason
	}{
		{"another identifier", func(s *subscriberScript, q config) []byte {
			return reply(s, q, func(x *isakmp.AttributeSet) { x.Identifier++ })
		}, DropUnexpected},
		{"an ACK", func(s *subscriberScript, q config) []byte {
			return reply(s, q, func(x *isakmp.AttributeSet) { x.Type = isakmp.ConfigAck })
		}, DropUnexpected},
		{"bad hash", func(s *subscriberScript, q config) []byte {
			set := isakmp.AttributeSet{Type: isakmp.ConfigReply, Identifier: q.set.Identifier, Attributes: joe}
			ps := []isakmp.Payload{{Type: isakmp.TypeHash, Body: make([]byte, 32)}, set.Payload()}
			return s.seal(isakmp.Transaction, q.mid, s.ivs[q.mid], ps...)
		}, DropBadHash},
		{"garbage", func(s *subscriberScript, q config) []byte {
			b := reply(s, q, nil)
			b[isakmp.HeaderLen+2] ^= 1
			return b
		}, DropUndecryptable},
		{"no attributes payload", func(s *subscriberScript, q config) []byte {
			ps := hashed(func(rest []byte) []byte { return s.keys.HashInfo(q.mid, rest) })
			return s.seal(isakmp.Transaction, q.mid, s.ivs[q.mid], ps...)
		}, DropUndecryptable},
		{"attributes cut off", func(s *subscriberScript, q config) []byte {
			p := isakmp.AttributeSet{Type: isakmp.ConfigReply, Identifier: q.set.Identifier, Attributes: joe}.Payload()
			p.Body = p.Body[:len(p.Body)-3]
			ps := hashed(func(rest []byte) []byte { return s.keys.HashInfo(q.mid, rest) }, p)
			return s.seal(isakmp.Transaction, q.mid, s.ivs[q.mid], ps...)
		}, DropMalformed},
		{"in clear", func(s *subscriberScript, q config) []byte {
			set := isakmp.AttributeSet{Type: isakmp.ConfigReply, Identifier: q.set.Identifier, Attributes: joe}
			return isakmp.Message{Header: s.header(isakmp.Transaction, q.mid), Payloads: []isakmp.Payload{set.Payload()}}.Append(nil)
		}, DropUnexpected},
		{"message id 0", func(s *subscriberScript, q config) []byte {
			b := reply(s, q, nil)
			binary.BigEndian.PutUint32(b[20:], 0)
			return b
		}, DropUnexpected},
	} {
		r := dynRig(t, ProfileCompatible)
		s := newSubscriber(r, offer)
		q := s.asked()
		n := r.e.counters[c.count]
		b := c.make(s, q)
		if out := s.send(b); len(out) != 0 || r.e.counters[c.count] == n {
			t.Errorf("%s: %d answers, %v", c.name, len(out), r.e.Counters())
		}
		if len(r.dynamic) != 1 || len(r.down) != 0 {
			t.Errorf("%s: %+v, down %+v", c.name, r.dynamic, r.down)
		}
		// The true one is taken, once.
		good := reply(s, q, nil)
		s.send(good)
		if u := s.lastAnswer(); u.Answer.User != "joe" {
			t.Errorf("%s: then %+v", c.name, u)
		}
		s.send(good)
		s.send(b)
		if len(r.dynamic) != 2 {
			t.Errorf("%s: the answer counts %d times", c.name, len(r.dynamic)-1)
		}
	}
}

// TestBadAnswers: answers that are none count as the user's refusal.
func TestBadAnswers(t *testing.T) {
	for _, c := range []struct {
		name string
		chap bool
		as   []isakmp.Attribute
	}{
		{"cancelled", false, []isakmp.Attribute{isakmp.ShortAttribute(isakmp.XAuthStatus, 0)}},
		{"STATUS=OK of one's own", false, []isakmp.Attribute{isakmp.ShortAttribute(isakmp.XAuthStatus, 1), text(isakmp.XAuthUserName, "joe")}},
		{"too long", false, []isakmp.Attribute{text(isakmp.XAuthUserName, strings.Repeat("x", maxXAuthText+1))}},
		{"another type", false, []isakmp.Attribute{isakmp.ShortAttribute(isakmp.XAuthType, 2), text(isakmp.XAuthUserName, "joe")}},
		{"a type that is no number", false, []isakmp.Attribute{text(isakmp.XAuthType, strings.Repeat("\xff", 20)), text(isakmp.XAuthUserName, "joe")}},
		{"CHAP without type", true, []isakmp.Attribute{text(isakmp.XAuthUserName, "joe"), text(isakmp.XAuthUserPassword, strings.Repeat("x", 17))}},
		{"CHAP of the wrong length", true, []isakmp.Attribute{isakmp.ShortAttribute(isakmp.XAuthType, 1), text(isakmp.XAuthUserName, "joe"), text(isakmp.XAuthUserPassword, "x")}},
		{"CHAP without response", true, []isakmp.Attribute{isakmp.ShortAttribute(isakmp.XAuthType, 1), text(isakmp.XAuthUserName, "joe")}},
	} {
		r := dynRig(t, ProfileCompatible)
		if c.chap {
			r.e.cfg.Tunnels[0].XAuth = XAuthRADIUSCHAP
		}
		s := newSubscriber(r, offers.AppleCisco())
		s.answerTo(s.asked(), isakmp.ConfigReply, c.as...)
		u := s.lastAnswer()
		if c.name == "a type that is no number" {
			if u.Refused {
				t.Errorf("%s: %+v", c.name, u)
			}
			continue
		}
		if !u.Refused || u.Answer.User != "" {
			t.Errorf("%s: %+v", c.name, u)
		}
		// XAuth is over: no STATUS follows, the SA goes at once.
		if out := r.give(Deny{Conn: u.Conn, Reason: "user-refused"}); len(s.read(out)) != 0 || len(r.down) != 1 || len(r.e.sas) != 0 {
			t.Errorf("%s: %d messages, down %+v", c.name, len(out), r.down)
		}
	}
}

// TestChallenge: the layout of RADIUS-CHAP, appendix A-8 of the draft.
func TestChallenge(t *testing.T) {
	r := dynRig(t, ProfileCompatible)
	r.e.cfg.Tunnels[0].XAuth = XAuthRADIUSCHAP
	s := newSubscriber(r, offers.AppleCisco())
	q := s.asked()
	typ, _ := q.set.Find(isakmp.XAuthType)
	ch, _ := q.set.Find(isakmp.XAuthChallenge)
	if !bytes.Equal(typ.Value, []byte{0, 1}) || len(ch.Value) != 16 {
		t.Fatalf("question %v", q.set)
	}
	s.answerTo(q, isakmp.ConfigReply, isakmp.ShortAttribute(isakmp.XAuthType, 1), text(isakmp.XAuthUserName, "joe"),
		text(isakmp.XAuthUserPassword, "\xaa\x11\x12\x13\x14\x15\x16\x17\x18\x19\x20\x21\x22\x23\x24\x25\x00"))
	u := s.lastAnswer().Answer
	if u.CHAPID != 0xaa || len(u.Response) != 16 || u.Response[0] != 0x11 || u.Response[15] != 0 || !bytes.Equal(u.Challenge, ch.Value) {
		t.Errorf("%+v", u)
	}
	// RFC 1994: MD5(identifier | secret | challenge), computed with md5sum.
	if got := chapPassword(1, keymat.Secret("secret"), []byte("challenge")); hex.EncodeToString(got.Reveal()) != "0146e47770030e2b4e26a0db72a7efec00" {
		t.Errorf("%x", got.Reveal())
	}
}

// TestSecretsStayHidden: no question or answer shows in a report.
func TestSecretsStayHidden(t *testing.T) {
	w, client, server := dynPair(t)
	client.subscribe()
	w.run(5 * time.Second)
	mustUp(t, client, server)
	if s := words(server.reports, client.reports); strings.Contains(s, "secret of joe") {
		t.Error(s)
	}
}

// TestPeerSets: what a subscriber sets is acknowledged and means nothing, its own
// STATUS=OK least of all; repeats get the same answer, and only so many are kept.
func TestPeerSets(t *testing.T) {
	r := dynRig(t, ProfileCompatible)
	s := newSubscriber(r, offers.AppleCisco())
	s.asked()
	_, b := s.transaction(0, isakmp.AttributeSet{Type: isakmp.ConfigSet, Identifier: 9, Attributes: []isakmp.Attribute{
		isakmp.ShortAttribute(isakmp.XAuthStatus, 1), {Type: isakmp.ConfigIP4Address, Value: []byte{10, 0, 0, 1}}, {Type: 30000, Value: []byte("?")}}})
	first := s.send(b)
	if a := s.only1(first, isakmp.ConfigAck); len(a.set.Attributes) != 0 || a.set.Identifier != 9 {
		t.Errorf("%v", a)
	}
	if again := s.send(b); len(again) != 1 || !bytes.Equal(again[0].Data, first[0].Data) {
		t.Errorf("a repeat is answered with %v", again)
	}
	if q := s.tunnel(offers.AppleCisco(), "10.0.0.1", "0.0.0.0/0"); q.run() {
		t.Error("a subscriber has let itself in")
	}
	for range 100 {
		_, b := s.transaction(0, isakmp.AttributeSet{Type: isakmp.ConfigSet})
		s.send(b)
	}
	p := r.e.conns[s.id()].newest()
	if len(p.talk.kept) > maxKept || len(p.SeenTrans) > maxSeenTrans {
		t.Errorf("%d answers, %d message ids", len(p.talk.kept), len(p.SeenTrans))
	}
	r.pass(2 * time.Minute)
	if len(p.talk.kept) != 0 {
		t.Errorf("%d answers kept", len(p.talk.kept))
	}
	for range 100 {
		s.request(1, isakmp.ConfigIP4Address)
	}
	if n := len(r.e.timers); n > 10 {
		t.Errorf("%d timers", n)
	}
}
