package controlplane

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
	"vrgate/pppd"
)

const (
	second      = time.Second
	millisecond = time.Millisecond
)

func sortedCalls[T any](m map[subscriber.CallKey]T) []subscriber.CallKey {
	return slices.SortedFunc(maps.Keys(m), func(a, b subscriber.CallKey) int {
		return cmp.Or(cmp.Compare(a.Tunnel, b.Tunnel), cmp.Compare(a.Session, b.Session))
	})
}

// TestSwitched: clients of L2TP/IPsec are handed on to another LNS, which gives them their addresses, whether it takes what
// we say about LCP and authentication or begins anew, and whatever the network loses. Whoever ends a session, nothing is
// left of it on either side.
func TestSwitched(t *testing.T) {
	const n = 12
	for _, believes := range []bool{true, false} {
		for _, auth := range []pppd.AuthProtocol{pppd.AuthCHAPMD5, pppd.AuthMSCHAPv2, pppd.AuthPAP} {
			for _, loss := range []float64{0, 0.05} {
				t.Run(fmt.Sprintf("believes %t/%v/loss %v", believes, auth, loss), func(t *testing.T) {
					w := newSimWorld(t, 4, simNetwork{Delay: 10 * millisecond, Loss: loss}, func(c *machineConfig) {
						c.subs.Switching, c.subs.Link.Auth = true, []pppd.AuthProtocol{auth}
					})
					lns := w.newLNS(1, believes)
					w.server.users = handingOn{w.server.users, []aaa.Tunnel{lns.tunnel(0)}}
					for i := range n {
						w.after(time.Duration(i)*100*millisecond, w.newClient(i).connect)
					}
					w.run(2*time.Minute, func() bool { return w.settled() == n })
					up := 0
					for _, c := range w.clients {
						if c.Address.IsValid() && c.Address.As4()[1] == 200 {
							up++
						} else if loss == 0 {
							t.Errorf("%s has %v: %s", c.User, c.Address, c.Failed)
						}
					}
					w.pass(time.Minute)
					if up < n*3/4 || len(w.server.bridges) < up || lns.e.Live() != 1 {
						t.Fatalf("%d are up, %d bridges, %d tunnels to the LNS; ended %v", up, len(w.server.bridges), lns.e.Live(), w.server.reasons())
					}
					ends := []func(*simClient){
						func(c *simClient) { c.disconnect() },
						func(c *simClient) { c.gone = true }, // the LNS's echo requests find out
						func(c *simClient) {
							for _, r := range w.server.m.subs.Records() {
								if r.User == c.User {
									w.server.step(subscriber.Disconnect{IDs: []subscriber.ID{r.ID}, Reason: subscriber.ReasonAdmin})
								}
							}
							c.gone = true
						},
					}
					for i, c := range w.clients {
						ends[i%len(ends)](c)
					}
					w.assertNothingLeft(time.Hour)
					if len(lns.links) > 0 || lns.e.Live() > 0 {
						t.Errorf("the LNS still has %d sessions and %d tunnels", len(lns.links), lns.e.Live())
					}
					if got := w.server.reasons(); got["admin-reset"] == 0 {
						t.Errorf("ended %v", got)
					}
				})
			}
		}
	}
}

// TestSwitchedFallback: an LNS that does not answer costs the first clients a while and the others, as long as it is locked out,
// nothing; where no LNS is left the session has its own reason and the client goes.
func TestSwitchedFallback(t *testing.T) {
	w := newSimWorld(t, 4, simNetwork{Delay: 10 * millisecond}, func(c *machineConfig) { c.subs.Switching = true })
	silent, good := w.newLNS(1, true), w.newLNS(2, true)
	delete(w.lns, silent.addr)
	w.server.users = handingOn{w.server.users, []aaa.Tunnel{silent.tunnel(0), good.tunnel(1)}}
	took := func(i int) time.Duration {
		t.Helper()
		c, began := w.newClient(i), w.now
		c.connect()
		w.run(time.Minute, c.Settled)
		if !c.Address.IsValid() {
			t.Fatalf("%s failed: %s", c.User, c.Failed)
		}
		return w.now.Sub(began)
	}
	if d := took(0); d < 10*time.Second || d > 20*time.Second {
		t.Errorf("the first is up after %v", d)
	}
	if d := took(1); d > 5*time.Second {
		t.Errorf("the second is up after %v", d)
	}
	w.lns[silent.addr] = silent
	w.pass(301 * time.Second)
	if took(2); silent.calls != 1 {
		t.Errorf("after the lockout the first LNS has %d calls", silent.calls)
	}
	for _, c := range w.clients {
		c.disconnect()
	}
	w.pass(time.Minute)
	ended := len(w.server.ended)
	delete(w.lns, silent.addr)
	delete(w.lns, good.addr)
	c := w.newClient(9)
	c.connect()
	w.run(2*time.Minute, func() bool { return len(w.server.ended) > ended })
	if r := w.server.ended[len(w.server.ended)-1]; r.Reason != subscriber.ReasonUnreachable || c.Address.IsValid() {
		t.Errorf("ended %s, the client has %v", r.Reason, c.Address)
	}
	c.disconnect()
	w.assertNothingLeft(time.Hour)
}

