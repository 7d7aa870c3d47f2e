package kernel

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/xfrm"
)

// CarryTunnel implements [controlplane.TunnelPlane].
func (d *dataplane) CarryTunnel(f controlplane.CarryTunnel) error {
	s := d.static(f.Tunnel)
	if s == nil {
		return errNoStatic
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errNoStatic
	}
	return typed(d.carry(s, f.Conn, f.Remote))
}

// carry has a connection carry a tunnel, 0: none. With an error it is carried as before. s.mu is held.
func (d *dataplane) carry(s *static, conn ike.ConnID, remote netip.Addr) error {
	if conn != 0 {
		if err := d.ready(s); err != nil {
			return err
		}
	}
	before := s.carried
	s.conn, s.since = conn, time.Now()
	if conn != 0 {
		s.remote = remote
	} else {
		s.idle = d.newIdle(s) // so that the kernel asks again at once
		if err := s.rest(); err != nil && s.err == nil {
			s.err = err // tend tries again
		}
	}
	if err := d.bringPolicies(s); err != nil {
		if conn == 0 {
			d.forgetIdle(s.idle)
		}
		s.carried = before
		_ = d.bringPolicies(s)
		_ = s.rest()
		return err
	}
	if conn == 0 {
		d.forgetIdle(before.idle)
		return nil
	}
	if err := s.rest(); err != nil && s.err == nil {
		s.err = err
	}
	return nil
}

// moveStatic has what a connection carries go to its peer's new address. Port numbers are the SAs'.
func (d *dataplane) moveStatic(conn ike.ConnID, remote netip.Addr) error {
	s := d.staticOfConn(conn)
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.conn != conn || s.remote == remote {
		return nil
	}
	s.remote = remote
	return d.bringPolicies(s)
}

// newIdle returns a reqid that no SA and no other tunnel has, by which the kernel asks for SAs of a tunnel.
func (d *dataplane) newIdle(s *static) uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		d.lastIdle++
		reqid := xfrm.Idle(d.lastIdle)
		if reqid == 0 {
			d.lastIdle = 0
			continue
		}
		if d.idle[reqid] == nil {
			d.idle[reqid] = s
			return reqid
		}
	}
}

func (d *dataplane) forgetIdle(reqid uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.idle, reqid)
}

// wantedPause is the least time between two reports that one tunnel is wanted.
const wantedPause = time.Second

// watchWanted listens to what the kernel wants to send into tunnels that nothing carries, or does so no more.
func (d *dataplane) watchWanted(on bool) {
	if on == (d.stopWanted != nil) {
		return
	}
	if !on {
		d.stopWanted()
		d.stopWanted = nil
		return
	}
	ctx, cancel := context.WithCancel(d.life)
	d.stopWanted = cancel
	d.running.Go(func() {
		for ctx.Err() == nil {
			_ = d.xfrm.WatchAcquires(ctx, nil, d.wanted)
			select {
			case <-ctx.Done():
			case <-time.After(watchPause):
			}
		}
	})
}

// wanted tells of a packet for a tunnel that starts on demand. Another virtual router of the namespace may have asked the kernel
// to be told, and be meant.
func (d *dataplane) wanted(a xfrm.Acquire) {
	if !slices.Contains(d.servers, a.Policy.Local) {
		return
	}
	d.mu.Lock()
	s := d.idle[a.Policy.Reqid]
	d.mu.Unlock()
	if s == nil {
		return
	}
	now := time.Now()
	s.mu.Lock()
	tell := !s.closed && s.conn == 0 && s.config.Start == config.StartOnDemand && now.Sub(s.asked) >= wantedPause
	if tell {
		s.asked = now
	}
	s.mu.Unlock()
	if tell {
		d.in.TunnelWanted(s.name)
	}
}
