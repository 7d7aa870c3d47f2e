package controlplane_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	rad "layeh.com/radius"

	"vrgate/controlplane/aaa/accounting"
	"vrgate/controlplane/aaa/radius"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/store"
	"vrgate/controlplane/subscriber"
	"vrgate/test/peer"
)

// accountedYAML is the router red with local users, who are let in because no server answers, whose sessions are
// accounted to a group of servers; more are further keys of aaa, one a line.
func accountedYAML(more string) string {
	return routerYAML("red", "192.0.2.1") + `
radius:
  nas-identifier: red.example.net
  servers: [{name: one, address: 127.0.0.1, secret: between red and one}]
  groups: [{name: books, servers: [one]}]
aaa:
  methods: [radius, local]
  accounting-group: books
` + more
}

// booked is an accounting record as a server would get it.
type booked struct {
	router, group string
	at            time.Time
	rad.Attributes
}

// number returns an attribute of four bytes; -1: it is not there.
func (b booked) number(t rad.Type) int64 {
	if v := b.Get(t); len(v) == 4 {
		return int64(binary.BigEndian.Uint32(v))
	}
	return -1
}

// octets joins a counter with its gigawords (RFC 2869 section 5.1).
func (b booked) octets(t, gigawords rad.Type) int64 { return b.number(gigawords)<<32 + b.number(t) }

// vendor returns an attribute of vendor 4874; empty: it is not there.
func (b booked) vendor(t byte) string {
	for _, a := range b.Attributes {
		if a.Type == 26 && len(a.Attribute) > 6 && binary.BigEndian.Uint32(a.Attribute) == 4874 && a.Attribute[4] == t {
			return string(a.Attribute[6:])
		}
	}
	return ""
}

// String is the kind of the record, the user, how long the session lasted, its octets and why it
// ended.
func (b booked) String() string {
	kind := map[int64]string{1: "start", 2: "stop", 3: "interim", 7: "on", 8: "off"}[b.number(40)]
	switch kind {
	case "start":
		return fmt.Sprintf("start %s", b.Get(1))
	case "stop", "interim":
		return fmt.Sprintf("%s %s %d s, %d in, %d out, cause %d", kind, b.Get(1), b.number(46), b.octets(42, 52), b.octets(43, 53), b.number(49))
	}
	return kind
}

// books has the journal that a process has left delivered to servers that take everything. Sessions that
// were left open get stops of which only user and cause are known.
func books(t *testing.T, st *store.Store) (out []booked) {
	t.Helper()
	var mu sync.Mutex
	cfg := accounting.Config{Encode: func(kind accounting.Kind, rec subscriber.Record, x accounting.Extra) ([]byte, error) {
		return radius.EncodeAttributes(rad.Attributes{numberAVP(40, uint32(kind)), avp(1, rec.User), numberAVP(49, x.Cause)}), nil
	}}
	j, err := accounting.Open(st, cfg, func(_ context.Context, router, group string, attributes []byte, at time.Time) error {
		a, err := rad.ParseAttributes(attributes)
		mu.Lock()
		defer mu.Unlock()
		out = append(out, booked{router, group, at, a})
		return err
	}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(out, func(a, b booked) int {
		rank := map[int64]int{7: 0, 1: 1, 3: 2, 2: 3, 8: 4} // what happened at once
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(rank[a.number(40)], rank[b.number(40)]), cmp.Compare(a.String(), b.String()))
	})
	return out
}

// assertBooks compares records with patterns of their texts. Between On and Off those of different sessions come in any
// order; a stop comes after its start.
func assertBooks(t *testing.T, got []booked, want ...string) {
	t.Helper()
	left := slices.Clone(want)
	open := map[string]int{}
	for i, b := range got {
		text := b.String()
		span := slices.IndexFunc(left, isBarrier) // those that may come now
		switch {
		case isBarrier(text):
			span = min(1, len(left))
		case span < 0:
			span = len(left)
		}
		n := slices.IndexFunc(left[:span], func(pattern string) bool {
			ok, err := path.Match(pattern, text)
			return ok && err == nil
		})
		if n < 0 {
			t.Errorf("record %d is %q, want one of %q", i, text, left[:span])
			return
		}
		left = slices.Delete(left, n, n+1)
		kind, rest, _ := strings.Cut(text, " ")
		user, _, _ := strings.Cut(rest, " ")
		switch kind {
		case "start":
			open[user]++
		case "stop":
			if open[user]--; open[user] < 0 {
				t.Errorf("record %d is %q, before its start", i, text)
			}
		}
	}
	if len(left) > 0 {
		t.Errorf("%d records, without %q: %v", len(got), left, got)
	}
}

