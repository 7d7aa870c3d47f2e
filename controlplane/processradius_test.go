package controlplane_test

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	rad "layeh.com/radius"

	"vrgate/controlplane/api"
	"vrgate/controlplane/config"
	"vrgate/controlplane/store"
	"vrgate/test/faultyradius"
)

// radiusSecret is what the server of the tests and the router share; it must not be seen anywhere.
const radiusSecret = "between red and its RADIUS server"

// radiusNet is a RADIUS server on this machine, one program for users and one for records, and
// where the router takes its requests.
type radiusNet struct {
	t            *testing.T
	users, books *faultyradius.Server
	auth, acct   int
	coa          netip.AddrPort
}

func newRADIUSNet(t *testing.T, cfg faultyradius.Config) *radiusNet {
	t.Helper()
	cfg.Secret = radiusSecret
	n := &radiusNet{t: t, users: faultyradius.New(cfg), books: faultyradius.New(faultyradius.Config{Secret: radiusSecret})}
	listen := func() *net.UDPConn {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	port := func(c *net.UDPConn) int { return c.LocalAddr().(*net.UDPAddr).Port }
	serve := func(s *faultyradius.Server) int {
		conn, served := listen(), make(chan struct{})
		go func() { defer close(served); _ = s.Serve(conn) }()
		t.Cleanup(func() { _ = conn.Close(); <-served })
		return port(conn)
	}
	n.auth, n.acct = serve(n.users), serve(n.books)
	free := listen()
	n.coa = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port(free)))
	_ = free.Close()
	return n
}

// config is the router red with the server; a request is sent twice, each time with this timeout. more are further keys of aaa.
func (n *radiusNet) config(timeout, more string) *config.Config {
	return loadConfig(n.t, map[string]string{
		"vrgate.yaml":  "shutdown-timeout: 1s\nworkers: {dh: 2, kernel: 4}\n",
		"vr/blue.yaml": routerYAML("blue", "192.0.2.2"), // another tenant
		"vr/red.yaml": strings.Replace(routerYAML("red", "192.0.2.1"), "attempts: 1", "attempts: 2", 1) + strings.NewReplacer(
			"AUTH", fmt.Sprint(n.auth), "ACCT", fmt.Sprint(n.acct), "COA", fmt.Sprint(n.coa.Port()), "SECRET", radiusSecret, "TIMEOUT", timeout, "MORE", more).Replace(`
ppp: {authentication: [pap]}
radius:
  nas-identifier: red.example.net
  servers: [{name: one, address: 127.0.0.1, authentication-port: AUTH, accounting-port: ACCT, secret: SECRET, timeout: TIMEOUT, retransmissions: 1}]
  groups: [{name: everything, servers: [one]}]
  dynamic-authorization: {enabled: true, addresses: [127.0.0.1], port: COA}
aaa: {methods: [radius, local]MORE}
traffic-policies: [{name: guests, rules: [{action: permit}]}, {name: staff, rules: [{action: permit}]}]
`),
	})
}

// received is what the server has acknowledged.
func (n *radiusNet) received() (out []booked) {
	for _, a := range n.books.Records() {
		out = append(out, booked{Attributes: a})
	}
	return out
}

// ask sends a request of RFC 5176, signed with a secret, and returns the answer; nil: there is none.
func (n *radiusNet) ask(code rad.Code, identifier byte, secret string, attributes ...*rad.AVP) *rad.Packet {
	n.t.Helper()
	p := &rad.Packet{Code: code, Identifier: identifier, Secret: []byte(secret), Attributes: slices.Concat(rad.Attributes{avp(80, string(make([]byte, 16)))}, attributes)}
	b, err := p.MarshalBinary()
	if err != nil {
		n.t.Fatal(err)
	}
	copy(b[22:38], faultyradius.HMAC(b, p.Secret))
	sum := md5.Sum(append(bytes.Clone(b), secret...))
	copy(b[4:20], sum[:])
	conn, err := net.Dial("udp4", n.coa.String())
	if err != nil {
		n.t.Fatal(err)
	}
	defer conn.Close()
	wait := 5 * time.Second
	if secret != radiusSecret {
		wait = 200 * time.Millisecond
	}
	if _, err := conn.Write(b); err != nil {
		n.t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(wait))
	buf := make([]byte, 4097)
	size, err := conn.Read(buf)
	if err != nil {
		return nil
	}
	if !rad.IsAuthenticResponse(buf[:size], b, []byte(secret)) {
		n.t.Errorf("the answer to request %d is not authentic", identifier)
	}
	answer, err := rad.Parse(buf[:size], []byte(secret))
	if err != nil {
		n.t.Fatal(err)
	}
	return answer
}

