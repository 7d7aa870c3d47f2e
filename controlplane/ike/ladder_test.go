package ike

import (
	"fmt"
	"testing"
	"time"

	"vrgate/controlplane/keymat"
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

// TestMatrix connects two engines with every cipher, hash and group of phase 1,
// and every transform of ESP.
func TestMatrix(t *testing.T) {
	encs := []Encryption{{keymat.AES, 128}, {keymat.AES, 192}, {keymat.AES, 256}, {Cipher: keymat.DES3}, {Cipher: keymat.DES}}
	hashes := []keymat.Hash{keymat.MD5, keymat.SHA1, keymat.SHA256, keymat.SHA384, keymat.SHA512}
	_, esps, err := ProposalProfile(ProfileLegacy)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	connect := func(enc Encryption, h keymat.Hash, g keymat.Group, pfs keymat.Group) {
		w, client, server := pair(t)
		esp := esps[n%len(esps)]
		n++
		for _, x := range []*node{client, server} {
			x.e.cfg.Rules = []PolicyRule{{Name: "only", Encryption: []Encryption{enc}, Hash: []keymat.Hash{h}, Group: []keymat.Group{g}, Auth: AuthPSK}}
			x.e.cfg.Transports[0].ESP, x.e.cfg.Transports[0].PFS = []ESPProposal{esp}, pfs
		}
		if n%2 == 0 {
			w.nat("203.0.113.9", false, client)
		}
		client.dial("192.0.2.1", 1, 1701)
		w.run(time.Second)
		mustUp(t, client, server)
		for _, sa := range server.kernel {
			enc, salt, auth, err := espAlgorithm(esp).KeyLens()
			if err != nil || len(sa.EncKey) != enc+salt || len(sa.AuthKey) != auth || (sa.AuthBits == 0) != (auth == 0) {
				t.Errorf("%v: keys of %d and %d bytes, %d bits", esp, len(sa.EncKey), len(sa.AuthKey), sa.AuthBits)
			}
		}
		if got := server.e.Phase1SAs()[0].Proposal; got != fmt.Sprintf("%v/%v/%v", enc, h, g) {
			t.Errorf("%s is chosen", got)
		}
	}
	for _, enc := range encs {
		for _, h := range hashes {
			connect(enc, h, keymat.ECP256, 0)
		}
	}
	for _, g := range keymat.Groups() {
		connect(encs[0], keymat.SHA256, g, g)
	}
	if n < len(esps) {
		t.Errorf("%d connections for %d ESP transforms", n, len(esps))
	}
}
