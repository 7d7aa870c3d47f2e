package ike

import (
	"slices"
	"time"

	"vrgate/controlplane/deadline"
	"vrgate/controlplane/isakmp"
)

// deadline of a phase 1 SA.
func (p *phase1) deadline() time.Time {
	var frags time.Time
	if p.frags != nil {
		frags = p.frags.Since.Add(isakmp.FragmentTimeout + time.Second)
	}
	if n := p.neg; n != nil {
		if n.attempt != nil {
			return deadline.Earliest(n.Expires, n.Next, frags)
		}
		return deadline.Earliest(n.Expires, frags)
	}
	return deadline.Earliest(p.Expires, p.RekeyAt, p.Replaced, p.Last.Till, p.DPD.next, p.Third, frags)
}

func (p *phase1) expire(e *Engine) {
	if p.frags != nil {
		before := p.frags.Bytes
		if p.frags.Expire(e.now) {
			e.guard.FragBytes -= before
			p.frags = nil
			e.count(DropFragment)
		}
	}
	if n := p.neg; n != nil {
		switch {
		case deadline.Reached(e.now, n.Expires) && p.Initiator:
			e.failInitiate(p, ReasonTimeout, "no answer from the worker")
		case deadline.Reached(e.now, n.Expires):
			e.count(DropTimeout)
			if n.Talked {
				e.gaveUp(p)
			}
			e.dropPhase1(p, DropTimeout)
		case n.attempt != nil && deadline.Reached(e.now, n.Next):
			e.retransmit(p)
		}
		if e.sas[p.Cookies] == p || e.own[p.Cookies.I] == p {
			e.arm(p)
		}
		return
	}
	if deadline.Reached(e.now, p.Last.Till) {
		p.Last = answer{}
	}
	switch c := e.conns[p.Conn]; {
	case deadline.Reached(e.now, p.Expires):
		e.deletePhase1(p)
		return
	case deadline.Reached(e.now, p.Replaced):
		if c != nil && c.Static != "" && p.busy(e.now) {
			p.Replaced = e.now.Add(lateInbound)
			break
		}
		if c == nil || c.newest() != p {
			e.deletePhase1(p)
			return
		}
		p.Replaced = time.Time{} // what was to replace it has gone before it
	case deadline.Reached(e.now, p.RekeyAt):
		p.RekeyAt = time.Time{}
		e.rekeyPhase1(p)
	}
	if p.State == StateDone && deadline.Reached(e.now, p.Third) {
		e.repeatThird(p)
	}
	if p.State == StateDone && deadline.Reached(e.now, p.DPD.next) {
		e.probe(p)
	}
	if e.sas[p.Cookies] == p { // also one that the peer has deleted: it has to go
		e.arm(p)
	}
}

// busy tells whether a quick mode is under way that would end with the SA at one side, and may be over at the other.
func (p *phase1) busy(now time.Time) bool {
	return slices.ContainsFunc(p.quicks, func(q *quick) bool {
		return q.State != quickFinished || q.Expires.Sub(now) > answerKept/2 // its message 3 may be lost
	})
}

// retransmit repeats our last message, or gives up.
func (e *Engine) retransmit(p *phase1) {
	n := p.neg
	if n.Tries >= e.cfg.Retransmit.Tries && n.why != "" {
		e.failInitiate(p, n.why, n.whyText)
		return
	}
	if n.Tries >= e.cfg.Retransmit.Tries {
		r, text := p.silence()
		e.failInitiate(p, r, text)
		return
	}
	n.Tries++
	n.Next = e.now.Add(e.cfg.Retransmit.retryAfter(n.Tries))
	e.count(CountRetransmit)
	e.transmit(p, p.Last.Data)
}

// rekeyPhase1 replaces an SA that nears its end, if it still carries anything.
func (e *Engine) rekeyPhase1(p *phase1) {
	c := e.conns[p.Conn]
	if c == nil || c.newest() != p || c.opening != nil || len(c.Children) == 0 || c.Dyn != nil {
		// J3: a dynamic subscriber does it itself, and would not let us ask. So does the peer of a static tunnel
		// that is asked for a user.
		return
	}
	if e.reopen(c) == nil {
		e.rekeyAgain(c)
	}
}

// reopen starts a phase 1 SA for a connection that exists, from and to where it
// is now. It returns nil if that cannot be done at present.
func (e *Engine) reopen(c *conn) *phase1 {
	if c.Static != "" {
		return e.reopenStatic(c)
	}
	open := c.Open
	open.Local, open.Remote, open.Key = c.Info.Local, c.Info.Remote, c.Info.Key
	if !c.Initiator {
		// The kind of exchange is that of the first (K5), and so is the method.
		open.Aggressive, open.Method = c.Info.Aggressive, c.Info.Auth
		if us, ok := choose(e.cfg.credentialsAt(open.Local.Addr(), open.Method), nil); ok && open.Method.signs(true) {
			open.Credential, open.LocalID = us.cred.Name, us.localID
		}
	}
	if open.method().preShared() {
		k, r, text := e.ourKey(open.Key, open.Local.Addr())
		if k == nil && c.GroupKey {
			k = e.cfg.newestGroupKey(open.Local.Addr(), e.now) // its own has been removed
		}
		if k == nil {
			e.count(r)
			e.emit(Report{Level: LevelInfo, Reason: r, Text: "no phase 1 rekey: " + text, Local: open.Local, Remote: open.Remote, Conn: c.Info.ID})
			return nil
		}
		open.Key = k.Name
	}
	return e.startPhase1(open, c)
}

// dhDone gives the answer of a worker to the exchange that waits for it.
func (e *Engine) dhDone(ev DHDone) {
	ref, ok := e.jobs[ev.Job]
	delete(e.jobs, ev.Job)
	if !ok {
		ev.Pair.Private.Wipe()
		ev.Shared.Wipe()
		return
	}
	if ref.q != nil {
		e.quickDHDone(ref.q, ev)
		return
	}
	p := ref.p
	p.neg.Job = 0
	switch {
	case !p.Initiator && p.Aggressive:
		e.aggressiveShared(p, ev)
	case !p.Initiator:
		e.sendMainMode4(p, ev)
	case ev.Err != "":
		e.failInitiate(p, ReasonDHFailed, ev.Err)
	case p.neg.GXi == nil && p.Aggressive:
		e.sendAggressive1(p, ev.Pair)
	case p.neg.GXi == nil:
		e.sendMainMode3(p, ev.Pair)
	case !e.exchanged(p, ev.Shared):
	case p.Aggressive:
		e.aggressiveProof(p)
	default:
		e.prove(p)
	}
}
