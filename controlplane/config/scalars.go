package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// leaf is the common part of scalars: the value, and where it was written. A
// default has the zero Pos.
type leaf[T any] struct {
	v   T
	pos Pos
}

func (l *leaf[T]) place(p Pos) { l.pos = p }

// given says whether the value was written in the file.
func (l *leaf[T]) given() bool { return l.pos.Line != 0 }

// text is a word or line; tag len:"min..max" bounds its bytes (default 1..255).
type text struct{ leaf[string] }

func (t *text) parse(word string, tag reflect.StructTag) error {
	if err := checkLen(word, tag, "1..255"); err != nil {
		return err
	}
	if err := printable(word); err != nil {
		return err
	}
	t.v = word
	return nil
}

// secret is a key or password; len as for text (default 1..256).
type secret struct{ leaf[Secret] }

func (*secret) secretive() {}

func (s *secret) parse(word string, tag reflect.StructTag) error {
	if err := checkLen(word, tag, "1..256"); err != nil {
		return err
	}
	if err := printable(word); err != nil {
		return err
	}
	s.v = Secret(word)
	return nil
}

func checkLen(word string, tag reflect.StructTag, def string) error {
	lim := tag.Get("len")
	if lim == "" {
		lim = def
	}
	lo, hi := mustRange(lim)
	if l := int64(len(word)); l < lo || l > hi {
		if l == 0 {
			return errors.New("must not be empty")
		}
		return fmt.Errorf("must be %d to %d bytes long, not %d", lo, hi, l)
	}
	return nil
}

func printable(word string) error {
	if !utf8.ValidString(word) {
		return errors.New("must be UTF-8")
	}
	if strings.ContainsFunc(word, unicode.IsControl) {
		return errors.New("must not contain control characters")
	}
	return nil
}

// number is a decimal integer; tag range:"min..max" bounds it, zero:"meaning"
// allows 0 besides.
type number struct{ leaf[int64] }

func (n *number) parse(word string, tag reflect.StructTag) error {
	v, err := strconv.ParseInt(word, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("must be %s", rangeWords(tag, ""))
	}
	if err != nil || strconv.FormatInt(v, 10) != word {
		return fmt.Errorf("must be a decimal number, %s", rangeWords(tag, ""))
	}
	if lo, hi := mustRange(tag.Get("range")); (v < lo || v > hi) && (v != 0 || tag.Get("zero") == "") {
		return fmt.Errorf("must be %s", rangeWords(tag, ""))
	}
	n.v = v
	return nil
}

// duration is a time: a number of seconds, or a number with unit such as 90s,
// 10m or 24h. Tags range (in seconds) and zero as for number.
type duration struct{ leaf[time.Duration] }

func (d *duration) parse(word string, tag reflect.StructTag) error {
	wrong := fmt.Errorf("must be a time such as 90, 90s, 10m or 24h, %s", rangeWords(tag, "s"))
	var v time.Duration
	if s, err := strconv.ParseInt(word, 10, 32); err == nil {
		v = time.Duration(s) * time.Second
	} else if v, err = time.ParseDuration(word); err != nil {
		return wrong
	}
	if v%time.Second != 0 {
		return errors.New("must be whole seconds")
	}
	lo, hi := mustRange(tag.Get("range"))
	if s := int64(v / time.Second); (s < lo || s > hi) && (s != 0 || tag.Get("zero") == "") {
		return fmt.Errorf("must be %s", rangeWords(tag, "s"))
	}
	d.v = v
	return nil
}

// instant is a date and time with its offset from UTC (RFC 3339).
type instant struct{ leaf[time.Time] }

func (i *instant) parse(word string, _ reflect.StructTag) error {
	v, err := time.Parse(time.RFC3339, word)
	if err != nil {
		return errors.New("must be a date and time such as 2026-08-01T00:00:00Z or 2026-08-01T02:00:00+02:00")
	}
	i.v = v.UTC()
	return nil
}

func rangeWords(tag reflect.StructTag, unit string) string {
	lo, hi := mustRange(tag.Get("range"))
	w := fmt.Sprintf("%d%s to %d%s", lo, unit, hi, unit)
	if z := tag.Get("zero"); z != "" {
		w += " or 0 (" + z + ")"
	}
	return w
}

