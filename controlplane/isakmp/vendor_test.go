package isakmp_test

import (
	"crypto/md5"
	"encoding/hex"
	"strings"
	"testing"

	"vrgate/controlplane/isakmp"
)

// TestVendorIDsAreHashes recomputes the ids that are the MD5 of a text.
func TestVendorIDsAreHashes(t *testing.T) {
	texts := map[string]isakmp.Vendor{
		"RFC 3947":                                  isakmp.VendorRFC3947,
		"draft-ietf-ipsec-nat-t-ike":                isakmp.VendorNATTApple,
		"draft-ietf-ipsec-nat-t-ike-00":             isakmp.VendorNATT00,
		"draft-ietf-ipsec-nat-t-ike-01":             isakmp.VendorNATT01,
		"draft-ietf-ipsec-nat-t-ike-02":             isakmp.VendorNATT02,
		"draft-ietf-ipsec-nat-t-ike-02\n":           isakmp.VendorNATT02n,
		"draft-ietf-ipsec-nat-t-ike-03":             isakmp.VendorNATT03,
		"draft-ietf-ipsec-nat-t-ike-04":             isakmp.VendorNATT04,
		"draft-ietf-ipsec-nat-t-ike-05":             isakmp.VendorNATT05,
		"draft-ietf-ipsec-nat-t-ike-06":             isakmp.VendorNATT06,
		"draft-ietf-ipsec-nat-t-ike-07":             isakmp.VendorNATT07,
		"draft-ietf-ipsec-nat-t-ike-08":             isakmp.VendorNATT08,
		"FRAGMENTATION":                             isakmp.VendorFragmentation,
		"MS NT5 ISAKMPOAKLEY":                       isakmp.VendorMicrosoft,
		"Vid-Initial-Contact":                       isakmp.VendorMSInitial,
		"IKE CGA version 1":                         isakmp.VendorMSCGA,
		"MS-Negotiation Discovery Capable":          isakmp.VendorMSNegotiation,
		"MS-MamieExists":                            isakmp.VendorMSMamie,
		"GSSAPI":                                    isakmp.VendorGSSAPI,
		"A GSS-API Authentication Method for IKE":   isakmp.VendorGSSAPI,
		"A GSS-API Authentication Method for IKE\n": isakmp.VendorGSSAPI,
		"strongSwan":                                isakmp.VendorStrongSwan,
		"KAME/racoon":                               isakmp.VendorRacoon,
	}
	for text, want := range texts {
		sum := md5.Sum([]byte(text))
		if got := isakmp.Identify(sum[:]); got.Vendor != want || got.Detail != 0 {
			t.Errorf("MD5(%q) is %v", text, got)
		}
		if p := isakmp.VendorPayload(want, 0); want != isakmp.VendorGSSAPI && string(p.Body) != string(sum[:]) {
			t.Errorf("we send %x for %q", p.Body, text)
		}
	}
	// Cut to eight bytes, and with a version in place of the last two.
	sum := md5.Sum([]byte("draft-ietf-ipsra-isakmp-xauth-06.txt"))
	if got := isakmp.Identify(sum[:8]); got.Vendor != isakmp.VendorXAuth {
		t.Errorf("XAuth: %v", got)
	}
	sum = md5.Sum([]byte("CISCO-UNITY"))
	if got := isakmp.Identify(append(sum[:14:14], 1, 0)); got.Vendor != isakmp.VendorUnity || got.Detail != 0x100 {
		t.Errorf("Unity: %v", got)
	}
}

