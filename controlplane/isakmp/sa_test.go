package isakmp_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"vrgate/controlplane/isakmp"
)

// draytek is the body of the SA payload of a DrayTek Vigor router, typed from
// the log in its vendor's support article "How to analyse VPN IPsec logs"
// (proposal and transforms counted from 0).
const draytek = `
	00000001 00000001
	00 00 0088  00 01 00 04
	  03 00 0020  00 01 0000  800b0001 800c0384 80010001 80020001 80030001 80040001
	  03 00 0020  01 01 0000  800b0001 800c0384 80010001 80020002 80030001 80040001
	  03 00 0020  02 01 0000  800b0001 800c0384 80010005 80020001 80030001 80040001
	  00 00 0020  03 01 0000  800b0001 800c0384 80010005 80020001 80030001 80040002`

func TestSADrayTek(t *testing.T) {
	p := isakmp.Payload{Type: isakmp.TypeSA, Body: unhex(t, draytek)}
	sa, err := p.SA()
	if err != nil {
		t.Fatal(err)
	}
	if len(sa.Proposals) != 1 || sa.Proposals[0].Number != 0 || sa.Proposals[0].Protocol != isakmp.ProtocolISAKMP {
		t.Fatalf("%+v", sa)
	}
	var lines []string
	for _, tr := range sa.Proposals[0].Transforms {
		p, ok := tr.Phase1()
		if !ok {
			t.Fatal("not KEY_IKE")
		}
		lines = append(lines, fmt.Sprintf("%d %v", p.Number, p))
	}
	want := "0 DES/MD5/MODP768/PSK 900s\n1 DES/SHA1/MODP768/PSK 900s\n2 3DES/MD5/MODP768/PSK 900s\n3 3DES/MD5/MODP1024/PSK 900s"
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := sa.Payload(); !bytes.Equal(got.Body, p.Body) {
		t.Errorf("encoded again %x", got.Body)
	}
}

// quickSA is the SA of a quick mode written by hand after RFC 2407 section 4.5:
// ESP with an SPI of 4 bytes and lifetimes of both units in long and short form,
// and IPCOMP beside it.
const quickSA = `
	00000001 00000001
	02 00 0038  01 03 04 01  a1b2c3d4
	  00 00 002c  01 0c 0000  80010001 00020004 0020c49b 80010002 00020004 0003d090 8004f004 80050005 80060100
	00 00 0016  01 04 02 01  4d2e
	  00 00 000c  01 02 0000  80040002`

func TestSAQuickMode(t *testing.T) {
	p := isakmp.Payload{Type: isakmp.TypeSA, Body: unhex(t, quickSA)}
	sa, err := p.SA()
	if err != nil {
		t.Fatal(err)
	}
	if len(sa.Proposals) != 2 || hex.EncodeToString(sa.Proposals[0].SPI) != "a1b2c3d4" ||
		sa.Proposals[1].Protocol != isakmp.ProtocolIPComp || hex.EncodeToString(sa.Proposals[1].SPI) != "4d2e" {
		t.Fatalf("%+v", sa)
	}
	e := sa.Proposals[0].Transforms[0].ESP()
	want := isakmp.ESPTransform{Number: 1, ID: isakmp.ESPAES, KeyBits: 256, Auth: isakmp.ESPAuthSHA256,
		Mode: isakmp.ModeDraftUDPTransport, Life: isakmp.Life{Seconds: 2147483, Kilobytes: 250000}}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("%+v\nwant %+v", e, want)
	}
	if s := e.String(); s != "AES-256/HMAC-SHA2-256/UDP-transport(draft) 2147483s 250000kB" {
		t.Error(s)
	}
	if !bytes.Equal(sa.Payload().Body, p.Body) {
		t.Errorf("encoded again %x", sa.Payload().Body)
	}
}

