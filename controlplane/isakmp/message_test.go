package isakmp_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"vrgate/controlplane/isakmp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantNotify fails the test unless err is an *isakmp.Error with the notify.
func wantNotify(t *testing.T, what string, err error, want isakmp.NotifyType) {
	t.Helper()
	var e *isakmp.Error
	if !errors.As(err, &e) {
		t.Errorf("%s: error %v is no *isakmp.Error", what, err)
		return
	}
	if e.Notify != want || e.Reason == isakmp.ReasonNone || e.Where == "" {
		t.Errorf("%s: %v, reason %v at %q, want %v", what, e.Notify, e.Reason, e.Where, want)
	}
}

// clearMessage is a message of header, nonce and vendor id, written by hand after RFC
// 2408 sections 3.1, 3.2, 3.13 and 3.16, with two bytes of padding behind as
// libreswan sends it.
const clearMessage = `
	0102030405060708  1112131415161718
	0a 10 02 00  00000000  00000030
	0d 00 000a  a1a2a3a4a5a6
	00 00 0008  c1c2c3c4
	0000`

func TestParseClear(t *testing.T) {
	b := unhex(t, clearMessage)
	m, err := isakmp.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if m.Header.Initiator.String() != "0102030405060708" || m.Header.Responder.String() != "1112131415161718" ||
		m.Header.Exchange != isakmp.IdentityProtection || m.Header.Version != 0x10 || m.Header.Encrypted() {
		t.Errorf("header %+v", m.Header)
	}
	if len(m.Payloads) != 2 || m.Payloads[0].Type != isakmp.TypeNonce || m.Payloads[1].Type != isakmp.TypeVendorID ||
		hex.EncodeToString(m.Payloads[0].Body) != "a1a2a3a4a5a6" || hex.EncodeToString(m.Payloads[1].Body) != "c1c2c3c4" {
		t.Errorf("payloads %v", m.Payloads)
	}
	// Without the padding it appends to the same bytes.
	want := bytes.Clone(b[:len(b)-2])
	want[27] -= 2
	if got := m.Append([]byte("x")); !bytes.Equal(got[1:], want) {
		t.Errorf("got  %x\nwant %x", got[1:], want)
	}
	// The bodies cannot grow into each other.
	_ = append(m.Payloads[0].Body, 0xee)
	if !bytes.Equal(b, unhex(t, clearMessage)) {
		t.Error("appending to a body overwrote the next payload")
	}
}

func TestHeaderRefusals(t *testing.T) {
	good := unhex(t, clearMessage)
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		want   isakmp.NotifyType
	}{
		{"empty", func([]byte) []byte { return nil }, isakmp.UnequalPayloadLengths},
		{"27 bytes", func(b []byte) []byte { return b[:27] }, isakmp.UnequalPayloadLengths},
		{"length too small", func(b []byte) []byte { b[27]--; return b }, isakmp.UnequalPayloadLengths},
		{"length too large", func(b []byte) []byte { b[27]++; return b }, isakmp.UnequalPayloadLengths},
		{"huge length", func(b []byte) []byte { b[24] = 0xff; return b }, isakmp.UnequalPayloadLengths},
		{"truncated", func(b []byte) []byte { return b[:len(b)-1] }, isakmp.UnequalPayloadLengths},
		{"version 2", func(b []byte) []byte { b[17] = 0x20; return b }, isakmp.InvalidMajorVersion},
		{"version 0", func(b []byte) []byte { b[17] = 0; return b }, isakmp.InvalidMajorVersion},
		{"no cookie", func(b []byte) []byte { copy(b, make([]byte, 8)); return b }, isakmp.InvalidCookie},
		{"encrypted", func(b []byte) []byte { b[19] = 1; return b }, isakmp.InvalidFlags},
	} {
		_, err := isakmp.Parse(c.change(bytes.Clone(good)))
		wantNotify(t, c.name, err, c.want)
	}
	b := bytes.Clone(good)
	b[17] = 0x15 // a later minor version
	if m, err := isakmp.Parse(b); err != nil || m.Append(nil)[17] != 0x15 {
		t.Errorf("minor version 5: %v", err)
	}
}

func TestPayloadRefusals(t *testing.T) {
	for _, c := range []struct{ name, body string }{
		{"nothing", ""},
		{"three bytes", "000000"},
		{"length 0", "00000000"},
		{"length 3", "00000003"},
		{"longer than the rest", "00000009 aabbccdd"},
		{"65535", "0000ffff aabbccdd"},
		{"reserved byte", "00010008 aabbccdd"},
		{"second missing", "0d000008 aabbccdd"},
		{"second cut", "0d000008 aabbccdd 000000"},
	} {
		ps, err := isakmp.ParsePayloads(isakmp.TypeNonce, unhex(t, c.body))
		wantNotify(t, c.name, err, isakmp.PayloadMalformed)
		if ps != nil {
			t.Errorf("%s: payloads beside an error", c.name)
		}
	}
	var chain []isakmp.Payload
	for range isakmp.MaxPayloads {
		chain = append(chain, isakmp.Payload{Type: isakmp.TypeVendorID})
	}
	if ps, err := isakmp.ParsePayloads(isakmp.TypeVendorID, isakmp.AppendPayloads(nil, chain)); err != nil || len(ps) != isakmp.MaxPayloads {
		t.Errorf("%d payloads: %v", isakmp.MaxPayloads, err)
	}
	chain = append(chain, chain[0])
	_, err := isakmp.ParsePayloads(isakmp.TypeVendorID, isakmp.AppendPayloads(nil, chain))
	wantNotify(t, "too many", err, isakmp.PayloadMalformed)
}

