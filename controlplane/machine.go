package controlplane

import (
	"io"
	"net/netip"
	"time"

	"vrgate/controlplane/deadline"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/site"
	"vrgate/controlplane/subscriber"
	"vrgate/pppd"
)

// machine is one virtual router's four engines joined into one pure value: an event of
// any of them goes in, and what concerns the outside comes out in order. What one engine
// reports and another must know is passed on inside, before anything later is looked at, so
// that no two engines ever disagree about who exists.
//
// Outputs are effects of the four engines, unchanged, and those of static tunnels: see router.perform for the list.
type machine struct {
	ike  *ike.Engine
	l2tp *l2tp.Engine
	subs *subscriber.Engine
	// sites are the static tunnels, with the fourth engine.
	sites sites
	// servers are the router's addresses, from which it calls other LNSs.
	servers []netip.Addr
	esp     map[ike.ConnID]outboundESP
	out     []any
}

// outboundESP is what the packets of a connection's newest outbound SA cost, for the MTU of
// the PPP links inside. It is kept from the order to install that SA until the SA or the
// connection has gone. Dynamic subscribers have their MTU from the tunnel profile.
type outboundESP struct {
	spi  uint32
	size subscriber.ESP
}

// machineConfig is the configuration of the four engines.
type machineConfig struct {
	ike  ike.Config
	l2tp l2tp.Config
	subs subscriber.Config
	site site.Config
	// servers are the router's addresses.
	servers []netip.Addr
	// terminating names the virtual router whose traffic each static tunnel carries.
	terminating map[string]string
	// away names those of them that are about to be made anew.
	away []string
}

func newMachine(now time.Time, c machineConfig, random io.Reader) *machine {
	return &machine{
		ike: ike.New(c.ike, random), l2tp: l2tp.New(c.l2tp, random), subs: subscriber.New(c.subs, random), sites: newSites(c, site.New(now, c.site, random)),
		servers: c.servers, esp: map[ike.ConnID]outboundESP{},
	}
}

// step feeds one event to the engine it belongs to. A tick goes to all.
func (m *machine) step(now time.Time, ev any) []any {
	m.beginSites(now)
	switch ev := ev.(type) {
	case tick:
		m.fromIKE(now, m.ike.Step(now, ike.Timer{}))
		m.fromL2TP(now, m.l2tp.Step(now, l2tp.Timer{}))
		m.fromSubscriber(now, m.subs.Step(now, subscriber.Timer{}))
		m.fromSite(now, m.sites.engine.Step(now, site.Timer{}))
		m.unload(now)
	case reconfigure:
		m.servers = ev.servers
		// L2TP first: what it says to its peers needs the SAs.
		m.fromL2TP(now, m.l2tp.Step(now, l2tp.Reconfigure{Config: ev.l2tp}))
		m.closeCarried(now, m.ike.Affected(ev.ike))
		m.reconfigureSites(now, &ev)
		m.fromSubscriber(now, m.subs.Step(now, subscriber.Reconfigure{Config: ev.subs}))
	case callClosed:
		for _, c := range ev.carried {
			m.fromL2TP(now, m.l2tp.Step(now, c))
		}
		m.fromSubscriber(now, m.subs.Step(now, ev.answer))
	case ike.SAInstalled:
		if ev.Err != "" && ev.Dir == ike.Outbound {
			m.forgetESP(ev.Conn, ev.SPI)
		}
		m.fromIKE(now, m.ike.Step(now, ev))
		if ev.Err != "" {
			m.staticGone(ev.Conn, SAKey{Dir: ev.Dir, SPI: ev.SPI})
		}
	case ike.Event:
		m.fromIKE(now, m.ike.Step(now, ev))
	case l2tp.Event:
		m.fromL2TP(now, m.l2tp.Step(now, ev))
	case subscriber.Event:
		m.fromSubscriber(now, m.subs.Step(now, ev))
	case site.Event:
		m.fromSite(now, m.sites.engine.Step(now, ev))
	case tunnelCarried:
		m.carried(now, ev)
	case terminatingServes:
		m.terminatingServes(now, ev.router)
	}
	out := m.out
	m.out = nil // some hold passwords
	return out
}

