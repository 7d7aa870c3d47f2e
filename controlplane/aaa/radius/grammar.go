package radius

import (
	"math"
	"net/netip"
	"strconv"
	"strings"

	"vrgate/controlplane/aaa"
)

// parseRoute reads a Framed-Route (R8; RFC 2865 section 5.22):
//
//	addr[/len] [nexthop [cost]] [tag N] [distance N]
//
// The network is behind the subscriber whatever the next hop is, so that is checked and forgotten. Without length the
// class of the address has it, as the RFC says, if nothing is set beyond it; else it is a host. A mask in the place of
// the length and the further metrics of the RFC's example are taken too. The distance is the metric where there is no
// cost. A default route, whose address is 0, is refused: it would take that of the whole virtual router.
func parseRoute(s string) (aaa.Route, bool) {
	words := strings.Fields(s)
	if len(words) == 0 {
		return aaa.Route{}, false
	}
	var r aaa.Route
	var ok bool
	if r.Prefix, ok = parseNetwork(words[0], classLength); !ok || !unicast(r.Prefix.Addr()) {
		return aaa.Route{}, false
	}
	words = words[1:]
	if len(words) > 0 {
		if hop, err := netip.ParseAddr(words[0]); err == nil {
			if !unicast(hop) && hop != netip.IPv4Unspecified() {
				return aaa.Route{}, false
			}
			words = words[1:]
			for first := true; len(words) > 0; first = false {
				n, err := strconv.ParseInt(words[0], 10, 64)
				if err != nil {
					break
				}
				if n < -1 || n > math.MaxUint32 || first && n < 0 {
					return aaa.Route{}, false
				}
				if first {
					r.Metric = uint32(n)
				}
				words = words[1:]
			}
		}
	}
	var distance uint32
	for ; len(words) >= 2; words = words[2:] {
		n, err := strconv.ParseUint(words[1], 10, 32)
		if err != nil {
			return aaa.Route{}, false
		}
		switch {
		case strings.EqualFold(words[0], "tag"):
			r.Tag = uint32(n)
		case strings.EqualFold(words[0], "distance") && n <= 255:
			distance = uint32(n)
		default:
			return aaa.Route{}, false
		}
	}
	if r.Metric == 0 {
		r.Metric = distance
	}
	return r, len(words) == 0
}

// parseNetwork reads an IPv4 network: addr, addr/len or addr/mask. Bits beyond the length are cleared. bare says how
// long an address alone is.
func parseNetwork(s string, bare func(netip.Addr) int) (netip.Prefix, bool) {
	host, length, given := strings.Cut(s, "/")
	a, err := netip.ParseAddr(host)
	if err != nil || !a.Is4() {
		return netip.Prefix{}, false
	}
	bits := 0
	if !given {
		bits = bare(a)
	} else if n, err := strconv.ParseUint(length, 10, 8); err == nil {
		bits = int(n)
	} else if mask, err := netip.ParseAddr(length); err != nil || !mask.Is4() {
		return netip.Prefix{}, false
	} else if bits = maskBits(mask); bits < 0 {
		return netip.Prefix{}, false
	}
	p, err := a.Prefix(bits)
	return p, err == nil
}

// classLength is the prefix length of a network without one (RFC 2865 section 5.22).
func classLength(a netip.Addr) int {
	bits := 32
	switch b := a.As4(); {
	case b[0] < 128:
		bits = 8
	case b[0] < 192:
		bits = 16
	case b[0] < 224:
		bits = 24
	}
	if p, err := a.Prefix(bits); err != nil || p.Addr() != a {
		return 32
	}
	return bits
}

func hostLength(netip.Addr) int { return 32 }

// maskBits is the length of an IPv4 mask, -1 if its bits are not in one piece.
func maskBits(mask netip.Addr) int {
	b := mask.As4()
	bits, over := 0, false
	for i := range 32 {
		set := b[i/8]&(0x80>>(i%8)) != 0
		if set && over {
			return -1
		}
		if set {
			bits++
		}
		over = over || !set
	}
	return bits
}

