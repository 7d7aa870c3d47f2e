package kernel

import (
	"cmp"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/subscriber"
	"vrgate/vr"
	"vrgate/xfrm"
)

// static is one static tunnel in the kernel: its interface, its policies, and which connection carries it. Everything of it is in the
// namespace of this router, the transport router, but the interface, which lives in the terminating router's.
type static struct {
	name string

	// mu is held while its kernel objects change; dataplane.mu may be taken within. It guards what follows.
	mu     sync.Mutex
	closed bool // it is not configured any more
	config config.StaticTunnel
	// link is the interface of mode route, nil while there is none; router is the one in which it lives, spec what it was made of.
	link   *vr.Tunnel
	router *vr.Router
	spec   vr.TunnelSpec
	// ifID is the number of the last link, 0 while there was none: policies and SAs are tied to it, and stay when the link goes.
	ifID     uint32
	policies map[xfrm.Slot]xfrm.Policy // that are in the kernel; guarded by books.changing too
	carried
	err  error  // why not everything is as configured
	told string // the reason that was last told, empty for none
	// spent is what connections that are over have carried. dataplane.mu guards it.
	spent subscriber.Counters
	// asked is when it was last told that a packet wants to be sent.
	asked time.Time
}

// carried says which connection's SAs send a static tunnel's packets.
type carried struct {
	conn ike.ConnID // 0: none
	idle uint32     // reqid by which the kernel asks for SAs where there are none
	// remote is the peer of the last that has carried it.
	remote netip.Addr
	since  time.Time
}

var (
	errNoStatic = &controlplane.DataplaneError{Reason: "unknown-tunnel", Text: "the static tunnel is not configured"}
	errNoLink   = &controlplane.DataplaneError{Reason: subscriber.ReasonInterface, Text: "the static tunnel's interface is not there"}
)

// static returns the tunnel with a name, nil if there is none.
func (d *dataplane) static(name string) *static {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.statics[name]
}

// allStatics are the tunnels in the order of the configuration.
func (d *dataplane) allStatics() []*static {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.staticOrder)
}

// setStatics brings the tunnels of a configuration into the kernel. What is not as it should be is tried again by tend; no failure of one tunnel
// is one of the router. d.changing is held, or nobody else knows the router.
func (d *dataplane) setStatics(c *config.Router) {
	keep := map[string]bool{}
	for i := range c.StaticTunnels {
		keep[c.StaticTunnels[i].Name] = true
	}
	for _, s := range d.allStatics() {
		if !keep[s.name] {
			_ = d.closeStatic(s) // what is left is without a way in
		}
	}
	statics, order, changed := map[string]*static{}, make([]*static, 0, len(c.StaticTunnels)), []*static(nil)
	for i := range c.StaticTunnels {
		t := &c.StaticTunnels[i]
		s := d.static(t.Name)
		if s == nil {
			s = &static{name: t.Name, policies: map[xfrm.Slot]xfrm.Policy{}}
			s.idle, s.config = d.newIdle(s), *t
			changed = append(changed, s)
		} else if d.takeOver(s, t) {
			changed = append(changed, s)
		}
		statics[t.Name], order = s, append(order, s)
	}
	d.mu.Lock()
	d.statics, d.staticOrder = statics, order
	d.mu.Unlock()
	d.ensureStatics(changed)
	d.watchWanted(slices.ContainsFunc(c.StaticTunnels, func(t config.StaticTunnel) bool { return t.Start == config.StartOnDemand }))
}

// ensureAtOnce bounds the interfaces that are made while a configuration is taken over: of thousands that would be minutes. tend makes
// the others, or whoever needs one before.
const ensureAtOnce = 200

// ensureStatics makes the kernel objects of tunnels that are new or have changed. Policies without an interface are made in any case: they keep
// packets from leaving in clear.
func (d *dataplane) ensureStatics(changed []*static) {
	interfaces := 0
	for _, s := range changed {
		s.mu.Lock()
		route := s.config.Mode == config.StaticRoute
		s.mu.Unlock()
		if route {
			interfaces++
		}
		if !route || interfaces <= ensureAtOnce {
			d.ensureStatic(s)
			continue
		}
		d.mu.Lock()
		d.dirty[s] = true
		d.mu.Unlock()
	}
	wake(d.wake)
}

