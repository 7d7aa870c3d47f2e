package controlplane

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/site"
)

// boundedStatic has what the settings below need.
const boundedStatic = `server-addresses: [192.0.2.1]
static-tunnels:
- name: hq
  peers: [%s]
  start: on-demand
  pre-shared-key: {key: the long random key of hq}
  networks: [{local: 10.1.0.0/16, remote: 10.2.0.0/16}]
`

// loadStatic loads a router with a tunnel; nil if the configuration is refused.
func loadStatic(t *testing.T, router string) *config.Router {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "vr"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"vrgate.yaml": "", "vr/a.yaml": router} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, _, err := config.Load(dir)
	if err != nil {
		return nil
	}
	return c.Router("a")
}

// validSite says whether the engine can follow a tunnel.
func validSite(t site.Tunnel) bool { return site.Config{Tunnels: []site.Tunnel{t}}.Validate() == nil }

// TestBoundsOfStatics: what the configuration allows is what the engine that dials can follow, no less and no more, though
// neither package knows the other.
func TestBoundsOfStatics(t *testing.T) {
	const day = 24 * time.Hour
	host := func(n int) string {
		var hosts []string
		for i := range n {
			hosts = append(hosts, fmt.Sprintf("198.51.100.%d", i+1))
		}
		return strings.Join(hosts, ", ")
	}
	check := func(more string) string { return "  check: {target: 10.2.0.1, " + more + "}\n" }
	for _, test := range []struct {
		name        string
		yaml        func(time.Duration) string
		set         func(*site.Tunnel, time.Duration)
		least, most time.Duration
	}{
		{"back-off", func(d time.Duration) string { return fmt.Sprintf("  back-off: %v\n  back-off-max: 24h\n", d) }, func(t *site.Tunnel, d time.Duration) { t.Backoff, t.BackoffMax = d, day }, time.Second, day},
		{"back-off-max", func(d time.Duration) string { return fmt.Sprintf("  back-off: 1\n  back-off-max: %v\n", d) }, func(t *site.Tunnel, d time.Duration) { t.Backoff, t.BackoffMax = time.Second, d }, time.Second, day},
		{"stable", func(d time.Duration) string { return fmt.Sprintf("  stable: %v\n", d) }, func(t *site.Tunnel, d time.Duration) { t.Stable = d }, time.Second, day},
		{"fall-back", func(d time.Duration) string { return fmt.Sprintf("  fall-back: %v\n", d) }, func(t *site.Tunnel, d time.Duration) { t.FallBack = d }, 10 * time.Second, day},
		{"idle-timeout", func(d time.Duration) string { return fmt.Sprintf("  idle-timeout: %v\n", d) }, func(t *site.Tunnel, d time.Duration) { t.Idle = d }, 10 * time.Second, day},
		{"no-return-timeout", func(d time.Duration) string { return fmt.Sprintf("  no-return-timeout: %v\n", d) }, func(t *site.Tunnel, d time.Duration) { t.NoReturn = d }, 10 * time.Second, day},
		{"period", func(d time.Duration) string { return check(fmt.Sprintf("timeout: 1, period: %v", d)) }, func(t *site.Tunnel, d time.Duration) { t.Check.Period, t.Check.Timeout = d, min(d, time.Second) }, time.Second, time.Hour},
		{"timeout", func(d time.Duration) string { return check(fmt.Sprintf("period: 1m, timeout: %v", d)) }, func(t *site.Tunnel, d time.Duration) { t.Check.Period, t.Check.Timeout = time.Minute, d }, 0, time.Minute},
	} {
		for _, d := range []time.Duration{test.least - time.Second, test.least, test.most, test.most + time.Second} {
			r := loadStatic(t, fmt.Sprintf(boundedStatic, host(1))+test.yaml(d))
			if d < 0 || d == 0 && test.name == "timeout" {
				if r != nil {
					t.Errorf("%s of %v is allowed", test.name, d)
				}
				continue // whole seconds are the file's rule
			}
			allowed := d >= test.least && d <= test.most
			by := siteTunnel(loadStatic(t, fmt.Sprintf(boundedStatic, host(1))+check("period: 1m")).StaticTunnels[0], "r")
			test.set(&by, d)
			if zero := d == 0; validSite(by) != allowed && !zero { // zero is a default, or never
				t.Errorf("%s of %v: the engine follows it: %v", test.name, d, !allowed)
			}
			if (r != nil) != allowed {
				t.Errorf("%s of %v: the file may say it: %v", test.name, d, r != nil)
			}
			if r != nil && !validSite(siteTunnel(r.StaticTunnels[0], "r")) {
				t.Errorf("%s of %v is allowed and cannot be followed", test.name, d)
			}
		}
	}
	// Peers, and what follows from there being none.
	for n, want := range map[int]bool{0: false, 1: true, site.MaxPeers: true, site.MaxPeers + 1: false} {
		if r := loadStatic(t, fmt.Sprintf(boundedStatic, host(n))); (r != nil) != want {
			t.Errorf("%d peers: %v", n, r != nil)
		} else if r != nil && !validSite(siteTunnel(r.StaticTunnels[0], "r")) {
			t.Errorf("%d peers cannot be followed", n)
		}
	}
	if config.MaxStaticPeers != site.MaxPeers {
		t.Errorf("%d and %d peers", config.MaxStaticPeers, site.MaxPeers)
	}
	// What a file says nothing about is what the engine would take for nothing.
	r := loadStatic(t, fmt.Sprintf(boundedStatic, host(1))+"  check: {target: 10.2.0.1}\n")
	got := siteTunnel(r.StaticTunnels[0], "")
	for name, same := range map[string]bool{
		"back-off": got.Backoff == time.Minute && got.BackoffMax == time.Hour, "stable": got.Stable == 2*time.Minute,
		"check": got.Check.Period == 30*time.Second && got.Check.Timeout == 5*time.Second && got.Check.Tolerance == 3,
	} {
		if !same {
			t.Errorf("the default of %s is not that of D23 or Z-11: %+v", name, got)
		}
	}
}

// TestIdentitiesOfStatics: an identity that the configuration allows is one that IKE can compare, though neither package knows the
// other: else it would be nobody's.
func TestIdentitiesOfStatics(t *testing.T) {
	for id, ok := range map[string]bool{
		"192.0.2.9": true, "@gate.example.net": true, "admin@example.net": true, "office": true, "keyid:any": true, "keyid:192.0.2.9": true,
		"dn:CN=gate": true, "dn:CN=gate,O=Example,C=DE": true, "dn:1.2.3=x": true, "dn:DC=net,E=a@b": true, "dn:CN=gate\\, the first,O=x": true, "dn:CN=\\c3\\9cbung": true, "dn:CN=a\\\\ff": true,
		"dn:": false, "dn:CN": false, "dn:XX=1": false, "dn:9.9.9=x": false, "dn:CN=a\\": false, "dn:CN=\\ff": false, "dn:" + strings.Repeat("O=x,", 64) + "CN=y": false,
	} {
		for _, key := range []string{"local-id", "peer-id"} {
			r := loadStatic(t, fmt.Sprintf(boundedStatic, "198.51.100.1")+fmt.Sprintf("  %s: '%s'\n", key, id))
			if (r != nil) != ok {
				t.Errorf("%s %q: the file may say it: %v", key, id, r != nil)
			}
		}
		if err := ike.CheckID(id); (err == nil) != ok {
			t.Errorf("%q: IKE says %v", id, err)
		}
	}
}
