package isakmp

import (
	"encoding/binary"
	"fmt"
)

// NotifyType is a notify message type (RFC 2408 section 3.14.1, RFC 2407
// section 4.6.3, RFC 3706, Cisco).
type NotifyType uint16

// Errors (1 to 8191) and status (16384 up).
const (
	InvalidPayloadType      NotifyType = 1
	DOINotSupported         NotifyType = 2
	SituationNotSupported   NotifyType = 3
	InvalidCookie           NotifyType = 4
	InvalidMajorVersion     NotifyType = 5
	InvalidMinorVersion     NotifyType = 6
	InvalidExchangeType     NotifyType = 7
	InvalidFlags            NotifyType = 8
	InvalidMessageID        NotifyType = 9
	InvalidProtocolID       NotifyType = 10
	InvalidSPI              NotifyType = 11
	InvalidTransformID      NotifyType = 12
	AttributesNotSupported  NotifyType = 13
	NoProposalChosen        NotifyType = 14
	BadProposalSyntax       NotifyType = 15
	PayloadMalformed        NotifyType = 16
	InvalidKeyInformation   NotifyType = 17
	InvalidIDInformation    NotifyType = 18
	InvalidCertEncoding     NotifyType = 19
	InvalidCertificate      NotifyType = 20
	CertTypeUnsupported     NotifyType = 21
	InvalidCertAuthority    NotifyType = 22
	InvalidHashInformation  NotifyType = 23
	AuthenticationFailed    NotifyType = 24
	InvalidSignature        NotifyType = 25
	AddressNotification     NotifyType = 26
	NotifySALifetime        NotifyType = 27
	CertificateUnavailable  NotifyType = 28
	UnsupportedExchangeType NotifyType = 29
	UnequalPayloadLengths   NotifyType = 30
	Connected               NotifyType = 16384
	ResponderLifetime       NotifyType = 24576
	ReplayStatus            NotifyType = 24577
	InitialContact          NotifyType = 24578
	RUThere                 NotifyType = 36136
	RUThereAck              NotifyType = 36137
	LoadBalance             NotifyType = 40501 // Cisco: connect to the address in the data instead
	maxErrorNotify          NotifyType = 16383
)

var notifyNames = map[NotifyType]string{
	InvalidPayloadType: "INVALID-PAYLOAD-TYPE", DOINotSupported: "DOI-NOT-SUPPORTED",
	SituationNotSupported: "SITUATION-NOT-SUPPORTED", InvalidCookie: "INVALID-COOKIE",
	InvalidMajorVersion: "INVALID-MAJOR-VERSION", InvalidMinorVersion: "INVALID-MINOR-VERSION",
	InvalidExchangeType: "INVALID-EXCHANGE-TYPE", InvalidFlags: "INVALID-FLAGS",
	InvalidMessageID: "INVALID-MESSAGE-ID", InvalidProtocolID: "INVALID-PROTOCOL-ID",
	InvalidSPI: "INVALID-SPI", InvalidTransformID: "INVALID-TRANSFORM-ID",
	AttributesNotSupported: "ATTRIBUTES-NOT-SUPPORTED", NoProposalChosen: "NO-PROPOSAL-CHOSEN",
	BadProposalSyntax: "BAD-PROPOSAL-SYNTAX", PayloadMalformed: "PAYLOAD-MALFORMED",
	InvalidKeyInformation: "INVALID-KEY-INFORMATION", InvalidIDInformation: "INVALID-ID-INFORMATION",
	InvalidCertEncoding: "INVALID-CERT-ENCODING", InvalidCertificate: "INVALID-CERTIFICATE",
	CertTypeUnsupported: "CERT-TYPE-UNSUPPORTED", InvalidCertAuthority: "INVALID-CERT-AUTHORITY",
	InvalidHashInformation: "INVALID-HASH-INFORMATION", AuthenticationFailed: "AUTHENTICATION-FAILED",
	InvalidSignature: "INVALID-SIGNATURE", AddressNotification: "ADDRESS-NOTIFICATION",
	NotifySALifetime: "NOTIFY-SA-LIFETIME", CertificateUnavailable: "CERTIFICATE-UNAVAILABLE",
	UnsupportedExchangeType: "UNSUPPORTED-EXCHANGE-TYPE", UnequalPayloadLengths: "UNEQUAL-PAYLOAD-LENGTHS",
	Connected: "CONNECTED", ResponderLifetime: "RESPONDER-LIFETIME", ReplayStatus: "REPLAY-STATUS",
	InitialContact: "INITIAL-CONTACT", RUThere: "R-U-THERE", RUThereAck: "R-U-THERE-ACK",
	LoadBalance: "LOAD-BALANCE",
}

