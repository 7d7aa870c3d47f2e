package keymat

import (
	"crypto/ecdh"
	"fmt"
	"io"
)

// curveTries bounds how often a scalar is drawn. A random string is no valid
// scalar with probability below 2^-32 on the NIST curves, so even the second
// draw never happens with a working source.
const curveTries = 4

// curveOf returns the curve of the group, nil if it is none.
func curveOf(g Group) ecdh.Curve {
	switch g {
	case ECP256:
		return ecdh.P256()
	case ECP384:
		return ecdh.P384()
	case ECP521:
		return ecdh.P521()
	case Curve25519:
		return ecdh.X25519()
	}
	return nil
}

// generateCurve draws a scalar from rand itself: ecdh.Curve.GenerateKey ignores
// its reader since Go 1.26, and reproducible simulations need theirs used.
func generateCurve(g Group, c ecdh.Curve, rand io.Reader) (KeyPair, error) {
	scalar := make(Secret, g.SharedLen())
	for range curveTries {
		if _, err := io.ReadFull(rand, scalar); err != nil {
			return KeyPair{}, fmt.Errorf("keymat: random source: %w", err)
		}
		if g == ECP521 {
			scalar[0] &= 1 // 521 bits in 66 bytes
		}
		priv, err := c.NewPrivateKey(scalar)
		if err != nil {
			continue // zero or not below the order: draw again
		}
		pub := priv.PublicKey().Bytes()
		if g != Curve25519 {
			pub = pub[1:] // RFC 5903: x | y without the SEC 1 form byte
		}
		return KeyPair{Group: g, Private: scalar, Public: pub, curve: priv}, nil
	}
	return KeyPair{}, fmt.Errorf("keymat: random source gives no scalar for %v", g)
}

// sharedCurve computes the x coordinate of the shared point; crypto/ecdh checks
// that the peer's point is on the curve, and that X25519 is not all zeros
// (RFC 8031 section 2, RFC 7748 section 6.1).
func sharedCurve(kp KeyPair, c ecdh.Curve, peer []byte) (Secret, error) {
	priv := kp.curve
	if priv == nil {
		var err error
		if priv, err = c.NewPrivateKey(kp.Private); err != nil {
			return nil, fmt.Errorf("keymat: private key of %v: %w", kp.Group, err)
		}
	}
	if kp.Group != Curve25519 {
		peer = append([]byte{4}, peer...) // SEC 1: uncompressed point
	}
	pub, err := c.NewPublicKey(peer)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrPublicValue, kp.Group, err)
	}
	s, err := priv.ECDH(pub)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrPublicValue, kp.Group, err)
	}
	return s, nil
}
