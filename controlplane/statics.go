package controlplane

import (
	"net/netip"
	"time"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/site"
)

// Static tunnels: package site decides when they are dialled and which of their connections carries, IKE does it, and here one is
// told what the other has to know. Effects of the site engine are carried out in the order in which it gave them, also where
// what they do makes it give more: else a Carry or Changed that is out of date could come last.

// sites is what the machine keeps of static tunnels beside the engine.
type sites struct {
	engine *site.Engine
	begun  bool
	// terminating is the virtual router whose traffic each configured tunnel carries.
	terminating map[string]string
	// conns are the connections of static tunnels, from the order to install their first SA until they end.
	conns map[ike.ConnID]*siteConn
	// dials are those that have not been answered, with their tunnels.
	dials map[uint64]string
	// spent is what connections that have ended have carried, by tunnel.
	spent map[string]siteTraffic
	queue []site.Effect // still to be carried out
	held  bool          // nothing is carried out now
}

// siteConn is a connection of a static tunnel.
type siteConn struct {
	tunnel        string
	local, remote netip.Addr
	up            bool // the site engine knows of it
}

// siteTraffic counts packets.
type siteTraffic struct{ in, out uint64 }

// Events and effects of static tunnels that no engine has.
type (
	// tunnelCarried answers [CarryTunnel]: why it has failed, or nothing.
	tunnelCarried struct {
		CarryTunnel
		reason, text string
	}
	// closeStatic has what a connection that is over has carried read for the last time. Answer: staticClosed.
	closeStatic struct {
		tunnel string
		conn   ike.ConnID
	}
	staticClosed struct {
		tunnel  string
		traffic ike.TrafficRead
	}
	// terminatingServes says that a virtual router serves now: tunnels whose traffic it terminates need not wait any longer.
	terminatingServes struct{ router string }
)

func newSites(c machineConfig, engine *site.Engine) sites {
	return sites{
		engine: engine, terminating: c.terminating,
		conns: map[ike.ConnID]*siteConn{}, dials: map[uint64]string{}, spent: map[string]siteTraffic{},
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
	for tunnel := range s.spent {
		if _, configured := s.terminating[tunnel]; !configured {
			delete(s.spent, tunnel)
		}
	}
	s.held = true
	m.fromSite(now, s.engine.Step(now, site.Reconfigure{Config: next.site}))
	m.fromIKE(now, m.ike.Step(now, ike.Reconfigure{Config: next.ike}))
	s.held = false
	m.fromSite(now, nil)
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
		s.dials[f.Ref] = f.Tunnel
		m.fromIKE(now, m.ike.Step(now, ike.Initiate{Ref: f.Ref, Static: f.Tunnel, Remote: netip.AddrPortFrom(f.Peer, 0)}))
	case site.HangUp:
		m.siteHangUp(now, f)
	case site.Admit:
		m.fromIKE(now, m.ike.Step(now, ike.AdmitPeers{Static: f.Tunnel, Open: f.Open, Any: f.Any, Peers: f.Peers}))
	case site.Carry:
		c, known := s.conns[ike.ConnID(f.Conn)], s.terminating[f.Tunnel] != ""
		switch {
		case !known: // it is configured no more, and the data plane has forgotten it
		case f.Conn == 0:
			m.out = append(m.out, CarryTunnel{Tunnel: f.Tunnel})
		case c != nil: // else it has ended meanwhile, and another Carry follows
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

// staticSA notes a connection of a static tunnel.
func (s *sites) staticSA(sa *ike.SA) {
	if s.conns[sa.Conn] == nil {
		s.conns[sa.Conn] = &siteConn{tunnel: sa.Static}
	}
	c := s.conns[sa.Conn]
	c.local, c.remote = sa.Local.Addr(), sa.Remote.Addr()
}

// staticUp tells the site engine that a connection is up, or that one which is up answers a dial too; again says so.
func (m *machine) staticUp(now time.Time, i ike.ConnInfo) (again bool) {
	s := &m.sites
	c := s.conns[i.ID]
	if c == nil { // it has an SA, or would not be up
		c = &siteConn{tunnel: i.Static}
		s.conns[i.ID] = c
	}
	again = c.up
	c.up, c.local, c.remote = true, i.Local.Addr(), i.Remote.Addr()
	m.fromSite(now, s.engine.Step(now, site.Up{Tunnel: i.Static, Ref: s.answers(i.Ref), Conn: uint32(i.ID), Peer: c.remote}))
	return again
}

// staticDown tells the site engine that a connection or a dial is over.
func (m *machine) staticDown(now time.Time, f ike.ConnDown) {
	s := &m.sites
	c := s.conns[f.Conn.ID]
	delete(s.conns, f.Conn.ID)
	m.fromSite(now, s.engine.Step(now, site.Down{
		Ref: s.answers(f.Conn.Ref), Conn: uint32(f.Conn.ID), Reason: site.Reason(f.Reason), Text: f.Text, Dead: f.Reason == ike.ReasonPeerDead,
	}))
	if c != nil {
		m.out = append(m.out, closeStatic{c.tunnel, f.Conn.ID})
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

// carried ends a connection whose traffic the data plane could not be made to carry.
func (m *machine) carried(now time.Time, ev tunnelCarried) {
	if ev.reason != "" && ev.Conn != 0 {
		m.fromIKE(now, m.ike.Step(now, ike.CloseConn{Conn: ev.Conn, Reason: ike.Reason(ev.reason), Text: ev.text}))
	}
}

// staticSpent sums up.
func (m *machine) staticSpent(ev staticClosed) {
	if _, configured := m.sites.terminating[ev.tunnel]; configured {
		t := m.sites.spent[ev.tunnel]
		m.sites.spent[ev.tunnel] = siteTraffic{t.in + ev.traffic.InPackets, t.out + ev.traffic.OutPackets}
	}
}

// terminatingServes dials the tunnels that could not come up without a virtual router.
func (m *machine) terminatingServes(now time.Time, router string) {
	for _, t := range m.sites.engine.Tunnels() {
		if t.State == site.StateWaiting && m.sites.terminating[t.Name] == router {
			m.fromSite(now, m.sites.engine.Step(now, site.Operator{Tunnel: t.Name, Command: site.CommandNow}))
		}
	}
}