// takeOver gives a tunnel another configuration and says whether it is another. An interface that cannot stay goes at once, so that another
// tunnel may have its name.
func (d *dataplane) takeOver(s *static, t *config.StaticTunnel) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.config
	s.config = *t
	if before.Mode != t.Mode || before.Terminating != t.Terminating || before.Interface.Name != t.Interface.Name {
		s.err = d.unlink(s)
	}
	return !reflect.DeepEqual(before, *t)
}

// closeStatic removes everything of a tunnel. SAs that are left are removed by who installed them; without policies nothing passes them.
func (d *dataplane) closeStatic(s *static) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	err := errors.Join(d.unlink(s), d.bring(s, nil))
	d.mu.Lock()
	delete(d.idle, s.idle)
	delete(d.dirty, s)
	if d.statics[s.name] == s {
		delete(d.statics, s.name)
	}
	d.mu.Unlock()
	return err
}

// closeStatics removes all tunnels, and what asks hosts behind others'. Nothing else of the router runs, but others may ask by it still.
func (d *dataplane) closeStatics() error {
	var err error
	d.mu.Lock()
	prober := d.prober // nobody makes one any more
	d.mu.Unlock()
	if prober != nil {
		err = prober.Close()
	}
	for _, s := range d.allStatics() {
		err = errors.Join(err, d.closeStatic(s))
	}
	return err
}

// ensureStatic makes a tunnel's kernel objects what they should be, and tells when that fails, and when it has got better.
func (d *dataplane) ensureStatic(s *static) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	d.ensure(s)
	state := s.state()
	news := controlplane.LinkState{
		Name: cmp.Or(s.config.Interface.Name, s.name), Status: controlplane.LinkUp, Reason: state.Reason, Text: state.Text, Index: state.Index, MTU: s.config.Interface.MTU,
	}
	changed := s.told != state.Reason
	s.told = state.Reason
	s.mu.Unlock()
	if !changed {
		return
	}
	if news.Reason != "" && news.Index == 0 {
		news.Status = controlplane.LinkMissing
	}
	d.in.LinkChanged(news)
}

// ensure is ensureStatic with s.mu held.
func (d *dataplane) ensure(s *static) {
	s.err = d.link(s)
	if err := d.bringPolicies(s); s.err == nil {
		s.err = err
	}
}

// ready makes sure that SAs can be tied to a tunnel.
func (d *dataplane) ready(s *static) error {
	if s.closed {
		return errNoStatic
	}
	if s.config.Mode != config.StaticRoute || s.link != nil && !s.link.Lost() {
		return nil
	}
	d.ensure(s)
	switch {
	case s.link != nil:
		return nil
	case s.err != nil:
		return s.err
	}
	return errNoLink
}

// tunnelSpec is the interface of a tunnel.
func tunnelSpec(t *config.StaticTunnel) vr.TunnelSpec {
	i := &t.Interface
	s := vr.TunnelSpec{Tunnel: t.Name, Name: i.Name, MTU: i.MTU, Addresses: i.Addresses, Policy: vr.LinkPolicy{ClampMSS: i.ClampMSS}}
	for _, r := range i.Routes {
		s.Routes = append(s.Routes, vr.TunnelRoute{Network: r.Network, Metric: r.Metric})
	}
	return s
}

// link brings a tunnel's interface to where and what it should be; of another mode it has none.
func (d *dataplane) link(s *static) error {
	if s.config.Mode != config.StaticRoute {
		s.ifID = 0
		return d.unlink(s)
	}
	end, runs := d.kernel.router(s.config.Terminating)
	if s.link != nil && (!runs || end.vr != s.router || s.link.Lost()) {
		if err := d.unlink(s); err != nil {
			return err
		}
	}
	if !runs {
		return noTerminating(s.config.Terminating)
	}
	spec := tunnelSpec(&s.config)
	if s.link != nil {
		if reflect.DeepEqual(spec, s.spec) {
			return s.rest()
		}
		err := s.link.Set(spec)
		var bad *vr.BadSpec
		switch {
		case err == nil:
			s.spec = spec
			return s.rest()
		case errors.As(err, &bad):
			return err
		case !errors.Is(err, vr.ErrOther):
			s.spec = spec
			return err
		}
		if err := d.unlink(s); err != nil {
			return err
		}
	}
	link, err := d.vr.Tunnel(end.vr, spec)
	if err != nil {
		return err
	}
	if err := d.poller.Add(link.FD(), func() { d.staticNews(s, link) }); err != nil {
		return errors.Join(err, link.Close())
	}
	s.link, s.router, s.spec = link, end.vr, spec
	if s.ifID != 0 && s.ifID != link.IfID() {
		d.orphanSAs(s)
	}
	s.ifID = link.IfID()
	return s.rest()
}

