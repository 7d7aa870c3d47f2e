package fakekernel

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/site"
	"vrgate/controlplane/subscriber"
)

// InnerWire is a Wire that takes what passes static tunnels; from one that does not it goes nowhere.
type InnerWire interface {
	// SendInner carries a packet through an outbound SA. It is called outside of all locks and must not block.
	SendInner(router string, sa ike.SA, p Packet)
}

// Packet is what static tunnels carry.
type Packet struct {
	Source, Destination         netip.Addr
	Protocol                    uint8
	SourcePort, DestinationPort uint16
	Text                        string
}

// Protocols of packets that hosts answer by themselves: what is sent to them comes back with "re: " before its text.
const (
	ICMP = 1
	TCP  = 6
)

// Fate is what has become of a packet.
type Fate string

// The possibilities.
const (
	Sent    Fate = "sent"
	NoRoute Fate = "no-route" // no tunnel is for it
	Dropped Fate = "dropped"  // its tunnel carries nothing
)

// statics is what a virtual router has of static tunnels.
type statics struct {
	carry  map[string]controlplane.CarryTunnel
	since  map[string]time.Time
	spent  map[ike.ConnID]*staticUse // by connections, from the first SA on
	total  map[string]subscriber.Counters
	probes map[probeKey]*probing
	beats  int // NAT keepalives
}

type probeKey struct {
	tunnel string
	seq    uint64
}

// probing is a probe that waits for its answer.
// staticUse is what a connection has carried, and for which tunnel.
type staticUse struct {
	tunnel string
	subscriber.Counters
}

type probing struct {
	answer func(site.CheckResult)
	began  time.Time
	timer  *time.Timer
}

func newStatics() statics {
	return statics{
		carry: map[string]controlplane.CarryTunnel{}, since: map[string]time.Time{}, probes: map[probeKey]*probing{},
		spent: map[ike.ConnID]*staticUse{}, total: map[string]subscriber.Counters{},
	}
}

// static is a tunnel of the configuration, nil if there is none of that name.
func (d *plane) static(name string) *config.StaticTunnel {
	for i := range d.config.StaticTunnels {
		if t := &d.config.StaticTunnels[i]; t.Name == name {
			return t
		}
	}
	return nil
}

// mayInstall says whether there is something that an SA of a static tunnel can be tied to.
func (d *plane) mayInstall(f ike.SA) error {
	t := d.static(f.Static)
	if t == nil || !slices.ContainsFunc(t.Networks, func(n config.StaticNetwork) bool { return n.Name == f.Child }) {
		return &controlplane.DataplaneError{Reason: "no-tunnel", Text: "there are no policies of that tunnel"}
	}
	if t.Mode == config.StaticRoute && d.kernel.routers[t.Terminating] == nil {
		return &controlplane.DataplaneError{Reason: "no-terminating-router", Text: "it does not run"}
	}
	if d.statics.spent[f.Conn] == nil {
		d.statics.spent[f.Conn] = &staticUse{tunnel: f.Static}
	}
	return nil
}

// forgetStatics forgets what is carried for tunnels that are configured no more.
func (d *plane) forgetStatics() {
	maps.DeleteFunc(d.statics.carry, func(name string, _ controlplane.CarryTunnel) bool { return d.static(name) == nil })
	maps.DeleteFunc(d.statics.total, func(name string, _ subscriber.Counters) bool { return d.static(name) == nil })
}

// CarryTunnel implements [controlplane.TunnelPlane].
func (d *plane) CarryTunnel(f controlplane.CarryTunnel) error {
	by := "nobody"
	if f.Conn != 0 {
		by = f.Remote.String()
	}
	return d.do(fmt.Sprintf("carry %s by %s", f.Tunnel, by), func() error {
		t := d.static(f.Tunnel)
		switch {
		case t == nil && f.Conn == 0:
			return nil
		case t == nil:
			return &controlplane.DataplaneError{Reason: "no-tunnel", Text: "it is configured no more"}
		case f.Conn != 0 && d.outbound(f.Conn, "") == nil:
			return misuse("tunnel %s carried by connection %d, which has no SA", f.Tunnel, f.Conn)
		}
		d.statics.carry[f.Tunnel], d.statics.since[f.Tunnel] = f, time.Now()
		return nil
	})
}

// outbound is the newest outbound SA of a connection, for a pair of networks or any.
func (d *plane) outbound(conn ike.ConnID, child string) *sa {
	var best *sa
	for key, s := range d.sas {
		if key.Dir == ike.Outbound && s.Conn == conn && !s.leaked && (child == "" || s.Child == child) && (best == nil || s.serial > best.serial) {
			best = s
		}
	}
	return best
}

// ExpireStatic ends the outbound SA of a pair of networks by which a static tunnel of a router is carried, as its hard lifetime
// does; false: there is none.
func (k *Kernel) ExpireStatic(router, tunnel, networks string) bool {
	k.mu.Lock()
	d := k.routers[router]
	var found *sa
	if d != nil {
		found = d.outbound(d.statics.carry[tunnel].Conn, networks)
	}
	k.mu.Unlock()
	if found == nil {
		return false
	}
	d.in.SAExpired(found.SPI, ike.Outbound, true)
	return true
}

