package controlplane

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/site"
	"vrgate/controlplane/subscriber"
)

// Keys that order blocking work: calls about one connection and its dynamic subscriber, and
// calls about one tunnel and its sessions, run one after the other. So the policies of a
// dynamic subscriber are there before its SAs and go after them.
type (
	connWork struct {
		router *router
		conn   ike.ConnID
	}
	tunnelWork struct {
		router *router
		tunnel uint16
	}
	repairWork struct{ router *router }
	userWork   struct {
		router *router
		id     subscriber.ID
	}
)

// async runs fn in the kernel workers; what it returns comes back as an event.
func (r *router) async(key any, fn func() any) {
	r.pending++
	r.shared.kernel.do(key, func() { r.inbox.answer(workDone{fn()}) })
}

func (r *router) perform(ctx context.Context, effects []any) {
	for _, f := range effects {
		switch f := f.(type) {
		case ike.UserAnswered, ike.KeepNAT, ike.ChildUp, ike.ChildDown:
			r.performStatic(ctx, f.(ike.Effect))
		case ike.Effect:
			r.performIKE(f)
		case l2tp.Effect:
			r.performL2TP(f)
		case subscriber.Effect:
			r.performSubscriber(ctx, f)
		case site.Effect:
			r.performSite(f)
		case CarryTunnel:
			r.carry(f)
		case closeStatic:
			r.closeStatic(f)
		}
	}
}

func (r *router) performIKE(f ike.Effect) {
	switch f := f.(type) {
	case ike.Send:
		if r.data.SendIKE(f) != nil {
			r.stats.ikeSendErrors.Add(1)
		}
	case ike.ComputeDH:
		r.compute(f.Unauthenticated, func() any { return computeDH(f) }, ike.DHDone{Job: f.Job, Err: busy})
	case ike.Sign:
		certs := r.certs()
		r.compute(f.Unauthenticated, func() any { return sign(certs, f) }, ike.Signed{Job: f.Job, Err: busy})
	case ike.VerifyPeer:
		certs := r.certs()
		r.compute(f.Unauthenticated, func() any { return verify(certs, time.Now(), f) }, ike.PeerVerified{Job: f.Job, Reason: busy, Text: "too many peers authenticate at once"})
	case ike.ReadTraffic:
		r.async(r.connKey(f.Conn), func() any {
			c, _ := r.data.Traffic(f.Conn)
			return ike.TrafficRead{Conn: f.Conn, InPackets: c.InPackets, OutPackets: c.OutPackets}
		})
	case ike.InstallSA:
		if f.SA.Static != "" {
			r.statics[f.SA.Conn] = f.SA.Static
		}
		r.async(r.connKey(f.SA.Conn), func() any {
			done := ike.SAInstalled{Conn: f.SA.Conn, SPI: f.SA.SPI, Dir: f.SA.Dir}
			if err := r.data.InstallSA(f.SA); err != nil {
				done.Err = r.kernelFailed("install SA", err)
			}
			return done
		})
	case ike.RemoveSA:
		r.async(r.connKey(f.Conn), func() any {
			r.kernelFailed("remove SA", r.data.RemoveSA(f))
			return nil
		})
	case ike.MoveConn:
		r.async(r.connKey(f.Conn), func() any {
			r.kernelFailed("move SAs", r.data.MoveConn(f))
			return nil
		})
	case ike.DynamicUp:
		r.log.Debug("IKE up, a dynamic subscriber", append(connFields(f.Conn), zap.String("profile", f.Conn.Profile), zap.Bool("again", f.Rekey))...)
	case ike.ConnUp:
		r.log.Info("IPsec up", append(connFields(f.Conn), zap.String("ike", f.Conn.Proposal), zap.String("esp", f.Conn.ESP),
			zap.String("key", f.Conn.Key), zap.Bool("nat", f.Conn.NATPeer))...)
	case ike.ConnDown:
		r.log.Log(connLevel(f.Conn), "IPsec down", append(connFields(f.Conn), zap.String("reason", string(f.Reason)), zap.String("text", f.Text), zap.Bool("by_peer", f.ByPeer))...)
	case ike.Report:
		r.report(uint8(f.Level), string(f.Reason), f.Text, zap.Stringer("peer", f.Remote), zap.Uint32("conn", uint32(f.Conn)))
	}
}

// compute runs work in the CPU workers, or answers with refusal when they have no room for it.
func (r *router) compute(unauthenticated bool, work func() any, refusal any) {
	r.pending++
	if !r.shared.cpu.submit(unauthenticated, func() { r.inbox.answer(workDone{work()}) }) {
		r.inbox.answer(workDone{refusal})
	}
}

