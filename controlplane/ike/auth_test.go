package ike

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
	"vrgate/controlplane/keymat"
)

func secret(s string) keymat.Secret { return keymat.Secret(s) }

// TestKeyCandidates: several keys on one address are tried against message 5; the
// log names the one that fits.
func TestKeyCandidates(t *testing.T) {
	server := netip.MustParseAddr("192.0.2.1")
	keys := []PresharedKey{
		{Name: "group", Key: secret("g"), Group: true, Local: server},
		{Name: "elsewhere", Key: secret("x"), Group: true, Local: netip.MustParseAddr("192.0.2.2")},
		{Name: "office", Key: secret("o"), Peer: netip.MustParsePrefix("198.51.100.0/24")},
		{Name: "alice", Key: secret("a"), ID: "alice@example.com"},
		{Name: "router", Key: secret("r"), ID: "@router.example.com"},
		{Name: "host", Key: secret("h"), Peer: netip.MustParsePrefix("198.51.100.7/32"), ID: "198.51.100.7"},
	}
	addr := isakmp.AddrID(netip.MustParseAddr("198.51.100.7"), 0, 0)
	for _, c := range []struct {
		peer   string
		psk    string
		id     isakmp.ID
		want   string // key, or "" and the reason
		reason Reason
	}{
		{"198.51.100.7", "g", addr, "group", ""},
		{"198.51.100.7", "o", addr, "office", ""},
		{"198.51.100.7", "h", addr, "host", ""},
		{"203.0.113.9", "a", isakmp.TextID(isakmp.IDUserFQDN, "Alice@Example.com"), "alice", ""},
		{"203.0.113.9", "r", isakmp.TextID(isakmp.IDFQDN, "router.example.com"), "router", ""},
		{"203.0.113.9", "r", isakmp.TextID(isakmp.IDKeyID, "router.example.com"), "", ReasonIdentity},
		{"203.0.113.9", "a", isakmp.TextID(isakmp.IDUserFQDN, "bob@example.com"), "", ReasonIdentity},
		{"198.51.100.7", "h", isakmp.AddrID(netip.MustParseAddr("198.51.100.8"), 0, 0), "", ReasonIdentity},
		{"203.0.113.9", "o", addr, "", ReasonPSKMismatch},
		{"198.51.100.7", "x", addr, "", ReasonPSKMismatch},
		{"198.51.100.7", "wrong", addr, "", ReasonPSKMismatch},
		{"198.51.100.7", "", addr, "", ReasonPSKMismatch},
	} {
		r := serverRig(t, ProfileCompatible, keys...)
		s := newScript(r, offers.AppleL2TP())
		s.remote = netip.MustParseAddrPort(c.peer + ":500")
		s.inner, s.psk, s.id = s.remote.Addr(), secret(c.psk), c.id
		ok := s.phase1()
		if ok != (c.want != "") {
			t.Errorf("%+v: up %v\n%s", c, ok, words(r.reports))
			continue
		}
		if !ok {
			if r.e.Counters()[c.reason] != 1 || len(r.e.conns) != 0 {
				t.Errorf("%+v: counters %v", c, r.e.Counters())
			}
			continue
		}
		if got := r.e.Phase1SAs()[0].Key; got != c.want {
			t.Errorf("%+v: key %q", c, got)
		}
		if last := r.reports[len(r.reports)-1].Text; !contains(last, fmt.Sprintf("key %q", c.want)) {
			t.Errorf("log %q does not name the key", last)
		}
	}
}

// TestKeyCandidatesBounded: no more keys are tried than the limit.
func TestKeyCandidatesBounded(t *testing.T) {
	var keys []PresharedKey
	for i := range 20 {
		keys = append(keys, PresharedKey{Name: fmt.Sprint(i), Key: secret(fmt.Sprint("key ", i)), Group: true})
	}
	for i, want := range map[int]bool{0: true, maxOpenKeys - 1: true, maxOpenKeys: false, 19: false} {
		r := serverRig(t, ProfileCompatible, keys...)
		s := newScript(r, offers.AppleL2TP())
		s.psk = keys[i].Key
		if s.phase1() != want {
			t.Errorf("key %d: up %v", i, !want)
		}
	}
}

