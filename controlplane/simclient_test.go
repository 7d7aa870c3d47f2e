package controlplane

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/test/peer"
)

// simClient is a client on the simulated network.
type simClient struct {
	*peer.Client
	w    *simWorld
	gone bool // vanished: hears and says nothing
}

func (w *simWorld) newClient(i int) *simClient { return w.newClientWith(i, simKey) }

func (w *simWorld) newClientWith(i int, psk keymat.Secret) *simClient {
	return w.newPeer(i, peer.Config{Key: psk, Server: simServerAddr})
}

// newRoadWarrior makes a dynamic subscriber, in aggressive mode with its group's name or in main
// mode to the address that is for it alone (J18).
func (w *simWorld) newRoadWarrior(i int, aggressive bool) *simClient {
	c := peer.Config{Key: simRoadKey, Server: simRoadAddr, XAuth: true}
	if aggressive {
		c.Server, c.Aggressive, c.Group = simServerAddr, true, simGroup
	}
	return w.newPeer(i, c)
}

// newPeer makes the client of user i.
func (w *simWorld) newPeer(i int, cfg peer.Config) *simClient {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(i)+1)
	binary.LittleEndian.PutUint64(seed[8:], w.rand.Uint64())
	c := &simClient{w: w}
	if cfg.User == "" {
		cfg.User = simUser(i)
	}
	if cfg.Password == nil {
		cfg.Password = simPassword(i)
	}
	cfg.Addr, cfg.IKE = netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), w.clientIKE
	c.Client = peer.New(cfg, random{rand.NewChaCha8(seed)}, c)
	w.clients = append(w.clients, c)
	w.byAddr[c.Addr] = c
	return c
}

// do lets the client act unless it has vanished.
func (c *simClient) do(act func()) {
	if c.gone {
		return
	}
	act()
	c.w.timer(c, c.Deadline(), func() { c.do(func() { c.Tick(c.w.now) }) })
}

func (c *simClient) connect() { c.do(func() { c.Connect(c.w.now) }) }

func (c *simClient) disconnect() { c.do(func() { c.HangUp(c.w.now) }) }

func (c *simClient) ikePacket(local, remote netip.AddrPort, marker bool, data []byte) {
	c.do(func() { c.IKE(c.w.now, local, remote, marker, data) })
}

func (c *simClient) esp(spi uint32, data []byte) { c.do(func() { c.ESP(c.w.now, spi, data) }) }

// SendIKE implements [peer.Network].
func (c *simClient) SendIKE(f ike.Send) {
	c.w.send(toServer, func() { c.w.server.step(ike.Packet{Local: f.Remote, Remote: f.Local, Marker: f.Marker, Data: f.Data}) })
}

// SendESP implements [peer.Network].
func (c *simClient) SendESP(spi uint32, data []byte) {
	c.w.send(toServer, func() { c.w.server.esp(netip.AddrPortFrom(c.Addr, 1701), spi, data) })
}

// settled counts the clients that are up or have given up.
func (w *simWorld) settled() int {
	n := 0
	for _, c := range w.clients {
		if c.Settled() {
			n++
		}
	}
	return n
}
