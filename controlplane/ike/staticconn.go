package ike

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"vrgate/controlplane/isakmp"
)

// introduce chooses, once the peer's identity is known, what a static tunnel has us show of ourselves.
func (e *Engine) introduce(p *phase1) {
	n := p.neg
	x := p.claim()
	t := cmp.Or(e.cfg.staticOf(x, false), e.cfg.staticOf(x, true))
	if p.Initiator || t == nil {
		return
	}
	cred := e.cfg.credential(t.Credential)
	switch {
	case t.certified() && cred != nil:
		n.Cred, n.Ours = cred.Name, usable{cred: cred, localID: t.LocalID}.id().Payload()
	case !t.certified() && t.LocalID != "" && n.Key != nil && n.Key.LocalID == "":
		n.Ours = parseID(t.LocalID).Payload()
	}
}

// dial opens a static tunnel, or what is missing of one that is there.
func (e *Engine) dial(ev Initiate) {
	ev.Local, ev.Remote = unmap(ev.Local), unmap(ev.Remote)
	fail := func(r Reason, text string) {
		e.count(r)
		e.emit(ConnDown{Conn: ConnInfo{Ref: ev.Ref, Local: ev.Local, Remote: ev.Remote, Profile: ev.Static, Static: ev.Static}, Reason: r, Text: text})
	}
	t := e.cfg.static(ev.Static)
	switch {
	case t == nil:
		fail(ReasonConfig, fmt.Sprintf("there is no static tunnel %q", ev.Static))
		return
	case t.XAuth == StaticXAuthServer:
		fail(ReasonConfig, fmt.Sprintf("static tunnel %q asks its peer for a user, so the peer has to dial", t.Name))
		return
	}
	if t.Local.IsValid() && !t.Local.IsUnspecified() {
		ev.Local = netip.AddrPortFrom(t.Local, ikePort)
	}
	ev.Local = netip.AddrPortFrom(ev.Local.Addr(), cmp.Or(ev.Local.Port(), ikePort))
	ev.Remote = netip.AddrPortFrom(ev.Remote.Addr(), cmp.Or(ev.Remote.Port(), ikePort))
	if t.shut(ev.Remote.Addr()) {
		fail(ReasonTunnelShut, t.isShut())
		return
	}
	if !ev.Local.Addr().IsValid() || !ev.Remote.Addr().IsValid() || !t.between(ev.Local.Addr(), ev.Remote.Addr()) {
		fail(ReasonConfig, fmt.Sprintf("static tunnel %q is not between %v and %v", t.Name, ev.Local.Addr(), ev.Remote.Addr()))
		return
	}
	if c := e.staticConn(t.Name, ev.Remote.Addr()); c != nil {
		e.dialed(c, ev.Ref)
		return
	}
	if p := e.dialling(t.Name, ev.Remote.Addr()); p != nil {
		e.supersede(&p.neg.Open.Ref, ev.Ref, ConnInfo{Local: p.Local, Remote: p.Remote, Profile: t.Name, Static: t.Name})
		return
	}
	open, r, text := e.staticOpen(t, ev.Local, ev.Remote)
	if r != "" {
		fail(r, text)
		return
	}
	open.Ref = ev.Ref
	if e.startPhase1(open, nil) == nil {
		fail(ReasonConfig, "no IKE policy rule can be offered")
	}
}

// staticOpen is how phase 1 of a tunnel is begun between two addresses. The reason says why it cannot be.
func (e *Engine) staticOpen(t *StaticTunnel, local, remote netip.AddrPort) (open Initiate, r Reason, text string) {
	open = Initiate{Static: t.Name, Local: local, Remote: remote, Profile: t.Name, LocalID: t.LocalID, PeerID: t.peerID(remote.Addr()),
		Aggressive: t.Aggressive || beginsAggressive(e.cfg.Rules, local.Addr(), t.method()), Method: t.method()}
	if t.XAuth == StaticXAuthClient {
		open.User, open.Password = t.User, t.Password
	}
	if t.certified() {
		if open.Credential = t.Credential; e.cfg.credential(t.Credential) == nil {
			return open, ReasonConfig, fmt.Sprintf("there is no certificate %q", t.Credential)
		}
		return open, "", ""
	}
	k, r, text := e.cfg.staticKey(t, local.Addr(), remote.Addr(), e.now)
	if k == nil {
		return open, r, text
	}
	open.Key = k.Name
	if k.LocalID != "" {
		open.LocalID = k.LocalID
	}
	return open, "", ""
}

// staticConn returns the connection of a tunnel with a peer at an address, nil if there is none.
func (e *Engine) staticConn(tunnel string, remote netip.Addr) *conn {
	var found *conn
	for _, c := range e.conns {
		if c.Static == tunnel && c.Info.Remote.Addr() == remote && (found == nil || c.Info.ID < found.Info.ID) {
			found = c
		}
	}
	return found
}