// StaticTunnels implements [controlplane.TunnelPlane].
func (d *plane) StaticTunnels() ([]controlplane.TunnelState, error) {
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	var out []controlplane.TunnelState
	for i := range d.config.StaticTunnels {
		t := &d.config.StaticTunnels[i]
		s := controlplane.TunnelState{Tunnel: t.Name, Conn: d.statics.carry[t.Name].Conn, Since: d.statics.since[t.Name]}
		switch {
		case t.Mode != config.StaticRoute:
		case d.kernel.routers[t.Terminating] == nil:
			s.Reason, s.Text = "no-terminating-router", "it does not run"
		default:
			s.Index, s.Traffic = i+1, linkTraffic
		}
		out = append(out, s)
	}
	return out, nil
}

// CloseStatic implements [controlplane.TunnelPlane].
func (d *plane) CloseStatic(conn ike.ConnID) {
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	for _, s := range d.sas {
		if s.Conn == conn && !s.leaked {
			panic(fmt.Sprintf("fakekernel: connection %d closed before its SAs", conn))
		}
	}
	delete(d.statics.spent, conn)
}

// StaticTraffic implements [controlplane.TunnelPlane].
func (d *plane) StaticTraffic() map[string]subscriber.Counters {
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	return maps.Clone(d.statics.total)
}

// KeepNAT implements [controlplane.TunnelPlane].
func (d *plane) KeepNAT(ike.KeepNAT) error {
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	d.statics.beats++
	return nil
}

// Keepalives is how many NAT keepalives a virtual router has sent.
func (k *Kernel) Keepalives(router string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	if d := k.routers[router]; d != nil {
		return d.statics.beats
	}
	return 0
}

// Probe implements [controlplane.TunnelPlane]: the check's target answers if it is a host at the far end of the tunnel.
func (d *plane) Probe(p site.Probe, answer func(site.CheckResult)) {
	d.kernel.mu.Lock()
	key := probeKey{p.Tunnel, p.Seq}
	x := &probing{answer: answer, began: time.Now()}
	t := d.static(p.Tunnel)
	if t == nil || d.closed {
		d.kernel.mu.Unlock()
		answer(site.CheckResult{Tunnel: p.Tunnel, Seq: p.Seq, Text: "there is no such tunnel"})
		return
	}
	d.statics.probes[key] = x
	x.timer = time.AfterFunc(p.Check.Timeout, func() { d.probed(key, false, "no answer") })
	packet := Packet{
		Source: p.Check.Source, Destination: p.Check.Target, Protocol: ICMP, DestinationPort: p.Check.Port, Text: fmt.Sprintf("probe %s %d", p.Tunnel, p.Seq),
	}
	if p.Check.Port != 0 {
		packet.Protocol = TCP
	}
	if !packet.Source.IsValid() {
		packet.Source = t.Networks[0].Local.Addr().Next()
		if len(t.Interface.Addresses) > 0 {
			packet.Source = t.Interface.Addresses[0].Addr()
		}
	}
	end := t.Terminating
	d.kernel.mu.Unlock()
	d.kernel.Send(end, packet)
}

// probed answers a probe, once.
func (d *plane) probed(key probeKey, ok bool, text string) {
	d.kernel.mu.Lock()
	x := d.statics.probes[key]
	delete(d.statics.probes, key)
	d.kernel.mu.Unlock()
	if x != nil {
		x.timer.Stop()
		x.answer(site.CheckResult{Tunnel: key.tunnel, Seq: key.seq, OK: ok, RTT: time.Since(x.began), Text: text})
	}
}

// SetName gives a name addresses; none: it does not exist.
func (k *Kernel) SetName(name string, addrs ...netip.Addr) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.names[name] = addrs
}

// Lookup implements [controlplane.TunnelPlane].
func (d *plane) Lookup(_ context.Context, _ []netip.Addr, name string) ([]netip.Addr, error) {
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	if addrs := d.kernel.names[name]; len(addrs) > 0 {
		return slices.Clone(addrs), nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// AddHost puts a host with an address into the private network of a virtual router.
func (k *Kernel) AddHost(router string, addr netip.Addr) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hosts[hostKey{router, addr}] = true
}

// RemoveHost takes it away.
func (k *Kernel) RemoveHost(router string, addr netip.Addr) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.hosts, hostKey{router, addr})
}

type hostKey struct {
	router string
	addr   netip.Addr
}

// Received returns the packets that hosts of a virtual router have received since the last time, answers to probes not among
// them.
func (k *Kernel) Received(router string) []Packet {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := k.received[router]
	delete(k.received, router)
	return out
}

