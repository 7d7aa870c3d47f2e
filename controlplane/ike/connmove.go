package ike

import (
	"fmt"
	"net/netip"
	"time"
)

// Peers that come from another address or port.

// move follows a peer to another address or port.
func (e *Engine) move(c *conn, local, remote netip.AddrPort) {
	old := c.Info.Remote
	if old == remote {
		return
	}
	c.Info.Remote = remote
	e.enlist(c)
	for _, p := range c.Phase1 {
		p.Remote = remote
	}
	m := MoveConn{Conn: c.Info.ID, Old: old, New: remote}
	for _, ch := range c.Children {
		ch.In.Remote, ch.Out.Remote = remote, remote
		if !ch.In.Encap && old.Addr() == remote.Addr() {
			continue // its packets have no ports
		}
		if ch.InState == saUp || ch.InState == saPending {
			m.SAs = append(m.SAs, ch.remaining(e.now, ch.In))
		}
		if ch.OutState == saUp || ch.OutState == saPending {
			m.SAs = append(m.SAs, ch.remaining(e.now, ch.Out))
		}
	}
	e.count(CountMoved)
	if len(m.SAs) > 0 {
		e.emit(m)
	}
	e.emit(Report{Level: LevelInfo, Reason: CountMoved, Text: fmt.Sprintf("peer moved from %v to %v", old, remote),
		Local: c.Info.Local, Remote: remote, Conn: c.Info.ID})
}

// remaining is the SA with the lifetimes that are left.
func (c *child) remaining(now time.Time, sa SA) SA {
	sa.SoftLife, sa.HardLife = max(time.Second, c.Soft.Sub(now)), max(time.Second, c.Hard.Sub(now))
	return sa
}

// peerMoved is the kernel's word that authenticated ESP came from elsewhere.
func (e *Engine) peerMoved(ev PeerMoved) {
	ch := e.spis[ev.SPI]
	if ch == nil || !ch.In.Encap {
		return
	}
	if c := e.conns[ch.Conn]; c != nil {
		e.move(c, c.Info.Local, unmap(ev.Remote))
	}
}

// heard notes an authenticated message of the peer, which proves that it lives.
func (e *Engine) heard(p *phase1) {
	p.DPD.alive(e.now)
	p.Third, p.Doubted = time.Time{}, time.Time{} // it has message 3
}

// located follows a peer behind a NAT to where an authenticated message came from
// (RFC 3947 section 6). It is called only for messages that cannot be replays: a
// recorded one would let anybody move the peer. A NAT that ESP passes forgets the port
// between the messages of IKE, which are hours apart.
func (e *Engine) located(p *phase1, pk Packet) {
	c := e.conns[p.Conn]
	if c == nil || pk.Remote == p.Remote {
		return
	}
	passes := c.Info.NATPassthrough && pk.Remote.Addr() == p.Remote.Addr()
	if !p.NATPeer && !passes || pk.Marker != p.Marker {
		return
	}
	e.move(c, pk.Local, pk.Remote)
}