// connLevel keeps the end of what was never announced out of the usual log: a dynamic
// subscriber whose user was not let in, and a static tunnel that cannot be dialled, have their own line.
func connLevel(c ike.ConnInfo) zapcore.Level {
	if (c.Dynamic || c.Static != "") && c.ESP == "" {
		return zapcore.DebugLevel
	}
	return zapcore.InfoLevel
}

func connFields(c ike.ConnInfo) []zap.Field {
	out := []zap.Field{
		zap.Uint32("conn", uint32(c.ID)), zap.Stringer("peer", c.Remote), zap.String("peer_id", c.PeerID), zap.String("client", c.Peer),
	}
	if c.Static != "" {
		out = append(out, zap.String("tunnel", c.Static))
	}
	if c.Subject != "" {
		out = append(out, zap.String("subject", c.Subject))
	}
	return out
}

func (r *router) performL2TP(f l2tp.Effect) {
	switch f := f.(type) {
	case l2tp.Send:
		if r.data.SendTunnel(f) != nil {
			r.stats.l2tpSendErrors.Add(1)
		}
	case l2tp.Refuse:
		if r.data.Refuse(f) != nil {
			r.stats.l2tpSendErrors.Add(1)
		}
	case l2tp.OpenSocket:
		r.async(tunnelWork{r, uint16(f.Tunnel)}, func() any {
			done := l2tp.SocketOpened{Tunnel: f.Tunnel}
			switch err := r.data.OpenTunnel(f); {
			case errors.Is(err, ErrPortInUse):
				done.InUse = true
			case err != nil:
				done.Err = r.kernelFailed("open tunnel socket", err)
			}
			return done
		})
	case l2tp.CloseSocket:
		r.async(tunnelWork{r, uint16(f.Tunnel)}, func() any {
			r.kernelFailed("close tunnel socket", r.data.CloseTunnel(f.Tunnel))
			return nil
		})
	case l2tp.TunnelUp:
		r.log.Log(tunnelLevel(f.Tunnel), "L2TP tunnel up", tunnelFields(f.Tunnel)...)
	case l2tp.TunnelDown:
		r.log.Log(tunnelLevel(f.Tunnel), "L2TP tunnel down", append(tunnelFields(f.Tunnel), zap.String("reason", string(f.Reason)), zap.String("text", f.Text), zap.Bool("by_peer", f.ByPeer))...)
	case l2tp.Report:
		if f.Reason == l2tp.ReasonNotSteered { // somebody has flushed the rules that steer; reported once a minute
			r.async(repairWork{r}, func() any {
				r.kernelFailed("repair rules", r.data.Repair())
				return nil
			})
		}
		r.report(uint8(f.Level), string(f.Reason), f.Text, zap.Stringer("peer", f.Remote), zap.Uint32("conn", uint32(f.Conn)), zap.Uint16("tunnel", uint16(f.Tunnel)))
	}
}

// tunnelLevel keeps the tunnels that anybody can open in clear text, with an address that need
// not even be his, out of the usual log.
func tunnelLevel(t l2tp.TunnelInfo) zapcore.Level {
	if !t.Trusted {
		return zapcore.DebugLevel
	}
	return zapcore.InfoLevel
}

func tunnelFields(t l2tp.TunnelInfo) []zap.Field {
	return []zap.Field{
		zap.Uint16("tunnel", uint16(t.ID)), zap.Uint32("conn", uint32(t.Conn)), zap.Stringer("peer", t.Remote), zap.String("host", t.PeerHost),
	}
}

