package ike

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// Identities of phase 1 (RFC 2407 section 4.6.2), in configuration and in logs:
//
//	192.0.2.1, 2001:db8::1     IPV4_ADDR, IPV6_ADDR
//	@vpn.example.net           FQDN
//	user@example.net           USER_FQDN
//	dn:CN=x,O=y                DER_ASN1_DN, written as in RFC 4514: the last part of the encoding first
//	keyid:office, office       KEY_ID: what Cisco's clients call a group name
//
// In what a peer is compared with, "*" stands for any text within a part; "dn:*" is
// any distinguished name and "*" alone any identity at all.
const (
	prefixDN    = "dn:"
	prefixKeyID = "keyid:"
	anyText     = "*"
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

// CheckID tells what is wrong with an identity in the syntax of PresharedKey.ID,
// as nothing but a distinguished name can be: an attribute without a name, a
// name that is neither known nor an object identifier, or too many parts.
func CheckID(s string) error {
	if s == prefixDN+anyText || !strings.HasPrefix(s, prefixDN) {
		return nil
	}
	_, err := parseDN(s[len(prefixDN):])
	return err
}

// parseID reads the syntax above. A distinguished name that cannot be read has
// no data, so that it is nobody's; see CheckID.
func parseID(s string) isakmp.ID {
	switch {
	case strings.HasPrefix(s, prefixDN):
		id := isakmp.ID{Type: isakmp.IDDERDN}
		if parts, err := parseDN(s[len(prefixDN):]); err == nil {
			id.Data = encodeDN(parts)
		}
		return id
	case strings.HasPrefix(s, prefixKeyID):
		return isakmp.TextID(isakmp.IDKeyID, s[len(prefixKeyID):])
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return isakmp.AddrID(a, 0, 0)
	}
	switch at := strings.IndexByte(s, '@'); {
	case at == 0:
		return isakmp.TextID(isakmp.IDFQDN, s[1:])
	case at > 0:
		return isakmp.TextID(isakmp.IDUserFQDN, s)
	}
	return isakmp.TextID(isakmp.IDKeyID, s)
}

// idMatches tells whether an identity is one that want names; an empty want is
// any. Names compare without case, as DNS does, and so do the values of
// distinguished names; key ids compare as they are. The parts of a distinguished
// name must be those of want, in its order.
func idMatches(want string, id isakmp.ID) bool {
	if want == "" || want == anyText {
		return true
	}
	if strings.HasPrefix(want, prefixDN) {
		return id.Type == isakmp.IDDERDN && dnMatches(want[len(prefixDN):], id.Data)
	}
	w := parseID(want)
	if w.Type != id.Type {
		return false
	}
	switch w.Type {
	case isakmp.IDFQDN, isakmp.IDUserFQDN:
		return wildcard(strings.ToLower(string(w.Data)), strings.ToLower(string(id.Data)))
	case isakmp.IDKeyID:
		return wildcard(string(w.Data), string(id.Data))
	}
	return string(w.Data) == string(id.Data)
}

// wildcard tells whether text is pattern with any text for each "*". The time is
// bounded by the product of their lengths.
func wildcard(pattern, text string) bool {
	star, mark := -1, 0
	p, t := 0, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && pattern[p] == text[t]:
			p, t = p+1, t+1
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], anyText) == ""
}

// dnMatches compares a distinguished name in DER with one in text.
func dnMatches(want string, der []byte) bool {
	got, err := decodeDN(der)
	if err != nil {
		return false
	}
	if want == anyText {
		return true
	}
	parts, err := parseDN(want)
	if err != nil || len(parts) != len(got) {
		return false
	}
	for i, w := range parts {
		g := got[i]
		if !g.text || g.more != w.more || !g.oid.Equal(w.oid) || !wildcard(fold(w.value), fold(g.value)) {
			return false
		}
	}
	return true
}

// fold prepares a value for comparison without regard to case and to the number
// of blanks (RFC 4518 section 2.6.1).
func fold(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }

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

// maxShown bounds the bytes of an identity in a log line.
const maxShown = 256

