//go:build kernel

package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/api"
	"vrgate/test/topo"
)

// TestStaticPeers has strongSwan, and a second vrgate, as peers of static tunnels of every kind: either side begins, in main or
// aggressive mode, by keys or certificates. Then SAs are replaced by either side, tunnels are taken down and changed while others pass
// packets, and the daemon is killed.
func TestStaticPeers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	certs := w.certificates()
	var inFar, inWest []string
	for i := range 11 {
		inFar = append(inFar, fmt.Sprintf("10.2.%d.2", i))
		inWest = append(inWest, fmt.Sprintf("10.3.%d.2", i))
	}
	far, west := w.site(nil, "10.2.0.1/16", certs.far, inFar...), w.site(nil, "10.3.0.1/16", nil, inWest...)
	farAddresses, westAddresses := w.addresses(far, 10), w.addresses(west, 8)
	// A second address of ours, where phase 1 is short.
	brief := netip.MustParseAddr("192.0.2.254")
	w.check(w.server.IP(w.ctx, "addr add "+brief.String()+" dev lo"))
	w.check(w.Internet().IP(w.ctx, fmt.Sprintf("route add %v via %v", brief, w.address)))

	// Another vrgate cannot have the same network behind several interfaces: our host has one address for each of those.
	var more []string
	for i := range 8 {
		more = append(more, fmt.Sprintf("addr add 10.1.%d.2/32 dev lo", 16+i))
	}
	w.check(w.intranet.Namespace.IP(w.ctx, more...))
	w.check(w.server.IP(w.ctx, fmt.Sprintf("route add 10.1.16.0/20 via %v", intranetHost)))

	var toFar, toWest []static
	for i := range 8 {
		x := static{
			Name: fmt.Sprintf("far%d", i), Ours: w.address, Theirs: farAddresses[i], Aggressive: i&2 != 0, RSA: i&4 != 0,
			Networks: []topo.SiteNetwork{{Local: "10.1.0.0/24", Remote: fmt.Sprintf("10.2.%d.0/24", i)}},
		}
		if i&1 != 0 {
			x.Start = "respond"
			// If we are gone strongSwan dials again.
			x.Site = []func(*topo.SiteTunnel){func(t *topo.SiteTunnel) {
				t.DPD, t.OnDead, t.RetransmitTries, t.RetransmitTimeout = 4*time.Second, "restart", 3, 2*time.Second
			}}
		}
		toFar = append(toFar, x)
		x.Name, x.Theirs, x.Networks = fmt.Sprintf("west%d", i), westAddresses[i], []topo.SiteNetwork{{Local: fmt.Sprintf("10.1.%d.0/24", 16+i), Remote: fmt.Sprintf("10.3.%d.0/24", i)}}
		toWest = append(toWest, x)
	}
	// Two pairs of networks, with perfect forward secrecy.
	toFar[0].Networks = append(toFar[0].Networks, topo.SiteNetwork{Local: "10.1.0.0/24", Remote: "10.2.10.0/24"})
	toFar[0].More = []string{"pfs: modp2048"}
	toFar[0].Site = []func(*topo.SiteTunnel){func(t *topo.SiteTunnel) { t.ESP = []string{siteESP + "-modp2048"} }}
	toWest[1].Networks = append(toWest[1].Networks, topo.SiteNetwork{Local: "10.1.17.0/24", Remote: "10.3.10.0/24"})
	// One whose SAs are for us to replace, as strongSwan proposes them: after 45 s, and after 1 MiB.
	for i, kind := range []func(*topo.SiteTunnel){
		func(t *topo.SiteTunnel) { t.NeverRekeys, t.ESPLifetime = true, 45*time.Second },
		func(t *topo.SiteTunnel) { t.NeverRekeys, t.ESPLifetime, t.LifeBytes = true, time.Hour, 1<<20 },
	} {
		toFar = append(toFar, static{
			Name: []string{"timed", "filled"}[i], Ours: []netip.Addr{brief, w.address}[i], Theirs: farAddresses[8+i], Start: "respond",
			Networks: []topo.SiteNetwork{{Local: "10.1.0.0/24", Remote: fmt.Sprintf("10.2.%d.0/24", 8+i)}}, Site: []func(*topo.SiteTunnel){kind},
		})
	}
	all := append(slices.Clone(toFar), toWest...)
	var names []string
	for _, x := range all {
		names = append(names, x.Name)
	}

	config := func(tunnels ...static) vrConfig {
		return vrConfig{
			More: []netip.Addr{brief}, Extra: staticYAML(tunnels...),
			IPsec: strings.Replace(certs.ipsec(certs.own), "ike-policy-rules:\n", fmt.Sprintf("ike-policy-rules:\n  - {priority: 1, encryption: [aes256], hash: [sha256], group: [modp2048], lifetime: 60s, local-address: %v}\n", brief), 1),
		}
	}
	before := w.kernelState()
	var mirrored []static
	for _, x := range toWest {
		mirrored = append(mirrored, x.mirrored())
	}
	there := w.secondVRGate(map[string]string{"west": vrConfig{
		Namespace: west.Router().Namespace.Name(), Address: westAddresses[0], More: westAddresses[1:], IPsec: certs.ipsec(certs.far), Extra: staticYAML(mirrored...),
	}.yaml()})
	w.while(func() { w.runOne(config(all...)) }, w.starts(far, certs.authority, toFar...), func() error { return there.daemon.Start(w.ctx) })
	for _, x := range toFar {
		if x.Start == "respond" {
			w.check(far.Initiate(w.ctx, x.Name))
		}
	}

	w.joined(names...)
	// between are the ways through a tunnel.
	between := func(x static) (ways []way) {
		site := far
		if strings.HasPrefix(x.Name, "west") {
			site = west
		}
		for _, n := range x.Networks {
			ways = append(ways, bothWays(w.intranet, strings.Replace(n.Local, ".0/24", ".2", 1), site.Inside, strings.Replace(n.Remote, ".0/24", ".2", 1))...)
		}
		return ways
	}
	var ways []way
	for _, x := range all {
		ways = append(ways, between(x)...)
	}
	for _, x := range toFar {
		w.upAt(far, x.Name)
	}
	there.joined(names[len(toFar):]...)
	w.reaches(ways...)
	w.truth(far, w.joined(names...), toFar, toWest) // as it is now: on a slow machine some SAs have been replaced meanwhile
	w.mirror(there, names[len(toFar):])

	t.Run("under traffic", func(t *testing.T) {
		w := w.in(t)
		one := func(name string) []way {
			return between(all[slices.IndexFunc(all, func(x static) bool { return x.Name == name })])[:2]
		}
		var pinged []way
		for _, name := range []string{"far0", "far1", "west4", "timed", "filled"} {
			pinged = append(pinged, one(name)...)
		}
		w.under(func() {
			w.rekeyed(far, one("filled")[1])
			w.spoken(one("west0"))
			w.changed(config, all)
		}, pinged...)
	})

	// A crash: nothing is carried on, and everything comes back.
	w.check(w.daemon.Kill())
	w.check(w.daemon.Start(w.ctx))
	comeBack := slices.DeleteFunc(slices.Clone(all), func(x static) bool { return x.Name == "timed" || x.Name == "filled" }) // whose peers do not ask whether we are there
	ways, names = nil, nil
	for _, x := range comeBack {
		ways, names = append(ways, between(x)...), append(names, x.Name)
	}
	w.joined(names...)
	there.joined(names[len(toFar)-2:]...)
	w.reaches(ways...)
	w.check(w.daemon.Stop(w.ctx))
	if after := w.kernelState(); after != before {
		t.Errorf("left after the daemon ended:\n%s\nwas before:\n%s", after, before)
	}
}

