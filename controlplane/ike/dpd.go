package ike

import (
	"time"

	"vrgate/controlplane/isakmp"
)

// dpd is dead peer detection of one phase 1 SA (RFC 3706, K10). L2TP/IPsec peers
// are never probed, because L2TP does that itself, but always answered.
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

// startDPD begins to watch a peer that understands probes.
func (e *Engine) startDPD(p *phase1) {
	p.DPD.alive(e.now)
	if e.cfg.DPDInterval > 0 && p.Vendor.DPD {
		p.DPD.Sent = e.rand32() >> 1 // RFC 3706 section 6.2: the top bit starts clear
		p.DPD.next = e.now.Add(e.cfg.DPDInterval)
	}
}

// probe asks the peer whether it lives when it has been silent for the interval.
// After as many repeats as other messages get, the connection is over.
func (e *Engine) probe(p *phase1) {
	d, c := &p.DPD, e.conns[p.Conn]
	if c == nil || c.newest() != p {
		d.next = time.Time{}
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
