package ike

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"vrgate/controlplane/isakmp"
)

// maxRDNs bounds the parts of a distinguished name, ours or a peer's.
const maxRDNs = 32

// dnAttributes are the short names of RFC 4514 section 3 and of what
// certificates of VPN peers carry beside.
var dnAttributes = []struct {
	name string
	oid  asn1.ObjectIdentifier
	ia5  bool // encoded as IA5String
}{
	{"CN", asn1.ObjectIdentifier{2, 5, 4, 3}, false},
	{"SN", asn1.ObjectIdentifier{2, 5, 4, 4}, false},
	{"SERIALNUMBER", asn1.ObjectIdentifier{2, 5, 4, 5}, false},
	{"C", asn1.ObjectIdentifier{2, 5, 4, 6}, false},
	{"L", asn1.ObjectIdentifier{2, 5, 4, 7}, false},
	{"ST", asn1.ObjectIdentifier{2, 5, 4, 8}, false},
	{"STREET", asn1.ObjectIdentifier{2, 5, 4, 9}, false},
	{"O", asn1.ObjectIdentifier{2, 5, 4, 10}, false},
	{"OU", asn1.ObjectIdentifier{2, 5, 4, 11}, false},
	{"T", asn1.ObjectIdentifier{2, 5, 4, 12}, false},
	{"GN", asn1.ObjectIdentifier{2, 5, 4, 42}, false},
	{"UID", asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, false},
	{"DC", asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, true},
	{"E", asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, true},
}

// dnAliases are other spellings of the same attributes.
var dnAliases = map[string]string{"EMAIL": "E", "EMAILADDRESS": "E", "S": "ST", "GIVENNAME": "GN", "SURNAME": "SN", "TITLE": "T",
	"COMMONNAME": "CN", "ORGANIZATION": "O", "COUNTRY": "C"}

// dnPart is one attribute of a distinguished name.
type dnPart struct {
	oid   asn1.ObjectIdentifier
	value string
	text  bool // the value is text; others never match
	more  bool // belongs to the same RDN as the part before it
}

// turned is a name with its RDNs in the other order. RFC 4514 writes the last one
// first; openssl and strongSwan print them as they come ("C=CH, O=Example,
// CN=x"), and that is what people copy.
func turned(parts []dnPart) []dnPart {
	out := make([]dnPart, 0, len(parts))
	for to := len(parts); to > 0; {
		from := to - 1
		for parts[from].more {
			from--
		}
		out = append(out, parts[from:to]...)
		to = from
	}
	return out
}

// sameSequence compares names RDN by RDN.
func sameSequence(parts, got []dnPart) bool {
	for from := 0; from < len(parts); {
		to := from + 1
		for to < len(parts) && parts[to].more {
			to++
		}
		if !sameSet(parts[from:to], got[from:to]) || to < len(got) && got[to].more {
			return false
		}
		from = to
	}
	return true
}

// sameSet compares one RDN with another; the values are folded. The attributes of a set have
// no order.
func sameSet(want, got []dnPart) bool {
	var used [maxRDNs]bool
	for _, w := range want {
		i := slices.IndexFunc(got, func(g dnPart) bool { return g.text && g.oid.Equal(w.oid) && wildcard(w.value, g.value) })
		if i < 0 || used[i] || i > 0 != got[i].more {
			return false
		}
		used[i] = true
	}
	return true
}

// fold prepares a value for comparison without regard to case and to the number
// of blanks (RFC 4518 section 2.6.1).
func fold(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }

// folded folds all values.
func folded(parts []dnPart) []dnPart {
	out := make([]dnPart, len(parts))
	for i, p := range parts {
		p.value = fold(p.value)
		out[i] = p
	}
	return out
}

