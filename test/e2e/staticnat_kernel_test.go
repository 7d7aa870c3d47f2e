//go:build kernel

package e2e

import (
	"net/netip"
	"testing"

	"vrgate/controlplane/api"
	"vrgate/test/topo"
)

// TestStaticNAT has NATs between the ends of static tunnels: before a peer whose address nobody knows, which is told by its
// identity or its certificate; before a virtual router, which dials and is dialled through forwarded ports; and before both.
func TestStaticNAT(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	certs := w.certificates()
	ours, err := w.AddNAT(w.ctx, topo.KeepPorts)
	w.check(err)
	theirs, err := w.AddNAT(w.ctx, topo.RandomPorts)
	w.check(err)
	// The virtual router "home" is behind a NAT, in the same process.
	home := w.site(ours, "10.4.0.1/24", nil, "10.4.0.2")
	w.check(ours.ForwardIKE(w.ctx, home.Router()))
	branch := w.site(theirs, "10.2.0.1/16", certs.far, "10.2.0.2", "10.2.1.2", "10.2.2.2", "10.2.3.2", "10.2.4.2")
	far := w.site(nil, "10.3.0.1/16", certs.far, "10.3.0.2", "10.3.1.2", "10.3.2.2")
	farAddresses := w.addresses(far, 3)

	inside := branch.Router().Address
	network := func(local, remote string) []topo.SiteNetwork {
		return []topo.SiteNetwork{{Local: local, Remote: remote}}
	}
	public := func(x static) static { x.Ours = w.address; return x }
	hidden := func(x static) static { x.Ours, x.Public, x.Named = home.Router().Address, ours.Address, true; return x }
	behind := func(x static) static { x.Theirs, x.Dynamic, x.Start = inside, true, "respond"; return x }
	office := []static{
		public(behind(static{Name: "natpsk", Aggressive: true, Networks: network("10.1.0.0/24", "10.2.1.0/24")})),
		public(behind(static{Name: "natrsa", RSA: true, Identity: branchName, Networks: network("10.1.0.0/24", "10.2.2.0/24")})),
	}
	both := []static{
		hidden(behind(static{Name: "bothpsk", Aggressive: true, Networks: network("10.4.0.0/24", "10.2.3.0/24")})),
		hidden(behind(static{Name: "bothrsa", RSA: true, Identity: branchName, Networks: network("10.4.0.0/24", "10.2.4.0/24")})),
	}
	direct := []static{
		hidden(static{Name: "outpsk", Theirs: farAddresses[0], Networks: network("10.4.0.0/24", "10.3.1.0/24")}),
		hidden(static{Name: "inpsk", Theirs: farAddresses[1], Start: "respond", Networks: network("10.4.0.0/24", "10.3.2.0/24")}),
		hidden(static{Name: "outrsa", Theirs: farAddresses[2], RSA: true, Aggressive: true, Networks: network("10.4.0.0/24", "10.3.0.0/24")}),
	}
	w.while(func() {
		w.run(map[string]string{
			"office": vrConfig{Namespace: w.server.Name(), Address: w.address, IPsec: certs.ipsec(certs.own), Extra: staticYAML(office...)}.yaml(),
			"home":   vrConfig{Namespace: home.Router().Namespace.Name(), Address: home.Router().Address, IPsec: certs.ipsec(certs.own), Extra: staticYAML(append(both, direct...)...)}.yaml(),
		})
	}, w.starts(branch, certs.authority, append(office, both...)...), w.starts(far, certs.authority, direct...))
	for _, x := range append(office, both...) {
		w.check(branch.Initiate(w.ctx, x.Name))
	}
	w.check(far.Initiate(w.ctx, "inpsk"))

	shown := w.joined("natpsk", "natrsa", "bothpsk", "bothrsa", "outpsk", "inpsk", "outrsa")
	w.upAt(far, "outpsk", "outrsa")
	var ways []way
	for _, x := range []struct {
		ours   *topo.Host
		a      string
		theirs *topo.Host
		b      string
	}{
		{w.intranet, "10.1.0.2", branch.Inside, "10.2.1.2"}, {w.intranet, "10.1.0.2", branch.Inside, "10.2.2.2"},
		{home.Inside, "10.4.0.2", branch.Inside, "10.2.3.2"}, {home.Inside, "10.4.0.2", branch.Inside, "10.2.4.2"},
		{home.Inside, "10.4.0.2", far.Inside, "10.3.1.2"}, {home.Inside, "10.4.0.2", far.Inside, "10.3.2.2"}, {home.Inside, "10.4.0.2", far.Inside, "10.3.0.2"},
	} {
		ways = append(ways, bothWays(x.ours, x.a, x.theirs, x.b)...)
	}
	w.reaches(ways...)

	type nats struct {
		peer, local, encapsulated bool
		remote                    netip.Addr
	}
	for name, want := range map[string]nats{
		"natpsk": {true, false, true, theirs.Address}, "natrsa": {true, false, true, theirs.Address},
		"bothpsk": {true, true, true, theirs.Address}, "bothrsa": {true, true, true, theirs.Address},
		"outpsk": {false, true, true, farAddresses[0]}, "inpsk": {false, true, true, farAddresses[1]}, "outrsa": {false, true, true, farAddresses[2]},
	} {
		s := shown[name]
		if got := (nats{s.NATPeer, s.NATLocal, s.UDPEncapsulation, s.RemoteAddress}); got != want {
			t.Errorf("%s: %+v, want %+v: %+v", name, got, want, s)
		}
	}

	// SAs of both phases are replaced through the NATs, and a NAT forgets its mappings: the peer comes from another port then.
	w.under(func() {
		for _, name := range []string{"natpsk", "bothrsa"} {
			old := allSPIs(w.statics()[name])
			w.check(branch.RekeyChild(w.ctx, name, 0))
			w.is(name, "with new SAs", func(t api.Tunnel) bool { return isUp(t) && hasNew(old, allSPIs(t)) })
			w.check(branch.RekeyIKE(w.ctx, name))
			w.is(name, "with a new phase 1 SA", func(t api.Tunnel) bool { return isUp(t) && t.Phase1Rekeys > 0 })
		}
	}, ways[0], ways[1], ways[6], ways[7])
	w.check(theirs.Rebind(w.ctx))
	// What comes from inside the NAT tells us where the peer is now.
	w.eventually("the tunnels have moved", func() bool {
		r, err := branch.Inside.Ping(w.ctx, intranetHost, topo.PingOptions{Source: netip.MustParseAddr("10.2.1.2"), Count: 2})
		w.check(err)
		return r.Lost() == 0
	})
	w.reaches(ways[:2]...)
}
