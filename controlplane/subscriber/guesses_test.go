package subscriber

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/keymat"
	"vrgate/pppd"
)

// guess has a subscriber of a new connection answer until it is denied, and returns why and how
// often AAA was asked.
func (b *bed) guess(conn uint32, user, password string) (why Reason, asked int) {
	b.t.Helper()
	id := b.dynamicUp(conn, "staff")
	for len(b.leaving) == 0 {
		b.answer(user, password)
		if len(b.decides) == 0 {
			break
		}
		asked++
		b.decide("")
		if len(b.accesses) > 0 {
			b.answerAll()
			b.dynamicDown(conn, "peer-deleted")
			b.answerAll()
			return "", asked
		}
	}
	b.answerAll()
	return b.calls[id].ended.Reason, asked
}

// TestGuessing: who has the group's key guesses the password of a user no faster than
// maxUserGuesses allow, though each connection brings new attempts; the right one does not
// help then either. Others behind the same NAT are let in, and so is the user after a while.
func TestGuessing(t *testing.T) {
	b := newBed(t)
	asked, why := 0, Reason("")
	for conn := range uint32(20) {
		r, n := b.guess(1+conn, testUser, "wrong")
		asked, why = asked+n, r
	}
	if asked != maxUserGuesses || why != ReasonGuessing {
		t.Errorf("AAA was asked %d times, then %s", asked, why)
	}
	if why, asked := b.guess(30, testUser, testPassword); why != ReasonGuessing || asked != 0 {
		t.Errorf("the right password is told from the wrong ones: %q, %d", why, asked)
	}
	if why, _ := b.guess(31, otherUser, testPassword); why != "" {
		t.Errorf("another user is refused: %s", why)
	}
	b.pass(guessPeriod)
	asked = 0
	for conn := range uint32(20) {
		_, n := b.guess(40+conn, testUser, "wrong")
		asked += n
	}
	if asked != maxUserGuesses/2 {
		t.Errorf("AAA was asked %d times in the second minute", asked)
	}
	b.pass(guessPeriod)
	if why, _ := b.guess(70, testUser, testPassword); why != "" {
		t.Errorf("the user is kept out: %s", why)
	}
	for n := range maxUserGuesses / 3 { // a success wipes the slate
		if why, _ := b.guess(uint32(80+n), testUser, "wrong"); why != Reason(aaa.ReasonWrongPassword) {
			t.Errorf("attempt %d after a success: %s", n, why)
		}
	}
	if got := b.e.Counters()[ReasonGuessing]; got == 0 {
		t.Error("nothing is counted")
	}
}

// TestGuessingNames: one source has maxSourceGuesses, however many names it tries, and whether
// AAA's answers are waited for or not.
func TestGuessingNames(t *testing.T) {
	b := newBed(t)
	asked := 0
	for conn := range uint32(2 * maxSourceGuesses) {
		id := b.dynamicUp(1+conn, "staff")
		b.answer(fmt.Sprint("user ", conn), "wrong")
		if len(b.decides) == 0 {
			break
		}
		asked++
		if conn%2 == 0 {
			b.dynamicDown(1+conn, "peer-deleted") // gone before the answer
		}
		b.decide("")
		b.dynamicDown(1+conn, "peer-deleted")
		b.asks = nil
		if b.calls[id].ended == nil {
			t.Fatalf("subscriber %d has not ended", id)
		}
	}
	b.answerAll()
	if asked != maxSourceGuesses {
		t.Errorf("AAA was asked %d times", asked)
	}
	// PPP inside L2TP/IPsec from the same address.
	b.connUp(900)
	b.callUp(first, 900)
	b.log = nil
	b.speak(first, "mallory")
	b.pass(10 * time.Second)
	b.assertLog(`
		hang up: too-many-wrong-answers
		ended: too-many-wrong-answers`)
}

