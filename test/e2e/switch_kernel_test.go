//go:build kernel

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"vrgate/controlplane/api"
	"vrgate/test/daemon"
	"vrgate/test/topo"
)

// Secrets of the tunnels to other LNSs. xl2tpd takes none with a blank.
const (
	farSecret   = "the secret of the far LNS"
	stockSecret = "old-LNS-secret"
)

// Where sessions end that are handed on: behind the second vrgate, and at xl2tpd's own address.
var (
	farNet   = netip.MustParsePrefix("10.3.0.0/24")
	farHost  = netip.MustParseAddr("10.3.0.2")
	farPool  = netip.MustParsePrefix("10.9.7.0/24")
	stockPPP = netip.MustParseAddr("10.4.0.1")
)

// switching is a vrgate that hands sessions on to a second one and to xl2tpd.
type switching struct {
	*world
	far   *world // the second vrgate
	stock *topo.LNS
	free  *topo.FreeRADIUS

	stockServer *topo.Namespace
	stockAddr   netip.Addr
	silent      netip.Addr // takes no calls
	before      [2]string  // kernel's state, ours and the second one's
}

func newSwitching(t *testing.T) *switching {
	w := &switching{world: newWorld(t)}
	far := *w.world
	w.far = &far
	server, uplink, err := w.Server(w.ctx, "far")
	w.check(err)
	far.server, far.address = server, uplink.Address
	far.intranet, err = w.AddIntranet(w.ctx, server, topo.Intranet{Interface: "lan0", Gateway: netip.MustParsePrefix("10.3.0.1/24"), Host: farHost})
	w.check(err)

	w.stockServer, uplink, err = w.Server(w.ctx, "stock")
	w.check(err)
	w.stockAddr = uplink.Address
	w.stock, err = w.NewLNS(w.ctx, topo.LNSConfig{
		Namespace: w.stockServer, Listen: w.stockAddr, Secret: stockSecret, Users: map[string]string{"rudi@served.example": password},
		Local: stockPPP, First: netip.MustParseAddr("10.4.0.10"), Last: netip.MustParseAddr("10.4.0.20"),
	})
	w.check(err)
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("xl2tpd as LNS:\n%s", w.stock.Logs())
		}
	})
	host, err := w.AddHost(w.ctx, nil)
	w.check(err)
	w.check(host.Namespace.NFT(w.ctx, "table ip silent { chain in { type filter hook input priority 0; udp dport 1701 drop; }; }"))
	w.silent = host.Address

	w.free = w.freeRADIUS(topo.FreeRADIUSConfig{Users: fmt.Sprintf(`rudi@served.example Cleartext-Password := %q
	Tunnel-Type:1 = L2TP,
	Tunnel-Medium-Type:1 = IPv4,
	Tunnel-Server-Endpoint:1 = "%v",
	Tunnel-Password:1 = %q,
	Tunnel-Client-Auth-Id:1 = "gateway"
`, password, w.stockAddr, stockSecret)})
	w.startFar()
	w.runOne(vrConfig{
		L2TP: "tunnel-switching: true\nidle-timeout: 3s\nretransmissions-not-established: 2\nlns-lockout: 60s", NoPool: true,
		Users: fmt.Sprintf("  - {name: dora@far.example, password: %q}\n  - {name: resi@reserve.example, password: %[1]q}", password),
		Extra: radiusKeys("", fmt.Sprintf(`methods: [local]
domain-maps:
  - domain: far.example
    tunnel-servers: [{address: %v, tunnel-password: %q, remote-host: far, local-host: gateway}]
  - domain: reserve.example
    tunnel-servers:
      - {address: %v, tunnel-password: %[2]q, preference: 1}
      - {address: %[1]v, tunnel-password: %[2]q, preference: 2}
  - {domain: served.example, methods: [radius]}`, far.address, farSecret, w.silent)),
	})
	w.before = [2]string{w.kernelState(), far.kernelState()}
	return w
}

// startFar starts the second vrgate. It believes our name and password of the client where we are the LAC "office".
func (w *switching) startFar() {
	w.t.Helper()
	far := w.far
	c := vrConfig{
		Namespace: far.server.Name(), Address: far.address, Pool: "10.9.7.10-10.9.7.99", Extra: "aaa: {methods: [local]}",
		Host:  fmt.Sprintf("ipsec-required: false\n          tunnel-password: %q\n          proxy-authentication: true", farSecret),
		Hosts: []string{fmt.Sprintf("{remote-host: gateway, ipsec-required: false, tunnel-password: %q}", farSecret)},
		L2TP:  "idle-timeout: 3s",
		Users: fmt.Sprintf("  - {name: dora@far.example, password: %q}\n  - {name: resi@reserve.example, password: %[1]q}", password),
	}
	d, err := daemon.New(filepath.Join(w.Dir(), "far"), map[string]string{"far": c.yaml()})
	w.check(err)
	far.daemon = d
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("the second vrgate:\n%s", d.Log())
		}
		if err := d.Kill(); err != nil {
			w.t.Error(err)
		}
	})
	w.check(d.Start(w.ctx))
}

