package ike

import (
	"bytes"
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Phase1Info is one line of the table of phase 1 SAs.
type Phase1Info struct {
	Local, Remote            netip.AddrPort
	LocalCookie, PeerCookie  string // hexadecimal
	Initiator                bool
	State                    State
	Conn                     ConnID        // 0 while half open
	Remaining                time.Duration // lifetime left; of a half-open SA until it is given up
	Encryption, Hash, Group  string        // "" before they are negotiated
	Rule, Key, PeerID, Peer  string
	NATT                     string // version of NAT traversal, "none" without
	NATPeer, NATLocal, Encap bool
	Replaced                 bool // a newer SA has taken over
}

// ChildInfo is one pair of ESP SAs.
type ChildInfo struct {
	Conn          ConnID
	InSPI, OutSPI uint32
	Local, Remote netip.AddrPort
	Encap         bool
	ESP           string
	Profile       string
	Selectors     string        // "192.0.2.1[17/1701] <-> 10.0.0.5[17/1701]"
	Remaining     time.Duration // until the hard lifetime
	Rekey         time.Duration // until we replace it, 0 if that is under way or not ours
	LifeKB        uint64        // hard limit of volume, 0 none
	Installed     bool          // both directions
	Replaced      bool
}

// Phase1SAs lists all phase 1 SAs, half-open ones included, by remote address.
func (e *Engine) Phase1SAs() []Phase1Info {
	ps := e.sortedPhase1()
	out := make([]Phase1Info, 0, len(ps))
	for _, p := range ps {
		i := Phase1Info{Local: p.Local, Remote: p.Remote, Initiator: p.Initiator, State: p.State, Conn: p.Conn,
			LocalCookie: p.Cookies.R.String(), PeerCookie: p.Cookies.I.String(),
			Rule: p.Rule, Key: p.KeyName, Peer: p.Vendor.Name, NATT: p.Vendor.NATT.String(),
			NATPeer: p.NATPeer, NATLocal: p.NATLocal, Encap: p.encap(), Replaced: !p.Replaced.IsZero()}
		if p.Initiator {
			i.LocalCookie, i.PeerCookie = i.PeerCookie, i.LocalCookie
		}
		if p.PeerID != nil {
			i.PeerID = describe(p.PeerID)
		}
		if p.Group != 0 {
			i.Encryption, i.Hash, i.Group = cipherWords(p.Suite), p.Suite.Hash.String(), p.Group.String()
		}
		end := p.Expires
		if p.neg != nil {
			end = p.neg.Expires
		}
		if !end.IsZero() {
			i.Remaining = max(0, end.Sub(e.now))
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
			i := ChildInfo{Conn: c.Info.ID, InSPI: ch.In.SPI, OutSPI: ch.Out.SPI, Local: ch.In.Local, Remote: ch.In.Remote, Encap: ch.In.Encap,
				ESP: espWords(ch.Proposal, ch.PFS), Profile: ch.Profile, Selectors: selectorWords(ch.LocalID) + " <-> " + selectorWords(ch.RemoteID),
				Remaining: max(0, ch.Hard.Sub(e.now)), LifeKB: ch.In.HardKB, Installed: ch.ready(), Replaced: !ch.Replaced.IsZero()}
			if !ch.Rekeying && !i.Replaced {
				i.Rekey = max(0, ch.Soft.Sub(e.now))
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

// Counters returns a copy of the counters: reasons of failures and drops, and
// what the Count constants name.
func (e *Engine) Counters() map[Reason]uint64 { return maps.Clone(e.counters) }

// sortedPhase1 lists all phase 1 SAs in a stable order.
func (e *Engine) sortedPhase1() []*phase1 {
	ps := make([]*phase1, 0, len(e.sas)+len(e.own))
	for _, p := range e.sas {
		ps = append(ps, p)
	}
	for _, p := range e.own {
		ps = append(ps, p)
	}
	slices.SortFunc(ps, func(a, b *phase1) int {
		return cmp.Or(a.Remote.Compare(b.Remote), bytes.Compare(a.Cookies.I[:], b.Cookies.I[:]), bytes.Compare(a.Cookies.R[:], b.Cookies.R[:]))
	})
	return ps
}
