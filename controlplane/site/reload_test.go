package site

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// What a reload does to a tunnel that is up: it ends for the reason, or nothing happens to it.
func TestReload(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Tunnel)
		ends   Reason
	}{
		"nothing":         {func(*Tunnel) {}, ""},
		"revision":        {func(t *Tunnel) { t.Revision = "2" }, ReasonChanged},
		"disabled":        {func(t *Tunnel) { t.Disabled = true }, ReasonDisabled},
		"renamed":         {func(t *Tunnel) { t.Name = "hq2" }, ReasonRemoved},
		"back-off":        {func(t *Tunnel) { t.Backoff, t.BackoffMax = time.Second, time.Minute }, ""},
		"start":           {func(t *Tunnel) { t.Start = OnDemand }, ""},
		"responds":        {func(t *Tunnel) { t.Start = Respond }, ""},
		"check":           {func(t *Tunnel) { t.Check = Check{Target: host} }, ""},
		"times":           {func(t *Tunnel) { t.Idle, t.NoReturn, t.FallBack, t.Stable = time.Hour, time.Hour, time.Hour, time.Hour }, ""},
		"another primary": {func(t *Tunnel) { t.Peers[0].Addr = third }, ReasonPeerRemoved},
		"no backup":       {func(t *Tunnel) { t.Peers = t.Peers[:1] }, ""},
		"peers exchanged": {func(t *Tunnel) { slices.Reverse(t.Peers) }, ""},
		"any peer":        {func(t *Tunnel) { t.Start, t.Peers = Respond, nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, two()).start()
			b.pass(time.Second)
			change := func(t *Tunnel) {
				t.Peers = slices.Clone(t.Peers)
				c.change(t)
			}
			cfg := two()
			change(&cfg.Tunnels[0])
			ending := b.e.Ending(cfg)
			b.reload(change)
			if c.ends == "" {
				b.hungUp()
				if len(ending) != 0 {
					t.Fatalf("announced %v", ending)
				}
				b.pass(time.Minute)
				b.is("hq", StateUp, primary)
				b.hungUp()
				return
			}
			b.hungUp(c.ends)
			if !slices.Equal(ending, []Ending{{"hq", 1, c.ends}}) {
				t.Fatalf("announced %v", ending)
			}
			b.world()
			after := map[Reason]State{ReasonChanged: StateUp, ReasonPeerRemoved: StateUp, ReasonDisabled: StateAdminDown}
			if want, still := after[c.ends]; still {
				b.is("hq", want, none)
			}
		})
	}
}

// A reload that changes a tunnel lifts what an operator has said; peers that change end its pause.
func TestReloadWhileDown(t *testing.T) {
	b := newBed(t, two()).start()
	b.operator("hq", CommandDown)
	b.reload(func(t *Tunnel) { t.Revision = "2" })
	b.world()
	b.is("hq", StateUp, primary)
	b.reload(func(t *Tunnel) { t.Disabled = true })
	b.is("hq", StateAdminDown, none)
	b.reload(func(t *Tunnel) { t.Disabled = false })
	b.world()
	b.is("hq", StateUp, primary)

	b = newBed(t, one(primary))
	b.alive[primary] = false
	b.start()
	b.pass(24 * time.Hour)
	b.is("hq", StateWaiting, none)
	b.reload(func(t *Tunnel) { t.BackoffMax = 2 * time.Minute })
	if i := b.info("hq"); i.Until.Sub(b.now) > 2*time.Minute {
		t.Fatalf("%+v", i)
	}
	b.reload(func(t *Tunnel) { t.Peers = []Peer{{Addr: backup}} })
	b.world()
	b.is("hq", StateUp, backup)
}

// A tunnel that is removed and comes back while its dial has not been answered is not dialled twice at once.
func TestReloadWhileDialling(t *testing.T) {
	b := newBed(t, two())
	b.mute = true
	b.start()
	b.step(Reconfigure{})
	b.hungUp(ReasonRemoved)
	if n := len(b.e.Tunnels()); n != 0 {
		t.Fatalf("%d tunnels", n)
	}
	b.step(Reconfigure{Config: two()})
	b.is("hq", StateDialling, primary)
	b.dialled(true)
	b.hungUp(ReasonRemoved)
	b.dialled(true)
	b.is("hq", StateUp, primary)

	b = newBed(t, two())
	b.mute = true
	b.start()
	b.step(Reconfigure{})
	b.hungUp(ReasonRemoved)
	b.dialled(true)
	b.hungUp(ReasonRemoved)
	b.calls("hq", primary)
	b.hungUp(ReasonRemoved)
}

// Peers that change break off a dial to one that is gone; the fall-back time holds from the reload on.
func TestReloadPeersAndFallBack(t *testing.T) {
	b := newBed(t, two())
	b.mute = true
	b.start()
	b.reload(func(t *Tunnel) { t.Peers = []Peer{{Addr: third}, {Addr: backup}} })
	b.hungUp(ReasonPeerRemoved)
	b.dialled(true)
	b.hungUp(ReasonPeerRemoved)
	b.is("hq", StateDialling, third)
	b.dialled(false)
	b.dialled(true)
	b.is("hq", StateUp, backup)
	for _, d := range []time.Duration{time.Minute, time.Hour} {
		b.reload(func(t *Tunnel) { t.FallBack = d })
		if wait := b.info("hq").FallBack.Sub(b.now); wait != d {
			t.Fatalf("falls back in %v, want %v", wait, d)
		}
	}
	b.reload(func(t *Tunnel) { t.FallBack = 0 })
	if at := b.info("hq").FallBack; !at.IsZero() {
		t.Fatalf("falls back at %v", at)
	}
}

