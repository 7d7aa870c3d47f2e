package loadgen

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"vrgate/controlplane/keymat"
	"vrgate/controlplane/l2tp"
	"vrgate/pppd"
)

// lns is a server of this process: it believes what a LAC has negotiated, lets everybody in who knows the password, and
// gives addresses.
type lns struct {
	conn     *net.UDPConn
	e        *l2tp.Engine
	links    map[callKey]*pppd.Link
	sessions []l2tp.SessionInfo
	proxied  int // questions to AAA that need no packet to the client
	tunnels  int
	done     chan struct{}
}

const secret, password = "geheim", "swordfish"

// loopback are two addresses of this process alone: others test at the same time.
func loopback(n byte) netip.Addr {
	pid := os.Getpid()
	return netip.AddrFrom4([4]byte{127, byte(100 + pid>>8&0x7f), byte(pid), n})
}

func startLNS(t *testing.T, addr netip.Addr) *lns {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, l2tpPort)))
	if err != nil {
		t.Fatal(err)
	}
	s := &lns{
		conn: conn, links: map[callKey]*pppd.Link{}, done: make(chan struct{}),
		e: l2tp.New(l2tp.Config{HostName: "lns", Profiles: []l2tp.DestinationProfile{{
			Name: "any", Hosts: []l2tp.HostProfile{{Host: "carrier", Secret: keymat.Secret(secret), Challenge: true, HideAVPs: true, ReceiveWindow: 32}},
		}}}, rand.Reader),
	}
	go s.serve(addr)
	return s
}

// serve owns the engine until the socket is closed.
func (s *lns) serve(addr netip.Addr) {
	defer close(s.done)
	data := make([]byte, maxPacket)
	for {
		_ = s.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		n, remote, err := s.conn.ReadFromUDPAddrPort(data)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		now := time.Now()
		s.perform(now, remote, s.e.Step(now, l2tp.Timer{}))
		for _, k := range s.keys() {
			s.ppp(now, k, pppd.Timer{})
		}
		if err == nil {
			s.perform(now, remote, s.e.Step(now, l2tp.Packet{
				Socket: tunnelOf(data), Local: netip.AddrPortFrom(addr, l2tpPort), Remote: remote, Data: data[:n],
			}))
		}
	}
}

func (s *lns) keys() (list []callKey) {
	for k := range s.links {
		list = append(list, k)
	}
	return list
}

func (s *lns) perform(now time.Time, remote netip.AddrPort, effects []l2tp.Effect) {
	for _, f := range effects {
		switch f := f.(type) {
		case l2tp.OpenSocket:
			s.perform(now, remote, s.e.Step(now, l2tp.SocketOpened{Tunnel: f.Tunnel}))
		case l2tp.TunnelUp:
			s.tunnels++
		case l2tp.Send:
			_, _ = s.conn.WriteToUDPAddrPort(f.Data, remote) // lost ones are repeated
		case l2tp.SessionUp:
			k := callKey{f.Session.Tunnel, f.Session.ID}
			s.sessions = append(s.sessions, f.Session)
			cfg := pppd.Config{Auth: []pppd.AuthProtocol{pppd.AuthCHAPMD5, pppd.AuthPAP}}
			if p := f.Session.Proxy; p != nil {
				cfg.Proxy = &pppd.Proxy{
					LastSentLCP: p.LastSentLCP, LastReceivedLCP: p.LastReceivedLCP, User: p.AuthName, ID: p.AuthID, Challenge: p.AuthChallenge,
					Response: pppd.Secret(p.AuthResponse), Auth: map[l2tp.ProxyAuthType]pppd.AuthProtocol{2: pppd.AuthCHAPMD5, 3: pppd.AuthPAP}[p.AuthType],
				}
			}
			s.links[k] = pppd.NewLink(cfg, rand.Reader)
			s.ppp(now, k, pppd.Open{})
		case l2tp.SessionDown:
			delete(s.links, callKey{f.Session.Tunnel, f.Session.ID})
		case l2tp.FrameReceived:
			s.ppp(now, callKey{f.Tunnel, f.Session}, pppd.Frame{Protocol: binary.BigEndian.Uint16(f.Frame), Data: f.Frame[2:]})
		}
	}
}

