package controlplane_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/api"
)

// SendL2TP implements [fakekernel.PlainWire]: the virtual routers reach each other in clear text.
func (w *world) SendL2TP(_ string, local, remote netip.AddrPort, data []byte) {
	for router, server := range servers {
		if server == remote.Addr() {
			data := slices.Clone(data)
			go w.kernel.ReceiveL2TP(router, remote, local, data)
		}
	}
}

// servers are the addresses of the virtual routers of redAndBlue.
var servers = map[string]netip.Addr{"red": netip.MustParseAddr("192.0.2.1"), "blue": netip.MustParseAddr("192.0.2.2")}

// switching are red and blue where red hands the users of far.example on to blue, by way of an LNS that is not there.
func switching() map[string]string {
	const users = "\nusers:\n"
	red := strings.Replace(routerYAML("red", "192.0.2.1"), "\nl2tp:\n", `
aaa:
  domain-maps:
    - domain: far.example
      tunnel-servers:
        - {address: 192.0.2.99}
        - {address: 192.0.2.2, preference: 1, tunnel-password: between us}
l2tp:
  tunnel-switching: true
`, 1)
	blue := strings.Replace(routerYAML("blue", "192.0.2.2"), "\nip-profiles:", `
    - name: red
      lac-address: 192.0.2.1
      host-profiles: [{remote-host: red, ipsec-required: false, tunnel-password: between us, proxy-authentication: true}]
ip-profiles:`, 1)
	more := users + "  - {name: zoe@far.example, password: " + testPassword + "}\n"
	return map[string]string{
		"vrgate.yaml": redAndBlue["vrgate.yaml"], "vr/red.yaml": strings.Replace(red, users, more, 1), "vr/blue.yaml": strings.Replace(blue, users, more, 1),
	}
}

// TestProcessSwitches: users of a domain arrive at one virtual router by L2TP/IPsec and end at another, which is an LNS like
// any other to the first: it gives them their address, and each keeps its own account of them.
func TestProcessSwitches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, switching()))
		zoe := w.connect("red", "zoe@far.example", "198.51.100.7", nil)
		if a := zoe.assertUp(); a.As4()[0] != 10 {
			t.Errorf("zoe has %v", a)
		}
		bob := w.connect("red", "bob", "198.51.100.8", nil)
		bob.assertUp()
		for _, line := range []string{"bridge of 198.51.100.7 to 192.0.2.2", "session of 192.0.2.1 in blue", "session of 198.51.100.8 in red"} {
			if !strings.Contains(w.kernel.String(), line) {
				t.Errorf("the kernel has no %q:\n%s", line, w.kernel)
			}
		}
		subs, err := w.p.Subscribers(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		near, far := find(subs, "red", "zoe@far.example"), find(subs, "blue", "zoe@far.example")
		if near == nil || near.State != "up" || near.Address.IsValid() || near.Interface != "" || far == nil || far.State != "up" || !far.Address.IsValid() {
			t.Errorf("red has %+v, blue %+v", near, far)
		}
		zoe.hangUp()
		time.Sleep(10 * time.Second)
		// The client closes PPP and the tunnel in one breath: only blue sees the former.
		if got := w.endings(); len(got) != 2 || !slices.Contains(got, "zoe@far.example: ppp-user-request") {
			t.Errorf("ended %v", got)
		}
		if strings.Contains(w.kernel.String(), "bridge") {
			t.Errorf("kernel:\n%s", w.kernel)
		}
		// The operator ends the next one where it arrives.
		again := w.connect("red", "zoe@far.example", "198.51.100.9", nil)
		again.assertUp()
		if subs, err = w.p.Subscribers(context.Background()); err != nil {
			t.Fatal(err)
		}
		if near = find(subs, "red", "zoe@far.example"); near == nil {
			t.Fatalf("subscribers %+v", subs)
		}
		if err := w.p.Disconnect(context.Background(), []string{near.ID}); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		if subs, err = w.p.Subscribers(context.Background()); err != nil || len(subs) != 1 {
			t.Errorf("left: %+v, %v", subs, err)
		}
		bob.hangUp()
		again.hangUp()
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}

func find(subs []api.Subscriber, router, user string) *api.Subscriber {
	for i := range subs {
		if subs[i].VR == router && subs[i].User == user {
			return &subs[i]
		}
	}
	return nil
}