// mustRange reads the "min..max" of a struct tag; a malformed one is a mistake
// in this package that every test finds.
func mustRange(s string) (lo, hi int64) {
	a, b, ok := strings.Cut(s, "..")
	lo, errLo := strconv.ParseInt(a, 10, 64)
	hi, errHi := strconv.ParseInt(b, 10, 64)
	if !ok || errLo != nil || errHi != nil || lo > hi {
		panic("config: bad range tag " + strconv.Quote(s))
	}
	return lo, hi
}

// boolean is true or false.
type boolean struct{ leaf[bool] }

func (f *boolean) parse(word string, _ reflect.StructTag) error {
	switch word {
	case "true", "false":
		f.v = word == "true"
		return nil
	}
	return errors.New("must be true or false")
}

// address is an IPv4 address; tag any:"true" allows 0.0.0.0. Tag only says what is served over IPv4
// alone.
type address struct{ leaf[netip.Addr] }

func (a *address) parse(word string, tag reflect.StructTag) error {
	v, err := parseIPv4(word)
	if what := tag.Get("only"); what != "" && errors.Is(err, errIPv6) {
		return fmt.Errorf("must be an IPv4 address: %s is served over IPv4 only", what)
	}
	if err != nil {
		return err
	}
	if v.IsUnspecified() && tag.Get("any") == "true" {
		a.v = v
		return nil
	}
	if !hostAddress(v) {
		return errors.New("must be the address of a host")
	}
	a.v = v
	return nil
}

var errIPv6 = errors.New("must be an IPv4 address; IPv6 is not possible here")

func parseIPv4(word string) (netip.Addr, error) {
	if strings.Contains(word, "/") {
		return netip.Addr{}, errors.New("must be a single IPv4 address, not a prefix")
	}
	v, err := netip.ParseAddr(word)
	switch {
	case err != nil:
		return netip.Addr{}, errors.New("must be an IPv4 address such as 192.0.2.1")
	case !v.Is4():
		return netip.Addr{}, errIPv6
	}
	return v, nil
}

// hostAddress says whether a host can have the IPv4 address v.
func hostAddress(v netip.Addr) bool {
	return !v.IsUnspecified() && !v.IsMulticast() && v.As4()[0] != 0 && v.As4()[0] < 240
}

// addrRange is FIRST-LAST, one address, or a prefix, of which the network and
// the broadcast address do not count.
type addrRange struct{ leaf[AddrRange] }

func (r *addrRange) parse(word string, _ reflect.StructTag) error {
	v, err := parseRange(word)
	if err != nil {
		return err
	}
	if !hostAddress(v.First) || !hostAddress(v.Last) {
		return errors.New("must consist of addresses that hosts can have")
	}
	r.v = v
	return nil
}

