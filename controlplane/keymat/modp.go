package keymat

import (
	"encoding/hex"
	"fmt"
	"io"
	"math/bits"
	"sync"

	"filippo.io/bigmod"
)

// This file alone uses filippo.io/bigmod, whose interface is not promised to be
// stable, so that another constant-time implementation can take its place.

// modp is a MODP group with generator 2 and a safe prime.
type modp struct {
	bits  int    // of the prime
	short int    // length of the exponent in bytes
	prime string // hexadecimal

	once    sync.Once
	modulus *bigmod.Modulus
	last    []byte // p-1, big endian

	// comb[i][j] is 2^(j * 32^i) mod p, the powers of the generator by windows
	// of five bits; see generate. It is public and never changes once made.
	combOnce sync.Once
	comb     [][combWidth][]uint
}

// Windows of the fixed-base exponentiation: five bits are the balance between
// multiplications and reading the whole window in constant time.
const (
	combBits  = 5
	combWidth = 1 << combBits
)

// modpGroups are the primes 2^n - 2^(n-64) - 1 + 2^64 * (floor(2^(n-130) pi) + k)
// of RFC 2409 section 6 and RFC 3526, which a test recomputes. Exponents are at
// least twice as long as the strength of the group (RFC 3526 section 8): 256
// bits up to group 14, 320 bits for 15 and 16. With a safe prime, and 0, 1 and
// p-1 refused, a short exponent gives nothing away to small subgroups.
var modpGroups = map[Group]*modp{
	MODP768: {bits: 768, short: 32, prime: "" +
		"FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD" +
		"EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A63A3620FFFFFFFFFFFFFFFF"},
	MODP1024: {bits: 1024, short: 32, prime: "" +
		"FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD" +
		"EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED" +
		"EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF"},
	MODP1536: {bits: 1536, short: 32, prime: "" +
		"FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD" +
		"EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED" +
		"EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F" +
		"83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA237327FFFFFFFFFFFFFFFF"},
	MODP2048: {bits: 2048, short: 32, prime: "" +
		"FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD" +
		"EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED" +
		"EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F" +
		"83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B" +
		"E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510" +
		"15728E5A8AACAA68FFFFFFFFFFFFFFFF"},
	MODP3072: {bits: 3072, short: 40, prime: "" +
		"FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD" +
		"EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED" +
		"EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F" +
		"83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B" +
		"E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510" +
		"15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7" +
		"ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C" +
		"BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF"},
	MODP4096: {bits: 4096, short: 40, prime: "" +
		"FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD" +
		"EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED" +
		"EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F" +
		"83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B" +
		"E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510" +
		"15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7" +
		"ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C" +
		"BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A92108011A723C12A787E6D7" +
		"88719A10BDBA5B2699C327186AF4E23C1A946834B6150BDA2583E9CA2AD44CE8DBBBC2DB04DE8EF92E8EFC141FBECAA6" +
		"287C59474E6BC05D99B2964FA090C3A2233BA186515BE7ED1F612970CEE2D7AFB81BDD762170481CD0069127D5B05AA9" +
		"93B4EA988D8FDDC186FFB7DC90A6C08F4DF435C934063199FFFFFFFFFFFFFFFF"},
}

// init sets up the constants of the group at its first use: the modulus costs
// several hundred microseconds, and most daemons use few groups.
func (p *modp) init() {
	p.once.Do(func() {
		b, err := hex.DecodeString(p.prime)
		if err != nil {
			panic("keymat: prime literal: " + err.Error())
		}
		m, err := bigmod.NewModulus(b)
		if err != nil {
			panic("keymat: prime literal: " + err.Error())
		}
		b[len(b)-1]-- // p is odd
		p.modulus, p.last = m, b
	})
}

// checkRange refuses all but 1 < y < p-1. The peer's value is public, so the
// comparison may take variable time. y has the length of the prime.
func (p *modp) checkRange(g Group, y []byte) error {
	p.init()
	if !less(y, p.last) {
		return fmt.Errorf("%w: %v value is not below p-1", ErrPublicValue, g)
	}
	for _, b := range y[:len(y)-1] {
		if b != 0 {
			return nil
		}
	}
	if y[len(y)-1] <= 1 {
		return fmt.Errorf("%w: %v value is 0 or 1", ErrPublicValue, g)
	}
	return nil
}

