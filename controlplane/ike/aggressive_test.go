package ike

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
	"vrgate/controlplane/keymat"
)

// proof is what the script's peer proves itself with.
func (s *script) proof() []isakmp.Payload {
	hash := s.keys.HashI(s.exchange(), s.id.Payload().Body)
	if !s.method.signs(true) {
		return []isakmp.Payload{{Type: isakmp.TypeHash, Body: hash}}
	}
	return []isakmp.Payload{isakmp.Cert{Encoding: isakmp.CertX509Signature, Data: []byte("certificate of " + s.cert)}.Payload(),
		{Type: isakmp.TypeSignature, Body: signTest(Sign{Credential: s.cert, Digest: hash}).Signature}}
}

// checkProof checks the engine's proof.
func (s *script) checkProof(ps []isakmp.Payload) {
	s.r.t.Helper()
	idr, _ := isakmp.Find(ps, isakmp.TypeID)
	want := s.keys.HashR(s.exchange(), idr.Body)
	if !s.method.signs(false) {
		hash, _ := isakmp.Find(ps, isakmp.TypeHash)
		if !keymat.EqualProof(hash.Body, want) {
			s.r.t.Fatal("the engine's proof is wrong")
		}
		return
	}
	sig, _ := isakmp.Find(ps, isakmp.TypeSignature)
	certs := isakmp.All(ps, isakmp.TypeCert)
	if len(certs) == 0 {
		s.r.t.Fatal("the engine sends no certificate")
	}
	c, err := certs[0].Cert()
	if err != nil || c.Encoding != isakmp.CertX509Signature {
		s.r.t.Fatalf("certificate %v, %v", c.Encoding, err)
	}
	name, _ := strings.CutPrefix(string(c.Data), "certificate of ")
	if err := rsa.VerifyPKCS1v15(&testKey(name).PublicKey, crypto.Hash(0), want, sig.Body); err != nil {
		s.r.t.Fatal(err)
	}
}

// aggressiveMessage1 makes message 1 with the public value of the first group.
func (s *script) aggressiveMessage1(more ...isakmp.Payload) []byte {
	if s.pair.Public == nil {
		t, _ := s.sa.Proposals[0].Transforms[0].Phase1()
		var err error
		if s.pair, err = keymat.Group(t.Group).Generate(rand.Reader); err != nil {
			s.r.t.Fatal(err)
		}
	}
	ps := []isakmp.Payload{s.sa.Payload(), {Type: isakmp.TypeKE, Body: s.pair.Public}, {Type: isakmp.TypeNonce, Body: s.ni}, s.id.Payload()}
	return isakmp.Message{Header: s.header(isakmp.Aggressive, 0), Payloads: slices.Concat(ps, s.vendors, more)}.Append(nil)
}

// aggressive1 sends message 1 and checks message 2. It returns false if there was none.
func (s *script) aggressive1(more ...isakmp.Payload) bool {
	out := s.send(s.aggressiveMessage1(more...))
	if len(out) != 1 {
		return false
	}
	return s.aggressive2(out[0].Data)
}

// aggressive2 reads message 2.
func (s *script) aggressive2(data []byte) bool {
	m, err := isakmp.Parse(data)
	if err != nil {
		s.r.t.Fatal(err)
	}
	if m.Header.Exchange != isakmp.Aggressive {
		return false
	}
	if err := isakmp.Check(isakmp.Aggressive, 2, m.Payloads, false); err != nil {
		s.r.t.Fatal(err)
	}
	s.cookies.R = m.Header.Responder
	sa, err := m.Payloads[0].SA()
	if err != nil {
		s.r.t.Fatal(err)
	}
	s.choose(sa)
	ke, _ := isakmp.Find(m.Payloads, isakmp.TypeKE)
	nr, _ := isakmp.Find(m.Payloads, isakmp.TypeNonce)
	s.gxr, s.nr = clone(ke.Body), clone(nr.Body)
	if s.gxy, err = keymat.Shared(s.pair, s.gxr); err != nil {
		s.r.t.Fatal(err)
	}
	s.derive()
	s.checkProof(m.Payloads)
	return true
}

