package ike

import (
	"fmt"
	"net/netip"

	"vrgate/controlplane/isakmp"
)

// NAT passthrough (B1r to B3r): a peer that does not know NAT-T, or must do without, behind a NAT
// that lets ESP through. Nobody can look for that NAT (C4r). It shows when quick mode names
// another address than the peer's packets come from, and then in the UDP checksum of the L2TP
// inside ESP, which covers the address before translation. A transport profile with
// NATPassthrough takes such peers and has the checksum left alone ([SA].SkipChecksum). Without it
// quick mode has to name the address that we see, and the kernel checks and drops (B4r): a peer
// that names no private address gets an SA and no further.
//
// ESP has no ports, so that the NAT gives all of it to one host: one user behind each address
// (B3r). Another one is turned away as long as the first is there.

// passes tells whether the peer of an authenticated SA falls under NAT passthrough.
func (e *Engine) passes(p *phase1) bool {
	if p.Vendor.NATT != isakmp.NATTNone {
		return false
	}
	t := e.cfg.transport(p.Local.Addr(), p.Remote.Addr())
	return t != nil && t.NATPassthrough
}

// makesRoom tells whether p may pass the NAT in front of it, or drops p. c is the connection that
// p continues, nil for a new one. Whoever has the identity of the one who holds the place
// has come back, with another key or certificate, and replaces it.
func (e *Engine) makesRoom(c *conn, p *phase1) bool {
	o := e.conns[e.behind[hosts{p.Local.Addr(), p.Remote.Addr()}]]
	switch {
	case o == nil || o == c:
		return true
	case string(o.PeerID) == string(p.PeerID):
		e.closeConn(o, ReasonReplaced, "the peer has come back", true)
		return true
	}
	e.count(ReasonPassthrough)
	e.report(LevelInfo, ReasonPassthrough, fmt.Sprintf("%s refused: NAT passthrough serves one user behind %v, which is %s (connection %d)",
		describe(p.PeerID), p.Remote.Addr(), o.Info.PeerID, o.Info.ID), p)
	e.sendInfo(p, isakmp.DeleteISAKMP(p.Cookies.I, p.Cookies.R).Payload())
	e.dropPhase1(p, "")
	return false
}

// peerKey says which connection a new phase 1 SA belongs to.
type peerKey struct {
	local  netip.Addr
	remote netip.AddrPort // port 0 under NAT passthrough: whose NAT forgets the port between rekeys
	id     string
	tunnel string // profile of a dynamic subscriber, which shares nothing with others (J11)
	static string // static tunnel, likewise
}

// staticPeer is the key of a static tunnel's peer: by identity and address, since the same one may be up at two of its
// addresses while it goes from one to the other.
func staticPeer(tunnel string, id []byte, remote netip.Addr) peerKey {
	return peerKey{id: string(id), static: tunnel, remote: netip.AddrPortFrom(remote, 0)}
}

// anyPort is the key of the peer wherever its NAT sends it from.
func (k peerKey) anyPort() peerKey {
	k.remote = netip.AddrPortFrom(k.remote.Addr(), 0)
	return k
}

// hosts are our address and the peer's, or that of the NAT in front of it.
type hosts struct{ local, remote netip.Addr }

// nattKey is where a connection is that keeps NAT-T, or does without, over its rekeys.
type nattKey struct {
	local  netip.Addr
	remote netip.AddrPort
	on     bool
}

// place is under which a connection is in the engine's tables.
type place struct {
	listed bool
	peer   peerKey
	passes bool
	natt   nattKey
	keeps  bool
}

// where is the place that a connection has by what it is now.
func (c *conn) where() place {
	i := &c.Info
	w := place{listed: true, peer: peerKey{local: i.Local.Addr(), remote: i.Remote, id: string(c.PeerID)}, passes: i.NATPassthrough}
	if w.passes {
		w.peer = w.peer.anyPort()
	}
	if c.Dyn != nil {
		w.peer.tunnel = c.Dyn.Profile
	}
	if c.Static != "" {
		w.peer = staticPeer(c.Static, c.PeerID, i.Remote.Addr())
	}
	on := i.NATPeer || i.NATLocal || i.Local.Port() == nattPort
	w.natt, w.keeps = nattKey{i.Local.Addr(), i.Remote, on}, on || i.NATPassthrough && c.NATTOff
	return w
}

// enlist brings the tables in line with where a connection is.
func (e *Engine) enlist(c *conn) {
	e.strike(c)
	w := c.where()
	c.place = w
	e.byPeer[w.peer] = c.Info.ID
	if w.passes {
		e.behind[hosts{w.natt.local, w.natt.remote.Addr()}] = c.Info.ID
	}
	if w.keeps {
		e.natt[w.natt]++
	}
	if w.peer.static != "" {
		e.keep(w.peer.static, w.peer.remote.Addr(), 1)
	}
}

// strike takes a connection out of the tables. Where another has taken its place, that stays.
func (e *Engine) strike(c *conn) {
	w := c.place
	if !w.listed {
		return
	}
	c.place = place{}
	if e.byPeer[w.peer] == c.Info.ID {
		delete(e.byPeer, w.peer)
	}
	if w.peer.static != "" {
		e.keep(w.peer.static, w.peer.remote.Addr(), -1)
	}
	if at := (hosts{w.natt.local, w.natt.remote.Addr()}); w.passes && e.behind[at] == c.Info.ID {
		delete(e.behind, at)
	}
	if !w.keeps {
		return
	}
	if e.natt[w.natt]--; e.natt[w.natt] == 0 {
		delete(e.natt, w.natt)
	}
}

// speaksNATT tells whether we speak NAT-T with a peer that begins phase 1, or with which we do.
// The option decides (C1r), but for the rekeys of a connection that cannot do otherwise (C2r):
// one with UDP encapsulation would lose its way back through the NAT without, and one that was
// made by NAT passthrough, since NAT-T was off, would move to another port and so become
// another connection, which its L2TP tunnel does not belong to.
func (e *Engine) speaksNATT(local netip.Addr, remote netip.AddrPort) bool {
	if keeps := e.natt[nattKey{local, remote, true}] > 0; keeps || !e.cfg.NATT {
		return keeps
	}
	return e.natt[nattKey{local, remote, false}] == 0
}