func TestSARefusals(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       isakmp.NotifyType
	}{
		{"empty", "", isakmp.PayloadMalformed},
		{"7 bytes", "00000001 000000", isakmp.PayloadMalformed},
		{"DOI", "00000002 00000001 00 00 0008 01 01 00 00", isakmp.DOINotSupported},
		{"situation", "00000001 00000002 00 00 0008 01 01 00 00", isakmp.SituationNotSupported},
		{"no proposal", "00000001 00000001", isakmp.BadProposalSyntax},
		{"proposal length", "00000001 00000001 00 00 0009 01 01 00 00", isakmp.BadProposalSyntax},
		{"proposal of 3 bytes", "00000001 00000001 00 00 0007 01 01 00", isakmp.BadProposalSyntax},
		{"proposal reserved", "00000001 00000001 00 01 0008 01 01 00 00", isakmp.BadProposalSyntax},
		{"next is a transform", "00000001 00000001 03 00 0008 01 01 00 00 00 00 0008 01 01 00 00", isakmp.BadProposalSyntax},
		{"bytes behind", "00000001 00000001 00 00 0008 01 01 00 00 00", isakmp.BadProposalSyntax},
		{"SPI longer than the proposal", "00000001 00000001 00 00 0008 01 03 04 00", isakmp.BadProposalSyntax},
		{"SPI of 17 bytes", "00000001 00000001 00 00 0019 01 03 11 00 0102030405060708090a0b0c0d0e0f1011", isakmp.InvalidSPI},
		{"count too large", "00000001 00000001 00 00 0010 01 01 00 02 00 00 0008 01 01 0000", isakmp.BadProposalSyntax},
		{"count too small", "00000001 00000001 00 00 0018 01 01 00 01 03 00 0008 01 01 0000 00 00 0008 02 01 0000", isakmp.BadProposalSyntax},
		{"count 0 with a transform", "00000001 00000001 00 00 0010 01 01 00 00 00 00 0008 01 01 0000", isakmp.BadProposalSyntax},
		{"count over the limit", "00000001 00000001 00 00 0008 01 01 00 81", isakmp.BadProposalSyntax},
		{"transform reserved", "00000001 00000001 00 00 0010 01 01 00 01 00 00 0008 01 01 0100", isakmp.BadProposalSyntax},
		{"transform cut", "00000001 00000001 00 00 000e 01 01 00 01 00 00 0006 01 01", isakmp.BadProposalSyntax},
		{"next of a transform", "00000001 00000001 00 00 0018 01 01 00 02 02 00 0008 01 01 0000 00 00 0008 02 01 0000", isakmp.BadProposalSyntax},
		{"attribute cut", "00000001 00000001 00 00 0012 01 01 00 01 00 00 000a 01 01 0000 8001", isakmp.BadProposalSyntax},
		{"long attribute cut", "00000001 00000001 00 00 0016 01 01 00 01 00 00 000e 01 01 0000 00010004 0102", isakmp.BadProposalSyntax},
	} {
		_, err := isakmp.Payload{Type: isakmp.TypeSA, Body: unhex(t, c.body)}.SA()
		wantNotify(t, c.name, err, c.want)
	}
}

func TestSALimits(t *testing.T) {
	sa := isakmp.SA{DOI: 1, Situation: 1}
	for range isakmp.MaxProposals {
		sa.Proposals = append(sa.Proposals, isakmp.Proposal{Protocol: 3})
	}
	sa.Proposals[0].Transforms = make([]isakmp.Transform, isakmp.MaxTransforms)
	for range isakmp.MaxAttributes {
		sa.Proposals[0].Transforms[0].Attributes = append(sa.Proposals[0].Transforms[0].Attributes, isakmp.ShortAttribute(1, 1))
	}
	p := sa.Payload()
	if _, err := p.SA(); err != nil {
		t.Fatal(err)
	}
	// One proposal more, appended by hand.
	last := len(p.Body) - 8
	p.Body[last] = 2
	more := append(p.Body, 0, 0, 0, 8, 1, 3, 0, 0)
	_, err := isakmp.Payload{Type: isakmp.TypeSA, Body: more}.SA()
	wantNotify(t, "proposals", err, isakmp.BadProposalSyntax)

	body := "00000001 00000001 00 00 %04x 01 01 00 01 00 00 %04x 01 01 0000" + strings.Repeat("80010001", isakmp.MaxAttributes+1)
	n := 8 + 4*(isakmp.MaxAttributes+1)
	_, err = isakmp.Payload{Type: isakmp.TypeSA, Body: unhex(t, fmt.Sprintf(body, n+8, n))}.SA()
	wantNotify(t, "attributes", err, isakmp.BadProposalSyntax)
}

