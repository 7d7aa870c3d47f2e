// Package kernel joins the packages that touch the kernel (vr, xfrm, l2tpnl, pppd/unit) into
// the data plane that package controlplane asks for. It is the only place where they meet.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
	"vrgate/l2tpnl"
	"vrgate/pppd/unit"
	"vrgate/vr"
	"vrgate/xfrm"
)

// Kernel implements [controlplane.Kernel]. It knows
// every open virtual router, because a subscriber may end in another one than it came to.
type Kernel struct {
	mu      sync.Mutex
	routers map[string]place
	swept   map[string]bool // namespaces that hold nothing of routers no longer configured
	books   map[string]*books
}

// place is where a virtual router's subscriber links are made.
type place struct {
	vr     *vr.Router
	net    *unit.Net
	config *config.Router
	wake   chan<- struct{} // has it look at its links
	prober func() (*vr.Prober, error)
}

// New returns the kernel of this machine.
func New() *Kernel {
	return &Kernel{routers: map[string]place{}, swept: map[string]bool{}, books: map[string]*books{}}
}

func (k *Kernel) router(name string) (place, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, runs := k.routers[name]
	return p, runs
}

// noTerminating says that a subscriber's router is not there.
func noTerminating(name string) error {
	return &controlplane.DataplaneError{Reason: "no-terminating-router", Text: "virtual router " + name + " does not run"}
}

func (k *Kernel) add(name string, p place) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.routers[name] = p
	k.wakeTransport(name)
}

// wakeTransport has the routers look at their static tunnels that end in a router which has come or gone. k.mu is held.
func (k *Kernel) wakeTransport(name string) {
	for _, p := range k.routers {
		if slices.ContainsFunc(p.config.StaticTunnels, func(t config.StaticTunnel) bool { return t.Terminating == name }) {
			wake(p.wake)
		}
	}
}

// reconfigure gives a router that runs another configuration.
func (k *Kernel) reconfigure(name string, c *config.Router) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.routers[name]
	p.config = c
	k.routers[name] = p
}

func (k *Kernel) remove(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.routers, name)
	k.wakeTransport(name)
}

// Open implements [controlplane.Kernel].
func (k *Kernel) Open(cfg *config.Config, c *config.Router, in controlplane.Inlet) (controlplane.Dataplane, error) {
	d := &dataplane{
		kernel: k, in: in, name: c.Name, create: c.Namespace.Create, books: k.booksOf(c.Namespace.Name), doubtful: make(chan struct{}, 1), ike: map[netip.AddrPort]*vr.Socket{},
		tunnels: map[l2tp.TunnelID]*tunnel{}, sessions: map[subscriber.ID]*session{}, bridges: map[subscriber.ID]*bridge{}, sas: map[xfrm.ID]ike.Direction{},
		accesses: map[subscriber.ID]*access{}, accessOf: map[ike.ConnID]*access{}, usage: map[ike.ConnID]*usage{}, links: map[linkKey]*vr.Access{}, wake: make(chan struct{}, 1),
		statics: map[string]*static{}, dirty: map[*static]bool{}, staticOf: map[ike.ConnID]*static{}, idle: map[uint32]*static{},
	}
	if err := k.sweep(cfg, c.Namespace.Name); err != nil {
		return nil, typed(err)
	}
	if err := d.open(cfg, c); err != nil {
		_ = d.Close() // undoes what was made; the first error is the one to report
		return nil, typed(err)
	}
	return d, nil
}

// sweep removes once what a crashed predecessor left in a namespace for virtual routers
// that are configured no more; those that are replace their own.
func (k *Kernel) sweep(cfg *config.Config, namespace string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.swept[namespace] {
		return nil
	}
	var keep []string
	for _, r := range cfg.Routers {
		keep = append(keep, r.Name)
	}
	if _, err := vr.Sweep(namespace, keep); err != nil {
		return err
	}
	k.swept[namespace] = true
	return nil
}

