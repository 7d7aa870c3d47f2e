package isakmp

import "fmt"

// CertEncoding is a certificate encoding (RFC 2408 section 3.9).
type CertEncoding uint8

// Certificate encodings.
const (
	CertPKCS7         CertEncoding = 1
	CertPGP           CertEncoding = 2
	CertDNS           CertEncoding = 3
	CertX509Signature CertEncoding = 4
	CertX509KeyExch   CertEncoding = 5
	CertKerberos      CertEncoding = 6
	CertCRL           CertEncoding = 7
	CertARL           CertEncoding = 8
	CertSPKI          CertEncoding = 9
	CertX509Attribute CertEncoding = 10
)

// String names the encoding.
func (e CertEncoding) String() string {
	switch e {
	case CertPKCS7:
		return "PKCS7"
	case CertPGP:
		return "PGP"
	case CertDNS:
		return "DNS"
	case CertX509Signature:
		return "X509-signature"
	case CertX509KeyExch:
		return "X509-key-exchange"
	case CertKerberos:
		return "Kerberos"
	case CertCRL:
		return "CRL"
	case CertARL:
		return "ARL"
	case CertSPKI:
		return "SPKI"
	case CertX509Attribute:
		return "X509-attribute"
	}
	return fmt.Sprintf("cert(%d)", uint8(e))
}

// Cert is a certificate payload, or a certificate request, whose data is the
// DER name of an acceptable authority and may be empty.
type Cert struct {
	Encoding CertEncoding
	Data     []byte
}

// Cert decodes a certificate payload.
func (p Payload) Cert() (Cert, error) { return p.cert(TypeCert) }

// CertRequest decodes a certificate request payload.
func (p Payload) CertRequest() (Cert, error) { return p.cert(TypeCertRequest) }

func (p Payload) cert(t PayloadType) (Cert, error) {
	if err := p.expect(t); err != nil {
		return Cert{}, err
	}
	if len(p.Body) < 1 {
		return Cert{}, malformed(PayloadMalformed, t.String(), "empty")
	}
	return Cert{Encoding: CertEncoding(p.Body[0]), Data: p.Body[1:]}, nil
}

// Payload encodes a certificate payload.
func (c Cert) Payload() Payload { return c.payload(TypeCert) }

// RequestPayload encodes a certificate request payload.
func (c Cert) RequestPayload() Payload { return c.payload(TypeCertRequest) }

func (c Cert) payload(t PayloadType) Payload {
	return Payload{Type: t, Body: append([]byte{byte(c.Encoding)}, c.Data...)}
}
