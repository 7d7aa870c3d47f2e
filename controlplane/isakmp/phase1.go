package isakmp

import (
	"fmt"
	"slices"
	"strings"
)

// KeyIKE is the transform identifier of phase 1.
const KeyIKE = 1

// Phase 1 attribute classes (RFC 2409 appendix A).
const (
	attrEncryption   = 1
	attrHash         = 2
	attrAuth         = 3
	attrGroup        = 4
	attrLifeType     = 11
	attrLifeDuration = 12
	attrKeyLength    = 14
)

// Life types, the same in both phases.
const (
	lifeSeconds   = 1
	lifeKilobytes = 2
)

// EncryptionAlgorithm is a phase 1 cipher (RFC 2409 appendix A, IANA
// "Encryption Algorithm" registry).
type EncryptionAlgorithm uint16

// Phase 1 ciphers.
const (
	EncDES      EncryptionAlgorithm = 1
	EncIDEA     EncryptionAlgorithm = 2
	EncBlowfish EncryptionAlgorithm = 3
	EncRC5      EncryptionAlgorithm = 4
	Enc3DES     EncryptionAlgorithm = 5
	EncCAST     EncryptionAlgorithm = 6
	EncAES      EncryptionAlgorithm = 7
	EncCamellia EncryptionAlgorithm = 8
)

// String names the cipher.
func (e EncryptionAlgorithm) String() string {
	switch e {
	case EncDES:
		return "DES"
	case EncIDEA:
		return "IDEA"
	case EncBlowfish:
		return "BLOWFISH"
	case EncRC5:
		return "RC5"
	case Enc3DES:
		return "3DES"
	case EncCAST:
		return "CAST"
	case EncAES:
		return "AES"
	case EncCamellia:
		return "CAMELLIA"
	}
	return fmt.Sprintf("cipher(%d)", uint16(e))
}

// HashAlgorithm is a phase 1 hash.
type HashAlgorithm uint16

// Phase 1 hashes.
const (
	HashMD5    HashAlgorithm = 1
	HashSHA1   HashAlgorithm = 2
	HashTiger  HashAlgorithm = 3
	HashSHA256 HashAlgorithm = 4
	HashSHA384 HashAlgorithm = 5
	HashSHA512 HashAlgorithm = 6
)

// String names the hash.
func (h HashAlgorithm) String() string {
	switch h {
	case HashMD5:
		return "MD5"
	case HashSHA1:
		return "SHA1"
	case HashTiger:
		return "TIGER"
	case HashSHA256:
		return "SHA2-256"
	case HashSHA384:
		return "SHA2-384"
	case HashSHA512:
		return "SHA2-512"
	}
	return fmt.Sprintf("hash(%d)", uint16(h))
}

// AuthMethod is a phase 1 authentication method, those of XAuth and hybrid
// authentication included.
type AuthMethod uint16

// Authentication methods. The XAuth numbers say which side of phase 1 is the
// user: Init if the initiator is (draft-beaulieu-ike-xauth-02 section 6).
const (
	AuthPSK            AuthMethod = 1
	AuthDSS            AuthMethod = 2
	AuthRSA            AuthMethod = 3
	AuthRSAEncryption  AuthMethod = 4
	AuthRSARevised     AuthMethod = 5
	AuthECDSA256       AuthMethod = 9 // RFC 4754
	AuthECDSA384       AuthMethod = 10
	AuthECDSA521       AuthMethod = 11
	AuthHybridInitRSA  AuthMethod = 64221 // draft-ietf-ipsec-isakmp-hybrid-auth-05
	AuthHybridRespRSA  AuthMethod = 64222
	AuthHybridInitDSS  AuthMethod = 64223
	AuthHybridRespDSS  AuthMethod = 64224
	AuthXAuthInitPSK   AuthMethod = 65001
	AuthXAuthRespPSK   AuthMethod = 65002
	AuthXAuthInitDSS   AuthMethod = 65003
	AuthXAuthRespDSS   AuthMethod = 65004
	AuthXAuthInitRSA   AuthMethod = 65005
	AuthXAuthRespRSA   AuthMethod = 65006
	AuthXAuthInitRSAEn AuthMethod = 65007
	AuthXAuthRespRSAEn AuthMethod = 65008
	AuthXAuthInitRSARe AuthMethod = 65009
	AuthXAuthRespRSARe AuthMethod = 65010
)

