package aaa

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/keymat"
)

func lns(server string, preference uint32) Tunnel {
	return Tunnel{Server: addr(server), Preference: preference, Secret: keymat.Secret("shared-words")}
}

// TestTunnels: whose LNSs hold, in which order they are tried, and that nothing else is granted (tunnel switching).
func TestTunnels(t *testing.T) {
	a, b, c := lns("192.0.2.1", 0), lns("192.0.2.2", 5), lns("192.0.2.3", 5)
	var many []Tunnel
	for i := range MaxTunnels + 3 {
		many = append(many, lns("192.0.2.9", uint32(i)))
	}
	everything := Grants{
		Address: addr("10.9.9.9"), Netmask: addr("255.255.255.0"), Pool: "nopool", Terminating: "nowhere", Gateway: addr("10.8.8.8"), SessionTimeout: time.Hour,
		IdleTimeout: 10 * time.Minute, IdleIngress: true, MTU: 1400, Interim: time.Minute, Routes: []Route{{Prefix: netip.MustParsePrefix("10.7.0.0/16")}},
		DNS: [2]netip.Addr{addr("10.0.0.53")}, Traffic: Traffic{In: 8000, InPolicy: "none"}, Class: [][]byte{{1}},
	}
	kept := Grants{SessionTimeout: time.Hour, IdleTimeout: 10 * time.Minute, IdleIngress: true, Interim: time.Minute, Class: [][]byte{{1}}}
	tests := []struct {
		name          string
		answer, entry []Tunnel
		access        Access
		want          []Tunnel
		refused       Reason
	}{
		{name: "nobody"},
		{name: "the server", answer: []Tunnel{a}, want: []Tunnel{a}},
		{name: "the domain map", entry: []Tunnel{b}, want: []Tunnel{b}},
		{name: "the server before the domain map", answer: []Tunnel{b}, entry: []Tunnel{a}, want: []Tunnel{b}},
		{name: "preference, and the order given among equals", answer: []Tunnel{c, b, a}, want: []Tunnel{a, c, b}},
		{name: "plain L2TP", access: AccessL2TP, answer: []Tunnel{a}, want: []Tunnel{a}},
		{name: "too many", answer: many, want: many[:MaxTunnels]},
		{name: "no PPP, by the server", access: AccessXAuth, answer: []Tunnel{a}, refused: ReasonBadAnswer},
		{name: "no PPP, by the domain map", access: AccessXAuth, entry: []Tunnel{a}},
	}
	for _, tt := range tests {
		answer := Decision{Accept: true, Tunnels: tt.answer, By: Authority{Server: "one"}}
		if len(tt.want) > 0 {
			answer.Grants = everything // none of which this router has
		}
		w := newWorld(answer).domain("abc.com", DomainMap{Tunnels: tt.entry})
		r := pap("jill@abc.com", "x")
		if tt.access != "" {
			r.Access = tt.access
		}
		d := w.decide(r)
		if d.Accept != (tt.refused == "") || d.Reason != tt.refused || !reflect.DeepEqual(d.Tunnels, tt.want) {
			t.Errorf("%s: %+v", tt.name, d)
			continue
		}
		if len(tt.want) > 0 && !reflect.DeepEqual(d.Grants, kept) {
			t.Errorf("%s: granted %+v", tt.name, d.Grants)
		}
		if len(tt.want) == 0 && tt.refused == "" && d.Pool != "main-pool" {
			t.Errorf("%s: ends here without an address: %+v", tt.name, d)
		}
		if s := fmt.Sprintf("%+v %v", d, d); strings.Contains(s, "shared-words") {
			t.Errorf("%s: %s", tt.name, s)
		}
	}
}

// The configuration's list stays in its order: decisions share it.
func TestTunnelsAreNotReordered(t *testing.T) {
	list := []Tunnel{lns("192.0.2.2", 5), lns("192.0.2.1", 0)}
	w := newWorld(Decision{Accept: true}).domain("abc.com", DomainMap{Tunnels: list})
	if d := w.decide(pap("jill@abc.com", "x")); d.Tunnels[0].Preference != 0 || list[0].Preference != 5 {
		t.Errorf("%v, %v", d.Tunnels, list)
	}
}

