package radius

import (
	"cmp"
	"fmt"
	"slices"

	rad "layeh.com/radius"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/keymat"
)

// eapMTU is the Framed-MTU of requests with EAP where the peer's MRU is not known: the largest EAP packet that a server
// should send (RFC 3579 section 2.4). It fits every link whose MRU is that of L2TP over IPsec behind a NAT.
const eapMTU = 1300

// Lengths of what MS-CHAPv2 presents (RFC 2759 section 4), and of CHAP's response with MD5.
const (
	msChallengeLen = 16
	msResponseLen  = 49
	chapMD5Len     = 16
)

// exchange makes the Access-Request of what a subscriber presented. The error says that RADIUS cannot carry it.
//
// Each carries User-Name; NAS-Identifier and NAS-IP-Address or NAS-IPv6-Address (R12); Service-Type Framed, and
// Framed-Protocol PPP for L2TP; Acct-Session-Id, so that authentication and accounting can be matched; and what line
// knows. What matters most comes first, because an EAP packet may leave no room for the rest.
func (m *Method) exchange(r aaa.Request) (Exchange, error) {
	if r.User == "" && r.Protocol != aaa.EAP || len(r.User) > aaa.MaxUserName {
		return Exchange{}, fmt.Errorf("a user name of %d bytes", len(r.User))
	}
	if len(r.State) > maxValue {
		return Exchange{}, fmt.Errorf("a state of %d bytes", len(r.State))
	}
	x := Exchange{Code: rad.CodeAccessRequest, Server: r.Server}
	p := newPacker()
	p.add(typeUserName, []byte(r.User))
	service, err := m.prove(p, &x, r)
	if err != nil {
		return Exchange{}, err
	}
	p.add(typeState, r.State)
	l := line{
		Router: r.Router, Access: r.Access, Proven: r.Protocol == aaa.Proven, Call: r.Call, Conn: r.Conn,
		Local: r.Local, Remote: r.Remote, PeerHost: r.PeerHost, LocalHost: r.LocalHost, Peer: r.Peer, PeerID: r.PeerID, CallingNumber: r.CallingNumber,
		CalledNumber: r.CalledNumber, TxSpeed: r.TxSpeed, RxSpeed: r.RxSpeed,
	}
	m.NAS.pack(p, r.Access, r.Remote.Addr())
	p.number(typeServiceType, service)
	if l.l2tp() {
		p.number(typeFramedProtocol, framedPPP)
	}
	p.text(typeAcctSessionID, r.Session)
	l.packPort(p)
	l.packTunnel(p)
	if l.l2tp() {
		l.packConnection(p)
	}
	p.text(typeConnectInfo, l.connectInfo())
	x.Attributes = p.out
	return x, nil
}

// prove adds what the subscriber proves itself with, and says which Service-Type is asked for.
func (m *Method) prove(p *packer, x *Exchange, r aaa.Request) (service uint32, err error) {
	switch r.Protocol {
	case aaa.PAP:
		x.Password = password(r)
		if len(x.Password) > MaxPassword {
			return 0, fmt.Errorf("a password of %d bytes, RADIUS carries %d", len(x.Password), MaxPassword)
		}
	case aaa.CHAPMD5:
		if len(r.Response) != chapMD5Len || len(r.Challenge) == 0 || len(r.Challenge) > maxValue {
			return 0, fmt.Errorf("a CHAP response of %d bytes to a challenge of %d", len(r.Response), len(r.Challenge))
		}
		p.add(typeCHAPPassword, append([]byte{r.ID}, r.Response...))
		p.add(typeCHAPChallenge, r.Challenge)
	case aaa.MSCHAPv2:
		if len(r.Response) != msResponseLen || len(r.Challenge) != msChallengeLen {
			return 0, fmt.Errorf("an MS-CHAPv2 response of %d bytes to a challenge of %d", len(r.Response), len(r.Challenge))
		}
		// RFC 2548 section 2.3.2: the identifier, flags that must be zero, and then RFC 2759's response without its
		// own flags, which are its last byte.
		response := append([]byte{r.ID, 0}, r.Response[:msResponseLen-1]...)
		p.vendor(Attribute{vendorMicrosoft, msCHAPChallenge}, r.Challenge)
		p.vendor(Attribute{vendorMicrosoft, msCHAP2Response}, response)
	case aaa.EAP:
		if err := checkEAP(r.EAP); err != nil {
			return 0, err
		}
		for part := range slices.Chunk(r.EAP, maxValue) {
			p.add(typeEAPMessage, part)
		}
		p.number(typeFramedMTU, max(uint32(cmp.Or(r.MRU, eapMTU)), minFramedMTU))
	case aaa.Proven:
		// Nothing is left to check but what the peer may have. RFC 5176 section 3.1 has Authorize-Only for that, and
		// servers must be told what to do with it, because a request without a password is refused otherwise. IOS
		// and the ASA ask with a password that everybody knows and Service-Type Outbound instead, and many servers
		// are set up for them: ProvenPassword.
		if len(m.ProvenPassword) == 0 {
			return serviceAuthorizeOnly, nil
		}
		x.Password = m.ProvenPassword
		return serviceOutbound, nil
	default:
		return 0, fmt.Errorf("protocol %q cannot be asked by RADIUS", r.Protocol)
	}
	return serviceFramed, nil
}

// password is what goes as User-Password: of a dialogue of several rounds (J5) the answer to the last question. Where a
// client sends name, password and passcode at once, the passcode is what its token showed. It is never nil: an empty
// password is one too, and the server's to refuse.
func password(r aaa.Request) keymat.Secret {
	for _, s := range []keymat.Secret{r.Answer, r.NextPIN, r.Passcode, r.Password} {
		if len(s) > 0 {
			return s
		}
	}
	return keymat.Secret{}
}
