package site

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// two is a tunnel with a primary and a backup that falls back every five minutes.
func two() Config {
	return with(one(primary, backup), func(t *Tunnel) { t.FallBack = 5 * time.Minute })
}

// A dead primary gives the tunnel to the backup at once, and has it back when it lives again, without a gap (Z-11).
func TestFallOverAndBack(t *testing.T) {
	b := newBed(t, two()).start()
	b.pass(time.Hour)
	b.alive[primary] = false
	b.ends(b.lastConn, true)
	b.is("hq", StateDialling, backup)
	b.world()
	b.is("hq", StateUp, backup)
	b.pass(time.Hour)
	b.is("hq", StateUp, backup)
	if i := b.info("hq"); i.FallOvers != 1 || i.Attempts != 2+12 || i.Failures["no-answer"] != 12 {
		t.Fatalf("%+v", i)
	}
	b.hungUp()

	b.alive[primary] = true
	b.log = nil
	b.pass(5 * time.Minute)
	b.is("hq", StateUp, backup) // until the primary has what is needed
	b.pass(takeOver)
	b.is("hq", StateUp, primary)
	b.hungUp() // what the backup still sends is received
	b.pass(linger)
	b.hungUp(ReasonFallBack)
	carry := slices.IndexFunc(b.log, func(f Effect) bool { c, ok := f.(Carry); return ok && c.Conn == b.lastConn })
	hangUp := slices.IndexFunc(b.log, func(f Effect) bool { _, ok := f.(HangUp); return ok })
	if carry < 0 || hangUp < carry {
		t.Fatalf("hung up before the other carries: %v", b.log)
	}
	if i := b.info("hq"); i.FallBacks != 1 || !i.FallBack.IsZero() || i.Ups != 2 || i.Moves != 0 {
		t.Fatalf("%+v", i)
	}
}

// Without fall-back the tunnel stays where it is.
func TestNoFallBack(t *testing.T) {
	b := newBed(t, one(primary, backup))
	b.alive[primary] = false
	b.start()
	b.alive[primary] = true
	b.pass(24 * time.Hour)
	b.is("hq", StateUp, backup)
}

// A tunnel that is deleted by a peer which lives is dialled there again.
func TestDeletedIsNotDead(t *testing.T) {
	b := newBed(t, two()).start()
	b.pass(time.Hour)
	b.ends(b.lastConn, false)
	b.is("hq", StateDialling, primary)
}

// A backup that is lost while the primary is tried leaves a round that takes any peer.
func TestBackupLostWhileFallingBack(t *testing.T) {
	b := newBed(t, two())
	b.alive[primary] = false
	b.start()
	b.pass(4 * time.Minute)
	b.mute = true
	b.pass(time.Minute)
	b.is("hq", StateUp, backup)
	if len(b.dials) != 1 {
		t.Fatalf("%d dials", len(b.dials))
	}
	b.ends(b.lastConn, true)
	b.is("hq", StateDialling, primary)
	b.dialled(false)
	b.is("hq", StateDialling, backup)
	b.dialled(true)
	b.is("hq", StateUp, backup)
}

// A primary that takes the tunnel and loses it each time is tried less and less often.
func TestFallBackIsDamped(t *testing.T) {
	b := newBed(t, two())
	b.alive[primary] = false
	b.start()
	b.alive[primary] = true
	for _, want := range []time.Duration{5, 10, 20, 40, 60, 60} {
		b.is("hq", StateUp, backup)
		if wait := b.info("hq").FallBack.Sub(b.now); wait != want*time.Minute {
			t.Fatalf("falls back in %v, want %v minutes", wait, want)
		}
		b.pass(want*time.Minute + takeOver)
		b.is("hq", StateUp, primary)
		b.pass(time.Minute)
		b.ends(b.lastConn, true)
		b.world()
	}
	b.pass(60*time.Minute + takeOver)
	b.is("hq", StateUp, primary)
	b.pass(time.Hour)
	b.ends(b.lastConn, true)
	b.world()
	if wait := b.info("hq").FallBack.Sub(b.now); wait != 5*time.Minute {
		t.Fatalf("falls back in %v", wait)
	}
}

