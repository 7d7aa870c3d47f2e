package controlplane

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"vrgate/controlplane/api"
	"vrgate/controlplane/config"
	"vrgate/controlplane/pki"
	"vrgate/controlplane/subscriber"
)

// ErrNotServing says that a process does not take over a configuration, because it has not begun to serve or ends.
var ErrNotServing = errors.New("vrgate takes over no configuration now: it starts or stops")

// Plan says what taking over a configuration would change and end. Nothing is touched. The errors are those of
// Reload.
func (p *Process) Plan(ctx context.Context, cfg *config.Config) (api.Plan, error) {
	release, err := p.change(ctx)
	if err != nil {
		return api.Plan{}, err
	}
	defer release()
	plan, _, err := p.forecast(ctx, cfg)
	return plan, err
}

// Reload takes over a configuration. What has not changed is not touched: its tunnels and sessions live on, and their
// packets keep flowing. What has gone, or has changed so that those who use it cannot have it anew, is ended politely
// (G4); the plan says what. It returns when that is done.
//
// All of the new is built before anything is touched. The error has every mistake, and then nothing was done:
// [config.Errors], a *CertificateError, or both joined. It is ErrNotServing before Run serves and while it ends, and
// that of ctx when another reload does not end before it does. Once begun, a reload is carried through.
func (p *Process) Reload(ctx context.Context, cfg *config.Config) (api.Plan, error) {
	release, err := p.change(ctx)
	if err != nil {
		return api.Plan{}, err
	}
	defer release()
	began := time.Now()
	plan, b, err := p.forecast(ctx, cfg)
	if err != nil {
		return api.Plan{}, err
	}
	a := p.shared.authority()
	r := &reloading{Process: p, built: b, plan: &plan, live: a.live.Load(), formerGroups: a.groups}
	r.run()
	plan.Applied = true
	r.report(time.Since(began))
	return plan, nil
}