func avp(t rad.Type, value string) *rad.AVP {
	return &rad.AVP{Type: t, Attribute: rad.Attribute(value)}
}

func numberAVP(t rad.Type, n uint32) *rad.AVP {
	return avp(t, string(binary.BigEndian.AppendUint32(nil, n)))
}

func vendorAVP(vendor uint32, t byte, value string) *rad.AVP {
	b := binary.BigEndian.AppendUint32(nil, vendor)
	return avp(26, string(append(b, t, byte(2+len(value))))+value)
}

// classes are the values of Class.
func (b booked) classes() (out []string) {
	for _, a := range b.Attributes {
		if a.Type == 25 {
			out = append(out, string(a.Attribute))
		}
	}
	return out
}

// up waits until a user's session is up.
func (w *world) up(user string) (s api.Subscriber) {
	w.t.Helper()
	w.until("user "+user+" is up", func() bool {
		list, err := w.p.Subscribers(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		i := slices.IndexFunc(list, func(s api.Subscriber) bool { return s.User == user && s.State == "up" })
		if i >= 0 {
			s = list[i]
		}
		return i >= 0
	})
	return s
}

// until waits, in real time, for something that comes soon.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("waited in vain until %s; ended: %q; kernel:\n%s", what, w.endings(), w.kernel)
		}
	}
}

// assertHidden fails if a secret is in the log, in the state file or in anything that the API says.
func (w *world) assertHidden(st *store.Store, secrets ...string) {
	w.t.Helper()
	var state bytes.Buffer
	if err := st.Copy(&state); err != nil {
		w.t.Fatal(err)
	}
	places := map[string]string{"state file": state.String()}
	for _, e := range w.logs.All() {
		places["log"] += fmt.Sprintln(e.Message, e.ContextMap())
	}
	ctx := w.t.Context()
	add := func(what string, v any, err error) {
		b, merr := json.Marshal(v)
		if err := errors.Join(err, merr); err != nil {
			w.t.Errorf("%s: %v", what, err)
		}
		if places[what] = string(b); len(b) < 10 {
			w.t.Errorf("the API says nothing of %s: %s", what, b)
		}
	}
	subscribers, err := w.p.Subscribers(ctx)
	add("subscribers", subscribers, err)
	servers, err := w.p.RADIUS(ctx)
	add("RADIUS", servers, err)
	books, err := w.p.Accounting(ctx)
	add("accounting", books, err)
	outcomes, err := w.p.AAA(ctx)
	add("AAA", outcomes, err)
	steps, err := w.p.Explain(ctx, api.ExplainRequest{User: "bob", VR: "red"})
	add("explain", steps, err)
	for what, text := range places {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				w.t.Errorf("a secret is in the %s", what)
			}
		}
	}
}

