package isakmp

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
	"net/netip"
)

// MaxIDLen is how many bytes of identity we take: a distinguished name may be
// long, a key id of Cisco's group name is not.
const MaxIDLen = 2048

// IDType is an identification type (RFC 2407 section 4.6.2.1).
type IDType uint8

// Identification types.
const (
	IDIPv4       IDType = 1
	IDFQDN       IDType = 2
	IDUserFQDN   IDType = 3
	IDIPv4Subnet IDType = 4
	IDIPv6       IDType = 5
	IDIPv6Subnet IDType = 6
	IDIPv4Range  IDType = 7
	IDIPv6Range  IDType = 8
	IDDERDN      IDType = 9
	IDDERGN      IDType = 10
	IDKeyID      IDType = 11
	IDList       IDType = 12 // RFC 3554
)

// String names the type.
func (t IDType) String() string {
	switch t {
	case IDIPv4:
		return "IPV4_ADDR"
	case IDFQDN:
		return "FQDN"
	case IDUserFQDN:
		return "USER_FQDN"
	case IDIPv4Subnet:
		return "IPV4_ADDR_SUBNET"
	case IDIPv6:
		return "IPV6_ADDR"
	case IDIPv6Subnet:
		return "IPV6_ADDR_SUBNET"
	case IDIPv4Range:
		return "IPV4_ADDR_RANGE"
	case IDIPv6Range:
		return "IPV6_ADDR_RANGE"
	case IDDERDN:
		return "DER_ASN1_DN"
	case IDDERGN:
		return "DER_ASN1_GN"
	case IDKeyID:
		return "KEY_ID"
	case IDList:
		return "LIST"
	}
	return fmt.Sprintf("id(%d)", uint8(t))
}

// ID is an identification payload: the name of a peer in phase 1, a traffic
// selector in quick mode.
//
//	+---------------+---------------+-------------------------------+
//	|   ID Type     |  Protocol ID  |             Port              |
//	+---------------+---------------+-------------------------------+
//	|                     Identification Data                       |
//
// The hashes of phase 1 and 2 cover the body as it was sent: Payload.Body.
type ID struct {
	Type     IDType
	Protocol uint8  // IP protocol, 0: any
	Port     uint16 // 0: any
	Data     []byte
}

// ID decodes an identification payload. Address types must have the length of
// their addresses, a subnet mask must be contiguous and a range in order, since
// selectors are made of them; other types are kept as they are.
func (p Payload) ID() (ID, error) {
	if err := p.expect(TypeID); err != nil {
		return ID{}, err
	}
	b := p.Body
	if len(b) < 4 {
		return ID{}, malformed(PayloadMalformed, "ID", "%d bytes", len(b))
	}
	if len(b)-4 > MaxIDLen {
		return ID{}, tooMany(InvalidIDInformation, "bytes of identity", MaxIDLen)
	}
	id := ID{Type: IDType(b[0]), Protocol: b[1], Port: binary.BigEndian.Uint16(b[2:]), Data: b[4:]}
	if n := id.Type.addressBytes(); n != 0 {
		if len(id.Data) != n {
			return ID{}, malformed(InvalidIDInformation, "ID", "%v of %d bytes", id.Type, len(id.Data))
		}
		if _, _, ok := id.Range(); !ok {
			return ID{}, malformed(InvalidIDInformation, "ID", "%v is neither prefix nor range", id.Type)
		}
	}
	return id, nil
}

// addressBytes is the length of the data of address types, 0 for others.
func (t IDType) addressBytes() int {
	switch t {
	case IDIPv4:
		return 4
	case IDIPv4Subnet, IDIPv4Range:
		return 8
	case IDIPv6:
		return 16
	case IDIPv6Subnet, IDIPv6Range:
		return 32
	}
	return 0
}

// Payload encodes the identification.
func (id ID) Payload() Payload {
	b := []byte{byte(id.Type), id.Protocol}
	b = binary.BigEndian.AppendUint16(b, id.Port)
	return Payload{Type: TypeID, Body: append(b, id.Data...)}
}

