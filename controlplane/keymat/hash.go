package keymat

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
)

// ErrUnsupported is wrapped by every error that says that an algorithm number
// is not implemented.
var ErrUnsupported = errors.New("keymat: algorithm not supported")

// Hash is a phase 1 hash algorithm by its IANA number (attribute class 2 of
// RFC 2409 appendix A). Its HMAC is the prf: no prf of its own is negotiated
// (RFC 2409 section 4).
type Hash uint16

// Hash algorithms.
const (
	MD5    Hash = 1
	SHA1   Hash = 2
	SHA256 Hash = 4
	SHA384 Hash = 5
	SHA512 Hash = 6
)

// String names the algorithm as RFCs and configuration do.
func (h Hash) String() string {
	switch h {
	case MD5:
		return "MD5"
	case SHA1:
		return "SHA1"
	case SHA256:
		return "SHA2-256"
	case SHA384:
		return "SHA2-384"
	case SHA512:
		return "SHA2-512"
	}
	return fmt.Sprintf("hash(%d)", uint16(h))
}

// Supported tells whether the hash is implemented.
func (h Hash) Supported() bool { return h.Size() != 0 }

// Size returns the length of a digest in bytes, 0 if the hash is not supported.
func (h Hash) Size() int {
	switch h {
	case MD5:
		return md5.Size
	case SHA1:
		return sha1.Size
	case SHA256:
		return sha256.Size
	case SHA384:
		return sha512.Size384
	case SHA512:
		return sha512.Size
	}
	return 0
}

// constructor returns the function that makes a hash state. It panics on an
// unsupported hash: callers select among supported transforms only, and
// NewSuite refuses the others.
func (h Hash) constructor() func() hash.Hash {
	switch h {
	case MD5:
		return md5.New
	case SHA1:
		return sha1.New
	case SHA256:
		return sha256.New
	case SHA384:
		return sha512.New384
	case SHA512:
		return sha512.New
	}
	panic("keymat: " + h.String() + " is not supported")
}

// Sum hashes the concatenation of parts. It panics if h is not supported.
func (h Hash) Sum(parts ...[]byte) []byte {
	d := h.constructor()()
	for _, p := range parts {
		d.Write(p)
	}
	return d.Sum(nil)
}

// PRF returns HMAC-h(key, concatenation of parts). It panics if h is not
// supported.
func (h Hash) PRF(key Secret, parts ...[]byte) []byte {
	m := hmac.New(h.constructor(), key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}
