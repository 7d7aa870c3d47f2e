package ike

import (
	"fmt"
	"slices"
	"time"

	"vrgate/controlplane/deadline"
	"vrgate/controlplane/keymat"
)

// maxConnID is the greatest connection number: 24 bits, so that it fits beside
// the kernel mark's prefix.
const maxConnID = 0xffffff

// newConnID picks a number at random: one that a peer had lately is unlikely to
// be another's, so that stragglers in the kernel cannot be mistaken.
func (e *Engine) newConnID() (ConnID, bool) {
	span := uint64(e.cfg.ConnLast-e.cfg.ConnFirst) + 1
	for range 64 {
		// 32 random bits over at most 24: the bias is below one in 256.
		id := e.cfg.ConnFirst + ConnID(uint64(e.rand32())%span)
		if e.conns[id] == nil {
			return id, true
		}
	}
	return 0, false
}

// authenticated makes p a phase 1 SA that is up: it gets its connection, old or
// new. contact: the peer says that it knows no other SA with us. It returns false
// if p had to be dropped.
func (e *Engine) authenticated(p *phase1, contact bool) bool {
	n := p.neg
	e.settled(p, false)
	e.forgetFirst(p)
	is, r, text := e.kindOf(p)
	if o := e.takenBy(is.static, p); o != nil {
		r, text = ReasonTunnelInUse, fmt.Sprintf("static tunnel %q is up with %s at %v", o.Static, o.Info.PeerID, o.Info.Remote.Addr())
	}
	if text != "" {
		e.turnAway(p, r, text)
		return false
	}
	tunnel := is.tunnel
	var open Initiate
	var c *conn
	if n.attempt != nil {
		open, c = n.Open, e.conns[n.Rekey]
	}
	if c != nil && string(c.PeerID) != string(p.PeerID) {
		// The address is somebody else's by now.
		e.report(LevelInfo, ReasonIdentity, fmt.Sprintf("phase 1 rekey reached %s instead of %s", describe(p.PeerID), describe(c.PeerID)), p)
		c = nil
	}
	k := peerKey{local: p.Local.Addr(), remote: p.Remote, id: string(p.PeerID)}
	passes := tunnel == nil && is.static == nil && e.passes(p)
	if passes {
		k = k.anyPort()
	}
	if tunnel != nil {
		k.tunnel = tunnel.Name
	}
	if is.static != nil {
		k = staticPeer(is.static.Name, p.PeerID, p.Remote.Addr())
	}
	switch {
	case c != nil:
	case is.static != nil:
		c = e.sameStatic(e.conns[e.byPeer[k]], p, contact)
	default:
		c = e.conns[e.byPeer[k]]
		if c != nil && contact && !p.Initiator {
			e.endConn(c, ReasonInitialContact, "the peer has restarted", true) // which knows nothing we could delete
			c = nil
		}
	}
	if c != nil && tunnel != nil {
		c = e.known(c, p)
	}
	if c != nil && !e.continues(c, p) {
		// Same place and name, other key: whoever this is, not that peer.
		c = nil
	}
	if passes && !p.Initiator && !e.makesRoom(c, p) {
		return false
	}
	rekey := c != nil
	var before *phase1
	if rekey {
		before = c.newest()
	}
	if c == nil {
		if c = e.newConn(p, is); c == nil {
			e.report(LevelWarn, ReasonNoIDs, "no free connection number", p)
			e.dropPhase1(p, "")
			if n.attempt != nil && n.Rekey == 0 {
				e.emit(ConnDown{Conn: failedDial(p, open), Reason: ReasonNoIDs})
			}
			return false
		}
		if n.attempt != nil && n.Rekey != 0 {
			open.Ref = 0 // the dial is that of the connection for which p was begun
		}
		c.Initiator, c.Open, c.Info.Ref = p.Initiator, open, open.Ref
	}
	p.Conn, p.State, p.Up = c.Info.ID, StateDone, e.now
	p.Keys.SKEYID.Wipe()
	p.Keys.E.Wipe()
	n.wipe()
	c.Info.LocalID = describe(n.Ours.Body)
	if c.Static != "" {
		c.OurID = clone(n.Ours.Body)
	}
	p.Expires = e.now.Add(p.Life)
	p.RekeyAt = e.now.Add(e.rekeyAfter(p.Life, p.Initiator))
	if c.Dyn != nil {
		// See rekeyNow: the peer has a little longer to come.
		p.RekeyAt, p.Expires = time.Time{}, p.Expires.Add(grace)
	}
	if c.Open.User != "" && c.Static != "" {
		c.Info.User = c.Open.User
	}
	p.neg = nil
	e.adopt(c, p)
	e.count(CountPhase1Up)
	if weakPhase1(p) {
		e.count(CountWeak)
	}
	what := "phase 1 up"
	if rekey {
		what = "phase 1 rekeyed"
		c.Info.Phase1Rekeys++
		e.count(CountPhase1Rekey)
	}
	e.report(LevelInfo, CountPhase1Up, fmt.Sprintf("%s with %s (%s): %s, rule %q, %s%s", what, c.Info.PeerID,
		orUnknown(p.Vendor.Name), p.proofWords(), p.Rule, c.Info.Proposal, natWords(p)), p)
	e.startDPD(p)
	e.arm(p)
	e.doubt(c, before, p)
	if c.Dyn != nil {
		e.welcome(c, p, rekey)
	}
	e.arm(c)
	return true
}

