package isakmp

import (
	"fmt"
	"strings"
)

// Phase 2 attribute classes (RFC 2407 section 4.5).
const (
	attr2LifeType     = 1
	attr2LifeDuration = 2
	attr2Group        = 3
	attr2Mode         = 4
	attr2Auth         = 5
	attr2KeyLength    = 6
	attr2ECNTunnel    = 10 // RFC 3168
	attr2ESN          = 11 // RFC 4304
)

// ESPTransformID is an ESP transform (RFC 2407 section 4.4.4 and IANA).
type ESPTransformID uint8

// ESP transforms.
const (
	ESPDES         ESPTransformID = 2
	ESP3DES        ESPTransformID = 3
	ESPCAST        ESPTransformID = 6
	ESPBlowfish    ESPTransformID = 7
	ESPNull        ESPTransformID = 11
	ESPAES         ESPTransformID = 12
	ESPAESCTR      ESPTransformID = 13
	ESPAESCCM8     ESPTransformID = 14
	ESPAESCCM12    ESPTransformID = 15
	ESPAESCCM16    ESPTransformID = 16
	ESPAESGCM8     ESPTransformID = 18
	ESPAESGCM12    ESPTransformID = 19
	ESPAESGCM16    ESPTransformID = 20
	ESPCamellia    ESPTransformID = 22
	ESPNullAESGMAC ESPTransformID = 23
)

// String names the transform.
func (t ESPTransformID) String() string {
	switch t {
	case ESPDES:
		return "DES"
	case ESP3DES:
		return "3DES"
	case ESPCAST:
		return "CAST"
	case ESPBlowfish:
		return "BLOWFISH"
	case ESPNull:
		return "NULL"
	case ESPAES:
		return "AES"
	case ESPAESCTR:
		return "AES-CTR"
	case ESPAESCCM8:
		return "AES-CCM-8"
	case ESPAESCCM12:
		return "AES-CCM-12"
	case ESPAESCCM16:
		return "AES-CCM-16"
	case ESPAESGCM8:
		return "AES-GCM-8"
	case ESPAESGCM12:
		return "AES-GCM-12"
	case ESPAESGCM16:
		return "AES-GCM-16"
	case ESPCamellia:
		return "CAMELLIA"
	case ESPNullAESGMAC:
		return "NULL-AES-GMAC"
	}
	return fmt.Sprintf("esp(%d)", uint8(t))
}

// ESPAuth is an authentication algorithm of ESP and AH.
type ESPAuth uint16

// Authentication algorithms.
const (
	ESPAuthNone   ESPAuth = 0 // no attribute sent
	ESPAuthMD5    ESPAuth = 1
	ESPAuthSHA1   ESPAuth = 2
	ESPAuthSHA256 ESPAuth = 5 // 128 bits (RFC 4868); Androids 6 and 7 cut it to 96
	ESPAuthSHA384 ESPAuth = 6
	ESPAuthSHA512 ESPAuth = 7
	ESPAuthRIPEMD ESPAuth = 8
	ESPAuthXCBC   ESPAuth = 9
)

// String names the algorithm.
func (a ESPAuth) String() string {
	switch a {
	case ESPAuthNone:
		return "none"
	case ESPAuthMD5:
		return "HMAC-MD5"
	case ESPAuthSHA1:
		return "HMAC-SHA1"
	case ESPAuthSHA256:
		return "HMAC-SHA2-256"
	case ESPAuthSHA384:
		return "HMAC-SHA2-384"
	case ESPAuthSHA512:
		return "HMAC-SHA2-512"
	case ESPAuthRIPEMD:
		return "HMAC-RIPEMD"
	case ESPAuthXCBC:
		return "AES-XCBC"
	}
	return fmt.Sprintf("auth(%d)", uint16(a))
}

// Mode is an encapsulation mode (RFC 2407 section 4.5, RFC 3947 section 5.1).
type Mode uint16

// Encapsulation modes. The draft numbers belong to NAT-T drafts 00 to 03.
const (
	ModeTunnel            Mode = 1
	ModeTransport         Mode = 2
	ModeUDPTunnel         Mode = 3
	ModeUDPTransport      Mode = 4
	ModeDraftUDPTunnel    Mode = 61443
	ModeDraftUDPTransport Mode = 61444
)

