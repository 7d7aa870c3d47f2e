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

// terms are what the first message of a peer is measured against beside the rules:
// rules that need what is missing for this peer are skipped (K2).
type terms struct {
	local      netip.Addr
	aggressive bool
	public     int // bytes of the public value that came along in aggressive mode, 0: none yet
	// There is a key or a certificate for the methods.
	psk, xauthPSK, rsa, hybrid bool
}

// can tells whether there is what a method needs. Of the methods that say which
// side is to be asked by XAuth we take those where the initiator is: we are the
// edge device. DSS and public key encryption have none.
func (w terms) can(m isakmp.AuthMethod) bool {
	switch m {
	case isakmp.AuthPSK:
		return w.psk
	case isakmp.AuthXAuthInitPSK:
		return w.xauthPSK
	case isakmp.AuthRSA, isakmp.AuthXAuthInitRSA:
		return w.rsa
	case isakmp.AuthHybridInitRSA:
		return w.hybrid
	}
	return false
}

// any tells whether there is anything to authenticate with.
func (w terms) any() bool { return w.psk || w.xauthPSK || w.rsa || w.hybrid }

// terms are those of a peer whose identity is not known.
func (e *Engine) terms(local, peer netip.Addr, aggressive bool) terms {
	w := terms{local: local, aggressive: aggressive, psk: e.cfg.hasKey(local, peer, AuthPSK, e.now), xauthPSK: e.cfg.hasKey(local, peer, AuthXAuthPSK, e.now)}
	w.hybrid = len(e.cfg.credentialsAt(local, AuthHybridRSA)) > 0
	w.rsa = len(e.cfg.Authorities) > 0 && (w.hybrid || len(e.cfg.credentialsFor(local, peer, AuthRSA)) > 0 ||
		len(e.cfg.credentialsFor(local, peer, AuthXAuthRSA)) > 0)
	return w
}

// applies tells whether the rule holds for the local address (K4).
func (r *PolicyRule) applies(local netip.Addr) bool {
	return !r.Local.IsValid() || r.Local.IsUnspecified() || r.Local == local
}

// allowsAggressive tells whether any rule for the local address allows aggressive
// mode (K5).
func allowsAggressive(rules []PolicyRule, local netip.Addr) bool {
	return slices.ContainsFunc(rules, func(r PolicyRule) bool { return r.Aggressive != AggressiveNotAllowed && r.applies(local) })
}

