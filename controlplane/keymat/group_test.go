package keymat_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"math/big"
	"strings"
	"sync"
	"testing"

	"vrgate/controlplane/keymat"
)

// primes recomputes the MODP primes from the formula of RFC 2409 section 6 and
// RFC 3526: 2^n - 2^(n-64) - 1 + 2^64 * (floor(2^(n-130) pi) + k).
var primes = sync.OnceValue(func() map[keymat.Group]*big.Int {
	out := map[keymat.Group]*big.Int{}
	for g, c := range map[keymat.Group]struct {
		n uint
		k int64
	}{
		keymat.MODP768: {768, 149686}, keymat.MODP1024: {1024, 129093}, keymat.MODP1536: {1536, 741804},
		keymat.MODP2048: {2048, 124476}, keymat.MODP3072: {3072, 1690314}, keymat.MODP4096: {4096, 240904},
	} {
		one := big.NewInt(1)
		p := new(big.Int).Lsh(one, c.n)
		p.Sub(p, new(big.Int).Lsh(one, c.n-64))
		p.Sub(p, one)
		x := piBits(c.n - 130)
		x.Add(x, big.NewInt(c.k))
		p.Add(p, x.Lsh(x, 64))
		out[g] = p
	}
	return out
})

// piBits is floor(2^n pi) by Machin's formula.
func piBits(n uint) *big.Int {
	const guard = 64
	unit := new(big.Int).Lsh(big.NewInt(1), n+guard)
	arctan := func(inverse int64) *big.Int {
		x := big.NewInt(inverse)
		square := new(big.Int).Mul(x, x)
		term := new(big.Int).Quo(unit, x)
		sum := new(big.Int).Set(term)
		for k := int64(3); term.Sign() != 0; k += 2 {
			term.Quo(term, square)
			part := new(big.Int).Quo(term, big.NewInt(k))
			if k%4 == 3 {
				sum.Sub(sum, part)
			} else {
				sum.Add(sum, part)
			}
		}
		return sum
	}
	pi := new(big.Int).Mul(big.NewInt(4), arctan(5))
	pi.Sub(pi, arctan(239))
	pi.Mul(pi, big.NewInt(4))
	return pi.Rsh(pi, guard)
}

// TestMODPAgainstBig checks primes, generator and arithmetic of all MODP groups
// against math/big and the formula of the primes.
func TestMODPAgainstBig(t *testing.T) {
	for g, p := range primes() {
		t.Run(g.String(), func(t *testing.T) {
			// A safe prime: p and (p-1)/2 are both prime.
			if !p.ProbablyPrime(0) || !new(big.Int).Rsh(p, 1).ProbablyPrime(0) {
				t.Error("the formula gives no safe prime")
			}
			if g.PublicLen() != len(p.Bytes()) || g.SharedLen() != g.PublicLen() {
				t.Fatalf("lengths %d and %d, want %d", g.PublicLen(), g.SharedLen(), len(p.Bytes()))
			}
			for range 8 {
				a, b := pair(t, g), pair(t, g)
				x := new(big.Int).SetBytes(a.Private)
				if want := 256; x.BitLen() != want && (g < keymat.MODP3072 || x.BitLen() != 320) {
					t.Errorf("exponent of %d bits", x.BitLen())
				}
				y := new(big.Int).Exp(big.NewInt(2), x, p)
				if !bytes.Equal(a.Public, y.FillBytes(make([]byte, g.PublicLen()))) {
					t.Fatal("public value is not 2^x mod p")
				}
				want := new(big.Int).Exp(new(big.Int).SetBytes(b.Public), x, p).FillBytes(make([]byte, g.SharedLen()))
				got, err := keymat.Shared(a, b.Public)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("shared secret is not y^x mod p (%v)", err)
				}
			}
		})
	}
}

// TestMODPExponentEdges walks exponents whose windows are all zero, all one, or
// single bits, where a fixed-window exponentiation goes wrong first.
func TestMODPExponentEdges(t *testing.T) {
	ps := primes()
	for _, g := range []keymat.Group{keymat.MODP1024, keymat.MODP2048, keymat.MODP3072} {
		n := 32
		if g == keymat.MODP3072 {
			n = 40
		}
		sources := [][]byte{make([]byte, n), bytes.Repeat([]byte{0xff}, n), bytes.Repeat([]byte{0x10}, n), bytes.Repeat([]byte{0x01}, n)}
		for i := 0; i < n; i += 7 {
			b := make([]byte, n)
			b[i] = 0x80
			sources = append(sources, b)
		}
		for _, src := range sources {
			kp, err := g.Generate(bytes.NewReader(src))
			if err != nil {
				t.Fatal(err)
			}
			want := new(big.Int).Exp(big.NewInt(2), new(big.Int).SetBytes(kp.Private), ps[g])
			if new(big.Int).SetBytes(kp.Public).Cmp(want) != 0 {
				t.Errorf("%v: 2^%x is wrong", g, kp.Private.Reveal())
			}
		}
	}
}

