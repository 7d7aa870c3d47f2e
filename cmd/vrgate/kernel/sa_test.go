package kernel

import (
	"net/netip"
	"testing"
	"time"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/vr"
	"vrgate/xfrm"
)

// TestEveryProposalHasAKernelAlgorithm: what the engine accepts in any profile, the kernel
// package must be able to install, with keys of the lengths that the engine derives.
func TestEveryProposalHasAKernelAlgorithm(t *testing.T) {
	macKey := map[ike.ESPAuth]int{
		ike.ESPAuthMD5: 16, ike.ESPAuthSHA1: 20, ike.ESPAuthSHA256: 32, ike.ESPAuthSHA384: 48, ike.ESPAuthSHA512: 64,
	}
	for _, name := range []string{ike.ProfileModern, ike.ProfileCompatible, ike.ProfileLegacy} {
		_, proposals, err := ike.ProposalProfile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range proposals {
			key := p.KeyBits / 8
			switch p.Cipher {
			case ike.ESPAESGCM:
				key += 4 // salt
			case ike.ESP3DES:
				key = 24
			case ike.ESPDES:
				key = 8
			}
			for _, dir := range []ike.Direction{ike.Inbound, ike.Outbound} {
				sa, err := xfrmSA(ike.SA{
					Conn: 7, Dir: dir, SPI: 0x1000, Local: netip.MustParseAddrPort("192.0.2.1:4500"), Remote: netip.MustParseAddrPort("198.51.100.1:40000"),
					Encap: true, Cipher: p.Cipher, Auth: p.Auth, EncKey: make(keymat.Secret, key), AuthKey: make(keymat.Secret, macKey[p.Auth]),
					SoftLife: 500 * time.Millisecond, HardLife: time.Hour, SoftKB: 1, HardKB: 2,
				})
				if err != nil {
					t.Errorf("%s %v: %v", name, p, err)
					continue
				}
				if err := sa.Validate(); err != nil {
					t.Errorf("%s %v: %v", name, p, err)
				}
				if sa.Reqid != 0x11000007 || (sa.SetMark == sa.Reqid) != (dir == ike.Inbound) || sa.SoftSeconds != 1 || sa.HardBytes != 2048 || sa.Encap.RemotePort != 40000 {
					t.Errorf("%s %v: reqid %#x, mark %#x, soft %d s, hard %d bytes", name, p, sa.Reqid, sa.SetMark, sa.SoftSeconds, sa.HardBytes)
				}
				server := netip.MustParsePrefix("192.0.2.1/32")
				if dir == ike.Inbound && sa.Selector.Dst != server || dir == ike.Outbound && sa.Selector.Src != server || sa.Selector.Proto != 17 {
					t.Errorf("selector %+v", sa.Selector)
				}
			}
		}
	}
}

// TestOldAndroidTruncation: 96 bits of HMAC-SHA2-256 are another algorithm for the kernel.
func TestOldAndroidTruncation(t *testing.T) {
	f := ike.SA{Conn: 1, Cipher: ike.ESPAESCBC, Auth: ike.ESPAuthSHA256, AuthBits: 96, Local: netip.MustParseAddrPort("192.0.2.1:500"), Remote: netip.MustParseAddrPort("198.51.100.1:500")}
	if sa, err := xfrmSA(f); err != nil || sa.Integrity != xfrm.SHA256Trunc96 {
		t.Errorf("96 bits: %v %v", sa.Integrity, err)
	}
	f.AuthBits = 128
	if sa, err := xfrmSA(f); err != nil || sa.Integrity != xfrm.SHA256 {
		t.Errorf("128 bits: %v %v", sa.Integrity, err)
	}
}

// TestSubscriberSelector: whatever the peer has named as its side, its address alone passes; what does not contain it
// is no SA of the subscriber's, and an SA of nobody's is none either (J8, J14).
func TestSubscriberSelector(t *testing.T) {
	address, server := netip.MustParsePrefix("10.9.0.7/32"), netip.MustParsePrefix("10.1.0.0/16")
	d := &dataplane{accessOf: map[ike.ConnID]*access{7: {address: address, link: &vr.Access{}}}}
	for _, tc := range []struct {
		conn  ike.ConnID
		named string
		ok    bool
	}{
		{7, "10.9.0.7/32", true}, {7, "10.9.0.0/24", true}, {7, "0.0.0.0/0", true},
		{7, "10.9.0.8/32", false}, {7, "10.9.1.0/24", false}, {7, "::/0", false}, {8, "10.9.0.7/32", false},
	} {
		for _, dir := range []ike.Direction{ike.Inbound, ike.Outbound} {
			sa, err := d.sa(ike.SA{
				Conn: tc.conn, Dir: dir, SPI: 0x1000, Local: netip.MustParseAddrPort("192.0.2.1:500"), Remote: netip.MustParseAddrPort("198.51.100.1:500"),
				Tunnel: true, Cipher: ike.ESPAESCBC, Auth: ike.ESPAuthSHA1, AuthBits: 96, LocalNet: server, RemoteNet: netip.MustParsePrefix(tc.named),
			})
			if (err == nil) != tc.ok {
				t.Errorf("%v of %d named %s: %v", dir, tc.conn, tc.named, err)
			}
			if err != nil {
				continue
			}
			want := xfrm.Selector{Src: address, Dst: server}
			if dir == ike.Outbound {
				want = xfrm.Selector{Src: server, Dst: address}
			}
			if sa.Selector != want {
				t.Errorf("%v named %s: selector %+v, want %+v", dir, tc.named, sa.Selector, want)
			}
		}
	}
}

// TestUncheckedSA: only what comes from a client behind a NAT with IPsec passthrough goes without a UDP checksum (B2r).
func TestUncheckedSA(t *testing.T) {
	for _, skip := range []bool{false, true} {
		for _, dir := range []ike.Direction{ike.Inbound, ike.Outbound} {
			sa, err := xfrmSA(ike.SA{
				Conn: 7, Dir: dir, SPI: 0x1000, Local: netip.MustParseAddrPort("192.0.2.1:500"), Remote: netip.MustParseAddrPort("198.51.100.1:500"),
				Cipher: ike.ESPAESCBC, Auth: ike.ESPAuthSHA1, EncKey: make([]byte, 16), AuthKey: make([]byte, 20), SkipChecksum: skip,
			})
			if err != nil {
				t.Fatal(err)
			}
			want := uint32(0)
			switch {
			case dir == ike.Inbound && skip:
				want = vr.Unchecked(sa.Reqid)
			case dir == ike.Inbound:
				want = sa.Reqid
			}
			if sa.SetMark != want || !vr.IsClient(sa.Reqid) {
				t.Errorf("skip %t, direction %v: mark %#x, want %#x; reqid %#x", skip, dir, sa.SetMark, want, sa.Reqid)
			}
		}
	}
}
