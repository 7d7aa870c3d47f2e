//go:build kernel

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vrgate/controlplane/api"
	"vrgate/test/topo"
)

// Secrets of dynamic subscribers.
const (
	salesKey     = "the key of the sales group"
	exclusiveKey = "the key of an address of its own"
	gatewayName  = "vpn.example.net"
)

// office is a router with two addresses, the usual one for L2TP clients and every dynamic
// subscriber that can be told apart there, and one for the pre-shared key of main mode, which needs
// an address of its own (J18).
type office struct {
	*world
	exclusive netip.Addr
	authority *topo.Authority
	gateway   *topo.Certificate
	ann       *topo.Certificate // of ann@example.net
}

// in is the same office in a subtest.
func (o *office) in(t *testing.T) *office {
	sub := *o
	sub.world = o.world.in(t)
	return &sub
}

// newOffice makes the network, and certificates if wanted: that takes seconds.
func newOffice(t *testing.T, certificates bool) *office {
	t.Helper()
	o := &office{world: newWorld(t), exclusive: netip.MustParseAddr("192.0.2.254")}
	o.check(o.server.IP(o.ctx, "addr add "+o.exclusive.String()+" dev lo"))
	o.check(o.Internet().IP(o.ctx, fmt.Sprintf("route add %v via %v", o.exclusive, o.address)))
	if !certificates {
		return o
	}
	o.authority = o.newAuthority("Example Authority")
	o.gateway = o.issue(o.authority, gatewayName, topo.CertificateOptions{SANs: []string{"DNS:" + gatewayName}})
	o.ann = o.issue(o.authority, "ann", topo.CertificateOptions{SANs: []string{"email:ann@example.net"}})
	return o
}

// newAuthority makes the authority of a world's certificates.
func (w *world) newAuthority(name string) *topo.Authority {
	w.t.Helper()
	dir := filepath.Join(w.Dir(), "ca")
	key, err := topo.NewKey(w.ctx, dir, "ca")
	w.check(err)
	a, err := topo.NewAuthority(w.ctx, dir, name, key)
	w.check(err)
	return a
}

func (o *office) issue(a *topo.Authority, name string, options topo.CertificateOptions) *topo.Certificate {
	o.t.Helper()
	c, err := a.Issue(o.ctx, name, options)
	o.check(err)
	return c
}

// serve starts vrgate.
func (o *office) serve(c vrConfig) {
	o.t.Helper()
	o.runOne(o.config(c))
}

// config is the virtual router's, with all that dynamic subscribers need.
func (o *office) config(c vrConfig) vrConfig {
	c.More = []netip.Addr{o.exclusive}
	ipsec := `ike-policy-rules:
  - {priority: 1, authentication: any, encryption: [aes256], hash: [sha256, sha1], group: [modp2048, modp1024], aggressive-mode: accepted}
dead-peer-detection: {enabled: true, sent: 5s, unanswered: 5s, silent: 10s}
tunnel-profiles:
  - {name: exclusive, local-address: ` + o.exclusive.String() + `, keys: [{name: all, key: "` + exclusiveKey + `"}]}
  - {name: sales, peer-identities: [sales], networks: [10.1.0.0/24], keys: [{name: sales, identity: sales, key: "` + salesKey + `"}]}
  - {name: pushed, peer-identities: ["@push.example.net"], push-configuration: true, keys: [{name: pushed, identity: "@push.example.net", key: "` + salesKey + `"}]}
`
	if o.authority != nil {
		c.Transport = "certificate: gateway"
		ipsec += `  - {name: people, certificate: gateway, local-identity: "@` + gatewayName + `", peer-identities: ["*@example.net"]}
certificates:
  authorities: [` + o.authority.File + `]
  own: [{name: gateway, certificate: ` + o.gateway.File + `, key: ` + o.gateway.Key + `}]
  revocation: {files: [` + o.authority.CRL + `]}
`
	}
	c.IPsec = strings.TrimSpace(ipsec)
	return c
}

// The kinds of clients, as changes of one.

func inMainMode(o *office) func(*topo.XAuthConfig) {
	return func(c *topo.XAuthConfig) { c.Server, c.PSK = o.exclusive, exclusiveKey }
}

func inSales(c *topo.XAuthConfig) { c.Aggressive, c.PSK, c.ID = true, salesKey, "keyid:sales" }

func pushed(c *topo.XAuthConfig) {
	c.Aggressive, c.PSK, c.ID, c.Push = true, salesKey, "@push.example.net", true
}