// newConn makes the connection of an authenticated SA: of a static tunnel, of a dynamic
// subscriber if there is a tunnel profile for it, else of an L2TP client. It returns nil if no number is free.
func (e *Engine) newConn(p *phase1, is kind) *conn {
	id, ok := e.newConnID()
	if !ok {
		e.count(ReasonNoIDs)
		return nil
	}
	c := &conn{PeerID: p.PeerID, Grace: e.now.Add(grace)}
	c.Info = ConnInfo{ID: id, Key: p.KeyName, Subject: p.Subject, PeerID: describe(p.PeerID), Since: e.now}
	if t := is.tunnel; t != nil {
		c.Dyn = &dynamic{Profile: t.Name}
		c.Info.Dynamic, c.Info.Profile = true, t.Name
	}
	if t := is.static; t != nil {
		c.Static, c.Probe, c.Info.Static, c.Info.Profile = t.Name, t.DPD, t.Name, t.Name
		if t.XAuth == StaticXAuthServer && !p.Initiator {
			c.Dyn = &dynamic{}
		}
	}
	e.conns[id] = c
	e.unproven(c, p)
	return c
}

// natWords says what NAT detection found.
func natWords(p *phase1) string {
	s := ""
	if p.NATPeer {
		s += ", peer behind NAT"
	}
	if p.NATLocal {
		s += ", we behind NAT"
	}
	if s != "" {
		s += " (" + p.Vendor.NATT.String() + ")"
	}
	return s
}

// adopt adds an authenticated SA to its connection, whose older ones retire, or it
// itself does; see retire for what happens when both sides do so at once.
func (e *Engine) adopt(c *conn, p *phase1) {
	if o := c.newest(); o != nil && c.keeps(o, p) {
		p.Replaced = e.now.Add(c.overlap())
	} else {
		for _, o := range c.Phase1 {
			if o.done() && o.Replaced.IsZero() {
				o.Replaced = e.now.Add(c.overlap())
				e.arm(o)
			}
		}
	}
	e.needless(c)
	c.Phase1 = append(c.Phase1, p)
	c.Alone, c.Watch = time.Time{}, time.Time{}
	if len(c.Children) > 0 {
		e.move(c, p.Local, p.Remote)
	}
	i := &c.Info
	i.Local, i.Remote = p.Local, p.Remote
	i.NATPeer, i.NATLocal, i.Encap = p.NATPeer, p.NATLocal, p.encap()
	i.NATPassthrough, c.NATTOff = c.Dyn == nil && c.Static == "" && e.passes(p), p.NATTOff
	i.Key, c.GroupKey = p.KeyName, p.KeyGroup
	i.Peer, i.Proposal = p.Vendor.Name, phase1Words(p)
	i.Auth, i.Aggressive, i.Unity, i.DPD, i.Rule = p.Method, p.Aggressive, p.Vendor.Unity, p.Vendor.DPD, p.Rule
	c.Beat = time.Time{}
	if c.Static != "" && p.NATLocal && p.Marker {
		c.Beat = e.now.Add(keepalive)
	}
	e.enlist(c)
	for len(c.Phase1) > maxPhase1PerConn {
		e.deletePhase1(c.Phase1[0])
	}
	if c.WantChild && c.newest() == p {
		c.WantChild = false
		e.openWanted(c)
	}
}

