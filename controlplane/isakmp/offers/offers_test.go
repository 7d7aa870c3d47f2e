package offers_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
)

// windows10 is the first message of the L2TP/IPsec client of Windows 10, as
// published in a scanner that replays it (initiator cookie 080fd6f205d3879d).
const windows10 = "" +
	// header
	"080fd6f205d3879d" + "0000000000000000" + "01100200" + "00000000" + "00000198" +
	// SA, proposal 1, five transforms
	"0d0000d40000000100000001" + "000000c801010005" +
	"0300002801010000" + "80010007800e0100800200028004001480030001800b0001000c000400007080" +
	"0300002802010000" + "80010007800e0080800200028004001380030001800b0001000c000400007080" +
	"0300002803010000" + "80010007800e0100800200028004000e80030001800b0001000c000400007080" +
	"0300002404010000" + "80010005800200028004000e80030001800b0001000c000400007080" +
	"0000002405010000" + "80010005800200028004000280030001800b0001000c000400007080" +
	// vendor ids
	"0d000018" + "01528bbbc00696121849ab9a1c5b2a5100000001" +
	"0d000018" + "1e2b516905991c7d7c96fcbfb587e46100000009" +
	"0d000014" + "4a131c81070358455c5728f20e95452f" +
	"0d000014" + "90cb80913ebb696e086381b5ec427b1f" +
	"0d000014" + "4048b7d56ebce88525e7de7f00d6c2d3" +
	"0d000014" + "fb1de3cdf341b7ea16b7e5be0855f120" +
	"0d000014" + "26244d38eddb61b3172a36e3d0cfb819" +
	"00000014" + "e3a5966a76379fe707228231e5ce8652"

func TestWindowsIsTheCapturedMessage(t *testing.T) {
	want, err := hex.DecodeString(windows10)
	if err != nil {
		t.Fatal(err)
	}
	got := offers.Windows(9).MainMode(isakmp.Cookie{0x08, 0x0f, 0xd6, 0xf2, 0x05, 0xd3, 0x87, 0x9d}).Append(nil)
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

// TestCounts: the numbers that clients.md names.
func TestCounts(t *testing.T) {
	for _, c := range []struct {
		offer                        offers.Offer
		transforms, vendors, phase2s int
	}{
		{offers.Windows(9), 5, 8, 3},
		{offers.Windows(7), 5, 7, 3},
		{offers.AppleL2TP(), 14, 12, 9},
		{offers.AppleCisco(), 15, 14, 10},
		{offers.Android(), 16, 6, 20},
		{offers.NetworkManager(), 11, 5, 3},
		{offers.VPNC(), 20, 9, 10},
		{offers.Shrew(), 72, 12, 18},
		{offers.TPLink(), 2, 4, 2},
		{offers.AppleGroup(), 4, 14, 10},
		{offers.AppleGroupRetry(), 8, 14, 10},
		{offers.AndroidXAuth(), 16, 8, 16},
		{offers.VPNCHybrid(), 10, 9, 10},
		{offers.ShrewGroup(), 18, 12, 18},
	} {
		n := 0
		for _, p := range c.offer.Phase2.Proposals {
			n += len(p.Transforms)
		}
		if got := len(c.offer.Phase1.Proposals[0].Transforms); got != c.transforms || len(c.offer.Vendors) != c.vendors || n != c.phase2s {
			t.Errorf("%s: %d transforms, %d vendor ids, %d phase 2 transforms", c.offer.Name, got, len(c.offer.Vendors), n)
		}
	}
}

// TestOffersSurviveTheWire parses what every client sends and finds in it what
// the offer says.
func TestOffersSurviveTheWire(t *testing.T) {
	for _, o := range append(offers.All(), offers.Subscribers()...) {
		t.Run(o.Name, func(t *testing.T) {
			raw := o.MainMode(isakmp.Cookie{1}).Append(nil)
			m, err := isakmp.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			if o.Exchange == isakmp.IdentityProtection {
				if err := isakmp.Check(o.Exchange, 1, m.Payloads, false); err != nil {
					t.Error(err)
				}
			}
			ids := isakmp.Identities(m.Payloads)
			if len(ids) != len(o.Vendors) {
				t.Errorf("%d of %d vendor ids known: %s", len(ids), len(o.Vendors), isakmp.DescribeVendors(ids))
			}
			if got := isakmp.BestNATT(ids, nil); got != o.NATT {
				t.Errorf("NAT traversal %v, want %v", got, o.NATT)
			}
			sa, err := m.Payloads[0].SA()
			if err != nil {
				t.Fatal(err)
			}
			for _, tr := range sa.Proposals[0].Transforms {
				p, ok := tr.Phase1()
				if !ok || len(p.Unknown) != 0 || p.Enc == 0 || p.Hash == 0 || p.Group == 0 || p.Auth == 0 || p.Life.Seconds == 0 {
					t.Errorf("transform %d reads as %v", tr.Number, p)
				}
				if p.Auth.XAuth() && !o.XAuth {
					t.Errorf("transform %d wants XAuth", tr.Number)
				}
			}
			for _, natt := range []isakmp.NATT{isakmp.NATTNone, isakmp.NATTRFC3947, isakmp.NATTDraft02n} {
				checkQuick(t, o, natt)
			}
		})
	}
}

func checkQuick(t *testing.T, o offers.Offer, natt isakmp.NATT) {
	t.Helper()
	sa, err := o.QuickSA(0xdeadbeef, natt).Payload().SA()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range sa.Proposals {
		if p.Protocol != isakmp.ProtocolESP {
			continue
		}
		if hex.EncodeToString(p.SPI) != "deadbeef" {
			t.Errorf("SPI %x", p.SPI)
		}
		for _, tr := range p.Transforms {
			e := tr.ESP()
			if e.Mode.UDP() != (natt != isakmp.NATTNone) || e.Mode.Draft() != (natt == isakmp.NATTDraft02n) ||
				e.Mode.Transport() == e.Mode.Tunnel() || e.Auth == 0 || e.Life.Seconds == 0 || len(e.Unknown) != 0 {
				t.Errorf("%v: transform %d reads as %v", natt, tr.Number, e)
			}
		}
	}
	for _, p := range o.Phase2.Proposals {
		if p.Protocol == isakmp.ProtocolESP && !bytes.Equal(p.SPI, make([]byte, 4)) {
			t.Error("QuickSA changed the offer")
		}
	}
}