// of returns the one subscriber of a user.
func (w *world) of(user string) (api.Subscriber, bool) {
	w.t.Helper()
	list := w.subscribers()
	i := slices.IndexFunc(list, func(s api.Subscriber) bool { return s.User == user && s.State == "up" })
	if i < 0 {
		return api.Subscriber{}, false
	}
	return list[i], true
}

// handedOn looks at what we show of a session, and returns it. Its client has an address of the LNS, and none of ours.
func (w *switching) handedOn(user string, lns netip.Addr) api.Subscriber {
	w.t.Helper()
	s, ok := w.of(user)
	if !ok || s.Address.IsValid() || s.Interface != "" {
		w.t.Errorf("%s: %t %+v", user, ok, s)
	}
	var near, far api.L2TPSession
	for _, l := range w.sessions() {
		switch {
		case l.User != user:
		case l.CallType == "lac-incoming":
			far = l
		default:
			near = l
		}
	}
	tunnels, err := w.daemon.API().L2TPTunnels(w.ctx, api.Filter{})
	w.check(err)
	if near.SwitchedTo != fmt.Sprintf("%d/%d", far.LocalTunnel, far.LocalID) || far.SwitchedTo != fmt.Sprintf("%d/%d", near.LocalTunnel, near.LocalID) ||
		!slices.ContainsFunc(tunnels, func(t api.L2TPTunnel) bool {
			return t.LocalID == far.LocalTunnel && t.Remote.Addr() == lns && t.Initiator == "local"
		}) {
		w.t.Errorf("%s is not shown as handed on to %v: %+v and %+v, tunnels %+v", user, lns, near, far, tunnels)
	}
	return s
}

// through sends packets through the bridge and compares our counters, which are those of the L2TP session, with them.
func (w *switching) through(c *topo.Client, user string, to netip.Addr) {
	w.t.Helper()
	const size = 1000
	before, _ := w.of(user)
	r, err := c.Ping(w.ctx, to, topo.PingOptions{Count: 20, Size: size})
	if w.check(err); r.Lost() > 0 {
		w.t.Fatalf("%s: %d of %d packets lost", user, r.Lost(), r.Sent)
	}
	after, _ := w.of(user)
	// LCP's echo requests and answers may be among them. On a busy machine ping sends more while it waits for the last answers.
	const ip, few = size + 28, 4
	least, most := uint64(r.Received), uint64(r.Sent+r.Late)
	for _, d := range []struct {
		direction      string
		packets, bytes uint64
	}{
		{"from", after.InPackets - before.InPackets, after.InBytes - before.InBytes},
		{"to", after.OutPackets - before.OutPackets, after.OutBytes - before.OutBytes},
	} {
		if d.packets < least || d.packets > most+few || d.bytes < least*ip || d.bytes > most*(ip+4)+few*100 {
			w.t.Errorf("%s: %d packets, %d bytes counted %s the client; %d sent, %d answered", user, d.packets, d.bytes, d.direction, most, least)
		}
	}
}

// over waits for the end of a user's session and compares its records with the summary line.
func (w *switching) over(user string, times int, reason, cause string) {
	w.t.Helper()
	var found []summary
	w.eventually("summary of "+user, func() bool {
		found = slices.DeleteFunc(lines[summary](w.world, "subscriber ended"), func(s summary) bool { return s.User != user })
		return len(found) >= times
	})
	s := found[len(found)-1]
	if len(found) != times || s.Reason != reason {
		w.t.Errorf("%s has ended %d times, last %q, want %d, %q", user, len(found), s.Reason, times, reason)
	}
	if _, there := w.far.of(user); there {
		w.eventually(user+" is gone from the LNS", func() bool { _, there := w.far.of(user); return !there })
	}
	var records []topo.RADIUSPacket
	w.eventually("stop of "+user, func() bool {
		records = w.accounts(w.free)[s.Session.String()]
		return kinds(records) == "Start Stop"
	})
	stop := records[len(records)-1]
	wants(w.t, "stop of "+user, stop, map[string]string{
		"User-Name": user, "Acct-Terminate-Cause": cause, "Framed-IP-Address": "",
		"Acct-Input-Octets": strconv.FormatUint(s.In, 10), "Acct-Output-Octets": strconv.FormatUint(s.Out, 10),
		"Acct-Input-Packets": strconv.FormatUint(s.InPkts, 10), "Acct-Output-Packets": strconv.FormatUint(s.OutPkts, 10),
	})
	if s.In < 20*1028 || s.Out < 20*1028 {
		w.t.Errorf("%s: %+v", user, s)
	}
}