func TestUnknownPayloadsAreKept(t *testing.T) {
	in := []isakmp.Payload{{Type: 77, Body: []byte{1}}, {Type: 200, Body: []byte{}}, {Type: isakmp.TypeHash, Body: []byte{2, 3}}}
	b := isakmp.AppendPayloads(nil, in)
	b = append(b, 0xde, 0xad, 0xbe) // racoon pads with random bytes
	got, err := isakmp.ParsePayloads(77, b)
	if err != nil || len(got) != 3 {
		t.Fatalf("%v, %v", got, err)
	}
	for i := range in {
		if got[i].Type != in[i].Type || !bytes.Equal(got[i].Body, in[i].Body) {
			t.Errorf("payload %d: %v, want %v", i, got[i], in[i])
		}
	}
	if ps, err := isakmp.ParsePayloads(isakmp.TypeNone, []byte{1, 2, 3}); err != nil || len(ps) != 0 {
		t.Errorf("no payloads: %v, %v", ps, err)
	}
}

func TestAppendEncrypted(t *testing.T) {
	h := isakmp.Header{Initiator: isakmp.Cookie{1}, Responder: isakmp.Cookie{2}, Exchange: isakmp.QuickMode, MessageID: 0xdeadbeef, Flags: isakmp.FlagCommit}
	b := isakmp.AppendEncrypted(nil, h, isakmp.TypeHash, make([]byte, 16))
	got, body, err := isakmp.ParseHeader(b)
	if err != nil || len(body) != 16 || got.Next != isakmp.TypeHash || got.MessageID != 0xdeadbeef ||
		got.Flags != isakmp.FlagCommit|isakmp.FlagEncrypted || got.Exchange != isakmp.QuickMode {
		t.Errorf("%+v, %d bytes, %v", got, len(body), err)
	}
	if got.Flags.String() != "EC" || isakmp.Flags(0).String() != "-" || isakmp.Flags(0x14).String() != "A+0x10" {
		t.Errorf("flags %v", got.Flags)
	}
}

func TestFindAndAll(t *testing.T) {
	ps := []isakmp.Payload{{Type: isakmp.TypeVendorID, Body: []byte{1}}, {Type: isakmp.TypeHash}, {Type: isakmp.TypeVendorID, Body: []byte{2}}}
	if p, ok := isakmp.Find(ps, isakmp.TypeVendorID); !ok || p.Body[0] != 1 {
		t.Error("Find")
	}
	if _, ok := isakmp.Find(ps, isakmp.TypeKE); ok {
		t.Error("found what is not there")
	}
	if a := isakmp.All(ps, isakmp.TypeVendorID); len(a) != 2 || a[1].Body[0] != 2 {
		t.Error("All")
	}
}

func TestCookieText(t *testing.T) {
	c := isakmp.Cookie{0xab, 1, 2, 3, 4, 5, 6, 7}
	b, err := c.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var d isakmp.Cookie
	if err := d.UnmarshalText(b); err != nil || d != c || c.IsZero() || !(isakmp.Cookie{}).IsZero() {
		t.Errorf("%v, %v", d, err)
	}
	for _, bad := range []string{"", "ab", "zz01020304050607", "ab0102030405060708"} {
		if err := d.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

// TestDecodersCheckTheType: a decoder on the wrong payload is an error, not a
// misreading.
func TestDecodersCheckTheType(t *testing.T) {
	p := isakmp.Payload{Type: isakmp.TypeKE, Body: make([]byte, 64)}
	for name, f := range map[string]func() error{
		"SA":          func() error { _, err := p.SA(); return err },
		"ID":          func() error { _, err := p.ID(); return err },
		"Cert":        func() error { _, err := p.Cert(); return err },
		"CertRequest": func() error { _, err := p.CertRequest(); return err },
		"Notify":      func() error { _, err := p.Notify(); return err },
		"Delete":      func() error { _, err := p.Delete(); return err },
		"Attributes":  func() error { _, err := p.Attributes(); return err },
		"NATOA":       func() error { _, err := p.NATOA(); return err },
		"Fragment":    func() error { _, err := p.Fragment(); return err },
	} {
		wantNotify(t, name, f(), isakmp.InvalidPayloadType)
	}
}
