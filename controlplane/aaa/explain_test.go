package aaa

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/keymat"
)

// TestExplain: the path is told as Decide takes it, and nobody is asked.
func TestExplain(t *testing.T) {
	entry := DomainMap{
		Strip: true, Accounting: "abc-acct", MaxSessions: 5, Methods: []MethodName{MethodLocal, MethodRADIUS},
		Grants: Grants{Terminating: "side", Pool: "big", SessionTimeout: time.Hour, IdleTimeout: 10 * time.Minute, Interim: time.Minute, Traffic: Traffic{In: 8000, OutPolicy: "web"}},
	}
	override := DomainMap{Override: &Override{User: "shop", Password: keymat.Secret("hunter2 hunter2")}}
	tests := []struct {
		name  string
		entry DomainMap
		r     Request
		want  string
	}{
		{"the whole path", entry, Request{User: "usEast/jill@abc.com", Access: AccessXAuth, IPProfile: "ip"}, `
arrives in: main (xauth)
user: "jill" (of "usEast/jill@abc.com")
realm: "usEast" (delimiter "/")
domain: "abc.com" (delimiter "@")
domain map entry: none (domain "useast" has no entry, and there is no entry "default")
AAA of: main (in which the subscriber arrives)
method 1: radius group main-auth, servers one, two (decides unless all are silent; group of the virtual router main)
name sent: "usEast/jill@abc.com" (as received)
accounting group: main-acct (virtual router main)
terminating router: main (IP profile)
Virtual-Router of servers: honoured (R6: only servers of the default router may move a user)
pool: main-pool (IP profile)
gateway: 10.0.0.1 (IP profile)`},
		{"an entry", entry, Request{User: "jill@abc.com", Access: AccessL2TP}, `
arrives in: main (l2tp)
user: "jill" (of "jill@abc.com")
realm: none (no delimiter)
domain: "abc.com" (delimiter "@")
domain map entry: abc.com (it is the entry of domain "abc.com")
AAA of: main (in which the subscriber arrives)
method 1: local (lets the next be asked: "jill@abc.com" is no local user)
method 2: radius group main-auth, servers one, two (decides unless all are silent; group of the virtual router main)
name sent: "jill" (domain stripped; it stays where the proof covers it, with EAP and MS-CHAPv2)
accounting group: abc-acct (domain map)
terminating router: side (domain map)
Virtual-Router of servers: honoured (R6: only servers of the default router may move a user)
pool: big (domain map)
gateway: 10.1.0.1 (the first of virtual router side)
session timeout: 1h0m0s
idle timeout: 10m0s (traffic in both directions)
interim accounting: 1m0s
traffic: in 8000 bit/s, out policy web
sessions of the domain: at most 5 (domain map)`},
		{"the peer of a static tunnel", entry, Request{User: "jill@abc.com", Access: AccessStatic}, `
arrives in: main (static)
user: "jill" (of "jill@abc.com")
realm: none (no delimiter)
domain: "abc.com" (delimiter "@")
domain map entry: abc.com (it is the entry of domain "abc.com")
AAA of: main (in which the subscriber arrives)
method 1: local (lets the next be asked: "jill@abc.com" is no local user)
method 2: radius group main-auth, servers one, two (decides unless all are silent; group of the virtual router main)
name sent: "jill" (domain stripped; it stays where the proof covers it, with EAP and MS-CHAPv2)`},
		{"denied", DomainMap{Deny: true}, Request{User: "jill@abc.com", Access: AccessL2TP}, `
arrives in: main (l2tp)
user: "jill" (of "jill@abc.com")
realm: none (no delimiter)
domain: "abc.com" (delimiter "@")
domain map entry: abc.com (it is the entry of domain "abc.com")
refused: aaa-domain-denied (entry "abc.com" of the domain map denies user "jill@abc.com")`},
		{"another user", override, Request{User: "jill@abc.com", Access: AccessL2TP, IPProfile: "ip"}, `
name sent: "shop" (overridden with its password by the domain map; what the peer proves is not looked at)`},
		{"another user, EAP", override, Request{User: "jill@abc.com", Access: AccessL2TP, IPProfile: "ip", Protocol: EAP}, `
refused: aaa-protocol-unusable (the domain map overrides the user, which cannot be done with EAP: the name is part of the proof)`},
		{"a local user", DomainMap{Methods: []MethodName{MethodLocal}}, Request{User: "fixed-main", Access: AccessXAuth, IPProfile: "ip"}, `
method 1: radius group main-auth, servers one, two (decides unless all are silent; group of the virtual router main)`},
		{"no profile", DomainMap{}, Request{User: "jill@abc.com", Access: AccessL2TP}, `
terminating router: as the IP profile says (neither the user nor the domain map names one)`},
		{"a router that there is not", DomainMap{Grants: Grants{Terminating: "nowhere"}}, Request{User: "jill@abc.com", Access: AccessL2TP}, `
refused: terminating-router-unusable (user "jill@abc.com" shall end in virtual router "nowhere" (domain map), which there is not)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(Decision{}).domain("abc.com", tt.entry)
			tt.r.Router = "main"
			steps := w.service().Explain(tt.r)
			var lines []string
			for _, s := range steps {
				lines = append(lines, s.String())
			}
			got, want := strings.Join(lines, "\n"), strings.TrimSpace(tt.want)
			if strings.HasPrefix(want, "arrives") && got != want || !strings.Contains(got+"\n", want+"\n") {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			b, err := json.Marshal(steps)
			if err != nil || strings.Contains(string(b), "hunter2") || strings.Contains(got, "hunter2") {
				t.Errorf("%v: %s", err, b)
			}
			if len(w.servers["main"].asked) > 0 {
				t.Error("a server was asked")
			}
		})
	}
}

// TestExplainLocal: who is a local user is told what its entry says.
func TestExplainLocal(t *testing.T) {
	w := newWorld(Decision{}).methods(MethodLocal, MethodRADIUS)
	for user, want := range map[string]string{
		"fixed-main": "address: 10.9.9.9 (local user)",
		"bob":        `method 1: local (decides: "bob" is a local user)`,
	} {
		var got []string
		for _, s := range w.service().Explain(Request{Router: "main", User: user, Access: AccessXAuth, IPProfile: "ip"}) {
			got = append(got, s.String())
		}
		if text := strings.Join(got, "\n"); !strings.Contains(text+"\n", want+"\n") {
			t.Errorf("%s: got\n%s\nwant %s", user, text, want)
		}
	}
	if got := w.service().Explain(Request{Router: "nowhere", User: "bob"}); len(got) != 1 || got[0].Topic != "refused" {
		t.Errorf("no such router: %v", got)
	}
}

// TestExplainIsWhatDecideDoes: the terminating router, pool and gateway that are explained are
// those that an accepted user gets.
func TestExplainIsWhatDecideDoes(t *testing.T) {
	for _, g := range []Grants{{}, {Pool: "big"}, {Terminating: "side"}, {Terminating: "side", Pool: "big"}, {Gateway: addr("10.0.0.2")}, {Terminating: "nowhere"}, {Pool: "none"}} {
		for _, profile := range []string{"ip", "to-side"} {
			w := newWorld(Decision{Accept: true}).domain("abc.com", DomainMap{Grants: g})
			r := pap("jill@abc.com", "x")
			r.Router, r.IPProfile = "main", profile
			told := map[string]string{}
			for _, s := range w.service().Explain(r) {
				told[s.Topic] = s.Value
			}
			d := w.decide(r)
			if !d.Accept {
				if told["refused"] != string(d.Reason) {
					t.Errorf("%+v: refused with %s, explained %v", g, d.Reason, told)
				}
				continue
			}
			if told["terminating router"] != d.Terminating || told["pool"] != d.Pool || told["gateway"] != d.Gateway.String() {
				t.Errorf("%+v: got %+v, explained %v", g, d.Grants, told)
			}
		}
	}
}
