package controlplane

import (
	"testing"
	"time"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/site"
)

// TestUnloadAgain: the data plane that could not be made to carry an on-demand tunnel by nobody is told again, at growing
// intervals and until it has done so, and the tunnel is dialled for its traffic then.
func TestUnloadAgain(t *testing.T) {
	w := newSiteWalk(t, 1)
	hub := w.server.static
	hub.packets("asked")
	w.pass(5 * time.Second)
	up := hub.carry["asked"]
	if up == 0 {
		t.Fatalf("not up:\n%s", w)
	}
	w.say(w.server, "asked", site.CommandDown)
	w.x.fail = 1
	w.pass(2 * time.Minute)
	if !hub.failed["asked"] || hub.carry["asked"] != up || hub.ordered["asked"] != 0 {
		t.Fatalf("carried by %d, failed %t", hub.carry["asked"], hub.failed["asked"])
	}
	if u := w.server.m.sites.unloaded["asked"]; u.pause != 8*unloadPause { // after 10, 30, 70 and 150 s
		t.Errorf("a pause of %v", u.pause)
	}
	w.x.fail = 0
	w.pass(8 * unloadPause)
	if hub.carry["asked"] != 0 || len(w.server.m.sites.unloaded) != 0 {
		t.Errorf("carried by %d, to be told again %v", hub.carry["asked"], w.server.m.sites.unloaded)
	}
	w.say(w.server, "asked", site.CommandUp)
	w.pass(5 * time.Second)
	hub.packets("asked")
	w.pass(5 * time.Second)
	if hub.carry["asked"] == 0 {
		t.Errorf("not up again:\n%s", w)
	}
	for range 3 { // it is not told of one that is carried by another connection by then, or is configured no more
		w.server.step(tunnelCarried{CarryTunnel: CarryTunnel{Tunnel: "asked"}, reason: "injected"})
		w.server.step(tunnelCarried{CarryTunnel: CarryTunnel{Tunnel: "removed"}, reason: "injected"})
	}
	if n := len(w.server.m.sites.unloaded); n != 0 {
		t.Errorf("%d tunnels are to be told again", n)
	}
}

// TestBackupLingers: what the backup sends while it does not know yet that the primary carries again is received.
func TestBackupLingers(t *testing.T) {
	w := newSiteWalk(t, 1)
	hub := w.server.static
	bravo, charly := w.x.nodes[simBravoAddr].static, w.x.nodes[simCharlyAddr].static
	w.x.deaf[simBravoAddr] = true
	for range 600 {
		hub.packets("backed")
		w.pass(time.Second)
	}
	backup := hub.carry["backed"]
	if i, _ := w.server.m.sites.engine.Tunnel("backed"); i.Peer != simCharlyAddr {
		t.Fatalf("not on the backup:\n%s", w)
	}
	clear(w.x.deaf)
	for end := w.now.Add(5 * time.Minute); hub.carry["backed"] == backup && w.now.Before(end); w.pass(10 * time.Millisecond) {
	}
	w.pass(100 * time.Millisecond) // until the primary carries too
	sent := append(charly.packets("backed"), bravo.packets("backed")...)
	w.pass(time.Second)
	for _, id := range sent {
		if !w.x.got[id] {
			t.Errorf("packet %d is lost", id)
		}
	}
	w.pass(10 * time.Second)
	if charly.carry["backed"] != 0 || hub.newest(backup, ike.Inbound, "") != nil {
		t.Errorf("the backup is still there:\n%s", w)
	}
}

// TestRemovedTunnelsAreForgotten: of tunnels that are configured no more nothing is kept, nor of virtual routers that no tunnel
// ends in.
func TestRemovedTunnelsAreForgotten(t *testing.T) {
	w := newSiteWalk(t, 1)
	w.pass(5 * time.Second)
	s := &w.server.m.sites
	if n := len(w.base[w.server]); len(s.admits) != n || len(s.conns) == 0 {
		t.Fatalf("%d of %d tunnels are admitted, %d connections", len(s.admits), n, len(s.conns))
	}
	w.server.static.reload(w.base[w.server][:1], "another")
	w.pass(5 * time.Second)
	if len(s.admits) != 1 || s.admits["both"].Tunnel == "" || len(s.away) != 0 || len(s.dials) != 0 {
		t.Errorf("admits %v, away %v, dials %v", s.admits, s.away, s.dials)
	}
	for id, c := range s.conns {
		if c.tunnel != "both" {
			t.Errorf("connection %d of %s is still there", id, c.tunnel)
		}
	}
}
