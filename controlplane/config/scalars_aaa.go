package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
)

// host is the IPv4 or IPv6 address of a host; tag any:"true" allows 0.0.0.0 and ::.
type host struct{ leaf[netip.Addr] }

func (h *host) parse(word string, tag reflect.StructTag) error {
	if strings.Contains(word, "/") {
		return errors.New("must be a single address, not a prefix")
	}
	v, err := netip.ParseAddr(word)
	switch {
	case err != nil:
		return errors.New("must be an IPv4 or IPv6 address")
	case v.Zone() != "":
		return errors.New("must be an address without zone")
	case v.Is4In6():
		return fmt.Errorf("must be written as IPv4 address: %v", v.Unmap())
	case v.IsUnspecified() && tag.Get("any") == "true":
	case v.Is4() && !hostAddress(v), v.IsUnspecified(), v.IsMulticast():
		return errors.New("must be the address of a host")
	}
	h.v = v
	return nil
}

// Bounds of rates in bits per second. The kernel counts whole bytes.
const (
	minRate = 8000
	maxRate = 100_000_000_000
)

// rate is bits per second, with k, M or G for powers of 1000; 0 is no limit.
type rate struct{ leaf[uint64] }

func (r *rate) parse(word string, _ reflect.StructTag) error {
	wrong := errors.New("must be a rate in bits per second such as 512k, 10M or 1G, 8k to 100G or 0 (no limit)")
	digits, unit := word, uint64(1)
	if n := len(word); n > 0 {
		if power, ok := map[byte]uint64{'k': 1e3, 'M': 1e6, 'G': 1e9}[word[n-1]]; ok {
			digits, unit = word[:n-1], power
		}
	}
	v, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || strconv.FormatUint(v, 10) != digits || v > maxRate/unit || v != 0 && v*unit < minRate {
		return wrong
	}
	r.v = v * unit
	return nil
}

// maxDelimiters is the number of delimiters of one kind (R1).
const maxDelimiters = 8

// delimiters are characters that separate the parts of a user name.
type delimiters struct{ leaf[string] }

func (d *delimiters) parse(word string, _ reflect.StructTag) error {
	if len(word) > maxDelimiters {
		return fmt.Errorf("must be at most %d characters", maxDelimiters)
	}
	for i := range len(word) {
		c := word[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if c <= ' ' || c > '~' || letter {
			return errors.New("must consist of visible ASCII characters that are no letters or digits")
		}
		if strings.IndexByte(word, c) < i {
			return fmt.Errorf("has %q twice", c)
		}
	}
	d.v = word
	return nil
}

// domainText is the domain of a user name, its ASCII letters in lower case. It need not be a domain name: users
// type what they like behind the delimiter.
type domainText struct{ leaf[string] }

func (d *domainText) parse(word string, _ reflect.StructTag) error {
	if err := checkLen(word, "", "1..253"); err != nil {
		return err
	}
	if err := printable(word); err != nil {
		return err
	}
	d.v = lowerASCII(word)
	return nil
}

// lowerASCII is what AAA does to the domain of a user name, which may be any bytes.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// protocolNames are the IP protocols that have a word.
var protocolNames = names[ipProtocol]{{1, "icmp"}, {4, "ipip"}, {6, "tcp"}, {17, "udp"}, {47, "gre"}, {50, "esp"}, {51, "ah"}, {132, "sctp"}}

// ipProtocol is an IP protocol's number.
type ipProtocol uint8

func (p ipProtocol) hasPorts() bool { return p == 6 || p == 17 || p == 132 }

// protocol is an IP protocol by word or number; tag zero:"any" allows 0 and "any" besides.
type protocol struct{ leaf[ipProtocol] }

func (p *protocol) parse(word string, tag reflect.StructTag) error {
	if tag.Get("zero") != "" && (word == "0" || word == tag.Get("zero")) {
		p.v = 0
		return nil
	}
	if v, ok := protocolNames.value(word); ok {
		p.v = v
		return nil
	}
	v, err := strconv.ParseUint(word, 10, 8)
	if err != nil || v == 0 || strconv.FormatUint(v, 10) != word {
		return fmt.Errorf("must be a number, 1 to 255, or %s", orList(protocolNames.words()))
	}
	p.v = ipProtocol(v)
	return nil
}

// portRange is an inclusive range of ports.
type portRange struct{ first, last uint16 }

// ports is a port or a range of ports.
type ports struct{ leaf[portRange] }

func (p *ports) parse(word string, _ reflect.StructTag) error {
	wrong := errors.New("must be a port such as 443 or a range such as 8000-8099, 1 to 65535")
	first, last, two := strings.Cut(word, "-")
	if !two {
		last = first
	}
	a, errA := strconv.ParseUint(first, 10, 16)
	b, errB := strconv.ParseUint(last, 10, 16)
	if errA != nil || errB != nil || a == 0 || strconv.FormatUint(a, 10) != first || strconv.FormatUint(b, 10) != last {
		return wrong
	}
	if b < a {
		return errors.New("its last port comes before its first")
	}
	p.v = portRange{uint16(a), uint16(b)}
	return nil
}

// netmask is an IPv4 netmask.
type netmask struct{ leaf[netip.Addr] }

func (m *netmask) parse(word string, _ reflect.StructTag) error {
	v, err := netip.ParseAddr(word)
	if err != nil || !v.Is4() || v.IsUnspecified() {
		return errors.New("must be a netmask such as 255.255.255.0")
	}
	if n := number4(v); ^n&(^n+1) != 0 {
		return errors.New("must be a netmask whose bits are set from the left without a gap")
	}
	m.v = v
	return nil
}

func (AAAMethod) table() names[AAAMethod]           { return aaaMethodNames }
func (ParseOrder) table() names[ParseOrder]         { return parseOrderNames }
func (ParseDirection) table() names[ParseDirection] { return parseDirectionNames }
func (UnknownPolicy) table() names[UnknownPolicy]   { return unknownPolicyNames }
func (Strategy) table() names[Strategy]             { return strategyNames }
func (WhenReached) table() names[WhenReached]       { return whenReachedNames }
func (SessionLimit) table() names[SessionLimit]     { return sessionLimitNames }
func (Action) table() names[Action]                 { return actionNames }
