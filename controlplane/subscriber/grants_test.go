package subscriber

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"vrgate/controlplane/aaa"
	"vrgate/pppd"
)

func addrs(texts ...string) (out [2]netip.Addr) {
	for n, s := range texts {
		if s != "" {
			out[n] = netip.MustParseAddr(s)
		}
	}
	return out
}

// fullGrants name something else than the profiles everywhere.
func fullGrants() aaa.Grants {
	return aaa.Grants{
		Netmask: netip.MustParseAddr("255.255.255.0"), Pool: "gold", Terminating: "tenant", Gateway: netip.MustParseAddr("10.7.0.1"),
		SessionTimeout: 2 * time.Hour, IdleTimeout: 10 * time.Minute, IdleIngress: true, MTU: 1200, Interim: 20 * time.Minute,
		Routes: []aaa.Route{{Prefix: netip.MustParsePrefix("10.9.0.0/16"), Metric: 5, Tag: 6}, {Prefix: netip.MustParsePrefix("10.8.0.0/24")}},
		DNS:    addrs("10.7.0.53", "10.7.0.54"), NBNS: addrs("10.7.0.42"),
		Traffic:  aaa.Traffic{In: 1e6, Out: 2e6, InBurst: 3, OutBurst: 4, InPolicy: "in", OutPolicy: "out"},
		Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Banner: "granted", DefaultDomain: "granted.example", SplitDNS: []string{"granted"},
		Class: [][]byte{[]byte("a"), []byte("b")},
	}
}

// profiledBed has profiles that say something everywhere.
func profiledBed(t *testing.T) *bed {
	b := newBed(t)
	p := b.e.cfg.Profiles["users"]
	p.DNS, p.NBNS, p.MTU = addrs("10.1.0.53", "10.1.0.54"), addrs("10.1.0.42"), 1300
	b.e.cfg.Profiles["users"] = p
	x := b.e.cfg.Tunnels["staff"]
	x.Networks, x.Banner, x.Domain, x.SplitDNS = []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12")}, "profile", "profile.example", []string{"profile"}
	b.e.cfg.Tunnels["staff"] = x
	return b
}

// TestGrantsOfL2TP: what AAA grants comes before the IP profile, and reaches kernel, peer and record.
func TestGrantsOfL2TP(t *testing.T) {
	for _, c := range []struct {
		name               string
		grants             aaa.Grants
		gateway, dns, wins string
		mtu                int
		pool, terminating  string
	}{
		{"nothing", aaa.Grants{}, "10.1.0.1", "10.1.0.53", "10.1.0.42", 1300, "main", "inside"},
		{"everything", fullGrants(), "10.7.0.1", "10.7.0.53", "10.7.0.42", 1200, "gold", "tenant"},
		{"another gateway here", aaa.Grants{Gateway: netip.MustParseAddr("10.7.0.1")}, "10.7.0.1", "10.1.0.53", "10.1.0.42", 1300, "main", "inside"},
		{"its own router", aaa.Grants{Terminating: "inside"}, "10.1.0.1", "10.1.0.53", "10.1.0.42", 1300, "main", "inside"},
		{"a larger MTU", aaa.Grants{MTU: 9000}, "10.1.0.1", "10.1.0.53", "10.1.0.42", 1300, "main", "inside"},
		{"secondary DNS only", aaa.Grants{DNS: addrs("", "10.7.0.54")}, "10.1.0.1", "", "10.1.0.42", 1300, "main", "inside"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := profiledBed(t)
			b.grants = c.grants
			b.timeouts = [2]time.Duration{c.grants.SessionTimeout, c.grants.IdleTimeout}
			id := b.callUp(first, 0)
			p := b.speak(first, testUser)
			b.decide("")
			if f := b.opens[0]; f.MTU != c.mtu || f.Traffic != c.grants.Traffic || f.Terminating != c.terminating {
				t.Errorf("opened %+v", f)
			}
			b.restart()
			b.opened("")
			f := b.activates[0]
			if f.MTU != c.mtu || f.Gateway.String() != c.gateway || f.Terminating != c.terminating {
				t.Errorf("activated %+v", f)
			}
			if d := gocmp.Diff(c.grants.Routes, f.Routes, plain); d != "" {
				t.Errorf("routes: %s", d)
			}
			b.activated("")
			info := b.e.byID[id].link.Info()
			if p.up.Peer.String() != c.gateway || c.dns != "" && info.DNS[0].String() != c.dns || c.dns == "" && info.DNS[0].IsValid() {
				t.Errorf("the peer got %+v, name servers %v", p.up, info.DNS)
			}
			b.restart()
			r := b.e.Records()[0]
			want := Record{
				Gateway: netip.MustParseAddr(c.gateway), Pool: c.pool, Terminating: c.terminating, MTU: c.mtu, Traffic: c.grants.Traffic, Routes: c.grants.Routes,
				Class: c.grants.Class, Netmask: hostMask, Interim: c.grants.Interim, SessionTimeout: longestPPP, IdleTimeout: c.grants.IdleTimeout, IdleIngress: c.grants.IdleIngress,
			}
			if c.grants.Netmask.IsValid() {
				want.Netmask, want.SessionTimeout = c.grants.Netmask, c.grants.SessionTimeout
			}
			got := Record{
				Gateway: r.Gateway, Pool: r.Pool, Terminating: r.Terminating, MTU: r.MTU, Traffic: r.Traffic, Routes: r.Routes,
				Class: r.Class, Netmask: r.Netmask, Interim: r.Interim, SessionTimeout: r.SessionTimeout, IdleTimeout: r.IdleTimeout, IdleIngress: r.IdleIngress,
			}
			if d := gocmp.Diff(want, got, plain); d != "" {
				t.Errorf("record: %s", d)
			}
			b.callDown(first, "over")
			b.answerAll() // and the bed knows which pool
			b.assertEmpty()
		})
	}
}

