package config

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// checkInvariants checks what config.go promises, with numbers written down
// again rather than taken from the struct tags.
func checkInvariants(t *testing.T, c *Config) {
	t.Helper()
	in := func(what string, v, lo, hi int64, zero bool) {
		t.Helper()
		if (v < lo || v > hi) && (v != 0 || !zero) {
			t.Errorf("%s is %d, promised %d to %d (0: %v)", what, v, lo, hi, zero)
		}
	}
	within := func(what string, d time.Duration, lo, hi int64, zero bool) {
		t.Helper()
		if d%time.Second != 0 {
			t.Errorf("%s is %v", what, d)
		}
		in(what, int64(d/time.Second), lo, hi, zero)
	}
	secret := func(what string, s Secret) {
		t.Helper()
		in(what, int64(len(s)), 1, 256, false)
	}
	p := c.Process
	in("dh", int64(p.Workers.DH), 1, 1024, false)
	in("kernel", int64(p.Workers.Kernel), 1, 1024, false)
	in("total", int64(p.HalfOpen.Total), 1, 1000000, false)
	in("per source", int64(p.HalfOpen.PerSource), 1, int64(p.HalfOpen.Total), false)
	within("shutdown", p.ShutdownTimeout, 1, 600, false)
	licences := func(l Licences) {
		t.Helper()
		in("subscribers", int64(l.Subscribers), 1, 1000000, true)
		in("IPsec tunnels", int64(l.IPsecTunnels), 1, 1000000, true)
	}
	licences(p.Licences)
	in("socket", int64(len(p.API.Socket)), 1, 107, false)
	in("concurrent", int64(p.Admission.Concurrent), 1, 10000, false)
	in("waiting", int64(p.Admission.Waiting), 0, 1000000, false)
	in("admitted per source", int64(p.Admission.PerSource), 1, 1000000, false)
	in("records", int64(p.Journal.MaxRecords), 1000, 100000000, false)
	in("parallel", int64(p.Journal.Parallel), 1, 1024, false)
	if p.DefaultRouter != "" && c.Router(p.DefaultRouter) == nil {
		t.Errorf("default router %q", p.DefaultRouter)
	}
	if !strings.HasPrefix(p.API.Socket, "/") || !strings.HasPrefix(p.StateDir, "/") {
		t.Errorf("relative paths in %+v", p)
	}
	statics := map[string]bool{}
	for i, r := range c.Routers {
		if i > 0 && c.Routers[i-1].Name >= r.Name {
			t.Errorf("routers %q and %q are not in order", c.Routers[i-1].Name, r.Name)
		}
		if (r.Kind == KindVRF) != (r.VRF != VRF{}) {
			t.Errorf("kind %v with %+v", r.Kind, r.VRF)
		}
		in("rules", int64(len(r.Policy)), 0, 10, false)
		for j, rule := range r.Policy {
			in("priority", int64(rule.Priority), 1, 10000, false)
			within("phase 1 lifetime", rule.Lifetime, 60, 86400, false)
			if len(rule.Encryption) == 0 || len(rule.Hash) == 0 || len(rule.Group) == 0 {
				t.Errorf("rule with an empty list: %+v", rule)
			}
			if j > 0 && r.Policy[j-1].Priority >= rule.Priority {
				t.Errorf("rules not in order: %+v", r.Policy)
			}
		}
		served := map[netip.Addr]bool{{}: true}
		for _, a := range r.ServerAddresses {
			if served[a] || a.IsUnspecified() || a.IsLinkLocalUnicast() {
				t.Errorf("server address %v", a)
			}
			served[a] = true
		}
		for _, tp := range r.TransportProfiles {
			within("phase 2 lifetime", tp.Lifetime, 1800, 864000, false)
			in("kilobytes", int64(tp.LifetimeKilobytes), 102400, 4294967295, false)
			if tp.Certificate != "" && !r.hasCertificate(tp.Certificate) {
				t.Errorf("certificate %q of %q", tp.Certificate, tp.Name)
			}
			if len(tp.Locals) == 0 || !tp.RemoteAddress.Is4() {
				t.Errorf("transport profile %+v", tp)
			}
			for _, l := range tp.Locals {
				if !served[l.Address] || !l.Address.Is4() || len(l.GroupKeys) > 8 {
					t.Errorf("local %+v", l)
				}
				for _, k := range l.GroupKeys {
					secret("group key", k.Key)
					if !k.From.IsZero() && !k.Until.IsZero() && !k.From.Before(k.Until) {
						t.Errorf("group key %q is valid from %v until %v", k.Name, k.From, k.Until)
					}
				}
			}
			for _, x := range tp.Transforms {
				if x.Encryption.AEAD() != (x.Integrity == IntegrityNone) || x.Encryption == 0 || x.Integrity == 0 {
					t.Errorf("transform %v", x)
				}
			}
		}
		for _, k := range r.Keys {
			secret("key", k.Key)
			if k.PeerAddress.IsValid() == (k.PeerIdentity.Kind != 0) {
				t.Errorf("key %+v", k)
			}
		}
		licences(r.Licences)
		within("DPD", r.DPD.Sent, 5, 3600, false)
		within("DPD", r.DPD.Unanswered, 5, 3600, false)
		within("DPD", r.DPD.Silent, 5, 86400, false)
		checkTunnels(t, r)
		checkLinks(t, c, r)
		checkStatics(t, c, r, statics)
		l := r.L2TP
		within("destruct", l.DestructTimeout, 10, 3600, false)
		within("idle", l.IdleTimeout, 0, 86400, true)
		within("hello", l.HelloInterval, 1, 3600, true)
		within("setup", l.SetupTimeout, 5, 300, false)
		in("retransmit", int64(l.RetransmitEstablished), 2, 7, false)
		in("retransmit", int64(l.RetransmitNotEstablished), 2, 7, false)
		in("window", int64(l.ReceiveWindow), 1, 32, true)
		in("sessions", int64(l.MaxSessions), 1, 1000000, true)
		within("short drain", l.ShortDrain, 0, 31, false)
		within("lockout", l.Lockout, 60, 3600, false)
		in("state", int64(l.Admin), int64(AdminEnabled), int64(AdminDisabled), false)
		in("destinations", int64(len(r.Destinations)), 0, 4000, false)
		for _, d := range r.Destinations {
			if !d.LACAddress.IsValid() || len(d.Hosts) == 0 {
				t.Errorf("destination profile %+v", d)
			}
			for _, h := range d.Hosts {
				if r.IPProfile(h.IPProfile) == nil || !served[h.LocalAddress] || h.LocalHost == "" {
					t.Errorf("host profile %+v", h)
				}
				in("window", int64(h.ReceiveWindow), 1, 32, true)
				if h.HideAVPs && h.TunnelPassword == nil || h.IPsecRequired && !d.LACAddress.Is4() || h.LocalAddress.IsValid() && h.LocalAddress.Is4() != d.LACAddress.Is4() {
					t.Errorf("host profile %+v of %v", h, d.LACAddress)
				}
			}
		}
		in("mru", int64(r.PPP.MRU), 576, 1500, false)
		within("echo", r.PPP.EchoInterval, 1, 3600, true)
		in("failures", int64(r.PPP.EchoFailures), 1, 100, false)
		in("methods", int64(len(r.PPP.Authentication)), 1, 4, false)
		checkRADIUS(t, r)
		checkAAA(t, c, r)
		for _, ip := range r.IPProfiles {
			term := c.Router(ip.Router)
			if term == nil || term.Namespace != r.Namespace && !r.forTunnelsOnly(ip.Name) || !ip.Unnumbered.Is4() || len(ip.DNS) > 2 || len(ip.NBNS) > 2 {
				t.Errorf("IP profile %+v", ip)
				continue
			}
			if (ip.Pool == "") != (len(term.Pools) == 0) || ip.Pool != "" && term.Pool(ip.Pool) == nil {
				t.Errorf("IP profile %+v with pools %+v", ip, term.Pools)
			}
			in("mtu", int64(ip.MTU), 576, 1500, true)
			in("mss", int64(ip.MSS), 536, 1460, true)
			within("idle timeout", ip.IdleTimeout, 300, 86400, true)
			for _, pool := range term.Pools {
				if inRanges(pool.Ranges, ip.Unnumbered) && !inRanges(pool.Exclude, ip.Unnumbered) {
					t.Errorf("the gateway %v can be leased from %+v", ip.Unnumbered, pool)
				}
			}
		}
		var all []AddrRange
		for _, pool := range r.Pools {
			ascending(t, pool.Ranges)
			ascending(t, pool.Exclude)
			if len(pool.Ranges) == 0 || count(pool.Ranges) <= count(pool.Exclude) {
				t.Errorf("pool without addresses %+v", pool)
			}
			for _, o := range all {
				for _, x := range pool.Ranges {
					if _, both := overlap(o, x); both {
						t.Errorf("%v and %v are in two pools", o, x)
					}
				}
			}
			all = append(all, pool.Ranges...)
			in("warning", int64(pool.WarnAt), 0, 100, false)
			in("end of the warning", int64(pool.WarnUntil), 0, int64(pool.WarnAt), false)
		}
		names := map[string]bool{}
		for _, u := range r.Users {
			secret("password", u.Password)
			if names[u.Name] || u.Name == "" || u.Router != "" && c.Router(u.Router) == nil {
				t.Errorf("user %+v", u)
			}
			within("session timeout", u.SessionTimeout, 60, 31622400, true)
			within("idle timeout", u.IdleTimeout, 300, 86400, true)
			checkUser(t, u)
			names[u.Name] = true
		}
	}
}