// aggressiveMessage3 makes message 3, encrypted as most do or in clear. ports are those in
// its NAT-D payloads.
func (s *script) aggressiveMessage3(encrypt bool, port uint16, more ...isakmp.Payload) []byte {
	ps := s.proof()
	if t := s.natt.NATD(); t != isakmp.TypeNone {
		hash := func(a netip.Addr) isakmp.Payload {
			return isakmp.Payload{Type: t, Body: keymat.HashNATD(s.suite.Hash, s.cookies.I, s.cookies.R, netip.AddrPortFrom(a, port))}
		}
		ps = append(ps, hash(s.outer), hash(s.inner))
	}
	ps = append(ps, more...)
	if !encrypt {
		s.iv = s.suite.FirstIV(s.pair.Public, s.gxr)
		s.last = s.iv
		return isakmp.Message{Header: s.header(isakmp.Aggressive, 0), Payloads: ps}.Append(nil)
	}
	b := s.seal(isakmp.Aggressive, 0, s.suite.FirstIV(s.pair.Public, s.gxr), ps...)
	s.last = s.iv
	return b
}

// subscriberRig is a server for all kinds of phase 1 with group keys, a tunnel
// profile and certificates.
func subscriberRig(t testing.TB, profile string) *rig {
	cfg := at(testConfig(t, profile,
		PresharedKey{Name: "office", Key: keymat.Secret("a secret of the office"), ID: "keyid:office"},
		PresharedKey{Name: "branches", Key: keymat.Secret("a secret of branches"), ID: "@*.branch.example.net"},
		PresharedKey{Name: "users", Key: keymat.Secret("a secret of users"), ID: "*@example.net"},
		PresharedKey{Name: "anybody", Key: keymat.Secret("a secret of all"), Peer: netip.MustParsePrefix("198.51.100.0/24"), ID: "198.51.100.7"},
	), "192.0.2.1")
	for i := range cfg.Rules {
		cfg.Rules[i].Aggressive = AggressiveAccepted
	}
	cfg.Tunnels = []TunnelProfile{{Name: "vpn", Credential: "server", ESP: cfg.Transports[0].ESP}}
	cfg.Credentials = []Credential{credential("server", "authority"), credential("spare", "second authority")}
	cfg.Authorities = [][]byte{nameDER("authority"), nameDER("second authority")}
	return newRig(t, cfg)
}

// subscribe runs phase 1 of an offer against the rig. It returns false if there was no
// answer somewhere.
func subscribe(r *rig, o offers.Offer, nat bool) (*script, bool) {
	s := newScript(r, o)
	s.psk, s.cert = keymat.Secret("a secret of all"), "client"
	if nat {
		s.inner = netip.MustParseAddr("10.0.0.5")
	}
	if o.Exchange == isakmp.Aggressive {
		s.id, s.psk = isakmp.TextID(isakmp.IDKeyID, "office"), keymat.Secret("a secret of the office")
		if !s.aggressive1() {
			return s, false
		}
		before := len(r.sends)
		m3 := s.aggressiveMessage3(true, 500)
		if nat {
			s.float()
		}
		s.send(m3)
		return s, len(r.sends) == before || r.sends[before].Data[19]&1 != 0
	}
	s.id = isakmp.AddrID(netip.MustParseAddr("198.51.100.7"), 0, 0)
	return s, s.phase1()
}

// only returns the one phase 1 SA of the engine.
func (r *rig) only(t testing.TB) *phase1 {
	t.Helper()
	if len(r.e.sas) != 1 {
		t.Fatalf("%d phase 1 SAs: %v\n%s", len(r.e.sas), r.e.Counters(), words(r.reports))
	}
	for _, p := range r.e.sas {
		return p
	}
	return nil
}

