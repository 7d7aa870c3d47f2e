package l2tp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vrgate/controlplane/keymat"
)

// unhex decodes hex with white space and comments from # to the end of a line.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(s) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Real clients' messages.
const (
	// Windows 10's SCCRQ, rebuilt from xl2tpd's log of it (xelerance/xl2tpd issue 219), which names each AVP in order and the
	// size of 108 bytes.
	windowsSCCRQ = `
		c802 006c 0000 0000 0000 0000
		8008 0000 0000 0001             # SCCRQ
		8008 0000 0002 0100             # version 1.0
		800a 0000 0003 00000001         # framing: sync
		800a 0000 0004 00000000         # bearer: none
		0008 0000 0006 0a00             # firmware
		8015 0000 0007 5257422d4c4150544f502d44454c4c  # RWB-LAPTOP-DELL
		000f 0000 0008 4d6963726f736f6674              # Microsoft
		8008 0000 0009 0001             # tunnel 1
		8008 0000 000a 0008             # window 8`
	// Android's mtpd, from its source: window 1, host name "anonymous".
	mtpdSCCRQ = `
		c802 0045 0000 0000 0000 0000
		8008 0000 0000 0001
		8008 0000 0002 0100
		800f 0000 0007 616e6f6e796d6f7573
		800a 0000 0003 00000003
		8008 0000 0009 3a7f
		8008 0000 000a 0001`
	// xl2tpd 1.3.18 with "challenge = yes", secret "geheim", captured with this engine as LNS.
	xl2tpdSCCRQ = `
		c8020079000000000000000080080000000000018008000000020100800a0000000300000003800a00000004000000000008000000060690
		800800000007766d00130000000878656c6572616e63652e636f6d8008000000098e4180080000000a000480160000000bdee5084f7d3896
		2134735168ca4bc415`
	// Its answer to our challenge f3e0b6c3841012376665c7646e5a0fb1.
	xl2tpdSCCCN = `
		c802002acc69000000010001800800000000000380160000000d14c15af5a8f954a6f3c4b447a253ceb8`
	xl2tpdICRQ = `
		c8020030cc69000000020001800800000000000a80080000000e0356800a0000000f00000001800a0000001200000000`
	xl2tpdICCN = `
		c8020032cc6901b300030002800800000000000c800a0000001800000000800a0000001300000001000a0000002600000000`
	xl2tpdCDN = `
		c8020026cc6901b300040002800800000000000e800a000000010001000080080000000e0356`
	// xl2tpd 1.3.18 with "hidden bit = yes": a random vector, though nothing is hidden.
	xl2tpdVectorICRQ = `
		c80200464f41000000020001800800000000000a80160000002459dbd4d4fb0d5733d8d76153da52eb4480080000000e5b6a800a0000000f
		00000001800a0000001200000000`
)