// TestGuessingL2TP: sessions of L2TP count like dynamic subscribers.
func TestGuessingL2TP(t *testing.T) {
	b := newBed(t)
	var reasons []Reason
	for n := range uint16(maxUserGuesses + 1) {
		call := CallKey{1, 1 + n}
		id := b.callUp(call, 0)
		b.speak(call, "mallory")
		if len(b.decides) > 0 {
			b.decide("")
		}
		b.pass(time.Second) // and four have passed already
		delete(b.peers, call)
		if r := b.calls[id].ended; r != nil {
			reasons = append(reasons, r.Reason)
		}
	}
	want := slices.Repeat([]Reason{Reason(aaa.ReasonUnknownUser)}, maxUserGuesses)
	if want = append(want, ReasonGuessing); !slices.Equal(reasons, want) {
		t.Errorf("ends %v", reasons)
	}
	b.assertEmpty()
}

// TestGuessesBounded: the table has a limit, forgets what counts no more, and takes the addresses
// of one IPv6 customer for one source.
func TestGuessesBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	g := guesses{wrong: map[guesser]*wrongAnswers{}, asked: map[guesser]int{}}
	for n := range 2 * maxGuessers {
		g.add(now, guesser{source: testRemote.Addr(), user: fmt.Sprint(n)})
	}
	if len(g.wrong) != maxGuessers {
		t.Errorf("%d entries", len(g.wrong))
	}
	g.add(now.Add(guessPeriod), guesser{source: testRemote.Addr(), user: "x"})
	if len(g.wrong) != 1 {
		t.Errorf("%d entries when all but one are forgiven", len(g.wrong))
	}
	same := []guesser{}
	for _, a := range []string{"[2001:db8:1:2::1]:500", "[2001:db8:1:2:3::1%eth0]:4500", "[2001:db8:1:3::1]:500", "[::ffff:192.0.2.1]:500", "192.0.2.1:4500"} {
		same = append(same, guesserOf(netip.MustParseAddrPort(a), ""))
	}
	if got := slices.Compact(same); len(got) != 3 {
		t.Errorf("sources %v", got)
	}
	// Refusals that no other answer would change are no guesses.
	g = guesses{wrong: map[guesser]*wrongAnswers{}, asked: map[guesser]int{}}
	for _, r := range []aaa.Reason{aaa.ReasonPoolEmpty, aaa.ReasonTimeout, aaa.ReasonNoTunnelLicence, aaa.ReasonOverload, aaa.ReasonUserLimit, aaa.ReasonNoGateway} {
		g.guessed(now, guesserOf(testRemote, testUser), aaa.Decision{Reason: r})
	}
	g.guessed(now, guesserOf(testRemote, testUser), aaa.Decision{Prompt: &aaa.Prompt{}})
	if len(g.wrong)+len(g.asked) != 0 {
		t.Errorf("%d entries, %d asked", len(g.wrong), len(g.asked))
	}
}

// TestGuessingAtOnce: answers on many connections at once, before AAA has said anything, get no
// further than those one after the other; the many devices of an office do.
func TestGuessingAtOnce(t *testing.T) {
	b := newBed(t)
	for conn := range uint32(2 * maxUserAsked) {
		b.dynamicUp(1+conn, "staff")
		b.answer(testUser, "wrong")
	}
	if len(b.decides) != maxUserAsked {
		t.Errorf("AAA decides about %d answers at once", len(b.decides))
	}
	b.dynamicUp(500, "staff")
	b.answer(otherUser, testPassword)
	if len(b.decides) != maxUserAsked+1 {
		t.Error("another user is not asked about")
	}
	b.restart()
	for conn := range uint32(500) {
		b.dynamicDown(1+conn, "peer-deleted")
	}
	b.asks = nil
	b.answerAll()
	b.assertEmpty()
	if n := len(b.e.guesses.asked); n != 0 {
		t.Errorf("%d users are still asked about", n)
	}
	if why, asked := b.guess(600, testUser, testPassword); why != ReasonGuessing || asked != 0 {
		t.Errorf("after a burst of wrong answers: %q, %d", why, asked)
	}
}

