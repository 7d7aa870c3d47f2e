package subscriber

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"vrgate/controlplane/aaa"
)

const someone = 7 // the connection of most tests

// TestDynamicLife follows one dynamic subscriber from phase 1 to its end (J4 to J8).
func TestDynamicLife(t *testing.T) {
	b := newBed(t)
	p := b.e.cfg.Profiles["users"]
	p.DNS, p.NBNS = [2]netip.Addr{netip.MustParseAddr("10.1.0.53")}, [2]netip.Addr{{}, netip.MustParseAddr("10.1.0.42")}
	p.MTU = 1300
	b.e.cfg.Profiles["users"] = p
	tunnel := b.e.cfg.Tunnels["staff"]
	tunnel.Networks, tunnel.Banner, tunnel.Domain, tunnel.SplitDNS = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, "welcome", "example.net", []string{"corp.example"}
	tunnel.SavePassword, tunnel.PFS, tunnel.AddressExpiry = true, true, time.Hour
	b.e.cfg.Tunnels["staff"] = tunnel

	id := b.dynamicUp(someone, "staff")
	if s := b.state(t); s != StateLink {
		t.Errorf("state %v, want link", s)
	}
	b.answer(testUser, testPassword)
	if s := b.state(t); s != StateDeciding {
		t.Errorf("state %v, want deciding", s)
	}
	q := b.decides[0].Request
	if q.Router != "outside" || q.Access != aaa.AccessXAuth || q.Protocol != aaa.PAP || q.Remote != testRemote || q.PeerID != "@pc.example.net" || q.IPProfile != "users" {
		t.Errorf("AAA is asked %+v", q)
	}
	b.decide("")
	if s := b.state(t); s != StateOpening {
		t.Errorf("state %v, want opening", s)
	}
	b.accessOpened("")
	if s := b.state(t); s != StateNetwork {
		t.Errorf("state %v, want network", s)
	}
	address := b.e.Records()[0].Address
	want := Admit{
		Conn: someone, Address: address, Netmask: netip.MustParseAddr("255.255.255.255"), DNS: p.DNS[:1], NBNS: p.NBNS[1:], Expiry: time.Hour,
		Networks: tunnel.Networks, Banner: "welcome", Domain: "example.net", SplitDNS: tunnel.SplitDNS, SavePassword: true, PFS: true,
	}
	if d := gocmp.Diff([]Admit{want}, b.admits, plain); d != "" {
		t.Errorf("admitted: %s", d)
	}
	b.now = b.now.Add(time.Second)
	b.dynamicConnUp(someone)
	r := b.e.Records()[0]
	if r.State != StateUp || r.ID != id || r.User != testUser || r.Access != aaa.AccessXAuth || r.Peer != "iOS" || r.Remote != testRemote || r.Local != testLocal ||
		r.Interface != "ipsec0" || r.MTU != 1300 || r.Protocol != aaa.PAP || r.Terminating != "inside" || r.Router != "outside" || r.Conn != someone ||
		r.Profile != "staff" || r.PeerID != "@pc.example.net" || r.Gateway != testGateway {
		t.Errorf("record %+v", r)
	}
	b.dynamicConnUp(someone) // re-keyed: reported again
	b.pass(time.Hour)
	b.assertLog(`
		ask ""
		decide alice pap
		open access in inside mtu 1300
		admit 10.2.0.1
		started alice`)
	b.dynamicDown(someone, "peer-deleted")
	b.dynamicDown(someone, "peer-deleted") // a second report changes nothing
	b.accessClosed()
	b.assertLog(`
		close access
		release 10.2.0.1
		ended: peer-deleted`)
	if end := b.calls[id].ended; !end.ByPeer || end.Counters.InBytes != 33 || end.Counters.OutPackets != 4 || !end.Up.Equal(r.Up) {
		t.Errorf("last record %+v", end)
	}
	b.assertEmpty()
	if n := b.e.Counters()["peer-deleted"]; n != 1 {
		t.Errorf("the end was counted %d times", n)
	}
}

