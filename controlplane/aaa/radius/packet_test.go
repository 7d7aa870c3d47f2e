package radius

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	rad "layeh.com/radius"

	"vrgate/controlplane/keymat"
)

var testSecret = keymat.Secret("xyzzy5461")

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "", "\t", "").Replace(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRFC2865Examples uses the packets printed in RFC 2865 section 7.1: the password hides as printed and the printed
// answer verifies, without Message-Authenticator.
func TestRFC2865Examples(t *testing.T) {
	request := unhex(t, `01 00 00 38 0f 40 3f 94 73 97 80 57 bd 83 d5 cb
		98 f4 22 7a 01 06 6e 65 6d 6f 02 12 0d be 70 8d
		93 d4 13 ce 31 96 e4 3f 78 2a 0a ee 04 06 c0 a8
		01 10 05 06 00 00 00 03`)
	answer := unhex(t, `02 00 00 26 86 fe 22 0e 76 24 ba 2a 10 05 f6 bf
		9b 55 e0 b2 06 06 00 00 00 01 0f 06 00 00 00 00
		0e 06 c0 a8 01 03`)
	under := Authenticator(request[4:20])
	hidden, err := hidePassword(keymat.Secret("arctangent"), testSecret, under)
	if err != nil || !bytes.Equal(hidden, request[28:44]) {
		t.Errorf("hidden password %x, %v", hidden, err)
	}
	p, err := VerifyAnswer(answer, under, testSecret, false)
	if err != nil || p.Code != rad.CodeAccessAccept || len(p.Attributes) != 3 {
		t.Errorf("answer: %+v, %v", p, err)
	}
	if _, err := VerifyAnswer(answer, under, testSecret, true); !errors.Is(err, ErrNoMessageAuthenticator) {
		t.Errorf("answer where Message-Authenticator is needed: %v", err)
	}
}

// TestRFC5997Examples uses the Status-Server of RFC 5997 section 6.1: Message-Authenticator as printed.
func TestRFC5997Examples(t *testing.T) {
	request := unhex(t, `0c da 00 26 8a 54 f4 68 6f b3 94 c5 28 66 e3 02
		18 5d 06 23 50 12 5a 66 5e 2e 1e 84 11 f3 e2 43
		82 20 97 c8 4f a3`)
	answer := unhex(t, `02 da 00 14 ef 0d 55 2a 4b f2 d6 93 ec 2b 6f e8
		b5 41 1d 66`)
	p := &rad.Packet{Code: rad.CodeStatusServer, Identifier: 0xda, Secret: testSecret}
	copy(p.Authenticator[:], request[4:])
	b, err := SignRequest(p, nil)
	if err != nil || !bytes.Equal(b, request) {
		t.Errorf("Status-Server\n%x, wants\n%x, %v", b, request, err)
	}
	if _, err := VerifyAnswer(answer, p.Authenticator, testSecret, false); err != nil {
		t.Errorf("answer: %v", err)
	}
}

func TestSignedRequests(t *testing.T) {
	for _, code := range []rad.Code{rad.CodeAccessRequest, rad.CodeAccountingRequest, rad.CodeStatusServer, rad.CodeCoARequest, rad.CodeDisconnectRequest} {
		p := rad.New(code, testSecret)
		p.Add(1, []byte("alice"))
		p.Add(attrMessageAuthenticator, make([]byte, 16)) // replaced
		p.Add(44, []byte("0001"))
		password := keymat.Secret("a password that is longer than one block")
		if code != rad.CodeAccessRequest {
			password = nil
		}
		b, err := SignRequest(p, password)
		if err != nil {
			t.Fatal(code, err)
		}
		signed := code != rad.CodeAccountingRequest
		if signed && b[headerLen] != byte(attrMessageAuthenticator) {
			t.Errorf("%v: the first attribute is %d, not Message-Authenticator", code, b[headerLen])
		}
		if !rad.IsAuthenticRequest(b, testSecret) {
			t.Errorf("%v: the library does not take it as authentic", code)
		}
		q, err := VerifyRequest(b, testSecret, signed)
		if err != nil {
			t.Fatal(code, err)
		}
		if password != nil {
			clear, err := rad.UserPassword(q.Get(attrUserPassword), testSecret, q.Authenticator[:])
			if err != nil || !bytes.Equal(clear, password) {
				t.Errorf("password reads %q, %v", clear, err)
			}
		}
		if got := string(q.Get(1)) + "/" + string(q.Get(44)); got != "alice/0001" {
			t.Errorf("%v: attributes %s", code, got)
		}
		for i := range b { // every byte is covered
			bad := bytes.Clone(b)
			bad[i] ^= 0x40
			if code == rad.CodeAccessRequest || code == rad.CodeStatusServer {
				if q, err := VerifyRequest(bad, testSecret, true); err == nil && q.Code == code {
					t.Errorf("%v: byte %d may be changed", code, i)
				}
			} else if _, err := VerifyRequest(bad, testSecret, signed); err == nil {
				t.Errorf("%v: byte %d may be changed", code, i)
			}
		}
		if _, err := VerifyRequest(b, keymat.Secret("other"), signed); err == nil {
			t.Errorf("%v: verifies with another secret", code)
		}
	}
}

func TestSignedAnswers(t *testing.T) {
	request := rad.New(rad.CodeCoARequest, testSecret)
	wire, err := SignRequest(request, nil)
	if err != nil {
		t.Fatal(err)
	}
	q, err := VerifyRequest(wire, testSecret, true)
	if err != nil {
		t.Fatal(err)
	}
	a := q.Response(rad.CodeCoANAK)
	a.Add(101, rad.NewInteger(503)) // Error-Cause
	b, err := SignAnswer(a)
	if err != nil {
		t.Fatal(err)
	}
	if b[headerLen] != byte(attrMessageAuthenticator) || !rad.IsAuthenticResponse(b, wire, testSecret) {
		t.Errorf("answer %x", b)
	}
	if p, err := VerifyAnswer(append(b, "padding"...), q.Authenticator, testSecret, true); err != nil || p.Code != rad.CodeCoANAK {
		t.Errorf("answer: %v, %v", p, err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := VerifyAnswer(bad, q.Authenticator, testSecret, true); err == nil {
			t.Errorf("byte %d may be changed", i)
		}
	}
}

// TestMalformed walks every length at both ends.
func TestMalformed(t *testing.T) {
	good := func() []byte {
		a := &rad.Packet{Code: rad.CodeAccessAccept, Secret: testSecret}
		a.Add(18, []byte("hello"))
		b, err := SignAnswer(a)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	tests := []struct {
		name string
		data func(b []byte) []byte
	}{
		{"nothing", func(b []byte) []byte { return nil }},
		{"19 bytes", func(b []byte) []byte { return b[:19] }},
		{"length below the header", func(b []byte) []byte { b[2], b[3] = 0, 19; return b }},
		{"length beyond the data", func(b []byte) []byte { b[3]++; return b }},
		{"length beyond 4096", func(b []byte) []byte { b[2], b[3] = 0x10, 0x01; return append(b, make([]byte, 4096)...) }},
		{"datagram beyond 4096", func(b []byte) []byte { return append(b, make([]byte, 4096)...) }},
		{"attribute of length 0", func(b []byte) []byte { b[len(b)-6] = 0; return b }},
		{"attribute of length 1", func(b []byte) []byte { b[len(b)-6] = 1; return b }},
		{"attribute too long", func(b []byte) []byte { b[len(b)-6]++; return b }},
		{"half an attribute", func(b []byte) []byte { b[len(b)-6]--; return b }},
		{"short Message-Authenticator", func(b []byte) []byte { b[headerLen+1] = 17; return b }},
		{"Message-Authenticator twice", func(b []byte) []byte {
			b = append(b, b[headerLen:headerLen+18]...)
			b[3] += 18
			return b
		}},
	}
	for _, tt := range tests {
		var m *MalformedError
		if _, err := VerifyAnswer(tt.data(good()), Authenticator{}, testSecret, true); !errors.As(err, &m) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestNotEncodable(t *testing.T) {
	long := func(n int) rad.Attributes {
		var a rad.Attributes
		for range n {
			a.Add(18, make([]byte, 253))
		}
		return a
	}
	tests := []struct {
		name     string
		code     rad.Code
		attrs    rad.Attributes
		password keymat.Secret
	}{
		{"4096 bytes with what is added", rad.CodeAccessRequest, long(16), nil},
		{"attribute of 254 bytes", rad.CodeAccessRequest, rad.Attributes{{Type: 1, Attribute: make([]byte, 254)}}, nil},
		{"attribute 0", rad.CodeAccessRequest, rad.Attributes{{Type: 0}}, nil},
		{"attribute 256", rad.CodeAccessRequest, rad.Attributes{{Type: 256}}, nil},
		{"password of 129 bytes", rad.CodeAccessRequest, nil, make(keymat.Secret, 129)},
		{"no request", rad.CodeAccessAccept, nil, nil},
	}
	for _, tt := range tests {
		p := rad.New(tt.code, testSecret)
		p.Attributes = tt.attrs
		if b, err := SignRequest(p, tt.password); err == nil {
			t.Errorf("%s: encoded as %d bytes", tt.name, len(b))
		}
	}
	p := rad.New(rad.CodeAccountingRequest, testSecret)
	p.Attributes = append(long(15), &rad.AVP{Type: 18, Attribute: make([]byte, 4096-20-15*255-2)})
	if b, err := SignRequest(p, nil); err != nil || len(b) != MaxPacket {
		t.Errorf("exactly 4096 bytes: %d, %v", len(b), err)
	}
}