func TestRealMessages(t *testing.T) {
	present := attributes
	for _, c := range []struct {
		name, packet string
		header       header
		want         message
	}{
		{"Windows", windowsSCCRQ, header{control: true, sequenced: true}, message{
			kind: msgSCCRQ, version: 0x0100, framing: 1, firmware: 0x0a00, hostName: "RWB-LAPTOP-DELL", vendorName: "Microsoft", tunnel: 1, window: 8,
			present: present(attrProtocolVersion, attrFramingCapabilities, attrBearerCapabilities, attrFirmware, attrHostName, attrVendorName, attrTunnelID, attrReceiveWindow),
		}},
		{"mtpd", mtpdSCCRQ, header{control: true, sequenced: true}, message{
			kind: msgSCCRQ, version: 0x0100, framing: 3, hostName: "anonymous", tunnel: 0x3a7f, window: 1,
			present: present(attrProtocolVersion, attrFramingCapabilities, attrHostName, attrTunnelID, attrReceiveWindow),
		}},
		{"xl2tpd SCCRQ", xl2tpdSCCRQ, header{control: true, sequenced: true}, message{
			kind: msgSCCRQ, version: 0x0100, framing: 3, firmware: 0x0690, hostName: "vm", vendorName: "xelerance.com", tunnel: 36417, window: 4,
			challenge: unhex(t, "dee5084f7d38962134735168ca4bc415"),
			present:   present(attrProtocolVersion, attrFramingCapabilities, attrBearerCapabilities, attrFirmware, attrHostName, attrVendorName, attrTunnelID, attrReceiveWindow, attrChallenge),
		}},
		{"xl2tpd SCCCN", xl2tpdSCCCN, header{control: true, sequenced: true, tunnel: 52329, ns: 1, nr: 1}, message{
			kind: msgSCCCN, response: unhex(t, "14c15af5a8f954a6f3c4b447a253ceb8"), present: present(attrChallengeResponse),
		}},
		{"xl2tpd ICRQ", xl2tpdICRQ, header{control: true, sequenced: true, tunnel: 52329, ns: 2, nr: 1}, message{
			kind: msgICRQ, session: 854, serial: 1, present: present(attrSessionID, attrCallSerial, attrBearerType),
		}},
		{"xl2tpd ICRQ with a random vector", xl2tpdVectorICRQ, header{control: true, sequenced: true, tunnel: 20289, ns: 2, nr: 1}, message{
			kind: msgICRQ, session: 23402, serial: 1, present: present(attrSessionID, attrCallSerial, attrBearerType),
		}},
		{"xl2tpd ICCN", xl2tpdICCN, header{control: true, sequenced: true, tunnel: 52329, session: 435, ns: 3, nr: 2}, message{
			kind: msgICCN, framing: 1, present: present(attrTxSpeed, attrFramingType, attrRxSpeed),
		}},
		{"xl2tpd CDN", xl2tpdCDN, header{control: true, sequenced: true, tunnel: 52329, session: 435, ns: 4, nr: 2}, message{
			kind: msgCDN, result: 1, session: 854, present: present(attrResultCode, attrSessionID),
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			packet := unhex(t, c.packet)
			h, body, err := parseHeader(packet)
			if err != nil || h != c.header {
				t.Fatalf("header %+v, %v", h, err)
			}
			m, failed := decode(body, keymat.Secret("geheim"))
			if failed != nil {
				t.Fatal(failed)
			}
			if diff := cmp.Diff(c.want, m, cmp.AllowUnexported(message{}, proxyAVPs{})); diff != "" {
				t.Error(diff)
			}
			if again := appendControl(nil, h.tunnel, h.session, h.ns, h.nr, body); !bytes.Equal(again, packet) {
				t.Errorf("encoded %x", again)
			}
		})
	}
}

// xl2tpd accepted defd88... as the answer to its challenge, and answered ours with 14c15a...: the capture above.
func TestChallengeResponse(t *testing.T) {
	for _, c := range []struct {
		carrier         messageType
		challenge, want string
	}{
		{msgSCCRP, "dee5084f7d38962134735168ca4bc415", "efd8809b713db69d7ca2535a2b973a11"},
		{msgSCCCN, "f3e0b6c3841012376665c7646e5a0fb1", "14c15af5a8f954a6f3c4b447a253ceb8"},
	} {
		if got := challengeResponse(c.carrier, keymat.Secret("geheim"), unhex(t, c.challenge)); !bytes.Equal(got, unhex(t, c.want)) {
			t.Errorf("%s: %x, want %s", c.carrier, got, c.want)
		}
	}
}

// The ciphertexts were computed with Python's hashlib, by 10 lines written from RFC 2661 section 4.3 alone:
//
//	p = pack('>H', len(value)) + value + pad; key = pack('>H', type) + secret + vector
//	while p: c = xor(p[:16], md5(key).digest()); out += c; p = p[16:]; key = secret + c
func TestHiding(t *testing.T) {
	counting := make([]byte, 30)
	for i := range counting {
		counting[i] = byte(i)
	}
	for _, c := range []struct {
		secret         string
		vector         []byte
		typ            attribute
		value, padding []byte
		hidden         string
	}{
		{"geheim", counting[:16], attrTunnelID, []byte{0, 1}, nil, "8020c1e9"},
		{"geheim", counting[:16], attrCallingNumber, []byte("+49 30 1234567890 and a long tail"), nil,
			"7e7943de08040070dca79e841c50670777d079307d6bbd5adf2983a384872f5e318e41"},
		{strings.Repeat("a", 40), []byte{255, 255, 255}, attrProxyAuthName, nil, make([]byte, 20), "e4cfb890efadae2eda36ff17f68fa204e7a2b342f873"},
		{"s", []byte("rv"), attrProxyAuthResponse, counting, []byte("pad"), "56391159f3d6ae17ee9bfa0fae0e4b49ec680d29c0cedc1850c7e6fe3f10a2744af07a"},
	} {
		got := hide(keymat.Secret(c.secret), c.vector, c.typ, c.value, c.padding)
		if hex.EncodeToString(got) != c.hidden {
			t.Errorf("hide(%q): %x, want %s", c.value, got, c.hidden)
		}
		back, err := unhide(keymat.Secret(c.secret), c.vector, c.typ, got)
		if err != nil || !bytes.Equal(back, c.value) {
			t.Errorf("unhide: %q, %v", back, err)
		}
	}
	for _, short := range [][]byte{nil, {1}} {
		if _, err := unhide(keymat.Secret("s"), []byte("rv"), attrTunnelID, short); !errors.Is(err, errHidden) {
			t.Errorf("unhide of %d bytes: %v", len(short), err)
		}
	}
}

