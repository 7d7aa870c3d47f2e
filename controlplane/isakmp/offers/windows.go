package offers

import "vrgate/controlplane/isakmp"

// Windows is the client of Windows 7 to 11 (clients.md 3.1). The first message of
// Windows 8 and later is, byte for byte, one that was captured (see the test);
// that of Windows 7 is taken from logs. That quick
// mode proposes one transform per proposal with 3600 s and 250000 kB is general
// knowledge. version is the word of its vendor id, 7 for Windows 7 and 9 for
// Windows 8 and later.
func Windows(version uint32) Offer {
	name := "Windows 8-11 L2TP"
	if version == 7 {
		name = "Windows 7 L2TP"
	}
	var vendors []isakmp.Payload
	if version >= 9 {
		vendors = append(vendors, isakmp.VendorPayload(isakmp.VendorMSKeying, 1))
	}
	return Offer{
		Name:     name,
		Exchange: isakmp.IdentityProtection,
		Phase1: phase1([]suite{
			{aes256, sha1, 20},
			{aes128, sha1, 19},
			{aes256, sha1, 14},
			{des3, sha1, 14},
			{des3, sha1, 2},
		}, []uint16{psk}, 28800, long, 1, 1),
		Vendors: append(vendors,
			isakmp.VendorPayload(isakmp.VendorMicrosoft, version),
			isakmp.VendorPayload(isakmp.VendorRFC3947, 0),
			isakmp.VendorPayload(isakmp.VendorNATT02n, 0),
			isakmp.VendorPayload(isakmp.VendorFragmentation, 0),
			isakmp.VendorPayload(isakmp.VendorMSNegotiation, 0),
			isakmp.VendorPayload(isakmp.VendorMSInitial, 0),
			isakmp.VendorPayload(isakmp.VendorMSCGA, 0),
		),
		NATT: isakmp.NATTRFC3947,
		Phase2: manyProposals([]esp{{espAES256, espSHA1}, {espAES128, espSHA1}, {esp3DES, espSHA1}},
			transport, 3600, 250000, long, 1),
	}
}

// WindowsXP is the client of Windows XP SP2 (clients.md 3.2; KB 325158: 3DES,
// SHA1, group 2), with its DES and MD5 fall-backs by general knowledge. It knows
// draft 02 of NAT traversal only.
func WindowsXP() Offer {
	return Offer{
		Name:     "Windows XP L2TP",
		Exchange: isakmp.IdentityProtection,
		Phase1: phase1([]suite{
			{des3, sha1, 14},
			{des3, sha1, 2},
			{des3, md5, 2},
			{des, sha1, 1},
			{des, md5, 1},
		}, []uint16{psk}, 28800, long, 1, 1),
		Vendors: []isakmp.Payload{
			isakmp.VendorPayload(isakmp.VendorMicrosoft, 4),
			isakmp.VendorPayload(isakmp.VendorFragmentation, 0),
			isakmp.VendorPayload(isakmp.VendorNATT02n, 0),
			isakmp.VendorPayload(isakmp.VendorMSInitial, 0),
		},
		NATT: isakmp.NATTDraft02n,
		Phase2: manyProposals([]esp{{esp3DES, espMD5}, {esp3DES, espSHA1}, {espDES, espMD5}, {espDES, espSHA1}},
			transport, 3600, 250000, long, 1),
	}
}
