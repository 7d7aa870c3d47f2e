package subscriber

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/keymat"
	"vrgate/pppd"
)

// What the bed needs for tunnel switching: it plays the L2TP engine as LAC, the LNSs, whose PPP is real, and the bridge
// in the kernel.

var (
	lnsA = aaa.Tunnel{Server: netip.MustParseAddr("203.0.113.1"), Secret: keymat.Secret("secret of A")}
	lnsB = aaa.Tunnel{Server: netip.MustParseAddr("203.0.113.2"), Preference: 10, ServerName: "b"}
)

// ofCall returns the ledger of a session by either of its calls.
func (b *bed) ofCall(call CallKey) *ledger {
	for _, l := range b.calls {
		if l.call == call && l.conn == 0 && !l.callGone || l.farUp && l.far == call {
			return l
		}
	}
	return nil
}

// across returns who is at the other end of a bridge; nil: there is none.
func (b *bed) across(call CallKey) *peer {
	l := b.ofCall(call)
	if l == nil || !l.handed || !l.open || l.closing {
		return nil
	}
	if call == l.far {
		return b.peers[l.call]
	}
	return b.peers[l.far]
}

// checkRelayed: before the bridge PPP's control frames, and nothing else, pass from one call to the other.
func (b *bed) checkRelayed(l *ledger, f SendFrame) {
	b.t.Helper()
	if len(f.Data) == 6 && f.Data[2] == 6 && l.dialling && f.Call == l.call {
		return // we confirm that the peer has hung up
	}
	there := f.Call == l.call && !l.callGone || f.Call == l.far && l.farUp
	if f.InKernel || !there || f.Data[0] < 0x80 {
		b.t.Errorf("%+v is relayed; ledger %+v", f, *l)
	}
}

func (b *bed) releasePlaces(l *ledger, f ReleaseAddress) {
	b.t.Helper()
	if f.Address.IsValid() || f.Terminating != "outside" || f.Pool != "" || f.User != l.owner {
		b.t.Errorf("%+v released by a session that was handed on", f)
	}
	l.held0 = false
	b.note("release places")
}

// hangUpFar ends the call to an LNS as L2TP does.
func (b *bed) hangUpFar(l *ledger, f CloseCall) {
	l.farUp = false
	b.note("hang up at LNS: %s", f.Reason)
	b.lostPeer(f.Call)
	b.step(FarDown{Call: f.Call, Reason: "l2tp-closed"}) // no news
}

func (b *bed) performSwitching(f Effect, of func(ID) *ledger) {
	b.t.Helper()
	switch f := f.(type) {
	case Dial:
		l := of(ID(f.Ref))
		if l.dialling || l.farUp || !l.held0 || l.callGone || f.Timeout <= 0 || l.opening || l.open {
			b.t.Errorf("%+v, ledger %+v", f, *l)
		}
		l.handed, l.dialling, l.cancelled = true, true, false
		b.note("dial %v", f.Target.Server)
		b.dials = append(b.dials, f)
	case CancelDial:
		l := of(ID(f.Ref))
		if !l.dialling || l.cancelled {
			b.t.Errorf("%+v, ledger %+v", f, *l)
		}
		l.cancelled = true
		b.note("cancel")
	case Bridge:
		l := of(f.ID)
		if !l.handed || !l.farUp || l.callGone || l.open || l.opening || f.Near.Call != l.call || f.Far.Call != l.far || f.Far.PeerSession != 77 {
			b.t.Errorf("%+v, ledger %+v", f, *l)
		}
		if !l.accounted {
			b.t.Errorf("session %d: traffic flows before accounting", f.ID)
		}
		l.opening = true
		b.note("bridge")
		b.bridges = append(b.bridges, f)
	case ConnectFar:
		l := b.ofCall(f.Call)
		if l == nil || !l.handed || !l.farUp || !l.open || l.maySpeak {
			b.t.Fatalf("%+v, ledger %+v", f, l)
		}
		l.maySpeak = true
	case CloseBridge:
		l := of(f.ID)
		if !l.handed || !l.open || l.closing || f.Near != l.call || f.Far != l.far {
			b.t.Errorf("%+v, ledger %+v", f, *l)
		}
		l.closing = true
		b.note("close bridge")
		b.unbridges = append(b.unbridges, f)
	default:
		b.t.Fatalf("unknown effect %T", f)
	}
}

