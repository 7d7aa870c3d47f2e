package ike

import (
	"slices"
	"time"

	"vrgate/controlplane/isakmp"
)

// dpd is dead peer detection of one phase 1 SA (RFC 3706, K10). L2TP/IPsec peers
// are never probed, because L2TP does that itself, but always answered. Others are
// probed when their traffic, or the lack of it, asks for it.
type dpd struct {
	Sent     uint32 // sequence number of our last R-U-THERE
	Received uint32 // of the peer's last one
	Seen     bool   // Received is valid
	Acked    bool   // Sent was answered
	Tries    int    // unanswered repeats of ours
	Heard    time.Time
	next     time.Time
}

// alive notes a sign of life.
func (d *dpd) alive(now time.Time) {
	d.Heard, d.Tries = now, 0
}

// traffic is what a connection carried when it was last read, and when that had
// grown.
type traffic struct {
	In, Out     uint64
	InAt, OutAt time.Time
	Read        bool // the first reading says nothing about when
}

// probed tells whether the timers of K10 apply: to all but L2TP clients, and of static
// tunnels to those that want it.
func (c *conn) probed() bool {
	if c.Static != "" {
		return c.Probe
	}
	return c.Dyn != nil || c.Open.Tunnel
}

// watched are the timers of a connection that is probed.
func (e *Engine) watched(c *conn) DPDTimers {
	if c.Static != "" && e.cfg.StaticDPD != (DPDTimers{}) {
		return e.cfg.StaticDPD
	}
	return e.cfg.DPD
}

// step is how often traffic is read while a peer is silent, 0 if never.
func (t DPDTimers) step() time.Duration { return shortest(t.Sent, t.Unanswered, t.Silent) }

// patience is how long a peer may be silent before its traffic is read.
func (t DPDTimers) patience() time.Duration {
	if t.Sent <= 0 {
		return t.Silent
	}
	return shortest(t.Unanswered, t.Silent)
}

// shortest is the shortest of the durations that are set, 0 if none is.
func shortest(ds ...time.Duration) time.Duration {
	var out time.Duration
	for _, d := range ds {
		if d > 0 && (out == 0 || d < out) {
			out = d
		}
	}
	return out
}

// startDPD begins to watch a peer that understands probes.
func (e *Engine) startDPD(p *phase1) {
	p.DPD.alive(e.now)
	wait := e.cfg.DPDInterval
	if c := e.conns[p.Conn]; c != nil && c.probed() {
		wait = e.watched(c).patience()
	}
	if wait > 0 && p.Vendor.DPD {
		if p.DPD.Sent == 0 {
			p.DPD.Sent = e.rand32() >> 1 // RFC 3706 section 6.2: the top bit starts clear
		}
		p.DPD.next = e.now.Add(wait)
	}
}

// watch has the traffic of a silent peer read; trafficRead decides what it means.
func (e *Engine) watch(c *conn, p *phase1) {
	d := &p.DPD
	if quiet := later(d.Heard, c.Traffic.InAt).Add(e.watched(c).patience()); quiet.After(e.now) {
		d.next = quiet
		return
	}
	d.next = time.Time{}
	if step := e.watched(c).step(); step > 0 {
		d.next = e.now.Add(step)
		e.emit(ReadTraffic{Conn: c.Info.ID})
	}
}

// trafficRead probes a peer that does not answer what we send, or a connection
// that is silent in both directions (K10).
func (e *Engine) trafficRead(ev TrafficRead) {
	c := e.conns[ev.Conn]
	if c == nil {
		return
	}
	t := &c.Traffic
	if t.Read && ev.InPackets > t.In {
		t.InAt = e.now
	}
	if t.Read && ev.OutPackets > t.Out {
		t.OutAt = e.now
	}
	first := !t.Read
	t.In, t.Out, t.Read = ev.InPackets, ev.OutPackets, true
	p := c.newest()
	if p == nil && !c.Alone.IsZero() {
		if x := e.watched(c); x.Silent > 0 && e.now.Sub(later(c.Alone, t.InAt)) >= x.Silent {
			e.closeConn(c, ReasonPeerDead, "its phase 1 SA has gone, and nothing has come from it since", false)
		}
		return
	}
	if first || p == nil || !c.probed() || !p.Vendor.DPD || p.DPD.Tries > 0 || !c.atRest(p) {
		return
	}
	x, heard := e.watched(c), later(p.DPD.Heard, t.InAt)
	since := func(at time.Time) time.Duration { return e.now.Sub(at) }
	unanswered := x.Sent > 0 && x.Unanswered > 0 && since(t.OutAt) <= x.Sent && since(heard) >= x.Unanswered
	silent := x.Silent > 0 && since(later(heard, t.OutAt)) >= x.Silent
	if unanswered || silent {
		e.sendProbe(p)
		e.arm(p)
	}
}

