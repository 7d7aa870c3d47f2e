package config

import (
	"slices"
	"time"
)

// tier is what one proposal profile adds to those before it.
type tier struct {
	encryption []Encryption
	hash       []Hash
	group      []Group
	esp        []ESPEncryption
	integrity  []ESPIntegrity
}

// tiers by proposal profile. Which client needs what is in clients.md: Windows
// 7 to 11 offers SHA-1 only, with ECP-384 first; Apple and NetworkManager offer
// AES-256 with MODP 2048; Android up to 11 offers MODP 1024 only, and Windows
// XP 3DES with it.
var tiers = map[ProposalProfile]tier{
	ProposalModern: {
		encryption: []Encryption{EncryptionAES256, EncryptionAES192, EncryptionAES128},
		hash:       []Hash{HashSHA256, HashSHA384, HashSHA512},
		group: []Group{
			GroupCurve25519, GroupECP256, GroupECP384, GroupECP521, GroupMODP2048, GroupMODP3072, GroupMODP4096,
		},
		esp:       []ESPEncryption{ESPAES256GCM, ESPAES192GCM, ESPAES128GCM, ESPAES256, ESPAES192, ESPAES128},
		integrity: []ESPIntegrity{IntegritySHA256, IntegritySHA384, IntegritySHA512},
	},
	ProposalCompatible: {
		hash:      []Hash{HashSHA1},
		group:     []Group{GroupMODP1536},
		integrity: []ESPIntegrity{IntegritySHA1},
	},
	ProposalLegacy: {
		encryption: []Encryption{Encryption3DES, EncryptionDES},
		hash:       []Hash{HashMD5},
		group:      []Group{GroupMODP1024, GroupMODP768},
		esp:        []ESPEncryption{ESP3DES, ESPDES},
		integrity:  []ESPIntegrity{IntegrityMD5},
	},
}

// accepts is everything that p accepts, strongest first.
func (p ProposalProfile) accepts() tier {
	var t tier
	for q := ProposalModern; q <= p; q++ {
		a := tiers[q]
		t.encryption = append(t.encryption, a.encryption...)
		t.hash = append(t.hash, a.hash...)
		t.group = append(t.group, a.group...)
		t.esp = append(t.esp, a.esp...)
		t.integrity = append(t.integrity, a.integrity...)
	}
	return t
}

// defaultPolicy are the rules of a router that configures none: one for each
// profile up to p, so that a client which offers something strong gets it even
// if it offers something weak first.
func defaultPolicy(p ProposalProfile) []PolicyRule {
	var rules []PolicyRule
	for q := ProposalModern; q <= p; q++ {
		t := q.accepts()
		rules = append(rules, PolicyRule{
			Priority:       int(q),
			Auth:           AuthPSK,
			Encryption:     t.encryption,
			Hash:           t.hash,
			Group:          t.group,
			Lifetime:       defaultPhase1Lifetime,
			AggressiveMode: AggressiveNone,
		})
	}
	return rules
}

// defaultPhase1Lifetime is that of K3.
const defaultPhase1Lifetime = 28800 * time.Second

// defaultTransforms are the ESP transforms of p, best first: AES-GCM, then each
// cipher with each integrity algorithm, a new profile's additions last.
func defaultTransforms(p ProposalProfile) []ESPTransform {
	var ts []ESPTransform
	for q := ProposalModern; q <= p; q++ {
		t := q.accepts()
		for _, e := range t.esp {
			if e.AEAD() {
				ts = appendNew(ts, ESPTransform{e, IntegrityNone})
				continue
			}
			for _, i := range t.integrity {
				ts = appendNew(ts, ESPTransform{e, i})
			}
		}
	}
	return ts
}

func appendNew(ts []ESPTransform, t ESPTransform) []ESPTransform {
	if slices.Contains(ts, t) {
		return ts
	}
	return append(ts, t)
}

// weakness says why an algorithm is weak, empty if it is not. What the
// compatible profile accepts is old but not weak in this sense.
func weakness(word string) string {
	switch word {
	case "des", "3des":
		return "has a 64 bit block"
	case "md5":
		return "is broken as a hash"
	case "modp768", "modp1024":
		return "can be computed in practice by well equipped attackers"
	}
	return ""
}
