package controlplane

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/site"
)

// simSites are machines that have static tunnels with each other, on the network of a simulated world. One of them may be
// the server of its clients.
type simSites struct {
	w      *simWorld
	nodes  map[netip.Addr]*simServer // by their own addresses
	names  []*simServer              // in the order in which they were made
	deaf   map[netip.Addr]bool       // own addresses to and from which nothing passes
	closed map[netip.Addr]bool       // own addresses whose sockets are closed
	nat    *simNAT
	dns    map[string][]netip.Addr
	mute   bool // name servers say nothing
	// quiet: hosts behind the gateways do not answer probes.
	quiet bool
	fail  float64 // share of the kernel calls for static tunnels that fail
	slow  time.Duration
	next  uint64 // packet
	got   map[uint64]bool
}

// simNAT is in front of one node: others see its public address and ports of the NAT's choice.
type simNAT struct {
	inside, public netip.Addr
	ports          map[uint16]uint16 // public ones, by its own
	last           uint16
}

// rebind forgets all mappings; the next packet from inside makes another.
func (n *simNAT) rebind() { n.ports = map[uint16]uint16{} }

func (n *simNAT) outside(from netip.AddrPort) netip.AddrPort {
	if from.Addr() != n.inside {
		return from
	}
	if n.ports[from.Port()] == 0 {
		n.last++
		n.ports[from.Port()] = n.last
	}
	return netip.AddrPortFrom(n.public, n.ports[from.Port()])
}

// within finds where what is sent to the public address goes; false: nowhere.
func (n *simNAT) within(to netip.AddrPort) (netip.AddrPort, bool) {
	if to.Addr() != n.public {
		return to, true
	}
	for own, public := range n.ports {
		if public == to.Port() {
			return netip.AddrPortFrom(n.inside, own), true
		}
	}
	return to, false
}

// carry has something arrive at another node, if the network likes, with the addresses that it has there.
func (x *simSites) carry(src, dst netip.AddrPort, arrive func(at *simServer, src, dst netip.AddrPort)) {
	own := src.Addr()
	src = x.nat.outside(src)
	if x.deaf[own] || x.closed[own] {
		return
	}
	x.w.send(toServer, func() {
		to, there := x.nat.within(dst)
		if n := x.nodes[to.Addr()]; there && n != nil && !x.deaf[to.Addr()] && !x.closed[to.Addr()] {
			arrive(n, src, to)
		}
	})
}

// simStatics is what the kernel of a node has of static tunnels, by the rules of the real one: work for one tunnel is done in
// order, nothing leaves without an SA of the connection that carries, and nothing gets in but by one.
type simStatics struct {
	x       *simSites
	s       *simServer
	name    string
	addr    netip.Addr
	base    machineConfig            // without static tunnels
	tunnels []config.StaticTunnel    // configured
	sas     map[SAKey]*ike.SA        // there are
	order   map[uint32]int           // of outbound SAs, by SPI
	carry   map[string]ike.ConnID    // in the kernel
	ordered map[string]ike.ConnID    // by the last CarryTunnel
	failed  map[string]bool          // that has failed
	open    map[ike.ConnID]string    // connections whose SAs were ordered, until they are closed
	spent   map[ike.ConnID][2]uint64 // packets in and out
	work    map[string][]func() any
	wanted  map[string]time.Time
	words   map[uint64]bool // of the operator, unanswered
	word    uint64
	dialled map[uint64]time.Time // when dials that are unanswered were first seen
	place   string               // where the terminating virtual router is
	bare    map[string]time.Time // since when what carries a tunnel lacks an SA
	serial  int
}

// newNode makes a machine with static tunnels that has an address of its own.
func (x *simSites) newNode(name string, addr netip.Addr, base machineConfig, tunnels []config.StaticTunnel) *simServer {
	s := x.w.newServer(withStatics(base, tunnels), x.key())
	x.nodes[addr] = s
	x.names = append(x.names, s)
	s.static = newSimStatics(x, s, name, addr, base, tunnels)
	s.step(tick{})
	return s
}

