package isakmp

import (
	"encoding/binary"
	"fmt"
)

// Limits of an SA payload. Shrew sends 72 transforms in one proposal, vpnc one
// proposal per pair of algorithms.
const (
	MaxProposals  = 64  // in one SA payload
	MaxTransforms = 128 // in one proposal
	MaxAttributes = 32  // in one transform, or in one mode config payload
	MaxSPILen     = 16  // bytes; real ones have 0, 4 or 8 (cookie), 16 in notifies (both cookies)
)

// DOIs and situations.
const (
	DOIISAKMP             uint32 = 0
	DOIIPsec              uint32 = 1 // RFC 2407
	SituationIdentityOnly uint32 = 1
)

// Protocol is a security protocol (RFC 2407 section 4.4.1).
type Protocol uint8

// Security protocols.
const (
	ProtocolNone   Protocol = 0 // appears in notifies of some peers
	ProtocolISAKMP Protocol = 1
	ProtocolAH     Protocol = 2
	ProtocolESP    Protocol = 3
	ProtocolIPComp Protocol = 4
)

// String names the protocol.
func (p Protocol) String() string {
	switch p {
	case ProtocolISAKMP:
		return "ISAKMP"
	case ProtocolAH:
		return "AH"
	case ProtocolESP:
		return "ESP"
	case ProtocolIPComp:
		return "IPCOMP"
	}
	return fmt.Sprintf("protocol(%d)", uint8(p))
}

// SA is the security association payload: what the initiator offers, or the one
// transform the responder chose.
//
//	+---------------------------------------------------------------+
//	|              Domain of Interpretation  (DOI)                  |
//	+---------------------------------------------------------------+
//	|                          Situation                            |
//	+---------------------------------------------------------------+
//	|              Proposal payloads …                              |
type SA struct {
	DOI       uint32
	Situation uint32
	Proposals []Proposal
}

// Proposal is a set of transforms of one protocol. Proposals with equal numbers
// are to be used together (ESP and AH, ESP and IPCOMP); 0 is a valid number,
// which vpnc uses.
type Proposal struct {
	Number     uint8
	Protocol   Protocol
	SPI        []byte
	Transforms []Transform
}

// Transform is one alternative of a proposal.
type Transform struct {
	Number     uint8
	ID         uint8 // KeyIKE in phase 1, an ESPTransformID and so on in phase 2
	Attributes []Attribute
}

// SA decodes the body of an SA payload. Unknown DOIs, protocols, transforms and
// attributes are kept; a situation other than "identity only" is refused, since
// its layout is unknown. Proposals without transforms pass, and can only be
// refused by whoever selects.
func (p Payload) SA() (SA, error) {
	if err := p.expect(TypeSA); err != nil {
		return SA{}, err
	}
	b := p.Body
	if len(b) < 8 {
		return SA{}, malformed(PayloadMalformed, "SA", "%d bytes", len(b))
	}
	sa := SA{DOI: binary.BigEndian.Uint32(b), Situation: binary.BigEndian.Uint32(b[4:])}
	if sa.DOI != DOIIPsec && sa.DOI != DOIISAKMP {
		return SA{}, malformed(DOINotSupported, "SA", "DOI %d", sa.DOI)
	}
	if sa.Situation != SituationIdentityOnly {
		return SA{}, malformed(SituationNotSupported, "SA", "situation %#x", sa.Situation)
	}
	b = b[8:]
	for next := TypeProposal; next != TypeNone; {
		if next != TypeProposal {
			return SA{}, malformed(BadProposalSyntax, "SA", "%v among proposals", next)
		}
		if len(sa.Proposals) == MaxProposals {
			return SA{}, tooMany(BadProposalSyntax, "proposals", MaxProposals)
		}
		var body []byte
		var err error
		if next, body, b, err = cutInner("proposal", b); err != nil {
			return SA{}, err
		}
		pr, err := parseProposal(body)
		if err != nil {
			return SA{}, err
		}
		sa.Proposals = append(sa.Proposals, pr)
	}
	if len(b) != 0 {
		return SA{}, malformed(BadProposalSyntax, "SA", "%d bytes behind the last proposal", len(b))
	}
	return sa, nil
}