// TestFloodKeepsNobodyOutElsewhere: wrong answers from one address, for one user or for many, end in
// a back-off of the user at that address; the user gets in from anywhere else at once, and from
// there after a while. That holds for each way to authenticate, dialogues of several rounds among
// them, and for floods of dialogues that nobody finishes.
func TestFloodKeepsNobodyOutElsewhere(t *testing.T) {
	here, there := netip.MustParseAddrPort("203.0.113.1:4500"), netip.MustParseAddrPort("203.0.113.2:4500")
	session := uint16(0)
	// Each tries to log in from an address and returns the end's reason, or none when up.
	finish := func(b *bed, id ID) Reason {
		b.answerAll()
		if r := b.calls[id].ended; r != nil {
			return r.Reason
		}
		b.step(Disconnect{IDs: []ID{id}, Reason: ReasonAdmin})
		b.answerAll()
		return ""
	}
	ppp := func(b *bed, from netip.AddrPort, user, password string, rounds int) Reason {
		session++
		call := CallKey{1, session}
		id := b.callFrom(call, 0, from)
		b.serie++
		p := &peer{call: call, link: pppd.NewLink(pppd.Config{Dialer: &pppd.Dialer{User: user, Password: pppd.Secret(password), EAP: b.eap}}, rand.NewChaCha8([32]byte{3, byte(b.serie), byte(b.serie >> 8)}))}
		b.peers[call] = p
		b.peerStep(p, pppd.Open{})
		for ; rounds > 0 && len(b.decides) > 0; rounds-- {
			b.decide("")
		}
		if rounds == 0 { // hangs up in the middle
			b.callDown(call, "gone")
		}
		return finish(b, id)
	}
	xauth := func(b *bed, from netip.AddrPort, user, password string, rounds int) Reason {
		session++
		conn := 1000 + uint32(session)
		id := b.dynamicFrom(conn, "once", from)
		b.answer(user, password)
		for ; rounds > 0 && len(b.decides) > 0; rounds-- {
			b.decide("")
		}
		if rounds == 0 {
			b.dynamicDown(conn, "gone")
		}
		for len(b.decides) > 0 {
			b.decide("")
			if len(b.asks) > 0 { // AAA goes on
				b.reply(UserAnswered{Passcode: keymat.Secret("123456")})
			}
		}
		b.answerAll()
		b.dynamicConnUp(conn)
		return finish(b, id)
	}
	for _, c := range []struct {
		name   string
		login  func(b *bed, from netip.AddrPort, user, password string, rounds int) Reason
		eap    bool
		method aaa.Method
		rounds int // after which a flood hangs up; -1: never
	}{
		{"MS-CHAPv2", ppp, false, nil, -1},
		{"EAP", ppp, true, eapServer{notifications: 1}, -1},
		{"EAP unfinished", ppp, true, eapServer{notifications: 1}, 1},
		{"XAuth", xauth, false, nil, -1},
		{"XAuth with passcode", xauth, false, tokens{}, -1},
		{"XAuth with passcode, unfinished", xauth, false, tokens{}, 1},
	} {
		for _, many := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/many users %t", c.name, many), func(t *testing.T) {
				b := newBed(t)
				b.e.cfg.Tunnels["once"] = TunnelProfile{Name: "once", IPProfile: "users", XAuth: true, Attempts: 1}
				if c.eap {
					b.e.cfg.Link.Auth = []pppd.AuthProtocol{pppd.AuthEAP}
				}
				if b.eap = c.eap; c.method != nil {
					b.method = c.method
				}
				password := "wrong"
				if c.rounds >= 0 {
					password = testPassword
				}
				refused := 0
				for n := range 3 * maxSourceGuesses {
					user := testUser
					if many {
						user = fmt.Sprint("user ", n)
					}
					if c.login(b, here, user, password, c.rounds) == ReasonGuessing {
						refused++
					}
				}
				if c.rounds >= 0 && refused > 0 || c.rounds < 0 && refused < maxSourceGuesses {
					t.Errorf("%d attempts of the flood were refused without AAA", refused)
				}
				if r := c.login(b, there, testUser, testPassword, -1); r != "" {
					t.Errorf("the user is kept out elsewhere: %s", r)
				}
				want := ReasonGuessing
				if c.rounds >= 0 {
					want = ""
				}
				if r := c.login(b, here, testUser, testPassword, -1); r != want {
					t.Errorf("the user at the flood's address: %q, want %q", r, want)
				}
				b.pass(10 * guessPeriod)
				if r := c.login(b, here, testUser, testPassword, -1); r != "" {
					t.Errorf("the user is kept out for ever: %s", r)
				}
				for conn := range uint32(session) {
					b.dynamicDown(1001+conn, "over")
				}
				b.answerAll()
				b.assertEmpty()
			})
		}
	}
}