// routerSpec is the virtual router's desired place in the kernel.
func routerSpec(cfg *config.Config, c *config.Router) vr.Spec {
	s := vr.Spec{
		Name: c.Name, Namespace: c.Namespace.Name, Create: c.Namespace.Create, VRF: c.VRF.Device, Table: c.VRF.Table, Server: c.ServerAddresses,
		Links: linksOf(c),
	}
	for _, d := range c.Destinations {
		for _, h := range d.Hosts {
			s.PlainL2TP = s.PlainL2TP || !h.IPsecRequired
		}
	}
	for _, other := range cfg.Routers {
		for _, p := range other.IPProfiles {
			if p.Router != c.Name {
				continue
			}
			if !slices.Contains(s.Gateway, p.Unnumbered) {
				s.Gateway = append(s.Gateway, p.Unnumbered)
			}
			if p.OwnAddress && !slices.Contains(s.Own, p.Unnumbered) {
				s.Own = append(s.Own, p.Unnumbered)
			}
		}
	}
	return s
}

// Receiving: enough for a burst; a datagram of IKE or L2TP control is far smaller than 64 KiB
// but IKE without fragmentation may carry certificates.
const (
	receiveBatch = 32
	receiveSize  = 16 << 10
)

func (d *dataplane) open(cfg *config.Config, c *config.Router) error {
	var err error
	d.spec = routerSpec(cfg, c)
	d.spec.Find = d.kernel.find
	held, some := withheld(c, d.spec, nil)
	if d.vr, err = vr.Open(held); err != nil {
		return err
	}
	if d.net, err = unit.OpenNet(d.vr); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.life, d.cancel = ctx, cancel
	if d.poller, err = vr.NewPoller(); err != nil {
		return err
	}
	d.running.Go(func() {
		if err := d.poller.Run(ctx); err != nil && ctx.Err() == nil {
			panic(fmt.Sprintf("poller of %s: %v", c.Name, err)) // epoll cannot fail on a descriptor of ours
		}
	})
	d.kernel.add(c.Name, place{d.vr, d.net, c, d.wake, d.probing})
	d.running.Go(func() { d.tend(ctx) })
	d.wakePeers()
	if d.xfrm, err = xfrm.Open(d.vr.NetNS()); err != nil {
		return err
	}
	if len(c.ServerAddresses) == 0 {
		return nil // subscribers of others end here; nobody arrives
	}
	// What a crashed predecessor left, and only that: reqids of ours.
	// Another virtual router may share the namespace: only this one's addresses.
	for _, a := range c.ServerAddresses {
		if a.Is4() {
			d.servers = append(d.servers, a)
		}
	}
	if len(d.servers) > 0 {
		if _, err = d.xfrm.FlushOf(d.servers...); err != nil {
			return err
		}
		if _, err = d.xfrm.FlushPoliciesOf(d.servers...); err != nil {
			return err
		}
	}
	if err = xfrm.SetHashThresholds(d.vr.NetNS()); err != nil {
		return err
	}
	if d.l2tp, err = l2tpnl.Open(d.vr); err != nil {
		return err
	}
	d.books.join(d)
	if err := d.watch(ctx); err != nil {
		return err
	}
	d.running.Go(func() { d.keepBooks(ctx) })
	for _, a := range c.ServerAddresses {
		for _, port := range ikePorts(a) {
			s, err := d.vr.ListenIKE(a, port, port == vr.PortNATT)
			if err != nil {
				return err
			}
			d.ike[netip.AddrPortFrom(a, port)] = s
			if err := d.receive(s, func(g vr.Datagram) {
				d.in.IKEPacket(netip.AddrPortFrom(a, port), g.Remote, port == vr.PortNATT, g.Data)
			}); err != nil {
				return err
			}
		}
		s, err := d.vr.ListenL2TP(a)
		if err != nil {
			return err
		}
		d.listeners = append(d.listeners, s)
		if err := d.receive(s, func(g vr.Datagram) {
			d.in.L2TPPacket(0, netip.AddrPortFrom(a, vr.PortL2TP), g.Remote, clientOf(g.Mark), g.Data)
		}); err != nil {
			return err
		}
	}
	d.setStatics(c)
	if some {
		return d.vr.Set(d.spec)
	}
	return nil
}

// ikePorts are those on which IKE is served at an address: it is not over IPv6.
func ikePorts(a netip.Addr) []uint16 {
	if !a.Is4() {
		return nil
	}
	return []uint16{vr.PortIKE, vr.PortNATT}
}