func (s *lns) ppp(now time.Time, k callKey, ev pppd.Event) {
	link := s.links[k]
	if link == nil {
		return
	}
	for _, f := range link.Step(now, ev) {
		switch f := f.(type) {
		case pppd.Send:
			frame := append(binary.BigEndian.AppendUint16(nil, f.Protocol), f.Data...)
			s.perform(now, netip.AddrPortFrom(loopback(1), l2tpPort), s.e.Step(now, l2tp.SendFrame{Tunnel: k.tunnel, Session: k.session, Frame: frame}))
		case pppd.Authenticate:
			if _, opened := ev.(pppd.Open); opened {
				s.proxied++
			}
			n := len(s.sessions)
			s.ppp(now, k, pppd.AuthDecision{Accept: true, Network: pppd.Network{
				Local: netip.AddrFrom4([4]byte{10, 0, 0, 1}), Peer: netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}),
			}})
		}
	}
}

// A carrier's clients are sessions of one tunnel; with Auth the LAC leads LCP and authentication, and the server goes on from
// there.
func TestCarrier(t *testing.T) {
	for _, c := range []struct {
		name    string
		auth    []pppd.AuthProtocol
		limit   int
		tunnels int
		kind    l2tp.ProxyAuthType
	}{
		{"the server negotiates", nil, 0, 1, 0},
		{"CHAP at the LAC", []pppd.AuthProtocol{pppd.AuthCHAPMD5}, 0, 1, l2tp.ProxyCHAP},
		{"PAP at the LAC, ten sessions in each tunnel", []pppd.AuthProtocol{pppd.AuthPAP}, 10, 5, l2tp.ProxyPAP},
	} {
		t.Run(c.name, func(t *testing.T) {
			const clients = 50
			server := startLNS(t, loopback(9))
			g, err := New(Config{
				Do: func(f func() error) error { return f() }, Server: loopback(9), Sources: netip.PrefixFrom(loopback(0), 30),
				User: func(n int) string { return fmt.Sprintf("user-%d@example.org", n) }, Password: password,
				Carrier: &Carrier{
					HostName: "carrier", Secret: keymat.Secret(secret), HideAVPs: true, MaxSessions: c.limit, Auth: c.auth,
					Info: func(n int) l2tp.CallInfo {
						return l2tp.CallInfo{CallingNumber: fmt.Sprint("4930", n), CalledNumber: "0800", TxSpeed: 16_000_000, RxSpeed: 1_000_000}
					},
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			r, err := g.Connect(ctx, clients, 20)
			if err != nil || r.Up != clients {
				t.Fatalf("%v, %v, %v", r.Up, r.Failed, err)
			}
			g.HangUp(3, 4)
			if err := g.Serve(ctx, 200*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			if lost := g.Lost(); lost["l2tp: hung-up"] != 2 || len(lost) != 1 {
				t.Errorf("lost %v", lost)
			}
			if err := g.Close(); err != nil {
				t.Error(err)
			}
			_ = server.conn.Close()
			<-server.done
			if server.tunnels != c.tunnels || len(server.sessions) != clients || len(server.links) != clients-2 {
				t.Errorf("%d tunnels, %d sessions, %d links", server.tunnels, len(server.sessions), len(server.links))
			}
			if want := len(c.auth) * clients; server.proxied != want {
				t.Errorf("%d clients were authenticated by what the LAC has said, want %d", server.proxied, want)
			}
			for _, s := range server.sessions {
				if s.CalledNumber != "0800" || s.CallingNumber == "" || s.RxSpeed != 1_000_000 || (s.Proxy != nil) != (c.kind != 0) || s.Proxy != nil && s.Proxy.AuthType != c.kind {
					t.Fatalf("%+v", s)
				}
			}
		})
	}
}