// TestSwitching hands sessions of stock clients on to other LNSs: a second vrgate, and xl2tpd with pppd, as a domain map or
// FreeRADIUS says. Packets go through the kernel's bridge and are counted. Whoever ends a session, both calls end, and
// nothing is left in any kernel.
func TestSwitching(t *testing.T) {
	t.Parallel()
	w := newSwitching(t)
	behind := func(c *topo.ClientConfig) { c.Routes = []netip.Prefix{farNet} }
	dora, resi := w.client(nil, "dora@far.example", behind), w.client(nil, "resi@reserve.example", behind, func(c *topo.ClientConfig) {
		c.PPP = []string{"refuse-mschap-v2"}
	})
	rudi := w.client(nil, "rudi@served.example", func(c *topo.ClientConfig) { c.Routes = nil })
	clients := []*topo.Client{dora, resi, rudi}
	got := make([]topo.Session, len(clients))
	each(w.world, []int{0, 1, 2}, func(i int) (err error) {
		ctx, cancel := context.WithTimeout(w.ctx, patience)
		defer cancel()
		got[i], err = clients[i].Connect(ctx)
		return err
	})
	t.Logf("connected: %+v", got)
	if !farPool.Contains(got[0].Local) || !farPool.Contains(got[1].Local) || got[2].Remote != stockPPP {
		t.Errorf("clients have %+v", got)
	}
	w.handedOn("dora@far.example", w.far.address)
	w.handedOn("resi@reserve.example", w.far.address)
	w.handedOn("rudi@served.example", w.stockAddr)
	w.atTheFar(map[string]string{"dora@far.example": "mschapv2", "resi@reserve.example": "chap"})
	w.lockedOut()

	w.through(dora, "dora@far.example", farHost)
	w.through(resi, "resi@reserve.example", farHost)
	w.through(rudi, "rudi@served.example", stockPPP)

	w.check(dora.Disconnect(w.ctx)) // the client's L2TP
	w.over("dora@far.example", 1, "peer-closed-tunnel", "NAS-Request")
	w.check(w.stock.HangUp()) // the far LNS, of stock
	w.over("rudi@served.example", 1, "peer-closed-session", "NAS-Request")
	if line := w.logLine("subscriber ended", map[string]string{"user": "rudi@served.example"}); !strings.Contains(fmt.Sprint(line["text"]), "to the LNS") {
		t.Errorf("the log does not say that it was the LNS: %v", line)
	}
	_, err := w.daemon.Run(w.ctx, "disconnect", "--user", "resi@reserve.example") // our operator
	w.check(err)
	w.over("resi@reserve.example", 1, "admin-reset", "Admin-Reset")

	w.connect(dora)
	w.through(dora, "dora@far.example", farHost)
	_, err = w.far.daemon.Run(w.ctx, "disconnect", "--user", "dora@far.example") // the second vrgate's operator
	w.check(err)
	w.over("dora@far.example", 2, "peer-closed-session", "NAS-Request")

	for _, c := range clients {
		c.Close()
	}
	w.eventually("nothing is left in the kernel", func() bool {
		out, err := w.stockServer.Output(w.ctx, "ip", "l2tp", "show", "tunnel")
		return err == nil && strings.TrimSpace(out) == "" && w.kernelState() == w.before[0] && w.far.kernelState() == w.before[1]
	})
}

// atTheFar looks at how the second vrgate has authenticated users: a LAC that it does not believe, or that has nothing to
// hand on, has it ask again.
func (w *switching) atTheFar(methods map[string]string) {
	w.t.Helper()
	for user, method := range methods {
		s, ok := w.far.of(user)
		if !ok || s.Authentication != method || !farPool.Contains(s.Address) {
			w.t.Errorf("%s at the LNS: %t %+v", user, ok, s)
		}
	}
	for _, s := range w.far.sessions() {
		if s.RemoteHost == "office" && (!s.ProxyLCP || s.ProxyAuth != "chap") {
			w.t.Errorf("session of %s at the LNS: %+v", s.User, s)
		}
	}
}

// lockedOut looks at what is shown of the LNS that does not answer.
func (w *switching) lockedOut() {
	w.t.Helper()
	list, err := w.daemon.API().L2TPDestinations(w.ctx, api.Filter{})
	w.check(err)
	for _, d := range list {
		if out := d.LockoutRemainingSeconds > 0; out != (d.Remote == w.silent) {
			w.t.Errorf("shown: %+v", d)
		}
	}
	if !slices.ContainsFunc(list, func(d api.L2TPDestination) bool { return d.Remote == w.silent }) {
		w.t.Errorf("the LNS that is passed over is not shown: %+v", list)
	}
}
