package l2tp

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// world is a simulated network with simulated time: engines, the UDP sockets they ask for, the kernel's steering of
// packets by tunnel id, and links that lose, repeat and delay.
type world struct {
	t     *testing.T
	now   time.Time
	rnd   *rand.Rand
	loss  float64 // of each packet
	dup   float64
	delay time.Duration // each copy is delayed between 1 ms and this; more than a few ms reorders
	todo  schedule
	seq   int
	nodes map[netip.Addr]*node
	cut   map[netip.Addr]bool // hosts that neither send nor receive
}

// node is one host with one engine.
type node struct {
	w       *world
	addr    netip.Addr
	e       *Engine
	sockets map[TunnelID]OpenSocket
	wake    time.Time
	// conn tells through which IPsec connection a packet from a peer comes.
	conn func(from netip.Addr) ConnID

	ups          []any // TunnelUp, TunnelDown, SessionUp, SessionDown and DialFailed in order
	frames       []FrameReceived
	refused      int
	sent         int
	controlBytes int
	reports      []Report
	hold         bool // do not answer OpenSocket
	held         []OpenSocket
	trace        func(s string)
}

type task struct {
	at  time.Time
	seq int
	do  func()
}

type schedule []task

func (s schedule) Len() int { return len(s) }
func (s schedule) Less(i, j int) bool {
	return s[i].at.Before(s[j].at) || s[i].at.Equal(s[j].at) && s[i].seq < s[j].seq
}
func (s schedule) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s *schedule) Push(x any)   { *s = append(*s, x.(task)) }
func (s *schedule) Pop() any {
	old := *s
	x := old[len(old)-1]
	*s = old[:len(old)-1]
	return x
}

func newWorld(t *testing.T, seed uint64) *world {
	return &world{
		t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), rnd: rand.New(rand.NewPCG(seed, 1)), delay: 2 * time.Millisecond,
		nodes: make(map[netip.Addr]*node), cut: make(map[netip.Addr]bool),
	}
}

// chacha is a reproducible random source for an engine under test.
func chacha(seed uint64) *rand.ChaCha8 {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

func (w *world) node(addr string, cfg Config) *node {
	a := netip.MustParseAddr(addr)
	n := &node{
		w: w, addr: a, e: New(cfg, chacha(w.rnd.Uint64())), sockets: make(map[TunnelID]OpenSocket),
		conn: func(netip.Addr) ConnID { return 0 },
	}
	w.nodes[a] = n
	return n
}

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.todo, task{w.now.Add(d), w.seq, do})
}

// run plays the network until d has passed.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for len(w.todo) > 0 && !w.todo[0].at.After(end) {
		x := heap.Pop(&w.todo).(task)
		w.now = x.at
		x.do()
	}
	w.now = end
}

// step feeds an event to a node and performs the effects.
func (n *node) step(ev Event) {
	n.perform(n.e.Step(n.w.now, ev))
	if due := n.e.Deadline(); !due.IsZero() && !due.Equal(n.wake) {
		n.wake = due
		n.w.after(due.Sub(n.w.now), func() {
			if n.e.Deadline().Equal(due) || !n.e.Deadline().After(n.w.now) {
				n.wake = time.Time{}
				n.step(Timer{})
			}
		})
	}
}

func (n *node) perform(effects []Effect) {
	for _, ef := range effects {
		switch ef := ef.(type) {
		case OpenSocket:
			if n.hold {
				n.held = append(n.held, ef)
				continue
			}
			n.open(ef)
		case CloseSocket:
			if _, ok := n.sockets[ef.Tunnel]; !ok {
				n.w.t.Fatalf("%s: CloseSocket for %d, which is not open", n.addr, ef.Tunnel)
			}
			delete(n.sockets, ef.Tunnel)
		case Send:
			s, ok := n.sockets[ef.Tunnel]
			if !ok {
				n.w.t.Fatalf("%s: Send through %d, which is not open", n.addr, ef.Tunnel)
			}
			n.send(netip.AddrPortFrom(n.addr, 1701), s.Remote, ef.Data)
		case Refuse:
			n.refused++
			n.send(netip.AddrPortFrom(n.addr, 1701), ef.Remote, ef.Data)
		case FrameReceived:
			n.frames = append(n.frames, ef)
		case Report:
			n.reports = append(n.reports, ef)
		case TunnelUp, TunnelDown, SessionUp, SessionDown, DialFailed, ConnSpent:
			n.ups = append(n.ups, ef)
		default:
			n.w.t.Fatalf("unknown effect %T", ef)
		}
	}
}

func (n *node) open(ef OpenSocket) {
	if _, used := n.sockets[ef.Tunnel]; used {
		n.w.t.Fatalf("%s: OpenSocket for %d, which is open", n.addr, ef.Tunnel)
	}
	n.sockets[ef.Tunnel] = ef
	n.w.after(time.Millisecond, func() { n.step(SocketOpened{Tunnel: ef.Tunnel}) })
}

