package ike

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"vrgate/controlplane/keymat"
)

// Defaults of a Config.
const (
	defaultPhase1Life   = 28800 * time.Second
	defaultChildLife    = 3600 * time.Second
	defaultMaxFragment  = 1280
	defaultRekeyMargin  = 90
	defaultRetryFirst   = 2 * time.Second
	defaultRetryMax     = 16 * time.Second
	defaultRetryTries   = 5
	defaultHalfOpen     = 16384
	defaultPerSource    = 512
	defaultHalfOpenLife = 30 * time.Second
)

// Fixed limits and times.
const (
	maxNamedKeys     = 16               // pre-shared keys for a named identity tried against one message 5
	maxOpenKeys      = 8                // and those for any identity
	maxKeyAttempts   = 4                // wrong messages 5 before a half-open SA is dropped
	maxQuicks        = 8                // quick modes at once in one phase 1 SA
	maxChildren      = 4                // pairs of ESP SAs of one connection (K8)
	maxPhase1PerConn = 4                // phase 1 SAs of one connection
	maxSeenQuick     = 512              // quick mode message ids remembered per phase 1 SA
	maxTunnels       = 16               // pairs of networks of one dynamic subscriber; Apple opens one per split-include
	maxBehind        = 32               // networks behind one dynamic subscriber; each allows one more pair
	maxSeenTrans     = 32               // transaction message ids remembered per phase 1 SA
	maxSeenInfo      = 16               // informational message ids remembered per phase 1 SA
	grace            = 60 * time.Second // of a connection without phase 2 SA (J9)
	overlap          = 60 * time.Second // an SA that has been replaced is deleted after it
	switchDelay      = 2 * time.Second  // after message 3 of a rekeying before we send by the new SA
	lateInbound      = 5 * time.Second  // an inbound SA the peer has deleted still takes stragglers
	staticDeletes    = 5                // times that the peer of a static tunnel is told that an ESP SA has been replaced
	answerKept       = 60 * time.Second // last answer of a finished exchange
	maxLife          = 100 * 365 * 24 * time.Hour
	minLife          = 30 * time.Second // of SAs; the peer's shorter ones count as this
	nattPort         = 4500
	ikePort          = 500
	// shortBlockKB bounds the volume under one key of a cipher with blocks of 64
	// bits to 1 GiB (Sweet32, CVE-2016-2183).
	shortBlockKB = 1 << 20
)

// withDefaults fills the zero values in and sorts the keys so that the most
// specific is tried first.
func (c Config) withDefaults() Config {
	c.ConnFirst = cmp.Or(c.ConnFirst, 1)
	c.ConnLast = cmp.Or(c.ConnLast, maxConnID)
	c.MaxFragment = cmp.Or(c.MaxFragment, defaultMaxFragment)
	c.RekeyMargin = cmp.Or(c.RekeyMargin, defaultRekeyMargin)
	c.Retransmit.First = cmp.Or(c.Retransmit.First, defaultRetryFirst)
	c.Retransmit.Max = cmp.Or(c.Retransmit.Max, defaultRetryMax)
	c.Retransmit.Tries = cmp.Or(c.Retransmit.Tries, defaultRetryTries)
	c.HalfOpen.Total = cmp.Or(c.HalfOpen.Total, defaultHalfOpen)
	c.HalfOpen.Resume = cmp.Or(c.HalfOpen.Resume, c.HalfOpen.Total*3/4)
	c.HalfOpen.PerSource = cmp.Or(c.HalfOpen.PerSource, defaultPerSource)
	c.HalfOpen.Timeout = cmp.Or(c.HalfOpen.Timeout, defaultHalfOpenLife)
	c.Keys, c.Statics = slices.Clone(c.Keys), slices.Clone(c.Statics)
	for i := range c.Statics {
		c.Statics[i].admission = nil // see bindAdmissions
		c.Statics[i].peer = newIDPattern(c.Statics[i].PeerID)
	}
	for i := range c.Keys {
		k := &c.Keys[i]
		if k.Static != "" {
			if k.static = c.static(k.Static); k.static != nil {
				k.ID = cmp.Or(k.ID, k.static.PeerID)
			}
		}
		k.id = newIDPattern(k.ID)
	}
	slices.SortStableFunc(c.Keys, func(a, b PresharedKey) int { return b.rank() - a.rank() })
	return c
}

// rank orders keys for trying: a longer peer prefix first, then those for a
// named identity, then those for a pattern of identities, then individual ones,
// group keys last. The key of a static tunnel whose peer has an address or an identity goes before the common ones for
// many addresses, with which that tunnel could not come up.
func (k PresharedKey) rank() int {
	r := 0
	switch {
	case k.Peer.IsValid():
		r += 16 + 16*k.Peer.Bits()
	case k.fixed(), k.static != nil && k.ID != "" && k.ID != anyText:
		r += 16 + 16*128
	}
	switch {
	case k.ID == "" || k.ID == anyText:
	case strings.Contains(k.ID, anyText):
		r += 4
	default:
		r += 8
	}
	if !k.Group {
		r += 2
	}
	if k.Local.IsValid() {
		r++
	}
	return r
}

// key returns the key of that name at a server address, nil if there is none. Names
// of group keys are unique at one address only.
func (c *Config) key(name string, local netip.Addr) *PresharedKey {
	for i := range c.Keys {
		if k := &c.Keys[i]; k.Name == name && k.at(local) {
			return k
		}
	}
	return nil
}

// transport returns the profile for a peer: one that names its address before
// one for any.
func (c *Config) transport(local, remote netip.Addr) *TransportProfile {
	var any *TransportProfile
	for i := range c.Transports {
		t := &c.Transports[i]
		switch {
		case t.Local != local:
		case t.Remote == remote:
			return t
		case any == nil && (!t.Remote.IsValid() || t.Remote.IsUnspecified()):
			any = t
		}
	}
	return any
}

// transportByName returns the named profile, nil if there is none.
func (c *Config) transportByName(name string) *TransportProfile {
	for i := range c.Transports {
		if c.Transports[i].Name == name {
			return &c.Transports[i]
		}
	}
	return nil
}

// retryAfter is the wait after the n-th transmission, n from 1.
func (r Retransmit) retryAfter(n int) time.Duration {
	d := r.First
	for ; n > 1 && d < r.Max; n-- {
		d *= 2
	}
	return min(d, r.Max)
}

// lifeOf converts a negotiated number of seconds without overflow; 2147483 s and
// 4294967295 s are both sent by clients.
func lifeOf(seconds uint64) time.Duration {
	if seconds > uint64(maxLife/time.Second) {
		return maxLife
	}
	return time.Duration(seconds) * time.Second
}

// strength orders groups for PFS: K9 makes the configured group a minimum.
func strength(g keymat.Group) int {
	switch g {
	case keymat.MODP768:
		return 1
	case keymat.MODP1024:
		return 2
	case keymat.MODP1536:
		return 3
	case keymat.MODP2048:
		return 4
	case keymat.ECP256, keymat.Curve25519, keymat.MODP3072:
		return 5
	case keymat.MODP4096:
		return 6
	case keymat.ECP384:
		return 7
	case keymat.ECP521:
		return 8
	}
	return 0
}
