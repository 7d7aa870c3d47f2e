package ike

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// Static tunnels (Z-1..Z-11, K1..K11): site-to-site connections that are configured on both sides.
//
//	dial                                           Initiate{Static} →
//	phase 1, as initiator or as responder, told apart from other kinds by address, identity and key (J11)
//	XAuth, if either side is configured for it     UserAnswered     →
//	                                               Admit or Deny    ←
//	one quick mode for each pair of networks       ConnUp, ChildUp  →   by whichever side begins it
//	                                               ChildDown        →   a pair of networks alone is lost or refused
//	                                               Complete         ←   what is missing is opened
//	                                               ConnDown         →
//
// When a tunnel is dialled, and by which of its peers' addresses, is not decided here: the engine dials
// once, when it is told, and says what came of it. What it does by itself is to keep up what is up: it
// replaces SAs before they end, follows the peer, and finds out that it is dead.
//
// A tunnel has one connection with each of its peers' addresses. It lasts over rekeys, also when both sides begin at once.
// Which of several carries the traffic, and when the others end, is not decided here either: so a backup peer is taken,
// and given back, without a gap.

// StaticTunnel is one configured site-to-site tunnel.
type StaticTunnel struct {
	Name string
	// Local is our address; zero: any, then Initiate has to name one.
	Local netip.Addr
	// Peers are the addresses from which the peer may answer or come, backups included. Empty: any, which is a
	// dynamic peer: its identity, a key of its own or its certificate tells who it is.
	Peers []netip.Addr
	// PeerID is the identity that the peer must have and LocalID ours, in the syntax of [PresharedKey].ID (Z-9).
	// PeerID "": any. LocalID "": our address with a pre-shared key, the certificate's subject with a certificate.
	PeerID, LocalID string
	// PeerIDIsAddress has the peer's identity be the address that it comes from, or is dialled at; PeerID is "" then. A peer
	// behind a NAT shows another one, so that it is refused with a sentence that says what to configure.
	PeerIDIsAddress bool
	// Method is AuthPSK (0 too) or AuthRSA; XAuth is added by the field below. The pre-shared key is one of the
	// tunnel's own ([PresharedKey].Static) or, if it has none, a common one for the peer's address or identity.
	Method     AuthMethod
	Credential string // our certificate, for AuthRSA
	// Aggressive has us begin in aggressive mode (Z-3), and so does a first IKE policy rule that requests or requires it. What
	// we answer is for the rules to say (K5).
	Aggressive bool
	ESP        []ESPProposal // acceptable; offered in this order, at most 30
	PFS        keymat.Group  // 0: not demanded (K9: still accepted when the peer asks)
	Lifetime   time.Duration // of ESP SAs; 0: 28800 s
	LifeKB     uint64        // 0: none
	Children   []StaticChild // pairs of networks, at most MaxStaticChildren
	// DPD has the peer probed by the timers of [Config].StaticDPD (K10). Answering is always on.
	DPD bool
	// XAuth says who asks whom for a user (Z-8). User and Password are what we answer with as client.
	XAuth    StaticXAuth
	User     string
	Password keymat.Secret
	// Revision stands for everything that a connection has of the tunnel; when it changes the connection ends
	// (G4). Peers, DPD and User may change without it, as the addresses of a peer known by name do.
	Revision string

	admission *admission // nil: what is configured holds
	peer      *idPattern // PeerID, read once
}

// StaticChild is one pair of networks of a static tunnel, with ESP SAs of its own. A pair is the same on
// both sides but for the direction: what a peer proposes has to be equal to it, not narrower and not wider.
type StaticChild struct {
	Name string // unique in its tunnel
	// LocalNet and RemoteNet are the networks on our side and the peer's; 0.0.0.0/0 is any. In transport mode they
	// are left out: the two outer addresses are meant.
	LocalNet, RemoteNet netip.Prefix
	// Protocol is 0 for any; transport mode carries GRE (47) or IP in IP (4). Ports are those of TCP and UDP, 0 any.
	Protocol              uint8
	LocalPort, RemotePort uint16
	Tunnel                bool // tunnel mode; else transport mode
}

// MaxStaticChildren is how many pairs of networks a tunnel can have.
const MaxStaticChildren = 64

// StaticXAuth is the part that a static tunnel has in extended authentication (Z-8).
type StaticXAuth uint8

// Parts in XAuth. The side that begins phase 1 is the one that is asked, so a tunnel with
// StaticXAuthServer waits for its peer, and one with StaticXAuthClient dials.
const (
	StaticXAuthNone StaticXAuth = iota
	StaticXAuthServer
	StaticXAuthClient
)

