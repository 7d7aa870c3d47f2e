package radius

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	rad "layeh.com/radius"
)

// value is one attribute that is in the table, with a value that its kind allows.
type value struct {
	attribute Attribute
	vital     bool
	octets    []byte // as it came
	text      string // text, tagText: without tag and terminating zeros
	number    uint32 // integer, tagInteger: without tag
	tag       uint8  // tagText, tagInteger: 0 if there is none
	address   netip.Addr
	prefix    netip.Prefix
}

// String says which attribute has which value, for the sentences of refusals.
func (v value) String() string {
	switch {
	case v.address.IsValid():
		return fmt.Sprintf("%s %s", v.attribute, v.address)
	case v.prefix.IsValid():
		return fmt.Sprintf("%s %s", v.attribute, v.prefix)
	case v.text != "":
		return fmt.Sprintf("%s %q", v.attribute, v.text)
	}
	return fmt.Sprintf("%s %d", v.attribute, v.number)
}

// Problem is what there is to say about an attribute that was not used.
type Problem string

// The problems.
const (
	ProblemUnknown    Problem = "unknown"     // not in the table
	ProblemBadValue   Problem = "bad-value"   // a length, range or grammar is wrong
	ProblemSurplus    Problem = "surplus"     // one too many of its kind
	ProblemUnused     Problem = "unused"      // known, but there is nothing that it could do here
	ProblemNotAllowed Problem = "not-allowed" // this server may not say that (R6)
	ProblemBroken     Problem = "broken"      // a Vendor-Specific whose parts do not fit into it
)

// Finding is an attribute of an answer that was not used, and why. It is counted and does no harm.
type Finding struct {
	Attribute Attribute
	Problem   Problem
}

// String returns a line for the operator.
func (f Finding) String() string { return fmt.Sprintf("%s: %s", f.Attribute, f.Problem) }

// Findings counts them. Beyond [MaxFindings] different ones, all that are new are counted as one with the zero
// Attribute, because servers can send any number of attributes. The zero value is ready, and safe for concurrent use.
type Findings struct {
	mu     sync.Mutex
	counts map[Finding]uint64
}

// MaxFindings bounds the findings that are counted each on its own.
const MaxFindings = 256

func (c *Findings) add(found []Finding) {
	if len(found) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[Finding]uint64{}
	}
	for _, f := range found {
		if _, ok := c.counts[f]; !ok && len(c.counts) >= MaxFindings {
			f = Finding{Problem: ProblemUnknown}
		}
		c.counts[f]++
	}
}

// FindingCount is how often something was found.
type FindingCount struct {
	Finding
	Count uint64
}

// Counts lists what has been found, by attribute and problem.
func (c *Findings) Counts() []FindingCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]FindingCount, 0, len(c.counts))
	for f, n := range c.counts {
		out = append(out, FindingCount{f, n})
	}
	slices.SortFunc(out, func(a, b FindingCount) int {
		if c := a.Attribute.compare(b.Attribute); c != 0 {
			return c
		}
		return strings.Compare(string(a.Problem), string(b.Problem))
	})
	return out
}

// reading is what a list of attributes says.
type reading struct {
	values []value
	found  []Finding
	// unreadable names the vital attributes that cannot be read.
	unreadable []Attribute
}

func (r *reading) find(a Attribute, p Problem) { r.found = append(r.found, Finding{a, p}) }

// read takes the attributes of a packet apart. One packet of 4096 bytes bounds what there can be of them.
func read(attributes rad.Attributes) reading {
	var r reading
	for _, a := range attributes {
		switch {
		case a == nil || a.Type <= 0 || a.Type > 255:
			r.find(Attribute{}, ProblemUnknown)
		case a.Type == typeVendorSpecific:
			r.vendorSpecific(a.Attribute)
		default:
			r.one(Attribute{Type: uint8(a.Type)}, a.Attribute)
		}
	}
	return r
}

// vendorSpecific takes one Vendor-Specific apart, which may hold several attributes of its vendor (RFC 2865 section
// 5.26). What came before a broken part counts.
func (r *reading) vendorSpecific(b []byte) {
	if len(b) < 4 || b[0] != 0 {
		r.find(Attribute{Type: typeVendorSpecific}, ProblemBroken)
		return
	}
	vendor, b := binary.BigEndian.Uint32(b), b[4:]
	if !vendors[vendor] {
		r.find(Attribute{Vendor: vendor}, ProblemUnknown)
		return
	}
	if len(b) == 0 {
		r.find(Attribute{Vendor: vendor}, ProblemBroken)
	}
	for len(b) > 0 {
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			r.find(Attribute{Vendor: vendor}, ProblemBroken)
			return
		}
		r.one(Attribute{vendor, b[0]}, b[2:b[1]])
		b = b[b[1]:]
	}
}

func (r *reading) one(a Attribute, b []byte) {
	d := table[a]
	if d == nil {
		r.find(a, ProblemUnknown)
		return
	}
	v, ok := d.decode(b)
	if !ok {
		r.find(a, ProblemBadValue)
		if d.vital {
			r.unreadable = append(r.unreadable, a)
		}
		return
	}
	r.values = append(r.values, v)
}

// maxTag is the highest tag of RFC 2868; what is above it in the first byte of a text is text.
const maxTag = 0x1f

// decode reads a value; false if its length or encoding is not that of its kind.
func (d *definition) decode(b []byte) (value, bool) {
	if l := lengths[d.kind]; len(b) < l.min || len(b) > l.max {
		return value{}, false
	}
	v := value{attribute: d.attribute, vital: d.vital, octets: b}
	switch d.kind {
	case octets:
		return v, true
	case integer:
		v.number = binary.BigEndian.Uint32(b)
		return v, true
	case tagInteger:
		v.number = binary.BigEndian.Uint32(b)
		if b[0] <= maxTag {
			v.tag, v.number = b[0], v.number&0xffffff
		}
		return v, true
	case address, address6:
		v.address, _ = netip.AddrFromSlice(b)
		return v, true
	case prefix6:
		return v, v.readPrefix(b)
	case tagText:
		if b[0] <= maxTag {
			v.tag, b = b[0], b[1:]
		}
	}
	// Some servers send the zero that ends their strings.
	v.text = strings.TrimRight(string(b), "\x00")
	return v, v.text != "" && utf8.ValidString(v.text)
}

// readPrefix reads what RFC 3162 section 2.3 draws: reserved, length in bits, as many bytes of the prefix as the
// server likes. Bits beyond the length are cleared, although they must be zero already.
func (v *value) readPrefix(b []byte) bool {
	var a [16]byte
	bits := int(b[1])
	if bits > 128 || (len(b)-2)*8 < bits {
		return false
	}
	copy(a[:], b[2:])
	v.prefix = netip.PrefixFrom(netip.AddrFrom16(a), bits).Masked()
	return true
}

// printable says whether s can be a name: no control characters.
func printable(s string) bool {
	return !strings.ContainsFunc(s, control)
}

func control(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }

// shown is a server's text for a user's screen or a log: bytes that are no characters are replaced, control characters
// other than newlines left out, and the ends trimmed.
func shown(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r != '\n' && control(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?")))
}
