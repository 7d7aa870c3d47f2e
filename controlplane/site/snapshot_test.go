package site

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A tunnel that is up goes on over a restart with its timers; nothing is dialled and nothing hung up.
func TestRestartUp(t *testing.T) {
	cfg := checkedTunnel(nil)
	b := newBed(t, cfg)
	b.alive[primary] = false
	b.start()
	b.pass(3 * time.Minute)
	before := b.info("hq")
	b.restart(cfg)
	after := b.info("hq")
	if before.State != StateUp || after.State != StateUp || after.Since != before.Since || after.FallBack != before.FallBack ||
		after.Attempts != before.Attempts || after.FallOvers != 1 || after.UpSince != before.UpSince || after.Check != before.Check {
		t.Fatalf("%+v, then %+v", before, after)
	}
	b.alive[primary] = true
	b.pass(2*time.Minute + firstProbe + linger)
	b.is("hq", StateUp, primary)
	b.hungUp(ReasonFallBack)
}

// A pause goes on, a dial under way is dialled again, and so is a peer that was being resolved.
func TestRestartDown(t *testing.T) {
	b := newBed(t, one(primary))
	b.alive[primary] = false
	b.start()
	b.pass(10 * time.Minute)
	before := b.info("hq")
	b.restart(one(primary))
	if i := b.info("hq"); i.State != StateWaiting || i.Until != before.Until || i.Failed != before.Failed {
		t.Fatalf("%+v, then %+v", before, i)
	}
	b.pass(before.Until.Sub(b.now) - time.Second)
	b.is("hq", StateWaiting, none)

	b = newBed(t, two())
	b.mute = true
	b.start()
	b.dialled(false)
	b.is("hq", StateDialling, backup)
	b.restart(two())
	b.is("hq", StateDialling, backup)
	b.dialled(false)
	b.is("hq", StateWaiting, none)

	onDemand := with(one(primary), func(t *Tunnel) { t.Start = OnDemand })
	b = newBed(t, onDemand)
	b.mute = true
	b.start()
	b.step(Acquire{Tunnel: "hq"})
	b.restart(onDemand)
	b.is("hq", StateDialling, primary)

	onDemand = with(two(), func(t *Tunnel) { t.Start = OnDemand })
	b = newBed(t, onDemand)
	b.mute = true
	b.start()
	b.calls("hq", backup)
	b.pass(5 * time.Minute)
	b.ends(b.lastConn, true) // while the primary is tried
	b.restart(onDemand)
	b.is("hq", StateDialling, primary)

	b = newBed(t, named())
	b.dns["hq.example"] = []netip.Addr{primary}
	b.step(Timer{})
	b.restart(named())
	b.is("hq", StateResolving, none)
	b.world()
	b.is("hq", StateUp, primary)
	b.restart(named()) // the name is still known: a call of the peer is admitted at once
	if a := b.admits["hq"].Peers; len(a) != 2 {
		t.Fatalf("%v", a)
	}
}

// What an operator has said outlives a restart; a tunnel that has another configuration then does not.
func TestRestartWithAnotherConfiguration(t *testing.T) {
	b := newBed(t, two()).start()
	b.operator("hq", CommandDown)
	b.restart(two())
	b.is("hq", StateAdminDown, none)
	b.operator("hq", CommandUp)
	b.world()
	b.hangUps = nil
	for _, c := range map[string]struct {
		cfg  Config
		ends Reason
	}{
		"same":            {two(), ""},
		"gone":            {Config{}, ReasonChanged},
		"changed":         {with(two(), func(t *Tunnel) { t.Revision = "2" }), ReasonChanged},
		"disabled":        {with(two(), func(t *Tunnel) { t.Disabled = true }), ReasonDisabled},
		"another primary": {one(third, backup), ReasonChanged},
		"peers exchanged": {one(backup, primary), ""},
	} {
		b := newBed(t, two()).start()
		b.restart(c.cfg)
		if c.ends != "" {
			b.hungUp(c.ends)
			continue
		}
		b.hungUp()
		b.is("hq", StateUp, primary)
	}
}