// TestChallenge: what answers a RADIUS-CHAP question goes to AAA as CHAP (J5).
func TestChallenge(t *testing.T) {
	b := newBed(t)
	b.dynamicUp(someone, "staff")
	b.reply(UserAnswered{User: testUser, CHAPID: 9, Challenge: []byte("challenge"), Response: []byte("0123456789abcdef")})
	q := b.decides[0].Request
	if q.Protocol != aaa.CHAPMD5 || q.ID != 9 || string(q.Challenge) != "challenge" || string(q.Response) != "0123456789abcdef" || len(q.Password) != 0 {
		t.Errorf("AAA is asked %+v", q)
	}
}

// TestAttempts: the user is asked again within the same dialogue until the attempts are used, and
// only if another answer can help (J8).
func TestAttempts(t *testing.T) {
	t.Run("right at last", func(t *testing.T) {
		b := newBed(t)
		b.dynamicUp(someone, "staff")
		b.answer(testUser, "wrong")
		b.decide("")
		if s := b.state(t); s != StateLink {
			t.Errorf("state %v while the user is asked again, want link", s)
		}
		b.answer("mallory", testPassword)
		b.decide("")
		b.answerAll()
		b.dynamicConnUp(someone)
		b.assertLog(`
			ask ""
			decide alice pap
			ask "The user name or the password is wrong."
			decide mallory pap
			ask "The user name or the password is wrong."
			decide alice pap
			open access in inside mtu 1440
			admit 10.2.0.1
			started alice`)
	})
	t.Run("never right", func(t *testing.T) {
		b := newBed(t)
		id := b.dynamicUp(someone, "staff")
		for range 3 {
			b.answer(testUser, "wrong")
			b.decide("")
		}
		b.answerAll()
		b.assertLog(`
			ask ""
			decide alice pap
			ask "The user name or the password is wrong."
			decide alice pap
			ask "The user name or the password is wrong."
			decide alice pap
			deny 7: aaa-wrong-password
			ended: aaa-wrong-password`)
		if r := b.calls[id].ended; r.ByPeer || r.User != testUser {
			t.Errorf("ended %+v", r)
		}
		b.assertEmpty()
	})
	for _, reason := range []aaa.Reason{
		aaa.ReasonPoolEmpty, aaa.ReasonTimeout, aaa.ReasonNoSubscriberLicence, aaa.ReasonNoTunnelLicence, aaa.ReasonAddressInUse, aaa.ReasonRouteInUse,
		aaa.ReasonNoRouter, aaa.ReasonNoGateway, aaa.ReasonOverload, aaa.ReasonUserLimit, aaa.ReasonDomainLimit, aaa.ReasonRouterLimit, aaa.ReasonSourceLimit,
	} {
		t.Run(string(reason), func(t *testing.T) {
			b := newBed(t)
			b.dynamicUp(someone, "staff")
			b.answer(testUser, testPassword)
			b.decide(reason)
			b.answerAll()
			b.assertLog(`
				ask ""
				decide alice pap
				deny 7: ` + string(reason) + `
				ended: ` + string(reason))
			b.assertEmpty()
		})
	}
	t.Run("refused by the user", func(t *testing.T) {
		b := newBed(t)
		id := b.dynamicUp(someone, "staff")
		b.reply(UserAnswered{Refused: true})
		b.answerAll()
		b.assertLog(`
			ask ""
			deny 7: user-refused
			ended: user-refused`)
		if !b.calls[id].ended.ByPeer {
			t.Error("it was not the peer?")
		}
		b.assertEmpty()
	})
	t.Run("a name that is too long", func(t *testing.T) {
		b := newBed(t)
		b.dynamicUp(someone, "few")
		b.answer(strings.Repeat("x", aaa.MaxUserName+1), testPassword)
		b.answerAll()
		b.assertLog(`
			ask ""
			deny 7: aaa-unknown-user
			ended: aaa-unknown-user`)
		b.assertEmpty()
	})
	t.Run("a rekey does not begin the count anew", func(t *testing.T) {
		b := newBed(t)
		b.dynamicUp(someone, "staff")
		for range 3 {
			b.dynamicUp(someone, "staff")
			b.answer(testUser, "wrong")
			b.decide("")
		}
		b.answerAll()
		b.assertEmpty()
	})
}

