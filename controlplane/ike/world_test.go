package ike

import (
	"container/heap"
	"crypto/rand"
	"fmt"
	mrand "math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"vrgate/controlplane/keymat"
)

// world is a network of engines in simulated time: links with loss, delay,
// reordering and duplication, NATs, kernels that install SAs, and workers that
// compute Diffie-Hellman at once.
type world struct {
	t     testing.TB
	now   time.Time
	queue agenda
	seq   int
	nodes map[netip.Addr]*node
	nats  map[netip.Addr]*nat // by public address
	rng   *mrand.Rand

	delay   time.Duration
	jitter  time.Duration // more delay, at random: reorders
	loss    float64
	dup     float64
	tap     func(from, to netip.AddrPort, marker bool, data []byte) bool // false: dropped
	swap    func(from, to netip.AddrPort, data []byte) []byte            // what arrives instead
	packets int
}

// node is one host with an engine and a kernel.
type node struct {
	w       *world
	name    string
	addr    netip.Addr
	behind  *nat
	e       *Engine
	kernel  map[string]SA // by direction, SPI and peer
	refuse  func(SA) string
	up      []ConnInfo
	down    []ConnDown
	moved   []MoveConn
	reports []Report
	dh      func(ComputeDH) DHDone
	events  int

	decide     *decider // of dynamic subscribers; nil: there are none
	configured []Configured
	traffic    func(ConnID) (in, out uint64)
	reads      int
	kept       []KeepNAT
	children   []Effect   // ChildUp, ChildDown and ConnDown
	superseded []ConnDown // dials whose place another one has taken
	installs   int
	order      map[string]int // of the SAs in kernel
	fates      map[uint64]int // how often a dial of a static tunnel has ended
}

// nat translates the addresses of the nodes behind it.
type nat struct {
	public netip.Addr
	out    map[netip.AddrPort]netip.AddrPort
	in     map[netip.AddrPort]netip.AddrPort
	next   uint16
	keep   bool // keep the port while it is free, as most home routers do
}

type agenda []*appointment

type appointment struct {
	at  time.Time
	seq int
	do  func()
}

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at.Before(a[j].at) || a[i].at.Equal(a[j].at) && a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(*appointment)) }
func (a *agenda) Pop() any {
	x := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return x
}

func newWorld(t testing.TB) *world {
	return &world{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), nodes: map[netip.Addr]*node{}, nats: map[netip.Addr]*nat{},
		rng: mrand.New(mrand.NewPCG(1, 2)), delay: 5 * time.Millisecond}
}

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.queue, &appointment{w.now.Add(d), w.seq, do})
}

// add makes a node.
func (w *world) add(name, addr string, cfg Config) *node {
	n := &node{w: w, name: name, addr: netip.MustParseAddr(addr), e: New(cfg, rand.Reader), kernel: map[string]SA{}, fates: map[uint64]int{}, order: map[string]int{}}
	n.dh = computeDH
	w.nodes[n.addr] = n
	return n
}

// nat makes a NAT with a public address.
func (w *world) nat(public string, keep bool, ns ...*node) *nat {
	x := &nat{public: netip.MustParseAddr(public), out: map[netip.AddrPort]netip.AddrPort{}, in: map[netip.AddrPort]netip.AddrPort{}, next: 20000, keep: keep}
	w.nats[x.public] = x
	for _, n := range ns {
		n.behind = x
	}
	return x
}

// translate is the public source of a private one.
func (x *nat) translate(a netip.AddrPort) netip.AddrPort {
	if p, ok := x.out[a]; ok {
		return p
	}
	p := netip.AddrPortFrom(x.public, a.Port())
	if _, taken := x.in[p]; taken || !x.keep {
		x.next++
		p = netip.AddrPortFrom(x.public, x.next)
	}
	x.out[a], x.in[p] = p, a
	return p
}

