//go:build kernel

package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"vrgate/controlplane/api"
	"vrgate/test/daemon"
	"vrgate/test/topo"
)

// What static tunnels share.
const (
	siteKey    = "the long random key of the sites"
	gateName   = "gate.example.net"
	farName    = "far.example.net"
	branchName = "branch.example.net" // in the same certificate
	// siteIKE and siteESP are the only proposals, in strongSwan's notation.
	siteIKE = "aes256-sha2_256-modp2048"
	siteESP = "aes256-sha1"
)

// siteIPsec is what virtual routers with static tunnels have in their ipsec section.
const siteIPsec = `ike-policy-rules:
  - {priority: 9, authentication: any, encryption: [aes256], hash: [sha256], group: [modp2048], aggressive-mode: accepted}
dead-peer-detection: {sent: 5s, unanswered: 5s, silent: 10s}
`

// static is one static tunnel, as the two ends that it joins are told of it.
type static struct {
	Name         string
	Ours, Theirs netip.Addr // outer addresses, each as its own side knows it
	// Public is the address at which they reach us, Peer that at which we reach them, where a NAT makes a difference. Dynamic
	// is a peer whose address we do not know.
	Public, Peer netip.Addr
	Dynamic      bool
	Start        string // ours; empty: nailed-up
	Aggressive   bool
	RSA          bool
	Identity     string                   // the peer's in its certificate; empty: farName
	Named        bool                     // by identity also with a key in main mode
	Networks     []topo.SiteNetwork       // Local is ours
	More         []string                 // further keys of ours, as YAML
	Site         []func(*topo.SiteTunnel) // what is different at their side
	Replace      *strings.Replacer        // of words of our YAML
}

// identities are ours and the peer's, empty for addresses.
func (j static) identities() (ours, theirs string) {
	switch {
	case j.RSA:
		return gateName, cmp.Or(j.Identity, farName)
	case j.Aggressive || j.Named:
		return gateName, j.Name + ".example.net"
	}
	return "", ""
}

// yaml is our side.
func (j static) yaml() string {
	keys := []string{"name: " + j.Name, "local-address: " + j.Ours.String(), "back-off: 1s", "back-off-max: 4s", "start: " + cmp.Or(j.Start, "nailed-up")}
	if !j.Dynamic {
		peer := j.Theirs
		if j.Peer.IsValid() {
			peer = j.Peer
		}
		keys = append(keys, "peers: ["+peer.String()+"]")
	}
	ours, theirs := j.identities()
	if ours != "" {
		keys = append(keys, fmt.Sprintf("local-id: %q", "@"+ours), fmt.Sprintf("peer-id: %q", "@"+theirs))
	}
	if j.RSA {
		keys = append(keys, "certificate: own")
	} else {
		keys = append(keys, fmt.Sprintf("pre-shared-key: {key: %q}", siteKey))
	}
	keys = append(keys, fmt.Sprintf("aggressive-mode: %v", j.Aggressive), "transforms: ["+siteESP+"]")
	var networks []string
	for _, n := range j.Networks {
		networks = append(networks, fmt.Sprintf("{local: %s, remote: %s}", n.Local, n.Remote))
	}
	if len(networks) > 0 {
		keys = append(keys, "networks: ["+strings.Join(networks, ", ")+"]")
	}
	text := "  - " + strings.Join(append(keys, j.More...), "\n    ") + "\n"
	if j.Replace != nil {
		text = j.Replace.Replace(text)
	}
	return text
}

// staticYAML is the static-tunnels section.
func staticYAML(tunnels ...static) string {
	var b strings.Builder
	b.WriteString("static-tunnels:\n")
	for _, j := range tunnels {
		b.WriteString(j.yaml())
	}
	return b.String()
}

// site is the peer's side, for strongSwan.
func (j static) site(authority *topo.Authority) topo.SiteTunnel {
	public := j.Ours
	if j.Public.IsValid() {
		public = j.Public
	}
	ours, theirs := j.identities()
	t := topo.SiteTunnel{
		Name: j.Name, Local: j.Theirs, Peer: public.String(), Aggressive: j.Aggressive, ID: theirs, PeerID: ours,
		IKEConfig: topo.IKEConfig{IKE: []string{siteIKE}, ESP: []string{siteESP}},
	}
	if j.RSA {
		t.Authority = authority
	} else {
		t.PSK = siteKey
	}
	for _, n := range j.Networks {
		t.Networks = append(t.Networks, topo.SiteNetwork{Local: n.Remote, Remote: n.Local})
	}
	for _, change := range j.Site {
		change(&t)
	}
	return t
}

// mirrored is the peer's side, for another vrgate.
func (j static) mirrored() static {
	j.Ours, j.Theirs = j.Theirs, j.Ours
	j.Start = map[string]string{"respond": "nailed-up"}[j.Start]
	if j.Start == "" {
		j.Start = "respond"
	}
	networks := slices.Clone(j.Networks)
	for i, n := range networks {
		networks[i] = topo.SiteNetwork{Local: n.Remote, Remote: n.Local}
	}
	j.Networks = networks
	if ours, theirs := j.identities(); ours != "" {
		j.Replace = strings.NewReplacer("local-id: \"@"+ours, "local-id: \"@"+theirs, "peer-id: \"@"+theirs, "peer-id: \"@"+ours)
	}
	return j
}

