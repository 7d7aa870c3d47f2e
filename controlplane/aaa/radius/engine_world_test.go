package radius

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	rad "layeh.com/radius"

	"vrgate/test/faultyradius"
)

// world runs an engine against scripted servers in simulated time.
type world struct {
	t       *testing.T
	engine  *engine
	now     time.Time
	servers map[netip.AddrPort]*faultyradius.Server
	queue   happenings
	order   int
	last    requestID

	noSocket   bool // sockets cannot be opened
	open       map[socketID]bool
	sockets    int // ever opened
	maxOpen    int
	maxFlight  int
	asked      map[requestID]time.Time
	ended      map[requestID]ending
	sent       map[netip.AddrPort]int
	lastPacket map[netip.AddrPort][]byte
	changes    []stateChanged
	steps      int
	tap        func(sendPacket)
}

// ending is how a request ended.
type ending struct {
	finished
	After time.Duration
}

// happening is an event to come.
type happening struct {
	at    time.Time
	order int
	do    func()
}

type happenings []happening

func (h happenings) Len() int { return len(h) }
func (h happenings) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].order < h[j].order
}
func (h happenings) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *happenings) Push(x any)   { *h = append(*h, x.(happening)) }
func (h *happenings) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

const latency = time.Millisecond // one way

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// newWorld makes servers 192.0.2.1, .2 … of the scripts, with ports 1812 and 1813 alike, in one group "all". change
// alters the configuration before the engine is made.
func newWorld(t *testing.T, change func(*Config), scripts ...faultyradius.Config) *world {
	w := &world{
		t: t, now: start, servers: map[netip.AddrPort]*faultyradius.Server{}, open: map[socketID]bool{},
		asked: map[requestID]time.Time{}, ended: map[requestID]ending{}, sent: map[netip.AddrPort]int{},
		lastPacket: map[netip.AddrPort][]byte{},
	}
	cfg := Config{NASIdentifier: "gate", NASAddress: netip.MustParseAddr("192.0.2.100")}
	all := Group{Name: "all"}
	for i, script := range scripts {
		if script.Secret == "" {
			script.Secret = string(testSecret)
		}
		script.Seed = uint64(i)
		address := netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})
		s := faultyradius.New(script)
		w.servers[netip.AddrPortFrom(address, 1812)] = s
		w.servers[netip.AddrPortFrom(address, 1813)] = s
		name := fmt.Sprint("s", i+1)
		cfg.Servers = append(cfg.Servers, Server{
			Name: name, Address: address, AuthPort: 1812, AcctPort: 1813, Secret: testSecret,
			Timeout: 5 * time.Second, Retransmissions: 2, DeadTime: 2 * time.Minute,
		})
		all.Servers = append(all.Servers, name)
	}
	cfg.Groups = []Group{all}
	if change != nil {
		change(&cfg)
	}
	w.engine = newEngine(cfg, rand.NewChaCha8([32]byte{1}))
	return w
}

// server returns the i-th script's server, from 1.
func (w *world) server(i int) *faultyradius.Server { return w.servers[w.address(i)] }

func (w *world) address(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 1812)
}

// status returns the i-th server's status, from 1.
func (w *world) status(i int, r Role) ServerStatus { return w.engine.status()[2*(i-1)+int(r)] }

func (w *world) in(d time.Duration, do func()) {
	w.order++
	heap.Push(&w.queue, happening{w.now.Add(d), w.order, do})
}

// ask submits a request and returns its number.
func (w *world) ask(x Exchange) requestID {
	w.last++
	w.asked[w.last] = w.now
	w.step(submit{w.last, "all", x})
	return w.last
}

func (w *world) step(ev event) {
	for _, x := range w.engine.step(w.now, ev) {
		switch x := x.(type) {
		case finished:
			if _, twice := w.ended[x.ID]; twice {
				w.t.Errorf("request %d ended twice", x.ID)
			}
			w.ended[x.ID] = ending{x, w.now.Sub(w.asked[x.ID])}
		case openSocket:
			w.in(latency, func() {
				if w.noSocket {
					w.step(openFailed{x.Socket, "out of sockets"})
					return
				}
				w.open[x.Socket] = true
				w.sockets++
				w.maxOpen = max(w.maxOpen, len(w.open))
				w.step(opened{x.Socket})
			})
		case closeSocket:
			delete(w.open, x.Socket)
		case sendPacket:
			w.carry(x)
		case stateChanged:
			w.changes = append(w.changes, x)
		}
	}
	for _, l := range w.engine.roles {
		w.maxFlight = max(w.maxFlight, l.InFlight)
	}
	if w.steps++; w.steps%256 == 0 || len(w.engine.requests) < 50 {
		if err := invariants(w.engine); err != nil {
			w.t.Fatalf("after step %d (%T): %v", w.steps, ev, err)
		}
	}
}

