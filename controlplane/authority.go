package controlplane

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/aaa/accounting"
	"vrgate/controlplane/aaa/radius"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
)

// authority is all of AAA that the process has: who decides about subscribers, and who is told
// what became of them. It is a value that a reload replaces as a whole; what lives is handed on.
type authority struct {
	cfg     *config.Config
	service *aaa.Service
	codes   map[string]*accounting.Codes // by virtual router
	nas     map[string]radius.NAS
	groups  map[string][]string // groups of servers that get accounting records
	live    atomic.Pointer[liveAuthority]
	// ignored counts traffic policies that the terminating router has not, and that its users
	// were let in without.
	ignored *atomic.Uint64
}

// liveAuthority is what of it lives while the process runs. The maps are by virtual router and do
// not change.
type liveAuthority struct {
	clients map[string]*radiusClient
	servers map[string]*orderTaker
	journal *accounting.Journal
	former  map[groupKey]*radiusClient // of groups that are not configured any more
}

// radiusClient is the client of a virtual router's servers and what it was made of.
type radiusClient struct {
	*radius.Client
	method *radius.Method
	cfg    radius.Config
	asks   *router // whose sockets it uses
}

// newAuthority translates the configuration. The error is [config.Errors].
func newAuthority(c *config.Config) (*authority, error) {
	codes, err := buildCodes(c)
	if err != nil {
		return nil, err
	}
	a := &authority{cfg: c, codes: codes, nas: map[string]radius.NAS{}, groups: accountingGroups(c), ignored: new(atomic.Uint64)}
	for _, r := range c.Routers {
		a.nas[r.Name] = buildNAS(r)
	}
	a.service = aaa.NewService(buildPolicies(c), a.backend, buildLocals(c), c.Process.DefaultRouter)
	return a, nil
}

// journal is where the process accounts to; there is one while any router serves.
func (a *authority) journal() *accounting.Journal { return a.live.Load().journal }

// backend is who asks the servers of a virtual router; nil if there are none.
func (a *authority) backend(router string) aaa.Backend {
	if live := a.live.Load(); live != nil {
		if c := live.clients[router]; c != nil {
			return c.method
		}
	}
	return nil
}

// accountingGroups lists by virtual router the groups of its servers that sessions are accounted
// to, which get Accounting-On and -Off.
func accountingGroups(c *config.Config) map[string][]string {
	out := map[string][]string{}
	add := func(router, group string) {
		if group != "" && !slices.Contains(out[router], group) {
			out[router] = append(out[router], group)
		}
	}
	for _, r := range c.Routers {
		add(r.Name, r.AAA.AccountingGroup)
		for _, m := range r.AAA.DomainMaps {
			add(m.AuthenticationRouter, m.AccountingGroup)
		}
	}
	return out
}

// start opens the journal, which then sends what the last run has left, and makes the clients.
// Errors are those of the journal.
func (a *authority) start(p *Process) error {
	live := a.enliven(p, p.routers(), nil)
	journal, err := accounting.Open(p.store, journalConfig(p), func(ctx context.Context, router, group string, attributes []byte, at time.Time) error {
		now := live // which is not to be had of the authority before there is a journal
		if a := p.shared.authority().live.Load(); a != nil {
			now = a
		}
		c := now.account(router, group)
		if c == nil {
			return radius.ErrNoServer // it was configured otherwise when this happened
		}
		return c.Account(ctx, group, attributes, at)
	}, p.log)
	if err != nil {
		live.close()
		return fmt.Errorf("accounting journal: %w", err)
	}
	live.journal = journal
	a.live.Store(live)
	return nil
}

// journalConfig makes the journal ask whoever has the authority at that time.
func journalConfig(p *Process) accounting.Config {
	cfg := buildJournal(p.cfg(), nil)
	cfg.Encode = func(kind accounting.Kind, rec subscriber.Record, x accounting.Extra) ([]byte, error) {
		return p.shared.authority().encode(kind, rec, x)
	}
	cfg.Required = func(router string) bool {
		a := p.shared.authority()
		return buildJournal(a.cfg, a.codes).Required(router)
	}
	cfg.Cause = func(router string, reason subscriber.Reason) uint32 {
		a := p.shared.authority()
		return buildJournal(a.cfg, a.codes).Cause(router, reason)
	}
	return cfg
}