// closeCarried ends the tunnels of IPsec connections that are about to end: their peers hear why, which
// they would not once the SAs have gone (G4).
func (m *machine) closeCarried(now time.Time, ending []ike.Affected) {
	if len(ending) == 0 {
		return
	}
	why := make(map[l2tp.ConnID]ike.Affected, len(ending))
	for _, a := range ending {
		why[l2tp.ConnID(a.Conn.ID)] = a
	}
	for _, t := range m.l2tp.Tunnels() {
		if a, ends := why[t.Conn]; ends && t.Conn != 0 && t.Ended.IsZero() {
			m.fromL2TP(now, m.l2tp.Step(now, l2tp.CloseTunnel{Tunnel: t.ID, Message: a.Text, Reason: l2tp.Reason(a.Reason)}))
		}
	}
}

// callClosed is the end of a session's kernel objects, and what L2TP has carried there.
type callClosed struct {
	answer  subscriber.Event
	carried []l2tp.CallSettled
}

// tick says that the deadline may have passed.
type tick struct{}

// reconfigure replaces the configuration of all four.
type reconfigure machineConfig

// deadline returns when a tick is wanted; zero: never.
func (m *machine) deadline() time.Time {
	return deadline.Earliest(m.ike.Deadline(), m.l2tp.Deadline(), m.subs.Deadline(), m.sites.deadline())
}

func (m *machine) fromIKE(now time.Time, effects []ike.Effect) {
	for _, f := range effects {
		switch f := f.(type) {
		case ike.DynamicUp:
			m.fromSubscriber(now, m.subs.Step(now, dynamicUp(f)))
		case ike.UserAnswered:
			if f.Static != "" {
				break // who decides about it is outside
			}
			m.fromSubscriber(now, m.subs.Step(now, userAnswered(f)))
			continue // holds a password
		case ike.ConnUp:
			if f.Conn.Static != "" {
				if m.staticUp(now, f.Conn) {
					continue
				}
				break
			}
			m.fromSubscriber(now, m.subs.Step(now, subscriber.ConnUp{
				Conn: uint32(f.Conn.ID), Remote: f.Conn.Remote, PeerID: f.Conn.PeerID, Peer: f.Conn.Peer, ESP: m.esp[f.Conn.ID].size,
				Dynamic: f.Conn.Dynamic,
			}))
		case ike.ConnDown:
			if f.Conn.Static != "" {
				m.staticDown(now, f)
				break
			}
			delete(m.esp, f.Conn.ID)
			m.fromSubscriber(now, m.subs.Step(now, subscriber.ConnDown{Conn: uint32(f.Conn.ID), Reason: string(f.Reason), Text: f.Text, ByPeer: f.ByPeer}))
		case ike.ChildUp:
			m.fromSite(now, m.sites.engine.Step(now, site.PairUp{Conn: uint32(f.Conn), Pair: f.Child}))
		case ike.ChildDown:
			m.fromSite(now, m.sites.engine.Step(now, site.PairDown{Conn: uint32(f.Conn), Pair: f.Child, Reason: site.Reason(f.Reason), Text: f.Text}))
		case ike.InstallSA:
			if f.SA.Static != "" {
				m.sites.staticSA(&f.SA)
			} else if f.SA.Dir == ike.Outbound && !f.SA.Tunnel {
				m.esp[f.SA.Conn] = outboundESP{f.SA.SPI, espSize(f.SA)}
			}
		case ike.MoveConn:
			m.staticMoved(now, f)
		case ike.RemoveSA:
			if f.Dir == ike.Outbound {
				m.forgetESP(f.Conn, f.SPI)
			}
		}
		m.out = append(m.out, f)
		if gone, ok := f.(ike.RemoveSA); ok {
			m.staticGone(gone.Conn, SAKey{Dir: gone.Dir, SPI: gone.SPI})
		}
	}
}

// forgetESP forgets an outbound SA that is not, or no more, unless a newer one serves.
func (m *machine) forgetESP(conn ike.ConnID, spi uint32) {
	if m.esp[conn].spi == spi {
		delete(m.esp, conn)
	}
}

