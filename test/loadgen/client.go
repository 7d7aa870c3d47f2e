package loadgen

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"time"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/l2tp"
	"vrgate/pppd"
)

// client is one subscriber's computer.
type client struct {
	n        int
	addr     netip.Addr
	user     string
	conn     ike.ConnID
	out      *espSA
	call     l2tp.SessionInfo
	link     *pppd.Link
	early    []l2tp.Packet // PPP frames that came before the call was up
	address  netip.Addr    // from IPCP, while the session is up
	started  time.Time
	up       time.Time // first had an address
	failed   string    // why it gave up or was thrown out
	answered int       // the last of Generator.Ping's rounds that came back
	flow     *flow     // while Generator.Stream runs
	asked    int       // Configure-Requests of LCP and challenges of CHAP that came
}

// settled tells whether the attempt to connect is over.
func (c *client) settled() bool { return !c.up.IsZero() || c.failed != "" }

func (c *client) fail(why string) {
	c.address = netip.Addr{}
	if c.failed == "" {
		c.failed = why
	}
}

// start makes the next client and lets it connect.
func (g *Generator) start() {
	n := len(g.clients)
	c := &client{n: n, user: g.cfg.User(n), started: time.Now()}
	g.clients = append(g.clients, c)
	if g.cfg.Carrier != nil {
		g.call(c)
		return
	}
	var err error
	if c.addr, err = g.cfg.address(n); err != nil {
		c.fail(err.Error())
		return
	}
	g.byAddr[c.addr] = c
	g.post(ike.Initiate{
		Ref: uint64(n), Local: netip.AddrPortFrom(c.addr, ikePort), Remote: netip.AddrPortFrom(g.cfg.Server, ikePort),
		Profile: profileName, Key: keyName, LocalPort: l2tpPort, RemotePort: l2tpPort,
	})
}

// take turns a packet into events.
func (g *Generator) take(p packet) {
	if p.l2tp {
		g.takeL2TP(p)
		return
	}
	if !p.esp {
		g.post(ike.Packet{Local: netip.AddrPortFrom(p.local, ikePort), Remote: netip.AddrPortFrom(p.remote, ikePort), Data: p.data})
		return
	}
	if len(p.data) < espHeader {
		return
	}
	in, ok := g.bySPI[binary.BigEndian.Uint32(p.data)]
	if !ok || in.c.addr != p.local {
		return
	}
	datagram, err := in.sa.open(p.data)
	if err != nil || len(datagram) < udpHeader+6 || binary.BigEndian.Uint16(datagram) != l2tpPort || binary.BigEndian.Uint16(datagram[2:]) != l2tpPort {
		return
	}
	data := datagram[udpHeader:]
	ev := l2tp.Packet{
		Socket: tunnelOf(data), Local: netip.AddrPortFrom(p.local, l2tpPort),
		Remote: netip.AddrPortFrom(p.remote, l2tpPort), Conn: l2tp.ConnID(in.c.conn), Data: data,
	}
	if c := in.c; data[0]&0x80 == 0 && c.link == nil && !c.settled() {
		// The engine has its call up when ICCN is acknowledged, but a server's first frame may
		// come before that, and a client that is ready for PPP when it sends ICCN takes it.
		if len(c.early) < maxEarly {
			c.early = append(c.early, ev)
		}
		return
	}
	g.post(ev)
}

// maxEarly bounds the frames that are kept until a client's call is up.
const maxEarly = 4

// udpHeader is the size of a UDP header in bytes.
const udpHeader = 8

// sendL2TP sends a datagram from port 1701 to 1701. Unless Inside is set the checksum stays
// zero, which RFC 768 allows and transport mode needs not: ESP protects it.
func (g *Generator) sendL2TP(c *client, data []byte) {
	if c.out == nil {
		return
	}
	b := make([]byte, udpHeader, udpHeader+len(data))
	binary.BigEndian.PutUint16(b, l2tpPort)
	binary.BigEndian.PutUint16(b[2:], l2tpPort)
	binary.BigEndian.PutUint16(b[4:], uint16(udpHeader+len(data)))
	b = append(b, data...)
	if g.cfg.Inside.IsValid() {
		binary.BigEndian.PutUint16(b[6:], udpChecksum(g.cfg.Inside, g.cfg.Server, b))
	}
	g.sent(g.sockets.sendESP(c.addr, g.cfg.Server, c.out.seal(b)))
}

// udpChecksum is the checksum of a UDP datagram (RFC 768) between two IPv4 addresses, whose own field is zero.
func udpChecksum(from, to netip.Addr, datagram []byte) uint16 {
	b := append(from.AsSlice(), to.AsSlice()...)
	b = append(b, 0, protoUDP)
	b = binary.BigEndian.AppendUint16(b, uint16(len(datagram)))
	if sum := checksum(append(b, datagram...)); sum != 0 {
		return sum
	}
	return 0xffff
}

