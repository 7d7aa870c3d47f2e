package controlplane

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/site"
	"vrgate/controlplane/subscriber"
)

// Where the nodes of the walk are. The hub is the server of the world's clients.
var (
	simAlphaAddr  = netip.MustParseAddr("203.0.113.1")
	simBravoAddr  = netip.MustParseAddr("203.0.113.2")
	simCharlyAddr = netip.MustParseAddr("203.0.113.3")
	simDeltaAddr  = netip.MustParseAddr("10.255.0.2") // behind a NAT
	simPublicAddr = netip.MustParseAddr("203.0.113.9")
)

// TestSiteWalk: gateways with tunnels of every kind among them, one of which serves subscribers at the same addresses, live through
// whatever happens: loss, NATs that forget, words of operators, reloads, crashes, ends, failing kernel calls, peers out of reach,
// other names, and hosts that do not answer. What must hold after every step is in simStatics.check. When the world is well again every
// tunnel comes back, loses nothing over its rekeys, and at last nothing is left. VRGATE_WALKS is how many walks there are.
func TestSiteWalk(t *testing.T) {
	first, n := uint64(0), uint64(2)
	if s := os.Getenv("VRGATE_WALKS"); s != "" {
		if from, many, ok := strings.Cut(s, "+"); ok {
			first, _ = strconv.ParseUint(from, 10, 64)
			s = many
		}
		n, _ = strconv.ParseUint(s, 10, 64)
	}
	for seed := range n {
		t.Run(fmt.Sprint(first+seed), func(t *testing.T) { newSiteWalk(t, first+seed).run(60) })
	}
}

// siteWalk is one walk.
type siteWalk struct {
	*simWorld
	x     *simSites
	base  map[*simServer][]config.StaticTunnel
	users int
	log   []string
}

