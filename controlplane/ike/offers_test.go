package ike

import (
	"slices"
	"strings"
	"testing"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
)

// TestOffers runs the offer of every client of clients.md against every profile,
// in front of a NAT and behind one: what is chosen, or why not.
func TestOffers(t *testing.T) {
	const refused = "" // no phase 1
	for _, c := range []struct {
		client, profile string
		phase1, phase2  string // in words; phase2 "!" and a reason if refused
		reason          Reason // of a refusal in phase 1
	}{
		// Windows offers SHA-1 only.
		{"Windows 8-11 L2TP", "modern", refused, "", ReasonNoProposal},
		{"Windows 8-11 L2TP", "compatible", "AES-256/SHA1/ECP384", "AES-256/HMAC-SHA1", ""},
		{"Windows 8-11 L2TP", "legacy", "AES-256/SHA1/ECP384", "AES-256/HMAC-SHA1", ""},
		{"Windows 7 L2TP", "modern", refused, "", ReasonNoProposal},
		{"Windows 7 L2TP", "compatible", "AES-256/SHA1/ECP384", "AES-256/HMAC-SHA1", ""},
		{"Windows 7 L2TP", "legacy", "AES-256/SHA1/ECP384", "AES-256/HMAC-SHA1", ""},
		{"Windows XP L2TP", "modern", refused, "", ReasonNoProposal},
		{"Windows XP L2TP", "compatible", refused, "", ReasonNoProposal},
		{"Windows XP L2TP", "legacy", "3DES/SHA1/MODP2048", "3DES/HMAC-MD5", ""},
		{"macOS/iOS L2TP", "modern", "AES-256/SHA2-256/MODP2048", "AES-256/HMAC-SHA2-256", ""},
		{"macOS/iOS L2TP", "compatible", "AES-256/SHA2-256/MODP2048", "AES-256/HMAC-SHA2-256", ""},
		{"macOS/iOS L2TP", "legacy", "AES-256/SHA2-256/MODP2048", "AES-256/HMAC-SHA2-256", ""},
		// The only key is a group key, which is for L2TP (J19).
		{"macOS/iOS Cisco IPSec", "modern", refused, "", ReasonNoProposal},
		{"macOS/iOS Cisco IPSec", "compatible", refused, "", ReasonNoProposal},
		{"macOS/iOS Cisco IPSec", "legacy", refused, "", ReasonNoProposal},
		// Android offers group 2 only.
		{"Android 6-11 L2TP", "modern", refused, "", ReasonNoProposal},
		{"Android 6-11 L2TP", "compatible", refused, "", ReasonNoProposal},
		{"Android 6-11 L2TP", "legacy", "AES-256/SHA2-384/MODP1024", "AES-256/HMAC-SHA2-512", ""},
		{"Android 5 L2TP", "modern", refused, "", ReasonNoProposal},
		{"Android 5 L2TP", "compatible", refused, "", ReasonNoProposal},
		{"Android 5 L2TP", "legacy", "AES-256/SHA1/MODP1024", "AES-256/HMAC-SHA1", ""},
		// NetworkManager has SHA-2 in phase 1 but not in phase 2.
		{"NetworkManager-l2tp", "modern", "AES-256/SHA2-256/MODP2048", "!" + string(ReasonNoProposal2), ""},
		{"NetworkManager-l2tp", "compatible", "AES-256/SHA2-256/MODP2048", "AES-256/HMAC-SHA1", ""},
		{"NetworkManager-l2tp", "legacy", "AES-256/SHA2-256/MODP2048", "AES-256/HMAC-SHA1", ""},
		{"vpnc", "modern", refused, "", ReasonAggressiveMode},
		{"vpnc", "compatible", refused, "", ReasonAggressiveMode},
		{"vpnc", "legacy", refused, "", ReasonAggressiveMode},
		{"Shrew Soft", "modern", refused, "", ReasonNoProposal},
		{"Shrew Soft", "compatible", refused, "", ReasonNoProposal},
		{"Shrew Soft", "legacy", refused, "", ReasonNoProposal},
		// CPE routers put MD5 in front of SHA-1: the rules put it behind in phase
		// 1; in phase 2 the client's order holds.
		{"TP-Link router", "modern", refused, "", ReasonNoProposal},
		{"TP-Link router", "compatible", refused, "", ReasonNoProposal},
		{"TP-Link router", "legacy", "3DES/SHA1/MODP1024", "3DES/HMAC-MD5", ""},
		{"Huawei router", "modern", refused, "", ReasonNoProposal},
		{"Huawei router", "compatible", refused, "", ReasonNoProposal},
		{"Huawei router", "legacy", "3DES/SHA1/MODP1024", "3DES/HMAC-MD5", ""},
	} {
		i := slices.IndexFunc(offers.All(), func(o offers.Offer) bool { return o.Name == c.client })
		if i < 0 {
			t.Fatalf("there is no offer of %q", c.client)
		}
		o := offers.All()[i]
		for _, nat := range []bool{false, true} {
			r := serverRig(t, c.profile)
			s := newScript(r, o)
			if nat {
				s.behindNAT()
			}
			if o.Exchange == isakmp.Aggressive {
				h := s.header(isakmp.Aggressive, 0)
				s.send(isakmp.Message{Header: h, Payloads: o.First()}.Append(nil))
			} else if s.phase1() {
				if got := r.e.Phase1SAs()[0].Proposal; got != c.phase1 {
					t.Errorf("%s, %s: phase 1 %s, want %q", c.client, c.profile, got, c.phase1)
					continue
				}
				q := s.quick(o)
				if got := "!"; !q.run() {
					for r := range r.e.Counters() {
						if r == ReasonNoProposal2 {
							got += string(r)
						}
					}
					if got != c.phase2 || q.notify != isakmp.NoProposalChosen {
						t.Errorf("%s, %s: quick mode refused with %v: %s", c.client, c.profile, q.notify, words(r.reports))
					}
				} else if got := r.e.Children()[0].Transform; got != c.phase2 {
					t.Errorf("%s, %s: phase 2 %s, want %q", c.client, c.profile, got, c.phase2)
				} else if len(r.up) != 1 || r.up[0].Encap != nat || r.up[0].NATPeer != nat {
					t.Errorf("%s, %s: up %+v", c.client, c.profile, r.up)
				}
				continue
			}
			if c.phase1 != refused || r.e.Counters()[c.reason] != 1 || len(r.e.sas) != 0 {
				t.Errorf("%s, %s: no phase 1, %d left, counters %v", c.client, c.profile, len(r.e.sas), r.e.Counters())
			}
		}
	}
}

