package ike

import (
	"net/netip"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
)

// Of a rotation: the old key goes an hour after the new one has come.
var (
	rigStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	turn     = rigStart.Add(24 * time.Hour)
	oldKey   = PresharedKey{Name: "g1", Key: secret("the old secret"), Group: true, Until: turn.Add(time.Hour)}
	newKey   = PresharedKey{Name: "g2", Key: secret("the new secret"), Group: true, From: turn}
)

// TestKeyWindows: which keys let a peer in at which time, at both edges of their windows, and what the
// operator is told of the others.
func TestKeyWindows(t *testing.T) {
	for _, c := range []struct {
		at     time.Time
		key    PresharedKey
		reason Reason // "": in
		text   string
	}{
		{rigStart, oldKey, "", ""},
		{rigStart, newKey, ReasonKeyEarly, `group key "g2" is not valid before 2026-01-02 00:00:00 UTC, the client 198.51.100.7 uses it`},
		{turn.Add(-time.Nanosecond), newKey, ReasonKeyEarly, ""},
		{turn, newKey, "", ""},
		{turn, oldKey, "", ""},
		{oldKey.Until.Add(-time.Nanosecond), oldKey, "", ""},
		{oldKey.Until, oldKey, ReasonKeyExpired, `group key "g1" has expired on 2026-01-02 01:00:00 UTC, the client 198.51.100.7 uses it`},
		{oldKey.Until.Add(1000 * time.Hour), oldKey, ReasonKeyExpired, ""},
		{oldKey.Until, newKey, "", ""},
		{oldKey.Until, groupKey, ReasonPSKMismatch, `(tried "g2")`},
	} {
		r := serverRig(t, ProfileCompatible, oldKey, newKey)
		r.now = c.at
		s := newScript(r, offers.AppleL2TP())
		s.psk = c.key.Key
		if ok := s.phase1(); ok != (c.reason == "") {
			t.Errorf("%s at %v: up %v\n%s", c.key.Name, c.at, ok, words(r.reports))
			continue
		}
		if c.reason == "" {
			if i := r.e.Conns()[0]; i.Key != c.key.Name {
				t.Errorf("%s at %v: shown as %s", c.key.Name, c.at, i.Key)
			}
			continue
		}
		last := r.reports[len(r.reports)-1]
		if r.e.Counters()[c.reason] != 1 || last.Reason != c.reason || !contains(last.Text, c.text) || len(r.e.conns) != 0 {
			t.Errorf("%s at %v: %+v, %v", c.key.Name, c.at, last, r.e.Counters())
		}
		if contains(last.Text, "secret") {
			t.Errorf("the report shows a key: %s", last.Text)
		}
	}
}

// TestKeysAllOut: where no key is in force the first message is turned down, and an operator is told
// which key there was; in aggressive mode as well.
func TestKeysAllOut(t *testing.T) {
	for _, aggressive := range []bool{false, true} {
		r := serverRig(t, ProfileCompatible, oldKey)
		for i := range r.e.cfg.Rules {
			r.e.cfg.Rules[i].Aggressive = AggressiveAccepted
		}
		r.now = oldKey.Until
		s := newScript(r, offers.AppleL2TP())
		s.psk = oldKey.Key
		if aggressive && s.aggressive1() || !aggressive && s.main1() {
			t.Errorf("aggressive %v: answered", aggressive)
		}
		last := r.reports[len(r.reports)-1]
		if last.Reason != ReasonKeyExpired || !contains(last.Text, `"g1"`) || r.e.Counters()[ReasonKeyExpired] != 1 || len(r.e.sas) != 0 {
			t.Errorf("aggressive %v: %+v", aggressive, last)
		}
	}
}

// TestAggressiveWindows: in aggressive mode the key goes by the identity and has to be in force.
func TestAggressiveWindows(t *testing.T) {
	site, later := oldKey, newKey
	site.ID, later.ID = "@site.example.net", "@site.example.net"
	other := PresharedKey{Name: "other", Key: secret("x"), ID: "@other.example.net"}
	for _, c := range []struct {
		at   time.Time
		want string // the key, "" if refused
		keys []PresharedKey
	}{
		{rigStart, "g1", []PresharedKey{site, later, other}},
		{oldKey.Until, "g2", []PresharedKey{site, later, other}},
		{oldKey.Until, "", []PresharedKey{site, other}},
	} {
		r := serverRig(t, ProfileCompatible, c.keys...)
		for i := range r.e.cfg.Rules {
			r.e.cfg.Rules[i].Aggressive = AggressiveAccepted
		}
		r.now = c.at
		s := newScript(r, offers.AppleL2TP())
		s.id = isakmp.TextID(isakmp.IDFQDN, "site.example.net")
		s.psk = map[string]PresharedKey{"g1": oldKey, "g2": newKey, "": oldKey}[c.want].Key
		if ok := s.aggressive1(); ok != (c.want != "") {
			t.Errorf("at %v: %v\n%s", c.at, ok, words(r.reports))
		}
		if last := r.reports; c.want == "" && (len(last) == 0 || last[len(last)-1].Reason != ReasonKeyExpired || !contains(last[len(last)-1].Text, "site.example.net")) {
			t.Errorf("at %v: %s", c.at, words(last))
		}
	}
}