func newSiteWalk(t *testing.T, seed uint64) *siteWalk {
	x := &simSites{nodes: map[netip.Addr]*simServer{}, deaf: map[netip.Addr]bool{}, closed: map[netip.Addr]bool{}, dns: map[string][]netip.Addr{"gw.example.net": {simBravoAddr}}, got: map[uint64]bool{},
		nat: &simNAT{inside: simDeltaAddr, public: simPublicAddr, ports: map[uint16]uint16{}, last: 20000}}
	at := func(addrs ...netip.Addr) (out []config.StaticPeer) {
		for _, a := range addrs {
			out = append(out, config.StaticPeer{Address: a})
		}
		return out
	}
	respond := func(t *config.StaticTunnel) { t.Start = config.StartRespond }
	second := func(own, peer string) func(*config.StaticTunnel) {
		return func(t *config.StaticTunnel) {
			t.Networks, t.PFS = append(t.Networks, simNetworks("dmz", own, peer, 2)), config.Group(keymat.Curve25519)
		}
	}
	gre := func(start config.StaticStart) func(*config.StaticTunnel) {
		return func(t *config.StaticTunnel) {
			t.Mode, t.Start, t.Networks = config.StaticTransport, start, []config.StaticNetwork{{Name: "gre", Protocol: 47}}
		}
	}
	road := func(t *config.StaticTunnel) {
		t.Start, t.Aggressive, t.Key, t.XAuth = config.StartRespond, true, config.Secret("the key of delta"), config.StaticXAuthServer
	}
	hub := []config.StaticTunnel{
		simTunnel("both", simServerAddr, "hub", "alpha", at(simAlphaAddr), second("hub", "alpha")),
		simTunnel("asked", simServerAddr, "hub", "alpha", at(simAlphaAddr), func(t *config.StaticTunnel) { t.Start, t.Idle = config.StartOnDemand, time.Minute }),
		simTunnel("backed", simServerAddr, "hub", "bravo", at(simBravoAddr, simCharlyAddr), func(t *config.StaticTunnel) {
			t.FallBack, t.Check = time.Minute, config.StaticCheck{Target: netip.MustParseAddr("10.98.1.1"), Period: 10 * time.Second, Timeout: 2 * time.Second, Tolerance: 3}
		}),
		simTunnel("named", simServerAddr, "hub", "name", []config.StaticPeer{{Name: "gw.example.net"}}, nil),
		simTunnel("gre", simServerAddr, "hub", "charly", at(simCharlyAddr), gre(config.StartRespond)),
		simTunnel("road", simServerAddr, "hub", "delta", nil, road),
	}
	rule := ike.PolicyRule{
		Name: "sites", Priority: 1, Auth: ike.AuthAny, Encryption: []ike.Encryption{{Cipher: keymat.AES, KeyBits: 256}}, Hash: []keymat.Hash{keymat.SHA256},
		Group: []keymat.Group{keymat.Curve25519}, Aggressive: ike.AggressiveAccepted,
	}
	dpd := ike.DPDTimers{Sent: 30 * time.Second, Unanswered: time.Minute, Silent: 150 * time.Second}
	var base machineConfig
	w := newSimWorld(t, seed, simNetwork{Delay: 10 * time.Millisecond}, func(c *machineConfig) {
		c.ike.Rules = append([]ike.PolicyRule{rule}, c.ike.Rules...)
		for i := range c.ike.Rules {
			c.ike.Rules[i].Priority = i + 1
		}
		c.ike.Keys = append(c.ike.Keys, simCommonKey("203.0.113.0/24"))
		c.ike.StaticDPD, c.site.Resolve = dpd, time.Minute
		base = *c
		*c = withStatics(base, hub)
	})
	w.sites, x.w = x, w
	walk := &siteWalk{simWorld: w, x: x, base: map[*simServer][]config.StaticTunnel{w.server: hub}}
	x.nodes[simServerAddr] = w.server
	x.names = append(x.names, w.server)
	w.server.static = newSimStatics(x, w.server, "hub", simServerAddr, base, hub)
	w.server.step(tick{})
	node := func(name string, addr netip.Addr, tunnels ...config.StaticTunnel) {
		c := machineConfig{
			ike:  ike.Config{NATT: true, Rules: []ike.PolicyRule{rule}, Fragmentation: true, StaticDPD: dpd, Keys: []ike.PresharedKey{simCommonKey("192.0.2.0/24")}},
			l2tp: l2tp.Config{HostName: name}, subs: subscriber.Config{Router: name, FirstID: 1},
		}
		walk.base[x.newNode(name, addr, c, tunnels)] = tunnels
	}
	toHub := at(simServerAddr)
	node("alpha", simAlphaAddr, simTunnel("both", simAlphaAddr, "alpha", "hub", toHub, second("alpha", "hub")), simTunnel("asked", simAlphaAddr, "alpha", "hub", toHub, respond))
	named := func(addr netip.Addr) config.StaticTunnel {
		return simTunnel("named", addr, "name", "hub", toHub, respond)
	}
	backed := func(addr netip.Addr) config.StaticTunnel {
		return simTunnel("backed", addr, "bravo", "hub", toHub, respond)
	}
	node("bravo", simBravoAddr, backed(simBravoAddr), named(simBravoAddr))
	node("charly", simCharlyAddr, backed(simCharlyAddr), named(simCharlyAddr), simTunnel("gre", simCharlyAddr, "charly", "hub", toHub, gre(config.StartNailedUp)))
	node("delta", simDeltaAddr, simTunnel("road", simDeltaAddr, "delta", "hub", toHub, func(t *config.StaticTunnel) {
		road(t)
		t.Start, t.XAuth, t.User, t.Password = config.StartNailedUp, config.StaticXAuthClient, simUser(1), config.Secret(simPassword(1))
	}))
	return walk
}

func (w *siteWalk) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%v ", w.now.Sub(w.start).Round(time.Millisecond))+fmt.Sprintf(format, args...))
}

