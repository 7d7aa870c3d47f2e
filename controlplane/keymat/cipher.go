package keymat

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"errors"
	"fmt"
)

// Cipher is a phase 1 encryption algorithm by its IANA number (attribute class
// 1 of RFC 2409 appendix A, RFC 3602 for AES); all run in CBC mode.
type Cipher uint16

// Encryption algorithms.
const (
	DES  Cipher = 1
	DES3 Cipher = 5
	AES  Cipher = 7
)

// ErrCiphertext says that a body cannot be the output of the cipher: empty, or
// not a multiple of the block.
var ErrCiphertext = errors.New("keymat: encrypted body is no multiple of the cipher block")

// String names the cipher as configuration does.
func (c Cipher) String() string {
	switch c {
	case DES:
		return "DES"
	case DES3:
		return "3DES"
	case AES:
		return "AES"
	}
	return fmt.Sprintf("cipher(%d)", uint16(c))
}

// BlockLen returns the block length in bytes, 0 if the cipher is not supported.
func (c Cipher) BlockLen() int {
	switch c {
	case DES, DES3:
		return des.BlockSize
	case AES:
		return aes.BlockSize
	}
	return 0
}

// KeyLen returns the length of a key in bytes. bits is the key length attribute,
// 0 if there was none, which means 128 for AES; DES and 3DES take 0 or their
// nominal length. Errors wrap ErrUnsupported.
func (c Cipher) KeyLen(bits int) (int, error) {
	switch {
	case c == DES && (bits == 0 || bits == 64 || bits == 56):
		return 8, nil
	case c == DES3 && (bits == 0 || bits == 192 || bits == 168):
		return 24, nil
	case c == AES && bits == 0:
		return 16, nil
	case c == AES && (bits == 128 || bits == 192 || bits == 256):
		return bits / 8, nil
	}
	return 0, fmt.Errorf("%w: %v with a key of %d bits", ErrUnsupported, c, bits)
}

// block makes the block cipher of the SA.
func (k Keys) block() (cipher.Block, error) {
	switch k.Suite.Cipher {
	case DES:
		return des.NewCipher(k.Key)
	case DES3:
		return des.NewTripleDESCipher(k.Key)
	case AES:
		return aes.NewCipher(k.Key)
	}
	return nil, fmt.Errorf("%w: %v", ErrUnsupported, k.Suite.Cipher)
}

// FirstIV is the initialisation vector of the first encrypted message of phase
// 1: hash(g^xi | g^xr), cut to the block (RFC 2409 appendix B).
func (s Suite) FirstIV(gxi, gxr []byte) []byte {
	return s.Hash.Sum(gxi, gxr)[:s.Cipher.BlockLen()]
}

// MessageIV is the initialisation vector of the first message of an exchange
// after phase 1: hash(last phase 1 ciphertext block | M-ID), cut to the block.
// Each informational message starts from it too, as its message id is its own.
func (s Suite) MessageIV(lastPhase1 []byte, mid uint32) []byte {
	return s.Hash.Sum(lastPhase1, be32(mid))[:s.Cipher.BlockLen()]
}

// Encrypt pads body with zeros to a whole number of blocks (none are added to a
// body that fits) and encrypts it. It returns the ciphertext, whose length
// belongs into the ISAKMP header, and the initialisation vector of the next
// message of the exchange. iv is not changed.
func (k Keys) Encrypt(iv, body []byte) (out, next []byte, err error) {
	b, err := k.block()
	if err != nil {
		return nil, nil, err
	}
	n := b.BlockSize()
	if len(iv) != n || len(body) == 0 {
		return nil, nil, fmt.Errorf("keymat: cannot encrypt %d bytes with an iv of %d", len(body), len(iv))
	}
	out = make([]byte, (len(body)+n-1)/n*n)
	copy(out, body)
	cipher.NewCBCEncrypter(b, iv).CryptBlocks(out, out)
	return out, lastBlock(out, n), nil
}

// Decrypt reverses Encrypt; the padding stays, because only the chain of
// payloads says where they end. A wrong key is not noticed here. The error
// wraps ErrCiphertext if body is no ciphertext. iv and body are not changed.
func (k Keys) Decrypt(iv, body []byte) (out, next []byte, err error) {
	b, err := k.block()
	if err != nil {
		return nil, nil, err
	}
	n := b.BlockSize()
	if len(iv) != n {
		return nil, nil, fmt.Errorf("keymat: iv of %d bytes, want %d", len(iv), n)
	}
	if len(body) == 0 || len(body)%n != 0 {
		return nil, nil, fmt.Errorf("%w (%d bytes, block %d)", ErrCiphertext, len(body), n)
	}
	out = make([]byte, len(body))
	cipher.NewCBCDecrypter(b, iv).CryptBlocks(out, body)
	return out, lastBlock(body, n), nil
}

// lastBlock copies the last n bytes, so that the vector kept for the next
// message does not hold the whole message in memory.
func lastBlock(b []byte, n int) []byte {
	return append([]byte(nil), b[len(b)-n:]...)
}
