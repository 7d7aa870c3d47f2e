//go:build kernel

package e2e

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"vrgate/test/topo"
)

// radiusUsers is FreeRADIUS' users file of TestRADIUS.
const radiusUsers = `
ann Cleartext-Password := "correct horse"
	Framed-IP-Address = 10.9.1.7,
	Framed-Route = "192.168.77.0/24",
	Session-Timeout = 3600,
	Idle-Timeout = 600,
	Filter-Id = "guests",
	Class = "first",
	Class += "second",
	MS-Primary-DNS-Server = 10.1.0.99,
	MS-Secondary-DNS-Server = 10.1.0.98

ben Cleartext-Password := "correct horse"
	Framed-Pool = "gold"

tess EAP-Type := EAP-TLS
	Class = "by certificate"

emma Cleartext-Password := "correct horse"

rita Cleartext-Password := "correct horse"
	ERX-Virtual-Router-Name = "red",
	Acct-Interim-Interval = 60

carl Cleartext-Password := "correct horse"
	Framed-IP-Address = 10.9.1.9,
	MS-Primary-DNS-Server = 10.1.0.97,
	WISPr-Bandwidth-Max-Down = 64000

vera Cleartext-Password := "correct horse"

rex Auth-Type := Reject
	Reply-Message = "call the help desk"
`

// redHost is behind the virtual router red.
var redHost = netip.MustParseAddr("10.2.0.2")

// radiusOffice is an office whose users FreeRADIUS knows, and a virtual router red beside it.
type radiusOffice struct {
	*office
	free *topo.FreeRADIUS
}

func newRADIUSOffice(t *testing.T) *radiusOffice {
	o := &radiusOffice{office: newOffice(t, true)}
	o.check(o.server.IP(o.ctx, "link add red type vrf table 101", "link set red up"))
	_, err := o.AddIntranet(o.ctx, o.server, topo.Intranet{
		Interface: "lan1", Gateway: netip.MustParsePrefix("10.2.0.1/24"), Host: redHost, VRF: "red",
	})
	o.check(err)
	o.free = o.freeRADIUS(topo.FreeRADIUSConfig{Users: radiusUsers, Certificate: o.gateway, Authority: o.authority})
	c := o.config(vrConfig{
		PPP: "authentication: [eap, mschapv2, pap]", NoPool: true, Profile: "pool: main",
		Extra: radiusKeys("dynamic-authorization: {enabled: true, addresses: [10.1.0.1]}", `methods: [radius]
domain-maps:
  - {domain: red.example, strip-domain: true, virtual-router: red, gateway: 10.60.0.1, pool: red}`) + `
pools:
  - {name: main, ranges: [10.9.0.10-10.9.0.99]}
  - {name: gold, ranges: [10.9.2.0/24]}
traffic-policies:
  - name: guests
    rules: [{action: deny, network: 10.1.0.1/32, protocol: icmp}]
  - name: nothing
    rules: [{action: deny}]
`,
	})
	c.Namespace, c.Address = o.server.Name(), o.address
	red := `
vrf: {device: red, table: 101}
namespace: {name: ` + o.server.Name() + `}
ip-profiles: [{name: users, unnumbered-address: 10.60.0.1}]
pools: [{name: red, ranges: [10.60.0.10-10.60.0.99]}]
`
	o.run(map[string]string{"office": c.yaml(), "red": red}, "default-router: office\n")
	return o
}

// radiusUser is somebody whom RADIUS decides about.
type radiusUser struct {
	name  string
	login string // what the client says, if not name
	// One of them.
	l2tp  *topo.Client
	xauth *topo.XAuthClient

	method string // as vrgate shows it
	vr     string // terminating
	pool   netip.Prefix
	reach  netip.Addr // that answers
	outer  netip.Addr // as we see it, if not the host's
	class  []string
	// end ends the session; nil: only the daemon's end does.
	end           func(*radiusOffice)
	reason, cause string

	address netip.Addr // that the client has got
	session string     // Acct-Session-Id
}

func (u *radiusUser) host() *topo.Host {
	if u.l2tp != nil {
		return u.l2tp.Host()
	}
	return u.xauth.Host()
}