// TestWrongKey: one sentence, one notify, nothing left, and the peer may try
// again.
func TestWrongKey(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	s := newScript(r, offers.AppleL2TP())
	s.psk = secret("wrong")
	if !s.main1() || !s.main3() {
		t.Fatal("no message 4")
	}
	msg := s.message5()
	out := s.send(msg)
	if len(out) != 1 {
		t.Fatalf("%d answers to a wrong message 5", len(out))
	}
	m, err := isakmp.Parse(out[0].Data)
	if err != nil || m.Header.Exchange != isakmp.Informational {
		t.Fatalf("answer %+v, %v", m, err)
	}
	for range 20 {
		s.ni = s.ni[:len(s.ni):len(s.ni)]
		if out := s.send(s.message5(isakmp.VendorPayload(isakmp.VendorDPD, 0))); len(out) != 0 {
			t.Fatal("a second answer to wrong messages 5")
		}
	}
	if last := r.reports[len(r.reports)-1]; last.Level != LevelInfo || last.Text != `message 5 does not decrypt: pre-shared keys differ (tried "group")` {
		t.Errorf("report %+v", last)
	}
	if n := r.e.Counters()[ReasonPSKMismatch]; n != maxKeyAttempts {
		t.Errorf("%d attempts were worked on, want %d", n, maxKeyAttempts)
	}
	r.pass(2 * time.Minute)
	if len(r.e.sas)+len(r.e.first)+r.e.guard.HalfOpen+len(r.e.guard.Sources) != 0 {
		t.Errorf("left: %d SAs, %d half open, %d sources", len(r.e.sas), r.e.guard.HalfOpen, len(r.e.guard.Sources))
	}
	s = newScript(r, offers.AppleL2TP())
	if !s.phase1() {
		t.Error("the right key does not get in afterwards")
	}
}

// TestWrongKeySpoiled: a forged message 5 does not keep the true one out.
func TestWrongKeySpoiled(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	s := newScript(r, offers.AppleL2TP())
	if !s.main1() || !s.main3() {
		t.Fatal("no message 4")
	}
	good := s.message5()
	iv := s.iv
	bad := append([]byte(nil), good...)
	bad[len(bad)-1] ^= 1
	s.send(bad)
	s.iv = iv
	if out := s.send(good); len(out) == 0 || r.e.Phase1SAs()[0].State != "DONE" {
		t.Error("the true message 5 is not taken any more")
	}
}

// TestNoKey: a peer for which no key is configured is refused at message 1.
func TestNoKey(t *testing.T) {
	r := serverRig(t, ProfileCompatible, PresharedKey{Name: "office", Key: secret("o"), Peer: netip.MustParsePrefix("203.0.113.0/24")})
	if newScript(r, offers.AppleL2TP()).main1() {
		t.Error("message 1 is answered")
	}
	if r.e.Counters()[ReasonNoKey] != 1 || len(r.e.sas) != 0 {
		t.Errorf("counters %v", r.e.Counters())
	}
}

