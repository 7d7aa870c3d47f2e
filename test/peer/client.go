package peer

import (
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"slices"
	"time"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/pki"
	"vrgate/pppd"
)

// Config of a client.
type Config struct {
	User     string
	Password keymat.Secret
	Key      keymat.Secret // the pre-shared key
	Addr     netip.Addr
	Server   netip.Addr
	// TunnelSecret is the L2TP tunnel password; empty for none.
	TunnelSecret keymat.Secret
	// XAuth makes it a dynamic IPsec subscriber instead: XAuth and mode config, then ESP in
	// tunnel mode, without L2TP and PPP.
	XAuth bool
	// Aggressive has phase 1 in aggressive mode. Group is the identity presented, in the syntax
	// of [ike.PresharedKey]; "": the address.
	Aggressive bool
	Group      string
	// Certificates authenticate phase 1 instead of Key where Method says so: our own, called
	// "client", by RSA, the server's by RSA and hybrid.
	Certificates *pki.Store
	Method       ike.AuthMethod // 0: AuthXAuthPSK
	// IKE changes what IKE is configured with; nil leaves it.
	IKE func(*ike.Config)
}

// Network carries what a client sends. Its methods must not call the client: they are called
// in the middle of its work.
type Network interface {
	SendIKE(ike.Send)
	// SendESP carries a UDP datagram from port 1701 to port 1701 through one of the client's
	// outbound SAs.
	SendESP(spi uint32, data []byte)
}

// Client is one client. One goroutine owns it.
type Client struct {
	Config
	// Address is the inner address while the client is up.
	Address netip.Addr
	// Failed is the first reason for which something ended, with the protocol before it,
	// such as "ike: no-answer"; empty as long as nothing has.
	Failed string

	net      Network
	random   io.Reader
	ike      *ike.Engine
	l2tp     *l2tp.Engine
	link     *pppd.Link
	call     l2tp.SessionInfo
	conn     ike.ConnID
	lease    ike.Lease // of XAuth
	inbound  map[uint32]bool
	outbound []uint32 // the newest last
	closing  bool
	queue    []any // events for the engines
	busy     bool
}

// New makes a client that does nothing until Connect.
func New(c Config, random io.Reader, network Network) *Client {
	cfg := ike.Config{
		NATT: true,
		Rules: []ike.PolicyRule{{
			Name: "client", Priority: 1, Auth: ike.AuthPSK, Encryption: []ike.Encryption{{Cipher: keymat.AES, KeyBits: 256}},
			Hash: []keymat.Hash{keymat.SHA256}, Group: []keymat.Group{keymat.Curve25519},
		}},
		Keys: []ike.PresharedKey{{Name: "group", Key: c.Key}},
		Transports: []ike.TransportProfile{{
			Name: "l2tp", Local: c.Addr, ESP: []ike.ESPProposal{{Cipher: ike.ESPAESCBC, KeyBits: 128, Auth: ike.ESPAuthSHA1}},
		}},
	}
	if c.XAuth {
		cfg.Keys[0].LocalID = c.Group
		cfg.Tunnels = []ike.TunnelProfile{{
			Name: xauthProfile, Local: c.Addr, ESP: []ike.ESPProposal{{Cipher: ike.ESPAESCBC, KeyBits: 128, Auth: ike.ESPAuthSHA1}},
		}}
		if c.Certificates != nil {
			cfg.Rules[0].Auth, cfg.Authorities = ike.AuthAny, c.Certificates.AuthorityNames()
			for _, x := range c.Certificates.Credentials() {
				cfg.Credentials = append(cfg.Credentials, ike.Credential{Name: x.Name, Chain: x.Chain, Subject: x.Subject, Issuers: x.Issuers})
			}
		}
		cfg.Transports = nil
		cfg.DPD = ike.DPDTimers{Silent: time.Minute} // a server's delete may get lost
		if c.Aggressive {
			cfg.Rules[0].Aggressive = ike.AggressiveRequired
		}
	}
	if c.IKE != nil {
		c.IKE(&cfg)
	}
	return &Client{
		Config: c, net: network, random: random, inbound: map[uint32]bool{},
		ike: ike.New(cfg, random), l2tp: l2tp.New(l2tp.Config{HostName: c.User}, random),
	}
}

// xauthProfile is what a dynamic subscriber calls its side of phase 2.
const xauthProfile = "vpn"

// wanted are the mode config attributes that a dynamic subscriber asks for: address, netmask, DNS
// and NBNS servers.
var wanted = []uint16{1, 2, 3, 4}

