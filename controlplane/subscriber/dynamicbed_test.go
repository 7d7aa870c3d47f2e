package subscriber

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/keymat"
)

// What the bed needs for dynamic subscribers: it plays IKE, the user and the XFRM part of the
// kernel.

var testLocal = netip.MustParseAddrPort("192.0.2.1:4500")

// mayStart says whether a subscriber can send traffic.
func (l *ledger) mayStart() bool {
	if l.handed {
		return l.farUp && !l.callGone
	}
	if l.conn != 0 {
		return l.admitted && l.connected && !l.callGone && !l.left
	}
	return l.active
}

// on returns the ledger of a dynamic subscriber whose connection lives, and its ID.
func (b *bed) on(conn uint32) (*ledger, ID) {
	for id, l := range b.calls {
		if l.conn == conn && conn != 0 && !l.callGone {
			return l, id
		}
	}
	return nil, 0
}

// dynamicUp brings phase 1 of a subscriber, or of one that is known.
func (b *bed) dynamicUp(conn uint32, profile string) ID {
	b.t.Helper()
	return b.dynamicFrom(conn, profile, testRemote)
}

func (b *bed) dynamicFrom(conn uint32, profile string, remote netip.AddrPort) ID {
	b.t.Helper()
	id := b.e.nextID
	l, known := b.on(conn)
	if l == nil {
		b.calls[id] = &ledger{conn: conn}
	} else {
		id = known
	}
	b.step(DynamicUp{
		Conn: conn, Local: testLocal, Remote: remote, Profile: profile, PeerID: "@pc.example.net", Peer: "iOS", Rekey: l != nil,
	})
	return id
}

// dynamicConnUp brings the first IPsec SA.
func (b *bed) dynamicConnUp(conn uint32) {
	b.t.Helper()
	if l, _ := b.on(conn); l != nil {
		l.connected = true
	}
	b.step(ConnUp{Conn: conn, Remote: testRemote, PeerID: "@pc.example.net", Peer: "iOS", Dynamic: true})
}

// dynamicDown ends the connection as IKE does.
func (b *bed) dynamicDown(conn uint32, reason string) {
	b.t.Helper()
	b.leaving = slices.DeleteFunc(b.leaving, func(c uint32) bool { return c == conn })
	b.asks = slices.DeleteFunc(b.asks, func(f AskUser) bool { return f.Conn == conn })
	if l, _ := b.on(conn); l != nil {
		l.callGone, l.asking = true, false
	}
	b.step(ConnDown{Conn: conn, Reason: reason, Text: "gone", ByPeer: true})
}

// leave notes that a dynamic subscriber's connection is to be ended.
func (b *bed) leave(conn uint32) {
	if l, _ := b.on(conn); l != nil {
		l.left = true
		if !slices.Contains(b.leaving, conn) {
			b.leaving = append(b.leaving, conn)
		}
	}
}

// left ends the first connection that is to be ended.
func (b *bed) left() {
	b.t.Helper()
	conn, ok := take(&b.leaving)
	if !ok {
		b.t.Fatalf("nobody leaves; so far:\n%s", strings.Join(b.log, "\n"))
	}
	b.dynamicDown(conn, "operator")
}

func (b *bed) performDynamic(f Effect, of func(ID) *ledger) {
	b.t.Helper()
	live := func(conn uint32) *ledger {
		l, id := b.on(conn)
		if l == nil || l.left || l.ended != nil {
			b.t.Fatalf("%T about connection %d (subscriber %d), which is gone or going", f, conn, id)
		}
		return l
	}
	switch f := f.(type) {
	case AskUser:
		l := live(f.Conn)
		if l.asked {
			b.t.Errorf("connection %d: the user is asked while AAA decides", f.Conn)
		}
		l.asking, l.admitted = true, false
		b.asks = slices.DeleteFunc(b.asks, func(g AskUser) bool { return g.Conn == f.Conn })
		b.asks = append(b.asks, f)
		b.note("ask %+q", f.Message)
	case Deny:
		live(f.Conn)
		if !reasonWord.MatchString(string(f.Reason)) || f.Text == "" {
			b.t.Errorf("denied with reason %q, text %q", f.Reason, f.Text)
		}
		b.note("deny %d: %s", f.Conn, f.Reason)
		b.leave(f.Conn)
	case OpenAccess:
		l := of(f.ID)
		if l.open || l.opening || l.left || f.Conn != l.conn || !l.held.IsValid() || f.Address != l.held || f.Gateway != l.gateway() || f.Terminating != l.terminating() || f.Traffic != b.trafficOf(l) || f.Local != testLocal {
			b.t.Errorf("%+v, ledger %+v", f, *l)
		}
		l.opening = true
		b.note("open access in %s mtu %d", f.Terminating, f.MTU)
		b.accesses = append(b.accesses, f)
	case Admit:
		l := live(f.Conn)
		if !l.open || l.closing || l.asked || l.asking || f.Address != l.held {
			b.t.Errorf("%+v, ledger %+v", f, *l)
		}
		l.admitted = true
		b.admits = append(b.admits, f)
		b.note("admit %v", f.Address)
	case CloseAccess:
		l := of(f.ID)
		if !l.open || l.closing || !l.callGone || f.Conn != l.conn {
			b.t.Errorf("%+v, ledger %+v", f, *l)
		}
		l.closing = true
		b.note("close access")
		b.accessCloses = append(b.accessCloses, f)
	case ReadCounters:
		if l := of(f.ID); l.started != 1 || !l.open || l.closing {
			b.t.Errorf("counters of session %d are asked for: %+v", f.ID, *l)
		}
		b.reads = append(b.reads, f)
	default:
		b.performAccounting(f, of)
	}
}

