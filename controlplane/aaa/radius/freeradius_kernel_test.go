//go:build kernel

package radius

import (
	"bytes"
	"context"
	"crypto/md5"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/keymat"
)

// frConfig has FreeRADIUS 3 authenticate by all that we relay, demand Message-Authenticator, and write down what it is
// asked and told. Its releases before 3.2.5 sign answers only if told to, in post-auth.
const frConfig = `
prefix = /usr
libdir = /usr/lib/freeradius
logdir = DIR
radacctdir = DIR
run_dir = DIR
max_request_time = 5
cleanup_delay = 1
log {
	destination = stdout
}
security {
	reject_delay = 0
}
thread pool {
	start_servers = 1
	max_servers = 1
}
modules {
	pap {
	}
	chap {
	}
	mschap {
	}
	files {
		usersfile = DIR/users
	}
	eap {
		default_eap_type = md5
		md5 {
		}
	}
	detail {
		filename = DIR/detail
		header = "%I"
		locking = no
	}
}
server default {
	listen {
		type = auth
		ipaddr = 127.0.0.1
		port = 18120
	}
	listen {
		type = acct
		ipaddr = 127.0.0.1
		port = 18130
	}
	client local {
		ipaddr = 127.0.0.1
		secret = testing123
		require_message_authenticator = yes
	}
	authorize {
		detail
		chap
		mschap
		eap {
			ok = return
		}
		files
		pap
	}
	authenticate {
		Auth-Type PAP {
			pap
		}
		Auth-Type CHAP {
			chap
		}
		Auth-Type MS-CHAP {
			mschap
		}
		eap
	}
	accounting {
		detail
	}
	post-auth {
		update reply {
			Message-Authenticator := 0x00
		}
		Post-Auth-Type REJECT {
			update reply {
				Message-Authenticator := 0x00
			}
		}
	}
}
`

// frUsers is the golden accept by FreeRADIUS' own names, and an identity that phase 1 has proven.
const frUsers = `
User Cleartext-Password := "clientPass"
	User-Name = "canonical",
	Service-Type = Framed-User,
	Framed-Protocol = PPP,
	Framed-IP-Address = 10.9.0.7,
	Framed-IP-Netmask = 255.255.255.0,
	Framed-Pool = "gold",
	Framed-Route = "192.168.7.0/24 0.0.0.0 3",
	Framed-Route += "192.168.8.0/24 tag 5",
	Framed-MTU = 1380,
	Framed-IPv6-Prefix = 2001:db8::/64,
	Delegated-IPv6-Prefix = 2001:db8::/56,
	Filter-Id = "basic",
	Reply-Message = "welcome",
	Reply-Message += "second",
	Session-Timeout = 3600,
	Idle-Timeout = 600,
	Class = "class one",
	Class += 0x0001,
	Acct-Interim-Interval = 120,
	MS-Primary-DNS-Server = 10.0.0.53,
	MS-Secondary-DNS-Server = 10.0.0.54,
	MS-Primary-NBNS-Server = 10.0.0.55,
	MS-Secondary-NBNS-Server = 10.0.0.56,
	ERX-Virtual-Router-Name = "tenant",
	ERX-Local-Loopback-Interface = "10.9.0.1",
	ERX-Egress-Policy-Name = "down",
	ERX-Sa-Validate = enable,
	ERX-Framed-Ip-Route-Tag = "77",
	ERX-PPP-Monitor-Ingress-Only = 1,
	ERX-Service-Acct-Interval = 700,
	ASA-Banner1 = "Hello, ",
	ASA-Banner2 = "world",
	ASA-IPsec-Split-Tunnel-List = "10.1.0.0/16,10.2.0.0/16",
	ASA-IPsec-Split-Tunnel-List += "10.3.0.0/16",
	ASA-IPsec-Split-Tunneling-Policy = 1,
	ASA-IPsec-Default-Domain = "example.net",
	ASA-IPsec-Split-DNS-Names = "example.net,example.org",
	WISPr-Bandwidth-Max-Up = 1000000,
	WISPr-Bandwidth-Max-Down = 8000000,
	Mikrotik-Rate-Limit = "1M/1M",
	Ascend-Data-Rate = 64000,
	RP-Upstream-Speed-Limit = 64,
	Cisco-AVPair = "ip:addr-pool=lost",
	Cisco-NAS-Port = "unknown here"

proven Service-Type == Authorize-Only, Auth-Type := Accept
	Framed-IP-Address = 10.9.0.8

switched Cleartext-Password := "clientPass"
	Tunnel-Type:1 = L2TP,
	Tunnel-Medium-Type:1 = IPv4,
	Tunnel-Server-Endpoint:1 = "192.0.2.7",
	Tunnel-Client-Endpoint:1 = "192.0.2.1",
	Tunnel-Password:1 = "a tunnel secret of 33 characters.",
	Tunnel-Assignment-Id:1 = "pool 5",
	Tunnel-Preference:1 = 5,
	Tunnel-Client-Auth-Id:1 = "us",
	Tunnel-Server-Auth-Id:1 = "them",
	Tunnel-Private-Group-Id:1 = "group",
	Tunnel-Type:2 = L2TP,
	Tunnel-Medium-Type:2 = IPv6,
	Tunnel-Server-Endpoint:2 = "2001:db8::7",
	ERX-Tunnel-Password:2 = "in clear",
	ERX-Tunnel-Virtual-Router:2 = "other",
	ERX-Tunnel-Maximum-Sessions = 100,
	Class = "class one"

vlan Cleartext-Password := "clientPass"
	Tunnel-Type = VLAN,
	Tunnel-Medium-Type = IEEE-802,
	Tunnel-Private-Group-Id = "12"
`

