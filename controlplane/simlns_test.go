package controlplane

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
	"vrgate/pppd"
)

// simLNS is another LNS, reached in clear text, to which the server hands sessions on.
type simLNS struct {
	w        *simWorld
	addr     netip.Addr
	e        *l2tp.Engine
	users    aaa.Method
	believes bool // takes what the server says about LCP and authentication
	links    map[subscriber.CallKey]*pppd.Link
	addrs    byte
	calls    int // SessionUps
}

// newLNS adds an LNS to the world. Its subscribers have addresses of its own.
func (w *simWorld) newLNS(last byte, believes bool) *simLNS {
	l := &simLNS{
		w: w, addr: netip.AddrFrom4([4]byte{203, 0, 113, last}), users: aaa.NewLocal(simUsers(2000)), believes: believes,
		links: map[subscriber.CallKey]*pppd.Link{},
	}
	l.e = l2tp.New(l2tp.Config{HostName: "lns", DisconnectCause: true, Profiles: []l2tp.DestinationProfile{{
		Name: "any", LAC: netip.IPv4Unspecified(), Hosts: []l2tp.HostProfile{{Name: "default", Secret: keymat.Secret("between us"), Challenge: true}},
	}}}, random{rand.NewChaCha8([32]byte{last})})
	w.lns[l.addr] = l
	return l
}

// tunnel is how AAA names the LNS.
func (l *simLNS) tunnel(preference uint32) aaa.Tunnel {
	return aaa.Tunnel{Server: l.addr, Client: simServerAddr, Secret: keymat.Secret("between us"), Preference: preference}
}

// handingOn accepts whom a Method accepts, and hands everybody on.
type handingOn struct {
	aaa.Method
	tunnels []aaa.Tunnel
}

func (m handingOn) Decide(ctx context.Context, r aaa.Request) aaa.Decision {
	d := m.Method.Decide(ctx, r)
	if d.Accept {
		d.Tunnels = m.tunnels
	}
	return d
}

// packet takes a datagram of the server.
func (l *simLNS) packet(data []byte) {
	l.step(l2tp.Packet{
		Socket: tunnelOf(data), Local: netip.AddrPortFrom(l.addr, 1701), Remote: netip.AddrPortFrom(simServerAddr, 1701), Data: data,
	})
}

// tunnelOf returns the tunnel id of an L2TP packet.
func tunnelOf(data []byte) l2tp.TunnelID {
	if data[0]&0x80 != 0 {
		return l2tp.TunnelID(binary.BigEndian.Uint16(data[4:]))
	}
	return l2tp.TunnelID(binary.BigEndian.Uint16(data[2:]))
}

func (l *simLNS) step(ev l2tp.Event) {
	for _, f := range l.e.Step(l.w.now, ev) {
		switch f := f.(type) {
		case l2tp.OpenSocket:
			l.w.after(0, func() { l.step(l2tp.SocketOpened{Tunnel: f.Tunnel}) })
		case l2tp.Send:
			l.w.send(toServer, func() { l.w.server.fromLNS(l.addr, f.Data) })
		case l2tp.Refuse:
			l.w.send(toServer, func() { l.w.server.fromLNS(l.addr, f.Data) })
		case l2tp.SessionUp:
			l.calls++
			cfg := pppd.Config{MRU: 1400, Name: "lns", EchoInterval: 30 * second, EchoFailures: 3, Auth: []pppd.AuthProtocol{pppd.AuthCHAPMD5, pppd.AuthMSCHAPv2, pppd.AuthPAP}}
			if l.believes {
				cfg.Proxy = proxyOf(f.Session.Proxy)
			}
			call := callKey(f.Session.Tunnel, f.Session.ID)
			l.links[call] = pppd.NewLink(cfg, random{rand.NewChaCha8([32]byte{byte(l.calls), 7})})
			l.ppp(call, pppd.Open{})
		case l2tp.SessionDown:
			l.ppp(callKey(f.Session.Tunnel, f.Session.ID), pppd.LowerDown{})
		case l2tp.FrameReceived:
			l.ppp(callKey(f.Tunnel, f.Session), pppd.Frame{Protocol: binary.BigEndian.Uint16(f.Frame), Data: f.Frame[2:]})
		}
	}
	l.arm()
}

func (l *simLNS) arm() {
	next := l.e.Deadline()
	for _, link := range l.links {
		if d := link.Deadline(); !d.IsZero() && (next.IsZero() || d.Before(next)) {
			next = d
		}
	}
	l.w.timer(l, next, func() {
		for _, call := range sortedCalls(l.links) {
			l.ppp(call, pppd.Timer{})
		}
		l.step(l2tp.Timer{})
	})
}

