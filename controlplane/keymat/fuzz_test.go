package keymat_test

import (
	"bytes"
	"errors"
	"testing"

	"vrgate/controlplane/keymat"
)

// FuzzShared: a peer's public value gives a secret of the group's length or an
// error that says so, never a panic, and MODP secrets are never 0 or 1.
func FuzzShared(f *testing.F) {
	pairs := map[keymat.Group]keymat.KeyPair{}
	for _, g := range keymat.Groups() {
		pairs[g] = pair(f, g)
		f.Add(uint16(g), pair(f, g).Public)
		f.Add(uint16(g), make([]byte, g.PublicLen()))
	}
	f.Add(uint16(0), []byte{2})
	f.Fuzz(func(t *testing.T, group uint16, peer []byte) {
		g := keymat.Group(group)
		kp, ok := pairs[g]
		if !ok {
			kp.Group = g
		}
		in := bytes.Clone(peer)
		s, err := keymat.Shared(kp, peer)
		if !bytes.Equal(in, peer) {
			t.Fatal("the peer's value was changed")
		}
		if err != nil {
			if s != nil || !errors.Is(err, keymat.ErrPublicValue) && (ok || !errors.Is(err, keymat.ErrUnsupported)) {
				t.Fatalf("%v: secret of %d bytes, %v", g, len(s), err)
			}
			return
		}
		if len(s) != g.SharedLen() || len(peer) != g.PublicLen() || g.CheckPublic(peer) != nil {
			t.Fatalf("%v: %d bytes from a value of %d", g, len(s), len(peer))
		}
		if rest := bytes.TrimLeft(s, "\x00"); len(rest) == 0 || len(rest) == 1 && rest[0] == 1 {
			t.Fatalf("%v: secret %x", g, s.Reveal())
		}
	})
}

// FuzzCBC: what is encrypted decrypts to the same with zeros behind, and the
// ciphertext decrypts in the same way in one piece and in two messages.
func FuzzCBC(f *testing.F) {
	f.Add(uint16(7), uint16(256), []byte("a body that is longer than one block of AES"))
	f.Add(uint16(5), uint16(0), []byte("12345678"))
	f.Add(uint16(1), uint16(0), []byte{0})
	f.Fuzz(func(t *testing.T, cipher, bits uint16, body []byte) {
		s := keymat.Suite{Cipher: keymat.Cipher(cipher), KeyBits: int(bits), Hash: keymat.SHA1}
		k, err := keymat.Derive(s, keymat.Secret("skeyid"), keymat.Secret("gxy"), [8]byte{1}, [8]byte{2})
		if err != nil {
			if !errors.Is(err, keymat.ErrUnsupported) || s.Check() == nil {
				t.Fatal(err)
			}
			return
		}
		iv := s.FirstIV([]byte("gxi"), []byte("gxr"))
		ct, next, err := k.Encrypt(iv, body)
		if err != nil {
			if len(body) != 0 {
				t.Fatal(err)
			}
			return
		}
		n := s.Cipher.BlockLen()
		pt, after, err := k.Decrypt(iv, ct)
		if err != nil || len(pt)%n != 0 || len(pt)-len(body) >= n || !bytes.Equal(after, next) || !bytes.Equal(next, ct[len(ct)-n:]) ||
			!bytes.Equal(pt[:len(body)], body) || len(bytes.Trim(pt[len(body):], "\x00")) != 0 {
			t.Fatalf("%v: %x came back as %x, %v", s, body, pt, err)
		}
		if len(ct) > n {
			one, mid, err1 := k.Decrypt(iv, ct[:n])
			two, _, err2 := k.Decrypt(mid, ct[n:])
			if err1 != nil || err2 != nil || !bytes.Equal(append(one, two...), pt) {
				t.Fatal("the vector of the next message is not the last block")
			}
		}
	})
}