// A message with everything hidden that may be is read with the secret and only with it.
func TestHiddenMessage(t *testing.T) {
	secret, vector := keymat.Secret("geheim"), []byte("0123456789abcdef")
	w := build(msgICRQ).bytes(attrRandomVector, vector)
	for _, a := range []struct {
		typ   attribute
		value []byte
	}{{attrSessionID, []byte{0x12, 0x34}}, {attrCallSerial, []byte{0, 0, 0, 7}}, {attrCallingNumber, []byte("5551234")}} {
		w.b = avp{mandatory: true, hidden: true, typ: a.typ, value: hide(secret, vector, a.typ, a.value, []byte("xyz"))}.append(w.b)
	}
	m, failed := decode(w.b, secret)
	if failed != nil || m.session != 0x1234 || m.serial != 7 || m.calling != "5551234" {
		t.Errorf("%+v, %v", m, failed)
	}
	if _, failed = decode(w.b, nil); failed == nil || failed.reason != ReasonHiddenAVP || failed.err != ErrorUnknownAVP {
		t.Errorf("without a secret: %v", failed)
	}
	if _, failed = decode(w.b, keymat.Secret("anders")); failed == nil || failed.reason != ReasonMalformed {
		t.Errorf("with another secret: %v", failed)
	}
	// Without a random vector before it, and of an attribute that must not be hidden.
	w = build(msgICRQ)
	w.b = avp{mandatory: true, hidden: true, typ: attrSessionID, value: hide(secret, vector, attrSessionID, []byte{1, 2}, nil)}.append(w.b)
	if _, failed = decode(w.b, secret); failed == nil || failed.reason != ReasonMalformed {
		t.Errorf("without a vector: %v", failed)
	}
	w = build(msgSCCRQ).bytes(attrRandomVector, vector)
	w.b = avp{mandatory: true, hidden: true, typ: attrHostName, value: hide(secret, vector, attrHostName, []byte("pc"), nil)}.append(w.b)
	if _, failed = decode(w.b, secret); failed == nil || failed.reason != ReasonMalformed {
		t.Errorf("hidden host name: %v", failed)
	}
}