func isBarrier(text string) bool { return text == "on" || text == "off" }

// killed returns what the disk would have if the daemon were killed now.
func killed(t *testing.T, st *store.Store) *store.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Copy(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	after, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = after.Close() })
	return after
}

// TestAccountedSessions: what both kinds of subscribers leave in the journal while no server is to
// be had: On, start, interims with the kernel's counters, stop with the cause of each way to end, Off (R7, R9, R10).
func TestAccountedSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := openStore(t)
		w := newWorldWith(t, st, loadConfig(t, map[string]string{
			"vrgate.yaml": "shutdown-timeout: 10s\n",
			"vr/red.yaml": accountedYAML("  accounting: {interim-interval: 300s}\n  terminate-codes: [{reason: idle-timeout, code: 104}]\n"),
		}))
		for i, tc := range []struct {
			user   string
			change func(*peer.Config)
			end    func(s *station, id string)
		}{
			{"alice", nil, func(s *station, _ string) { time.Sleep(100 * time.Second); s.hangUp() }},
			{"bob", byXAuth, func(_ *station, id string) {
				time.Sleep(100 * time.Second)
				if err := w.p.Disconnect(context.Background(), []string{id}); err != nil {
					t.Error(err)
				}
			}},
			{"dave", nil, func(*station, string) { time.Sleep(10 * time.Minute) }},
			{"erin", byXAuth, func(*station, string) { time.Sleep(6 * time.Minute) }},
			{"carol", byXAuth, func(s *station, _ string) { s.stop(); time.Sleep(5 * time.Minute) }},
		} {
			s := w.connectThrough(netip.AddrFrom4([4]byte{203, 0, 113, byte(i + 1)}), "red", tc.user, fmt.Sprintf("198.51.100.%d", i+1), tc.change)
			s.assertUp()
			subs, err := w.p.Subscribers(t.Context())
			if err != nil || len(subs) != 1 {
				t.Fatalf("subscribers %+v, %v", subs, err)
			}
			if tc.change != nil {
				w.kernel.Carry("red", ike.ConnID(subs[0].Connection), subscriber.Counters{InBytes: 5 << 32, OutBytes: 1000, InPackets: 7, OutPackets: 8})
			}
			tc.end(s, subs[0].ID)
			time.Sleep(time.Minute)
		}
		w.connect("red", "bob", "198.51.100.9", nil).assertUp()
		if err := w.finish(); err != nil {
			t.Error(err)
		}
		all := books(t, st)
		var interims []booked
		rest := slices.DeleteFunc(slices.Clone(all), func(b booked) bool {
			if b.number(40) == 3 && string(b.Get(1)) != "carol" { // carol may have one or not
				interims = append(interims, b)
			}
			return b.number(40) == 3
		})
		assertBooks(t, rest,
			"on",
			"start alice", "stop alice 10? s, 1000 in, 2000 out, cause 1",
			"start bob", "stop bob 10? s, 21474836480 in, 1000 out, cause 6",
			"start dave", "stop dave 600 s, 1000 in, 2000 out, cause 5",
			"start erin", "stop erin 37? s, 21474836480 in, 1000 out, cause 104",
			"start carol", "stop carol * s, 21474836480 in, 1000 out, cause 10",
			"start bob", "stop bob * s, 1000 in, 2000 out, cause 6",
			"off")
		assertBooks(t, interims, "interim dave * s, 1000 in, 2000 out, cause -1", "interim dave * s, 1000 in, 2000 out, cause -1",
			"interim erin * s, 21474836480 in, 1000 out, cause -1")
		if len(interims) == 3 && interims[1].number(46)-interims[0].number(46) != 300 {
			t.Errorf("interims after %d and %d s, want 300 s between them", interims[0].number(46), interims[1].number(46))
		}
		for _, b := range all {
			if b.router != "red" || b.group != "books" || string(b.Get(32)) != "red.example.net" || !b.at.Equal(time.Unix(b.number(55), int64(b.at.Nanosecond()))) {
				t.Errorf("%v for %s/%s at %v: %v", b, b.router, b.group, b.at, b.Attributes)
			}
		}
		if len(rest) < 5 {
			t.FailNow()
		}
		// What a record says beside the figures: the session, where its NAT has it, the tunnel, the address, the cause in words.
		for _, tc := range []struct {
			b       booked
			want    map[rad.Type]string
			vendors map[byte]string
		}{
			{rest[2], map[rad.Type]string{
				8: "\x0a\x00\x00\x4d", 9: "\xff\xff\xff\xff", 6: "\x00\x00\x00\x02", 7: "\x00\x00\x00\x01", 45: "\x00\x00\x00\x01", 61: "\x00\x00\x00\x05",
				31: "203.0.113.1", 30: "192.0.2.1", 64: "\x00\x00\x00\x03", 65: "\x00\x00\x00\x01", 66: "203.0.113.1", 67: "192.0.2.1", 90: "alice",
			}, map[byte]string{1: "red", 44: "l2tp local 192.0.2.1:1701 peer 203.0.113.1:4500 tunnel * session *"}},
			{rest[4], map[rad.Type]string{
				8: "\x0a\x00\x00\x02", 9: "\xff\xff\xff\xff", 6: "\x00\x00\x00\x02", 7: "", 45: "\x00\x00\x00\x01", 61: "\x00\x00\x00\x05",
				31: "203.0.113.2", 30: "192.0.2.11", 64: "\x00\x00\x00\x09", 65: "\x00\x00\x00\x01", 66: "203.0.113.2", 67: "192.0.2.11", 90: "198.51.100.2",
			}, map[byte]string{1: "red", 44: "ipsec local 192.0.2.11:4500 peer 203.0.113.2:4500 connection *"}},
		} {
			for a, want := range tc.want {
				if got := string(tc.b.Get(a)); got != want {
					t.Errorf("%v: attribute %d is %q, want %q", tc.b, a, got, want)
				}
			}
			for a, want := range tc.vendors {
				if ok, _ := path.Match(want, tc.b.vendor(a)); !ok {
					t.Errorf("%v: attribute 4874.%d is %q, want %q", tc.b, a, tc.b.vendor(a), want)
				}
			}
		}
		if tc := rest[1]; string(tc.Get(44)) == "" || string(tc.Get(44)) != string(rest[2].Get(44)) || tc.vendor(51) != "" {
			t.Errorf("start %v and stop %v are not of one session", tc.Attributes, rest[2].Attributes)
		}
		if got := rest[2].vendor(51); len(got) != 5 {
			t.Errorf("the stop of an L2TP session has the disconnect cause %q (RFC 3145)", got)
		}
	})
}