// TestOffersAll makes sure that the table above leaves no client out.
func TestOffersAll(t *testing.T) {
	if n := len(offers.All()); n != 12 {
		t.Errorf("%d clients are known, the table of TestOffers has 12", n)
	}
}

// asPSK is the SA with every authentication method replaced by pre-shared key.
func asPSK(sa isakmp.SA) isakmp.SA {
	sa.Proposals = slices.Clone(sa.Proposals)
	for i := range sa.Proposals {
		p := &sa.Proposals[i]
		p.Transforms = slices.Clone(p.Transforms)
		for j, t := range p.Transforms {
			p1, _ := t.Phase1()
			p1.Auth = isakmp.AuthPSK
			p.Transforms[j] = p1.Transform()
		}
	}
	return sa
}

// TestOffer72 takes Shrew's 72 transforms with a pre-shared key.
func TestOffer72(t *testing.T) {
	for profile, want := range map[string]string{"modern": "", "compatible": "AES-256/SHA1/MODP2048", "legacy": "AES-256/SHA1/MODP2048"} {
		r := serverRig(t, profile)
		o := offers.Shrew()
		o.Phase1 = asPSK(o.Phase1)
		if n := len(o.Phase1.Proposals[0].Transforms); n != 72 {
			t.Fatalf("%d transforms", n)
		}
		s := newScript(r, o)
		switch ok := s.phase1(); {
		case ok != (want != ""):
			t.Errorf("%s: phase 1 %v", profile, ok)
		case ok && r.e.Phase1SAs()[0].Proposal != want:
			t.Errorf("%s: %s", profile, r.e.Phase1SAs()[0].Proposal)
		}
	}
}

// TestOfferExplained: a failing peer's offer is logged in whole, once.
func TestOfferExplained(t *testing.T) {
	r := serverRig(t, "modern")
	for range 5 {
		newScript(r, offers.Windows(9)).main1()
	}
	info := 0
	for _, x := range r.reports {
		if x.Level == LevelInfo {
			info++
			for _, part := range []string{"Windows", "1 AES-256/SHA1/ECP384/PSK", "hash not allowed", "5 3DES/SHA1/MODP1024/PSK", "encryption not allowed"} {
				if !strings.Contains(x.Text, part) {
					t.Errorf("%q is not in %q", part, x.Text)
				}
			}
		}
	}
	if info != 1 {
		t.Errorf("%d sentences for the log, want one", info)
	}
}

// TestOldAndroid: HMAC-SHA2-256 is passed over for a client that may truncate it
// to 96 bits, and taken with 96 bits when the operator says so.
func TestOldAndroid(t *testing.T) {
	o := offers.Android()
	only := func(auths ...isakmp.ESPAuth) isakmp.SA {
		sa := o.Phase2
		sa.Proposals = slices.Clone(sa.Proposals)
		p := &sa.Proposals[0]
		p.Transforms = slices.Clone(p.Transforms)
		p.Transforms = slices.DeleteFunc(p.Transforms, func(t isakmp.Transform) bool { return !slices.Contains(auths, t.ESP().Auth) })
		return sa
	}
	for _, c := range []struct {
		option bool
		offer  []isakmp.ESPAuth
		want   string
		bits   int
	}{
		{false, []isakmp.ESPAuth{isakmp.ESPAuthSHA1, isakmp.ESPAuthSHA256}, "AES-256/HMAC-SHA1", 96},
		{false, []isakmp.ESPAuth{isakmp.ESPAuthSHA256}, "AES-256/HMAC-SHA2-256", 128},
		{true, []isakmp.ESPAuth{isakmp.ESPAuthSHA256}, "AES-256/HMAC-SHA2-256", 96},
	} {
		r := serverRig(t, "legacy")
		r.e.cfg.OldAndroidSHA256 = c.option
		s := newScript(r, o)
		if !s.phase1() {
			t.Fatal("no phase 1")
		}
		x := o
		x.Phase2 = only(c.offer...)
		// SHA2-256 first, as if the client preferred it.
		slices.Reverse(x.Phase2.Proposals[0].Transforms)
		slices.SortStableFunc(x.Phase2.Proposals[0].Transforms, func(a, b isakmp.Transform) int {
			return int(b.ESP().KeyBits) - int(a.ESP().KeyBits)
		})
		if !s.quick(x).run() {
			t.Fatal("no quick mode")
		}
		if got := r.e.Children()[0].Transform; got != c.want {
			t.Errorf("option %v: %s, want %s", c.option, got, c.want)
		}
		for _, sa := range r.kernel {
			if sa.AuthBits != c.bits {
				t.Errorf("option %v: %d bits, want %d", c.option, sa.AuthBits, c.bits)
			}
		}
	}
}