// So it is where the backup takes over that the tunnel has not left yet.
func TestFallBackIsDampedByLingering(t *testing.T) {
	b := newBed(t, two())
	b.alive[primary] = false
	b.start()
	b.is("hq", StateUp, backup)
	b.alive[primary] = true
	ended := func(after time.Duration) time.Duration {
		t.Helper()
		b.pass(b.info("hq").FallBack.Sub(b.now) + takeOver)
		b.is("hq", StateUp, primary)
		b.calls("hq", backup) // or our own connection would be over after a while
		b.pass(after)
		b.ends(b.info("hq").Conn, true)
		b.is("hq", StateUp, backup)
		return b.info("hq").FallBack.Sub(b.now)
	}
	for _, want := range []time.Duration{10 * time.Minute, 20 * time.Minute} {
		if got := ended(time.Second); got != want {
			t.Fatalf("back to the primary in %v, want %v", got, want)
		}
	}
	if got := ended(defaultStable); got != 5*time.Minute {
		t.Fatalf("back to the primary in %v after it was well", got)
	}
	if i := b.info("hq"); i.Ups != 1 || i.FallBacks != 3 || i.FallOvers != 4 {
		t.Fatalf("%+v", i)
	}
}

// A primary that calls while we are on the backup has the tunnel; the backup's own call is kept for when it goes.
func TestPeersCall(t *testing.T) {
	b := newBed(t, with(two(), func(t *Tunnel) { t.Start = Respond })).start()
	fromBackup := b.calls("hq", backup)
	b.pass(time.Hour)
	if i := b.info("hq"); i.Attempts != 0 || !i.FallBack.IsZero() {
		t.Fatalf("%+v", i)
	}
	fromPrimary := b.calls("hq", primary)
	b.is("hq", StateUp, primary)
	b.hungUp()
	again := b.calls("hq", backup)
	b.is("hq", StateUp, primary)
	b.ends(fromPrimary, true)
	b.is("hq", StateUp, backup)
	if i := b.info("hq"); i.Conn != again || !slices.Equal(i.Others, []uint32{fromBackup}) || i.FallOvers != 2 || i.FallBacks != 1 {
		t.Fatalf("%+v", i)
	}
	for range 2 * maxConns {
		b.calls("hq", backup)
	}
	b.hungUp(slices.Repeat([]Reason{ReasonTooMany}, maxConns+2)...)
	if c := b.info("hq").Conn; c != b.lastConn {
		t.Fatalf("carried by %d, the newest is %d", c, b.lastConn)
	}
	fromPrimary = b.calls("hq", primary)
	for range 2 * maxConns {
		b.calls("hq", backup)
	}
	if i := b.info("hq"); i.Conn != fromPrimary || len(i.Others) != maxConns-1 {
		t.Fatalf("%+v", i) // the primary's is the oldest by now
	}
}

// named is a tunnel with a peer given by name and one by address.
func named() Config {
	return with(one(), func(t *Tunnel) {
		t.Start, t.Peers, t.FallBack = NailedUp, []Peer{{Name: "hq.example"}, {Addr: third}}, 5*time.Minute
	})
}

// A name is resolved before it is dialled, and every address of it is tried before the next peer.
func TestName(t *testing.T) {
	b := newBed(t, named())
	b.dns["hq.example"] = []netip.Addr{primary, backup}
	b.alive[primary] = false
	b.mute = true
	b.step(Timer{})
	b.is("hq", StateResolving, none)
	if a := b.admits["hq"]; !slices.Equal(a.Peers, []netip.Addr{third}) {
		t.Fatalf("%+v", a)
	}
	b.mute = false
	b.world()
	b.is("hq", StateUp, backup)
	if a := b.admits["hq"]; !slices.Equal(a.Peers, []netip.Addr{primary, backup, third}) {
		t.Fatalf("%+v", a)
	}
	if i := b.info("hq"); i.Attempts != 2 || i.FallOvers != 0 || i.Peers[0].Resolved != b.now {
		t.Fatalf("%+v", i)
	}
}

// A name whose address changes takes its tunnel along, the new connection first.
func TestNameMoves(t *testing.T) {
	b := newBed(t, named())
	b.dns["hq.example"] = []netip.Addr{primary}
	b.start()
	b.dns["hq.example"] = []netip.Addr{backup}
	b.alive[backup] = false
	b.pass(2 * defaultResolve)
	b.is("hq", StateUp, primary) // the new address does not answer; the old one does
	b.hungUp()
	b.alive[backup] = true
	b.pass(defaultResolve)
	b.is("hq", StateUp, backup)
	b.hungUp(ReasonMoved)
	if i := b.info("hq"); i.Moves != 1 || i.Ups != 1 {
		t.Fatalf("%+v", i)
	}
}