// TestAccountedCrash: a daemon that was killed owes stops; the next one sends them before anything of its own, with how
// long the sessions are known to have lasted and what they had carried then.
func TestAccountedCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := openStore(t)
		cfg := loadConfig(t, map[string]string{"vrgate.yaml": "shutdown-timeout: 10s\n", "vr/red.yaml": accountedYAML("")})
		w := newWorldWith(t, st, cfg)
		w.connect("red", "alice", "198.51.100.1", nil).assertUp()
		w.connect("red", "bob", "198.51.100.2", byXAuth).assertUp()
		time.Sleep(10 * time.Minute)
		after := killed(t, st)
		if err := w.finish(); err != nil {
			t.Error(err)
		}
		again := newWorldWith(t, after, cfg)
		time.Sleep(time.Minute)
		if err := again.finish(); err != nil {
			t.Error(err)
		}
		assertBooks(t, books(t, after), "on", "start alice", "start bob", "stop alice [56][09]? s, 1000 in, 2000 out, cause 11", "stop bob 59? s, 0 in, 0 out, cause 11", "on", "off")
	})
}

// TestAccountingRequired: who must not be without accounting is not let in while no server takes records. The daemon's
// end does not wait for that, and the next one sends the stops that it may owe.
func TestAccountingRequired(t *testing.T) {
	cfg := map[string]string{"vrgate.yaml": "shutdown-timeout: 2s\n", "vr/red.yaml": accountedYAML("  accounting: {required: true}\n")}
	for _, tc := range []struct {
		name    string
		wait    time.Duration
		endings int
		want    []string
	}{
		{"refused", 20 * time.Second, 2, []string{"on", "start bob", "start carol", "stop bob 0 s, 0 in, 0 out, cause 9", "stop carol 0 s, 0 in, 0 out, cause 9", "off"}},
		{"stopped", 3 * time.Second, 0, []string{"on", "start bob", "start carol", "stop bob * cause 11", "stop carol * cause 11", "off"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := openStore(t)
				w := newWorldWith(t, st, loadConfig(t, cfg))
				w.connect("red", "bob", "198.51.100.1", nil)
				w.connect("red", "carol", "198.51.100.2", byXAuth)
				time.Sleep(tc.wait)
				if text := w.kernel.String(); tc.endings == 0 && !strings.Contains(text, "session of 198.51.100.1 in red mtu 1400, no traffic") {
					t.Errorf("bob's traffic flows before anybody accounts for it:\n%s", text)
				}
				assertEndings(t, w, []string{"bob: accounting-failed", "carol: accounting-failed"}[:tc.endings]...)
				began := time.Now()
				if err := w.finish(); err != nil {
					t.Error(err)
				}
				if d := time.Since(began); d > 3*time.Second {
					t.Errorf("the end took %v, the configuration says 2s", d)
				}
				assertBooks(t, books(t, st), tc.want...)
			})
		})
	}
}