// TestSwitchedCause: why PPP has ended at the LNS (RFC 3145) is known where the session arrived, and the client's tunnel, which
// is single-shot, and its IPsec connection go with it.
func TestSwitchedCause(t *testing.T) {
	w := newSimWorld(t, 4, simNetwork{Delay: 10 * millisecond}, func(c *machineConfig) {
		c.subs.Switching, c.l2tp.Profiles[0].Hosts[0].SingleShot = true, true
	})
	lns := w.newLNS(1, true)
	w.server.users = handingOn{w.server.users, []aaa.Tunnel{lns.tunnel(0)}}
	c := w.newClient(0)
	c.connect()
	if w.run(time.Minute, c.Settled); !c.Address.IsValid() {
		t.Fatalf("the client failed: %s", c.Failed)
	}
	w.pass(time.Second)
	for call := range lns.links {
		lns.step(l2tp.CloseSession{
			Tunnel: l2tp.TunnelID(call.Tunnel), Session: l2tp.SessionID(call.Session), Cause: &l2tp.DisconnectCause{Code: 3, Direction: 2}, Message: "session timeout",
		})
	}
	w.pass(5 * time.Second)
	want := pppd.DisconnectCause{Code: 3, Direction: 2}
	if len(w.server.ended) != 1 || w.server.ended[0].Cause != want || w.server.ended[0].Reason != "peer-closed-session" || !w.server.ended[0].SingleShot {
		t.Errorf("ended %+v, want cause %+v", w.server.ended, want)
	}
	if n := len(w.server.m.ike.Conns()); n != 0 {
		t.Errorf("%d IPsec connections are left", n)
	}
	c.disconnect()
	w.assertNothingLeft(time.Hour)
}

// TestSingleShotIPsec: H4, H5: with a single-shot tunnel a wrong password, a refusal by the kernel or the end of the session costs
// the IPsec connection at once, so that the next guess needs all of IKE again; with a standard one it stays for the destruct
// period.
func TestSingleShotIPsec(t *testing.T) {
	for name, spoil := range map[string]func(w *simWorld, c *simClient){
		"wrong password": func(_ *simWorld, c *simClient) { c.Password = []byte("guess") },
		"kernel":         func(w *simWorld, _ *simClient) { w.server.failing["open session"] = 1 },
		"disconnected": func(w *simWorld, _ *simClient) {
			w.after(20*time.Second, func() {
				w.server.step(subscriber.Disconnect{IDs: []subscriber.ID{w.server.m.subs.Records()[0].ID}, Reason: subscriber.ReasonAdmin})
			})
		},
	} {
		for _, singleShot := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/single-shot %t", name, singleShot), func(t *testing.T) {
				w := newSimWorld(t, 6, simNetwork{Delay: 10 * millisecond}, func(c *machineConfig) { c.l2tp.Profiles[0].Hosts[0].SingleShot = singleShot })
				c := w.newClient(0)
				spoil(w, c)
				c.connect()
				if !w.run(5*time.Minute, func() bool { return len(w.server.ended) == 1 }) {
					t.Fatal("the session has not ended")
				}
				over := w.now
				w.run(time.Hour, func() bool { return len(w.server.m.ike.Conns()) == 0 })
				least, most := 600*time.Second, 661*time.Second
				if singleShot {
					least, most = 0, 3*time.Second // the short drain of StopCCN
				}
				if d := w.now.Sub(over); d < least || d > most {
					t.Errorf("IPsec has lasted %v longer than the session, want %v to %v", d, least, most)
				}
				c.gone = true
				if r := w.server.ended[0]; r.SingleShot != singleShot {
					t.Errorf("record %+v", r)
				}
				again := w.newClient(1)
				again.connect()
				if w.run(time.Minute, again.Settled); !again.Address.IsValid() {
					t.Errorf("a new connection: %s", again.Failed)
				}
				again.disconnect()
				w.assertNothingLeft(time.Hour)
			})
		}
	}
}