// unlink removes a tunnel's interface.
func (d *dataplane) unlink(s *static) error {
	if s.link == nil {
		return nil
	}
	link := s.link
	s.link, s.router = nil, nil
	d.poller.Remove(link.FD())
	return link.Close()
}

// rest has the interface be as it is to be while nothing carries the tunnel, or while something does, and mends it. What would dial the tunnel
// is lost without a word until the tunnel is up, as it is in mode policy, so that TCP tries again; of a tunnel that is not dialled for it hosts are
// told at once that it is down.
func (s *static) rest() error {
	if s.link == nil {
		return nil
	}
	down := s.conn == 0
	return s.link.Rest(vr.TunnelRest{Withdrawn: down && s.config.Interface.Withdraw, Silent: down && s.config.Start == config.StartOnDemand})
}

// staticNews has tend look after an interface to which something has happened. It is called by the poller.
func (d *dataplane) staticNews(s *static, link *vr.Tunnel) {
	_ = link.Lost() // takes the messages
	d.stir(s)
}

// stir has tend look after a tunnel.
func (d *dataplane) stir(s *static) {
	d.mu.Lock()
	d.dirty[s] = true
	d.mu.Unlock()
	wake(d.wake)
}

// mendAtOnce bounds the tunnels that are looked at without need in one go; each takes a few questions to the kernel.
const mendAtOnce = 200

// tendStatics looks after tunnels to which something has happened, and one after the other after all.
func (d *dataplane) tendStatics(next int) int {
	all := d.allStatics()
	d.mu.Lock()
	dirty := d.dirty
	d.dirty = map[*static]bool{}
	d.mu.Unlock()
	for i, s := range all {
		if d.life.Err() != nil {
			return 0
		}
		regular := (i-next+len(all))%len(all) < mendAtOnce
		if regular || dirty[s] || d.troubled(s) {
			d.ensureStatic(s)
		}
	}
	if len(all) == 0 {
		return 0
	}
	return (next + mendAtOnce) % len(all)
}

// troubled says whether something is wrong with a tunnel, or its terminating router is not the one that it was.
func (d *dataplane) troubled(s *static) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.config.Mode != config.StaticRoute {
		return s.err != nil
	}
	end, runs := d.kernel.router(s.config.Terminating)
	return s.link == nil || !runs || end.vr != s.router
}

// StaticTunnels implements [controlplane.TunnelPlane].
func (d *dataplane) StaticTunnels() ([]controlplane.TunnelState, error) {
	all := d.allStatics()
	out := make([]controlplane.TunnelState, 0, len(all))
	for _, s := range all {
		s.mu.Lock()
		state := s.state()
		if s.link != nil {
			if t, err := s.link.Traffic(); err == nil { // else it is about to be told of
				state.Traffic = controlplane.LinkTraffic(t)
			}
		}
		s.mu.Unlock()
		out = append(out, state)
	}
	return out, nil
}

// state is what is known of a tunnel without asking the kernel.
func (s *static) state() controlplane.TunnelState {
	out := controlplane.TunnelState{Tunnel: s.name, Conn: s.conn, Since: s.since}
	if s.link != nil {
		out.Index = s.link.Index()
	}
	if s.err == nil {
		return out
	}
	var link *vr.LinkError
	if errors.As(s.err, &link) {
		out.Reason, out.Text = string(link.Reason), link.Text
		return out
	}
	var e *controlplane.DataplaneError
	if errors.As(typed(s.err), &e) {
		out.Reason, out.Text = string(e.Reason), e.Error()
	}
	return out
}