// enliven makes the clients and the takers of orders for the routers of a. Those of old that are as they would be
// made now are kept.
func (a *authority) enliven(p *Process, routers []*router, old *liveAuthority) *liveAuthority {
	live := &liveAuthority{clients: map[string]*radiusClient{}, servers: map[string]*orderTaker{}, former: map[groupKey]*radiusClient{}}
	if old == nil {
		old = &liveAuthority{}
	}
	live.journal = old.journal
	for _, r := range routers {
		c := a.cfg.Router(r.name)
		if c == nil {
			continue // it ends
		}
		if len(c.RADIUS.Servers) > 0 {
			live.clients[r.name] = a.client(p, r, buildRADIUS(c), old.clients[r.name])
		}
		if cfg, listen := buildCoA(c); len(listen) > 0 {
			live.servers[r.name] = newOrderTaker(p, r, cfg, listen, old.servers[r.name])
		}
	}
	live.inherit(old)
	return live
}

func (a *authority) client(p *Process, r *router, cfg radius.Config, old *radiusClient) *radiusClient {
	out := &radiusClient{cfg: cfg, asks: r}
	if old != nil && old.asks == r && reflect.DeepEqual(old.cfg, cfg) {
		out.Client = old.Client
	} else {
		out.Client = radius.NewClient(cfg, p.listener(r.name), r.log)
	}
	mayMove := r.name == a.cfg.Process.DefaultRouter
	if old != nil && old.Client == out.Client && old.method.NAS == a.nas[r.name] && old.method.MayMove == mayMove {
		out.method = old.method
	} else {
		out.method = &radius.Method{Client: out.Client, NAS: a.nas[r.name], MayMove: mayMove}
	}
	return out
}

// close ends the clients; the journal has been closed before.
func (l *liveAuthority) close() {
	for _, c := range l.clients {
		_ = c.Close() // always nil
	}
	for _, c := range l.former {
		_ = c.Close()
	}
}

// begin tells the accounting servers of all virtual routers that there is no session yet: before anybody
// is let in, and also those of a virtual router that could not be opened, because it may be asked about users who
// arrive in others. Its servers hear of it once it is open.
func (a *authority) begin() { a.announce((*accounting.Journal).RouterUp) }

// end tells them that there is no session any more.
func (a *authority) end() { a.announce((*accounting.Journal).RouterDown) }

func (a *authority) announce(what func(j *accounting.Journal, router, group string)) {
	for router, groups := range a.groups {
		for _, g := range groups {
			what(a.journal(), router, g)
		}
	}
}

// lastWords is how long records may take to be sent at the end, at least and at most: what is
// not sent then is sent at the next start.
const (
	lastWordsMin = time.Second
	lastWordsMax = 5 * time.Second
)

// stop sends what is left and ends everything that start has made.
func (a *authority) stop(within time.Duration, log *zap.Logger) {
	live := a.live.Load()
	ctx, cancel := context.WithTimeout(context.Background(), min(max(within, lastWordsMin), lastWordsMax))
	defer cancel()
	if live.journal.Close(ctx) != nil {
		log.Warn("accounting records are left for the next start", zap.Int("records", live.journal.Stats().Queued))
	}
	live.close()
}

// encode makes the attributes of an accounting record.
func (a *authority) encode(kind accounting.Kind, rec subscriber.Record, x accounting.Extra) ([]byte, error) {
	out := radius.AcctRecord{
		Kind: radius.AcctKind(kind), NAS: a.nas[x.Router], At: x.At, Router: rec.Router, Terminating: rec.Terminating, Cause: x.Cause,
	}
	if kind == accounting.KindOn || kind == accounting.KindOff {
		return radius.EncodeAttributes(radius.AccountingAttributes(out)), nil
	}
	out.Session, out.User, out.Access, out.Protocol = rec.ID.String(), rec.User, rec.Access, rec.Protocol
	out.Call, out.Conn = [2]uint16{rec.Call.Tunnel, rec.Call.Session}, rec.Conn
	out.Local, out.Remote, out.PeerHost, out.Peer, out.PeerID = rec.Local, rec.Remote, rec.PeerHost, rec.Peer, rec.PeerID
	out.CallingNumber, out.Address, out.Netmask, out.Class = rec.CallingNumber, rec.Address, rec.Netmask, rec.Class
	out.LocalHost = rec.LocalHost
	out.CalledNumber, out.TxSpeed, out.RxSpeed = rec.CalledNumber, rec.TxSpeed, rec.RxSpeed
	out.Server, out.Far = rec.Server, [2]uint16{rec.Far.Tunnel, rec.Far.Session}
	out.InPolicy, out.OutPolicy = rec.Traffic.InPolicy, rec.Traffic.OutPolicy
	if kind != accounting.KindStart {
		c := rec.Counters
		out.InBytes, out.OutBytes, out.InPackets, out.OutPackets = c.InBytes, c.OutBytes, c.InPackets, c.OutPackets
		if !rec.Up.IsZero() {
			out.Duration = max(x.At.Sub(rec.Up), 0)
		}
	}
	if kind == accounting.KindStop {
		out.Reason, out.Text = string(rec.Reason), rec.Text
		out.Disconnect = radius.DisconnectCause{Code: rec.Cause.Code, Protocol: rec.Cause.Protocol, Direction: rec.Cause.Direction}
	}
	return radius.EncodeAttributes(radius.AccountingAttributes(out)), nil
}

