package ike

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// phase1Choice is the outcome of a phase 1 negotiation.
type phase1Choice struct {
	Rule      *PolicyRule
	Proposal  uint8            // number
	Transform isakmp.Transform // as offered
	Suite     keymat.Suite     //
	Group     keymat.Group     //
	Method    AuthMethod       // as the number on the wire
	Life      time.Duration    // smaller of both
	Cut       bool             // the peer wanted longer
	Offer     string           // what was chosen, in words
}

// choosePhase1 applies K2: the first rule, in order of priority, whose every
// parameter matches one of the offered transforms; within it the client's order.
func choosePhase1(rules []PolicyRule, local netip.Addr, sa isakmp.SA) (phase1Choice, bool) {
	for i := range rules {
		r := &rules[i]
		if r.Local.IsValid() && !r.Local.IsUnspecified() && r.Local != local {
			continue
		}
		for _, pr := range sa.Proposals {
			if pr.Protocol != isakmp.ProtocolISAKMP {
				continue
			}
			for _, t := range pr.Transforms {
				p1, ok := t.Phase1()
				if !ok || r.verdict(p1) != "" {
					continue
				}
				c := phase1Choice{Rule: r, Proposal: pr.Number, Transform: t, Group: keymat.Group(p1.Group), Method: AuthMethod(p1.Auth), Offer: p1.String(),
					Suite: keymat.Suite{Cipher: keymat.Cipher(p1.Enc), KeyBits: int(p1.KeyBits), Hash: keymat.Hash(p1.Hash)}}
				c.Life, c.Cut = shorterLife(p1.Life.Seconds, r.life())
				return c, true
			}
		}
	}
	return phase1Choice{}, false
}

// life is the rule's lifetime.
func (r *PolicyRule) life() time.Duration {
	if r.Lifetime > 0 {
		return r.Lifetime
	}
	return defaultPhase1Life
}

// shorterLife is the smaller of what the peer offers (0: nothing) and our own.
func shorterLife(seconds uint64, ours time.Duration) (life time.Duration, cut bool) {
	if seconds == 0 {
		return ours, false
	}
	theirs := lifeOf(seconds)
	if theirs > ours {
		return ours, true
	}
	return max(theirs, minLife), false
}

// verdict says why the rule refuses a transform, "" if it does not.
func (r *PolicyRule) verdict(t isakmp.Phase1Transform) string {
	suite := keymat.Suite{Cipher: keymat.Cipher(t.Enc), KeyBits: int(t.KeyBits), Hash: keymat.Hash(t.Hash)}
	switch {
	case len(t.Unknown) > 0:
		return "unknown attribute"
	case r.Aggressive == AggressiveRequired:
		return "rule demands aggressive mode"
	case r.Auth != AuthPSK || t.Auth != isakmp.AuthPSK:
		return "authentication"
	case !r.hasCipher(suite):
		return "encryption"
	case !slices.Contains(r.Hash, suite.Hash):
		return "hash"
	case !slices.Contains(r.Group, keymat.Group(t.Group)):
		return "group"
	case suite.Check() != nil || !keymat.Group(t.Group).Supported():
		return "not supported"
	}
	return ""
}

// hasCipher tells whether the rule allows cipher and key length. A transform
// without key length means the default of the cipher.
func (r *PolicyRule) hasCipher(s keymat.Suite) bool {
	n, err := s.Cipher.KeyLen(s.KeyBits)
	return err == nil && slices.ContainsFunc(r.Encryption, func(x Encryption) bool {
		m, err := x.Cipher.KeyLen(x.KeyBits)
		return err == nil && x.Cipher == s.Cipher && m == n
	})
}

// explainPhase1 lists a refused offer with the verdict on each transform: that
// of the rule that came closest.
func explainPhase1(rules []PolicyRule, local netip.Addr, sa isakmp.SA) string {
	var b strings.Builder
	n := 0
	for _, pr := range sa.Proposals {
		for _, t := range pr.Transforms {
			p1, ok := t.Phase1()
			verdict := "no KEY_IKE transform"
			if ok {
				verdict = closest(rules, local, p1)
			}
			sep := "; "
			if n == 0 {
				sep = ""
			}
			n++
			fmt.Fprintf(&b, "%s%d %v: %s", sep, n, p1, verdict)
		}
	}
	if n == 0 {
		return "no transform offered"
	}
	return b.String()
}

