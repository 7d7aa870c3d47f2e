package isakmp

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// Vendor is what a vendor ID payload says: a capability, or a product.
type Vendor uint8

// Vendor ids. The NAT-T ones are in the order of the drafts.
const (
	VendorUnknown Vendor = iota
	VendorNATT00         // draft-ietf-ipsec-nat-t-ike-00
	VendorNATT01         // -01, no widespread implementation
	VendorNATT02         // -02
	VendorNATT02n        // -02 hashed with a newline behind
	VendorNATT03         // -03
	VendorNATT04         // -04 to -08 number their payloads 15 and 16
	VendorNATT05
	VendorNATT06
	VendorNATT07
	VendorNATT08
	VendorNATTApple // "draft-ietf-ipsec-nat-t-ike" without a number
	VendorRFC3947
	VendorDPD           // RFC 3706; Detail is its version
	VendorXAuth         // draft-ietf-ipsra-isakmp-xauth-06 (J10)
	VendorUnity         // Cisco Unity; Detail is the version
	VendorFragmentation // Detail is the capability word, 0 if none was sent
	VendorMicrosoft     // "MS NT5 ISAKMPOAKLEY"; Detail is the version word, see WindowsVersion
	VendorMSInitial     // "Vid-Initial-Contact"
	VendorMSCGA         // "IKE CGA version 1"
	VendorMSNegotiation // "MS-Negotiation Discovery Capable"
	VendorMSMamie       // "MS-MamieExists"
	VendorMSLoadBalance // network load balancing is present
	VendorMSKeying      // no name published; Windows 8 and later send it with Detail 1 in IKEv1, 2 in IKEv2
	VendorGSSAPI        // GSS-API authentication, Windows domain members
	VendorStrongSwan
	VendorRacoon     // KAME's racoon
	VendorShrew      // Shrew Soft client
	VendorNetScreen  // Juniper/NetScreen; Shrew claims it too
	VendorSidewinder // Shrew claims it
	VendorCheckPoint // Check Point; Detail are the first four bytes of its own data
	VendorLibreswan  // OE… of openswan and libreswan
)

// String names the vendor id.
func (v Vendor) String() string {
	for _, k := range vendors {
		if k.vendor == v {
			return k.name
		}
	}
	return "unknown"
}

// match is how much of a vendor id is compared.
type match uint8

const (
	whole  match = iota // the whole payload
	prefix              // the first bytes; the rest is a version or capability
)