// String names the mode.
func (m Mode) String() string {
	switch m {
	case 0:
		return "none"
	case ModeTunnel:
		return "tunnel"
	case ModeTransport:
		return "transport"
	case ModeUDPTunnel:
		return "UDP-tunnel"
	case ModeUDPTransport:
		return "UDP-transport"
	case ModeDraftUDPTunnel:
		return "UDP-tunnel(draft)"
	case ModeDraftUDPTransport:
		return "UDP-transport(draft)"
	}
	return fmt.Sprintf("mode(%d)", uint16(m))
}

// Transport tells whether the inner mode is transport.
func (m Mode) Transport() bool {
	return m == ModeTransport || m == ModeUDPTransport || m == ModeDraftUDPTransport
}

// Tunnel tells whether the inner mode is tunnel.
func (m Mode) Tunnel() bool {
	return m == ModeTunnel || m == ModeUDPTunnel || m == ModeDraftUDPTunnel
}

// UDP tells whether ESP is carried in UDP.
func (m Mode) UDP() bool {
	return m == ModeUDPTunnel || m == ModeUDPTransport || m.Draft()
}

// Draft tells whether the number is that of the drafts before RFC 3947.
func (m Mode) Draft() bool { return m == ModeDraftUDPTunnel || m == ModeDraftUDPTransport }

// ESPTransform is the meaning of a transform of an ESP proposal in quick mode.
type ESPTransform struct {
	Number  uint8
	ID      ESPTransformID
	KeyBits uint16 // 0: no key length attribute
	Auth    ESPAuth
	Mode    Mode    // 0: not named, which the DOI leaves to the implementation
	Group   GroupID // of PFS; GroupNone: no PFS
	Life    Life
	ESN     bool        // extended sequence numbers asked for (RFC 4304)
	Unknown []Attribute // as in Phase1Transform
}

// ESP reads the transform as one of an ESP proposal.
func (t Transform) ESP() ESPTransform {
	e := ESPTransform{Number: t.Number, ID: ESPTransformID(t.ID)}
	var s attributeScan
	for _, a := range t.Attributes {
		switch a.Type {
		case attr2LifeType:
			s.lifeType(a)
		case attr2LifeDuration:
			s.lifeDuration(a)
		case attr2Group:
			e.Group = GroupID(s.number(a))
		case attr2Mode:
			e.Mode = Mode(s.number(a))
		case attr2Auth:
			e.Auth = ESPAuth(s.number(a))
		case attr2KeyLength:
			e.KeyBits = s.number(a)
		case attr2ESN:
			switch s.number(a) {
			case 0: // RFC 4304 names 0 "reserved", 1 "64-bit"
			case 1:
				e.ESN = true
			default:
				s.unknown = append(s.unknown, a)
			}
		case attr2ECNTunnel:
			// RFC 3168 section 9.2.1: it restricts nothing that we do.
		default:
			s.unknown = append(s.unknown, a)
		}
	}
	e.Life, e.Unknown = s.life, s.unknown
	return e
}

// Transform encodes e; zero fields are left out, lifetimes are as in
// Phase1Transform.Transform.
func (e ESPTransform) Transform() Transform {
	t := Transform{Number: e.Number, ID: uint8(e.ID)}
	add := func(typ, v uint16) {
		if v != 0 {
			t.Attributes = append(t.Attributes, ShortAttribute(typ, v))
		}
	}
	t.Attributes = e.Life.append(t.Attributes, attr2LifeType, attr2LifeDuration)
	add(attr2Group, uint16(e.Group))
	add(attr2Mode, uint16(e.Mode))
	add(attr2KeyLength, e.KeyBits)
	add(attr2Auth, uint16(e.Auth))
	if e.ESN {
		add(attr2ESN, 1)
	}
	t.Attributes = append(t.Attributes, e.Unknown...)
	return t
}

// String is one line of the log of an offer, such as
// "AES-256/HMAC-SHA1/transport 3600s".
func (e ESPTransform) String() string {
	var b strings.Builder
	b.WriteString(e.ID.String())
	if e.KeyBits != 0 {
		fmt.Fprintf(&b, "-%d", e.KeyBits)
	}
	if e.Auth != ESPAuthNone {
		fmt.Fprintf(&b, "/%v", e.Auth)
	}
	fmt.Fprintf(&b, "/%v", e.Mode)
	if e.Group != GroupNone {
		fmt.Fprintf(&b, "/%v", e.Group)
	}
	e.Life.print(&b)
	if e.ESN {
		b.WriteString(" ESN")
	}
	if len(e.Unknown) > 0 {
		fmt.Fprintf(&b, " %v", e.Unknown)
	}
	return b.String()
}
