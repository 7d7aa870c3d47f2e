package ike

import (
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
)

// hybrid makes a configuration for hybrid authentication.
func hybrid(c *Config) {
	c.Credentials = []Credential{credential("server", "authority")}
	c.Authorities = [][]byte{nameDER("authority")}
	c.Tunnels[0].Credential = "server"
}

func hybridMethod(i *Initiate) { i.Method, i.Key = AuthHybridRSA, "" }

// TestUnproven: with hybrid authentication anybody gets through phase 1, and with the
// key of a group whoever was ever told it. As long as nobody has been let in, they
// count among the half-open, and failures against their source.
func TestUnproven(t *testing.T) {
	t.Run("hybrid", func(t *testing.T) { unprovenCrowd(t, true) })
	t.Run("group key", func(t *testing.T) { unprovenCrowd(t, false) })
}

func unprovenCrowd(t *testing.T, anybody bool) {
	w, server, clients := dynCrowd(t, 40)
	if anybody {
		hybrid(&server.e.cfg)
	}
	server.e.cfg.HalfOpen.Total, server.e.cfg.HalfOpen.Resume = 10, 8
	server.decide.silent = true
	for _, x := range clients {
		if !anybody {
			x.subscribe()
			continue
		}
		hybrid(&x.e.cfg)
		x.subscribe(hybridMethod)
	}
	for range 60 {
		w.run(time.Second)
		if n := len(server.e.conns); n > 10 || server.e.guard.HalfOpen < n {
			t.Fatalf("%d connections of strangers, %d half open", n, server.e.guard.HalfOpen)
		}
	}
	if len(server.decide.ups) == 0 {
		t.Error("nobody got through phase 1")
	}
	infos := 0
	for _, x := range server.reports {
		if x.Level >= LevelInfo {
			infos++
		}
	}
	if anybody && infos > len(clients) {
		t.Errorf("%d sentences about %d strangers", infos, len(clients))
	}
	server.restart(t)
	if n := len(server.e.conns); server.e.guard.HalfOpen < n {
		t.Errorf("%d connections, %d half open after a restart", n, server.e.guard.HalfOpen)
	}
	for _, x := range clients {
		x.step(CloseAll{Reason: ReasonShutdown})
	}
	w.run(10 * time.Minute)
	empty(t, server)
	failed := 0
	for _, d := range server.down {
		if d.Reason != ReasonInitialContact {
			failed++
		}
	}
	if failed == 0 {
		t.Error("no connection of a stranger ended")
	}
}

// TestHybridRekey: an SA whose user is being asked again is trusted with nothing:
// no child is negotiated under it, no configuration served, no child deleted.
func TestHybridRekey(t *testing.T) {
	w, client, server := dynPair(t)
	hybrid(&client.e.cfg)
	hybrid(&server.e.cfg)
	client.subscribe(hybridMethod)
	w.run(5 * time.Second)
	mustUp(t, client, server)
	server.decide.silent = true
	client.step(Rekey{Conn: client.up[0].ID, Phase1: true})
	w.run(2 * time.Second)
	c, cc := server.only(t), client.only(t)
	if len(c.Phase1) != 2 || !c.newest().stranger() || len(server.decide.ups) != 2 || !server.decide.ups[1].Rekey {
		t.Fatalf("%d phase 1 SAs, asked %+v", len(c.Phase1), server.decide.ups)
	}
	fresh := cc.newest()
	client.e.begin(fresh, forConfig, isakmp.AttributeSet{Type: isakmp.ConfigRequest, Attributes: []isakmp.Attribute{{Type: isakmp.ConfigIP4Address}}}, 0, 0)
	client.e.sendInfo(fresh, isakmp.DeleteESP(cc.current().In.SPI).Payload())
	client.perform(client.e.out)
	w.run(time.Second)
	if !fresh.talk.waits(forConfig) {
		t.Error("configuration is served")
	}
	if c.current() == nil {
		t.Error("the child is gone")
	}
	old := c.Phase1[0]
	server.step(Rekey{Conn: c.Info.ID})
	if len(old.quicks) != 1 || len(c.newest().quicks) != 0 {
		t.Errorf("%d quick modes under the proven SA, %d under the other", len(old.quicks), len(c.newest().quicks))
	}
	w.run(5 * time.Second)
	server.decide.admit(server, c.Info.ID)
	w.run(2 * time.Minute)
	if len(server.down) != 0 || c.newest().stranger() {
		t.Errorf("down %+v", server.down)
	}
	agree(t, client, server)
}