func (r *router) performSubscriber(ctx context.Context, f subscriber.Effect) {
	switch f := f.(type) {
	case subscriber.SendFrame:
		if r.data.SendFrame(f) != nil {
			r.stats.pppSendErrors.Add(1)
		}
	case subscriber.Decide:
		r.decide(ctx, f)
	case subscriber.ReleaseAddress:
		r.shared.leases.release(r.name, f)
	case subscriber.OpenSession:
		r.async(tunnelWork{r, f.Call.Tunnel}, func() any {
			done := subscriber.SessionOpened{ID: f.ID}
			name, index, err := r.data.OpenSession(f)
			if err != nil {
				r.kernelFailed("open session", err)
				done.Reason, done.Text = reasonOf(err)
			}
			done.Interface, done.Ifindex = name, index
			return done
		})
	case subscriber.Activate:
		r.async(tunnelWork{r, f.Call.Tunnel}, func() any {
			done := subscriber.SessionActivated{ID: f.ID}
			if err := r.data.Activate(f); err != nil {
				r.kernelFailed("activate session", err)
				done.Reason, done.Text = reasonOf(err)
			}
			return done
		})
	case subscriber.Deactivate:
		r.async(tunnelWork{r, f.Call.Tunnel}, func() any {
			r.kernelFailed("deactivate session", r.data.Deactivate(f.ID))
			return nil
		})
	case subscriber.CloseSession:
		r.async(tunnelWork{r, f.Call.Tunnel}, func() any {
			carried := r.carried(f.Call)
			c, err := r.data.CloseSession(f.ID)
			r.kernelFailed("close session", err)
			return callClosed{subscriber.SessionClosed{ID: f.ID, Counters: c}, carried}
		})
	case subscriber.Bridge:
		// Calls about the other tunnel may run at the same time: see SwitchPlane.
		r.async(tunnelWork{r, f.Near.Call.Tunnel}, func() any {
			done := subscriber.Bridged{ID: f.ID}
			if err := r.data.Bridge(f); err != nil {
				r.kernelFailed("bridge calls", err)
				done.Reason, done.Text = reasonOf(err)
			}
			return done
		})
	case subscriber.CloseBridge:
		r.async(tunnelWork{r, f.Near.Tunnel}, func() any {
			carried := r.carried(f.Near, f.Far)
			c, err := r.data.CloseBridge(f.ID)
			r.kernelFailed("close bridge", err)
			return callClosed{subscriber.BridgeClosed{ID: f.ID, Counters: c}, carried}
		})
	case subscriber.OpenAccess:
		r.async(connWork{r, ike.ConnID(f.Conn)}, func() any {
			name, _, err := r.data.OpenAccess(f)
			done := subscriber.AccessOpened{ID: f.ID, Interface: name}
			if err != nil {
				r.kernelFailed("open access", err)
				done.Reason, done.Text = reasonOf(err)
			}
			return done
		})
	case subscriber.CloseAccess:
		r.async(connWork{r, ike.ConnID(f.Conn)}, func() any {
			c, err := r.data.CloseAccess(f.ID)
			r.kernelFailed("close access", err)
			return subscriber.AccessClosed{ID: f.ID, Counters: c}
		})
	case subscriber.ReadCounters:
		r.async(userWork{r, f.ID}, func() any {
			c, ok := r.data.SessionCounters(f.ID)
			return subscriber.CountersRead{ID: f.ID, Counters: c, Gone: !ok}
		})
	case subscriber.AccountStart:
		// Not among what is pending: the end of the daemon does not wait for a server. The journal
		// knows of the session then, and owes it a stop.
		r.shared.authority().journal().Start(f.Record, func(err error) {
			done := subscriber.AccountStarted{ID: f.Record.ID}
			if err != nil {
				done.Reason, done.Text = subscriber.ReasonNoAccounting, err.Error()
			}
			r.inbox.answer(done)
		})
	case subscriber.AccountInterim:
		r.shared.authority().journal().Interim(f.Record)
	case subscriber.Changed:
		if answer := r.changes[f.Token]; answer != nil {
			delete(r.changes, f.Token)
			answer <- f // it has room for the one
		}
	case subscriber.SetTraffic:
		r.async(trafficKey(r, f), func() any { return r.setTraffic(f) })
	case subscriber.Started:
		r.stats.started.Add(1)
		r.log.Info("subscriber up", recordFields(f.Record)...)
	case subscriber.Ended:
		r.stats.ended.Add(1)
		if f.Record.Accounted {
			r.shared.authority().journal().Stop(f.Record, nil)
		}
		r.log.Log(r.endLevel(time.Now(), f.Record), "subscriber ended", append(recordFields(f.Record), endFields(f.Record)...)...)
	case subscriber.Report:
		level := uint8(ike.LevelInfo)
		if f.Warn {
			level = uint8(ike.LevelWarn)
		}
		r.report(level, string(f.Reason), f.Text, zap.Stringer("peer", f.Remote), zap.Uint32("conn", f.Conn))
	}
}

// carried reads for the last time what L2TP has carried for calls whose kernel objects are about to go.
func (r *router) carried(calls ...subscriber.CallKey) (out []l2tp.CallSettled) {
	for _, call := range calls {
		if t, ok := r.data.CallTraffic(call); ok {
			s := l2tp.CallSettled{Tunnel: l2tp.TunnelID(call.Tunnel), Session: l2tp.SessionID(call.Session)}
			s.Payload.RxOctets, s.Payload.RxPackets, s.Payload.RxErrors, s.Payload.RxDiscards = t.RxOctets, t.RxPackets, t.RxErrors, t.RxDiscards
			s.Payload.TxOctets, s.Payload.TxPackets, s.Payload.TxErrors = t.TxOctets, t.TxPackets, t.TxErrors
			out = append(out, s)
		}
	}
	return out
}

