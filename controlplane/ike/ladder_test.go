package ike

import (
	"testing"
	"time"
)

func TestConnectDirect(t *testing.T) {
	w, client, server := pair(t)
	client.dial("192.0.2.1", 1, 1701)
	w.run(5 * time.Second)
	mustUp(t, client, server)
	if c := server.up[0]; c.Encap || c.Key != "group" || c.PeerID != "198.51.100.7" || c.Local.Port() != 500 {
		t.Errorf("server: %+v", c)
	}
	if c := client.up[0]; c.Ref != 1 {
		t.Errorf("client: %+v", c)
	}
	client.step(CloseConn{Conn: client.up[0].ID, Reason: ReasonOperator})
	w.run(time.Minute)
	if len(server.down) != 1 || server.down[0].Reason != ReasonPeerDelete || !server.down[0].ByPeer {
		t.Errorf("server: %+v", server.down)
	}
	empty(t, client, server)
}

func TestConnectBehindNAT(t *testing.T) {
	w, client, server := pair(t)
	w.nat("203.0.113.9", false, client)
	client.dial("192.0.2.1", 1, 1701)
	w.run(5 * time.Second)
	mustUp(t, client, server)
	if c := server.up[0]; !c.Encap || !c.NATPeer || c.NATLocal || c.Local.Port() != 4500 || c.Remote.Addr().String() != "203.0.113.9" {
		t.Errorf("server: %+v", c)
	}
	server.step(CloseAll{Reason: ReasonShutdown})
	w.run(time.Minute)
	empty(t, client, server)
}