// vendors is the table of known vendor ids. Most are the MD5 of a text, which a
// test recomputes.
var vendors = []struct {
	vendor Vendor
	name   string
	match  match
	hex    string
}{
	{VendorRFC3947, "RFC 3947", whole, "4a131c81070358455c5728f20e95452f"},
	{VendorNATT03, "draft-ietf-ipsec-nat-t-ike-03", whole, "7d9419a65310ca6f2c179d9215529d56"},
	{VendorNATT02n, "draft-ietf-ipsec-nat-t-ike-02\\n", whole, "90cb80913ebb696e086381b5ec427b1f"},
	{VendorNATT02, "draft-ietf-ipsec-nat-t-ike-02", whole, "cd60464335df21f87cfdb2fc68b6a448"},
	{VendorNATT01, "draft-ietf-ipsec-nat-t-ike-01", whole, "16f6ca16e4a4066d83821a0f0aeaa862"},
	{VendorNATT00, "draft-ietf-ipsec-nat-t-ike-00", whole, "4485152d18b6bbcd0be8a8469579ddcc"},
	{VendorNATT04, "draft-ietf-ipsec-nat-t-ike-04", whole, "9909b64eed937c6573de52ace952fa6b"},
	{VendorNATT05, "draft-ietf-ipsec-nat-t-ike-05", whole, "80d0bb3def54565ee84645d4c85ce3ee"},
	{VendorNATT06, "draft-ietf-ipsec-nat-t-ike-06", whole, "4d1e0e136deafa34c4f3ea9f02ec7285"},
	{VendorNATT07, "draft-ietf-ipsec-nat-t-ike-07", whole, "439b59f8ba676c4c7737ae22eab8f582"},
	{VendorNATT08, "draft-ietf-ipsec-nat-t-ike-08", whole, "8f8d83826d246b6fc7a8a6a428c11de8"},
	{VendorNATTApple, "draft-ietf-ipsec-nat-t-ike", whole, "4df37928e9fc4fd1b3262170d515c662"},
	{VendorDPD, "DPD", prefix, "afcad71368a1f1c96b8696fc7757"},
	{VendorXAuth, "XAUTH", whole, "09002689dfd6b712"},
	{VendorUnity, "CISCO-UNITY", prefix, "12f5f28c457168a9702d9fe274cc"},
	{VendorFragmentation, "FRAGMENTATION", prefix, "4048b7d56ebce88525e7de7f00d6c2d3"},
	{VendorMicrosoft, "MS NT5 ISAKMPOAKLEY", prefix, "1e2b516905991c7d7c96fcbfb587e461"},
	{VendorMSInitial, "Vid-Initial-Contact", whole, "26244d38eddb61b3172a36e3d0cfb819"},
	{VendorMSCGA, "IKE CGA version 1", whole, "e3a5966a76379fe707228231e5ce8652"},
	{VendorMSNegotiation, "MS-Negotiation Discovery Capable", whole, "fb1de3cdf341b7ea16b7e5be0855f120"},
	{VendorMSMamie, "MS-MamieExists", whole, "214ca4faffa7f32d6748e5303395ae83"},
	{VendorMSLoadBalance, "NLBS_PRESENT", whole, "72872b95fcda2eb708efe322119b4971"},
	{VendorMSKeying, "Microsoft keying module", prefix, "01528bbbc00696121849ab9a1c5b2a51"},
	{VendorGSSAPI, "GSSAPI", prefix, "621b04bb09882ac1e15935fefa24aeee"},
	{VendorGSSAPI, "A GSS-API Authentication Method for IKE", prefix, "ad2c0dd0b9c32083ccba25b8861ec455"},
	{VendorGSSAPI, "A GSS-API Authentication Method for IKE\\n", prefix, "b46d8914f3aaa3f2fedeb7c7db2943ca"},
	{VendorStrongSwan, "strongSwan", whole, "882fe56d6fd20dbc2251613b2ebe5beb"},
	{VendorRacoon, "KAME/racoon", whole, "7003cbc1097dbe9c2600ba6983bc8b35"},
	{VendorShrew, "Shrew Soft", whole, "f14b94b7bff1fef02773b8c49feded26"},
	{VendorNetScreen, "NetScreen", prefix, "166f932d55eb64d8e4df4fd37e2313f0d0fd8451"},
	{VendorSidewinder, "Sidewinder", whole, "8404adf9cda05760b2ca292e4bff537b"},
	{VendorCheckPoint, "Check Point", prefix, "f4ed19e0c114eb516faaac0ee37daf2807b4381f"},
	{VendorLibreswan, "openswan/libreswan", prefix, "4f45"},
}

// vendorKey is a decoded entry of vendors.
type vendorKey struct {
	vendor Vendor
	match  match
	id     []byte
}

// vendorKeys is indexed by the first byte of the id.
var vendorKeys = func() (t [256][]vendorKey) {
	for _, v := range vendors {
		id, err := hex.DecodeString(v.hex)
		if err != nil {
			panic("isakmp: vendor table: " + err.Error())
		}
		t[id[0]] = append(t[id[0]], vendorKey{v.vendor, v.match, id})
	}
	return t
}()

// VendorID is a recognised vendor id.
type VendorID struct {
	Vendor Vendor
	// Detail is what follows a recognised prefix as a number, big endian, its
	// first four bytes at most; 0 if nothing follows.
	Detail uint32
}

// String shows name and detail.
func (v VendorID) String() string {
	switch {
	case v.Vendor == VendorMicrosoft:
		return fmt.Sprintf("%v (%s)", v.Vendor, v.WindowsVersion())
	case v.Detail != 0:
		return fmt.Sprintf("%v (%#x)", v.Vendor, v.Detail)
	}
	return v.Vendor.String()
}

