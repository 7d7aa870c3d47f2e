package controlplane

import (
	"container/heap"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/pki"
	"vrgate/controlplane/subscriber"
	"vrgate/pppd"
)

// A simulated world: one virtual router's machine, the same code that serves real clients,
// and any number of clients made of the same engines in their other role, on a network that
// loses, duplicates and reorders, in simulated time. What the kernel would do is done by
// simKernel with the kernel's rules: nothing is delivered without its SA, a tunnel's port
// takes only its own connection's packets, and data of sessions that are in the kernel does
// not pass the process as L2TP.
type simWorld struct {
	t       testing.TB
	start   time.Time
	now     time.Time
	queue   simQueue
	serial  int
	rand    *rand.Rand
	network simNetwork
	cut     [2]bool // by direction: nothing gets through
	wasCut  bool    // some time ago
	server  *simServer
	clients []*simClient
	byAddr  map[netip.Addr]*simClient
	lns     map[netip.Addr]*simLNS // to which sessions are handed on
	sites   *simSites              // machines with static tunnels; nil: none
	wake    map[any]time.Time
	// clientIKE changes what new clients' IKE is configured with.
	clientIKE func(*ike.Config)
}

// simNetwork is how bad the network is.
type simNetwork struct {
	Loss, Duplicate float64
	Delay, Jitter   time.Duration
}

type simEvent struct {
	at     time.Time
	serial int
	run    func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].serial < q[j].serial
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	old[len(old)-1] = simEvent{}
	*q = old[:len(old)-1]
	return x
}

func (w *simWorld) at(when time.Time, run func()) {
	w.serial++
	heap.Push(&w.queue, simEvent{when, w.serial, run})
}

func (w *simWorld) after(d time.Duration, run func()) { w.at(w.now.Add(d), run) }

// direction is where a datagram goes.
type direction int

const (
	toServer direction = iota
	toClient
)

// send carries a datagram over the network.
func (w *simWorld) send(to direction, deliver func()) {
	if w.cut[to] {
		return
	}
	copies := 1
	if w.rand.Float64() < w.network.Duplicate {
		copies = 2
	}
	for range copies {
		if w.rand.Float64() < w.network.Loss {
			continue
		}
		d := w.network.Delay
		if w.network.Jitter > 0 {
			d += time.Duration(w.rand.Int64N(int64(w.network.Jitter)))
		}
		w.after(d, deliver)
	}
}

// timer makes sure that tick runs when an owner's deadline comes.
func (w *simWorld) timer(owner any, deadline time.Time, tick func()) {
	if deadline.IsZero() {
		return
	}
	if at, ok := w.wake[owner]; ok && !deadline.Before(at) {
		return
	}
	w.wake[owner] = deadline
	w.at(deadline, func() {
		if w.wake[owner].Equal(deadline) {
			delete(w.wake, owner)
			tick()
		}
	})
}

// run goes on until done says so or the time is over, and tells which.
func (w *simWorld) run(limit time.Duration, done func() bool) bool {
	end := w.now.Add(limit)
	for len(w.queue) > 0 && !done() {
		if w.queue[0].at.After(end) {
			break
		}
		ev := heap.Pop(&w.queue).(simEvent)
		if ev.at.After(w.now) {
			w.now = ev.at
		}
		ev.run()
	}
	return done()
}

// random is a deterministic stand-in for crypto/rand.
type random struct{ *rand.ChaCha8 }

var (
	simStart      = time.Unix(1_800_000_000, 0)
	simServerAddr = netip.MustParseAddr("192.0.2.1")
	simKey        = keymat.Secret("simulated group key")
	// Dynamic subscribers in main mode have an address of their own (J18), those in aggressive
	// mode come to either with their group's name.
	simRoadAddr = netip.MustParseAddr("192.0.2.2")
	simRoadKey  = keymat.Secret("key of the road warriors")
	simGroup    = "roadwarriors"
)