// atRest tells whether a probe cannot disturb. vpnc gives its connection up when one
// comes instead of the quick mode message that it waits for, and a user who types
// slowly is not dead. Until then the exchanges have deadlines of their own.
func (c *conn) atRest(p *phase1) bool {
	return c.Announced && !slices.ContainsFunc(p.quicks, func(q *quick) bool { return !q.Initiator })
}

// alone begins to watch a peer whose last phase 1 SA has gone while it has ESP SAs.
// It may come back for another one (Z-6), but when it has deleted everything and
// one delete was lost nobody would notice: it cannot be probed, and subscribers
// are never called (J3). So its traffic alone tells whether it lives.
func (e *Engine) alone(c *conn) {
	if !c.probed() || e.watched(c).Silent <= 0 {
		return
	}
	c.Alone = e.now
	e.watchAlone(c)
	e.arm(c)
}

// watchAlone has the traffic read; trafficRead decides what it means.
func (e *Engine) watchAlone(c *conn) {
	c.Watch = time.Time{}
	if step := e.watched(c).step(); step > 0 && !c.Alone.IsZero() {
		c.Watch = e.now.Add(step)
		e.emit(ReadTraffic{Conn: c.Info.ID})
	}
}

// later is the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// probe asks the peer whether it lives when it has been silent for the interval.
// After as many repeats as other messages get, the connection is over.
func (e *Engine) probe(p *phase1) {
	d, c := &p.DPD, e.conns[p.Conn]
	if c != nil && !p.Doubted.IsZero() {
		e.question(c, p)
		return
	}
	if c == nil || c.newest() != p {
		d.next = time.Time{}
		return
	}
	if d.Tries == 0 && c.probed() {
		e.watch(c, p)
		return
	}
	if silent := d.Heard.Add(e.cfg.DPDInterval); d.Tries == 0 && silent.After(e.now) {
		d.next = silent
		return
	}
	if d.Tries >= e.cfg.Retransmit.Tries {
		e.closeConn(c, ReasonPeerDead, "the peer does not answer R-U-THERE", false)
		return
	}
	e.sendProbe(p)
}

// sendProbe sends R-U-THERE, anew or again.
func (e *Engine) sendProbe(p *phase1) {
	d := &p.DPD
	if d.Tries == 0 {
		d.Sent++
		d.Acked = false
	}
	d.Tries++
	d.next = e.now.Add(e.cfg.Retransmit.retryAfter(d.Tries))
	e.sendInfo(p, isakmp.DPDNotify(isakmp.RUThere, p.Cookies.I, p.Cookies.R, d.Sent).Payload())
}

// dpdNotify takes R-U-THERE and R-U-THERE-ACK.
func (e *Engine) dpdNotify(p *phase1, pk Packet, n isakmp.Notify) {
	seq, ok := n.DPD(p.Cookies.I, p.Cookies.R)
	if !ok {
		e.count(DropMalformed)
		return
	}
	d := &p.DPD
	if n.Type == isakmp.RUThereAck {
		if seq != d.Sent || d.Acked {
			e.count(DropReplay)
			return
		}
		d.Acked = true
		e.located(p, pk)
		return
	}
	// An old number is a replay; the same one again is a repeat, and the answer
	// to it was lost.
	if d.Seen && int32(seq-d.Received) < 0 {
		e.count(DropReplay)
		return
	}
	e.located(p, pk)
	d.Seen, d.Received = true, seq
	p.Info = answer{To: digestOf(pk.Data), Data: e.sendInfo(p, isakmp.DPDNotify(isakmp.RUThereAck, p.Cookies.I, p.Cookies.R, seq).Payload())}
}

// peerAlive puts off probing since ESP of the peer has been seen.
func (e *Engine) peerAlive(ev PeerAlive) {
	if c := e.conns[ev.Conn]; c != nil {
		if p := c.newest(); p != nil {
			p.DPD.alive(e.now)
		}
	}
}