// presentAAA decides about those who arrive in a virtual router as the configuration wants that holds when they are
// asked about.
type presentAAA struct {
	shared *shared
	router string
	log    *zap.Logger
}

// Decide implements [aaa.Method].
func (m presentAAA) Decide(ctx context.Context, r aaa.Request) aaa.Decision {
	a := m.shared.authority()
	c := a.cfg.Router(m.router)
	if c == nil {
		return refuse(aaa.ReasonNoRouter, "user %q has arrived in virtual router %q, which is no longer configured", r.User, m.router)
	}
	return knownPolicies{a.service.For(m.router), a, c, m.log}.Decide(ctx, r)
}

// knownPolicies is the AAA of a virtual router as far as its decisions name traffic policies that
// there are: what an unknown one does is the configuration's to say.
type knownPolicies struct {
	aaa.Method
	authority *authority
	router    *config.Router
	log       *zap.Logger
}

// Decide implements [aaa.Method].
func (k knownPolicies) Decide(ctx context.Context, r aaa.Request) aaa.Decision {
	d := k.Method.Decide(ctx, r)
	if !d.Accept || r.Access == aaa.AccessStatic { // whose traffic nobody shapes
		return d
	}
	terminating := d.Terminating
	if p := k.router.IPProfile(r.IPProfile); terminating == "" && p != nil {
		terminating = p.Router
	}
	end := k.authority.cfg.Router(terminating)
	for _, name := range []*string{&d.Traffic.InPolicy, &d.Traffic.OutPolicy} {
		if *name == "" || end != nil && end.TrafficPolicy(*name) != nil {
			continue
		}
		text := fmt.Sprintf("user %q shall have traffic policy %q, which virtual router %s has not; add it to its traffic-policies, or set aaa.unknown-policy to ignore", d.User, *name, terminating)
		if k.router.AAA.UnknownPolicy == config.UnknownPolicyRefuse {
			return aaa.Decision{Reason: aaa.ReasonUnknownPolicy, Text: text, By: d.By}
		}
		k.authority.ignored.Add(1)
		k.log.Debug("ignored: " + text)
		*name = ""
	}
	return d
}

// listenUDP opens a socket in the virtual router; it fails while that is not open.
func (r *router) listenUDP(local netip.AddrPort) (*net.UDPConn, error) {
	if plane := r.udp.Load(); plane != nil {
		return (*plane).ListenUDP(local)
	}
	return nil, fmt.Errorf("virtual router %s is not open", r.name)
}

// checkpointEvery is how often the traffic of all sessions is put down in the journal, for the
// stops that a crash would owe.
const checkpointEvery = time.Minute

// keepCheckpoints does so until ctx ends.
func (p *Process) keepCheckpoints(ctx context.Context) {
	journal := p.shared.authority().journal()
	tick := time.NewTicker(checkpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, r := range p.routers() {
			var list []subscriber.Record
			if !r.do(ctx, func(time.Time) {
				list = slices.DeleteFunc(r.machine.subs.Records(), func(s subscriber.Record) bool {
					return !s.Accounted || s.By.Accounting == "" || s.State != subscriber.StateUp
				})
			}) {
				continue
			}
			for i := range list {
				if c, ok := r.data.SessionCounters(list[i].ID); ok {
					list[i].Counters = c
				}
			}
			if len(list) > 0 {
				journal.Checkpoint(list)
			}
		}
	}
}