// hasCertificate says whether the router has a certificate of that name.
func (r *Router) hasCertificate(name string) bool {
	return slices.ContainsFunc(r.Certificates.Own, func(o OwnCertificate) bool { return o.Name == name })
}

// checkTunnels checks what tunnels.go promises. A peer can always be assigned to one
// profile (J18, J19).
func checkTunnels(t *testing.T, r *Router) {
	t.Helper()
	c := r.Certificates
	for _, o := range c.Own {
		if (o.PKCS12 == "") == (o.Certificate == "" && o.Key == "") || (o.Certificate == "") != (o.Key == "") || o.Name == "" {
			t.Errorf("certificate %+v", o)
		}
	}
	if !slices.IsSortedFunc(c.Own, func(a, b OwnCertificate) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("certificates not in order: %+v", c.Own)
	}
	if c.ExpiryWarning < 0 || c.Revocation.Refresh < time.Minute || c.Revocation.Refresh > 7*24*time.Hour || c.Revocation.Strict && len(c.Revocation.Files)+len(c.Revocation.URLs) == 0 {
		t.Errorf("certificates %+v", c)
	}
	group := map[netip.Addr]bool{}
	for _, tp := range r.TransportProfiles {
		for _, l := range tp.Locals {
			group[l.Address] = group[l.Address] || len(l.GroupKeys) > 0
		}
	}
	everybody := map[netip.Addr]string{}
	names := map[string]bool{}
	for _, p := range r.TunnelProfiles {
		if p.Name == "" || names[p.Name] || r.IPProfile(p.IPProfile) == nil || p.Certificate != "" && !r.hasCertificate(p.Certificate) {
			t.Errorf("tunnel profile %+v", p)
		}
		names[p.Name] = true
		if p.Certificate == "" && len(p.Keys) == 0 && len(r.Keys) == 0 {
			t.Errorf("nobody can authenticate by %+v", p)
		}
		if p.Attempts < 1 || p.Attempts > 10 || p.MaxSubscribers < 0 || p.MaxSubscribers > 1000000 || p.MTU < 160 || p.MTU > 9000 ||
			p.Lifetime < 1800*time.Second || p.Lifetime > 864000*time.Second || p.LifetimeKilobytes < 102400 || p.XAuth < XAuthGeneric || p.XAuth > XAuthNone ||
			p.AddressExpiry != 0 && (p.AddressExpiry < time.Minute || p.AddressExpiry > 366*24*time.Hour) ||
			len(p.Transforms) > 6 || len(p.Networks) > 64 || len(p.Phase2Local) > 64 || len(p.Phase2Peer) > 64 || len(p.PeerIdentities) > 64 || len(p.Keys) > 1000 {
			t.Errorf("tunnel profile %+v", p)
		}
		for _, n := range slices.Concat(p.Networks, p.Phase2Local, p.Phase2Peer) {
			if n != n.Masked() || !n.Addr().Is4() {
				t.Errorf("network %v", n)
			}
		}
		locals := []netip.Addr{p.LocalAddress}
		if !p.LocalAddress.IsValid() {
			locals = r.ServerAddresses
		}
		for _, local := range locals {
			for _, k := range p.Keys {
				if len(k.Key) == 0 || len(k.Key) > 256 {
					t.Errorf("key %q of %d bytes", k.Name, len(k.Key))
				}
				if k.Identity != "" {
					continue
				}
				if group[local] {
					t.Errorf("%v has group keys and the key %q", local, k.Name)
				}
				if first, there := everybody[local]; there && first != p.Name && len(p.PeerIdentities) == 0 {
					t.Errorf("%q and %q on %v are one", first, p.Name, local)
				}
				if len(p.PeerIdentities) == 0 {
					everybody[local] = p.Name
				}
			}
		}
	}
}