// AddrID makes the identification of an address; an IPv4 address mapped into
// IPv6 counts as IPv4.
func AddrID(a netip.Addr, protocol uint8, port uint16) ID {
	a = a.Unmap()
	t := IDIPv6
	if a.Is4() {
		t = IDIPv4
	}
	return ID{Type: t, Protocol: protocol, Port: port, Data: a.AsSlice()}
}

// PrefixID makes the identification of a subnet.
func PrefixID(p netip.Prefix, protocol uint8, port uint16) ID {
	p = p.Masked()
	id := ID{Type: IDIPv6Subnet, Protocol: protocol, Port: port}
	if p.Addr().Is4() {
		id.Type = IDIPv4Subnet
	}
	id.Data = p.Addr().AsSlice()
	mask := make([]byte, len(id.Data))
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	id.Data = append(id.Data, mask...)
	return id
}

// TextID makes an identification of type FQDN, USER_FQDN or KEY_ID.
func TextID(t IDType, s string) ID { return ID{Type: t, Data: []byte(s)} }

// Addr returns the address of a single-address identification.
func (id ID) Addr() (netip.Addr, bool) {
	if id.Type != IDIPv4 && id.Type != IDIPv6 || len(id.Data) != id.Type.addressBytes() {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(id.Data)
}

// Prefix returns the addresses as one prefix: those of the address and subnet
// types. ok is false for ranges, for a mask with holes and for all other types.
func (id ID) Prefix() (p netip.Prefix, ok bool) {
	if a, ok := id.Addr(); ok {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	if id.Type != IDIPv4Subnet && id.Type != IDIPv6Subnet || len(id.Data) != id.Type.addressBytes() {
		return netip.Prefix{}, false
	}
	n := len(id.Data) / 2
	a, _ := netip.AddrFromSlice(id.Data[:n])
	ones, ended := 0, false
	for _, m := range id.Data[n:] {
		lead := bits.LeadingZeros8(^m)
		if ended && m != 0 || m<<lead != 0 {
			return netip.Prefix{}, false
		}
		ones += lead
		ended = lead != 8
	}
	return netip.PrefixFrom(a, ones).Masked(), true
}

// Range returns the first and last address of an address type. ok is false for
// other types, masks with holes and ranges out of order.
func (id ID) Range() (from, to netip.Addr, ok bool) {
	if p, ok := id.Prefix(); ok {
		last := p.Addr().AsSlice()
		for i := p.Bits(); i < len(last)*8; i++ {
			last[i/8] |= 0x80 >> (i % 8)
		}
		to, _ = netip.AddrFromSlice(last)
		return p.Addr(), to, true
	}
	if id.Type != IDIPv4Range && id.Type != IDIPv6Range || len(id.Data) != id.Type.addressBytes() {
		return from, to, false
	}
	n := len(id.Data) / 2
	from, _ = netip.AddrFromSlice(id.Data[:n])
	to, _ = netip.AddrFromSlice(id.Data[n:])
	return from, to, !to.Less(from)
}

// String shows the identity, quoted where a peer can choose any byte, with
// protocol and port if they restrict it: "192.0.2.1[17/1701]".
func (id ID) String() string {
	s := ""
	if a, ok := id.Addr(); ok {
		s = a.String()
	} else if p, ok := id.Prefix(); ok {
		s = p.String()
	} else if from, to, ok := id.Range(); ok {
		s = from.String() + "-" + to.String()
	} else {
		switch id.Type {
		case IDFQDN, IDUserFQDN, IDKeyID:
			s = fmt.Sprintf("%v %q", id.Type, id.Data)
		default:
			s = id.Type.String() + " " + hex.EncodeToString(id.Data)
		}
	}
	if id.Protocol != 0 || id.Port != 0 {
		s += fmt.Sprintf("[%d/%d]", id.Protocol, id.Port)
	}
	return s
}