// simServer is the machine with its kernel.
type simServer struct {
	w        *simWorld
	cfg      machineConfig
	m        *machine
	leases   *leases
	certs    *pki.Store // nil where nobody has certificates
	users    aaa.Method
	inbound  map[uint32]ike.SA // by SPI
	outbound map[ike.ConnID]simOutbound
	all      map[SAKey]ike.SA
	tunnels  map[l2tp.TunnelID]l2tp.OpenSocket
	sessions map[subscriber.ID]subscriber.OpenSession
	access   map[subscriber.ID]subscriber.OpenAccess
	bridges  map[subscriber.ID]subscriber.Bridge
	byCall   map[subscriber.CallKey]subscriber.ID
	ended    []subscriber.Record
	started  map[subscriber.ID]int
	carried  map[subscriber.ID]subscriber.Counters // what a session has carried; tests say
	reports  map[string]int                        // what the engines reported, by reason
	decides  int                                   // how often AAA was asked
	// failing names the kernel calls that fail, and how often they still do.
	failing map[string]int
	static  *simStatics // nil: no static tunnels
	life    int         // of how many this is; answers to a former one do not come
}

func newSimWorld(t testing.TB, seed uint64, network simNetwork, change func(*machineConfig)) *simWorld {
	t.Helper()
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	w := &simWorld{
		t: t, start: simStart, now: simStart, rand: rand.New(rand.NewPCG(seed, 1)), network: network,
		byAddr: map[netip.Addr]*simClient{}, lns: map[netip.Addr]*simLNS{}, wake: map[any]time.Time{},
	}
	rules, esp, err := ike.ProposalProfile("compatible")
	if err != nil {
		t.Fatal(err)
	}
	for i := range rules {
		rules[i].Aggressive = ike.AggressiveAccepted
	}
	gateway := netip.MustParseAddr("10.0.0.1")
	c := machineConfig{
		ike: ike.Config{
			NATT: true, Rules: rules, Fragmentation: true,
			DPD: ike.DPDTimers{Sent: 30 * time.Second, Unanswered: time.Minute, Silent: 150 * time.Second},
			Keys: []ike.PresharedKey{
				{Name: "group", Key: simKey, Local: simServerAddr, Group: true},
				{Name: "road/main", Key: simRoadKey, Local: simRoadAddr, Tunnel: "road"},
				{Name: "road/group", Key: simRoadKey, ID: simGroup, Tunnel: "road"},
			},
			Transports: []ike.TransportProfile{{Name: "l2tp", Local: simServerAddr, ESP: esp}},
			Tunnels:    []ike.TunnelProfile{{Name: "road", ESP: esp}},
		},
		l2tp: l2tp.Config{HostName: "sim", Profiles: []l2tp.DestinationProfile{{
			Name: "any", LAC: netip.IPv4Unspecified(), Hosts: []l2tp.HostProfile{{Name: "default", RequireIPsec: true}},
		}}},
		subs: subscriber.Config{
			Router: "sim", FirstID: 1,
			Link:         pppd.Config{MRU: 1400, Name: "sim", Auth: []pppd.AuthProtocol{pppd.AuthMSCHAPv2, pppd.AuthCHAPMD5, pppd.AuthPAP}, EchoInterval: 30 * time.Second, EchoFailures: 4},
			Profiles:     map[string]subscriber.IPProfile{"users": {Name: "users", Terminating: "sim", Gateway: gateway, Pool: "main"}},
			HostProfiles: map[string]subscriber.HostProfile{"any/default": {IPProfile: "users"}},
			Tunnels: map[string]subscriber.TunnelProfile{"road": {
				Name: "road", IPProfile: "users", XAuth: true, Attempts: 1, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
			}},
		},
	}
	if change != nil {
		change(&c)
	}
	w.server = w.newServer(c, key)
	return w
}

// newServer makes a machine with nothing in its kernel.
func (w *simWorld) newServer(c machineConfig, key [32]byte) *simServer {
	w.t.Helper()
	l, err := newLeases(&config.Config{Routers: []*config.Router{{Name: "sim", Pools: []config.Pool{{
		Name: "main", Ranges: []config.AddrRange{{First: netip.MustParseAddr("10.0.0.2"), Last: netip.MustParseAddr("10.0.63.254")}},
	}}}}})
	if err != nil {
		w.t.Fatal(err)
	}
	return &simServer{
		w: w, cfg: c, m: newMachine(w.now, c, random{rand.NewChaCha8(key)}), users: aaa.NewLocal(simUsers(2000)),
		leases:  l,
		inbound: map[uint32]ike.SA{}, outbound: map[ike.ConnID]simOutbound{}, all: map[SAKey]ike.SA{},
		tunnels: map[l2tp.TunnelID]l2tp.OpenSocket{}, sessions: map[subscriber.ID]subscriber.OpenSession{},
		access: map[subscriber.ID]subscriber.OpenAccess{}, bridges: map[subscriber.ID]subscriber.Bridge{}, carried: map[subscriber.ID]subscriber.Counters{},
		byCall: map[subscriber.CallKey]subscriber.ID{}, started: map[subscriber.ID]int{},
		reports: map[string]int{}, failing: map[string]int{},
	}
}