// cutInner cuts a proposal or transform off b: its next field, its body and
// what follows.
func cutInner(where string, b []byte) (next PayloadType, body, rest []byte, err error) {
	if len(b) < payloadHeaderLen {
		return 0, nil, nil, malformed(BadProposalSyntax, where, "%d bytes left for its header", len(b))
	}
	l := int(binary.BigEndian.Uint16(b[2:]))
	if b[1] != 0 || l < payloadHeaderLen || l > len(b) {
		return 0, nil, nil, malformed(BadProposalSyntax, where, "reserved %d, length %d of %d bytes left", b[1], l, len(b))
	}
	return PayloadType(b[0]), b[payloadHeaderLen:l], b[l:], nil
}

// parseProposal reads number, protocol, SPI size, number of transforms, SPI and
// transforms.
func parseProposal(b []byte) (Proposal, error) {
	if len(b) < 4 || len(b) < 4+int(b[2]) {
		return Proposal{}, malformed(BadProposalSyntax, "proposal", "%d bytes", len(b))
	}
	spi := int(b[2])
	if spi > MaxSPILen {
		return Proposal{}, malformed(InvalidSPI, "proposal", "SPI of %d bytes", spi)
	}
	p := Proposal{Number: b[0], Protocol: Protocol(b[1]), SPI: b[4 : 4+spi : 4+spi]}
	count := int(b[3])
	if count > MaxTransforms {
		return Proposal{}, tooMany(BadProposalSyntax, "transforms", MaxTransforms)
	}
	b = b[4+spi:]
	next := TypeTransform
	if count == 0 {
		next = TypeNone
	} else {
		// The smallest transform has 8 bytes: no allocation beyond the input.
		p.Transforms = make([]Transform, 0, min(count, len(b)/8))
	}
	for next != TypeNone {
		if next != TypeTransform || len(p.Transforms) == count {
			return Proposal{}, malformed(BadProposalSyntax, "proposal", "%v after %d of %d transforms", next, len(p.Transforms), count)
		}
		var body []byte
		var err error
		if next, body, b, err = cutInner("transform", b); err != nil {
			return Proposal{}, err
		}
		t, err := parseTransform(body)
		if err != nil {
			return Proposal{}, err
		}
		p.Transforms = append(p.Transforms, t)
	}
	if len(p.Transforms) != count || len(b) != 0 {
		return Proposal{}, malformed(BadProposalSyntax, "proposal", "%d of %d transforms, %d bytes left", len(p.Transforms), count, len(b))
	}
	return p, nil
}

// parseTransform reads number, identifier, two reserved bytes and attributes.
func parseTransform(b []byte) (Transform, error) {
	if len(b) < 4 || b[2] != 0 || b[3] != 0 {
		return Transform{}, malformed(BadProposalSyntax, "transform", "%d bytes or reserved bytes set", len(b))
	}
	attrs, err := parseAttributes(b[4:])
	if err != nil {
		return Transform{}, err
	}
	return Transform{Number: b[0], ID: b[1], Attributes: attrs}, nil
}

// Payload encodes the SA. It panics if a limit of this package is exceeded.
func (s SA) Payload() Payload {
	b := binary.BigEndian.AppendUint32(nil, s.DOI)
	b = binary.BigEndian.AppendUint32(b, s.Situation)
	if len(s.Proposals) > MaxProposals {
		panic("isakmp: too many proposals")
	}
	for i, p := range s.Proposals {
		next := TypeProposal
		if i == len(s.Proposals)-1 {
			next = TypeNone
		}
		b = appendGeneric(b, next, p.appendBody(nil))
	}
	return Payload{Type: TypeSA, Body: b}
}

func (p Proposal) appendBody(b []byte) []byte {
	if len(p.SPI) > MaxSPILen || len(p.Transforms) > MaxTransforms {
		panic("isakmp: SPI too long or too many transforms")
	}
	b = append(b, p.Number, byte(p.Protocol), byte(len(p.SPI)), byte(len(p.Transforms)))
	b = append(b, p.SPI...)
	for i, t := range p.Transforms {
		next := TypeTransform
		if i == len(p.Transforms)-1 {
			next = TypeNone
		}
		body := appendAttributes([]byte{t.Number, t.ID, 0, 0}, t.Attributes)
		b = appendGeneric(b, next, body)
	}
	return b
}