func newSimStatics(x *simSites, s *simServer, name string, addr netip.Addr, base machineConfig, tunnels []config.StaticTunnel) *simStatics {
	return &simStatics{
		x: x, s: s, name: name, addr: addr, base: base, tunnels: tunnels, sas: map[SAKey]*ike.SA{}, order: map[uint32]int{}, carry: map[string]ike.ConnID{},
		ordered: map[string]ike.ConnID{}, failed: map[string]bool{}, open: map[ike.ConnID]string{}, spent: map[ike.ConnID][2]uint64{},
		work: map[string][]func() any{}, wanted: map[string]time.Time{}, words: map[uint64]bool{}, dialled: map[uint64]time.Time{},
		bare: map[string]time.Time{},
	}
}

func (x *simSites) key() (key [32]byte) {
	binary.LittleEndian.PutUint64(key[:], x.w.rand.Uint64())
	return key
}

// withStatics adds static tunnels to a configuration, as build does.
func withStatics(base machineConfig, tunnels []config.StaticTunnel, place ...string) machineConfig {
	c := base
	r := &config.Router{Name: "sim", StaticTunnels: tunnels}
	c.ike.Statics, c.ike.Keys = nil, slices.Clone(base.ike.Keys)
	for _, t := range tunnels {
		s, keys := ikeStatic(t, strings.Join(place, ""), []ike.ESPProposal{{Cipher: ike.ESPAESCBC, KeyBits: 128, Auth: ike.ESPAuthSHA1}})
		c.ike.Statics, c.ike.Keys = append(c.ike.Statics, s), append(c.ike.Keys, keys...)
	}
	c.site = buildSites(r, c.ike.Statics)
	c.site.Resolve = base.site.Resolve
	c.terminating = terminatingOf(r)
	return c
}

// restart ends the process without a word and starts it again: its kernel is empty then, and nobody has kept anything.
func (st *simStatics) restart() {
	s := st.s
	next := st.x.w.newServer(withStatics(st.base, st.tunnels), st.x.key())
	next.life = s.life + 1
	next.static = newSimStatics(st.x, s, st.name, st.addr, st.base, st.tunnels)
	*s = *next
	s.step(tick{})
}

// reload brings another list of tunnels into force.
// Terminating virtual routers that are away are made anew, and what was tied to their interfaces has to end.
func (st *simStatics) reload(tunnels []config.StaticTunnel, away ...string) {
	st.tunnels = tunnels
	if len(away) > 0 {
		st.place += "x"
	}
	maps.DeleteFunc(st.carry, func(t string, _ ike.ConnID) bool { return st.tunnel(t) == nil })
	maps.DeleteFunc(st.ordered, func(t string, _ ike.ConnID) bool { return st.tunnel(t) == nil })
	maps.DeleteFunc(st.failed, func(t string, _ bool) bool { return st.tunnel(t) == nil })
	st.s.cfg = withStatics(st.base, tunnels, st.place)
	next := st.s.cfg
	next.away = away
	st.s.step(reconfigure(next))
}

func (st *simStatics) tunnel(name string) *config.StaticTunnel {
	for i := range st.tunnels {
		if st.tunnels[i].Name == name {
			return &st.tunnels[i]
		}
	}
	return nil
}

// do has work for a tunnel done behind what is being done for it. What it returns is told to the machine.
func (st *simStatics) do(tunnel string, run func() any) {
	st.work[tunnel] = append(st.work[tunnel], run)
	if len(st.work[tunnel]) == 1 {
		st.begin(tunnel)
	}
}