// A peer whose NAT has another address is where its connection has followed it to, and a name that gets that address later on
// is no reason to dial.
func TestPeerBehindNATMoves(t *testing.T) {
	b := newBed(t, named())
	b.dns["hq.example"] = []netip.Addr{primary}
	b.start()
	conn := b.info("hq").Conn
	for _, ev := range []Moved{{Conn: conn, Peer: netip.AddrFrom16(backup.As16())}, {Conn: conn, Peer: backup}, {Conn: conn}, {Conn: conn + 1, Peer: third}} {
		b.step(ev)
	}
	b.is("hq", StateUp, backup)
	b.dns["hq.example"] = []netip.Addr{backup}
	b.pass(2 * defaultResolve)
	b.is("hq", StateUp, backup)
	b.hungUp()
	if i := b.info("hq"); i.Conn != conn || i.Attempts != 1 || i.Moves != 1 || b.said["hq"].Peer != backup {
		t.Fatalf("%+v, said %+v", i, b.said["hq"])
	}
	b.calls("hq", backup)
	b.step(Moved{Conn: conn, Peer: primary}) // which carries no more
	if i := b.info("hq"); i.Peer != backup || i.Moves != 1 {
		t.Fatalf("%+v", i)
	}
	b.pass(linger)
	b.hungUp(ReasonMoved)
}

// A name that has been asked for just now is dialled as it is.
func TestFreshName(t *testing.T) {
	b := newBed(t, named())
	b.dns["hq.example"] = []netip.Addr{primary}
	b.start()
	for _, c := range []struct {
		after time.Duration
		want  State
	}{{freshName - time.Second, StateDialling}, {time.Second, StateResolving}} {
		b.mute = false
		b.world()
		b.is("hq", StateUp, primary)
		b.pass(c.after)
		b.operator("hq", CommandDown)
		b.mute = true
		b.operator("hq", CommandUp)
		b.is("hq", c.want, none)
	}
	if len(b.resolves) != 1 {
		t.Fatalf("asked for %q", b.resolves)
	}
}

// A dial after a name that has reached the peer by the connection that is there ends with that, and the name is followed on.
func TestNameMovesToWhereThePeerIs(t *testing.T) {
	b := newBed(t, named())
	b.dns["hq.example"] = []netip.Addr{primary}
	b.start()
	conn := b.info("hq").Conn
	b.mute = true
	b.step(Resolved{Name: "hq.example", Addrs: []netip.Addr{backup}})
	for ref := range b.dials {
		b.meets(ref, conn)
	}
	b.step(Resolved{Name: "hq.example", Addrs: []netip.Addr{host}})
	b.dialled(true)
	b.pass(takeOver)
	b.is("hq", StateUp, host)
}

// A name is asked for again when the tunnel has failed, so that a peer with a new address is found at once.
func TestNameResolvedAfterLoss(t *testing.T) {
	b := newBed(t, named())
	b.dns["hq.example"] = []netip.Addr{primary}
	b.start()
	b.pass(time.Minute)
	b.dns["hq.example"] = []netip.Addr{backup}
	b.alive[primary] = false
	b.ends(b.lastConn, false)
	b.world() // early: the other peer
	b.is("hq", StateUp, third)
	b.ends(b.lastConn, false)
	b.world()
	b.is("hq", StateWaiting, none)
	b.pass(2 * time.Minute)
	b.is("hq", StateUp, backup)
}

// A resolver that fails does not take addresses away that were known; one that is silent is given up.
func TestResolverFails(t *testing.T) {
	b := newBed(t, with(named(), func(t *Tunnel) { t.Peers = t.Peers[:1] }))
	b.mute = true
	b.step(Timer{})
	b.pass(resolveTimeout)
	b.is("hq", StateWaiting, none)
	if i := b.info("hq"); i.Reason != ReasonNameTimeout || i.Peers[0].Reason != ReasonNameTimeout || i.Failures[ReasonNameTimeout] != 1 {
		t.Fatalf("%+v", i)
	}
	b.step(Resolved{Name: "hq.example", Addrs: []netip.Addr{{}, netip.IPv4Unspecified(), netip.MustParseAddr("::ffff:192.0.2.1"), primary, netip.MustParseAddr("224.0.0.1")}})
	if a, shown := b.admits["hq"].Peers, b.info("hq").Peers[0].Addrs; !slices.Equal(a, []netip.Addr{primary}) || !slices.Equal(shown, a) {
		t.Fatalf("%v, shown %v", a, shown)
	}
	b.resolves, b.mute = nil, false // nothing by that name in the world
	b.pass(3 * time.Minute)
	b.is("hq", StateUp, primary)
	if r := b.info("hq").Peers[0].Reason; r != "no-such-name" {
		t.Fatalf("reason %q", r)
	}
	b.step(Resolved{Name: "hq.example"})
	if r := b.info("hq").Peers[0].Reason; r != ReasonNoAddress {
		t.Fatalf("reason %q", r)
	}
	b.step(Resolved{Name: "another.example", Addrs: []netip.Addr{primary}})
}

