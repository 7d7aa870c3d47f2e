package controlplane

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/api"
	"vrgate/controlplane/config"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
)

// What the API shows of L2TP. Payload is counted by the kernel, and asked for outside the loops.

// L2TPServices implements [api.Source].
func (p *Process) L2TPServices(ctx context.Context) ([]api.L2TPService, error) {
	return each(ctx, p, func(r *router, _ time.Time) []api.L2TPService {
		c, s := &r.cfg().L2TP, r.machine.l2tp.Service()
		return []api.L2TPService{{
			VR: r.name, AdminState: s.Admin.String(), DestructTimeoutSeconds: inSeconds(c.DestructTimeout), IdleTimeoutSeconds: inSeconds(c.IdleTimeout),
			HelloSeconds: inSeconds(c.HelloInterval), SetupTimeoutSeconds: inSeconds(c.SetupTimeout), ShortDrainSeconds: inSeconds(c.ShortDrain),
			RetransmissionsEstablished: c.RetransmitEstablished, RetransmissionsOpening: c.RetransmitNotEstablished, ReceiveWindow: c.ReceiveWindow,
			MaxSessions: c.MaxSessions, Challenge: c.Challenge, DisconnectCause: c.DisconnectCause, TolerateUnknownAVPs: c.TolerateUnknownAVP,
			IgnoreSequencing: c.IgnoreSequencing, TunnelSwitching: c.Switching, LockoutSeconds: inSeconds(c.Lockout), LockoutTest: c.LockoutTest,
			Destinations:     s.Destinations,
			Tunnels:          api.L2TPCount{Total: s.TunnelsTotal, Failed: s.TunnelsFailed, AuthFailed: s.TunnelsAuthFailed, Active: s.TunnelsActive},
			Sessions:         api.L2TPCount{Total: s.SessionsTotal, Failed: s.SessionsFailed, Active: s.SessionsActive},
			SwitchedSessions: len(switched(r)),
			Fixed:            l2tpFixed,
		}}
	})
}

// l2tpFixed is what nothing configures: see package l2tp, and vr for the sockets.
var l2tpFixed = api.L2TPFixed{
	Checksums: "ipv6", CallingNumberAVP: true, RxSpeedAVP: false, AddressChange: "refused", FailoverResync: "off", Balancing: "equal preference in turn, then the next preference",
}

func inSeconds(d time.Duration) int64 { return int64(d / time.Second) }

// switched are the calls of sessions that are handed on, each with its other one.
func switched(r *router) map[subscriber.CallKey]subscriber.CallKey {
	out := map[subscriber.CallKey]subscriber.CallKey{}
	for _, s := range r.machine.subs.Records() {
		if s.Far != (subscriber.CallKey{}) {
			out[s.Call], out[s.Far] = s.Far, s.Call
		}
	}
	return out
}

// L2TPDestinations implements [api.Source].
func (p *Process) L2TPDestinations(ctx context.Context) ([]api.L2TPDestination, error) {
	var out []api.L2TPDestination
	for _, r := range p.routers() {
		var rows []api.L2TPDestination
		var calls []l2tp.SessionInfo
		if !r.do(ctx, func(now time.Time) {
			lockouts := r.machine.subs.Lockouts(now)
			for _, d := range r.machine.l2tp.Destinations() {
				v := api.L2TPDestination{
					VR: r.name, Transport: "udp", Local: d.Local, Remote: d.Remote, AdminState: d.Admin.String(), EffectiveState: d.EffectiveAdmin.String(),
					Tunnels:  api.L2TPCount{Total: d.TunnelsTotal, Failed: d.TunnelsFailed, AuthFailed: d.TunnelsAuthFailed, Active: d.TunnelsActive},
					Sessions: api.L2TPCount{Total: d.SessionsTotal, Failed: d.SessionsFailed, Active: d.SessionsActive},
					Lockout:  "not-locked", Control: l2tpTraffic(d.Control), Payload: l2tpTraffic(d.Payload),
				}
				if l, locked := lockouts[d.Remote]; locked {
					v.Lockout, v.LockoutRemainingSeconds = l.State, inSeconds(l.Remaining)
				}
				rows = append(rows, v)
			}
			calls = r.machine.l2tp.Sessions()
		}) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			continue
		}
		payload := map[netip.Addr]api.L2TPTraffic{}
		for i := range calls {
			if t, ok := r.callTraffic(&calls[i]); ok {
				sum := payload[calls[i].Remote.Addr()]
				addTraffic(&sum, t)
				payload[calls[i].Remote.Addr()] = sum
			}
		}
		for i := range rows {
			addPayload(&rows[i].Payload, payload[rows[i].Remote])
		}
		out = append(out, rows...)
	}
	return out, nil
}