// TestAttributeForms: every length and form of a number that clients send.
func TestAttributeForms(t *testing.T) {
	for _, c := range []struct {
		attribute isakmp.Attribute
		want      uint64
		ok        bool
	}{
		{isakmp.ShortAttribute(12, 28800), 28800, true},
		{isakmp.LongAttribute(12, 28800), 28800, true},
		{isakmp.Attribute{Type: 12, Value: []byte{0x70, 0x80}}, 28800, true},
		{isakmp.Attribute{Type: 12, Value: []byte{1}}, 1, true},
		{isakmp.Attribute{Type: 12, Value: bytes.Repeat([]byte{0xff}, 8)}, 1<<64 - 1, true},
		{isakmp.Attribute{Type: 12, Value: append(make([]byte, 12), 5)}, 5, true},
		{isakmp.Attribute{Type: 12, Value: append([]byte{1}, make([]byte, 8)...)}, 0, false},
		{isakmp.Attribute{Type: 12}, 0, false},
	} {
		if v, ok := c.attribute.Uint(); v != c.want || ok != c.ok {
			t.Errorf("%x: %d, %v", c.attribute.Value, v, ok)
		}
	}
	if a := isakmp.NumberAttribute(12, 65535); !a.Short {
		t.Error("65535 does not need the long form")
	}
	if a := isakmp.NumberAttribute(12, 65536); a.Short || len(a.Value) != 4 {
		t.Error("65536 needs the long form")
	}
	if v, ok := isakmp.LongAttribute(1, 65536).Uint16(); ok || v != 0 {
		t.Error("65536 as 16 bits")
	}
}

func TestPhase1View(t *testing.T) {
	full := isakmp.Phase1Transform{Number: 7, Enc: isakmp.EncAES, KeyBits: 256, Hash: isakmp.HashSHA256, Auth: isakmp.AuthXAuthInitPSK,
		Group: isakmp.GroupCurve25519, Life: isakmp.Life{Seconds: 2147483, Kilobytes: 1000}}
	got, ok := full.Transform().Phase1()
	if !ok || !reflect.DeepEqual(got, full) {
		t.Errorf("%+v", got)
	}
	if s := full.String(); s != "AES-256/SHA2-256/CURVE25519/XAuth-PSK-init 2147483s 1000kB" {
		t.Error(s)
	}
	if _, ok := (isakmp.Transform{ID: 2}).Phase1(); ok {
		t.Error("transform id 2 is not KEY_IKE")
	}
	short := isakmp.ShortAttribute
	for name, as := range map[string][]isakmp.Attribute{
		"prf":           {short(13, 1)},
		"group type":    {short(5, 1)},
		"private":       {short(16384, 1)},
		"cipher twice":  {short(1, 7), short(1, 5)},
		"hash as text":  {{Type: 2, Value: []byte("sha-1")}},
		"empty group":   {{Type: 4}},
		"life unit":     {short(11, 3)},
		"no duration":   {short(11, 1), {Type: 12}},
		"type of 8 bit": {short(11, 1), {Type: 11, Value: make([]byte, 0)}},
	} {
		p, _ := isakmp.Transform{ID: 1, Attributes: as}.Phase1()
		if len(p.Unknown) != 1 {
			t.Errorf("%s: unknown %v", name, p.Unknown)
		}
	}
	// A duration without unit is seconds; more than 64 bits is the longest life.
	p, _ := isakmp.Transform{ID: 1, Attributes: []isakmp.Attribute{short(12, 60)}}.Phase1()
	if p.Life.Seconds != 60 {
		t.Errorf("life %+v", p.Life)
	}
	p, _ = isakmp.Transform{ID: 1, Attributes: []isakmp.Attribute{short(11, 2), {Type: 12, Value: bytes.Repeat([]byte{9}, 20)}}}.Phase1()
	if p.Life.Kilobytes != 1<<64-1 || len(p.Unknown) != 0 {
		t.Errorf("life %+v, unknown %v", p.Life, p.Unknown)
	}
	q, _ := p.Transform().Phase1()
	if q.Life.Kilobytes != 1<<32-1 {
		t.Errorf("encoded life %+v", q.Life)
	}
}

