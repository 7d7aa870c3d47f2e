package radius

import (
	"bytes"
	"context"
	"net/netip"
	"strings"
	"testing"

	rad "layeh.com/radius"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/keymat"
)

// asked is a client that remembers what it was asked and answers what it was told.
type asked struct {
	group  string
	x      Exchange
	answer Answer
	err    error
}

func (c *asked) Do(_ context.Context, group string, x Exchange) (Answer, error) {
	c.group, c.x = group, x
	return c.answer, c.err
}

// l2tpRequest and xauthRequest are what a subscriber of each kind presents, but for its proof.
var (
	l2tpRequest = aaa.Request{
		Router: "vr1", Access: aaa.AccessL2TPIPsec, User: "ann@example.net", Remote: netip.MustParseAddrPort("203.0.113.5:61234"),
		Local: netip.MustParseAddrPort("192.0.2.1:4500"), Session: "s1", Conn: 9, Call: [2]uint16{12, 34}, PeerHost: "pc", LocalHost: "gate.example", Peer: "Windows 10",
	}
	xauthRequest = aaa.Request{
		Router: "vr1", Access: aaa.AccessXAuth, User: "bob", Remote: netip.MustParseAddrPort("[2001:db8::5]:500"),
		Local: netip.MustParseAddrPort("[2001:db8::1]:500"), Session: "s2", Conn: 7, PeerID: "group", Peer: "vpnc", Profile: "tp",
	}
	testNAS = NAS{Identifier: "gate", Address: netip.MustParseAddr("192.0.2.9")}
)

// tail is what follows the proof in the requests of both.
const (
	l2tpTail = `NAS-Identifier "gate"
NAS-IP-Address 192.0.2.9
Service-Type 2
Framed-Protocol 1
Acct-Session-Id "s1"
NAS-Port-Type 5
NAS-Port 786466
NAS-Port-Id "l2tp:12.34"
Calling-Station-Id "203.0.113.5"
Called-Station-Id "192.0.2.1"
Tunnel-Type 3
Tunnel-Medium-Type 1
Tunnel-Client-Endpoint "203.0.113.5"
Tunnel-Server-Endpoint "192.0.2.1"
Tunnel-Client-Auth-Id "pc"
Tunnel-Server-Auth-Id "gate.example"
ERX-Virtual-Router-Name "vr1"
ERX-Tunnel-Interface-Id "l2tp local 192.0.2.1:4500 peer 203.0.113.5:61234 tunnel 12 session 34"
Acct-Tunnel-Connection "000c0022"
Connect-Info "L2TP/IPsec 203.0.113.5:61234 Windows 10"
`
	xauthTail = `NAS-Identifier "gate"
NAS-IP-Address 192.0.2.9
Service-Type 2
Acct-Session-Id "s2"
NAS-Port-Type 5
NAS-Port 7
NAS-Port-Id "ipsec:7"
Calling-Station-Id "2001:db8::5"
Called-Station-Id "2001:db8::1"
Tunnel-Type 9
Tunnel-Medium-Type 2
Tunnel-Client-Endpoint "2001:db8::5"
Tunnel-Server-Endpoint "2001:db8::1"
Tunnel-Client-Auth-Id "group"
ERX-Virtual-Router-Name "vr1"
ERX-Tunnel-Interface-Id "ipsec local [2001:db8::1]:500 peer [2001:db8::5]:500 connection 7"
Connect-Info "XAuth [2001:db8::5]:500 vpnc"
`
)