// String names the part.
func (x StaticXAuth) String() string {
	switch x {
	case StaticXAuthServer:
		return "server"
	case StaticXAuthClient:
		return "client"
	}
	return "none"
}

// HangUp ends the connections of a static tunnel and what is being dialled for it: ConnDown comes for
// each, with Conn.ID 0 and the Ref of the dial for what has never been up, as for each dial that fails. A dial may fail while
// the tunnel is up by the peer's own.
type HangUp struct {
	Static string
	// Ref names one dial that has not come up, which alone ends, at once and by one ConnDown; a connection that the peer has
	// begun there at the same time goes on. Nothing happens for one that has come up, for which there is CloseConn, or is
	// over. 0: everything.
	Ref    uint64
	Reason Reason
	Text   string // for the operator
}

// Complete opens the pairs of networks that a connection of a static tunnel does not have, as Initiate does, whoever has begun the
// connection. ChildUp or ChildDown comes for each; nothing happens where all are there.
type Complete struct{ Conn ConnID }

// AdmitPeers says from which addresses the peer of a static tunnel may come and may answer from now on, in the place of the
// configured ones. It holds over [Reconfigure] and restarts, as long as the tunnel is configured; for one that is not it is
// ignored. What is up is left alone, and its address remains one of the peer's until it ends, so that it can be rekeyed.
type AdmitPeers struct {
	Static string
	Open   bool // false: nobody may; who proves to be the peer is refused with ReasonTunnelShut, and so is a dial
	Any    bool // from everywhere: a dynamic peer
	Peers  []netip.Addr
}

// ChildUp says that a pair of networks of a static tunnel carries traffic. Rekeys are not told. The
// first of a connection comes behind its ConnUp.
type ChildUp struct {
	Conn          ConnID
	Static, Child string
}

// ChildDown says that a pair of networks of a static tunnel has gone, or was refused when it was dialled,
// while its connection goes on: it is not opened again before the next dial, or Complete. It may come before ConnUp. With
// ConnDown all are down, whether it was told of each or not.
type ChildDown struct {
	Conn          ConnID
	Static, Child string
	Reason        Reason
	Text          string
	ByPeer        bool
}

// KeepNAT sends a NAT keepalive: one byte 0xFF from our NAT-T port, without the marker (RFC 3948 section 4). Remote access
// needs none of ours (C9r), since there it is the client that is behind the NAT (C11r). Of a static tunnel it may be us, and then
// the peer could not reach us by a tunnel that is silent for a minute.
type KeepNAT struct {
	Conn          ConnID
	Local, Remote netip.AddrPort
}

// keepalive is how often (RFC 3948 section 4).
const keepalive = 20 * time.Second

func (HangUp) ikeEvent()     {}
func (Complete) ikeEvent()   {}
func (AdmitPeers) ikeEvent() {}
func (ChildUp) ikeEffect()   {}
func (ChildDown) ikeEffect() {}
func (KeepNAT) ikeEffect()   {}

// static returns the named tunnel, nil if there is none.
func (c *Config) static(name string) *StaticTunnel {
	for i := range c.Statics {
		if c.Statics[i].Name == name {
			return &c.Statics[i]
		}
	}
	return nil
}

// child returns the named pair of networks, nil if there is none.
func (t *StaticTunnel) child(name string) *StaticChild {
	for i := range t.Children {
		if t.Children[i].Name == name {
			return &t.Children[i]
		}
	}
	return nil
}

// phase2 is what the tunnel says about quick mode in the words of a transport profile.
func (t *StaticTunnel) phase2() *TransportProfile {
	return &TransportProfile{Name: t.Name, ESP: t.ESP, PFS: t.PFS, Lifetime: cmp.Or(t.Lifetime, defaultTunnelLife), LifeKB: t.LifeKB}
}

// anyID tells whether the peer may call itself as it likes.
func (t *StaticTunnel) anyID() bool {
	return !t.PeerIDIsAddress && (t.PeerID == "" || t.PeerID == anyText)
}

// certified tells whether the two sides prove themselves by certificates.
func (t *StaticTunnel) certified() bool { return t.Method == AuthRSA }

// answers tells whether a peer that begins phase 1 with the method can be that of the tunnel.
func (t *StaticTunnel) answers(m AuthMethod) bool {
	if m == AuthHybridRSA {
		return false // proves the server alone
	}
	return m.preShared() != t.certified() && m.xauth() == (t.XAuth == StaticXAuthServer)
}

