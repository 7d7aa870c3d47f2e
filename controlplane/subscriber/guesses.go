package subscriber

import (
	"fmt"
	"net/netip"
	"time"

	"vrgate/controlplane/aaa"
)

// Bounds on guessing names and passwords. Whoever has a group's key, and with hybrid
// authentication anybody, gets as far as the question for them, as often as it likes. At
// the bound AAA is not asked any more: the answer is a no, be it right or wrong.
const (
	// guessPeriod is how long wrong answers count; their number halves with every such period.
	guessPeriod = time.Minute
	// maxUserGuesses is for one user from one source: a stored password that is wrong, which a
	// phone tries again and again, keeps nobody else out.
	maxUserGuesses = 10
	// maxUserAsked is for answers of one user from one source that AAA is deciding on, besides
	// the wrong ones: who answers on many connections at once gets no further. It is larger for
	// the sake of the many devices in an office that share an account.
	maxUserAsked = 50
	// maxSourceGuesses is for one source, behind which there may be many users.
	maxSourceGuesses = 100
	// maxGuessers bounds the table; what does not fit is not bounded. Its sources have shown
	// that they receive, so nobody fills it with addresses that are not his.
	maxGuessers = 32768
)

// guesser is a user at a source or, without user, the source.
type guesser struct {
	source netip.Addr
	user   string
	line   line
}

// line is what tells the subscribers of a carrier's LAC apart, who all come from its address: a few hundred of them that dial
// again and again with old passwords must not keep thousands of others out.
type line struct {
	carrier bool
	number  string // Calling Number AVP; a LAC that proves itself is believed
}

// knowsSource says whether there is a source to be bounded: a carrier that names no numbers is one for all its subscribers, who
// are bounded one by one.
func (g guesser) knowsSource() bool { return !g.line.carrier || g.line.number != "" }

// guesses are the wrong answers that still count, and the answers that may be wrong. The
// former are no part of snapshots: a restart forgives them.
type guesses struct {
	wrong   map[guesser]*wrongAnswers
	asked   map[guesser]int // users about whom AAA is deciding
	sweepAt time.Time
}

type wrongAnswers struct {
	n     int
	since time.Time // start of the current period
}

// guesserOf makes the addresses of one IPv6 customer one source.
func guesserOf(remote netip.AddrPort, user string) guesser {
	a := remote.Addr().Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	return guesser{source: a, user: user}
}

// guesserAs is who asks about a user by this session.
func (s *session) guesserAs(user string) guesser {
	g := guesserOf(s.Remote, user)
	if s.said.Carrier {
		g.line = line{true, s.CallingNumber}
	}
	return g
}

// count returns how many wrong answers of a guesser still count.
func (g *guesses) count(now time.Time, who guesser) int {
	w := g.wrong[who]
	if w == nil {
		return 0
	}
	for w.n > 0 && now.Sub(w.since) >= guessPeriod {
		w.n /= 2
		w.since = w.since.Add(guessPeriod)
	}
	return w.n
}

// add counts one wrong answer.
func (g *guesses) add(now time.Time, who guesser) {
	if !now.Before(g.sweepAt) {
		g.sweepAt = now.Add(guessPeriod)
		for k := range g.wrong {
			if g.count(now, k) == 0 {
				delete(g.wrong, k)
			}
		}
	}
	w := g.wrong[who]
	if w == nil {
		if len(g.wrong) >= maxGuessers {
			return
		}
		w = &wrongAnswers{}
		g.wrong[who] = w
	}
	if g.count(now, who) == 0 {
		w.since = now
	}
	w.n++
}

// asking notes that AAA is deciding about a user.
func (e *Engine) asking(s *session, user string) {
	s.guesser = s.guesserAs(user)
	e.guesses.asked[s.guesser]++
}

// guessed keeps account of what AAA has said about a user at a source. Only its last word
// counts: a dialogue of several rounds is one answer.
func (g *guesses) guessed(now time.Time, who guesser, d aaa.Decision) {
	if g.asked[who]--; g.asked[who] <= 0 {
		delete(g.asked, who)
	}
	switch {
	case d.Accept:
		delete(g.wrong, who)
	case d.Prompt == nil && d.Round == nil && answerHelps(d.Reason):
		g.add(now, who)
		if who.knowsSource() {
			g.add(now, guesser{source: who.source, line: who.line})
		}
	}
}

// mayGuess says whether AAA is asked about a user at a source; else text says why not.
func (e *Engine) mayGuess(now time.Time, s *session, user string) (ok bool, text string) {
	return e.guesses.may(now, s.guesserAs(user), s.Remote)
}

func newGuesses() guesses {
	return guesses{wrong: map[guesser]*wrongAnswers{}, asked: map[guesser]int{}}
}

func (g *guesses) may(now time.Time, who guesser, remote netip.AddrPort) (ok bool, text string) {
	if n := g.count(now, guesser{source: who.source, line: who.line}); n >= maxSourceGuesses && who.knowsSource() {
		return false, fmt.Sprintf("%d wrong answers from %v in the last minutes", n, remote.Addr())
	}
	user, n, asked := who.user, g.count(now, who), g.asked[who]
	switch {
	case user == "":
	case n >= maxUserGuesses:
		return false, fmt.Sprintf("%d wrong answers for user %q from %v in the last minutes", n, user, remote.Addr())
	case n+asked >= maxUserAsked:
		return false, fmt.Sprintf("%d answers of user %q from %v at once", asked, user, remote.Addr())
	}
	return true, ""
}

// Guesses bounds guessing where there is no session: by the peers of static tunnels that answer for a user (Z-8). One
// goroutine owns it.
type Guesses struct{ guesses }

// NewGuesses has nobody on its books.
func NewGuesses() *Guesses { return &Guesses{newGuesses()} }

// Ask says whether AAA may be asked about a user at a source, and notes that it is; else text says why not. Every one that is
// asked about is to be followed by [Guesses.Answered].
func (g *Guesses) Ask(now time.Time, remote netip.AddrPort, user string) (ok bool, text string) {
	who := guesserOf(remote, user)
	if ok, text = g.may(now, who, remote); ok {
		g.asked[who]++
	}
	return ok, text
}

// Answered keeps account of what AAA has said.
func (g *Guesses) Answered(now time.Time, remote netip.AddrPort, user string, d aaa.Decision) {
	g.guessed(now, guesserOf(remote, user), d)
}