// TestRequests is the golden form of each way to prove oneself.
func TestRequests(t *testing.T) {
	proven := strings.NewReplacer("Service-Type 2", "Service-Type 17", "XAuth [", "IPsec [").Replace(xauthTail)
	for _, c := range []struct {
		name     string
		base     aaa.Request
		set      func(*aaa.Request)
		method   *Method
		want     string
		password string // "none" for none
	}{
		{"PAP", l2tpRequest, func(r *aaa.Request) { r.Protocol, r.Password = aaa.PAP, keymat.Secret("secret") }, &Method{},
			"User-Name \"ann@example.net\"\n" + l2tpTail, "secret"},
		{"an empty password", l2tpRequest, func(r *aaa.Request) { r.Protocol = aaa.PAP }, &Method{}, "User-Name \"ann@example.net\"\n" + l2tpTail, ""},
		{"CHAP", l2tpRequest, func(r *aaa.Request) {
			r.Protocol, r.ID, r.Challenge, r.Response = aaa.CHAPMD5, 5, []byte("12345678901234567"), []byte("abcdefghijklmnop")
		}, &Method{}, "User-Name \"ann@example.net\"\nCHAP-Password " + "056162636465666768696a6b6c6d6e6f70\nCHAP-Challenge \"12345678901234567\"\n" + l2tpTail, "none"},
		{"MS-CHAPv2", l2tpRequest, func(r *aaa.Request) {
			r.Protocol, r.ID, r.Challenge = aaa.MSCHAPv2, 5, []byte("ABCDEFGHIJKLMNOP")
			r.Response = append(bytes.Repeat([]byte{1}, 16), append(make([]byte, 8), append(bytes.Repeat([]byte{2}, 24), 4)...)...)
		}, &Method{}, "User-Name \"ann@example.net\"\nMS-CHAP-Challenge \"ABCDEFGHIJKLMNOP\"\nMS-CHAP2-Response 0500" +
			strings.Repeat("01", 16) + strings.Repeat("00", 8) + strings.Repeat("02", 24) + "\n" + l2tpTail, "none"},
		{"EAP", l2tpRequest, func(r *aaa.Request) {
			r.Protocol, r.EAP, r.State, r.MRU = aaa.EAP, eapPacket(eapResponse, 300), []byte("st"), 1280
		}, &Method{}, "User-Name \"ann@example.net\"\nEAP-Message 0201012c" + strings.Repeat("61", 249) + "\nEAP-Message \"" + strings.Repeat("a", 47) + "\"\nFramed-MTU 1280\nState \"st\"\n" + l2tpTail, "none"},
		{"EAP over a link that is not known", l2tpRequest, func(r *aaa.Request) { r.Protocol, r.EAP = aaa.EAP, eapPacket(eapResponse, 5) }, &Method{},
			"User-Name \"ann@example.net\"\nEAP-Message 0201000561\nFramed-MTU 1300\n" + l2tpTail, "none"},
		{"XAuth", xauthRequest, func(r *aaa.Request) { r.Protocol, r.Password = aaa.PAP, keymat.Secret("pw") }, &Method{}, "User-Name \"bob\"\n" + xauthTail, "pw"},
		{"XAuth with a passcode", xauthRequest, func(r *aaa.Request) {
			r.Protocol, r.Password, r.Passcode, r.State = aaa.PAP, keymat.Secret("pw"), keymat.Secret("123456"), []byte("st")
		}, &Method{}, "User-Name \"bob\"\nState \"st\"\n" + xauthTail, "123456"},
		{"XAuth with an answer", xauthRequest, func(r *aaa.Request) { r.Protocol, r.Answer = aaa.PAP, keymat.Secret("yes") }, &Method{}, "User-Name \"bob\"\n" + xauthTail, "yes"},
		{"XAuth with a new PIN", xauthRequest, func(r *aaa.Request) { r.Protocol, r.NextPIN = aaa.PAP, keymat.Secret("9876") }, &Method{}, "User-Name \"bob\"\n" + xauthTail, "9876"},
		{"proven", xauthRequest, func(r *aaa.Request) { r.Protocol = aaa.Proven }, &Method{}, "User-Name \"bob\"\n" + proven, "none"},
		{"proven as Cisco does", xauthRequest, func(r *aaa.Request) { r.Protocol = aaa.Proven }, &Method{ProvenPassword: keymat.Secret("cisco")},
			"User-Name \"bob\"\n" + strings.Replace(proven, "Service-Type 17", "Service-Type 5", 1), "cisco"},
		{"a host name that begins like a tag", l2tpRequest, func(r *aaa.Request) { r.Protocol, r.PeerHost = aaa.PAP, "\x01pc" }, &Method{},
			"User-Name \"ann@example.net\"\n" + strings.Replace(l2tpTail, `Auth-Id "pc"`, `Auth-Id "\x01pc"`, 1), ""},
		{"a calling number", l2tpRequest, func(r *aaa.Request) { r.Protocol, r.CallingNumber = aaa.PAP, "555" }, &Method{},
			"User-Name \"ann@example.net\"\n" + strings.Replace(l2tpTail, `Calling-Station-Id "203.0.113.5"`, `Calling-Station-Id "555"`, 1), ""},
		{"what a LAC says of the call", l2tpRequest, func(r *aaa.Request) {
			r.Protocol, r.CalledNumber, r.TxSpeed, r.RxSpeed = aaa.PAP, "0800", 8_000_000, 1_000_000
		}, &Method{}, "User-Name \"ann@example.net\"\n" + strings.NewReplacer(`Called-Station-Id "192.0.2.1"`, `Called-Station-Id "0800"`, `Info "L2TP`, `Info "8000000/1000000 L2TP`).Replace(l2tpTail), ""},
		{"one speed", l2tpRequest, func(r *aaa.Request) { r.Protocol, r.TxSpeed = aaa.PAP, 64000 }, &Method{},
			"User-Name \"ann@example.net\"\n" + strings.Replace(l2tpTail, `Info "L2TP`, `Info "64000 L2TP`, 1), ""},
		{"the same speed", l2tpRequest, func(r *aaa.Request) { r.Protocol, r.TxSpeed, r.RxSpeed = aaa.PAP, 64000, 64000 }, &Method{},
			"User-Name \"ann@example.net\"\n" + strings.Replace(l2tpTail, `Info "L2TP`, `Info "64000 L2TP`, 1), ""},
		{"the client's address as ours", l2tpRequest, func(r *aaa.Request) { r.Protocol = aaa.PAP }, &Method{NAS: NAS{Identifier: "gate", Address: testNAS.Address, ClientEndpoint: true}}, // R12
			"User-Name \"ann@example.net\"\n" + strings.Replace(l2tpTail, "NAS-IP-Address 192.0.2.9", "NAS-IP-Address 203.0.113.5", 1), ""},
		{"but not of XAuth", xauthRequest, func(r *aaa.Request) { r.Protocol = aaa.PAP }, &Method{NAS: NAS{Identifier: "gate", Address: testNAS.Address, ClientEndpoint: true}},
			"User-Name \"bob\"\n" + xauthTail, ""},
		{"an IPv6 address of ours", xauthRequest, func(r *aaa.Request) { r.Protocol = aaa.PAP }, &Method{NAS: NAS{Identifier: "gate", Address: netip.MustParseAddr("2001:db8::9")}},
			"User-Name \"bob\"\n" + strings.Replace(xauthTail, "NAS-IP-Address 192.0.2.9", "NAS-IPv6-Address 2001:db8::9", 1), ""},
	} {
		r, client := c.base, &asked{answer: Answer{Code: rad.CodeAccessReject, Attributes: rad.Attributes{signed}, Server: "one"}}
		r.Server = "two"
		c.set(&r)
		m := c.method
		if m.NAS == (NAS{}) {
			m.NAS = testNAS
		}
		m.Client = client
		d := m.Authenticate(context.Background(), "group", r)
		if d.Reason != aaa.ReasonRefused || d.By.Method != "radius" || d.By.Server != "one" || client.group != "group" || client.x.Server != "two" || client.x.Code != rad.CodeAccessRequest || !client.x.At.IsZero() {
			t.Errorf("%s: %+v %+v", c.name, d, client)
		}
		if got := dump(client.x.Attributes); got != c.want {
			t.Errorf("%s:\n%s\nnot\n%s", c.name, got, c.want)
		}
		if got := string(client.x.Password.Reveal()); client.x.Password == nil != (c.password == "none") || client.x.Password != nil && got != c.password {
			t.Errorf("%s: password %q", c.name, got)
		}
	}
}

