package controlplane

import (
	"net/netip"
	"time"

	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
	"vrgate/pppd"
)

// Tunnel switching: a session that AAA has handed on is called on at another LNS, and the two calls are
// joined in the kernel. This file translates between the engines.

const portL2TP = 1701

// holdTimeout is how long a call that the LNS has taken may wait for the start of accounting and for the bridge.
const holdTimeout = 20 * time.Second

// proxyTypes are the ways to authenticate that a LAC can hand on (RFC 2661 section 4.4.5).
var proxyTypes = map[l2tp.ProxyAuthType]pppd.AuthProtocol{l2tp.ProxyCHAP: pppd.AuthCHAPMD5, l2tp.ProxyPAP: pppd.AuthPAP}

// dial is the call to an LNS.
func (m *machine) dial(f subscriber.Dial) l2tp.Dial {
	t := f.Target
	local := t.Client
	for _, a := range m.servers {
		if !local.IsValid() && a.Is4() == t.Server.Is4() {
			local = a
		}
	}
	return l2tp.Dial{
		Ref: f.Ref, Local: netip.AddrPortFrom(local, portL2TP), Remote: netip.AddrPortFrom(t.Server, portL2TP), Secret: t.Secret,
		HostName: t.ClientName, PeerHost: t.ServerName, Assignment: t.Assignment, Share: true, MaxSessions: t.MaxSessions,
		Hold: true, Timeout: f.Timeout + holdTimeout,
		Info: l2tp.CallInfo{
			CallingNumber: f.CallingNumber, CalledNumber: f.CalledNumber, SubAddress: f.SubAddress, TxSpeed: f.TxSpeed, RxSpeed: f.RxSpeed,
			PrivateGroup: t.PrivateGroup,
		},
		Proxy: proxyFor(f.Proxy),
	}
}

func farUp(s l2tp.SessionInfo) subscriber.FarUp {
	return subscriber.FarUp{
		Ref: s.Ref, Call: callKey(s.Tunnel, s.ID), PeerTunnel: uint16(s.PeerTunnel), PeerSession: uint16(s.Peer), Sequencing: s.SequencingRequired,
	}
}

// farFailed says of an LNS whether it was heard at all: one that refuses is there, and may take the next call.
func farFailed(f l2tp.DialFailed) subscriber.FarFailed {
	return subscriber.FarFailed{
		Ref: f.Ref, Reason: subscriber.Reason(f.Reason), Text: f.Text,
		Silent: f.Reason == l2tp.ReasonNoAnswer || f.Reason == l2tp.ReasonSetupTimeout || f.Reason == l2tp.ReasonSocket,
	}
}

// disconnectCause is what the peer's CDN says of PPP's end, for the CDN of the other call.
func disconnectCause(c *l2tp.DisconnectCause) pppd.DisconnectCause {
	if c == nil {
		return pppd.DisconnectCause{}
	}
	return pppd.DisconnectCause{Code: c.Code, Protocol: c.Protocol, Direction: c.Direction}
}

// proxyOf is what a LAC says that it has negotiated, as PPP understands it.
func proxyOf(p *l2tp.Proxy) *pppd.Proxy {
	if p == nil {
		return nil
	}
	out := &pppd.Proxy{LastSentLCP: p.LastSentLCP, LastReceivedLCP: p.LastReceivedLCP}
	if auth, ok := proxyTypes[p.AuthType]; ok {
		out.Auth, out.User, out.ID, out.Challenge, out.Response = auth, p.AuthName, p.AuthID, p.AuthChallenge, pppd.Secret(p.AuthResponse)
	}
	return out
}

// proxyFor is what we say to the LNS that takes a session over: LCP and how the peer has answered, or nothing. Where there is no
// number for the way to authenticate, such as MS-CHAPv2, the LNS negotiates LCP anew, which every peer takes part in: if it believed
// LCP and only asked again, its challenge could have the identifier of ours, and peers may then repeat their answer to
// ours (RFC 1994 section 4.1).
func proxyFor(p pppd.Proxy) *l2tp.Proxy {
	for number, auth := range proxyTypes {
		if auth == p.Auth {
			return &l2tp.Proxy{
				InitialLCP: p.LastReceivedLCP, LastSentLCP: p.LastSentLCP, LastReceivedLCP: p.LastReceivedLCP,
				AuthType: number, AuthName: p.User, AuthID: p.ID, AuthChallenge: p.Challenge, AuthResponse: []byte(p.Response),
			}
		}
	}
	return nil
}
