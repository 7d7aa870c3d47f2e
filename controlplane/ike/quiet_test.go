package ike

import (
	"testing"
	"time"

	"vrgate/controlplane/isakmp/offers"
)

// TestQuietBehindNAT: the router sends no NAT keepalives (C9r) and does not probe (K10): a
// connection through a NAT costs it nothing between its rekeys.
func TestQuietBehindNAT(t *testing.T) {
	r := serverRig(t, ProfileCompatible)
	o := offers.AppleL2TP()
	s := newScript(r, o).behindNAT()
	if !s.phase1() || !s.quick(o).run() {
		t.Fatal("not up")
	}
	c := r.e.conns[r.up[0].ID]
	if c == nil || !c.Info.Encap {
		t.Fatalf("no connection in UDP: %+v", r.up)
	}
	rekey := c.Children[0].Soft
	if at := c.Phase1[0].RekeyAt; at.Before(rekey) {
		rekey = at
	}
	if quiet := rekey.Sub(r.now); quiet < 10*time.Minute {
		t.Fatalf("a rekey is due in %v, which tells nothing about keepalives", quiet)
	}
	sent := len(r.sends)
	for end := rekey.Add(-time.Second); r.now.Before(end); {
		r.now = r.now.Add(time.Second)
		r.give(Timer{})
	}
	if n := len(r.sends) - sent; n != 0 {
		t.Errorf("%d datagrams were sent to a peer that needs none", n)
	}
}
