package radius

import (
	"net/netip"
	"slices"
	"time"

	rad "layeh.com/radius"
)

const (
	// identifiers of one socket: the field has one byte.
	identifiers = 256
	// quiet is how long an identifier rests after a request to which answers may still be under way.
	quiet = 10 * time.Second
	// socketIdle is how long an unused socket is kept.
	socketIdle = 5 * time.Minute
	// reopenMin doubles with each failure to open a socket, up to reopenMax.
	reopenMin = time.Second
	reopenMax = time.Minute
)

// socket is one UDP socket towards one server in one role.
type socket struct {
	ID     socketID
	Open   bool
	Busy   int       // identifiers of requests in transit
	UsedAt time.Time // last time that an identifier was taken or freed
	Slots  [identifiers]slot
	// Free identifiers are taken in the order in which they became free, so that what is known of their last request is
	// kept as long as possible. Those in Resting wait for their FreeAt, oldest first.
	Free, Resting ring
	end           *end
}

// slotState is what is known of an identifier.
type slotState uint8

const (
	slotUnused   slotState = iota
	slotBusy               // its request is in transit
	slotAnswered           // its last request has been answered
	slotGivenUp            // its last request has not
)

// slot remembers the last request that had an identifier.
type slot struct {
	State         slotState
	Request       requestID
	Code          rad.Code
	Authenticator Authenticator
	FreeAt        time.Time
}

// ring is a queue of identifiers.
type ring struct {
	IDs     [identifiers]uint8
	Head, N int
}

func (q *ring) push(id uint8) {
	q.IDs[(q.Head+q.N)%identifiers] = id
	q.N++
}

func (q *ring) pop() uint8 {
	id := q.IDs[q.Head]
	q.Head = (q.Head + 1) % identifiers
	q.N--
	return id
}

// local is where sockets towards the server are bound.
func (n *end) local() netip.AddrPort {
	a := n.Server.Source.Unmap()
	switch {
	case a.IsValid():
	case n.Address.Addr().Is4():
		a = netip.IPv4Unspecified()
	default:
		a = netip.IPv6Unspecified()
	}
	return netip.AddrPortFrom(a, 0)
}

// identifier takes a free identifier. The first sockets are filled first, so that the last become idle.
func (e *engine) identifier(n *end) (*socket, uint8, bool) {
	for _, s := range n.Sockets {
		if !s.Open {
			continue
		}
		for s.Resting.N > 0 && !e.now.Before(s.Slots[s.Resting.IDs[s.Resting.Head]].FreeAt) {
			s.Free.push(s.Resting.pop())
		}
		if s.Free.N > 0 {
			s.UsedAt = e.now
			return s, s.Free.pop(), true
		}
	}
	return nil, 0, false
}

// putBack returns an identifier that was not used.
func (s *socket) putBack(id uint8) { s.Free.push(id) }

// occupy marks an identifier as in transit.
func (s *socket) occupy(id uint8, r requestID, code rad.Code, a Authenticator) {
	s.Slots[id] = slot{State: slotBusy, Request: r, Code: code, Authenticator: a}
	s.Busy++
}

// release frees the identifier of a request in transit, after a rest if more answers may come.
func (e *engine) release(r *request, how slotState) {
	s, id := r.Socket, r.Identifier
	k := &s.Slots[id]
	k.State, k.Request = how, 0
	s.Busy--
	s.UsedAt = e.now
	if how == slotAnswered && r.Repeats == 0 {
		s.Free.push(id)
	} else {
		k.FreeAt = e.now.Add(quiet)
		s.Resting.push(id)
	}
	if s.Busy == 0 {
		e.wake(e.now.Add(socketIdle))
	}
}

// wantSocket has one more socket opened if there is none on its way. false: there is none, and it is too early to try again.
func (e *engine) wantSocket(n *end) bool {
	opening := slices.ContainsFunc(n.Sockets, func(s *socket) bool { return !s.Open })
	if !opening && len(n.Sockets) < n.MaxSockets && !e.now.Before(n.ReopenAt) {
		e.lastSocket++
		s := &socket{ID: e.lastSocket, end: n, UsedAt: e.now}
		for id := range identifiers {
			s.Free.push(uint8(id))
		}
		n.Sockets = append(n.Sockets, s)
		e.sockets[s.ID] = s
		e.do(openSocket{s.ID, n.local(), n.Server.Name})
		opening = true
	}
	if !opening { // the next identifier comes free with an answer, or after its rest
		for _, s := range n.Sockets {
			if s.Resting.N > 0 {
				e.wake(s.Slots[s.Resting.IDs[s.Resting.Head]].FreeAt)
			}
		}
		if e.now.Before(n.ReopenAt) && len(n.Sockets) > 0 {
			e.wake(n.ReopenAt)
		}
	}
	return len(n.Sockets) > 0
}

func (e *engine) opened(id socketID) {
	s := e.sockets[id]
	if s == nil {
		return
	}
	s.Open, s.UsedAt = true, e.now
	s.end.OpenError, s.end.OpenFailed = "", 0
	e.wake(e.now.Add(socketIdle))
}

// socketGone: a socket could not be opened or has been lost. Its requests go on to the next server; for that this one is
// not to blame. Others wait for its other sockets, if there are any.
func (e *engine) socketGone(id socketID, text string) {
	s := e.sockets[id]
	if s == nil {
		return
	}
	n := s.end
	e.forget(s)
	n.OpenError = text
	n.ReopenAt = e.now.Add(min(reopenMin<<min(n.OpenFailed, 10), reopenMax))
	n.OpenFailed++
	var homeless []*request
	for i := range s.Slots {
		if k := &s.Slots[i]; k.State == slotBusy {
			homeless = append(homeless, e.requests[k.Request])
		}
	}
	if len(n.Sockets) == 0 {
		for r := n.Waiting.first; r != nil; r = r.next {
			homeless = append(homeless, r)
		}
	}
	for _, r := range homeless {
		r.OpenError = &OpenError{Server: n.Server.Name, Local: n.local(), Text: text}
		if r.Probe {
			e.drop(r)
			continue
		}
		e.leave(r, slotGivenUp)
		e.next(r)
	}
}

// forget takes a socket out of the tables.
func (e *engine) forget(s *socket) {
	delete(e.sockets, s.ID)
	s.end.Sockets = slices.DeleteFunc(s.end.Sockets, func(x *socket) bool { return x == s })
	s.Open = false
}

// tendSockets closes those that have been idle for long.
func (e *engine) tendSockets(n *end) {
	for _, s := range slices.Clone(n.Sockets) {
		if !s.Open || s.Busy > 0 {
			continue
		}
		if until := s.UsedAt.Add(socketIdle); e.now.Before(until) {
			e.wake(until)
			continue
		}
		e.forget(s)
		e.do(closeSocket{s.ID})
	}
}
