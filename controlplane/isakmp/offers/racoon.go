package offers

import (
	"slices"

	"vrgate/controlplane/isakmp"
)

func androidVendors() []isakmp.Payload {
	return []isakmp.Payload{
		isakmp.VendorPayload(isakmp.VendorRFC3947, 0),
		isakmp.VendorPayload(isakmp.VendorNATT02, 0),
		isakmp.VendorPayload(isakmp.VendorNATT02n, 0),
		isakmp.VendorPayload(isakmp.VendorNATT00, 0),
		isakmp.VendorPayload(isakmp.VendorFragmentation, isakmp.FragmentMainMode),
		isakmp.VendorPayload(isakmp.VendorDPD, 0),
	}
}

// Android is L2TP/IPsec PSK of Android 6 to 11 (clients.md 3.5), by source. Only
// group 2, SHA-384 first.
func Android() Offer {
	var suites []suite
	for _, h := range []uint16{sha384, sha256, sha512, sha1, md5} {
		suites = append(suites, suite{aes256, h, 2})
	}
	for _, h := range []uint16{sha512, sha384, sha256, sha1, md5} {
		suites = append(suites, suite{aes128, h, 2})
	}
	for _, e := range []alg{des3, des} {
		for _, h := range []uint16{sha256, sha1, md5} {
			suites = append(suites, suite{e, h, 2})
		}
	}
	return Offer{
		Name:     "Android 6-11 L2TP",
		Exchange: isakmp.IdentityProtection,
		Phase1:   phase1(suites, []uint16{psk}, 28800, short, 1, 1),
		Vendors:  androidVendors(),
		NATT:     isakmp.NATTRFC3947,
		Phase2: oneProposal(cross([]alg{espAES256, espAES128, esp3DES, espDES},
			[]uint16{espSHA512, espSHA384, espSHA1, espSHA256, espMD5}), transport, 28800, 0, short),
	}
}

// Android5 is L2TP/IPsec PSK of Android 5 and older, which has SHA-1 and MD5
// only (issue hwdsl2/setup-ipsec-vpn 101).
func Android5() Offer {
	var suites []suite
	for _, e := range []alg{aes256, aes128, des3, des} {
		suites = append(suites, suite{e, sha1, 2}, suite{e, md5, 2})
	}
	return Offer{
		Name:     "Android 5 L2TP",
		Exchange: isakmp.IdentityProtection,
		Phase1:   phase1(suites, []uint16{psk}, 28800, short, 1, 1),
		Vendors:  androidVendors(),
		NATT:     isakmp.NATTRFC3947,
		Phase2: oneProposal(cross([]alg{espAES256, espAES128, esp3DES, espDES}, []uint16{espSHA1, espMD5}),
			transport, 28800, 0, short),
	}
}

// NetworkManager is NetworkManager-l2tp 1.52 over strongSwan (clients.md 3.6):
// proposals by documentation, lifetimes and vendor ids as strongSwan's defaults.
// strongSwan announces XAuth whether it is used or not (J10).
func NetworkManager() Offer {
	return Offer{
		Name:     "NetworkManager-l2tp",
		Exchange: isakmp.IdentityProtection,
		Phase1: phase1([]suite{
			{aes256, sha256, 14}, {aes256, sha256, 5}, {aes256, sha256, 2},
			{aes256, sha1, 14}, {aes256, sha1, 5}, {aes256, sha1, 2}, {aes256, sha1, 20},
			{aes128, sha1, 2}, {aes128, sha1, 19},
			{des3, sha1, 14}, {des3, sha1, 2},
		}, []uint16{psk}, 10800, short, 1, 1),
		Vendors: []isakmp.Payload{
			isakmp.VendorPayload(isakmp.VendorXAuth, 0),
			isakmp.VendorPayload(isakmp.VendorDPD, 0),
			isakmp.VendorPayload(isakmp.VendorFragmentation, isakmp.FragmentMainMode),
			isakmp.VendorPayload(isakmp.VendorRFC3947, 0),
			isakmp.VendorPayload(isakmp.VendorNATT02n, 0),
		},
		NATT: isakmp.NATTRFC3947,
		Phase2: oneProposal([]esp{{espAES256, espSHA1}, {espAES128, espSHA1}, {esp3DES, espSHA1}},
			transport, 3600, 0, short),
	}
}

