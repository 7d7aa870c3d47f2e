package pppd

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RFC 2759 section 9.2, the worked example of the protocol's authors.
const (
	rfc2759User     = "User"
	rfc2759Password = "clientPass"
	rfc2759AuthCh   = "5B5D7C7D7B3F2F3E3C2C602132262628"
	rfc2759PeerCh   = "21402324255E262A28295F2B3A337C7E"
	rfc2759Digest   = "D02E4386BCE91226"
	rfc2759Hash     = "44EBBA8D5312B8D611474411F56989AE"
	rfc2759Response = "82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF"
	rfc2759Proof    = "S=407A5589115FD0D6209F510FE9C04566932CDA56"
)

func TestMSCHAPv2VectorsOfRFC2759(t *testing.T) {
	hash := ntPasswordHash([]byte(rfc2759Password))
	if want := unhex(t, rfc2759Hash); !bytes.Equal(hash, want) {
		t.Errorf("password hash %x, want %x", hash, want)
	}
	digest := challengeHash(unhex(t, rfc2759PeerCh), unhex(t, rfc2759AuthCh), rfc2759User)
	if want := unhex(t, rfc2759Digest); !bytes.Equal(digest, want) {
		t.Errorf("challenge hash %x, want %x", digest, want)
	}
	nt := challengeResponse(digest, hash)
	if want := unhex(t, rfc2759Response); !bytes.Equal(nt, want) {
		t.Errorf("response %x, want %x", nt, want)
	}
	if got := authenticatorProof(hash, nt, digest); got != rfc2759Proof {
		t.Errorf("proof %s, want %s", got, rfc2759Proof)
	}
}

// rfc2759Value is the 49-byte response value built from the RFC's numbers, not from our own code.
func rfc2759Value(t testing.TB) []byte {
	v := unhex(t, rfc2759PeerCh)
	v = append(v, make([]byte, 8)...)
	v = append(v, unhex(t, rfc2759Response)...)
	return append(v, 0)
}

func TestCheckMSCHAPv2(t *testing.T) {
	challenge, value := unhex(t, rfc2759AuthCh), rfc2759Value(t)
	flip := func(b []byte, i int) []byte { b = bytes.Clone(b); b[i] ^= 1; return b }
	tests := []struct {
		name                          string
		user                          string
		challenge, response, password []byte
		ok                            bool
	}{
		{"RFC", rfc2759User, challenge, value, []byte(rfc2759Password), true},
		{"domain is stripped", `CORP\` + rfc2759User, challenge, value, []byte(rfc2759Password), true},
		{"two domains", `A\B\` + rfc2759User, challenge, value, []byte(rfc2759Password), true},
		{"other user", "user", challenge, value, []byte(rfc2759Password), false},
		{"realm is not stripped", rfc2759User + "@corp", challenge, value, []byte(rfc2759Password), false},
		{"wrong password", rfc2759User, challenge, value, []byte("clientpass"), false},
		{"empty password", rfc2759User, challenge, value, nil, false},
		{"other challenge", rfc2759User, flip(challenge, 3), value, []byte(rfc2759Password), false},
		{"other peer challenge", rfc2759User, challenge, flip(value, 0), []byte(rfc2759Password), false},
		{"first octet", rfc2759User, challenge, flip(value, 24), []byte(rfc2759Password), false},
		{"last octet", rfc2759User, challenge, flip(value, 47), []byte(rfc2759Password), false},
		{"short response", rfc2759User, challenge, value[:48], []byte(rfc2759Password), false},
		{"short challenge", rfc2759User, challenge[:15], value, []byte(rfc2759Password), false},
		{"not UTF-8", rfc2759User, challenge, value, []byte{0xff, 'a'}, false},
		{"empty everything", "", nil, nil, nil, false},
	}
	for _, tt := range tests {
		proof, ok := CheckMSCHAPv2(tt.user, tt.challenge, tt.response, tt.password)
		if ok != tt.ok {
			t.Errorf("%s: ok = %v, want %v", tt.name, ok, tt.ok)
		}
		if want := map[bool]string{true: rfc2759Proof}[tt.ok]; proof != want {
			t.Errorf("%s: proof %q, want %q", tt.name, proof, want)
		}
	}
}

func TestMSCHAPv2OutsideASCII(t *testing.T) {
	// Both ends must agree on UTF-16, including a surrogate pair. The hash of U+00FC U+1F511 was computed with
	// OpenSSL: printf '\xfc\x00\x3d\xd8\x11\xdd' | openssl dgst -provider legacy -md4.
	got := ntPasswordHash([]byte("ü🔑"))
	if want := unhex(t, "234581557860670510306de7a1d91e4d"); !bytes.Equal(got, want) {
		t.Errorf("hash %x, want %x", got, want)
	}
}

func TestCHAPMD5(t *testing.T) {
	// printf '\x17secret0123456789abcdef' | md5sum
	challenge, want := []byte("0123456789abcdef"), unhex(t, "d4ad1b49b8a616c5bc667849dcfeccde")
	if got := chapMD5(0x17, challenge, []byte("secret")); !bytes.Equal(got, want) {
		t.Fatalf("response %x, want %x", got, want)
	}
	for _, tt := range []struct {
		name     string
		id       uint8
		response []byte
		password string
		ok       bool
	}{
		{"good", 0x17, want, "secret", true},
		{"identifier", 0x18, want, "secret", false},
		{"password", 0x17, want, "Secret", false},
		{"short", 0x17, want[:15], "secret", false},
		{"empty", 0x17, nil, "secret", false},
	} {
		if got := CheckCHAPMD5(tt.id, challenge, tt.response, []byte(tt.password)); got != tt.ok {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.ok)
		}
	}
}