func TestDecodeTrouble(t *testing.T) {
	icrq := func() *builder { return build(msgICRQ).u16(attrSessionID, 5).u32(attrCallSerial, 1) }
	with := func(w *builder, a avp) []byte { return a.append(w.b) }
	for _, c := range []struct {
		name   string
		body   []byte
		reason Reason // empty: accepted
		err    uint16
	}{
		{"good", icrq().b, "", 0},
		{"empty", nil, ReasonMalformed, ErrorLength},
		{"first AVP is another", builderOf(attrSessionID, 0, 5), ReasonMalformed, ErrorLength},
		{"unknown AVP", with(icrq(), avp{typ: 999, value: []byte("x")}), "", 0},
		{"unknown mandatory AVP", with(icrq(), avp{mandatory: true, typ: 999, value: []byte("x")}), ReasonUnknownAVP, ErrorUnknownAVP},
		{"unknown mandatory AVP 20, reserved by the RFC", with(icrq(), avp{mandatory: true, typ: 20}), ReasonUnknownAVP, ErrorUnknownAVP},
		// The Broadband Forum's Agent-Remote-Id has the type of Protocol Version (xelerance/xl2tpd issue 163).
		{"vendor AVP", with(icrq(), avp{vendor: 3561, typ: attrProtocolVersion, value: []byte("DEU.QSC.CP250572")}), "", 0},
		{"mandatory vendor AVP", with(icrq(), avp{mandatory: true, vendor: 3561, typ: 2}), ReasonUnknownAVP, ErrorUnknownAVP},
		{"reserved bits", with(icrq(), avp{reserved: 1, typ: attrCallingNumber, value: []byte("1")}), "", 0},
		{"reserved bits, mandatory", with(icrq(), avp{reserved: 8, mandatory: true, typ: attrCallingNumber, value: []byte("1")}), ReasonUnknownAVP, ErrorUnknownAVP},
		{"known AVP of another message", with(icrq(), avp{mandatory: true, typ: attrFirmware, value: []byte{1, 2}}), "", 0},
		{"wrong length, mandatory", with(icrq(), avp{mandatory: true, typ: attrBearerType, value: []byte{1}}), ReasonMalformed, ErrorLength},
		{"wrong length, optional", with(icrq(), avp{typ: attrPhysicalChannel, value: []byte{1}}), "", 0},
		{"cut off", icrq().b[:len(icrq().b)-1], ReasonMalformed, ErrorLength},
		{"trailing byte", append(icrq().b, 0), ReasonMalformed, ErrorLength},
		{"missing AVP", build(msgICRQ).u16(attrSessionID, 5).b, ReasonMissingAVP, ErrorVendor},
		{"unknown message", builderOf(attrMessageType, 0, 99), ReasonUnknownAVP, ErrorUnknownAVP},
		{"unknown message, optional", avp{typ: attrMessageType, value: []byte{0, 99}}.append(nil), "", 0},
	} {
		m, failed := decode(c.body, nil)
		switch {
		case c.reason == "" && failed != nil:
			t.Errorf("%s: %v", c.name, failed)
		case c.reason != "" && (failed == nil || failed.reason != c.reason || failed.result != StopError || failed.err != c.err):
			t.Errorf("%s: %+v, want %s, error code %d", c.name, failed, c.reason, c.err)
		case c.name == "unknown message, optional" && !m.ignore:
			t.Errorf("%s: not ignored", c.name)
		}
	}
}

// Of an attribute that comes twice the first counts.
func TestAttributeTwice(t *testing.T) {
	m, failed := decode(build(msgICRQ).u16(attrSessionID, 5).u16(attrSessionID, 6).u32(attrCallSerial, 1).b, nil)
	if failed != nil || m.session != 5 {
		t.Errorf("%+v %v", m, failed)
	}
}

func builderOf(typ attribute, v ...byte) []byte {
	return avp{mandatory: true, typ: typ, value: v}.append(nil)
}

func TestHeader(t *testing.T) {
	for _, c := range []struct {
		name, packet string
		want         header
		body         string
		err          error
	}{
		{"ZLB", "c802000c 1234 5678 0001 0002", header{control: true, sequenced: true, tunnel: 0x1234, session: 0x5678, ns: 1, nr: 2}, "", nil},
		{"padding behind the length", "c802000c 1234 0000 0001 0002 ffff", header{control: true, sequenced: true, tunnel: 0x1234, ns: 1, nr: 2}, "", nil},
		{"plain data", "0002 1234 5678 ff03c021", header{tunnel: 0x1234, session: 0x5678}, "ff03c021", nil},
		{"data with everything", "4b02 0014 1234 5678 0001 0000 0002 aaaa c0210101", header{tunnel: 0x1234, session: 0x5678, sequenced: true, priority: true, ns: 1}, "c0210101", nil},
		{"offset of 16", "0202 1234 5678 0010 00112233445566778899aabbccddeeff c021", header{tunnel: 0x1234, session: 0x5678}, "c021", nil},
		{"offset to the end", "0202 1234 5678 0002 0000", header{tunnel: 0x1234, session: 0x5678}, "", nil},
		{"offset past the end", "0202 1234 5678 0003 0000", header{}, "", errOffset},
		{"offset of 65535", "0202 1234 5678 ffff 0000", header{}, "", errOffset},
		{"nothing", "", header{}, "", errShortHeader},
		{"5 bytes", "0002 1234 56", header{}, "", errShortHeader},
		{"L2F", "0001 1234 5678", header{}, "", errVersion},
		{"L2TPv3", "c803000c 1234 5678 0001 0002", header{}, "", errVersion},
		{"control without length", "8802 1234 5678 0001 0002", header{}, "", errControlBits},
		{"control without sequence", "c002 0008 1234 5678", header{}, "", errControlBits},
		{"control with offset", "ca02 000e 1234 5678 0001 0002 0000", header{}, "", errControlBits},
		{"control with priority", "c902 000c 1234 5678 0001 0002", header{}, "", errControlBits},
		{"length too large", "c802000d 1234 5678 0001 0002", header{}, "", errLength},
		{"length too small", "c8020007 1234 5678 0001 0002", header{}, "", errLength},
		{"length inside the sequence numbers", "c802000a 1234 5678 0001 0002", header{}, "", errShortHeader},
		{"no room for the offset", "0202 1234 5678 00", header{}, "", errShortHeader},
	} {
		h, body, err := parseHeader(unhex(t, c.packet))
		if !errors.Is(err, c.err) || err == nil && (h != c.want || hex.EncodeToString(body) != c.body) {
			t.Errorf("%s: %+v %x %v", c.name, h, body, err)
		}
	}
}