// eapPacket is an EAP packet of n bytes.
func eapPacket(code uint8, n int) []byte {
	return append([]byte{code, 1, byte(n >> 8), byte(n)}, bytes.Repeat([]byte("a"), n-4)...)
}

// TestRequestsThatCannotBe: refused here, and no server is asked.
func TestRequestsThatCannotBe(t *testing.T) {
	for name, set := range map[string]func(*aaa.Request){
		"no name":         func(r *aaa.Request) { r.User = "" },
		"a long name":     func(r *aaa.Request) { r.User = strings.Repeat("x", 254) },
		"a long state":    func(r *aaa.Request) { r.State = make([]byte, 254) },
		"a long password": func(r *aaa.Request) { r.Password = make(keymat.Secret, 129) },
		"no protocol":     func(r *aaa.Request) { r.Protocol = "" },
		"CHAP's response": func(r *aaa.Request) {
			r.Protocol, r.Challenge, r.Response = aaa.CHAPMD5, make([]byte, 8), make([]byte, 15)
		},
		"CHAP's challenge": func(r *aaa.Request) { r.Protocol, r.Challenge, r.Response = aaa.CHAPMD5, nil, make([]byte, 16) },
		"a long challenge": func(r *aaa.Request) {
			r.Protocol, r.Challenge, r.Response = aaa.CHAPMD5, make([]byte, 254), make([]byte, 16)
		},
		"MS-CHAP's response": func(r *aaa.Request) {
			r.Protocol, r.Challenge, r.Response = aaa.MSCHAPv2, make([]byte, 16), make([]byte, 48)
		},
		"MS-CHAP's challenge": func(r *aaa.Request) {
			r.Protocol, r.Challenge, r.Response = aaa.MSCHAPv2, make([]byte, 8), make([]byte, 49)
		},
		"no EAP":              func(r *aaa.Request) { r.Protocol = aaa.EAP },
		"an EAP request":      func(r *aaa.Request) { r.Protocol, r.EAP = aaa.EAP, eapPacket(eapRequest, 10) },
		"a cut EAP response":  func(r *aaa.Request) { r.Protocol, r.EAP = aaa.EAP, eapPacket(eapResponse, 10)[:9] },
		"a long EAP response": func(r *aaa.Request) { r.Protocol, r.EAP = aaa.EAP, eapPacket(eapResponse, aaa.MaxEAP+1) },
	} {
		r, client := l2tpRequest, &asked{}
		r.Protocol = aaa.PAP
		set(&r)
		m := Method{Client: client}
		if d := m.Authenticate(context.Background(), "group", r); d.Reason != aaa.ReasonProtocol || d.Text == "" || client.group != "" {
			t.Errorf("%s: %+v, asked %q", name, d, client.group)
		}
	}
}