// closest returns the verdict of the rule that got furthest in its checks.
func closest(rules []PolicyRule, local netip.Addr, t isakmp.Phase1Transform) string {
	order := []string{"rule demands aggressive mode", "unknown attribute", "authentication", "encryption", "hash", "group", "not supported"}
	best, verdict := -1, "no rule for this address"
	for i := range rules {
		r := &rules[i]
		if r.Local.IsValid() && !r.Local.IsUnspecified() && r.Local != local {
			continue
		}
		v := r.verdict(t)
		if at := slices.Index(order, v); at > best {
			best, verdict = at, v+" not allowed by any rule"
		}
	}
	return verdict
}

// espChoice is the outcome of a quick mode negotiation.
type espChoice struct {
	Number    uint8
	SPI       uint32
	Transform isakmp.Transform
	ESP       isakmp.ESPTransform
	Proposal  ESPProposal
}

// espRules is what a quick mode is measured against.
type espRules struct {
	profile *TransportProfile
	encap   bool // a NAT was found
	udpOK   bool // UDP encapsulation is possible
	ke      bool // a public value for PFS came with the offer
	// avoidSHA256 passes HMAC-SHA2-256 over as long as the offer has anything
	// else, see Config.OldAndroidSHA256.
	avoidSHA256 bool
}

// chooseESP returns the first transform of the offer that is acceptable. Proposals
// with equal numbers belong together (ESP with AH or IPCOMP) and are passed over.
// On failure reason says what the offer lacked, and text lists it.
func chooseESP(sa isakmp.SA, rules espRules) (c espChoice, reason Reason, text string) {
	passes := []bool{rules.avoidSHA256}
	if rules.avoidSHA256 {
		passes = append(passes, false)
	}
	var b strings.Builder
	reason = ReasonNoProposal2
	for n, avoid := range passes {
		for i, pr := range sa.Proposals {
			verdict := ""
			spi, spiOK := spiOf(pr.SPI)
			switch {
			case pr.Protocol != isakmp.ProtocolESP:
				verdict = "protocol not allowed"
			case i > 0 && sa.Proposals[i-1].Number == pr.Number, i+1 < len(sa.Proposals) && sa.Proposals[i+1].Number == pr.Number:
				verdict = "combined protocols not allowed"
			case !spiOK:
				verdict = "bad SPI"
			}
			for _, t := range pr.Transforms {
				esp := t.ESP()
				v, r := verdict, ReasonNoProposal2
				if v == "" {
					v, r = rules.verdict(esp)
				}
				if v == "" && avoid && esp.Auth == isakmp.ESPAuthSHA256 {
					continue
				}
				if v == "" {
					return espChoice{Number: pr.Number, SPI: spi, Transform: t, ESP: esp, Proposal: espProposal(esp)}, "", ""
				}
				if r != ReasonNoProposal2 {
					reason = r
				}
				if n == 0 {
					fmt.Fprintf(&b, "; %v %v: %s", pr.Protocol, esp, v)
				}
			}
		}
	}
	return espChoice{}, reason, strings.TrimPrefix(b.String(), "; ")
}

// spiOf reads an ESP SPI. Values below 256 are reserved (RFC 4303 section 2.1).
func spiOf(b []byte) (uint32, bool) {
	if len(b) != 4 {
		return 0, false
	}
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	return v, v > 255
}

// espProposal is the transform in the words of configuration. AES without key
// length means 128 bits, which some clients leave out.
func espProposal(t isakmp.ESPTransform) ESPProposal {
	p := ESPProposal{Cipher: ESPCipher(t.ID), KeyBits: int(t.KeyBits), Auth: ESPAuth(t.Auth)}
	switch {
	case p.Cipher == ESP3DES || p.Cipher == ESPDES:
		p.KeyBits = 0
	case p.KeyBits == 0:
		p.KeyBits = 128
	}
	return p
}