// change waits for its turn to change the process.
func (p *Process) change(ctx context.Context) (release func(), err error) {
	select {
	case p.changing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if p.life == nil || p.life.ctx.Err() != nil {
		<-p.changing
		return nil, ErrNotServing
	}
	return func() { <-p.changing }, nil
}

// reloading is one reload, after everything has been built.
type reloading struct {
	*Process
	built *built
	plan  *api.Plan
	live  *liveAuthority // of before

	formerGroups map[string][]string // that get accounting records, of before

	kept    []*router // that take over their configuration
	added   []*router // that are there now, open or not
	leaving []leaving
}

// leaving is a router that ends, and what takes its place.
type leaving struct {
	old  *router
	next *router // nil: nothing
	why  subscriber.Reason
}

// Reasons for which all of a virtual router ends.
const (
	reasonReconfigured  = subscriber.ReasonReconfigured
	reasonRouterRemoved = subscriber.ReasonRouterRemoved
)

// run takes over. The order is such that nothing is named to a client before it is there: data planes know new
// policies and virtual routers, and the pools are there, before AAA speaks of them, and engines take over last.
func (r *reloading) run() {
	r.sort()
	r.planes()
	r.openAdded()
	r.numbers = r.built.numbers
	r.shared.leases.reconfigure(r.built.cfg, r.built.pools)
	r.shared.admission.configure(r.built.cfg.Process.Admission)
	r.publish()
	r.swapAuthority()
	r.engines()
	for _, n := range r.added {
		r.keep(n)
		if n.data != nil {
			r.begin(n)
			r.serves(n)
		}
	}
	r.leave()
	r.farewell()
}

// sort decides who stays, comes and goes.
func (r *reloading) sort() {
	present := map[string]*router{}
	for _, old := range r.routers() {
		present[old.name] = old
	}
	for i, c := range r.built.cfg.Routers {
		old := present[c.Name]
		delete(present, c.Name)
		switch {
		case old == nil:
			r.added = append(r.added, r.newRouter(c, r.built.routers[i]))
		case old.data == nil: // it could not be opened
			r.unkeep(old)
			r.failed = slices.DeleteFunc(r.failed, func(f *router) bool { return f == old })
			r.added = append(r.added, r.newRouter(c, r.built.routers[i]))
		case reopens(old.cfg(), c):
			r.replace(old, c)
		default:
			r.kept = append(r.kept, old)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(present)) {
		old := present[name]
		r.unkeep(old)
		r.failed = slices.DeleteFunc(r.failed, func(f *router) bool { return f == old })
		if old.data != nil {
			r.leaving = append(r.leaving, leaving{old: old, why: reasonRouterRemoved})
		}
	}
}

// replace has a router leave for another of its name.
func (r *reloading) replace(old *router, c *config.Router) {
	r.leaving = append(r.leaving, leaving{old, r.newRouter(c, *r.built.router(c.Name)), reasonReconfigured})
}

// maxPlanes is how many data planes take over at once.
const maxPlanes = 8

// planes gives the data planes of those who stay their configuration. One that cannot take it keeps its old one, and
// so does the virtual router; one that has to be made anew leaves.
func (r *reloading) planes() {
	now := r.cfg()
	ends := changedEnds(now, r.built.cfg)
	type result struct {
		ok  bool
		err error
	}
	results := make([]result, len(r.kept))
	var g errgroup.Group
	g.SetLimit(maxPlanes)
	for i, k := range r.kept {
		c := r.built.cfg.Router(k.name)
		if !ends[k.name] && reflect.DeepEqual(k.cfg(), c) {
			results[i].ok = true
			continue
		}
		g.Go(func() error {
			results[i].ok, results[i].err = k.data.Reconfigure(r.built.cfg, c)
			return nil
		})
	}
	_ = g.Wait() // no error is returned
	var kept []*router
	for i, k := range r.kept {
		switch x := results[i]; {
		case x.err != nil:
			r.refused(k, x.err)
			kept = append(kept, k)
		case !x.ok:
			r.replace(k, r.built.cfg.Router(k.name))
		default:
			kept = append(kept, k)
		}
	}
	r.kept = kept
}

// changedEnds are the virtual routers in which subscribers end by a profile that has changed.
func changedEnds(now, next *config.Config) map[string]bool {
	out := map[string]bool{}
	for _, pair := range [][2]*config.Config{{now, next}, {next, now}} {
		for _, c := range pair[0].Routers {
			if other := pair[1].Router(c.Name); other != nil && reflect.DeepEqual(c.IPProfiles, other.IPProfiles) {
				continue
			}
			for i := range c.IPProfiles {
				out[c.IPProfiles[i].Router] = true
			}
		}
	}
	return out
}

// refused notes that a virtual router cannot take over its configuration, and has it keep the old one.
func (r *reloading) refused(k *router, err error) {
	reason, text := reasonOf(err)
	r.plan.Failed = append(r.plan.Failed, api.PlanFailure{VR: k.name, Reason: string(reason), Text: text})
	k.log.Error("virtual router keeps its old configuration", zap.String("reason", string(reason)), zap.String("text", text))
	old := &config.Config{Process: r.built.cfg.Process, Routers: slices.Clone(r.built.cfg.Routers)}
	for i, c := range old.Routers {
		if c.Name == k.name {
			old.Routers[i] = k.cfg()
		}
	}
	if b, err := r.build(old); err == nil {
		r.built = b
	} else { // each of the two is good, together they are not
		k.log.Error("virtual router keeps its old data plane", zap.Error(err))
	}
}

// openAdded makes the data planes of those who come.
func (r *reloading) openAdded() {
	for _, n := range r.added {
		if r.open(r.built.cfg, n) != nil {
			r.notOpened(n)
		}
	}
}

// notOpened has a router tried again until it serves.
func (r *reloading) notOpened(n *router) {
	f := n.failure.Load()
	r.plan.Failed = append(r.plan.Failed, api.PlanFailure{VR: n.name, Reason: string(f.Reason), Text: f.Text})
	r.failed = append(r.failed, n)
	select {
	case r.life.retry <- struct{}{}:
	default:
	}
}

// publish shows who is there from now on, those that leave among them until they have gone.
func (r *reloading) publish() {
	by := map[string]*router{}
	for _, k := range slices.Concat(r.kept, r.added) {
		by[k.name] = k
	}
	next := &present{cfg: r.built.cfg}
	for _, l := range r.leaving {
		if l.next != nil {
			by[l.old.name] = l.old
		}
	}
	for _, c := range r.built.cfg.Routers {
		next.routers = append(next.routers, by[c.Name])
	}
	for _, l := range r.leaving {
		if l.next == nil {
			next.routers = append(next.routers, l.old)
		}
	}
	r.now.Store(next)
}

// supersede shows another router in the place of one that has gone; nil: none.
func (r *reloading) supersede(old, next *router) {
	now := r.Process.now.Load()
	routers := slices.Clone(now.routers)
	i := slices.Index(routers, old)
	if next == nil {
		routers = slices.Delete(routers, i, i+1)
	} else {
		routers[i] = next
	}
	r.Process.now.Store(&present{cfg: now.cfg, routers: routers})
}

// engines has the loops of those who stay take over, side by side.
func (r *reloading) engines() {
	var waits []func(context.Context) bool
	var away []string
	for _, l := range r.leaving {
		if l.next != nil {
			away = append(away, l.old.name)
		}
	}
	for _, k := range r.kept {
		b := r.built.router(k.name)
		old := k.settings.Load()
		next := &settings{cfg: r.built.cfg.Router(k.name), rules: b.machine.ike.Rules, certs: b.certs}
		if sameCertificates(r.cfg(), old, next) {
			next.certs = old.certs // with the revocation lists that have been fetched
		}
		machine := b.machine
		machine.away = away
		machine.ike.Credentials, machine.ike.Authorities = credentials(next.certs), next.certs.AuthorityNames()
		waits = append(waits, k.post(func(now time.Time) {
			k.settings.Store(next)
			k.perform(k.ctx, k.machine.step(now, reconfigure(machine)))
		}))
	}
	for i, wait := range waits {
		k := r.kept[i]
		before := k.settings.Load().certs
		wait(r.life.cut)
		if k.certs() != before || r.life.keepers[k] == nil {
			r.keep(k)
		}
	}
}

// sameCertificates says whether a new store has nothing that the old one has not.
func sameCertificates(c *config.Config, old, next *settings) bool {
	return reflect.DeepEqual(pkiConfig(c, old.cfg), pkiConfig(c, next.cfg)) && sameContents(old.certs, next.certs)
}

// sameContents compares our certificates and the authorities of two stores, and the revocation lists that are files.
// Those from servers are as new as the last time that they were fetched.
func sameContents(a, b *pki.Store) bool {
	files := func(s *pki.Store) []pki.Item {
		return slices.DeleteFunc(s.Items(), func(i pki.Item) bool { return i.Kind == pki.ItemCRL && strings.Contains(i.Name, "://") })
	}
	return reflect.DeepEqual(credentials(a), credentials(b)) && reflect.DeepEqual(files(a), files(b))
}

// leave ends those who leave, side by side, and opens those that take their places.
func (r *reloading) leave() {
	var all sync.WaitGroup
	for _, l := range r.leaving {
		all.Go(func() { r.retire(l) })
	}
	all.Wait()
	for _, l := range r.leaving {
		if r.life.ctx.Err() != nil {
			return // everything ends, whoever is still there among it
		}
		r.unkeep(l.old)
		if err := l.old.close(); err != nil {
			l.old.log.Error("not everything of the virtual router could be removed", zap.Error(err))
		}
		r.supersede(l.old, l.next)
		if l.next == nil {
			continue
		}
		r.keep(l.next)
		if r.open(r.built.cfg, l.next) != nil {
			r.notOpened(l.next)
			continue
		}
		r.begin(l.next)
		r.serves(l.next)
	}
}

// retire ends a router's sessions, tunnels and IPsec politely, and before that those sessions of others that end in
// it. It returns when all is over, or the time for that is.
func (r *reloading) retire(l leaving) {
	grace := r.built.cfg.Process.ShutdownTimeout
	late, cancel := context.WithTimeout(r.life.ctx, grace+time.Second)
	defer cancel()
	var others sync.WaitGroup
	for _, o := range r.routers() {
		if o != l.old {
			others.Go(func() { o.emptyOf(late, l.old.name, l.why) })
		}
	}
	others.Wait()
	l.old.inbox.answer(stop{grace, l.why})
	select {
	case <-l.old.gone:
	case <-late.Done():
		if r.life.ctx.Err() != nil {
			return
		}
		l.old.log.Warn("not everything ended in time; what is left is cut off")
		l.old.cutOff()
		<-l.old.gone
	}
	if l.next == nil {
		last, cancel := context.WithTimeout(r.life.ctx, lastWordsMax)
		defer cancel()
		r.flush(last, l.old.name)
	}
}

// emptyPoll is how often emptyOf looks.
const emptyPoll = 20 * time.Millisecond

// emptyOf ends the sessions of a router that end in another, and returns when there are none, or ctx ends.
func (r *router) emptyOf(ctx context.Context, terminating string, why subscriber.Reason) {
	for {
		var ids []subscriber.ID
		if !r.do(ctx, func(now time.Time) {
			for _, s := range r.machine.subs.Records() {
				if s.Terminating == terminating {
					ids = append(ids, s.ID)
				}
			}
			if len(ids) > 0 {
				r.perform(r.ctx, r.machine.step(now, subscriber.Disconnect{IDs: ids, Reason: why}))
			}
		}) || len(ids) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(emptyPoll):
		}
	}
}

// report logs each change and a summary.
func (r *reloading) report(took time.Duration) {
	for _, c := range r.plan.Changes {
		r.log.Info("configuration changed", zap.String("vr", c.VR), zap.String("what", c.What), zap.String("change", c.Change), zap.Strings("settings", c.Settings))
	}
	for _, d := range r.plan.Drops {
		r.log.Info("ended by the new configuration", zap.String("vr", d.VR), zap.String("what", d.What), zap.String("reason", d.Reason),
			zap.Int("connections", d.Connections), zap.Int("tunnels", d.Tunnels), zap.Int("sessions", d.Sessions), zap.Int("subscribers", d.Subscribers))
	}
	for _, s := range r.plan.Restart {
		r.log.Warn("a setting holds only after a restart", zap.String("setting", s))
	}
	d := r.plan.Dropped
	r.log.Info("configuration taken over", zap.Duration("took", took), zap.Int("changes", len(r.plan.Changes)), zap.Int("virtual_routers", len(r.built.cfg.Routers)),
		zap.Int("failed", len(r.plan.Failed)), zap.Int("connections", d.Connections), zap.Int("tunnels", d.Tunnels), zap.Int("sessions", d.Sessions), zap.Int("subscribers", d.Subscribers))
}