// TestGrantsOfDynamic: the same for mode config, with the tunnel profile.
func TestGrantsOfDynamic(t *testing.T) {
	full := fullGrants()
	profile := []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12")}
	for _, c := range []struct {
		name   string
		grants aaa.Grants
		mtu    int
		want   Admit
	}{
		{"nothing", aaa.Grants{}, 1300, Admit{
			Netmask: hostMask, DNS: valid(addrs("10.1.0.53", "10.1.0.54")), NBNS: valid(addrs("10.1.0.42")),
			Networks: profile, Banner: "profile", Domain: "profile.example", SplitDNS: []string{"profile"},
		}},
		{"everything", full, 1200, Admit{
			Netmask: full.Netmask, DNS: full.DNS[:], NBNS: full.NBNS[:1], Networks: full.Networks, Banner: "granted", Domain: "granted.example", SplitDNS: full.SplitDNS,
			Behind: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("10.8.0.0/24")},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := profiledBed(t)
			b.grants = c.grants
			b.dynamicUp(someone, "staff")
			b.answer(testUser, testPassword)
			b.decide("")
			f := b.accesses[0]
			if d := gocmp.Diff(c.grants.Routes, f.Routes, plain); d != "" || f.MTU != c.mtu || f.Traffic != c.grants.Traffic {
				t.Errorf("opened %+v; %s", f, d)
			}
			b.restart()
			b.accessOpened("")
			c.want.Conn, c.want.Address = someone, f.Address
			if d := gocmp.Diff(c.want, b.admits[0], plain); d != "" {
				t.Errorf("admitted: %s", d)
			}
			b.dynamicConnUp(someone)
			if r := b.e.Records()[0]; r.MTU != c.mtu || len(r.Routes) != len(c.grants.Routes) || r.Netmask != c.want.Netmask || r.SessionTimeout != 0 {
				t.Errorf("record %+v", r)
			}
			// What it was granted at first stays, whatever AAA says at a rekey.
			b.grants = aaa.Grants{Banner: "another", Pool: "another", Routes: []aaa.Route{{Prefix: profile[0]}}}
			b.dynamicUp(someone, "staff")
			b.answerAll()
			if d := gocmp.Diff(c.want, b.admits[1], plain); d != "" {
				t.Errorf("admitted again: %s", d)
			}
			b.dynamicDown(someone, "over")
			b.answerAll()
			b.assertEmpty()
		})
	}
}

// TestMovedWithoutGateway: who is to end in a virtual router in which nothing says what our address
// is, is refused with a typed reason, and its address goes back where it is from.
func TestMovedWithoutGateway(t *testing.T) {
	for name, connect := range timed {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.grants = aaa.Grants{Terminating: "tenant", Pool: "gold"}
			id := connect(b)
			b.pass(time.Minute)
			b.answerAll()
			if r := b.calls[id].ended; r == nil || r.Reason != ReasonNoGateway || r.Accounted || !r.Up.IsZero() {
				t.Errorf("ended %+v", r)
			}
			b.dynamicDown(someone, "over")
			b.assertEmpty()
		})
	}
}

// TestL2TPWithoutAddress: an accept that brings no address lets nobody in.
func TestL2TPWithoutAddress(t *testing.T) {
	b := newBed(t)
	id := b.callUp(first, 0)
	b.speak(first, testUser)
	b.decides, b.calls[id].asked = nil, false
	b.step(Decided{ID: id, Decision: aaa.Decision{Accept: true, User: testUser}})
	b.pass(time.Minute)
	if r := b.calls[id].ended; r == nil || r.Reason != Reason(aaa.ReasonNoPool) {
		t.Errorf("ended %+v", r)
	}
	b.assertEmpty()
}

