package radius

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	rad "layeh.com/radius"

	"vrgate/controlplane/aaa"
)

// exampleRecord is a session of L2TP over IPsec behind a NAT.
func exampleRecord(kind AcctKind) AcctRecord {
	return AcctRecord{
		Kind: kind, NAS: testNAS, At: time.Unix(1_700_000_000, 999), Session: "s1", Router: "vr1", Terminating: "vr2", User: "ann@example.net",
		Access: aaa.AccessL2TPIPsec, Protocol: aaa.MSCHAPv2, Call: [2]uint16{12, 34}, Conn: 9,
		Local: l2tpRequest.Local, Remote: l2tpRequest.Remote, PeerHost: "pc", LocalHost: "gate.example", Peer: "Windows 10",
		Address: netip.MustParseAddr("10.0.0.7"), InPolicy: "basic", Class: [][]byte{[]byte("one"), {0}, []byte("two")},
		Duration: time.Hour + 999*time.Millisecond, InBytes: 5<<32 + 7, OutBytes: 1<<32 - 1, InPackets: 11, OutPackets: 2<<32 + 3,
		Cause: 4, Reason: "idle-timeout", Text: "no traffic for 10 minutes", Disconnect: DisconnectCause{Code: 3, Protocol: 0xc021, Direction: 2},
	}
}

const (
	acctHead = `Acct-Session-Id "s1"
Event-Timestamp 1700000000
NAS-Identifier "gate"
NAS-IP-Address 192.0.2.9
`
	acctUser = `User-Name "ann@example.net"
Class "one"
Class 00
Class "two"
Acct-Authentic 1
Service-Type 2
Framed-Protocol 1
Framed-IP-Address 10.0.0.7
Framed-IP-Netmask 255.255.255.255
`
	acctTraffic = `Acct-Session-Time 3600
Acct-Input-Octets 7
Acct-Output-Octets 4294967295
Acct-Input-Gigawords 5
Acct-Output-Gigawords 0
Acct-Input-Packets 11
Acct-Output-Packets 3
ERX-Output-Gigapkts 2
`
	acctCause = `Acct-Terminate-Cause 4
Sdx-Tunnel-Disconnect-Cause-Info 0003c02102
Connect-Info "idle-timeout: no traffic for 10 minutes"
`
)

// TestAccountingAttributes is the golden form of each record (R7, R9).
func TestAccountingAttributes(t *testing.T) {
	line := strings.Replace(l2tpTail[strings.Index(l2tpTail, "NAS-Port-Type"):], `"vr1"`, `"vr2"`, 1)
	line = strings.Replace(line, "Connect-Info", "MS-Acct-Auth-Type 4\nERX-Ingress-Policy-Name \"basic\"\nConnect-Info", 1)
	for _, c := range []struct {
		kind AcctKind
		name string
		want string
	}{
		{AcctStart, "Start", "Acct-Status-Type 1\n" + acctHead + acctUser + line},
		{AcctInterim, "Interim-Update", "Acct-Status-Type 3\n" + acctHead + acctUser + acctTraffic + line},
		{AcctStop, "Stop", "Acct-Status-Type 2\n" + acctHead + acctUser + acctTraffic + acctCause + line},
		{AcctOn, "Accounting-On", "Acct-Status-Type 7\n" + acctHead + "ERX-Virtual-Router-Name \"vr1\"\n" + acctCause},
		{AcctOff, "Accounting-Off", "Acct-Status-Type 8\n" + acctHead + "ERX-Virtual-Router-Name \"vr1\"\n" + acctCause},
	} {
		a := exampleRecord(c.kind)
		attributes := AccountingAttributes(a)
		if got := dump(attributes); got != c.want || c.kind.String() != c.name {
			t.Errorf("%s:\n%s\nnot\n%s", c.kind, got, c.want)
		}
		if !reflect.DeepEqual(attributes, AccountingAttributes(a)) {
			t.Errorf("%s: not the same twice", c.kind)
		}
		if parsed, err := rad.ParseAttributes(EncodeAttributes(attributes)); err != nil || !reflect.DeepEqual(parsed, attributes) {
			t.Errorf("%s: encoded and parsed: %v %v", c.kind, parsed, err)
		}
	}
	a := exampleRecord(AcctOn)
	a.Session, a.Cause, a.Reason, a.Text, a.Disconnect = "", 0, "", "", DisconnectCause{}
	if got, want := dump(AccountingAttributes(a)), "Acct-Status-Type 7\nEvent-Timestamp 1700000000\nNAS-Identifier \"gate\"\nNAS-IP-Address 192.0.2.9\nERX-Virtual-Router-Name \"vr1\"\n"; got != want {
		t.Errorf("%s\nnot\n%s", got, want)
	}
}

