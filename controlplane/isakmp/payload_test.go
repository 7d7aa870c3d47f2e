package isakmp_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"vrgate/controlplane/isakmp"
)

func TestID(t *testing.T) {
	for _, c := range []struct {
		body, text, from, to, prefix string
	}{
		{"01 11 06a5 c0a80105", "192.168.1.5[17/1701]", "192.168.1.5", "192.168.1.5", "192.168.1.5/32"},
		{"01 00 0000 c0a80105", "192.168.1.5", "192.168.1.5", "192.168.1.5", "192.168.1.5/32"},
		{"04 00 0000 0a010200 ffffff00", "10.1.2.0/24", "10.1.2.0", "10.1.2.255", "10.1.2.0/24"},
		{"04 00 0000 0a010203 fffffe00", "10.1.2.0/23", "10.1.2.0", "10.1.3.255", "10.1.2.0/23"},
		{"04 00 0000 00000000 00000000", "0.0.0.0/0", "0.0.0.0", "255.255.255.255", "0.0.0.0/0"},
		{"05 00 0000 20010db8000000000000000000000001", "2001:db8::1", "2001:db8::1", "2001:db8::1", "2001:db8::1/128"},
		{"06 00 0000 20010db8000000000000000000000000 ffffffff000000000000000000000000", "2001:db8::/32", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::/32"},
		{"07 00 0000 0a000005 0a000009", "10.0.0.5-10.0.0.9", "10.0.0.5", "10.0.0.9", ""},
		{"08 00 0000 00000000000000000000000000000001 00000000000000000000000000000002", "::1-::2", "::1", "::2", ""},
		{"02 00 0000 6c61632e6578616d706c65", `FQDN "lac.example"`, "", "", ""},
		{"03 00 0000 614062", `USER_FQDN "a@b"`, "", "", ""},
		{"0b 11 01f4 67726f75700a", `KEY_ID "group\n"[17/500]`, "", "", ""},
		{"09 00 0000 3000", "DER_ASN1_DN 3000", "", "", ""},
		{"63 00 0000 01", "id(99) 01", "", "", ""},
	} {
		p := isakmp.Payload{Type: isakmp.TypeID, Body: unhex(t, c.body)}
		id, err := p.ID()
		if err != nil {
			t.Errorf("%s: %v", c.body, err)
			continue
		}
		if id.String() != c.text {
			t.Errorf("%s reads as %s, want %s", c.body, id, c.text)
		}
		from, to, ok := id.Range()
		if ok != (c.from != "") || ok && (from.String() != c.from || to.String() != c.to) {
			t.Errorf("%s: range %v to %v, %v", c.text, from, to, ok)
		}
		prefix, ok := id.Prefix()
		if ok != (c.prefix != "") || ok && prefix.String() != c.prefix {
			t.Errorf("%s: prefix %v, %v", c.text, prefix, ok)
		}
		if got := id.Payload(); !bytes.Equal(got.Body, p.Body) || got.Type != isakmp.TypeID {
			t.Errorf("%s: encoded again %x", c.text, got.Body)
		}
	}
	for _, body := range []string{
		"01 00 0000 c0a801", "01 00 0000 c0a8010203", "04 00 0000 0a010200", "04 00 0000 0a010200 ff00ff00",
		"04 00 0000 0a010200 00ffffff", "04 00 0000 0a010200 fffffd00", "07 00 0000 0a000009 0a000005", "05 00 0000 20010db8",
	} {
		_, err := isakmp.Payload{Type: isakmp.TypeID, Body: unhex(t, body)}.ID()
		wantNotify(t, body, err, isakmp.InvalidIDInformation)
	}
	_, err := isakmp.Payload{Type: isakmp.TypeID, Body: []byte{1, 0, 0}}.ID()
	wantNotify(t, "3 bytes", err, isakmp.PayloadMalformed)
	_, err = isakmp.Payload{Type: isakmp.TypeID, Body: make([]byte, isakmp.MaxIDLen+5)}.ID()
	wantNotify(t, "long", err, isakmp.InvalidIDInformation)
}

func TestIDConstructors(t *testing.T) {
	if id := isakmp.AddrID(netip.MustParseAddr("::ffff:192.0.2.1"), 17, 1701); id.Type != isakmp.IDIPv4 || id.String() != "192.0.2.1[17/1701]" {
		t.Error(id)
	}
	for _, s := range []string{"10.1.2.3/20", "0.0.0.0/0", "192.0.2.1/32", "2001:db8::1/33", "::/0", "::1/128"} {
		want := netip.MustParsePrefix(s).Masked()
		if got, ok := isakmp.PrefixID(netip.MustParsePrefix(s), 0, 0).Prefix(); !ok || got != want {
			t.Errorf("%s: %v, %v", s, got, ok)
		}
	}
	if id := isakmp.TextID(isakmp.IDFQDN, "a.example"); id.String() != `FQDN "a.example"` {
		t.Error(id)
	}
}

// rUThere is an R-U-THERE written by hand after RFC 3706 section 5.3.
const rUThere = "00000001 01 10 8d28 0102030405060708 1112131415161718 00000a0b"

func TestNotify(t *testing.T) {
	i, r := isakmp.Cookie{1, 2, 3, 4, 5, 6, 7, 8}, isakmp.Cookie{0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18}
	p := isakmp.Payload{Type: isakmp.TypeNotify, Body: unhex(t, rUThere)}
	n, err := p.Notify()
	if err != nil {
		t.Fatal(err)
	}
	if seq, ok := n.DPD(i, r); !ok || seq != 0xa0b || n.Type.String() != "R-U-THERE" || n.Type.IsError() {
		t.Errorf("%+v: %d %v", n, seq, ok)
	}
	if got := isakmp.DPDNotify(isakmp.RUThere, i, r, 0xa0b).Payload(); !bytes.Equal(got.Body, p.Body) {
		t.Errorf("DPDNotify %x", got.Body)
	}
	if _, ok := n.DPD(r, i); ok {
		t.Error("cookies of another SA accepted")
	}
	n.SPI = nil
	if _, ok := n.DPD(i, r); !ok {
		t.Error("an R-U-THERE without SPI is refused")
	}
	n.Data = n.Data[:3]
	if _, ok := n.DPD(i, r); ok {
		t.Error("sequence number of 3 bytes accepted")
	}
	for _, body := range []string{"", "00000001 01 00 00", "00000001 01 01 000e", "00000001 01 11 000e 0102030405060708090a0b0c0d0e0f1011"} {
		_, err := isakmp.Payload{Type: isakmp.TypeNotify, Body: unhex(t, body)}.Notify()
		wantNotify(t, body, err, isakmp.PayloadMalformed)
	}
	c := isakmp.InitialContactNotify(i, r)
	if c.Type != 24578 || hex.EncodeToString(c.SPI) != "01020304050607081112131415161718" {
		t.Errorf("%+v", c)
	}
	for typ, want := range map[isakmp.NotifyType]bool{0: false, 1: true, 30: true, 8192: true, 16383: true, 16384: false, 24576: false, 36136: false} {
		if typ.IsError() != want {
			t.Errorf("%v: IsError %v", typ, !want)
		}
	}
}

func TestResponderLifetime(t *testing.T) {
	l := isakmp.Life{Seconds: 86400, Kilobytes: 500}
	// RFC 2407 section 4.6.3.1: attributes of the SA that the SPI names.
	for _, c := range []struct {
		protocol isakmp.Protocol
		data     string
	}{
		{isakmp.ProtocolISAKMP, "800b0001 000c0004 00015180 800b0002 800c01f4"},
		{isakmp.ProtocolESP, "80010001 00020004 00015180 80010002 800201f4"},
	} {
		n := isakmp.ResponderLifetimeNotify(c.protocol, []byte{1, 2, 3, 4}, l)
		if n.Type != isakmp.ResponderLifetime || !bytes.Equal(n.Data, unhex(t, c.data)) {
			t.Errorf("%v: %x", c.protocol, n.Data)
		}
		if got, err := n.Lifetime(); err != nil || got != l {
			t.Errorf("%v: %+v, %v", c.protocol, got, err)
		}
	}
	if _, err := (isakmp.Notify{Data: []byte{1}}).Lifetime(); err == nil {
		t.Error("attribute of one byte accepted")
	}
}

func TestDelete(t *testing.T) {
	body := "00000001 03 04 0002 a1b2c3d4 01020304"
	p := isakmp.Payload{Type: isakmp.TypeDelete, Body: unhex(t, body)}
	d, err := p.Delete()
	if err != nil || d.Protocol != isakmp.ProtocolESP || len(d.SPIs) != 2 || hex.EncodeToString(d.SPIs[1]) != "01020304" {
		t.Fatalf("%+v, %v", d, err)
	}
	if got := isakmp.DeleteESP(0xa1b2c3d4, 0x01020304).Payload(); !bytes.Equal(got.Body, p.Body) {
		t.Errorf("%x", got.Body)
	}
	d = isakmp.DeleteISAKMP(isakmp.Cookie{1}, isakmp.Cookie{2})
	if got := d.Payload().Body; hex.EncodeToString(got) != "00000001"+"0110"+"0001"+"0100000000000000"+"0200000000000000" {
		t.Errorf("%x", got)
	}
	for _, body := range []string{
		"", "00000001 03 04 00", "00000001 03 04 0002 a1b2c3d4", "00000001 03 00 0001", "00000001 03 04 0000 a1b2c3d4",
		"00000001 03 04 0001 a1b2c3d4 00", "00000001 03 11 0001 0102030405060708090a0b0c0d0e0f1011",
		"00000001 03 04 0101" + strings.Repeat("a1b2c3d4", 257),
	} {
		_, err := isakmp.Payload{Type: isakmp.TypeDelete, Body: unhex(t, body)}.Delete()
		wantNotify(t, fmt.Sprintf("%.40s", body), err, isakmp.PayloadMalformed)
	}
	if d, err := (isakmp.Payload{Type: isakmp.TypeDelete, Body: unhex(t, "00000001 03 04 0000")}).Delete(); err != nil || len(d.SPIs) != 0 {
		t.Errorf("no SPI: %v, %v", d, err)
	}
}

func TestCert(t *testing.T) {
	c, err := isakmp.Payload{Type: isakmp.TypeCert, Body: []byte{4, 0x30, 0}}.Cert()
	if err != nil || c.Encoding != isakmp.CertX509Signature || len(c.Data) != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if !bytes.Equal(c.Payload().Body, []byte{4, 0x30, 0}) || c.RequestPayload().Type != isakmp.TypeCertRequest {
		t.Error("encoded again")
	}
	if c, err := (isakmp.Payload{Type: isakmp.TypeCertRequest, Body: []byte{4}}).CertRequest(); err != nil || len(c.Data) != 0 {
		t.Errorf("request for any authority: %v", err)
	}
	_, err = isakmp.Payload{Type: isakmp.TypeCert}.Cert()
	wantNotify(t, "empty", err, isakmp.PayloadMalformed)
}

func TestAttributeSet(t *testing.T) {
	// An XAuth reply by hand after draft-beaulieu-ike-xauth-02: name and password.
	body := "02 00 1234 40890003 626f62 408a0005 7365637265"
	p := isakmp.Payload{Type: isakmp.TypeAttributes, Body: unhex(t, body)}
	s, err := p.Attributes()
	if err != nil {
		t.Fatal(err)
	}
	name, ok := s.Find(isakmp.XAuthUserName)
	if s.Type != isakmp.ConfigReply || s.Identifier != 0x1234 || !ok || string(name.Value) != "bob" || !s.XAuth() {
		t.Errorf("%v", s)
	}
	if !bytes.Equal(s.Payload().Body, p.Body) {
		t.Errorf("encoded again %x", s.Payload().Body)
	}
	for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
		if out := fmt.Sprintf(f, s); strings.Contains(out, "secre") || strings.Contains(out, "115 101 99") {
			t.Errorf("%s shows the password: %s", f, out)
		}
	}
	if _, ok := s.Find(1); ok {
		t.Error("found what is not there")
	}
	empty, err := isakmp.Payload{Type: isakmp.TypeAttributes, Body: []byte{1, 7, 0, 1}}.Attributes()
	if err != nil || len(empty.Attributes) != 0 || empty.XAuth() {
		t.Errorf("empty request: %v, %v", empty, err)
	}
	_, err = isakmp.Payload{Type: isakmp.TypeAttributes, Body: []byte{1, 0, 0}}.Attributes()
	wantNotify(t, "short", err, isakmp.PayloadMalformed)
}

