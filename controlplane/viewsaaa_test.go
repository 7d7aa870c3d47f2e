package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"vrgate/controlplane"
	"vrgate/controlplane/api"
	"vrgate/test/fakekernel"
)

// redWithAAA has servers, of which none answers, and everything else of AAA.
var redWithAAA = withRed(`
  - name: frank
    password: ` + testPassword + `
    session-timeout: 3600s
    idle-timeout: 600s
    idle-ingress-only: true
    routes: [{network: 172.16.0.0/12, metric: 5}]
    traffic: {rate-in: 1M, policy-out: slow}
radius:
  servers: [{name: first, address: 10.9.0.1, secret: a long secret of these tests}]
  groups: [{name: staff, servers: [first]}]
  dynamic-authorization: {enabled: true}
aaa:
  methods: [local, radius]
  accounting: {interim-interval: 10m}
  terminate-codes: [{reason: admin-reset, code: 4001}]
  domain-maps:
    - domain: partner.example
      methods: [radius]
      strip-domain: true
      max-sessions: 5
      session-timeout: 24h
      traffic: {rate-out: 5M, policy-in: slow}
    - {domain: former.example, deny: true}
    - {domain: default, methods: [local]}
limits: {per-user: 3, per-domain: 4, per-router: 2, when-reached: replace-oldest}
traffic-policies:
  - name: slow
    rate: 2M
    rules: [{action: deny, network: 10.0.0.0/8, protocol: tcp, ports: 25}, {action: permit}]
`)