// farUp answers the oldest Dial: the LNS takes the call, and what was said about PPP.
func (b *bed) farUp() *peer {
	b.t.Helper()
	f, ok := take(&b.dials)
	if !ok {
		b.t.Fatalf("nobody is called; so far:\n%s", strings.Join(b.log, "\n"))
	}
	b.serie++
	l := b.calls[ID(f.Ref)]
	l.dialling, l.farUp, l.far = false, true, CallKey{Tunnel: 20000, Session: uint16(b.serie)}
	p := &peer{call: l.far, lns: true, link: pppd.NewLink(pppd.Config{
		MRU: 1400, Name: "lns", EchoInterval: 30 * time.Second, EchoFailures: 3, Auth: []pppd.AuthProtocol{pppd.AuthCHAPMD5, pppd.AuthMSCHAPv2, pppd.AuthPAP}, Proxy: &f.Proxy,
	}, rand.NewChaCha8([32]byte{3, byte(b.serie)}))}
	b.peers[l.far] = p
	b.step(FarUp{Ref: f.Ref, Call: l.far, PeerTunnel: 66, PeerSession: 77})
	if b.peers[p.call] == p {
		b.peerStep(p, pppd.Open{})
	}
	return p
}

// lnsDecides answers an LNS's question about a subscriber, which only LNSs have.
func (b *bed) lnsDecides(p *peer, r pppd.AuthRequest) {
	d := b.method.Decide(context.Background(), aaa.Request{
		User: r.User, Protocol: protocols[r.Protocol], Password: keymat.Secret(r.Password), ID: r.ID, Challenge: r.Challenge, Response: r.Response,
	})
	b.peerStep(p, pppd.AuthDecision{
		Accept: d.Accept, MSCHAPv2Response: d.MSCHAPv2Response, Network: pppd.Network{Local: lnsA.Server, Peer: netip.MustParseAddr("10.77.0.1")},
	})
}

// lnsEnds has an LNS hang up whose PPP is over.
func (b *bed) lnsEnds(p *peer) {
	for id, l := range b.calls {
		if l.farUp && l.far == p.call {
			b.farDown(id, p.down.Cause)
		}
	}
}

// farFailed answers the oldest Dial: the LNS does not take the call.
func (b *bed) farFailed(silent bool) {
	b.t.Helper()
	f, ok := take(&b.dials)
	if !ok {
		b.t.Fatalf("nobody is called; so far:\n%s", strings.Join(b.log, "\n"))
	}
	b.calls[ID(f.Ref)].dialling = false
	b.step(FarFailed{Ref: f.Ref, Reason: "peer-silent", Text: fmt.Sprintf("%v does not want to", f.Target.Server), Silent: silent})
}

// farDown has the LNS of a session hang up.
func (b *bed) farDown(id ID, cause pppd.DisconnectCause) {
	b.t.Helper()
	l := b.calls[id]
	if !l.farUp {
		return
	}
	l.farUp = false
	b.lostPeer(l.far)
	b.step(FarDown{Call: l.far, Reason: "peer-closed-session", Text: "the LNS has hung up", ByPeer: true, Cause: cause})
}

// bridged answers the oldest Bridge.
func (b *bed) bridged(failure Reason) {
	b.t.Helper()
	f, ok := take(&b.bridges)
	if !ok {
		b.t.Fatalf("nothing to bridge; so far:\n%s", strings.Join(b.log, "\n"))
	}
	l := b.calls[f.ID]
	l.opening, l.open = false, failure == ""
	ev := Bridged{ID: f.ID, Reason: failure}
	if failure != "" {
		ev.Text = "the kernel said no"
	}
	b.step(ev)
}

// bridgeClosed answers the oldest CloseBridge.
func (b *bed) bridgeClosed() {
	b.t.Helper()
	f, ok := take(&b.unbridges)
	if !ok {
		b.t.Fatalf("no bridge to close; so far:\n%s", strings.Join(b.log, "\n"))
	}
	l := b.calls[f.ID]
	l.open, l.closing = false, false
	b.step(BridgeClosed{ID: f.ID, Counters: Counters{InBytes: 55, OutBytes: 66, InPackets: 5, OutPackets: 6}})
}

// handOn brings a session to the LNS that AAA names; the bridge is up.
func (b *bed) handOn(call CallKey, conn uint32) ID {
	b.t.Helper()
	b.tunnels = []aaa.Tunnel{lnsA}
	id := b.callUp(call, conn)
	b.speak(call, testUser)
	b.answerAll()
	return id
}

// reload replaces the configuration, and checks that it ends exactly those that were foretold.
func (b *bed) reload(cfg Config) {
	b.t.Helper()
	foretold := map[ID]Reason{}
	for _, a := range b.e.Affected(cfg) {
		foretold[a.Record.ID] = a.Reason
	}
	before := b.e.Records()
	b.step(Reconfigure{Config: cfg})
	for _, r := range before {
		var after Reason
		if s := b.e.byID[r.ID]; s != nil {
			after = s.Reason
		} else {
			after = b.calls[r.ID].ended.Reason
		}
		want, ends := foretold[r.ID]
		if !ends {
			want = r.Reason
		}
		if after != want {
			b.t.Errorf("session %d: reason %q after a reload, %q before; foretold %q", r.ID, after, r.Reason, foretold[r.ID])
		}
	}
}