func pair(t testing.TB, g keymat.Group) keymat.KeyPair {
	t.Helper()
	kp, err := g.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return kp
}

func TestBothSidesAgree(t *testing.T) {
	for _, g := range keymat.Groups() {
		a, b := pair(t, g), pair(t, g)
		sa, err := keymat.Shared(a, b.Public)
		if err != nil {
			t.Fatal(err)
		}
		sb, err := keymat.Shared(b, a.Public)
		if err != nil {
			t.Fatal(err)
		}
		if !sa.Equal(sb) || len(sa) != g.SharedLen() || len(a.Public) != g.PublicLen() || a.Group != g {
			t.Errorf("%v: secrets of %d and %d bytes, public of %d", g, len(sa), len(sb), len(a.Public))
		}
		if bytes.Equal(a.Public, b.Public) || bytes.Equal(a.Private, b.Private) {
			t.Errorf("%v: the same key twice", g)
		}
	}
}

// TestECPVectors: RFC 5903 section 8, RFC 7748 section 6.1.
func TestECPVectors(t *testing.T) {
	for _, c := range []struct {
		group          keymat.Group
		i, gi, r, girx string
	}{
		{keymat.ECP256,
			"c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433",
			"dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180" +
				"5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3",
			"c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53",
			"d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de"},
		{keymat.ECP384,
			"099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee3faef896783ab194",
			"667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4c88732aee95f41aa" +
				"9482ed1fc0eeb9cafc4984625ccfc23f65032149e0e144ada024181535a0f38eeb9fcff3c2c947dae69b4c634573a81c",
			"41cb0779b4bdb85d47846725fbec3c9430fab46cc8dc5060855cc9bda0aa2942e0308312916b8ed2960e4bd55a7448fc",
			"11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4d603135569b9e9d09cf5d4a270f59746"},
		{keymat.ECP521,
			"0037ade9319a89f4dabdb3ef411aaccca5123c61acab57b5393dce47608172a095aa85a30fe1c2952c6771d937ba9777f5957b2639bab072462f68c27a57382d4a52",
			"0015417e84dbf28c0ad3c278713349dc7df153c897a1891bd98bab4357c9ecbee1e3bf42e00b8e380aeae57c2d107564941885942af5a7f4601723c4195d176ced3e",
			"0145ba99a847af43793fdd0e872e7cdfa16be30fdc780f97bccc3f078380201e9c677d600b343757a3bdbf2a3163e4c2f869cca7458aa4a4effc311f5cb151685eb9",
			"01144c7d79ae6956bc8edb8e7c787c4521cb086fa64407f97894e5e6b2d79b04d1427e73ca4baa240a34786859810c06b3c715a3a8cc3151f2bee417996d19f3ddea"},
		{keymat.Curve25519,
			"77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
			"8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
			"5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
			"4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"},
	} {
		i, err := c.group.Generate(bytes.NewReader(unhex(t, c.i)))
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.group.Generate(bytes.NewReader(unhex(t, c.r)))
		if err != nil {
			t.Fatal(err)
		}
		if want := unhex(t, c.gi); !bytes.HasPrefix(i.Public, want) {
			t.Errorf("%v: public value %x, want %x", c.group, i.Public, want)
		}
		for _, s := range []struct {
			own  keymat.KeyPair
			peer []byte
		}{{i, r.Public}, {r, i.Public}} {
			got, err := keymat.Shared(s.own, s.peer)
			if err != nil || !bytes.Equal(got, unhex(t, c.girx)) {
				t.Errorf("%v: shared secret %x, %v", c.group, got.Reveal(), err)
			}
		}
	}
}