func parseRange(word string) (AddrRange, error) {
	wrong := errors.New("must be a range such as 10.0.0.10-10.0.0.99, an IPv4 address or a prefix")
	if strings.Contains(word, "/") {
		p, err := netip.ParsePrefix(word)
		if err != nil || !p.Addr().Is4() {
			return AddrRange{}, wrong
		}
		if p != p.Masked() {
			return AddrRange{}, fmt.Errorf("must be a prefix without host bits: %v", p.Masked())
		}
		r := AddrRange{p.Addr(), lastOf(p)}
		if p.Bits() <= 30 {
			r = AddrRange{r.First.Next(), r.Last.Prev()}
		}
		return r, nil
	}
	first, last, two := strings.Cut(word, "-")
	if !two {
		last = first
	}
	a, errA := netip.ParseAddr(strings.TrimSpace(first))
	b, errB := netip.ParseAddr(strings.TrimSpace(last))
	if errA != nil || errB != nil || !a.Is4() || !b.Is4() {
		return AddrRange{}, wrong
	}
	if b.Less(a) {
		return AddrRange{}, errors.New("its last address comes before its first")
	}
	return AddrRange{a, b}, nil
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// enum is an enumeration whose words are in a names table.
type enum[T ~uint8 | ~uint16] interface {
	~uint8 | ~uint16
	table() names[T]
}

// word is a value of an enumeration.
type word[T enum[T]] struct{ leaf[T] }

func (w *word[T]) parse(s string, _ reflect.StructTag) error {
	var zero T
	v, ok := zero.table().value(s)
	if !ok {
		return fmt.Errorf("must be %s", orList(zero.table().words()))
	}
	w.v = v
	return nil
}

// words is for the schema.
func (w *word[T]) words() []string {
	var zero T
	return zero.table().words()
}

// orList joins words as in "a, b or c".
func orList(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// transform is an ESP transform: cipher-integrity, or an AES-GCM cipher alone.
type transform struct{ leaf[ESPTransform] }

func (t *transform) parse(s string, _ reflect.StructTag) error {
	cipher, integrity, two := strings.Cut(s, "-")
	e, ok := espEncryptionNames.value(cipher)
	if !ok {
		return fmt.Errorf("must start with a cipher: %s", orList(espEncryptionNames.words()))
	}
	if e.AEAD() {
		if two {
			return fmt.Errorf("must be %s alone, which brings its own integrity", cipher)
		}
		t.v = ESPTransform{e, IntegrityNone}
		return nil
	}
	i, ok := espIntegrityNames.value(integrity)
	if !ok {
		return fmt.Errorf("must be %s-INTEGRITY with %s", cipher, orList(espIntegrityNames.words()))
	}
	t.v = ESPTransform{e, i}
	return nil
}

// pfs is a Diffie-Hellman group, or none.
type pfs struct{ leaf[Group] }

func (p *pfs) parse(s string, _ reflect.StructTag) error {
	if s == "none" {
		p.v = GroupNone
		return nil
	}
	g, ok := groupNames.value(s)
	if !ok {
		return fmt.Errorf("must be none, %s", orList(groupNames.words()))
	}
	p.v = g
	return nil
}

// identity is a phase 1 identity: an IPv4 address, an FQDN or user@FQDN.
type identity struct{ leaf[Identity] }

func (i *identity) parse(s string, _ reflect.StructTag) error {
	if a, err := netip.ParseAddr(s); err == nil {
		if !a.Is4() || !hostAddress(a) {
			return errors.New("must be an IPv4 address of a host, a domain name or user@domain")
		}
		i.v = Identity{IdentityAddress, a.String()}
		return nil
	}
	if len(s) > MaxFQDNLen {
		return fmt.Errorf("must be at most %d bytes long", MaxFQDNLen)
	}
	if user, domain, ok := strings.Cut(s, "@"); ok {
		if user == "" || strings.ContainsFunc(user, notVisible) || !domainName(domain) {
			return errors.New("must be user@domain")
		}
		i.v = Identity{IdentityUserFQDN, user + "@" + strings.ToLower(domain)}
		return nil
	}
	if !domainName(s) {
		return errors.New("must be an IPv4 address, a domain name or user@domain")
	}
	i.v = Identity{IdentityFQDN, strings.ToLower(s)}
	return nil
}

func notVisible(r rune) bool { return r <= ' ' || r > '~' }

// domainName says whether s is a host or domain name in its ASCII form.
func domainName(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool {
				return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
			}) {
			return false
		}
	}
	// All digits would be a mistyped address.
	return strings.ContainsFunc(s, unicode.IsLetter)
}

func (LogLevel) table() names[LogLevel]               { return logLevelNames }
func (LogFormat) table() names[LogFormat]             { return logFormatNames }
func (ProposalProfile) table() names[ProposalProfile] { return proposalNames }
func (AuthMethod) table() names[AuthMethod]           { return authNames }
func (AggressiveMode) table() names[AggressiveMode]   { return aggressiveNames }
func (AdminState) table() names[AdminState]           { return adminNames }
func (XAuth) table() names[XAuth]                     { return xauthNames }
func (Encryption) table() names[Encryption]           { return encryptionNames }
func (Hash) table() names[Hash]                       { return hashNames }
func (Group) table() names[Group]                     { return groupNames }
func (PPPAuth) table() names[PPPAuth]                 { return pppAuthNames }