// rebind forgets all mappings, as a NAT does when it restarts.
func (x *nat) rebind() {
	x.out, x.in = map[netip.AddrPort]netip.AddrPort{}, map[netip.AddrPort]netip.AddrPort{}
	x.keep = false
	x.next += 100
}

func computeDH(j ComputeDH) DHDone {
	d := DHDone{Job: j.Job}
	var err error
	if j.Pair != nil {
		d.Pair = *j.Pair
	} else if d.Pair, err = j.Group.Generate(rand.Reader); err != nil {
		d.Err = err.Error()
		return d
	}
	if len(j.Peer) > 0 {
		s, err := keymat.Shared(d.Pair, j.Peer)
		if err != nil {
			d.Err = err.Error()
			return d
		}
		d.Shared = s
	}
	return d
}

// step gives an event to the node's engine and performs the effects.
func (n *node) step(ev Event) {
	n.events++
	n.perform(n.e.Step(n.w.now, ev))
	n.alarm()
}

// alarm makes the appointment of the engine's deadline.
func (n *node) alarm() {
	at := n.e.Deadline()
	if at.IsZero() {
		return
	}
	n.w.after(max(0, at.Sub(n.w.now)), func() {
		if d := n.e.Deadline(); !d.IsZero() && !d.After(n.w.now) {
			n.step(Timer{})
		}
	})
}

func (n *node) perform(fs []Effect) {
	w := n.w
	for _, f := range fs {
		switch f := f.(type) {
		case Send:
			w.send(n, f)
		case ComputeDH:
			done := n.dh(f)
			w.after(time.Millisecond, func() { n.step(done) })
		case Sign:
			done := signTest(f)
			w.after(time.Millisecond, func() { n.step(done) })
		case VerifyPeer:
			done := verifyTest(f)
			w.after(time.Millisecond, func() { n.step(done) })
		case InstallSA:
			n.install(f.SA)
		case RemoveSA:
			k := saKey(f.Dir, f.SPI, f.Remote)
			if _, ok := n.kernel[k]; !ok {
				w.t.Errorf("%s: removes SA %s which is not there", n.name, k)
			}
			delete(n.kernel, k)
		case MoveConn:
			n.moved = append(n.moved, f)
			for _, sa := range f.SAs {
				old := saKey(sa.Dir, sa.SPI, f.Old.Addr())
				if _, ok := n.kernel[old]; !ok {
					w.t.Errorf("%s: moves SA %s which is not there", n.name, old)
				}
				delete(n.kernel, old)
				n.kernel[saKey(sa.Dir, sa.SPI, sa.Remote.Addr())] = sa
			}
		case ConnUp:
			if f.Conn.Static != "" && n.fates[f.Conn.Ref] > 0 {
				w.t.Errorf("%s: dial %d comes up when it is over", n.name, f.Conn.Ref)
			}
			n.up = append(n.up, f.Conn)
		case ConnDown:
			if f.Conn.Static != "" && f.Conn.Ref != 0 {
				if n.fates[f.Conn.Ref]++; n.fates[f.Conn.Ref] > 1 {
					w.t.Errorf("%s: dial %d ends again: %+v", n.name, f.Conn.Ref, f)
				}
			}
			if f.Conn.ID == 0 && f.Reason == ReasonReplaced {
				n.superseded = append(n.superseded, f)
				continue
			}
			n.down, n.children = append(n.down, f), append(n.children, f)
		case Report:
			n.reports = append(n.reports, f)
		case DynamicUp:
			n.decide.up(n, f)
		case UserAnswered:
			n.decide.answered(n, f)
		case KeepNAT:
			n.kept = append(n.kept, f)
			w.send(n, Send{Local: f.Local, Remote: f.Remote, Data: []byte{0xff}})
		case ChildUp, ChildDown:
			n.children = append(n.children, f)
		case Configured:
			n.configured = append(n.configured, f)
		case ReadTraffic:
			n.reads++
			if n.traffic != nil {
				in, out := n.traffic(f.Conn)
				w.after(time.Millisecond, func() { n.step(TrafficRead{Conn: f.Conn, InPackets: in, OutPackets: out}) })
			}
		default:
			w.t.Fatalf("unknown effect %T", f)
		}
	}
}