func withCertificate(o *office, own *topo.Certificate, id string) func(*topo.XAuthConfig) {
	return func(c *topo.XAuthConfig) {
		c.Method, c.Certificate, c.Authority, c.ID, c.ServerID = topo.XAuthRSA, own, o.authority, id, gatewayName
	}
}

func hybrid(o *office) func(*topo.XAuthConfig) {
	return func(c *topo.XAuthConfig) {
		c.Method, c.Authority, c.ID, c.ServerID = topo.HybridRSA, o.authority, "carl@example.net", gatewayName
	}
}

func aggressive(c *topo.XAuthConfig) { c.Aggressive = true }

// dynamic makes a dynamic subscriber on a host of its own, behind nat or direct.
func (w *world) dynamic(nat *topo.NAT, user string, change ...func(*topo.XAuthConfig)) *topo.XAuthClient {
	w.t.Helper()
	host, err := w.AddHost(w.ctx, nat)
	w.check(err)
	c := topo.XAuthConfig{Host: host, Server: w.address, User: user, Password: password}
	// One proposal: in aggressive mode there is no choice of groups, and the rule accepts it.
	c.IKE = []string{"aes256-sha2_256-modp2048"}
	for _, f := range change {
		f(&c)
	}
	made, err := w.NewXAuthClient(c)
	w.check(err)
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("client %s:\n%s", user, made.Logs())
		}
		made.Close()
	})
	return made
}

// connectDynamic connects subscribers side by side and returns what they got.
func (w *world) connectDynamic(clients ...*topo.XAuthClient) []topo.Assigned {
	w.t.Helper()
	got := make([]topo.Assigned, len(clients))
	index := map[*topo.XAuthClient]int{}
	for i, c := range clients {
		index[c] = i
	}
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	each(w, clients, func(c *topo.XAuthClient) (err error) {
		got[index[c]], err = c.Connect(ctx)
		return err
	})
	return got
}

// subscriber returns what vrgate shows of a user.
func (w *world) subscriber(user string) (api.Subscriber, bool) {
	w.t.Helper()
	list := w.subscribers()
	i := slices.IndexFunc(list, func(s api.Subscriber) bool { return s.User == user })
	if i < 0 {
		return api.Subscriber{}, false
	}
	return list[i], true
}

// TestDynamicSubscribers has every kind of client at once, on the same two addresses: by the
// group's key in both modes, by certificates, hybrid, vpnc, and L2TP/IPsec beside them (J10).
func TestDynamicSubscribers(t *testing.T) {
	t.Parallel()
	w := newOffice(t, true)
	before := w.kernelState()
	w.serve(vrConfig{})
	nat, err := w.AddNAT(w.ctx, topo.KeepPorts)
	w.check(err)

	kinds := []struct {
		profile string
		nat     *topo.NAT
		change  []func(*topo.XAuthConfig)
	}{
		{"exclusive", nil, []func(*topo.XAuthConfig){inMainMode(w)}},
		{"exclusive", nat, []func(*topo.XAuthConfig){inMainMode(w)}},
		{"sales", nil, []func(*topo.XAuthConfig){inSales}},
		{"sales", nat, []func(*topo.XAuthConfig){inSales}},
		{"pushed", nat, []func(*topo.XAuthConfig){pushed}},
		{"people", nil, []func(*topo.XAuthConfig){withCertificate(w, w.ann, "ann@example.net"), aggressive}},
		{"people", nat, []func(*topo.XAuthConfig){withCertificate(w, w.ann, "ann@example.net")}},
		{"people", nat, []func(*topo.XAuthConfig){hybrid(w)}},
	}
	var clients []*topo.XAuthClient
	for i, k := range kinds {
		clients = append(clients, w.dynamic(k.nat, fmt.Sprint("user", i), k.change...))
	}
	l2tp := w.client(nat, "user10")
	l2tpRSA := w.client(nil, "user11", func(c *topo.ClientConfig) { c.Certificate, c.Authority = w.ann, w.authority })
	vpnc := w.vpnc(nil, "user12")

	var all sync.WaitGroup
	all.Go(func() { w.connectAll(l2tp, l2tpRSA) })
	var byVPNC topo.Assigned
	all.Go(func() {
		ctx, cancel := context.WithTimeout(w.ctx, patience)
		defer cancel()
		byVPNC, err = vpnc.Connect(ctx)
	})
	got := w.connectDynamic(clients...)
	all.Wait()
	w.check(err)

	everybody := []peer{l2tp, l2tpRSA, vpnc}
	for _, c := range clients {
		everybody = append(everybody, c)
	}
	pingAll(w.world, everybody...)
	pingAll(w.world, everybody...) // not the first packets only
	for i, k := range kinds {
		user := fmt.Sprint("user", i)
		s, ok := w.subscriber(user)
		if !ok || s.State != "up" || s.Type != "ipsec" || s.Access != "xauth" || s.Profile != k.profile || s.Address != got[i].Address ||
			s.InPackets < 10 || s.OutPackets < 10 || s.PeerID == "" {
			t.Errorf("%s (%s, has %v): vrgate shows %+v", user, k.profile, got[i], s)
		}
		if !slices.Equal(got[i].DNS, []netip.Addr{netip.MustParseAddr("10.1.0.53")}) {
			t.Errorf("%s was told DNS %v", user, got[i].DNS)
		}
	}
	if s, ok := w.subscriber("user12"); !ok || s.Profile != "sales" || s.Address != byVPNC.Address || !slices.Equal(byVPNC.DNS, got[0].DNS) {
		t.Errorf("vpnc has %+v, vrgate shows %+v", byVPNC, s)
	}
	for _, user := range []string{"user10", "user11"} {
		if s, ok := w.subscriber(user); !ok || s.Access != "l2tp/ipsec" {
			t.Errorf("%s: %+v", user, s)
		}
	}
	w.tellsNoSecret()

	w.check(w.daemon.Stop(w.ctx))
	if after := w.kernelState(); after != before {
		t.Errorf("left after SIGTERM:\n%s\nwas before:\n%s", after, before)
	}
	for i := range kinds {
		if user := fmt.Sprint("user", i); w.logLine("subscriber ended", map[string]string{"user": user, "reason": "shutdown"}) == nil {
			t.Errorf("%s: no summary line with reason shutdown", user)
		}
	}
	// Politely: the clients were told, none had to find out by itself.
	for _, c := range clients {
		w.told(c)
	}
}