// clientOf is the connection that a mark names, 0 when it names none.
func clientOf(mark uint32) l2tp.ConnID {
	if !vr.IsClient(mark) {
		return 0
	}
	return l2tp.ConnID(xfrm.Conn(mark))
}

// receive delivers a socket's datagrams. All of a router's sockets share one goroutine, the
// poller's, and therefore one batch.
func (d *dataplane) receive(s *vr.Socket, deliver func(vr.Datagram)) error {
	return d.poller.Add(s.FD(), func() {
		for {
			got, err := s.ReadFrom(d.batch())
			for _, g := range got {
				deliver(g)
			}
			if err != nil || len(got) < receiveBatch {
				return
			}
		}
	})
}

func (d *dataplane) batch() *vr.Batch {
	if d.received == nil {
		d.received = vr.NewBatch(receiveBatch, receiveSize)
	}
	return d.received
}

// watchPause is between attempts to listen to the kernel's IPsec events again.
const watchPause = time.Second

// watch listens to the kernel's IPsec events until ctx ends and returns when it does so for
// the first time, or cannot. Later failures are made up for: listen again, compare.
func (d *dataplane) watch(ctx context.Context) error {
	watching := make(chan struct{})
	var once sync.Once
	ready := func() { once.Do(func() { close(watching) }) }
	first := make(chan error, 1)
	d.running.Go(func() {
		err := d.xfrm.Watch(ctx, ready, d.saEvent)
		first <- err
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(watchPause):
				_ = d.xfrm.Watch(ctx, d.doubt, d.saEvent)
			}
		}
	})
	select {
	case <-watching:
		return nil
	case err := <-first:
		return err
	}
}

// saEvent passes on what the kernel did to SAs of ours.
func (d *dataplane) saEvent(ev xfrm.Event) {
	switch ev := ev.(type) {
	case xfrm.Expire:
		if dir, ours := d.direction(ev.ID); ours {
			if ev.Hard {
				d.noteExpired(ev)
			}
			d.in.SAExpired(ev.SPI, dir, ev.Hard)
		}
	case xfrm.Mapping:
		if _, ours := d.direction(ev.ID); ours {
			d.in.PeerMoved(ev.SPI, ev.New)
		}
	case xfrm.Resync, xfrm.Flushed:
		d.doubt()
	}
}

// direction finds an SA of this router; those of another in the namespace are not its own.
func (d *dataplane) direction(id xfrm.ID) (ike.Direction, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, ours := d.sas[id]
	return dir, ours
}

// typed gives an error of a kernel package its reason and sentence.
func typed(err error) error {
	if err == nil {
		return nil
	}
	var known *controlplane.DataplaneError
	if errors.As(err, &known) {
		return known
	}
	out := &controlplane.DataplaneError{Err: err}
	var link *vr.LinkError
	var missing *vr.MissingFeature
	var address *vr.NoAddress
	var namespace *vr.NoNamespace
	var spec *vr.BadSpec
	switch {
	case errors.As(err, &link): // before what follows from it
		out.Reason, out.Text = subscriber.Reason(link.Reason), "a link that the virtual router needs is not there"
	case errors.As(err, &missing):
		out.Reason, out.Text = "kernel-feature-missing", "the kernel lacks something vrgate needs"
	case errors.As(err, &address):
		out.Reason, out.Text = "no-server-address", "a server address is not configured on this host"
	case errors.As(err, &namespace):
		out.Reason, out.Text = "no-namespace", "the network namespace does not exist"
	case errors.As(err, &spec):
		out.Reason, out.Text = "bad-router", "the virtual router cannot exist like this"
	case errors.Is(err, vr.ErrPermission):
		out.Reason, out.Text = "no-permission", "run as root or with the capabilities of the systemd unit"
	case errors.Is(err, vr.ErrInUse):
		out.Reason, out.Text = "port-in-use", "another program listens on a port of IKE or L2TP; stop it"
	case errors.Is(err, vr.ErrExists):
		out.Reason, out.Text = "duplicate-address", "the address is routed already in the terminating virtual router"
	case errors.Is(err, xfrm.ErrExists):
		out.Reason, out.Text = "spi-collision", "the peer's SPI is in use; it will try again with another"
	default:
		out.Reason, out.Text = subscriber.ReasonKernel, "the kernel refused"
	}
	return out
}