func (m *machine) fromL2TP(now time.Time, effects []l2tp.Effect) {
	for _, f := range effects {
		switch f := f.(type) {
		case l2tp.TunnelUp:
			m.fromSubscriber(now, m.subs.Step(now, subscriber.TunnelUp{Tunnel: uint16(f.Tunnel.ID), Conn: uint32(f.Tunnel.Conn)}))
		case l2tp.TunnelDown:
			m.fromSubscriber(now, m.subs.Step(now, subscriber.TunnelDown{Tunnel: uint16(f.Tunnel.ID), Conn: uint32(f.Tunnel.Conn)}))
		case l2tp.ConnSpent:
			m.fromSubscriber(now, m.subs.Step(now, subscriber.ConnSpent{Conn: uint32(f.Conn), Reason: subscriber.Reason(f.Reason), Text: f.Text}))
		case l2tp.DialFailed:
			m.fromSubscriber(now, m.subs.Step(now, farFailed(f)))
			continue
		case l2tp.CallReady:
			m.fromSubscriber(now, m.subs.Step(now, farUp(f.Session)))
			continue
		case l2tp.SessionUp:
			if f.Session.Ref != 0 {
				continue // CallReady has said so
			}
			m.fromSubscriber(now, m.subs.Step(now, callUp(f.Session)))
			continue
		case l2tp.SessionDown:
			if f.Session.Ref != 0 {
				m.fromSubscriber(now, m.subs.Step(now, subscriber.FarDown{
					Call: callKey(f.Session.Tunnel, f.Session.ID), Reason: subscriber.Reason(f.Reason), Text: f.Text, ByPeer: f.ByPeer,
					Cause: disconnectCause(f.Cause),
				}))
				continue
			}
			m.fromSubscriber(now, m.subs.Step(now, subscriber.CallDown{
				Call: callKey(f.Session.Tunnel, f.Session.ID), Reason: string(f.Reason), Text: f.Text, ByPeer: f.ByPeer,
				Cause: disconnectCause(f.Cause),
			}))
			continue
		case l2tp.FrameReceived:
			m.fromSubscriber(now, m.subs.Step(now, subscriber.Frame{Call: callKey(f.Tunnel, f.Session), Data: f.Frame}))
			continue
		}
		m.out = append(m.out, f)
	}
}

func (m *machine) fromSubscriber(now time.Time, effects []subscriber.Effect) {
	for _, f := range effects {
		switch f := f.(type) {
		case subscriber.SendFrame:
			if f.InKernel {
				break
			}
			m.fromL2TP(now, m.l2tp.Step(now, l2tp.SendFrame{
				Tunnel: l2tp.TunnelID(f.Call.Tunnel), Session: l2tp.SessionID(f.Call.Session), Frame: f.Data,
			}))
			continue
		case subscriber.Dial:
			m.fromL2TP(now, m.l2tp.Step(now, m.dial(f)))
			continue
		case subscriber.CancelDial:
			m.fromL2TP(now, m.l2tp.Step(now, l2tp.CancelDial{Ref: f.Ref}))
			continue
		case subscriber.ConnectFar:
			m.fromL2TP(now, m.l2tp.Step(now, l2tp.ConnectCall{Tunnel: l2tp.TunnelID(f.Call.Tunnel), Session: l2tp.SessionID(f.Call.Session)}))
			continue
		case subscriber.CloseCall:
			m.fromL2TP(now, m.l2tp.Step(now, closeSession(f)))
			continue
		case subscriber.DropTunnels:
			m.fromL2TP(now, m.l2tp.Step(now, l2tp.ConnLost{Conn: l2tp.ConnID(f.Conn)}))
			continue
		case subscriber.CloseConn:
			m.fromIKE(now, m.ike.Step(now, ike.CloseConn{Conn: ike.ConnID(f.Conn), Reason: ike.Reason(f.Reason), Text: f.Text}))
			continue
		case subscriber.Ended:
			m.settled(now, f.Record)
		case subscriber.AskUser:
			m.fromIKE(now, m.ike.Step(now, ike.AskUser{
				Conn: ike.ConnID(f.Conn), Message: f.Message, Passcode: f.Passcode, NextPIN: f.NextPIN, Answer: f.Answer,
			}))
			continue
		case subscriber.Admit:
			m.fromIKE(now, m.ike.Step(now, admit(f)))
			continue
		case subscriber.Deny:
			m.fromIKE(now, m.ike.Step(now, ike.Deny{Conn: ike.ConnID(f.Conn), Reason: ike.Reason(f.Reason), Text: f.Text}))
			continue
		}
		m.out = append(m.out, f)
	}
}