func (n *node) send(from, to netip.AddrPort, data []byte) {
	n.sent++
	n.controlBytes += len(data)
	if n.trace != nil {
		n.trace(fmt.Sprintf("%s -> %s %x", from, to, data))
	}
	copies := 1
	if n.w.rnd.Float64() < n.w.loss {
		copies = 0
	} else if n.w.rnd.Float64() < n.w.dup {
		copies = 2
	}
	for range copies {
		late := time.Millisecond + time.Duration(n.w.rnd.Int64N(int64(n.w.delay)))
		n.w.after(late, func() {
			if peer := n.w.nodes[to.Addr()]; peer != nil && !n.w.cut[to.Addr()] && !n.w.cut[n.addr] {
				peer.arrive(from, data)
			}
		})
	}
}

// arrive does what the kernel does (kernel.md section 2.5): a packet with a tunnel id of the range goes to the port of that number,
// anything else to the listener; SPI-bound policies drop what comes through another connection.
func (n *node) arrive(from netip.AddrPort, data []byte) {
	p := Packet{Local: netip.AddrPortFrom(n.addr, 1701), Remote: from, Conn: n.conn(from.Addr()), Data: data}
	if h, _, err := parseHeader(data); err == nil && h.tunnel >= TunnelIDMin {
		s, ok := n.sockets[h.tunnel]
		if !ok || s.Remote != from || s.Conn != p.Conn {
			return
		}
		p.Socket = h.tunnel
	}
	n.step(p)
}

func (n *node) dial(ref uint64, to string, secret string) {
	n.step(Dial{
		Ref: ref, Local: netip.AddrPortFrom(n.addr, 1701), Remote: netip.AddrPortFrom(netip.MustParseAddr(to), 1701),
		Secret: []byte(secret), HostName: "lac", CallingNumber: "5551234",
	})
}

// tally counts a node's life events.
type tally struct{ tunnelUp, tunnelDown, sessionUp, sessionDown int }

func (n *node) tally() (c tally) {
	for _, x := range n.ups {
		switch x.(type) {
		case TunnelUp:
			c.tunnelUp++
		case TunnelDown:
			c.tunnelDown++
		case SessionUp:
			c.sessionUp++
		case SessionDown:
			c.sessionDown++
		}
	}
	return c
}

// last returns the last event of a type, failing the test when there was none.
func last[T any](n *node) T {
	n.w.t.Helper()
	for i := len(n.ups) - 1; i >= 0; i-- {
		if x, ok := n.ups[i].(T); ok {
			return x
		}
	}
	var none T
	n.w.t.Fatalf("%s: no %T among %+v", n.addr, none, n.ups)
	return none
}

// profiles is the configuration most tests use: any LAC, one password or none.
func profiles(secret string) Config {
	return Config{HostName: "lns", Profiles: []DestinationProfile{{
		Name: "any", Hosts: []HostProfile{{Name: "default", Secret: []byte(secret), Challenge: secret != ""}},
	}}}
}

// consistent checks that what an engine counts is what it has.
func (n *node) consistent() {
	n.w.t.Helper()
	if err := n.e.check(); err != nil {
		n.w.t.Fatalf("%s: %v", n.addr, err)
	}
}

