package site

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// A nailed-up tunnel is dialled at once, and again when it is lost (Z-6).
func TestNailedUp(t *testing.T) {
	b := newBed(t, one(primary)).start()
	b.is("hq", StateUp, primary)
	b.pass(time.Hour)
	if i := b.info("hq"); i.Attempts != 1 || i.Ups != 1 {
		t.Fatalf("dialled %d times for %d ups", i.Attempts, i.Ups)
	}
	b.ends(1, false)
	b.is("hq", StateDialling, primary)
	b.world()
	b.is("hq", StateUp, primary)
	if i := b.info("hq"); i.Failures["peer-deleted"] != 1 || i.Failure.Reason != "peer-deleted" || i.UpSince != b.now {
		t.Fatalf("%+v", i)
	}
}

// Pauses grow from 1 to 60 minutes and stay there (D23).
func TestBackoffGrows(t *testing.T) {
	b := newBed(t, one(primary))
	b.alive[primary] = false
	b.start()
	wants := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60}
	for _, want := range wants {
		b.is("hq", StateWaiting, none)
		want *= time.Minute
		pause := b.info("hq").Until.Sub(b.now)
		if lo, hi := want, min(want+want/4, time.Hour); pause < lo && want < time.Hour || pause < 48*time.Minute && want == time.Hour || pause > hi {
			t.Fatalf("pause of %v, want about %v", pause, want)
		}
		b.pass(pause)
	}
	if i := b.info("hq"); i.Reason != "no-answer" || i.Attempts != uint64(len(wants)+1) {
		t.Fatalf("%+v", i)
	}
}

// Failures are forgotten when the tunnel has been up for a while, not before (D23).
func TestBackoffIsForgotten(t *testing.T) {
	for _, up := range []time.Duration{time.Minute, 3 * time.Minute} {
		b := newBed(t, one(primary))
		b.alive[primary] = false
		b.start()
		b.pass(10 * time.Minute) // three rounds
		failed := b.info("hq").Failed
		b.alive[primary] = true
		b.pass(b.info("hq").Until.Sub(b.now))
		b.is("hq", StateUp, primary)
		b.pass(up)
		b.alive[primary] = false
		b.ends(b.lastConn, false)
		b.world()
		want := 1
		if up < defaultStable {
			want = failed + 1
		}
		if i := b.info("hq"); i.Failed != want || i.State != StateWaiting {
			t.Fatalf("up for %v: %d failed rounds, want %d; %v", up, i.Failed, want, i.State)
		}
	}
}

// A peer that accepts and hangs up at once does not make us dial without end.
func TestFlappingPeerIsPaused(t *testing.T) {
	b := newBed(t, one(primary, backup)).start()
	for range 3 {
		b.ends(b.lastConn, false)
		b.is("hq", StateDialling, backup)
		b.world()
		b.ends(b.lastConn, false)
		b.is("hq", StateWaiting, none)
		b.pass(b.info("hq").Until.Sub(b.now))
		b.is("hq", StateUp, primary)
	}
	if i := b.info("hq"); i.Failed != 3 {
		t.Fatalf("%d rounds failed, want 3", i.Failed)
	}
}

// A peer's call ends the pause and what we do; ours under way goes on and both connections stay.
func TestBothDial(t *testing.T) {
	b := newBed(t, one(primary))
	b.mute = true
	b.start()
	theirs := b.calls("hq", primary)
	b.is("hq", StateUp, primary)
	b.dialled(true)
	b.pass(takeOver)
	b.hungUp()
	if i := b.info("hq"); len(i.Others) != 1 || i.Conn == theirs {
		t.Fatalf("%+v", i)
	}
	b.ends(b.info("hq").Conn, false)
	b.is("hq", StateUp, primary)
	if c := b.info("hq").Conn; c != theirs {
		t.Fatalf("carried by %d, want %d", c, theirs)
	}
	b.pass(defaultStable)
	b.ends(theirs, false)
	b.is("hq", StateDialling, primary)
}