// dialling returns the phase 1 SA that is being opened for a tunnel to an address, nil if there is none.
func (e *Engine) dialling(tunnel string, remote netip.Addr) *phase1 {
	for _, p := range e.dials(tunnel) {
		if p.Remote.Addr() == remote {
			return p
		}
	}
	return nil
}

// dials lists the phase 1 SAs that are being opened for a new connection of a tunnel.
func (e *Engine) dials(tunnel string) []*phase1 {
	return e.phase1Where(func(p *phase1) bool {
		n := p.neg
		return n != nil && n.attempt != nil && n.Rekey == 0 && n.Open.Static == tunnel
	})
}

// supersede puts a dial in the place of another one, which is over with that: each ends once.
func (e *Engine) supersede(old *uint64, ref uint64, i ConnInfo) {
	if i.Ref = *old; *old != 0 && *old != ref {
		e.emit(ConnDown{Conn: i, Reason: ReasonReplaced, Text: fmt.Sprintf("dial %d has taken its place", ref)})
	}
	*old = ref
}

// dialed goes on with a connection of a static tunnel that was dialled, which the peer may have opened
// meanwhile or before.
func (e *Engine) dialed(c *conn, ref uint64) {
	i := c.Info
	i.ID = 0 // it goes on
	e.supersede(&c.Info.Ref, ref, i)
	c.Initiator = true
	if c.Announced {
		e.emit(ConnUp{Conn: c.Info})
	}
	e.complete(c)
}

// complete opens the pairs of networks that a connection of a static tunnel does not have.
func (e *Engine) complete(c *conn) {
	if t := e.cfg.static(c.Static); t != nil {
		c.Wanted = nil
		for _, x := range t.Children[:min(len(t.Children), MaxStaticChildren)] {
			if c.named(x.Name) == nil {
				c.Wanted = append(c.Wanted, x.Name)
			}
		}
	}
	e.openChild(c, nil)
}

// hangUp ends everything of a static tunnel, or one dial.
func (e *Engine) hangUp(ev HangUp) {
	if ev.Ref != 0 {
		e.cancelDial(ev)
		return
	}
	for _, c := range e.sortedConns() {
		if c.Static == ev.Static {
			e.closeConn(c, ev.Reason, ev.Text, false)
		}
	}
	for _, p := range e.dials(ev.Static) {
		e.failInitiate(p, ev.Reason, ev.Text)
	}
}

// cancelDial ends a dial that has not come up. What the peer has begun there at the same time goes on.
func (e *Engine) cancelDial(ev HangUp) {
	for _, p := range e.dials(ev.Static) {
		if p.neg.Open.Ref == ev.Ref {
			e.failInitiate(p, ev.Reason, ev.Text)
			return
		}
	}
	for _, c := range e.sortedConns() {
		if c.Static != ev.Static || c.Info.Ref != ev.Ref || c.Announced {
			continue
		}
		if !slices.ContainsFunc(c.Phase1, func(p *phase1) bool { return !p.Initiator }) {
			e.closeConn(c, ev.Reason, ev.Text, false)
			return
		}
		i := c.Info
		i.ID = 0
		e.emit(ConnDown{Conn: i, Reason: ev.Reason, Text: ev.Text})
		c.Info.Ref, c.Initiator, c.Wanted = 0, false, nil
		return
	}
}

// sameStatic returns the connection that a new phase 1 SA of a static tunnel continues, nil if it begins
// another one. contact: the peer says that it knows no other SA with us.
func (e *Engine) sameStatic(c *conn, p *phase1, contact bool) *conn {
	switch {
	case c == nil || c.Info.Remote.Addr() != p.Remote.Addr():
		// The SAs of a connection with one address of the peer need not exist at another.
		return nil
	case contact && !p.Initiator && !c.crossed(p):
		e.endConn(c, ReasonInitialContact, "the peer has restarted", true) // which knows nothing we could delete
		return nil
	case c.Dyn != nil && c.Dyn.Stage != stageIn && !c.Dyn.Again:
		// The peer has given up its first attempt, or would not take a no.
		e.closeConn(c, reasonOr(c.Dyn.Why, ReasonInitialContact), cmp.Or(c.Dyn.Text, "the peer begins again before it was in"), c.Dyn.Why == "")
		return nil
	}
	return c
}

// crossed tells whether the connection came up while p was being negotiated, as it does when both sides dial
// at once. The peer that said then that it knows no other SA did not know this one yet.
func (c *conn) crossed(p *phase1) bool {
	o := c.newest()
	return o != nil && !o.Up.Before(p.Created)
}

// takenBy returns the connection that keeps a static tunnel from being another peer's, nil if none does. Of
// a tunnel whose peer may be anywhere the first that has proven itself stays as long as it is up: two routers
// with the same key would take it from each other for ever. The same peer, with its identity, may always
// come back from another address, and we ourselves dial whom we are told to.
func (e *Engine) takenBy(t *StaticTunnel, p *phase1) *conn {
	if t == nil || p.Initiator || !t.anywhere() {
		return nil
	}
	for _, c := range e.sortedConns() {
		if c.Static == t.Name && c.Announced && c.current() != nil && !bytes.Equal(c.PeerID, p.PeerID) {
			return c
		}
	}
	return nil
}

