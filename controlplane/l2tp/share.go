package l2tp

import (
	"net/netip"
	"slices"
	"time"
)

// Limits of shared tunnels.
const (
	// maxCallsOpening is how many calls may wait in one tunnel for their set-up: three messages of each stay below maxTunnelQueue.
	maxCallsOpening = 4096
	// maxShareTries is how many tunnels to an LNS are looked at for a call. Nearly always the first one takes it.
	maxShareTries = 8
	// maxCalls is how many calls of ours fit into one tunnel: drawing session ids becomes slow beyond.
	maxCalls = 60_000
)

// shareKey is what calls of one tunnel have in common, but for its password.
type shareKey struct {
	Conn                            ConnID
	Local, Remote                   netAddrPort
	LocalHost, WantHost, Assignment string
	Hide                            bool
}

// callKey finds a call.
type callKey struct {
	Tunnel  TunnelID
	Session SessionID
}

func (t *tunnel) shareKey() shareKey {
	return shareKey{t.Conn, t.Local, t.Remote, t.LocalHost, t.WantHost, t.Assignment, t.Hide}
}

// sharedTunnel finds the tunnel in which a call is placed beside others, nil when a new one has to be opened.
func (e *Engine) sharedTunnel(ev *Dial) *tunnel {
	k := shareKey{ev.Conn, ev.Local, ev.Remote, ev.HostName, ev.PeerHost, ev.Assignment, ev.HideAVPs}
	list := e.roomy[k]
	for i := len(list) - 1; i >= max(0, len(list)-maxShareTries); i-- {
		t := e.tunnels[list[i]]
		if !t.over() && t.Admin == AdminEnabled && t.Secret.Equal(ev.Secret) && (ev.MaxSessions == 0 || len(t.Sessions) < ev.MaxSessions) {
			return t
		}
	}
	return nil
}

// hasRoom enters a shared tunnel where Dial looks for one.
func (e *Engine) hasRoom(t *tunnel) {
	if !t.Shared || t.Roomy || t.over() {
		return
	}
	t.Roomy = true
	k := t.shareKey()
	e.roomy[k] = append(e.roomy[k], t.ID)
}

// noRoom takes it out again.
func (e *Engine) noRoom(t *tunnel) {
	if !t.Roomy {
		return
	}
	t.Roomy = false
	k := t.shareKey()
	list := e.roomy[k]
	if i := slices.Index(list, t.ID); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		delete(e.roomy, k)
		return
	}
	e.roomy[k] = list
}

// waiting tells whether too many calls are being set up in the tunnel.
func (e *Engine) waiting(t *tunnel) bool {
	if len(t.Opening) >= maxCallsOpening {
		e.pruneOpening(t)
	}
	return len(t.Opening) >= maxCallsOpening
}

// dialFailed says that a shared Dial's call is over before it was up.
func (e *Engine) dialFailed(t *tunnel, s *session, reason Reason, text string) {
	if !t.Shared {
		return
	}
	e.forgetCall(t, s)
	e.emit(DialFailed{Ref: s.Ref, Reason: reason, Text: text})
}

// forgetCall takes a call that is up or over out of the index by Ref.
func (e *Engine) forgetCall(t *tunnel, s *session) {
	if e.calls[s.Ref] == (callKey{t.ID, s.ID}) {
		delete(e.calls, s.Ref)
	}
}

// cancelDial gives up a call that is being set up.
func (e *Engine) cancelDial(now time.Time, ev CancelDial) {
	if k, ok := e.calls[ev.Ref]; ok {
		e.closeSession(now, CloseSession{Tunnel: k.Tunnel, Session: k.Session, Reason: ReasonCancelled, Message: "cancelled"})
	}
}

// forgetDial takes a tunnel of ours out of the indexes.
func (e *Engine) forgetDial(t *tunnel) {
	if k := t.dialKey(); e.dialing[k] == t.ID {
		delete(e.dialing, k)
	}
	e.noRoom(t)
}

// renumberDial gives a tunnel of ours that has not sent anything another id.
func (e *Engine) renumberDial(t *tunnel, id TunnelID) {
	old, roomy := t.ID, t.Roomy
	e.noRoom(t)
	t.ID = id
	if roomy {
		e.hasRoom(t)
	}
	if k := t.dialKey(); e.dialing[k] == old {
		e.dialing[k] = id
	}
	e.indexCalls(t)
}

// indexCalls finds the calls of a shared tunnel that are not up by their Ref.
func (e *Engine) indexCalls(t *tunnel) {
	for _, s := range t.Sessions {
		if t.Shared && s.State == StateConnecting {
			e.calls[s.Ref] = callKey{t.ID, s.ID}
		}
	}
}

// restoreDial enters a tunnel of ours into the indexes.
func (e *Engine) restoreDial(t *tunnel) {
	if t.Phase <= phaseWaitReply && !t.Shared {
		e.dialing[t.dialKey()] = t.ID
	}
	if t.Roomy {
		t.Roomy = false
		e.hasRoom(t)
	}
	e.indexCalls(t)
}

// source is whom a half-open tunnel is charged to. An IPv6 host has a whole /64 of addresses to send from.
func source(conn ConnID, remote netip.Addr) sourceKey {
	if conn != 0 {
		return sourceKey{Conn: conn}
	}
	if remote.Is6() {
		if p, err := remote.WithZone("").Prefix(64); err == nil {
			remote = p.Addr().WithZone(remote.Zone())
		}
	}
	return sourceKey{Addr: remote}
}