// TestLargestRequest: the largest EAP packet with the largest of all else is still one packet, and nothing that
// authenticates is missing.
func TestLargestRequest(t *testing.T) {
	long := strings.Repeat("x", 253)
	r := l2tpRequest
	r.Protocol, r.EAP, r.State, r.User = aaa.EAP, eapPacket(eapResponse, aaa.MaxEAP), []byte(long), long
	r.LocalHost, r.CalledNumber = long, long
	r.PeerHost, r.CallingNumber, r.Session, r.Peer, r.Router = long, long, "0123456789abcdef", long, long
	client := &asked{}
	m := Method{Client: client, NAS: NAS{Identifier: long, Address: testNAS.Address}}
	m.Authenticate(context.Background(), "group", r)
	p := rad.Packet{Code: client.x.Code, Attributes: client.x.Attributes, Secret: []byte("s")}
	b, err := SignRequest(&p, make(keymat.Secret, MaxPassword))
	if err != nil || len(b) > MaxPacket {
		t.Fatalf("%d bytes: %v", len(b), err)
	}
	in := read(client.x.Attributes)
	if !bytes.Equal(joinEAP(in.values), r.EAP) {
		t.Error("EAP is not whole")
	}
	for _, typ := range []rad.Type{typeUserName, typeState, typeNASIdentifier, typeNASIPAddress, typeServiceType, typeAcctSessionID} {
		if _, ok := client.x.Attributes.Lookup(typ); !ok {
			t.Errorf("attribute %d is missing", typ)
		}
	}
}