// TestSubscriberOffers runs phase 1 of every client that becomes a dynamic subscriber (J10):
// what is chosen, and what phase 1 has learned about the peer (K1, K2, K5).
func TestSubscriberOffers(t *testing.T) {
	legacy := map[string]string{
		"macOS/iOS Cisco IPSec":                    "AES-256/SHA2-256/MODP2048",
		"macOS/iOS Cisco IPSec, group name":        "AES-256/SHA2-256/MODP2048",
		"macOS/iOS Cisco IPSec, group name, retry": "AES-256/SHA1/MODP1024",
		"macOS/iOS Cisco IPSec, hybrid":            "AES-256/SHA2-256/MODP2048",
		"macOS/iOS Cisco IPSec, certificate":       "AES-256/SHA2-256/MODP2048",
		"Android 6-11 Xauth PSK":                   "AES-256/SHA2-384/MODP1024",
		"Android 6-11 Xauth PSK, identifier":       "AES-256/SHA2-384/MODP1024",
		"Android 6-11 Xauth RSA":                   "AES-256/SHA2-384/MODP1024",
		"Android 6-11 Hybrid RSA":                  "AES-256/SHA2-384/MODP1024",
		"vpnc":                                     "AES-256/SHA1/MODP1024",
		"vpnc, hybrid":                             "AES-256/SHA1/MODP1024",
		"Shrew Soft":                               "AES-256/SHA1/MODP2048",
		"Shrew Soft, aggressive":                   "AES-256/SHA1/MODP1024",
		"Shrew Soft, hybrid":                       "AES-256/SHA1/MODP2048",
	}
	if len(legacy) != len(offers.Subscribers()) {
		t.Errorf("%d offers, the table has %d", len(offers.Subscribers()), len(legacy))
	}
	for _, o := range offers.Subscribers() {
		for _, nat := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, NAT %v", o.Name, nat), func(t *testing.T) {
				r := subscriberRig(t, ProfileLegacy)
				s, ok := subscribe(r, o, nat)
				if !ok {
					t.Fatalf("no answer\n%s", words(r.reports))
				}
				p := r.only(t)
				first, _ := o.Phase1.Proposals[0].Transforms[0].Phase1()
				if got := phase1Words(p); got != legacy[o.Name] || !p.done() {
					t.Errorf("%s in state %v, want %q", got, p.State, legacy[o.Name])
				}
				if p.Method != AuthMethod(first.Auth) || p.Aggressive != (o.Exchange == isakmp.Aggressive) || p.encap() != nat || p.Marker != nat {
					t.Errorf("method %d, aggressive %v, encapsulation %v, marker %v", p.Method, p.Aggressive, p.encap(), p.Marker)
				}
				v := p.Vendor
				if !v.XAuth || !v.Unity || v.Apple != strings.HasPrefix(o.Name, "macOS") || v.Android != strings.HasPrefix(o.Name, "Android") || v.VPNC != strings.HasPrefix(o.Name, "vpnc") {
					t.Errorf("vendor %+v", v)
				}
				key := map[bool]string{true: "office", false: "anybody"}[p.Aggressive]
				if !p.Method.preShared() {
					key = ""
				}
				subject := ""
				if p.Method == AuthXAuthRSA {
					subject = "CN=client"
				}
				if p.KeyName != key || p.KeyGroup || p.Subject != subject || string(p.PeerID) != string(s.id.Payload().Body) {
					t.Errorf("key %q, group %v, subject %q, identity %s", p.KeyName, p.KeyGroup, p.Subject, describe(p.PeerID))
				}
				// The SA works: what follows is encrypted under it.
				if string(p.LastBlock) != string(s.last) || !p.Keys.A.Equal(s.keys.A) {
					t.Error("the peer's keys are others")
				}
			})
		}
	}
}