func simUsers(n int) []aaa.User {
	users := make([]aaa.User, n)
	for i := range users {
		users[i] = aaa.User{Name: simUser(i), Password: simPassword(i)}
	}
	return users
}

func simUser(i int) string            { return fmt.Sprintf("user%d", i) }
func simPassword(i int) keymat.Secret { return keymat.Secret(fmt.Sprintf("password %d", i)) }

func (s *simServer) step(ev any) {
	for _, f := range s.m.step(s.w.now, ev) {
		if s.static == nil || !s.static.perform(f) {
			s.perform(f)
		}
	}
	s.w.timer(s, s.m.deadline(), func() { s.step(tick{}) })
	if s.static != nil {
		s.static.check()
	}
}

// answer delivers the result of work that takes a moment.
func (s *simServer) answer(ev any) {
	s.answerIn(time.Duration(1+s.w.rand.IntN(5000))*time.Microsecond, ev)
}

func (s *simServer) answerIn(d time.Duration, ev any) {
	life := s.life
	s.w.after(d, func() {
		if s.life == life {
			s.step(ev)
		}
	})
}

func (s *simServer) perform(f any) {
	w := s.w
	switch f := f.(type) {
	case ike.Send:
		if c := w.byAddr[f.Remote.Addr()]; c != nil {
			w.send(toClient, func() { c.ikePacket(f.Remote, f.Local, f.Marker, f.Data) })
		}
	case ike.ComputeDH:
		s.answer(computeDH(f))
	case ike.Sign:
		s.answer(sign(s.certs, f))
	case ike.VerifyPeer:
		s.answer(verify(s.certs, w.now, f))
	case ike.InstallSA:
		if f.SA.Dir == ike.Inbound && s.fails("inbound SA") || f.SA.Dir == ike.Outbound && s.fails("outbound SA") {
			s.answer(ike.SAInstalled{Conn: f.SA.Conn, SPI: f.SA.SPI, Dir: f.SA.Dir, Err: "injected"})
			return
		}
		if _, open := s.accessOf(f.SA.Conn); f.SA.Tunnel != open {
			w.t.Errorf("tunnel mode is %t, access of connection %d is %t (J8)", f.SA.Tunnel, f.SA.Conn, open)
		}
		key := SAKey{f.SA.Dir, f.SA.SPI}
		if _, dup := s.all[key]; dup {
			w.t.Errorf("SA %v installed twice", key)
		}
		s.all[key] = f.SA
		if f.SA.Dir == ike.Inbound {
			s.inbound[f.SA.SPI] = f.SA
		} else {
			s.outbound[f.SA.Conn] = append(s.outbound[f.SA.Conn], f.SA)
		}
		s.answer(ike.SAInstalled{Conn: f.SA.Conn, SPI: f.SA.SPI, Dir: f.SA.Dir})
	case ike.RemoveSA:
		s.removeSA(f)
	case l2tp.OpenSocket:
		if _, used := s.tunnels[f.Tunnel]; used {
			s.answer(l2tp.SocketOpened{Tunnel: f.Tunnel, InUse: true})
			return
		}
		if s.fails("open tunnel") {
			s.answer(l2tp.SocketOpened{Tunnel: f.Tunnel, Err: "injected"})
			return
		}
		s.tunnels[f.Tunnel] = f
		s.answer(l2tp.SocketOpened{Tunnel: f.Tunnel})
	case l2tp.CloseSocket:
		delete(s.tunnels, f.Tunnel)
	case l2tp.Send:
		if t, ok := s.tunnels[f.Tunnel]; ok {
			s.throughTunnel(t, f.Data)
		} else {
			w.t.Errorf("sent through tunnel %d, which has no socket", f.Tunnel)
		}
	case subscriber.Decide:
		s.decides++
		d, wait := s.leases.decide(context.Background(), "sim", s.users, f)
		if wait != nil {
			w.t.Error("a session waits for the end of another, and there are no limits")
		}
		s.answer(d)
	case subscriber.ReleaseAddress:
		s.leases.release("sim", f)
	case subscriber.OpenSession:
		if s.fails("open session") {
			s.answer(subscriber.SessionOpened{ID: f.ID, Reason: "injected", Text: "the session was not opened"})
			return
		}
		s.sessions[f.ID], s.byCall[f.Call] = f, f.ID
		s.answer(subscriber.SessionOpened{ID: f.ID, Interface: fmt.Sprint("vg", f.ID), Ifindex: int(f.ID)})
	case subscriber.Activate:
		if s.fails("activate") {
			s.answer(subscriber.SessionActivated{ID: f.ID, Reason: "injected", Text: "the session was not activated"})
			return
		}
		s.answer(subscriber.SessionActivated{ID: f.ID})
	case subscriber.CloseSession:
		if o, ok := s.sessions[f.ID]; ok {
			delete(s.byCall, o.Call)
		} else {
			w.t.Errorf("session %d closed twice", f.ID)
		}
		delete(s.sessions, f.ID)
		s.answer(subscriber.SessionClosed{ID: f.ID})
	case subscriber.OpenAccess:
		if s.fails("open access") {
			s.answer(subscriber.AccessOpened{ID: f.ID, Reason: "injected", Text: "the access was not opened"})
			return
		}
		s.access[f.ID] = f
		s.answer(subscriber.AccessOpened{ID: f.ID, Interface: "xfrm1"})
	case subscriber.CloseAccess:
		if _, ok := s.access[f.ID]; !ok {
			w.t.Errorf("access %d closed twice", f.ID)
		}
		for key, sa := range s.all {
			if sa.Conn == ike.ConnID(f.Conn) {
				w.t.Errorf("access of connection %d closed before its SA %v", f.Conn, key)
			}
		}
		delete(s.access, f.ID)
		s.answer(subscriber.AccessClosed{ID: f.ID, Counters: s.carried[f.ID]})
	case subscriber.Bridge:
		s.bridge(f)
	case subscriber.CloseBridge:
		s.closeBridge(f)
	case subscriber.ReadCounters:
		s.answer(subscriber.CountersRead{ID: f.ID, Counters: s.carried[f.ID]})
	case ike.ReadTraffic:
		id, _ := s.accessOf(f.Conn)
		c := s.carried[id]
		s.answer(ike.TrafficRead{Conn: f.Conn, InPackets: c.InPackets, OutPackets: c.OutPackets})
	case subscriber.SendFrame:
		o := s.sessions[f.ID]
		if t, ok := s.tunnels[l2tp.TunnelID(f.Call.Tunnel)]; ok {
			head := []byte{0, 2, byte(o.PeerTunnel >> 8), byte(o.PeerTunnel), byte(o.PeerSession >> 8), byte(o.PeerSession), 0xff, 3}
			s.throughTunnel(t, append(head, f.Data...))
		}
	case subscriber.AccountStart:
		s.answerIn(time.Microsecond, subscriber.AccountStarted{ID: f.Record.ID})
	case subscriber.Started:
		s.started[f.Record.ID]++
	case ike.Report:
		s.reports[string(f.Reason)]++
	case l2tp.Report:
		s.reports[string(f.Reason)]++
	case subscriber.Report:
		s.reports[string(f.Reason)]++
	case subscriber.Ended:
		s.ended = append(s.ended, f.Record)
	}
}

