package l2tp

import (
	"fmt"
	"testing"
	"time"
)

// The table of L2TP parameters (requirements.md 1.7): each row's default and both ends of its range, as far as it is a figure.
func TestParameterRanges(t *testing.T) {
	set := func(change func(*Config)) Config {
		var c Config
		change(&c)
		return c.withDefaults()
	}
	params := func(change func(*Config)) params {
		c := set(change)
		return c.params()
	}
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"retransmissions", set(func(*Config) {}).RetransmitMax, 5},
		{"retransmissions 1", set(func(c *Config) { c.RetransmitMax = 1 }).RetransmitMax, 2},
		{"retransmissions 2", set(func(c *Config) { c.RetransmitMax = 2 }).RetransmitMax, 2},
		{"retransmissions 7", set(func(c *Config) { c.RetransmitMax = 7 }).RetransmitMax, 7},
		{"retransmissions 8", set(func(c *Config) { c.RetransmitMax = 8 }).RetransmitMax, 7},
		{"opening", set(func(*Config) {}).RetransmitMaxOpening, 5},
		{"opening 1", set(func(c *Config) { c.RetransmitMaxOpening = 1 }).RetransmitMaxOpening, 2},
		{"opening 8", set(func(c *Config) { c.RetransmitMaxOpening = 8 }).RetransmitMaxOpening, 7},
		{"hello", params(func(*Config) {}).Hello, time.Minute},
		{"hello off", params(func(c *Config) { c.Hello = -1 }).Hello, time.Duration(0)},
		{"idle", params(func(*Config) {}).Idle, time.Minute},
		{"idle for ever", params(func(c *Config) { c.IdleTimeout = -1 }).Idle, time.Duration(0)},
		{"idle of a day", params(func(c *Config) { c.IdleTimeout = 86400 * time.Second }).Idle, 24 * time.Hour},
		{"destruct", params(func(*Config) {}).Destruct, 600 * time.Second},
		{"destruct 3600", params(func(c *Config) { c.DestructTimeout = time.Hour }).Destruct, time.Hour},
		{"short drain", params(func(*Config) {}).Drain, 2 * time.Second},
		{"short drain 0", params(func(c *Config) { c.ShortDrain = -1 }).Drain, time.Duration(0)},
		{"short drain 31", params(func(c *Config) { c.ShortDrain = 31 * time.Second }).Drain, 31 * time.Second},
		{"short drain 32", params(func(c *Config) { c.ShortDrain = 32 * time.Second }).Drain, 31 * time.Second},
		{"receive window 0", set(func(*Config) {}).ReceiveWindow, uint16(4)},
		{"receive window 4", set(func(c *Config) { c.ReceiveWindow = 4 }).ReceiveWindow, uint16(4)},
		{"disconnect cause", params(func(*Config) {}).DisconnectCause, false},
		{"first retransmission", set(func(*Config) {}).RetransmitBase, time.Second},
		{"longest retransmission", set(func(*Config) {}).RetransmitCap, 16 * time.Second},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
}

// A message that nobody acknowledges is sent once and then as often as configured, after 1, 2, 4, 8 s and then every 16 s; the tunnel is
// given up one interval after the last.
func TestRetransmissionLimits(t *testing.T) {
	for _, c := range []struct {
		tries    int
		givenUp  time.Duration
		openedBy time.Duration // the same during set-up: the set-up timeout of a minute may come before
	}{
		{2, 7 * time.Second, 7 * time.Second},
		{5, 47 * time.Second, 47 * time.Second},
		{7, 79 * time.Second, 60 * time.Second},
	} {
		for _, opening := range []bool{true, false} {
			t.Run(fmt.Sprintf("tries=%d,opening=%v", c.tries, opening), func(t *testing.T) {
				cfg := profiles("")
				cfg.IdleTimeout = -1
				cfg.RetransmitMax, cfg.RetransmitMaxOpening = 2, 2
				want, kind := c.givenUp, msgHello
				p := (*peer)(nil)
				var eff []Effect
				if opening {
					cfg.RetransmitMaxOpening, want, kind = c.tries, c.openedBy, msgSCCRP
					p = newScript(t, cfg).peer(1, "203.0.113.5:1701", 5)
					eff = p.say(0, sccrq(5, "pc").b)
				} else {
					cfg.RetransmitMax = c.tries
					p = newScript(t, cfg).peer(1, "203.0.113.5:1701", 5)
					p.up()
					p.s.wait(59 * time.Second)
					eff = p.s.wait(time.Second)
				}
				started := p.s.now
				eff = append(eff, p.s.wait(3*time.Minute)...)
				sent := 0
				for _, b := range sends(eff) {
					_, body, _ := parseHeader(b)
					if k, _, ok := peekType(body); ok && k == kind {
						sent++
					}
				}
				down := find[TunnelDown](eff)
				if len(down) != 1 || down[0].Tunnel.Ended.Sub(started) != want {
					t.Fatalf("given up after %v, want %v", down[0].Tunnel.Ended.Sub(started), want)
				}
				if want == c.givenUp && (sent != c.tries+1 || down[0].Reason != ReasonNoAnswer || down[0].Tunnel.Retransmits != uint64(c.tries)) {
					t.Errorf("%s sent %d times, want %d; %+v", kind, sent, c.tries+1, down[0])
				}
				if want != c.givenUp && down[0].Reason != ReasonSetupTimeout {
					t.Errorf("%+v", down[0])
				}
			})
		}
	}
}

