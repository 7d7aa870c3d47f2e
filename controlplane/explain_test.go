package controlplane_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"vrgate/controlplane"
	"vrgate/controlplane/api"
	"vrgate/test/fakekernel"
)

// explaining is redWithAAA with a second way in by L2TP, and tunnel profiles of every kind.
func explaining() map[string]string {
	files := maps.Clone(redWithAAA)
	files["vr/red.yaml"] = strings.NewReplacer(
		"host-profiles: [{remote-host: default}]", "host-profiles: [{remote-host: default, ip-profile: users}, {remote-host: branch, ip-profile: branches}]",
		"  - name: users\n", "  - name: branches\n    unnumbered-address: 10.0.0.2\n  - name: users\n",
		"  tunnel-profiles:\n", `  tunnel-profiles:
    - {name: machines, local-address: 192.0.2.11, keys: [{name: machines, identity: machines, key: a key of its own}], ip-profile: users, extended-authentication: none}
    - {name: partner, local-address: 192.0.2.11, keys: [{name: partner, identity: partner, key: another key of its own}], ip-profile: users, domain-suffix: partner.example}
`,
		"max-subscribers: 20\n", "max-subscribers: 20\n      ip-profile: users\n",
	).Replace(files["vr/red.yaml"])
	files["vr/inner.yaml"] = "namespace: {name: inner}\npools: [{name: p, ranges: [10.3.0.0/24]}]\n"
	return files
}

func text(steps []api.ExplainStep) string {
	var out []string
	for _, s := range steps {
		line := s.Topic + ": " + s.Value
		if s.Reason != "" {
			line += " (" + s.Reason + ")"
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// TestExplain: whole explanations of users who come in the different ways (R1, R2, R5).
func TestExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, explaining()))
		for _, test := range []struct {
			q    api.ExplainRequest
			want string
		}{
			{api.ExplainRequest{User: "ivan@Partner.example", VR: "red", Profile: "anybody/default"}, `
arrives in: red (l2tp/ipsec)
destination profile: anybody/default (IP profile users)
proof: mschapv2
user: "ivan" (of "ivan@Partner.example")
realm:  (no delimiter)
domain: "Partner.example" (delimiter "@")
domain map entry: partner.example (it is the entry of domain "partner.example")
AAA of: red (in which the subscriber arrives)
method 1: radius group staff, servers first (decides unless all are silent; group of the domain map)
name sent: "ivan@Partner.example" (not stripped: the proof covers it, or there is nothing to strip)
accounting group: staff (domain map)
terminating router: red (IP profile)
Virtual-Router of servers: ignored (R6: only servers of the default router may move a user)
pool: main (IP profile)
gateway: 10.0.0.1 (IP profile)
session timeout: 24h0m0s
interim accounting: 10m0s
traffic: in policy slow, out 5000000 bit/s
sessions of the domain: at most 5 (domain map)
sessions of the user: at most 3 (one more ends the oldest)
sessions of the router: at most 2 (now 0, more are refused)`},
			{api.ExplainRequest{User: "frank", VR: "red", Access: "l2tp", Authentication: "pap"}, `
arrives in: red (l2tp)
destination profile:  (there are 2: what follows from them is left open)
proof: pap
user: "frank" (of "frank")
realm:  (no delimiter)
domain:  (no delimiter)
domain map entry: default (the name has no domain, and there is no entry "none")
AAA of: red (in which the subscriber arrives)
method 1: local (decides: "frank" is a local user)
accounting group: staff (domain map)
terminating router: as the IP profile says (neither the user nor the domain map names one)
session timeout: 1h0m0s
idle timeout: 10m0s (traffic from the subscriber only)
interim accounting: 10m0s
traffic: in 1000000 bit/s, out policy slow
sessions of the user: at most 3 (one more ends the oldest)
sessions of the router: at most 2 (now 0, more are refused)`},
			{api.ExplainRequest{User: "ivan", VR: "red", Profile: "partner"}, `
arrives in: red (xauth)
tunnel profile: partner (IP profile users, which makes "ivan@partner.example" of the name)
proof: pap
user: "ivan" (of "ivan@partner.example")
realm:  (no delimiter)
domain: "partner.example" (delimiter "@")
domain map entry: partner.example (it is the entry of domain "partner.example")
AAA of: red (in which the subscriber arrives)
method 1: radius group staff, servers first (decides unless all are silent; group of the domain map)
name sent: "ivan" (domain stripped; it stays where the proof covers it, with EAP and MS-CHAPv2)
accounting group: staff (domain map)
terminating router: red (IP profile)
Virtual-Router of servers: ignored (R6: only servers of the default router may move a user)
pool: main (IP profile)
gateway: 10.0.0.1 (IP profile)
session timeout: 24h0m0s
interim accounting: 10m0s
traffic: in policy slow, out 5000000 bit/s
sessions of the domain: at most 5 (domain map)
sessions of the user: at most 3 (one more ends the oldest)
sessions of the router: at most 2 (now 0, more are refused)`},
			{api.ExplainRequest{User: "host7", VR: "red", Profile: "machines", Access: "xauth"}, `
arrives in: red (xauth)
tunnel profile: machines (IP profile users)
proof: proven
user: "host7" (of "host7")
realm:  (no delimiter)
domain:  (no delimiter)
domain map entry: default (the name has no domain, and there is no entry "none")
AAA of: red (in which the subscriber arrives)
method 1: local (accepts whom phase 1 has proven)
accounting group: staff (domain map)
terminating router: red (IP profile)
pool: main (IP profile)
gateway: 10.0.0.1 (IP profile)
interim accounting: 10m0s
sessions of the user: at most 3 (one more ends the oldest)
sessions of the router: at most 2 (now 0, more are refused)`},
			{api.ExplainRequest{User: "x@former.example", VR: "red", Access: "xauth"}, `
arrives in: red (xauth)
tunnel profile:  (there are 3: what follows from them is left open)
proof: pap
user: "x" (of "x@former.example")
realm:  (no delimiter)
domain: "former.example" (delimiter "@")
domain map entry: former.example (it is the entry of domain "former.example")
refused: aaa-domain-denied (entry "former.example" of the domain map denies user "x@former.example")`},
			{api.ExplainRequest{User: "alice", VR: "blue"}, `
arrives in: blue (l2tp/ipsec)
destination profile: anybody/default (IP profile users)
proof: mschapv2
user: "alice" (of "alice")
realm:  (no delimiter)
domain:  (no delimiter)
domain map entry:  (the name has no domain, and there is neither an entry "none" nor "default")
AAA of: blue (in which the subscriber arrives)
method 1: local (decides: "alice" is a local user)
accounting group:  (virtual router blue)
terminating router: blue (IP profile)
address: 10.0.0.77 (local user)
gateway: 10.0.0.1 (IP profile)`},
			{api.ExplainRequest{User: "alice", VR: "inner"}, `
arrives in: inner (l2tp/ipsec)
destination profile:  (there is none: nobody can come this way)
proof: mschapv2
user: "alice" (of "alice")
realm:  (no delimiter)
domain:  (no delimiter)
domain map entry:  (the name has no domain, and there is neither an entry "none" nor "default")
AAA of: inner (in which the subscriber arrives)
method 1: local (refuses: "alice" is no local user)
accounting group:  (virtual router inner)
terminating router: as the IP profile says (neither the user nor the domain map names one)`},
		} {
			got, err := w.p.Explain(context.Background(), test.q)
			if diff := cmp.Diff(strings.TrimPrefix(test.want, "\n"), text(got)); err != nil || diff != "" {
				t.Errorf("%+v: %v (-want +got):\n%s", test.q, err, diff)
			}
		}
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}