// Checks and readings that the configuration did not want before a restart begin behind it, and those that it does not want
// any more end.
func TestRestartWithOtherChecks(t *testing.T) {
	plain, watched := two(), checkedTunnel(func(t *Tunnel) { t.NoReturn = 2 * time.Minute })
	b := newBed(t, plain).start()
	b.restart(watched)
	b.pass(time.Minute)
	b.is("hq", StateUp, primary)
	if f := b.e.tunnels["hq"].Flow; b.info("hq").Check.Sent == 0 || f.ReadAt.IsZero() {
		t.Fatalf("%+v, %+v", b.info("hq").Check, f)
	}
	sent := b.info("hq").Check.Sent
	b.restart(plain)
	b.pass(time.Hour)
	b.is("hq", StateUp, primary)
	if f := b.e.tunnels["hq"].Flow; b.info("hq").Check.Sent != sent || !f.ReadAt.IsZero() {
		t.Fatalf("%+v, %+v", b.info("hq").Check, f)
	}
}

// Positions, times and counts that do not fit the configuration are brought into its range.
func TestRestoreOutOfRange(t *testing.T) {
	far := `"9999-01-01T00:00:00Z"`
	for _, conns := range []string{`[]`, `[{"ID":1,"Peer":"192.0.2.2"}]`, `[{"ID":1,"Peer":"192.0.2.2","CarryAt":` + far + `,"OverAt":` + far + `}]`} {
		data := `{"Version":1,"Tunnels":[{"Name":"hq","Peers":[{"Addr":"192.0.2.1"},{"Addr":"192.0.2.2"}],"Conns":` + conns + `,"Life":{
			"InRound":true,"Round":[7],"LastPeer":99,"Suspect":-1,"Doubt":` + far + `,"RetryAt":` + far + `,"StableAt":` + far + `,"FallAt":` + far + `,
			"Failures":-5,"Bounces":1000000000,"Check":{"NextAt":` + far + `,"Failed":-7}}}]}`
		cfg := checkedTunnel(nil)
		e, err := Restore(began, cfg, rand.NewChaCha8([32]byte{}), []byte(data))
		if err != nil {
			t.Fatal(err)
		}
		b := newBed(t, cfg)
		b.e = e
		for id := range e.byConn {
			b.conns[id], b.lastConn = Up{Tunnel: "hq", Conn: id, Peer: backup}, id
		}
		b.start()
		b.pass(defaultBackoffMax + takeOver + firstProbe)
		b.is("hq", StateUp, primary)
		if l := b.e.tunnels["hq"].life; l.Failures != 0 || l.LastPeer != 0 || l.Check.Sent == 0 || !l.StableAt.IsZero() && l.StableAt.Sub(b.now) > defaultStable {
			t.Fatalf("%+v", l)
		}
	}
}

// Restore refuses what no engine has written.
func TestRestoreRefuses(t *testing.T) {
	for _, data := range []string{
		``, `{}`, `{"Version":2}`, `{"Version":1,"Names":[null]}`, `{"Version":1,"Names":[{"Name":"a"},{"Name":"a"}]}`,
		`{"Version":1,"Tunnels":[{"Name":"hq"},{"Name":"hq"}]}`,
		`{"Version":1,"Tunnels":[{"Name":"hq","Conns":[null]}]}`,
		`{"Version":1,"Tunnels":[{"Name":"hq","Conns":[{"Peer":"192.0.2.1"}]}]}`,
		`{"Version":1,"Tunnels":[{"Name":"hq","Conns":[{"ID":1}]}]}`,
		`{"Version":1,"Tunnels":[{"Name":"hq","Conns":[{"ID":1,"Peer":"192.0.2.1"},{"ID":1,"Peer":"192.0.2.1"}]}]}`,
	} {
		if _, err := Restore(began, two(), rand.NewChaCha8([32]byte{}), []byte(data)); err == nil {
			t.Errorf("takes %s", data)
		}
	}
}

// fuzzConfig has a tunnel of each kind.
func fuzzConfig() Config {
	cfg := checkedTunnel(func(t *Tunnel) { t.NoReturn, t.Check.Period = 20*time.Minute, 5*time.Minute })
	cfg.Tunnels = append(cfg.Tunnels,
		Tunnel{Name: "name", Start: OnDemand, Idle: 10 * time.Minute, Peers: []Peer{{Name: "hq.example"}, {Addr: third}}, FallBack: 5 * time.Minute},
		Tunnel{Name: "any"}, Tunnel{Name: "off", Disabled: true, Start: NailedUp, Peers: []Peer{{Addr: third}}})
	return cfg
}

