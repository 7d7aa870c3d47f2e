package controlplane

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/zap"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/aaa/coa"
	"vrgate/controlplane/aaa/radius"
	"vrgate/controlplane/api"
	"vrgate/controlplane/pool"
	"vrgate/controlplane/subscriber"
)

// TestServerViews: every outcome is shown, also those that have not happened.
func TestServerViews(t *testing.T) {
	since := time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)
	s := radius.ServerStatus{
		Name: "first", Role: radius.Accounting, Address: netip.MustParseAddrPort("[2001:db8::1]:1813"), State: radius.Dead, Since: since, LastAnswer: since.Add(-time.Minute),
		RTT: 12500 * time.Microsecond, InFlight: 3, Waiting: 4, Sockets: 5, OpenError: "no route",
	}
	for i := range s.Counts {
		s.Counts[i] = uint64(i)
	}
	got := serverViews([]radius.ServerStatus{s})[0]
	want := api.RADIUSServer{
		Name: "first", Role: "accounting", Address: s.Address, State: "dead", Since: since, LastAnswer: since.Add(-time.Minute), RTTSeconds: 0.0125,
		InFlight: 3, Waiting: 4, Sockets: 5, SocketError: "no route", Outcomes: map[string]uint64{},
	}
	for i, o := range radius.Outcomes() {
		want.Outcomes[o.String()] = uint64(i)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" || len(got.Outcomes) != len(s.Counts) {
		t.Errorf("(-want +got):\n%s", diff)
	}
	requests := requestViews([2]radius.Pressure{{Limit: 10, InFlight: 1, Queued: 2, Refused: 3}, {Limit: 20}})
	if diff := cmp.Diff([]api.RADIUSRequests{{Role: "authentication", Limit: 10, InFlight: 1, Queued: 2, Refused: 3}, {Role: "accounting", Limit: 20}}, requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// TestFindingViews: attributes have their names, and those beyond the bound a word that no
// attribute has.
func TestFindingViews(t *testing.T) {
	for _, test := range []struct {
		attribute radius.Attribute
		want      string
	}{
		{radius.Attribute{Type: 12}, "Framed-MTU"}, {radius.Attribute{Vendor: 9999, Type: 3}, "vendor 9999 type 3"}, {radius.Attribute{}, "others"},
	} {
		f := radius.FindingCount{Finding: radius.Finding{Attribute: test.attribute, Problem: radius.ProblemUnknown}, Count: 7}
		if got := findingView(f); got != (api.RADIUSFinding{Attribute: test.want, Problem: "unknown", Count: 7}) {
			t.Errorf("%+v", got)
		}
	}
}

// TestDynamicView: every client with every outcome; who is none is counted.
func TestDynamicView(t *testing.T) {
	if v := dynamicView(nil); v.Enabled || v.Clients == nil {
		t.Errorf("not enabled: %+v", v)
	}
	client := coa.Client{Address: netip.MustParseAddr("192.0.2.9"), Secret: []byte("secret")}
	v := dynamicView(coa.NewServer(coa.Config{Clients: []coa.Client{client}}, nil, zap.NewNop()))
	if !v.Enabled || len(v.Clients) != 1 || v.Clients[0].Address != client.Address || len(v.Clients[0].Outcomes) != len(coa.Outcomes()) {
		t.Errorf("%+v", v)
	}
	if n, is := v.Clients[0].Outcomes[coa.Disconnected.String()]; !is || n != 0 {
		t.Errorf("outcomes %v", v.Clients[0].Outcomes)
	}
}

// TestAddressSourceView: a fixed address is the server's or the local user's.
func TestAddressSourceView(t *testing.T) {
	l := bookFor(t)
	p := &Process{shared: &shared{leases: l}}
	pooled := netip.MustParseAddr("10.0.0.2")
	for want, test := range map[string]struct {
		address netip.Addr
		method  aaa.MethodName
	}{
		"pool":   {pooled, aaa.MethodRADIUS},
		"radius": {netip.MustParseAddr("10.9.0.1"), aaa.MethodRADIUS},
		"local":  {netip.MustParseAddr("10.9.0.1"), aaa.MethodLocal},
	} {
		if got := p.addressSource("red", test.address, aaa.Authority{Method: string(test.method)}); got != want {
			t.Errorf("%v by %s is %q, want %q", test.address, test.method, got, want)
		}
	}
}

// bookFor returns the leases of a virtual router "red" in which a pool's 10.0.0.2 is leased.
func bookFor(t *testing.T) *leases {
	t.Helper()
	who := holder{"red", 1}
	l := &leases{holders: map[string]map[netip.Addr]holder{"red": {netip.MustParseAddr("10.0.0.2"): who}}, grants: map[holder]*grant{}}
	l.grants[who] = &grant{who: who, address: netip.MustParseAddr("10.0.0.2"), pool: newPool(t)}
	return l
}

// newPool returns a pool of three addresses, of which none is leased.
func newPool(t *testing.T) *pool.Pool {
	t.Helper()
	p, err := pool.New(pool.Config{Ranges: []pool.Range{{First: netip.MustParseAddr("10.0.0.2"), Last: netip.MustParseAddr("10.0.0.4")}}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestClassText: what is no text is told in digits.
func TestClassText(t *testing.T) {
	for in, want := range map[string]string{"gold 7~": "gold 7~", "": "", "a\x00": "0x6100", "J\xc3\xb6": "0x4ac3b6", "\xff": "0xff"} {
		if got := classText([]byte(in)); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

// TestTimeoutsView: what is left is never negative, and nothing where nobody counts.
func TestTimeoutsView(t *testing.T) {
	now := time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		up, traffic   time.Time
		session, idle int64 // left
	}{
		{now.Add(-time.Minute), now.Add(-10 * time.Second), 3540, 290},
		{now.Add(-2 * time.Hour), now.Add(-time.Hour), 0, 0},
		{time.Time{}, time.Time{}, 0, 0},
	} {
		var v api.Subscriber
		timeoutsView(&v, &subscriber.Record{Up: test.up, SessionTimeout: time.Hour, IdleTimeout: 5 * time.Minute}, test.traffic, now)
		if v.SessionTimeoutSeconds != 3600 || v.IdleTimeoutSeconds != 300 || v.SessionRemainingSeconds != test.session || v.IdleRemainingSeconds != test.idle {
			t.Errorf("up %v, traffic %v: %+v", test.up, test.traffic, v)
		}
	}
}

// TestPoolStates: free, nearly exhausted and exhausted.
func TestPoolStates(t *testing.T) {
	main := newPool(t)
	key := poolKey{"red", "main"}
	l := &leases{pools: map[poolKey]*pool.Pool{key: main, {"blue", "main"}: newPool(t)}, watches: map[poolKey]*poolWatch{key: {}, {"blue", "main"}: {}}}
	_, total := main.Usage()
	var states []string
	for n := range total + 1 {
		if n == total-1 {
			l.watches[key].warned = true
		}
		got := l.usage("red")
		if len(got) != 1 || got[0].Used != n || got[0].Size != total {
			t.Fatalf("%d leased: %+v", n, got)
		}
		states = append(states, got[0].State)
		if n < total {
			if _, err := main.Lease(time.Duration(n).String()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if want := []string{"free", "free", "warning", "exhausted"}; !slices.Equal(states, want) {
		t.Errorf("states %v, want %v", states, want)
	}
}