// A peer that has called belongs to its name, also when that has another address by the time of a reload.
func TestReloadKeepsPeerOfName(t *testing.T) {
	b := newBed(t, with(named(), func(t *Tunnel) { t.Start = Respond }))
	b.dns["hq.example"] = []netip.Addr{primary}
	b.start()
	conn := b.calls("hq", primary)
	b.dns["hq.example"] = []netip.Addr{backup}
	b.pass(defaultResolve)
	b.reload(func(t *Tunnel) { t.Peers = []Peer{{Addr: third}, {Name: "hq.example"}} })
	b.hungUp()
	if i := b.info("hq"); i.Conn != conn || i.Peer != primary {
		t.Fatalf("%+v", i)
	}
}

// Names come and go with the tunnels that use them.
func TestReloadNames(t *testing.T) {
	b := newBed(t, named()).start()
	b.step(Reconfigure{Config: two()})
	b.world()
	b.pass(time.Hour)
	if len(b.e.names) != 0 || len(b.e.timers) > 1 {
		t.Fatalf("%d names, %d timers", len(b.e.names), len(b.e.timers))
	}
	b.step(Reconfigure{Config: named()})
	if len(b.resolves) != 1 {
		t.Fatalf("asked for %v", b.resolves)
	}
}

// Configurations that the engine cannot follow are told apart from those that it can.
func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"":               func(*Config) {},
		"dials":          func(c *Config) { c.MaxDials = -1 },
		"resolve":        func(c *Config) { c.Resolve = time.Second },
		"twice":          func(c *Config) { c.Tunnels = append(c.Tunnels, c.Tunnels[0]) },
		"no name":        func(c *Config) { c.Tunnels[0].Name = "" },
		"no peer":        func(c *Config) { c.Tunnels[0].Peers = nil },
		"empty peer":     func(c *Config) { c.Tunnels[0].Peers[0] = Peer{} },
		"double peer":    func(c *Config) { c.Tunnels[0].Peers[0] = Peer{Addr: primary, Name: "a"} },
		"same peer":      func(c *Config) { c.Tunnels[0].Peers[0] = c.Tunnels[0].Peers[1] },
		"peers":          func(c *Config) { c.Tunnels[0].Peers = slices.Repeat([]Peer{{Addr: primary}}, MaxPeers+1) },
		"start":          func(c *Config) { c.Tunnels[0].Start = 9 },
		"back-off":       func(c *Config) { c.Tunnels[0].Backoff = time.Millisecond },
		"negative":       func(c *Config) { c.Tunnels[0].BackoffMax = -1 },
		"back-off order": func(c *Config) { c.Tunnels[0].Backoff, c.Tunnels[0].BackoffMax = time.Hour, time.Minute },
		"longest":        func(c *Config) { c.Tunnels[0].BackoffMax = 48 * time.Hour },
		"stable":         func(c *Config) { c.Tunnels[0].Stable = -time.Second },
		"dial":           func(c *Config) { c.Tunnels[0].DialTimeout = -time.Second },
		"fall-back":      func(c *Config) { c.Tunnels[0].FallBack = time.Second },
		"idle":           func(c *Config) { c.Tunnels[0].Idle = time.Second },
		"no return":      func(c *Config) { c.Tunnels[0].NoReturn = -time.Second },
		"check period":   func(c *Config) { c.Tunnels[0].Check = Check{Target: host, Period: 2 * time.Hour} },
		"check timeout": func(c *Config) {
			c.Tunnels[0].Check = Check{Target: host, Period: time.Second, Timeout: 2 * time.Second}
		},
		"check tolerance": func(c *Config) { c.Tunnels[0].Check = Check{Target: host, Tolerance: -1} },
	} {
		cfg := two()
		change(&cfg)
		if err := cfg.Validate(); (err == nil) != (name == "") {
			t.Errorf("%q: %v", name, err)
		}
	}
	cfg := with(one(primary), func(t *Tunnel) {
		t.Backoff, t.Check = 2*time.Hour, Check{Target: host, Period: 2 * time.Second}
	})
	if err := cfg.Validate(); err != nil {
		t.Errorf("defaults contradict what is given: %v", err)
	}
}

// A dial that meets a connection which the peer has made meanwhile is over, and is no failure.
func TestDialMeetsCall(t *testing.T) {
	b := newBed(t, two())
	b.mute = true
	b.start()
	conn := b.calls("hq", primary)
	b.is("hq", StateUp, primary)
	for ref := range b.dials {
		b.meets(ref, conn)
	}
	if i := b.info("hq"); len(i.Failures) != 0 || i.Conn != conn || len(i.Others) != 0 || i.Attempts != 1 {
		t.Fatalf("%+v", i)
	}
	b.ends(conn, false)
	b.dialled(true)
	b.is("hq", StateUp, backup)
}