// TestRADIUS has subscribers of both kinds decided about by FreeRADIUS, looks at what they get, changes and ends
// them, and compares its accounting records with what happened (J13, R1 to R10).
//
//runner:once
func TestRADIUS(t *testing.T) {
	t.Parallel()
	w := newRADIUSOffice(t)
	nat, err := w.AddNAT(w.ctx, topo.KeepPorts)
	w.check(err)
	routes := func(c *topo.ClientConfig) {
		c.Routes = []netip.Prefix{intranetNet, netip.PrefixFrom(redHost, 24).Masked()}
	}
	tess := w.issue(w.authority, "tess", topo.CertificateOptions{KeyOf: w.ann})
	one := func(a string) netip.Prefix { return netip.PrefixFrom(netip.MustParseAddr(a), 32) }
	main, red := netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("10.60.0.0/24")
	tessClient := w.client(nil, "tess", routes, func(c *topo.ClientConfig) { c.EAP, c.UserCertificate, c.UserAuthority = true, tess, w.authority })
	veraClient := w.dynamic(nat, "vera@red.example", pushed) // sales reach the intranet only
	carlClient := w.dynamic(nil, "carl", inSales)
	users := []*radiusUser{
		{
			name: "ann", method: "mschapv2", vr: "office", pool: one("10.9.1.7"), reach: intranetHost, class: []string{"first", "second"},
			l2tp: w.client(nil, "ann", routes),
			end: func(w *radiusOffice) {
				w.dynamicAuthorization("disconnect", "Disconnect-ACK", "", `User-Name = "ann"`, "Framed-IP-Address = 10.9.1.7")
			},
			reason: "radius-disconnect", cause: "Admin-Reset",
		},
		{
			name: "ben", method: "pap", vr: "office", pool: netip.MustParsePrefix("10.9.2.0/24"), reach: intranetHost, outer: nat.Address,
			l2tp: w.client(nat, "ben", routes, func(c *topo.ClientConfig) { c.PPP = []string{"refuse-mschap-v2", "refuse-mschap", "refuse-chap"} }),
			end: func(w *radiusOffice) {
				w.dynamicAuthorization("coa", "CoA-ACK", "", `User-Name = "ben"`, "Session-Timeout = 1")
			},
			reason: "session-timeout", cause: "Session-Timeout",
		},
		{
			name: "tess", method: "eap", vr: "office", pool: main, reach: intranetHost, class: []string{"by certificate"},
			l2tp: tessClient, end: func(w *radiusOffice) { w.check(tessClient.HangUp()) }, reason: "ppp-user-request", cause: "User-Request",
		},
		{
			name: "emma", method: "eap", vr: "office", pool: main, reach: intranetHost, outer: nat.Address,
			l2tp: w.client(nat, "emma", routes, func(c *topo.ClientConfig) { c.EAP = true }),
			end: func(w *radiusOffice) {
				_, err := w.daemon.Run(w.ctx, "disconnect", "--user", "emma")
				w.check(err)
			},
			reason: "admin-reset", cause: "Admin-Reset",
		},
		{
			name: "rita", method: "mschapv2", vr: "red", pool: red, reach: redHost, l2tp: w.client(nil, "rita", routes),
			reason: "shutdown", cause: "Admin-Reset",
		},
		{
			name: "vera", login: "vera@red.example", method: "pap", vr: "red", pool: red, reach: redHost, outer: nat.Address,
			xauth: veraClient, end: func(w *radiusOffice) { w.check(veraClient.Kill(w.ctx)) }, reason: "peer-dead", cause: "NAS-Request",
		},
		{
			name: "carl", method: "pap", vr: "office", pool: one("10.9.1.9"), reach: intranetHost, xauth: carlClient,
			end: func(w *radiusOffice) { w.check(carlClient.Disconnect(w.ctx)) }, reason: "peer-deleted", cause: "User-Request",
		},
	}
	w.connectUsers(users...)
	w.haveGot(users)
	t.Run("traffic", func(t *testing.T) { w.in(t).trafficOf(users) })
	rita, vera, carl := users[4], users[5], users[6]
	vera.end(w) // that these two have gone is found out after a minute (J9)
	carl.end(w)
	t.Run("refused", func(t *testing.T) { w.in(t).refusedBy() })
	t.Run("changes", func(t *testing.T) { w.in(t).changes(users) })
	ann := w.linkStatistics("ann")
	for _, u := range users[:4] {
		u.end(w)
	}
	w.eventually("an interim record of rita", func() bool {
		return strings.Contains(kinds(w.accounts(w.free)[rita.session]), "Interim-Update")
	})
	w.eventually("only rita is left", func() bool { return len(w.subscribers()) == 1 })
	w.check(w.daemon.Stop(w.ctx))
	w.accountsOf(users)
	if s := w.ended("ann"); s.In != ann.RxBytes || s.Out != ann.TxBytes || s.InPkts != ann.RxPackets || s.OutPkts != ann.TxPackets {
		t.Errorf("the kernel has counted %+v for ann, and accounting %+v", ann, s)
	}
}