// VPNC is vpnc (clients.md 3.7), by source: aggressive mode, transforms and
// proposals counted from 0, both XAuth and plain pre-shared key, and lifetimes of
// 2147483 s.
func VPNC() Offer {
	const life = 2147483
	var suites []suite
	var esps []esp
	for i, e := range []alg{aes256, aes192, aes128, des3, des} {
		suites = append(suites, suite{e, sha1, 2}, suite{e, md5, 2})
		k := []alg{espAES256, espAES192, espAES128, esp3DES, espDES}[i]
		esps = append(esps, esp{k, espSHA1}, esp{k, espMD5})
	}
	return Offer{
		Name:     "vpnc",
		Exchange: isakmp.Aggressive,
		Phase1:   phase1(suites, []uint16{xauthPSK, psk}, life, long, 0, 0),
		Vendors: []isakmp.Payload{
			isakmp.VendorPayload(isakmp.VendorXAuth, 0),
			isakmp.VendorPayload(isakmp.VendorUnity, 0),
			isakmp.VendorPayload(isakmp.VendorRFC3947, 0),
			isakmp.VendorPayload(isakmp.VendorNATT03, 0),
			isakmp.VendorPayload(isakmp.VendorNATT02n, 0),
			isakmp.VendorPayload(isakmp.VendorNATT02, 0),
			isakmp.VendorPayload(isakmp.VendorNATT01, 0),
			isakmp.VendorPayload(isakmp.VendorNATT00, 0),
			isakmp.VendorPayload(isakmp.VendorDPD, 0),
		},
		NATT:   isakmp.NATTRFC3947,
		XAuth:  true,
		Phase2: manyProposals(esps, tunnel, life, 0, long, 0),
	}
}

// Shrew is the Shrew Soft client 2.x in its automatic setting with XAuth and a
// pre-shared key (clients.md 3.8), by source: 9 ciphers, 2 hashes and 4 groups
// make 72 transforms.
func Shrew() Offer {
	blowfish := func(bits uint16) alg { return alg{3, bits} }
	var suites []suite
	for _, e := range []alg{aes256, aes192, aes128, blowfish(256), blowfish(192), blowfish(128), des3, {6, 0}, des} {
		for _, h := range []uint16{md5, sha1} {
			for _, g := range []uint16{14, 5, 2, 1} {
				suites = append(suites, suite{e, h, g})
			}
		}
	}
	espBlowfish := func(bits uint16) alg { return alg{7, bits} }
	return Offer{
		Name:     "Shrew Soft",
		Exchange: isakmp.IdentityProtection,
		Phase1:   phase1(suites, []uint16{xauthPSK}, 86400, long, 1, 1),
		Vendors: slices.Concat([]isakmp.Payload{
			isakmp.VendorPayload(isakmp.VendorXAuth, 0),
			isakmp.VendorPayload(isakmp.VendorNATT00, 0),
			isakmp.VendorPayload(isakmp.VendorNATT01, 0),
			isakmp.VendorPayload(isakmp.VendorNATT02, 0),
			isakmp.VendorPayload(isakmp.VendorNATT03, 0),
			isakmp.VendorPayload(isakmp.VendorRFC3947, 0),
			isakmp.VendorPayload(isakmp.VendorFragmentation, isakmp.FragmentMainMode),
			isakmp.VendorPayload(isakmp.VendorDPD, 0),
			isakmp.VendorPayload(isakmp.VendorShrew, 0),
			isakmp.VendorPayload(isakmp.VendorNetScreen, 0),
			isakmp.VendorPayload(isakmp.VendorSidewinder, 0),
			isakmp.VendorPayload(isakmp.VendorUnity, 0),
		}),
		NATT:  isakmp.NATTRFC3947,
		XAuth: true,
		Phase2: oneProposal(cross([]alg{
			espAES256, espAES192, espAES128, espBlowfish(256), espBlowfish(192), espBlowfish(128), esp3DES, {6, 0}, espDES,
		}, []uint16{espMD5, espSHA1}), tunnel, 3600, 0, long),
	}
}

// TPLink is a TP-Link router as L2TP/IPsec client (clients.md 3.9; issues
// hwdsl2/setup-ipsec-vpn 282, 454, 513): 3DES-MD5 before 3DES-SHA1, group 2.
// Lifetimes and NAT traversal are general knowledge.
func TPLink() Offer {
	return Offer{
		Name:     "TP-Link router",
		Exchange: isakmp.IdentityProtection,
		Phase1:   phase1([]suite{{des3, md5, 2}, {des3, sha1, 2}}, []uint16{psk}, 28800, short, 1, 1),
		Vendors: []isakmp.Payload{
			isakmp.VendorPayload(isakmp.VendorRFC3947, 0),
			isakmp.VendorPayload(isakmp.VendorNATT03, 0),
			isakmp.VendorPayload(isakmp.VendorNATT02, 0),
			isakmp.VendorPayload(isakmp.VendorDPD, 0),
		},
		NATT:   isakmp.NATTRFC3947,
		Phase2: oneProposal([]esp{{esp3DES, espMD5}, {esp3DES, espSHA1}}, transport, 3600, 0, short),
	}
}

// Huawei is a Huawei router that also offers DES and group 1 (clients.md 3.9).
func Huawei() Offer {
	o := TPLink()
	o.Name = "Huawei router"
	o.Phase1 = phase1([]suite{{des3, md5, 2}, {des3, sha1, 2}, {des, md5, 1}, {des, sha1, 1}},
		[]uint16{psk}, 28800, short, 1, 1)
	o.Phase2 = oneProposal([]esp{{esp3DES, espMD5}, {esp3DES, espSHA1}, {espDES, espMD5}}, transport, 3600, 0, short)
	return o
}
