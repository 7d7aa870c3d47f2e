package loadgen

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/l2tp"
	"vrgate/pppd"
)

// Config says what the clients of a Generator are like. Every field is needed but Carrier, and with it neither PSK nor Group, and
// Inside.
type Config struct {
	// Do runs a function where the sockets are to be opened, such as
	// (*topo.Namespace).Do. It needs CAP_NET_RAW and CAP_NET_BIND_SERVICE there.
	Do     func(func() error) error
	Server netip.Addr
	// Sources are the clients' addresses: the first client has the first after the
	// prefix's own. All must be local where the sockets are.
	Sources  netip.Prefix
	PSK      keymat.Secret
	Group    keymat.Group // of main mode, with AES-256 and SHA-256
	User     func(client int) string
	Password string // of all
	// Carrier has all clients call through one LAC instead, in one tunnel and without IPsec.
	Carrier *Carrier
	// Inside is the source address that the UDP checksums inside ESP cover, as if a NAT with IPsec passthrough had put a client's address
	// in its place. Without it datagrams have no checksum.
	Inside netip.Addr
}

// Names of the one transport profile and key of the IKE engine.
const (
	profileName = "clients"
	keyName     = "clients"
)

// queueLen bounds the packets that wait for the owner; a full queue drops, as a
// socket does.
const queueLen = 8192

// linkTick is how often the PPP links are asked for deadlines that have passed.
const linkTick = 100 * time.Millisecond

// Generator is the clients.
type Generator struct {
	cfg     Config
	sockets *sockets
	packets chan packet
	reading []func(func(packet))
	readers chan struct{} // one token from each of reading that has ended

	ike     *ike.Engine
	l2tp    *l2tp.Engine
	clients []*client
	byAddr  map[netip.Addr]*client
	byConn  map[ike.ConnID]*client
	bySPI   map[uint32]inbound
	tunnels map[l2tp.TunnelID]*client
	calls   map[callKey]*client // of a carrier
	queue   []any               // events of engines and links that are to be worked off
	links   time.Time
	pinged  int
	// carrierAddr is the LAC's.
	carrierAddr netip.Addr
	// sendErrors counts packets that the sockets did not take.
	sendErrors int
}

// inbound is an SA that a client receives under.
type inbound struct {
	c  *client
	sa *espSA
}

// linkEvent is an event of one client's PPP link.
type linkEvent struct {
	c  *client
	ev pppd.Event
}

// New opens the sockets. Nobody connects yet.
func New(cfg Config) (*Generator, error) {
	g := &Generator{
		cfg: cfg, packets: make(chan packet, queueLen), readers: make(chan struct{}, 2),
		byAddr: map[netip.Addr]*client{}, byConn: map[ike.ConnID]*client{}, bySPI: map[uint32]inbound{},
		tunnels: map[l2tp.TunnelID]*client{}, calls: map[callKey]*client{},
		l2tp: l2tp.New(l2tp.Config{HostName: "loadgen"}, rand.Reader),
		ike: ike.New(ike.Config{
			Rules: []ike.PolicyRule{{
				Name: "clients", Priority: 1, Auth: ike.AuthPSK, Encryption: []ike.Encryption{{Cipher: keymat.AES, KeyBits: 256}},
				Hash: []keymat.Hash{keymat.SHA256}, Group: []keymat.Group{cfg.Group},
			}},
			Keys:       []ike.PresharedKey{{Name: keyName, Key: cfg.PSK}},
			Transports: []ike.TransportProfile{{Name: profileName, ESP: []ike.ESPProposal{espProposal}}},
		}, rand.Reader),
	}
	if cfg.Carrier != nil {
		var err error
		if g.carrierAddr, err = cfg.carrierAddress(); err != nil {
			return nil, err
		}
	}
	if err := cfg.Do(func() (err error) {
		if cfg.Carrier != nil {
			g.sockets, err = openCarrier(g.carrierAddr)
		} else {
			g.sockets, err = openSockets()
		}
		return err
	}); err != nil {
		return nil, err
	}
	g.reading = []func(func(packet)){g.sockets.readIKE, g.sockets.readESP}
	if cfg.Carrier != nil {
		g.reading = []func(func(packet)){g.sockets.readL2TP}
	}
	for _, read := range g.reading {
		go func() {
			read(g.receive)
			g.readers <- struct{}{}
		}()
	}
	return g, nil
}

// receive is called by the readers.
func (g *Generator) receive(p packet) {
	select {
	case g.packets <- p:
	default:
	}
}

// Close closes the sockets, without a word to the server.
func (g *Generator) Close() error {
	err := g.sockets.close()
	for range g.reading {
		<-g.readers
	}
	return err
}

// Result is what one Connect did.
type Result struct {
	Up      int
	Took    time.Duration
	Latency []time.Duration // of each that came up, in rising order
	Failed  map[string]int  // reason -> clients
}

// Rate is the number of clients that came up per second.
func (r Result) Rate() float64 { return float64(r.Up) / r.Took.Seconds() }

