package radius

import (
	"encoding/binary"
	"slices"
	"time"

	rad "layeh.com/radius"
)

// Retransmission by RFC 5080 section 2.2.1.
const (
	initialMin = 500 * time.Millisecond // a server that thinks for a moment is not to be asked twice
	initialMax = 2 * time.Second        // IRT
	maxRetry   = 16 * time.Second       // MRT
)

// place is where a request is.
type place uint8

const (
	nowhere   place = iota
	inQueue         // for room in its role's share
	waiting         // for an identifier or a socket
	inTransit       // sent
)

// request is one exchange on its way.
type request struct {
	ID       requestID
	Role     Role
	Group    string
	Exchange Exchange
	Place    place

	Tried     []*end // servers asked before, and the one asked now
	End       *end   // the one asked now
	Probe     bool   // Status-Server of ours
	OpenError *OpenError
	Asked     bool // some server has been sent it

	// While it is in transit.
	Socket     *socket
	Identifier uint8
	Packet     []byte
	SentAt     time.Time
	Repeats    int
	Interval   time.Duration
	Deadline   time.Time // for this server, also while it waits

	at         time.Time // when expired is to be called
	pos        int       // in the heap, plus one; 0: not there
	prev, next *request  // in the list of its Place
}

func (e *engine) submit(ev submit) {
	x := ev.Exchange
	r := &request{ID: ev.ID, Group: ev.Group, Exchange: x}
	switch x.Code {
	case rad.CodeAccessRequest:
	case rad.CodeAccountingRequest:
		r.Role = Accounting
	default:
		e.do(finished{ID: r.ID, Err: ErrCode})
		return
	}
	if g := e.groups[r.Group]; g == nil || len(g.Ends[r.Role]) == 0 {
		e.do(finished{ID: r.ID, Err: ErrNoServer})
		return
	}
	l := &e.roles[r.Role]
	switch {
	case l.InFlight < l.Limit:
		e.requests[r.ID] = r
		l.InFlight++
		e.next(r)
	case l.Queue.n < l.Limit:
		e.requests[r.ID] = r
		r.Place = inQueue
		l.Queue.push(r)
	default:
		l.Refused++
		e.do(finished{ID: r.ID, Err: ErrOverload})
	}
}

// next asks the next server of the group. There are as many rounds as the group has servers, at most.
func (e *engine) next(r *request) {
	for {
		n := e.choose(r)
		if n == nil {
			var err error = ErrNoAnswer
			if r.OpenError != nil && !r.Asked {
				err = r.OpenError
			}
			e.finish(r, Answer{}, err)
			return
		}
		r.Tried = append(r.Tried, n)
		if e.ask(r, n) {
			return
		}
	}
}

// ask sends the request to a server or has it wait for an identifier there; false: there is no socket to wait for.
func (e *engine) ask(r *request, n *end) bool {
	r.End = n
	if s, id, ok := e.identifier(n); ok {
		e.transmit(r, s, id)
		return true
	}
	if !e.wantSocket(n) {
		r.OpenError = &OpenError{Server: n.Server.Name, Local: n.local(), Text: n.OpenError}
		e.leave(r, slotGivenUp)
		return false
	}
	r.Place = waiting
	n.Waiting.push(r)
	r.Deadline = e.now.Add(n.Server.Timeout)
	e.arm(r, r.Deadline)
	return true
}

// transmit builds the packet for this server and sends it for the first time.
func (e *engine) transmit(r *request, s *socket, id uint8) {
	n := r.End
	p := rad.Packet{Code: r.Exchange.Code, Identifier: id, Secret: n.Server.Secret, Attributes: e.attributes(r.Exchange)}
	if p.Code != rad.CodeAccountingRequest {
		e.fill(p.Authenticator[:])
	}
	data, err := SignRequest(&p, r.Exchange.Password)
	if err != nil {
		s.putBack(id)
		e.finish(r, Answer{}, err)
		return
	}
	s.occupy(id, r.ID, p.Code, Authenticator(data[authenticatorAt:]))
	r.Place, r.Socket, r.Identifier, r.Packet = inTransit, s, id, data
	r.SentAt, r.Repeats, r.Asked = e.now, 0, true
	r.Deadline = e.now.Add(n.Server.Timeout)
	if r.Probe {
		n.Counts[Probed]++
	} else {
		n.Counts[Sent]++
	}
	e.do(sendPacket{s.ID, n.Address, data})
	e.schedule(r)
}

// schedule arms the next retransmission, or the end of the server's time. Intervals double, up to what leaves room for the
// retransmissions that are left.
func (e *engine) schedule(r *request) {
	left := r.End.Server.Retransmissions - r.Repeats
	if left <= 0 || r.Probe {
		e.arm(r, r.Deadline)
		return
	}
	room := r.Deadline.Sub(e.now) / time.Duration(left+1)
	if r.Repeats == 0 {
		fits := r.End.Server.Timeout / time.Duration(int64(1)<<min(left+1, 20)-1)
		r.Interval = min(max(fits, initialMin), initialMax, room)
	} else {
		r.Interval = min(2*r.Interval, maxRetry, room)
	}
	at := e.now.Add(e.jitter(r.Interval))
	if at.After(r.Deadline) {
		at = r.Deadline
	}
	e.arm(r, at)
}