func (g *Generator) performIKE(f ike.Effect) {
	switch f := f.(type) {
	case ike.Send:
		g.sent(g.sockets.sendIKE(f.Local.Addr(), f.Remote.Addr(), f.Data))
	case ike.ComputeDH:
		g.post(computeDH(f))
	case ike.InstallSA:
		done := ike.SAInstalled{Conn: f.SA.Conn, SPI: f.SA.SPI, Dir: f.SA.Dir}
		if err := g.install(f.SA); err != nil {
			done.Err = err.Error()
		}
		g.post(done)
	case ike.RemoveSA:
		if f.Dir == ike.Inbound {
			delete(g.bySPI, f.SPI)
		} else if c := g.byAddr[f.Local]; c != nil && c.out != nil && c.out.spi == f.SPI {
			c.out = nil
		}
	case ike.ConnUp:
		c := g.byAddr[f.Conn.Local.Addr()]
		c.conn, g.byConn[f.Conn.ID] = f.Conn.ID, c
		g.post(l2tp.Dial{
			Ref: uint64(c.n), Local: netip.AddrPortFrom(c.addr, l2tpPort), Remote: netip.AddrPortFrom(g.cfg.Server, l2tpPort),
			Conn: l2tp.ConnID(f.Conn.ID), HostName: c.user,
		})
	case ike.ConnDown:
		g.clients[f.Conn.Ref].fail("ike: " + string(f.Reason))
		delete(g.byConn, f.Conn.ID)
		g.post(l2tp.ConnLost{Conn: l2tp.ConnID(f.Conn.ID)})
	}
}

// install keeps an SA. A newer outbound one takes over at once.
func (g *Generator) install(sa ike.SA) error {
	esp, err := newESP(sa)
	if err != nil {
		return err
	}
	c := g.byAddr[sa.Local.Addr()]
	if sa.Dir == ike.Inbound {
		g.bySPI[sa.SPI] = inbound{c, esp}
	} else {
		c.out = esp
	}
	return nil
}

// computeDH computes at once: a client has nothing better to do, and with the
// generator on its own thread the server does not wait for it.
func computeDH(job ike.ComputeDH) ike.DHDone {
	done := ike.DHDone{Job: job.Job}
	var err error
	if job.Pair != nil {
		done.Pair = *job.Pair
	} else if done.Pair, err = job.Group.Generate(rand.Reader); err != nil {
		done.Err = err.Error()
		return done
	}
	if job.Peer != nil {
		if done.Shared, err = keymat.Shared(done.Pair, job.Peer); err != nil {
			done.Err = err.Error()
		}
	}
	return done
}

func (g *Generator) performL2TP(f l2tp.Effect) {
	switch f := f.(type) {
	case l2tp.OpenSocket:
		// There are no sockets but the two; the header says whose tunnel a packet is for.
		g.tunnels[f.Tunnel] = g.byConn[ike.ConnID(f.Conn)]
		g.post(l2tp.SocketOpened{Tunnel: f.Tunnel})
	case l2tp.CloseSocket:
		delete(g.tunnels, f.Tunnel)
	case l2tp.Send:
		if c := g.tunnels[f.Tunnel]; c != nil {
			g.sendL2TP(c, f.Data)
		}
	case l2tp.SessionUp:
		c := g.byConn[ike.ConnID(f.Session.Conn)]
		if c == nil {
			return
		}
		c.call = f.Session
		c.link = g.newLink(c)
		g.post(linkEvent{c, pppd.Open{}})
		for _, ev := range c.early {
			g.post(ev)
		}
		c.early = nil
	case l2tp.SessionDown:
		if c := g.byConn[ike.ConnID(f.Session.Conn)]; c != nil {
			g.post(linkEvent{c, pppd.LowerDown{}})
		}
	case l2tp.TunnelDown:
		if int(f.Tunnel.Ref) < len(g.clients) {
			g.clients[f.Tunnel.Ref].fail("l2tp: " + string(f.Reason))
		}
	case l2tp.FrameReceived:
		g.frameReceived(g.tunnels[f.Tunnel], f.Frame)
	}
}

// newLink is a client's end of PPP.
func (g *Generator) newLink(c *client) *pppd.Link {
	return pppd.NewLink(pppd.Config{Dialer: &pppd.Dialer{User: c.user, Password: pppd.Secret(g.cfg.Password)}}, rand.Reader)
}

// frameReceived takes a PPP frame for a client, nil for nobody's.
func (g *Generator) frameReceived(c *client, frame []byte) {
	if c == nil || len(frame) < 2 {
		return
	}
	protocol, data := binary.BigEndian.Uint16(frame), frame[2:]
	if protocol == pppIPv4 {
		switch seq, ok := reply(data, c.address, uint16(c.n)); {
		case !ok:
		case c.flow != nil:
			c.flow.reply(seq)
		case seq == uint16(g.pinged):
			c.answered = g.pinged
		}
		return
	}
	if (protocol == pppLCP || protocol == pppCHAP) && len(data) > 0 && data[0] == pppAsk {
		c.asked++
	}
	g.post(linkEvent{c, pppd.Frame{Protocol: protocol, Data: data}})
}

// Asked returns how often the server has asked a client for options of LCP, or by CHAP who it is. One that goes on where a
// carrier's LAC has left off asks neither.
func (g *Generator) Asked(client int) int { return g.clients[client].asked }

// frame sends a PPP frame.
func (c *client) frame(g *Generator, protocol uint16, data []byte) {
	frame := append(binary.BigEndian.AppendUint16(nil, protocol), data...)
	g.post(l2tp.SendFrame{Tunnel: c.call.Tunnel, Session: c.call.ID, Frame: frame})
}

func (g *Generator) performLink(c *client, f pppd.Effect) {
	switch f := f.(type) {
	case pppd.Send:
		c.frame(g, f.Protocol, f.Data)
	case pppd.NetworkUp:
		c.address = f.Local
		if c.up.IsZero() {
			c.up = time.Now()
		}
	case pppd.NetworkDown:
		c.address = netip.Addr{}
	case pppd.Down:
		c.link = nil
		c.fail("ppp: " + string(f.Reason))
	}
}