func (st *simStatics) begin(tunnel string) {
	d := 50 * time.Microsecond
	if st.x.slow > 0 {
		d += time.Duration(st.x.w.rand.Int64N(int64(st.x.slow)))
	}
	s, life := st.s, st.s.life
	st.x.w.after(d, func() {
		if s.life != life {
			return
		}
		ev := st.work[tunnel][0]()
		st.work[tunnel] = st.work[tunnel][1:]
		if len(st.work[tunnel]) > 0 {
			st.begin(tunnel)
		} else {
			delete(st.work, tunnel)
		}
		if ev != nil {
			s.step(ev)
		}
	})
}

func (st *simStatics) fails() bool { return st.x.w.rand.Float64() < st.x.fail }

func (st *simStatics) errorf(format string, args ...any) {
	st.x.w.t.Helper()
	st.x.w.t.Errorf("%v %s: %s", st.x.w.now.Sub(st.x.w.start), st.name, fmt.Sprintf(format, args...))
}

// perform carries out what concerns static tunnels; false: it does not.
func (st *simStatics) perform(f any) bool {
	s, w := st.s, st.x.w
	switch f := f.(type) {
	case ike.Send:
		if w.byAddr[f.Remote.Addr()] != nil {
			return false
		}
		st.x.carry(f.Local, f.Remote, func(at *simServer, src, dst netip.AddrPort) {
			at.step(ike.Packet{Local: dst, Remote: src, Marker: f.Marker, Data: f.Data})
		})
	case ike.InstallSA:
		if f.SA.Static == "" {
			return false
		}
		if t, ok := st.open[f.SA.Conn]; ok && t != f.SA.Static {
			st.errorf("connection %d is of %s and of %s", f.SA.Conn, t, f.SA.Static)
		}
		st.open[f.SA.Conn] = f.SA.Static
		st.do(f.SA.Static, func() any { return st.install(f.SA) })
	case ike.RemoveSA:
		tunnel, ok := st.open[f.Conn]
		if !ok {
			return false
		}
		st.do(tunnel, func() any {
			delete(st.sas, SAKey{f.Dir, f.SPI})
			return nil
		})
	case ike.MoveConn:
		tunnel, ok := st.open[f.Conn]
		if !ok {
			return false
		}
		st.do(tunnel, func() any {
			for _, sa := range f.SAs {
				if old := st.sas[SAKey{sa.Dir, sa.SPI}]; old != nil {
					*old = sa
				}
			}
			return nil
		})
	case ike.ReadTraffic:
		tunnel, ok := st.open[f.Conn]
		if !ok {
			return false
		}
		st.do(tunnel, func() any {
			c := st.spent[f.Conn]
			return ike.TrafficRead{Conn: f.Conn, InPackets: c[0], OutPackets: c[1]}
		})
	case ike.UserAnswered:
		if f.Static == "" {
			return false
		}
		if st.x.w.rand.Float64() < st.x.fail {
			s.answer(ike.Deny{Conn: f.Conn, Reason: "aaa-failed", Text: "nobody answers"})
		} else if f.Answer.User == simUser(1) && f.Answer.Password.Equal(simPassword(1)) {
			s.answer(ike.Admit{Conn: f.Conn})
		} else {
			st.errorf("the user of %s answers as %s", f.Static, f.Answer.User)
		}
	case ike.ConnUp:
		return f.Conn.Static != ""
	case ike.ConnDown:
		return f.Conn.Static != ""
	case CarryTunnel:
		st.ordered[f.Tunnel] = f.Conn
		bare := st.without(f.Conn)
		st.do(f.Tunnel, func() any { return st.carries(f, bare) })
	case closeStatic:
		if st.open[f.conn] != f.tunnel {
			st.errorf("connection %d of %s is closed, which is of %q", f.conn, f.tunnel, st.open[f.conn])
		}
		delete(st.open, f.conn)
		st.do(f.tunnel, func() any { return st.close(f) })
	case site.ReadTraffic:
		st.do(f.Tunnel, func() any {
			c := st.spent[ike.ConnID(f.Conn)]
			return site.Traffic{Conn: f.Conn, InPackets: c[0], OutPackets: c[1]}
		})
	case site.Probe:
		st.probe(f)
	case site.Resolve:
		if st.x.mute {
			break
		}
		out := site.Resolved{Name: f.Name, Addrs: st.x.dns[f.Name]}
		if len(out.Addrs) == 0 {
			out.Reason = reasonNameNotFound
		}
		s.answer(out)
	case site.Answer:
		if !st.words[f.Ref] {
			st.errorf("word %d is answered, which was not said or has been answered", f.Ref)
		}
		delete(st.words, f.Ref)
	case ike.KeepNAT:
		if f.Local.Addr() == st.x.nat.inside {
			st.x.nat.outside(f.Local) // which is what it is for
		}
	case site.Dial, site.HangUp, site.Carry, site.Admit:
		st.errorf("%T comes out", f)
	case site.Changed:
	default:
		return false
	}
	return true
}