// TestRADIUS: a whole process and a server, on the sockets of this machine: subscribers of both kinds get what the server
// grants, a dialogue takes two rounds, sessions are changed and ended by the server, and after an outage with the
// daemon's death in it the server has each record once.
func TestRADIUS(t *testing.T) {
	n := newRADIUSNet(t, faultyradius.Config{
		Passwords: map[string]string{"bob": testPassword, "carol": testPassword, "dave": testPassword},
		Accept: rad.Attributes{
			avp(18, "welcome"), avp(25, "gold"), avp(25, "\xff\x00"), numberAVP(27, 3600), numberAVP(28, 600), numberAVP(85, 300), numberAVP(12, 1300),
			avp(88, "main"), vendorAVP(311, 28, "\x0a\x00\x00\x35"), avp(11, "guests"), vendorAVP(14988, 8, "1M/2M"), vendorAVP(14122, 200, "unknown"),
		},
		Users: map[string]rad.Attributes{
			"bob":   {avp(8, "\x0a\x00\x00\x63"), avp(22, "10.9.0.0/24 0.0.0.0 5")},
			"carol": {avp(9, "\xff\xff\xff\x00"), vendorAVP(9, 1, "ipsec:inacl=unknown"), vendorAVP(4874, 11, "staff")},
		},
	})
	st, cfg := openStore(t), n.config("1s", "")
	w := startWorld(t, st, cfg, true)

	bob := w.connect("red", "bob", "198.51.100.1", nil)
	b := w.up("bob")
	if b.Address.String() != "10.0.0.99" || b.AddressSource != "radius" || b.MTU != 1300 || b.SessionTimeoutSeconds != 3600 || b.IdleTimeoutSeconds != 600 || b.InterimSeconds != 300 ||
		fmt.Sprint(b.Class) != "[gold 0xff00]" || fmt.Sprint(b.Traffic) != "{1000000 2000000 0 0 guests }" || len(b.Routes) != 1 || b.Server != "one" || b.Method != "radius" || b.AccountingGroup != "everything" || !b.Accounted {
		t.Errorf("bob has %+v", b)
	}
	n.users.Script(faultyradius.Challenge, faultyradius.Honest)
	w.connect("red", "carol", "198.51.100.2", byXAuth)
	c := w.up("carol")
	if c.Pool != "main" || c.Netmask.String() != "255.255.255.0" || c.MTU != 1300 || c.SessionTimeoutSeconds != 3600 || fmt.Sprint(c.Class) != "[gold 0xff00]" || c.Traffic.InPolicy != "guests" || c.Traffic.OutPolicy != "staff" {
		t.Errorf("carol has %+v", c)
	}
	w.assertKernel(`
		router blue
		router red
		  access of 198.51.100.2 in red mtu 1300, route to ` + c.Address.String() + ` from 10.0.0.1, in 1000000 bit/s, in by guests, out 2000000 bit/s, out by staff
		  sa in from 198.51.100.1
		  sa in from 198.51.100.2
		  sa out to 198.51.100.1
		  sa out to 198.51.100.2
		  session of 198.51.100.1 in red mtu 1300, route to 10.0.0.99 from 10.0.0.1, in 1000000 bit/s, in by guests, out 2000000 bit/s, network 10.9.0.0/24 metric 5
		  tunnel of 198.51.100.1`)
	w.connect("red", "alice", "198.51.100.3", nil) // who is a local user; but the server has spoken
	w.until("alice is refused", func() bool { return slices.Contains(w.endings(), "alice: aaa-refused") })

	// The server changes and ends sessions (RFC 5176), and nobody's who is another tenant's.
	w.connect("blue", "erin", "198.51.100.5", byXAuth)
	erin := w.up("erin")
	now := numberAVP(55, uint32(time.Now().Unix()))
	change := []*rad.AVP{avp(44, b.ID), numberAVP(27, 7200), avp(11, "staff"), now}
	for _, tc := range []struct {
		what       string
		code       rad.Code
		identifier byte
		secret     string
		attributes []*rad.AVP
		want       rad.Code
		cause      int
	}{
		{"a change", rad.CodeCoARequest, 1, radiusSecret, change, rad.CodeCoAACK, 0},
		{"the same again", rad.CodeCoARequest, 1, radiusSecret, change, rad.CodeCoAACK, 0},
		{"signed by somebody else", rad.CodeDisconnectRequest, 2, "another secret", []*rad.AVP{avp(44, b.ID), now}, 0, 0},
		{"a policy that there is not", rad.CodeCoARequest, 3, radiusSecret, []*rad.AVP{avp(44, b.ID), avp(11, "nobody"), now}, rad.CodeCoANAK, 407},
		{"nobody's session", rad.CodeDisconnectRequest, 4, radiusSecret, []*rad.AVP{avp(44, "1"), now}, rad.CodeDisconnectNAK, 503},
		{"another tenant's, by session", rad.CodeDisconnectRequest, 6, radiusSecret, []*rad.AVP{avp(44, erin.ID), now}, rad.CodeDisconnectNAK, 503},
		{"another tenant's, by user", rad.CodeCoARequest, 7, radiusSecret, []*rad.AVP{avp(1, "erin"), numberAVP(27, 60), now}, rad.CodeCoANAK, 503},
		{"another tenant's, by address", rad.CodeDisconnectRequest, 8, radiusSecret, []*rad.AVP{avp(8, string(erin.Address.AsSlice())), avp(1, "erin"), now}, rad.CodeDisconnectNAK, 503},
		{"carol's", rad.CodeDisconnectRequest, 5, radiusSecret, []*rad.AVP{avp(1, "carol"), now}, rad.CodeDisconnectACK, 0},
	} {
		answer := n.ask(tc.code, tc.identifier, tc.secret, tc.attributes...)
		switch {
		case answer == nil:
			if tc.want != 0 {
				t.Errorf("%s: no answer", tc.what)
			}
		case answer.Code != tc.want || tc.cause != 0 && !bytes.Equal(answer.Get(101), binary.BigEndian.AppendUint32(nil, uint32(tc.cause))):
			t.Errorf("%s: %v %v, want %v with cause %d", tc.what, answer.Code, answer.Attributes, tc.want, tc.cause)
		}
	}
	if b = w.up("bob"); b.SessionTimeoutSeconds != 7200 || fmt.Sprint(b.Traffic) != "{1000000 2000000 0 0 staff }" {
		t.Errorf("after the change bob has %+v", b)
	}
	if !strings.Contains(w.kernel.String(), "in by staff, out 2000000 bit/s, network") {
		t.Errorf("after the change the kernel has\n%s", w.kernel)
	}
	w.up("erin")
	w.until("carol has gone", func() bool { return slices.Contains(w.endings(), "carol: radius-disconnect") })
	w.until("the server has carol's stop", func() bool { return len(n.received()) == 4 })

	// Nobody takes records any more, and the daemon dies. (It cannot be killed here: its end is not heard of by anybody.)
	n.books.Script(faultyradius.Silent)
	bob.hangUp()
	w.until("bob has gone", func() bool { return slices.Contains(w.endings(), "bob: ppp-user-request") })
	w.connect("red", "dave", "198.51.100.4", nil)
	w.up("dave") // its start is on disk, and bob's stop was there before
	after := killed(t, st)
	w.assertHidden(after, radiusSecret, testPassword)
	if err := w.finish(); err != nil {
		t.Error(err)
	}
	n.books.Script(faultyradius.Honest)
	again := startWorld(t, after, cfg, true)
	again.connect("red", "carol", "198.51.100.2", byXAuth)
	again.up("carol")
	if err := again.finish(); err != nil {
		t.Error(err)
	}
	got := n.received()
	slices.SortStableFunc(got, func(a, b booked) int { // by session, and each session's in their order
		return cmp.Compare(string(a.Get(1)), string(b.Get(1)))
	})
	assertBooks(t, got,
		"on", "on", "off",
		"start bob", "stop bob ? s, 1000 in, 2000 out, cause 1",
		"start carol", "stop carol ? s, 0 in, 0 out, cause 6", "start carol", "stop carol ? s, 0 in, 0 out, cause 6",
		"start dave", "stop dave ? s, 0 in, 0 out, cause 11")
	for _, b := range got {
		switch kind := b.number(40); {
		case kind <= 2 && fmt.Sprintf("%s", b.classes()) != "[gold \xff\x00]":
			t.Errorf("%v has the classes %q", b, b.classes())
		case kind == 2 && string(b.Get(1)) == "dave" && b.number(41) < 1:
			t.Errorf("%v comes %d s late (Acct-Delay-Time)", b, b.number(41))
		}
	}
}

