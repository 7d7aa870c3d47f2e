package kernel

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/site"
	"vrgate/vr"
)

// Probe implements [controlplane.TunnelPlane]. The host is asked from within the terminating router, by the tunnel's interface if it has one.
// That a host refuses a TCP connection is an answer: it is there.
func (d *dataplane) Probe(p site.Probe, answer func(site.CheckResult)) {
	out := site.CheckResult{Tunnel: p.Tunnel, Seq: p.Seq}
	fail := func(err error) {
		out.Text = err.Error()
		answer(out)
	}
	s := d.static(p.Tunnel)
	if s == nil {
		fail(errNoStatic)
		return
	}
	s.mu.Lock()
	mode, terminating, device := s.config.Mode, s.config.Terminating, ""
	if s.link != nil {
		device = s.link.Name()
	}
	s.mu.Unlock()
	if mode == config.StaticRoute && device == "" {
		fail(errNoLink)
		return
	}
	end, runs := d.kernel.router(terminating)
	if !runs {
		fail(noTerminating(terminating))
		return
	}
	prober, err := end.prober()
	if err != nil {
		fail(err)
		return
	}
	spec := vr.ProbeSpec{Device: device, Target: p.Check.Target, Source: p.Check.Source, Port: p.Check.Port, Timeout: min(p.Check.Timeout, vr.MaxProbeTimeout)}
	prober.Probe(spec, func(rtt time.Duration, err error) {
		var refused *vr.ProbeError
		out.OK, out.RTT = err == nil || errors.As(err, &refused) && refused.Reason == vr.ProbeRefused, rtt
		if err != nil {
			out.Text = err.Error()
		}
		answer(out)
	})
}

// probing returns what asks hosts from within this router, made when it is first needed.
func (d *dataplane) probing() (*vr.Prober, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.prober != nil {
		return d.prober, nil
	}
	if d.life.Err() != nil {
		return nil, vr.ErrClosed // another virtual router asks, which has not learned yet
	}
	p, err := d.vr.NewProber(d.poller)
	if err == nil {
		d.prober = p
	}
	return p, err
}

// nameServerTimeout is how long one name server has for its answer, asked twice, before the next one is asked.
const nameServerTimeout = 5 * time.Second

// Lookup implements [controlplane.TunnelPlane].
func (d *dataplane) Lookup(ctx context.Context, servers []netip.Addr, name string) ([]netip.Addr, error) {
	if len(servers) == 0 {
		return net.DefaultResolver.LookupNetIP(ctx, "ip4", name)
	}
	var failed error
	for _, server := range servers {
		found, err := d.lookupAt(ctx, server, name)
		var dns *net.DNSError
		if err == nil || errors.As(err, &dns) && dns.IsNotFound || ctx.Err() != nil {
			return found, err
		}
		failed = err // that of the last one, whose answer is typed
	}
	return nil, failed
}

// lookupAt asks one name server.
func (d *dataplane) lookupAt(ctx context.Context, server netip.Addr, name string) ([]netip.Addr, error) {
	const portDNS = 53
	ctx, cancel := context.WithTimeout(ctx, nameServerTimeout)
	defer cancel()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return d.vr.Dial(ctx, network, netip.AddrPortFrom(server, portDNS).String())
	}}
	if name[len(name)-1] != '.' {
		name += "." // as it is: the system's search list is not the virtual router's
	}
	found, err := r.LookupNetIP(ctx, "ip4", name)
	for i := range found {
		found[i] = found[i].Unmap()
	}
	return found, err
}

// KeepNAT implements [controlplane.TunnelPlane]. The one byte has no marker, which the socket would put before it (RFC 3948 section 2.3).
func (d *dataplane) KeepNAT(f ike.KeepNAT) error {
	s := d.ike[netip.AddrPortFrom(f.Local.Addr(), vr.PortNATT)]
	if s == nil {
		return vr.ErrClosed
	}
	return s.Do(func(fd int) error {
		return unix.Sendto(fd, []byte{0xff}, unix.MSG_DONTWAIT, &unix.SockaddrInet4{Addr: f.Remote.Addr().As4(), Port: int(f.Remote.Port())})
	})
}