// TestSwitchedThroughReloads: a session that has been handed on has the timeouts that AAA gives it where it arrived; a reload with
// other LNSs holds for new sessions, and one that ends its host profile ends both of its calls. The password that
// was proxied, and the tunnel's, are nowhere to be seen.
func TestSwitchedThroughReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := switching()
		for _, vr := range []string{"vr/red.yaml", "vr/blue.yaml"} { // PAP, whose password is handed on in clear text
			files = edited(files, vr, "\nip-profiles:\n", "\nppp: {authentication: [pap]}\nip-profiles:\n")
		}
		files = edited(files, "vr/red.yaml", "zoe@far.example, ", "zoe@far.example, session-timeout: 120s, ")
		w := newWorld(t, loadConfig(t, files))
		plans := []api.Plan{}
		zoe := w.connect("red", "zoe@far.example", "198.51.100.7", nil)
		zoe.assertUp()
		came := time.Now()
		plans = append(plans, w.reload(edited(files, "vr/red.yaml", "tunnel-password: between us", "tunnel-password: between the others", "192.0.2.99", "192.0.2.98")))
		if plans[0].Dropped != (api.PlanCounts{}) || len(plans[0].Changes) == 0 {
			t.Errorf("plan %+v", plans[0])
		}
		for len(w.endings()) == 0 && time.Since(came) < 5*time.Minute {
			time.Sleep(time.Second)
		}
		time.Sleep(3 * time.Second)
		if d := time.Since(came); d < 115*time.Second || d > 130*time.Second {
			t.Errorf("the session has lasted %v", d)
		}
		ends := w.endings()
		if len(ends) != 2 || !slices.Contains(ends, "zoe@far.example: session-timeout") || strings.Contains(w.kernel.String(), "bridge") {
			t.Errorf("ended %v; kernel:\n%s", ends, w.kernel)
		}
		stranger := w.connect("red", "zoe@far.example", "198.51.100.9", nil) // the tunnel's new password is not the LNS's
		if a, _ := stranger.settle(time.Minute); a.IsValid() {
			t.Errorf("handed on with a wrong tunnel password, and has %v", a)
		}
		stranger.hangUp()
		plans = append(plans, w.reload(files))
		again := w.connect("red", "zoe@far.example", "198.51.100.8", nil)
		again.assertUp()
		time.Sleep(time.Second)
		plans = append(plans, w.reload(edited(files, "vr/red.yaml", "{remote-host: default}", "{remote-host: default, local-host: other}")))
		if d := plans[2].Dropped; d.Subscribers != 1 || plans[2].Drops[0].Reason != "profile-changed" {
			t.Errorf("plan %+v", plans[2])
		}
		time.Sleep(5 * time.Second)
		ends = w.endings()
		if subs, err := w.p.Subscribers(t.Context()); err != nil || len(subs) != 0 || !slices.Contains(ends, "zoe@far.example: profile-changed") {
			t.Errorf("subscribers %+v, %v; ended %v", subs, err, ends)
		}
		services, err := w.p.L2TPServices(t.Context())
		tunnels, terr := w.p.L2TPTunnels(t.Context())
		sessions, serr := w.p.L2TPSessions(t.Context())
		profiles, perr := w.p.L2TPProfiles(t.Context())
		proxied := slices.ContainsFunc(sessions, func(s api.L2TPSession) bool { return s.VR == "blue" && s.ProxyAuth == "pap" && s.ProxyLCP })
		if err := errors.Join(err, terr, serr, perr); err != nil || !proxied {
			t.Errorf("%v; nothing was proxied: %+v", err, sessions)
		}
		for _, way := range []string{"lns-incoming", "lac-incoming"} { // both calls have their records
			if !slices.ContainsFunc(sessions, func(s api.L2TPSession) bool {
				return s.VR == "red" && s.CallType == way && s.User == "zoe@far.example" && !s.Ended.IsZero() && s.Payload.RxOctets >= 1000 && s.Payload.TxPackets >= 20
			}) {
				t.Errorf("no record of the call %s: %+v", way, sessions)
			}
		}
		said, err := json.Marshal([]any{plans, services, tunnels, sessions, profiles})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range w.logs.All() {
			said = append(said, fmt.Sprintln(e.Message, e.ContextMap())...)
		}
		for _, secret := range []string{testKey, testPassword, "between us", "between the others"} {
			if i := strings.Index(string(said), secret); i >= 0 {
				t.Errorf("%q is to be seen: %s", secret, said[max(i-100, 0):i+len(secret)])
			}
		}
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}