func (l *simLNS) ppp(call subscriber.CallKey, ev pppd.Event) {
	link := l.links[call]
	if link == nil {
		return
	}
	tunnel, session := l2tp.TunnelID(call.Tunnel), l2tp.SessionID(call.Session)
	for _, f := range link.Step(l.w.now, ev) {
		switch f := f.(type) {
		case pppd.Send:
			l.step(l2tp.SendFrame{Tunnel: tunnel, Session: session, Frame: append(binary.BigEndian.AppendUint16(nil, f.Protocol), f.Data...)})
		case pppd.Authenticate:
			r := f.Request
			protocol := map[pppd.AuthProtocol]aaa.Protocol{pppd.AuthPAP: aaa.PAP, pppd.AuthCHAPMD5: aaa.CHAPMD5, pppd.AuthMSCHAPv2: aaa.MSCHAPv2}[r.Protocol]
			d := l.users.Decide(context.Background(), aaa.Request{
				User: r.User, Protocol: protocol, Password: keymat.Secret(r.Password), ID: r.ID, Challenge: r.Challenge, Response: r.Response,
			})
			l.addrs++
			address := netip.AddrFrom4([4]byte{10, 200, 0, l.addrs})
			l.w.after(5*millisecond, func() {
				l.ppp(call, pppd.AuthDecision{Accept: d.Accept, MSCHAPv2Response: d.MSCHAPv2Response, Network: pppd.Network{Local: l.addr, Peer: address}})
				l.arm()
			})
		case pppd.Down:
			delete(l.links, call)
			l.step(l2tp.CloseSession{Tunnel: tunnel, Session: session, Reason: l2tp.Reason(f.Reason)})
		}
	}
	l.arm()
}

// toLNS sends through a tunnel of the server's to another LNS.
func (s *simServer) toLNS(t l2tp.OpenSocket, data []byte) {
	if l := s.w.lns[t.Remote.Addr()]; l != nil {
		s.w.send(toClient, func() { l.packet(data) })
	}
}

// fromLNS takes a datagram of an LNS: what belongs to a bridge stays in the kernel.
func (s *simServer) fromLNS(addr netip.Addr, data []byte) {
	id := tunnelOf(data)
	t, open := s.tunnels[id]
	if !open || t.Conn != 0 || t.Remote.Addr() != addr {
		return
	}
	if data[0]&0x80 == 0 && s.acrossBridge(subscriber.CallKey{Tunnel: uint16(id), Session: binary.BigEndian.Uint16(data[4:])}, data) {
		return
	}
	s.step(l2tp.Packet{Socket: id, Local: t.Local, Remote: t.Remote, Data: data})
}

// bridge joins two calls as the kernel does.
func (s *simServer) bridge(f subscriber.Bridge) {
	near, far := s.tunnels[l2tp.TunnelID(f.Near.Call.Tunnel)], s.tunnels[l2tp.TunnelID(f.Far.Call.Tunnel)]
	if s.fails("bridge") || near.Tunnel == 0 || far.Tunnel == 0 {
		s.answer(subscriber.Bridged{ID: f.ID, Reason: "injected", Text: "the calls were not bridged"})
		return
	}
	if near.Conn == 0 || far.Conn != 0 {
		s.w.t.Errorf("session %d bridges tunnels of connections %d and %d", f.ID, near.Conn, far.Conn)
	}
	s.w.after(2*millisecond, func() {
		s.bridges[f.ID] = f
		s.step(subscriber.Bridged{ID: f.ID})
	})
}

func (s *simServer) closeBridge(f subscriber.CloseBridge) {
	if _, there := s.bridges[f.ID]; !there {
		s.w.t.Errorf("bridge %d closed twice", f.ID)
	}
	delete(s.bridges, f.ID)
	s.answer(subscriber.BridgeClosed{ID: f.ID, Counters: s.carried[f.ID]})
}

// acrossBridge carries a data packet over the bridge of its call, if there is one.
func (s *simServer) acrossBridge(call subscriber.CallKey, data []byte) bool {
	for id, b := range s.bridges {
		to := b.Far
		switch call {
		case b.Near.Call:
		case b.Far.Call:
			to = b.Near
		default:
			continue
		}
		c := s.carried[id]
		c.InPackets++
		s.carried[id] = c
		if t, open := s.tunnels[l2tp.TunnelID(to.Call.Tunnel)]; open {
			head := []byte{0, 2, byte(to.PeerTunnel >> 8), byte(to.PeerTunnel), byte(to.PeerSession >> 8), byte(to.PeerSession)}
			s.throughTunnel(t, append(head, data[6:]...))
		}
		return true
	}
	return false
}