// accessOf returns the dynamic subscriber of a connection whose access is open.
func (s *simServer) accessOf(conn ike.ConnID) (subscriber.ID, bool) {
	for id, a := range s.access {
		if ike.ConnID(a.Conn) == conn {
			return id, true
		}
	}
	return 0, false
}

// fails says whether this call is one that fails.
func (s *simServer) fails(call string) bool {
	s.failing[call]--
	return s.failing[call] >= 0
}

func (s *simServer) removeSA(f ike.RemoveSA) {
	key := SAKey{f.Dir, f.SPI}
	if _, ok := s.all[key]; !ok {
		s.w.t.Errorf("SA %v removed that is not there", key)
	}
	delete(s.all, key)
	if f.Dir == ike.Inbound {
		delete(s.inbound, f.SPI)
	} else if rest := s.outbound[f.Conn].without(f.SPI); len(rest) > 0 {
		s.outbound[f.Conn] = rest
	} else {
		delete(s.outbound, f.Conn)
	}
}

// simOutbound are the outbound SAs of one connection, in the order in which they came. As in
// the kernel the newest serves.
type simOutbound []ike.SA

func (o simOutbound) without(spi uint32) simOutbound {
	return slices.DeleteFunc(o, func(sa ike.SA) bool { return sa.SPI == spi })
}