// decide asks AAA when the subscriber's turn comes. Who waits for the end of another session keeps
// no place from others meanwhile.
func (r *router) decide(ctx context.Context, f subscriber.Decide) {
	r.pending++
	answer := func(out subscriber.Decided) { r.inbox.answer(workDone{out}) }
	w := &askingWork{key: userWork{r, f.ID}, source: sourceOf(r.name, f.Request.Remote.Addr()), class: classNew}
	switch {
	case f.Again:
		w.class = classAgain
	case len(f.Request.State) > 0:
		w.class = classRound
	}
	w.run = func() (after func()) {
		out, wait := r.shared.leases.decide(ctx, r.name, r.method, f)
		if wait == nil {
			answer(out)
			return nil
		}
		return func() {
			out.Decision, out.Address = wait.wait(ctx)
			answer(out)
		}
	}
	w.refuse = func(d aaa.Decision) { answer(subscriber.Decided{ID: f.ID, Decision: d}) }
	r.shared.admission.do(w)
}

// trafficKey orders a change of a session's traffic among the other calls about the session.
func trafficKey(r *router, f subscriber.SetTraffic) any {
	if f.Call != (subscriber.CallKey{}) {
		return tunnelWork{r, f.Call.Tunnel}
	}
	return connWork{r, ike.ConnID(f.Conn)}
}

func (r *router) setTraffic(f subscriber.SetTraffic) subscriber.TrafficSet {
	done := subscriber.TrafficSet{ID: f.ID}
	if err := r.data.SetTraffic(f); err != nil {
		done.Reason, done.Text = reasonOf(err)
		if done.Reason != subscriber.Reason(aaa.ReasonUnknownPolicy) { // which is the server's fault, and its answer says so
			r.kernelFailed("set traffic", err)
		}
	}
	return done
}

func recordFields(s subscriber.Record) []zap.Field {
	out := []zap.Field{
		zap.Uint64("subscriber", uint64(s.ID)), zap.String("user", s.User), zap.Stringer("peer", s.Remote), zap.String("address", addressText(s.Address)),
		zap.String("router", s.Terminating), zap.String("interface", s.Interface), zap.String("access", string(s.Access)),
		zap.Uint32("conn", s.Conn),
	}
	if s.Access == aaa.AccessXAuth {
		return append(out, zap.String("profile", s.Profile), zap.String("peer_id", s.PeerID))
	}
	if s.Server.IsValid() {
		out = append(out, zap.Stringer("lns", s.Server))
	}
	return append(out, zap.Uint16("tunnel", s.Call.Tunnel), zap.Uint16("session", s.Call.Session))
}

// refusalsPerSecond bounds the summary lines of subscribers that never were up: with hybrid
// authentication and L2TP in clear text anybody can be one of these.
const refusalsPerSecond = 20

// endLevel keeps what strangers could flood the log with out of it. Everything is counted.
func (r *router) endLevel(now time.Time, s subscriber.Record) zapcore.Level {
	if !s.Up.IsZero() {
		return zapcore.InfoLevel
	}
	if now.Sub(r.refusedAt) >= time.Second {
		r.refusedAt, r.refused = now, 0
	}
	if r.refused++; r.refused > refusalsPerSecond {
		return zapcore.DebugLevel
	}
	return zapcore.InfoLevel
}

// addressText is empty for a subscriber that has no address (yet).
func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// endFields complete the one summary line of an ended subscriber: how long, how much, why.
func endFields(s subscriber.Record) []zap.Field {
	up := time.Duration(0)
	if !s.Up.IsZero() {
		up = s.Ended.Sub(s.Up)
	}
	return []zap.Field{
		zap.Duration("up", up), zap.Uint64("in_bytes", s.Counters.InBytes), zap.Uint64("out_bytes", s.Counters.OutBytes),
		zap.Uint64("in_packets", s.Counters.InPackets), zap.Uint64("out_packets", s.Counters.OutPackets),
		zap.String("reason", string(s.Reason)), zap.String("text", s.Text), zap.Bool("by_peer", s.ByPeer),
	}
}

// kernelFailed logs and counts a failed kernel call and returns its sentence.
func (r *router) kernelFailed(what string, err error) string {
	if err == nil {
		return ""
	}
	r.stats.kernelErrors.Add(1)
	reason, text := reasonOf(err)
	r.log.Warn("kernel call failed", zap.String("call", what), zap.String("reason", string(reason)), zap.String("text", text))
	return text
}

// report logs at the level the engine chose: 0 debug, 1 info, 2 warning.
func (r *router) report(level uint8, reason, text string, fields ...zap.Field) {
	fields = append(fields, zap.String("reason", reason))
	switch level {
	case uint8(ike.LevelDebug):
		r.log.Debug(text, fields...)
	case uint8(ike.LevelInfo):
		r.log.Info(text, fields...)
	default:
		r.log.Warn(text, fields...)
	}
}
