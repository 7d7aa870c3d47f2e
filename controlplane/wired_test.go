package controlplane_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
	"vrgate/controlplane/keymat"
	"vrgate/test/peer"
)

// wired is the router red with more in its configuration, each part a text that YAML takes.
type wired struct {
	process    string // vrgate.yaml
	ipsec      string // further keys of ipsec, one line
	transport  string // further keys of the transport profile, one line
	groupKeys  string // instead of the one
	remoteHost string // further keys of the host profile
}

func (c wired) load() map[string]string {
	text := routerYAML("red", "192.0.2.1")
	replace := func(old, new string) {
		if !strings.Contains(text, old) {
			panic("no " + old)
		}
		text = strings.Replace(text, old, new, 1)
	}
	if c.ipsec != "" {
		replace("ipsec:\n", "ipsec:\n  "+c.ipsec+"\n")
	}
	if c.transport != "" {
		replace("    - name: clients\n", "    - name: clients\n      "+c.transport+"\n")
	}
	if c.groupKeys != "" {
		replace("group-keys: [{name: everybody, key: "+testKey+"}]", "group-keys: "+c.groupKeys)
	}
	if c.remoteHost != "" {
		replace("{remote-host: default}", "{remote-host: default, "+c.remoteHost+"}")
	}
	return map[string]string{"vrgate.yaml": c.process, "vr/red.yaml": text}
}

// logged says whether a line with this message has the field values.
func (w *world) logged(message string, fields map[string]string) bool {
	return slices.ContainsFunc(w.logs.FilterMessageSnippet(message).All(), func(e observer.LoggedEntry) bool {
		m := e.ContextMap()
		for k, v := range fields {
			if fmt.Sprint(m[k]) != v {
				return false
			}
		}
		return true
	})
}

// TestWiredKeys: keys of single peers by address and by identity, and several group keys of
// one address (D1r, D4r), from YAML to the proof of message 5; the log names the one that
// matched, and somebody else's does not help.
func TestWiredKeys(t *testing.T) {
	cfg := wired{
		ipsec: `pre-shared-keys: [{name: branch, peer-address: 198.51.100.1, key: the key of the branch}, ` +
			`{name: laptop, peer-identity: laptop.example.net, key: the key of the laptop}, {name: carol, peer-identity: carol@example.net, key: the key of carol}]`,
		groupKeys: "[{name: spring, key: the key of spring}, {name: summer, key: the key of summer}]",
	}.load()
	for _, tc := range []struct {
		name, addr, key, id string
		want                string // name of the key; empty: refused
		reason              string // of the refusal
	}{
		{"by address", "198.51.100.1", "the key of the branch", "", "branch", ""},
		{"by name", "198.51.100.2", "the key of the laptop", "@laptop.example.net", "laptop", ""},
		{"by mail address", "198.51.100.3", "the key of carol", "carol@example.net", "carol", ""},
		{"first group key", "198.51.100.4", "the key of spring", "", "spring", ""},
		{"second group key", "198.51.100.5", "the key of summer", "", "summer", ""},
		{"second group key, at the address of another", "198.51.100.1", "the key of summer", "", "summer", ""},
		{"the key of another address", "198.51.100.6", "the key of the branch", "", "", "pre-shared-keys-differ"},
		{"the key of another name", "198.51.100.7", "the key of the laptop", "@desktop.example.net", "", "identity-refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, loadConfig(t, cfg))
				s := w.connect("red", "bob", tc.addr, func(c *peer.Config) {
					c.Key = keymat.Secret(tc.key)
					c.IKE = func(c *ike.Config) { c.Keys[0].LocalID = tc.id }
				})
				if tc.want == "" {
					if a, failed := s.settle(2 * time.Minute); a.IsValid() || failed == "" {
						t.Errorf("the client has %v, failed: %q", a, failed)
					}
					if !w.logged("", map[string]string{"reason": tc.reason}) {
						t.Errorf("no reason %s in the log", tc.reason)
					}
				} else {
					s.assertUp()
					if !w.logged("IPsec up", map[string]string{"key": tc.want}) {
						t.Errorf("the log does not name the key %s: %v", tc.want, w.logs.FilterMessage("IPsec up").All())
					}
					if !w.logged(fmt.Sprintf("key %q", tc.want), nil) {
						t.Errorf("the sentence about phase 1 does not name the key %s", tc.want)
					}
				}
				if err := w.finish(); err != nil {
					t.Error(err)
				}
				for _, e := range w.logs.All() {
					if text := fmt.Sprint(e.Message, e.ContextMap()); strings.Contains(text, "the key of") {
						t.Errorf("the log holds a key: %s", text)
					}
				}
			})
		})
	}
}