// TestAccountingRouters: each virtual router tells its own servers that it begins, when it does, and ends. Whoever arrives
// in one and is known to another is accounted for by that one's servers, under its name, also when the servers'
// own router could not be opened at first.
func TestAccountingRouters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := openStore(t)
		w := newWorldWith(t, st, loadConfig(t, map[string]string{
			"vrgate.yaml": "shutdown-timeout: 10s\n",
			"vr/red.yaml": accountedYAML("") + `
  domain-maps: [{domain: blue.example, authentication-router: blue, methods: [local]}]
`,
			"vr/blue.yaml": strings.Replace(routerYAML("blue", "192.0.2.2"), "  - {name: bob,", "  - {name: zoe@blue.example, password: "+testPassword+"}\n  - {name: bob,", 1) + `
radius:
  nas-identifier: blue.example.net
  servers: [{name: two, address: 127.0.0.2, secret: between blue and two}]
  groups: [{name: theirs, servers: [two]}]
aaa: {methods: [local], accounting-group: theirs}
`}), 1)
		if len(w.kernel.Calls()) == 0 || !strings.Contains(w.kernel.Calls()[0], "blue") {
			t.Fatalf("it is not blue that fails: %q", w.kernel.Calls())
		}
		w.connect("red", "bob", "198.51.100.1", byXAuth).assertUp()
		w.connect("red", "zoe@blue.example", "198.51.100.2", byXAuth).assertUp()
		time.Sleep(10 * time.Second)
		w.connect("blue", "bob", "198.51.100.3", byXAuth).assertUp()
		if err := w.finish(); err != nil {
			t.Error(err)
		}
		of := map[string][]booked{}
		for _, b := range books(t, st) {
			of[b.router+"/"+b.group] = append(of[b.router+"/"+b.group], b)
			if want := b.router + ".example.net"; string(b.Get(32)) != want {
				t.Errorf("%v to %s has NAS-Identifier %q", b, b.router, b.Get(32))
			}
		}
		if len(of) != 2 {
			t.Errorf("records for %d groups, want two", len(of))
		}
		assertBooks(t, of["red/books"], "on", "start bob", "stop bob *", "off")
		assertBooks(t, of["blue/theirs"], "on", "start zoe@blue.example", "start bob", "stop * cause 6", "stop * cause 6", "off")
	})
}

// TestAccountedWithoutDisk: a disk that fails is reported once and keeps nobody out, nor in.
func TestAccountedWithoutDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := openStore(t)
		w := newWorldWith(t, st, loadConfig(t, map[string]string{"vrgate.yaml": "shutdown-timeout: 10s\n", "vr/red.yaml": accountedYAML("")}))
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		bob := w.connect("red", "bob", "198.51.100.1", nil)
		bob.assertUp()
		w.connect("red", "carol", "198.51.100.2", byXAuth).assertUp()
		bob.hangUp()
		time.Sleep(10 * time.Minute)
		assertEndings(t, w, "bob: ppp-user-request")
		if n := w.logs.FilterMessageSnippet("the disk refuses accounting records").Len(); n != 1 {
			t.Errorf("reported %d times", n)
		}
		if v, err := w.p.Accounting(t.Context()); err != nil || v.Queued != 4 { // on, and start, stop, start
			t.Errorf("accounting %+v, %v", v, err)
		}
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}
