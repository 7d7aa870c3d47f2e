package keymat

import "fmt"

// ProtocolESP is the security protocol number of ESP (RFC 2407 section 4.4.1)
// that goes into KEYMAT.
const ProtocolESP = 3

// ESPCipher is an ESP transform by its IANA number (RFC 2407 section 4.4.4).
type ESPCipher uint8

// ESP transforms for which keys can be made.
const (
	ESPDES      ESPCipher = 2
	ESP3DES     ESPCipher = 3
	ESPNull     ESPCipher = 11
	ESPAES      ESPCipher = 12
	ESPAESGCM8  ESPCipher = 18
	ESPAESGCM12 ESPCipher = 19
	ESPAESGCM16 ESPCipher = 20
)

// ESPAuth is an authentication algorithm by its IANA number (IPsec security
// association attribute class 5, RFC 2407 section 4.5, RFC 4868).
type ESPAuth uint16

// ESP authentication algorithms.
const (
	ESPAuthNone    ESPAuth = 0
	ESPHMACMD5     ESPAuth = 1
	ESPHMACSHA1    ESPAuth = 2
	ESPHMACSHA2256 ESPAuth = 5
	ESPHMACSHA2384 ESPAuth = 6
	ESPHMACSHA2512 ESPAuth = 7
)

// ESPAlgorithm is the protection of one ESP SA.
type ESPAlgorithm struct {
	Cipher  ESPCipher
	KeyBits int // key length attribute, 0: none sent
	Auth    ESPAuth
}

// ESPKeys are the keys of one direction.
type ESPKeys struct {
	Enc  Secret // of the cipher, empty for ESPNull
	Salt Secret // 4 bytes after the key of AES-GCM (RFC 4106 section 8.1), else empty
	Auth Secret // of the HMAC, empty with AES-GCM
}

// Wipe clears the keys.
func (k ESPKeys) Wipe() {
	k.Enc.Wipe()
	k.Salt.Wipe()
	k.Auth.Wipe()
}

// KeyLens returns how many bytes of KEYMAT go to the cipher, its salt and the
// authentication, in this order. AES without a key length attribute counts as
// 128 bits. It refuses combinations that protect nothing: no authentication
// without an AEAD cipher, or an HMAC beside one. Errors wrap ErrUnsupported.
func (a ESPAlgorithm) KeyLens() (enc, salt, auth int, err error) {
	aead := false
	fixed := func(bits int) bool { return a.KeyBits == 0 || a.KeyBits == bits }
	ok := true
	switch a.Cipher {
	case ESPDES:
		enc, ok = 8, fixed(64) || fixed(56)
	case ESP3DES:
		enc, ok = 24, fixed(192) || fixed(168)
	case ESPNull:
		ok = fixed(0)
	case ESPAES, ESPAESGCM8, ESPAESGCM12, ESPAESGCM16:
		enc = a.KeyBits / 8
		if a.KeyBits == 0 {
			enc = 16
		}
		ok = a.KeyBits%8 == 0 && (enc == 16 || enc == 24 || enc == 32)
		if a.Cipher != ESPAES {
			aead, salt = true, 4
		}
	default:
		ok = false
	}
	if !ok {
		return 0, 0, 0, fmt.Errorf("%w: ESP transform %d with a key of %d bits", ErrUnsupported, a.Cipher, a.KeyBits)
	}
	switch a.Auth {
	case ESPAuthNone:
		ok = aead
	case ESPHMACMD5:
		auth, ok = 16, !aead
	case ESPHMACSHA1:
		auth, ok = 20, !aead
	case ESPHMACSHA2256:
		auth, ok = 32, !aead
	case ESPHMACSHA2384:
		auth, ok = 48, !aead
	case ESPHMACSHA2512:
		auth, ok = 64, !aead
	default:
		ok = false
	}
	if !ok {
		return 0, 0, 0, fmt.Errorf("%w: ESP transform %d with authentication %d", ErrUnsupported, a.Cipher, a.Auth)
	}
	return enc, salt, auth, nil
}

// ESP derives the keys of the SA with this SPI (RFC 2409 section 5.5):
//
//	KEYMAT = prf(SKEYID_d, [g(qm)^xy |] protocol | SPI | Ni_b | Nr_b), K2, K3 …
//
// where each further block also covers the one before. spi is the SPI chosen by
// the receiver of the SA, so both directions differ; gqm is the shared secret of
// quick mode with PFS, else nil; ni and nr are the bodies of quick mode's nonce
// payloads. The encryption key comes first (RFC 2401 section 4.5 by RFC 2409,
// RFC 4106 section 8.1). Errors wrap ErrUnsupported.
func (k Keys) ESP(a ESPAlgorithm, spi uint32, gqm Secret, ni, nr []byte) (ESPKeys, error) {
	enc, salt, auth, err := a.KeyLens()
	if err != nil {
		return ESPKeys{}, err
	}
	m := k.KEYMAT(enc+salt+auth, ProtocolESP, spi, gqm, ni, nr)
	return ESPKeys{
		Enc:  m[:enc:enc],
		Salt: m[enc : enc+salt : enc+salt],
		Auth: m[enc+salt:],
	}, nil
}

// KEYMAT returns n bytes of key material for an SA of any protocol; see ESP.
func (k Keys) KEYMAT(n int, protocol uint8, spi uint32, gqm Secret, ni, nr []byte) Secret {
	h := k.Suite.Hash
	out := make(Secret, 0, n+h.Size())
	var block []byte
	for len(out) < n {
		block = h.PRF(k.D, block, gqm, []byte{protocol}, be32(spi), ni, nr)
		out = append(out, block...)
	}
	return out[:n:n]
}
