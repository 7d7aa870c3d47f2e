package keymat

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Suite is what a phase 1 negotiation chose.
type Suite struct {
	Cipher  Cipher
	KeyBits int // of a cipher with variable key length, 0: its default
	Hash    Hash
}

// Check tells whether the suite can be used. Errors wrap ErrUnsupported.
func (s Suite) Check() error {
	if !s.Hash.Supported() {
		return fmt.Errorf("%w: %v", ErrUnsupported, s.Hash)
	}
	if _, err := s.Cipher.KeyLen(s.KeyBits); err != nil {
		return err
	}
	return nil
}

// Keys are the keys of an ISAKMP SA (RFC 2409 section 5). The value is plain
// data and may be copied; copies share the memory of the secrets.
type Keys struct {
	Suite  Suite
	SKEYID Secret // proves the identities
	D      Secret // SKEYID_d: derives keys of other SAs
	A      Secret // SKEYID_a: authenticates messages
	E      Secret // SKEYID_e: confidentiality of messages
	Key    Secret // Ka of appendix B: the key of Suite.Cipher
}

// Wipe clears all keys.
func (k Keys) Wipe() {
	for _, s := range []Secret{k.SKEYID, k.D, k.A, k.E, k.Key} {
		s.Wipe()
	}
}

// SKEYIDPreShared is prf(pre-shared-key, Ni_b | Nr_b).
func SKEYIDPreShared(h Hash, psk Secret, ni, nr []byte) Secret {
	return h.PRF(psk, ni, nr)
}

// SKEYIDSignature is prf(Ni_b | Nr_b, g^xy), for signatures and for the hybrid
// methods.
func SKEYIDSignature(h Hash, ni, nr []byte, gxy Secret) Secret {
	key := make(Secret, 0, len(ni)+len(nr))
	key = append(append(key, ni...), nr...)
	return h.PRF(key, gxy)
}

// SKEYIDPublicKey is prf(hash(Ni_b | Nr_b), CKY-I | CKY-R), for authentication
// with public key encryption.
func SKEYIDPublicKey(h Hash, ni, nr []byte, ckyI, ckyR [8]byte) Secret {
	return h.PRF(h.Sum(ni, nr), ckyI[:], ckyR[:])
}

// Derive computes SKEYID_d, SKEYID_a, SKEYID_e and the encryption key from
// SKEYID and the Diffie-Hellman secret. Errors wrap ErrUnsupported.
func Derive(s Suite, skeyid, gxy Secret, ckyI, ckyR [8]byte) (Keys, error) {
	if err := s.Check(); err != nil {
		return Keys{}, err
	}
	k := Keys{Suite: s, SKEYID: skeyid}
	k.D = s.Hash.PRF(skeyid, gxy, ckyI[:], ckyR[:], []byte{0})
	k.A = s.Hash.PRF(skeyid, k.D, gxy, ckyI[:], ckyR[:], []byte{1})
	k.E = s.Hash.PRF(skeyid, k.A, gxy, ckyI[:], ckyR[:], []byte{2})
	n, err := s.Cipher.KeyLen(s.KeyBits)
	if err != nil {
		return Keys{}, err
	}
	k.Key = expand(s.Hash, k.E, n)
	return k, nil
}

// expand makes n bytes of encryption key from SKEYID_e (RFC 2409 appendix B):
// its first bytes if it is long enough, else K1 | K2 | … with K1 =
// prf(SKEYID_e, 0) and Ki = prf(SKEYID_e, Ki-1).
func expand(h Hash, e Secret, n int) Secret {
	if len(e) >= n {
		return append(Secret(nil), e[:n]...)
	}
	key := make(Secret, 0, n+h.Size())
	block := h.PRF(e, []byte{0})
	key = append(key, block...)
	for len(key) < n {
		block = h.PRF(e, block)
		key = append(key, block...)
	}
	return key[:n]
}

// Exchange holds what both proofs of phase 1 cover. Cookies and values are
// named after the initiator and responder of the phase 1 exchange, whoever we
// are; gxi and gxr are the bodies of the KE payloads as they were on the wire.
type Exchange struct {
	CookieI, CookieR [8]byte
	GXi, GXr         []byte
	SAi              []byte // SAi_b: the body of the initiator's SA payload as sent
}

// HashI is HASH_I = prf(SKEYID, g^xi | g^xr | CKY-I | CKY-R | SAi_b | IDii_b).
// idii is the body of the initiator's ID payload.
func (k Keys) HashI(x Exchange, idii []byte) []byte {
	return k.Suite.Hash.PRF(k.SKEYID, x.GXi, x.GXr, x.CookieI[:], x.CookieR[:], x.SAi, idii)
}

// HashR is HASH_R = prf(SKEYID, g^xr | g^xi | CKY-R | CKY-I | SAi_b | IDir_b).
// idir is the body of the responder's ID payload.
func (k Keys) HashR(x Exchange, idir []byte) []byte {
	return k.Suite.Hash.PRF(k.SKEYID, x.GXr, x.GXi, x.CookieR[:], x.CookieI[:], x.SAi, idir)
}

// HashQuick1 is HASH(1) of quick mode: prf(SKEYID_a, M-ID | rest), where rest is
// everything that follows the HASH payload, generic headers included and
// padding excluded (RFC 2409 section 5.5).
func (k Keys) HashQuick1(mid uint32, rest []byte) []byte {
	return k.Suite.Hash.PRF(k.A, be32(mid), rest)
}

// HashQuick2 is HASH(2) of quick mode: prf(SKEYID_a, M-ID | Ni_b | rest), where
// ni is the body of the initiator's nonce payload of this quick mode.
func (k Keys) HashQuick2(mid uint32, ni, rest []byte) []byte {
	return k.Suite.Hash.PRF(k.A, be32(mid), ni, rest)
}

// HashQuick3 is HASH(3) of quick mode: prf(SKEYID_a, 0 | M-ID | Ni_b | Nr_b).
func (k Keys) HashQuick3(mid uint32, ni, nr []byte) []byte {
	return k.Suite.Hash.PRF(k.A, []byte{0}, be32(mid), ni, nr)
}

// HashInfo is the HASH of informational exchanges (RFC 2409 section 5.7) and of
// transaction exchanges (mode config and XAuth): prf(SKEYID_a, M-ID | rest).
func (k Keys) HashInfo(mid uint32, rest []byte) []byte {
	return k.HashQuick1(mid, rest)
}

// HashNATD is the body of a NAT-D payload: HASH(CKY-I | CKY-R | address | port)
// of RFC 3947 section 3.2, with the hash of phase 1. An IPv4 address mapped
// into IPv6 counts as IPv4.
func HashNATD(h Hash, ckyI, ckyR [8]byte, ap netip.AddrPort) []byte {
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], ap.Port())
	return h.Sum(ckyI[:], ckyR[:], ap.Addr().Unmap().AsSlice(), port[:])
}

// be32 is v in network byte order.
func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