func (o simOutbound) newest() (ike.SA, bool) {
	if len(o) == 0 {
		return ike.SA{}, false
	}
	return o[len(o)-1], true
}

// throughTunnel sends by the tunnel's socket: its policy demands an SA of its connection.
func (s *simServer) throughTunnel(t l2tp.OpenSocket, data []byte) {
	if t.Conn == 0 {
		s.toLNS(t, data)
		return
	}
	sa, ok := s.outbound[ike.ConnID(t.Conn)].newest()
	if !ok {
		return
	}
	c := s.w.byAddr[sa.Remote.Addr()]
	if c == nil {
		return
	}
	s.w.send(toClient, func() { c.esp(sa.SPI, data) })
}

// esp takes what a client sends: decrypted if the SA is there, steered by tunnel id.
func (s *simServer) esp(from netip.AddrPort, spi uint32, data []byte) {
	sa, ok := s.inbound[spi]
	if !ok || len(data) < 6 {
		return
	}
	p := l2tp.Packet{Local: netip.AddrPortFrom(simServerAddr, 1701), Remote: from, Conn: l2tp.ConnID(sa.Conn), Data: data}
	control := data[0]&0x80 != 0
	id := l2tp.TunnelID(binary.BigEndian.Uint16(data[2:]))
	if control {
		id = l2tp.TunnelID(binary.BigEndian.Uint16(data[4:]))
	}
	if id != 0 {
		t, ok := s.tunnels[id]
		if !ok || t.Conn != p.Conn {
			return
		}
		p.Socket = id
		if session := binary.BigEndian.Uint16(data[4:]); !control {
			call := subscriber.CallKey{Tunnel: uint16(id), Session: session}
			if _, inKernel := s.byCall[call]; inKernel {
				s.step(subscriber.Frame{Call: call, Data: data[8:]})
				return
			}
			if s.acrossBridge(call, data) {
				return
			}
		}
	}
	s.step(p)
}

// left describes whatever state remains; empty when nothing does.
func (s *simServer) left() string {
	out := ""
	add := func(what string, n int) {
		if n > 0 {
			out += fmt.Sprintf(" %d %s", n, what)
		}
	}
	add("subscribers", s.m.subs.Len())
	add("L2TP tunnels", s.m.l2tp.Live())
	add("L2TP sessions", s.m.l2tp.LiveSessions())
	add("IPsec connections", len(s.m.ike.Conns()))
	add("phase 1 SAs", len(s.m.ike.Phase1SAs()))
	add("kernel SAs", len(s.all))
	add("tunnel sockets", len(s.tunnels))
	add("kernel sessions", len(s.sessions))
	add("accesses", len(s.access))
	add("bridges", len(s.bridges))
	add("addresses held", len(s.leases.holders["sim"]))
	used, _ := s.leases.pools[poolKey{"sim", "main"}].Usage()
	add("pool leases", used)
	add("subscriber licences", s.leases.licences.process.subscribers)
	add("tunnel licences", s.leases.licences.process.tunnels)
	add("ESP sizes", len(s.m.esp))
	return out
}

// reasons counts how sessions ended.
func (s *simServer) reasons() map[subscriber.Reason]int {
	out := map[subscriber.Reason]int{}
	for _, r := range s.ended {
		out[r.Reason]++
	}
	return maps.Clone(out)
}