// Connect connects n more clients, window of them at a time: the next begins when one is up,
// from phase 1 to an address by IPCP, or has failed. Failures are in the Result; the
// error is the context's.
func (g *Generator) Connect(ctx context.Context, n, window int) (Result, error) {
	first, started := len(g.clients), 0
	begin := time.Now()
	for {
		settled := 0
		for _, c := range g.clients[first:] {
			if c.settled() {
				settled++
			}
		}
		for ; started < n && started-settled < window; started++ {
			g.start()
		}
		if settled == n {
			break
		}
		if err := g.turn(ctx, time.Time{}); err != nil {
			return Result{}, fmt.Errorf("loadgen: %d of %d clients settled: %w", settled, n, err)
		}
	}
	r := Result{Took: time.Since(begin), Failed: map[string]int{}}
	for _, c := range g.clients[first:] {
		if c.failed != "" {
			r.Failed[c.failed]++
			continue
		}
		r.Up++
		r.Latency = append(r.Latency, c.up.Sub(c.started))
	}
	slices.Sort(r.Latency)
	return r, nil
}

// Ping sends an echo request through every session that is up, once a second, until all have
// been answered, and says how many have been when the context ends.
func (g *Generator) Ping(ctx context.Context, to netip.Addr) (answered int, err error) {
	g.pinged++
	var next time.Time
	for {
		waiting := 0
		again := !time.Now().Before(next)
		for i, c := range g.clients {
			if !c.address.IsValid() {
				continue
			}
			if c.answered == g.pinged {
				answered++
				continue
			}
			waiting++
			if again {
				c.frame(g, pppIPv4, echo(c.address, to, uint16(i), uint16(g.pinged)))
			}
		}
		if again {
			next = time.Now().Add(time.Second)
		}
		if waiting == 0 {
			return answered, nil
		}
		if err := g.turn(ctx, time.Time{}); err != nil {
			return answered, err
		}
		answered = 0
	}
}

// Serve answers keepalives for a while.
func (g *Generator) Serve(ctx context.Context, d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err := g.turn(ctx, time.Time{}); err != nil {
			return err
		}
	}
	return nil
}

// Lost returns why clients that were up are not any more: reason -> clients.
func (g *Generator) Lost() map[string]int {
	lost := map[string]int{}
	for _, c := range g.clients {
		if !c.up.IsZero() && c.failed != "" {
			lost[c.failed]++
		}
	}
	return lost
}

// turn waits for the next thing to happen, or until a time if that is not zero, and works it off.
func (g *Generator) turn(ctx context.Context, until time.Time) error {
	g.work()
	wait := linkTick
	for _, d := range [...]time.Time{g.ike.Deadline(), g.l2tp.Deadline(), until} {
		if !d.IsZero() {
			wait = min(wait, time.Until(d))
		}
	}
	timer := time.NewTimer(max(wait, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	case p := <-g.packets:
		g.take(p)
	}
	// Whatever came meanwhile, before deadlines are looked at again.
	for range len(g.packets) {
		g.take(<-g.packets)
	}
	now := time.Now()
	if passed(g.ike.Deadline(), now) {
		g.queue = append(g.queue, ike.Timer{})
	}
	if passed(g.l2tp.Deadline(), now) {
		g.queue = append(g.queue, l2tp.Timer{})
	}
	if !now.Before(g.links) {
		g.links = now.Add(linkTick)
		for _, c := range g.clients {
			if c.link != nil && passed(c.link.Deadline(), now) {
				g.queue = append(g.queue, linkEvent{c, pppd.Timer{}})
			}
		}
	}
	g.work()
	return nil
}

func passed(deadline, now time.Time) bool { return !deadline.IsZero() && !now.Before(deadline) }

// work feeds what is queued to the engines until nothing is left.
func (g *Generator) work() {
	for len(g.queue) > 0 {
		ev := g.queue[0]
		g.queue[0] = nil
		g.queue = g.queue[1:]
		now := time.Now()
		switch ev := ev.(type) {
		case ike.Event:
			for _, f := range g.ike.Step(now, ev) {
				g.performIKE(f)
			}
		case l2tp.Event:
			for _, f := range g.l2tp.Step(now, ev) {
				if g.cfg.Carrier != nil {
					g.performCarrier(f)
				} else {
					g.performL2TP(f)
				}
			}
		case linkEvent:
			if ev.c.link != nil {
				for _, f := range ev.c.link.Step(now, ev.ev) {
					g.performLink(ev.c, f)
				}
			}
		}
	}
}

func (g *Generator) post(ev any) { g.queue = append(g.queue, ev) }

// sent counts what a socket refused; the protocols repeat what is lost.
func (g *Generator) sent(err error) {
	if err != nil {
		g.sendErrors++
	}
}

// String says how many clients there are and what became of them, for messages.
func (g *Generator) String() string {
	up, failed := 0, map[string]int{}
	for _, c := range g.clients {
		if c.failed != "" {
			failed[c.failed]++
		} else if !c.up.IsZero() {
			up++
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d clients up", up, len(g.clients))
	for why, n := range failed {
		fmt.Fprintf(&b, ", %d %s", n, why)
	}
	if g.sendErrors > 0 {
		fmt.Fprintf(&b, ", %d packets not sent", g.sendErrors)
	}
	return b.String()
}

var errNoAddress = errors.New("loadgen: no more source addresses")

// address is the source address of the i-th client.
func (c Config) address(i int) (netip.Addr, error) {
	b := c.Sources.Masked().Addr().As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n += uint32(i) + 1
	a := netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	if !c.Sources.Contains(a) {
		return a, errNoAddress
	}
	return a, nil
}