// unicast says whether a can be the IPv4 address of one host of somebody.
func unicast(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	b := a.As4()
	return b[0] != 0 && b[0] != 127 && b[0] < 224
}

// parseNetworks reads the networks of split tunnelling, separated by commas: "10.1.0.0/16, 10.2.0.0/255.255.0.0", as
// strongSwan's eap-radius reads them (an address alone is a host), or with the mask after a space, as Cisco's
// configuration has it. bad says that there was something else; what could be read counts nevertheless.
func parseNetworks(s string) (networks []netip.Prefix, bad bool) {
	for part := range strings.SplitSeq(s, ",") {
		words := strings.Fields(part)
		if len(words) == 0 {
			continue
		}
		n, ok := parseNetwork(strings.Join(words, "/"), hostLength)
		if !ok || len(words) > 2 {
			bad = true
			continue
		}
		networks = append(networks, n)
	}
	return networks, bad || len(networks) == 0
}

// rate is a bandwidth in one direction.
type rate struct {
	bits  uint64 // per second, 0: no limit
	burst uint32 // bytes, 0: what suits the rate
}

// The bounds of rates, in bits per second, and of bursts, in bytes. What is beyond is brought back.
const (
	minRate  = 8000
	maxRate  = 100_000_000_000
	minBurst = 1500
	maxBurst = 1_000_000_000
)

// limitRate brings a rate in bits per second into its range; 0 stays no limit.
func limitRate(bits uint64) uint64 {
	if bits == 0 {
		return 0
	}
	return min(max(bits, minRate), maxRate)
}

// parseRateLimit reads Mikrotik-Rate-Limit, in which rx is what the router receives, so from the subscriber:
//
//	rx[/tx] [burst-rx[/tx] [threshold-rx[/tx] [time-rx[/tx] [priority] [min-rx[/tx]]]]]
//
// Rates are bits per second with k for 1000, M and G; without tx both are the same. MikroTik's burst lasts as long as
// the average over the burst time is below the threshold. Of that a token bucket has the volume: threshold times burst
// time (default: the rate, and one second). Priority and minimum mean nothing here.
func parseRateLimit(s string) (in, out rate, ok bool) {
	words := strings.Fields(s)
	if len(words) == 0 || len(words) > 6 {
		return rate{}, rate{}, false
	}
	var v [6][2]uint64
	for i, w := range words {
		rx, tx, both := strings.Cut(w, "/")
		if !both {
			tx = rx
		}
		for j, word := range [2]string{rx, tx} {
			if v[i][j], ok = parseNumber(word, i == 3); !ok {
				return rate{}, rate{}, false
			}
		}
	}
	one := func(j int) rate {
		r := rate{bits: limitRate(v[0][j])}
		if v[1][j] <= v[0][j] || r.bits == 0 {
			return r
		}
		threshold, seconds := v[2][j], v[3][j]
		if threshold == 0 {
			threshold = v[0][j]
		}
		if seconds == 0 {
			seconds = 1
		}
		r.burst = uint32(min(max(threshold/8*min(seconds, 3600), minBurst), maxBurst))
		return r
	}
	return one(0), one(1), true
}

// parseNumber reads digits with k, M or G behind them, or with s where it is a time; at most maxRate.
func parseNumber(s string, seconds bool) (uint64, bool) {
	unit := uint64(1)
	if n := len(s); n > 0 {
		switch c := s[n-1]; {
		case seconds && c == 's':
			s = s[:n-1]
		case seconds:
		case c == 'k' || c == 'K':
			unit, s = 1e3, s[:n-1]
		case c == 'm' || c == 'M':
			unit, s = 1e6, s[:n-1]
		case c == 'g' || c == 'G':
			unit, s = 1e9, s[:n-1]
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > maxRate/unit {
		return 0, false
	}
	return n * unit, true
}