// An idle tunnel ends with its timeout, which starts anew whenever the last session has gone, or never.
func TestIdleTimes(t *testing.T) {
	for _, c := range []struct{ configured, want time.Duration }{{0, time.Minute}, {5 * time.Second, 5 * time.Second}, {-1, 0}} {
		cfg := profiles("")
		cfg.IdleTimeout, cfg.Hello = c.configured, -1
		s := newScript(t, cfg)
		p := s.peer(1, "203.0.113.5:1701", 5)
		p.up()
		s.wait(max(c.want-time.Second, 0))
		id := p.call(1) // a session inside the period keeps the tunnel alive (table 18)
		p.ack()
		if d := find[TunnelDown](s.wait(48 * time.Hour)); len(d) != 0 {
			t.Fatalf("%v: ended with a session", c.configured)
		}
		// A refused call is none: it does not begin the period anew.
		p.say(id, build(msgCDN).result(3, 0, "").u16(attrSessionID, 1).b)
		started := s.now
		if c.want > 0 {
			s.wait(c.want / 2)
			s.step(SetAdmin{State: AdminDrain})
			p.hear(p.say(0, icrq(2)))
			p.ack()
		}
		d := find[TunnelDown](s.wait(48 * time.Hour))
		switch {
		case c.want == 0 && len(d) != 0:
			t.Errorf("ended though it may be idle for ever: %+v", d)
		case c.want > 0 && (len(d) != 1 || d[0].Reason != ReasonIdle || d[0].Tunnel.Ended.Sub(started) != c.want):
			t.Errorf("%v: %+v", c.configured, d)
		}
	}
}

// A StopCCN that nobody acknowledges keeps the socket for the short drain.
func TestShortDrainTimes(t *testing.T) {
	for _, c := range []struct{ configured, want time.Duration }{{0, 2 * time.Second}, {-1, 0}, {31 * time.Second, 31 * time.Second}, {time.Hour, 31 * time.Second}} {
		cfg := profiles("")
		cfg.ShortDrain, cfg.RetransmitMax = c.configured, 7
		s := newScript(t, cfg)
		p := s.peer(1, "203.0.113.5:1701", 5)
		p.up()
		eff := s.step(CloseTunnel{Tunnel: p.lns})
		if c.want > 0 {
			eff = append(eff, s.wait(c.want-time.Millisecond)...)
			if len(find[CloseSocket](eff)) != 0 {
				t.Errorf("%v: closed before", c.configured)
			}
			eff = s.wait(time.Millisecond)
		}
		if len(find[CloseSocket](eff)) != 1 {
			t.Errorf("%v: not closed", c.configured)
		}
	}
}

// Records of tunnels and sessions are kept for the destruct period, counted from their own ends.
func TestDestructTimes(t *testing.T) {
	for _, c := range []struct{ configured, want time.Duration }{{0, 600 * time.Second}, {10 * time.Second, 10 * time.Second}, {time.Hour, time.Hour}, {-1, 0}} {
		cfg := profiles("")
		cfg.DestructTimeout, cfg.Hello, cfg.ShortDrain = c.configured, -1, -1
		s := newScript(t, cfg)
		p := s.peer(1, "203.0.113.5:1701", 5)
		p.up()
		id := p.call(1)
		s.step(CloseSession{Tunnel: p.lns, Session: id, Reason: "logout", Message: "bye"})
		s.wait(5 * time.Second)
		s.step(CloseTunnel{Tunnel: p.lns})
		count := func(tunnels, sessions int) {
			t.Helper()
			s.restart(cfg)
			s.step(Timer{})
			if len(s.e.Tunnels()) != tunnels || len(s.e.Sessions()) != sessions {
				t.Errorf("%v: %d records of tunnels and %d of sessions, want %d and %d", c.configured, len(s.e.Tunnels()), len(s.e.Sessions()), tunnels, sessions)
			}
		}
		if c.want == 0 {
			count(0, 0)
			continue
		}
		r := s.e.Sessions()[0]
		if r.State != StateIdle || r.Reason != "logout" || r.Message != "bye" || r.Result != CallAdministrative || r.Ended.IsZero() || r.Established.IsZero() {
			t.Errorf("%+v", r)
		}
		s.wait(c.want - 5*time.Second - time.Millisecond)
		count(1, 1)
		s.wait(time.Millisecond)
		count(1, 0)
		s.wait(5*time.Second - time.Millisecond)
		count(1, 0)
		s.wait(time.Millisecond)
		count(0, 0)
		if len(s.e.destinations) != 0 || !s.e.Deadline().IsZero() {
			t.Errorf("left: %v", s.e.destinations)
		}
	}
}