// certificates are those of vrgate and of its peers, of one authority, with one key: making one takes seconds.
type certificates struct {
	authority *topo.Authority
	own, far  *topo.Certificate
}

func (w *world) certificates() certificates {
	w.t.Helper()
	c := certificates{authority: w.newAuthority("Example Authority")}
	var err error
	c.own, err = c.authority.Issue(w.ctx, gateName, topo.CertificateOptions{SANs: []string{"DNS:" + gateName}})
	w.check(err)
	c.far, err = c.authority.Issue(w.ctx, farName, topo.CertificateOptions{SANs: []string{"DNS:" + farName, "DNS:" + branchName}, KeyOf: c.own})
	w.check(err)
	return c
}

// ipsec is siteIPsec with a certificate.
func (c certificates) ipsec(own *topo.Certificate) string {
	return siteIPsec + fmt.Sprintf("certificates: {authorities: [%s], own: [{name: own, certificate: %s, key: %s}]}", c.authority.File, own.Bundle, own.Key)
}

// site makes a router with a network behind it, whose host has these addresses.
func (w *world) site(nat *topo.NAT, gateway string, own *topo.Certificate, inside ...string) *topo.Site {
	w.t.Helper()
	host, err := w.AddHost(w.ctx, nat)
	w.check(err)
	config := topo.SiteConfig{Host: host, Gateway: netip.MustParsePrefix(gateway), Own: own}
	for _, a := range inside {
		config.Addresses = append(config.Addresses, netip.MustParseAddr(a))
	}
	s, err := w.NewSite(w.ctx, config)
	w.check(err)
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("site %s:\n%s", gateway, s.Logs())
		}
		s.Close()
	})
	return s
}

// starts has strongSwan start at a site with its side of these tunnels.
func (w *world) starts(s *topo.Site, authority *topo.Authority, tunnels ...static) func() error {
	var theirs []topo.SiteTunnel
	for _, x := range tunnels {
		theirs = append(theirs, x.site(authority))
	}
	s.Configure(theirs...)
	return func() error { return s.Start(w.ctx) }
}

// while does one thing, which may end the test, while others are done beside it.
func (w *world) while(do func(), others ...func() error) {
	w.t.Helper()
	errs := make([]error, len(others))
	var all sync.WaitGroup
	for i, f := range others {
		all.Go(func() { errs[i] = f() })
	}
	do()
	all.Wait()
	w.check(errors.Join(errs...))
}

// addresses gives a site n outer addresses beside its own.
func (w *world) addresses(s *topo.Site, n int) []netip.Addr {
	w.t.Helper()
	var out []netip.Addr
	var lines []string
	a := s.Router().Address.As4()
	for i := range n {
		a[3] = byte(10 + i)
		out = append(out, netip.AddrFrom4(a))
		lines = append(lines, fmt.Sprintf("addr add %v/24 dev %s", out[i], s.Router().Interface))
	}
	w.check(s.Router().Namespace.IP(w.ctx, lines...))
	return out
}

// secondVRGate prepares another vrgate in the same network; what methods of the world that it returns ask is asked of that one.
func (w *world) secondVRGate(routers map[string]string) *world {
	w.t.Helper()
	there := *w
	d, err := daemon.New(filepath.Join(w.Dir(), "vrgate2"), routers)
	w.check(err)
	there.daemon = d
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("second vrgate:\n%s", d.Log())
		}
		if err := d.Kill(); err != nil {
			w.t.Error(err)
		}
	})
	return &there
}

// statics returns what vrgate shows of its static tunnels, by name.
func (w *world) statics() map[string]api.Tunnel {
	w.t.Helper()
	list, err := w.daemon.API().Tunnels(w.ctx, api.Filter{})
	w.check(err)
	out := map[string]api.Tunnel{}
	for _, t := range list {
		out[t.Name] = t
	}
	return out
}

// untilStatics waits until each of the named tunnels is as it has to be, and returns all.
func (w *world) untilStatics(what string, ok func(api.Tunnel) bool, names ...string) map[string]api.Tunnel {
	w.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		all := w.statics()
		var wrong []string
		for _, name := range names {
			if t, found := all[name]; !found || !ok(t) {
				wrong = append(wrong, fmt.Sprintf("%s is %s: %s %s, peer %v, last failure %+v, networks %+v", name, t.State, t.Reason, t.Text, t.RemoteAddress, t.LastFailure, t.Networks))
			}
		}
		if len(wrong) == 0 {
			return all
		}
		if time.Now().After(end) {
			w.t.Fatalf("static tunnels are not %s within %v:\n%s", what, patience, strings.Join(wrong, "\n"))
		}
	}
}

// joined waits until tunnels are up with all their networks.
func (w *world) joined(names ...string) map[string]api.Tunnel {
	w.t.Helper()
	return w.untilStatics("up", isUp, names...)
}