// startFreeRADIUS runs it until the test ends, and returns a client for it and the file of what it was asked.
func startFreeRADIUS(t *testing.T) (*Client, string) {
	dir := t.TempDir()
	for name, text := range map[string]string{"radiusd.conf": frConfig, "users": frUsers} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_ = exec.Command("ip", "link", "set", "lo", "up").Run() // in a fresh machine; elsewhere it is
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "freeradius", "-X", "-f", "-d", dir)
	cmd.WaitDelay = 5 * time.Second
	out := &watched{ready: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Log(out.String())
		}
	})
	select {
	case <-out.ready:
	case <-ended:
		t.Fatal("FreeRADIUS has ended")
	case <-time.After(time.Minute):
		t.Fatal("FreeRADIUS is not ready")
	}
	c := NewClient(Config{
		Servers: []Server{{
			Name: "free", Address: netip.MustParseAddr("127.0.0.1"), AuthPort: 18120, AcctPort: 18130, Secret: keymat.Secret("testing123"),
			Timeout: 10 * time.Second, Retransmissions: 2,
		}},
		Groups: []Group{{Name: "g", Servers: []string{"free"}}},
	}, listenLoopback, zaptest.NewLogger(t))
	t.Cleanup(func() { _ = c.Close() })
	return c, filepath.Join(dir, "detail")
}