func TestNATOA(t *testing.T) {
	for typ, addr := range map[isakmp.PayloadType]string{21: "192.0.2.1", 131: "2001:db8::1", 16: "10.0.0.1"} {
		a := netip.MustParseAddr(addr)
		p := isakmp.NATOAPayload(typ, a)
		if got, err := p.NATOA(); err != nil || got != a || !typ.IsNATOA() {
			t.Errorf("%v: %v, %v", typ, got, err)
		}
	}
	if p := isakmp.NATOAPayload(21, netip.MustParseAddr("192.0.2.1")); hex.EncodeToString(p.Body) != "01000000"+"c0000201" {
		t.Errorf("%x", p.Body)
	}
	for _, body := range []string{"", "010000", "01000000 c00002", "05000000 c0000201", "02000000 c0000201"} {
		_, err := isakmp.Payload{Type: 21, Body: unhex(t, body)}.NATOA()
		wantNotify(t, body, err, isakmp.PayloadMalformed)
	}
	for v, want := range map[isakmp.NATT][2]isakmp.PayloadType{
		isakmp.NATTNone: {0, 0}, isakmp.NATTRFC3947: {20, 21}, isakmp.NATTDraft03: {130, 131}, isakmp.NATTDraft00: {130, 131}, isakmp.NATTApple: {15, 0},
	} {
		if got := [2]isakmp.PayloadType{v.NATD(), v.NATOA()}; got != want {
			t.Errorf("%v: payloads %v", v, got)
		}
		if v != isakmp.NATTNone && !v.NATD().IsNATD() {
			t.Errorf("%v: %v is no NAT-D", v, v.NATD())
		}
	}
}