// TestAAAViews: what show shows of AAA while its servers do not answer.
func TestAAAViews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redWithAAA))
		ctx := context.Background()
		w.connect("red", "frank", "198.51.100.1", nil).assertUp()
		if a, failed := w.connect("red", "gina@partner.example", "198.51.100.2", nil).settle(2 * time.Minute); a.IsValid() || failed == "" {
			t.Errorf("gina has %v, failed %q", a, failed)
		}
		w.connect("red", "bob", "198.51.100.3", byXAuth).assertUp()
		if a, failed := w.connect("red", "carol", "198.51.100.4", nil).settle(2 * time.Minute); a.IsValid() || failed == "" {
			t.Errorf("carol, who is one too many, has %v, failed %q", a, failed)
		}

		time.Sleep(2 * time.Minute) // it takes several records to see that nobody answers
		subs, err := w.p.Subscribers(ctx)
		if err != nil || len(subs) != 2 {
			t.Fatalf("subscribers %+v, %v", subs, err)
		}
		s := subs[0]
		if s.User != "frank" || s.AddressSource != "pool" || s.Pool != "main" || s.Method != "local" || s.AAAVR != "red" || s.Server != "" || s.AccountingGroup != "staff" ||
			!s.Accounted || s.InterimSeconds != 600 || s.SessionTimeoutSeconds != 3600 || s.IdleTimeoutSeconds != 600 || !s.IdleIngress || s.Ifindex == 0 ||
			s.DomainMap != "default" || s.Domain != "" {
			t.Errorf("subscriber %+v", s)
		}
		if s.SessionRemainingSeconds >= 3600 || s.SessionRemainingSeconds < 3000 || s.IdleRemainingSeconds > 600 || s.IdleRemainingSeconds < 300 {
			t.Errorf("%d s of the session timeout and %d s of the idle timeout are left", s.SessionRemainingSeconds, s.IdleRemainingSeconds)
		}
		if got := fmt.Sprint(s.Routes, s.Traffic); got != "[{172.16.0.0/12 5 0}] {1000000 0 0 0  slow}" {
			t.Errorf("routes and traffic %s", got)
		}
		if s := subs[1]; s.User != "bob" || s.Netmask.String() != "255.255.255.255" || s.Ifindex != 0 || s.IdleTimeoutSeconds != 0 || s.IdleRemainingSeconds != 0 {
			t.Errorf("dynamic subscriber %+v", s)
		}

		radius, err := w.p.RADIUS(ctx)
		if err != nil || len(radius) != 1 || radius[0].VR != "red" || len(radius[0].Servers) != 2 || len(radius[0].Requests) != 2 {
			t.Fatalf("radius %+v, %v", radius, err)
		}
		for i, role := range []string{"authentication", "accounting"} {
			if x := radius[0].Servers[i]; x.Name != "first" || x.Role != role || !strings.Contains(x.SocketError, "there is no network") || len(x.Outcomes) < 15 {
				t.Errorf("server %+v", x)
			}
			if x := radius[0].Requests[i]; x.Role != role || x.Limit < 1024 {
				t.Errorf("requests %+v", x)
			}
		}
		if d := radius[0].DynamicAuthorization; !d.Enabled || len(d.Clients) != 1 || d.Clients[0].Address.String() != "10.9.0.1" || len(d.Clients[0].Outcomes) < 10 {
			t.Errorf("dynamic authorization %+v", d)
		}

		accounting, err := w.p.Accounting(ctx)
		if err != nil || accounting.OpenSessions != 2 || accounting.Queued < 3 || accounting.Oldest.IsZero() || accounting.DiskError != "" || accounting.Delivered != 0 {
			t.Errorf("accounting %+v, %v", accounting, err)
		}
		if len(accounting.Queues) != 1 || accounting.Queues[0].VR != "red" || accounting.Queues[0].Group != "staff" || accounting.Queues[0].State != "failing" ||
			accounting.Queues[0].Queued != accounting.Queued || !accounting.Queues[0].NextAttempt.After(time.Now()) {
			t.Errorf("queues %+v", accounting.Queues)
		}

		aaa, err := w.p.AAA(ctx)
		if err != nil || len(aaa.Routers) != 2 {
			t.Fatalf("aaa %+v, %v", aaa, err)
		}
		if a := aaa.Admission; a.Running != 0 || a.Waiting != 0 || a.Concurrent != 256 || a.MaxWaiting != 8192 || a.PerSource != 256 || a.Admitted < 4 || a.Refused != 0 {
			t.Errorf("admission %+v", a)
		}
		want := api.AAARouter{
			VR: "red", Methods: []string{"local", "radius"}, AuthenticationGroup: "staff", AccountingGroup: "staff",
			Results: map[string]uint64{"accepted": 3, "aaa-timeout": 1},
			Answers: []api.AAAAnswers{{Method: "local", Results: map[string]uint64{"accepted": 3}}, {Method: "radius", Results: map[string]uint64{"aaa-timeout": 1}}},
			Limits: api.Limits{
				Sessions: 2, PerRouter: 2, PerUser: 3, PerDomain: 4, WhenReached: "replace-oldest", Replaces: []string{"user"},
				Refused: map[string]uint64{"user-session-limit": 0, "domain-session-limit": 0, "router-session-limit": 1, "source-session-limit": 0},
			},
		}
		if diff := cmp.Diff(want, aaa.Routers[1]); diff != "" {
			t.Errorf("aaa of red (-want +got):\n%s", diff)
		}

		if vrs, err := w.p.VRs(ctx); err != nil || len(vrs) != 2 || len(vrs[1].Pools) != 1 {
			t.Errorf("virtual routers %+v, %v", vrs, err)
		} else if diff := cmp.Diff(api.Pool{
			Name: "main", Size: vrs[1].Pools[0].Size, Used: 2, State: "free", WarnAt: 90, WarnUntil: 80, Ranges: []string{"10.0.0.1-10.0.0.254"},
			Exclude: vrs[1].Pools[0].Exclude,
		}, vrs[1].Pools[0]); diff != "" || !slices.Contains(vrs[1].Pools[0].Exclude, "10.0.0.77") {
			t.Errorf("pool (-want +got):\n%s", diff)
		}
		if err := w.finish(); err != nil {
			t.Error(err)
		}
		if a, err := w.p.Accounting(ctx); err != nil || a.OpenSessions != 0 || a.Queued < 5 {
			t.Errorf("accounting after the end: %+v, %v", a, err)
		}
		if r, err := w.p.RADIUS(ctx); err != nil || len(r) != 1 || len(r[0].Servers) != 0 {
			t.Errorf("radius after the end: %+v, %v", r, err)
		}
	})
}