// run takes so many steps, and judges.
func (w *siteWalk) run(steps int) {
	t := w.t
	defer func() {
		if t.Failed() {
			t.Logf("what happened:\n%s\nat last:\n%s", strings.Join(w.log, "\n"), w)
		}
	}()
	w.network = simNetwork{Loss: w.rand.Float64() * 0.2, Duplicate: w.rand.Float64() * 0.2, Delay: 10 * time.Millisecond, Jitter: time.Duration(1 + w.rand.IntN(300)*int(time.Millisecond))}
	w.x.slow = time.Duration(w.rand.IntN(200)) * time.Millisecond
	w.note("%+v, kernel up to %v", w.network, w.x.slow)
	for i := 0; i < steps && !t.Failed(); i++ {
		w.something()
		for end := w.now.Add(time.Duration(w.rand.IntN(90)) * time.Second); w.now.Before(end) && !t.Failed(); {
			w.traffic()
			w.pass(time.Duration(1+w.rand.IntN(10)) * time.Second)
		}
	}
	if t.Failed() {
		return
	}
	w.heal()
	w.assertAllUp(15 * time.Minute)
	w.assertLossless(80 * time.Minute)
	w.assertEmpty()
}

// something is one of the things that happen.
func (w *siteWalk) something() {
	s := w.x.names[w.rand.IntN(len(w.x.names))]
	st := s.static
	tunnel := func() string { return w.base[s][w.rand.IntN(len(w.base[s]))].Name }
	switch w.rand.IntN(15) {
	case 0:
		word := []site.Command{site.CommandUp, site.CommandDown, site.CommandNow}[w.rand.IntN(3)]
		w.say(s, tunnel(), word)
	case 1:
		w.reload(s)
	case 2:
		w.note("%s crashes", st.name)
		st.restart()
	case 3:
		if w.rand.IntN(3) == 0 {
			w.stop(s)
		}
	case 4:
		w.x.deaf[st.addr] = !w.x.deaf[st.addr]
		w.note("%s deaf %t", st.name, w.x.deaf[st.addr])
	case 5:
		w.x.deaf = map[netip.Addr]bool{}
		w.note("nobody deaf")
	case 6:
		w.x.fail = []float64{0, 0, 0.05, 0.3}[w.rand.IntN(4)]
		w.note("calls fail %v", w.x.fail)
	case 7:
		w.x.nat.rebind()
		w.note("NAT forgets")
	case 8:
		w.x.dns["gw.example.net"] = [][]netip.Addr{nil, {simBravoAddr}, {simCharlyAddr}, {simBravoAddr, simCharlyAddr}}[w.rand.IntN(4)]
		w.note("name is %v", w.x.dns["gw.example.net"])
	case 9:
		w.x.mute = !w.x.mute
		w.note("name servers mute %t", w.x.mute)
	case 10:
		w.x.quiet = !w.x.quiet
		w.note("hosts quiet %t", w.x.quiet)
	case 11:
		if w.rand.IntN(3) == 0 {
			w.network.Loss = w.rand.Float64() * 0.2
		}
		w.note("loss %v", w.network.Loss)
	case 12, 13:
		w.client()
	case 14:
		w.volume(s)
	}
	w.snapshots(s)
}

// say says a word of an operator.
func (w *siteWalk) say(s *simServer, tunnel string, word site.Command) {
	w.note("%s: %s %v", s.static.name, tunnel, word)
	s.static.word++
	s.static.words[s.static.word] = true
	s.step(site.Operator{Ref: s.static.word, Tunnel: tunnel, Command: word})
	if s.static.words[s.static.word] {
		w.t.Errorf("word %d is not answered", s.static.word)
	}
}