func (n *node) install(sa SA) {
	ev := SAInstalled{Conn: sa.Conn, SPI: sa.SPI, Dir: sa.Dir}
	k := saKey(sa.Dir, sa.SPI, sa.Remote.Addr())
	if n.refuse != nil {
		ev.Err = n.refuse(sa)
	}
	if _, ok := n.kernel[k]; ok && ev.Err == "" {
		ev.Err = "exists"
	}
	// What the kernel will hold is noted at once, since a RemoveSA may overtake
	// the answer.
	if ev.Err == "" {
		n.kernel[k] = sa
		n.installs++
		n.order[k] = n.installs
	}
	n.w.after(time.Millisecond, func() { n.step(ev) })
}

func saKey(d Direction, spi uint32, remote netip.Addr) string {
	return fmt.Sprintf("%d/%08x/%v", d, spi, remote)
}

// send carries a datagram over the network.
func (w *world) send(n *node, f Send) {
	w.packets++
	if w.tap != nil && !w.tap(f.Local, f.Remote, f.Marker, f.Data) {
		return
	}
	copies := 1
	if w.rng.Float64() < w.dup {
		copies = 2
	}
	for range copies {
		if w.rng.Float64() < w.loss {
			continue
		}
		d := w.delay
		if w.jitter > 0 {
			d += time.Duration(w.rng.Int64N(int64(w.jitter)))
		}
		data := slices.Clone(f.Data)
		if w.swap != nil {
			data = w.swap(f.Local, f.Remote, data)
		}
		from := f.Local
		if n.behind != nil {
			from = n.behind.translate(from)
		}
		w.after(d, func() { w.deliver(from, f.Remote, f.Marker, data) })
	}
}

func (w *world) deliver(from, to netip.AddrPort, marker bool, data []byte) {
	if x := w.nats[to.Addr()]; x != nil {
		inner, ok := x.in[to]
		if !ok {
			// A server behind a NAT has its ports forwarded.
			for _, n := range w.nodes {
				if n.behind == x && n.name == "server" {
					inner, ok = netip.AddrPortFrom(n.addr, to.Port()), true
				}
			}
			if !ok {
				return
			}
			x.in[to], x.out[inner] = inner, to
		}
		to = inner
	}
	if n := w.nodes[to.Addr()]; n != nil {
		n.step(Packet{Local: to, Remote: from, Marker: marker, Data: data})
	}
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for len(w.queue) > 0 && !w.queue[0].at.After(end) {
		a := heap.Pop(&w.queue).(*appointment)
		w.now = a.at
		a.do()
	}
	w.now = end
}

// Building blocks of configurations.

func testConfig(t testing.TB, profile string, keys ...PresharedKey) Config {
	t.Helper()
	rules, esp, err := ProposalProfile(profile)
	if err != nil {
		t.Fatal(err)
	}
	return Config{NATT: true, Fragmentation: true, Rules: rules, Keys: keys,
		Transports: []TransportProfile{{Name: "l2tp", ESP: esp}}}
}

var groupKey = PresharedKey{Name: "group", Key: keymat.Secret("a secret of the group"), Group: true}

// at sets the profile's server address.
func at(c Config, local string) Config {
	c.Transports = slices.Clone(c.Transports)
	c.Transports[0].Local = netip.MustParseAddr(local)
	return c
}

// dial starts a connection from one node to an address.
func (n *node) dial(to string, ref uint64, port uint16) {
	n.step(Initiate{Ref: ref, Local: netip.AddrPortFrom(n.addr, ikePort), Remote: netip.AddrPortFrom(netip.MustParseAddr(to), ikePort),
		Profile: "l2tp", Key: n.e.cfg.Keys[0].Name, LocalPort: port, RemotePort: 1701})
}