// TestBadPublicValues: nothing out of range, of another length, off the curve or
// of small order is used (libreswan CVE-2015-3240, strongSwan CVE-2023-41913).
func TestBadPublicValues(t *testing.T) {
	ps := primes()
	for _, g := range keymat.Groups() {
		kp, peer := pair(t, g), pair(t, g)
		n := g.PublicLen()
		bad := map[string][]byte{
			"empty":        nil,
			"short":        peer.Public[1:],
			"long":         append([]byte{0}, peer.Public...),
			"long at end":  append(bytes.Clone(peer.Public), 0),
			"zeros":        make([]byte, n),
			"twice":        append(bytes.Clone(peer.Public), peer.Public...),
			"one byte":     {2},
			"64 KiB":       make([]byte, 65531),
			"ones (<p-1?)": bytes.Repeat([]byte{0xff}, n),
		}
		if p, ok := ps[g]; ok {
			for name, v := range map[string]*big.Int{
				"1": big.NewInt(1), "p-1": new(big.Int).Sub(p, big.NewInt(1)), "p": p, "p+1": new(big.Int).Add(p, big.NewInt(1)),
			} {
				bad[name] = v.FillBytes(make([]byte, n))
			}
			for name, v := range map[string]*big.Int{"2": big.NewInt(2), "p-2": new(big.Int).Sub(p, big.NewInt(2)), "256": big.NewInt(256)} {
				if _, err := keymat.Shared(kp, v.FillBytes(make([]byte, n))); err != nil {
					t.Errorf("%v: %s refused: %v", g, name, err)
				}
			}
		}
		switch g {
		case keymat.ECP256, keymat.ECP384, keymat.ECP521:
			off := bytes.Clone(peer.Public)
			off[n-1] ^= 1
			bad["off the curve"] = off
		case keymat.Curve25519:
			delete(bad, "ones (<p-1?)") // reduced modulo p, as RFC 7748 says
			one := make([]byte, n)
			one[0] = 1
			bad["small order"] = one
		}
		for name, v := range bad {
			if s, err := keymat.Shared(kp, v); !errors.Is(err, keymat.ErrPublicValue) || s != nil {
				t.Errorf("%v: %s gives %d bytes, %v", g, name, len(s), err)
			}
		}
	}
}

// TestStoredPair: a pair that went through the store, without what this package
// keeps beside it, gives the same secret; a wiped one gives none.
func TestStoredPair(t *testing.T) {
	for _, g := range keymat.Groups() {
		kp, peer := pair(t, g), pair(t, g)
		want, err := keymat.Shared(kp, peer.Public)
		if err != nil {
			t.Fatal(err)
		}
		stored := keymat.KeyPair{Group: kp.Group, Private: bytes.Clone(kp.Private.Reveal()), Public: kp.Public}
		if got, err := keymat.Shared(stored, peer.Public); err != nil || !got.Equal(want) {
			t.Errorf("%v: stored pair: %v", g, err)
		}
		kp.Wipe()
		if got, err := keymat.Shared(kp, peer.Public); err == nil && got.Equal(want) {
			t.Errorf("%v: a wiped pair still gives the secret", g)
		}
	}
}

func TestUnknownGroup(t *testing.T) {
	for _, g := range []keymat.Group{0, 3, 4, 17, 18, 22, 25, 32, 65535} {
		if _, err := g.Generate(rand.Reader); !errors.Is(err, keymat.ErrUnsupported) || g.Supported() {
			t.Errorf("%v: Generate %v", g, err)
		}
		if _, err := keymat.Shared(keymat.KeyPair{Group: g}, []byte{2}); !errors.Is(err, keymat.ErrUnsupported) {
			t.Errorf("%v: Shared %v", g, err)
		}
	}
	for _, g := range keymat.Groups() {
		if strings.Contains(g.String(), "group(") || !g.Supported() {
			t.Errorf("group %d has no name", g)
		}
	}
}

func TestGenerateReportsTheSource(t *testing.T) {
	for _, g := range keymat.Groups() {
		if _, err := g.Generate(bytes.NewReader(make([]byte, 5))); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v: %v", g, err)
		}
	}
	// A source of zeros never gives a scalar of a NIST curve.
	if _, err := keymat.ECP256.Generate(zeros{}); err == nil {
		t.Error("zero scalar accepted")
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func BenchmarkGroups(b *testing.B) {
	for _, g := range keymat.Groups() {
		b.Run(g.String()+"/generate", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				pair(b, g)
			}
		})
		b.Run(g.String()+"/shared", func(b *testing.B) {
			kp, peer := pair(b, g), pair(b, g)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := keymat.Shared(kp, peer.Public); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