// A call in a pause brings the tunnel up.
func TestCallEndsPause(t *testing.T) {
	b := newBed(t, one(primary))
	b.alive[primary] = false
	b.start()
	b.is("hq", StateWaiting, none)
	b.calls("hq", primary)
	b.is("hq", StateUp, primary)
	b.pass(2 * time.Hour)
	if i := b.info("hq"); i.Attempts != 1 || i.Ours {
		t.Fatalf("%+v", i)
	}

	b = newBed(t, one(primary))
	b.alive[primary] = false
	b.start()
	b.pass(24 * time.Hour)
	b.calls("hq", primary)
	b.pass(time.Second)
	b.ends(b.lastConn, false)
	b.is("hq", StateDialling, primary) // what it waited for has happened
}

// An on-demand tunnel is dialled for traffic, rests after a failure unless the kernel asks in the pause, and is not dialled
// again when it is lost (Z-6).
func TestOnDemand(t *testing.T) {
	b := newBed(t, with(one(primary), func(t *Tunnel) { t.Start = OnDemand })).start()
	b.pass(time.Hour)
	b.is("hq", StateDown, none)
	if i := b.info("hq"); i.Attempts != 0 || i.Reason != ReasonNoTraffic {
		t.Fatalf("%+v", i)
	}
	b.alive[primary] = false
	b.step(Acquire{Tunnel: "hq"})
	b.world()
	b.is("hq", StateWaiting, none)
	b.step(Acquire{Tunnel: "nobody's"})
	b.pass(time.Hour)
	b.is("hq", StateDown, none)
	if i := b.info("hq"); i.Attempts != 1 {
		t.Fatalf("dialled %d times", i.Attempts)
	}

	b.step(Acquire{Tunnel: "hq"})
	b.world()
	b.is("hq", StateWaiting, none)
	b.step(Acquire{Tunnel: "hq"})
	b.is("hq", StateWaiting, none)
	b.alive[primary] = true
	b.pass(5 * time.Minute)
	b.is("hq", StateUp, primary)

	b.ends(b.lastConn, false)
	b.is("hq", StateDown, none)
	b.pass(time.Hour)
	b.is("hq", StateDown, none)
}

// Traffic does not make us dial a peer without end that accepts and hangs up at once.
func TestFlappingOnDemand(t *testing.T) {
	b := newBed(t, with(one(primary), func(t *Tunnel) { t.Start = OnDemand })).start()
	for range 2 {
		b.step(Acquire{Tunnel: "hq"})
		b.world()
		b.is("hq", StateUp, primary)
		b.ends(b.lastConn, false)
		b.is("hq", StateWaiting, none)
		b.step(Acquire{Tunnel: "hq"})
		b.is("hq", StateWaiting, none)
		b.pass(b.info("hq").Until.Sub(b.now))
		b.is("hq", StateUp, primary)
		b.pass(time.Second)
		b.ends(b.lastConn, false)
		b.is("hq", StateWaiting, none)
		b.pass(time.Hour)
		b.is("hq", StateDown, none)
	}
	if i := b.info("hq"); i.Failed != 4 || i.Attempts != 4 {
		t.Fatalf("%+v", i)
	}
}

// A round that an on-demand tunnel has not ended goes on with the next peer, unless the tunnel has rested since.
func TestRoundAfterRest(t *testing.T) {
	for _, c := range []struct {
		rest time.Duration
		want netip.Addr
	}{{defaultStable, backup}, {defaultStable + time.Second, primary}} {
		b := newBed(t, with(one(primary, backup, third), func(t *Tunnel) { t.Start = OnDemand })).start()
		b.step(Acquire{Tunnel: "hq"})
		b.world()
		b.ends(b.lastConn, false)
		b.is("hq", StateDown, none)
		b.pass(c.rest)
		b.step(Acquire{Tunnel: "hq"})
		b.is("hq", StateDialling, c.want)
	}
}

// A tunnel that only responds is never dialled.
func TestRespond(t *testing.T) {
	b := newBed(t, with(one(primary), func(t *Tunnel) { t.Start = Respond })).start()
	b.step(Acquire{Tunnel: "hq"})
	b.pass(time.Hour)
	b.is("hq", StateDown, none)
	if r := b.info("hq").Reason; r != ReasonAwaitsPeer {
		t.Fatalf("reason %q", r)
	}
	b.calls("hq", primary)
	b.is("hq", StateUp, primary)
	b.ends(b.lastConn, true)
	b.pass(time.Hour)
	b.is("hq", StateDown, none)
	if r := b.operator("hq", CommandNow); r != ReasonRespondOnly {
		t.Fatalf("answered %q", r)
	}
	if r := b.operator("hq", CommandUp); r != "" {
		t.Fatalf("answered %q", r)
	}
	if i := b.info("hq"); i.Attempts != 0 {
		t.Fatalf("dialled %d times", i.Attempts)
	}
}

