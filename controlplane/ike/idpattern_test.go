package ike

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
)

// manyGroups is a configuration with a thousand groups of a kind.
func manyGroups(format string) Config {
	c := Config{}
	for i := range 1000 {
		c.Keys = append(c.Keys, PresharedKey{Name: fmt.Sprint(i), ID: fmt.Sprintf(format, i), Tunnel: "staff"})
	}
	return c.withDefaults()
}

// TestManyGroups: anybody can have us look for the key of a group, so the keys' identities
// are read when the configuration comes and not for each message.
func TestManyGroups(t *testing.T) {
	local, peer := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	for _, format := range []string{"group %d", "keyid:%d-*", "@group%d.example.net", "user%d@example.net", "10.0.0.%d", "dn:CN=group %d,O=Example", "dn:OU=*,CN=%d"} {
		c := manyGroups(format)
		last := parseID(fmt.Sprintf(format, 999))
		if k := c.keyFor(local, peer, AuthXAuthPSK, last, time.Time{}); k == nil || k.Name != "999" {
			t.Errorf("%s: key %+v", format, k)
		}
		for _, stranger := range []string{"nobody", "@nobody.example.net", "nobody@example.net", "192.0.2.99", "dn:CN=nobody,O=Example"} {
			id := parseID(stranger)
			if k := c.keyFor(local, peer, AuthXAuthPSK, id, time.Time{}); k != nil {
				t.Errorf("%s: %s has key %s", format, stranger, k.Name)
			}
			if n := testing.AllocsPerRun(10, func() { c.keyFor(local, peer, AuthXAuthPSK, id, time.Time{}) }); n > 100 {
				t.Errorf("%s: looking for the key of %s allocates %v times", format, stranger, n)
			}
		}
	}
	// A key that was changed since is compared as it is now.
	c := manyGroups("group %d")
	c.Keys[0].ID = "renamed"
	if k := c.keyFor(local, peer, AuthXAuthPSK, parseID("renamed"), time.Time{}); k == nil || k.Name != "0" {
		t.Errorf("renamed key %+v", k)
	}
}

func BenchmarkKeyFor(b *testing.B) {
	local, peer := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	c := manyGroups("group %d")
	id := isakmp.TextID(isakmp.IDKeyID, "nobody")
	for b.Loop() {
		c.keyFor(local, peer, AuthXAuthPSK, id, time.Time{})
	}
}
