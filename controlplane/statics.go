package controlplane

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"vrgate/controlplane/deadline"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/site"
)

// Static tunnels: package site decides when they are dialled and which of their connections carries, IKE does it, and here one is
// told what the other has to know. Effects of the site engine are carried out in the order in which it gave them, also where
// what they do makes it give more: else a Carry or Changed that is out of date could come last.

// reasonNoTerminating is why a tunnel is not dialled: the virtual router whose traffic it carries does not run.
const reasonNoTerminating site.Reason = "no-terminating-router"

// sites is what the machine keeps of static tunnels beside the engine.
type sites struct {
	engine *site.Engine
	begun  bool
	// terminating is the virtual router whose traffic each configured tunnel carries.
	terminating map[string]string
	// away are virtual routers that are made anew: their tunnels are neither dialled nor answered until they serve, or what comes
	// up would be tied to interfaces that go.
	away map[string]bool
	// admits is what the engine last said about who may call, by tunnel.
	admits map[string]site.Admit
	// conns are the connections of static tunnels that are up, and those that have SAs.
	conns map[ike.ConnID]*siteConn
	// dials are those that have not been answered, with their tunnels.
	dials map[uint64]string
	// unloaded are the tunnels that the data plane could not be made to carry by nobody.
	unloaded map[string]unloading
	queue    []site.Effect // still to be carried out
	held     bool          // nothing is carried out now
}

// unloading is a CarryTunnel without connection that has failed: what is left in the kernel names a connection that is over, whose
// packets are dropped, but an on-demand tunnel would not be dialled for them.
type unloading struct {
	at    time.Time     // when it is tried again
	pause time.Duration // before that
}

// Pauses before the data plane is told again that nobody carries a tunnel: the first and the longest. Each is twice that before it.
const (
	unloadPause    = 10 * time.Second
	unloadPauseMax = 10 * time.Minute
)

// siteConn is a connection of a static tunnel.
type siteConn struct {
	tunnel        string
	local, remote netip.Addr
	up            bool // the site engine knows of it
	sas           map[SAKey]bool
}

// Events and effects of static tunnels that no engine has.
type (
	// tunnelCarried answers [CarryTunnel]: why it has failed, or nothing.
	tunnelCarried struct {
		CarryTunnel
		reason, text string
	}
	// closeStatic has the data plane forget a connection that is over.
	closeStatic struct {
		tunnel string
		conn   ike.ConnID
	}
	// terminatingServes says that a virtual router serves now: tunnels whose traffic it terminates need not wait any longer.
	terminatingServes struct{ router string }
)

func newSites(c machineConfig, engine *site.Engine) sites {
	return sites{
		engine: engine, terminating: c.terminating, away: map[string]bool{}, admits: map[string]site.Admit{},
		conns: map[ike.ConnID]*siteConn{}, dials: map[uint64]string{},
		unloaded: map[string]unloading{},
	}
}

// beginSites has the site engine say who may call before anybody can.
func (m *machine) beginSites(now time.Time) {
	if !m.sites.begun {
		m.sites.begun = true
		m.fromSite(now, m.sites.engine.Step(now, site.Timer{}))
	}
}

// reconfigureSites takes over another configuration, IKE's too. The site engine is asked first, so that it does not dial again
// what IKE ends; what it wants done comes last, when IKE knows the tunnels that are meant.
func (m *machine) reconfigureSites(now time.Time, next *reconfigure) {
	s := &m.sites
	s.terminating = next.terminating
	gone := func(tunnel string) bool { return s.terminating[tunnel] == "" }
	maps.DeleteFunc(s.admits, func(tunnel string, _ site.Admit) bool { return gone(tunnel) })
	maps.DeleteFunc(s.unloaded, func(tunnel string, _ unloading) bool { return gone(tunnel) })
	for _, r := range next.away {
		s.away[r] = true
	}
	ends := slices.Collect(maps.Values(s.terminating))
	maps.DeleteFunc(s.away, func(router string, _ bool) bool { return !slices.Contains(ends, router) })
	s.held = true
	m.fromSite(now, s.engine.Step(now, site.Reconfigure{Config: next.site}))
	m.fromIKE(now, m.ike.Step(now, ike.Reconfigure{Config: next.ike}))
	s.held = false
	m.fromSite(now, nil)
	for _, tunnel := range slices.Sorted(maps.Keys(s.admits)) {
		if slices.Contains(next.away, s.terminating[tunnel]) {
			m.admit(now, tunnel)
		}
	}
}