// A dynamic peer that calls from another address takes its tunnel along.
func TestDynamicPeer(t *testing.T) {
	b := newBed(t, with(one(), func(t *Tunnel) { t.Start = Respond })).start()
	if a := b.admits["hq"]; !a.Open || !a.Any {
		t.Fatalf("%+v", a)
	}
	b.calls("hq", third)
	b.calls("hq", backup)
	b.is("hq", StateUp, backup)
	b.pass(linger)
	b.hungUp(ReasonReplaced)
	b.calls("hq", backup)
	b.pass(linger)
	b.hungUp(ReasonReplaced)
	if i := b.info("hq"); i.Moves != 1 || i.FallOvers != 0 || len(i.Others) != 0 {
		t.Fatalf("%+v", i)
	}
}

// A dial that is not answered is broken off, and the next peer comes when it has ended and not before.
func TestDialTimeout(t *testing.T) {
	b := newBed(t, one(primary, backup))
	b.mute = true
	b.start()
	b.pass(defaultDialTimeout - time.Second)
	b.hungUp()
	b.pass(time.Second)
	b.hungUp(ReasonDialTimeout)
	b.pass(time.Hour)
	b.is("hq", StateDialling, primary)
	b.dialled(true) // too late
	b.hungUp(ReasonDialTimeout)
	b.is("hq", StateDialling, backup)
	b.dialled(true)
	b.is("hq", StateUp, backup)
	if i := b.info("hq"); i.Failures[ReasonDialTimeout] != 1 {
		t.Fatalf("%+v", i.Failures)
	}

	b = newBed(t, one(primary, backup))
	b.mute = true
	b.start()
	b.pass(defaultDialTimeout)
	b.dialled(false) // for whatever reason: it was hung up for ours
	if i := b.info("hq"); i.Failures[ReasonDialTimeout] != 1 || len(i.Failures) != 1 {
		t.Fatalf("%+v", i.Failures)
	}
}

// No more dials at once than configured, each tunnel in its turn.
func TestMaxDials(t *testing.T) {
	cfg := Config{MaxDials: 3}
	for _, n := range names(10) {
		cfg.Tunnels = append(cfg.Tunnels, Tunnel{Name: n, Start: NailedUp, Peers: []Peer{{Addr: primary}}})
	}
	b := newBed(t, cfg)
	b.mute = true
	b.start()
	b.is("t0002", StateDialling, primary)
	b.is("t0003", StateQueued, none)
	b.operator("t0003", CommandDown) // gives its turn away
	for range 9 {
		if len(b.dials) == 0 {
			t.Fatal("nobody is dialled")
		}
		for ref := range b.dials {
			b.answerDial(ref, true)
			break
		}
	}
	for _, n := range names(10) {
		if n == "t0003" {
			b.is(n, StateAdminDown, none)
		} else {
			b.is(n, StateUp, primary)
		}
	}
}

// Reasons are counted, and however many there are they take bounded room.
func TestReasonsAreBounded(t *testing.T) {
	b := newBed(t, with(one(primary), func(t *Tunnel) { t.Start = Respond })).start()
	for i := range 3 * maxReasons {
		b.calls("hq", primary)
		delete(b.conns, b.lastConn)
		b.step(Down{Conn: b.lastConn, Reason: Reason(rune('a' + i)), Text: string(make([]byte, 2*maxText))})
	}
	i := b.info("hq")
	if len(i.Failures) != maxReasons+1 || i.Failures[ReasonOther] != 2*maxReasons || len(i.Failure.Text) != maxText {
		t.Fatalf("%d reasons, %d others, text of %d", len(i.Failures), i.Failures[ReasonOther], len(i.Failure.Text))
	}
	b.calls("hq", primary)
	delete(b.conns, b.lastConn)
	b.step(Down{Conn: b.lastConn, Reason: "other-text", Text: "a" + strings.Repeat("ü", maxText)})
	if text := b.info("hq").Failure.Text; text != "a"+strings.Repeat("ü", maxText/2-1) {
		t.Fatalf("%d bytes are left: %q", len(text), text)
	}
}

