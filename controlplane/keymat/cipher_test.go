package keymat_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"vrgate/controlplane/keymat"
)

// filler is the function of the same name in testdata/vectors.py.
func filler(label string, n int) []byte {
	var out []byte
	for i := 0; len(out) < n; i++ {
		s := sha256.Sum256(fmt.Appendf(nil, "%s/%d", label, i))
		out = append(out, s[:]...)
	}
	return out[:n]
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPRFVectors uses the published vectors of HMAC: RFC 2202 sections 2 and 3,
// RFC 4231 sections 4.3 and 4.7.
func TestPRFVectors(t *testing.T) {
	jefe, what := "Jefe", "what do ya want for nothing?"
	long := bytes.Repeat([]byte{0xaa}, 131)
	larger := "Test Using Larger Than Block-Size Key - Hash Key First"
	for _, c := range []struct {
		hash keymat.Hash
		key  []byte
		data string
		want string
	}{
		{keymat.MD5, []byte(jefe), what, "750c783e6ab0b503eaa86e310a5db738"},
		{keymat.MD5, long[:80], larger, "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"},
		{keymat.SHA1, []byte(jefe), what, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
		{keymat.SHA1, long[:80], larger, "aa4ae5e15272d00e95705637ce8a3b55ed402112"},
		{keymat.SHA256, []byte(jefe), what, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{keymat.SHA256, long, larger, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
		{keymat.SHA384, []byte(jefe), what, "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649"},
		{keymat.SHA384, long, larger, "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952"},
		{keymat.SHA512, []byte(jefe), what, "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"},
		{keymat.SHA512, long, larger, "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598"},
	} {
		if got := c.hash.PRF(c.key, []byte(c.data[:3]), nil, []byte(c.data[3:])); hex.EncodeToString(got) != c.want {
			t.Errorf("%v: %x, want %s", c.hash, got, c.want)
		}
		if got := len(c.hash.Sum()); got != c.hash.Size() || got*2 != len(c.want) {
			t.Errorf("%v: digest of %d bytes, Size %d", c.hash, got, c.hash.Size())
		}
	}
}

// TestCBCVectors: AES-128 case 2 of RFC 3602 section 4; AES-256 from NIST SP
// 800-38A F.2.5 (first two blocks); 3DES and DES by the commands named.
func TestCBCVectors(t *testing.T) {
	for _, c := range []struct {
		name               string
		suite              keymat.Suite
		key, iv, in, cbcCT string
	}{
		{"AES-128", keymat.Suite{Cipher: keymat.AES, KeyBits: 128},
			"c286696d887c9aa0611bbb3e2025a45a", "562e17996d093d28ddb3ba695a2e6f58",
			"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			"d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1"},
		{"AES-256", keymat.Suite{Cipher: keymat.AES, KeyBits: 256},
			"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "000102030405060708090a0b0c0d0e0f",
			"6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51",
			"f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d"},
		// printf … | openssl enc -des-ede3-cbc -nopad -K … -iv …  (OpenSSL 3.0)
		{"3DES", keymat.Suite{Cipher: keymat.DES3},
			"0123456789abcdef23456789abcdef01456789abcdef0123", "f69f2445df4f9b17",
			"6bc1bee22e409f96e93d7e117393172a", "2079c3d53aa763e193b79e2569ab5262"},
		// the same with -des-cbc -provider legacy -provider default
		{"DES", keymat.Suite{Cipher: keymat.DES},
			"0123456789abcdef", "f69f2445df4f9b17",
			"6bc1bee22e409f96e93d7e117393172a", "2d121f90fcf68631ed788fcfe31a62df"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := keymat.Keys{Suite: c.suite, Key: unhex(t, c.key)}
			iv, in, want := unhex(t, c.iv), unhex(t, c.in), unhex(t, c.cbcCT)
			out, next, err := k.Encrypt(iv, in)
			if err != nil || !bytes.Equal(out, want) {
				t.Fatalf("Encrypt = %x, %v, want %x", out, err, want)
			}
			if n := len(iv); !bytes.Equal(next, want[len(want)-n:]) {
				t.Errorf("next iv %x is not the last block", next)
			}
			back, next2, err := k.Decrypt(iv, out)
			if err != nil || !bytes.Equal(back, in) || !bytes.Equal(next, next2) {
				t.Errorf("Decrypt = %x, %x, %v", back, next2, err)
			}
			if !bytes.Equal(iv, unhex(t, c.iv)) {
				t.Error("the iv of the caller was changed")
			}
		})
	}
}

func TestEncryptPadsWithZerosToTheBlock(t *testing.T) {
	for _, s := range []keymat.Suite{{Cipher: keymat.DES3}, {Cipher: keymat.AES, KeyBits: 256}} {
		n, err := s.Cipher.KeyLen(s.KeyBits)
		if err != nil {
			t.Fatal(err)
		}
		k := keymat.Keys{Suite: s, Key: filler("key", n)}
		block := s.Cipher.BlockLen()
		iv := make([]byte, block)
		for l := 1; l <= 3*block; l++ {
			in := filler("body", l)
			ct, _, err := k.Encrypt(iv, in)
			if err != nil {
				t.Fatal(err)
			}
			if want := (l + block - 1) / block * block; len(ct) != want {
				t.Fatalf("%v: %d bytes became %d, want %d", s.Cipher, l, len(ct), want)
			}
			pt, _, err := k.Decrypt(iv, ct)
			if err != nil || !bytes.Equal(pt[:l], in) || len(bytes.Trim(pt[l:], "\x00")) != 0 {
				t.Fatalf("%v: %d bytes came back as %x, %v", s.Cipher, l, pt, err)
			}
		}
	}
}

func TestDecryptRefusesWhatIsNoCiphertext(t *testing.T) {
	k := keymat.Keys{Suite: keymat.Suite{Cipher: keymat.AES, KeyBits: 128}, Key: filler("key", 16)}
	iv := make([]byte, 16)
	for _, l := range []int{0, 1, 15, 17, 31} {
		if _, _, err := k.Decrypt(iv, make([]byte, l)); !errors.Is(err, keymat.ErrCiphertext) {
			t.Errorf("%d bytes: %v", l, err)
		}
	}
	if _, _, err := k.Decrypt(iv[:8], make([]byte, 16)); err == nil {
		t.Error("iv of 8 bytes accepted")
	}
	if _, _, err := k.Encrypt(iv, nil); err == nil {
		t.Error("an empty body was encrypted")
	}
	if _, _, err := (keymat.Keys{Suite: keymat.Suite{Cipher: 3}}).Encrypt(iv, iv); !errors.Is(err, keymat.ErrUnsupported) {
		t.Errorf("Blowfish: %v", err)
	}
}

func TestSuiteCheck(t *testing.T) {
	for _, s := range []keymat.Suite{
		{Cipher: keymat.AES, KeyBits: 512, Hash: keymat.SHA1},
		{Cipher: keymat.AES, KeyBits: 1, Hash: keymat.SHA1},
		{Cipher: keymat.DES3, KeyBits: 128, Hash: keymat.SHA1},
		{Cipher: keymat.AES, KeyBits: 128, Hash: 3},
		{Cipher: 3, KeyBits: 128, Hash: keymat.SHA1},
		{},
	} {
		if err := s.Check(); !errors.Is(err, keymat.ErrUnsupported) {
			t.Errorf("%+v: %v", s, err)
		}
		if _, err := keymat.Derive(s, keymat.Secret("x"), keymat.Secret("y"), [8]byte{}, [8]byte{}); err == nil {
			t.Errorf("%+v: keys derived", s)
		}
	}
}