func (st *simStatics) install(sa ike.SA) any {
	done := ike.SAInstalled{Conn: sa.Conn, SPI: sa.SPI, Dir: sa.Dir}
	t := st.tunnel(sa.Static)
	switch {
	case t == nil || !slices.ContainsFunc(t.Networks, func(n config.StaticNetwork) bool { return n.Name == sa.Child }):
		done.Err = "there are no policies of that tunnel"
	case st.fails():
		done.Err = "injected"
	default:
		key := SAKey{sa.Dir, sa.SPI}
		if st.sas[key] != nil {
			st.errorf("SA %v is installed twice", key)
		}
		st.sas[key] = &sa
		st.serial++
		st.order[sa.SPI] = st.serial
	}
	return done
}

// without tells whether IKE has no pair of SAs for a connection now: its peer has deleted them, and has a minute to make others.
func (st *simStatics) without(conn ike.ConnID) bool {
	var has [2]bool
	if c := st.s.m.sites.conns[conn]; c != nil {
		for sa := range c.sas {
			has[sa.Dir] = true
		}
	}
	return !has[ike.Inbound] || !has[ike.Outbound]
}

// carries has a connection carry a tunnel, which bare says to have no SAs by what IKE knew.
func (st *simStatics) carries(f CarryTunnel, bare bool) any {
	done := tunnelCarried{CarryTunnel: f}
	if st.tunnel(f.Tunnel) == nil {
		if f.Conn != 0 {
			done.reason, done.text = "no-tunnel", "it is configured no more"
		}
		return done
	}
	if st.fails() {
		done.reason, done.text = "injected", "the call was made to fail"
		st.failed[f.Tunnel] = true
		return done
	}
	if f.Conn != 0 && !bare && (st.newest(f.Conn, ike.Outbound, "") == nil || st.newest(f.Conn, ike.Inbound, "") == nil) {
		st.errorf("%s is to be carried by connection %d, which has not both SAs", f.Tunnel, f.Conn)
	}
	st.carry[f.Tunnel] = f.Conn
	delete(st.failed, f.Tunnel)
	return done
}

func (st *simStatics) close(f closeStatic) any {
	for key, sa := range st.sas {
		if sa.Conn == f.conn {
			st.errorf("connection %d is closed before its SA %v", f.conn, key)
		}
	}
	delete(st.spent, f.conn)
	return nil
}

// newest is the SA of a connection that serves, for a pair of networks or any.
func (st *simStatics) newest(conn ike.ConnID, dir ike.Direction, child string) *ike.SA {
	var best *ike.SA
	for key, sa := range st.sas {
		if key.Dir == dir && sa.Conn == conn && (child == "" || sa.Child == child) && (best == nil || st.order[sa.SPI] > st.order[best.SPI]) {
			best = sa
		}
	}
	return best
}

// count adds to what a connection has carried, dir being 0 for in.
func (st *simStatics) count(conn ike.ConnID, dir int) {
	if st.open[conn] != "" {
		c := st.spent[conn]
		c[dir]++
		st.spent[conn] = c
	}
}