// TestFixedAddress: an address of the user's own is of no pool.
func TestFixedAddress(t *testing.T) {
	b := newBed(t)
	b.grants = aaa.Grants{Address: testAddress, Pool: "gold"}
	b.callUp(first, 0)
	b.speak(first, testUser)
	b.answerAll()
	if r := b.e.Records()[0]; r.Pool != "" || r.Address != testAddress {
		t.Errorf("record %+v", r)
	}
	b.callDown(first, "over")
	b.answerAll()
	b.assertEmpty()
}

// TestClassOfReauthentication: the class of the last accept goes into accounting; one without class
// changes nothing. Who decided, and so where accounting goes, stays.
func TestClassOfReauthentication(t *testing.T) {
	for name, connect := range timed {
		b := newBed(t)
		b.grants.Class, b.by = [][]byte{[]byte("1")}, aaa.Authority{Accounting: "one"}
		connect(b)
		for _, class := range []string{"2", ""} {
			b.grants.Class, b.by = nil, aaa.Authority{Accounting: "two"}
			if class != "" {
				b.grants.Class = [][]byte{[]byte(class)}
			}
			if name == "dynamic" {
				b.dynamicUp(someone, "staff")
			} else {
				b.speak(first, testUser)
			}
			b.answerAll()
			if r := b.e.Records()[0]; len(r.Class) != 1 || string(r.Class[0]) != "2" || r.By.Accounting != "one" || r.State != StateUp {
				t.Errorf("%s: record %+v", name, r)
			}
		}
	}
}

// TestRequestIsComplete: AAA is told all that is known of the caller.
func TestRequestIsComplete(t *testing.T) {
	b := newBed(t)
	b.connUp(1)
	b.step(TunnelUp{Tunnel: 1, Conn: 1})
	id := b.e.nextID
	b.calls[id] = &ledger{call: first}
	b.step(CallUp{
		Call: first, Conn: 1, Local: testLocal, Remote: netip.MustParseAddrPort("198.51.100.7:1701"), Profile: "any", HostProfile: "default",
		PeerHost: "PC", CallingNumber: "4711", CalledNumber: "0800", SubAddress: "slot 3", TxSpeed: 16_000_000, RxSpeed: 1_000_000, SingleShot: true,
	})
	if r := b.e.Records()[0]; r.CalledNumber != "0800" || r.TxSpeed != 16_000_000 || r.RxSpeed != 1_000_000 || !r.SingleShot {
		t.Errorf("record %+v", r)
	}
	b.restart()
	b.speak(first, testUser)
	check := func(got, want aaa.Request) {
		t.Helper()
		got.Challenge, got.Response, got.ID, got.Password = nil, nil, 0, nil
		if d := gocmp.Diff(want, got, plain); d != "" {
			t.Errorf("AAA is asked: %s", d)
		}
	}
	want := aaa.Request{
		Router: "outside", Access: aaa.AccessL2TPIPsec, User: testUser, Protocol: aaa.MSCHAPv2, Remote: testRemote, Local: testLocal, CallingNumber: "4711",
		IPProfile: "users", Session: id.String(), MRU: 1400, Conn: 1, Call: [2]uint16{1, 1}, PeerHost: "PC", Peer: "Windows 11",
		CalledNumber: "0800", SubAddress: "slot 3", TxSpeed: 16_000_000, RxSpeed: 1_000_000,
	}
	check(b.decides[0].Request, want)
	b.answerAll()
	b.speak(first, testUser)
	want.Again = true
	check(b.decides[0].Request, want)

	b = newBed(t)
	id = b.dynamicUp(someone, "staff")
	b.answer(testUser, testPassword)
	check(b.decides[0].Request, aaa.Request{
		Router: "outside", Access: aaa.AccessXAuth, User: testUser, Protocol: aaa.PAP, Remote: testRemote, Local: testLocal,
		IPProfile: "users", Session: id.String(), Conn: someone, Peer: "iOS", PeerID: "@pc.example.net", Profile: "staff",
	})
}

// TestMessages: the server's words reach the user (R7), of either kind.
func TestMessages(t *testing.T) {
	b := newBed(t)
	b.callUp(first, 0)
	p := b.speak(first, testUser)
	b.decides, b.calls[1].asked = nil, false
	b.step(Decided{ID: 1, Decision: aaa.Decision{Reason: aaa.ReasonRefused, Text: "no", Message: "your account has expired"}})
	if p.down == nil || p.down.Reason != pppd.ReasonAuthFailed || !strings.Contains(p.down.Text, "your account has expired") {
		t.Errorf("PPP: the peer was told %+v", p.down)
	}
	b = newBed(t)
	id := b.dynamicUp(someone, "staff")
	b.answer(testUser, "wrong")
	b.decides, b.calls[id].asked = nil, false
	b.step(Decided{ID: id, Decision: aaa.Decision{Reason: aaa.ReasonRefused, Text: "no", Message: "your password has expired"}})
	b.assertLog(`
		ask ""
		decide alice pap
		ask "your password has expired"`)
}