// truth compares what vrgate shows with what strongSwan, and the kernel, have.
func (w *world) truth(far *topo.Site, shown map[string]api.Tunnel, toFar, toWest []static) {
	w.t.Helper()
	states, err := w.server.Output(w.ctx, "ip", "xfrm", "state")
	w.check(err)
	for _, x := range append(slices.Clone(toFar), toWest...) {
		s := shown[x.Name]
		auth := map[bool]string{true: "rsa", false: "psk"}[x.RSA]
		if s.VR != "office" || s.TransportVR != "office" || s.Type != "signalled" || s.Mode != "route" || s.LocalAddress != x.Ours || s.RemoteAddress != x.Theirs ||
			s.Authentication != auth || s.Aggressive != x.Aggressive || s.Initiator == (x.Start == "respond") || s.Connection == 0 || s.Interface.Name != x.Name || s.Interface.Index == 0 ||
			len(s.Networks) != len(x.Networks) || s.Ups != 1 || s.Reason != "" || s.KernelReason != "" || s.NATPeer || s.NATLocal || s.UDPEncapsulation {
			w.t.Errorf("%s: vrgate shows %+v", x.Name, s)
		}
		in, out := spis(s)
		for _, spi := range append(in, out...) {
			if !strings.Contains(states, "spi 0x"+spi+" ") {
				w.t.Errorf("%s: the kernel has no SA %s", x.Name, spi)
			}
		}
		if x.Name == "timed" || !slices.ContainsFunc(toFar, func(y static) bool { return y.Name == x.Name }) {
			continue // it may have other SAs by now, or a vrgate at its end
		}
		sas, err := far.SAs(w.ctx, x.Name)
		w.check(err)
		if len(sas) != 1 || sas[0].Initiator == s.Initiator || sas[0].Remote.Addr() != x.Ours || len(sas[0].Children) != len(x.Networks) {
			w.t.Errorf("%s: strongSwan has %+v", x.Name, sas)
			continue
		}
		for _, c := range sas[0].Children {
			if !slices.Contains(out, fmt.Sprintf("%08x", c.SPIIn)) || !slices.Contains(in, fmt.Sprintf("%08x", c.SPIOut)) || c.Mode != "TUNNEL" || c.Encap {
				w.t.Errorf("%s: vrgate shows SPIs %v and %v, strongSwan has %+v", x.Name, in, out, c)
			}
		}
	}
}