// expired does what a request's timer was set for.
func (e *engine) expired(r *request) {
	n := r.End
	if r.Place == inTransit && e.now.Before(r.Deadline) {
		r.Repeats++
		n.Counts[Retransmitted]++
		// To the byte the same (RFC 2865 section 3): the server recognises it and repeats its answer.
		e.do(sendPacket{r.Socket.ID, n.Address, r.Packet})
		e.schedule(r)
		return
	}
	if r.Place == inTransit && !r.Probe {
		n.Counts[TimedOut]++
		e.silent(n, r)
	}
	if r.Probe {
		e.finish(r, Answer{}, ErrNoAnswer)
		return
	}
	e.leave(r, slotGivenUp)
	e.next(r)
}

// abandon ends a request that nobody waits for any more. Callers may always be less patient than the server's Timeout:
// half of it counts as silence.
func (e *engine) abandon(id requestID) {
	r := e.requests[id]
	if r == nil {
		return
	}
	if r.Place == inTransit {
		r.End.Counts[Abandoned]++
		if e.now.Sub(r.SentAt) >= r.End.Server.Timeout/2 {
			e.silent(r.End, r)
		}
	}
	e.drop(r)
}

// finish answers the caller.
func (e *engine) finish(r *request, a Answer, err error) {
	if !r.Probe {
		e.do(finished{ID: r.ID, Answer: a, Err: err})
	}
	e.drop(r)
}

// drop forgets a request.
func (e *engine) drop(r *request) {
	queued := r.Place == inQueue
	e.leave(r, slotGivenUp)
	delete(e.requests, r.ID)
	if !queued && !r.Probe {
		e.roles[r.Role].InFlight--
	}
}

// leave takes the request away from where it is; its identifier, if it has one, is left in state how.
func (e *engine) leave(r *request, how slotState) {
	e.disarm(r)
	switch r.Place {
	case inQueue:
		e.roles[r.Role].Queue.remove(r)
	case waiting:
		r.End.Waiting.remove(r)
	case inTransit:
		e.release(r, how)
	case nowhere:
	}
	if n := r.End; n != nil {
		if n.TrialBy == r.ID {
			n.TrialBy = 0
		}
		if n.ProbeBy == r.ID {
			n.ProbeBy = 0
			n.ProbeAt = e.now.Add(e.jitter(probeEvery))
			e.wake(n.ProbeAt)
		}
	}
	r.Place, r.End, r.Socket, r.Packet = nowhere, nil, nil, nil
}

// settle gives room that has become free to those who wait for it.
func (e *engine) settle() {
	for again := true; again; {
		again = false
		for role := range e.roles {
			l := &e.roles[role]
			for l.InFlight < l.Limit && l.Queue.first != nil {
				r := l.Queue.first
				l.Queue.remove(r)
				r.Place = nowhere
				l.InFlight++
				e.next(r)
				again = true
			}
		}
		for _, n := range e.ends {
			for n.Waiting.first != nil {
				s, id, ok := e.identifier(n)
				if !ok {
					e.wantSocket(n)
					break
				}
				r := n.Waiting.first
				n.Waiting.remove(r)
				r.Place = nowhere
				e.transmit(r, s, id)
				again = true
			}
		}
	}
}

// attributes are those of a packet that is built now.
func (e *engine) attributes(x Exchange) rad.Attributes {
	out := slices.Clone(x.Attributes)
	if e.cfg.NASIdentifier != "" && !has(out, attrNASIdentifier) {
		out.Add(attrNASIdentifier, rad.Attribute(e.cfg.NASIdentifier))
	}
	if a := e.cfg.NASAddress.Unmap(); a.IsValid() && !has(out, attrNASIPAddress) && !has(out, attrNASIPv6Address) {
		t := attrNASIPAddress
		if a.Is6() {
			t = attrNASIPv6Address
		}
		out.Add(t, a.AsSlice())
	}
	if x.Code == rad.CodeAccountingRequest && !x.At.IsZero() {
		// A changed delay wants a new identifier (RFC 2866 section 5.2): it changes only with the server.
		delay := min(max(e.now.Sub(x.At)/time.Second, 0), 1<<32-1)
		out.Del(attrAcctDelayTime)
		out.Add(attrAcctDelayTime, binary.BigEndian.AppendUint32(nil, uint32(delay)))
	}
	return out
}

func has(a rad.Attributes, t rad.Type) bool {
	_, ok := a.Lookup(t)
	return ok
}