// overlap is how long an SA lives on when another has taken over. The responder
// of the connection waits longer, so that both sides never prune at once. Of static tunnels,
// which both sides rekey, the second waits until the first has said everything, see prune:
// each could take away what the other has kept.
func (c *conn) overlap() time.Duration {
	switch {
	case c.first():
		return overlap
	case c.Static != "":
		return 2 * overlap
	}
	return overlap + overlap/4
}

// phase1Words shows the transform of a phase 1 SA.
func phase1Words(p *phase1) string {
	return fmt.Sprintf("%s/%v/%v", cipherWords(p.Suite), p.Suite.Hash, p.Group)
}

// cipherWords shows the cipher of a phase 1 SA, such as "AES-256".
func cipherWords(s keymat.Suite) string {
	if s.KeyBits == 0 {
		return s.Cipher.String()
	}
	return fmt.Sprintf("%v-%d", s.Cipher, s.KeyBits)
}

// rekeyAfter is when we replace an SA of that lifetime if the peer has not. The
// initiator is earlier, so that both sides seldom start at once, and chance
// spreads what came up together.
func (e *Engine) rekeyAfter(life time.Duration, initiator bool) time.Duration {
	pct := time.Duration(e.cfg.RekeyMargin) * 10
	if initiator {
		pct -= 100
	}
	pct -= time.Duration(e.rand(1)[0]) * 40 / 255
	return life / 1000 * max(pct, 100)
}

// sortedConns lists the connections by number, so that effects come in the same
// order for the same history.
func (e *Engine) sortedConns() []*conn {
	cs := make([]*conn, 0, len(e.conns))
	for _, c := range e.conns {
		cs = append(cs, c)
	}
	slices.SortFunc(cs, func(a, b *conn) int { return int(a.Info.ID) - int(b.Info.ID) })
	return cs
}

// deadline of a connection: the end of its grace period, the next try of a rekey,
// the next look at the traffic of a peer that cannot be probed, or the next NAT keepalive.
func (c *conn) deadline() time.Time { return deadline.Earliest(c.Grace, c.Retry, c.Watch, c.Beat) }

func (c *conn) expire(e *Engine) {
	if deadline.Reached(e.now, c.Grace) {
		if c.Dyn != nil && c.Dyn.Stage == stageLeft {
			e.endConn(c, ReasonPeerDelete, "", true)
			return
		}
		r := ReasonNoChild
		if c.Dyn != nil && c.Dyn.Stage == stageWaiting {
			r = ReasonUndecided
		}
		e.closeConn(c, r, "", false)
		return
	}
	if deadline.Reached(e.now, c.Watch) {
		e.watchAlone(c)
	}
	if deadline.Reached(e.now, c.Beat) {
		c.Beat = e.now.Add(keepalive)
		e.emit(KeepNAT{Conn: c.Info.ID, Local: c.Info.Local, Remote: c.Info.Remote})
	}
	if deadline.Reached(e.now, c.Retry) {
		c.Retry = time.Time{}
		e.openWanted(c)
	}
	e.arm(c)
}