// mirror compares what two vrgates show of the same tunnels.
func (w *world) mirror(there *world, names []string) {
	w.t.Helper()
	ours, theirs := w.statics(), there.statics()
	for _, name := range names {
		in, out := spis(ours[name])
		itsIn, itsOut := spis(theirs[name])
		for _, list := range [][]string{in, out, itsIn, itsOut} {
			slices.Sort(list)
		}
		if !slices.Equal(in, itsOut) || !slices.Equal(out, itsIn) || ours[name].Initiator == theirs[name].Initiator {
			w.t.Errorf("%s: one has %v in and %v out, the other %v and %v: %+v, %+v", name, in, out, itsIn, itsOut, ours[name], theirs[name])
		}
	}
}

// rekeyed has SAs of both phases replaced by either side; many goes through the tunnel whose SAs are for 1 MiB.
func (w *world) rekeyed(far *topo.Site, many way) {
	w.t.Helper()
	replaced := func(name, what string, of func(api.Tunnel) []string, do func()) {
		w.t.Helper()
		old := of(w.statics()[name])
		do()
		got := w.is(name, "with "+what, func(t api.Tunnel) bool { return isUp(t) && hasNew(old, of(t)) })
		if got.Ups != 1 {
			w.t.Errorf("%s has come up %d times: %+v", name, got.Ups, got.LastFailure)
		}
	}
	phase1 := func(t api.Tunnel) []string { return []string{fmt.Sprint(t.Phase1Rekeys)} }
	for _, name := range []string{"far0", "far1"} { // we have dialled the one, strongSwan the other
		replaced(name, "SAs of strongSwan's rekeying", allSPIs, func() { w.check(far.RekeyChild(w.ctx, name, 0)) })
		replaced(name, "a new phase 1 SA of strongSwan's", phase1, func() { w.check(far.RekeyIKE(w.ctx, name)) })
		replaced(name, "SAs of strongSwan's under the new phase 1 SA", allSPIs, func() { w.check(far.RekeyChild(w.ctx, name, 0)) })
	}
	// Large packets until there is not much left, and then few enough for the rest to last until the new SAs are there: an SA for
	// as little as 1 MiB is for tests alone.
	send := func(o topo.PingOptions, enough func(api.Tunnel) bool, what string) {
		o.Source, o.Size = many.source, 4000
		p, err := many.from.StartPing(many.to, o)
		w.check(err)
		w.is("filled", what, enough)
		time.Sleep(time.Second)
		r, err := p.Stop()
		if w.check(err); r.Lost() > 0 {
			w.t.Errorf("%d of %d large packets lost:\n%s", r.Lost(), r.Sent, r.Output)
		}
	}
	replaced("filled", "SAs in the place of those that are full", allSPIs, func() {
		send(topo.PingOptions{Interval: 50 * time.Millisecond}, func(t api.Tunnel) bool {
			return t.Networks[0].Outbound[0].RemainingKilobytes < 350
		}, "two thirds full")
		send(topo.PingOptions{}, func(t api.Tunnel) bool { return t.Rekeys > 0 }, "full and with new SAs")
	})
	// The other is older than 45 s by now, or soon is; its phase 1 SA is at most a minute old.
	timed := w.is("timed", "with new SAs of both phases", func(t api.Tunnel) bool { return t.Rekeys > 0 && t.Phase1Rekeys > 0 })
	if timed.Ups != 1 || timed.Initiator {
		w.t.Errorf("timed: %+v", timed)
	}
	w.neverRekeyed(linesOf("timed", far.Logs()))
}

