package ike

import (
	"fmt"

	"vrgate/controlplane/keymat"
)

// Names of the proposal profiles.
const (
	ProfileModern     = "modern"     // AES, SHA-2, groups of 2048 bits and up or elliptic curves
	ProfileCompatible = "compatible" // and SHA-1, which Windows 7 to 11 needs; the default
	ProfileLegacy     = "legacy"     // and 3DES, DES, MD5, MODP 768, 1024, 1536: Android, XP, old CPE
)

// ProposalProfile returns the policy rules and ESP transforms of a named
// profile. The rules are ordered so that a client which offers strong and weak
// transforms gets a strong one (K2: the highest-priority rule that matches
// wins, whatever the client's order), and each profile contains the one before
// it. Errors: an unknown name.
func ProposalProfile(name string) ([]PolicyRule, []ESPProposal, error) {
	aes := []Encryption{{keymat.AES, 256}, {keymat.AES, 192}, {keymat.AES, 128}}
	sha2 := []keymat.Hash{keymat.SHA256, keymat.SHA384, keymat.SHA512}
	strong := []keymat.Group{keymat.Curve25519, keymat.ECP256, keymat.ECP384, keymat.ECP521,
		keymat.MODP2048, keymat.MODP3072, keymat.MODP4096}

	rules := []PolicyRule{{Name: "modern", Priority: 100, Encryption: aes, Hash: sha2, Group: strong, Auth: AuthAny}}
	var esp []ESPProposal
	for _, bits := range []int{256, 192, 128} {
		esp = append(esp, ESPProposal{Cipher: ESPAESGCM, KeyBits: bits})
	}
	addAES := func(auths ...ESPAuth) {
		for _, bits := range []int{256, 192, 128} {
			for _, a := range auths {
				esp = append(esp, ESPProposal{Cipher: ESPAESCBC, KeyBits: bits, Auth: a})
			}
		}
	}
	addAES(ESPAuthSHA256, ESPAuthSHA384, ESPAuthSHA512)
	if name == ProfileModern {
		return rules, esp, nil
	}
	allSHA := append(sha2[:len(sha2):len(sha2)], keymat.SHA1)
	rules = append(rules, PolicyRule{Name: "compatible", Priority: 200, Encryption: aes, Hash: allSHA, Group: strong, Auth: AuthAny})
	addAES(ESPAuthSHA1)
	if name == ProfileCompatible {
		return rules, esp, nil
	}
	if name != ProfileLegacy {
		return nil, nil, fmt.Errorf("unknown proposal profile %q (modern, compatible, legacy)", name)
	}
	with3DES := append(aes[:len(aes):len(aes)], Encryption{Cipher: keymat.DES3})
	withDES := append(with3DES[:len(with3DES):len(with3DES)], Encryption{Cipher: keymat.DES})
	withMD5 := append(allSHA[:len(allSHA):len(allSHA)], keymat.MD5)
	weak := append(strong[:len(strong):len(strong)], keymat.MODP1536, keymat.MODP1024)
	all := append(weak[:len(weak):len(weak)], keymat.MODP768)
	rules = append(rules,
		PolicyRule{Name: "legacy-aes", Priority: 300, Encryption: aes, Hash: allSHA, Group: weak, Auth: AuthAny},
		PolicyRule{Name: "legacy-3des", Priority: 400, Encryption: with3DES, Hash: allSHA, Group: weak, Auth: AuthAny},
		PolicyRule{Name: "legacy-md5", Priority: 500, Encryption: with3DES, Hash: withMD5, Group: weak, Auth: AuthAny},
		PolicyRule{Name: "legacy-des", Priority: 600, Encryption: withDES, Hash: withMD5, Group: all, Auth: AuthAny},
	)
	addAES(ESPAuthMD5)
	for _, c := range []ESPCipher{ESP3DES, ESPDES} {
		for _, a := range []ESPAuth{ESPAuthSHA256, ESPAuthSHA384, ESPAuthSHA512, ESPAuthSHA1, ESPAuthMD5} {
			esp = append(esp, ESPProposal{Cipher: c, Auth: a})
		}
	}
	return rules, esp, nil
}

// weakPhase1 tells whether the use of a transform is counted as weak. Aggressive
// mode with a pre-shared key is: whoever sees message 2 can try words on it.
func weakPhase1(p *phase1) bool {
	if p.Aggressive && p.Method.preShared() {
		return true
	}
	s, g := p.Suite, p.Group
	return s.Cipher != keymat.AES || s.Hash == keymat.MD5 || strength(g) < strength(keymat.MODP2048)
}

// weakESP tells the same of an ESP transform.
func weakESP(p ESPProposal) bool {
	return p.Cipher == ESPDES || p.Cipher == ESP3DES || p.Auth == ESPAuthMD5
}
