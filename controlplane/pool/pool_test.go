package pool

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func one(s string) Range { return Range{addr(s), addr(s)} }

func mustNew(t testing.TB, c Config) *Pool {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLeaseExhaustionAndRelease(t *testing.T) {
	p := mustNew(t, Config{Ranges: []Range{{addr("10.0.0.1"), addr("10.0.0.3")}}, Exclude: []Range{one("10.0.0.2")}})
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
	// Memory is bounded by the number of addresses, whoever comes.
	for n := range 1000 {
		k := fmt.Sprintf("user %d\x00place", n)
		p.Release(k, lease(k))
	}
	if len(p.kins) > p.total || len(p.keys) > p.total || len(p.at) > p.total || len(p.changed) > p.total {
		t.Errorf("%d kin, %d keys, %d addresses and %d changes are remembered of %d addresses", len(p.kins), len(p.keys), len(p.at), len(p.changed), p.total)
	}
}

func TestClaim(t *testing.T) {
	p := mustNew(t, Config{Ranges: []Range{{addr("10.0.0.1"), addr("10.0.0.2")}}, Exclude: []Range{one("10.0.0.1")}})
	for _, c := range []struct {
		a    string
		want error
	}{
		{"10.0.0.1", nil}, {"10.0.0.1", ErrInUse}, {"10.0.0.2", nil}, {"10.0.0.2", ErrInUse},
		{"192.168.7.7", nil}, {"192.168.7.7", ErrInUse}, {"127.0.0.1", ErrForeign}, {"0.0.0.0", ErrForeign}, {"224.0.0.1", ErrForeign}, {"2001:db8::1", ErrForeign}, {"255.255.255.255", ErrForeign},
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
		"exclusion":  {Ranges: []Range{one("10.0.0.1")}, Exclude: []Range{{addr("10.0.0.2"), addr("10.0.0.1")}}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestTwoDevices: a user whose devices are not told apart finds all their addresses again, and
// who takes one of them is the one who came after those that were never leased had gone.
func TestTwoDevices(t *testing.T) {
	p := mustNew(t, Config{Ranges: []Range{{addr("10.0.0.1"), addr("10.0.0.4")}}})
	lease := func(key string) netip.Addr {
		t.Helper()
		a, err := p.Lease(key)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	first, second := lease("anna"), lease("anna")
	p.Release("anna", first)
	p.Release("anna", second)
	if a, b := lease("anna"), lease("anna"); a != second || b != first {
		t.Errorf("%v and %v, want %v and %v", a, b, second, first)
	}
	p.Release("anna", first)
	p.Release("anna", second)
	lease("bert")
	lease("carl")
	if a := lease("dora"); a != first {
		t.Errorf("dora got %v, want what was free for longest, %v", a, first)
	}
	if a := lease("anna"); a != second {
		t.Errorf("anna got %v, want %v, which is hers still", a, second)
	}
}

// TestClaimIsRemembered: a fixed address in the ranges that is free again goes to others last.
func TestClaimIsRemembered(t *testing.T) {
	p := mustNew(t, Config{Ranges: []Range{{addr("10.0.0.1"), addr("10.0.0.2")}}})
	if err := p.Claim("fixed", addr("10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	if used, total := p.Usage(); used != 1 || total != 2 {
		t.Errorf("%d of %d used", used, total)
	}
	p.Release("fixed", addr("10.0.0.1"))
	if a, _ := p.Lease("other"); a != addr("10.0.0.2") {
		t.Errorf("another got %v", a)
	}
	if err := p.Claim("fixed", addr("10.0.0.1")); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestRestore: after a restart everybody finds the address that it had, be it leased or released
// before; nobody else gets it while others are free; and what is not ours any more is reported.
func TestRestore(t *testing.T) {
	old := mustNew(t, Config{Ranges: []Range{{addr("10.0.0.1"), addr("10.0.0.8")}, {addr("10.7.0.1"), addr("10.7.0.8")}}})
	had := map[string]netip.Addr{}
	for n := range 12 {
		key := fmt.Sprint("user", n)
		had[key], _ = old.Lease(key)
		if n%2 == 0 {
			old.Release(key, had[key])
		}
	}
	kept := map[netip.Addr]Entry{}
	for {
		entries, more := old.Changes(5)
		for _, e := range entries {
			kept[e.Address] = e
		}
		if len(entries) > 5 || more == 0 && len(kept) != 12 || more > 12 {
			t.Fatalf("%d entries, %d more, %d in all", len(entries), more, len(kept))
		}
		if more == 0 {
			break
		}
	}
	if again, more := old.Changes(5); len(again) != 0 || more != 0 {
		t.Errorf("%d entries are told twice", len(again))
	}
	var entries []Entry
	for _, e := range kept {
		entries = append(entries, e)
	}
	double := kept[had["user3"]]
	double.Key, double.Seq = "somebody before", 0
	entries = append(entries, double)

	// The second range has shrunk, and one address is excluded now.
	p := mustNew(t, Config{Ranges: []Range{{addr("10.0.0.1"), addr("10.0.0.8")}, {addr("10.7.0.1"), addr("10.7.0.3")}, {addr("10.8.0.1"), addr("10.8.0.5")}}, Exclude: []Range{one("10.0.0.2")}})
	useless := map[string]bool{}
	for _, e := range p.Restore(entries) {
		useless[e.Key] = true
	}
	if want := map[string]bool{"user1": true, "user11": true, "somebody before": true}; !maps.Equal(useless, want) {
		t.Errorf("of no use are %v, want %v", useless, want)
	}
	for range 5 {
		a, err := p.Lease("stranger")
		for key, b := range had {
			if a == b || err != nil {
				t.Errorf("a stranger got %v of %s: %v", a, key, err)
			}
		}
	}
	for key, a := range had {
		if useless[key] {
			continue
		}
		if b, _ := p.Lease(key); b != a {
			t.Errorf("%s has %v, had %v", key, b, a)
		}
	}
	if _, err := p.Lease("one too many"); !errors.Is(err, ErrExhausted) {
		t.Errorf("more leases than addresses: %v", err)
	}
}

// TestModel compares the pool with maps under random work: no address twice, none outside, none
// excluded, the count right, exhaustion only when nothing is free; an address goes to somebody
// else only when none is left that was never leased, and then the one that is free for longest;
// what Changes tells restores the same memory.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		config := Config{
			Ranges:  []Range{{addr("10.9.0.1"), addr("10.9.0.5")}, {addr("10.0.0.250"), addr("10.0.1.6")}},
			Exclude: []Range{one("10.0.1.0"), {addr("10.9.0.5"), addr("10.9.0.9")}, one("172.16.0.1")},
		}
		p, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		_, total := p.Usage()
		if total != 16 {
			t.Fatalf("%d addresses, want 16", total)
		}
		held, last := map[netip.Addr]string{}, map[netip.Addr]string{}
		var idle []netip.Addr // longest free first
		kept := map[netip.Addr]Entry{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			key := fmt.Sprintf("%d\x00%d", rapid.IntRange(0, 12).Draw(t, "user"), rapid.IntRange(0, 2).Draw(t, "place"))
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1, 2, 3, 4:
				a, err := p.Lease(key)
				if err != nil {
					if len(held) != total {
						t.Fatalf("exhausted with %d of %d leased", len(held), total)
					}
					continue
				}
				own := func(b netip.Addr) bool { return last[b] == key }
				kin := func(b netip.Addr) bool { return kinOf(last[b]) == kinOf(key) }
				want := netip.Addr{}
				for _, match := range []func(netip.Addr) bool{own, kin} {
					for _, b := range idle {
						if match(b) {
							want = b // the one released last
						}
					}
					if want.IsValid() {
						break
					}
				}
				_, touched := last[a]
				switch {
				case held[a] != "" || !p.Covers(a) || a == addr("10.0.1.0") || a == addr("10.9.0.5"):
					t.Fatalf("%v leased to %q, held by %q", a, key, held[a])
				case want.IsValid() && a != want:
					t.Fatalf("%q has %v, had %v", key, a, want)
				case !want.IsValid() && touched && (len(last) < total || a != idle[0]):
					t.Fatalf("%q has %v of %q; %d of %d were leased, longest free is %v", key, a, last[a], len(last), total, idle[0])
				}
				held[a], last[a] = key, key
				idle = slices.DeleteFunc(idle, func(b netip.Addr) bool { return a == b })
			case 5, 6, 7:
				for a, k := range held {
					if k == key {
						p.Release(k, a)
						p.Release(k, a)
						delete(held, a)
						idle = append(idle, a)
						break
					}
				}
			case 8:
				a := toAddr(toUint(addr("10.0.0.248")) + uint32(rapid.IntRange(0, 16).Draw(t, "address")))
				if !p.Covers(a) || a == addr("10.0.1.0") {
					continue
				}
				if err := p.Claim(key, a); (err == nil) != (held[a] == "") {
					t.Fatalf("claim of %v held by %q: %v", a, held[a], err)
				} else if err == nil {
					held[a], last[a] = key, key
					idle = slices.DeleteFunc(idle, func(b netip.Addr) bool { return a == b })
				}
			case 9:
				entries, _ := p.Changes(3)
				for _, e := range entries {
					kept[e.Address] = e
				}
			}
			if used, _ := p.Usage(); used != len(held) {
				t.Fatalf("usage %d, want %d", used, len(held))
			}
		}
		for more := 1; more > 0; {
			var entries []Entry
			entries, more = p.Changes(3)
			for _, e := range entries {
				kept[e.Address] = e
			}
		}
		q, _ := New(config)
		if useless := q.Restore(slices.Collect(maps.Values(kept))); len(useless) > 0 {
			t.Fatalf("of no use: %v", useless)
		}
		got := map[netip.Addr]string{}
		for a, l := range q.at {
			got[a] = l.key
		}
		if !maps.Equal(got, last) {
			t.Fatalf("restored %v, want %v", got, last)
		}
	})
}

// TestNoSlowCorner: what makes a pool search long in other designs costs no more here. Each case
// is tens of thousands of leases and releases, which take milliseconds, or minutes if each looks through
// the pool.
func TestNoSlowCorner(t *testing.T) {
	const n = 1 << 16
	var many []Range
	for i := range uint32(n / 2) {
		a := toAddr(0x0a000000 + 3*i)
		many = append(many, Range{a, a.Next()})
	}
	for name, c := range map[string]Config{
		"one range": {Ranges: []Range{{toAddr(0x0a000000), toAddr(0x0a000000 + n - 1)}}}, "many ranges": {Ranges: many},
	} {
		p := mustNew(t, c)
		began := time.Now()
		hold := make([]netip.Addr, n)
		for i := range hold {
			hold[i], _ = p.Lease("user" + strconv.Itoa(i))
		}
		for i := range n { // exhausted
			if _, err := p.Lease("late" + strconv.Itoa(i)); !errors.Is(err, ErrExhausted) {
				t.Fatal(err)
			}
		}
		for i, a := range hold {
			p.Release("user"+strconv.Itoa(i), a)
		}
		for i := range n { // all remembered for others
			k := "new" + strconv.Itoa(i)
			a, err := p.Lease(k)
			if err != nil {
				t.Fatal(err)
			}
			p.Release(k, a)
		}
		for i := range n { // one user has everything
			k := "ann\x00" + strconv.Itoa(i)
			a, err := p.Lease(k)
			if err != nil {
				t.Fatal(err)
			}
			p.Release(k, a)
		}
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("%s: %v", name, d)
		}
	}
}

// BenchmarkLeaseRelease10000 leases and frees 10,000 addresses: of a pool that has not seen the
// users before, by users who come back, and by others in a pool that is remembered for them.
func BenchmarkLeaseRelease10000(b *testing.B) {
	const n = 10000
	names := func(prefix string) []string {
		keys := make([]string, n)
		for i := range keys {
			keys[i] = prefix + strconv.Itoa(i)
		}
		return keys
	}
	held := make([]netip.Addr, n)
	round := func(b *testing.B, p *Pool, keys []string) {
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
	whole := Config{Ranges: []Range{{addr("10.0.0.0"), addr("10.0.39.15")}}}
	one, other := names("user"), names("other")
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			round(b, mustNew(b, whole), one)
		}
	})
	b.Run("returning", func(b *testing.B) {
		p := mustNew(b, whole)
		for b.Loop() {
			round(b, p, one)
		}
	})
	b.Run("taking turns", func(b *testing.B) {
		p := mustNew(b, whole)
		for b.Loop() {
			round(b, p, one)
			one, other = other, one
		}
	})
}