// TestUnknownPolicy: a traffic policy that the terminating router has not keeps its user out, or is passed over, as
// aaa.unknown-policy says.
func TestUnknownPolicy(t *testing.T) {
	for word, in := range map[string]bool{"refuse": false, "ignore": true} {
		t.Run(word, func(t *testing.T) {
			n := newRADIUSNet(t, faultyradius.Config{Accept: rad.Attributes{avp(11, "nobody"), vendorAVP(4874, 11, "staff")}})
			w := startWorld(t, openStore(t), n.config("1s", ", unknown-policy: "+word), true)
			w.connect("red", "bob", "198.51.100.1", byXAuth)
			if in {
				if s := w.up("bob"); s.Traffic.InPolicy != "" || s.Traffic.OutPolicy != "staff" || !strings.Contains(w.kernel.String(), "out by staff") {
					t.Errorf("bob has %+v", s.Traffic)
				}
			} else {
				w.until("bob is refused", func() bool { return slices.Contains(w.endings(), "bob: unknown-traffic-policy") })
			}
			if a, err := w.p.AAA(t.Context()); err != nil || a.UnknownPolicies != map[bool]uint64{true: 1}[in] {
				t.Errorf("%d policies passed over, %v", a.UnknownPolicies, err)
			}
			if err := w.finish(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStopWhileServersAreSilent: the daemon ends within its time though users wait for a server's answer, and has nothing
// of them in the kernel.
func TestStopWhileServersAreSilent(t *testing.T) {
	n := newRADIUSNet(t, faultyradius.Config{Faults: []faultyradius.Fault{faultyradius.Silent}})
	n.books.Script(faultyradius.Silent)
	w := startWorld(t, openStore(t), n.config("60s", ""), true)
	w.connect("red", "bob", "198.51.100.1", nil)
	w.connect("red", "carol", "198.51.100.2", byXAuth)
	w.until("both are asked about", func() bool { return n.users.Stats().Requests == 2 })
	began := time.Now()
	if err := w.finish(); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 2500*time.Millisecond { // shutdown-timeout and a second for the last records
		t.Errorf("the end took %v", d)
	}
}

// TestForgedAnswers: what somebody forges in the server's name lets nobody in, keeps nobody out, and does not fill the
// log, be it an answer or an order; it is counted.
func TestForgedAnswers(t *testing.T) {
	n := newRADIUSNet(t, faultyradius.Config{
		Passwords: map[string]string{"bob": testPassword}, HonestAfter: 50 * time.Millisecond,
		Faults: []faultyradius.Fault{
			faultyradius.ForgedAccept, faultyradius.WrongAuthenticator, // the two answers of eve
			faultyradius.Garbage,
		},
	})
	w := startWorld(t, openStore(t), n.config("1s", ""), true)
	w.connect("red", "eve", "198.51.100.1", byXAuth)
	w.until("eve is refused", func() bool { return slices.Contains(w.endings(), "eve: aaa-refused") })
	w.connect("red", "bob", "198.51.100.2", byXAuth)
	w.up("bob")
	conn, err := net.Dial("udp4", n.coa.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	forged := func() (n uint64) {
		list, err := w.p.RADIUS(t.Context())
		if err != nil || len(list) != 1 || len(list[0].DynamicAuthorization.Clients) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		for _, c := range list[0].DynamicAuthorization.Clients[0].Outcomes {
			n += c
		}
		return n
	}
	packet := append([]byte{40, 1, 0, 26}, make([]byte, 22)...)
	copy(packet[20:], "\x01\x06bob!")
	for i := range 500 { // the socket's buffer may lose some
		packet[1] = byte(i)
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	w.until("forged requests are counted", func() bool { return forged() > 0 })
	w.up("bob")
	lines := 0
	for _, e := range w.logs.All() {
		if e.Level > zap.DebugLevel && (strings.Contains(e.Message, "RADIUS") || strings.Contains(e.Message, "dynamic authorization")) {
			lines++
		}
	}
	if lines > 5 {
		t.Errorf("%d lines in the log", lines)
	}
	list, err := w.p.RADIUS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []string{"no-message-authenticator", "bad-authenticator"} {
		if s := list[0].Servers[0]; s.Outcomes[o] == 0 {
			t.Errorf("server %+v has counted no %s", s, o)
		}
	}
	if err := w.finish(); err != nil {
		t.Error(err)
	}
}