func ascending(t *testing.T, rs []AddrRange) {
	t.Helper()
	for i, r := range rs {
		if r.Last.Less(r.First) || i > 0 && r.First.Compare(rs[i-1].Last) <= 0 {
			t.Errorf("ranges %v", rs)
		}
	}
}

// FuzzParse: no input panics or makes a message without a place; what is
// accepted keeps every promise of config.go, and twice the same gives the same.
func FuzzParse(f *testing.F) {
	f.Add("", good)
	f.Add("log: {level: debug}\nhalf-open: {total: 3}\n", "namespace: {name: x, create: true}\nvrf: {device: d, table: 7}\n"+good)
	f.Add("licences: {subscribers: 3}\n", tunnels)
	f.Add("default-router: r\n", aaaOut)
	f.Add("", clear+"aaa: {domain-maps: [{domain: x, tunnel-servers: [{address: \"2001:db8::9\"}, {address: 198.51.100.1, preference: 1, tunnel-password: p}, ~]}]}\n")
	f.Add("", strings.Replace(good, "key: 0123456789abcdef", "valid-from: 2026-08-01T00:00:00Z\n              valid-until: 2026-07-01T00:00:00Z\n              key-file: key", 1))
	f.Add(aaaProcess, strings.ReplaceAll(strings.ReplaceAll(aaaFiles()["out"], "virtual-router: in", "virtual-router: r"), "authentication-router: in", "authentication-router: r"))
	f.Add("", "users: [~]\nradius: {servers: [~], groups: [~]}\naaa: {domain-maps: [~, {domain: x, override-user: ~}]}\ntraffic-policies: [~, {rules: [~]}]\n")
	f.Add("", "links:\n- {interface: {device: e}, addresses: [10.0.0.1/24], routes: [{network: 10.1.0.0/16, via: 10.0.0.2}]}\n- {name: v, vlan: {parent: e, id: 5}}\n- {name: i, ipip: {local: 10.0.0.1, remote: 10.0.0.3}}\n- {name: g, gre: {local: 10.0.0.1, remote: 10.0.0.3, key: 9}}\n")
	f.Add("", "links: [~, {veth: ~}, {interface: [], name: x}, {name: y, veth: {virtual-router: r, name: y}}, {name: z, vlan: {parent: z, id: 1}}]\n")
	f.Add("", fullStatic[:strings.Index(fullStatic, "    transport-v")]+strings.Replace(fullStatic[strings.Index(fullStatic, "    enabled"):], "static-tunnels:", "", 1)+front[strings.Index(front, "server"):])
	f.Add("", shortStatic+"  - {name: p, mode: policy, peers: [x.example], local-id: a, peer-id: any, pre-shared-key: {key-file: key}, networks: [{local: 10.9.0.0/16, remote: 10.8.0.0/16}]}\n  - {name: t, mode: transport, peers: [198.51.100.9], pre-shared-key: {key: x}, networks: [{protocol: gre}]}\n")
	f.Add("", shortStatic+"  - {name: d, pre-shared-key: {key: y}, extended-authentication: server, peer-id: any, networks: [{local: 10.9.0.0/16, remote: 10.8.0.0/16}], check: {target: 10.8.0.1}}\nlinks: [{name: e, interface: {device: e}, routes: [{network: 10.8.0.0/16, metric: 1}]}]\n")
	f.Add("", "static-tunnels: [~, {name: x, networks: [~], peers: [~], interface: ~, check: [], pre-shared-key: ~}, {interface: {routes: [~], addresses: [~]}}]\nname-servers: [~]\n")
	f.Add("workers: {dh: -1}\n", "users: [{name: 1, password: ~}]\n")
	f.Add("a: &a [*a]\n", "? {a: b}\n: c\n<<: [x]\n")
	f.Add("!!binary x: 1", "pools:\n- name: p\n  ranges: [0.0.0.0/0, 255.255.255.255, 1.1.1.1-1.1.1.0]\n")
	f.Add("\xef\xbb\xbflog: {}", "ip-profiles:\n- {name: a, unnumbered-address: 1.1.1.1, virtual-router: r, dns: [1.1.1.1]}\n")
	f.Fuzz(func(t *testing.T, process, router string) {
		files := map[string]string{"vrgate": process, "r": router}
		c, warnings, errs := parseFiles(files)
		if (c == nil) != (len(errs) > 0) {
			t.Fatal("there must be a Config iff there are no errors")
		}
		for _, d := range append(errs, warnings...) {
			if d.Pos.File == "" || d.Message == "" || strings.ContainsAny(d.Message, "\n\r") || d.Pos.Line < 0 || d.Pos.Column < 0 {
				t.Errorf("bad diagnostic %#v", d)
			}
			if lines := strings.Count(process+router, "\n") + strings.Count(process+router, "\r") + 2; d.Pos.Line > lines {
				t.Errorf("%v is behind the end of the file", d)
			}
		}
		if c != nil {
			checkInvariants(t, c)
		}
		again, _, errsAgain := parseFiles(files)
		if diff := cmp.Diff(errs, errsAgain); diff != "" {
			t.Errorf("another time other errors: %s", diff)
		}
		if diff := cmp.Diff(c, again, compareConfig); diff != "" {
			t.Errorf("another time another Config: %s", diff)
		}
	})
}