// admit tells IKE who may call.
func (m *machine) admit(now time.Time, tunnel string) {
	s := &m.sites
	a := s.admits[tunnel]
	m.fromIKE(now, m.ike.Step(now, ike.AdmitPeers{Static: tunnel, Open: a.Open && !s.away[s.terminating[tunnel]], Any: a.Any, Peers: a.Peers}))
}

// fromSite carries out what the site engine wants, behind what is being carried out.
func (m *machine) fromSite(now time.Time, effects []site.Effect) {
	s := &m.sites
	s.queue = append(s.queue, effects...)
	if s.held {
		return
	}
	s.held = true
	for len(s.queue) > 0 {
		f := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		m.site(now, f)
	}
	s.queue, s.held = nil, false
}

// site carries one effect out, or passes it on.
func (m *machine) site(now time.Time, f site.Effect) {
	s := &m.sites
	switch f := f.(type) {
	case site.Dial:
		if r := s.terminating[f.Tunnel]; s.away[r] {
			m.fromSite(now, s.engine.Step(now, site.Down{Ref: f.Ref, Reason: reasonNoTerminating, Text: "virtual router " + r + " is being made anew"}))
			break
		}
		s.dials[f.Ref] = f.Tunnel
		m.fromIKE(now, m.ike.Step(now, ike.Initiate{Ref: f.Ref, Static: f.Tunnel, Remote: netip.AddrPortFrom(f.Peer, 0)}))
	case site.HangUp:
		m.siteHangUp(now, f)
	case site.Complete:
		m.fromIKE(now, m.ike.Step(now, ike.Complete{Conn: ike.ConnID(f.Conn)}))
	case site.Admit:
		if s.terminating[f.Tunnel] != "" { // else it has been removed, and IKE has forgotten it
			s.admits[f.Tunnel] = f
			m.admit(now, f.Tunnel)
		}
	case site.Carry:
		c, known := s.conns[ike.ConnID(f.Conn)], s.terminating[f.Tunnel] != ""
		delete(s.unloaded, f.Tunnel)
		switch {
		case !known: // it is configured no more, and the data plane has forgotten it
		case f.Conn == 0:
			m.out = append(m.out, CarryTunnel{Tunnel: f.Tunnel})
		case c != nil && c.up: // else it has ended meanwhile, and another Carry follows
			m.out = append(m.out, CarryTunnel{Tunnel: f.Tunnel, Conn: ike.ConnID(f.Conn), Local: c.local, Remote: c.remote})
		}
	case site.Answer:
		if f.Ref != 0 { // else it is our own word
			m.out = append(m.out, f)
		}
	default:
		m.out = append(m.out, f)
	}
}

// siteHangUp ends a connection or a dial. A dial of which IKE knows nothing has failed, or the engine would wait for it for ever.
func (m *machine) siteHangUp(now time.Time, f site.HangUp) {
	s := &m.sites
	if f.Conn != 0 {
		m.fromIKE(now, m.ike.Step(now, ike.CloseConn{Conn: ike.ConnID(f.Conn), Reason: ike.Reason(f.Reason), Text: f.Text}))
		return
	}
	if _, waits := s.dials[f.Ref]; !waits {
		return
	}
	m.fromIKE(now, m.ike.Step(now, ike.HangUp{Static: f.Tunnel, Ref: f.Ref, Reason: ike.Reason(f.Reason), Text: f.Text}))
	if _, waits := s.dials[f.Ref]; waits {
		delete(s.dials, f.Ref)
		m.fromSite(now, s.engine.Step(now, site.Down{Ref: f.Ref, Reason: f.Reason, Text: f.Text}))
	}
}

// conn is a connection of a static tunnel, noted if it is new.
func (s *sites) conn(id ike.ConnID, tunnel string, local, remote netip.AddrPort) *siteConn {
	c := s.conns[id]
	if c == nil {
		c = &siteConn{tunnel: tunnel, sas: map[SAKey]bool{}}
		s.conns[id] = c
	}
	c.local, c.remote = local.Addr(), remote.Addr()
	return c
}

// staticSA notes an SA that is to be installed.
func (s *sites) staticSA(sa *ike.SA) {
	s.conn(sa.Conn, sa.Static, sa.Local, sa.Remote).sas[SAKey{Dir: sa.Dir, SPI: sa.SPI}] = true
}

