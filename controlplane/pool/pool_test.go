package pool

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func mustNew(t testing.TB, c Config) *Pool {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLeaseExhaustionAndRelease(t *testing.T) {
	p := mustNew(t, Config{Ranges: []Range{{addr("10.0.0.1"), addr("10.0.0.3")}}, Exclude: []netip.Addr{addr("10.0.0.2")}})
	a, err := p.Lease("a")
	if err != nil || a != addr("10.0.0.1") {
		t.Fatalf("first lease: %v %v", a, err)
	}
	b, err := p.Lease("b")
	if err != nil || b != addr("10.0.0.3") {
		t.Fatalf("excluded address not skipped: %v %v", b, err)
	}
	if _, err := p.Lease("c"); !errors.Is(err, ErrExhausted) {
		t.Fatalf("third lease: %v, want ErrExhausted", err)
	}
	p.Release("b", a) // not b's: nothing happens
	if _, err := p.Lease("c"); !errors.Is(err, ErrExhausted) {
		t.Fatalf("a foreign release freed an address: %v", err)
	}
	p.Release("a", a)
	if c, err := p.Lease("c"); err != nil || c != a {
		t.Fatalf("released address not reused: %v %v", c, err)
	}
}

func TestStickyLease(t *testing.T) {
	p := mustNew(t, Config{Ranges: []Range{{addr("10.0.0.1"), addr("10.0.0.9")}}})
	a, _ := p.Lease("anna")
	p.Release("anna", a)
	if b, _ := p.Lease("bert"); b == a {
		t.Fatalf("bert got anna's last address %v while others are free", a)
	}
	if again, _ := p.Lease("anna"); again != a {
		t.Fatalf("anna got %v, want her last address %v", again, a)
	}
}

// TestKin: one device of a user that comes by another key gets its address again; one that has
// its own keeps it, and nobody else is given it while others are free (clients.md, complaint 25).
func TestKin(t *testing.T) {
	p := mustNew(t, Config{Ranges: []Range{{addr("10.0.0.1"), addr("10.0.0.9")}}})
	lease := func(key string) netip.Addr {
		t.Helper()
		a, err := p.Lease(key)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	home := lease("anna\x00home")
	p.Release("anna\x00home", home)
	if b := lease("bert\x00home"); b == home {
		t.Errorf("bert got anna's %v", b)
	}
	street := lease("anna\x00street")
	if street != home {
		t.Errorf("anna has %v in the street, had %v at home", street, home)
	}
	if second := lease("anna\x00home"); second == home {
		t.Errorf("two devices have %v", second)
	} else {
		p.Release("anna\x00home", second)
		p.Release("anna\x00street", street)
		if a, b := lease("anna\x00home"), lease("anna\x00street"); a != second || b != street {
			t.Errorf("%v and %v, want each its own %v and %v", a, b, second, street)
		}
	}
	// What is remembered of kin is bounded like the rest.
	for n := range 1000 {
		k := fmt.Sprintf("user %d\x00place", n)
		p.Release(k, lease(k))
	}
	if len(p.kin) > stickyLimit*p.total || len(p.kin) > len(p.sticky) {
		t.Errorf("%d kin, %d keys remembered", len(p.kin), len(p.sticky))
	}
}

func TestClaim(t *testing.T) {
	p := mustNew(t, Config{Ranges: []Range{{addr("10.0.0.1"), addr("10.0.0.2")}}, Exclude: []netip.Addr{addr("10.0.0.1")}})
	for _, c := range []struct {
		a    string
		want error
	}{
		{"10.0.0.1", nil}, {"10.0.0.1", ErrInUse}, {"10.0.0.2", nil}, {"10.0.0.2", ErrInUse},
		{"192.168.7.7", nil}, {"192.168.7.7", ErrInUse}, {"127.0.0.1", ErrForeign}, {"0.0.0.0", ErrForeign}, {"224.0.0.1", ErrForeign}, {"2001:db8::1", ErrForeign},
	} {
		if err := p.Claim("u", addr(c.a)); !errors.Is(err, c.want) {
			t.Errorf("claim %s: %v, want %v", c.a, err, c.want)
		}
	}
	p.Release("u", addr("10.0.0.1"))
	if err := p.Claim("v", addr("10.0.0.1")); err != nil {
		t.Errorf("claim after release: %v", err)
	}
	if _, err := p.Lease("w"); !errors.Is(err, ErrExhausted) {
		t.Errorf("a fixed address was leased dynamically: %v", err)
	}
}

func TestConfigErrors(t *testing.T) {
	for name, c := range map[string]Config{
		"descending": {Ranges: []Range{{addr("10.0.0.2"), addr("10.0.0.1")}}},
		"overlap":    {Ranges: []Range{{addr("10.0.0.1"), addr("10.0.0.9")}, {addr("10.0.0.9"), addr("10.0.0.12")}}},
		"too large":  {Ranges: []Range{{addr("10.0.0.0"), addr("10.255.255.255")}}},
		"IPv6":       {Ranges: []Range{{addr("2001:db8::1"), addr("2001:db8::2")}}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestModel compares the pool with a map under random work: no address twice, none outside,
// none excluded, the count right, exhaustion only when nothing is free.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := New(Config{
			Ranges:  []Range{{addr("10.0.0.250"), addr("10.0.1.70")}, {addr("10.9.0.1"), addr("10.9.0.5")}},
			Exclude: []netip.Addr{addr("10.0.1.0"), addr("10.9.0.5"), addr("172.16.0.1")},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, total := p.Usage()
		model := map[netip.Addr]string{}
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			key := fmt.Sprint(rapid.IntRange(0, 120).Draw(t, "key"))
			if rapid.Bool().Draw(t, "lease") {
				a, err := p.Lease(key)
				if err != nil {
					if len(model) != total {
						t.Fatalf("exhausted with %d of %d leased", len(model), total)
					}
					continue
				}
				if model[a] != "" {
					t.Fatalf("%v leased twice", a)
				}
				model[a] = key
			} else {
				for a, k := range model {
					if k == key {
						p.Release(k, a)
						delete(model, a)
						break
					}
				}
			}
			if used, _ := p.Usage(); used != len(model) {
				t.Fatalf("usage %d, want %d", used, len(model))
			}
		}
	})
}

func BenchmarkLeaseRelease10000(b *testing.B) {
	p := mustNew(b, Config{Ranges: []Range{{addr("10.0.0.0"), addr("10.0.39.15")}}})
	keys := make([]string, 10000)
	held := make([]netip.Addr, len(keys))
	for i := range keys {
		keys[i] = fmt.Sprint("user", i)
	}
	for b.Loop() {
		for i, k := range keys {
			a, err := p.Lease(k)
			if err != nil {
				b.Fatal(err)
			}
			held[i] = a
		}
		for i, k := range keys {
			p.Release(k, held[i])
		}
	}
}