// TestCarrierGuesses: wrong answers of subscribers behind a carrier's LAC keep nobody else behind it out: the bound is that of a
// line, or of each user where the LAC names no numbers.
func TestCarrierGuesses(t *testing.T) {
	for _, c := range []struct {
		carrier         bool
		guesser, number string
		out             bool // the other is kept out
	}{
		{false, "1", "2", true}, // a stranger can name any number
		{true, "1", "2", false},
		{true, "1", "1", true},
		{true, "", "", false},
	} {
		e := New(testConfig(), nil)
		guess := func(number, user string) (*session, bool) {
			s := &session{Record: Record{Remote: testRemote, CallingNumber: number}, said: said{Carrier: c.carrier}}
			ok, _ := e.mayGuess(time.Unix(0, 0), s, user)
			return s, ok
		}
		for n := range 2 * maxSourceGuesses {
			user := fmt.Sprint("guess", n)
			if s, ok := guess(c.guesser, user); ok {
				e.asking(s, user)
				e.guesses.guessed(time.Unix(0, 0), s.guesser, aaa.Decision{Reason: aaa.ReasonWrongPassword})
			}
		}
		if _, ok := guess(c.number, testUser); ok == c.out {
			t.Errorf("%+v: asked about the other: %t", c, ok)
		}
		for range maxUserGuesses {
			s, _ := guess("9", "mallory")
			e.asking(s, "mallory")
			e.guesses.guessed(time.Unix(0, 0), s.guesser, aaa.Decision{Reason: aaa.ReasonWrongPassword})
		}
		if _, ok := guess("9", "mallory"); ok {
			t.Errorf("%+v: one user is guessed at without end", c)
		}
	}
}

// TestGuessesWithoutSession: users of static tunnels are bounded as those of subscribers are (Z-8).
func TestGuessesWithoutSession(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	g := NewGuesses()
	wrong := aaa.Decision{Reason: aaa.ReasonWrongPassword}
	for n := range maxUserGuesses {
		if ok, text := g.Ask(now, testRemote, "branch"); !ok {
			t.Fatalf("answer %d is not looked at: %s", n, text)
		}
		g.Answered(now, testRemote, "branch", wrong)
	}
	if ok, text := g.Ask(now, testRemote, "branch"); ok || !strings.Contains(text, "10 wrong answers for user") {
		t.Errorf("more are looked at: %q", text)
	}
	if ok, _ := g.Ask(now, netip.MustParseAddrPort("203.0.113.77:500"), "branch"); !ok {
		t.Error("the same user elsewhere is kept out")
	}
	if ok, _ := g.Ask(now.Add(guessPeriod), testRemote, "branch"); !ok {
		t.Error("nothing is forgiven")
	}
	for n := range maxUserAsked {
		if ok, _ := g.Ask(now, testRemote, "busy"); !ok {
			t.Fatalf("%d at once are too many", n+1)
		}
	}
	if ok, _ := g.Ask(now, testRemote, "busy"); ok {
		t.Error("there is no bound on answers at once")
	}
	g.Answered(now, testRemote, "busy", aaa.Decision{Accept: true})
	if ok, _ := g.Ask(now, testRemote, "busy"); !ok {
		t.Error("an answer does not make room")
	}
}