// TestAccountingDynamic: a dynamic subscriber has its connection in the place of the call.
func TestAccountingDynamic(t *testing.T) {
	a := AcctRecord{
		Kind: AcctStart, Session: "s2", Router: "vr1", User: "bob", Access: aaa.AccessXAuth, Protocol: aaa.Proven, Conn: 7,
		Local: xauthRequest.Local, Remote: xauthRequest.Remote, PeerID: "group", Peer: "vpnc",
		Address: netip.MustParseAddr("10.0.0.8"), Netmask: netip.MustParseAddr("255.255.255.0"),
	}
	want := "Acct-Status-Type 1\nAcct-Session-Id \"s2\"\nUser-Name \"bob\"\nAcct-Authentic 1\nService-Type 2\nFramed-IP-Address 10.0.0.8\nFramed-IP-Netmask 255.255.255.0\n" +
		strings.NewReplacer("XAuth [", "IPsec [", "Connect-Info", "Acct-Tunnel-Connection \"00000007\"\nConnect-Info").Replace(xauthTail[strings.Index(xauthTail, "NAS-Port-Type"):])
	if got := dump(AccountingAttributes(a)); got != want {
		t.Errorf("%s\nnot\n%s", got, want)
	}
}

// TestAccountingOfASwitchedSession: the tunnel by which it came is without tag, that by which it goes on has one (tunnel
// switching), and there is no address.
func TestAccountingOfASwitchedSession(t *testing.T) {
	a := AcctRecord{
		Kind: AcctStart, Session: "s3", Router: "vr1", User: "ann@isp", Access: aaa.AccessL2TP, Protocol: aaa.CHAPMD5, Call: [2]uint16{1, 2},
		Local: netip.MustParseAddrPort("192.0.2.1:1701"), Remote: netip.MustParseAddrPort("198.51.100.9:1701"), PeerHost: "lac",
		CallingNumber: "555", CalledNumber: "0800", TxSpeed: 2048, RxSpeed: 1024,
		Server: netip.MustParseAddr("2001:db8::7"), Far: [2]uint16{3, 4},
	}
	want := `Acct-Status-Type 1
Acct-Session-Id "s3"
User-Name "ann@isp"
Acct-Authentic 1
Service-Type 2
Framed-Protocol 1
NAS-Port-Type 5
NAS-Port 65538
NAS-Port-Id "l2tp:1.2"
Calling-Station-Id "555"
Called-Station-Id "0800"
Tunnel-Type 3
Tunnel-Medium-Type 1
Tunnel-Client-Endpoint "198.51.100.9"
Tunnel-Server-Endpoint "192.0.2.1"
Tunnel-Client-Auth-Id "lac"
ERX-Virtual-Router-Name "vr1"
ERX-Tunnel-Interface-Id "l2tp local 192.0.2.1:1701 peer 198.51.100.9:1701 tunnel 1 session 2"
Acct-Tunnel-Connection "00010002"
Tunnel-Type 3
Tunnel-Medium-Type 2
Tunnel-Server-Endpoint "2001:db8::7"
ERX-Tunnel-Interface-Id "l2tp peer 2001:db8::7 tunnel 3 session 4"
MS-Acct-Auth-Type 2
Connect-Info "2048/1024 L2TP 198.51.100.9:1701"
`
	attributes := AccountingAttributes(a)
	if got := dump(attributes); got != want {
		t.Errorf("%s\nnot\n%s", got, want)
	}
	for _, v := range read(attributes).values {
		if v.attribute == (Attribute{Type: typeTunnelServer}) && (v.tag == farTag) != (v.text == "2001:db8::7") {
			t.Errorf("%s has tag %d", v, v.tag)
		}
	}
}

// TestLargestRecord: with the largest of everything it is still one packet, and what the session is known by, its
// classes and its counters are there.
func TestLargestRecord(t *testing.T) {
	long := strings.Repeat("x", 300)
	a := exampleRecord(AcctStop)
	a.LocalHost, a.CalledNumber, a.TxSpeed, a.Server = long, long, 1<<32-1, netip.MustParseAddr("2001:db8::7")
	a.NAS.Identifier, a.User, a.PeerHost, a.Peer, a.CallingNumber, a.Router, a.Terminating, a.Text = long, long[:253], long, long, long, long, long, long
	a.InPolicy, a.OutPolicy, a.Duration, a.InPackets = long, long, -time.Second, 1<<63
	a.Class = nil
	for range aaa.MaxClasses + 1 {
		a.Class = append(a.Class, []byte(long[:253]))
	}
	p := rad.Packet{Code: rad.CodeAccountingRequest, Attributes: AccountingAttributes(a), Secret: []byte("s")}
	p.Attributes.Add(41, rad.NewInteger(1)) // Acct-Delay-Time
	b, err := SignRequest(&p, nil)
	if err != nil || len(b) > MaxPacket {
		t.Fatalf("%d bytes: %v", len(b), err)
	}
	classes := 0
	for _, attribute := range p.Attributes {
		if attribute.Type == typeClass {
			classes++
		}
	}
	if classes != aaa.MaxClasses {
		t.Errorf("%d classes", classes)
	}
	for _, typ := range []rad.Type{typeAcctStatusType, typeAcctSessionID, typeUserName, typeAcctOutputPackets, typeAcctTerminateCause, typeFramedIPAddress} {
		if _, ok := p.Attributes.Lookup(typ); !ok {
			t.Errorf("attribute %d is missing", typ)
		}
	}
	if n, err := rad.Integer(p.Attributes.Get(typeAcctSessionTime)); n != 0 || err != nil {
		t.Errorf("%d s %v", n, err)
	}
}