// reply answers the oldest question to a user; the connection is filled in.
func (b *bed) reply(ev UserAnswered) AskUser {
	b.t.Helper()
	f, ok := take(&b.asks)
	if !ok {
		b.t.Fatalf("nobody is asked; so far:\n%s", strings.Join(b.log, "\n"))
	}
	if l, _ := b.on(f.Conn); l != nil {
		l.asking = false
	}
	ev.Conn = f.Conn
	b.step(ev)
	return f
}

func (b *bed) answer(user, password string) AskUser {
	b.t.Helper()
	return b.reply(UserAnswered{User: user, Password: keymat.Secret(password)})
}

// accessOpened answers the oldest OpenAccess.
func (b *bed) accessOpened(failure Reason) {
	b.t.Helper()
	f, ok := take(&b.accesses)
	if !ok {
		b.t.Fatalf("no access to open; so far:\n%s", strings.Join(b.log, "\n"))
	}
	l := b.calls[f.ID]
	l.opening, l.open = false, failure == ""
	ev := AccessOpened{ID: f.ID, Interface: "ipsec0"}
	if failure != "" {
		ev = AccessOpened{ID: f.ID, Reason: failure, Text: "the kernel said no"}
	}
	b.step(ev)
}

// accessClosed answers the oldest CloseAccess.
func (b *bed) accessClosed() {
	b.t.Helper()
	f, ok := take(&b.accessCloses)
	if !ok {
		b.t.Fatalf("no access to close; so far:\n%s", strings.Join(b.log, "\n"))
	}
	l := b.calls[f.ID]
	l.open, l.closing = false, false
	b.step(AccessClosed{ID: f.ID, Counters: Counters{InBytes: 33, OutBytes: 44, InPackets: 3, OutPackets: 4}})
}

// read answers the oldest ReadCounters with so many packets in.
func (b *bed) read(packets uint64) {
	b.t.Helper()
	f, ok := take(&b.reads)
	if !ok {
		b.t.Fatalf("no counters are asked for; so far:\n%s", strings.Join(b.log, "\n"))
	}
	b.step(CountersRead{ID: f.ID, Counters: Counters{InPackets: packets, InBytes: 100 * packets}})
}

// connect brings a dynamic subscriber up.
func (b *bed) connect(conn uint32, profile string) ID {
	b.t.Helper()
	id := b.dynamicUp(conn, profile)
	b.answerAll()
	b.dynamicConnUp(conn)
	return id
}

// tokens is a Method that asks back, as a RADIUS server with one-time passwords does: after the
// password for a passcode, and for a new PIN when the passcode asks for one. Its State says
// how far the dialogue is; an answer without it begins a new one.
type tokens struct{ endless bool }

func (m tokens) Decide(_ context.Context, r aaa.Request) aaa.Decision {
	switch state := string(r.State); {
	case m.endless:
		return aaa.Decision{Prompt: &aaa.Prompt{Message: fmt.Sprintf("question after %q", state), Answer: true, State: fmt.Append(nil, len(state))}}
	case state == "" && string(r.Password) == testPassword:
		return aaa.Decision{Prompt: &aaa.Prompt{Message: "passcode", Passcode: true, State: []byte("1 " + r.User)}}
	case state == "1 "+r.User && string(r.Passcode) == "000000":
		return aaa.Decision{Prompt: &aaa.Prompt{Message: "new PIN", NextPIN: true, State: []byte("2 " + r.User)}}
	case state == "1 "+r.User && string(r.Passcode) == "123456", state == "2 "+r.User && string(r.NextPIN) == "4711":
		return aaa.Decision{Accept: true, User: r.User}
	}
	return aaa.Decision{Reason: aaa.ReasonWrongPassword, Text: "wrong"}
}