// L2TPProfiles implements [api.Source].
func (p *Process) L2TPProfiles(ctx context.Context) ([]api.L2TPDestinationProfile, error) {
	return each(ctx, p, func(r *router, _ time.Time) []api.L2TPDestinationProfile {
		live := r.machine.l2tp.Service().BySessions
		out := make([]api.L2TPDestinationProfile, 0, len(r.cfg().Destinations))
		for i := range r.cfg().Destinations {
			out = append(out, destinationView(r.cfg(), &r.cfg().Destinations[i], live))
		}
		return out
	})
}

func destinationView(r *config.Router, d *config.DestinationProfile, live map[string]int) api.L2TPDestinationProfile {
	v := api.L2TPDestinationProfile{
		VR: r.Name, Name: d.Name, Transport: "udp", LACAddress: d.LACAddress, MaxSessions: d.MaxSessions, Sessions: live[d.Name],
	}
	for _, h := range d.Hosts {
		name := hostProfileName(h)
		v.Hosts = append(v.Hosts, api.L2TPHostProfile{
			RemoteHost: name, IPsecTransport: h.IPsecRequired, SingleShot: h.SingleShot, InterfaceProfile: h.IPProfile, LocalAddress: h.LocalAddress,
			LocalHost: h.LocalHost, TunnelPassword: len(h.TunnelPassword) > 0, ProxyLCP: h.ProxyLCP, ProxyAuthentication: h.ProxyAuth,
			MaxSessions: h.MaxSessions, Sessions: live[d.Name+"/"+name], ReceiveWindow: h.ReceiveWindow, DisconnectCause: h.DisconnectCause,
			HideAVPs: h.HideAVPs, TolerateUnknownAVPs: h.TolerateUnknownAVP, TolerateTunnelIDZero: h.ZeroTunnelID, ResourceResultCodeOverride: h.ResourceError,
		})
	}
	return v
}

// L2TPTunnels implements [api.Source].
func (p *Process) L2TPTunnels(ctx context.Context) ([]api.L2TPTunnel, error) {
	var out []api.L2TPTunnel
	for _, r := range p.routers() {
		var rows []api.L2TPTunnel
		var calls []l2tp.SessionInfo
		if !r.do(ctx, func(now time.Time) {
			rows = nil
			for _, t := range r.machine.l2tp.Tunnels() {
				rows = append(rows, tunnelView(r.name, &t, now))
			}
			calls = r.machine.l2tp.Sessions()
		}) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			continue
		}
		live := map[uint16]int{} // records of ended tunnels may have the same number
		for i := range rows {
			if rows[i].Ended.IsZero() {
				live[rows[i].LocalID] = i
			}
		}
		for i := range calls {
			row, ok := live[uint16(calls[i].Tunnel)]
			if t, counted := r.callTraffic(&calls[i]); ok && counted {
				addTraffic(&rows[row].Payload, t)
			}
		}
		out = append(out, rows...)
	}
	return out, nil
}

func tunnelView(vr string, t *l2tp.TunnelInfo, now time.Time) api.L2TPTunnel {
	v := api.L2TPTunnel{
		VR: vr, Transport: "udp", LocalID: uint16(t.ID), RemoteID: uint16(t.Peer), State: t.State.String(), AdminState: t.Admin.String(),
		EffectiveState: t.EffectiveAdmin.String(), Initiator: "remote", Local: t.Local, Remote: t.Remote, Connection: uint32(t.Conn),
		Profile: t.Profile, HostProfile: t.HostProfile, SingleShot: t.SingleShot, RemoteHost: t.PeerHost, RemoteVendor: t.PeerVendor,
		Bearer: bearers(t.Bearer), Framing: framings(t.Framing), Window: t.Window, PeerWindow: t.PeerWindow, QueueDepth: t.Queued, Ns: t.Ns, Nr: t.Nr,
		Sessions:   api.L2TPCount{Total: t.SessionsTotal, Failed: t.SessionsFailed, Active: t.Sessions},
		LastResult: t.LastResult, LastError: t.LastError, LastMessage: t.LastMessage, Reason: string(t.Reason), Since: t.Since, Ended: t.Ended,
		EstablishedSeconds: establishedFor(t.Established, t.Ended, now), Control: l2tpTraffic(t.Control),
		RxZLB: t.RxZLB, TxZLB: t.TxZLB, OutOfSequence: t.OutOfSequence, OutOfWindow: t.OutOfWindow, Duplicates: t.Duplicates, Retransmits: t.Retransmits,
	}
	v.Payload = l2tpTraffic(t.PayloadIn)
	addPayload(&v.Payload, l2tpTraffic(t.PayloadOut))
	if t.Initiated {
		v.Initiator = "local"
	}
	if t.PeerFirmware != 0 {
		v.RemoteFirmware = fmt.Sprintf("%04x", t.PeerFirmware)
	}
	if t.Version != 0 {
		v.Version = fmt.Sprintf("%d.%d", t.Version>>8, t.Version&0xff)
	}
	return v
}

