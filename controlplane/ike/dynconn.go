package ike

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"vrgate/controlplane/isakmp"
)

// stage is how far a dynamic subscriber has come.
type stage uint8

const (
	stageWaiting stage = iota // for the word of whoever decides: AskUser, Admit or Deny
	stageAsking               // an XAuth REQUEST is out
	stageDenied               // STATUS=FAIL is out
	stageIn                   // admitted
	stageLeft                 // the peer has deleted everything (J9)
)

// xauthStatus is what the peer knows about its admission, by one phase 1 SA.
type xauthStatus uint8

const (
	statusNone xauthStatus = iota
	statusSent             // STATUS=OK is out, its ACK has not come
	statusOK               // acknowledged, or the peer waits for none
)

// dynamic is what the connection of a dynamic subscriber has beside. It is plain
// data and part of snapshots.
type dynamic struct {
	Profile    string
	Stage      stage
	Again      bool // admitted before, and asked again at a phase 1 rekey
	Refused    bool // the peer has ended XAuth itself, which needs no STATUS then
	Lease      Lease
	Identifier uint16     // of the XAuth transaction, 0 before it
	Question   AskUser    // in stageAsking
	Unproven   netip.Addr // without a certificate: counts among the half-open until admitted
	Challenge  []byte     // of the question, with RADIUS-CHAP
	Why        Reason     // of the denial
	Text       string
}

// Times in which a subscriber has to get on.
const (
	// decisionTime is how long whoever decides may take before the connection is
	// given up. RADIUS with retries on two servers is faster.
	decisionTime = 120 * time.Second
	// userTime is how long a user may type: Apple's client waits for 300 s itself.
	userTime = 330 * time.Second
	// statusDelay keeps the bare STATUS=OK of a rekey back for a moment: racoon
	// (Apple, Android) sends INITIAL-CONTACT behind phase 1, and then it was no
	// rekey and the user is to be asked.
	statusDelay = 500 * time.Millisecond
)

// defaultTunnelLife is the lifetime of phase 2 SAs of tunnel profiles.
const defaultTunnelLife = 28800 * time.Second

// phase2 is what the profile says about quick mode in the words of a transport
// profile.
func (t *TunnelProfile) phase2() *TransportProfile {
	return &TransportProfile{Name: t.Name, ESP: t.ESP, PFS: t.PFS, Lifetime: cmp.Or(t.Lifetime, defaultTunnelLife), LifeKB: t.LifeKB}
}

// tunnelByName returns the named tunnel profile, nil if there is none.
func (c *Config) tunnelByName(name string) *TunnelProfile {
	for i := range c.Tunnels {
		if c.Tunnels[i].Name == name {
			return &c.Tunnels[i]
		}
	}
	return nil
}

// recognise tells whether an authenticated SA is a dynamic subscriber's, and
// whose (J10, J15). The vendor ID alone says nothing: strongSwan sends it on each
// connection, also under L2TP. So the peer has to have asked for XAuth, which
// announces it even without the ID, or there is a tunnel profile for it and no
// transport profile. text says why the peer is
// one but may not be: no profile takes it.
func (e *Engine) recognise(p *phase1) (t *TunnelProfile, text string) {
	if p.Initiator {
		return nil, ""
	}
	asks := p.Method.xauth()
	if !p.Vendor.XAuth && !asks {
		if p.KeyTunnel != "" {
			return nil, fmt.Sprintf("key %q belongs to tunnel profile %q, and the peer does not announce XAuth", p.KeyName, p.KeyTunnel)
		}
		return nil, ""
	}
	if !asks && p.KeyTunnel == "" && (p.KeyGroup || e.cfg.transport(p.Local.Addr(), p.Remote.Addr()) != nil) {
		return nil, ""
	}
	id, err := isakmp.Payload{Type: isakmp.TypeID, Body: p.PeerID}.ID()
	if err == nil && !p.KeyGroup {
		for i := range e.cfg.Tunnels {
			if t := &e.cfg.Tunnels[i]; t.takes(p, id) {
				return t, ""
			}
		}
	}
	switch {
	case p.KeyGroup:
		return nil, fmt.Sprintf("key %q is for L2TP only, and the peer wants XAuth", p.KeyName)
	case asks || p.KeyTunnel != "":
		return nil, fmt.Sprintf("no tunnel profile takes %s on %v", describe(p.PeerID), p.Local.Addr())
	}
	return nil, ""
}

// takes tells whether a peer belongs to the profile.
func (t *TunnelProfile) takes(p *phase1, id isakmp.ID) bool {
	switch {
	case t.Local.IsValid() && !t.Local.IsUnspecified() && t.Local != p.Local.Addr():
		return false
	case p.KeyTunnel != "" && p.KeyTunnel != t.Name:
		return false
	case p.Method == AuthHybridRSA && t.XAuth == XAuthNone:
		// Hybrid phase 1 proves the server alone; without XAuth anybody would be in.
		return false
	}
	return len(t.PeerIDs) == 0 || slices.ContainsFunc(t.PeerIDs, func(want string) bool { return idMatches(want, id) })
}