// parseDN reads a distinguished name as RFC 4514 writes it.
func parseDN(s string) ([]dnPart, error) {
	var out []dnPart
	more := false
	for rest, end := s, false; !end; {
		if len(out) == maxRDNs {
			return nil, fmt.Errorf("a distinguished name of more than %d parts", maxRDNs)
		}
		name, after, ok := strings.Cut(rest, "=")
		if !ok {
			return nil, fmt.Errorf("%q of a distinguished name has no value", rest)
		}
		oid, err := dnAttribute(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		value, sep, tail, err := cutValue(after)
		if err != nil {
			return nil, err
		}
		out = append(out, dnPart{oid: oid, value: value, text: true, more: more})
		rest, end, more = tail, sep == 0, sep == '+'
	}
	return out, nil
}

// dnAttribute is the object identifier of a short name, or of its numbers.
func dnAttribute(name string) (asn1.ObjectIdentifier, error) {
	upper := strings.ToUpper(name)
	if a, ok := dnAliases[upper]; ok {
		upper = a
	}
	for _, a := range dnAttributes {
		if a.name == upper {
			return a.oid, nil
		}
	}
	var oid asn1.ObjectIdentifier
	for _, n := range strings.Split(name, ".") {
		v, err := strconv.ParseUint(n, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("%q is no attribute of a distinguished name", name)
		}
		oid = append(oid, int(v))
	}
	if _, err := asn1.Marshal(oid); err != nil {
		return nil, fmt.Errorf("%q is no attribute of a distinguished name", name)
	}
	return oid, nil
}

// cutValue reads an attribute's value up to the separator behind it, 0 at the
// end. Blanks around it do not belong to it unless they are escaped.
func cutValue(s string) (value string, sep byte, rest string, err error) {
	var b strings.Builder
	keep := 0 // up to where blanks are the value's own
	i := 0
	for ; i < len(s) && s[i] == ' '; i++ {
	}
	for ; i < len(s); i++ {
		switch c := s[i]; c {
		case ',', ';', '+':
			return trimmed(&b, keep), c, s[i+1:], checkText(&b)
		case '\\':
			if i+1 == len(s) {
				return "", 0, "", fmt.Errorf("a distinguished name ends with a backslash")
			}
			if x, err := hex.DecodeString(s[i+1 : min(i+3, len(s))]); err == nil && len(x) == 1 {
				b.WriteByte(x[0])
				i += 2
			} else {
				b.WriteByte(s[i+1])
				i++
			}
			keep = b.Len()
		default:
			b.WriteByte(c)
		}
	}
	return trimmed(&b, keep), 0, "", checkText(&b)
}

// trimmed is the text without the blanks behind what must be kept.
func trimmed(b *strings.Builder, keep int) string {
	s := b.String()
	return s[:keep] + strings.TrimRight(s[keep:], " ")
}

func checkText(b *strings.Builder) error {
	if !utf8.ValidString(b.String()) {
		return fmt.Errorf("a distinguished name is not UTF-8")
	}
	return nil
}

// encodeDN is the DER of a distinguished name, nil if it cannot be encoded.
func encodeDN(parts []dnPart) []byte {
	var seq pkix.RDNSequence
	for i := len(parts) - 1; i >= 0; {
		first := i
		for first > 0 && parts[first].more {
			first--
		}
		var set pkix.RelativeDistinguishedNameSET
		for _, p := range parts[first : i+1] {
			set = append(set, pkix.AttributeTypeAndValue{Type: p.oid, Value: dnValue(p)})
		}
		seq = append(seq, set)
		i = first - 1
	}
	b, err := asn1.Marshal(seq)
	if err != nil {
		return nil
	}
	return b
}

// dnValue gives a value the string type that certificates use.
func dnValue(p dnPart) any {
	for _, a := range dnAttributes {
		if a.ia5 && a.oid.Equal(p.oid) {
			return asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(p.value)}
		}
	}
	return p.value
}

// decodeDN reads the DER of a distinguished name. Values that are no text are
// kept as such.
func decodeDN(der []byte) ([]dnPart, error) {
	if len(der) > isakmp.MaxIDLen {
		return nil, fmt.Errorf("a distinguished name of %d bytes", len(der))
	}
	var seq pkix.RDNSequence
	rest, err := asn1.Unmarshal(der, &seq)
	if err != nil {
		return nil, fmt.Errorf("a distinguished name that is no DER: %w", err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes behind a distinguished name", len(rest))
	}
	var out []dnPart
	for i := len(seq) - 1; i >= 0; i-- {
		for j, a := range seq[i] {
			if len(out) == maxRDNs {
				return nil, fmt.Errorf("a distinguished name of more than %d parts", maxRDNs)
			}
			s, ok := a.Value.(string)
			out = append(out, dnPart{oid: a.Type, value: s, text: ok, more: j > 0})
		}
	}
	return out, nil
}

// formatDN writes a distinguished name as parseDN reads it.
func formatDN(parts []dnPart) string {
	var b strings.Builder
	for i, p := range parts {
		switch {
		case p.more:
			b.WriteByte('+')
		case i > 0:
			b.WriteByte(',')
		}
		name := p.oid.String()
		for _, a := range dnAttributes {
			if a.oid.Equal(p.oid) {
				name = a.name
			}
		}
		b.WriteString(name + "=")
		if !p.text {
			b.WriteString("(no text)")
			continue
		}
		for j, c := range []byte(p.value) {
			switch {
			case strings.IndexByte(",;+\\", c) >= 0, c == ' ' && (j == 0 || j == len(p.value)-1):
				b.WriteByte('\\')
			}
			b.WriteByte(c)
		}
	}
	return b.String()
}
