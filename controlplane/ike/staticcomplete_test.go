package ike

import (
	"slices"
	"testing"
	"time"
)

// TestStaticComplete: a pair of networks that the peer has deleted, or that it would not have before, is opened by Complete while its
// connection goes on, whichever side has begun that.
func TestStaticComplete(t *testing.T) {
	for _, role := range []string{"we dial", "the peer dials"} {
		t.Run(role, func(t *testing.T) {
			x := twoSites(t, placement{}, func(_, east *Config) { east.Statics[0].Children = east.Statics[0].Children[:1] })
			if role == "we dial" {
				x.west.link(1)
			} else {
				x.east.link(1)
			}
			x.run(10 * time.Second)
			c := x.west.e.sortedConns()[0]
			complete := func() {
				x.west.step(Complete{Conn: c.Info.ID})
				x.run(5 * time.Second)
			}
			refused := func() (out []Reason) {
				for _, f := range x.west.children {
					if d, ok := f.(ChildDown); ok && d.Child == "pair 2" {
						out = append(out, d.Reason)
					}
				}
				return out
			}
			before := len(refused())
			complete()
			if got := refused(); len(got) != before+1 || !slices.Equal(got[before:], []Reason{ReasonPeerRefused}) {
				t.Fatalf("refusals %v, %d before", got, before)
			}
			east := siteConfig(t, eastAddr, "east", "west", c.Info.Local.Addr(), x.west.e.cfg.Statics[0].Children[0].RemoteNet, x.west.e.cfg.Statics[0].Children[0].LocalNet,
				x.west.e.cfg.Statics[0].Children[1].RemoteNet, x.west.e.cfg.Statics[0].Children[1].LocalNet)
			x.east.step(Reconfigure{Config: east})
			complete()
			x.mustLink(t)
			x.east.step(SAExpired{SPI: x.east.e.sortedConns()[0].named("pair 2").In.SPI, Dir: Inbound, Hard: true})
			x.run(time.Second)
			complete()
			x.mustLink(t)
			sas := len(x.west.kernel)
			complete() // nothing is missing
			if len(x.west.kernel) != sas || len(x.west.down)+len(x.east.down) != 0 {
				t.Errorf("%d SAs, were %d; ended %v %v", len(x.west.kernel), sas, reasons(x.west.down), reasons(x.east.down))
			}
			x.west.step(Complete{Conn: 1<<32 - 1}) // there is none
			x.end(t)
		})
	}
}
