package controlplane

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
)

// numbered is a configuration of virtual routers, each as "name" or "name@namespace".
func numbered(routers ...string) *config.Config {
	c := &config.Config{}
	for _, r := range routers {
		name, namespace, _ := strings.Cut(r, "@")
		c.Routers = append(c.Routers, &config.Router{Name: name, Namespace: config.Namespace{Name: namespace}})
	}
	return c
}

// TestConnNumbers: virtual routers of one namespace never have a connection number in common, those of different
// ones may, and none has few.
func TestConnNumbers(t *testing.T) {
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("r%03d@%s", i, []string{"other", "", ""}[i%3]))
	}
	c := numbered(names...)
	n, err := connNumbering{}.follow(c)
	if err != nil {
		t.Fatal(err)
	}
	assertShares(t, c, n, 10000)
	alone := numbered("alone")
	if n, _ = (connNumbering{}).follow(alone); n == nil {
		t.Fatal("no numbers for one virtual router")
	}
	assertShares(t, alone, n, 1_000_000)
}

// assertShares checks that each virtual router has at least so many numbers, and no two of one namespace the same.
func assertShares(t *testing.T, c *config.Config, n connNumbering, least ike.ConnID) {
	t.Helper()
	owner := map[string]string{}
	for _, r := range c.Routers {
		first, last := n.of(r)
		if first == 0 || last > connNumbersMax || last-first+1 < least {
			t.Errorf("%s has %d to %d, want %d within 1 to %d", r.Name, first, last, least, connNumbersMax)
		}
		share := fmt.Sprint(r.Namespace.Name, " ", first) // shares of a namespace are equal
		if owner[share] != "" {
			t.Errorf("%s and %s share numbers from %d", owner[share], r.Name, first)
		}
		owner[share] = r.Name
	}
}

// TestConnNumbersStay: over any number of reloads a virtual router keeps its numbers, and nobody gets those of one that
// has just gone, which may still have connections.
func TestConnNumbersStay(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	n := connNumbering{}
	before := map[string]ike.ConnID{}
	for range 500 {
		var names []string
		for i := range 20 {
			if random.IntN(3) > 0 {
				names = append(names, fmt.Sprintf("r%02d@%s", i, []string{"", "other"}[i%2]))
			}
		}
		if len(names) == 0 {
			continue
		}
		c := numbered(names...)
		next, err := n.follow(c)
		if err != nil {
			t.Fatal(err)
		}
		assertShares(t, c, next, 100_000)
		now := map[string]ike.ConnID{}
		for _, r := range c.Routers {
			first, _ := next.of(r)
			now[r.Name+"@"+r.Namespace.Name] = first
		}
		for name, first := range before {
			if f, stays := now[name]; stays && f != first {
				t.Fatalf("%s had numbers from %d and has them from %d", name, first, f)
			}
			for other, f := range now {
				if _, there := before[other]; !there && f == first && strings.HasSuffix(other, name[strings.Index(name, "@"):]) {
					t.Fatalf("%s has the numbers of %s, which may still be in use", other, name)
				}
			}
		}
		n, before = next, now
	}
}

// TestConnNumbersEnd: one virtual router too many for the shares is refused with a sentence, and nothing else is.
func TestConnNumbersEnd(t *testing.T) {
	n, err := connNumbering{}.follow(numbered("first"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range minConnShares {
		names = append(names, fmt.Sprintf("r%02d", i))
	}
	if _, err = n.follow(numbered(names...)); err == nil || !strings.Contains(err.Error(), "before vrgate is restarted") {
		t.Errorf("with all shares taken: %v", err)
	}
	if _, err = n.follow(numbered(names[1:]...)); err != nil {
		t.Errorf("with one share for each: %v", err)
	}
}
