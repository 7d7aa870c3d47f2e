package subscriber

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"vrgate/controlplane/aaa"
)

// silence is what is remembered of an LNS that did not answer: it is passed over for Config.Lockout, so that not every
// user waits for it in vain.
type silence struct {
	until time.Time
	trial ID // the session that tries it nevertheless; 0: none
}

// maxSilent bounds the LNSs that are remembered. They are named by AAA, so there are few; what does not fit is not passed
// over.
const maxSilent = 256

// inOrder are the LNSs in the order in which a session tries them: by preference and, among equals, each session beginning with
// another one, which shares the sessions out evenly because their numbers follow each other.
func inOrder(id ID, tunnels []aaa.Tunnel) []aaa.Tunnel {
	out := slices.Clone(tunnels[:min(len(tunnels), aaa.MaxTunnels)])
	slices.SortStableFunc(out, func(a, b aaa.Tunnel) int { return cmp.Compare(a.Preference, b.Preference) })
	for first := 0; first < len(out); {
		last := first + 1
		for last < len(out) && out[last].Preference == out[first].Preference {
			last++
		}
		equals := out[first:last]
		turn := int(uint64(id) % uint64(len(equals)))
		copy(equals, append(slices.Clone(equals[turn:]), equals[:turn]...))
		first = last
	}
	return out
}

// choose says which of the LNSs that are left a session calls next; -1: none of them. LNSs that are locked out come last, the
// one whose lockout ends first before the others, and each is tried by one session at a time: when no other LNS is left a
// session has nothing to lose by that, and whoever comes meanwhile need not wait for the outcome. With
// Config.LockoutTest the same holds for an LNS whose lockout is over, until it has answered.
func (e *Engine) choose(now time.Time, id ID, left []aaa.Tunnel) int {
	best := -1
	var soonest *silence
	for i, t := range left {
		q := e.silent[t.Server]
		if q != nil && !now.Before(q.until) && !e.cfg.LockoutTest {
			delete(e.silent, t.Server)
			q = nil
		}
		switch {
		case q == nil:
			return i
		case q.trial != 0:
		case !now.Before(q.until):
			q.trial = id
			return i
		case soonest == nil || q.until.Before(soonest.until):
			best, soonest = i, q
		}
	}
	if soonest != nil {
		soonest.trial = id
	}
	return best
}

// answered and wasSilent keep what the call to an LNS has shown; gaveUp, that it has shown nothing.
func (e *Engine) answered(server netip.Addr) { delete(e.silent, server) }

func (e *Engine) wasSilent(now time.Time, server netip.Addr) {
	if e.silent[server] == nil && len(e.silent) >= maxSilent {
		return
	}
	e.silent[server] = &silence{until: now.Add(e.cfg.Lockout)}
}

func (e *Engine) gaveUp(id ID, server netip.Addr) {
	if q := e.silent[server]; q != nil && q.trial == id {
		q.trial = 0
	}
}

// Lockout is how an LNS that did not answer is passed over, for show.
type Lockout struct {
	// State is "waiting" until the lockout is over, "waiting-for-test" after that where a session has to try the LNS first, and
	// "testing" while one does.
	State     string
	Remaining time.Duration // of the lockout
}

// Lockouts are the LNSs that are passed over.
func (e *Engine) Lockouts(now time.Time) map[netip.Addr]Lockout {
	out := make(map[netip.Addr]Lockout, len(e.silent))
	for server, q := range e.silent {
		l := Lockout{State: "waiting", Remaining: max(q.until.Sub(now), 0)}
		switch {
		case q.trial != 0:
			l.State = "testing"
		case l.Remaining == 0 && !e.cfg.LockoutTest:
			continue
		case l.Remaining == 0:
			l.State = "waiting-for-test"
		}
		out[server] = l
	}
	return out
}
