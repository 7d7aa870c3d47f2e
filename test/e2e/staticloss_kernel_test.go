//go:build kernel

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/api"
	"vrgate/test/topo"
)

// TestStaticLosses takes the peers of static tunnels away. A tunnel with a dead peer says so, and is back after the peer; one with a
// backup peer goes on with that, and goes back; one whose connectivity check fails does the same; and one whose peer has a name follows it.
func TestStaticLosses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	names, err := w.NewNames(w.ctx)
	w.check(err)
	// The same network is behind both sites: who answers is told by the counters of the hosts.
	inside := []string{"10.2.0.2", "10.2.1.2", "10.2.2.2", "10.2.3.2", "10.2.4.2"}
	primary, backup := w.site(nil, "10.2.0.1/16", nil, inside...), w.site(nil, "10.2.0.1/16", nil, inside...)
	p, b := w.addresses(primary, 4), w.addresses(backup, 4)
	const name = "hq.example.net"
	names.Set(name, p[3])

	peers := func(list ...string) []string { return []string{"peers: [" + strings.Join(list, ", ") + "]"} }
	tunnels := []static{
		{Name: "lost", More: peers(p[0].String())},
		{Name: "backed", More: append(peers(p[1].String(), b[1].String()), "fall-back: 10s")},
		{Name: "checked", More: append(peers(p[2].String(), b[2].String()), "fall-back: 10s", "check: {target: 10.2.3.2, source: 10.1.0.1, period: 2s, timeout: 2s, tolerance: 2}")},
		{Name: "named", More: peers(name)},
	}
	at := func(list []netip.Addr) []static {
		out := append([]static(nil), tunnels...)
		for i := range out {
			out[i].Theirs = list[i]
		}
		return out
	}
	for i := range tunnels {
		tunnels[i].Ours, tunnels[i].Dynamic = w.address, true // peers are given above
		tunnels[i].Networks = []topo.SiteNetwork{{Local: "10.1.0.0/24", Remote: fmt.Sprintf("10.2.%d.0/24", i+1)}}
	}
	// The primary peer is there first: who does not find it begins with the backup.
	begins := w.starts(primary, nil, at(p)...)
	w.while(func() {
		w.check(begins())
		w.runOne(vrConfig{IPsec: siteIPsec, Extra: fmt.Sprintf("name-servers: [%v]\n", names.Address) + staticYAML(tunnels...)})
	}, w.starts(backup, nil, at(b)...))
	with := func(a netip.Addr) func(api.Tunnel) bool {
		return func(t api.Tunnel) bool { return isUp(t) && t.RemoteAddress == a }
	}
	to := func(i int) way { return way{from: w.intranet, to: netip.MustParseAddr(inside[i])} }
	answers := func(s *topo.Site, ways ...way) {
		t.Helper()
		other := primary
		if s == primary {
			other = backup
		}
		was := w.echoes(other.Inside)
		w.reaches(ways...)
		if now := w.echoes(other.Inside); now != was {
			t.Errorf("the other site has answered %d packets", now-was)
		}
	}
	for i, x := range tunnels {
		w.is(x.Name, "up with its primary peer", with(p[i]))
	}
	w.upAt(primary, "lost", "backed", "checked", "named")
	if n := w.echoes(backup.Inside); n != 0 {
		t.Errorf("%d packets have come to the backup", n)
	}
	w.reaches(to(1), to(2), to(4))
	w.is("checked", "checked with success", func(x api.Tunnel) bool { return x.Check.OK && x.Check.RTTSeconds > 0 })

	// What the check asks for vanishes behind the primary peer, and comes back.
	w.check(primary.Inside.Namespace.IP(w.ctx, "addr del 10.2.3.2/16 dev "+primary.Inside.Interface))
	failed := w.is("checked", "up with its backup after failed checks", with(b[2]))
	if failed.Failures["check-failed"] == 0 || failed.FallOvers == 0 || failed.Check.Lost < 2 {
		t.Errorf("after failed checks: %+v", failed)
	}
	w.check(primary.Inside.Namespace.IP(w.ctx, "addr add 10.2.3.2/16 dev "+primary.Inside.Interface))
	w.is("checked", "back with its primary peer", func(x api.Tunnel) bool { return with(p[2])(x) && x.Check.OK && x.FallBacks > 0 })

	// The primary peer dies, and its name gets another address.
	names.Set(name, b[3])
	w.check(primary.Crash(w.ctx))
	w.is("lost", "down for its dead peer", func(x api.Tunnel) bool { return !isUp(x) && x.Failures["peer-dead"] == 1 && x.Reason != "" })
	w.is("backed", "up with its backup", func(x api.Tunnel) bool { return with(b[1])(x) && x.FallOvers == 1 && x.Failures["peer-dead"] == 1 })
	w.is("checked", "up with its backup", with(b[2]))
	w.is("named", "up with the new address of its peer's name", with(b[3]))
	answers(backup, to(2), to(3), to(4))
	if r, err := w.intranet.Ping(w.ctx, netip.MustParseAddr(inside[1]), topo.PingOptions{Count: 2, Wait: time.Second}); err == nil && r.Received > 0 {
		t.Errorf("through a tunnel that is down %d packets have been answered", r.Received)
	}
	if l := w.logLine("static tunnel down", map[string]string{"tunnel": "lost", "reason": "peer-dead"}); l == nil {
		t.Error("no line of the log says that the tunnel has lost its peer")
	}
	metrics, err := w.daemon.Metrics(w.ctx)
	w.check(err)
	for _, want := range []string{`vrgate_tunnel_up{tunnel="lost",vr="office"} 0`, `vrgate_tunnel_up{tunnel="backed",vr="office"} 1`, `vrgate_tunnel_failures_total{reason="peer-dead",tunnel="lost",vr="office"} 1`} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("the metrics do not say %s", want)
		}
	}

	// It comes back, and its tunnels with it; who goes back to it does so without a gap.
	ping, err := w.intranet.StartPing(to(2).to, topo.PingOptions{Interval: 100 * time.Millisecond})
	w.check(err)
	w.check(primary.Start(w.ctx))
	w.joined("lost")
	w.is("backed", "back with its primary peer", func(x api.Tunnel) bool { return with(p[1])(x) && x.FallBacks == 1 })
	w.is("checked", "back with its primary peer", with(p[2]))
	time.Sleep(1500 * time.Millisecond)
	if r, err := ping.Stop(); err != nil || r.Lost() > 0 || r.Sent < 10 {
		t.Errorf("while it went back %d of %d packets were lost, %v:\n%s", r.Lost(), r.Sent, err, r.Output)
	}
	w.upAt(primary, "lost", "backed", "checked")
	answers(primary, to(1), to(2), to(3))
	was := w.echoes(backup.Inside)
	if w.reaches(to(4)); w.echoes(backup.Inside) < was+3 {
		t.Error("the host behind the new address has not answered")
	}
	if n := names.Asked(name); n < 2 || n > 50 {
		t.Errorf("the name server was asked %d times", n)
	}
}