// TestPolicyRules: K2 to K4.
func TestPolicyRules(t *testing.T) {
	local := netip.MustParseAddr("192.0.2.1")
	aes := []Encryption{{keymat.AES, 256}}
	sha := []keymat.Hash{keymat.SHA1}
	rules := []PolicyRule{
		{Name: "rsa", Encryption: aes, Hash: sha, Group: []keymat.Group{keymat.MODP2048}, Auth: AuthRSA},
		{Name: "other address", Local: netip.MustParseAddr("192.0.2.9"), Encryption: aes, Hash: sha, Group: []keymat.Group{keymat.MODP2048}, Auth: AuthPSK},
		{Name: "aggressive", Encryption: aes, Hash: sha, Group: []keymat.Group{keymat.MODP2048}, Auth: AuthPSK, Aggressive: AggressiveRequired},
		{Name: "curve", Encryption: aes, Hash: sha, Group: []keymat.Group{keymat.ECP256}, Auth: AuthPSK, Lifetime: time.Hour},
		{Name: "here", Local: local, Encryption: aes, Hash: sha, Group: []keymat.Group{keymat.MODP2048, keymat.MODP1536}, Auth: AuthPSK},
	}
	offer := func(gs ...isakmp.GroupID) isakmp.SA {
		p := isakmp.Proposal{Protocol: isakmp.ProtocolISAKMP}
		for _, g := range gs {
			p.Transforms = append(p.Transforms, isakmp.Phase1Transform{Enc: isakmp.EncAES, KeyBits: 256, Hash: isakmp.HashSHA1, Auth: isakmp.AuthPSK, Group: g,
				Life: isakmp.Life{Seconds: 2147483}}.Transform())
		}
		return isakmp.SA{DOI: 1, Situation: 1, Proposals: []isakmp.Proposal{p}}
	}
	for _, c := range []struct {
		offer isakmp.SA
		rule  string
		group keymat.Group
		life  time.Duration
	}{
		{offer(14), "here", keymat.MODP2048, 28800 * time.Second},
		// The rule decides before the client's order does …
		{offer(14, 19), "curve", keymat.ECP256, time.Hour},
		// … which decides within a rule.
		{offer(5, 14), "here", keymat.MODP1536, 28800 * time.Second},
		{offer(2), "", 0, 0},
		{isakmp.SA{DOI: 1, Situation: 1, Proposals: []isakmp.Proposal{{Protocol: isakmp.ProtocolISAKMP}}}, "", 0, 0},
	} {
		got, ok := choosePhase1(rules, terms{local: local, psk: true}, c.offer)
		switch {
		case ok != (c.rule != ""):
			t.Errorf("%v: chosen %v", c.offer, ok)
		case ok && (got.Rule.Name != c.rule || got.Group != c.group || got.Life != c.life || !got.Cut):
			t.Errorf("%v: rule %q, group %v, life %v", c.offer, got.Rule.Name, got.Group, got.Life)
		}
	}
}

// TestInitialContact: a restarted peer replaces its old connection, whether the
// notify comes in message 5 (strongSwan) or behind phase 1 (racoon).
func TestInitialContact(t *testing.T) {
	for _, behind := range []bool{false, true} {
		r := serverRig(t, ProfileCompatible)
		o := offers.AppleL2TP()
		a := newScript(r, o)
		if !a.phase1() || !a.quick(o).run() {
			t.Fatal("not up")
		}
		b := newScript(r, o)
		if !b.main1() || !b.main3() {
			t.Fatal("no message 4")
		}
		contact := isakmp.InitialContactNotify(b.cookies.I, b.cookies.R).Payload()
		if behind {
			b.main5()
			b.info(contact)
		} else {
			b.main5(contact)
		}
		if len(r.down) != 1 || r.down[0].Reason != ReasonInitialContact || r.down[0].Conn.ID != r.up[0].ID || len(r.kernel) != 0 {
			t.Fatalf("behind=%v: down %+v, kernel %v", behind, r.down, r.kernel)
		}
		if !b.quick(o).run() || len(r.up) != 2 || r.up[0].ID == r.up[1].ID {
			t.Errorf("behind=%v: up %+v", behind, r.up)
		}
		// Used by now, the SA is not believed again.
		b.info(contact)
		if len(r.down) != 1 {
			t.Errorf("behind=%v: a late INITIAL-CONTACT ends %+v", behind, r.down)
		}
	}
}

