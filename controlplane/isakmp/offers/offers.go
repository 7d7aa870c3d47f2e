// Package offers holds what real VPN clients propose: the SA payloads and vendor
// ids of their first phase 1 message and the SA payload of their quick mode, as
// they were read in the clients' sources or logs (clients.md section 3). Tests of
// the policy rules and simulated peers are made of them; the daemon does not
// import it.
//
// Marks of the sources: "source" read in the client's source code, "log" seen in
// a posted log, "doc" in its documentation; what is only general knowledge says
// so.
package offers

import (
	"slices"

	"vrgate/controlplane/isakmp"
)

// Offer is what one client proposes.
type Offer struct {
	Name     string
	Exchange isakmp.ExchangeType // of phase 1: IdentityProtection or Aggressive
	Phase1   isakmp.SA
	Vendors  []isakmp.Payload // in the client's order
	NATT     isakmp.NATT      // the best NAT traversal version among Vendors
	XAuth    bool             // the client means to use XAuth
	// Phase2 holds the proposals of quick mode with the SPI 0 and, for
	// transport and tunnel, the modes outside of NAT; see QuickSA.
	Phase2 isakmp.SA
}

// First returns the SA and vendor id payloads with which main mode begins.
func (o Offer) First() []isakmp.Payload {
	return append([]isakmp.Payload{o.Phase1.Payload()}, o.Vendors...)
}

// MainMode returns the whole first message of main mode.
func (o Offer) MainMode(initiator isakmp.Cookie) isakmp.Message {
	return isakmp.Message{
		Header:   isakmp.Header{Initiator: initiator, Exchange: isakmp.IdentityProtection},
		Payloads: o.First(),
	}
}

// QuickSA returns the offer of quick mode with the SPI in every ESP proposal
// and, behind a NAT, the encapsulation mode of the version natt; NATTNone leaves
// the mode as it is. IPCOMP proposals keep their own SPI.
func (o Offer) QuickSA(spi uint32, natt isakmp.NATT) isakmp.SA {
	sa := o.Phase2
	sa.Proposals = slices.Clone(sa.Proposals)
	for i := range sa.Proposals {
		p := &sa.Proposals[i]
		if p.Protocol != isakmp.ProtocolESP {
			continue
		}
		p.SPI = []byte{byte(spi >> 24), byte(spi >> 16), byte(spi >> 8), byte(spi)}
		if natt == isakmp.NATTNone {
			continue
		}
		p.Transforms = slices.Clone(p.Transforms)
		for j, t := range p.Transforms {
			mode := natt.Mode(t.ESP().Mode.Transport())
			t.Attributes = slices.Clone(t.Attributes)
			for k, a := range t.Attributes {
				if a.Type == attrMode {
					t.Attributes[k] = isakmp.ShortAttribute(attrMode, uint16(mode))
				}
			}
			p.Transforms[j] = t
		}
	}
	return sa
}

// All returns every offer, in the order of clients.md.
func All() []Offer {
	return []Offer{
		Windows(9), Windows(7), WindowsXP(),
		AppleL2TP(), AppleCisco(),
		Android(), Android5(),
		NetworkManager(), VPNC(), Shrew(),
		TPLink(), Huawei(),
	}
}

// Attribute classes, written here once more so that an error in package isakmp
// is not repeated by what tests it: RFC 2409 appendix A and RFC 2407 section 4.5.
const (
	attrEnc, attrHash, attrAuth, attrGroup, attrLifeType, attrLife, attrKeyLen = 1, 2, 3, 4, 11, 12, 14

	attrEspLifeType, attrEspLife, attrMode, attrEspAuth, attrEspKeyLen = 1, 2, 4, 5, 6
)

// Transport and tunnel mode outside of NAT.
const (
	tunnel    = 1
	transport = 2
)

// alg is a cipher with its key length in bits, 0 without the attribute.
type alg struct{ id, bits uint16 }

// Phase 1 ciphers and hashes by IANA numbers.
var (
	aes256, aes192, aes128 = alg{7, 256}, alg{7, 192}, alg{7, 128}
	des3, des              = alg{5, 0}, alg{1, 0}
)

const (
	md5, sha1, sha256, sha384, sha512 = 1, 2, 4, 5, 6
	psk, xauthPSK                     = 1, 65001
)

