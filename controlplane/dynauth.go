package controlplane

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/aaa/coa"
	"vrgate/controlplane/subscriber"
)

// dynamicAuthorization ends and changes sessions for the RADIUS servers of a virtual router (RFC
// 5176): those about which its AAA has decided, wherever they have arrived.
type dynamicAuthorization struct {
	process *Process
	asked   *router
}

// Disconnect implements [coa.Handler].
func (h dynamicAuthorization) Disconnect(ctx context.Context, m coa.Match) coa.Result {
	var out coa.Result
	for _, r := range h.process.routers() {
		var ids []subscriber.ID
		if r.do(ctx, func(now time.Time) {
			ids = h.matching(r, m)
			r.perform(ctx, r.machine.step(now, subscriber.Disconnect{IDs: ids, Reason: subscriber.ReasonRADIUS}))
		}) {
			out.Sessions += len(ids)
		}
	}
	if err := ctx.Err(); err != nil {
		return coa.Result{Sessions: out.Sessions, Cause: coa.NoResources, Text: "not all sessions could be told to go in time"}
	}
	return out
}

// Change implements [coa.Handler]. It changes one session, because several could not be changed
// all or none.
func (h dynamicAuthorization) Change(ctx context.Context, m coa.Match, c aaa.Change) coa.Result {
	var where *router
	var which subscriber.ID
	n := 0
	for _, r := range h.process.routers() {
		var ids []subscriber.ID
		if r.do(ctx, func(time.Time) { ids = h.matching(r, m) }) && len(ids) > 0 {
			where, which = r, ids[0]
			n += len(ids)
		}
	}
	switch {
	case ctx.Err() != nil:
		return coa.Result{Sessions: n, Cause: coa.NoResources, Text: "not all sessions could be looked at in time"}
	case n == 0:
		return coa.Result{}
	case n > 1:
		return coa.Result{Sessions: n, Cause: coa.MultipleSessions, Text: fmt.Sprintf("%d sessions match, name one by its Acct-Session-Id", n)}
	}
	answer := make(chan subscriber.Changed, 1)
	if !where.do(ctx, func(now time.Time) {
		where.changeToken++
		where.changes[where.changeToken] = answer
		where.perform(ctx, where.machine.step(now, subscriber.Change{ID: which, Token: where.changeToken, Change: c}))
	}) && ctx.Err() == nil {
		return coa.Result{} // the virtual router has ended, and the session with it
	}
	select {
	case done := <-answer:
		return changeResult(done)
	case <-ctx.Done():
		return coa.Result{Sessions: 1, Cause: coa.NoResources, Text: "the change could not be made in time"}
	}
}

// changeResult says what came of a change as RFC 5176 does.
func changeResult(done subscriber.Changed) coa.Result {
	out := coa.Result{Sessions: 1, Text: done.Text}
	switch done.Reason {
	case "":
	case subscriber.ReasonNotUp:
		out.Cause = coa.NoSession
	case subscriber.ReasonBadChange, subscriber.Reason(aaa.ReasonUnknownPolicy):
		out.Cause = coa.InvalidValue
	default:
		out.Cause = coa.NoResources
	}
	return out
}

// matching lists the sessions of a router that are meant; in its loop.
func (h dynamicAuthorization) matching(r *router, m coa.Match) (ids []subscriber.ID) {
	for _, s := range r.machine.subs.Records() {
		if s.State != subscriber.StateEnding && s.By.Router == h.asked.name && m.Means(s.ID.String(), s.User, s.Address) {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// coaRetry is how long it takes until a socket that could not be opened, or failed, is tried again.
const coaRetry = 10 * time.Second

// orderTaker is the server of a virtual router for the orders of RADIUS servers, and what it was made of.
type orderTaker struct {
	*coa.Server
	cfg    coa.Config
	listen []netip.AddrPort
	router *router
	serves *serving
}

// serving are the sockets on which an orderTaker takes orders; it is owned by whoever is changing the process.
type serving struct {
	stop context.CancelFunc
	done sync.WaitGroup
}

// taken returns the server; nil: there is none.
func (o *orderTaker) taken() *coa.Server {
	if o == nil {
		return nil
	}
	return o.Server
}

// newOrderTaker makes one, or keeps the old one if that is as it would be.
func newOrderTaker(p *Process, r *router, cfg coa.Config, listen []netip.AddrPort, old *orderTaker) *orderTaker {
	if old != nil && old.router == r && slices.Equal(old.listen, listen) && reflect.DeepEqual(old.cfg, cfg) {
		return old
	}
	return &orderTaker{
		Server: coa.NewServer(cfg, dynamicAuthorization{p, r}, r.log), cfg: cfg, listen: listen, router: r, serves: &serving{},
	}
}

// begin opens the sockets, if they are not open; the router is.
func (o *orderTaker) begin(l *life) {
	if o.serves.stop != nil {
		return
	}
	var ctx context.Context
	ctx, o.serves.stop = context.WithCancel(l.ctx)
	for _, a := range o.listen {
		o.serves.done.Add(1)
		l.background.Go(func() {
			defer o.serves.done.Done()
			o.router.serveCoA(ctx, o.Server, a)
		})
	}
}

// end closes the sockets and returns when nothing that came by them is being worked on any more.
func (o *orderTaker) end() {
	if o.serves.stop != nil {
		o.serves.stop()
		o.serves.done.Wait()
	}
}

// listen begins to take the orders about a router that has been opened.
func (l *liveAuthority) listen(life *life, r *router) {
	if o := l.servers[r.name]; o != nil && o.router == r {
		o.begin(life)
	}
}

// serveCoA takes requests on one address of a virtual router until ctx ends.
func (r *router) serveCoA(ctx context.Context, server *coa.Server, local netip.AddrPort) {
	for {
		conn, err := r.listenUDP(local)
		if err == nil {
			err = server.Serve(ctx, conn)
			conn.Close()
		}
		if ctx.Err() != nil {
			return
		}
		r.log.Warn("RADIUS requests are not taken", zap.Stringer("address", local), zap.Error(err), zap.Duration("again_in", coaRetry))
		select {
		case <-ctx.Done():
			return
		case <-time.After(coaRetry):
		}
	}
}
