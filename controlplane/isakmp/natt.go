package isakmp

import (
	"fmt"
	"net/netip"
)

// NATT is a version of NAT traversal, a greater value being preferred; the
// zero value is none. It decides payload numbers and encapsulation modes (C3r).
type NATT uint8

// NAT traversal versions.
const (
	NATTNone     NATT = iota
	NATTApple         // drafts 04 to 08 and Apple's own vendor id: the oddest, so the last choice
	NATTDraft00       // draft-ietf-ipsec-nat-t-ike-00
	NATTDraft02       // -02
	NATTDraft02n      // -02 with a newline in the hashed text, which Windows sends
	NATTDraft03       // -03
	NATTRFC3947
)

// String names the version.
func (v NATT) String() string {
	switch v {
	case NATTNone:
		return "none"
	case NATTDraft00:
		return "draft-00"
	case NATTDraft02:
		return "draft-02"
	case NATTDraft02n:
		return "draft-02n"
	case NATTDraft03:
		return "draft-03"
	case NATTApple:
		return "apple"
	case NATTRFC3947:
		return "RFC3947"
	}
	return fmt.Sprintf("natt(%d)", uint8(v))
}

// BestNATT returns the most preferred version that both the vendor ids of a
// message and accept allow; accept nil allows all.
func BestNATT(ids []VendorID, accept func(NATT) bool) NATT {
	best := NATTNone
	for _, v := range ids {
		if n := v.Vendor.NATT(); n > best && (accept == nil || accept(n)) {
			best = n
		}
	}
	return best
}

// NATD returns the type of NAT-D payloads, TypeNone for NATTNone.
func (v NATT) NATD() PayloadType {
	switch v {
	case NATTRFC3947:
		return TypeNATD
	case NATTApple:
		return TypeNATDApple
	case NATTDraft00, NATTDraft02, NATTDraft02n, NATTDraft03:
		return TypeNATDDraft
	}
	return TypeNone
}

// NATOA returns the type of NAT-OA payloads, TypeNone if the version has none:
// Apple's builds that speak drafts 04 to 08 leave them out.
func (v NATT) NATOA() PayloadType {
	switch v {
	case NATTRFC3947:
		return TypeNATOA
	case NATTDraft00, NATTDraft02, NATTDraft02n, NATTDraft03:
		return TypeNATOADraft
	}
	return TypeNone
}

// Mode returns the encapsulation mode that means transport or tunnel in UDP.
func (v NATT) Mode(transport bool) Mode {
	draft := v != NATTRFC3947 && v != NATTApple && v != NATTNone
	switch {
	case transport && draft:
		return ModeDraftUDPTransport
	case transport:
		return ModeUDPTransport
	case draft:
		return ModeDraftUDPTunnel
	}
	return ModeUDPTunnel
}

// NATOA decodes a NAT original address payload of any of its types (RFC 3947
// section 5.2): an identification type, three reserved bytes and an address.
func (p Payload) NATOA() (netip.Addr, error) {
	if !p.Type.IsNATOA() {
		return netip.Addr{}, p.expect(TypeNATOA)
	}
	if len(p.Body) < 4 {
		return netip.Addr{}, malformed(PayloadMalformed, "NAT-OA", "%d bytes", len(p.Body))
	}
	a, ok := ID{Type: IDType(p.Body[0]), Data: p.Body[4:]}.Addr()
	if !ok {
		return netip.Addr{}, malformed(PayloadMalformed, "NAT-OA", "type %d with %d bytes", p.Body[0], len(p.Body)-4)
	}
	return a, nil
}

// NATOAPayload encodes a NAT original address payload of type t.
func NATOAPayload(t PayloadType, a netip.Addr) Payload {
	id := AddrID(a, 0, 0)
	return Payload{Type: t, Body: append([]byte{byte(id.Type), 0, 0, 0}, id.Data...)}
}
