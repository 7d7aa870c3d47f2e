package keymat

import (
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
)

// Group is a Diffie-Hellman group by its IANA number (attribute class 4 of
// RFC 2409 appendix A).
type Group uint16

// Diffie-Hellman groups.
const (
	MODP768    Group = 1  // RFC 2409 section 6.1
	MODP1024   Group = 2  // RFC 2409 section 6.2
	MODP1536   Group = 5  // RFC 3526 section 2
	MODP2048   Group = 14 // RFC 3526 section 3
	MODP3072   Group = 15 // RFC 3526 section 4
	MODP4096   Group = 16 // RFC 3526 section 5
	ECP256     Group = 19 // RFC 5903 section 3.1
	ECP384     Group = 20 // RFC 5903 section 3.2
	ECP521     Group = 21 // RFC 5903 section 3.3
	Curve25519 Group = 31 // RFC 8031
)

// Groups lists the implemented groups in the order of their numbers.
func Groups() []Group {
	return []Group{MODP768, MODP1024, MODP1536, MODP2048, MODP3072, MODP4096, ECP256, ECP384, ECP521, Curve25519}
}

// ErrPublicValue is wrapped by every error that says that a peer's public value
// must not be used: wrong length, out of range, not on the curve, or leading
// to a shared secret that is known beforehand. The wire answer is
// INVALID-KEY-INFORMATION (17).
var ErrPublicValue = errors.New("keymat: invalid Diffie-Hellman public value")

// String names the group as configuration does.
func (g Group) String() string {
	switch g {
	case MODP768:
		return "MODP768"
	case MODP1024:
		return "MODP1024"
	case MODP1536:
		return "MODP1536"
	case MODP2048:
		return "MODP2048"
	case MODP3072:
		return "MODP3072"
	case MODP4096:
		return "MODP4096"
	case ECP256:
		return "ECP256"
	case ECP384:
		return "ECP384"
	case ECP521:
		return "ECP521"
	case Curve25519:
		return "CURVE25519"
	}
	return fmt.Sprintf("group(%d)", uint16(g))
}

// Supported tells whether the group is implemented.
func (g Group) Supported() bool { return g.PublicLen() != 0 }

// PublicLen returns the length in bytes of a public value on the wire (the body
// of the KE payload), 0 if the group is not supported.
func (g Group) PublicLen() int {
	if p, ok := modpGroups[g]; ok {
		return p.bits / 8
	}
	switch g {
	case ECP256:
		return 2 * 32
	case ECP384:
		return 2 * 48
	case ECP521:
		return 2 * 66
	case Curve25519:
		return 32
	}
	return 0
}

// SharedLen returns the length in bytes of the shared secret g^xy, 0 if the
// group is not supported.
func (g Group) SharedLen() int {
	switch g {
	case ECP256, ECP384, ECP521:
		return g.PublicLen() / 2 // x only, RFC 5903 section 7
	}
	return g.PublicLen()
}

// KeyPair is one ephemeral key of a group: plain data, so that a half-open SA
// can be stored and handed to a worker. A pair must be used for one exchange
// only.
type KeyPair struct {
	Group   Group
	Private Secret // exponent or scalar, big endian (X25519: as RFC 7748)
	Public  []byte // body of the KE payload, PublicLen bytes

	// curve is the private key once more, in the form of the library, whose
	// constructor computes the public key again: Shared would take half as
	// long again. It is a cache and nil in a pair that comes from the store.
	curve *ecdh.PrivateKey
}

// Wipe clears the private key.
func (kp *KeyPair) Wipe() {
	kp.Private.Wipe()
	kp.curve = nil
}

// Generate makes a fresh key pair with bytes from rand. It fails if the group
// is not supported or rand fails. It is CPU work of 30 µs (Curve25519) to
// milliseconds (MODP4096): run it in a worker, not in an engine.
func (g Group) Generate(rand io.Reader) (KeyPair, error) {
	if p, ok := modpGroups[g]; ok {
		return p.generate(g, rand)
	}
	if c := curveOf(g); c != nil {
		return generateCurve(g, c, rand)
	}
	return KeyPair{}, fmt.Errorf("%w: Diffie-Hellman %v", ErrUnsupported, g)
}

// CheckPublic tells, without any expensive work where the group allows that,
// whether peer may be a public value of the group: exact length (RFC 2409
// section 5: values are padded to the length of the group; RFC 5903 section 7)
// and, for MODP, 1 < y < p-1. Engines call it before they spend a worker on
// the peer. Errors wrap ErrPublicValue or ErrUnsupported.
//
// A value shorter than the group is refused although it could be extended with
// zeros: RFC 2409 demands the padding, strongSwan and libreswan refuse the same,
// and what a sender that forgets it would hash or use as g^xy is unknown.
func (g Group) CheckPublic(peer []byte) error {
	n := g.PublicLen()
	if n == 0 {
		return fmt.Errorf("%w: Diffie-Hellman %v", ErrUnsupported, g)
	}
	if len(peer) != n {
		return fmt.Errorf("%w: %v value of %d bytes, want %d", ErrPublicValue, g, len(peer), n)
	}
	if p, ok := modpGroups[g]; ok {
		return p.checkRange(g, peer)
	}
	return nil
}

// Shared computes g^xy from our key pair and the peer's public value, padded to
// SharedLen bytes. Errors wrap ErrPublicValue if the peer's value is bad, and
// ErrUnsupported if the group is unknown.
func Shared(kp KeyPair, peer []byte) (Secret, error) {
	if err := kp.Group.CheckPublic(peer); err != nil {
		return nil, err
	}
	if p, ok := modpGroups[kp.Group]; ok {
		return p.shared(kp, peer)
	}
	return sharedCurve(kp, curveOf(kp.Group), peer)
}