// first tells whether we are the side that prunes first when both have replaced something at once. Of
// most connections that is the initiator, but both sides may have begun that of a static tunnel: there
// the identities decide, which both sides know.
func (c *conn) first() bool {
	if d := bytes.Compare(c.OurID, c.PeerID); c.Static != "" && d != 0 {
		return d < 0
	}
	return c.Initiator
}

// asked tells whether we are the one to answer XAuth.
func (c *conn) asked() bool { return c.subscribes() || c.Static != "" && c.Open.User != "" }

// compareStatic tells whether a static tunnel has gone or changed. The reason is empty if not.
func (e *Engine) compareStatic(next *Config, name string) (Reason, string) {
	was, is := e.cfg.static(name), next.static(name)
	switch {
	case was == nil:
		return "", ""
	case is == nil:
		return ReasonProfileRemoved, fmt.Sprintf("static tunnel %q has been removed", name)
	case is.Revision != was.Revision:
		return ReasonProfileChanged, fmt.Sprintf("static tunnel %q has changed", name)
	}
	return "", ""
}

// refreshStatics has the connections of static tunnels follow what may change under them.
func (e *Engine) refreshStatics() {
	for _, c := range e.sortedConns() {
		if t := e.cfg.static(c.Static); c.Static != "" && t != nil {
			begins := t.DPD && !c.Probe
			c.Probe = t.DPD
			if p := c.newest(); begins && p != nil {
				e.startDPD(p)
				e.arm(p)
			} else if begins {
				e.alone(c)
			}
			if c.Open.User != "" && t.XAuth == StaticXAuthClient {
				c.Open.User, c.Open.Password = t.User, t.Password
			}
		}
	}
}

// askPeer has the user of a static tunnel's peer asked for: a router answers by itself, and there is nothing to
// be decided before.
func (e *Engine) askPeer(c *conn, p *phase1) {
	c.Dyn.Stage = stageWaiting
	c.Dyn.Question = AskUser{Conn: c.Info.ID}
	e.ask(c, p)
}

// silence is why phase 1 as initiator has failed when nothing but silence, or words that anybody could have sent,
// came back. They change no more than what the operator reads, and of a static tunnel the reason, so that he
// need not look for the sentence.
func (p *phase1) silence() (r Reason, text string) {
	n := p.neg
	r, text = ReasonTimeout, "no answer to message 1"
	switch p.State {
	case StateMMKEI:
		text = "no answer to message 3"
	case StateMMFinalI:
		text = "no answer to message 5: the pre-shared keys may differ"
		if !p.Method.preShared() {
			text = "no answer to message 5: the peer may not take our certificate or identity"
			if !p.Vendor.Frag {
				text += fmt.Sprintf(", or the path loses IP fragments: it has %d bytes, and the peer does not take fragments of IKE", len(p.Last.Data))
			}
		}
	}
	if n.Hint == 0 {
		return r, text
	}
	switch {
	case n.Open.Static == "":
	case n.Hint == isakmp.NoProposalChosen && (p.State == StateMMSAI || p.State == StateAMSAI):
		r = ReasonNoProposal
	case n.Hint == isakmp.InvalidIDInformation:
		r = ReasonIdentity
	case p.State == StateMMFinalI && p.Method.preShared() && n.Hint == isakmp.PayloadMalformed:
		r = ReasonPSKMismatch // what a key that differs makes of message 5
	case n.Hint == isakmp.AuthenticationFailed:
		r = ReasonAuthFailed
	default:
		r = ReasonPeerRefused
	}
	return r, text + fmt.Sprintf(" (somebody sent an unauthenticated %v)", n.Hint)
}

// staticLife is the volume under which a pair of SAs of a static tunnel is replaced, in kilobytes. Both sides
// count the same bytes; as with time, the initiator of the exchange is earlier.
func staticLife(kb uint64, initiator bool) uint64 {
	if initiator {
		return kb * 8 / 10
	}
	return kb * 9 / 10
}

// reopenStatic starts a phase 1 SA for a connection of a static tunnel, from and to where it is now. It
// returns nil if that cannot be done at present.
func (e *Engine) reopenStatic(c *conn) *phase1 {
	t := e.cfg.static(c.Static)
	if t == nil || c.Dyn != nil {
		return nil
	}
	open, r, text := e.staticOpen(t, c.Info.Local, c.Info.Remote)
	if r != "" {
		e.count(r)
		e.emit(Report{Level: LevelInfo, Reason: r, Text: "no phase 1 rekey: " + text, Local: open.Local, Remote: open.Remote, Conn: c.Info.ID})
		return nil
	}
	open.Ref, open.Aggressive = c.Info.Ref, c.Info.Aggressive // the kind of exchange is that of the first (K5)
	return e.startPhase1(open, c)
}
