package pki

import (
	"bytes"
	"cmp"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// attribute is one attribute of a distinguished name, made comparable.
type attribute struct {
	oid string // contents of the OBJECT IDENTIFIER
	// kind is the ASN.1 tag, 0 for all kinds of text.
	kind  uint8
	value string
}

func (a attribute) compare(b attribute) int {
	return cmp.Or(strings.Compare(a.oid, b.oid), cmp.Compare(a.kind, b.kind), strings.Compare(a.value, b.value))
}

// sameName compares two DER names as RFC 5280 section 7.1 wants it, but for Unicode's
// compatibility forms: text of any string type is equal without regard to case and to
// leading, trailing and repeated white space. Two names that are not names are not equal, and
// neither are two empty ones: nobody is called that.
func sameName(a, b []byte) bool {
	x, ok := parseName(a)
	if !ok || len(x) == 0 {
		return false
	}
	if bytes.Equal(a, b) {
		return true
	}
	y, ok := parseName(b)
	return ok && slices.EqualFunc(x, y, slices.Equal[[]attribute])
}

// parseName takes a DER name apart:
//
//	Name ::= SEQUENCE OF SET OF SEQUENCE { type OBJECT IDENTIFIER, value ANY }
//
// The attributes of a set are in an order of our own.
func parseName(der []byte) ([][]attribute, bool) {
	in, seq := cryptobyte.String(der), cryptobyte.String(nil)
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, false
	}
	var name [][]attribute
	for !seq.Empty() {
		var set cryptobyte.String
		if !seq.ReadASN1(&set, cbasn1.SET) || set.Empty() {
			return nil, false
		}
		var rdn []attribute
		for !set.Empty() {
			var pair, oid, value cryptobyte.String
			var tag cbasn1.Tag
			if !set.ReadASN1(&pair, cbasn1.SEQUENCE) || !pair.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) ||
				!pair.ReadAnyASN1(&value, &tag) || !pair.Empty() {
				return nil, false
			}
			kind, text := canonical(uint8(tag), value)
			rdn = append(rdn, attribute{string(oid), kind, text})
		}
		slices.SortFunc(rdn, attribute.compare)
		name = append(name, rdn)
	}
	return name, true
}

// Tags of string types (X.680).
const (
	tagUTF8String      = 12
	tagPrintableString = 19
	tagTeletexString   = 20
	tagIA5String       = 22
	tagBMPString       = 30
)

// canonical returns text in one form for all string types, and every other value as it is.
func canonical(tag uint8, value []byte) (kind uint8, text string) {
	switch tag {
	case tagUTF8String, tagPrintableString, tagIA5String:
		text = string(value)
	case tagTeletexString: // in practice Latin-1
		r := make([]rune, len(value))
		for i, b := range value {
			r[i] = rune(b)
		}
		text = string(r)
	case tagBMPString:
		if len(value)%2 != 0 {
			return tag, string(value)
		}
		u := make([]uint16, len(value)/2)
		for i := range u {
			u[i] = binary.BigEndian.Uint16(value[2*i:])
		}
		text = string(utf16.Decode(u))
	default:
		return tag, string(value)
	}
	if !utf8.ValidString(text) {
		return tag, string(value)
	}
	return 0, strings.ToLower(strings.Join(strings.Fields(text), " "))
}

// maxWords bounds names in messages, in bytes.
const maxWords = 256

// words writes a DER name for people, last part first as in RFC 4514 ("CN=alice,O=Example").
// Whatever a certificate contains, the result is short and printable.
func words(name []byte) string {
	var seq pkix.RDNSequence
	if rest, err := asn1.Unmarshal(name, &seq); err != nil || len(rest) > 0 {
		return "an unreadable name"
	}
	if len(seq) == 0 {
		return "no name"
	}
	return printable(seq.String())
}

// printable replaces what is not, and cuts what is too long.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) <= maxWords {
		return s
	}
	cut := maxWords
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