// ESP ciphers and authentication by IANA numbers.
var (
	espAES256, espAES192, espAES128 = alg{12, 256}, alg{12, 192}, alg{12, 128}
	esp3DES, espDES                 = alg{3, 0}, alg{2, 0}
)

const espMD5, espSHA1, espSHA256, espSHA384, espSHA512 = 1, 2, 5, 6, 7

// suite is one phase 1 alternative.
type suite struct {
	enc         alg
	hash, group uint16
}

// form says how a client writes a lifetime.
type form bool

const (
	short form = false // two bytes where they suffice, as racoon does
	long  form = true  // always four bytes, as Windows does
)

func (f form) number(typ uint16, v uint32) isakmp.Attribute {
	if f == long {
		return isakmp.LongAttribute(typ, v)
	}
	return isakmp.NumberAttribute(typ, v)
}

// phase1 makes the SA payload of one proposal. first is the number of its first
// transform.
func phase1(suites []suite, auths []uint16, life uint32, f form, proposal, first uint8) isakmp.SA {
	var ts []isakmp.Transform
	n := first
	for _, auth := range auths {
		for _, s := range suites {
			as := []isakmp.Attribute{isakmp.ShortAttribute(attrEnc, s.enc.id)}
			if s.enc.bits != 0 {
				as = append(as, isakmp.ShortAttribute(attrKeyLen, s.enc.bits))
			}
			as = append(as,
				isakmp.ShortAttribute(attrHash, s.hash),
				isakmp.ShortAttribute(attrGroup, s.group),
				isakmp.ShortAttribute(attrAuth, auth),
				isakmp.ShortAttribute(attrLifeType, 1),
				f.number(attrLife, life))
			ts = append(ts, isakmp.Transform{Number: n, ID: 1, Attributes: as})
			n++
		}
	}
	return isakmp.SA{DOI: 1, Situation: 1, Proposals: []isakmp.Proposal{{Number: proposal, Protocol: 1, Transforms: ts}}}
}

// esp is one phase 2 alternative.
type esp struct {
	enc  alg
	auth uint16
}

// cross is every cipher with every authentication, ciphers outermost.
func cross(encs []alg, auths []uint16) []esp {
	var out []esp
	for _, e := range encs {
		for _, a := range auths {
			out = append(out, esp{e, a})
		}
	}
	return out
}

// espTransform writes one alternative; kilobytes 0 leaves the volume out.
func espTransform(n uint8, e esp, mode uint16, seconds, kilobytes uint32, f form) isakmp.Transform {
	as := []isakmp.Attribute{isakmp.ShortAttribute(attrEspLifeType, 1), f.number(attrEspLife, seconds)}
	if kilobytes != 0 {
		as = append(as, isakmp.ShortAttribute(attrEspLifeType, 2), f.number(attrEspLife, kilobytes))
	}
	as = append(as, isakmp.ShortAttribute(attrMode, mode), isakmp.ShortAttribute(attrEspAuth, e.auth))
	if e.enc.bits != 0 {
		as = append(as, isakmp.ShortAttribute(attrEspKeyLen, e.enc.bits))
	}
	return isakmp.Transform{Number: n, ID: uint8(e.enc.id), Attributes: as}
}

// oneProposal puts all alternatives into one proposal, with transforms counted
// from 1.
func oneProposal(es []esp, mode uint16, seconds, kilobytes uint32, f form) isakmp.SA {
	p := isakmp.Proposal{Number: 1, Protocol: 3, SPI: make([]byte, 4)}
	for i, e := range es {
		p.Transforms = append(p.Transforms, espTransform(uint8(i+1), e, mode, seconds, kilobytes, f))
	}
	return isakmp.SA{DOI: 1, Situation: 1, Proposals: []isakmp.Proposal{p}}
}

// manyProposals gives each alternative a proposal of its own, counted from
// first, with one transform.
func manyProposals(es []esp, mode uint16, seconds, kilobytes uint32, f form, first uint8) isakmp.SA {
	sa := isakmp.SA{DOI: 1, Situation: 1}
	for i, e := range es {
		sa.Proposals = append(sa.Proposals, isakmp.Proposal{
			Number: first + uint8(i), Protocol: 3, SPI: make([]byte, 4),
			Transforms: []isakmp.Transform{espTransform(first, e, mode, seconds, kilobytes, f)},
		})
	}
	return sa
}