func isUp(t api.Tunnel) bool {
	return t.State == "up" && !slices.ContainsFunc(t.Networks, func(n api.TunnelNetwork) bool { return n.State != "up" })
}

// is waits for one tunnel.
func (w *world) is(name, what string, ok func(api.Tunnel) bool) api.Tunnel {
	w.t.Helper()
	return w.untilStatics(what, ok, name)[name]
}

// up waits until strongSwan has tunnels with all their networks.
func (w *world) upAt(s *topo.Site, names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.eventually("strongSwan has tunnel "+name, func() bool {
			up, err := s.Up(w.ctx, name)
			w.check(err)
			return up
		})
	}
}

// way is from a host to another.
type way struct {
	from       *topo.Host
	source, to netip.Addr // the zero source: the kernel's choice
}

// bothWays are those between two hosts.
func bothWays(a *topo.Host, addrA string, b *topo.Host, addrB string) []way {
	x, y := netip.MustParseAddr(addrA), netip.MustParseAddr(addrB)
	return []way{{a, x, y}, {b, y, x}}
}

// reaches pings all ways at once; nothing may be lost.
func (w *world) reaches(ways ...way) {
	w.t.Helper()
	errs := make([]error, len(ways))
	var all sync.WaitGroup
	for i, x := range ways {
		all.Go(func() {
			r, err := x.from.Ping(w.ctx, x.to, topo.PingOptions{Source: x.source})
			if err != nil || r.Lost() > 0 {
				errs[i] = fmt.Errorf("%v to %v: %d of %d lost (%v)", x.source, x.to, r.Lost(), r.Sent, err)
			}
		})
	}
	all.Wait()
	w.check(errors.Join(errs...))
}

// connects connects by TCP to an address of a host, from one in a namespace. The attempt is one: a refusal, or a message that the host is unreachable,
// is its end.
func (w *world) connects(from *topo.Namespace, source netip.Addr, host *topo.Host, address netip.Addr) {
	w.t.Helper()
	var l net.Listener
	w.check(host.Namespace.Do(func() (err error) {
		l, err = net.Listen("tcp4", netip.AddrPortFrom(address, 0).String())
		return err
	}))
	defer l.Close()
	d := net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))}
	var c net.Conn
	w.check(from.Do(func() (err error) {
		c, err = d.DialContext(w.ctx, "tcp4", l.Addr().String())
		return err
	}))
	w.check(c.Close())
}

// under pings all ways ten times a second while do runs; nothing may be lost.
func (w *world) under(do func(), ways ...way) {
	w.t.Helper()
	var pings []*topo.Pinger
	for _, x := range ways {
		p, err := x.from.StartPing(x.to, topo.PingOptions{Source: x.source, Interval: 100 * time.Millisecond})
		w.check(err)
		pings = append(pings, p)
	}
	time.Sleep(500 * time.Millisecond)
	do()
	time.Sleep(1500 * time.Millisecond)
	for i, p := range pings {
		r, err := p.Stop()
		w.check(err)
		w.t.Logf("%v to %v: %d of %d lost", ways[i].source, ways[i].to, r.Lost(), r.Sent)
		if r.Lost() > 0 || r.Sent < 10 {
			w.t.Errorf("%v to %v: %d of %d lost:\n%s", ways[i].source, ways[i].to, r.Lost(), r.Sent, r.Output)
		}
	}
}

// spis are those of a tunnel as vrgate shows them, in lower case hexadecimal digits.
func spis(t api.Tunnel) (in, out []string) {
	for _, n := range t.Networks {
		for _, sa := range n.Inbound {
			in = append(in, strings.ToLower(sa.SPI))
		}
		for _, sa := range n.Outbound {
			out = append(out, strings.ToLower(sa.SPI))
		}
	}
	return in, out
}

// allSPIs are both.
func allSPIs(t api.Tunnel) []string { in, out := spis(t); return append(in, out...) }

// echoes is how many ICMP echo requests have come to a host: who has answered a ping.
func (w *world) echoes(h *topo.Host) int {
	w.t.Helper()
	out, err := h.Namespace.Output(w.ctx, "cat", "/proc/net/snmp")
	w.check(err)
	lines := regexp.MustCompile(`(?m)^Icmp: (.*)$`).FindAllStringSubmatch(out, 2)
	if len(lines) != 2 {
		w.t.Fatalf("no counters of ICMP: %s", out)
	}
	i := slices.Index(strings.Fields(lines[0][1]), "InEchos")
	n, err := strconv.Atoi(strings.Fields(lines[1][1])[i])
	w.check(err)
	return n
}

// tell says a word of the operator about a tunnel.
func (w *world) tell(words ...string) {
	w.t.Helper()
	_, err := w.daemon.Run(w.ctx, append([]string{"tunnel"}, words...)...)
	w.check(err)
}

// within says whether something is so within a time.
func (w *world) within(limit time.Duration, ok func() bool) bool {
	for end := time.Now().Add(limit); !ok(); time.Sleep(500 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
