package aaa

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/keymat"
)

// TestPrecedence: RADIUS or the local user, then the domain map, then the IP profile, then the
// router (F2, R6). Each row is one source's word against the others'.
func TestPrecedence(t *testing.T) {
	type who struct{ answer, entry, defaults Grants }
	tests := []struct {
		name    string
		who     who
		user    *User // a local user decides in the place of RADIUS
		profile string
		access  Access
		asked   string // router whose AAA is asked; empty: main
		// what comes of it
		terminating, pool string
		gateway           netip.Addr
		refused           Reason
	}{
		{name: "the profile", terminating: "main", pool: "main-pool", gateway: addr("10.0.0.1")},
		{name: "a profile whose gateway the router need not have", profile: "odd", terminating: "main", pool: "big", gateway: addr("10.5.5.5")},
		{name: "but not for those who are moved", profile: "odd", who: who{entry: Grants{Terminating: "side"}}, terminating: "side", pool: "big", gateway: addr("10.1.0.1")},
		{name: "a router without addresses", profile: "odd", access: AccessXAuth, who: who{entry: Grants{Terminating: "bare", Address: addr("10.7.7.7")}}, terminating: "bare", pool: "big", gateway: addr("10.5.5.5"), refused: ReasonNoPool},
		{name: "a router without addresses, fixed address", profile: "odd", access: AccessXAuth, who: who{answer: Grants{Terminating: "bare", Address: addr("10.7.7.7")}}, terminating: "bare", pool: "big", gateway: addr("10.5.5.5")},
		{name: "a profile that moves", profile: "to-side", terminating: "side", pool: "side-pool", gateway: addr("10.1.0.1")},
		{name: "the domain's pool", who: who{entry: Grants{Pool: "big"}}, terminating: "main", pool: "big", gateway: addr("10.0.0.1")},
		{name: "the server's before it", who: who{answer: Grants{Pool: "main-pool"}, entry: Grants{Pool: "big"}}, terminating: "main", pool: "main-pool", gateway: addr("10.0.0.1")},
		{name: "the router's after the profile's", who: who{defaults: Grants{Pool: "big"}}, terminating: "main", pool: "main-pool", gateway: addr("10.0.0.1")},
		{name: "the domain moves", who: who{entry: Grants{Terminating: "side"}}, terminating: "side", pool: "side-pool", gateway: addr("10.1.0.1")},
		{name: "the domain moves and says where", who: who{entry: Grants{Terminating: "side", Pool: "big", Gateway: addr("10.1.0.1")}}, terminating: "side", pool: "big", gateway: addr("10.1.0.1")},
		{name: "the server moves (R6: of the default router)", who: who{answer: Grants{Terminating: "side"}, entry: Grants{Pool: "main-pool"}}, terminating: "side", pool: "side-pool", gateway: addr("10.1.0.1")},
		{name: "a pool of the same name there", who: who{answer: Grants{Terminating: "side"}, entry: Grants{Pool: "big"}}, terminating: "side", pool: "big", gateway: addr("10.1.0.1")},
		{name: "the server moves back", who: who{answer: Grants{Terminating: "main"}, entry: Grants{Terminating: "side", Pool: "side-pool"}}, terminating: "main", pool: "main-pool", gateway: addr("10.0.0.1")},
		{name: "another router's server moves nobody (R6)", asked: "side", who: who{answer: Grants{Terminating: "side"}}, terminating: "main", pool: "main-pool", gateway: addr("10.0.0.1")},
		{name: "but its domain map entry does (R6)", asked: "side", who: who{answer: Grants{Terminating: "main"}, entry: Grants{Terminating: "side"}}, terminating: "side", pool: "side-pool", gateway: addr("10.1.0.1")},
		{name: "a local user moves", user: &User{Terminating: "side"}, terminating: "side", pool: "side-pool", gateway: addr("10.1.0.1")},
		{name: "a local user before the domain", user: &User{Pool: "main-pool"}, who: who{entry: Grants{Pool: "big"}}, terminating: "main", pool: "main-pool", gateway: addr("10.0.0.1")},
		{name: "a local user's address", user: &User{Terminating: "side", Address: addr("10.1.0.7")}, terminating: "side", pool: "main-pool", gateway: addr("10.1.0.1")},
		{name: "no profile", profile: "unknown", terminating: "main", pool: "main-pool", gateway: addr("10.0.0.1")},
		{name: "no such router", who: who{answer: Grants{Terminating: "nowhere"}}, refused: ReasonNoRouter},
		{name: "no such router by the domain", who: who{entry: Grants{Terminating: "nowhere"}}, refused: ReasonNoRouter},
		{name: "no such pool", who: who{answer: Grants{Pool: "nopool"}}, refused: ReasonNoPool},
		{name: "no such pool there", who: who{answer: Grants{Terminating: "side", Pool: "main-pool"}}, refused: ReasonNoPool},
		{name: "no such pool by the domain", who: who{entry: Grants{Pool: "nopool"}}, refused: ReasonNoPool},
		{name: "no such gateway", who: who{answer: Grants{Gateway: addr("10.9.0.1")}}, refused: ReasonNoGateway},
		{name: "no such gateway there", who: who{answer: Grants{Terminating: "side"}, entry: Grants{Terminating: "side", Gateway: addr("10.0.0.1")}}, terminating: "side", pool: "side-pool", gateway: addr("10.1.0.1")},
		{name: "no such gateway by the domain", who: who{entry: Grants{Terminating: "side", Gateway: addr("10.0.0.1")}}, refused: ReasonNoGateway},
		{name: "L2TP cannot leave its namespace", who: who{answer: Grants{Terminating: "far"}}, refused: ReasonNoRouter},
		{name: "XAuth can", access: AccessXAuth, who: who{answer: Grants{Terminating: "far"}}, terminating: "far", pool: "far-pool", gateway: addr("10.2.0.1")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(Decision{Accept: true, Grants: tt.who.answer})
			e := DomainMap{Router: tt.asked, Methods: []MethodName{MethodRADIUS}, Grants: tt.who.entry}
			if tt.user != nil {
				e.Methods = []MethodName{MethodLocal}
				u := *tt.user
				u.Name, u.Password = "jill@abc.com", keymat.Secret("x")
				w.locals["main"] = NewLocal([]User{u})
			}
			w.domain("abc.com", e)
			p := w.policies["main"]
			p.Defaults = tt.who.defaults
			w.policies["main"] = p
			r := pap("jill@abc.com", "x")
			if tt.profile != "" {
				r.IPProfile = tt.profile
			}
			if tt.access != "" {
				r.Access = tt.access
			}
			d := w.decide(r)
			if tt.refused != "" {
				if d.Accept || d.Reason != tt.refused || d.Text == "" || !reflect.DeepEqual(d.Grants, Grants{}) {
					t.Errorf("%+v, want %s", d, tt.refused)
				}
				return
			}
			if !d.Accept || d.Terminating != tt.terminating || d.Pool != tt.pool || d.Gateway != tt.gateway {
				t.Errorf("accepted %v %s %q: router %q, pool %q, gateway %v", d.Accept, d.Reason, d.Text, d.Terminating, d.Pool, d.Gateway)
			}
		})
	}
}