// in is the same office in a subtest.
func (w *radiusOffice) in(t *testing.T) *radiusOffice {
	sub := *w
	sub.office = w.office.in(t)
	return &sub
}

// connectUsers connects all side by side.
func (w *radiusOffice) connectUsers(users ...*radiusUser) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	var all sync.WaitGroup
	errs := make([]error, len(users))
	for i, u := range users {
		all.Go(func() {
			if u.l2tp != nil {
				var s topo.Session
				s, errs[i] = u.l2tp.Connect(ctx)
				u.address = s.Local
				if want := "[10.1.0.99 10.1.0.98]"; u.name == "ann" && errs[i] == nil && fmt.Sprint(s.DNS) != want {
					errs[i] = fmt.Errorf("ann was told DNS %v, want %s", s.DNS, want)
				}
				return
			}
			var a topo.Assigned
			a, errs[i] = u.xauth.Connect(ctx)
			u.address = a.Address
			if want := "[10.1.0.97]"; u.name == "carl" && errs[i] == nil && fmt.Sprint(a.DNS) != want {
				errs[i] = fmt.Errorf("carl was told DNS %v, want %s", a.DNS, want)
			}
		})
	}
	all.Wait()
	for i, u := range users {
		if errs[i] != nil {
			w.t.Fatalf("%s: %v", u.name, errs[i])
		}
		if u.login == "" {
			u.login = u.name
		}
		if !u.outer.IsValid() {
			u.outer = u.host().Address
		}
	}
}

// haveGot looks at what vrgate shows of the users, and has all ping.
func (w *radiusOffice) haveGot(users []*radiusUser) {
	w.t.Helper()
	for _, u := range users {
		s, ok := w.subscriber(u.login)
		if !ok || s.State != "up" || s.VR != "office" || s.TerminatingVR != u.vr || s.Authentication != u.method || s.Address != u.address ||
			!u.pool.Contains(s.Address) || s.Remote.Addr() != u.outer {
			w.t.Errorf("%s has %v of %v; vrgate shows %+v", u.name, u.address, u.pool, s)
		}
		u.session = s.ID
	}
	each(w.world, users, func(u *radiusUser) error {
		r, err := u.host().Ping(w.ctx, u.reach, topo.PingOptions{})
		if err == nil && r.Lost() > 0 {
			err = fmt.Errorf("%s: %d of %d packets lost", u.name, r.Lost(), r.Sent)
		}
		return err
	})
}

// refusedBy has a user try whom the server refuses, and the right one with a wrong password.
func (w *radiusOffice) refusedBy() {
	w.t.Helper()
	wrong := func(c *topo.ClientConfig) { c.Password = "incorrect horse" }
	for _, c := range []*topo.Client{w.client(nil, "rex"), w.client(nil, "emma", wrong)} {
		_, err := c.Connect(w.ctx)
		var at *topo.ConnectError
		if !errors.As(err, &at) || at.Stage != topo.StagePPP {
			w.t.Errorf("connecting: %v, want a failure at %s", err, topo.StagePPP)
		}
		c.Close()
	}
	w.eventually("who was refused is gone", func() bool {
		_, there := w.subscriber("rex")
		return !there && w.logLine("subscriber ended", map[string]string{"user": "emma"}) != nil
	})
	for user, want := range map[string]string{"rex": "call the help desk", "emma": "MS-CHAP error 691"} {
		line := w.logLine("subscriber ended", map[string]string{"user": user, "reason": "aaa-refused"})
		if line == nil || !strings.Contains(fmt.Sprint(line["text"]), want) {
			w.t.Errorf("%s was refused, and the log does not say %q: %v", user, want, line)
		}
	}
}

