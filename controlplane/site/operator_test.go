package site

import (
	"testing"
	"time"
)

// "down" hangs up and stays down, whoever calls and whatever traffic there is, until "up".
func TestOperatorDown(t *testing.T) {
	b := newBed(t, two()).start()
	if r := b.operator("hq", CommandDown); r != "" {
		t.Fatalf("answered %q", r)
	}
	b.hungUp(ReasonOperator)
	b.is("hq", StateAdminDown, none)
	if i := b.info("hq"); i.Reason != ReasonAdminDown || len(i.Failures) != 0 {
		t.Fatalf("%+v", i)
	}
	b.calls("hq", primary)
	b.hungUp(ReasonAdminDown)
	b.step(Acquire{Tunnel: "hq"})
	if r := b.operator("hq", CommandNow); r != ReasonAdminDown {
		t.Fatalf("answered %q", r)
	}
	b.reload(func(t *Tunnel) { t.FallBack = time.Hour }) // does not touch it
	b.pass(24 * time.Hour)
	b.is("hq", StateAdminDown, none)
	b.operator("hq", CommandUp)
	b.world()
	b.is("hq", StateUp, primary)
	if !b.admits["hq"].Open {
		t.Fatal("is up and takes no call")
	}
}

// "down" while a dial is under way breaks it off; "up" waits for its end.
func TestOperatorWhileDialling(t *testing.T) {
	for _, answered := range []bool{true, false} {
		b := newBed(t, one(primary))
		b.mute = true
		b.start()
		b.operator("hq", CommandDown)
		b.hungUp(ReasonOperator)
		b.operator("hq", CommandUp)
		b.is("hq", StateDialling, primary)
		b.dialled(answered)
		if answered {
			b.hungUp(ReasonOperator)
		}
		b.is("hq", StateDialling, primary)
		b.dialled(true)
		b.is("hq", StateUp, primary)
		if i := b.info("hq"); i.Attempts != 2 || len(i.Failures) != 0 {
			t.Fatalf("%+v", i)
		}
	}
}

// "now" ends the pause and begins with short ones again; "up" does the same (D23).
func TestOperatorNow(t *testing.T) {
	for _, word := range []Command{CommandNow, CommandUp} {
		b := newBed(t, one(primary))
		b.alive[primary] = false
		b.start()
		b.pass(24 * time.Hour)
		b.is("hq", StateWaiting, none)
		b.pass(defaultStable)
		if r := b.operator("hq", word); r != "" {
			t.Fatalf("answered %q", r)
		}
		b.is("hq", StateDialling, primary)
		b.world()
		if i := b.info("hq"); i.Failed != 1 || i.Until.Sub(b.now) > 2*time.Minute {
			t.Fatalf("%+v", i)
		}
		b.alive[primary] = true
		b.operator("hq", word)
		b.world()
		b.is("hq", StateUp, primary)
		b.operator("hq", word)
		b.hungUp()
		b.is("hq", StateUp, primary)
	}
}

// "up" and "now" dial an on-demand tunnel that has nothing to carry.
func TestOperatorOnDemand(t *testing.T) {
	for _, word := range []Command{CommandNow, CommandUp} {
		b := newBed(t, with(one(primary), func(t *Tunnel) { t.Start = OnDemand })).start()
		b.operator("hq", word)
		b.world()
		b.is("hq", StateUp, primary)
		b.pass(defaultStable)
		if r := b.operator("hq", word); r != "" {
			t.Fatalf("answered %q", r)
		}
		b.ends(b.lastConn, false)
		b.is("hq", StateDown, none) // it was up, and that was all that was wanted
	}
}

// Words that cannot be followed are answered with a reason.
func TestOperatorRefused(t *testing.T) {
	b := newBed(t, one(primary)).start()
	if r := b.operator("nobody's", CommandUp); r != ReasonUnknown {
		t.Fatalf("answered %q", r)
	}
	if r := b.operator("hq", 0); r != ReasonCommand {
		t.Fatalf("answered %q", r)
	}
	b.step(CloseAll{})
	b.hungUp(ReasonShutdown)
	if r := b.operator("hq", CommandUp); r != ReasonShutdown {
		t.Fatalf("answered %q", r)
	}
	b.calls("hq", primary)
	b.hungUp(ReasonShutdown)
	b.pass(24 * time.Hour)
	if i := b.info("hq"); i.State != StateDown || i.Reason != ReasonShutdown {
		t.Fatalf("%+v", i)
	}
}

// A tunnel that is disabled by its configuration rests until an operator wants it.
func TestDisabled(t *testing.T) {
	b := newBed(t, with(one(primary), func(t *Tunnel) { t.Disabled = true })).start()
	b.pass(time.Hour)
	b.is("hq", StateAdminDown, none)
	if i := b.info("hq"); i.Reason != ReasonDisabled || i.Attempts != 0 || b.admits["hq"].Open {
		t.Fatalf("%+v", i)
	}
	b.operator("hq", CommandUp)
	b.world()
	b.is("hq", StateUp, primary)
}

// What wants to be sent while a tunnel is disabled is not kept for later: the kernel asks again if it still does.
func TestAcquireWhileDown(t *testing.T) {
	b := newBed(t, with(one(primary), func(t *Tunnel) { t.Start, t.Disabled = OnDemand, true })).start()
	b.step(Acquire{Tunnel: "hq"})
	b.reload(func(t *Tunnel) { t.Disabled = false })
	b.pass(time.Hour)
	b.is("hq", StateDown, none)
	b.step(Acquire{Tunnel: "hq"})
	b.world()
	b.is("hq", StateUp, primary)
}