// TestDynamicRefusals has clients try who must not come in, and disturb nobody. None is behind a NAT, so that the
// log tells them apart.
//
//runner:once
func TestDynamicRefusals(t *testing.T) {
	t.Parallel()
	w := newOffice(t, true)
	revoked := w.issue(w.authority, "rita", topo.CertificateOptions{SANs: []string{"email:rita@example.net"}, KeyOf: w.ann})
	w.check(w.authority.Revoke(w.ctx, revoked))
	w.serve(vrConfig{})
	good := w.dynamic(nil, "user0", inSales)
	w.connectDynamic(good)
	baseline := stateWith(w.world, good)
	ping, err := good.Host().StartPing(intranetHost, topo.PingOptions{Interval: 500 * time.Millisecond})
	w.check(err)
	w.refuseDynamic(revoked)
	w.backTo(baseline, "nothing left of those who were refused")
	time.Sleep(time.Second)
	if r, err := ping.Stop(); err != nil || r.Lost() > 0 || r.Sent < 10 {
		t.Errorf("a good client was disturbed: %v, %d of %d lost", err, r.Lost(), r.Sent)
	}
}

func (w *office) refuseDynamic(revoked *topo.Certificate) {
	stranger, err := topo.NewAuthority(w.ctx, filepath.Join(w.Dir(), "stranger"), "Example Authority", w.ann.Key)
	w.check(err)
	sans := func(mail string) topo.CertificateOptions {
		return topo.CertificateOptions{SANs: []string{"email:" + mail}, KeyOf: w.ann}
	}
	ended := sans("ed@example.net")
	ended.Ended = true
	soon := func(c *topo.XAuthConfig) { c.RetransmitTries, c.RetransmitTimeout = 2, 2*time.Second }
	sideBySide(w.t, func(run func(string, func(*testing.T))) {
		for _, r := range []struct {
			name, reason, sentence string
			client                 *topo.XAuthClient
		}{
			{"wrong group key in main mode", "pre-shared-keys-differ", "", w.dynamic(nil, "user1", inMainMode(w), func(c *topo.XAuthConfig) { c.PSK = "something else" }, soon)},
			{"wrong group key in aggressive mode", "pre-shared-keys-differ", "", w.dynamic(nil, "user1", inSales, func(c *topo.XAuthConfig) { c.PSK = "something else" }, soon)},
			{"unknown group", "unknown-group", "", w.dynamic(nil, "user1", inSales, func(c *topo.XAuthConfig) { c.ID = "keyid:nobody" }, soon)},
			{"wrong password", "aaa-wrong-password", "wrong password for local user", w.dynamic(nil, "user1", inSales, func(c *topo.XAuthConfig) { c.Password = "incorrect horse" })},
			{"unknown user", "aaa-unknown-user", "no local user", w.dynamic(nil, "nobody", inSales)},
			{"ended certificate", "certificate-expired", "", w.dynamic(nil, "user1", withCertificate(w, w.issue(w.authority, "ed", ended), "ed@example.net"), soon)},
			{"revoked certificate", "certificate-revoked", "", w.dynamic(nil, "user1", withCertificate(w, revoked, "rita@example.net"), soon)},
			{"certificate of a stranger", "certificate-untrusted", "", w.dynamic(nil, "user1", withCertificate(w, w.issue(stranger, "sid", sans("sid@example.net")), "sid@example.net"), soon)},
			{"certificate of another domain", "no-tunnel-profile", "", w.dynamic(nil, "user1", withCertificate(w, w.issue(w.authority, "olga", sans("olga@elsewhere.net")), "olga@elsewhere.net"), soon)},
		} {
			run(r.name, func(t *testing.T) {
				w := w.in(t)
				ctx, cancel := context.WithTimeout(w.ctx, patience)
				defer cancel()
				_, err := r.client.Connect(ctx)
				var at *topo.ConnectError
				if !errors.As(err, &at) || at.Stage != topo.StageIKE {
					t.Fatalf("connecting: %v, want a failure at %s", err, topo.StageIKE)
				}
				w.eventually("reason "+r.reason+" in the log", func() bool { return w.logsOf(r.client.Host().Address, r.reason) })
				if !strings.Contains(w.daemon.Log(), r.sentence) {
					t.Errorf("no sentence %q in the log", r.sentence)
				}
				r.client.Close()
			})
		}
	})
}

