package xfrm

import "fmt"

// Encryption is an ESP cipher.
type Encryption uint8

// The ciphers of RFC 2405 (DES), RFC 2451 (3DES), RFC 3602 (AES-CBC) and RFC 4106 (AES-GCM
// with a 16-byte integrity check value).
const (
	EncryptionNone Encryption = iota // not valid in an SA
	AESCBC
	TripleDES
	AESGCM16
	DES // broken for thirty years; only the legacy profile accepts it
)

// Integrity is an ESP integrity algorithm.
type Integrity uint8

// The integrity algorithms of RFC 2403 (MD5-96), RFC 2404 (SHA1-96) and RFC
// 4868. SHA256Trunc96 is the truncation of a draft that old Androids use.
const (
	IntegrityNone Integrity = iota // only with AESGCM16
	MD5
	SHA1
	SHA256
	SHA256Trunc96
	SHA384
	SHA512
)

// cipher describes an Encryption to the kernel.
type cipher struct {
	name    string // the kernel crypto API's
	aead    bool
	icvBits uint32 // of an AEAD
	keys    []int  // valid key lengths in bytes, an AEAD's 4-byte salt included
	module  string // what to load when the kernel does not know it
}

var ciphers = map[Encryption]cipher{
	AESCBC:    {name: "cbc(aes)", keys: []int{16, 24, 32}, module: "cbc aes_generic"},
	TripleDES: {name: "cbc(des3_ede)", keys: []int{24}, module: "cbc des_generic"},
	DES:       {name: "cbc(des)", keys: []int{8}, module: "cbc des_generic"},
	AESGCM16:  {name: "rfc4106(gcm(aes))", aead: true, icvBits: 128, keys: []int{20, 28, 36}, module: "gcm aes_generic"},
}

// mac describes an Integrity to the kernel.
type mac struct {
	name      string
	key       int // bytes
	truncBits uint32
	module    string
}

var macs = map[Integrity]mac{
	MD5:           {name: "hmac(md5)", key: 16, truncBits: 96, module: "hmac md5"},
	SHA1:          {name: "hmac(sha1)", key: 20, truncBits: 96, module: "hmac sha1_generic"},
	SHA256:        {name: "hmac(sha256)", key: 32, truncBits: 128, module: "hmac sha256_generic"},
	SHA256Trunc96: {name: "hmac(sha256)", key: 32, truncBits: 96, module: "hmac sha256_generic"},
	SHA384:        {name: "hmac(sha384)", key: 48, truncBits: 192, module: "hmac sha512_generic"},
	SHA512:        {name: "hmac(sha512)", key: 64, truncBits: 256, module: "hmac sha512_generic"},
}

// String names the cipher as operators know it.
func (e Encryption) String() string {
	switch e {
	case EncryptionNone:
		return "none"
	case AESCBC:
		return "aes-cbc"
	case TripleDES:
		return "3des-cbc"
	case AESGCM16:
		return "aes-gcm-16"
	case DES:
		return "des-cbc"
	}
	return fmt.Sprintf("Encryption(%d)", uint8(e))
}

// String names the algorithm as operators know it.
func (i Integrity) String() string {
	switch i {
	case IntegrityNone:
		return "none"
	case MD5:
		return "hmac-md5-96"
	case SHA1:
		return "hmac-sha1-96"
	case SHA256:
		return "hmac-sha256-128"
	case SHA256Trunc96:
		return "hmac-sha256-96"
	case SHA384:
		return "hmac-sha384-192"
	case SHA512:
		return "hmac-sha512-256"
	}
	return fmt.Sprintf("Integrity(%d)", uint8(i))
}

// encryptionByName is the reverse of ciphers, for what the kernel reports.
func encryptionByName(name string) Encryption {
	for e, c := range ciphers {
		if c.name == name {
			return e
		}
	}
	return EncryptionNone
}

// integrityByName is the reverse of macs.
func integrityByName(name string, truncBits uint32) Integrity {
	for i, m := range macs {
		if m.name == name && m.truncBits == truncBits {
			return i
		}
	}
	return IntegrityNone
}
