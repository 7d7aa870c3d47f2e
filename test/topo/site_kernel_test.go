//go:build kernel

package topo

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Sites join their networks with strongSwan at both ends: by a key in aggressive mode with both behind NATs, and by
// certificates with two pairs of networks, which a site that was cut off or has crashed has again.
func TestSites(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	n, err := New(ctx)
	check(err)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	authority, err := NewAuthority(ctx, filepath.Join(n.Dir(), "ca"), "Test Authority", must(NewKey(ctx, filepath.Join(n.Dir(), "ca"), "ca"))(t))
	check(err)
	hqCert, err := authority.Issue(ctx, "hq", CertificateOptions{SANs: []string{"DNS:hq.example.net"}})
	check(err)
	farCert, err := authority.Issue(ctx, "far", CertificateOptions{SANs: []string{"DNS:far.example.net"}, KeyOf: hqCert})
	check(err)

	site := func(nat *NAT, gateway string, own *Certificate, addresses ...string) *Site {
		t.Helper()
		host, err := n.AddHost(ctx, nat)
		check(err)
		var inside []netip.Addr
		for _, a := range addresses {
			inside = append(inside, netip.MustParseAddr(a))
		}
		s, err := n.NewSite(ctx, SiteConfig{Host: host, Gateway: netip.MustParsePrefix(gateway), Addresses: inside, Own: own})
		check(err)
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(s.Logs())
			}
			s.Close()
		})
		return s
	}
	natA, err := n.AddNAT(ctx, KeepPorts)
	check(err)
	natB, err := n.AddNAT(ctx, RandomPorts)
	check(err)
	hq := site(natA, "10.1.0.1/16", hqCert, "10.1.0.2", "10.1.1.2")
	branch := site(natB, "10.2.0.1/24", nil, "10.2.0.2")
	far := site(nil, "10.3.0.1/24", farCert, "10.3.0.2")
	check(natA.ForwardIKE(ctx, hq.Router()))

	plain := IKEConfig{IKE: []string{"aes256-sha2_256-modp2048"}}
	probing := plain
	probing.DPD, probing.RetransmitTries, probing.RetransmitTimeout = 4*time.Second, 2, 3*time.Second
	hq.config.Tunnels = []SiteTunnel{
		{Name: "branch", Peer: "%any", IKEConfig: plain, Aggressive: true, PSK: "open sesame", ID: "@hq", PeerID: "@branch", Networks: []SiteNetwork{{"10.1.0.0/24", "10.2.0.0/24"}}},
		{Name: "far", Peer: far.Router().Address.String(), IKEConfig: probing, Authority: authority, ID: "hq.example.net", PeerID: "far.example.net", OnDead: "restart",
			Networks: []SiteNetwork{{"10.1.0.0/24", "10.3.0.0/24"}, {"10.1.1.0/24", "10.3.0.0/24"}}},
	}
	branch.config.Tunnels = []SiteTunnel{
		{Name: "hq", Peer: natA.Address.String(), IKEConfig: plain, Aggressive: true, PSK: "open sesame", ID: "@branch", PeerID: "@hq", Networks: []SiteNetwork{{"10.2.0.0/24", "10.1.0.0/24"}}},
	}
	far.config.Tunnels = []SiteTunnel{
		{Name: "hq", Peer: "%any", IKEConfig: plain, Authority: authority, ID: "far.example.net", PeerID: "hq.example.net",
			Networks: []SiteNetwork{{"10.3.0.0/24", "10.1.0.0/24"}, {"10.3.0.0/24", "10.1.1.0/24"}}},
	}
	for _, s := range []*Site{hq, branch, far} {
		check(s.Start(ctx))
	}
	up := func(s *Site, tunnel string, want bool) {
		t.Helper()
		for {
			got, err := s.Up(ctx, tunnel)
			if err != nil {
				t.Fatalf("tunnel %s up: %v, want %v: %v", tunnel, got, want, err)
			}
			if got == want {
				return
			}
			time.Sleep(pollFirst)
		}
	}
	reaches := func(from *Host, source, to string) {
		t.Helper()
		r, err := from.Ping(ctx, netip.MustParseAddr(to), PingOptions{Source: netip.MustParseAddr(source)})
		if check(err); r.Lost() > 0 {
			t.Errorf("%s to %s: %d of %d lost", source, to, r.Lost(), r.Sent)
		}
	}
	check(branch.Initiate(ctx, "hq"))
	reaches(branch.Inside, "10.2.0.2", "10.1.0.2")
	reaches(hq.Inside, "10.1.0.2", "10.2.0.2")
	check(hq.Initiate(ctx, "far"))
	up(far, "hq", true)
	reaches(hq.Inside, "10.1.0.2", "10.3.0.2")
	reaches(far.Inside, "10.3.0.2", "10.1.1.2")

	sas, err := far.SAs(ctx, "hq")
	check(err)
	if len(sas) != 1 || len(sas[0].Children) != 2 || sas[0].Initiator || sas[0].PeerID != "hq.example.net" || sas[0].Remote.Addr() != natA.Address {
		t.Fatalf("SAs: %+v", sas)
	}
	for _, c := range sas[0].Children {
		if c.Mode != "TUNNEL" || !c.Encap || c.BytesIn != 3*84 || c.SPIIn == 0 || c.SPIOut == 0 {
			t.Errorf("child: %+v", c)
		}
	}
	// Others take the place of the SAs of both phases.
	replaced := func(what string, newer func(SiteSA) bool) {
		t.Helper()
		for {
			now, err := far.SAs(ctx, "hq")
			if err != nil {
				t.Fatalf("%s: %v: %+v", what, err, now)
			}
			if slices.ContainsFunc(now, newer) {
				return
			}
			time.Sleep(pollFirst)
		}
	}
	check(far.RekeyChild(ctx, "hq", 0))
	replaced("new IPsec SAs", func(sa SiteSA) bool {
		return slices.ContainsFunc(sa.Children, func(c SiteChildSA) bool { return c.Installed && c.ID > 2 })
	})
	check(hq.RekeyIKE(ctx, "far"))
	replaced("a new phase 1 SA", func(sa SiteSA) bool { return sa.Established && sa.ID != sas[0].ID && len(sa.Children) >= 2 })
	reaches(hq.Inside, "10.1.0.2", "10.3.0.2")

	check(far.Cut(ctx))
	up(hq, "far", false)
	check(far.Mend(ctx))
	check(far.Crash(ctx))
	check(far.Start(ctx))
	up(hq, "far", true) // it dials until it has it
	reaches(hq.Inside, "10.1.1.2", "10.3.0.2")
}

// must returns a value, or ends the test.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
