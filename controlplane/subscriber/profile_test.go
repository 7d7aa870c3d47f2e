package subscriber

import (
	"math/rand/v2"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"vrgate/controlplane/aaa"
	"vrgate/pppd"
)

var profileTraffic = aaa.Traffic{In: 10, InBurst: 11, Out: 20, OutBurst: 21, InPolicy: "p-in", OutPolicy: "p-out"}

// TestProfileFillsGrants: G7: what AAA says overrides the IP profile, each rate with its burst and each policy and timeout on
// its own. Policies do not go along into another virtual router.
func TestProfileFillsGrants(t *testing.T) {
	const profileIdle = 10 * time.Minute
	for _, c := range []struct {
		name    string
		grants  aaa.Grants
		traffic aaa.Traffic
		idle    time.Duration
		ingress bool
	}{
		{"nothing", aaa.Grants{}, profileTraffic, profileIdle, true},
		{"a rate in", aaa.Grants{Traffic: aaa.Traffic{In: 5}}, aaa.Traffic{In: 5, Out: 20, OutBurst: 21, InPolicy: "p-in", OutPolicy: "p-out"}, profileIdle, true},
		{"a rate out with its burst", aaa.Grants{Traffic: aaa.Traffic{Out: 6, OutBurst: 7}}, aaa.Traffic{In: 10, InBurst: 11, Out: 6, OutBurst: 7, InPolicy: "p-in", OutPolicy: "p-out"}, profileIdle, true},
		{"policies", aaa.Grants{Traffic: aaa.Traffic{InPolicy: "a", OutPolicy: "b"}}, aaa.Traffic{In: 10, InBurst: 11, Out: 20, OutBurst: 21, InPolicy: "a", OutPolicy: "b"}, profileIdle, true},
		{"one policy", aaa.Grants{Traffic: aaa.Traffic{OutPolicy: "b"}}, aaa.Traffic{In: 10, InBurst: 11, Out: 20, OutBurst: 21, InPolicy: "p-in", OutPolicy: "b"}, profileIdle, true},
		{"an idle timeout", aaa.Grants{IdleTimeout: time.Hour}, profileTraffic, time.Hour, true},
		{"another router", aaa.Grants{Terminating: "elsewhere", Gateway: testGateway}, aaa.Traffic{In: 10, InBurst: 11, Out: 20, OutBurst: 21}, profileIdle, true},
	} {
		for kind, connect := range timed {
			t.Run(kind+"/"+c.name, func(t *testing.T) {
				b := newBed(t)
				p := b.e.cfg.Profiles["users"]
				p.Traffic, p.IdleTimeout, p.IdleIngress = profileTraffic, profileIdle, true
				b.e.cfg.Profiles["users"] = p
				b.grants, b.profile = c.grants, &c.traffic
				b.timeouts[1] = c.grants.IdleTimeout
				id := connect(b)
				check := func(when string) {
					t.Helper()
					r := b.e.Records()[0]
					if r.ID != id || r.Traffic != c.traffic || r.IdleTimeout != c.idle || r.IdleIngress != c.ingress {
						t.Errorf("%s: traffic %+v, idle %v %t", when, r.Traffic, r.IdleTimeout, r.IdleIngress)
					}
				}
				check("first")
				if kind == "dynamic" {
					b.dynamicUp(someone, "staff")
				} else {
					b.speak(first, testUser)
				}
				b.answerAll()
				check("authenticated again")
			})
		}
	}
}

// TestLinkPolicy: G7: what the IP profile says of the link reaches the kernel with each of its orders.
func TestLinkPolicy(t *testing.T) {
	want := LinkPolicy{MSSClamp: true, MSS: 1200, SourceValidation: true, AccessRoutes: true}
	b := newBed(t)
	p := b.e.cfg.Profiles["users"]
	p.Link = want
	b.e.cfg.Profiles["users"] = p
	b.callUp(first, 0)
	b.speak(first, testUser)
	b.decide("")
	open := b.opens[0].Link
	b.restart()
	b.opened("")
	activate := b.activates[0].Link
	b.dynamicUp(someone, "staff")
	b.answer(testUser, testPassword)
	b.decide("")
	access := b.accesses[0].Link
	for name, got := range map[string]LinkPolicy{"open": open, "activate": activate, "access": access} {
		if d := gocmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// proxied negotiates PPP with a peer as a LAC does, up to its question to AAA, and returns the peer and what the LAC says.
func proxied(t *testing.T, b *bed, auth pppd.AuthProtocol) (*pppd.Link, pppd.Proxy) {
	t.Helper()
	lac := pppd.NewLink(pppd.Config{MRU: 1400, Name: "lac", Auth: []pppd.AuthProtocol{auth}}, rand.NewChaCha8([32]byte{8}))
	peer := pppd.NewLink(pppd.Config{Dialer: &pppd.Dialer{User: testUser, Password: pppd.Secret(testPassword)}}, rand.NewChaCha8([32]byte{9}))
	var wire []func()
	asked := false
	var step func(from, to *pppd.Link, ev pppd.Event)
	step = func(from, to *pppd.Link, ev pppd.Event) {
		for _, f := range from.Step(b.now, ev) {
			switch f := f.(type) {
			case pppd.Send:
				wire = append(wire, func() { step(to, from, pppd.Frame(f)) })
			case pppd.Authenticate:
				asked = true
			}
		}
	}
	step(lac, peer, pppd.Open{})
	step(peer, lac, pppd.Open{})
	for len(wire) > 0 && !asked {
		f := wire[0]
		wire = wire[1:]
		f()
	}
	p, ok := lac.Handover()
	if !asked || !ok {
		t.Fatalf("the LAC and the peer have not got so far: %+v", peer.Info())
	}
	return peer, p
}

// TestProxy: G10: of a LAC's negotiation with the peer that is taken over which the host profile allows; without its LCP
// everything begins anew. Each way the peer comes up.
func TestProxy(t *testing.T) {
	for _, c := range []struct {
		name      string
		lcp, auth bool
		says      bool // the LAC says anything
		asksAnew  bool // the peer is challenged by us
		lcpAnew   bool
	}{
		{"both", true, true, true, false, false},
		{"LCP only", true, false, true, true, false},
		{"authentication only", false, true, true, true, true},
		{"neither", false, false, true, true, true},
		{"the LAC says nothing", true, true, false, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			b.e.cfg.HostProfiles["any/default"] = HostProfile{IPProfile: "users", ProxyLCP: c.lcp, ProxyAuth: c.auth}
			link, said := proxied(t, b, pppd.AuthCHAPMD5)
			id := b.e.nextID
			b.calls[id] = &ledger{call: first}
			b.peers[first] = &peer{call: first, link: link}
			ev := CallUp{Call: first, PeerTunnel: 1, PeerSession: 1, Remote: testRemote, Profile: "any", HostProfile: "default"}
			if c.says {
				ev.Proxy = &said
			}
			b.step(ev)
			if asked := len(b.decides) == 1 && string(b.decides[0].Request.Response) == string(said.Response); asked == c.asksAnew {
				t.Errorf("AAA is asked about what the LAC has said: %t", asked)
			}
			b.pass(5 * time.Second)
			if n := link.Info().Counters.Renegotiations; (n > 0) != c.lcpAnew {
				t.Errorf("LCP was negotiated anew %d times", n)
			}
			b.answerAll()
			b.pass(5 * time.Second)
			b.answerAll()
			if s := b.state(t); s != StateUp || b.peers[first].up.Local != testAddress {
				t.Errorf("state %v, the peer has %+v", s, b.peers[first].up)
			}
		})
	}
}