// TestLifetimes: the smaller of both counts in phase 1 and 2, and who wanted more
// is told.
func TestLifetimes(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	for i := range r.e.cfg.Rules {
		r.e.cfg.Rules[i].Lifetime = time.Hour
	}
	r.e.cfg.Transports[0].Lifetime = 30 * time.Minute
	r.e.cfg.Transports[0].LifeKB = 100000
	o := offers.Windows(9) // 28800 s; 3600 s and 250000 kB
	s := newScript(r, o)
	if !s.phase1() {
		t.Fatal("no phase 1")
	}
	last := r.sends[len(r.sends)-1].Data
	h, _, _ := isakmp.ParseHeader(last)
	_, ps, _ := s.unseal(last, s.suite.MessageIV(s.last, h.MessageID))
	l, ok := responderLifetime(ps, isakmp.ProtocolISAKMP)
	if !ok || l.Seconds != 3600 {
		t.Errorf("phase 1: RESPONDER-LIFETIME %v %+v", ok, l)
	}
	q := s.quick(o)
	if !q.run() {
		t.Fatal("no quick mode")
	}
	if l, ok = responderLifetime(q.answer, isakmp.ProtocolESP); !ok || l.Seconds != 1800 || l.Kilobytes != 100000 {
		t.Errorf("phase 2: RESPONDER-LIFETIME %v %+v", ok, l)
	}
	for _, sa := range r.kernel {
		if sa.HardLife != 30*time.Minute || sa.HardKB != 100000 || sa.SoftLife >= sa.HardLife || sa.SoftLife < sa.HardLife*8/10 || sa.SoftKB != 90000 {
			t.Errorf("SA %+v", sa)
		}
	}
	// A client that wants less gets it, unasked.
	r = serverRig(t, ProfileCompatible)
	s = newScript(r, o)
	if !s.phase1() {
		t.Fatal("no phase 1")
	}
	r.e.cfg.Transports[0].Lifetime = 24 * time.Hour
	q = s.quick(o)
	q.run()
	if _, ok = responderLifetime(q.answer, isakmp.ProtocolESP); ok {
		t.Error("RESPONDER-LIFETIME though nothing was cut")
	}
	for _, sa := range r.kernel {
		if sa.HardLife != time.Hour || sa.HardKB != 250000 {
			t.Errorf("SA %+v", sa)
		}
	}
}

// TestResponderLifetimeHonoured: as initiator we keep to what the responder cuts.
func TestResponderLifetimeHonoured(t *testing.T) {
	w, client, server := pair(t)
	for i := range server.e.cfg.Rules {
		server.e.cfg.Rules[i].Lifetime = 20 * time.Minute
	}
	server.e.cfg.Transports[0].Lifetime = 10 * time.Minute
	client.dial("192.0.2.1", 1, 1701)
	w.run(5 * time.Second)
	mustUp(t, client, server)
	c := client.only(t)
	if p := c.Phase1[0]; p.Life != 20*time.Minute || p.Expires.Sub(p.Up) != 20*time.Minute {
		t.Errorf("phase 1 lives %v", p.Life)
	}
	if ch := c.Children[0]; ch.In.HardLife != 10*time.Minute {
		t.Errorf("phase 2 lives %v", ch.In.HardLife)
	}
}

// TestSwapByteLimit: ciphers with small blocks are rekeyed after 1 GiB.
func TestSmallBlockLimit(t *testing.T) {
	r := serverRig(t, ProfileLegacy)
	o := offers.TPLink()
	s := newScript(r, o)
	if !s.phase1() || !s.quick(o).run() {
		t.Fatal("not up")
	}
	for _, sa := range r.kernel {
		if sa.HardKB == 0 || sa.HardKB > 1<<20 {
			t.Errorf("3DES for %d kB", sa.HardKB)
		}
	}
	if r.e.Counters()[CountWeak] != 2 {
		t.Errorf("weak algorithms counted %d times, want twice", r.e.Counters()[CountWeak])
	}
}