// choosePhase1 applies K2: the first rule, in order of priority, whose every
// parameter matches one of the offered transforms; within it the client's order.
func choosePhase1(rules []PolicyRule, w terms, sa isakmp.SA) (phase1Choice, bool) {
	for i := range rules {
		r := &rules[i]
		if !r.applies(w.local) {
			continue
		}
		for _, pr := range sa.Proposals {
			if pr.Protocol != isakmp.ProtocolISAKMP {
				continue
			}
			for _, t := range pr.Transforms {
				p1, ok := t.Phase1()
				if !ok || r.verdict(p1, w) != "" {
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

// answer is the SA payload that tells the peer of the choice (RFC 2408 section
// 4.2): the transform as it was offered.
func (c phase1Choice) answer(sa isakmp.SA) isakmp.Payload {
	return isakmp.SA{DOI: sa.DOI, Situation: sa.Situation, Proposals: []isakmp.Proposal{{
		Number: c.Proposal, Protocol: isakmp.ProtocolISAKMP, Transforms: []isakmp.Transform{c.Transform},
	}}}.Payload()
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

// Verdicts on an offered transform, in the order in which they are checked.
const (
	verdictMain       = "main mode"
	verdictAggressive = "aggressive mode"
	verdictUnknown    = "unknown attribute"
	verdictAuth       = "authentication"
	verdictMissing    = "authentication without a key or certificate"
	verdictEncryption = "encryption"
	verdictHash       = "hash"
	verdictGroup      = "group"
	verdictPublic     = "group other than that of the public value"
	verdictSupport    = "not supported"
)

var verdicts = []string{verdictMain, verdictAggressive, verdictUnknown, verdictAuth, verdictMissing, verdictEncryption, verdictHash,
	verdictGroup, verdictPublic, verdictSupport}

// verdict says why the rule refuses a transform, "" if it does not.
func (r *PolicyRule) verdict(t isakmp.Phase1Transform, w terms) string {
	suite := keymat.Suite{Cipher: keymat.Cipher(t.Enc), KeyBits: int(t.KeyBits), Hash: keymat.Hash(t.Hash)}
	group := keymat.Group(t.Group)
	switch {
	case !w.aggressive && r.Aggressive == AggressiveRequired:
		return verdictMain
	case w.aggressive && r.Aggressive == AggressiveNotAllowed:
		return verdictAggressive
	case len(t.Unknown) > 0:
		return verdictUnknown
	case !r.allows(AuthMethod(t.Auth)):
		return verdictAuth
	case !w.can(t.Auth):
		return verdictMissing
	case !r.hasCipher(suite):
		return verdictEncryption
	case !slices.Contains(r.Hash, suite.Hash):
		return verdictHash
	case !slices.Contains(r.Group, group):
		return verdictGroup
	case w.public != 0 && group.PublicLen() != w.public:
		// In aggressive mode the initiator has to guess the group: of several
		// that it offers it has sent the value of one.
		return verdictPublic
	case suite.Check() != nil || !group.Supported():
		return verdictSupport
	}
	return ""
}

// allows tells whether the rule takes an authentication method.
func (r *PolicyRule) allows(m AuthMethod) bool {
	switch r.Auth {
	case AuthAny:
		return m == AuthPSK || m == AuthRSA || m == AuthXAuthPSK || m == AuthXAuthRSA || m == AuthHybridRSA
	case AuthPSK:
		return m.preShared()
	case AuthRSA:
		return m == AuthRSA || m == AuthXAuthRSA
	}
	return r.Auth == m
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
func explainPhase1(rules []PolicyRule, w terms, sa isakmp.SA) string {
	var b strings.Builder
	n := 0
	for _, pr := range sa.Proposals {
		for _, t := range pr.Transforms {
			p1, ok := t.Phase1()
			verdict := "no KEY_IKE transform"
			if ok {
				verdict = closest(rules, w, p1)
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
func closest(rules []PolicyRule, w terms, t isakmp.Phase1Transform) string {
	best, verdict := -1, "no rule for this address"
	for i := range rules {
		r := &rules[i]
		if !r.applies(w.local) {
			continue
		}
		v := r.verdict(t, w)
		if at := slices.Index(verdicts, v); at > best {
			best, verdict = at, v+" not allowed by any rule"
		}
	}
	switch best {
	case slices.Index(verdicts, verdictMissing):
		return "no key or certificate for this authentication"
	case slices.Index(verdicts, verdictPublic):
		return "the public value is of another group"
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
	tunnel  bool // tunnel mode is wanted, else transport mode
	encap   bool // a NAT was found
	udpOK   bool // UDP encapsulation is possible
	ke      bool // a public value for PFS came with the offer
	// avoidSHA256 passes HMAC-SHA2-256 over as long as the offer has anything
	// else, see Config.OldAndroidSHA256.
	avoidSHA256 bool
}

// chooseESP returns the first transform of the offer that is acceptable. Proposals
// with equal numbers belong together (ESP with AH) and are passed over; see
// combined.
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
			case pr.Protocol == isakmp.ProtocolAH:
				verdict = "AH is not spoken, which no NAT lets through; ESP is needed"
				if !slices.ContainsFunc(sa.Proposals, func(o isakmp.Proposal) bool { return o.Protocol != isakmp.ProtocolAH }) {
					reason = ReasonAH
				}
			case pr.Protocol != isakmp.ProtocolESP:
				verdict = "protocol not allowed"
			case combined(sa.Proposals, i):
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

// combined tells whether a proposal stands for several protocols at once. IPCOMP
// beside ESP does not count: racoon of macOS and iOS is set up with deflate
// (clients.md 3.4) and is content with ESP alone, while a refusal of both would
// leave it without a tunnel.
func combined(prs []isakmp.Proposal, i int) bool {
	for _, j := range []int{i - 1, i + 1} {
		if j >= 0 && j < len(prs) && prs[j].Number == prs[i].Number && prs[j].Protocol != isakmp.ProtocolIPComp {
			return true
		}
	}
	return false
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
	case t.Mode.Tunnel() && !r.tunnel:
		return "tunnel mode not allowed", ReasonTunnelMode
	case !t.Mode.Tunnel() && r.tunnel:
		return "only tunnel mode allowed", ReasonTransportMode
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

// beginsAggressive tells whether the highest rule for a method has whoever begins do so in aggressive mode (K5).
func beginsAggressive(rules []PolicyRule, local netip.Addr, m AuthMethod) bool {
	i := slices.IndexFunc(rules, func(r PolicyRule) bool { return r.allows(m) && r.applies(local) })
	return i >= 0 && rules[i].Aggressive >= AggressiveRequested
}

// offerPhase1 makes the SA payload of our own first message: everything the
// rules allow for the method and the kind of exchange, in their order, as far as
// one proposal holds it. Aggressive mode can offer one group only, whose public
// value goes with it: that of the highest rule (K5).
func offerPhase1(rules []PolicyRule, local netip.Addr, m AuthMethod, aggressive bool) (isakmp.SA, []isakmp.Phase1Transform) {
	var out []isakmp.Phase1Transform
	pr := isakmp.Proposal{Number: 1, Protocol: isakmp.ProtocolISAKMP}
	seen := map[string]bool{}
	var only isakmp.GroupID
	for i := range rules {
		r := &rules[i]
		if !r.allows(m) || !r.applies(local) || !aggressive && r.Aggressive == AggressiveRequired || aggressive && r.Aggressive == AggressiveNotAllowed {
			continue
		}
		// Every rule gets its share, or a long first one would hide what only
		// the last allows.
		limit := maxOffered * (i + 1) / len(rules)
		for _, enc := range r.Encryption {
			for _, h := range r.Hash {
				for _, g := range r.Group {
					if aggressive && only == 0 {
						only = isakmp.GroupID(g)
					}
					t := isakmp.Phase1Transform{Number: uint8(len(out) + 1), Enc: isakmp.EncryptionAlgorithm(enc.Cipher), KeyBits: uint16(enc.KeyBits),
						Hash: isakmp.HashAlgorithm(h), Auth: isakmp.AuthMethod(m), Group: isakmp.GroupID(g), Life: isakmp.Life{Seconds: uint64(r.life() / time.Second)}}
					k := fmt.Sprint(t.Enc, t.KeyBits, t.Hash, t.Group)
					if seen[k] || len(out) >= limit || aggressive && t.Group != only {
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