// pair makes a client and a server that share the group key.
func pair(t testing.TB) (*world, *node, *node) {
	w := newWorld(t)
	server := w.add("server", "192.0.2.1", at(testConfig(t, ProfileCompatible, groupKey), "192.0.2.1"))
	client := w.add("client", "198.51.100.7", at(testConfig(t, ProfileCompatible, groupKey), "198.51.100.7"))
	return w, client, server
}

// mustUp checks that exactly one connection is up at each node and that their
// kernels agree on the SAs.
func mustUp(t testing.TB, client, server *node) {
	t.Helper()
	if len(client.up) != 1 || len(server.up) != 1 {
		t.Fatalf("client up %d down %v, server up %d down %v\nclient %v\nserver %v\n%v", len(client.up), client.down, len(server.up), server.down,
			client.e.Counters(), server.e.Counters(), words(client.reports, server.reports))
	}
	agree(t, client, server)
}

// agree checks that what one node sends under, the other receives under, with
// the same keys.
func agree(t testing.TB, a, b *node) {
	t.Helper()
	for _, n := range []*node{a, b} {
		o := b
		if n == b {
			o = a
		}
		outs := 0
		for _, sa := range n.kernel {
			if sa.Dir != Outbound {
				continue
			}
			outs++
			found := false
			for _, in := range o.kernel {
				if in.Dir == Inbound && in.SPI == sa.SPI {
					found = true
					if !in.EncKey.Equal(sa.EncKey) || !in.AuthKey.Equal(sa.AuthKey) || in.Cipher != sa.Cipher || in.Auth != sa.Auth || in.Encap != sa.Encap || in.AuthBits != sa.AuthBits {
						t.Errorf("SA %08x differs between %s and %s", sa.SPI, n.name, o.name)
					}
				}
			}
			if !found {
				t.Errorf("%s sends under %08x, which %s does not have", n.name, sa.SPI, o.name)
			}
		}
		if outs == 0 {
			t.Errorf("%s has no outbound SA", n.name)
		}
	}
}

// empty checks that nothing is left at a node.
func empty(t testing.TB, ns ...*node) {
	t.Helper()
	for _, n := range ns {
		e := n.e
		if len(n.kernel) != 0 || len(e.sas) != 0 || len(e.first) != 0 || len(e.own) != 0 || len(e.conns) != 0 || len(e.byPeer) != 0 ||
			len(e.behind) != 0 || len(e.natt) != 0 || len(e.spis) != 0 || len(e.outs) != 0 || e.held() != 0 || len(e.jobs) != 0 || len(e.timers) != 0 || e.guard.HalfOpen != 0 || e.guard.FragBytes != 0 ||
			e.guard.oldest != nil || e.guard.newest != nil {
			t.Errorf("%s: left over: kernel %d, %d phase 1 SAs, %d first, %d own, %d conns, %d by peer, %d behind NATs, %d of NAT-T, %d in %d out SPIs, %d jobs, %d timers, %d half open, %d fragment bytes",
				n.name, len(n.kernel), len(e.sas), len(e.first), len(e.own), len(e.conns), len(e.byPeer), len(e.behind), len(e.natt), len(e.spis), len(e.outs), len(e.jobs), len(e.timers),
				e.guard.HalfOpen, e.guard.FragBytes)
		}
	}
}

// held is at how many addresses of peers static tunnels are said to be up.
func (e *Engine) held() (n int) {
	for _, a := range e.admissions {
		n += len(a.holds)
	}
	return n
}

func words(rs ...[]Report) string {
	s := ""
	for _, r := range rs {
		for _, x := range r {
			s += fmt.Sprintf("  %d %s: %s\n", x.Level, x.Reason, x.Text)
		}
	}
	return s
}

// only returns the one connection of a node.
func (n *node) only(t testing.TB) *conn {
	t.Helper()
	cs := n.e.sortedConns()
	if len(cs) != 1 {
		t.Fatalf("%s has %d connections, down %+v\n%s", n.name, len(cs), n.down, words(n.reports))
	}
	return cs[0]
}