// Who may call is said at the start, of a tunnel that nobody may call too, and when it changes: each address once.
func TestAdmission(t *testing.T) {
	cfg := named()
	cfg.Tunnels = append(cfg.Tunnels, Tunnel{Name: "off", Disabled: true, Peers: []Peer{{Name: "nobody.example"}}})
	b := newBed(t, cfg)
	b.dns["hq.example"] = []netip.Addr{third, primary}
	b.start()
	b.pass(time.Hour)
	var said []Admit
	for _, f := range b.log {
		if a, ok := f.(Admit); ok {
			said = append(said, a)
		}
	}
	want := []Admit{
		{Tunnel: "hq", Open: true, Peers: []netip.Addr{third}}, {Tunnel: "off"}, {Tunnel: "hq", Open: true, Peers: []netip.Addr{primary, third}},
	}
	if !slices.EqualFunc(said, want, func(a, b Admit) bool {
		return a.Tunnel == b.Tunnel && a.Open == b.Open && a.Any == b.Any && slices.Equal(a.Peers, b.Peers)
	}) {
		t.Fatalf("%+v, want %+v", said, want)
	}
}

// However many addresses a name has, few are taken; however many tunnels have a name, it is asked for once.
func TestNamesAreBounded(t *testing.T) {
	cfg := Config{}
	for _, n := range names(50) {
		cfg.Tunnels = append(cfg.Tunnels, Tunnel{Name: n, Start: NailedUp, Peers: []Peer{{Name: "hq.example"}}})
	}
	b := newBed(t, cfg)
	b.mute = true
	b.step(Timer{})
	if len(b.resolves) != 1 {
		t.Fatalf("asked %d times", len(b.resolves))
	}
	var many []netip.Addr
	for i := range 100 {
		many = append(many, netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}))
	}
	b.step(Resolved{Name: "hq.example", Addrs: many})
	if n := len(b.info("t0000").Peers[0].Addrs); n != maxAddrs {
		t.Fatalf("%d addresses", n)
	}
}

// A call from an address that was not admitted is hung up.
func TestUnlistedPeer(t *testing.T) {
	b := newBed(t, named())
	b.dns["hq.example"] = []netip.Addr{primary}
	b.start()
	b.calls("hq", backup)
	b.hungUp(ReasonUnlisted)
	b.dns["hq.example"] = []netip.Addr{backup, primary}
	b.pass(defaultResolve)
	b.calls("hq", backup)
	b.pass(linger)
	b.hungUp(ReasonMoved) // of two connections to one peer the newest carries
	b.is("hq", StateUp, backup)
}

// A name that has the address of the backup which carries the tunnel is not dialled there a second time.
func TestNameOfTheBackup(t *testing.T) {
	b := newBed(t, with(named(), func(t *Tunnel) { t.Peers[1].Addr = backup })).start()
	b.is("hq", StateUp, backup)
	b.dns["hq.example"] = []netip.Addr{backup}
	b.pass(time.Hour)
	if i := b.info("hq"); i.Attempts != 1 || i.State != StateUp {
		t.Fatalf("%+v", i)
	}
	b.dns["hq.example"] = []netip.Addr{backup, primary}
	b.pass(defaultResolve + 5*time.Minute)
	b.is("hq", StateUp, primary)
	b.hungUp(ReasonFallBack)
}

// While a dial is under way no better peer is tried; that is made up for.
func TestFallBackWaitsForDial(t *testing.T) {
	b := newBed(t, with(two(), func(t *Tunnel) { t.DialTimeout = time.Hour }))
	b.mute = true
	b.start()
	b.calls("hq", backup)
	b.pass(30 * time.Minute)
	if len(b.dials) != 1 {
		t.Fatalf("%d dials", len(b.dials))
	}
	b.dialled(false)
	b.is("hq", StateUp, backup)
	b.mute = false
	b.pass(5*time.Minute + takeOver)
	b.is("hq", StateUp, primary)
}

