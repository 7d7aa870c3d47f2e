package subscriber

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"vrgate/controlplane/aaa"
)

// dynamic is what a dynamic subscriber has where others have PPP in L2TP. Its fields are those
// of the snapshot.
type dynamic struct {
	Tunnel   TunnelProfile // as it was when the subscriber came
	Dialogue dialogue
	// Void: phase 1 was rekeyed while AAA was deciding; the user is asked anew once the answer,
	// which counts no more, is there.
	Void      bool
	Name      string // the user of this dialogue, as AAA is asked about it
	Wrong     int    // refusals since the last accept
	Rounds    int    // AAA's further questions in this dialogue
	Prompted  bool   // the question that is out is AAA's
	State     []byte // AAA's, for the answer
	Connected bool   // ConnUp has come
	Counted   bool   // among Engine.admitted
	ConnBy    time.Time
	Left      bool // the peer has been told that it is over
}

// dialogue is how far the user of a phase 1 SA has got.
type dialogue uint8

const (
	dialogueAsking   dialogue = iota // AskUser is without its UserAnswered
	dialogueDeciding                 // AAA has been asked
	dialogueAccepted                 // the kernel objects are being made
	dialogueAdmitted                 // Admit has been emitted
)

const (
	// connTimeout is how long a subscriber that has been let in may take for its first IPsec SA.
	// Clients ask for their configuration and begin with quick mode at once.
	connTimeout = time.Minute
	// defaultAttempts is how often a user may answer wrongly.
	defaultAttempts = 3
	// warnEvery is how often a full tunnel profile is warned of: those that are rejected may be
	// strangers, and come as often as they like.
	warnEvery = time.Minute
	// defaultMTU of a dynamic subscriber's route, bytes (J14: tunnel mtu).
	defaultMTU = 1440
)

// hostMask goes with every address for which AAA names no other (R7).
var hostMask = netip.AddrFrom4([4]byte{255, 255, 255, 255})

func (e *Engine) dynamicUp(now time.Time, ev DynamicUp) {
	if s := e.byConn[ev.Conn]; s != nil {
		e.rekeyed(s, ev)
		return
	}
	s := &session{
		Record: Record{
			Router: e.cfg.Router, Access: aaa.AccessXAuth, Conn: ev.Conn, Local: ev.Local, Remote: ev.Remote,
			Peer: ev.Peer, Profile: ev.Profile, PeerID: ev.PeerID, Called: now,
		},
		dyn: &dynamic{},
	}
	e.add(s)
	e.byConn[s.Conn] = s
	tunnel, known := e.cfg.Tunnels[ev.Profile]
	profile, complete := e.cfg.Profiles[tunnel.IPProfile]
	switch {
	case !known:
		e.end(now, s, ReasonNoTunnelProfile, fmt.Sprintf("there is no tunnel profile %q", ev.Profile), false)
		return
	case !complete:
		e.end(now, s, ReasonNoProfile, fmt.Sprintf("tunnel profile %s has no IP profile", ev.Profile), false)
		return
	}
	s.dyn.Tunnel, s.profile, s.Terminating, s.Gateway = tunnel, profile, profile.Terminating, profile.Gateway
	if e.full(s) {
		e.reject(now, s)
		return
	}
	e.authenticateUser(s)
}

// full says whether a subscriber's tunnel profile takes no more (J14). Those that AAA has not
// accepted yet do not count: who knows only the group's key cannot keep the users out.
func (e *Engine) full(s *session) bool {
	most := s.dyn.Tunnel.MaxSubscribers
	return most != 0 && e.admitted[s.Profile] >= most
}

// Admitted returns how many subscribers of a tunnel profile count against its maximum (J14).
func (e *Engine) Admitted(profile string) int { return e.admitted[profile] }

func (e *Engine) reject(now time.Time, s *session) {
	text := fmt.Sprintf("tunnel profile %s has its maximum of %d subscribers", s.Profile, s.dyn.Tunnel.MaxSubscribers)
	if last, before := e.warned[s.Profile]; !before || now.Sub(last) >= warnEvery {
		e.warned[s.Profile] = now
		e.emit(Report{Warn: true, Reason: ReasonMaxSubscribers, Text: text, ID: s.ID, Conn: s.Conn, Remote: s.Remote})
	}
	e.end(now, s, ReasonMaxSubscribers, text, false)
}

// count and uncount keep the number of a tunnel profile's subscribers.
func (e *Engine) count(s *session) {
	s.dyn.Counted = true
	e.admitted[s.Profile]++
}

func (e *Engine) uncount(s *session) {
	if s.dyn == nil || !s.dyn.Counted {
		return
	}
	s.dyn.Counted = false
	if e.admitted[s.Profile]--; e.admitted[s.Profile] == 0 {
		delete(e.admitted, s.Profile)
	}
}

