package ike

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// admit says from where west may come to east.
func (n *node) admit(open, any bool, peers ...string) {
	ev := AdmitPeers{Static: "link", Open: open, Any: any}
	for _, p := range peers {
		ev.Peers = append(ev.Peers, netip.MustParseAddr(p))
	}
	n.step(ev)
}

// TestStaticAdmit: what was told stands over what is configured, for calls of the peer and for dials, with either method and
// mode, and is not forgotten by a reload or a restart.
func TestStaticAdmit(t *testing.T) {
	const other = "198.51.100.99"
	for _, c := range []struct {
		name   string
		peers  []string // configured at east
		admit  func(east *node)
		reason Reason // at east, "": west is let in
	}{
		{"by name, not known yet", nil, func(e *node) { e.admit(true, false) }, ReasonNoKey},
		{"by name", nil, func(e *node) { e.admit(true, false, other, westAddr) }, ""},
		{"another address", []string{other}, func(e *node) { e.admit(true, false, westAddr) }, ""},
		{"another address now", []string{westAddr}, func(e *node) { e.admit(true, false, other) }, ReasonNoKey},
		{"any", []string{other}, func(e *node) { e.admit(true, true) }, ""},
		{"mapped", nil, func(e *node) { e.admit(true, false, "::ffff:"+westAddr) }, ""},
		{"shut", []string{westAddr}, func(e *node) { e.admit(false, false, westAddr) }, ReasonTunnelShut},
		{"shut for all", nil, func(e *node) { e.admit(false, true) }, ReasonTunnelShut},
		{"shut and opened", []string{westAddr}, func(e *node) { e.admit(false, false, westAddr); e.admit(true, false, westAddr) }, ""},
		{"of another tunnel", []string{westAddr}, func(e *node) { e.step(AdmitPeers{Static: "other"}) }, ""},
	} {
		for _, rsa := range []bool{false, true} {
			for _, aggressive := range []bool{false, true} {
				x := twoSites(t, placement{}, func(west, east *Config) {
					if rsa {
						byCertificate(west, east)
					}
					west.Statics[0].Aggressive, east.Statics[0].Peers = aggressive, nil
					for _, p := range c.peers {
						east.Statics[0].Peers = append(east.Statics[0].Peers, netip.MustParseAddr(p))
					}
				})
				c.admit(x.east)
				x.east.step(Reconfigure{Config: x.east.e.cfg})
				x.east.restart(t)
				x.west.link(1)
				x.run(2 * time.Minute)
				if c.reason == "" {
					x.mustLink(t)
				} else if len(x.east.up)+len(x.west.up) != 0 || x.east.e.counters[c.reason] == 0 || len(x.west.down) != 1 {
					t.Errorf("%s, rsa %v, aggressive %v: up %v, down %+v, %v", c.name, rsa, aggressive, x.east.up, x.west.down, x.east.e.counters)
				}
				if c.reason == ReasonTunnelShut && !strings.Contains(words(x.east.reports), `"link" is down by an operator`) {
					t.Errorf("%s: %s", c.name, words(x.east.reports))
				}
				x.end(t)
				// A dial the other way is bound by the same.
				x.east.down = nil
				x.east.step(Initiate{Ref: 9, Static: "link", Remote: netip.MustParseAddrPort(westAddr + ":0")})
				if refused := len(x.east.down) == 1; refused != (c.reason != "") || refused && (x.east.down[0].Conn.Ref != 9 || x.east.down[0].Text == "") {
					t.Errorf("%s: dial: %+v", c.name, x.east.down)
				}
				x.east.step(CloseAll{Reason: ReasonShutdown})
			}
		}
	}
}

// TestStaticAdmitUp: a connection stays, with all its rekeys by either side, when its peer's address is no longer one that is
// admitted, nor the tunnel open; once it has ended it cannot come again.
func TestStaticAdmitUp(t *testing.T) {
	for _, open := range []bool{true, false} {
		for _, margin := range [][2]int{{0, 1000}, {1000, 0}} {
			x := twoSites(t, placement{}, func(west, east *Config) {
				west.RekeyMargin, east.RekeyMargin = margin[0], margin[1]
				for _, c := range []*Config{west, east} {
					for i := range c.Rules {
						c.Rules[i].Lifetime = time.Hour
					}
				}
			})
			x.west.link(1)
			x.run(5 * time.Second)
			x.mustLink(t)
			x.east.admit(open, false, "198.51.100.99")
			x.run(6 * time.Hour)
			x.mustSend(t)
			if n := x.east.e.counters[CountPhase1Rekey]; len(x.east.down)+len(x.west.down) != 0 || n < 5 {
				t.Errorf("open %v, margins %v: down %v %v, %d rekeys", open, margin, reasons(x.west.down), reasons(x.east.down), n)
			}
			x.end(t)
			x.west.step(Initiate{Ref: 2, Static: "link", Remote: netip.MustParseAddrPort(eastAddr + ":0")})
			x.run(2 * time.Minute)
			if len(x.east.up) != 1 || len(x.east.e.conns) != 0 {
				t.Errorf("open %v: it has come again", open)
			}
			empty(t, x.east, x.west)
		}
	}
}

// TestStaticAdmitForgotten: a tunnel that has gone takes what was told of it along.
func TestStaticAdmitForgotten(t *testing.T) {
	x := twoSites(t, placement{})
	x.east.admit(false, false)
	cfg := x.east.e.cfg
	without := cfg
	without.Statics = nil
	x.east.step(Reconfigure{Config: without})
	x.east.admit(false, false) // of no tunnel
	if len(x.east.e.admissions) != 0 {
		t.Errorf("%d entries", len(x.east.e.admissions))
	}
	x.east.step(Reconfigure{Config: cfg})
	x.west.link(1)
	x.run(5 * time.Second)
	x.mustLink(t)
	x.end(t)
}

// TestStaticKeysByAdmission: J11. A key of a tunnel whose peer has a name is tried before, and known in aggressive mode beside,
// those of others, however many there are, once the name has an address.
func TestStaticKeysByAdmission(t *testing.T) {
	for _, aggressive := range []bool{false, true} {
		x := twoSites(t, placement{}, func(west, east *Config) {
			west.Statics[0].Aggressive = aggressive
			own := east.Statics[0]
			own.Peers, own.PeerID = nil, ""
			east.Statics = nil
			var keys []PresharedKey
			for i := range maxOpenKeys + 2 { // of tunnels whose peers may be anywhere
				s := own
				s.Name = string(rune('a' + i))
				east.Statics = append(east.Statics, s)
				keys = append(keys, PresharedKey{Name: s.Name, Key: groupKey.Key, Static: s.Name})
			}
			east.Statics = append(east.Statics, own)
			east.Keys = slices.Concat(keys, []PresharedKey{groupKey}, east.Keys)
		})
		x.east.admit(true, false, westAddr)
		x.west.link(1)
		x.run(2 * time.Minute)
		if len(x.east.up) != 1 || x.east.up[0].Static != "link" {
			t.Errorf("aggressive %v: up %+v\n%s", aggressive, x.east.up, words(x.east.reports))
		}
		x.end(t)
	}
}