func TestNamesOfEveryConstant(t *testing.T) {
	for _, v := range []any{
		isakmp.IdentityProtection, isakmp.Aggressive, isakmp.Informational, isakmp.Transaction, isakmp.QuickMode, isakmp.NewGroupMode,
		isakmp.TypeSA, isakmp.TypeProposal, isakmp.TypeTransform, isakmp.TypeKE, isakmp.TypeID, isakmp.TypeCert, isakmp.TypeCertRequest, isakmp.TypeHash,
		isakmp.TypeSignature, isakmp.TypeNonce, isakmp.TypeNotify, isakmp.TypeDelete, isakmp.TypeVendorID, isakmp.TypeAttributes, isakmp.TypeFragment,
		isakmp.TypeNATDDraft, isakmp.TypeNATOADraft, isakmp.TypeNATD, isakmp.TypeNATOA,
		isakmp.EncDES, isakmp.EncBlowfish, isakmp.Enc3DES, isakmp.EncCAST, isakmp.EncAES, isakmp.EncCamellia, isakmp.HashMD5, isakmp.HashSHA512, isakmp.HashTiger,
		isakmp.AuthPSK, isakmp.AuthRSA, isakmp.AuthHybridInitRSA, isakmp.AuthXAuthInitPSK, isakmp.AuthXAuthRespRSA, isakmp.GroupMODP768, isakmp.GroupECP521,
		isakmp.ESPDES, isakmp.ESPAESGCM16, isakmp.ESPNullAESGMAC, isakmp.ESPAuthMD5, isakmp.ESPAuthXCBC, isakmp.ModeUDPTransport, isakmp.NATTApple,
		isakmp.ConfigRequest, isakmp.ConfigAck, isakmp.CertX509Signature, isakmp.IDKeyID, isakmp.ProtocolIPComp, isakmp.ReasonLimit, isakmp.ReasonFragment,
		isakmp.LoadBalance, isakmp.InvalidPayloadType, isakmp.UnequalPayloadLengths, isakmp.InitialContact,
	} {
		if s := fmt.Sprint(v); strings.Contains(s, "(") && !strings.HasPrefix(s, "NAT") || s == "" {
			t.Errorf("%T %d is called %q", v, v, s)
		}
	}
	// An unknown number shows itself.
	for _, v := range []any{isakmp.ExchangeType(99), isakmp.PayloadType(99), isakmp.EncryptionAlgorithm(99), isakmp.HashAlgorithm(99), isakmp.AuthMethod(99),
		isakmp.GroupID(99), isakmp.ESPTransformID(99), isakmp.ESPAuth(99), isakmp.Mode(99), isakmp.NATT(99), isakmp.ConfigType(99), isakmp.CertEncoding(99),
		isakmp.IDType(99), isakmp.Protocol(99), isakmp.Reason(99), isakmp.NotifyType(99)} {
		if s := fmt.Sprint(v); !strings.Contains(s, "99") {
			t.Errorf("%T 99 is called %q", v, s)
		}
	}
}
