package ike

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
	"vrgate/controlplane/keymat"
)

// subscriberScript is a dynamic subscriber that is no engine.
type subscriberScript struct {
	*script
	ivs map[uint32][]byte // of the next message, by exchange
}

// dynRig makes a responder at 192.0.2.1 with a tunnel profile.
func dynRig(t testing.TB, profile string) *rig {
	rules, esp, err := ProposalProfile(profile)
	if err != nil {
		t.Fatal(err)
	}
	return newRig(t, Config{NATT: true, Fragmentation: true, Rules: rules, Keys: []PresharedKey{xauthKey}, Tunnels: []TunnelProfile{staff(esp)}})
}

func newSubscriber(r *rig, o offers.Offer) *subscriberScript {
	s := newScript(r, o)
	s.psk = xauthKey.Key
	return &subscriberScript{script: s, ivs: map[uint32][]byte{}}
}

// config is a message of a transaction exchange as it was read.
type config struct {
	mid uint32
	set isakmp.AttributeSet
}

// read takes the transaction messages out of what the engine has sent.
func (s *subscriberScript) read(out []Send) []config {
	s.r.t.Helper()
	var cs []config
	for _, x := range out {
		if x.Data[18] != byte(isakmp.Transaction) {
			continue
		}
		mid := binary.BigEndian.Uint32(x.Data[20:])
		iv := s.ivs[mid]
		if iv == nil {
			iv = s.suite.MessageIV(s.last, mid)
		}
		_, ps, rest := s.unseal(x.Data, iv)
		if !keymat.EqualProof(ps[0].Body, s.keys.HashInfo(mid, rest)) {
			s.r.t.Fatal("bad hash in a transaction exchange")
		}
		set, err := ps[1].Attributes()
		if err != nil {
			s.r.t.Fatal(err)
		}
		s.ivs[mid] = s.iv
		cs = append(cs, config{mid, set})
	}
	return cs
}

// only1 reads exactly one message of the type.
func (s *subscriberScript) only1(out []Send, typ isakmp.ConfigType) config {
	s.r.t.Helper()
	cs := s.read(out)
	if len(cs) != 1 || cs[0].set.Type != typ {
		s.r.t.Fatalf("%v, want one %v\n%v", cs, typ, words(s.r.reports))
	}
	return cs[0]
}

// transaction makes a message. mid 0 begins an exchange.
func (s *subscriberScript) transaction(mid uint32, set isakmp.AttributeSet) (uint32, []byte) {
	if mid == 0 {
		mid = binary.BigEndian.Uint32(randomBytes(4)) | 1
	}
	iv := s.ivs[mid]
	if iv == nil {
		iv = s.suite.MessageIV(s.last, mid)
	}
	full := hashed(func(rest []byte) []byte { return s.keys.HashInfo(mid, rest) }, set.Payload())
	b := s.seal(isakmp.Transaction, mid, iv, full...)
	s.ivs[mid] = s.iv
	return mid, b
}

// answerTo answers a message of the engine.
func (s *subscriberScript) answerTo(c config, typ isakmp.ConfigType, as ...isakmp.Attribute) []Send {
	_, b := s.transaction(c.mid, isakmp.AttributeSet{Type: typ, Identifier: c.set.Identifier, Attributes: as})
	return s.send(b)
}

// request begins a mode config exchange.
func (s *subscriberScript) request(id uint16, types ...uint16) []Send {
	set := isakmp.AttributeSet{Type: isakmp.ConfigRequest, Identifier: id}
	for _, t := range types {
		set.Attributes = append(set.Attributes, isakmp.Attribute{Type: t})
	}
	_, b := s.transaction(0, set)
	return s.send(b)
}

// text is an attribute with a string.
func text(typ uint16, v string) isakmp.Attribute {
	return isakmp.Attribute{Type: typ, Value: []byte(v)}
}

// id is the number of the connection.
func (s *subscriberScript) id() ConnID {
	s.r.t.Helper()
	for i := len(s.r.dynamic) - 1; i >= 0; i-- {
		if u, ok := s.r.dynamic[i].(DynamicUp); ok {
			return u.Conn.ID
		}
	}
	s.r.t.Fatalf("no DynamicUp\n%v", words(s.r.reports))
	return 0
}

// asked goes through phase 1 and the question, and returns it.
func (s *subscriberScript) asked() config {
	s.r.t.Helper()
	if !s.phase1() {
		s.r.t.Fatalf("phase 1 failed\n%v", words(s.r.reports))
	}
	return s.only1(s.r.give(AskUser{Conn: s.id()}), isakmp.ConfigRequest)
}

// answered returns the last UserAnswered.
func (s *subscriberScript) lastAnswer() UserAnswered {
	s.r.t.Helper()
	u, ok := s.r.dynamic[len(s.r.dynamic)-1].(UserAnswered)
	if !ok {
		s.r.t.Fatalf("no UserAnswered\n%v", words(s.r.reports))
	}
	return u
}

// testLease has something of everything.
var testLease = Lease{
	Address: netip.MustParseAddr("10.9.0.7"), Netmask: netip.MustParseAddr("255.255.255.0"),
	DNS:      []netip.Addr{netip.MustParseAddr("10.0.0.53"), netip.MustParseAddr("10.0.0.54")},
	NBNS:     []netip.Addr{netip.MustParseAddr("10.0.0.42")},
	Expiry:   86400e9,
	Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.168.7.0/24")},
	Banner:   "welcome", Domain: "example.net", SplitDNS: []string{"example.net", "example.org"}, SavePassword: true, PFS: true,
}

// in goes all the way through STATUS=OK and its ACK.
func (s *subscriberScript) in() {
	s.r.t.Helper()
	s.answerTo(s.asked(), isakmp.ConfigReply, text(isakmp.XAuthUserName, "joe"), text(isakmp.XAuthUserPassword, "secret of joe"))
	s.answerTo(s.only1(s.r.give(Admit{Conn: s.id(), Lease: testLease}), isakmp.ConfigSet), isakmp.ConfigAck)
}

// tunnel prepares a quick mode for the networks.
func (s *subscriberScript) tunnel(o offers.Offer, own, net string) *quickScript {
	q := s.quick(o)
	q.more = nil
	q.idi, q.idr = netSelector(own), netSelector(net)
	return q
}

// netSelector makes a selector as clients do.
func netSelector(s string) isakmp.ID {
	if a, err := netip.ParseAddr(s); err == nil {
		return isakmp.AddrID(a, 0, 0)
	}
	return isakmp.PrefixID(netip.MustParsePrefix(s), 0, 0)
}