// linesOf returns the lines of a log that are about a connection.
func linesOf(name, log string) string {
	var b strings.Builder
	for line := range strings.Lines(log) {
		if strings.Contains(line, name) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// spoken has an operator take a tunnel down that the peer dials, and up again.
func (w *world) spoken(ways []way) {
	w.t.Helper()
	const name = "west0" // which we dial
	w.tell("down", name)
	down := w.is(name, "taken down", func(t api.Tunnel) bool { return t.State == "admin-down" })
	if in, out := spis(down); len(in)+len(out) > 0 || down.Reason != "operator" && down.Reason != "admin-down" {
		w.t.Errorf("a tunnel that is down: %+v", down)
	}
	w.tell("up", name)
	w.joined(name)
	w.tell("now", name) // has nothing to do, and says so by no error
	w.reaches(ways...)
	if _, err := w.daemon.Run(w.ctx, "tunnel", "down", "far33"); err == nil || !strings.Contains(err.Error(), "far3") {
		w.t.Errorf("a tunnel that there is not: %v", err)
	}
}

// changed changes one tunnel by a reload, which ends and comes back; no other does.
func (w *world) changed(config func(...static) vrConfig, tunnels []static) {
	w.t.Helper()
	was := w.statics()
	tunnels = slices.Clone(tunnels)
	i := slices.IndexFunc(tunnels, func(x static) bool { return x.Name == "far2" })
	tunnels[i].More = []string{"lifetime: 1h"}
	w.take(config(tunnels...))
	w.is("far2", "changed and up again", func(t api.Tunnel) bool {
		return isUp(t) && t.LifetimeSeconds == 3600 && t.Connection != was["far2"].Connection
	})
	for name, now := range w.statics() {
		if name != "far2" && now.Connection != was[name].Connection {
			w.t.Errorf("%s: connection %d has become %d by a change of another tunnel: %+v", name, was[name].Connection, now.Connection, now.LastFailure)
		}
	}
}
