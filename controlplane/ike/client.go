package ike

import (
	"cmp"
	"net/netip"

	"vrgate/controlplane/isakmp"
)

// client is where we are the subscriber: what a connection that we have opened in
// tunnel mode still waits for. It is plain data and part of snapshots.
type client struct {
	Passed     bool // XAuth is over
	Configured bool
	Answers    int // questions answered since the last verdict
	Lease      Lease
}

// subscribes tells whether we are the one to be asked and configured.
func (c *conn) subscribes() bool { return c.Initiator && c.Open.Tunnel }

// awaits tells whether the first child has to wait for XAuth or configuration,
// and asks for the latter when its time has come.
func (e *Engine) awaits(c *conn, p *phase1) bool {
	if !c.asked() || c.Announced {
		return false
	}
	s := &c.Client
	if !s.Passed && (c.Open.User != "" || p.Method.xauth()) {
		c.Grace = e.now.Add(userTime + grace)
		e.arm(c)
		return true
	}
	if c.Static != "" || s.Configured || len(c.Open.Request) == 0 && c.Open.LocalNet.IsValid() {
		return false
	}
	if len(c.Open.Request) > 0 && !p.talk.waits(forConfig) {
		as := make([]isakmp.Attribute, min(len(c.Open.Request), isakmp.MaxAttributes))
		for i := range as {
			as[i].Type = c.Open.Request[i]
		}
		e.begin(p, forConfig, isakmp.AttributeSet{Type: isakmp.ConfigRequest, Identifier: uint16(e.rand32()), Attributes: as}, 0, 0)
	}
	return true // without a request the server pushes
}

// clientSet takes a SET of the server: the verdict of XAuth, or configuration.
func (e *Engine) clientSet(c *conn, p *phase1, r *request) {
	status, verdict := r.Set.Find(isakmp.XAuthStatus)
	if !verdict {
		e.reply(p, r, isakmp.ConfigAck, typesOf(r.Set.Attributes))
		if c.subscribes() {
			e.configured(c, r.Set) // a static tunnel's networks are configured here
		}
		return
	}
	e.reply(p, r, isakmp.ConfigAck, []isakmp.Attribute{{Type: isakmp.XAuthStatus}})
	if v, ok := status.Uint(); !ok || v != statusPASS {
		m, _ := r.Set.Find(isakmp.XAuthMessage)
		text := string(m.Value[:min(len(m.Value), maxXAuthMessage)])
		e.closeConn(c, ReasonXAuthFailed, cmp.Or(text, "the server refuses the user"), true)
		return
	}
	c.Client.Answers = 0 // the server may ask again at each phase 1 rekey
	if !c.Client.Passed {
		c.Client.Passed = true
		c.Grace = e.now.Add(grace)
		e.arm(c)
		e.openChild(c, nil)
	}
}

// configured takes a configuration over and opens the child that waited for it.
func (e *Engine) configured(c *conn, set isakmp.AttributeSet) {
	if c.Client.Configured {
		return // the address of a connection stays
	}
	l := parseLease(set.Attributes)
	if !l.Address.IsValid() {
		e.closeConn(c, ReasonBadAnswer, "mode config brings no address", false)
		return
	}
	c.Client.Configured, c.Client.Lease = true, l
	c.Info.Address = l.Address
	e.emit(Configured{Conn: c.Info.ID, Lease: l})
	c.Grace = e.now.Add(grace)
	e.arm(c)
	e.openChild(c, nil)
}

// clientNets are the networks of the child that we open as subscriber.
func (c *conn) clientNets() (local, remote netip.Prefix, ok bool) {
	local, remote = c.Open.LocalNet, c.Open.RemoteNet
	if !local.IsValid() && c.Client.Lease.Address.IsValid() {
		local = netip.PrefixFrom(c.Client.Lease.Address, c.Client.Lease.Address.BitLen())
	}
	if !remote.IsValid() {
		remote = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return local, remote, local.IsValid()
}

// netID is a network as a selector: a single address is named as one, which is
// what all clients do.
func netID(n netip.Prefix) []byte {
	if n.IsSingleIP() {
		return isakmp.AddrID(n.Addr(), 0, 0).Payload().Body
	}
	return isakmp.PrefixID(n, 0, 0).Payload().Body
}
