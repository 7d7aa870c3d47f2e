//go:build kernel

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	rad "layeh.com/radius"

	"vrgate/test/faultyradius"
	"vrgate/test/topo"
)

// scripted puts a scripted server on an address of the intranet's host until the test ends.
func (w *world) scripted(address netip.Addr, cfg faultyradius.Config) *faultyradius.Server {
	w.t.Helper()
	cfg.Secret = radiusSecret
	s := faultyradius.New(cfg)
	var running sync.WaitGroup
	w.t.Cleanup(running.Wait) // after the sockets are closed
	for _, port := range []uint16{1812, 1813} {
		var conn *net.UDPConn
		w.check(w.intranet.Namespace.Do(func() (err error) {
			conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, port)))
			return err
		}))
		running.Go(func() { _ = s.Serve(conn) }) // until it is closed
		w.t.Cleanup(func() { _ = conn.Close() })
	}
	return s
}

// TestFaultyServers has subscribers come while the first server lies, mumbles and floods: those with the right
// password are let in by the second, those without by nobody, and all is accounted for.
//
//runner:once
func TestFaultyServers(t *testing.T) {
	t.Parallel()
	w := newOffice(t, false)
	honest := netip.MustParseAddr("10.1.0.3")
	w.check(w.intranet.Namespace.IP(w.ctx, fmt.Sprintf("addr add %v/24 dev %s", honest, w.intranet.Interface)))
	// Whoever it lets in could be told by the address.
	trap := netip.MustParseAddr("10.9.0.66")
	bad := w.scripted(intranetHost, faultyradius.Config{
		Accept: rad.Attributes{{Type: 8, Attribute: trap.AsSlice()}}, Lateness: 5 * time.Second, // Framed-IP-Address
	})
	passwords := map[string]string{}
	for i := range 16 {
		passwords[fmt.Sprint("user", i)] = password
	}
	// Not from the default virtual router: it cannot send anybody elsewhere (R6).
	elsewhere := rad.Attribute("\x00\x00\x13\x0a\x01\x0bnowhere..")
	good := w.scripted(honest, faultyradius.Config{Passwords: passwords, Accept: rad.Attributes{{Type: 26, Attribute: elsewhere}}})
	w.serve(vrConfig{PPP: "authentication: [pap]", Extra: fmt.Sprintf(`radius:
  servers:
    - {name: bad, address: %v, secret: %q, accounting-port: 0, timeout: 4s, retransmissions: 1, dead-time: 1s}
    - {name: good, address: %v, secret: %q, timeout: 10s, retransmissions: 5}
  groups: [{name: both, servers: [bad, good]}]
aaa: {methods: [radius]}`, intranetHost, radiusSecret, honest, radiusSecret)})

	// They come at once: as soon as the bad server has not answered somebody, it is left alone for a while.
	faults := []faultyradius.Fault{
		faultyradius.ForgedAccept, faultyradius.NoMessageAuthenticator, faultyradius.WrongAuthenticator, faultyradius.Garbage,
		faultyradius.WrongMessageAuthenticator, faultyradius.WrongPort, faultyradius.OtherIdentifier, faultyradius.Late,
	}
	bad.Script(faults...)
	var clients []*topo.XAuthClient
	for i := range faults {
		clients = append(clients, w.dynamic(nil, fmt.Sprint("user", i), inSales))
	}
	mallory := w.dynamic(nil, "user9", inSales, func(c *topo.XAuthConfig) { c.Password = "incorrect horse" })
	var all sync.WaitGroup
	all.Go(func() {
		ctx, cancel := context.WithTimeout(w.ctx, patience)
		defer cancel()
		if a, err := mallory.Connect(ctx); err == nil {
			t.Errorf("let in with a wrong password, and given %v", a.Address)
		}
	})
	for i, a := range w.connectDynamic(clients...) {
		if a.Address == trap {
			t.Errorf("client %d was let in by the bad server", i)
		}
	}
	all.Wait()
	pingAll(w.world, clients...)
	if n := bad.Stats().Requests; n < 4 {
		t.Errorf("the bad server was asked %d times only", n)
	}
	for _, s := range w.subscribers() {
		if s.State != "up" || s.TerminatingVR != "office" {
			t.Errorf("%+v", s)
		}
	}
	w.check(w.daemon.Stop(w.ctx))
	starts, stops := map[string]int{}, map[string]int{}
	for _, r := range good.Records() {
		session := string(r.Get(44))
		switch kind := r.Get(40); {
		case len(kind) == 4 && kind[3] == 1:
			starts[session]++
		case len(kind) == 4 && kind[3] == 2:
			stops[session]++
		}
	}
	for _, s := range lines[summary](w.world, "subscriber up") {
		if id := s.Session.String(); starts[id] != 1 || stops[id] != 1 {
			t.Errorf("%s: %d starts and %d stops", s.User, starts[id], stops[id])
		}
	}
	if len(starts) != len(faults) {
		t.Errorf("starts of %d sessions, and %d users were let in", len(starts), len(faults))
	}
}