// TestOldKeysBounded: a stranger cannot have us try more keys by there having been many.
func TestOldKeysBounded(t *testing.T) {
	c := Config{Keys: []PresharedKey{newKey}}
	for i := range 100 {
		k := oldKey
		k.Until = k.Until.Add(-time.Duration(i) * time.Minute)
		c.Keys = append(c.Keys, k)
	}
	c = c.withDefaults()
	local, peer := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.7")
	old := c.oldKeys(local, peer, AuthPSK, turn.Add(2*time.Hour))
	if len(old) != maxOldKeys || !old[0].Until.Equal(oldKey.Until) {
		t.Errorf("%d keys, first %v", len(old), old)
	}
	if len(c.oldKeys(local, peer, AuthXAuthPSK, turn.Add(2*time.Hour))) != 0 {
		t.Error("an expired group key is tried with XAuth (J19)")
	}
}

// TestKeyRotation: a call goes on when its key expires, though its phase 1 is rekeyed by nobody with
// that key, and when the client has been given the new one the call goes on with it, under the
// same number. A client that is never given it is gone when its SAs have run out.
func TestKeyRotation(t *testing.T) {
	w, client, server := pair(t)
	rules := server.e.cfg.Rules
	for i := range rules {
		rules[i].Lifetime = 4 * time.Hour
	}
	short := Config{NATT: true, Rules: rules, Transports: server.e.cfg.Transports, Keys: []PresharedKey{oldKey, newKey}}
	server.e.cfg = short.withDefaults()
	mine := oldKey
	mine.Until = time.Time{} // the client knows of no window
	client.e.cfg = Config{NATT: true, Rules: rules, Transports: client.e.cfg.Transports, Keys: []PresharedKey{mine}}.withDefaults()
	w.now = turn
	client.dial("192.0.2.1", 1, 1701)
	w.run(50 * time.Minute)
	mustUp(t, client, server)
	if server.up[0].Key != "g1" {
		t.Fatalf("key %s", server.up[0].Key)
	}
	w.run(3 * time.Hour) // phase 1 would have been rekeyed by now
	if len(server.down) != 0 || len(server.e.conns) != 1 {
		t.Fatalf("the call has ended with its key: %+v", server.down)
	}
	if server.e.Counters()[CountPhase1Rekey] != 0 || server.e.Counters()[ReasonKeyExpired] == 0 {
		t.Errorf("%v", server.e.Counters())
	}
	cfg := client.e.cfg
	cfg.Keys = []PresharedKey{newKey}
	client.e.cfg = cfg.withDefaults()
	client.step(Rekey{Conn: client.up[0].ID, Phase1: true})
	w.run(time.Minute)
	c := server.only(t)
	if c.Info.ID != server.up[0].ID || c.Info.Key != "g2" || len(server.up) != 1 || len(server.down)+len(client.down) != 0 {
		t.Errorf("server %+v, down %+v, client down %+v\n%s", server.e.Conns(), server.down, client.down, words(server.reports))
	}
	w.run(3 * time.Hour)
	agree(t, client, server)
	cfg.Keys = []PresharedKey{mine}
	client.e.cfg = cfg.withDefaults()
	w.run(10 * time.Hour)
	if len(server.down) != 1 {
		t.Errorf("without a key: %+v", server.e.Conns())
	}
	client.step(CloseAll{Reason: ReasonShutdown})
	w.run(3 * time.Minute)
	empty(t, client, server)
}

// TestOurKey: with which key we begin, and begin again.
func TestOurKey(t *testing.T) {
	local, elsewhere := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	far := newKey
	far.Name, far.Local, far.From = "g3", elsewhere, turn.Add(time.Minute)
	own := PresharedKey{Name: "own", Key: secret("o"), Until: turn}
	e := New(Config{Keys: []PresharedKey{oldKey, newKey, far, own}}, nil)
	for _, c := range []struct {
		at     time.Time
		local  netip.Addr
		name   string
		want   string
		reason Reason
	}{
		{rigStart, local, "g1", "g1", ""},
		{turn, local, "g1", "g1", ""},
		{oldKey.Until, local, "g1", "g2", ""},
		{oldKey.Until, elsewhere, "g1", "g3", ""},
		{rigStart, local, "g2", "g1", ""},
		{rigStart, local, "g3", "", ReasonConfig},
		{rigStart, local, "none", "", ReasonConfig},
		{turn, local, "own", "", ReasonKeyExpired},
	} {
		e.now = c.at
		k, r, text := e.ourKey(c.name, c.local)
		if r != c.reason || k == nil != (c.want == "") || k != nil && k.Name != c.want || k == nil && text == "" {
			t.Errorf("%+v: %v %s %s", c, k, r, text)
		}
	}
}