func TestIdentify(t *testing.T) {
	for _, c := range []struct {
		vid, want string
		natt      isakmp.NATT
	}{
		{"1e2b516905991c7d7c96fcbfb587e46100000009", "MS NT5 ISAKMPOAKLEY (Windows 8 to 11)", 0},
		{"1e2b516905991c7d7c96fcbfb587e46100000004", "MS NT5 ISAKMPOAKLEY (Windows Server 2003 or XP SP2)", 0},
		{"1e2b516905991c7d7c96fcbfb587e46100000063", "MS NT5 ISAKMPOAKLEY (Windows, version word 99)", 0},
		{"4048b7d56ebce88525e7de7f00d6c2d380000000", "FRAGMENTATION (0x80000000)", 0},
		{"4048b7d56ebce88525e7de7f00d6c2d3", "FRAGMENTATION", 0},
		{"afcad71368a1f1c96b8696fc77570100", "DPD (0x100)", 0},
		{"12f5f28c457168a9702d9fe274cc0204", "CISCO-UNITY (0x204)", 0},
		{"09002689dfd6b712", "XAUTH", 0},
		{"09002689dfd6b71280a224dec33b81e5", "unknown", 0}, // a longer one is another
		{"4a131c81070358455c5728f20e95452f", "RFC 3947", isakmp.NATTRFC3947},
		{"4a131c81070358455c5728f20e95452f00", "unknown", 0},
		{"4a131c81070358455c5728f20e9545", "unknown", 0},
		{"8f8d83826d246b6fc7a8a6a428c11de8", "draft-ietf-ipsec-nat-t-ike-08", isakmp.NATTApple},
		{"16f6ca16e4a4066d83821a0f0aeaa862", "draft-ietf-ipsec-nat-t-ike-01", 0},
		{"01528bbbc00696121849ab9a1c5b2a5100000001", "Microsoft keying module (0x1)", 0},
		{"f14b94b7bff1fef02773b8c49feded26", "Shrew Soft", 0},
		{"166f932d55eb64d8e4df4fd37e2313f0d0fd8451", "NetScreen", 0},
		{"8404adf9cda05760b2ca292e4bff537b", "Sidewinder", 0},
		{"", "unknown", 0},
		{"00", "unknown", 0},
	} {
		got := isakmp.Identify(unhex(t, c.vid))
		if got.String() != c.want || got.Vendor.NATT() != c.natt {
			t.Errorf("%s is %v, %v; want %s, %v", c.vid, got, got.Vendor.NATT(), c.want, c.natt)
		}
	}
}

// TestEveryVendorPayloadIsRecognised: what we can send we know.
func TestEveryVendorPayloadIsRecognised(t *testing.T) {
	for v := isakmp.VendorNATT00; v <= isakmp.VendorLibreswan; v++ {
		if got := isakmp.Identify(isakmp.VendorPayload(v, 7).Body); got.Vendor != v {
			t.Errorf("%v is taken for %v", v, got)
		}
		if v.String() == "unknown" {
			t.Errorf("vendor %d has no name", v)
		}
	}
	if p := isakmp.VendorPayload(isakmp.VendorFragmentation, isakmp.FragmentMainMode); hex.EncodeToString(p.Body) != "4048b7d56ebce88525e7de7f00d6c2d380000000" {
		t.Errorf("%x", p.Body)
	}
	defer func() {
		if recover() == nil {
			t.Error("an unknown vendor was encoded")
		}
	}()
	isakmp.VendorPayload(isakmp.VendorUnknown, 0)
}

func TestBestNATT(t *testing.T) {
	ids := func(vs ...isakmp.Vendor) (out []isakmp.VendorID) {
		for _, v := range vs {
			out = append(out, isakmp.VendorID{Vendor: v})
		}
		return out
	}
	for _, c := range []struct {
		ids  []isakmp.VendorID
		want isakmp.NATT
	}{
		{nil, isakmp.NATTNone},
		{ids(isakmp.VendorDPD, isakmp.VendorNATT01), isakmp.NATTNone},
		{ids(isakmp.VendorNATT00, isakmp.VendorNATT02, isakmp.VendorNATT02n), isakmp.NATTDraft02n},
		{ids(isakmp.VendorNATTApple, isakmp.VendorNATT08, isakmp.VendorNATT02), isakmp.NATTDraft02},
		{ids(isakmp.VendorNATTApple), isakmp.NATTApple},
		{ids(isakmp.VendorNATT03, isakmp.VendorRFC3947, isakmp.VendorNATTApple), isakmp.NATTRFC3947},
	} {
		if got := isakmp.BestNATT(c.ids, nil); got != c.want {
			t.Errorf("%s: %v, want %v", isakmp.DescribeVendors(c.ids), got, c.want)
		}
	}
	noRFC := func(v isakmp.NATT) bool { return v != isakmp.NATTRFC3947 }
	if got := isakmp.BestNATT(ids(isakmp.VendorRFC3947, isakmp.VendorNATT03), noRFC); got != isakmp.NATTDraft03 {
		t.Errorf("without RFC 3947: %v", got)
	}
	if s := isakmp.DescribeVendors(ids(isakmp.VendorDPD, isakmp.VendorXAuth)); strings.Count(s, ",") != 1 {
		t.Error(s)
	}
}
