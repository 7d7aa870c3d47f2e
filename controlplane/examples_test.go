package controlplane_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/test/peer"
)

// exampleClients are the users of the examples below deploy, with what they have to know.
var exampleClients = map[string][]struct {
	router, user, password, server, key string
	address                             string // prefix of the address
	kernel                              string // line of the kernel's text
}{
	"carrier": {
		{"lns", "ivan", "the password of ivan", "192.0.2.1", "the long random key of the staff", "10.60.0.", "in lns mtu 1400"},
	},
	"home-lab": {
		{"home", "alice", "replace me too", "192.0.2.1", "replace me with a long random key", "10.10.0.", "in home mtu 1400"},
		{"home", "bob", "replace me as well", "192.0.2.1", "replace me with a long random key", "10.10.0.50", "in home mtu 1400"},
	},
	"legacy-clients": {
		{"main", "frank", "the password of frank", "192.0.2.1", "the long random key of present clients", "10.30.", "in main mtu 1360"},
		{"main", "frank", "the password of frank", "192.0.2.2", "another long random key, for old clients only", "10.30.", "in main mtu 1360"},
	},
	"radius": {
		{"main", "heidi", "the password of heidi", "192.0.2.1", "the long random key of L2TP clients", "10.50.", "in main"},
	},
	"remote-access": {
		{"main", "gina", "the password of gina", "192.0.2.1", "the long random key of L2TP clients", "10.40.", "in main"},
	},
	"site-to-site": {
		{"red", "rita", "the password of rita", "192.0.2.1", "the long random key of the staff of red", "10.1.8.", "in red mtu 1400"},
		{"front", "boris", "the password of boris", "203.0.113.1", "the long random key of the staff of blue", "10.1.8.", "in blue mtu 1400"},
	},
	"two-tenants": {
		{"blue", "carol", "the password of carol in blue", "203.0.113.1", "the long random key of tenant blue", "10.0.0.1", "in blue"},
		{"red", "carol", "the password of carol in red", "198.51.100.1", "the long random key of tenant red", "10.0.0.1", "in red"},
	},
	"vrf": {
		{"outside", "dave", "the password of dave", "192.0.2.1", "the long random key of spring", "10.20.", "in inside"},
		{"outside", "dave", "the password of dave", "192.0.2.1", "the long random key of summer", "10.20.", "in inside"},
		{"outside", "erin", "the password of erin", "192.0.2.1", "the long random key of summer", "10.20.5.5", "route to 10.20.5.5 from 10.20.0.1"},
	},
}

// TestExamples runs every example configuration and connects its users.
func TestExamples(t *testing.T) {
	dirs, err := os.ReadDir("../deploy/examples")
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) != len(exampleClients) {
		t.Errorf("%d examples, clients for %d", len(dirs), len(exampleClients))
	}
	for _, d := range dirs {
		t.Run(d.Name(), func(t *testing.T) {
			cfg, _, err := config.Load(ready(t, filepath.Join("../deploy/examples", d.Name())))
			if err != nil {
				t.Fatal(err)
			}
			if len(exampleClients[d.Name()]) == 0 {
				t.Error("nobody connects to this example")
			}
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, cfg)
				for i, c := range exampleClients[d.Name()] {
					addr := netip.AddrFrom4([4]byte{198, 18, 0, byte(i + 1)}).String()
					s := w.connect(c.router, c.user, addr, func(p *peer.Config) {
						p.Password, p.Key, p.Server = keymat.Secret(c.password), keymat.Secret(c.key), netip.MustParseAddr(c.server)
						p.IKE = oldOrNew(c.server == "192.0.2.2")
					})
					if a := s.assertUp(); !strings.HasPrefix(a.String(), c.address) {
						t.Errorf("%s of %s got %v, want %s", c.user, c.router, a, c.address)
					}
					if text := w.kernel.String(); !strings.Contains(text, "session of "+addr+" ") || !strings.Contains(text, c.kernel) {
						t.Errorf("no %q for %s in\n%s", c.kernel, addr, text)
					}
				}
				if err := w.finish(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// ready returns an example's directory, or a copy of it with the certificates that it comes
// with a script for.
func ready(t *testing.T, example string) string {
	t.Helper()
	if _, err := os.Stat(filepath.Join(example, "certificates.sh")); err != nil {
		return example
	}
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	dir := filepath.Join(t.TempDir(), "example")
	if err := os.CopyFS(dir, os.DirFS(example)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "certificates.sh", "alice")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("certificates.sh: %v\n%s", err, out)
	}
	return dir
}

// oldOrNew makes a client that offers what old Androids do, or both what everybody knows and
// what is required today.
func oldOrNew(old bool) func(*ike.Config) {
	return func(c *ike.Config) {
		if old {
			c.Rules[0].Hash = []keymat.Hash{keymat.SHA1}
			c.Rules[0].Group = []keymat.Group{keymat.MODP1024}
			return
		}
		c.Transports[0].ESP = append(c.Transports[0].ESP, ike.ESPProposal{Cipher: ike.ESPAESCBC, KeyBits: 256, Auth: ike.ESPAuthSHA256})
	}
}