// rekeyed has the user of a new phase 1 SA authenticate again. What the subscriber has stays.
func (e *Engine) rekeyed(s *session, ev DynamicUp) {
	if s.over {
		return // it is being closed
	}
	s.Local, s.Remote, s.Peer = ev.Local, ev.Remote, cmp.Or(ev.Peer, s.Peer)
	if s.asked {
		s.dyn.Void = true
		return
	}
	e.authenticateUser(s)
}

// openAccess has what the kernel needs of an accepted subscriber made.
func (e *Engine) openAccess(s *session, ev Decided) {
	e.hold(s, ev)
	e.count(s)
	s.MTU = s.granted.MTU
	e.emit(OpenAccess{
		ID: s.ID, Conn: s.Conn, Local: s.Local, Remote: s.Remote, Terminating: s.Terminating,
		Address: s.Address, Gateway: s.Gateway, MTU: s.MTU, Traffic: s.Traffic, Routes: s.Routes, Link: s.profile.Link,
	})
}

func (e *Engine) accessOpened(now time.Time, ev AccessOpened) {
	s := e.byID[ev.ID]
	if s == nil || s.dyn == nil || s.kernel != kernelOpening {
		return
	}
	if ev.Reason != "" {
		s.kernel = kernelNone
		e.end(now, s, ev.Reason, ev.Text, false)
		return
	}
	s.kernel, s.Interface = kernelOpen, ev.Interface
	if s.over {
		e.settle(now, s)
		return
	}
	e.admit(now, s)
}

// admit lets the peer in (J8) once both AAA has accepted its user and the kernel is ready.
func (e *Engine) admit(now time.Time, s *session) {
	d := s.dyn
	if s.kernel != kernelOpen || d.Dialogue != dialogueAccepted {
		return
	}
	d.Dialogue = dialogueAdmitted
	t, g := &d.Tunnel, &s.granted
	e.emit(Admit{
		Conn: s.Conn, Address: s.Address, Netmask: s.Netmask, DNS: valid(g.DNS), NBNS: valid(g.NBNS), Expiry: t.AddressExpiry,
		Networks: g.Networks, Banner: g.Banner, Domain: g.DefaultDomain, SplitDNS: g.SplitDNS, SavePassword: t.SavePassword, PFS: t.PFS,
		Behind: behind(s.Routes),
	})
	if s.started {
		return
	}
	s.State = StateNetwork
	d.ConnBy = now.Add(connTimeout)
	e.arm(s)
	e.connected(now, s)
}

// valid are the addresses of a pair that are set.
func valid(pair [2]netip.Addr) (out []netip.Addr) {
	for _, a := range pair {
		if a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

func (e *Engine) dynamicConnUp(now time.Time, ev ConnUp) {
	s := e.byConn[ev.Conn]
	if s == nil {
		// Nobody would account for its traffic, and nobody is let in without a user.
		e.counts[ReasonUnannounced]++
		e.emit(CloseConn{Conn: ev.Conn, Reason: ReasonUnannounced, Text: "an IPsec connection without its subscriber"})
		return
	}
	if s.over {
		return
	}
	s.Remote, s.Peer = ev.Remote, cmp.Or(ev.Peer, s.Peer)
	s.dyn.Connected = true
	e.connected(now, s)
}

// connected starts a subscriber that has been let in and has its first IPsec SA.
func (e *Engine) connected(now time.Time, s *session) {
	if d := s.dyn; d.Connected && d.Dialogue == dialogueAdmitted {
		d.ConnBy = time.Time{}
		s.State = StateActivating
		if e.account(s) {
			e.up(now, s)
		}
	}
}

func (e *Engine) dynamicDown(now time.Time, s *session, ev ConnDown) {
	delete(e.byConn, s.Conn)
	s.carrierGone = true
	e.note(s, Reason(ev.Reason), cmp.Or(ev.Text, "the IPsec connection has ended"), ev.ByPeer)
	e.settle(now, s)
}

// leaveConn tells the peer of a dynamic subscriber that it is over, once. Deny ends the XAuth
// transaction that is open; once there have been SAs CloseConn makes sure that none is left,
// because a user that fails to authenticate again loses them all (draft-beaulieu-ike-xauth-02).
func (e *Engine) leaveConn(s *session) {
	d := s.dyn
	if d.Left {
		return
	}
	d.Left = true
	open := d.Dialogue != dialogueAdmitted && s.Reason != ReasonUserChanged
	if open {
		e.emit(Deny{Conn: s.Conn, Reason: s.Reason, Text: s.Text})
	}
	if !open || s.started {
		e.emit(CloseConn{Conn: s.Conn, Reason: s.Reason, Text: s.Text})
	}
}