// TestConfiguredViews: domain maps, traffic policies and terminate codes as they are configured
// (R2, R10).
func TestConfiguredViews(t *testing.T) {
	st := openStore(t)
	p, err := controlplane.New(loadConfig(t, redWithAAA), fakekernel.New(nil), st, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	domains, err := p.DomainMaps(ctx)
	if err != nil || len(domains) != 3 {
		t.Fatalf("domain maps %+v, %v", domains, err)
	}
	if m := domains[2]; m.VR != "red" || m.Domain != "partner.example" || m.Deny || m.AAAVR != "red" || !slices.Equal(m.Methods, []string{"radius"}) || m.AuthenticationGroup != "staff" ||
		m.AccountingGroup != "staff" || !m.StripDomain || m.MaxSessions != 5 || m.Sessions != 0 || m.SessionTimeoutSeconds != 86400 || m.Traffic.OutRate != 5e6 || m.Traffic.InPolicy != "slow" {
		t.Errorf("domain map %+v", m)
	}
	if m := domains[1]; m.Domain != "former.example" || !m.Deny {
		t.Errorf("domain map %+v", m)
	}
	policies, err := p.TrafficPolicies(ctx)
	if got := fmt.Sprint(policies); err != nil || got != "[{red slow 2000000 0 [{deny 10.0.0.0/8 6 25 25} {permit invalid Prefix 0 0 0}]}]" {
		t.Errorf("traffic policies %s, %v", got, err)
	}
	codes, err := p.TerminateCodes(ctx)
	found := map[string]api.TerminateCode{}
	for _, c := range codes {
		if c.Description == "" || c.Application == "" || c.Code == 0 {
			t.Errorf("terminate code %+v", c)
		}
		found[c.VR+" "+c.Reason] = c
	}
	if c := found["red admin-reset"]; err != nil || c.Code != 4001 || !c.Configured || c.Cause != "" {
		t.Errorf("configured terminate code %+v, %v", c, err)
	}
	if c := found["blue admin-reset"]; c.Code != 6 || c.Configured || c.Cause != "Admin Reset" {
		t.Errorf("built-in terminate code %+v", c)
	}
	// Nothing runs, so there is nothing to tell of servers and records.
	radius, err1 := p.RADIUS(ctx)
	accounting, err2 := p.Accounting(ctx)
	aaa, err3 := p.AAA(ctx)
	if err := errors.Join(err1, err2, err3); err != nil || len(radius) != 0 || accounting.Queued != 0 || len(aaa.Routers) != 2 || aaa.Admission.Concurrent != 256 {
		t.Errorf("%+v, %+v, %+v, %v", radius, accounting, aaa, err)
	}
}

// scrape returns all metrics of the process, by a socket as Prometheus does. Simulated time stands still meanwhile.
func (w *world) scrape() string {
	w.t.Helper()
	access := api.Access{Group: -1}
	socket := filepath.Join(w.t.TempDir(), "s")
	l, err := access.Listen(socket)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	served := make(chan error)
	go func() { served <- api.NewServer(w.p, access, "v1", zap.NewNop()).Run(ctx, l) }()
	scraper := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	resp, err := scraper.Get("http://vrgate/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK {
		w.t.Errorf("%s, %v: %s", resp.Status, err, body)
	}
	cancel()
	if err := <-served; err != nil {
		w.t.Error(err)
	}
	return string(body)
}

// TestScrape: a running process has all metrics of AAA, and no two are the same, which would spoil
// the whole scrape.
func TestScrape(t *testing.T) {
	files := maps.Clone(redWithAAA)
	files["vrgate.yaml"] = "shutdown-timeout: 1s\n" // of real time
	w := newWorld(t, loadConfig(t, files))
	w.connect("red", "frank", "198.51.100.1", nil).assertUp()
	body := w.scrape()
	for _, want := range []string{
		`vrgate_radius_requests_total{outcome="no-message-authenticator",role="authentication",server="first",vr="red"} 0`,
		`vrgate_coa_requests_total{client="10.9.0.1",outcome="changed",vr="red"} 0`,
		`vrgate_accounting_open_sessions 1`,
		`vrgate_aaa_results_total{result="accepted",vr="red"} 1`,
		`vrgate_aaa_answers_total{method="local",result="accepted",vr="red"} 1`,
		`vrgate_limit_refusals_total{reason="router-session-limit",vr="red"} 0`,
		`vrgate_admission_admitted_total 1`,
	} {
		if !strings.Contains(body, "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	if err := w.finish(); err != nil {
		t.Error(err)
	}
}