// TestAggressiveStance: K5, a rule takes the exchange that it allows, and others are
// passed over (K2).
func TestAggressiveStance(t *testing.T) {
	for _, c := range []struct {
		stance           Aggressive
		main, aggressive bool
		reason           Reason // of the refusal
	}{
		{AggressiveNotAllowed, true, false, ReasonAggressiveMode},
		{AggressiveAccepted, true, true, ""},
		{AggressiveRequested, true, true, ""},
		{AggressiveRequired, false, true, ReasonNoProposal},
	} {
		r := subscriberRig(t, ProfileLegacy)
		for i := range r.e.cfg.Rules {
			r.e.cfg.Rules[i].Aggressive = c.stance
		}
		if _, ok := subscribe(r, offers.AppleCisco(), false); ok != c.main {
			t.Errorf("stance %d: main mode %v", c.stance, ok)
		}
		if _, ok := subscribe(r, offers.AppleGroup(), false); ok != c.aggressive {
			t.Errorf("stance %d: aggressive mode %v", c.stance, ok)
		}
		if c.reason != "" && r.e.Counters()[c.reason] != 1 {
			t.Errorf("stance %d: %v", c.stance, r.e.Counters())
		}
	}
	// The highest rule that matches everything, the exchange included.
	r := subscriberRig(t, ProfileLegacy)
	for i := range r.e.cfg.Rules {
		r.e.cfg.Rules[i].Aggressive = AggressiveNotAllowed
	}
	r.e.cfg.Rules[2].Aggressive = AggressiveAccepted
	if _, ok := subscribe(r, offers.AppleGroup(), false); !ok || r.only(t).Rule != r.e.cfg.Rules[2].Name {
		t.Errorf("rule %q", r.only(t).Rule)
	}
}

// TestAggressiveKeys: the identity of message 1 chooses the key; without one the peer
// gets one bounded answer and the operator a sentence.
func TestAggressiveKeys(t *testing.T) {
	for _, c := range []struct {
		id     isakmp.ID
		psk    string
		key    string
		reason Reason
		text   string
	}{
		{isakmp.TextID(isakmp.IDKeyID, "office"), "a secret of the office", "office", "", ""},
		{isakmp.TextID(isakmp.IDFQDN, "Two.Branch.example.NET"), "a secret of branches", "branches", "", ""},
		{isakmp.TextID(isakmp.IDUserFQDN, "jo@example.net"), "a secret of users", "users", "", ""},
		{isakmp.AddrID(netip.MustParseAddr("198.51.100.7"), 17, 500), "a secret of all", "anybody", "", ""},
		{isakmp.TextID(isakmp.IDKeyID, "Office"), "", "", ReasonUnknownGroup, `no key for group KEY_ID "Office"`},
		{isakmp.TextID(isakmp.IDFQDN, "office"), "", "", ReasonUnknownGroup, `no key for group FQDN "office"`},
		{isakmp.TextID(isakmp.IDKeyID, "*"), "", "", ReasonUnknownGroup, `no key for group KEY_ID "*"`},
		{isakmp.TextID(isakmp.IDKeyID, "office"), "a wrong secret", "", ReasonPSKMismatch, `message 3 of KEY_ID "office" does not decrypt, or it has another key than "office"`},
	} {
		r := subscriberRig(t, ProfileLegacy)
		s := newScript(r, offers.VPNC())
		s.id, s.psk = c.id, keymat.Secret(c.psk)
		if c.reason == ReasonUnknownGroup {
			for range 3 {
				if s.aggressive1() {
					t.Fatalf("%v: is answered", c.id)
				}
			}
			if r.e.Counters()[c.reason] != 3 || len(r.e.sas) != 0 || len(r.jobs) != 0 {
				t.Errorf("%v: counters %v, %d jobs", c.id, r.e.Counters(), len(r.jobs))
			}
		} else {
			if c.reason != "" {
				// The peer would see from message 2 that the keys differ; this one
				// goes on nevertheless.
				wrong := s.psk
				s.psk = keymat.Secret("a secret of the office")
				if !s.aggressive1() {
					t.Fatal("no message 2")
				}
				s.psk = wrong
				s.derive()
			} else if !s.aggressive1() {
				t.Fatalf("%v: no message 2\n%s", c.id, words(r.reports))
			}
			s.send(s.aggressiveMessage3(true, 500))
			p := r.only(t)
			if c.reason == "" && (!p.done() || p.KeyName != c.key) || c.reason != "" && (p.done() || r.e.Counters()[c.reason] != 1) {
				t.Errorf("%v: state %v, counters %v", c.id, p.State, r.e.Counters())
			}
		}
		if c.text != "" && strings.Count(words(r.reports), c.text) != 1 {
			t.Errorf("%q is not there once in\n%s", c.text, words(r.reports))
		}
	}
}

