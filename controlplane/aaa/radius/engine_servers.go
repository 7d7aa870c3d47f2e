package radius

import (
	"net/netip"
	"time"

	rad "layeh.com/radius"
)

const (
	// deadAfter is how many requests in a row a server leaves unanswered before it is dead; besides, it must not have
	// answered anything while the last of them waited.
	deadAfter = 3
	// probeEvery is the interval of Status-Server, give or take a tenth: Tw of RFC 3539 section 3.4.1, which must not be
	// less than 6 s.
	probeEvery = 10 * time.Second
)

// end is one server in one role.
type end struct {
	Server  Server
	Role    Role
	Address netip.AddrPort

	State      State
	Since      time.Time
	Heard      time.Time // last answer to a request
	Unanswered int       // requests in a row
	RTT        time.Duration
	DeadSince  time.Time
	DeadUntil  time.Time // while Dead: end of DeadTime
	TrialBy    requestID // while Trial: the request that tries it out; 0: none does
	ProbeBy    requestID // the Status-Server in transit; 0: none
	ProbeAt    time.Time // when the next one is due

	Sockets    []*socket
	MaxSockets int
	OpenError  string
	OpenFailed int       // in a row
	ReopenAt   time.Time // not before
	Waiting    list

	Counts Counts
}

// group is one Group, by role.
type group struct {
	Ends       [numRoles][]*end
	RoundRobin bool
	Turn       [numRoles]int
}

// choose returns the server that a request asks next, nil if it has asked all: the one that it names, or the first that
// is up or to be tried out; if there is none, the one that has been dead longest.
func (e *engine) choose(r *request) *end {
	g := e.groups[r.Group]
	ends := g.Ends[r.Role]
	if only := r.Exchange.Server; only != "" {
		for _, n := range ends {
			if n.Server.Name == only && !tried(r, n) {
				return n
			}
		}
		return nil
	}
	var ready []*end
	var dead *end
	for _, n := range ends {
		switch {
		case tried(r, n):
		case n.State == Up, n.State == Trial && n.TrialBy == 0:
			ready = append(ready, n)
		case dead == nil || n.DeadSince.Before(dead.DeadSince):
			dead = n
		}
	}
	if len(ready) == 0 {
		return dead
	}
	n := ready[0]
	if g.RoundRobin {
		n = ready[g.Turn[r.Role]%len(ready)]
		g.Turn[r.Role]++
	}
	if n.State == Trial {
		n.TrialBy = r.ID
	}
	return n
}

func tried(r *request, n *end) bool {
	for _, t := range r.Tried {
		if t == n {
			return true
		}
	}
	return false
}

// heard: the server has answered a request of ours.
func (e *engine) heard(n *end, r *request) {
	n.Heard = e.now
	n.Unanswered = 0
	if r.Repeats == 0 { // otherwise nobody knows which packet was answered (Karn)
		if sample := e.now.Sub(r.SentAt); n.RTT == 0 {
			n.RTT = sample
		} else {
			n.RTT += (sample - n.RTT) / 8
		}
	}
	if n.State != Up {
		e.become(n, Up)
	}
}

// silent: the server has left a request unanswered.
func (e *engine) silent(n *end, r *request) {
	n.Unanswered++
	switch {
	case n.Server.DeadTime <= 0:
	case n.State == Trial && n.TrialBy == r.ID,
		// An answer to anything else meanwhile shows that the server lives and that packets were lost.
		n.State == Up && n.Unanswered >= deadAfter && n.Heard.Before(r.SentAt):
		e.become(n, Dead)
	}
}

func (e *engine) become(n *end, to State) {
	e.do(stateChanged{n.Server.Name, n.Role, n.State, to, n.Counts})
	if n.State == Up && to == Dead {
		n.DeadSince = e.now
	}
	n.State, n.Since, n.TrialBy = to, e.now, 0
	if to == Dead {
		n.DeadUntil = e.now.Add(n.Server.DeadTime)
		n.ProbeAt = e.now.Add(e.jitter(probeEvery))
		e.wake(n.DeadUntil)
		if n.Server.StatusServer {
			e.wake(n.ProbeAt)
		}
	}
}

// tendServer does what is due for a dead server.
func (e *engine) tendServer(n *end) {
	if n.State == Dead && !e.now.Before(n.DeadUntil) {
		e.become(n, Trial)
	}
	if n.State != Dead {
		return
	}
	e.wake(n.DeadUntil)
	if !n.Server.StatusServer || n.ProbeBy != 0 {
		return
	}
	if e.now.Before(n.ProbeAt) {
		e.wake(n.ProbeAt)
		return
	}
	e.lastProbe++
	r := &request{ID: e.lastProbe | probeBit, Role: n.Role, Probe: true, Exchange: Exchange{Code: rad.CodeStatusServer}}
	e.requests[r.ID] = r
	n.ProbeBy = r.ID
	if !e.ask(r, n) {
		e.drop(r)
	}
}