// String names the method.
func (a AuthMethod) String() string {
	switch a {
	case AuthPSK:
		return "PSK"
	case AuthDSS:
		return "DSS"
	case AuthRSA:
		return "RSA"
	case AuthRSAEncryption:
		return "RSA-encryption"
	case AuthRSARevised:
		return "RSA-revised"
	case AuthECDSA256:
		return "ECDSA-256"
	case AuthECDSA384:
		return "ECDSA-384"
	case AuthECDSA521:
		return "ECDSA-521"
	case AuthHybridInitRSA:
		return "hybrid-RSA-init"
	case AuthHybridRespRSA:
		return "hybrid-RSA-resp"
	case AuthHybridInitDSS:
		return "hybrid-DSS-init"
	case AuthHybridRespDSS:
		return "hybrid-DSS-resp"
	case AuthXAuthInitPSK:
		return "XAuth-PSK-init"
	case AuthXAuthRespPSK:
		return "XAuth-PSK-resp"
	case AuthXAuthInitDSS:
		return "XAuth-DSS-init"
	case AuthXAuthRespDSS:
		return "XAuth-DSS-resp"
	case AuthXAuthInitRSA:
		return "XAuth-RSA-init"
	case AuthXAuthRespRSA:
		return "XAuth-RSA-resp"
	}
	return fmt.Sprintf("auth(%d)", uint16(a))
}

// XAuth tells whether the method announces XAuth or hybrid authentication (J10).
func (a AuthMethod) XAuth() bool {
	return a >= AuthXAuthInitPSK && a <= AuthXAuthRespRSARe || a >= AuthHybridInitRSA && a <= AuthHybridRespDSS
}

// PreShared tells whether the machine proves itself with a pre-shared key.
func (a AuthMethod) PreShared() bool {
	return a == AuthPSK || a == AuthXAuthInitPSK || a == AuthXAuthRespPSK
}

// GroupID is a Diffie-Hellman group by its IANA number; 0 means none was named.
type GroupID uint16

// Diffie-Hellman groups.
const (
	GroupNone       GroupID = 0
	GroupMODP768    GroupID = 1
	GroupMODP1024   GroupID = 2
	GroupEC2N155    GroupID = 3
	GroupEC2N185    GroupID = 4
	GroupMODP1536   GroupID = 5
	GroupMODP2048   GroupID = 14
	GroupMODP3072   GroupID = 15
	GroupMODP4096   GroupID = 16
	GroupMODP6144   GroupID = 17
	GroupMODP8192   GroupID = 18
	GroupECP256     GroupID = 19
	GroupECP384     GroupID = 20
	GroupECP521     GroupID = 21
	GroupCurve25519 GroupID = 31
)

// String names the group.
func (g GroupID) String() string {
	switch g {
	case GroupNone:
		return "none"
	case GroupMODP768:
		return "MODP768"
	case GroupMODP1024:
		return "MODP1024"
	case GroupEC2N155:
		return "EC2N155"
	case GroupEC2N185:
		return "EC2N185"
	case GroupMODP1536:
		return "MODP1536"
	case GroupMODP2048:
		return "MODP2048"
	case GroupMODP3072:
		return "MODP3072"
	case GroupMODP4096:
		return "MODP4096"
	case GroupMODP6144:
		return "MODP6144"
	case GroupMODP8192:
		return "MODP8192"
	case GroupECP256:
		return "ECP256"
	case GroupECP384:
		return "ECP384"
	case GroupECP521:
		return "ECP521"
	case GroupCurve25519:
		return "CURVE25519"
	}
	return fmt.Sprintf("group(%d)", uint16(g))
}

// Life is a lifetime as negotiated; 0 means that the unit was not named.
type Life struct {
	Seconds   uint64
	Kilobytes uint64
}

// Phase1Transform is the meaning of a transform of phase 1.
type Phase1Transform struct {
	Number  uint8
	Enc     EncryptionAlgorithm
	KeyBits uint16 // 0: no key length attribute
	Hash    HashAlgorithm
	Auth    AuthMethod
	Group   GroupID
	Life    Life
	// Unknown holds attributes that have no meaning to us, or are repeated, or
	// whose value is no number. A transform with any must not be chosen (RFC
	// 2407 section 4.5.3).
	Unknown []Attribute
}