// TestDialogue: AAA's further questions reach the user and the answers AAA, with the State that
// belongs to them.
func TestDialogue(t *testing.T) {
	t.Run("passcode and new PIN", func(t *testing.T) {
		b := newBed(t)
		b.method = tokens{}
		b.dynamicUp(someone, "staff")
		b.answer(testUser, testPassword)
		b.decide("")
		if f := b.asks[0]; !f.Passcode || f.NextPIN || f.Answer {
			t.Errorf("asked for %+v, want the passcode", f)
		}
		b.reply(UserAnswered{Passcode: []byte("000000")}) // without the name, which we know
		b.decide("")
		if f := b.asks[0]; f.Passcode || !f.NextPIN || f.Answer {
			t.Errorf("asked for %+v, want the new PIN", f)
		}
		b.reply(UserAnswered{User: testUser, NextPIN: []byte("4711")})
		b.decide("")
		b.answerAll()
		b.dynamicConnUp(someone)
		b.assertLog(`
			ask ""
			decide alice pap
			ask "passcode"
			decide alice pap
			ask "new PIN"
			decide alice pap
			open access in inside mtu 1440
			admit 10.2.0.1
			started alice`)
	})
	t.Run("wrong passcode", func(t *testing.T) {
		b := newBed(t)
		b.method = tokens{}
		b.dynamicUp(someone, "staff")
		b.answer(testUser, testPassword)
		b.decide("")
		b.reply(UserAnswered{User: testUser, Passcode: []byte("999999")})
		b.decide("")
		// It begins again with the password, and without the old State.
		if f := b.asks[0]; f.Passcode || f.Message != wrongAnswer {
			t.Errorf("asked for %+v, want the password", f)
		}
		b.answer(testUser, testPassword)
		if q := b.decides[0].Request; q.State != nil {
			t.Errorf("State %q of the dialogue that failed", q.State)
		}
	})
	t.Run("phase 1 rekeyed meanwhile", func(t *testing.T) {
		b := newBed(t)
		b.method = tokens{}
		b.dynamicUp(someone, "staff")
		b.answer(testUser, testPassword)
		b.decide("")
		b.dynamicUp(someone, "staff")
		if f := b.asks[0]; len(b.asks) != 1 || f.Passcode {
			t.Errorf("asked for %+v, want the password", b.asks)
		}
		b.answer("", testPassword) // the name belonged to the dialogue that is over
		if q := b.decides[0].Request; q.State != nil || q.User != "" {
			t.Errorf("user %q and State %q of the dialogue that is over", q.User, q.State)
		}
	})
	t.Run("without end", func(t *testing.T) {
		b := newBed(t)
		b.method = tokens{endless: true}
		b.dynamicUp(someone, "staff")
		for range maxRounds + 1 {
			b.answer(testUser, testPassword)
			b.decide("")
		}
		b.left()
		if r := b.calls[1].ended; r == nil || r.Reason != ReasonDialogue {
			t.Errorf("ended %+v, want %s", r, ReasonDialogue)
		}
		b.assertEmpty()
	})
	t.Run("nobody to ask", func(t *testing.T) {
		b := newBed(t)
		b.method = tokens{endless: true}
		b.dynamicUp(someone, "boxes")
		b.answerAll()
		b.assertLog(`
			decide pc.example.net proven
			deny 7: xauth-dialogue
			ended: xauth-dialogue`)
		b.assertEmpty()
	})
}