// TestGroupKeyIsForL2TP: J19, a group key does not authenticate who is to be asked by XAuth.
func TestGroupKeyIsForL2TP(t *testing.T) {
	for _, o := range []offers.Offer{offers.AppleCisco(), offers.AppleGroup()} {
		r := subscriberRig(t, ProfileLegacy)
		for i := range r.e.cfg.Keys {
			r.e.cfg.Keys[i].Group = true
		}
		if _, ok := subscribe(r, o, false); ok || len(r.e.sas) != 0 {
			t.Errorf("%s: is answered", o.Name)
		}
	}
	// vpnc offers both methods, and gets the other one.
	r := subscriberRig(t, ProfileLegacy)
	r.e.cfg.Tunnels = nil
	for i := range r.e.cfg.Keys {
		r.e.cfg.Keys[i].Group = true
	}
	if s, _ := subscribe(r, offers.VPNC(), false); s.method != AuthPSK {
		t.Errorf("method %d", s.method)
	}
}

// TestAggressiveThird: message 3 in clear, with the NAT-T port in its NAT-D payloads
// (strongSwan), and with INITIAL-CONTACT, which counts only encrypted.
func TestAggressiveThird(t *testing.T) {
	contact := func(s *script) isakmp.Payload {
		return isakmp.InitialContactNotify(s.cookies.I, s.cookies.R).Payload()
	}
	for _, c := range []struct {
		name    string
		encrypt bool
		port    uint16
		nat     bool
	}{
		{"clear", false, 500, false},
		{"clear, NAT", false, 500, true},
		{"strongSwan, NAT", true, 4500, true},
		{"vpnc, NAT", true, 500, true},
	} {
		r := subscriberRig(t, ProfileLegacy)
		s := newScript(r, offers.AppleGroup())
		s.id, s.psk = isakmp.TextID(isakmp.IDKeyID, "office"), keymat.Secret("a secret of the office")
		if c.nat {
			s.inner = netip.MustParseAddr("10.0.0.5")
		}
		if !s.aggressive1() {
			t.Fatal("no message 2")
		}
		m := s.aggressiveMessage3(c.encrypt, c.port, contact(s))
		if c.nat {
			s.float()
		}
		s.send(m)
		p := r.only(t)
		if !p.done() || p.NATPeer != c.nat || p.NATLocal || p.Marker != c.nat || string(p.LastBlock) != string(s.last) {
			t.Errorf("%s: state %v, NAT of the peer %v, ours %v", c.name, p.State, p.NATPeer, p.NATLocal)
		}
		if n := len(s.send(m)); n != 0 {
			t.Errorf("%s: message 3 again is answered by %d", c.name, n)
		}
	}
}