// reload changes one of a node's tunnels, or all back; sometimes the terminating virtual router is made anew.
func (w *siteWalk) reload(s *simServer) {
	tunnels := slices.Clone(w.base[s])
	n := w.rand.IntN(len(tunnels))
	c := &tunnels[n]
	what := []string{"back", "removed", "disabled", "revision", "networks", "peers", "start", "no DPD", "no check", "back-off", "anew"}[w.rand.IntN(11)]
	w.note("%s reloads: %s %s", s.static.name, c.Name, what)
	switch what {
	case "removed":
		tunnels = slices.Delete(tunnels, n, n+1)
	case "disabled":
		c.Enabled = false
	case "revision":
		c.Lifetime = time.Duration(600+w.rand.IntN(9000)) * time.Second
	case "networks":
		c.Networks = c.Networks[:1]
	case "peers":
		c.Peers = slices.Clone(c.Peers)
		slices.Reverse(c.Peers)
		if len(c.Peers) == 2 && w.rand.IntN(2) == 0 {
			c.Peers = c.Peers[:1]
		}
	case "start":
		if len(c.Peers) > 0 && c.XAuth == config.StaticXAuthNone {
			c.Start = []config.StaticStart{config.StartNailedUp, config.StartOnDemand, config.StartRespond}[w.rand.IntN(3)]
		}
	case "no DPD":
		c.DPD = false
	case "no check":
		c.Check = config.StaticCheck{}
	case "back-off":
		c.Backoff = time.Second
	case "anew":
		s.static.reload(tunnels, "sim")
		life := s.life
		w.after(time.Duration(w.rand.IntN(20))*time.Second, func() {
			if s.life == life {
				s.step(terminatingServes{"sim"})
			}
		})
		return
	}
	s.static.reload(tunnels)
}

// stop ends a node's process in order, and starts it again.
func (w *siteWalk) stop(s *simServer) {
	w.note("%s stops", s.static.name)
	w.shutDown(s)
	w.pass(5 * time.Second)
	w.x.closed[s.static.addr] = true // its sockets
	w.pass(4 * time.Minute)
	w.assertGone(s)
	delete(w.x.closed, s.static.addr)
	s.static.restart()
}

func (w *siteWalk) shutDown(s *simServer) {
	if s == w.server { // or they would come back meanwhile
		for _, c := range w.clients {
			c.gone = true
		}
		w.users = len(w.clients)
	}
	var ids []subscriber.ID
	for _, r := range s.m.subs.Records() {
		ids = append(ids, r.ID)
	}
	s.step(subscriber.Disconnect{IDs: ids, Reason: subscriber.ReasonAdmin})
	s.step(l2tp.CloseAll{Reason: l2tp.ReasonShutdown})
	s.step(site.CloseAll{})
	s.step(ike.CloseAll{Reason: ike.ReasonShutdown})
}

// client has a subscriber come, hang up or fall silent.
func (w *siteWalk) client() {
	if len(w.clients) > w.users {
		c := w.clients[w.users]
		w.users++
		if w.rand.IntN(2) == 0 {
			c.disconnect()
		} else {
			c.gone = true
		}
		return
	}
	c := w.newMixed(len(w.clients))
	w.note("%s comes", c.User)
	c.connect()
}

// volume has an SA reach its limit of bytes.
func (w *siteWalk) volume(s *simServer) {
	var keys []SAKey
	for k := range s.static.sas {
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return
	}
	slices.SortFunc(keys, func(a, b SAKey) int { return int(a.SPI>>1) - int(b.SPI>>1) })
	k := keys[w.rand.IntN(len(keys))]
	w.note("%s: SA %v is spent", s.static.name, k)
	s.step(ike.SAExpired{SPI: k.SPI, Dir: k.Dir})
}