// String names the type as its RFC does.
func (t NotifyType) String() string {
	if s, ok := notifyNames[t]; ok {
		return s
	}
	return fmt.Sprintf("notify(%d)", uint16(t))
}

// IsError tells whether the type is one of the error types, 1 to 16383.
func (t NotifyType) IsError() bool { return t != 0 && t <= maxErrorNotify }

// Limits of notify and delete payloads.
const (
	MaxDeleteSPIs = 256 // in one delete payload
)

// Notify is a notify payload.
//
//	+---------------------------------------------------------------+
//	|              Domain of Interpretation  (DOI)                  |
//	+---------------+---------------+-------------------------------+
//	|  Protocol-ID  |   SPI Size    |      Notify Message Type      |
//	+---------------+---------------+-------------------------------+
//	|                Security Parameter Index (SPI)                 |
//	+---------------------------------------------------------------+
//	|                       Notification Data                       |
type Notify struct {
	DOI      uint32
	Protocol Protocol
	SPI      []byte // 0, 4, 8 or 16 bytes
	Type     NotifyType
	Data     []byte
}

// Notify decodes a notify payload; unknown DOIs, protocols and types are kept.
func (p Payload) Notify() (Notify, error) {
	if err := p.expect(TypeNotify); err != nil {
		return Notify{}, err
	}
	b := p.Body
	if len(b) < 8 || len(b) < 8+int(b[5]) || b[5] > MaxSPILen {
		return Notify{}, malformed(PayloadMalformed, "NOTIFY", "%d bytes", len(b))
	}
	spi := 8 + int(b[5])
	return Notify{
		DOI:      binary.BigEndian.Uint32(b),
		Protocol: Protocol(b[4]),
		Type:     NotifyType(binary.BigEndian.Uint16(b[6:])),
		SPI:      b[8:spi:spi],
		Data:     b[spi:],
	}, nil
}

// Payload encodes the notify. It panics if the SPI is longer than MaxSPILen.
func (n Notify) Payload() Payload {
	checkSPI(n.SPI)
	b := binary.BigEndian.AppendUint32(nil, n.DOI)
	b = append(b, byte(n.Protocol), byte(len(n.SPI)))
	b = binary.BigEndian.AppendUint16(b, uint16(n.Type))
	b = append(b, n.SPI...)
	return Payload{Type: TypeNotify, Body: append(b, n.Data...)}
}

// DPD returns the sequence number of an R-U-THERE or R-U-THERE-ACK (RFC 3706
// section 5.3). ok is false if the notify is no such message or names another
// SA: its SPI must be the cookies of the ISAKMP SA, or empty, as some peers
// leave it.
func (n Notify) DPD(i, r Cookie) (seq uint32, ok bool) {
	if n.Type != RUThere && n.Type != RUThereAck || len(n.Data) != 4 {
		return 0, false
	}
	if len(n.SPI) != 0 && string(n.SPI) != string(i[:])+string(r[:]) {
		return 0, false
	}
	return binary.BigEndian.Uint32(n.Data), true
}

// DPDNotify makes an R-U-THERE or R-U-THERE-ACK.
func DPDNotify(t NotifyType, i, r Cookie, seq uint32) Notify {
	return Notify{DOI: DOIIPsec, Protocol: ProtocolISAKMP, SPI: cookies(i, r), Type: t,
		Data: binary.BigEndian.AppendUint32(nil, seq)}
}

// InitialContactNotify makes an INITIAL-CONTACT (RFC 2407 section 4.6.3.3).
func InitialContactNotify(i, r Cookie) Notify {
	return Notify{DOI: DOIIPsec, Protocol: ProtocolISAKMP, SPI: cookies(i, r), Type: InitialContact}
}

// ResponderLifetimeNotify makes a RESPONDER-LIFETIME (RFC 2407 section 4.6.3.1)
// with the lifetimes we will use. spi is both cookies for phase 1, the SPI of
// the proposal for phase 2.
func ResponderLifetimeNotify(p Protocol, spi []byte, l Life) Notify {
	typ, dur := uint16(attr2LifeType), uint16(attr2LifeDuration)
	if p == ProtocolISAKMP {
		typ, dur = attrLifeType, attrLifeDuration
	}
	return Notify{DOI: DOIIPsec, Protocol: p, SPI: spi, Type: ResponderLifetime,
		Data: appendAttributes(nil, l.append(nil, typ, dur))}
}

