package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"vrgate/controlplane/site"
)

// Static tunnels: what the shell does for their engine that is no call into the kernel whose order matters.

// Reasons of failed lookups, beside those of the engine.
const (
	reasonNameNotFound site.Reason = "name-not-found" // or it has no IPv4 address
	reasonNameFailed   site.Reason = "name-failed"    // a name server has answered with a failure, or cannot be asked
	reasonNamesBusy    site.Reason = "too-many-names" // are being looked up; this one has not had its turn
)

// siteShell is what the shell keeps of static tunnels. The loop owns it, but for lookups.
type siteShell struct {
	lookups lookups
	told    map[string]toldTunnel
	// words are the words of operators that are not answered yet.
	words map[uint64]chan<- site.Answer
	word  uint64
}

func newSiteShell() siteShell {
	return siteShell{told: map[string]toldTunnel{}, words: map[uint64]chan<- site.Answer{}}
}

// toldTunnel is what the log says of a tunnel.
type toldTunnel struct {
	up   bool
	conn uint32
	// The last warning, and when it was.
	reason site.Reason
	text   string
	warned time.Time
}

// probe asks a host through a tunnel, after what is being done about the tunnel.
func (r *router) probe(f site.Probe) {
	r.async(staticWork{r, f.Tunnel}, func() any {
		r.data.Probe(f, func(res site.CheckResult) { r.inbox.answer(res) })
		return nil
	})
}

// resolve looks a name up, beside everything else, until the loop ends: whoever has caused it may not wait so long.
func (r *router) resolve(f site.Resolve) {
	ctx, servers := r.ctx, r.cfg().NameServers
	r.sites.lookups.do(func() {
		ctx, cancel := lookupContext(ctx)
		defer cancel()
		addrs, err := r.data.Lookup(ctx, servers, f.Name)
		out := site.Resolved{Name: f.Name, Addrs: addrs}
		if err != nil {
			out.Addrs = nil
			out.Reason, out.Text = lookupReason(err)
		}
		r.inbox.answer(out)
	}, func() {
		r.inbox.answer(site.Resolved{Name: f.Name, Reason: reasonNamesBusy, Text: fmt.Sprintf("%d names are being looked up and get no answer", maxLookups)})
	})
}

// lookupReason says why a name has no addresses: for the same cause in the same words, or each failure would be logged. What the
// resolver says of silence has the port that it asked from, and a server that need not be the virtual router's.
func lookupReason(err error) (site.Reason, string) {
	var dns *net.DNSError
	switch known := errors.As(err, &dns); {
	case known && dns.IsNotFound:
		return reasonNameNotFound, err.Error()
	case known && dns.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		return site.ReasonNameTimeout, "no name server answers"
	}
	return reasonNameFailed, err.Error()
}

// warnAgain is how long a tunnel that fails in the same way again and again is only logged at debug level.
const warnAgain = time.Hour

// tunnelChanged logs what an operator wants to know: that a tunnel has come up or gone down, and once why it cannot come up.
func (r *router) tunnelChanged(f site.Changed) {
	r.forgetTold()
	was := r.sites.told[f.Tunnel]
	is := was
	level, text := zapcore.DebugLevel, "static tunnel is "+f.State.String()
	switch f.State {
	case site.StateUp:
		if is = (toldTunnel{up: true, conn: f.Conn}); is != was {
			level, text = zapcore.InfoLevel, "static tunnel up"
		}
		if was.up && is != was {
			text = "static tunnel is carried by another connection"
		}
	case site.StateChecking: // its connection is there: it is neither up nor lost
	default:
		is.up, is.conn = false, 0
		if was.up {
			level, text = zapcore.InfoLevel, "static tunnel down"
		} else if f.State == site.StateAdminDown {
			level = zapcore.InfoLevel
		}
		if f.State == site.StateWaiting && !was.up { // a tunnel that was up has not failed to come up yet
			now := time.Now()
			if f.Reason != was.reason || f.Text != was.text || now.Sub(was.warned) >= warnAgain {
				level, text = zapcore.WarnLevel, "static tunnel cannot be brought up"
				is.reason, is.text, is.warned = f.Reason, f.Text, now
			}
		}
	}
	r.sites.told[f.Tunnel] = is
	r.log.Log(level, text, changedFields(f)...)
}

func changedFields(f site.Changed) []zap.Field {
	out := []zap.Field{zap.String("tunnel", f.Tunnel), zap.Stringer("state", f.State)}
	if f.Peer.IsValid() {
		out = append(out, zap.Stringer("peer", f.Peer))
	}
	if f.Conn != 0 {
		out = append(out, zap.Uint32("conn", f.Conn))
	}
	if f.Reason != "" {
		out = append(out, zap.String("reason", string(f.Reason)))
	}
	if f.Text != "" {
		out = append(out, zap.String("text", f.Text))
	}
	if !f.Until.IsZero() {
		out = append(out, zap.Time("again_at", f.Until))
	}
	return out
}

// forgetTold forgets tunnels that are not configured any more, once there are more than can be.
func (r *router) forgetTold() {
	configured := r.cfg().StaticTunnels
	if len(r.sites.told) <= len(configured) {
		return
	}
	names := make(map[string]bool, len(configured))
	for i := range configured {
		names[configured[i].Name] = true
	}
	for name := range r.sites.told {
		if !names[name] {
			delete(r.sites.told, name)
		}
	}
}

// tunnelAnswered hands the answer to a word of an operator on.
func (r *router) tunnelAnswered(f site.Answer) {
	if answer := r.sites.words[f.Ref]; answer != nil {
		delete(r.sites.words, f.Ref)
		answer <- f // it has room for the one
	}
}

// tellTunnel says a word of an operator about a tunnel. False: the virtual router does not run, or ctx has ended.
func (r *router) tellTunnel(ctx context.Context, name string, command site.Command) (site.Answer, bool) {
	answer := make(chan site.Answer, 1)
	if !r.do(ctx, func(now time.Time) {
		r.sites.word++
		r.sites.words[r.sites.word] = answer
		r.perform(r.ctx, r.machine.step(now, site.Operator{Ref: r.sites.word, Tunnel: name, Command: command}))
	}) {
		return site.Answer{}, false
	}
	select {
	case a := <-answer:
		return a, true
	case <-r.gone:
	case <-ctx.Done():
	}
	return site.Answer{}, false
}