// FuzzRestore: whatever the file holds, Restore returns an error or an engine that writes what it has read, and that keeps
// every rule of the bed from then on.
func FuzzRestore(f *testing.F) {
	for n := range 4 {
		b := newBed(f, fuzzConfig())
		b.dns["hq.example"] = []netip.Addr{backup, primary}
		b.alive[primary] = n%2 == 0
		b.step(Acquire{Tunnel: "name"})
		b.mute = n == 3
		b.world()
		b.calls("any", third)
		b.pass(time.Duration(n) * time.Minute)
		if n == 2 {
			b.operator("hq", CommandDown)
		}
		data, err := b.e.Snapshot()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { restoreAnything(t, data) })
}

// TestRestoreChanged restores snapshots in which single values are others.
func TestRestoreChanged(t *testing.T) {
	b := newBed(t, fuzzConfig())
	b.dns["hq.example"] = []netip.Addr{backup, primary}
	b.step(Acquire{Tunnel: "name"})
	b.world()
	b.calls("any", third)
	b.operator("off", CommandUp)
	b.alive[third] = false
	b.ends(b.info("off").Conn, true)
	b.pass(time.Minute)
	data, err := b.e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	values := func() []any { // others each time: one that is put into itself would have no end
		return []any{nil, true, false, 0, 1, 2, -1, 1e9, -1e9, "", "x", "hq", "192.0.2.1", "192.0.2.3", "0001-01-01T00:00:00Z", "1999-01-01T00:00:00Z", "9999-01-01T00:00:00Z", []any{}, []any{0, 0}, []any{7}, map[string]any{}}
	}
	rapid.Check(t, func(t *rapid.T) {
		var tree any
		if err := json.Unmarshal(data, &tree); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			at := tree
			for {
				var keys []string
				switch at := at.(type) {
				case map[string]any:
					keys = slices.Sorted(maps.Keys(at))
				case []any:
					for i := range at {
						keys = append(keys, strconv.Itoa(i))
					}
				}
				if len(keys) == 0 {
					break
				}
				key := rapid.SampledFrom(keys).Draw(t, "key")
				var next any
				set := func(v any) {}
				switch at := at.(type) {
				case map[string]any:
					next, set = at[key], func(v any) { at[key] = v }
				case []any:
					i, _ := strconv.Atoi(key)
					next, set = at[i], func(v any) { at[i] = v }
				}
				switch next.(type) {
				case map[string]any, []any:
					at = next
					continue
				}
				set(rapid.SampledFrom(values()).Draw(t, "value"))
				break
			}
		}
		changed, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		restoreAnything(t, changed)
	})
}

// restoreAnything is the oracle of both: an error, or an engine that writes what it has read and keeps every rule of the bed.
func restoreAnything(t tb, data []byte) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{2})
	e, err := Restore(began, fuzzConfig(), random, data)
	if err != nil {
		return
	}
	b := newBed(t, fuzzConfig())
	b.e = e
	for id, c := range e.byConn {
		b.conns[id] = Up{Tunnel: c.Tunnel, Conn: id, Peer: c.Peer}
	}
	b.lastConn = 1 << 31
	b.alive[primary] = false
	b.step(Timer{})
	written, err := e.Snapshot()
	if err != nil {
		t.Fatalf("restored and cannot be written: %v", err)
	}
	again, err := Restore(began, fuzzConfig(), random, written)
	if err != nil {
		t.Fatalf("cannot restore what was written: %v\n%s", err, written)
	}
	if rewritten, err := again.Snapshot(); err != nil || !bytes.Equal(written, rewritten) {
		t.Fatalf("written\n%s\nthen\n%s (%v)", written, rewritten, err)
	}
	b.dns["hq.example"] = []netip.Addr{backup}
	b.world()
	b.pass(2 * time.Hour)
	b.alive[primary] = true
	b.pass(2 * time.Hour)
	b.step(CloseAll{})
	b.world()
	if len(b.conns)+len(b.dials) != 0 {
		t.Fatalf("%d connections and %d dials are left", len(b.conns), len(b.dials))
	}
}