// TestWiredTunnelPassword: the tunnel password of a host profile is that of the challenge.
func TestWiredTunnelPassword(t *testing.T) {
	for _, tc := range []struct {
		name, secret string
		up           bool
	}{{"right", "between LAC and LNS", true}, {"wrong", "something else", false}, {"none", "", false}} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, loadConfig(t, wired{remoteHost: "tunnel-password: between LAC and LNS"}.load()))
				s := w.connect("red", "bob", "198.51.100.1", func(c *peer.Config) { c.TunnelSecret = keymat.Secret(tc.secret) })
				a, failed := s.settle(2 * time.Minute)
				if a.IsValid() != tc.up || !tc.up && !strings.HasPrefix(failed, "l2tp: ") {
					t.Errorf("the client has %v, failed: %q", a, failed)
				}
				if err := w.finish(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestWiredIPsec: words of the configuration that decide about SAs show in what was agreed.
func TestWiredIPsec(t *testing.T) {
	pfs := func(g keymat.Group) func(*ike.Config) {
		return func(c *ike.Config) { c.Transports[0].PFS = g }
	}
	for _, tc := range []struct {
		name   string
		cfg    wired
		nat    bool
		client func(*ike.Config)
		refuse string // reason; empty: comes up
		check  func(t *testing.T, w *world)
	}{
		{"NAT-T (C1r, C13r)", wired{}, true, nil, "", func(t *testing.T, w *world) {
			if sas, err := w.p.IKESAs(context.Background()); err != nil || len(sas) != 1 || !sas[0].NATT || sas[0].Remote.Port() != 4500 {
				t.Errorf("IKE SAs %+v, %v, want one with NAT-T", sas, err)
			}
			if list, err := w.p.IPsec(context.Background()); err != nil || len(list) != 1 || !list[0].UDPEncapsulation || !list[0].NATPeer {
				t.Errorf("IPsec %+v, %v, want one in UDP", list, err)
			}
		}},
		{"NAT-T off, and a NAT (C1r, C4r)", wired{ipsec: "nat-t: false"}, true, nil, "selectors-refused", func(t *testing.T, w *world) {
			if vrs, err := w.p.VRs(context.Background()); err != nil || len(vrs) != 1 || vrs[0].NATT {
				t.Errorf("virtual routers %+v, %v", vrs, err)
			}
			if w.logged("peer behind NAT", nil) {
				t.Error("a NAT was detected without NAT-T")
			}
		}},
		{"NAT-T off, no NAT (C4r)", wired{ipsec: "nat-t: false"}, false, nil, "", nil},
		{"PFS of the client's own (K9)", wired{}, false, pfs(keymat.MODP2048), "", nil},
		{"PFS demanded and missing (K9)", wired{transport: "pfs: modp2048"}, false, nil, "pfs-refused", nil},
		{"PFS demanded and too weak (K9)", wired{transport: "pfs: modp2048"}, false, pfs(keymat.MODP1024), "pfs-refused", nil},
		{"PFS demanded (K9)", wired{transport: "pfs: modp2048"}, false, pfs(keymat.MODP2048), "", nil},
		{"lifetimes (K7)", wired{transport: "lifetime: 2000\n      lifetime-kilobytes: 102400"}, false, func(c *ike.Config) {
			c.Transports[0].Lifetime, c.Transports[0].LifeKB = time.Hour, 300000
		}, "", func(t *testing.T, w *world) {
			list, err := w.p.IPsec(context.Background())
			if err != nil || len(list) != 1 || len(list[0].Inbound) != 1 || len(list[0].Outbound) != 1 {
				t.Fatalf("IPsec %+v, %v", list, err)
			}
			for _, sa := range append(list[0].Inbound, list[0].Outbound...) {
				if sa.LifetimeSeconds != 2000 || sa.LifetimeKilobytes != 102400 {
					t.Errorf("SA lives %d s and %d kB, want 2000 s and 102400 kB", sa.LifetimeSeconds, sa.LifetimeKilobytes)
				}
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, loadConfig(t, tc.cfg.load()))
				var nat netip.Addr
				if tc.nat {
					nat = netip.MustParseAddr("203.0.113.1")
				}
				s := w.connectThrough(nat, "red", "bob", "198.51.100.1", func(c *peer.Config) { c.IKE = tc.client })
				if tc.refuse == "" {
					s.assertUp()
				} else {
					if a, failed := s.settle(2 * time.Minute); a.IsValid() || failed == "" {
						t.Errorf("the client has %v, failed: %q", a, failed)
					}
					if !w.logged("", map[string]string{"reason": tc.refuse}) {
						t.Errorf("no reason %s in the log", tc.refuse)
					}
				}
				if tc.check != nil {
					tc.check(t, w)
				}
				if err := w.finish(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestWiredHalfOpen: the limits of vrgate.yaml hold in each virtual router, per source and in
// total, and go with the negotiations that filled them.
func TestWiredHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, wired{process: "half-open: {total: 5, per-source: 2}\n"}.load()))
		halfOpen := func() int {
			vrs, err := w.p.VRs(context.Background())
			if err != nil || len(vrs) != 1 {
				t.Fatalf("virtual routers %+v, %v", vrs, err)
			}
			return vrs[0].HalfOpen
		}
		knock := func(source byte, serial uint64) {
			first := offers.AppleL2TP().MainMode(isakmp.Cookie(binary.BigEndian.AppendUint64(nil, serial))).Append(nil)
			w.kernel.ReceiveIKE("red", netip.MustParseAddrPort("192.0.2.1:500"), netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, source}), 500), false, first)
			time.Sleep(time.Millisecond)
		}
		for i := range uint64(4) {
			knock(1, 100+i)
		}
		if n := halfOpen(); n != 2 {
			t.Errorf("one source has %d half-open SAs, its limit is 2", n)
		}
		for i := range byte(9) {
			knock(10+i, 200+uint64(i))
		}
		if n := halfOpen(); n != 5 {
			t.Errorf("%d half-open SAs, the limit is 5", n)
		}
		time.Sleep(time.Minute)
		if n := halfOpen(); n != 0 {
			t.Errorf("%d half-open SAs a minute later", n)
		}
		w.connect("red", "bob", "198.51.100.1", nil).assertUp()
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}