// known returns the connection that a new phase 1 SA of a dynamic subscriber
// continues, nil if the SA begins another one. What it does not continue, and
// what can only be left over of the same peer, ends.
func (e *Engine) known(c *conn, p *phase1) *conn {
	d := c.Dyn
	switch {
	case c.Info.Subject != p.Subject || c.Info.Key != p.KeyName:
		return nil
	case d.Stage == stageLeft && p.Subject == "":
		// J9: within the minute only those go on whose identity is proven. Each
		// member of a group can claim the name of another.
		e.endConn(c, ReasonPeerDelete, "", true)
		return nil
	case d.Stage == stageDenied || d.Stage != stageIn && d.Stage != stageLeft && !d.Again:
		// The client has given up its first attempt and begins again, or would not
		// take a no.
		e.closeConn(c, reasonOr(d.Why, ReasonInitialContact), cmp.Or(d.Text, "the peer begins again before it was in"), d.Why == "")
		return nil
	}
	return c
}

// welcome goes on with a dynamic subscriber when its phase 1 SA is up: whether
// its user is asked is for others to say, but for a rekey.
func (e *Engine) welcome(c *conn, p *phase1, rekey bool) {
	d := c.Dyn
	t := e.cfg.tunnelByName(d.Profile)
	if rekey && !d.Again && !asksAgain(t, p) {
		// The interface keeps its address, and the user is left alone.
		if d.Stage == stageLeft {
			d.Stage = stageIn
			c.Grace = e.now.Add(grace)
		}
		p.Status = statusOK
		if e.expectsStatus(c, p) {
			e.sendStatus(c, p, true, statusDelay)
		}
		return
	}
	d.Stage, d.Again, d.Refused, d.Identifier = stageWaiting, rekey, false, 0
	if !rekey && c.Info.Dynamic {
		e.count(CountDynamicUp)
	}
	c.Grace = e.now.Add(decisionTime)
	if rekey {
		e.dropQuestions(c)
	}
	if c.Static != "" {
		e.askPeer(c, p)
		return
	}
	e.emit(DynamicUp{Conn: c.Info, Rekey: rekey})
}

// asksAgain tells whether a phase 1 rekey has the user asked again: where the
// profile wants it, though not Apple's clients, which would show a dialogue in the
// middle of the work (clients.md 3.4), and always with hybrid authentication, in
// which nothing but XAuth proves who the subscriber is.
func asksAgain(t *TunnelProfile, p *phase1) bool {
	switch {
	case p.Method == AuthHybridRSA:
		return true
	case t == nil || t.XAuth == XAuthNone || p.Vendor.Apple:
		return false
	}
	return t.Reauthenticate
}

// dropQuestions takes back what an older phase 1 SA was asked.
func (e *Engine) dropQuestions(c *conn) {
	for _, p := range c.Phase1 {
		if p.talk == nil {
			continue
		}
		p.talk.open = slices.DeleteFunc(p.talk.open, func(t *transaction) bool { return t.Purpose == forUser })
		e.settle(p.talk)
	}
}

// expectsStatus tells whether the peer waits for the word of XAuth: it asked for
// it in phase 1, or has been asked.
func (e *Engine) expectsStatus(c *conn, p *phase1) bool {
	t := e.cfg.tunnelByName(c.Dyn.Profile)
	return p.Method.xauth() || c.Dyn.Identifier != 0 || t != nil && t.XAuth != XAuthNone
}

// admitted lets a subscriber in (J8).
func (e *Engine) admitted(ev Admit) {
	c := e.conns[ev.Conn]
	if c == nil || c.Dyn == nil || c.Dyn.Stage != stageWaiting {
		return
	}
	p := c.newest()
	if p == nil {
		return // its end is under way
	}
	d := c.Dyn
	d.Stage, d.Again, d.Lease = stageIn, false, ev.Lease
	d.Lease.Behind = slices.Clone(ev.Lease.Behind[:min(len(ev.Lease.Behind), maxBehind)])
	e.proven(c, true)
	c.Info.Address = ev.Lease.Address
	c.Grace = time.Time{}
	if len(c.Children) == 0 {
		c.Grace = e.now.Add(grace)
	}
	e.arm(c)
	e.answerEarly(c, p)
	if e.expectsStatus(c, p) {
		p.Status = statusSent
		e.sendStatus(c, p, true, 0)
		return
	}
	e.passed(c, p)
}

// passed is called when the peer knows that it is in.
func (e *Engine) passed(c *conn, p *phase1) {
	p.Status = statusOK
	if t := e.cfg.tunnelByName(c.Dyn.Profile); t != nil && t.Push {
		e.pushConfig(c, p)
	}
}

