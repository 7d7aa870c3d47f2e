//go:build kernel

package e2e

import (
	"net/netip"
	"testing"

	"vrgate/test/topo"
)

// vrfWorld is one namespace with VRF devices; the first has the uplink.
func vrfWorld(t *testing.T, devices ...string) *world {
	t.Helper()
	w := newNet(t)
	var err error
	w.server, err = w.Namespace(w.ctx, "srv")
	w.check(err)
	w.check(w.server.Forward())
	for i, d := range devices {
		w.check(w.server.IP(w.ctx, "link add "+d+" type vrf table "+[]string{"101", "102"}[i], "link set "+d+" up"))
	}
	uplink, err := w.Uplink(w.ctx, w.server, "wan0", devices[0])
	w.check(err)
	w.address = uplink.Address
	return w
}

func (w *world) lan(vrf string) {
	w.t.Helper()
	var err error
	w.intranet, err = w.AddIntranet(w.ctx, w.server, topo.Intranet{
		Interface: "lan0", Gateway: netip.MustParsePrefix("10.1.0.1/24"), Host: intranetHost, VRF: vrf,
	})
	w.check(err)
}

// TestVRF serves a virtual router that is a VRF device, for two clients behind one NAT.
func TestVRF(t *testing.T) {
	t.Parallel()
	w := vrfWorld(t, "red")
	w.lan("red")
	before := w.kernelState()
	w.run(map[string]string{"office": vrConfig{Namespace: w.server.Name(), VRF: "device: red, table: 101", Address: w.address}.yaml()})
	twoBehindNAT(w)
	w.check(w.daemon.Stop(w.ctx))
	if after := w.kernelState(); after != before {
		t.Errorf("left after the daemon ended:\n%s\nwas before:\n%s", after, before)
	}
}

// TestOtherVRF terminates subscribers in another VRF than the one they came to.
func TestOtherVRF(t *testing.T) {
	t.Parallel()
	w := vrfWorld(t, "red", "blue")
	w.lan("blue")
	before := w.kernelState()
	w.run(map[string]string{
		"transport": vrConfig{
			Namespace: w.server.Name(), VRF: "device: red, table: 101", Address: w.address, Profile: "virtual-router: tenant", NoPool: true,
		}.yaml(),
		"tenant": vrConfig{Namespace: w.server.Name(), VRF: "device: blue, table: 102"}.yaml(),
	})
	twoBehindNAT(w)
	for _, s := range w.subscribers() {
		if s.VR != "transport" || s.TerminatingVR != "tenant" {
			t.Errorf("subscriber in %s, terminating in %s", s.VR, s.TerminatingVR)
		}
	}
	w.check(w.daemon.Stop(w.ctx))
	if after := w.kernelState(); after != before {
		t.Errorf("left after the daemon ended:\n%s\nwas before:\n%s", after, before)
	}
}

func twoBehindNAT(w *world) {
	w.t.Helper()
	nat, err := w.AddNAT(w.ctx, topo.KeepPorts)
	w.check(err)
	a, b := w.client(nat, "user0"), w.client(nat, "user1")
	w.connectAll(a, b)
	pingAll(w, a, b)
}

// TestOverlappingTenants serves two virtual routers with the same inside addresses at once:
// same gateway, same pool, same intranet, same user names.
func TestOverlappingTenants(t *testing.T) {
	t.Parallel()
	w := newNet(t)
	routers := map[string]string{}
	var clients []*topo.Client
	var hosts []*topo.Host
	var addresses []netip.Addr
	for _, name := range []string{"one", "two"} {
		ns, uplink, err := w.Server(w.ctx, name)
		w.check(err)
		h, err := w.AddIntranet(w.ctx, ns, topo.Intranet{Interface: "lan0", Gateway: netip.MustParsePrefix("10.1.0.1/24"), Host: intranetHost})
		w.check(err)
		hosts, addresses = append(hosts, h), append(addresses, uplink.Address)
		routers[name] = vrConfig{Namespace: ns.Name(), Address: uplink.Address}.yaml()
	}
	w.run(routers)
	for i := range addresses {
		clients = append(clients, w.client(nil, "user0", func(c *topo.ClientConfig) { c.Server = addresses[i] }))
	}
	w.connectAll(clients...)
	subs := w.subscribers()
	if len(subs) != 2 || subs[0].Address != subs[1].Address || subs[0].VR == subs[1].VR {
		t.Fatalf("subscribers: %+v", subs)
	}
	// Each reaches the intranet of its own tenant: with the other one's cut, only it goes on.
	pingAll(w, clients...)
	w.check(hosts[1].Namespace.IP(w.ctx, "link set "+hosts[1].Interface+" down"))
	w.ping(clients[0], topo.PingOptions{Count: 5})
	if r, err := clients[1].Ping(w.ctx, intranetHost, topo.PingOptions{Count: 2}); err == nil && r.Received > 0 {
		t.Error("the second tenant's client reached the first tenant's intranet")
	}
}
