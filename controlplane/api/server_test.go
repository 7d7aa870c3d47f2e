package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) {
	if socket := os.Getenv("VRGATE_TEST_SOCKET"); socket != "" {
		os.Exit(askAsSomebodyElse(socket))
	}
	goleak.VerifyTestMain(m)
}

// start serves a source until the test ends and returns a client.
func start(t *testing.T, source Source) (*Client, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	access := Access{Group: -1}
	l, err := access.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, NewServer(source, access, "v1.2.3", zap.NewNop()), l)
	return NewClient(socket), socket
}

func serve(t *testing.T, s *Server, l net.Listener) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

var compare = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

// TestViews: what the source says arrives at the client, whole, and narrowed
// down by filters.
func TestViews(t *testing.T) {
	source := &fakeSource{}
	c, _ := start(t, source)
	ctx := t.Context()
	check := func(what string, got any, err error, want any) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if diff := cmp.Diff(want, got, compare); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	vrs, _ := source.VRs(ctx)
	got, err := c.VRs(ctx, Filter{})
	check("vrs", got, err, vrs)
	got, err = c.VRs(ctx, Filter{VR: "red"})
	check("one vr", got, err, vrs[1:])

	ike, _ := source.IKESAs(ctx)
	gotIKE, err := c.IKESAs(ctx, Filter{})
	check("ike", gotIKE, err, ike)
	gotIKE, err = c.IKESAs(ctx, Filter{VR: "blue"})
	check("ike of one", gotIKE, err, ike[:1])

	ipsec, _ := source.IPsec(ctx)
	gotIPsec, err := c.IPsec(ctx, Filter{VR: "blue"})
	check("ipsec of one", gotIPsec, err, ipsec[:1])
	tunnels, _ := source.L2TPTunnels(ctx)
	gotTunnels, err := c.L2TPTunnels(ctx, Filter{VR: "red"})
	check("tunnels of one", gotTunnels, err, tunnels[1:])
	sessions, _ := source.L2TPSessions(ctx)
	gotSessions, err := c.L2TPSessions(ctx, Filter{VR: "red"})
	check("sessions of one", gotSessions, err, sessions[1:])

	services, _ := source.L2TPServices(ctx)
	gotServices, err := c.L2TPServices(ctx, Filter{VR: "blue"})
	check("services of one", gotServices, err, services[:1])
	destinations, _ := source.L2TPDestinations(ctx)
	gotDestinations, err := c.L2TPDestinations(ctx, Filter{VR: "blue"})
	check("destinations of one", gotDestinations, err, destinations[:1])
	lns, _ := source.L2TPProfiles(ctx)
	gotLNS, err := c.L2TPProfiles(ctx, Filter{VR: "red"})
	check("destination profiles of one", gotLNS, err, lns[1:])

	profiles, _ := source.TunnelProfiles(ctx)
	gotProfiles, err := c.TunnelProfiles(ctx, Filter{VR: "blue"})
	check("tunnel profiles of one", gotProfiles, err, profiles[:1])
	certificates, _ := source.Certificates(ctx)
	gotCertificates, err := c.Certificates(ctx, Filter{VR: "red"})
	check("certificates of one", gotCertificates, err, certificates[1:])
	gotRules, err := c.IKEPolicyRules(ctx, Filter{})
	check("policy rules", gotRules, err, []IKEPolicyRule{{"blue", vrs[0].PolicyRules[0]}, {"blue", vrs[0].PolicyRules[1]}})
	gotRules, err = c.IKEPolicyRules(ctx, Filter{VR: "red"})
	check("policy rules of one", gotRules, err, []IKEPolicyRule{})

	gotPools, err := c.Pools(ctx, Filter{})
	check("pools", gotPools, err, []VRPool{{"blue", vrs[0].Pools[0]}})
	gotPools, err = c.Pools(ctx, Filter{VR: "red"})
	check("pools of one", gotPools, err, []VRPool{})
	radius, _ := source.RADIUS(ctx)
	gotRADIUS, err := c.RADIUS(ctx, Filter{})
	check("radius", gotRADIUS, err, radius)
	gotRADIUS, err = c.RADIUS(ctx, Filter{VR: "red"})
	check("radius of one", gotRADIUS, err, radius[1:])
	domains, _ := source.DomainMaps(ctx)
	gotDomains, err := c.DomainMaps(ctx, Filter{VR: "blue"})
	check("domain maps of one", gotDomains, err, domains[:1])
	policies, _ := source.TrafficPolicies(ctx)
	gotPolicies, err := c.TrafficPolicies(ctx, Filter{VR: "blue"})
	check("traffic policies of one", gotPolicies, err, policies[:1])
	ipsecErrors, _ := source.IPsecErrors(ctx)
	gotErrors, err := c.IPsecErrors(ctx, Filter{VR: "red"})
	check("IPsec errors of one", gotErrors, err, ipsecErrors[1:])
	links, _ := source.Links(ctx)
	gotLinks, err := c.Links(ctx, Filter{VR: "red"})
	check("links of one", gotLinks, err, links[1:])
	statics, _ := source.Tunnels(ctx)
	gotStatics, err := c.Tunnels(ctx, Filter{VR: "red"})
	check("static tunnels of their outer addresses", gotStatics, err, statics)
	gotStatics, err = c.Tunnels(ctx, Filter{VR: "blue"})
	check("static tunnels of their traffic", gotStatics, err, statics[:1])
	codes, _ := source.TerminateCodes(ctx)
	gotCodes, err := c.TerminateCodes(ctx, Filter{VR: "red"})
	check("terminate codes of one", gotCodes, err, codes[1:])
	accounting, _ := source.Accounting(ctx)
	gotAccounting, err := c.Accounting(ctx, Filter{})
	check("accounting", gotAccounting, err, accounting)
	accounting.Queues = accounting.Queues[1:]
	gotAccounting, err = c.Accounting(ctx, Filter{VR: "red"})
	check("accounting of one", gotAccounting, err, accounting)
	aaa, _ := source.AAA(ctx)
	gotAAA, err := c.AAA(ctx, Filter{})
	check("aaa", gotAAA, err, aaa)
	aaa.Routers = aaa.Routers[:1]
	gotAAA, err = c.AAA(ctx, Filter{VR: "blue"})
	check("aaa of one", gotAAA, err, aaa)

	subs, _ := source.Subscribers(ctx)
	for _, test := range []struct {
		filter Filter
		want   []Subscriber
	}{
		{Filter{}, subs},
		{Filter{User: "alice"}, []Subscriber{subs[0], subs[2]}},
		{Filter{User: "alice", VR: "red"}, subs[2:3]},
		{Filter{Profile: "staff"}, subs[3:]},
		{Filter{Profile: "guests"}, []Subscriber{}},
		{Filter{VR: "red"}, subs[1:3]}, // bob arrives elsewhere but terminates there
		{Filter{ID: "1002"}, subs[1:2]},
		{Filter{Address: netip.MustParseAddr("10.0.0.7")}, []Subscriber{subs[0], subs[2]}},
		{Filter{Address: netip.MustParseAddr("10.0.0.8")}, []Subscriber{}},
		{Filter{Domain: "EXAMPLE.net"}, subs[3:]},
		{Filter{Domain: "default"}, subs[3:]},
		{Filter{Domain: "example"}, []Subscriber{}},
	} {
		got, err := c.Subscribers(ctx, test.filter)
		check("subscribers", got, err, test.want)
	}

	h, err := c.Health(ctx)
	if err != nil || h.Status != "degraded" || h.VRs != 2 || h.FailedVRs != 1 || h.Version != "v1.2.3" || h.Licences.Subscribers != (Licence{3, 1000}) || time.Since(h.Started) > time.Minute {
		t.Errorf("health %+v, %v", h, err)
	}
}