// WindowsVersion names the Windows release of a VendorMicrosoft id (clients.md
// 3.1), "" for other vendors.
func (v VendorID) WindowsVersion() string {
	if v.Vendor != VendorMicrosoft {
		return ""
	}
	switch v.Detail {
	case 2:
		return "Windows 2000"
	case 3:
		return "Windows XP"
	case 4:
		return "Windows Server 2003 or XP SP2"
	case 5:
		return "Windows Vista"
	case 6:
		return "Windows Server 2008"
	case 7:
		return "Windows 7"
	case 8:
		return "Windows Server 2008 R2"
	case 9:
		return "Windows 8 to 11"
	}
	return fmt.Sprintf("Windows, version word %d", v.Detail)
}

// NATT returns the NAT traversal version that the id announces, NATTNone if
// none.
func (v Vendor) NATT() NATT {
	switch v {
	case VendorRFC3947:
		return NATTRFC3947
	case VendorNATT03:
		return NATTDraft03
	case VendorNATT02n:
		return NATTDraft02n
	case VendorNATT02:
		return NATTDraft02
	case VendorNATT00:
		return NATTDraft00
	case VendorNATT04, VendorNATT05, VendorNATT06, VendorNATT07, VendorNATT08, VendorNATTApple:
		return NATTApple
	}
	return NATTNone
}

// Identify recognises the body of a vendor id payload; others are VendorUnknown.
func Identify(vid []byte) VendorID {
	if len(vid) == 0 {
		return VendorID{}
	}
	for _, k := range vendorKeys[vid[0]] {
		if len(vid) < len(k.id) || string(vid[:len(k.id)]) != string(k.id) {
			continue
		}
		rest := vid[len(k.id):]
		if k.match == whole && len(rest) > 0 {
			continue
		}
		var d uint32
		for _, b := range rest[:min(4, len(rest))] {
			d = d<<8 | uint32(b)
		}
		return VendorID{Vendor: k.vendor, Detail: d}
	}
	return VendorID{}
}

// Identities recognises all vendor id payloads among ps, unknown ones left out.
func Identities(ps []Payload) []VendorID {
	var out []VendorID
	for _, p := range ps {
		if p.Type != TypeVendorID {
			continue
		}
		if v := Identify(p.Body); v.Vendor != VendorUnknown {
			out = append(out, v)
		}
	}
	return out
}

// Versions and capabilities that we send behind the prefix of our vendor ids.
const (
	dpdVersion   = 0x0100 // RFC 3706 section 5.1
	unityVersion = 0x0100 // as strongSwan and racoon

	// FragmentMainMode and FragmentAggressive are the capabilities in the word
	// of VendorFragmentation: fragments in main mode (as Shrew says it) and in
	// aggressive mode.
	FragmentMainMode   uint32 = 0x80000000
	FragmentAggressive uint32 = 0x40000000
)

// VendorPayload makes the vendor id payload of v: DPD and Unity with the version
// we speak, VendorFragmentation, VendorMicrosoft and VendorMSKeying with the word
// detail unless that is 0. It panics on VendorUnknown.
func VendorPayload(v Vendor, detail uint32) Payload {
	for _, k := range vendors {
		if k.vendor != v {
			continue
		}
		b, err := hex.DecodeString(k.hex)
		if err != nil {
			break
		}
		switch v {
		case VendorDPD:
			b = binary.BigEndian.AppendUint16(b, dpdVersion)
		case VendorUnity:
			b = binary.BigEndian.AppendUint16(b, unityVersion)
		case VendorFragmentation, VendorMicrosoft, VendorMSKeying:
			if detail != 0 {
				b = binary.BigEndian.AppendUint32(b, detail)
			}
		}
		return Payload{Type: TypeVendorID, Body: b}
	}
	panic("isakmp: no vendor id " + v.String())
}

// DescribeVendors joins the names of the vendor ids of a message for a log line.
func DescribeVendors(ids []VendorID) string {
	names := make([]string, len(ids))
	for i, v := range ids {
		names[i] = v.String()
	}
	return strings.Join(names, ", ")
}