// watched keeps what a process says until it has said that it is ready, and after.
type watched struct {
	mu    sync.Mutex
	b     bytes.Buffer
	once  sync.Once
	ready chan struct{}
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(b)
	if bytes.Contains(w.b.Bytes(), []byte("Ready to process requests")) {
		w.once.Do(func() { close(w.ready) })
	}
	return len(b), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// TestFreeRADIUS checks requests, decisions and accounting against a server that shares no code with us: each protocol with
// the right password and a wrong one, all grants by FreeRADIUS' names, and what it makes of our attributes.
//
//runner:once
func TestFreeRADIUS(t *testing.T) {
	client, detail := startFreeRADIUS(t)
	m := &Method{Client: client, NAS: testNAS, MayMove: true}
	ctx := context.Background()
	base := l2tpRequest
	base.User = "User"

	// RFC 2759 section 9.2.
	mschap := base
	mschap.Protocol, mschap.ID, mschap.Challenge = aaa.MSCHAPv2, 7, unhex(t, "5B5D7C7D7B3F2F3E3C2C602132262628")
	mschap.Response = unhex(t, "21402324255E262A28295F2B3A337C7E"+"0000000000000000"+"82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF"+"00")
	chap := base
	sum := md5.Sum([]byte("\x05clientPassa challenge"))
	chap.Protocol, chap.ID, chap.Challenge, chap.Response = aaa.CHAPMD5, 5, []byte("a challenge"), sum[:]
	pap := base
	pap.Protocol, pap.Password = aaa.PAP, keymat.Secret("clientPass")

	want, found := accept(true, fullAccept...)
	if !want.Accept || len(found) != 0 {
		t.Fatal(want, found)
	}
	want.By = aaa.Authority{Method: "radius", Server: "free"}
	for _, r := range []aaa.Request{pap, chap, mschap} {
		expect := want
		if r.Protocol == aaa.MSCHAPv2 {
			expect.MSCHAPv2Response = testProof
		}
		if got := m.Authenticate(ctx, "g", r); !reflect.DeepEqual(got, expect) {
			t.Errorf("%s:\n%+v, not\n%+v", r.Protocol, got, expect)
		}
	}
	counts := map[string]uint64{}
	for _, c := range m.Found.Counts() {
		counts[c.String()] = c.Count
	}
	if len(counts) != 1 || counts["vendor 9 type 2: unknown"] != 3 {
		t.Error(counts)
	}

	pap.Password, chap.ID, mschap.Challenge = keymat.Secret("clientpass"), 6, bytes.Repeat([]byte{1}, 16)
	for _, r := range []aaa.Request{pap, chap, mschap} {
		d := m.Authenticate(ctx, "g", r)
		if d.Accept || d.Reason != aaa.ReasonRefused || r.Protocol == aaa.MSCHAPv2 && !strings.Contains(d.Text, "MS-CHAP error 691") {
			t.Errorf("%s with a wrong password: %+v", r.Protocol, d)
		}
	}

	for _, password := range []string{"clientPass", "wrong"} {
		eap(t, m, base, password)
	}

	proven := xauthRequest
	proven.User, proven.Protocol = "proven", aaa.Proven
	if d := m.Authenticate(ctx, "g", proven); !d.Accept || d.Address != netip.MustParseAddr("10.9.0.8") {
		t.Errorf("proven: %+v", d)
	}
	proven.User = "User"
	if d := m.Authenticate(ctx, "g", proven); d.Accept {
		t.Errorf("proven, but the server knows only a password: %+v", d)
	}

	checkTunnels(t, m, base)

	for _, kind := range []AcctKind{AcctOn, AcctStart, AcctInterim, AcctStop} {
		a := exampleRecord(kind)
		if err := client.Account(ctx, "g", EncodeAttributes(AccountingAttributes(a)), time.Now()); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	checkDetail(t, detail)
}

// checkTunnels: tunnel switching by FreeRADIUS' names, with a password that it has encrypted.
func checkTunnels(t *testing.T, m *Method, r aaa.Request) {
	t.Helper()
	r.User, r.Protocol, r.Password, r.Local = "switched", aaa.PAP, keymat.Secret("clientPass"), netip.MustParseAddrPort("192.0.2.1:1701")
	want := []aaa.Tunnel{{
		Preference: 5, Server: netip.MustParseAddr("192.0.2.7"), Client: netip.MustParseAddr("192.0.2.1"), Secret: keymat.Secret("a tunnel secret of 33 characters."),
		ClientName: "us", ServerName: "them", Assignment: "pool 5", PrivateGroup: "group", MaxSessions: 100,
	}, {Server: netip.MustParseAddr("2001:db8::7"), Secret: keymat.Secret("in clear"), MaxSessions: 100}}
	if d := m.Authenticate(context.Background(), "g", r); !d.Accept || !reflect.DeepEqual(d.Tunnels, want) || string(bytes.Join(d.Class, nil)) != "class one" {
		t.Errorf("switched: %+v", d)
	}
	r.User = "vlan"
	if d := m.Authenticate(context.Background(), "g", r); d.Accept || d.Reason != aaa.ReasonBadAnswer || !strings.Contains(d.Text, "type 13") {
		t.Errorf("a VLAN: %+v", d)
	}
}

// eap has a peer with EAP-MD5 (RFC 3748 section 5.4) and one password authenticate through us.
func eap(t *testing.T, m *Method, r aaa.Request, password string) {
	t.Helper()
	r.Protocol, r.EAP = aaa.EAP, append([]byte{eapResponse, 1, 0, 9, 1}, "User"...)
	d := m.Authenticate(context.Background(), "g", r)
	if d.Round == nil || len(d.Round.Packet) < 22 || d.Round.Packet[4] != 4 || len(d.Round.State) == 0 {
		t.Fatalf("EAP: %+v", d)
	}
	id, challenge := d.Round.Packet[1], d.Round.Packet[6:22]
	sum := md5.Sum(append(append([]byte{id}, password...), challenge...))
	r.EAP, r.State = append([]byte{eapResponse, id, 0, 22, 4, 16}, sum[:]...), d.Round.State
	r.Server = d.By.Server
	d = m.Authenticate(context.Background(), "g", r)
	code := byte(eapFailure)
	if password == "clientPass" {
		code = eapSuccess
	}
	if d.Accept != (code == eapSuccess) || !bytes.Equal(d.EAP, []byte{code, id, 0, 4}) {
		t.Errorf("EAP with %q: %+v", password, d)
	}
}

// checkDetail compares what FreeRADIUS understood of the first request and of accounting.
func checkDetail(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var records []string
	for _, r := range strings.Split(string(b), "\n\n") {
		var lines []string
		for _, l := range strings.Split(r, "\n") {
			l = strings.TrimSpace(l)
			switch name, _, ok := strings.Cut(l, " = "); {
			case !ok, strings.HasPrefix(name, "Packet-"), strings.HasPrefix(name, "Tmp-"), name == "Timestamp", name == "User-Password",
				name == "Message-Authenticator", name == "Event-Timestamp", name == "Acct-Delay-Time", name == "Acct-Unique-Session-Id":
			default:
				lines = append(lines, l)
			}
		}
		if len(lines) > 0 {
			records = append(records, strings.Join(lines, "\n"))
		}
	}
	if len(records) < 5 {
		t.Fatalf("%d records:\n%s", len(records), b)
	}
	for _, c := range []struct {
		name         string
		at           int
		router, want string
	}{
		{"the first request", 0, "vr1", frRequest},
		{"Accounting-On", len(records) - 4, "", frOn},
		{"start", len(records) - 3, "vr2", frStart},
		{"interim", len(records) - 2, "vr2", frInterim},
		{"stop", len(records) - 1, "vr2", frStop},
	} {
		want := strings.Join(strings.FieldsFunc(strings.ReplaceAll(c.want, "ROUTER", c.router), func(r rune) bool { return r == '\n' }), "\n")
		if got := records[c.at]; got != want {
			t.Errorf("%s:\n%s\nnot\n%s", c.name, got, want)
		}
	}
}

// What FreeRADIUS makes of l2tpRequest and of exampleRecord.
const (
	frNAS = `
NAS-Identifier = "gate"
NAS-IP-Address = 192.0.2.9
`
	frPort = `
NAS-Port-Type = Virtual
NAS-Port = 786466
NAS-Port-Id = "l2tp:12.34"
Calling-Station-Id = "203.0.113.5"
Called-Station-Id = "192.0.2.1"
Tunnel-Type:0 = L2TP
Tunnel-Medium-Type:0 = IPv4
Tunnel-Client-Endpoint:0 = "203.0.113.5"
Tunnel-Server-Endpoint:0 = "192.0.2.1"
Tunnel-Client-Auth-Id:0 = "pc"
Tunnel-Server-Auth-Id:0 = "gate.example"
ERX-Virtual-Router-Name = "ROUTER"
ERX-Tunnel-Interface-Id = "l2tp local 192.0.2.1:4500 peer 203.0.113.5:61234 tunnel 12 session 34"
Acct-Tunnel-Connection = "000c0022"
`
	frInfo = `
Connect-Info = "L2TP/IPsec 203.0.113.5:61234 Windows 10"
`
	frRequest = `User-Name = "User"` + frNAS + `
Service-Type = Framed-User
Framed-Protocol = PPP
Acct-Session-Id = "s1"
` + frPort + frInfo
	frCause = `
Acct-Terminate-Cause = Idle-Timeout
Sdx-Tunnel-Disconnect-Cause-Info = "\000\003\300!\002"
Connect-Info = "idle-timeout: no traffic for 10 minutes"
`
	frOn = `Acct-Status-Type = Accounting-On
Acct-Session-Id = "s1"
` + frNAS + `ERX-Virtual-Router-Name = "vr1"
` + frCause
	frUser = `
Acct-Session-Id = "s1"
` + frNAS + `
User-Name = "ann@example.net"
Class = 0x6f6e65
Class = 0x00
Class = 0x74776f
Acct-Authentic = RADIUS
Service-Type = Framed-User
Framed-Protocol = PPP
Framed-IP-Address = 10.0.0.7
Framed-IP-Netmask = 255.255.255.255
`
	frEnd = frPort + `
MS-Acct-Auth-Type = MS-CHAP-2
ERX-Ingress-Policy-Name = "basic"
` + frInfo
	frTraffic = `
Acct-Session-Time = 3600
Acct-Input-Octets = 7
Acct-Output-Octets = 4294967295
Acct-Input-Gigawords = 5
Acct-Output-Gigawords = 0
Acct-Input-Packets = 11
Acct-Output-Packets = 3
ERX-Output-Gigapkts = 2
`
	frStart   = "Acct-Status-Type = Start" + frUser + frEnd
	frInterim = "Acct-Status-Type = Interim-Update" + frUser + frTraffic + frEnd
	frStop    = "Acct-Status-Type = Stop" + frUser + frTraffic + frCause + frEnd
)

// TestNamesOfFreeRADIUS compares our table with FreeRADIUS' dictionaries: names and kinds.
//
//runner:once
func TestNamesOfFreeRADIUS(t *testing.T) {
	vendorNumbers := map[string]uint32{
		"": 0, "Cisco": vendorCisco, "Microsoft": vendorMicrosoft, "Ascend": vendorAscend, "Cisco-ASA": vendorASA, "ERX": vendorERX,
		"Roaring-Penguin": vendorRoaringPenguin, "WISPr": vendorWISPr, "Mikrotik": vendorMikrotik,
	}
	types := map[string]kind{"string": text, "integer": integer, "date": integer, "ipaddr": address, "ipv6addr": address6, "ipv6prefix": prefix6}
	missing := maps.Clone(table)
	files, err := filepath.Glob("/usr/share/freeradius/dictionary.*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		base := filepath.Ext(file)
		vendor := ""
		for line := range strings.Lines(string(b)) {
			words := strings.Fields(line)
			switch {
			case len(words) >= 2 && words[0] == "BEGIN-VENDOR":
				vendor = words[1]
			case len(words) >= 2 && words[0] == "END-VENDOR":
				vendor = ""
			case len(words) >= 4 && words[0] == "ATTRIBUTE":
				n, err := strconv.ParseUint(words[2], 10, 8)
				number, known := vendorNumbers[vendor]
				if err != nil || !known || vendor == "" && !strings.HasPrefix(base, ".rfc") {
					continue
				}
				a := Attribute{number, uint8(n)}
				d := missing[a]
				if d == nil || d.name != words[1] {
					continue // not ours, or another name for the same
				}
				delete(missing, a)
				want, ok := types[words[3]]
				if tags := strings.Contains(line, "has_tag"); ok && tags && want == text {
					want = tagText
				} else if tags && want == integer {
					want = tagInteger
				}
				if d.attribute == (Attribute{vendorERX, erxMaxSessions}) {
					want = tagInteger // Juniper's own description gives it a tag
				}
				if d.kind != want && d.kind != octets {
					t.Errorf("%s is %s %s", d.name, words[3], strings.Join(words[4:], " "))
				}
			}
		}
	}
	for a, d := range missing {
		t.Errorf("%d/%d %s is not in any dictionary", a.Vendor, a.Type, d.name)
	}
}
