package controlplane

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/l2tp"
	"vrgate/pppd"
)

// simClient is one client: IKE initiator, LAC and dialling PPP in one, as a PC is.
type simClient struct {
	w        *simWorld
	user     string
	password keymat.Secret
	addr     netip.Addr
	ike      *ike.Engine
	l2tp     *l2tp.Engine
	link     *pppd.Link
	call     l2tp.SessionInfo
	conn     ike.ConnID
	inbound  map[uint32]bool
	outbound simOutbound
	address  netip.Addr // from IPCP
	gone     bool       // vanished: hears and says nothing
	failed   string     // why it gave up
	closing  bool
}

func (w *simWorld) newClient(i int) *simClient { return w.newClientWith(i, simKey) }

func (w *simWorld) newClientWith(i int, psk keymat.Secret) *simClient {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(i)+1)
	binary.LittleEndian.PutUint64(seed[8:], w.rand.Uint64())
	r := random{rand.NewChaCha8(seed)}
	rules := []ike.PolicyRule{{
		Name: "client", Priority: 1, Auth: ike.AuthPSK, Encryption: []ike.Encryption{{Cipher: keymat.AES, KeyBits: 256}},
		Hash: []keymat.Hash{keymat.SHA256}, Group: []keymat.Group{keymat.Curve25519},
	}}
	addr := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
	cfg := ike.Config{
		NATT: true, Rules: rules, Keys: []ike.PresharedKey{{Name: "group", Key: psk}},
		Transports: []ike.TransportProfile{{Name: "l2tp", Local: addr, ESP: []ike.ESPProposal{{Cipher: ike.ESPAESCBC, KeyBits: 128, Auth: ike.ESPAuthSHA1}}}},
	}
	if w.clientIKE != nil {
		w.clientIKE(&cfg)
	}
	c := &simClient{
		w: w, user: simUser(i), password: simPassword(i), addr: addr, inbound: map[uint32]bool{},
		ike: ike.New(cfg, r), l2tp: l2tp.New(l2tp.Config{HostName: simUser(i)}, r),
	}
	w.clients = append(w.clients, c)
	w.byAddr[addr] = c
	return c
}

func (c *simClient) connect() {
	c.stepIKE(ike.Initiate{
		Ref: 1, Local: netip.AddrPortFrom(c.addr, 500), Remote: netip.AddrPortFrom(simServerAddr, 500), Profile: "l2tp", Key: "group",
		LocalPort: 1701, RemotePort: 1701,
	})
}

// disconnect hangs up politely: PPP first, then the call, the tunnel and IPsec.
func (c *simClient) disconnect() {
	c.closing = true
	if c.link != nil {
		c.stepLink(pppd.Close{Reason: pppd.ReasonUserRequest})
		return
	}
	c.finish()
}

func (c *simClient) finish() {
	c.stepL2TP(l2tp.CloseAll{Reason: "user"})
	c.stepIKE(ike.CloseAll{Reason: "user"})
}

func (c *simClient) arm() {
	c.w.timer(c.ike, c.ike.Deadline(), func() { c.stepIKE(ike.Timer{}) })
	c.w.timer(c.l2tp, c.l2tp.Deadline(), func() { c.stepL2TP(l2tp.Timer{}) })
	if c.link != nil {
		link := c.link
		c.w.timer(link, link.Deadline(), func() {
			if c.link == link {
				c.stepLink(pppd.Timer{})
			}
		})
	}
}

func (c *simClient) ikePacket(local, remote netip.AddrPort, marker bool, data []byte) {
	c.stepIKE(ike.Packet{Local: local, Remote: remote, Marker: marker, Data: data})
}