// verdict says why a transform is refused, "" if it is not.
func (r espRules) verdict(t isakmp.ESPTransform) (string, Reason) {
	switch {
	case len(t.Unknown) > 0:
		return "unknown attribute", ReasonNoProposal2
	case t.ESN:
		return "extended sequence numbers", ReasonNoProposal2
	case t.Mode.Tunnel():
		return "tunnel mode not allowed", ReasonTunnelMode
	case t.Mode.UDP() && !r.udpOK:
		return "UDP encapsulation without NAT traversal", ReasonEncapsulation
	case !t.Mode.UDP() && r.encap:
		return "no UDP encapsulation though there is a NAT", ReasonEncapsulation
	case r.ke != (t.Group != isakmp.GroupNone):
		return "PFS group and public value do not come together", ReasonPFS
	case r.ke && !keymat.Group(t.Group).Supported():
		return "PFS group not supported", ReasonPFS
	case r.profile.PFS != 0 && strength(keymat.Group(t.Group)) < strength(r.profile.PFS):
		return fmt.Sprintf("PFS with %v or stronger demanded", r.profile.PFS), ReasonPFS
	case !slices.Contains(r.profile.ESP, espProposal(t)):
		return "not allowed by the profile", ReasonNoProposal2
	}
	if _, _, _, err := espAlgorithm(espProposal(t)).KeyLens(); err != nil {
		return "not supported", ReasonNoProposal2
	}
	return "", ""
}

// espAlgorithm is the proposal for key derivation.
func espAlgorithm(p ESPProposal) keymat.ESPAlgorithm {
	return keymat.ESPAlgorithm{Cipher: keymat.ESPCipher(p.Cipher), KeyBits: p.KeyBits, Auth: keymat.ESPAuth(p.Auth)}
}

// authBits is the length of the ICV in bits, 0 for AEAD.
func authBits(a ESPAuth, short256 bool) int {
	switch a {
	case ESPAuthMD5, ESPAuthSHA1:
		return 96
	case ESPAuthSHA256:
		if short256 {
			return 96
		}
		return 128
	case ESPAuthSHA384:
		return 192
	case ESPAuthSHA512:
		return 256
	}
	return 0
}

// espWords shows a proposal in ConnInfo and logs.
func espWords(p ESPProposal, pfs keymat.Group) string {
	t := isakmp.ESPTransform{ID: isakmp.ESPTransformID(p.Cipher), KeyBits: uint16(p.KeyBits), Auth: isakmp.ESPAuth(p.Auth), Mode: isakmp.ModeTransport}
	s := strings.TrimSuffix(t.String(), "/transport")
	if pfs != 0 {
		s += "/" + pfs.String()
	}
	return s
}

// offerPhase1 makes the SA payload of our own first message: everything the
// rules allow, in their order, as far as one proposal holds it.
func offerPhase1(rules []PolicyRule, local netip.Addr) (isakmp.SA, []isakmp.Phase1Transform) {
	var out []isakmp.Phase1Transform
	pr := isakmp.Proposal{Number: 1, Protocol: isakmp.ProtocolISAKMP}
	seen := map[string]bool{}
	for i := range rules {
		r := &rules[i]
		if r.Auth != AuthPSK || r.Aggressive == AggressiveRequired || r.Local.IsValid() && !r.Local.IsUnspecified() && r.Local != local {
			continue
		}
		// Every rule gets its share, or a long first one would hide what only
		// the last allows.
		limit := maxOffered * (i + 1) / len(rules)
		for _, enc := range r.Encryption {
			for _, h := range r.Hash {
				for _, g := range r.Group {
					t := isakmp.Phase1Transform{Number: uint8(len(out) + 1), Enc: isakmp.EncryptionAlgorithm(enc.Cipher), KeyBits: uint16(enc.KeyBits),
						Hash: isakmp.HashAlgorithm(h), Auth: isakmp.AuthPSK, Group: isakmp.GroupID(g), Life: isakmp.Life{Seconds: uint64(r.life() / time.Second)}}
					k := fmt.Sprint(t.Enc, t.KeyBits, t.Hash, t.Group)
					if seen[k] || len(out) >= limit {
						continue
					}
					seen[k] = true
					out = append(out, t)
					pr.Transforms = append(pr.Transforms, t.Transform())
				}
			}
		}
	}
	return isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: []isakmp.Proposal{pr}}, out
}

// maxOffered keeps our first message within one datagram of an Ethernet path.
const maxOffered = 30
