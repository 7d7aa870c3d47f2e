package aaa

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/keymat"
)

// servers are the groups of one router: each answers as scripted and notes what it was asked.
type servers struct {
	answer func(group string, r Request) Decision
	asked  []asked
}

type asked struct {
	group string
	r     Request
}

func (s *servers) Authenticate(_ context.Context, group string, r Request) Decision {
	s.asked = append(s.asked, asked{group, r})
	return s.answer(group, r)
}

// always answers everything the same.
func always(d Decision) func(string, Request) Decision {
	return func(string, Request) Decision { return d }
}

// world is a service with the routers main (the default router), side and far (another
// namespace). In main and side is local user bob, with password "secret".
type world struct {
	policies map[string]RouterPolicy
	locals   map[string]*Local
	servers  map[string]*servers
}

func newWorld(answer Decision) *world {
	main := RouterPolicy{
		Names: junose, Methods: []MethodName{MethodRADIUS}, Authentication: "main-auth", Accounting: "main-acct",
		Groups:   map[string][]string{"main-auth": {"one", "two"}},
		Profiles: map[string]Place{"ip": {Terminating: "main", Gateway: addr("10.0.0.1"), Pool: "main-pool"}, "to-side": {Terminating: "side", Gateway: addr("10.1.0.1"), Pool: "side-pool"}, "odd": {Terminating: "main", Gateway: addr("10.5.5.5"), Pool: "big"}},
		Pools:    []string{"main-pool", "big"}, Gateways: []netip.Addr{addr("10.0.0.1"), addr("10.0.0.2")},
		Domains: map[string]*DomainMap{},
	}
	side := RouterPolicy{
		Methods: []MethodName{MethodLocal, MethodRADIUS}, Authentication: "side-auth", Accounting: "side-acct",
		Pools: []string{"side-pool", "big"}, Gateways: []netip.Addr{addr("10.1.0.1")},
	}
	far := RouterPolicy{Namespace: "far", Pools: []string{"far-pool"}, Gateways: []netip.Addr{addr("10.2.0.1")}}
	bob := func(where string) *Local {
		return NewLocal([]User{{Name: "bob", Password: keymat.Secret("secret")}, {Name: "fixed-" + where, Password: keymat.Secret("secret"), Address: addr("10.9.9.9")}})
	}
	w := &world{
		policies: map[string]RouterPolicy{"main": main, "side": side, "far": far, "bare": {}},
		locals:   map[string]*Local{"main": bob("main"), "side": bob("side")},
		servers:  map[string]*servers{"main": {answer: always(answer)}, "side": {answer: always(answer)}},
	}
	return w
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func (w *world) domain(key string, e DomainMap) *world {
	p := w.policies["main"]
	e.Name = key
	switch key {
	case "default":
		p.Default = &e
	case "none":
		p.None = &e
	default:
		p.Domains[key] = &e
	}
	w.policies["main"] = p
	return w
}

func (w *world) methods(m ...MethodName) *world {
	p := w.policies["main"]
	p.Methods = m
	w.policies["main"] = p
	return w
}

func (w *world) service() *Service {
	return NewService(w.policies, func(router string) Backend {
		if s := w.servers[router]; s != nil {
			return s
		}
		return nil
	}, w.locals, "main")
}

func (w *world) decide(r Request) Decision {
	return w.service().For("main").Decide(context.Background(), r)
}

func pap(user, password string) Request {
	return Request{User: user, Protocol: PAP, Password: keymat.Secret(password), Access: AccessL2TPIPsec, IPProfile: "ip"}
}

// TestDomainMap is R2: which entry a name takes, whose AAA is asked, which group, about whom.
func TestDomainMap(t *testing.T) {
	abc := DomainMap{Strip: true, Authentication: "abc-auth", Accounting: "abc-acct"}
	side := DomainMap{Router: "side"}
	sideRadius := DomainMap{Router: "side", Methods: []MethodName{MethodRADIUS}, Authentication: "x"}
	tests := []struct {
		name    string
		entries map[string]DomainMap
		user    string
		// entry, router and group that were asked about sent; accounting group.
		entry, router, group, sent, accounting string
	}{
		{"known", map[string]DomainMap{"abc.com": abc, "default": {}}, "jill@ABC.com", "abc.com", "main", "abc-auth", "jill", "abc-acct"},
		{"unknown", map[string]DomainMap{"abc.com": abc, "default": {Authentication: "d"}, "none": {}}, "jill@xyz.com", "default", "main", "d", "jill@xyz.com", "main-acct"},
		{"no domain", map[string]DomainMap{"default": {}, "none": {Authentication: "n"}}, "jill", "none", "main", "n", "jill", "main-acct"},
		{"no domain, no entry none", map[string]DomainMap{"default": {Authentication: "d"}}, "jill", "default", "main", "d", "jill", "main-acct"},
		{"empty domain", map[string]DomainMap{"default": {}, "none": {Authentication: "n", Strip: true}}, "jill@", "none", "main", "n", "jill", "main-acct"},
		{"nothing", map[string]DomainMap{"abc.com": abc}, "jill@xyz.com", "", "main", "main-auth", "jill@xyz.com", "main-acct"},
		{"nothing, no domain", map[string]DomainMap{"abc.com": abc}, "jill", "", "main", "main-auth", "jill", "main-acct"},
		{"a domain called default", map[string]DomainMap{"default": {Authentication: "d"}, "none": {Authentication: "n"}}, "jill@none", "default", "main", "d", "jill@none", "main-acct"},
		{"realm", map[string]DomainMap{"useast": {Strip: true}, "abc.com": abc}, "usEast/jill@abc.com", "useast", "main", "main-auth", "jill@abc.com", "main-acct"},
		{"another router", map[string]DomainMap{"abc.com": side}, "jill@abc.com", "abc.com", "side", "side-auth", "jill@abc.com", "side-acct"},
		{"another router's group", map[string]DomainMap{"abc.com": sideRadius}, "bob@abc.com", "abc.com", "side", "x", "bob@abc.com", "side-acct"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(Decision{Accept: true, By: Authority{Server: "one"}})
			for key, e := range tt.entries {
				w.domain(key, e)
			}
			d := w.decide(pap(tt.user, "x"))
			want := Authority{Router: tt.router, Domain: tt.entry, Method: "radius", Server: "one", Accounting: tt.accounting}
			if !d.Accept || d.By != want || d.User != tt.user {
				t.Errorf("%+v by %+v, want %+v", d, d.By, want)
			}
			s := w.servers[tt.router]
			if len(s.asked) != 1 || s.asked[0].group != tt.group || s.asked[0].r.User != tt.sent || s.asked[0].r.Router != "main" {
				t.Errorf("asked %+v, want group %s about %q", s.asked, tt.group, tt.sent)
			}
		})
	}
}