// answered is the method of a peer with a pre-shared key that begins.
func (t *StaticTunnel) answered() AuthMethod {
	if t.XAuth == StaticXAuthServer {
		return AuthXAuthPSK
	}
	return AuthPSK
}

// method is the one that we begin phase 1 with.
func (t *StaticTunnel) method() AuthMethod {
	switch asked := t.XAuth == StaticXAuthClient; {
	case t.certified() && asked:
		return AuthXAuthRSA
	case t.certified():
		return AuthRSA
	case asked:
		return AuthXAuthPSK
	}
	return AuthPSK
}

// ownKeys tells whether there are pre-shared keys for the tunnel alone.
func (c *Config) ownKeys(tunnel string) bool {
	return slices.ContainsFunc(c.Keys, func(k PresharedKey) bool { return k.Static == tunnel })
}

// staticKey returns the pre-shared key to begin phase 1 of a tunnel with: one of its own, else a common one that is
// for the peer's address or identity. Without one that is in force it returns nil and says why.
func (c *Config) staticKey(t *StaticTunnel, local, remote netip.Addr, now time.Time) (found *PresharedKey, r Reason, text string) {
	r, text = ReasonNoKey, "there is no pre-shared key for static tunnel \""+t.Name+"\""
	own := c.ownKeys(t.Name)
	for i := range c.Keys {
		k := &c.Keys[i]
		switch {
		case own && k.Static != t.Name, k.Static != "" && k.Static != t.Name, k.Group, k.Tunnel != "", !k.at(local):
			continue
		case k.Peer.IsValid() && !k.Peer.Contains(remote):
			continue
		case !own && !k.Peer.IsValid() && (t.anyID() || !idMatches(k.ID, parseID(t.peerID(remote)))):
			continue
		case !k.inForce(now):
			r, text = k.why(now)
			continue
		}
		if found == nil || k.From.After(found.From) && k.rank() == found.rank() {
			found = k // of two that are rotated the newer one
		}
	}
	if found != nil {
		return found, "", ""
	}
	return nil, r, text
}

// staticCredentials returns the certificates of the tunnels with which the peer may be answered.
func (c *Config) staticCredentials(local, remote netip.Addr, m AuthMethod) []usable {
	var out []usable
	for i := range c.Statics {
		t := &c.Statics[i]
		if !t.certified() || !t.answers(m) || !t.between(local, remote) {
			continue
		}
		if cred := c.credential(t.Credential); cred != nil {
			u := usable{cred: cred, localID: t.LocalID}
			if !t.anyID() {
				u.peers = []string{t.peerID(remote)}
			}
			out = append(out, u)
		}
	}
	return out
}

// claim is who a peer is by what it has shown: enough to tell which tunnel it means.
type claim struct {
	local, remote netip.Addr
	method        AuthMethod
	keyName       string // of its pre-shared key
	keyStatic     string // tunnel that the key belongs to
	bound         bool   // the key is of another kind: L2TP only, or of a tunnel profile
	id            []byte // body of its identification payload
}

// claim returns that of a peer whose SA is up, or whose key is known.
func (p *phase1) claim() claim {
	c := claim{local: p.Local.Addr(), remote: p.Remote.Addr(), method: p.Method}
	if s := p.session; s != nil {
		c.keyName, c.keyStatic, c.bound, c.id = s.KeyName, s.KeyStatic, s.KeyGroup || s.KeyTunnel != "", s.PeerID
		return c
	}
	c.id = p.neg.PeerID
	if k := p.neg.Key; k != nil {
		c.keyName, c.keyStatic, c.bound = k.Name, k.Static, k.Group || k.Tunnel != ""
	}
	return c
}

// staticOf returns the tunnel that a peer which has begun phase 1 belongs to, nil if none. loose: also a
// tunnel that takes anybody from anywhere by a common key or a certificate, which all other kinds of
// connection go before.
func (c *Config) staticOf(x claim, loose bool) *StaticTunnel {
	id, err := isakmp.Payload{Type: isakmp.TypeID, Body: x.id}.ID()
	if err != nil || x.bound {
		return nil
	}
	shown := newShownID(id)
	for i := range c.Statics {
		t := &c.Statics[i]
		switch {
		case x.keyStatic != "" && x.keyStatic != t.Name,
			x.keyStatic == "" && !t.certified() && c.ownKeys(t.Name),
			!t.answers(x.method), !t.between(x.local, x.remote), !t.isPeer(x.remote, shown):
			continue
		case x.keyStatic == "" && !loose && t.anywhere() && t.anyID():
			continue
		}
		return t
	}
	return nil
}
