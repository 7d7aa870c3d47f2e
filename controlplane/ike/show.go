package ike

import (
	"bytes"
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

	"vrgate/controlplane/keymat"
)

// Phase1Info is one line of the table of phase 1 SAs.
type Phase1Info struct {
	Local, Remote             netip.AddrPort
	LocalCookie, RemoteCookie string // 16 hexadecimal digits each, RemoteCookie "" before the peer has answered
	Initiator                 bool
	State                     string // a name of K6
	Authenticated             bool
	NATT                      bool   // moved to the NAT-T port (C13r)
	NATTVersion               string // "RFC3947", "draft-02" …, "none"
	NATPeer, NATLocal         bool   // where a NAT was detected
	Conn                      ConnID // 0 before it is authenticated
	Proposal                  string // "AES-256/SHA1/MODP2048", "" before it is chosen
	Aggressive                bool   // negotiated in aggressive mode
	Method                    AuthMethod
	Rule, Key, PeerID, Peer   string
	Subject                   string // of the peer's certificate
	Since                     time.Time
	Expires                   time.Time // end of life, or when a half-open SA is given up; zero: not known yet
	Replaced                  bool      // a newer SA has taken over
}

// ChildInfo is one pair of ESP SAs.
type ChildInfo struct {
	Conn                                ConnID
	InboundSPI, OutboundSPI             uint32
	InboundInstalled, OutboundInstalled bool // in the kernel by its own word
	Local, Remote                       netip.AddrPort
	Encap                               bool
	Transform                           string
	Profile                             string
	Static, Child                       string // static tunnel and its pair of networks, "" for others
	Protocol                            uint8  // selector, 0 any
	LocalPort, RemotePort               uint16 // selectors of UDP, or of the static tunnel; 0 any
	Tunnel                              bool   // tunnel mode, with the networks as selectors
	LocalNet, RemoteNet                 netip.Prefix
	Since                               time.Time
	Lifetime                            time.Duration // as negotiated
	LifeKB                              uint64        // as negotiated, 0 none
	RekeyKB                             uint64        // volume after which we replace it, 0 none
	PFS                                 keymat.Group  // of its own Diffie-Hellman exchange, 0 none
	Rekey                               time.Time     // when we replace it, zero if that is under way or not due
	Expires                             time.Time
	Replaced                            bool
}

// Phase1SAs lists all phase 1 SAs, half-open ones included, by remote address.
func (e *Engine) Phase1SAs() []Phase1Info {
	ps := e.sortedPhase1()
	out := make([]Phase1Info, 0, len(ps))
	for _, p := range ps {
		i := Phase1Info{Local: p.Local, Remote: p.Remote, Initiator: p.Initiator, State: p.State.String(), Authenticated: p.done(), Conn: p.Conn,
			LocalCookie: p.Cookies.R.String(), RemoteCookie: p.Cookies.I.String(), NATT: p.Marker, NATTVersion: p.Vendor.NATT.String(),
			NATPeer: p.NATPeer, NATLocal: p.NATLocal, Aggressive: p.Aggressive, Method: p.Method,
			Rule: p.Rule, Peer: p.Vendor.Name, Since: p.Created}
		if p.Initiator {
			i.LocalCookie, i.RemoteCookie = p.Cookies.I.String(), ""
			if !p.Cookies.R.IsZero() {
				i.RemoteCookie = p.Cookies.R.String()
			}
		}
		if p.session != nil {
			i.Key, i.PeerID, i.Subject, i.Expires, i.Replaced = p.KeyName, describe(p.PeerID), p.Subject, p.Expires, !p.Replaced.IsZero()
		}
		if p.Group != 0 {
			i.Proposal = phase1Words(p)
		}
		if p.neg != nil {
			i.Expires = p.neg.Expires
		}
		out = append(out, i)
	}
	return out
}

// Children lists all pairs of ESP SAs by connection and age.
func (e *Engine) Children() []ChildInfo {
	var out []ChildInfo
	for _, c := range e.sortedConns() {
		for _, ch := range c.Children {
			i := ChildInfo{Conn: c.Info.ID, InboundSPI: ch.In.SPI, OutboundSPI: ch.Out.SPI,
				InboundInstalled: ch.InState == saUp, OutboundInstalled: ch.OutState == saUp,
				Local: ch.In.Local, Remote: ch.In.Remote, Encap: ch.In.Encap, Transform: espWords(ch.Proposal, ch.PFS), Profile: ch.Profile,
				Static: ch.In.Static, Child: ch.Name, Protocol: ch.In.Protocol, LocalPort: ch.In.LocalPort, RemotePort: ch.In.RemotePort,
				Tunnel: ch.In.Tunnel, LocalNet: ch.In.LocalNet, RemoteNet: ch.In.RemoteNet, Since: ch.Since, Lifetime: ch.Hard.Sub(ch.Since),
				LifeKB: ch.In.HardKB, RekeyKB: ch.In.SoftKB, PFS: ch.PFS, Expires: ch.Hard, Replaced: !ch.Replaced.IsZero()}
			if !ch.Rekeying && !i.Replaced {
				i.Rekey = ch.Soft
			}
			out = append(out, i)
		}
	}
	return out
}

// Conns lists all connections, also those that have no IPsec SA yet, by number.
func (e *Engine) Conns() []ConnInfo {
	cs := e.sortedConns()
	out := make([]ConnInfo, len(cs))
	for i, c := range cs {
		out[i] = c.Info
	}
	return out
}

// Conn returns one connection; false: there is none of that number.
func (e *Engine) Conn(id ConnID) (ConnInfo, bool) {
	c := e.conns[id]
	if c == nil {
		return ConnInfo{}, false
	}
	return c.Info, true
}

// Rules returns the IKE policy rules in force, highest priority first. The caller
// must not change them.
func (e *Engine) Rules() []PolicyRule { return e.cfg.Rules }

// Counters returns a copy of the counters: reasons of failures and drops, and
// what the Count constants name.
func (e *Engine) Counters() map[Reason]uint64 { return maps.Clone(e.counters) }

// sortedPhase1 lists all phase 1 SAs in a stable order.
func (e *Engine) sortedPhase1() []*phase1 {
	return e.phase1Where(func(*phase1) bool { return true })
}

// phase1Where lists those that pick names.
func (e *Engine) phase1Where(pick func(*phase1) bool) []*phase1 {
	var ps []*phase1
	for _, all := range []iter.Seq[*phase1]{maps.Values(e.sas), maps.Values(e.own)} {
		for p := range all {
			if pick(p) {
				ps = append(ps, p)
			}
		}
	}
	slices.SortFunc(ps, func(a, b *phase1) int {
		return cmp.Or(a.Remote.Compare(b.Remote), bytes.Compare(a.Cookies.I[:], b.Cookies.I[:]), bytes.Compare(a.Cookies.R[:], b.Cookies.R[:]))
	})
	return ps
}