// TestProven: without XAuth the identity of phase 1 is the user, and nobody is asked.
func TestProven(t *testing.T) {
	b := newBed(t)
	b.connect(someone, "boxes")
	b.assertLog(`
		decide pc.example.net proven
		open access in inside mtu 1440
		admit 10.2.0.1
		started pc.example.net`)
	b.dynamicUp(someone, "boxes") // rekeyed
	b.answerAll()
	b.assertLog(`
		decide pc.example.net proven
		admit 10.2.0.1`)
}

// TestUserName: what AAA is asked about (J14).
func TestUserName(t *testing.T) {
	for _, c := range []struct{ user, domain, suffix, want string }{
		{"alice", "", "", "alice"},
		{"alice", "corp", "", "alice@corp"},
		{"alice@corp", "corp", "", "alice@corp"},
		{"alice", "", "vpn1.example", "alice@vpn1.example"},
		{"alice", "", "@vpn1.example", "alice@vpn1.example"},
		{"alice", "", "%vpn1", "alice%vpn1"},
		{"alice@vpn1.example", "", "vpn1.example", "alice@vpn1.example"},
		{"alice@vpn2.example", "", "vpn1.example", "alice@vpn2.example@vpn1.example"},
		{"alice", "vpn2.example", "vpn1.example", "alice@vpn2.example@vpn1.example"},
		{"", "", "vpn1.example", "@vpn1.example"},
	} {
		tunnel := TunnelProfile{DomainSuffix: c.suffix}
		if got := tunnel.UserName(c.user, c.domain); got != c.want {
			t.Errorf("user %q, domain %q, suffix %q: %q, want %q", c.user, c.domain, c.suffix, got, c.want)
		}
	}
	for id, want := range map[string]string{
		"@pc.example.net": "pc.example.net", "bob@example.net": "bob@example.net", "dn:CN=bob,O=Example": "CN=bob,O=Example",
		"192.0.2.7": "192.0.2.7", `KEY_ID "road \"x\""`: `road "x"`, `KEY_ID "open`: `KEY_ID "open`, "": "",
	} {
		if got := bareIdentity(id); got != want {
			t.Errorf("identity %q: user %q, want %q", id, got, want)
		}
	}
}

// TestMaxSubscribers: a full tunnel profile rejects with a warning (J14). Only users that were let
// in count, so that nobody who knows just the group's key keeps them out, and only until they end.
func TestMaxSubscribers(t *testing.T) {
	b := newBed(t)
	b.connect(1, "few")
	b.connect(2, "staff") // another profile's
	for conn := range uint32(5) {
		b.dynamicUp(10+conn, "few") // they know the group's key
	}
	b.log = nil
	b.answer(testUser, testPassword)
	b.answer(testUser, testPassword)
	b.decide("")
	b.decide("") // one too many
	b.assertLog(`
		decide alice pap
		decide alice pap
		open access in inside mtu 1440
		release 10.2.0.4
		report: max-subscribers
		deny 11: max-subscribers`)
	b.left()
	b.assertLog("ended: max-subscribers")
	b.dynamicUp(19, "few") // one warning is enough
	b.left()
	b.assertLog(`
		deny 19: max-subscribers
		ended: max-subscribers`)
	b.now = b.now.Add(warnEvery)
	id := b.dynamicUp(20, "few") // now that it is full, nobody is asked any more
	b.left()
	b.assertLog(`
		report: max-subscribers
		deny 20: max-subscribers
		ended: max-subscribers`)
	if r := b.calls[id].ended; r.Profile != "few" || r.Remote != testRemote {
		t.Errorf("ended %+v", r)
	}
	b.accessOpened("")
	b.dynamicUp(10, "few") // who is in may authenticate again
	b.asks = b.asks[len(b.asks)-1:]
	b.answer(testUser, testPassword)
	b.decide("")
	b.assertLog(`
		admit 10.2.0.3
		ask ""
		decide alice pap
		admit 10.2.0.3`)
	// The place of one that is ending is free, although its kernel objects are not gone yet.
	b.dynamicDown(1, "peer-deleted")
	b.dynamicUp(21, "few")
	b.assertLog(`
		close access
		ask ""`)
	b.restart()
	if got := b.e.admitted; got["few"] != 1 || got["staff"] != 1 || len(got) != 2 {
		t.Errorf("after a restart %v are counted", got)
	}
	for conn := range uint32(30) {
		b.dynamicDown(conn, "over")
	}
	b.answerAll()
	b.assertEmpty()
}