// Send sends a packet of a host in the private network of a virtual router.
func (k *Kernel) Send(router string, p Packet) Fate {
	k.mu.Lock()
	d, t, n := k.tunnelFor(router, p)
	if t == nil {
		k.mu.Unlock()
		return NoRoute
	}
	var out *sa
	conn := d.statics.carry[t.Name].Conn
	if conn != 0 {
		out = d.outbound(conn, n.Name)
	}
	if out == nil {
		k.mu.Unlock()
		if conn == 0 && t.Start == config.StartOnDemand {
			d.in.TunnelWanted(t.Name)
		}
		return Dropped
	}
	d.count(conn, subscriber.Counters{OutPackets: 1})
	through := out.SA
	k.mu.Unlock()
	if w, ok := k.wire.(InnerWire); ok {
		w.SendInner(d.name, through, p)
	}
	return Sent
}

// count adds to what a connection has carried.
func (d *plane) count(conn ike.ConnID, more subscriber.Counters) {
	if u := d.statics.spent[conn]; u != nil {
		u.Counters = u.Plus(more)
		d.statics.total[u.tunnel] = d.statics.total[u.tunnel].Plus(more)
	}
}

// tunnelFor is the tunnel whose policy a packet of a virtual router meets.
func (k *Kernel) tunnelFor(router string, p Packet) (*plane, *config.StaticTunnel, *config.StaticNetwork) {
	for _, name := range slices.Sorted(maps.Keys(k.routers)) {
		d := k.routers[name]
		for i := range d.config.StaticTunnels {
			t := &d.config.StaticTunnels[i]
			carry := d.statics.carry[t.Name]
			if t.Terminating != router || t.Interface.Withdraw && carry.Conn == 0 {
				continue
			}
			for n := range t.Networks {
				if sends(t, &t.Networks[n], p, carry) {
					return d, t, &t.Networks[n]
				}
			}
		}
	}
	return nil, nil, nil
}

// sends says whether a packet is for a pair of networks.
func sends(t *config.StaticTunnel, n *config.StaticNetwork, p Packet, carry controlplane.CarryTunnel) bool {
	if t.Mode == config.StaticTransport {
		return p.Protocol == n.Protocol && p.Source == t.LocalAddress && (carry.Conn == 0 || p.Destination == carry.Remote)
	}
	return n.Local.Contains(p.Source) && n.Remote.Contains(p.Destination) && (n.Protocol == 0 || n.Protocol == p.Protocol) &&
		(n.LocalPort == 0 || n.LocalPort == p.SourcePort) && (n.RemotePort == 0 || n.RemotePort == p.DestinationPort)
}

// ReceiveInner delivers a packet that came through the inbound SA spi of a static tunnel. Without the SA, or outside of its
// networks, it is dropped.
func (k *Kernel) ReceiveInner(router string, spi uint32, p Packet) {
	k.mu.Lock()
	d := k.routers[router]
	if d == nil {
		k.mu.Unlock()
		return
	}
	s := d.sas[controlplane.SAKey{Dir: ike.Inbound, SPI: spi}]
	if s == nil || s.leaked {
		k.mu.Unlock()
		return
	}
	t := d.static(s.Static)
	if t == nil || s.Tunnel && (!s.RemoteNet.Contains(p.Source) || !s.LocalNet.Contains(p.Destination)) || s.Protocol != 0 && s.Protocol != p.Protocol {
		k.mu.Unlock()
		return
	}
	d.count(s.Conn, subscriber.Counters{InPackets: 1})
	var key probeKey
	_, err := fmt.Sscanf(p.Text, "re: probe %s %d", &key.tunnel, &key.seq)
	isAnswer := err == nil && d.statics.probes[key] != nil
	there := k.hosts[hostKey{t.Terminating, p.Destination}]
	if there && !isAnswer {
		k.received[t.Terminating] = append(k.received[t.Terminating], p)
	}
	end := t.Terminating
	k.mu.Unlock()
	switch {
	case isAnswer:
		d.probed(key, true, "")
	case there && (p.Protocol == ICMP || p.Protocol == TCP) && !answered(p):
		k.Send(end, Packet{
			Source: p.Destination, Destination: p.Source, Protocol: p.Protocol, SourcePort: p.DestinationPort, DestinationPort: p.SourcePort, Text: "re: " + p.Text,
		})
	}
}

// answered says whether a packet is an answer itself.
func answered(p Packet) bool { return len(p.Text) > 4 && p.Text[:4] == "re: " }

// staticLines prints the tunnels.
func (d *plane) staticLines() []string {
	var out []string
	for i := range d.config.StaticTunnels {
		t := &d.config.StaticTunnels[i]
		by := "nobody"
		if c := d.statics.carry[t.Name]; c.Conn != 0 {
			if s := d.outbound(c.Conn, ""); s != nil {
				by = s.Remote.Addr().String()
			} else {
				by = "a connection without SA"
			}
		}
		out = append(out, fmt.Sprintf("static tunnel %s of %s carried by %s", t.Name, cmp.Or(t.Terminating, "nobody"), by))
	}
	return out
}

var _ controlplane.TunnelPlane = (*plane)(nil)