// Offset pads of up to 16 bytes are always accepted (requirements.md 1.7), whatever is in them.
func TestOffsetPad(t *testing.T) {
	s := newScript(t, profiles(""))
	p := s.peer(1, "203.0.113.5:1701", 5)
	p.up()
	id := p.call(1)
	for pad := range 17 {
		data := binary.BigEndian.AppendUint16([]byte{0x02, 0x02}, uint16(p.lns))
		data = binary.BigEndian.AppendUint16(data, uint16(id))
		data = binary.BigEndian.AppendUint16(data, uint16(pad))
		data = append(data, bytes.Repeat([]byte{0xff}, pad)...)
		data = append(data, 0xff, 0x03, 0xc0, 0x21, 9)
		if f := find[FrameReceived](p.raw(data)); len(f) != 1 || !bytes.Equal(f[0].Frame, []byte{0xc0, 0x21, 9}) {
			t.Errorf("pad of %d: %+v", pad, f)
		}
	}
}

func TestPPPFrame(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"ff03c0210101", "c0210101"},
		{"c0210101", "c0210101"},
		{"ff0321 45", "002145"},
		{"2145", "002145"},
		{"21", "0021"},
		{"ff03", ""},
		{"", ""},
		{"c0", ""},
		{"ff03c0", ""},
	} {
		got, ok := pppFrame(unhex(t, c.in))
		if ok != (c.want != "") || hex.EncodeToString(got) != strings.ReplaceAll(c.want, " ", "") {
			t.Errorf("%s: %x, %v", c.in, got, ok)
		}
	}
	if got := appendData(nil, 0x1234, 0x5678, false, 9, []byte{0xc0, 0x21, 1}); hex.EncodeToString(got) != "000212345678ff03c02101" {
		t.Errorf("data packet %x", got)
	}
	if got := appendData(nil, 0x1234, 0x5678, true, 9, []byte{0xc0, 0x21, 1}); hex.EncodeToString(got) != "08021234567800090000ff03c02101" {
		t.Errorf("sequenced data packet %x", got)
	}
}