// trafficOf looks at routes, filters and rates.
func (w *radiusOffice) trafficOf(users []*radiusUser) {
	w.t.Helper()
	ann, ben, carl := users[0], users[1], users[6]
	behind := netip.MustParseAddr("192.168.77.1")
	w.check(ann.host().Namespace.IP(w.ctx, "addr add "+behind.String()+"/32 dev lo"))
	r, err := w.intranet.Ping(w.ctx, behind, topo.PingOptions{})
	if w.check(err); r.Lost() > 0 {
		w.t.Errorf("%d of %d packets lost to the network behind ann (Framed-Route)", r.Lost(), r.Sent)
	}
	// Everybody else reaches our address.
	for _, u := range []*radiusUser{ann, ben} {
		r, err := u.host().Ping(w.ctx, toServers, topo.PingOptions{Wait: 3e9})
		if w.check(err); u == ann && r.Received > 0 || u == ben && r.Lost() > 0 {
			w.t.Errorf("%s: %d of %d packets answered that only a policy of ann denies (Filter-Id)", u.name, r.Received, r.Sent)
		}
	}
	if n := w.stream(w.intranet, carl.host(), carl.address); n > 200 || n < 20 {
		w.t.Errorf("%d packets to carl, who has 64 kbit/s", n)
	}
}

// dynamicAuthorization sends a request from the server and compares its answer.
func (w *radiusOffice) dynamicAuthorization(kind, code, cause string, attributes ...string) {
	w.t.Helper()
	w.answers(w.intranet, topo.RADIUSRequest{Kind: kind, Attributes: attributes}, code, cause)
}

// answers sends a request from any machine and compares its answer; no code: none may come.
func (w *radiusOffice) answers(from *topo.Host, r topo.RADIUSRequest, code, cause string) {
	w.t.Helper()
	r.To, r.Secret = netip.AddrPortFrom(toServers, 3799), radiusSecret
	a, err := from.RADIUS(w.ctx, r)
	if w.check(err); a.Code != code || a.Get("Error-Cause") != cause {
		w.t.Errorf("%s %q: %s with cause %q, want %s with %q", r.Kind, r.Attributes, a.Code, a.Get("Error-Cause"), code, cause)
	}
}

// changes has the server change sessions that are up, and others try (RFC 5176).
func (w *radiusOffice) changes(users []*radiusUser) {
	w.t.Helper()
	ben, emma := users[1], users[3]
	if n := w.stream(w.intranet, ben.host(), ben.address); n < 380 {
		w.t.Errorf("%d of 400 packets to ben, who has no limit", n)
	}
	w.dynamicAuthorization("coa", "CoA-ACK", "", `User-Name = "ben"`, "WISPr-Bandwidth-Max-Down = 64000")
	if n := w.stream(w.intranet, ben.host(), ben.address); n > 200 || n < 20 {
		w.t.Errorf("%d of 400 packets to ben, who has been given 64 kbit/s", n)
	}
	w.dynamicAuthorization("coa", "CoA-ACK", "", "Framed-IP-Address = "+emma.address.String(), `Filter-Id = "nothing"`)
	if r, err := emma.host().Ping(w.ctx, intranetHost, topo.PingOptions{Wait: 2e9}); err != nil || r.Received > 0 {
		w.t.Errorf("emma, who may send nothing any more: %v, %d answers", err, r.Received)
	}
	// Who is not known gets no answer, whatever it knows, and neither does who does not sign.
	quick := topo.RADIUSRequest{Kind: "disconnect", Attributes: []string{`User-Name = "ben"`}, Timeout: 2e9}
	w.answers(ben.host(), quick, "", "")
	quick.Unsigned = true
	w.answers(w.intranet, quick, "", "")
	if _, there := w.subscriber("ben"); !there {
		w.t.Error("ben was ended by who must not")
	}
	w.dynamicAuthorization("disconnect", "Disconnect-NAK", "Session-Context-Not-Found", `User-Name = "nobody"`)
	w.dynamicAuthorization("coa", "CoA-NAK", "Unsupported-Attribute", `User-Name = "ben"`, "Framed-MTU = 1300")
	w.dynamicAuthorization("coa", "CoA-NAK", "NAS-Identification-Mismatch", `User-Name = "ben"`, `NAS-Identifier = "other"`, "Session-Timeout = 600")
}