func TestESPView(t *testing.T) {
	full := isakmp.ESPTransform{Number: 3, ID: isakmp.ESPAESGCM16, KeyBits: 128, Mode: isakmp.ModeUDPTransport,
		Group: isakmp.GroupMODP2048, Life: isakmp.Life{Seconds: 3600, Kilobytes: 250000}, ESN: true}
	if got := full.Transform().ESP(); !reflect.DeepEqual(got, full) {
		t.Errorf("%+v", got)
	}
	if full.Transform().ID != 20 {
		t.Error("AES-GCM with 16 bytes of tag is transform 20")
	}
	if s := full.String(); s != "AES-GCM-16-128/UDP-transport/MODP2048 3600s 250000kB ESN" {
		t.Error(s)
	}
	short := isakmp.ShortAttribute
	e := isakmp.Transform{ID: 12, Attributes: []isakmp.Attribute{short(10, 1), short(4, 2), short(11, 0)}}.ESP()
	if e.Mode != isakmp.ModeTransport || e.ESN || len(e.Unknown) != 0 {
		t.Errorf("%+v", e)
	}
	for _, a := range []isakmp.Attribute{short(7, 16), short(8, 1), short(11, 2), short(32000, 1), {Type: 4}} {
		if e := (isakmp.Transform{ID: 12, Attributes: []isakmp.Attribute{a}}).ESP(); len(e.Unknown) != 1 {
			t.Errorf("attribute %v is taken as known", a)
		}
	}
}

func TestModes(t *testing.T) {
	for m, want := range map[isakmp.Mode][4]bool{ // transport, tunnel, UDP, draft
		isakmp.ModeTunnel:            {false, true, false, false},
		isakmp.ModeTransport:         {true, false, false, false},
		isakmp.ModeUDPTunnel:         {false, true, true, false},
		isakmp.ModeUDPTransport:      {true, false, true, false},
		isakmp.ModeDraftUDPTunnel:    {false, true, true, true},
		isakmp.ModeDraftUDPTransport: {true, false, true, true},
		0:                            {},
		5:                            {},
	} {
		if got := [4]bool{m.Transport(), m.Tunnel(), m.UDP(), m.Draft()}; got != want {
			t.Errorf("%v: %v", m, got)
		}
	}
	for v, want := range map[isakmp.NATT][2]isakmp.Mode{
		isakmp.NATTRFC3947: {4, 3}, isakmp.NATTApple: {4, 3},
		isakmp.NATTDraft00: {61444, 61443}, isakmp.NATTDraft02: {61444, 61443}, isakmp.NATTDraft02n: {61444, 61443}, isakmp.NATTDraft03: {61444, 61443},
	} {
		if v.Mode(true) != want[0] || v.Mode(false) != want[1] {
			t.Errorf("%v: modes %v %v", v, v.Mode(true), v.Mode(false))
		}
	}
}