// TestExplainMistakes: a question that names what there is not says so.
func TestExplainMistakes(t *testing.T) {
	p, err := controlplane.New(loadConfig(t, explaining()), fakekernel.New(nil), openStore(t), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		q      api.ExplainRequest
		reason api.Reason
		want   string
	}{
		{api.ExplainRequest{}, api.ReasonBadRequest, "say in which virtual router the user arrives: blue, red"},
		{api.ExplainRequest{VR: "green"}, api.ReasonNotFound, `there is no virtual router "green"`},
		{api.ExplainRequest{VR: "red", Access: "pptp"}, api.ReasonBadRequest, `"pptp" is no way in: l2tp, l2tp/ipsec, xauth or static`},
		{api.ExplainRequest{VR: "red", Profile: "nobody"}, api.ReasonNotFound, `virtual router red has no destination profile "nobody"`},
		{api.ExplainRequest{VR: "red", Profile: "anybody/nobody"}, api.ReasonNotFound, `virtual router red has no destination profile "anybody/nobody"`},
		{api.ExplainRequest{VR: "red", Profile: "nobody", Access: "xauth"}, api.ReasonNotFound, `virtual router red has no tunnel profile "nobody"`},
		{api.ExplainRequest{VR: "red", Profile: "nobody", Access: "static"}, api.ReasonNotFound, `virtual router red has no static tunnel "nobody"`},
		{api.ExplainRequest{VR: "red", Access: "static", Authentication: "chap"}, api.ReasonBadRequest, `static users do not authenticate by "chap"`},
		{api.ExplainRequest{VR: "red", Access: "xauth", Authentication: "eap"}, api.ReasonBadRequest, `xauth users do not authenticate by "eap"`},
		{api.ExplainRequest{VR: "red", Authentication: "kerberos"}, api.ReasonBadRequest, `l2tp/ipsec users do not authenticate by "kerberos"`},
	} {
		test.q.User = "bob"
		_, err := p.Explain(t.Context(), test.q)
		var e *api.Error
		if !errors.As(err, &e) || e.Reason != test.reason || e.Text != test.want {
			t.Errorf("%+v: %v", test.q, err)
		}
	}
}

// TestExplainArrival: without a name it is the default virtual router, or the only one in which
// anybody can arrive.
func TestExplainArrival(t *testing.T) {
	defaults := maps.Clone(explaining())
	defaults["vrgate.yaml"] = "default-router: blue\n"
	only := maps.Clone(explaining())
	delete(only, "vr/blue.yaml")
	for want, files := range map[string]map[string]string{"blue": defaults, "red": only} {
		p, err := controlplane.New(loadConfig(t, files), fakekernel.New(nil), openStore(t), zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Explain(t.Context(), api.ExplainRequest{User: "bob"})
		if err != nil || len(got) == 0 || got[0] != (api.ExplainStep{Topic: "arrives in", Value: want, Reason: "l2tp/ipsec"}) {
			t.Errorf("%+v, %v, want %s", got, err, want)
		}
	}
}