// L2TPSessions implements [api.Source].
func (p *Process) L2TPSessions(ctx context.Context) ([]api.L2TPSession, error) {
	var out []api.L2TPSession
	for _, r := range p.routers() {
		var rows []api.L2TPSession
		var calls []l2tp.SessionInfo
		if !r.do(ctx, func(now time.Time) {
			rows = nil
			users := map[subscriber.CallKey]string{}
			for _, s := range r.machine.subs.Records() {
				if s.Access != aaa.AccessXAuth {
					users[s.Call] = s.User
				}
				if s.Far != (subscriber.CallKey{}) {
					users[s.Far] = s.User
				}
			}
			others := switched(r)
			calls = r.machine.l2tp.Sessions()
			for i := range calls {
				v := sessionView(r.name, &calls[i], now)
				key := callKey(calls[i].Tunnel, calls[i].ID)
				if v.Ended.IsZero() {
					v.User = users[key]
					if other, ok := others[key]; ok {
						v.SwitchedTo = fmt.Sprintf("%d/%d", other.Tunnel, other.Session)
					}
				}
				rows = append(rows, v)
			}
		}) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			continue
		}
		for i := range rows {
			if t, ok := r.callTraffic(&calls[i]); ok {
				addTraffic(&rows[i].Payload, t)
				rows[i].OutOfSequence = t.RxOutOfSequence
			}
		}
		out = append(out, rows...)
	}
	return out, nil
}

func sessionView(vr string, s *l2tp.SessionInfo, now time.Time) api.L2TPSession {
	v := api.L2TPSession{
		VR: vr, LocalTunnel: uint16(s.Tunnel), RemoteTunnel: uint16(s.PeerTunnel), LocalID: uint16(s.ID), RemoteID: uint16(s.Peer),
		State: s.State.String(), AdminState: s.Admin.String(), EffectiveState: s.EffectiveAdmin.String(), CallType: "lac-incoming", SingleShot: s.SingleShot,
		RemoteHost: s.PeerHost, CallSerial: s.CallSerial, CallingNumber: s.CallingNumber, CalledNumber: s.CalledNumber, SubAddress: s.Info.SubAddress,
		PrivateGroup: s.Info.PrivateGroup, PhysicalChannel: s.Info.PhysicalChannel, Bearer: bearers(s.Info.BearerType), Framing: framings(s.Info.FramingType),
		TxSpeed: s.TxSpeed, RxSpeed: s.RxSpeed, Sequencing: s.SequencingRequired, ProxyLCP: s.ProxyLCP, ProxyAuth: proxyWords[s.ProxyType],
		Result: s.Result, ErrorCode: s.Error, Message: s.Message, Reason: string(s.Reason), Since: s.Since, Ended: s.Ended,
		EstablishedSeconds: establishedFor(s.Established, s.Ended, now), User: s.User, Payload: l2tpTraffic(s.Payload),
	}
	if s.Incoming {
		v.CallType = "lns-incoming"
	}
	return v
}

var proxyWords = map[l2tp.ProxyAuthType]string{
	0: "none", l2tp.ProxyText: "text", l2tp.ProxyCHAP: "chap", l2tp.ProxyPAP: "pap", l2tp.ProxyNone: "none", l2tp.ProxyMSCHAPv1: "mschap",
}

// establishedFor is how long something has been established until it ended, or now.
func establishedFor(since, ended, now time.Time) int64 {
	switch {
	case since.IsZero():
		return 0
	case ended.IsZero():
		ended = now
	}
	return inSeconds(max(ended.Sub(since), 0))
}

// bearers and framings are RFC 2661's capabilities and types in words (sections 4.4.3 and 4.4.4).
func bearers(n uint32) string { return bits(n, "digital", "analog") }