func TestText(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"PC", "PC"}, {"PC\x00", "PC"}, {"a\nb\x7f\xff", "a?b??"}, {strings.Repeat("x", 300), strings.Repeat("x", maxText)},
		{strings.Repeat("x", 63) + "ä", strings.Repeat("x", 63)}, {"", ""},
	} {
		if got := text([]byte(c.in)); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

// Every value of every length field, of the message and of each AVP, gives an error or a reading inside the packet.
func TestLengthSweep(t *testing.T) {
	for _, packet := range []string{windowsSCCRQ, xl2tpdICRQ, xl2tpdICCN, xl2tpdCDN} {
		b := unhex(t, packet)
		fields := []int{2}
		for at := controlHeaderLen; at < len(b); at += int(binary.BigEndian.Uint16(b[at:]) & avpMaxLen) {
			fields = append(fields, at)
		}
		for _, at := range fields {
			accepted := 0
			for n := range 1 << 16 {
				bad := bytes.Clone(b)
				binary.BigEndian.PutUint16(bad[at:], uint16(n))
				_, body, err := parseHeader(bad[:len(bad):len(bad)])
				if err != nil {
					continue
				}
				if m, failed := decode(body, keymat.Secret("geheim")); failed == nil && !m.ignore {
					accepted++
				}
			}
			// The right length with each of the M, H and reserved bits of an optional AVP at most, and
			// lengths that happen to swallow whole optional AVPs.
			if accepted == 0 || accepted > 128 {
				t.Errorf("%x: length at %d: %d of 65536 values accepted", b[:14], at, accepted)
			}
		}
		for n := range b {
			if _, _, err := parseHeader(b[:n]); err == nil {
				t.Errorf("%x cut to %d bytes was accepted", b[:14], n)
			}
		}
	}
}

func FuzzHeader(f *testing.F) {
	for _, s := range []string{windowsSCCRQ, xl2tpdICCN, "4b02001412345678000100000002aaaac0210101", "000212345678ff03c021"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, body, err := parseHeader(b)
		if err != nil {
			return
		}
		var again []byte
		if h.control {
			again = appendControl(nil, h.tunnel, h.session, h.ns, h.nr, body)
		} else {
			again = appendData(nil, h.tunnel, h.session, h.sequenced, h.ns, body)
		}
		h2, body2, err := parseHeader(again)
		if err != nil {
			t.Fatalf("%x: %v", again, err)
		}
		h.priority = false // never sent
		if !h.control {
			h.nr = 0 // reserved in data
			body = append([]byte{0xff, 0x03}, body...)
		}
		if h != h2 || !bytes.Equal(body, body2) {
			t.Errorf("%x: %+v %x, encoded and read again %+v %x", b, h, body, h2, body2)
		}
	})
}

// What decode accepts is a sequence of AVPs that reads the same after it has been written again; what it refuses names
// a reason.
func FuzzMessage(f *testing.F) {
	for _, s := range []string{windowsSCCRQ, mtpdSCCRQ, xl2tpdSCCRQ, xl2tpdSCCCN, xl2tpdICRQ, xl2tpdICCN, xl2tpdCDN, xl2tpdVectorICRQ} {
		f.Add(unhex(f, s)[controlHeaderLen:])
	}
	secret := keymat.Secret("geheim")
	f.Fuzz(func(t *testing.T, b []byte) {
		m, failed := decode(b, secret)
		if lax, trouble := decodeAVPs(b, secret, true); lax.present != m.present || failed == nil && (trouble != nil || lax.tolerated > 0) {
			t.Errorf("tolerated %d, %v; strict %v", lax.tolerated, trouble, failed)
		}
		if failed != nil && (failed.reason == "" || failed.result == 0 || failed.text == "" || len(failed.text) > 200) {
			t.Errorf("%+v", failed)
		}
		for _, s := range []string{m.calling, m.called, m.subAddress, m.group} {
			if len(s) > maxNumber || strings.ContainsAny(s, "\n\x00") {
				t.Errorf("number %q", s)
			}
		}
		for _, s := range []string{m.hostName, m.vendorName, m.text} {
			if len(s) > maxText || strings.ContainsAny(s, "\n\x00") {
				t.Errorf("text %q", s)
			}
		}
		var again []byte
		for rest := b; len(rest) > 0; {
			a, next, err := parseAVP(rest)
			if err != nil {
				if failed == nil && !m.ignore {
					t.Fatalf("accepted with %v", err)
				}
				return
			}
			again = a.append(again)
			rest = next
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x, written again %x", b, again)
		}
	})
}

func FuzzHiding(f *testing.F) {
	f.Add([]byte("geheim"), []byte("0123456789abcdef"), uint16(attrTunnelID), []byte{0, 1}, []byte("pad"))
	f.Fuzz(func(t *testing.T, secret, vector []byte, typ uint16, value, padding []byte) {
		if len(value) > avpMaxValue {
			return
		}
		got, err := unhide(secret, vector, attribute(typ), hide(secret, vector, attribute(typ), value, padding))
		if err != nil || !bytes.Equal(got, value) {
			t.Errorf("%x, %v, want %x", got, err, value)
		}
		if plain, err := unhide(secret, vector, attribute(typ), value); err == nil && len(plain) > len(value) {
			t.Errorf("unhide made %d bytes of %d", len(plain), len(value))
		}
	})
}