// TestProfileComesBeforeTheRouter: G7, what an IP profile says holds where neither the user nor the domain map says anything,
// and before what the router says for all, each thing on its own.
func TestProfileComesBeforeTheRouter(t *testing.T) {
	profile := Place{Terminating: "main", Gateway: addr("10.0.0.1"), Pool: "main-pool", IdleTimeout: 30 * time.Minute, Traffic: Traffic{In: 1000, Out: 2000, OutPolicy: "p"}}
	defaults := Grants{IdleTimeout: time.Hour, SessionTimeout: 8 * time.Hour, Traffic: Traffic{In: 1, Out: 2, InPolicy: "d", OutPolicy: "d"}}
	tests := []struct {
		name          string
		answer, entry Grants
		ingress       bool
		want          Grants
	}{
		{"the profile", Grants{}, Grants{}, false, Grants{IdleTimeout: 30 * time.Minute, Traffic: Traffic{In: 1000, Out: 2000, InPolicy: "d", OutPolicy: "p"}}},
		{"one way only", Grants{}, Grants{}, true, Grants{IdleTimeout: 30 * time.Minute, IdleIngress: true, Traffic: Traffic{In: 1000, Out: 2000, InPolicy: "d", OutPolicy: "p"}}},
		{"the domain map", Grants{}, Grants{IdleTimeout: 10 * time.Minute, Traffic: Traffic{Out: 7}}, false,
			Grants{IdleTimeout: 10 * time.Minute, Traffic: Traffic{In: 1000, Out: 7, InPolicy: "d", OutPolicy: "p"}}},
		{"the server", Grants{IdleTimeout: 5 * time.Minute, Traffic: Traffic{In: 5, InPolicy: "s"}}, Grants{IdleTimeout: 10 * time.Minute, Traffic: Traffic{OutPolicy: "m"}}, false,
			Grants{IdleTimeout: 5 * time.Minute, Traffic: Traffic{In: 5, Out: 2000, InPolicy: "s", OutPolicy: "m"}}},
	}
	for _, tt := range tests {
		w := newWorld(Decision{Accept: true, Grants: tt.answer}).domain("abc.com", DomainMap{Grants: tt.entry})
		p := w.policies["main"]
		profile.IdleIngress = tt.ingress
		p.Profiles["ip"], p.Defaults = profile, defaults
		w.policies["main"] = p
		d := w.decide(pap("jill@abc.com", "x"))
		if !d.Accept || d.IdleTimeout != tt.want.IdleTimeout || d.IdleIngress != tt.want.IdleIngress || d.Traffic != tt.want.Traffic || d.SessionTimeout != 8*time.Hour {
			t.Errorf("%s: %+v, want %+v", tt.name, d.Grants, tt.want)
		}
	}
}

// TestExplainTunnels: the LNSs are told in the order in which they are tried, and no secret.
func TestExplainTunnels(t *testing.T) {
	named := Tunnel{
		Server: addr("192.0.2.1"), Client: addr("192.0.2.100"), Preference: 1, ClientName: "here", ServerName: "there", MaxSessions: 100, Secret: keymat.Secret("shared-words"),
	}
	open := Tunnel{Server: addr("2001:db8::1")}
	w := newWorld(Decision{}).domain("abc.com", DomainMap{Tunnels: []Tunnel{named, open}, Grants: Grants{SessionTimeout: time.Hour}})
	lines := func(access Access) string {
		var out []string
		for _, s := range w.service().Explain(Request{Router: "main", User: "jill@abc.com", Access: access, IPProfile: "ip"}) {
			out = append(out, s.String())
		}
		return strings.Join(out, "\n")
	}
	got := lines(AccessL2TP)
	want := `accounting group: main-acct (virtual router main)
handed on to: 2001:db8::1, preference 0, without tunnel authentication (domain map)
handed on to: 192.0.2.1 from 192.0.2.100, preference 1, as "here", which must be "there", at most 100 sessions in a tunnel (domain map)
session timeout: 1h0m0s`
	if !strings.HasSuffix(got, want) {
		t.Error(got)
	}
	if strings.Contains(got, "shared-words") {
		t.Error("tells a secret")
	}
	if got := lines(AccessXAuth); strings.Contains(got, "handed on") || !strings.Contains(got, "pool: main-pool") {
		t.Error(got)
	}
}