// TestDenied: an entry that denies, or names a router that there is not, refuses without
// asking anybody, however right the password is.
func TestDenied(t *testing.T) {
	for name, e := range map[string]DomainMap{"deny": {Deny: true, Methods: []MethodName{MethodLocal, MethodRADIUS}}, "no such router": {Router: "nowhere"}} {
		w := newWorld(Decision{Accept: true}).domain("none", e)
		d := w.decide(pap("bob", "secret"))
		if d.Accept || d.Reason != ReasonDomainDenied || d.Text == "" || d.By.Domain != "none" || len(w.servers["main"].asked) > 0 {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestOrder is when the next method is asked, and when not (see Service).
func TestOrder(t *testing.T) {
	accept := Decision{Accept: true}
	refuse := Decision{Reason: ReasonRefused, Text: "server says no"}
	silent := Decision{Reason: ReasonTimeout, Text: "silent"}
	none := Decision{Reason: ReasonNoServer, Text: "no server"}
	bad := Decision{Reason: ReasonBadAnswer}
	busy := Decision{Reason: ReasonOverload}
	local, radius := []MethodName{MethodLocal}, []MethodName{MethodRADIUS}
	localFirst, radiusFirst := []MethodName{MethodLocal, MethodRADIUS}, []MethodName{MethodRADIUS, MethodLocal}
	right, wrong, unknown := pap("bob", "secret"), pap("bob", "guess"), pap("eve", "secret")
	eap := Request{User: "bob", Protocol: EAP, EAP: []byte{2, 1, 0, 5, 1}}
	proven, provenBob := Request{User: "pc", Protocol: Proven}, Request{User: "bob", Protocol: Proven}
	tests := []struct {
		name    string
		methods []MethodName
		answer  Decision
		r       Request
		want    Reason // empty: accepted
		by      MethodName
		asked   int // of servers
	}{
		{"local right", localFirst, refuse, right, "", MethodLocal, 0},
		{"local wrong is final", localFirst, accept, wrong, ReasonWrongPassword, MethodLocal, 0},
		{"local unknown is not", localFirst, accept, unknown, "", MethodRADIUS, 1},
		{"local unknown, then refused", localFirst, refuse, unknown, ReasonRefused, MethodRADIUS, 1},
		{"local unknown, then silence", localFirst, silent, unknown, ReasonTimeout, MethodRADIUS, 1},
		{"refusal is final", radiusFirst, refuse, right, ReasonRefused, MethodRADIUS, 1},
		{"a refusal without reason too", radiusFirst, Decision{}, right, ReasonRefused, MethodRADIUS, 1},
		{"a bad answer is final", radiusFirst, bad, right, ReasonBadAnswer, MethodRADIUS, 1},
		{"overload is final", radiusFirst, busy, right, ReasonOverload, MethodRADIUS, 1},
		{"silence is not", radiusFirst, silent, right, "", MethodLocal, 1},
		{"no server is not", radiusFirst, none, right, "", MethodLocal, 1},
		{"silence, then wrong", radiusFirst, silent, wrong, ReasonWrongPassword, MethodLocal, 1},
		{"silence outweighs the missing user", radiusFirst, silent, unknown, ReasonTimeout, MethodRADIUS, 1},
		{"radius only, silent", radius, silent, right, ReasonTimeout, MethodRADIUS, 1},
		{"local only", local, accept, unknown, ReasonUnknownUser, MethodLocal, 0},
		{"no methods are local ones", nil, accept, right, "", MethodLocal, 0},
		{"a method that there is not", []MethodName{"ldap"}, accept, right, ReasonNoServer, "ldap", 0},
		{"EAP passes local users over", localFirst, accept, eap, "", MethodRADIUS, 1},
		{"EAP after silence", radiusFirst, silent, eap, ReasonTimeout, MethodRADIUS, 1},
		{"EAP and local users only", local, accept, eap, ReasonProtocol, MethodLocal, 0},
		{"proven, no entry, last", local, refuse, proven, "", MethodPhase1, 0},
		{"proven, no entry, not last", localFirst, refuse, proven, ReasonRefused, MethodRADIUS, 1},
		{"proven, no entry, silence fails closed", localFirst, silent, proven, ReasonTimeout, MethodRADIUS, 1},
		{"proven, entry", localFirst, refuse, provenBob, "", MethodLocal, 0},
		{"proven, silence first", radiusFirst, silent, proven, "", MethodPhase1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(tt.answer).methods(tt.methods...)
			s := w.service()
			d := s.For("main").Decide(context.Background(), tt.r)
			if d.Accept != (tt.want == "") || d.Reason != tt.want || d.By.Method != string(tt.by) || len(w.servers["main"].asked) != tt.asked {
				t.Errorf("%+v by %q, %d asked", d, d.By.Method, len(w.servers["main"].asked))
			}
			result := tt.want
			if d.Accept {
				result = Accepted
			}
			if n := s.Outcomes()[Outcome{"main", "", result}]; n != 1 {
				t.Errorf("counted %v", s.Outcomes())
			}
			if n := s.Outcomes()[Outcome{"main", tt.by, result}]; n != 1 && tt.by != MethodPhase1 {
				t.Errorf("counted %v", s.Outcomes())
			}
		})
	}
	t.Run("both sentences are told", func(t *testing.T) {
		d := newWorld(silent).methods(radiusFirst...).decide(unknown)
		if !strings.Contains(d.Text, "silent") || !strings.Contains(d.Text, "eve") {
			t.Errorf("%q", d.Text)
		}
	})
	t.Run("a router without servers or group", func(t *testing.T) {
		w := newWorld(accept).methods(radiusFirst...)
		delete(w.servers, "main")
		if d := w.decide(right); !d.Accept || d.By.Method != "local" {
			t.Errorf("%+v", d)
		}
		w = newWorld(accept).methods(radius...)
		p := w.policies["main"]
		p.Authentication = ""
		w.policies["main"] = p
		if d := w.decide(right); d.Reason != ReasonNoServer || len(w.servers["main"].asked) > 0 {
			t.Errorf("%+v", d)
		}
	})
}

// TestDialogue: rounds go to who has asked for them, with what it had said, whatever the order of
// methods says; and a server that falls silent in between has no stand-in.
func TestDialogue(t *testing.T) {
	w := newWorld(Decision{}).methods(MethodRADIUS, MethodLocal).domain("abc.com", DomainMap{Router: "side", Authentication: "special", Strip: true})
	round := 0
	w.servers["side"].answer = func(group string, r Request) Decision {
		round++
		if round > 1 && (group != "special" || string(r.State) != fmt.Sprint("state ", round-1) || r.User != "bob" || r.Server != fmt.Sprint("server ", round-1)) {
			t.Errorf("round %d: group %s, %q about %q by %q", round, group, r.State, r.User, r.Server)
		}
		switch round {
		case 1, 2:
			return Decision{Prompt: &Prompt{Message: "code?", State: fmt.Appendf(nil, "state %d", round)}, By: Authority{Server: fmt.Sprint("server ", round)}}
		case 3:
			return Decision{Round: &EAPRound{Packet: []byte{1}, State: []byte("state 3")}, By: Authority{Server: "server 3"}}
		}
		return Decision{Reason: ReasonTimeout}
	}
	r := pap("bob@abc.com", "secret")
	for n := 1; n <= 2; n++ {
		d := w.decide(r)
		if d.Accept || d.Reason != "" || d.Prompt == nil || d.Prompt.Message != "code?" || d.By.Router != "side" {
			t.Fatalf("round %d: %+v", n, d)
		}
		r.State = d.Prompt.State
	}
	d := w.decide(r)
	if d.Round == nil || !bytes.Equal(d.Round.Packet, []byte{1}) {
		t.Fatalf("round 3: %+v", d)
	}
	r.State = d.Round.State
	if d := w.decide(r); d.Reason != ReasonTimeout || len(w.servers["main"].asked) > 0 {
		t.Errorf("silence in between: %+v", d)
	}
	asked := len(w.servers["side"].asked)
	for name, bad := range map[string]Request{
		"another user, who may have another entry": {User: "bob", State: r.State, Protocol: PAP, Password: keymat.Secret("secret")},
		"another user of the domain":               {User: "bill@abc.com", State: r.State, Protocol: PAP},
		"a state that is none":                     {User: r.User, State: []byte("junk"), Protocol: PAP},
		"a state that is cut":                      {User: r.User, State: r.State[:len(r.State)-1], Protocol: PAP},
	} {
		if d := w.decide(bad); d.Accept || d.Reason != ReasonRefused && d.Reason != ReasonBadAnswer || d.Text == "" {
			t.Errorf("%s: %+v", name, d)
		}
	}
	for _, changed := range []DomainMap{{}, {Authentication: "special"}, {Router: "side"}, {Router: "side", Authentication: "special", Methods: []MethodName{MethodLocal}}} {
		w.domain("abc.com", changed)
		if d := w.decide(r); d.Reason != ReasonBadAnswer || d.Text == "" {
			t.Errorf("the configuration has changed meanwhile: %+v", d)
		}
	}
	if len(w.servers["side"].asked) != asked || len(w.servers["main"].asked) != 0 {
		t.Error("somebody was asked in vain")
	}
	w = newWorld(Decision{Prompt: &Prompt{State: make([]byte, maxDialogue)}})
	if d := w.decide(pap("bob", "secret")); d.Reason != ReasonBadAnswer || d.Prompt != nil && d.Prompt.State != nil {
		t.Errorf("a state without end: %+v", d)
	}
	w = newWorld(Decision{Accept: true, Reason: ReasonTimeout, Prompt: &Prompt{}, Round: &EAPRound{}})
	if d := w.decide(pap("bob", "secret")); !d.Accept || d.Reason != "" || d.Prompt != nil || d.Round != nil {
		t.Errorf("an accept that asks on: %+v", d)
	}
}

func FuzzDialogue(f *testing.F) {
	f.Add(dialogue{router: "main", step: step{MethodRADIUS, "g"}, user: "bob", server: "one", state: []byte{1, 2}}.append(nil))
	f.Add([]byte{dialogueVersion, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDialogue(b)
		if err != nil {
			if !reflect.DeepEqual(d, dialogue{}) {
				t.Fatalf("%v, but %+v", err, d)
			}
			return
		}
		if again := d.append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

// TestSent: about whom servers are asked, with which proof.
func TestSent(t *testing.T) {
	name := &Override{User: "shop"}
	whole := &Override{User: "shop", Password: keymat.Secret("till")}
	chap := Request{User: "jill@abc.com", Protocol: CHAPMD5, ID: 3, Challenge: []byte("c"), Response: []byte("r")}
	ms := Request{User: "jill@abc.com", Protocol: MSCHAPv2, Challenge: []byte("c"), Response: []byte("r")}
	eap := Request{User: "jill@abc.com", Protocol: EAP, EAP: []byte{2, 0, 0, 5, 1}}
	proven := Request{User: "jill@abc.com", Protocol: Proven}
	windows := ms
	windows.User = `ABC.com\jill`
	slash := ms
	slash.User = "ABC.com/jill"
	tests := []struct {
		name     string
		entry    DomainMap
		r        Request
		user     string // empty: refused with ReasonProtocol
		protocol Protocol
		password string
	}{
		{"PAP", DomainMap{}, pap("jill@abc.com", "pw"), "jill@abc.com", PAP, "pw"},
		{"PAP stripped", DomainMap{Strip: true}, pap("jill@abc.com", "pw"), "jill", PAP, "pw"},
		{"CHAP stripped", DomainMap{Strip: true}, chap, "jill", CHAPMD5, ""},
		{"proven stripped", DomainMap{Strip: true}, proven, "jill", Proven, ""},
		{"MS-CHAPv2 stays whole", DomainMap{Strip: true}, ms, "jill@abc.com", MSCHAPv2, ""},
		{"but for a Windows domain", DomainMap{Strip: true}, windows, "jill", MSCHAPv2, ""},
		{"and no other realm", DomainMap{Strip: true}, slash, "ABC.com/jill", MSCHAPv2, ""},
		{"EAP stays whole", DomainMap{Strip: true}, eap, "jill@abc.com", EAP, ""},
		{"another name", DomainMap{Override: name, Strip: true}, pap("jill@abc.com", "pw"), "shop", PAP, "pw"},
		{"another name, MS-CHAPv2", DomainMap{Override: name}, ms, "shop", MSCHAPv2, ""},
		{"another name, EAP", DomainMap{Override: name}, eap, "", "", ""},
		{"another user", DomainMap{Override: whole}, pap("jill@abc.com", "pw"), "shop", PAP, "till"},
		{"another user, CHAP", DomainMap{Override: whole}, chap, "shop", PAP, "till"},
		{"another user, proven", DomainMap{Override: whole}, proven, "shop", PAP, "till"},
		{"another user, MS-CHAPv2", DomainMap{Override: whole}, ms, "", "", ""},
		{"another user, EAP", DomainMap{Override: whole}, eap, "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(Decision{Accept: true, User: "as the server says"}).domain("abc.com", tt.entry)
			p := w.policies["main"]
			p.Names.Realm = `\/`
			w.policies["main"] = p
			tt.r.IPProfile = "ip"
			d := w.decide(tt.r)
			if tt.user == "" {
				if d.Accept || d.Reason != ReasonProtocol || d.Text == "" || len(w.servers["main"].asked) > 0 {
					t.Errorf("%+v", d)
				}
				return
			}
			got := w.servers["main"].asked[0].r
			if got.User != tt.user || got.Protocol != tt.protocol || string(got.Password) != tt.password || tt.protocol == PAP && (got.Challenge != nil || got.Response != nil) {
				t.Errorf("asked about %q by %q with %q", got.User, got.Protocol, []byte(got.Password))
			}
			want := "as the server says"
			if tt.entry.Override != nil {
				want = tt.r.User
			}
			if d.User != want {
				t.Errorf("the user is %q, want %q", d.User, want)
			}
		})
	}
}

// TestEntryBounds: what an entry says beside grants.
func TestEntryBounds(t *testing.T) {
	for _, e := range []DomainMap{{NoAccounting: true}, {NoAccounting: true, Router: "side", Methods: []MethodName{MethodRADIUS}}} {
		if d := newWorld(Decision{Accept: true}).domain("abc.com", e).decide(pap("jill@abc.com", "x")); !d.Accept || d.By.Accounting != "" {
			t.Errorf("%+v", d.By)
		}
	}
	w := newWorld(Decision{Accept: true}).domain("abc.com", DomainMap{MaxSessions: 7, Grants: Grants{SessionTimeout: time.Hour}})
	if d := w.decide(pap("jill@abc.com", "x")); d.DomainSessions != 7 || d.SessionTimeout != time.Hour {
		t.Errorf("%+v", d)
	}
}

// TestDomainOfName (R1, R5): sessions are counted by the domain of the name that came, whoever it
// then is called, and whether the bound of the entry is one for the domain or for many.
func TestDomainOfName(t *testing.T) {
	for _, tt := range []struct {
		user, domain, entry string
		most                int
		own                 bool
	}{
		{"jill@ABC.com", "abc.com", "abc.com", 7, true},
		{"jill@xyz.com", "xyz.com", "default", 9, false},
		{"jill@default", "default", "default", 9, false},
		{"jill@", "", "none", 2, false},
		{"jill", "", "none", 2, false},
	} {
		w := newWorld(Decision{Accept: true, User: "as@the.server.says"}).domain("abc.com", DomainMap{MaxSessions: 7, Strip: true})
		p := w.policies["main"]
		p.Default, p.None = &DomainMap{Name: "default", MaxSessions: 9}, &DomainMap{Name: "none", MaxSessions: 2}
		w.policies["main"] = p
		if d := w.decide(pap(tt.user, "x")); !d.Accept || d.Domain != tt.domain || d.By.Domain != tt.entry || d.DomainSessions != tt.most || d.OwnEntry != tt.own {
			t.Errorf("%s: domain %q, entry %q, %d, own %v", tt.user, d.Domain, d.By.Domain, d.DomainSessions, d.OwnEntry)
		}
	}
	if d := newWorld(Decision{Accept: true}).decide(pap("jill@xyz.com", "x")); d.Domain != "xyz.com" || d.By.Domain != "" || d.OwnEntry {
		t.Errorf("without a domain map: %+v", d)
	}
}

// TestStatic (Z-8): the peer of a static tunnel gets nothing, whatever is said of it, be it something that no subscriber could
// have, or where none could end; who decides, and who is denied, is as for subscribers.
func TestStatic(t *testing.T) {
	grants := Decision{Accept: true, User: "branch", Grants: Grants{Terminating: "nowhere", Pool: "none", Gateway: addr("10.7.7.7"), Address: addr("10.0.0.9")}, Tunnels: []Tunnel{{Server: addr("192.0.2.9")}}}
	w := newWorld(grants)
	w.domain("denied", DomainMap{Deny: true})
	s := w.service()
	for _, c := range []struct {
		router string
		r      Request
		want   string
	}{
		{"main", Request{User: "branch", Protocol: PAP}, "radius branch"},
		{"side", Request{User: "bob", Protocol: PAP, Password: keymat.Secret("secret")}, "local bob"},
		{"side", Request{User: "bob", Protocol: PAP, Password: keymat.Secret("wrong")}, "local " + string(ReasonWrongPassword)},
		{"main", Request{User: "bob@denied", Protocol: PAP}, " " + string(ReasonDomainDenied)},
		{"bare", Request{User: "bob", Protocol: PAP}, "local " + string(ReasonUnknownUser)}, // that has neither pools nor gateways
	} {
		c.r.Access = AccessStatic
		d := s.For(c.router).Decide(t.Context(), c.r)
		got := d.By.Method + " " + string(d.Reason)
		if d.Accept {
			got = d.By.Method + " " + d.User
		}
		if got != c.want || !reflect.DeepEqual(d.Grants, Grants{}) || len(d.Tunnels) > 0 {
			t.Errorf("%s of %s: %q, want %q; %+v", c.r.User, c.router, got, c.want, d)
		}
	}
	subscriber := s.For("main").Decide(t.Context(), Request{User: "branch", Protocol: PAP, Access: AccessXAuth})
	if subscriber.Accept {
		t.Errorf("a subscriber can have that: %+v", subscriber)
	}
}