// Without randomness pauses are the shortest allowed, and with it they differ.
func TestPausesAreSpread(t *testing.T) {
	cfg := Config{MaxDials: 100}
	for _, n := range names(100) {
		cfg.Tunnels = append(cfg.Tunnels, Tunnel{Name: n, Start: NailedUp, Peers: []Peer{{Addr: primary}}})
	}
	b := newBed(t, cfg)
	b.alive[primary] = false
	b.start()
	for range 2 { // the first pause, and the longest
		pauses := map[time.Duration]bool{}
		for _, i := range b.e.Tunnels() {
			pauses[i.Until.Sub(i.Since)] = true
		}
		if len(pauses) < 90 {
			t.Fatalf("%d different pauses of 100 tunnels", len(pauses))
		}
		b.pass(8 * time.Hour)
	}

	b = newBed(t, one(primary))
	b.e.random = iotest.ErrReader(errors.New("no randomness"))
	b.alive[primary] = false
	b.start()
	if pause := b.info("hq").Until.Sub(b.now); pause != time.Minute {
		t.Fatalf("pause of %v", pause)
	}
}

// Nobody is dialled any more when the peer has called while the tunnel waited for its turn.
func TestCallEndsWaiting(t *testing.T) {
	cfg := one(primary)
	cfg.MaxDials = 1
	cfg.Tunnels = append(cfg.Tunnels, Tunnel{Name: "later", Start: NailedUp, Peers: []Peer{{Addr: backup}}})
	b := newBed(t, cfg)
	b.mute = true
	b.start()
	b.is("later", StateQueued, none)
	b.calls("later", backup)
	b.dialled(true)
	b.pass(time.Hour)
	b.is("later", StateUp, backup)
	if i := b.info("later"); i.Attempts != 0 || len(b.dials) != 0 {
		t.Fatalf("%+v, dials %v", i, b.dials)
	}
}

// A connection is with the address that the shell says, in whichever form, and otherwise with the one that was dialled.
func TestAddressOfConnection(t *testing.T) {
	for _, c := range []struct{ says, want netip.Addr }{
		{netip.AddrFrom16(primary.As16()), primary}, {netip.Addr{}, primary}, {backup, backup},
	} {
		b := newBed(t, one(primary))
		b.mute = true
		b.start()
		for ref := range b.dials {
			delete(b.dials, ref)
			b.conns[9] = Up{Tunnel: "hq", Conn: 9}
			b.step(Up{Tunnel: "hq", Ref: ref, Conn: 9, Peer: c.says})
		}
		b.is("hq", StateUp, c.want)
	}
}

// What the shell says twice, or of what nobody knows, changes nothing.
func TestStrayEvents(t *testing.T) {
	b := newBed(t, one(primary)).start()
	before := b.info("hq")
	b.step(Up{Tunnel: "hq", Conn: before.Conn, Peer: backup})
	b.step(Up{Tunnel: "hq", Peer: backup})
	b.step(Down{Conn: 77, Reason: "peer-deleted"})
	b.step(Down{Ref: 77, Reason: "no-answer"})
	b.step(Down{Reason: "no-answer"})
	if after := b.info("hq"); after.Conn != before.Conn || len(after.Others) != 0 || len(after.Failures) != 0 {
		t.Fatalf("%+v, then %+v", before, after)
	}
	if _, ok := b.e.Tunnel("nobody's"); ok {
		t.Fatal("knows a tunnel that is not configured")
	}
}

// Names of states, ways to start and words are those that operators see.
func TestWords(t *testing.T) {
	var got []string
	for s := StateDown; s <= StateAdminDown+1; s++ {
		got = append(got, s.String())
	}
	for s := Respond; s <= NailedUp; s++ {
		got = append(got, s.String())
	}
	for c := CommandUp; c <= CommandNow+1; c++ {
		got = append(got, c.String())
	}
	got = append(got, Peer{Addr: primary}.String(), Peer{Name: "hq.example"}.String())
	want := "down waiting resolving queued dialling checking up admin-down unknown respond on-demand nailed-up up down now unknown 192.0.2.1 hq.example"
	if s := strings.Join(got, " "); s != want {
		t.Fatalf("got  %s\nwant %s", s, want)
	}
}