// less compares big-endian numbers of equal length.
func less(a, b []byte) bool { return string(a) < string(b) }

// generate draws a short exponent and computes 2^x.
func (p *modp) generate(g Group, rand io.Reader) (KeyPair, error) {
	p.init()
	x := make(Secret, p.short)
	if _, err := io.ReadFull(rand, x); err != nil {
		return KeyPair{}, fmt.Errorf("keymat: random source: %w", err)
	}
	// The top bit set keeps the exponent long and away from zero whatever the
	// source gives.
	x[0] |= 0x80
	return KeyPair{Group: g, Private: x, Public: p.power(x)}, nil
}

// power computes 2^x mod p for an exponent of the group's length, in a time that
// does not depend on x.
//
// With all powers of two by windows of the exponent at hand no squaring is left:
// 52 multiplications for 256 bits, against 320 of Montgomery's kind and more in
// bigmod's general Exp, which makes it two to three times as fast. The table of
// MODP2048 has 425 KB and is made once, at the first use of the group.
func (p *modp) power(x []byte) []byte {
	p.combOnce.Do(p.makeComb)
	y := bigmod.NewNat().ExpandFor(p.modulus)
	t := bigmod.NewNat().ExpandFor(p.modulus)
	for i := range p.comb {
		row, out := &p.comb[i], t
		if i == 0 {
			out = y
		}
		selectPower(out.Bits(), row, window(x, i))
		if i > 0 {
			y.Mul(t, p.modulus)
		}
	}
	return y.Bytes(p.modulus)
}

// makeComb computes the table of power.
func (p *modp) makeComb() {
	comb := make([][combWidth][]uint, (8*p.short+combBits-1)/combBits)
	one := bigmod.NewNat().SetUint(1).ExpandFor(p.modulus)
	step := bigmod.NewNat().SetUint(2).ExpandFor(p.modulus) // 2^(32^i)
	for i := range comb {
		// power is 2^(j * 32^i); after the last j it is the step of the next row.
		power := copyNat(one, p.modulus)
		for j := range combWidth {
			comb[i][j] = append([]uint(nil), power.Bits()...)
			power.Mul(step, p.modulus)
		}
		step = power
	}
	p.comb = comb
}

// copyNat copies a number that is expanded for m.
func copyNat(x *bigmod.Nat, m *bigmod.Modulus) *bigmod.Nat {
	y := bigmod.NewNat().ExpandFor(m)
	copy(y.Bits(), x.Bits())
	return y
}

// window returns the i-th group of five bits of the big-endian number x,
// counted from the least significant, zero-extended at the top.
func window(x []byte, i int) uint {
	bit := i * combBits
	k := len(x) - 1 - bit/8
	w := uint(x[k])
	if k > 0 {
		w |= uint(x[k-1]) << 8
	}
	return w >> (bit % 8) % combWidth
}

// selectPower copies row[k] to out, reading every entry so that neither time
// nor cache tells k.
func selectPower(out []uint, row *[combWidth][]uint, k uint) {
	clear(out)
	for j := range row {
		// All ones if j == k, else zero: only then is the exclusive or zero and
		// its predecessor's top bit set.
		mask := -((uint(j) ^ k - 1) >> (bits.UintSize - 1))
		entry := row[j][:len(out)]
		for i, v := range entry {
			out[i] |= v & mask
		}
	}
}

// shared computes peer^x; peer has passed checkRange.
func (p *modp) shared(kp KeyPair, peer []byte) (Secret, error) {
	if len(kp.Private) == 0 {
		return nil, fmt.Errorf("keymat: private key of %v is empty", kp.Group)
	}
	y, err := bigmod.NewNat().SetBytes(peer, p.modulus)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrPublicValue, kp.Group, err)
	}
	s := bigmod.NewNat().Exp(y, kp.Private, p.modulus)
	return s.Bytes(p.modulus), nil
}