// TestAggressiveRepeats: message 2 goes out once for each copy of message 1, and once
// for each message that shows that message 3 was lost, but never unasked.
func TestAggressiveRepeats(t *testing.T) {
	r := subscriberRig(t, ProfileLegacy)
	s := newScript(r, offers.AppleGroup())
	s.id, s.psk = isakmp.TextID(isakmp.IDKeyID, "office"), keymat.Secret("a secret of the office")
	m1 := s.aggressiveMessage1()
	first := s.send(m1)
	if len(first) != 1 || len(r.jobs) != 1 || !r.jobs[0].Unauthenticated {
		t.Fatalf("%d answers, jobs %+v", len(first), r.jobs)
	}
	for range 3 {
		if out := s.send(m1); len(out) != 1 || string(out[0].Data) != string(first[0].Data) {
			t.Fatal("message 1 again is not answered alike")
		}
	}
	if !s.aggressive2(first[0].Data) {
		t.Fatal("no message 2")
	}
	sent := len(r.sends)
	r.pass(20 * time.Second)
	if len(r.sends) != sent || len(r.jobs) != 1 {
		t.Fatalf("%d datagrams unasked, %d jobs", len(r.sends)-sent, len(r.jobs))
	}
	m3 := s.aggressiveMessage3(true, 500)
	q := s.quick(offers.AppleGroup()).message1()
	if out := s.send(q); len(out) != 1 || string(out[0].Data) != string(first[0].Data) {
		t.Fatal("quick mode before message 3 does not bring message 2")
	}
	s.send(m3)
	if p := r.only(t); !p.done() || p.State.String() != "DONE" {
		t.Errorf("state %v", p.State)
	}
}

// TestBusySigner: a shell without room for the signature, or without the key, leaves
// nothing behind that would keep the peer out.
func TestBusySigner(t *testing.T) {
	for _, c := range []struct {
		o   offers.Offer
		err string
	}{
		{offers.VPNCHybrid(), busy}, {offers.AndroidHybrid(), busy}, {offers.AppleRSA(), busy},
		{offers.VPNCHybrid(), "no key"}, {offers.AndroidHybrid(), "no key"},
	} {
		r := subscriberRig(t, ProfileLegacy)
		r.sign = func(s Sign) Signed { return Signed{Job: s.Job, Err: c.err} }
		if _, ok := subscribe(r, c.o, false); ok {
			t.Errorf("%s: goes on without a signature", c.o.Name)
		}
		want := map[bool]Reason{true: DropBusy, false: ReasonSigning}[c.err == busy]
		if r.e.Counters()[want] == 0 || len(r.e.conns) != 0 {
			t.Errorf("%s: %v", c.o.Name, r.e.Counters())
		}
		r.sign = signTest
		// The peer repeats what has not been answered.
		last := r.last
		if out := r.give(last); len(out) == 0 {
			t.Errorf("%s: what is repeated is not answered: %v", c.o.Name, r.e.Counters())
		}
	}
}

// TestAggressiveLifetime: vpnc counts its transforms from 0 and wants 2147483 s; it gets
// its transform back as it was, and the lifetime in a RESPONDER-LIFETIME.
func TestAggressiveLifetime(t *testing.T) {
	r := subscriberRig(t, ProfileLegacy)
	s := groupScript(r, offers.VPNC())
	if !s.aggressive1() {
		t.Fatal("no message 2")
	}
	m, err := isakmp.Parse(r.sends[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	sa, err := m.Payloads[0].SA()
	if err != nil || sa.Proposals[0].Number != 0 || sa.Proposals[0].Transforms[0].Number != 0 {
		t.Errorf("choice %+v, %v", sa, err)
	}
	if t1, _ := sa.Proposals[0].Transforms[0].Phase1(); t1.Auth != isakmp.AuthXAuthInitPSK || t1.Life.Seconds != 2147483 {
		t.Errorf("choice %v", t1)
	}
	for _, x := range s.send(s.aggressiveMessage3(true, 500)) {
		h, _, err := isakmp.ParseHeader(x.Data)
		if err != nil || h.Exchange != isakmp.Informational {
			continue
		}
		_, ps, _ := s.unseal(x.Data, s.suite.MessageIV(s.last, h.MessageID))
		if l, ok := responderLifetime(ps, isakmp.ProtocolISAKMP); ok && l.Seconds == 28800 {
			return
		}
	}
	t.Error("no RESPONDER-LIFETIME of 28800 s")
}