// send sends a packet by a tunnel and has something done where it arrives.
func (st *simStatics) send(tunnel, child string, arrive func(at *simStatics)) {
	t := st.tunnel(tunnel)
	if t == nil {
		return
	}
	conn := st.carry[tunnel]
	var out *ike.SA
	if conn != 0 {
		out = st.newest(conn, ike.Outbound, child)
	}
	if out == nil {
		if now := st.x.w.now; conn == 0 && t.Start == config.StartOnDemand && now.Sub(st.wanted[tunnel]) >= time.Second {
			st.wanted[tunnel] = now
			st.s.answer(site.Acquire{Tunnel: tunnel})
		}
		return
	}
	st.count(conn, 1)
	spi := out.SPI
	st.x.carry(out.Local, out.Remote, func(at *simServer, src, _ netip.AddrPort) {
		y := at.static
		in := y.sas[SAKey{ike.Inbound, spi}]
		if in == nil || in.Static != tunnel || in.Child != child {
			return
		}
		y.count(in.Conn, 0)
		if in.Encap && in.Remote != src {
			at.answer(ike.PeerMoved{SPI: spi, Remote: src})
		}
		arrive(y)
	})
}

// packet sends one by each pair of networks of a tunnel and returns their numbers.
func (st *simStatics) packets(tunnel string) (sent []uint64) {
	t := st.tunnel(tunnel)
	if t == nil {
		return nil
	}
	for _, n := range t.Networks {
		st.x.next++
		id := st.x.next
		st.send(tunnel, n.Name, func(*simStatics) { st.x.got[id] = true })
		sent = append(sent, id)
	}
	return sent
}

// probe asks a host behind the far gateway, which answers through its own end of the tunnel.
func (st *simStatics) probe(f site.Probe) {
	s, life, over := st.s, st.s.life, false
	answer := func(r site.CheckResult) {
		if !over && s.life == life {
			over = true
			r.Tunnel, r.Seq = f.Tunnel, f.Seq
			s.step(r)
		}
	}
	st.x.w.after(f.Check.Timeout, func() { answer(site.CheckResult{Text: "no answer"}) })
	t := st.tunnel(f.Tunnel)
	if t == nil {
		return
	}
	child := t.Networks[0].Name
	st.send(f.Tunnel, child, func(far *simStatics) {
		if !st.x.quiet {
			far.send(f.Tunnel, child, func(*simStatics) { answer(site.CheckResult{OK: true}) })
		}
	})
}

// simTunnel is a tunnel of a simulated node.
func simTunnel(name string, local netip.Addr, own, peer string, peers []config.StaticPeer, change func(*config.StaticTunnel)) config.StaticTunnel {
	t := config.StaticTunnel{
		Name: name, Terminating: "sim", Enabled: true, Mode: config.StaticRoute, LocalAddress: local, Peers: peers, Start: config.StartNailedUp,
		LocalID: "@" + name + "." + own, PeerID: "@" + name + "." + peer, Lifetime: time.Hour, DPD: true, XAuth: config.StaticXAuthNone,
		Networks: []config.StaticNetwork{simNetworks("lan", own, peer, 1)}, Backoff: 5 * time.Second, BackoffMax: time.Minute, Stable: 30 * time.Second,
	}
	if change != nil {
		change(&t)
	}
	return t
}

// simNetworks is a pair of networks of two nodes.
func simNetworks(name, own, peer string, n byte) config.StaticNetwork {
	network := func(node string) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, node[0], n, 0}), 24)
	}
	return config.StaticNetwork{Name: name, Local: network(own), Remote: network(peer)}
}

// simCommonKey is that of tunnels that have none of their own.
func simCommonKey(peer string) ike.PresharedKey {
	return ike.PresharedKey{Name: "common " + peer, Key: keymat.Secret("the key of all sites"), Peer: netip.MustParsePrefix(peer)}
}

// newRandom is for another engine of the same kind.
func (x *simSites) newRandom() random { return random{rand.NewChaCha8(x.key())} }