// Connect begins to connect.
func (c *Client) Connect(now time.Time) {
	if c.XAuth {
		c.step(now, ike.Initiate{
			Ref: 1, Local: netip.AddrPortFrom(c.Addr, 500), Remote: netip.AddrPortFrom(c.Server, 500), Profile: xauthProfile, Key: "group",
			LocalID: c.Group, Aggressive: c.Aggressive, Method: cmp.Or(c.Method, ike.AuthXAuthPSK), Credential: "client", User: c.User, Password: c.Password, Request: wanted, Tunnel: true,
		})
		return
	}
	c.step(now, ike.Initiate{
		Ref: 1, Local: netip.AddrPortFrom(c.Addr, 500), Remote: netip.AddrPortFrom(c.Server, 500), Profile: "l2tp", Key: "group",
		LocalPort: 1701, RemotePort: 1701,
	})
}

// HangUp ends politely: PPP first, then call and tunnel, then IPsec.
func (c *Client) HangUp(now time.Time) {
	c.closing = true
	if c.link != nil {
		c.step(now, pppd.Close{Reason: pppd.ReasonUserRequest})
		return
	}
	c.finish(now)
}

func (c *Client) finish(now time.Time) {
	c.step(now, l2tp.CloseAll{Reason: "user"})
	c.step(now, ike.CloseAll{Reason: "user"})
}

// IKE takes a datagram of UDP port 500 or, with marker, 4500. Data is only read.
func (c *Client) IKE(now time.Time, local, remote netip.AddrPort, marker bool, data []byte) {
	c.step(now, ike.Packet{Local: local, Remote: remote, Marker: marker, Data: data})
}

// ESP takes what came through the inbound SA spi. Data is only read.
func (c *Client) ESP(now time.Time, spi uint32, data []byte) {
	if !c.inbound[spi] || len(data) < 6 {
		return
	}
	id := binary.BigEndian.Uint16(data[2:])
	if data[0]&0x80 != 0 {
		id = binary.BigEndian.Uint16(data[4:])
	}
	c.step(now, l2tp.Packet{
		Socket: l2tp.TunnelID(id), Local: netip.AddrPortFrom(c.Addr, 1701), Remote: netip.AddrPortFrom(c.Server, 1701), Conn: l2tp.ConnID(c.conn), Data: data,
	})
}

// Tick lets timers run out that are due.
func (c *Client) Tick(now time.Time) {
	c.step(now, ike.Timer{})
	c.step(now, l2tp.Timer{})
	c.step(now, pppd.Timer{})
}

// Lease is what XAuth's server has configured.
func (c *Client) Lease() ike.Lease { return c.lease }

// Deadline returns when Tick is wanted; zero: never.
func (c *Client) Deadline() time.Time {
	next := c.ike.Deadline()
	sooner := func(d time.Time) {
		if !d.IsZero() && (next.IsZero() || d.Before(next)) {
			next = d
		}
	}
	sooner(c.l2tp.Deadline())
	if c.link != nil {
		sooner(c.link.Deadline())
	}
	return next
}

// Settled says that the client is up or has given up.
func (c *Client) Settled() bool { return c.Address.IsValid() || c.Failed != "" }

// HasSA says whether an inbound SA is there.
func (c *Client) HasSA(spi uint32) bool { return c.inbound[spi] }

// OutboundSA returns the SPI of the SA that serves, 0 for none.
func (c *Client) OutboundSA() uint32 {
	if len(c.outbound) == 0 {
		return 0
	}
	return c.outbound[len(c.outbound)-1]
}

// failure is a reason that takes its turn among the events, so that an end comes before its
// consequences.
type failure string

func (c *Client) fail(why string) {
	if c.Failed == "" {
		c.Failed = why
	}
}

// step feeds an event to its engine, and what comes of it to the others, one after the other.
func (c *Client) step(now time.Time, ev any) {
	c.queue = append(c.queue, ev)
	if c.busy {
		return
	}
	c.busy = true
	for len(c.queue) > 0 {
		next := c.queue[0]
		c.queue = c.queue[1:]
		switch ev := next.(type) {
		case ike.Event:
			c.stepIKE(now, ev)
		case l2tp.Event:
			c.stepL2TP(now, ev)
		case pppd.Event:
			c.stepPPP(now, ev)
		case failure:
			c.fail(string(ev))
		}
	}
	c.busy = false
}

