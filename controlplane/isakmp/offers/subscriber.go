package offers

import (
	"slices"

	"vrgate/controlplane/isakmp"
)

// Methods of those that are to be asked by XAuth.
const hybridRSA, xauthRSA = 64221, 65005

// Subscribers returns the offers of clients that mean to become dynamic IPsec
// subscribers, those of All included, in every kind of phase 1 that their
// settings allow.
func Subscribers() []Offer {
	return []Offer{
		AppleCisco(), AppleGroup(), AppleGroupRetry(), AppleHybrid(), AppleRSA(),
		AndroidXAuth(), AndroidXAuthRSA(), AndroidHybrid(), AndroidGroup(),
		VPNC(), VPNCHybrid(),
		Shrew(), ShrewGroup(), ShrewHybrid(),
	}
}

// with is the offer with another name and method, and with the exchange and the
// transforms that keep picks.
func (o Offer) with(name string, ex isakmp.ExchangeType, auth uint16, keep func(isakmp.Phase1Transform) bool) Offer {
	o.Name, o.Exchange = name, ex
	p := o.Phase1.Proposals[0]
	o.Phase1.Proposals = []isakmp.Proposal{p}
	var ts []isakmp.Transform
	for _, t := range p.Transforms {
		p1, _ := t.Phase1()
		if keep != nil && !keep(p1) {
			continue
		}
		t.Number = p.Transforms[0].Number + uint8(len(ts))
		t.Attributes = slices.Clone(t.Attributes)
		for i, a := range t.Attributes {
			if a.Type == attrAuth {
				t.Attributes[i] = isakmp.ShortAttribute(attrAuth, auth)
			}
		}
		ts = append(ts, t)
	}
	o.Phase1.Proposals[0].Transforms = ts
	return o
}

func group(g isakmp.GroupID) func(isakmp.Phase1Transform) bool {
	return func(t isakmp.Phase1Transform) bool { return t.Group == g }
}

// AppleGroup is "Cisco IPSec" of macOS and iOS with a group name: aggressive mode with
// the transforms of group 14 (clients.md 3.4), by source.
func AppleGroup() Offer {
	return AppleCisco().with("macOS/iOS Cisco IPSec, group name", isakmp.Aggressive, xauthPSK, group(14))
}

// AppleGroupRetry is what the same client sends when that was refused.
func AppleGroupRetry() Offer {
	return AppleCisco().with("macOS/iOS Cisco IPSec, group name, retry", isakmp.Aggressive, xauthPSK, group(2))
}

// AppleHybrid is the same with "[hybrid]" behind the group name.
func AppleHybrid() Offer {
	return AppleCisco().with("macOS/iOS Cisco IPSec, hybrid", isakmp.Aggressive, hybridRSA, group(14))
}

// AppleRSA is "Cisco IPSec" with a certificate, in main mode.
func AppleRSA() Offer {
	return AppleCisco().with("macOS/iOS Cisco IPSec, certificate", isakmp.IdentityProtection, xauthRSA, nil)
}

// androidXAuth is "IPSec Xauth" of Android 6 to 11 (clients.md 3.5), by source: as
// L2TP, with XAUTH and CISCO-UNITY announced behind the NAT traversal versions, and
// tunnel mode.
func androidXAuth(name string, ex isakmp.ExchangeType, auth uint16) Offer {
	o := Android().with(name, ex, auth, nil)
	o.XAuth = true
	o.Vendors = slices.Insert(o.Vendors, 4, isakmp.VendorPayload(isakmp.VendorXAuth, 0), isakmp.VendorPayload(isakmp.VendorUnity, 0))
	o.Phase2 = oneProposal(cross([]alg{espAES256, espAES128, esp3DES, espDES},
		[]uint16{espSHA512, espSHA1, espSHA256, espMD5}), tunnel, 28800, 0, short)
	return o
}

// AndroidXAuth is "IPSec Xauth PSK" without an identifier.
func AndroidXAuth() Offer {
	return androidXAuth("Android 6-11 Xauth PSK", isakmp.IdentityProtection, xauthPSK)
}

// AndroidGroup is "IPSec Xauth PSK" with an identifier, which makes it aggressive.
func AndroidGroup() Offer {
	return androidXAuth("Android 6-11 Xauth PSK, identifier", isakmp.Aggressive, xauthPSK)
}

// AndroidXAuthRSA is "IPSec Xauth RSA".
func AndroidXAuthRSA() Offer {
	return androidXAuth("Android 6-11 Xauth RSA", isakmp.IdentityProtection, xauthRSA)
}

// AndroidHybrid is "IPSec Hybrid RSA".
func AndroidHybrid() Offer {
	return androidXAuth("Android 6-11 Hybrid RSA", isakmp.IdentityProtection, hybridRSA)
}

// VPNCHybrid is vpnc with "IKE Authmode hybrid", by source.
func VPNCHybrid() Offer {
	o := VPNC()
	half := len(o.Phase1.Proposals[0].Transforms) / 2
	o.Phase1.Proposals[0].Transforms = o.Phase1.Proposals[0].Transforms[:half]
	return o.with("vpnc, hybrid", isakmp.Aggressive, hybridRSA, nil)
}

// ShrewGroup is the Shrew Soft client in aggressive mode with a pre-shared key, for which it
// has to be told the group.
func ShrewGroup() Offer {
	return Shrew().with("Shrew Soft, aggressive", isakmp.Aggressive, xauthPSK, group(2))
}

// ShrewHybrid is the default of its profiles: "Hybrid RSA + XAuth" in main mode.
func ShrewHybrid() Offer {
	return Shrew().with("Shrew Soft, hybrid", isakmp.IdentityProtection, hybridRSA, nil)
}