// accountsOf compares all records with what happened.
func (w *radiusOffice) accountsOf(users []*radiusUser) {
	w.t.Helper()
	w.free.Stop()
	accounts := w.accounts(w.free)
	for _, u := range users {
		s := w.ended(u.login)
		records := accounts[s.Session.String()]
		delete(accounts, s.Session.String())
		want := "Start Stop"
		if u.name == "rita" {
			want = "Start Interim-Update Stop"
		}
		if got := kinds(records); got != want || s.Reason != u.reason {
			w.t.Errorf("%s ended by %s, want %s; records %s, want %s", u.name, s.Reason, u.reason, got, want)
			continue
		}
		for _, r := range records {
			w.inEach(u, s, r)
		}
		stop := records[len(records)-1]
		wants(w.t, u.name+" stop", stop, map[string]string{
			"Acct-Terminate-Cause": u.cause, "Acct-Input-Octets": fmt.Sprint(s.In), "Acct-Output-Octets": fmt.Sprint(s.Out),
			"Acct-Input-Packets": fmt.Sprint(s.InPkts), "Acct-Output-Packets": fmt.Sprint(s.OutPkts),
			"Acct-Input-Gigawords": "0", "Acct-Output-Gigawords": "0",
		})
		if s.In < 3*84 || s.Out < 3*84 && u.name != "emma" {
			w.t.Errorf("%s: %+v without the traffic of pings", u.name, s)
		}
		if told := stop.All("Connect-Info"); len(told) == 0 || !strings.HasPrefix(told[0], u.reason) {
			w.t.Errorf("%s: no reason %q in %q (R10)", u.name, u.reason, told)
		}
	}
	// Nobody else, above all nobody who was refused.
	for id, records := range accounts {
		w.t.Errorf("session %s of nobody: %v", id, records)
	}
	records, err := w.free.Records()
	w.check(err)
	on, off := records[0].Get("Acct-Status-Type"), records[len(records)-1].Get("Acct-Status-Type")
	if on != "Accounting-On" || off != "Accounting-Off" {
		w.t.Errorf("the records begin with %s and end with %s", on, off)
	}
}

// inEach compares what is in each record of a session (R7 to R9).
func (w *radiusOffice) inEach(u *radiusUser, s summary, r topo.RADIUSPacket) {
	w.t.Helper()
	var class []string
	for _, c := range u.class {
		class = append(class, "0x"+hex.EncodeToString([]byte(c)))
	}
	want := map[string]string{
		"User-Name": u.login, "NAS-Identifier": "office", "NAS-IP-Address": w.address.String(), "Framed-IP-Address": u.address.String(),
		"Framed-IP-Netmask": "255.255.255.255", "Class": strings.Join(class, ", "), "Acct-Authentic": "RADIUS", "Calling-Station-Id": u.outer.String(),
		"ERX-Virtual-Router-Name": u.vr, "Acct-Session-Id": u.session,
	}
	if u.l2tp != nil {
		want["Framed-Protocol"] = "PPP"
		want["Tunnel-Type:0"] = "L2TP"
		want["Tunnel-Client-Endpoint:0"] = u.outer.String()
		want["Tunnel-Server-Endpoint:0"] = w.address.String()
	} else {
		want["Tunnel-Type:0"] = "ESP"
	}
	wants(w.t, u.name+" "+r.Get("Acct-Status-Type"), r, want)
	// The port, which a NAT has chosen, is in the words.
	if info := strings.Join(r.All("Connect-Info"), ", "); !strings.Contains(info, s.Peer.String()) {
		w.t.Errorf("%s: no %v in %q", u.name, s.Peer, info)
	}
}

// linkStatistics is what the kernel has counted for an L2TP subscriber.
func (w *radiusOffice) linkStatistics(user string) netlink.LinkStatistics {
	w.t.Helper()
	s, ok := w.subscriber(user)
	if !ok {
		w.t.Fatalf("no %s", user)
	}
	var stats netlink.LinkStatistics
	w.check(w.server.Do(func() error {
		l, err := netlink.LinkByName(s.Interface)
		if err == nil {
			stats = *l.Attrs().Statistics
		}
		return err
	}))
	return stats
}