func (c *Client) stepIKE(now time.Time, ev ike.Event) {
	for _, f := range c.ike.Step(now, ev) {
		switch f := f.(type) {
		case ike.Send:
			c.net.SendIKE(f)
		case ike.ComputeDH:
			c.step(now, c.compute(f))
		case ike.InstallSA:
			if f.SA.Dir == ike.Inbound {
				c.inbound[f.SA.SPI] = true
			} else {
				c.outbound = append(c.outbound, f.SA.SPI)
			}
			c.step(now, ike.SAInstalled{Conn: f.SA.Conn, SPI: f.SA.SPI, Dir: f.SA.Dir})
		case ike.RemoveSA:
			if f.Dir == ike.Inbound {
				delete(c.inbound, f.SPI)
			} else {
				c.outbound = slices.DeleteFunc(c.outbound, func(spi uint32) bool { return spi == f.SPI })
			}
		case ike.Sign:
			done := ike.Signed{Job: f.Job}
			var err error
			if done.Signature, err = c.Certificates.Sign(f.Credential, f.Digest); err != nil {
				done.Err = err.Error()
			}
			c.step(now, done)
		case ike.VerifyPeer:
			done := ike.PeerVerified{Job: f.Job}
			subject, err := c.Certificates.Verify(now, pki.Peer{Certs: f.Certs, Digest: f.Digest, Signature: f.Signature, ID: f.ID})
			var refusal *pki.Refusal
			if errors.As(err, &refusal) {
				done.Reason, done.Text = ike.Reason(refusal.Reason), refusal.Text
			}
			done.Subject = subject
			c.step(now, done)
		case ike.ReadTraffic: // it has none
			c.step(now, ike.TrafficRead{Conn: f.Conn})
		case ike.Configured:
			c.lease = f.Lease
		case ike.ConnUp:
			c.conn = f.Conn.ID
			if c.XAuth {
				c.Address = c.lease.Address
				continue
			}
			if c.call.Tunnel == 0 && !c.closing {
				c.step(now, l2tp.Dial{
					Ref: 1, Local: netip.AddrPortFrom(c.Addr, 1701), Remote: netip.AddrPortFrom(c.Server, 1701), Conn: l2tp.ConnID(f.Conn.ID), HostName: c.User,
					Secret: c.TunnelSecret,
				})
			}
		case ike.ConnDown:
			if c.XAuth {
				c.Address = netip.Addr{}
			}
			c.step(now, failure("ike: "+string(f.Reason)))
			c.step(now, l2tp.ConnLost{Conn: l2tp.ConnID(f.Conn.ID)})
		}
	}
}

// compute is Diffie-Hellman on the spot.
func (c *Client) compute(f ike.ComputeDH) ike.DHDone {
	done := ike.DHDone{Job: f.Job}
	var err error
	if f.Pair != nil {
		done.Pair = *f.Pair
	} else if done.Pair, err = f.Group.Generate(c.random); err != nil {
		done.Err = err.Error()
		return done
	}
	if f.Peer != nil {
		if done.Shared, err = keymat.Shared(done.Pair, f.Peer); err != nil {
			done.Err = err.Error()
		}
	}
	return done
}

func (c *Client) stepL2TP(now time.Time, ev l2tp.Event) {
	for _, f := range c.l2tp.Step(now, ev) {
		switch f := f.(type) {
		case l2tp.OpenSocket:
			c.step(now, l2tp.SocketOpened{Tunnel: f.Tunnel})
		case l2tp.Send:
			if spi := c.OutboundSA(); spi != 0 {
				c.net.SendESP(spi, f.Data)
			}
		case l2tp.SessionUp:
			c.call = f.Session
			c.link = pppd.NewLink(pppd.Config{Dialer: &pppd.Dialer{User: c.User, Password: pppd.Secret(c.Password)}}, c.random)
			c.step(now, pppd.Open{})
		case l2tp.SessionDown:
			c.step(now, pppd.LowerDown{})
		case l2tp.TunnelDown:
			c.step(now, failure("l2tp: "+string(f.Reason)))
		case l2tp.FrameReceived:
			if len(f.Frame) >= 2 {
				c.step(now, pppd.Frame{Protocol: binary.BigEndian.Uint16(f.Frame), Data: f.Frame[2:]})
			}
		}
	}
}

func (c *Client) stepPPP(now time.Time, ev pppd.Event) {
	if c.link == nil {
		return
	}
	for _, f := range c.link.Step(now, ev) {
		switch f := f.(type) {
		case pppd.Send:
			frame := append([]byte{byte(f.Protocol >> 8), byte(f.Protocol)}, f.Data...)
			c.step(now, l2tp.SendFrame{Tunnel: c.call.Tunnel, Session: c.call.ID, Frame: frame})
		case pppd.NetworkUp:
			c.Address = f.Local
		case pppd.NetworkDown:
			c.Address = netip.Addr{}
		case pppd.Down:
			c.link, c.Address = nil, netip.Addr{}
			c.fail("ppp: " + string(f.Reason))
			if c.closing {
				c.finish(now)
			}
		}
	}
}
