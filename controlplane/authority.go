package controlplane

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/aaa/accounting"
	"vrgate/controlplane/aaa/coa"
	"vrgate/controlplane/aaa/radius"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
)

// authority is all of AAA that the process has: who decides about subscribers, and who is told
// what became of them.
type authority struct {
	cfg     *config.Config
	service *aaa.Service
	codes   map[string]*accounting.Codes // by virtual router
	nas     map[string]radius.NAS
	groups  map[string][]string // groups of servers that get accounting records
	live    atomic.Pointer[liveAuthority]
	// ignored counts traffic policies that the terminating router has not, and that its users
	// were let in without.
	ignored atomic.Uint64
}

// liveAuthority is what of it lives while the process runs. The maps are by virtual router and do
// not change.
type liveAuthority struct {
	clients map[string]*radius.Client
	methods map[string]*radius.Method
	servers map[string]*coa.Server
	journal *accounting.Journal
}

// newAuthority translates the configuration. The error is [config.Errors].
func newAuthority(c *config.Config) (*authority, error) {
	codes, err := buildCodes(c)
	if err != nil {
		return nil, err
	}
	a := &authority{cfg: c, codes: codes, nas: map[string]radius.NAS{}, groups: accountingGroups(c)}
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
		if m := live.methods[router]; m != nil {
			return m
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
	live := &liveAuthority{clients: map[string]*radius.Client{}, methods: map[string]*radius.Method{}, servers: map[string]*coa.Server{}}
	for _, r := range p.routers {
		if len(r.cfg.RADIUS.Servers) > 0 {
			c := radius.NewClient(buildRADIUS(r.cfg), r.listenUDP, r.log)
			live.clients[r.name] = c
			live.methods[r.name] = &radius.Method{Client: c, NAS: a.nas[r.name], MayMove: r.name == a.cfg.Process.DefaultRouter}
		}
		if cfg, listen := buildCoA(r.cfg); len(listen) > 0 {
			live.servers[r.name] = coa.NewServer(cfg, dynamicAuthorization{p, r}, r.log)
		}
	}
	cfg := buildJournal(a.cfg, a.codes)
	cfg.Encode = a.encode
	journal, err := accounting.Open(p.store, cfg, func(ctx context.Context, router, group string, attributes []byte, at time.Time) error {
		c := live.clients[router]
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

// close ends the clients; the journal has been closed before.
func (l *liveAuthority) close() {
	for _, c := range l.clients {
		_ = c.Close() // always nil
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
	if !d.Accept {
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
func (p *Process) keepCheckpoints(ctx context.Context, journal *accounting.Journal) {
	tick := time.NewTicker(checkpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, r := range p.routers {
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