func framings(n uint32) string { return bits(n, "sync", "async") }

func bits(n uint32, first, second string) string {
	switch n & 3 {
	case 1:
		return first
	case 2:
		return second
	case 3:
		return first + "," + second
	}
	return ""
}

func l2tpTraffic(t l2tp.Traffic) api.L2TPTraffic { return api.L2TPTraffic(t) }

// callTraffic asks the kernel about a call that is established; false if there is nothing there.
func (r *router) callTraffic(s *l2tp.SessionInfo) (CallTraffic, bool) {
	if s.State != l2tp.StateEstablished {
		return CallTraffic{}, false
	}
	return r.data.CallTraffic(callKey(s.Tunnel, s.ID))
}

func addPayload(sum *api.L2TPTraffic, t api.L2TPTraffic) {
	sum.RxOctets, sum.RxPackets, sum.RxErrors, sum.RxDiscards = sum.RxOctets+t.RxOctets, sum.RxPackets+t.RxPackets, sum.RxErrors+t.RxErrors, sum.RxDiscards+t.RxDiscards
	sum.TxOctets, sum.TxPackets, sum.TxErrors, sum.TxDiscards = sum.TxOctets+t.TxOctets, sum.TxPackets+t.TxPackets, sum.TxErrors+t.TxErrors, sum.TxDiscards+t.TxDiscards
}

func addTraffic(sum *api.L2TPTraffic, t CallTraffic) {
	sum.RxOctets, sum.RxPackets, sum.RxErrors, sum.RxDiscards = sum.RxOctets+t.RxOctets, sum.RxPackets+t.RxPackets, sum.RxErrors+t.RxErrors, sum.RxDiscards+t.RxDiscards
	sum.TxOctets, sum.TxPackets, sum.TxErrors = sum.TxOctets+t.TxOctets, sum.TxPackets+t.TxPackets, sum.TxErrors+t.TxErrors
}

var adminWords = map[string]l2tp.Admin{"enabled": l2tp.AdminEnabled, "drain": l2tp.AdminDrain, "disabled": l2tp.AdminDisabled}

// SetL2TPAdmin implements [api.Source] (A8).
func (p *Process) SetL2TPAdmin(ctx context.Context, q api.L2TPAdminRequest) (api.L2TPAdminResponse, error) {
	var resp api.L2TPAdminResponse
	for _, r := range p.routers() {
		if r.name != q.VR {
			continue
		}
		var missing string
		ran := r.do(ctx, func(now time.Time) {
			if missing = r.missing(q); missing != "" {
				return
			}
			before := r.machine.l2tp.Service()
			r.perform(ctx, r.machine.step(now, l2tp.SetAdmin{
				Destination: q.Destination, Tunnel: l2tp.TunnelID(q.Tunnel), Session: l2tp.SessionID(q.Session), State: adminWords[q.State],
			}))
			after := r.machine.l2tp.Service()
			resp = api.L2TPAdminResponse{Tunnels: before.TunnelsActive - after.TunnelsActive, Sessions: before.SessionsActive - after.SessionsActive}
		})
		switch {
		case missing != "":
			return resp, badQuestion(http.StatusNotFound, api.ReasonNotFound, "%s", missing)
		case ran:
			return resp, nil
		case ctx.Err() != nil:
			return resp, ctx.Err()
		}
		return resp, badQuestion(http.StatusServiceUnavailable, api.ReasonUnavailable, "virtual router %s does not serve", q.VR)
	}
	return resp, badQuestion(http.StatusNotFound, api.ReasonNotFound, "there is no virtual router %q", q.VR)
}

// missing says what of a request there is not; empty: all is there.
func (r *router) missing(q api.L2TPAdminRequest) string {
	if q.Tunnel == 0 {
		return ""
	}
	found := false
	for _, t := range r.machine.l2tp.Tunnels() {
		found = found || uint16(t.ID) == q.Tunnel && t.Ended.IsZero()
	}
	if !found {
		return fmt.Sprintf("there is no tunnel %d", q.Tunnel)
	}
	if q.Session == 0 {
		return ""
	}
	for _, s := range r.machine.l2tp.Sessions() {
		if uint16(s.Tunnel) == q.Tunnel && uint16(s.ID) == q.Session && s.Ended.IsZero() {
			return ""
		}
	}
	return fmt.Sprintf("tunnel %d has no session %d", q.Tunnel, q.Session)
}