// An address that a name has lost is not dialled any more, wherever the attempt is.
func TestNameChangesWhileDialling(t *testing.T) {
	b := newBed(t, named())
	b.mute = true
	b.step(Timer{})
	b.step(Resolved{Name: "hq.example", Addrs: []netip.Addr{primary, backup}})
	b.is("hq", StateDialling, primary)
	b.step(Resolved{Name: "hq.example", Addrs: []netip.Addr{primary}})
	b.dialled(false)
	b.is("hq", StateDialling, third)

	cfg := named()
	cfg.MaxDials = 1
	b = newBed(t, cfg)
	b.mute = true
	b.step(Timer{})
	more := cfg
	more.Tunnels = append(slices.Clone(cfg.Tunnels), Tunnel{Name: "first", Start: NailedUp, Peers: []Peer{{Addr: host}}})
	b.step(Reconfigure{Config: more})
	b.step(Resolved{Name: "hq.example", Addrs: []netip.Addr{primary}})
	b.is("hq", StateQueued, none)
	b.step(Resolved{Name: "hq.example", Addrs: []netip.Addr{backup}})
	b.dialled(false)
	b.is("hq", StateDialling, third) // nothing is left of what the name had when it was asked for
}

// A connection of ours does not carry instead of another before the peer has had time to install its SAs, but at once when the other
// ends; nothing changes if it ends before, and a restart keeps the moment.
func TestTakeOver(t *testing.T) {
	ready := func() (b *bed, old, fresh uint32) {
		b = newBed(t, two())
		b.alive[primary] = false
		b.start()
		old = b.lastConn
		b.alive[primary] = true
		b.pass(b.info("hq").FallBack.Sub(b.now) + takeOver - time.Second)
		b.is("hq", StateUp, backup)
		if i := b.info("hq"); i.Conn != old || !slices.Equal(i.Others, []uint32{b.lastConn}) {
			t.Fatalf("%+v", i)
		}
		return b, old, b.lastConn
	}
	b, _, _ := ready()
	b.pass(time.Second)
	b.is("hq", StateUp, primary)

	b, old, fresh := ready()
	b.ends(old, true)
	b.is("hq", StateUp, primary)
	if c := b.info("hq").Conn; c != fresh {
		t.Fatalf("carried by %d, want %d", c, fresh)
	}

	b, old, fresh = ready()
	b.ends(fresh, true)
	b.pass(time.Minute)
	b.is("hq", StateUp, backup)
	if i := b.info("hq"); i.Conn != old || i.FallBacks != 0 || i.FallBack.IsZero() {
		t.Fatalf("%+v", i)
	}
	b.hungUp()

	b, _, _ = ready()
	b.restart(two())
	b.is("hq", StateUp, backup)
	b.pass(time.Second)
	b.is("hq", StateUp, primary)
}

// What has been replaced lingers for a while. If the one that carries ends in it, it carries again and stays; a reload that would end it
// does so at once; and a restart does not make it longer.
func TestLinger(t *testing.T) {
	replaced := func() (b *bed, old, fresh uint32) {
		b = newBed(t, two())
		b.alive[primary] = false
		b.start()
		b.is("hq", StateUp, backup)
		old = b.lastConn
		b.alive[primary] = true
		b.pass(b.info("hq").FallBack.Sub(b.now) + takeOver)
		b.is("hq", StateUp, primary)
		b.hungUp()
		return b, old, b.lastConn
	}
	b, old, fresh := replaced()
	b.pass(linger - time.Second)
	b.ends(fresh, false)
	b.is("hq", StateUp, backup)
	if i := b.info("hq"); i.Conn != old || i.Ups != 1 {
		t.Fatalf("%+v", i)
	}
	b.pass(time.Minute)
	b.hungUp()

	b, _, _ = replaced()
	b.step(Reconfigure{Config: one(primary, third, backup)})
	b.hungUp(ReasonFallBack)
	b.pass(time.Minute)
	b.hungUp()

	b, _, _ = replaced()
	b.pass(linger - time.Second)
	b.restart(two())
	b.pass(time.Second)
	b.hungUp(ReasonFallBack)
	b.is("hq", StateUp, primary)
}