// Phase1 reads the transform as one of phase 1. ok is false if it is not KEY_IKE.
func (t Transform) Phase1() (p Phase1Transform, ok bool) {
	p.Number = t.Number
	if t.ID != KeyIKE {
		return p, false
	}
	var s attributeScan
	for _, a := range t.Attributes {
		switch a.Type {
		case attrEncryption:
			p.Enc = EncryptionAlgorithm(s.number(a))
		case attrHash:
			p.Hash = HashAlgorithm(s.number(a))
		case attrAuth:
			p.Auth = AuthMethod(s.number(a))
		case attrGroup:
			p.Group = GroupID(s.number(a))
		case attrKeyLength:
			p.KeyBits = s.number(a)
		case attrLifeType:
			s.lifeType(a)
		case attrLifeDuration:
			s.lifeDuration(a)
		default:
			s.unknown = append(s.unknown, a)
		}
	}
	p.Life, p.Unknown = s.life, s.unknown
	return p, true
}

// Transform encodes p; zero fields are left out. Lifetimes take the form that
// NumberAttribute chooses; more than 32 bits are cut to the largest value.
// Unknown attributes are appended as they are.
func (p Phase1Transform) Transform() Transform {
	t := Transform{Number: p.Number, ID: KeyIKE}
	add := func(typ, v uint16) {
		if v != 0 {
			t.Attributes = append(t.Attributes, ShortAttribute(typ, v))
		}
	}
	add(attrEncryption, uint16(p.Enc))
	add(attrKeyLength, p.KeyBits)
	add(attrHash, uint16(p.Hash))
	add(attrAuth, uint16(p.Auth))
	add(attrGroup, uint16(p.Group))
	t.Attributes = p.Life.append(t.Attributes, attrLifeType, attrLifeDuration)
	t.Attributes = append(t.Attributes, p.Unknown...)
	return t
}

// String is one line of the log of an offer, such as
// "AES-256/SHA1/MODP2048/PSK 28800s".
func (p Phase1Transform) String() string {
	var b strings.Builder
	b.WriteString(p.Enc.String())
	if p.KeyBits != 0 {
		fmt.Fprintf(&b, "-%d", p.KeyBits)
	}
	fmt.Fprintf(&b, "/%v/%v/%v", p.Hash, p.Group, p.Auth)
	p.Life.print(&b)
	if len(p.Unknown) > 0 {
		fmt.Fprintf(&b, " %v", p.Unknown)
	}
	return b.String()
}

func (l Life) print(b *strings.Builder) {
	if l.Seconds != 0 {
		fmt.Fprintf(b, " %ds", l.Seconds)
	}
	if l.Kilobytes != 0 {
		fmt.Fprintf(b, " %dkB", l.Kilobytes)
	}
}

// append adds the pairs of life type and duration.
func (l Life) append(as []Attribute, typ, duration uint16) []Attribute {
	for _, u := range []struct {
		unit uint16
		v    uint64
	}{{lifeSeconds, l.Seconds}, {lifeKilobytes, l.Kilobytes}} {
		if u.v != 0 {
			as = append(as, ShortAttribute(typ, u.unit), NumberAttribute(duration, uint32(min(u.v, 0xffffffff))))
		}
	}
	return as
}

// attributeScan collects what both phases read in the same way.
type attributeScan struct {
	life    Life
	unit    uint16 // of the next duration
	seen    []uint16
	unknown []Attribute
}

// number reads a 16-bit attribute that may appear once.
func (s *attributeScan) number(a Attribute) uint16 {
	v, ok := a.Uint16()
	if !ok || slices.Contains(s.seen, a.Type) {
		s.unknown = append(s.unknown, a)
		return v
	}
	s.seen = append(s.seen, a.Type)
	return v
}

// lifeType remembers the unit of the duration that must follow.
func (s *attributeScan) lifeType(a Attribute) {
	v, ok := a.Uint16()
	if !ok || v != lifeSeconds && v != lifeKilobytes {
		s.unknown = append(s.unknown, a)
	}
	s.unit = v
}

// lifeDuration reads a duration in the unit named last, in seconds if none was.
// A duration of more than 64 bits is as good as the largest number.
func (s *attributeScan) lifeDuration(a Attribute) {
	v, ok := a.Uint()
	if !ok {
		if len(a.Value) == 0 {
			s.unknown = append(s.unknown, a)
			return
		}
		v = 1<<64 - 1
	}
	switch s.unit {
	case 0, lifeSeconds:
		s.life.Seconds = v
	case lifeKilobytes:
		s.life.Kilobytes = v
	}
}