// TestExplain: the request arrives whole, and its mistakes come back.
func TestExplain(t *testing.T) {
	c, _ := start(t, &fakeSource{})
	got, err := c.Explain(t.Context(), ExplainRequest{User: "bob&x=y@example.net", VR: "red", Access: "l2tp/ipsec", Profile: "any/default", Authentication: "eap"})
	want := []ExplainStep{{"user", "bob&x=y@example.net", "red l2tp/ipsec"}, {"proof", "eap", "any/default"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	_, err = c.Explain(t.Context(), ExplainRequest{User: "bob", VR: "green"})
	var e *Error
	if !errors.As(err, &e) || e.Reason != ReasonNotFound || e.Text != `there is no virtual router "green"` {
		t.Errorf("error %#v", err)
	}
}

// TestL2TPAdmin: a request for an administrative state names one object and a state (A8).
func TestL2TPAdmin(t *testing.T) {
	source := &fakeSource{}
	c, _ := start(t, source)
	lac := netip.MustParseAddr("198.51.100.7")
	for _, good := range []L2TPAdminRequest{
		{VR: "blue", State: "drain"}, {VR: "blue", Destination: lac, State: "disabled"}, {VR: "blue", Tunnel: 20000, State: "enabled"},
		{VR: "blue", Tunnel: 20000, Session: 3, State: "disabled"},
	} {
		source.admin = nil
		got, err := c.SetL2TPAdmin(t.Context(), good)
		if err != nil || got != (L2TPAdminResponse{Tunnels: 1, Sessions: 2}) || !reflect.DeepEqual(source.admin, []L2TPAdminRequest{good}) {
			t.Errorf("%+v: %+v %v, asked for %+v", good, got, err, source.admin)
		}
	}
	source.admin = nil
	for text, bad := range map[string]L2TPAdminRequest{
		"say of which virtual router: vr":                       {State: "drain"},
		"a session is named by its tunnel and its own number":   {VR: "blue", Session: 3, State: "drain"},
		"a destination and a tunnel exclude each other":         {VR: "blue", Destination: lac, Tunnel: 20000, State: "drain"},
		"an administrative state is enabled, drain or disabled": {VR: "blue", State: "off"},
	} {
		var e *Error
		if _, err := c.SetL2TPAdmin(t.Context(), bad); !errors.As(err, &e) || e.Reason != ReasonBadRequest || e.Text != text {
			t.Errorf("%+v: %v, want %q", bad, err, text)
		}
	}
	if source.admin != nil {
		t.Errorf("bad requests were passed on: %+v", source.admin)
	}
}

func TestDisconnect(t *testing.T) {
	for name, test := range map[string]struct {
		request  DisconnectRequest
		ids      []string // selected
		ended    []string // told to the source
		reason   Reason
		sentence string
	}{
		"nobody named":   {DisconnectRequest{}, nil, nil, ReasonBadRequest, "an empty filter would end every session; ask for all explicitly"},
		"all and filter": {DisconnectRequest{Filter: Filter{User: "x"}, All: true}, nil, nil, ReasonBadRequest, "all and a filter exclude each other"},
		"all":            {DisconnectRequest{All: true}, []string{"1001", "1002", "1003", "1004"}, []string{"1001", "1002", "1003", "1004"}, "", ""},
		"all, dry":       {DisconnectRequest{All: true, DryRun: true}, []string{"1001", "1002", "1003", "1004"}, nil, "", ""},
		"profile":        {DisconnectRequest{Filter: Filter{Profile: "staff"}}, []string{"1004"}, []string{"1004"}, "", ""},
		"domain":         {DisconnectRequest{Filter: Filter{Domain: "example.NET"}}, []string{"1004"}, []string{"1004"}, "", ""},
		"domain map":     {DisconnectRequest{Filter: Filter{Domain: "default"}}, []string{"1004"}, []string{"1004"}, "", ""},
		"address":        {DisconnectRequest{Filter: Filter{Address: netip.MustParseAddr("10.0.0.7"), VR: "red"}}, []string{"1003"}, []string{"1003"}, "", ""},
		"id":             {DisconnectRequest{Filter: Filter{ID: "1002"}}, []string{"1002"}, []string{"1002"}, "", ""},
		"filter, dry":    {DisconnectRequest{Filter: Filter{User: "alice"}, DryRun: true}, []string{"1001", "1003"}, nil, "", ""},
		"other domain":   {DisconnectRequest{Filter: Filter{Domain: "carol"}}, []string{}, nil, "", ""},
		"user":           {DisconnectRequest{Filter: Filter{User: "alice"}}, []string{"1001", "1003"}, []string{"1001", "1003"}, "", ""},
		"user in vr":     {DisconnectRequest{Filter: Filter{User: "alice", VR: "blue"}}, []string{"1001"}, []string{"1001"}, "", ""},
		"unknown":        {DisconnectRequest{Filter: Filter{User: "eve"}}, []string{}, nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			source := &fakeSource{}
			c, _ := start(t, source)
			resp, err := c.Disconnect(t.Context(), test.request)
			if test.reason != "" {
				var e *Error
				if !errors.As(err, &e) || e.Reason != test.reason || e.Text != test.sentence || e.Status != http.StatusBadRequest {
					t.Errorf("error %#v", err)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			var ids []string
			if resp.Subscribers != nil {
				ids = []string{}
			}
			for _, s := range resp.Subscribers {
				ids = append(ids, s.ID)
			}
			if diff := cmp.Diff(test.ids, ids); diff != "" {
				t.Errorf("selected (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.ended, source.disconnected); diff != "" {
				t.Errorf("ended (-want +got):\n%s", diff)
			}
			if resp.DryRun != test.request.DryRun {
				t.Error("the answer does not say whether it was a dry run")
			}
		})
	}
}

// raw asks without the client.
func raw(t *testing.T, socket, method, path, body string) (int, string) {
	t.Helper()
	c := NewClient(socket)
	req, err := http.NewRequestWithContext(t.Context(), method, "http://x"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func TestBadRequests(t *testing.T) {
	source := &fakeSource{}
	_, socket := start(t, source)
	for _, test := range []struct {
		method, path, body string
		status             int
		reason             Reason
	}{
		{"GET", "/v1/nothing", "", 404, ReasonNotFound},
		{"GET", "/", "", 404, ReasonNotFound},
		{"POST", "/v1/vrs", "", 404, ReasonNotFound},
		{"GET", "/v1/disconnect", "", 404, ReasonNotFound},
		{"GET", "/v1/vrs?user=x", "", 400, ReasonBadRequest},
		{"GET", "/v1/accounting?user=x", "", 400, ReasonBadRequest},
		{"GET", "/v1/aaa?domain=x", "", 400, ReasonBadRequest},
		{"GET", "/v1/explain", "", 400, ReasonBadRequest},
		{"GET", "/v1/explain?user=x&password=y", "", 400, ReasonBadRequest},
		{"GET", "/v1/explain?user=x&vr=green", "", 404, ReasonNotFound},
		{"GET", "/v1/subscribers?address=here", "", 400, ReasonBadRequest},
		{"GET", "/v1/subscribers?name=x", "", 400, ReasonBadRequest},
		{"POST", "/v1/tunnels", `{"tunnel": "hq", "command": "sideways"}`, 400, ReasonBadRequest},
		{"POST", "/v1/tunnels", `{"tunnel": "hq"}`, 400, ReasonBadRequest},
		{"POST", "/v1/tunnels", `{"command": "down"}`, 400, ReasonBadRequest},
		{"POST", "/v1/tunnels", `{"tunnel": "hq", "command": "down", "all": true}`, 400, ReasonBadRequest},
		{"POST", "/v1/tunnels", `{"tunnel": "nothing", "command": "up"}`, 404, ReasonNotFound},
		{"GET", "/v1/tunnels?tunnel=hq", "", 400, ReasonBadRequest},
		{"POST", "/v1/disconnect", "", 400, ReasonBadRequest},
		{"POST", "/v1/disconnect", `{"all": true, "filer": {}}`, 400, ReasonBadRequest},
		{"POST", "/v1/disconnect", `{"filter": {"address": "x"}}`, 400, ReasonBadRequest},
		{"POST", "/v1/disconnect", `{"filter": {"user": "` + strings.Repeat("x", maxRequestBody) + `"}}`, 400, ReasonBadRequest},
	} {
		status, body := raw(t, socket, test.method, test.path, test.body)
		var e Error
		if err := json.Unmarshal([]byte(body), &e); err != nil || status != test.status || e.Reason != test.reason || e.Text == "" {
			t.Errorf("%s %s: %d %s", test.method, test.path, status, body)
		}
	}
	if len(source.disconnected)+len(source.told) > 0 {
		t.Errorf("bad requests ended %v and told %v", source.disconnected, source.told)
	}
}

// TestTellTunnel: words about tunnels arrive as they were said.
func TestTellTunnel(t *testing.T) {
	source := &fakeSource{}
	c, _ := start(t, source)
	for _, q := range []TunnelRequest{{"hq", TunnelUp}, {"hq/1 ?%2f", TunnelDown}, {"ü", TunnelNow}} {
		source.told = nil
		if err := c.TellTunnel(t.Context(), q); err != nil || !slices.Equal(source.told, []string{q.Tunnel + " " + string(q.Command)}) {
			t.Errorf("%+v: %v, told %q", q, err, source.told)
		}
	}
	var e *Error
	if err := c.TellTunnel(t.Context(), TunnelRequest{"nothing", TunnelUp}); !errors.As(err, &e) || e.Reason != ReasonNotFound || e.Status != 404 {
		t.Errorf("a tunnel that there is not: %#v", err)
	}
}

func TestSourceFails(t *testing.T) {
	c, socket := start(t, &fakeSource{err: errStopping})
	ask := map[string]func() error{
		"vrs":        func() error { _, err := c.VRs(t.Context(), Filter{}); return err },
		"health":     func() error { _, err := c.Health(t.Context()); return err },
		"radius":     func() error { _, err := c.RADIUS(t.Context(), Filter{}); return err },
		"accounting": func() error { _, err := c.Accounting(t.Context(), Filter{}); return err },
		"aaa":        func() error { _, err := c.AAA(t.Context(), Filter{}); return err },
		"pools":      func() error { _, err := c.Pools(t.Context(), Filter{}); return err },
		"explain":    func() error { _, err := c.Explain(t.Context(), ExplainRequest{User: "x"}); return err },
		"disconnect": func() error { _, err := c.Disconnect(t.Context(), DisconnectRequest{All: true}); return err },
	}
	for name, f := range ask {
		var e *Error
		if err := f(); !errors.As(err, &e) || e.Reason != ReasonUnavailable || e.Text != errStopping.Error() || e.Status != 503 {
			t.Errorf("%s: %#v", name, err)
		}
	}
	if status, body := raw(t, socket, "GET", "/metrics", ""); status != 500 || !strings.Contains(body, errStopping.Error()) {
		t.Errorf("metrics: %d %s", status, body)
	}
}

// hideAge looks at the one value that follows from the clock, and puts a word in its place.
func hideAge(t *testing.T, line string) string {
	t.Helper()
	value, is := strings.CutPrefix(line, "vrgate_accounting_oldest_age_seconds ")
	if !is {
		return line
	}
	age, err := strconv.ParseFloat(value, 64)
	if want := max(time.Since(since).Seconds(), 0); err != nil || age > want || age < want-60 {
		t.Errorf("age %s, want %v", value, want)
	}
	return "vrgate_accounting_oldest_age_seconds AGE"
}

// TestMetrics is a whole scrape.
func TestMetrics(t *testing.T) {
	_, socket := start(t, &fakeSource{})
	status, body := raw(t, socket, "GET", "/metrics", "")
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	var got []string
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, "#") {
			got = append(got, hideAge(t, strings.TrimSpace(line)))
		}
	}
	want := []string{
		`vrgate_aaa_answers_total{method="radius",result="accepted",vr="blue"} 40`,
		`vrgate_aaa_results_total{result="aaa-refused",vr="blue"} 3`,
		`vrgate_aaa_results_total{result="accepted",vr="blue"} 40`,
		`vrgate_aaa_unknown_policies_total 1`,
		`vrgate_accounting_disk_up 0`,
		`vrgate_accounting_group_queued{group="g",vr="blue"} 11`,
		`vrgate_accounting_group_queued{group="g",vr="red"} 1`,
		`vrgate_accounting_group_up{group="g",vr="blue"} 0`,
		`vrgate_accounting_group_up{group="g",vr="red"} 1`,
		`vrgate_accounting_lost_total 3`,
		`vrgate_accounting_oldest_age_seconds AGE`,
		`vrgate_accounting_open_sessions 4`,
		`vrgate_accounting_queued 12`,
		`vrgate_accounting_records_total{group="g",outcome="delivered",vr="blue"} 60`,
		`vrgate_accounting_records_total{group="g",outcome="delivered",vr="red"} 40`,
		`vrgate_accounting_records_total{group="g",outcome="dropped",vr="blue"} 6`,
		`vrgate_accounting_records_total{group="g",outcome="dropped",vr="red"} 0`,
		`vrgate_accounting_records_total{group="g",outcome="retried",vr="blue"} 5`,
		`vrgate_accounting_records_total{group="g",outcome="retried",vr="red"} 0`,
		`vrgate_accounting_recovered_total 2`,
		`vrgate_accounting_unknown_total 4`,
		`vrgate_accounting_unsaved 1`,
		`vrgate_admission_admitted_total 50`,
		`vrgate_admission_refused_total 7`,
		`vrgate_admission_running 3`,
		`vrgate_admission_waiting 2`,
		`vrgate_build_info{version="v1.2.3"} 1`,
		`vrgate_certificate_end_seconds{kind="own",name="vpn",vr="blue"} 1.7952948e+09`,
		`vrgate_coa_requests_total{client="192.0.2.9",outcome="changed",vr="blue"} 0`,
		`vrgate_coa_requests_total{client="192.0.2.9",outcome="disconnected",vr="blue"} 1`,
		`vrgate_coa_unknown_sources_total{vr="blue"} 11`,
		`vrgate_events_total{reason="clear-text-refused",subsystem="l2tp",vr="red"} 1.099511627776e+12`,
		`vrgate_events_total{reason="no-proposal-chosen",subsystem="ike",vr="blue"} 4`,
		`vrgate_ike_half_open{vr="blue"} 1`,
		`vrgate_ike_half_open{vr="red"} 0`,
		`vrgate_ike_sas{vr="blue"} 3`,
		`vrgate_ike_sas{vr="red"} 0`,
		`vrgate_ipsec_connections{vr="blue"} 2`,
		`vrgate_ipsec_connections{vr="red"} 0`,
		`vrgate_l2tp_sessions{vr="blue"} 2`,
		`vrgate_l2tp_sessions{vr="red"} 0`,
		`vrgate_l2tp_tunnels{vr="blue"} 2`,
		`vrgate_l2tp_tunnels{vr="red"} 0`,
		`vrgate_licences{licence="subscribers",vr=""} 1000`,
		`vrgate_licences{licence="subscribers",vr="blue"} 100`,
		`vrgate_licences_used{licence="ipsec-tunnels",vr=""} 2`,
		`vrgate_licences_used{licence="ipsec-tunnels",vr="blue"} 1`,
		`vrgate_licences_used{licence="ipsec-tunnels",vr="red"} 0`,
		`vrgate_licences_used{licence="subscribers",vr=""} 3`,
		`vrgate_licences_used{licence="subscribers",vr="blue"} 2`,
		`vrgate_licences_used{licence="subscribers",vr="red"} 0`,
		`vrgate_limit_refusals_total{reason="user-session-limit",vr="blue"} 2`,
		`vrgate_link_up{kind="gre",link="branch",vr="red"} 0`,
		`vrgate_link_up{kind="interface",link="lan",vr="blue"} 1`,
		`vrgate_pool_addresses{pool="main",vr="blue"} 250`,
		`vrgate_pool_addresses_used{pool="main",vr="blue"} 2`,
		`vrgate_radius_findings_total{attribute="Framed-MTU",problem="bad-value",vr="blue"} 5`,
		`vrgate_radius_in_flight{role="accounting",server="r1",vr="blue"} 0`,
		`vrgate_radius_in_flight{role="authentication",server="r1",vr="blue"} 3`,
		`vrgate_radius_in_flight{role="authentication",server="r2",vr="red"} 0`,
		`vrgate_radius_queued{role="accounting",vr="blue"} 0`,
		`vrgate_radius_queued{role="authentication",vr="blue"} 7`,
		`vrgate_radius_refused_total{role="accounting",vr="blue"} 0`,
		`vrgate_radius_refused_total{role="authentication",vr="blue"} 2`,
		`vrgate_radius_requests_total{outcome="accepted",role="authentication",server="r1",vr="blue"} 6`,
		`vrgate_radius_requests_total{outcome="late",role="authentication",server="r1",vr="blue"} 0`,
		`vrgate_radius_requests_total{outcome="sent",role="authentication",server="r1",vr="blue"} 9`,
		`vrgate_radius_requests_total{outcome="timeout",role="accounting",server="r1",vr="blue"} 2`,
		`vrgate_radius_rtt_seconds{role="authentication",server="r1",vr="blue"} 0.0125`,
		`vrgate_radius_server_up{role="accounting",server="r1",vr="blue"} 0`,
		`vrgate_radius_server_up{role="authentication",server="r1",vr="blue"} 1`,
		`vrgate_radius_server_up{role="authentication",server="r2",vr="red"} 0`,
		`vrgate_radius_waiting{role="accounting",server="r1",vr="blue"} 0`,
		`vrgate_radius_waiting{role="authentication",server="r1",vr="blue"} 1`,
		`vrgate_radius_waiting{role="authentication",server="r2",vr="red"} 0`,
		`vrgate_subscribers{state="connecting",vr="blue"} 1`,
		`vrgate_subscribers{state="connecting",vr="red"} 0`,
		`vrgate_subscribers{state="ending",vr="blue"} 0`,
		`vrgate_subscribers{state="ending",vr="red"} 0`,
		`vrgate_subscribers{state="up",vr="blue"} 1`,
		`vrgate_subscribers{state="up",vr="red"} 0`,
		`vrgate_tunnel_bytes_total{direction="in",tunnel="far",vr="red"} 0`,
		`vrgate_tunnel_bytes_total{direction="in",tunnel="hq/1",vr="blue"} 100`,
		`vrgate_tunnel_bytes_total{direction="out",tunnel="far",vr="red"} 0`,
		`vrgate_tunnel_bytes_total{direction="out",tunnel="hq/1",vr="blue"} 200`,
		`vrgate_tunnel_check_ok{tunnel="hq/1",vr="blue"} 1`,
		`vrgate_tunnel_check_rtt_seconds{tunnel="hq/1",vr="blue"} 0.0125`,
		`vrgate_tunnel_checks_total{result="lost",tunnel="far",vr="red"} 0`,
		`vrgate_tunnel_checks_total{result="lost",tunnel="hq/1",vr="blue"} 1`,
		`vrgate_tunnel_checks_total{result="sent",tunnel="far",vr="red"} 0`,
		`vrgate_tunnel_checks_total{result="sent",tunnel="hq/1",vr="blue"} 9`,
		`vrgate_tunnel_dials_total{tunnel="far",vr="red"} 0`,
		`vrgate_tunnel_dials_total{tunnel="hq/1",vr="blue"} 4`,
		`vrgate_tunnel_errors{kind="auth",tunnel="far",vr="red"} 0`,
		`vrgate_tunnel_errors{kind="auth",tunnel="hq/1",vr="blue"} 7`,
		`vrgate_tunnel_errors{kind="replay",tunnel="far",vr="red"} 0`,
		`vrgate_tunnel_errors{kind="replay",tunnel="hq/1",vr="blue"} 0`,
		`vrgate_tunnel_failures_total{reason="peer-dead",tunnel="hq/1",vr="blue"} 2`,
		`vrgate_tunnel_networks_up{tunnel="far",vr="red"} 0`,
		`vrgate_tunnel_networks_up{tunnel="hq/1",vr="blue"} 1`,
		`vrgate_tunnel_packets_total{direction="in",tunnel="far",vr="red"} 0`,
		`vrgate_tunnel_packets_total{direction="in",tunnel="hq/1",vr="blue"} 1`,
		`vrgate_tunnel_packets_total{direction="out",tunnel="far",vr="red"} 0`,
		`vrgate_tunnel_packets_total{direction="out",tunnel="hq/1",vr="blue"} 2`,
		`vrgate_tunnel_peer_changes_total{kind="fall-back",tunnel="far",vr="red"} 0`,
		`vrgate_tunnel_peer_changes_total{kind="fall-back",tunnel="hq/1",vr="blue"} 1`,
		`vrgate_tunnel_peer_changes_total{kind="fall-over",tunnel="far",vr="red"} 0`,
		`vrgate_tunnel_peer_changes_total{kind="fall-over",tunnel="hq/1",vr="blue"} 2`,
		`vrgate_tunnel_peer_changes_total{kind="move",tunnel="far",vr="red"} 0`,
		`vrgate_tunnel_peer_changes_total{kind="move",tunnel="hq/1",vr="blue"} 0`,
		`vrgate_tunnel_profile_subscribers{profile="guests",vr="red"} 0`,
		`vrgate_tunnel_profile_subscribers{profile="staff",vr="blue"} 2`,
		`vrgate_tunnel_rekeys_total{phase="1",tunnel="far",vr="red"} 0`,
		`vrgate_tunnel_rekeys_total{phase="1",tunnel="hq/1",vr="blue"} 6`,
		`vrgate_tunnel_rekeys_total{phase="2",tunnel="far",vr="red"} 0`,
		`vrgate_tunnel_rekeys_total{phase="2",tunnel="hq/1",vr="blue"} 5`,
		`vrgate_tunnel_state{state="down",tunnel="far",vr="red"} 1`,
		`vrgate_tunnel_state{state="up",tunnel="hq/1",vr="blue"} 1`,
		`vrgate_tunnel_state_since_seconds{tunnel="hq/1",vr="blue"} 1.7952912e+09`,
		`vrgate_tunnel_up{tunnel="far",vr="red"} 0`,
		`vrgate_tunnel_up{tunnel="hq/1",vr="blue"} 1`,
		`vrgate_tunnel_ups_total{tunnel="far",vr="red"} 0`,
		`vrgate_tunnel_ups_total{tunnel="hq/1",vr="blue"} 3`,
		`vrgate_vr_up{kind="namespace",vr="blue"} 1`,
		`vrgate_vr_up{kind="vrf",vr="red"} 0`,
		`vrgate_xfrm_errors_total{kind="in-no-pols",vr="blue"} 8.589934592e+09`,
		`vrgate_xfrm_errors_total{kind="out-new",vr="red"} 0`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// TestRunEndsWithRunningRequest: a request that hangs does not keep the daemon.
func TestRunEndsWithRunningRequest(t *testing.T) {
	source := &fakeSource{block: make(chan struct{})}
	socket := filepath.Join(t.TempDir(), "s")
	access := Access{Group: -1}
	l, err := access.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- NewServer(source, access, "", zap.NewNop()).Run(ctx, l) }()
	asked := make(chan error)
	go func() {
		_, err := NewClient(socket).VRs(context.Background(), Filter{})
		asked <- err
	}()
	time.Sleep(50 * time.Millisecond)
	begin := time.Now()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if d := time.Since(begin); d > stopTimeout+3*time.Second {
		t.Errorf("Run took %v to end", d)
	}
	if err := <-asked; err == nil {
		t.Error("the request was answered by nobody")
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestListenFails(t *testing.T) {
	l, err := Access{Group: -1}.Listen(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	err = NewServer(&fakeSource{}, Access{Group: -1}, "", zap.NewNop()).Run(t.Context(), l)
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run on a closed listener: %v", err)
	}
}