// TestRangeArithmetic compares range functions with sets of addresses.
func TestRangeArithmetic(t *testing.T) {
	const base = uint32(0x0a0000fe) // 10.0.0.254, so that carries happen
	addr := func(i int) netip.Addr {
		n := base + uint32(i)
		return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	const span = 40
	rapid.Check(t, func(t *rapid.T) {
		var rs []AddrRange
		var set [span + 20]bool
		for range rapid.IntRange(0, 8).Draw(t, "ranges") {
			first := rapid.IntRange(0, span).Draw(t, "first")
			last := first + rapid.IntRange(0, 15).Draw(t, "length")
			rs = append(rs, AddrRange{addr(first), addr(last)})
			for i := first; i <= last; i++ {
				set[i] = true
			}
		}
		got := normalise(rs)
		n := uint64(0)
		for i := range set {
			if set[i] {
				n++
			}
			if inRanges(got, addr(i)) != set[i] {
				t.Fatalf("%v in %v: want %v", addr(i), got, set[i])
			}
		}
		if count(got) != n {
			t.Fatalf("%v counts %d, want %d", got, count(got), n)
		}
		for i := range got {
			if i > 0 && got[i].First.Compare(got[i-1].Last.Next()) <= 0 {
				t.Fatalf("%v touches the one before in %v", got[i], got)
			}
		}
		for _, a := range rs {
			for _, b := range rs {
				o, both := overlap(a, b)
				for i := range set {
					if want := a.Contains(addr(i)) && b.Contains(addr(i)); want != (both && o.Contains(addr(i))) {
						t.Fatalf("overlap of %v and %v is %v, %v", a, b, o, both)
					}
				}
			}
		}
	})
	last := netip.MustParseAddr("255.255.255.255")
	if got := normalise([]AddrRange{{last, last}, {last, last}}); len(got) != 1 {
		t.Errorf("the last address: %v", got)
	}
	for word, want := range map[string]string{
		"10.0.0.0/24": "10.0.0.1-10.0.0.254", "10.0.0.0/30": "10.0.0.1-10.0.0.2", "10.0.0.0/31": "10.0.0.0-10.0.0.1", "10.0.0.9/32": "10.0.0.9",
		"10.0.0.1 - 10.0.0.3": "10.0.0.1-10.0.0.3", "10.0.0.0/15": "10.0.0.1-10.1.255.254",
	} {
		if got, err := parseRange(word); err != nil || got.String() != want {
			t.Errorf("%s is %v, %v; want %s", word, got, err, want)
		}
	}
}
