package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/subscriber"
)

// Users of static tunnels (Z-8): the peer of a tunnel with extended authentication answers for one. Who decides about
// subscribers of the virtual router decides about it too, with the same bounds on guessing and on what waits. Nothing comes
// of it but the tunnel: no session, no address, no licence and no accounting.

// tunnelUsers is what the shell keeps of them; the loop owns it.
type tunnelUsers struct {
	guesses *subscriber.Guesses
	// asked is by connection the last question to AAA that is open. A peer may answer for another user when phase 1 is
	// rekeyed, and what is said of the first does not hold for it.
	asked map[ike.ConnID]uint64
	last  uint64
}

func newTunnelUsers() tunnelUsers {
	return tunnelUsers{guesses: subscriber.NewGuesses(), asked: map[ike.ConnID]uint64{}}
}

// userDecided is AAA's answer about a user of a static tunnel.
type userDecided struct {
	conn     ike.ConnID
	question uint64
	tunnel   string
	user     string
	remote   netip.AddrPort
	decision aaa.Decision
}

// checkUser has AAA decide about what the peer of a static tunnel has answered. IKE gets an Admit or a Deny.
func (r *router) checkUser(ctx context.Context, f ike.UserAnswered) {
	c, there := r.machine.ike.Conn(f.Conn)
	if !there {
		return
	}
	u := &r.tunnelUsers
	u.last++
	u.asked[f.Conn] = u.last
	name := (&subscriber.TunnelProfile{}).UserName(f.Answer.User, f.Answer.Domain)
	out := userDecided{conn: f.Conn, question: u.last, tunnel: f.Static, user: name, remote: c.Remote}
	refuse := func(reason subscriber.Reason, text string) {
		out.decision = aaa.Decision{Reason: aaa.Reason(reason), Text: text}
		r.tunnelUser(out)
	}
	if f.Refused {
		refuse(subscriber.ReasonUserRefused, "the peer cannot answer for a user")
		return
	}
	if len(name) > aaa.MaxUserName {
		out.user = name[:aaa.MaxUserName]
		refuse(subscriber.Reason(aaa.ReasonUnknownUser), fmt.Sprintf("a user name of %d bytes", len(name)))
		return
	}
	if ok, text := u.guesses.Ask(time.Now(), c.Remote, name); !ok {
		refuse(subscriber.ReasonGuessing, text)
		return
	}
	a := f.Answer
	ask := aaa.Request{
		Router: r.name, Access: aaa.AccessStatic, User: name, Protocol: aaa.PAP, Password: a.Password, Passcode: a.Passcode,
		Local: c.Local, Remote: c.Remote, PeerID: c.PeerID, Peer: c.Peer, Conn: uint32(c.ID), Profile: f.Static,
	}
	if len(a.Response) > 0 {
		ask.Protocol, ask.ID, ask.Challenge, ask.Response = aaa.CHAPMD5, a.CHAPID, a.Challenge, a.Response
	}
	r.pending++
	answer := func(d aaa.Decision) {
		out.decision = d
		r.inbox.answer(workDone{out})
	}
	r.shared.admission.do(&askingWork{
		key: connWork{r, f.Conn}, source: sourceOf(r.name, c.Remote.Addr()), class: classNew, refuse: answer,
		run: func() (after func()) {
			answer(r.method.Decide(ctx, ask))
			return nil
		},
	})
}

// userDecided takes AAA's answer, in the loop.
func (r *router) userDecided(now time.Time, f userDecided) {
	r.tunnelUsers.guesses.Answered(now, f.remote, f.user, f.decision)
	r.tunnelUser(f)
}

// tunnelUser tells IKE about a user, unless the peer has answered again meanwhile.
func (r *router) tunnelUser(f userDecided) {
	if r.tunnelUsers.asked[f.conn] != f.question {
		return
	}
	delete(r.tunnelUsers.asked, f.conn)
	fields := []zap.Field{zap.String("tunnel", f.tunnel), zap.String("user", f.user), zap.Stringer("peer", f.remote), zap.Uint32("conn", uint32(f.conn))}
	d := f.decision
	switch {
	case d.Accept:
		r.log.Info("user of a static tunnel is in", append(fields, zap.String("method", d.By.Method))...)
		r.inbox.answer(ike.Admit{Conn: f.conn})
		return
	case d.Prompt != nil:
		d = aaa.Decision{Reason: aaa.Reason(subscriber.ReasonDialogue), Text: "AAA wants to ask the user another question, and behind a static tunnel there is nobody to ask"}
	case d.Round != nil:
		d = aaa.Decision{Reason: aaa.ReasonBadAnswer, Text: "AAA goes on with EAP, which XAuth cannot carry"}
	}
	d.Reason, d.Text = cmp.Or(d.Reason, aaa.ReasonRefused), cmp.Or(d.Text, "AAA refuses the user")
	// The peer has proved itself, and its connection ends before it was up: that is logged for those who debug only.
	r.log.Info("user of a static tunnel is refused", append(fields, zap.String("reason", string(d.Reason)), zap.String("text", d.Text))...)
	r.inbox.answer(ike.Deny{Conn: f.conn, Reason: ike.Reason(d.Reason), Text: d.Text})
}