// TestGrantsOr walks the fields of Grants: each is taken from the next source if the first says
// nothing and never if it does, but for those that are for one subscriber only.
func TestGrantsOr(t *testing.T) {
	personal := []string{"Address", "Routes", "IPv6Prefixes", "DelegatedPrefixes", "Class"}
	full := func(n int64) Grants {
		var g Grants
		v := reflect.ValueOf(&g).Elem()
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
		return g
	}
	a, b := full(1), full(2)
	if got := a.or(b); !reflect.DeepEqual(got, a) {
		t.Errorf("%+v or %+v is %+v", a, b, got)
	}
	got := reflect.ValueOf(Grants{}.or(b))
	for i := range got.NumField() {
		name, f := got.Type().Field(i).Name, got.Field(i)
		if mine := slices.Contains(personal, name); mine != f.IsZero() || !mine && !reflect.DeepEqual(f.Interface(), reflect.ValueOf(b).Field(i).Interface()) {
			t.Errorf("%s is %v", name, f)
		}
	}
}

// fill sets everything in v to something that follows from n, 1 or 2.
func fill(t *testing.T, v reflect.Value, n int64) {
	t.Helper()
	if v.Type() == reflect.TypeFor[netip.Addr]() {
		v.Set(reflect.ValueOf(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})))
		return
	}
	if v.Type() == reflect.TypeFor[netip.Prefix]() {
		v.Set(reflect.ValueOf(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 32)))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(strings.Repeat("x", int(n)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(n)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(n))
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0), n)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	default:
		t.Fatalf("cannot fill %v", v.Type())
	}
}

// TestPrecedenceOfTimeouts: R3's overrides, and who must be of the traffic's parts.
func TestPrecedenceOfTimeouts(t *testing.T) {
	w := newWorld(Decision{Accept: true, Grants: Grants{SessionTimeout: 3 * time.Hour, Traffic: Traffic{In: 1e6, InBurst: 9000, OutPolicy: "server"}}})
	w.domain("abc.com", DomainMap{Grants: Grants{SessionTimeout: 2 * time.Hour, IdleTimeout: 20 * time.Minute, Traffic: Traffic{In: 2e6, Out: 3e6, OutBurst: 7, InPolicy: "domain"}}})
	p := w.policies["main"]
	p.Defaults = Grants{SessionTimeout: time.Hour, IdleTimeout: 10 * time.Minute, IdleIngress: true, Interim: 5 * time.Minute, Traffic: Traffic{OutPolicy: "router"}}
	w.policies["main"] = p
	d := w.decide(pap("jill@abc.com", "x"))
	want := Traffic{In: 1e6, InBurst: 9000, Out: 3e6, OutBurst: 7, InPolicy: "domain", OutPolicy: "server"}
	if d.SessionTimeout != 3*time.Hour || d.IdleTimeout != 20*time.Minute || !d.IdleIngress || d.Interim != 5*time.Minute || d.Traffic != want {
		t.Errorf("%+v", d.Grants)
	}
}
