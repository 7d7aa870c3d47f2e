package radius

import (
	"errors"
	"net/netip"

	rad "layeh.com/radius"
)

// answers says which codes answer a request, and as what they count. Status-Server is answered like a request of the
// port that it came to (RFC 5997 section 4.2).
var answers = map[rad.Code]map[rad.Code]Outcome{
	rad.CodeAccessRequest: {
		rad.CodeAccessAccept: Accepted, rad.CodeAccessReject: Rejected, rad.CodeAccessChallenge: Challenged,
	},
	rad.CodeAccountingRequest: {rad.CodeAccountingResponse: Acknowledged},
	rad.CodeStatusServer:      {rad.CodeAccessAccept: ProbeAnswered, rad.CodeAccountingResponse: ProbeAnswered},
}

// received takes a datagram. The cheapest checks come first, and until its authenticators hold it changes nothing but
// counters: the honest answer may still be on its way.
func (e *engine) received(ev received) {
	s := e.sockets[ev.Socket]
	if s == nil {
		return
	}
	n := s.end
	if netip.AddrPortFrom(ev.From.Addr().Unmap(), ev.From.Port()) != n.Address {
		n.Counts[WrongSource]++
		return
	}
	if len(ev.Data) < headerLen || len(ev.Data) > MaxPacket {
		n.Counts[Malformed]++
		return
	}
	k := &s.Slots[ev.Data[1]]
	outcome, ok := answers[k.Code][rad.Code(ev.Data[0])]
	if k.State == slotUnused || !ok {
		n.Counts[Unexpected]++
		return
	}
	// RFC 2866 has no Message-Authenticator, and RFC 5997 shows a Status-Server answered without one; a forged answer to
	// a probe would only have one request try the server out.
	needed := k.Code == rad.CodeAccessRequest && !n.Server.AllowUnsigned
	p, err := VerifyAnswer(ev.Data, k.Authenticator, n.Server.Secret, needed)
	switch {
	case errors.Is(err, ErrNoMessageAuthenticator):
		n.Counts[NoMessageAuthenticator]++
	case errors.Is(err, ErrBadAuthenticator), errors.Is(err, ErrBadMessageAuth):
		n.Counts[BadAuthenticator]++
	case err != nil:
		n.Counts[Malformed]++
	case k.State == slotAnswered:
		n.Counts[Duplicate]++
	case k.State == slotGivenUp:
		n.Counts[Late]++
	default:
		n.Counts[outcome]++
		e.answered(n, e.requests[k.Request], p, k.Authenticator)
	}
}

// answered ends a request, which was sent with the given authenticator, with its server's verified answer.
func (e *engine) answered(n *end, r *request, p *rad.Packet, sent Authenticator) {
	if r.Probe {
		e.leave(r, slotAnswered)
		e.drop(r)
		if n.State == Dead {
			e.become(n, Trial)
		}
		return
	}
	e.heard(n, r)
	e.leave(r, slotAnswered)
	e.finish(r, Answer{
		Code: p.Code, Attributes: p.Attributes, Server: n.Server.Name, Passwords: tunnelPasswords(p.Attributes, n.Server.Secret, sent),
	}, nil)
}