// snapshots looks that what a node knows outlives being written and read.
func (w *siteWalk) snapshots(s *simServer) {
	w.t.Helper()
	one, err := s.m.sites.engine.Snapshot()
	if err != nil {
		w.t.Error(err)
	}
	again, err := site.Restore(w.now, s.cfg.site, w.x.newRandom(), one)
	if err != nil {
		w.t.Fatalf("%s: %v", s.static.name, err)
	}
	two, err := again.Snapshot()
	if err != nil {
		w.t.Error(err)
	}
	if again, err = site.Restore(w.now, s.cfg.site, w.x.newRandom(), two); err != nil {
		w.t.Fatalf("%s: %v", s.static.name, err)
	}
	if three, err := again.Snapshot(); err != nil || !bytes.Equal(two, three) { // what rests loses some times at first
		w.t.Errorf("%s, site: %v\n%s\n%s", s.static.name, err, two, three)
	}
	for _, i := range s.m.sites.engine.Tunnels() {
		if r, _ := again.Tunnel(i.Name); r.Conn != i.Conn || !slices.Equal(r.Others, i.Others) || (r.State == site.StateAdminDown) != (i.State == site.StateAdminDown) {
			w.t.Errorf("%s: %+v is read as %+v", s.static.name, i, r)
		}
	}
	secret, err := s.m.ike.Snapshot()
	if err != nil {
		w.t.Error(err)
	}
	e := ike.New(s.cfg.ike, w.x.newRandom())
	if _, err := e.Restore(w.now, secret); err != nil {
		w.t.Errorf("%s: %v", s.static.name, err)
	}
	var here, there []ike.ConnID
	for _, c := range s.m.ike.Conns() {
		here = append(here, c.ID)
	}
	for _, c := range e.Conns() {
		there = append(there, c.ID)
	}
	if !slices.Equal(here, there) {
		w.t.Errorf("%s: connections %v are read as %v", s.static.name, here, there)
	}
}

// traffic has each node send something by each tunnel, most of the time.
func (w *siteWalk) traffic() {
	if w.rand.IntN(4) == 0 {
		return
	}
	for _, s := range w.x.names {
		for _, t := range s.static.tunnels {
			s.static.packets(t.Name)
		}
	}
}

// heal makes the world good and the configurations what they were.
func (w *siteWalk) heal() {
	w.note("all is well")
	w.network = simNetwork{Delay: 10 * time.Millisecond}
	w.x.deaf, w.x.fail, w.x.mute, w.x.quiet, w.x.slow = map[netip.Addr]bool{}, 0, false, false, 20*time.Millisecond
	w.x.dns["gw.example.net"] = []netip.Addr{simCharlyAddr}
	for _, s := range w.x.names {
		s.step(terminatingServes{"sim"})
		s.static.reload(w.base[s])
		for _, i := range s.m.sites.engine.Tunnels() {
			if i.State == site.StateAdminDown {
				w.say(s, i.Name, site.CommandUp)
			}
		}
	}
	// What its peer has made stays wherever the name leads, until somebody ends it.
	if i, _ := w.server.m.sites.engine.Tunnel("named"); i.Conn != 0 && !i.Ours {
		w.say(w.server, "named", site.CommandDown)
		w.say(w.server, "named", site.CommandUp)
	}
}

// far are the ends of the hub's tunnels.
var far = map[string]netip.Addr{"both": simAlphaAddr, "asked": simAlphaAddr, "backed": simBravoAddr, "named": simCharlyAddr, "gre": simCharlyAddr, "road": simPublicAddr}

// notUp tells which tunnels of the hub are not up with the peer where they belong, or at that.
func (w *siteWalk) notUp() string {
	var b strings.Builder
	for name, peer := range far {
		i, _ := w.server.m.sites.engine.Tunnel(name)
		end := w.x.nodes[peer]
		if peer == simPublicAddr {
			end = w.x.nodes[simDeltaAddr]
		}
		there, _ := end.m.sites.engine.Tunnel(name)
		if i.State != site.StateUp || i.Peer != peer || there.State != site.StateUp {
			fmt.Fprintf(&b, "%s is %v with %v (%s %s), there %v; ", name, i.State, i.Peer, i.Reason, i.Text, there.State)
		}
		for _, st := range []*simStatics{w.server.static, end.static} {
			for _, n := range st.tunnel(name).Networks {
				if conn := st.carry[name]; st.newest(conn, ike.Inbound, n.Name) == nil || st.newest(conn, ike.Outbound, n.Name) == nil {
					fmt.Fprintf(&b, "%s of %s lacks an SA at %s; ", n.Name, name, st.name)
				}
			}
			if st.failed[name] {
				fmt.Fprintf(&b, "%s is not carried as ordered at %s; ", name, st.name)
			}
		}
	}
	return b.String()
}

