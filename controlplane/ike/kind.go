package ike

import (
	"fmt"

	"vrgate/controlplane/isakmp"
)

// kind is what phase 1 has shown a peer to be (J11): of a static tunnel, a dynamic subscriber, or neither,
// which is an L2TP client. Each negotiates its own sort of phase 2 and no other.
type kind struct {
	static *StaticTunnel
	tunnel *TunnelProfile
}

// kindOf tells what the peer of an authenticated SA is. The reason says why it may be nothing at all.
func (e *Engine) kindOf(p *phase1) (k kind, r Reason, text string) {
	if p.Initiator {
		if p.neg == nil || p.neg.attempt == nil || p.neg.Open.Static == "" {
			return k, "", ""
		}
		if k.static = e.cfg.static(p.neg.Open.Static); k.static == nil {
			return k, ReasonProfileRemoved, fmt.Sprintf("static tunnel %q has been removed", p.neg.Open.Static)
		}
		return k, "", ""
	}
	x := p.claim()
	if k.static = e.cfg.staticOf(x, false); k.static != nil {
		return k.open(x)
	}
	if x.keyStatic != "" {
		return k, ReasonIdentity, fmt.Sprintf("key %q belongs to static tunnel %q, which is not for %s at %v on %v", x.keyName, x.keyStatic,
			describe(x.id), x.remote, x.local)
	}
	if k.tunnel, text = e.recognise(p); k.tunnel != nil || text != "" {
		return k, ReasonNoTunnel, text
	}
	if t := e.cfg.transport(x.local, x.remote); t != nil {
		if p.Method.signs(true) && t.Credential == "" && len(e.cfg.Statics) > 0 {
			// D4r. Certificates are taken here for static tunnels, and prove nothing to L2TP.
			return k, ReasonIdentity, fmt.Sprintf("%s belongs to no static tunnel, and transport profile %q takes pre-shared keys only", describe(x.id), t.Name)
		}
		return k, "", ""
	}
	if k.static = e.cfg.staticOf(x, true); k.static != nil {
		return k.open(x)
	}
	if t := e.cfg.staticAt(x); t != nil {
		return k, ReasonIdentity, t.mismatch(x)
	}
	return k, "", ""
}

// open refuses the peer of a static tunnel that is shut.
func (k kind) open(x claim) (kind, Reason, string) {
	if k.static.shut(x.remote) {
		return k, ReasonTunnelShut, k.static.isShut()
	}
	return k, "", ""
}

// staticAt returns the tunnel at whose addresses a peer is that is not the tunnel's, nil if there is none.
func (c *Config) staticAt(x claim) *StaticTunnel {
	for i := range c.Statics {
		if t := &c.Statics[i]; !x.bound && !t.anywhere() && t.between(x.local, x.remote) {
			return t
		}
	}
	return nil
}

// unwelcome says why a peer that has proven in main mode who it is is refused before we prove the same, "" if
// it is not: its tunnel is shut, or nobody but the peer of a static tunnel may come from where it is, and that it is not.
func (e *Engine) unwelcome(p *phase1) (Reason, string) {
	x := p.claim()
	if t := e.cfg.staticOf(x, false); t != nil && t.shut(x.remote) {
		return ReasonTunnelShut, t.isShut()
	}
	t := e.cfg.staticAt(x)
	if t == nil || e.cfg.staticOf(x, true) != nil || e.cfg.transport(x.local, x.remote) != nil || e.cfg.maybeDynamic(p) {
		return "", ""
	}
	return ReasonIdentity, t.mismatch(x)
}

// mismatch says why a peer at the tunnel's addresses is not the tunnel's.
func (t *StaticTunnel) mismatch(x claim) string {
	id, err := isakmp.Payload{Type: isakmp.TypeID, Body: x.id}.ID()
	switch {
	case err == nil && !idMatches(t.peerID(x.remote), id):
		return fmt.Sprintf("static tunnel %q is for %s, and the peer at %v calls itself %s%s", t.Name, t.peerID(x.remote), x.remote, describe(x.id), t.advice(id))
	case t.XAuth == StaticXAuthServer && !x.method.xauth():
		return fmt.Sprintf("static tunnel %q asks for a user by XAuth, which the peer at %v does not offer", t.Name, x.remote)
	}
	return fmt.Sprintf("static tunnel %q is not authenticated by %v with what the peer at %v has shown", t.Name, x.method, x.remote)
}

// turnAway drops an authenticated SA that is nobody's, and tells the peer.
func (e *Engine) turnAway(p *phase1, r Reason, text string) {
	if p.Initiator && p.neg.Rekey == 0 {
		open := p.neg.Open
		defer func() {
			e.emit(ConnDown{Conn: failedDial(p, open), Reason: r, Text: text})
		}()
	}
	e.count(r)
	e.report(LevelInfo, r, "peer refused: "+text, p)
	e.sendInfo(p, isakmp.DeleteISAKMP(p.Cookies.I, p.Cookies.R).Payload())
	e.dropPhase1(p, "")
}
