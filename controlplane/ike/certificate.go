package ike

import (
	"fmt"
	"net/netip"
	"slices"

	"vrgate/controlplane/isakmp"
)

// Limits of certificates and of requests for them.
const (
	// maxCertBytes bounds the certificates of one peer, all together: four of
	// RSA with 4096 bits and many names.
	maxCertBytes = 16384
	// maxRequestBytes bounds the authorities named in our message 4, which
	// strangers get too. With more of them a single empty request goes out, which
	// stands for any authority.
	maxRequestBytes = 1024
)

// usable is a certificate of ours with the identity that goes with it.
type usable struct {
	cred    *Credential
	localID string   // "": the subject
	peers   []string // identities of the tunnel profile that it belongs to, nil: any
}

// credential returns the certificate of that name, nil if there is none.
func (c *Config) credential(name string) *Credential {
	for i := range c.Credentials {
		if c.Credentials[i].Name == name {
			return &c.Credentials[i]
		}
	}
	return nil
}

// credentialsAt returns the certificates of the profiles at a local address: for
// methods with XAuth those of tunnel profiles first, else those of transport
// profiles first.
func (c *Config) credentialsAt(local netip.Addr, m AuthMethod) []usable {
	var tunnels, transports []usable
	for i := range c.Tunnels {
		t := &c.Tunnels[i]
		if t.Local.IsValid() && !t.Local.IsUnspecified() && t.Local != local {
			continue
		}
		if cred := c.credential(t.Credential); cred != nil {
			tunnels = append(tunnels, usable{cred, t.LocalID, t.PeerIDs})
		}
	}
	if m == AuthHybridRSA {
		return tunnels // XAuth must follow, which L2TP has not
	}
	for i := range c.Transports {
		t := &c.Transports[i]
		if t.Local != local {
			continue
		}
		if cred := c.credential(t.Credential); cred != nil {
			transports = append(transports, usable{cred: cred})
		}
	}
	if m == AuthRSA {
		return append(transports, tunnels...)
	}
	return append(tunnels, transports...)
}

// credentialsFor are all with which a peer at an address may be answered: those of static tunnels
// behind the others, since the peer's identity tells later whether it belongs to one.
func (c *Config) credentialsFor(local, remote netip.Addr, m AuthMethod) []usable {
	return append(c.credentialsAt(local, m), c.staticCredentials(local, remote, m)...)
}

// taking leaves those whose profile takes the identity, all if none does.
func taking(us []usable, body []byte) []usable {
	id, err := isakmp.Payload{Type: isakmp.TypeID, Body: body}.ID()
	if err != nil {
		return us
	}
	var out []usable
	for _, u := range us {
		if len(u.peers) == 0 || slices.ContainsFunc(u.peers, func(want string) bool { return idMatches(want, id) }) {
			out = append(out, u)
		}
	}
	if len(out) == 0 {
		return us
	}
	return out
}

// choose picks the certificate that the peer's requests ask for, else the first.
func choose(us []usable, requested [][]byte) (usable, bool) {
	if len(us) == 0 {
		return usable{}, false
	}
	for _, name := range requested {
		for _, u := range us {
			if slices.ContainsFunc(u.cred.Issuers, func(i []byte) bool { return string(i) == string(name) }) {
				return u, true
			}
		}
	}
	return us[0], true
}

// requestedBy lists the authorities that certificate requests name. An empty
// request, and one for another kind of certificate, names none.
func requestedBy(ps []isakmp.Payload) [][]byte {
	var out [][]byte
	for _, p := range isakmp.All(ps, isakmp.TypeCertRequest) {
		if r, err := p.CertRequest(); err == nil && r.Encoding == isakmp.CertX509Signature && len(r.Data) > 0 {
			out = append(out, r.Data)
		}
	}
	return out
}

// ourRequests asks for a certificate of one of our authorities, or of any if
// they are too many to be named.
func (c *Config) ourRequests() []isakmp.Payload {
	n := 0
	for _, a := range c.Authorities {
		n += len(a)
	}
	if n == 0 || n > maxRequestBytes {
		return []isakmp.Payload{isakmp.Cert{Encoding: isakmp.CertX509Signature}.RequestPayload()}
	}
	var out []isakmp.Payload
	for _, a := range c.Authorities {
		out = append(out, isakmp.Cert{Encoding: isakmp.CertX509Signature, Data: a}.RequestPayload())
	}
	return out
}

// chain is our certificate with its intermediates, leaf first.
func (p *phase1) chain(cred *Credential) []isakmp.Payload {
	var out []isakmp.Payload
	for _, der := range cred.Chain {
		out = append(out, isakmp.Cert{Encoding: isakmp.CertX509Signature, Data: der}.Payload())
	}
	if p.Vendor.VPNC {
		// vpnc takes the last certificate for the peer's own.
		slices.Reverse(out)
	}
	return out
}

// id is the identity that goes with the certificate.
func (u usable) id() isakmp.ID {
	if u.localID != "" {
		return parseID(u.localID)
	}
	return isakmp.ID{Type: isakmp.IDDERDN, Data: u.cred.Subject}
}

// readCerts takes the peer's certificates out of a message, copied. Revocation
// lists, which some send along, are passed over: we have our own.
func readCerts(ps []isakmp.Payload) (certs [][]byte, r Reason, text string) {
	total := 0
	for _, p := range isakmp.All(ps, isakmp.TypeCert) {
		c, err := p.Cert()
		switch {
		case err != nil || c.Encoding == isakmp.CertCRL || c.Encoding == isakmp.CertARL:
			continue
		case c.Encoding != isakmp.CertX509Signature:
			return nil, ReasonCertEncoding, fmt.Sprintf("peer sends its certificate as %v, only %v is taken", c.Encoding, isakmp.CertX509Signature)
		case len(certs) == MaxPeerCerts:
			return nil, ReasonCertLimit, fmt.Sprintf("peer sends more than %d certificates", MaxPeerCerts)
		}
		if total += len(c.Data); total > maxCertBytes {
			return nil, ReasonCertLimit, fmt.Sprintf("peer sends more than %d bytes of certificates", maxCertBytes)
		}
		certs = append(certs, clone(c.Data))
	}
	if len(certs) == 0 {
		return nil, ReasonNoCertificate, "peer signs but sends no certificate"
	}
	return certs, "", ""
}