// assertAllUp waits until every tunnel is where it belongs and stays there: what has begun before all was well may yet have
// consequences, such as a peer that is given up because it has not answered for a minute, or a name that is looked up each minute.
func (w *siteWalk) assertAllUp(limit time.Duration) {
	w.t.Helper()
	end, since := w.now.Add(limit), w.now
	for w.now.Sub(since) < 2*time.Minute && w.now.Before(end) && !w.t.Failed() {
		w.traffic()
		w.pass(5 * time.Second)
		if w.notUp() != "" {
			since = w.now
		}
	}
	if w.now.Sub(since) < 2*time.Minute {
		w.t.Errorf("not for two minutes %v after all is well: %s", limit, w.notUp())
	}
	w.pass(10 * time.Second) // until both ends have the other's last word
}

// assertLossless has packets pass both ways, over rekeys, without one being lost.
func (w *siteWalk) assertLossless(d time.Duration) {
	w.t.Helper()
	lost := map[string]int{}
	for end := w.now.Add(d); w.now.Before(end) && !w.t.Failed() && len(lost) == 0; {
		sent := map[string][]uint64{}
		for name, peer := range far {
			if peer == simPublicAddr {
				peer = simDeltaAddr
			}
			sent[name+" from the hub"] = w.server.static.packets(name)
			sent[name+" to the hub"] = w.x.nodes[peer].static.packets(name)
		}
		w.pass(time.Duration(1+w.rand.IntN(4000)) * time.Millisecond)
		w.pass(100 * time.Millisecond)
		for what, ids := range sent {
			for i, id := range ids {
				if !w.x.got[id] {
					lost[fmt.Sprint(what, " ", i)]++
				}
			}
		}
		clear(w.x.got)
	}
	if len(lost) > 0 {
		w.t.Errorf("%v: lost %v", w.now.Sub(w.start), lost)
	}
}

// assertEmpty ends everything and looks that nothing is left.
func (w *siteWalk) assertEmpty() {
	w.t.Helper()
	for _, s := range w.x.names {
		w.shutDown(s)
		w.pass(time.Second)
	}
	for a := range w.x.nodes {
		w.x.closed[a] = true
	}
	w.pass(4 * time.Minute)
	for _, s := range w.x.names {
		w.assertGone(s)
	}
}

// assertGone looks that a node that has been shut down keeps nothing.
func (w *siteWalk) assertGone(s *simServer) {
	w.t.Helper()
	st, m := s.static, s.m
	n := fmt.Sprintf("%d connections, %d dials, %d spent, %d SAs, %d open, %d read, work for %d, IKE %d and %d phase 1 SAs, %d ESP sizes",
		len(m.sites.conns), len(m.sites.dials), 0, len(st.sas), len(st.open), len(st.spent), len(st.work), len(m.ike.Conns()), len(m.ike.Phase1SAs()), len(m.esp))
	if want := "0 connections, 0 dials, 0 spent, 0 SAs, 0 open, 0 read, work for 0, IKE 0 and 0 phase 1 SAs, 0 ESP sizes"; n != want {
		w.t.Errorf("%v: %s keeps %s", w.now.Sub(w.start), st.name, n)
	}
	for t, c := range st.carry {
		if c != 0 && !st.failed[t] {
			w.t.Errorf("%s: %s is still carried by %d", st.name, t, c)
		}
	}
}