// describe shows an identification body in logs: quoted where a peer can choose
// any byte.
func describe(body []byte) string {
	id, err := isakmp.Payload{Type: isakmp.TypeID, Body: body}.ID()
	if err != nil {
		return fmt.Sprintf("unreadable identity of %d bytes", len(body))
	}
	if len(id.Data) > maxShown && id.Type != isakmp.IDDERDN {
		n := len(id.Data)
		id.Data = id.Data[:maxShown]
		return fmt.Sprintf("%v… of %d bytes", isakmp.ID{Type: id.Type, Data: id.Data}, n)
	}
	if id.Type == isakmp.IDDERDN {
		if parts, err := decodeDN(id.Data); err == nil {
			text := formatDN(parts)
			if len(text) > maxShown {
				return fmt.Sprintf("%v %q… of %d bytes", id.Type, text[:maxShown], len(id.Data))
			}
			return fmt.Sprintf("%v %q", id.Type, text)
		}
		return fmt.Sprintf("%v of %d unreadable bytes", id.Type, len(id.Data))
	}
	id.Protocol, id.Port = 0, 0
	return id.String()
}

// localID is the identity we present with a pre-shared key: its own, that of the
// tunnel profile it belongs to, or our address.
func (c *Config) localID(k *PresharedKey, local netip.Addr) isakmp.ID {
	if k.LocalID != "" {
		return parseID(k.LocalID)
	}
	if k.Tunnel != "" {
		for i := range c.Tunnels {
			if t := &c.Tunnels[i]; t.Name == k.Tunnel && t.LocalID != "" {
				return parseID(t.LocalID)
			}
		}
	}
	return isakmp.AddrID(local, 0, 0)
}

// serves tells whether a key may authenticate peers at an address with a
// method. J19: a group key is for L2TP only, which no XAuth method is.
func (k *PresharedKey) serves(local, peer netip.Addr, m AuthMethod) bool {
	switch {
	case k.Local.IsValid() && !k.Local.IsUnspecified() && k.Local != local,
		k.Peer.IsValid() && !k.Peer.Contains(peer),
		k.Group && m == AuthXAuthPSK:
		return false
	}
	return true
}

// keysFor returns the keys that may authenticate a peer whose identity is not
// known yet, most specific first, at most maxKeyCandidates.
func (c *Config) keysFor(local, peer netip.Addr, m AuthMethod) []*PresharedKey {
	var out []*PresharedKey
	for i := range c.Keys {
		if k := &c.Keys[i]; k.serves(local, peer, m) {
			if out = append(out, k); len(out) == maxKeyCandidates {
				break
			}
		}
	}
	return out
}

// keyFor returns the most specific key that may authenticate a peer of that
// identity, nil if there is none.
func (c *Config) keyFor(local, peer netip.Addr, m AuthMethod, id isakmp.ID) *PresharedKey {
	for i := range c.Keys {
		if k := &c.Keys[i]; k.serves(local, peer, m) && idMatches(k.ID, id) {
			return k
		}
	}
	return nil
}

// hasKey tells whether keysFor would return any.
func (c *Config) hasKey(local, peer netip.Addr, m AuthMethod) bool {
	for i := range c.Keys {
		if c.Keys[i].serves(local, peer, m) {
			return true
		}
	}
	return false
}

// preShared tells whether both sides prove themselves with a pre-shared key.
func (m AuthMethod) preShared() bool { return m == AuthPSK || m == AuthXAuthPSK }

// signs tells whether the initiator or the responder of phase 1 signs: with
// hybrid authentication the responder alone does.
func (m AuthMethod) signs(initiator bool) bool {
	return m == AuthRSA || m == AuthXAuthRSA || m == AuthHybridRSA && !initiator
}

// skeyid derives SKEYID for what the SA negotiated.
func (p *phase1) skeyid(psk keymat.Secret) keymat.Secret {
	n := p.neg
	if p.Method.preShared() {
		return keymat.SKEYIDPreShared(p.Suite.Hash, psk, n.Ni, n.Nr)
	}
	return keymat.SKEYIDSignature(p.Suite.Hash, n.Ni, n.Nr, n.Shared)
}

// derive makes the keys of the SA with a pre-shared key, or with none.
func (p *phase1) derive(psk keymat.Secret) (keymat.Keys, error) {
	return keymat.Derive(p.Suite, p.skeyid(psk), p.neg.Shared, p.Cookies.I, p.Cookies.R)
}