// check recomputes every index and count of an engine from its tunnels.
func (e *Engine) check() error {
	live, halfOpen, sessions := 0, 0, 0
	bySource, counts := map[sourceKey]int{}, map[profileKey]int{}
	for id, t := range e.tunnels {
		if t.ID != id || id < TunnelIDMin {
			return fmt.Errorf("tunnel %d is filed under %d", t.ID, id)
		}
		if !t.over() {
			live++
			if !t.Initiated && e.byPeer[t.peerKey()] != id {
				return fmt.Errorf("tunnel %d is not found by its peer", id)
			}
		}
		if t.HalfOpen {
			halfOpen++
			bySource[t.source()]++
		}
		sessions += len(t.Sessions)
		if !t.Initiated && len(t.Sessions) > 0 {
			counts[profileKey{t.Profile, ""}] += len(t.Sessions)
			counts[profileKey{t.Profile, t.HostProfile}] += len(t.Sessions)
		}
		if due := t.next(); due.IsZero() != (t.heapIndex < 0) || !due.IsZero() && (!t.due.Equal(due) || e.timers[t.heapIndex] != t) {
			return fmt.Errorf("tunnel %d in phase %d is due at %v, its timer at %v, place %d", id, t.Phase, due, t.due, t.heapIndex)
		}
		if t.over() && len(t.Sessions) > 0 {
			return fmt.Errorf("tunnel %d is over with %d sessions", id, len(t.Sessions))
		}
		named := 0
		for _, s := range t.Sessions {
			if s.Peer != 0 {
				named++
				if t.PeerSessions[s.Peer] != s.ID {
					return fmt.Errorf("session %d of tunnel %d is not found by its peer's id", s.ID, id)
				}
			}
		}
		if named != len(t.PeerSessions) {
			return fmt.Errorf("tunnel %d: %d sessions by peer's id, want %d", id, len(t.PeerSessions), named)
		}
		if len(t.Channel.Held) >= int(t.Channel.Window) {
			return fmt.Errorf("tunnel %d holds %d messages", id, len(t.Channel.Held))
		}
	}
	byConn := 0
	for conn, ids := range e.byConn {
		for _, id := range ids {
			byConn++
			if t := e.tunnels[id]; t == nil || t.Conn != conn {
				return fmt.Errorf("connection %d lists tunnel %d", conn, id)
			}
		}
	}
	for _, t := range e.tunnels {
		if t.Conn != 0 {
			byConn--
		}
	}
	switch {
	case byConn != 0:
		return fmt.Errorf("%d tunnels too many listed by connection", byConn)
	case live != e.live || halfOpen != e.halfOpen || sessions != e.sessions:
		return fmt.Errorf("live %d half-open %d sessions %d, counted %d %d %d", live, halfOpen, sessions, e.live, e.halfOpen, e.sessions)
	case fmt.Sprint(bySource) != fmt.Sprint(e.halfOpenBy) || fmt.Sprint(counts) != fmt.Sprint(e.counts):
		return fmt.Errorf("half-open by source %v, counted %v; sessions %v, counted %v", bySource, e.halfOpenBy, counts, e.counts)
	case len(e.ended) > maxEndedRecords || len(e.endedSessions) > maxEndedSessions:
		return fmt.Errorf("%d records of tunnels, %d of sessions", len(e.ended), len(e.endedSessions))
	}
	if err := e.checkDestinations(); err != nil {
		return err
	}
	for k, id := range e.byPeer {
		if t := e.tunnels[id]; t == nil || t.over() || t.peerKey() != k {
			return fmt.Errorf("peer %v leads to tunnel %d", k, id)
		}
	}
	if err := e.checkDials(); err != nil {
		return err
	}
	for k, id := range e.dialing {
		if t := e.tunnels[id]; t == nil || t.over() || t.dialKey() != k {
			return fmt.Errorf("dialled peer %v leads to tunnel %d", k, id)
		}
	}
	return nil
}

// checkDestinations recomputes the destinations and the use of IPsec connections.
func (e *Engine) checkDestinations() error {
	type holds struct{ tunnels, records int }
	want := map[netip.Addr]holds{}
	var failed, sessions uint64
	carrying := map[ConnID]int{}
	for _, t := range e.tunnels {
		h := want[t.Remote.Addr()]
		h.tunnels++
		want[t.Remote.Addr()] = h
		failed += t.SessionsFailed
		sessions += t.SessionsTotal
		if t.SessionsTotal < t.SessionsFailed+uint64(len(t.Sessions)) {
			return fmt.Errorf("tunnel %d had %d sessions of which %d failed and has %d", t.ID, t.SessionsTotal, t.SessionsFailed, len(t.Sessions))
		}
		if t.SingleShot && t.SessionsTotal > 0 && len(t.Sessions) == 0 && !t.over() {
			return fmt.Errorf("single-shot tunnel %d lives on without its session (H2)", t.ID)
		}
		if t.Conn != 0 && !t.Initiated && !t.over() {
			carrying[t.Conn]++
			if u := e.uses[t.Conn]; u == nil || u.Spent || t.SingleShot && !u.SingleShot || u.SingleShot && carrying[t.Conn] > 1 {
				return fmt.Errorf("tunnel %d of connection %d, which is %+v", t.ID, t.Conn, u)
			}
		}
	}
	for _, r := range e.ended {
		h := want[r.Info.Remote.Addr()]
		h.records++
		want[r.Info.Remote.Addr()] = h
	}
	for remote, d := range e.destinations {
		_, configured := e.dir.byLAC[remote]
		if (holds{d.tunnels, d.records}) != want[remote] || want[remote] == (holds{}) && d.Admin == AdminEnabled && !configured {
			return fmt.Errorf("destination %v is held by %+v, want %+v", remote, d, want[remote])
		}
		delete(want, remote)
	}
	if len(want) > 0 {
		return fmt.Errorf("destinations missing: %v", want)
	}
	if s := e.Service(); s.SessionsTotal < sessions || s.SessionsFailed < failed || s.SessionsActive > e.sessions || s.TunnelsFailed > s.TunnelsTotal {
		return fmt.Errorf("service %+v", s)
	}
	return nil
}