// carry takes a packet to its server and the replies back.
func (w *world) carry(x sendPacket) {
	if !w.open[x.Socket] {
		w.t.Errorf("packet on socket %d, which is not open", x.Socket)
	}
	w.sent[x.To]++
	w.lastPacket[x.To] = x.Data
	if w.tap != nil {
		w.tap(x)
	}
	w.in(latency, func() {
		for _, r := range w.servers[x.To].Answer(fmt.Sprint("socket", x.Socket), x.Data) {
			from := x.To
			if r.OtherPort {
				from = netip.AddrPortFrom(from.Addr(), 40000)
			}
			w.in(r.After+latency, func() {
				if w.open[x.Socket] {
					w.step(received{x.Socket, from, r.Data})
				}
			})
		}
	})
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	until := w.now.Add(d)
	for {
		at := w.engine.deadline()
		if len(w.queue) > 0 && (at.IsZero() || !at.Before(w.queue[0].at)) {
			at = w.queue[0].at
		}
		if at.IsZero() || at.After(until) {
			w.now = until
			return
		}
		w.now = at
		if len(w.queue) > 0 && w.queue[0].at.Equal(at) {
			heap.Pop(&w.queue).(happening).do()
		} else {
			before := w.engine.deadline()
			w.step(tick{})
			if after := w.engine.deadline(); after.Equal(before) {
				w.t.Fatalf("the deadline %v stays where it is", before)
			}
		}
	}
}

// want fails unless a request was answered so.
func (w *world) want(id requestID, code rad.Code, server string) {
	w.t.Helper()
	if got, ok := w.ended[id]; !ok || got.Err != nil || got.Answer.Code != code || got.Answer.Server != server {
		w.t.Errorf("request %d: ended %t with %v of %q, %v; wants %v of %q", id, ok, got.Answer.Code, got.Answer.Server, got.Err, code, server)
	}
}

func (w *world) wantError(id requestID, err error) {
	w.t.Helper()
	if got, ok := w.ended[id]; !ok || !errors.Is(got.Err, err) {
		w.t.Errorf("request %d: ended %t with %v, %v; wants %v", id, ok, got.Answer.Code, got.Err, err)
	}
}

// invariants are what holds after each step.
func invariants(e *engine) error {
	var flight, queued [numRoles]int
	waits := map[*end]int{}
	timed := 0
	for id, r := range e.requests {
		if r.ID != id {
			return fmt.Errorf("request %d is filed under %d", r.ID, id)
		}
		if r.Place == inQueue {
			queued[r.Role]++
		} else if !r.Probe {
			flight[r.Role]++
		}
		switch r.Place {
		case nowhere:
			return fmt.Errorf("request %d is nowhere", id)
		case inTransit:
			if k := r.Socket.Slots[r.Identifier]; k.State != slotBusy || k.Request != id || e.sockets[r.Socket.ID] != r.Socket {
				return fmt.Errorf("request %d has not its identifier", id)
			}
		case waiting:
			waits[r.End]++
			if len(r.End.Sockets) == 0 {
				return fmt.Errorf("request %d waits for nothing", id)
			}
		}
		if r.pos != 0 {
			timed++
			if e.timers[r.pos-1] != r {
				return fmt.Errorf("request %d is not where its timer is", id)
			}
		} else if r.Place != inQueue {
			return fmt.Errorf("request %d has no timer", id)
		}
	}
	if timed != len(e.timers) {
		return fmt.Errorf("%d timers for %d requests", len(e.timers), timed)
	}
	for role, l := range e.roles {
		if l.InFlight != flight[role] || l.Queue.n != queued[role] || l.InFlight > l.Limit || l.Queue.n > l.Limit {
			return fmt.Errorf("%v: %+v with %d in flight and %d queued", Role(role), l, flight[role], queued[role])
		}
		if l.Queue.n > 0 && l.InFlight < l.Limit {
			return fmt.Errorf("%v: %d queued for nothing", Role(role), l.Queue.n)
		}
	}
	for _, n := range e.ends {
		if n.Waiting.n != waits[n] {
			return fmt.Errorf("%s: %d waiting, counted as %d", n.Server.Name, waits[n], n.Waiting.n)
		}
		if len(n.Sockets) > n.MaxSockets {
			return fmt.Errorf("%s: %d sockets", n.Server.Name, len(n.Sockets))
		}
		for _, s := range n.Sockets {
			if e.sockets[s.ID] != s || s.Busy+s.Free.N+s.Resting.N != identifiers {
				return fmt.Errorf("%s: socket %d: %d busy, %d free, %d resting", n.Server.Name, s.ID, s.Busy, s.Free.N, s.Resting.N)
			}
		}
		if n.TrialBy != 0 && (n.State != Trial || e.requests[n.TrialBy] == nil || e.requests[n.TrialBy].End != n) {
			return fmt.Errorf("%s: tried out by %d", n.Server.Name, n.TrialBy)
		}
		if n.ProbeBy != 0 && e.requests[n.ProbeBy] == nil {
			return fmt.Errorf("%s: probed by nobody", n.Server.Name)
		}
	}
	return nil
}
