package loadgen

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"vrgate/controlplane/keymat"
	"vrgate/controlplane/l2tp"
	"vrgate/pppd"
)

// Carrier makes one LAC of an Internet provider of the generator: every client is a session in one L2TP tunnel, without IPsec,
// between the first source address and the server.
type Carrier struct {
	// Local is the LAC's address in place of the first source address; with it Sources are not needed. It may be an IPv6 address.
	Local    netip.Addr
	HostName string
	Secret   keymat.Secret // tunnel password; empty for none
	HideAVPs bool
	// MaxSessions is how many sessions a tunnel carries before the next is opened; 0: no bound.
	MaxSessions int
	// Info says what the LAC tells about a client's call; nil: nothing.
	Info func(client int) l2tp.CallInfo
	// Auth has the LAC lead LCP and the first of these authentications with the client itself, and hand on what came of it, as proxy
	// AVPs. Empty: the server does all that.
	Auth []pppd.AuthProtocol
}

// carrierAddress is the LAC's address.
func (c Config) carrierAddress() (netip.Addr, error) {
	if c.Carrier.Local.IsValid() {
		return c.Carrier.Local, nil
	}
	return c.address(0)
}

// l2tpReceiveBuffer is what the carrier's socket holds while the owner computes, in bytes.
const l2tpReceiveBuffer = receiveBuffer

// openCarrier opens the one socket that a carrier needs.
func openCarrier(local netip.Addr) (*sockets, error) {
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			// A smaller buffer loses packets, which are repeated: without the right to a large one tests go on.
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, l2tpReceiveBuffer) != nil {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, l2tpReceiveBuffer)
			}
		})
	}}
	conn, err := listen.ListenPacket(context.Background(), "udp", netip.AddrPortFrom(local, l2tpPort).String())
	if err != nil {
		return nil, fmt.Errorf("loadgen: %w", err)
	}
	return &sockets{l2tp: conn.(*net.UDPConn)}, nil
}

func (s *sockets) sendL2TP(remote netip.Addr, data []byte) error {
	_, err := s.l2tp.WriteToUDPAddrPort(data, netip.AddrPortFrom(remote, l2tpPort))
	return err
}

// readL2TP hands every datagram from port 1701 (E1) to take until the socket is closed.
func (s *sockets) readL2TP(take func(packet)) {
	data := make([]byte, maxPacket)
	for {
		n, remote, err := s.l2tp.ReadFromUDPAddrPort(data)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && remote.Port() == l2tpPort {
			take(packet{l2tp: true, remote: remote.Addr().Unmap(), data: append([]byte(nil), data[:n]...)})
		}
	}
}

// takeL2TP turns a datagram into an event.
func (g *Generator) takeL2TP(p packet) {
	if p.remote != g.cfg.Server || len(p.data) < 6 {
		return
	}
	g.post(l2tp.Packet{
		Socket: tunnelOf(p.data), Local: netip.AddrPortFrom(g.carrierAddr, l2tpPort), Remote: netip.AddrPortFrom(p.remote, l2tpPort), Data: p.data,
	})
}

// tunnelOf reads the tunnel id of a header (RFC 2661 section 3.1), behind an optional length. The engine wants to know whose
// socket received a packet.
func tunnelOf(data []byte) l2tp.TunnelID {
	at := 2
	if data[0]&0x40 != 0 {
		at = 4
	}
	return l2tp.TunnelID(binary.BigEndian.Uint16(data[at:]))
}

// call has the LAC place the call of a client.
func (g *Generator) call(c *client) {
	k := g.cfg.Carrier
	c.addr = g.carrierAddr
	dial := l2tp.Dial{
		Ref: uint64(c.n), Share: true, Local: netip.AddrPortFrom(g.carrierAddr, l2tpPort), Remote: netip.AddrPortFrom(g.cfg.Server, l2tpPort),
		HostName: k.HostName, Secret: k.Secret, HideAVPs: k.HideAVPs, MaxSessions: k.MaxSessions,
	}
	if k.Info != nil {
		dial.Info = k.Info(c.n)
	}
	if len(k.Auth) > 0 {
		var ok bool
		if dial.Proxy, ok = g.negotiate(c); !ok {
			c.fail("ppp: no answer for the LAC to hand on")
			return
		}
	}
	g.post(dial)
}