// String prints the tunnels of all nodes.
func (w *siteWalk) String() string {
	var b strings.Builder
	for _, s := range w.x.names {
		for _, i := range s.m.sites.engine.Tunnels() {
			fmt.Fprintf(&b, "%s %s: %v with %v by %d %v, %s %s, %d dials, %v\n", s.static.name, i.Name, i.State, i.Peer, i.Conn, i.Others, i.Reason, i.Text, i.Attempts, i.Failures)
		}
	}
	return b.String()
}

// check looks at what must hold after every step.
func (st *simStatics) check() {
	m, now := st.s.m, st.x.w.now
	if st.x.w.t.Failed() {
		return
	}
	if len(m.sites.queue) > 0 || m.sites.held {
		st.errorf("%d effects are held back", len(m.sites.queue))
	}
	up := map[string]int{}
	for id, c := range m.sites.conns {
		info, known := m.ike.Conn(id)
		switch {
		case c.up && (!known || info.Static != c.tunnel):
			st.errorf("connection %d of %s is up, and IKE has it of %q", id, c.tunnel, info.Static)
		case !c.up && len(c.sas) == 0:
			st.errorf("connection %d of %s is nothing", id, c.tunnel)
		case st.open[id] != c.tunnel:
			st.errorf("connection %d of %s is %q in the kernel", id, c.tunnel, st.open[id])
		}
		if c.up {
			up[c.tunnel]++
		}
		if _, taken := m.esp[id]; taken {
			st.errorf("connection %d of %s has a size for subscribers (J11)", id, c.tunnel)
		}
	}
	if len(st.open) != len(m.sites.conns) {
		st.errorf("%d connections in the kernel, %d in the machine", len(st.open), len(m.sites.conns))
	}
	for _, r := range m.subs.Records() {
		if m.sites.conns[ike.ConnID(r.Conn)] != nil {
			st.errorf("subscriber %s is in connection %d of a static tunnel (J11)", r.User, r.Conn)
		}
	}
	dialled := map[string]bool{}
	for ref, tunnel := range m.sites.dials {
		if dialled[tunnel] {
			st.errorf("%s is dialled twice at once", tunnel)
		}
		dialled[tunnel] = true
		if st.dialled[ref].IsZero() {
			st.dialled[ref] = now
		} else if age := now.Sub(st.dialled[ref]); age > 125*time.Second {
			st.errorf("dial %d of %s is not answered after %v", ref, tunnel, age)
		}
	}
	maps.DeleteFunc(st.dialled, func(ref uint64, _ time.Time) bool { _, waits := m.sites.dials[ref]; return !waits })
	for _, i := range m.sites.engine.Tunnels() {
		if i.State == site.StateAdminDown && up[i.Name]+len(i.Others) > 0 {
			st.errorf("%s is down by an operator and has %d connections", i.Name, up[i.Name])
		}
		if n := len(i.Others); up[i.Name] > 4 || i.Conn != 0 && up[i.Name] != n+1 {
			st.errorf("%s has %d connections, by its engine %d and %v", i.Name, up[i.Name], i.Conn, i.Others)
		}
		ordered := st.ordered[i.Name]
		if ordered != ike.ConnID(i.Conn) {
			st.errorf("%s is carried by connection %d, the kernel was told %d", i.Name, i.Conn, ordered)
		}
		if len(st.work[i.Name]) > 0 || st.failed[i.Name] {
			continue
		}
		if st.carry[i.Name] != ordered {
			st.errorf("%s is carried by connection %d in the kernel, not %d", i.Name, st.carry[i.Name], ordered)
		}
		// A peer that has deleted its SAs has a minute to make others, again and again while it tries.
		if ordered == 0 || st.newest(ordered, ike.Inbound, "") != nil && st.newest(ordered, ike.Outbound, "") != nil {
			delete(st.bare, i.Name)
		} else if since, known := st.bare[i.Name]; !known {
			st.bare[i.Name] = now
		} else if age := now.Sub(since); age > 3*time.Minute {
			st.errorf("%s is carried for %v by connection %d, which has not both SAs", i.Name, age, ordered)
		}
	}
}
