//go:build kernel

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"vrgate/controlplane/api"
	"vrgate/test/topo"
)

// TestStaticPaths has ways between the ends of static tunnels on which much goes wrong. The internet loses every IP fragment, and proofs
// with chains of certificates are three datagrams long: they pass in fragments of IKE's own, or the operator is told. A second vrgate is
// behind a NAT, and we before it or behind another. And a peer has a name that there is not at first, and whose first address is dead.
func TestStaticPaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	certs := w.longCertificates()
	names, err := w.NewNames(w.ctx)
	w.check(err)
	ours, err := w.AddNAT(w.ctx, topo.KeepPorts)
	w.check(err)
	theirs, err := w.AddNAT(w.ctx, topo.RandomPorts)
	w.check(err)
	// The virtual router "home" is behind a NAT, in our process; "west", of another, behind another.
	home := w.site(ours, "10.4.0.1/16", nil, "10.4.0.2", "10.4.1.2")
	west := w.site(theirs, "10.3.0.1/16", nil, "10.3.0.2", "10.3.1.2", "10.3.2.2")
	w.check(ours.ForwardIKE(w.ctx, home.Router()))
	w.check(theirs.ForwardIKE(w.ctx, west.Router()))
	inFar := []string{"10.2.0.2"}
	for i := range 6 {
		inFar = append(inFar, fmt.Sprintf("10.2.%d.2", i+1))
	}
	far := w.site(nil, "10.2.0.1/16", certs.far, inFar...)
	farAddresses := w.addresses(far, 7)
	w.check(w.LoseFragments(w.ctx))

	kinds := []struct {
		name, fragmentation string // strongSwan's
		start               string // ours
		aggressive          bool
	}{
		{"dialyes", "yes", "nailed-up", false}, {"callyes", "yes", "respond", false},
		{"dialforce", "force", "nailed-up", true}, {"callforce", "force", "respond", true},
		{"dialno", "no", "nailed-up", false}, {"callno", "no", "respond", false},
	}
	var toFar []static
	for i, k := range kinds {
		toFar = append(toFar, static{
			Name: k.name, Ours: w.address, Theirs: farAddresses[i], Start: k.start, Aggressive: k.aggressive, RSA: true,
			Networks: []topo.SiteNetwork{{Local: "10.1.0.0/24", Remote: fmt.Sprintf("10.2.%d.0/24", i)}},
			Site: []func(*topo.SiteTunnel){func(t *topo.SiteTunnel) {
				// It gives up soon, whichever tunnel it is: it has one setting for all.
				t.Connection, t.RetransmitTries, t.RetransmitTimeout = []string{"fragmentation = " + k.fragmentation}, 2, 2*time.Second
			}},
		})
	}
	const name = "late.example.net"
	named := static{
		Name: "named", Ours: w.address, Theirs: farAddresses[6], Dynamic: true, More: []string{"peers: [" + name + "]"}, // which is its address
		Networks: []topo.SiteNetwork{{Local: "10.1.0.0/24", Remote: "10.2.6.0/24"}},
	}
	network := func(local, remote string) []topo.SiteNetwork {
		return []topo.SiteNetwork{{Local: local, Remote: remote}}
	}
	inside := west.Router().Address
	office := []static{{Name: "natrsa", Ours: w.address, Theirs: inside, Dynamic: true, Start: "respond", RSA: true, Identity: branchName, Networks: network("10.1.0.0/24", "10.3.0.0/24")}}
	both := []static{
		{Name: "bothpsk", Ours: home.Router().Address, Public: ours.Address, Theirs: inside, Dynamic: true, Start: "respond", Aggressive: true, Networks: network("10.4.0.0/24", "10.3.1.0/24")},
		{Name: "bothrsa", Ours: home.Router().Address, Public: ours.Address, Theirs: inside, Peer: theirs.Address, RSA: true, Networks: network("10.4.1.0/24", "10.3.2.0/24")},
	}
	var mirrored []static
	for _, x := range append(office, both...) {
		m := x.mirrored()
		m.Dynamic, m.Peer = false, x.Public // each of ours has an address that is known, be it the NAT's
		mirrored = append(mirrored, m)
	}
	there := w.secondVRGate(map[string]string{"west": vrConfig{
		Namespace: west.Router().Namespace.Name(), Address: inside, IPsec: certs.ipsec(certs.far), Extra: staticYAML(mirrored...),
	}.yaml()})
	w.while(func() {
		w.run(map[string]string{
			"office": vrConfig{
				Namespace: w.server.Name(), Address: w.address, IPsec: certs.ipsec(certs.own),
				Extra: fmt.Sprintf("name-servers: [%v]\n", names.Address) + staticYAML(append(append(toFar, named), office...)...),
			}.yaml(),
			"home": vrConfig{Namespace: home.Router().Namespace.Name(), Address: home.Router().Address, IPsec: certs.ipsec(certs.own), Extra: staticYAML(both...)}.yaml(),
		})
	}, w.starts(far, certs.authority, append(toFar, named)...), func() error { return there.daemon.Start(w.ctx) })
	var calling sync.WaitGroup
	calling.Go(func() {
		if err := far.Initiate(w.ctx, "callno"); err == nil {
			t.Error("callno has come up")
		}
	})
	defer calling.Wait()
	w.check(far.Initiate(w.ctx, "callyes"))
	w.check(far.Initiate(w.ctx, "callforce"))
	w.is("named", "without an address", func(x api.Tunnel) bool { return x.Failures["name-not-found"] > 0 && x.Reason == "name-not-found" })
	dead := netip.MustParseAddr("192.0.2.250")
	names.Set(name, dead, farAddresses[6])

	shown := w.joined("dialyes", "callyes", "dialforce", "callforce", "natrsa", "bothpsk", "bothrsa")
	there.joined("natrsa", "bothpsk", "bothrsa")
	w.upAt(far, "dialyes", "callyes", "dialforce", "callforce")
	ways := bothWays(home.Inside, "10.4.0.2", west.Inside, "10.3.1.2")
	ways = append(ways, bothWays(home.Inside, "10.4.1.2", west.Inside, "10.3.2.2")...)
	ways = append(ways, bothWays(w.intranet, "10.1.0.2", west.Inside, "10.3.0.2")...)
	for _, a := range inFar[:4] {
		ways = append(ways, bothWays(w.intranet, "10.1.0.2", far.Inside, a)...)
	}
	w.reaches(ways...)
	for i, k := range kinds[:4] {
		if s := shown[k.name]; s.Aggressive != k.aggressive || s.Initiator != (k.start != "respond") || s.Authentication != "rsa" || s.Ups != 1 {
			t.Errorf("%s: %+v", k.name, s)
		}
		// The largest packet that the tunnel's interface takes is still no fragment outside.
		large := topo.PingOptions{Source: intranetHost, Size: shown[k.name].Interface.MTU - 28, DontFragment: true, Count: 2}
		if r, err := w.intranet.Ping(w.ctx, netip.MustParseAddr(inFar[i]), large); err != nil || r.Lost() > 0 {
			t.Errorf("%s: %d of %d packets of %d bytes lost, %v", k.name, r.Lost(), r.Sent, large.Size, err)
		}
	}
	for _, words := range []string{"splitting IKE message", "into 3 fragments", "received fragment #3"} {
		if !strings.Contains(far.Logs(), words) {
			t.Errorf("strongSwan does not say %q", words)
		}
	}
	w.mirror(there, []string{"natrsa", "bothpsk", "bothrsa"})
	type nats struct {
		peer, local, encapsulated bool
		remote                    netip.Addr
	}
	for name, want := range map[string]nats{
		"natrsa": {true, false, true, theirs.Address}, "bothpsk": {true, true, true, theirs.Address}, "bothrsa": {true, true, true, theirs.Address},
	} {
		s := shown[name]
		if got := (nats{s.NATPeer, s.NATLocal, s.UDPEncapsulation, s.RemoteAddress}); got != want {
			t.Errorf("%s: %+v, want %+v: %+v", name, got, want, s)
		}
	}
	// A peer without fragmentation gets nothing through, and we say why nothing of ours does.
	calling.Wait()
	refused := w.is("dialno", "without an answer", func(x api.Tunnel) bool { return x.Failures["no-answer"] > 0 })
	if last := refused.LastFailure; last.Reason != "no-answer" || !strings.Contains(last.Text, "message 5") || !strings.Contains(last.Text, "fragments") {
		t.Errorf("why dialno is down: %+v", last)
	}
	if s := w.statics()["callno"]; s.State != "down" || s.Reason != "awaits-peer" || s.Ups != 0 {
		t.Errorf("callno: %+v", s)
	}
	lost, err := w.LostFragments(w.ctx)
	w.check(err)
	for _, path := range []topo.Path{{From: w.address, To: farAddresses[4]}, {From: farAddresses[5], To: w.address}} {
		if lost[path] < 2 {
			t.Errorf("from %v to %v %d IP fragments have been lost", path.From, path.To, lost[path])
		}
		delete(lost, path)
	}
	if len(lost) > 0 {
		t.Errorf("IP fragments have been lost where there need not be any: %v", lost)
	}

	// Meanwhile the name has been found, and its first address tried in vain.
	s := w.is("named", "up with the second address of its peer's name", func(x api.Tunnel) bool { return isUp(x) && x.RemoteAddress == farAddresses[6] })
	if s.Failures["no-answer"] == 0 || s.Ups != 1 {
		t.Errorf("named: %+v", s)
	}
	w.reaches(bothWays(w.intranet, "10.1.0.2", far.Inside, "10.2.6.2")...)
}

// longCertificates are certificates that do not fit into two datagrams: there is an authority between the root and them, and each
// has many names.
func (w *world) longCertificates() certificates {
	w.t.Helper()
	c := certificates{authority: w.newAuthority("Example Root")}
	sites, err := c.authority.Subordinate(w.ctx, "Example Authority of Sites")
	w.check(err)
	issue := func(keyOf *topo.Certificate, name string, more ...string) *topo.Certificate {
		options := topo.CertificateOptions{SANs: append(more, "DNS:"+name), KeyOf: keyOf}
		for i := range 30 {
			options.SANs = append(options.SANs, fmt.Sprintf("DNS:another-name-%d.%s", i, name))
		}
		cert, err := sites.Issue(w.ctx, name, options)
		w.check(err)
		return cert
	}
	c.own = issue(nil, gateName)
	c.far = issue(c.own, farName, "DNS:"+branchName)
	return c
}