// Lifetime reads the data of a RESPONDER-LIFETIME.
func (n Notify) Lifetime() (Life, error) {
	as, err := parseAttributes(n.Data)
	if err != nil {
		return Life{}, err
	}
	var s attributeScan
	for _, a := range as {
		switch {
		case n.Protocol == ProtocolISAKMP && a.Type == attrLifeType,
			n.Protocol != ProtocolISAKMP && a.Type == attr2LifeType:
			s.lifeType(a)
		case n.Protocol == ProtocolISAKMP && a.Type == attrLifeDuration,
			n.Protocol != ProtocolISAKMP && a.Type == attr2LifeDuration:
			s.lifeDuration(a)
		}
	}
	return s.life, nil
}

// Delete is a delete payload: the sender no longer has these SAs.
//
//	+---------------------------------------------------------------+
//	|              Domain of Interpretation  (DOI)                  |
//	+---------------+---------------+-------------------------------+
//	|  Protocol-Id  |   SPI Size    |           # of SPIs           |
//	+---------------+---------------+-------------------------------+
//	|               SPIs …                                          |
type Delete struct {
	DOI      uint32
	Protocol Protocol
	SPILen   uint8 // of each SPI: 4, or 16 for both cookies of an ISAKMP SA
	SPIs     [][]byte
}

// Delete decodes a delete payload.
func (p Payload) Delete() (Delete, error) {
	if err := p.expect(TypeDelete); err != nil {
		return Delete{}, err
	}
	b := p.Body
	if len(b) < 8 {
		return Delete{}, malformed(PayloadMalformed, "DELETE", "%d bytes", len(b))
	}
	d := Delete{DOI: binary.BigEndian.Uint32(b), Protocol: Protocol(b[4]), SPILen: b[5]}
	size, count := int(b[5]), int(binary.BigEndian.Uint16(b[6:]))
	b = b[8:]
	if size == 0 || size > MaxSPILen || size*count != len(b) {
		return Delete{}, malformed(PayloadMalformed, "DELETE", "%d SPIs of %d bytes in %d", count, size, len(b))
	}
	if count > MaxDeleteSPIs {
		return Delete{}, tooMany(PayloadMalformed, "SPIs", MaxDeleteSPIs)
	}
	d.SPIs = make([][]byte, 0, count)
	for ; len(b) > 0; b = b[size:] {
		d.SPIs = append(d.SPIs, b[:size:size])
	}
	return d, nil
}

// Payload encodes the delete. It panics if an SPI has not SPILen bytes or there
// are more than MaxDeleteSPIs.
func (d Delete) Payload() Payload {
	if len(d.SPIs) > MaxDeleteSPIs || d.SPILen == 0 || d.SPILen > MaxSPILen {
		panic("isakmp: delete payload cannot be encoded")
	}
	b := binary.BigEndian.AppendUint32(nil, d.DOI)
	b = append(b, byte(d.Protocol), d.SPILen)
	b = binary.BigEndian.AppendUint16(b, uint16(len(d.SPIs)))
	for _, s := range d.SPIs {
		if len(s) != int(d.SPILen) {
			panic("isakmp: SPI of wrong length in delete payload")
		}
		b = append(b, s...)
	}
	return Payload{Type: TypeDelete, Body: b}
}

// DeleteISAKMP says that an ISAKMP SA is gone.
func DeleteISAKMP(i, r Cookie) Delete {
	return Delete{DOI: DOIIPsec, Protocol: ProtocolISAKMP, SPILen: 16, SPIs: [][]byte{cookies(i, r)}}
}

// DeleteESP says that inbound ESP SAs of the sender are gone.
func DeleteESP(spis ...uint32) Delete {
	d := Delete{DOI: DOIIPsec, Protocol: ProtocolESP, SPILen: 4}
	for _, s := range spis {
		d.SPIs = append(d.SPIs, binary.BigEndian.AppendUint32(nil, s))
	}
	return d
}

// cookies is the SPI of an ISAKMP SA.
func cookies(i, r Cookie) []byte { return append(i[:len(i):len(i)], r[:]...) }

func checkSPI(spi []byte) {
	if len(spi) > MaxSPILen {
		panic(fmt.Sprintf("isakmp: SPI of %d bytes", len(spi)))
	}
}