// deny refuses a subscriber. Its phase 1 SA is deleted when the peer has
// acknowledged the verdict, or after one repeat of it.
func (e *Engine) deny(ev Deny) {
	c := e.conns[ev.Conn]
	if c == nil || c.Dyn == nil || c.Dyn.Stage == stageDenied {
		return
	}
	d, p := c.Dyn, c.newest()
	d.Why, d.Text = reasonOr(ev.Reason, ReasonXAuthFailed), ev.Text
	if p == nil || d.Refused || !e.expectsStatus(c, p) {
		e.closeConn(c, d.Why, d.Text, false)
		return
	}
	d.Stage = stageDenied
	c.Grace = time.Time{}
	e.arm(c)
	e.sendStatus(c, p, false, 0)
}

// quickGate tells whether a quick mode may begin in p. hold: the question is open,
// and the peer will repeat itself; text: it has to be refused (J8). Behind the ACK
// to STATUS=OK nothing more is waited for: a selector that is the address we have
// leased shows that the peer knows its configuration.
func (c *conn) quickGate(p *phase1) (hold bool, text string) {
	switch d := c.Dyn; {
	case d == nil || p.Status == statusOK:
		return false, ""
	case p.Status == statusSent || d.Again:
		// The ACK may have been lost or overtaken.
		return true, ""
	}
	return false, "the subscriber has not been let in"
}

// speaker is the phase 1 SA under which children may be negotiated: not one whose
// user is being asked again, which with hybrid authentication might be anybody's.
func (c *conn) speaker() *phase1 {
	p := c.newest()
	if c.Dyn == nil || p == nil || p.Status == statusOK {
		return p
	}
	for i := len(c.Phase1) - 1; i >= 0; i-- {
		if o := c.Phase1[i]; o.done() && o.Status == statusOK {
			return o
		}
	}
	return nil
}

// unproven counts a subscriber in of whom phase 1 has proven nothing, or no more
// than that it knows what a whole group knows. So strangers, and one who has left
// the group, cannot make us hold more of them than of half-open SAs, and what they
// fail at is charged to their source.
func (e *Engine) unproven(c *conn, p *phase1) {
	if c.Dyn == nil || p.Method.signs(true) {
		return
	}
	c.Dyn.Unproven = p.Remote.Addr()
	e.countUnproven(c.Dyn.Unproven)
}

func (e *Engine) countUnproven(peer netip.Addr) {
	e.guard.HalfOpen++
	if s := e.guard.source(peer); s != nil {
		s.Pending++
	}
}

// proven counts it out, admitted or not.
func (e *Engine) proven(c *conn, admitted bool) {
	if c.Dyn == nil || !c.Dyn.Unproven.IsValid() {
		return
	}
	s := e.guard.Sources[sourceKey(c.Dyn.Unproven)]
	c.Dyn.Unproven = netip.Addr{}
	e.guard.HalfOpen--
	if s == nil {
		return
	}
	s.Pending = max(0, s.Pending-1)
	if !admitted {
		e.failed(s)
	}
}

// stranger tells whether nothing is proven about the peer of an SA that is up.
func (p *phase1) stranger() bool {
	return p.session != nil && p.Method == AuthHybridRSA && !p.Initiator && p.Status == statusNone
}

// left is called when a connection has neither phase 1 SA nor child. One of a
// dynamic subscriber whose SAs the peer has deleted lives on for a minute (J9).
func (e *Engine) left(c *conn, r Reason, byPeer bool) {
	if c.Dyn != nil && c.Dyn.Stage == stageLeft {
		return // a phase 1 SA that the peer had deleted before
	}
	if !c.Info.Dynamic || !c.Announced || !byPeer {
		text := ""
		if c.Dyn != nil && c.Dyn.Stage == stageDenied {
			r, text, byPeer = c.Dyn.Why, c.Dyn.Text, false // its delete has overtaken our own
		}
		if c.Static != "" && !c.Announced && byPeer {
			text = "the peer has ended phase 1 before anything was up: it may not take who we are"
		}
		e.endConn(c, r, text, byPeer)
		return
	}
	c.Dyn.Stage = stageLeft
	c.Grace, c.Retry, c.Alone, c.Watch = e.now.Add(grace), time.Time{}, time.Time{}, time.Time{}
	e.arm(c)
}

// resume takes up what was under way when a snapshot was taken: what we had asked
// or said is asked or said once more.
func (e *Engine) resume(c *conn) {
	d, p := c.Dyn, c.newest()
	if c.subscribes() && !c.Announced || c.Static != "" {
		e.openChild(c, nil)
	}
	if d == nil || p == nil {
		return
	}
	switch {
	case d.Stage == stageAsking:
		e.ask(c, p)
	case d.Stage == stageDenied:
		e.sendStatus(c, p, false, 0)
	case p.Status == statusSent:
		e.sendStatus(c, p, true, 0)
	}
}