// settled tells L2TP who it was whose session is over.
func (m *machine) settled(now time.Time, r subscriber.Record) {
	for _, call := range [...]subscriber.CallKey{r.Call, r.Far} {
		if call != (subscriber.CallKey{}) && r.User != "" {
			m.fromL2TP(now, m.l2tp.Step(now, l2tp.CallSettled{Tunnel: l2tp.TunnelID(call.Tunnel), Session: l2tp.SessionID(call.Session), User: r.User}))
		}
	}
}

func dynamicUp(f ike.DynamicUp) subscriber.DynamicUp {
	c := f.Conn
	return subscriber.DynamicUp{
		Conn: uint32(c.ID), Local: c.Local, Remote: c.Remote, Profile: c.Profile, PeerID: c.PeerID, Peer: c.Peer, Rekey: f.Rekey,
	}
}

func userAnswered(f ike.UserAnswered) subscriber.UserAnswered {
	a := f.Answer
	return subscriber.UserAnswered{
		Conn: uint32(f.Conn), Refused: f.Refused, User: a.User, Domain: a.Domain, Password: a.Password, Passcode: a.Passcode,
		NextPIN: a.NextPIN, Answer: a.Answer, CHAPID: a.CHAPID, Challenge: a.Challenge, Response: a.Response,
	}
}

func admit(f subscriber.Admit) ike.Admit {
	return ike.Admit{Conn: ike.ConnID(f.Conn), Lease: ike.Lease{
		Address: f.Address, Netmask: f.Netmask, DNS: f.DNS, NBNS: f.NBNS, Expiry: f.Expiry, Networks: f.Networks,
		Banner: f.Banner, Domain: f.Domain, SplitDNS: f.SplitDNS, SavePassword: f.SavePassword, PFS: f.PFS, Behind: f.Behind,
	}}
}

func callKey(t l2tp.TunnelID, s l2tp.SessionID) subscriber.CallKey {
	return subscriber.CallKey{Tunnel: uint16(t), Session: uint16(s)}
}

func callUp(s l2tp.SessionInfo) subscriber.CallUp {
	return subscriber.CallUp{
		Call: callKey(s.Tunnel, s.ID), PeerTunnel: uint16(s.PeerTunnel), PeerSession: uint16(s.Peer), Conn: uint32(s.Conn),
		Local: s.Local, Remote: s.Remote, Profile: s.Profile, HostProfile: s.HostProfile, PeerHost: s.PeerHost, LocalHost: s.LocalHost,
		CallingNumber: s.CallingNumber, Sequencing: s.SequencingRequired, SingleShot: s.SingleShot,
		CalledNumber: s.CalledNumber, SubAddress: s.Info.SubAddress, TxSpeed: s.TxSpeed, RxSpeed: s.RxSpeed,
		PrivateGroup: s.Info.PrivateGroup, Proxy: proxyOf(s.Proxy),
	}
}

func closeSession(f subscriber.CloseCall) l2tp.CloseSession {
	c := l2tp.CloseSession{
		Tunnel: l2tp.TunnelID(f.Call.Tunnel), Session: l2tp.SessionID(f.Call.Session), Message: f.Text, Reason: l2tp.Reason(f.Reason),
	}
	if f.Cause != (pppd.DisconnectCause{}) {
		c.Cause = &l2tp.DisconnectCause{Code: f.Cause.Code, Protocol: f.Cause.Protocol, Direction: f.Cause.Direction}
	}
	return c
}

// espSize derives from an SA what its packets cost.
func espSize(sa ike.SA) subscriber.ESP {
	block, iv := sa.Cipher.Sizes()
	icv := sa.AuthBits / 8
	if icv == 0 {
		icv = 16 // AES-GCM-16
	}
	return subscriber.ESP{Encap: sa.Encap, Align: max(block, 4), IV: iv, ICV: icv}
}