// TestOtherKeyOtherConn: only keys that are rotated make one peer of two.
func TestOtherKeyOtherConn(t *testing.T) {
	plain := func(k PresharedKey) PresharedKey { k.From, k.Until = time.Time{}, time.Time{}; return k }
	own := plain(newKey)
	own.Group = false
	for _, c := range []struct {
		name  string
		keys  []PresharedKey
		conns int
	}{
		{"rotated", []PresharedKey{oldKey, newKey}, 1},
		{"the old one bounded", []PresharedKey{oldKey, plain(newKey)}, 1},
		{"the new one bounded", []PresharedKey{plain(oldKey), newKey}, 1},
		{"two groups", []PresharedKey{plain(oldKey), plain(newKey)}, 2},
		{"a group and one peer", []PresharedKey{oldKey, own}, 2},
	} {
		r := serverRig(t, ProfileCompatible, c.keys...)
		r.now = turn
		for _, k := range c.keys {
			s := newScript(r, offers.AppleL2TP())
			s.psk = k.Key
			if !s.phase1() {
				t.Fatalf("%s: no phase 1\n%s", c.name, words(r.reports))
			}
		}
		if len(r.e.conns) != c.conns {
			t.Errorf("%s: %d connections", c.name, len(r.e.conns))
		}
	}
	// Removed from the configuration is rotated away too.
	r := serverRig(t, ProfileCompatible, plain(oldKey))
	s := newScript(r, offers.AppleL2TP())
	s.psk = oldKey.Key
	if !s.phase1() {
		t.Fatal("no phase 1")
	}
	cfg := r.e.cfg
	cfg.Keys = []PresharedKey{plain(newKey)}
	r.give(Reconfigure{Config: cfg})
	s = newScript(r, offers.AppleL2TP())
	s.psk = newKey.Key
	if !s.phase1() || len(r.e.conns) != 1 || r.e.Conns()[0].Key != "g2" || len(r.down) != 0 {
		t.Errorf("%+v", r.e.Conns())
	}
}

// TestAggressiveOverlap: in aggressive mode, where we prove ourselves first, a client with either key of an
// overlap is in at its second attempt at the latest, and from then on at the first; one that says
// nothing, which anybody could have sent, changes nothing.
func TestAggressiveOverlap(t *testing.T) {
	for _, k := range []PresharedKey{oldKey, newKey} {
		r := serverRig(t, ProfileCompatible, oldKey, newKey)
		for i := range r.e.cfg.Rules {
			r.e.cfg.Rules[i].Aggressive = AggressiveAccepted
		}
		r.now = turn.Add(time.Minute)
		attempt := func(silent bool) bool {
			s := newScript(r, offers.AppleL2TP())
			s.psk = k.Key
			out := s.send(s.aggressiveMessage1())
			if len(out) != 1 || silent {
				return false
			}
			key := r.e.sas[cookiesOf(out[0].Data)].neg.Key.Name
			if key == k.Name {
				if !s.aggressive2(out[0].Data) {
					t.Fatal("no message 2")
				}
				s.send(s.aggressiveMessage3(true, 500))
				return r.e.Conns()[0].Key == k.Name
			}
			s.cookies = cookiesOf(out[0].Data)
			h := s.header(isakmp.Informational, 1)
			n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtocolISAKMP, Type: isakmp.AuthenticationFailed}
			s.send(isakmp.Message{Header: h, Payloads: []isakmp.Payload{n.Payload()}}.Append(nil))
			return false
		}
		for range 3 {
			attempt(true)
			r.pass(40 * time.Second)
		}
		first := attempt(false)
		if want := k.Name == "g2"; first != want {
			t.Errorf("%s: first attempt %v", k.Name, first)
		}
		for i := range 3 {
			r.pass(2 * time.Minute)
			if !attempt(false) {
				t.Errorf("%s: not in at attempt %d\n%s", k.Name, i+2, words(r.reports))
			}
		}
		r.pass(turnKept + 2*forgetFailures)
		for _, s := range r.e.guard.Sources {
			t.Errorf("%s: remembered for ever: %+v", k.Name, s)
		}
	}
}

// cookiesOf reads the cookies of a datagram.
func cookiesOf(b []byte) cookies {
	h, _, _ := isakmp.ParseHeader(b)
	return cookies{h.Initiator, h.Responder}
}