func (c *simClient) stepIKE(ev ike.Event) {
	if c.gone {
		return
	}
	for _, f := range c.ike.Step(c.w.now, ev) {
		switch f := f.(type) {
		case ike.Send:
			c.w.send(func() {
				c.w.server.step(ike.Packet{Local: f.Remote, Remote: f.Local, Marker: f.Marker, Data: f.Data})
			})
		case ike.ComputeDH:
			c.w.after(1, func() { c.stepIKE(computeDH(f)) })
		case ike.InstallSA:
			if f.SA.Dir == ike.Inbound {
				c.inbound[f.SA.SPI] = true
			} else {
				c.outbound = append(c.outbound, f.SA)
			}
			c.w.after(1, func() { c.stepIKE(ike.SAInstalled{Conn: f.SA.Conn, SPI: f.SA.SPI, Dir: f.SA.Dir}) })
		case ike.RemoveSA:
			if f.Dir == ike.Inbound {
				delete(c.inbound, f.SPI)
			} else {
				c.outbound = c.outbound.without(f.SPI)
			}
		case ike.ConnUp:
			c.conn = f.Conn.ID
			if c.call.Tunnel == 0 && !c.closing {
				c.stepL2TP(l2tp.Dial{
					Ref: 1, Local: netip.AddrPortFrom(c.addr, 1701), Remote: netip.AddrPortFrom(simServerAddr, 1701), Conn: l2tp.ConnID(f.Conn.ID), HostName: c.user,
				})
			}
		case ike.ConnDown:
			c.fail("ike: " + string(f.Reason))
			c.stepL2TP(l2tp.ConnLost{Conn: l2tp.ConnID(f.Conn.ID)})
		}
	}
	c.arm()
}

// esp takes what the server sends through an SA.
func (c *simClient) esp(spi uint32, data []byte) {
	if c.gone || !c.inbound[spi] {
		return
	}
	id := binary.BigEndian.Uint16(data[2:])
	if data[0]&0x80 != 0 {
		id = binary.BigEndian.Uint16(data[4:])
	}
	c.stepL2TP(l2tp.Packet{
		Socket: l2tp.TunnelID(id), Local: netip.AddrPortFrom(c.addr, 1701), Remote: netip.AddrPortFrom(simServerAddr, 1701), Conn: l2tp.ConnID(c.conn), Data: data,
	})
}

func (c *simClient) stepL2TP(ev l2tp.Event) {
	if c.gone {
		return
	}
	for _, f := range c.l2tp.Step(c.w.now, ev) {
		switch f := f.(type) {
		case l2tp.OpenSocket:
			c.w.after(1, func() { c.stepL2TP(l2tp.SocketOpened{Tunnel: f.Tunnel}) })
		case l2tp.Send:
			if sa, ok := c.outbound.newest(); ok {
				c.w.send(func() { c.w.server.esp(netip.AddrPortFrom(c.addr, 1701), sa.SPI, f.Data) })
			}
		case l2tp.SessionUp:
			c.call = f.Session
			c.link = pppd.NewLink(pppd.Config{Dialer: &pppd.Dialer{User: c.user, Password: pppd.Secret(c.password)}}, random{rand.NewChaCha8([32]byte{byte(f.Session.ID)})})
			c.stepLink(pppd.Open{})
		case l2tp.SessionDown:
			if c.link != nil {
				c.stepLink(pppd.LowerDown{})
			}
		case l2tp.TunnelDown:
			c.fail("l2tp: " + string(f.Reason))
		case l2tp.FrameReceived:
			if c.link != nil && len(f.Frame) >= 2 {
				c.stepLink(pppd.Frame{Protocol: binary.BigEndian.Uint16(f.Frame), Data: f.Frame[2:]})
			}
		}
	}
	c.arm()
}

func (c *simClient) stepLink(ev pppd.Event) {
	if c.gone || c.link == nil {
		return
	}
	for _, f := range c.link.Step(c.w.now, ev) {
		switch f := f.(type) {
		case pppd.Send:
			frame := append([]byte{byte(f.Protocol >> 8), byte(f.Protocol)}, f.Data...)
			c.stepL2TP(l2tp.SendFrame{Tunnel: c.call.Tunnel, Session: c.call.ID, Frame: frame})
		case pppd.NetworkUp:
			c.address = f.Local
		case pppd.NetworkDown:
			c.address = netip.Addr{}
		case pppd.Down:
			c.link, c.address = nil, netip.Addr{}
			c.fail("ppp: " + string(f.Reason))
			if c.closing {
				c.finish()
			}
		}
	}
	c.arm()
}

func (c *simClient) fail(why string) {
	if c.failed == "" {
		c.failed = why
	}
}

// settled says that the client is up or has given up.
func (c *simClient) settled() bool { return c.address.IsValid() || c.failed != "" }

// settled counts the clients that are up or have given up.
func (w *simWorld) settled() int {
	n := 0
	for _, c := range w.clients {
		if c.settled() {
			n++
		}
	}
	return n
}