// staticMoved tells the site engine that a connection has followed its peer to another address.
func (m *machine) staticMoved(now time.Time, f ike.MoveConn) {
	if c := m.sites.conns[f.Conn]; c != nil && c.remote != f.New.Addr() {
		c.remote = f.New.Addr()
		m.fromSite(now, m.sites.engine.Step(now, site.Moved{Conn: uint32(f.Conn), Peer: c.remote}))
	}
}

// staticGone notes that an SA has gone, or could not be installed. A connection that was never up ends without a word when it has
// none.
func (m *machine) staticGone(id ike.ConnID, sa SAKey) {
	c := m.sites.conns[id]
	if c == nil {
		return
	}
	delete(c.sas, sa)
	if !c.up && len(c.sas) == 0 {
		m.forgetStatic(id, c)
	}
}

func (m *machine) forgetStatic(id ike.ConnID, c *siteConn) {
	delete(m.sites.conns, id)
	m.out = append(m.out, closeStatic{c.tunnel, id})
}

// staticUp tells the site engine that a connection is up, or that one which is up answers a dial too; again says so.
func (m *machine) staticUp(now time.Time, i ike.ConnInfo) (again bool) {
	s := &m.sites
	c := s.conn(i.ID, i.Static, i.Local, i.Remote)
	again, c.up = c.up, true
	m.fromSite(now, s.engine.Step(now, site.Up{Tunnel: i.Static, Ref: s.answers(i.Ref), Conn: uint32(i.ID), Peer: c.remote}))
	return again
}

// staticDown tells the site engine that a connection or a dial is over.
func (m *machine) staticDown(now time.Time, f ike.ConnDown) {
	s := &m.sites
	c := s.conns[f.Conn.ID]
	if c != nil {
		c.up = false // nothing is carried by it any more
	}
	m.fromSite(now, s.engine.Step(now, site.Down{
		Ref: s.answers(f.Conn.Ref), Conn: uint32(f.Conn.ID), Reason: site.Reason(f.Reason), Text: f.Text, Dead: f.Reason == ike.ReasonPeerDead,
	}))
	if c != nil {
		m.forgetStatic(f.Conn.ID, c)
	}
}

// answers is the dial that IKE means by a number, 0 if that has been answered: connections keep the number over their life.
func (s *sites) answers(ref uint64) uint64 {
	if _, waits := s.dials[ref]; !waits {
		return 0
	}
	delete(s.dials, ref)
	return ref
}

// carried ends a connection whose traffic the data plane could not be made to carry. That nobody carries a tunnel is told again.
func (m *machine) carried(now time.Time, ev tunnelCarried) {
	s := &m.sites
	switch {
	case ev.Conn != 0:
		if ev.reason != "" {
			m.fromIKE(now, m.ike.Step(now, ike.CloseConn{Conn: ev.Conn, Reason: ike.Reason(ev.reason), Text: ev.text}))
		}
	case ev.reason == "":
		delete(s.unloaded, ev.Tunnel)
	default:
		if i, _ := s.engine.Tunnel(ev.Tunnel); s.terminating[ev.Tunnel] == "" || i.Conn != 0 {
			break // it is carried by another one by now, or is configured no more
		}
		pause := min(max(2*s.unloaded[ev.Tunnel].pause, unloadPause), unloadPauseMax)
		s.unloaded[ev.Tunnel] = unloading{now.Add(pause), pause}
	}
}

// unload tells the data plane again that nobody carries the tunnels for which that has failed.
func (m *machine) unload(now time.Time) {
	s := &m.sites
	for _, tunnel := range slices.Sorted(maps.Keys(s.unloaded)) {
		if u := s.unloaded[tunnel]; !u.at.IsZero() && !now.Before(u.at) {
			s.unloaded[tunnel] = unloading{pause: u.pause} // until the answer
			m.out = append(m.out, CarryTunnel{Tunnel: tunnel})
		}
	}
}

// deadline is when site engine or data plane are to be told something; zero: never.
func (s *sites) deadline() time.Time {
	next := s.engine.Deadline()
	for _, u := range s.unloaded {
		next = deadline.Earliest(next, u.at)
	}
	return next
}

// terminatingServes admits the peers of tunnels that could not come up without a virtual router, and dials.
func (m *machine) terminatingServes(now time.Time, router string) {
	s := &m.sites
	away := s.away[router]
	delete(s.away, router)
	for _, t := range s.engine.Tunnels() {
		if s.terminating[t.Name] != router {
			continue
		}
		if away {
			m.admit(now, t.Name)
		}
		if t.State == site.StateWaiting {
			m.fromSite(now, s.engine.Step(now, site.Operator{Tunnel: t.Name, Command: site.CommandNow}))
		}
	}
}