// logsOf says whether a line of the log, above debug, gives this reason for a peer.
func (w *world) logsOf(outer netip.Addr, reason string) bool {
	for line := range strings.Lines(w.daemon.Log()) {
		var got struct{ Level, Peer, Reason string }
		if strings.Contains(line, reason) && json.Unmarshal([]byte(line), &got) == nil && got.Level != "debug" && got.Reason == reason && strings.HasPrefix(got.Peer, outer.String()+":") {
			return true
		}
	}
	return false
}

// tellsNoSecret looks for secrets in what the daemon shows and logs.
func (w *world) tellsNoSecret() {
	w.t.Helper()
	secrets := []string{psk, password, salesKey, exclusiveKey}
	for _, what := range []string{"vr", "ike-sa", "ipsec", "l2tp", "subscribers", "ike-policy", "tunnel-profiles"} {
		out, err := w.daemon.Run(w.ctx, "show", what, "--json")
		w.check(err)
		for _, s := range secrets {
			if strings.Contains(out, s) {
				w.t.Errorf("show %s tells %q", what, s)
			}
		}
	}
	for _, s := range secrets {
		if strings.Contains(w.daemon.Log(), s) {
			w.t.Errorf("the log tells %q", s)
		}
	}
}

// vpnc makes one of the sales group.
func (w *world) vpnc(nat *topo.NAT, user string) *topo.VPNC {
	w.t.Helper()
	host, err := w.AddHost(w.ctx, nat)
	w.check(err)
	v, err := w.NewVPNC(topo.VPNCConfig{
		Host: host, Server: w.address, Group: "sales", PSK: salesKey, User: user, Password: password, Networks: []netip.Prefix{intranetNet},
	})
	w.check(err)
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("vpnc %s:\n%s", user, v.Logs())
		}
		v.Close()
	})
	return v
}

// TestTwelveDynamicBehindOneNAT is the office behind a carrier-grade NAT, without L2TP.
func TestTwelveDynamicBehindOneNAT(t *testing.T) {
	t.Parallel()
	w := newOffice(t, false)
	w.serve(vrConfig{})
	nat, err := w.AddNAT(w.ctx, topo.RandomPorts)
	w.check(err)
	clients := make([]*topo.XAuthClient, 12)
	for i := range clients {
		clients[i] = w.dynamic(nat, fmt.Sprint("user", i), inSales)
	}
	got := w.connectDynamic(clients...)
	pingAll(w.world, clients...)
	for i, g := range got {
		if s, ok := w.subscriber(fmt.Sprint("user", i)); !ok || s.Address != g.Address || s.InPackets < 5 || s.OutPackets < 5 || s.Remote.Addr() != nat.Address {
			t.Errorf("user%d has %v, vrgate shows %+v", i, g, s)
		}
	}
	// One hangs up, the others stay.
	w.check(clients[0].Disconnect(w.ctx))
	pingAll(w.world, clients[1:]...)
}
