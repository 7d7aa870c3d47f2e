package offers

import (
	"slices"

	"vrgate/controlplane/isakmp"
)

// appleVendors are the twelve vendor ids of racoon in macOS and iOS, by source
// and log.
func appleVendors() []isakmp.Payload {
	var out []isakmp.Payload
	for _, v := range []isakmp.Vendor{
		isakmp.VendorRFC3947, isakmp.VendorNATTApple, isakmp.VendorNATT08, isakmp.VendorNATT07,
		isakmp.VendorNATT06, isakmp.VendorNATT05, isakmp.VendorNATT04, isakmp.VendorNATT03,
		isakmp.VendorNATT02, isakmp.VendorNATT02n,
	} {
		out = append(out, isakmp.VendorPayload(v, 0))
	}
	return append(out,
		isakmp.VendorPayload(isakmp.VendorFragmentation, isakmp.FragmentMainMode),
		isakmp.VendorPayload(isakmp.VendorDPD, 0))
}

// AppleL2TP is L2TP over IPsec of macOS and iOS (clients.md 3.3), by source,
// confirmed by a capture that counts 14 transforms.
func AppleL2TP() Offer {
	return Offer{
		Name:     "macOS/iOS L2TP",
		Exchange: isakmp.IdentityProtection,
		Phase1: phase1([]suite{
			{aes256, sha256, 14}, {aes256, sha1, 14}, {aes256, md5, 14}, {aes256, sha512, 14},
			{aes256, sha256, 5}, {aes256, sha1, 5}, {aes256, md5, 5},
			{aes256, sha256, 2}, {aes256, sha1, 2}, {aes256, md5, 2},
			{aes128, sha1, 2}, {aes128, md5, 2},
			{des3, sha1, 2}, {des3, md5, 2},
		}, []uint16{psk}, 3600, short, 1, 1),
		Vendors: appleVendors(),
		NATT:    isakmp.NATTRFC3947,
		Phase2: oneProposal(cross([]alg{espAES256, espAES128, esp3DES}, []uint16{espSHA256, espSHA1, espMD5}),
			transport, 3600, 0, short),
	}
}

// AppleCisco is "Cisco IPSec" of macOS and iOS with a pre-shared key in main mode
// (clients.md 3.4), by source. Each ESP proposal of quick mode is accompanied by
// an IPCOMP proposal of the same number with deflate; the CPI is arbitrary.
func AppleCisco() Offer {
	o := Offer{
		Name:     "macOS/iOS Cisco IPSec",
		Exchange: isakmp.IdentityProtection,
		Phase1: phase1([]suite{
			{aes256, sha256, 14}, {aes256, sha1, 14}, {aes256, md5, 14}, {aes256, sha512, 14},
			{aes256, sha256, 5}, {aes256, sha1, 5}, {aes256, md5, 5},
			{aes256, sha1, 2}, {aes256, md5, 2},
			{aes128, sha1, 2}, {aes128, md5, 2},
			{des3, sha1, 2}, {des3, md5, 2},
			{des, sha1, 2}, {des, md5, 2},
		}, []uint16{xauthPSK}, 3600, short, 1, 1),
		Vendors: slices.Concat(appleVendors(), []isakmp.Payload{
			isakmp.VendorPayload(isakmp.VendorXAuth, 0),
			isakmp.VendorPayload(isakmp.VendorUnity, 0),
		}),
		NATT:  isakmp.NATTRFC3947,
		XAuth: true,
		Phase2: oneProposal(cross([]alg{espAES256, espAES128, esp3DES}, []uint16{espSHA256, espSHA1, espMD5}),
			tunnel, 3600, 0, short),
	}
	o.Phase2.Proposals = append(o.Phase2.Proposals, isakmp.Proposal{
		Number: 1, Protocol: isakmp.ProtocolIPComp, SPI: []byte{0x4d, 0x2e},
		Transforms: []isakmp.Transform{{Number: 1, ID: 2, Attributes: []isakmp.Attribute{
			isakmp.ShortAttribute(attrEspLifeType, 1),
			isakmp.ShortAttribute(attrEspLife, 3600),
			isakmp.ShortAttribute(attrMode, tunnel),
		}}},
	})
	return o
}
