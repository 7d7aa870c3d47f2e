package l2tp

import (
	"cmp"
	"time"
)

// Limits on what is kept for show about that which is over.
const (
	maxEndedRecords  = 1024 // tunnels
	maxEndedSessions = 2048
)

// record is what show says about a tunnel or session that is over. It goes with the end of the destruct period, or before when there
// are too many.
type record[T any] struct {
	Info  T
	Until time.Time
}

type (
	endedRecord   = record[TunnelInfo]
	sessionRecord = record[SessionInfo]
)

// keepTunnel makes the record of a tunnel that is over. A flood of clear-text attempts must not push real records out.
func (e *Engine) keepTunnel(t *tunnel) {
	if t.Params.Destruct == 0 || !t.Up && !t.trusted() {
		return
	}
	if len(e.ended) >= maxEndedRecords {
		e.dropTunnelRecords(1)
	}
	info := e.tunnelInfo(t)
	info.State = StateIdle
	e.ended = append(e.ended, endedRecord{info, t.Ended.Add(t.Params.Destruct)})
	e.destination(t.Remote.Addr()).records++
}

// keepSession makes the record of a session that is over. It has no proxy AVPs: they hold passwords.
func (e *Engine) keepSession(now time.Time, t *tunnel, s *session, down *SessionDown) {
	if t.Params.Destruct == 0 || s.UpAt.IsZero() && !t.trusted() {
		return
	}
	if len(e.endedSessions) >= maxEndedSessions {
		e.dropSessionRecords(1)
	}
	info := e.sessionInfo(t, s)
	info.State, info.Proxy = StateIdle, nil
	info.Ended, info.Reason, info.Result, info.Error, info.Message = now, down.Reason, down.Result, down.Error, down.Text
	e.endedSessions = append(e.endedSessions, sessionRecord{info, now.Add(t.Params.Destruct)})
}

// callSettled completes the newest record of a call, and counts what it has carried.
func (e *Engine) callSettled(ev CallSettled) {
	for i := len(e.endedSessions) - 1; i >= 0; i-- {
		s := &e.endedSessions[i].Info
		if s.Tunnel == ev.Tunnel && s.ID == ev.Session {
			s.User = cmp.Or(ev.User, s.User)
			s.Payload.add(ev.Payload)
			break
		}
	}
	if ev.Payload == (Traffic{}) {
		return
	}
	if t := e.tunnels[ev.Tunnel]; t != nil {
		t.Payload.add(ev.Payload)
		return
	}
	for i := len(e.ended) - 1; i >= 0; i-- {
		if t := &e.ended[i].Info; t.ID == ev.Tunnel {
			t.PayloadIn.add(ev.Payload.in())
			t.PayloadOut.add(ev.Payload.out())
			e.destination(t.Remote.Addr()).Past.Payload.add(ev.Payload) // the record holds it
			return
		}
	}
}

// dropTunnelRecords forgets the n oldest records.
func (e *Engine) dropTunnelRecords(n int) {
	for _, r := range e.ended[:n] {
		remote := r.Info.Remote.Addr()
		e.destination(remote).records--
		e.forgetDestination(remote)
	}
	e.ended = shed(e.ended, n)
}

func (e *Engine) dropSessionRecords(n int) { e.endedSessions = shed(e.endedSessions, n) }

// shed cuts the n oldest records off. What they hold is released, and the array with them once it is copied by append.
func shed[T any](list []record[T], n int) []record[T] {
	clear(list[:n])
	if n == len(list) {
		return nil
	}
	return list[n:]
}

// expiredRecords forgets the records whose time is over.
func (e *Engine) expiredRecords(now time.Time) {
	if n := overdue(e.ended, now); n > 0 {
		e.dropTunnelRecords(n)
	}
	if n := overdue(e.endedSessions, now); n > 0 {
		e.dropSessionRecords(n)
	}
}

// overdue counts the oldest records whose time is over. One that is kept for longer holds back those behind it, for which a
// reload has shortened the time.
func overdue[T any](list []record[T], now time.Time) int {
	n := 0
	for n < len(list) && !list[n].Until.After(now) {
		n++
	}
	return n
}