// maxFrames bounds what client and LAC say to each other before the call is handed on.
const maxFrames = 32

// negotiate leads LCP and authentication between the client and the LAC, which are in one place and lose nothing, up to the
// question whether the client is who it says. The client's link stays as it is then.
func (g *Generator) negotiate(c *client) (*l2tp.Proxy, bool) {
	now := time.Now()
	c.link = g.newLink(c)
	lac := pppd.NewLink(pppd.Config{Auth: g.cfg.Carrier.Auth, Name: g.cfg.Carrier.HostName}, rand.Reader)
	var toLAC, toClient []pppd.Event
	toLAC, toClient = append(toLAC, pppd.Open{}), append(toClient, pppd.Open{})
	for range maxFrames {
		var ev pppd.Event
		if len(toClient) > 0 {
			ev, toClient = toClient[0], toClient[1:]
			for _, f := range c.link.Step(now, ev) {
				if s, ok := f.(pppd.Send); ok {
					toLAC = append(toLAC, pppd.Frame(s))
				}
			}
		}
		if len(toLAC) == 0 {
			continue
		}
		ev, toLAC = toLAC[0], toLAC[1:]
		for _, f := range lac.Step(now, ev) {
			switch f := f.(type) {
			case pppd.Send:
				toClient = append(toClient, pppd.Frame(f))
			case pppd.Authenticate:
				p, ok := lac.Handover()
				return proxy(p), ok
			}
		}
	}
	return nil, false
}

// proxy is what came of the negotiation as L2TP says it.
func proxy(p pppd.Proxy) *l2tp.Proxy {
	out := &l2tp.Proxy{InitialLCP: p.LastReceivedLCP, LastSentLCP: p.LastSentLCP, LastReceivedLCP: p.LastReceivedLCP, AuthType: l2tp.ProxyNone}
	switch p.Auth {
	case pppd.AuthCHAPMD5:
		out.AuthType = l2tp.ProxyCHAP
	case pppd.AuthPAP:
		out.AuthType = l2tp.ProxyPAP
	default:
		return out
	}
	out.AuthName, out.AuthID, out.AuthChallenge, out.AuthResponse = p.User, p.ID, p.Challenge, keymat.Secret(p.Response)
	return out
}

// callKey finds a session of the carrier.
type callKey struct {
	tunnel  l2tp.TunnelID
	session l2tp.SessionID
}

// performCarrier is performL2TP of a carrier.
func (g *Generator) performCarrier(f l2tp.Effect) {
	switch f := f.(type) {
	case l2tp.OpenSocket:
		g.post(l2tp.SocketOpened{Tunnel: f.Tunnel})
	case l2tp.Send:
		g.sent(g.sockets.sendL2TP(g.cfg.Server, f.Data))
	case l2tp.DialFailed:
		g.clients[f.Ref].fail("l2tp: " + string(f.Reason))
	case l2tp.SessionUp:
		c := g.clients[f.Session.Ref]
		c.call = f.Session
		g.calls[callKey{f.Session.Tunnel, f.Session.ID}] = c
		if c.link == nil {
			c.link = g.newLink(c)
			g.post(linkEvent{c, pppd.Open{}})
		}
	case l2tp.SessionDown:
		c := g.clients[f.Session.Ref]
		delete(g.calls, callKey{f.Session.Tunnel, f.Session.ID})
		g.post(linkEvent{c, pppd.LowerDown{}})
		c.fail("l2tp: " + string(f.Reason))
	case l2tp.FrameReceived:
		g.frameReceived(g.calls[callKey{f.Tunnel, f.Session}], f.Frame)
	}
}

// HangUp ends clients' calls as a LAC does whose line is gone: CDN with result 1.
func (g *Generator) HangUp(clients ...int) {
	for _, n := range clients {
		c := g.clients[n]
		g.post(l2tp.CloseSession{Tunnel: c.call.Tunnel, Session: c.call.ID, Result: l2tp.CallLostCarrier, Reason: "hung-up"})
	}
	g.work()
}