// TestNoPhase2: whoever is let in and negotiates nothing is closed after a minute.
func TestNoPhase2(t *testing.T) {
	b := newBed(t)
	id := b.dynamicUp(someone, "staff")
	b.pass(10 * time.Minute) // the user may take its time: IKE decides how long
	b.answerAll()
	b.pass(connTimeout - time.Second)
	b.log = nil
	b.pass(time.Second)
	b.answerAll()
	b.assertLog(`
		close connection 7: no-ipsec-sa
		close access
		release 10.2.0.1
		ended: no-ipsec-sa`)
	if r := b.calls[id].ended; !r.Up.IsZero() {
		t.Errorf("ended %+v", r)
	}
	b.assertEmpty()
}

// TestEarlyConnection: an IPsec SA that exists before its subscriber is let in starts nothing
// until then; one without a subscriber is closed.
func TestEarlyConnection(t *testing.T) {
	b := newBed(t)
	b.dynamicUp(someone, "staff")
	b.dynamicConnUp(someone)
	b.answer(testUser, testPassword)
	b.decide("")
	b.assertLog(`
		ask ""
		decide alice pap
		open access in inside mtu 1440`)
	b.accessOpened("")
	b.assertLog(`
		admit 10.2.0.1
		started alice`)
	b.step(ConnUp{Conn: 99, Dynamic: true})
	b.assertLog("close connection 99: dynamic-connection-unannounced")
	b.pass(time.Hour)
	b.dynamicDown(99, "operator")
	b.dynamicDown(someone, "peer-dead")
	b.answerAll()
	b.assertEmpty()
}

// TestMisconfigured: profiles that a reload has taken away deny access, and leave nothing.
func TestMisconfigured(t *testing.T) {
	b := newBed(t)
	b.e.cfg.Tunnels["orphan"] = TunnelProfile{Name: "orphan", IPProfile: "gone", XAuth: true}
	for profile, reason := range map[string]Reason{"unknown": ReasonNoTunnelProfile, "orphan": ReasonNoProfile} {
		id := b.dynamicUp(someone, profile)
		b.answerAll()
		if r := b.calls[id].ended; r == nil || r.Reason != reason {
			t.Errorf("%s: ended %+v, want %s", profile, r, reason)
		}
	}
	b.assertEmpty()
}

// TestAnswersNobodyWantsFromUsers: answers of peers that were not asked decide nothing.
func TestAnswersNobodyWantsFromUsers(t *testing.T) {
	b := newBed(t)
	b.step(UserAnswered{Conn: 1, User: testUser})
	id := b.dynamicUp(someone, "staff")
	b.answer(testUser, testPassword)
	b.step(UserAnswered{Conn: someone, User: otherUser})
	b.step(AccessOpened{ID: id})
	b.step(AccessClosed{ID: id})
	b.step(SessionOpened{ID: id})
	b.decide("")
	b.step(SessionOpened{ID: id, Interface: "ppp0"})
	if s := b.state(t); s != StateOpening {
		t.Fatalf("state %v, want opening", s)
	}
	b.answerAll()
	b.step(UserAnswered{Conn: someone, Refused: true})
	b.step(CountersRead{ID: id, Gone: true})
	b.step(CountersRead{ID: id + 1, Gone: true})
	b.dynamicConnUp(someone)
	if s := b.state(t); s != StateUp || b.e.Records()[0].User != testUser {
		t.Errorf("state %v of %s", s, b.e.Records()[0].User)
	}
	if n := b.e.Counters()[CountUnasked]; n != 3 {
		t.Errorf("%d answers counted as unasked, want 3", n)
	}
	if slices.Contains(b.log, "decide bob pap") {
		t.Error("the second answer was decided on")
	}
}
