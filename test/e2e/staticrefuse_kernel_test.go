//go:build kernel

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vrgate/controlplane/api"
	"vrgate/test/topo"
)

// TestStaticRefusals has peers that are configured otherwise than we are, as initiators and as responders: each gets a reason in the log,
// where tunnels are shown, and in the metrics, and disturbs nobody. Beside them are peers with extended authentication, in both parts.
func TestStaticRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	far := w.site(nil, "10.2.0.1/16", nil, "10.2.0.2", "10.2.11.2", "10.2.12.2")
	addresses := w.addresses(far, 14)
	kinds := []struct {
		name   string
		differ func(*topo.SiteTunnel)
		// called is why we refuse a peer that begins, dialled why the tunnel is not up that we dial.
		called, dialled string
	}{
		{"id", func(t *topo.SiteTunnel) { t.ID = "somebody.example.net" }, "identity-refused", "identity-refused"},
		{"key", func(t *topo.SiteTunnel) { t.PSK = "something else" }, "pre-shared-keys-differ", "no-answer"},
		{"ike", func(t *topo.SiteTunnel) { t.IKE = []string{"aes128-sha1-modp1024"} }, "no-proposal-chosen", "no-proposal-chosen"},
		{"esp", func(t *topo.SiteTunnel) { t.ESP = []string{"aes128-sha2_256"} }, "no-ipsec-proposal-chosen", "peer-refused"},
		{"nets", func(t *topo.SiteTunnel) { t.Networks[0].Local = "10.77.0.0/24" }, "selectors-refused", "peer-refused"},
	}
	var tunnels []static
	add := func(name, start string, more []string, differ ...func(*topo.SiteTunnel)) {
		i := len(tunnels)
		tunnels = append(tunnels, static{
			Name: name, Ours: w.address, Theirs: addresses[i], Start: start, More: more, Named: true, Site: differ,
			Networks: []topo.SiteNetwork{{Local: "10.1.0.0/24", Remote: fmt.Sprintf("10.2.%d.0/24", i)}},
		})
	}
	// StrongSwan gives up soon, whichever tunnel it is: it has one setting for all.
	add("good", "", nil, func(t *topo.SiteTunnel) { t.RetransmitTries, t.RetransmitTimeout = 2, 2*time.Second })
	for _, k := range kinds {
		add("call"+k.name, "respond", nil, k.differ)
		add("dial"+k.name, "", []string{"back-off: 5s", "back-off-max: 5s"}, k.differ)
	}
	add("client", "", []string{"extended-authentication: client", "user: gate", "password: swordfish"}, func(t *topo.SiteTunnel) { t.User, t.Password, t.AsksUser = "gate", "swordfish", true })
	add("server", "respond", []string{"extended-authentication: server"}, func(t *topo.SiteTunnel) { t.User, t.Password = "user0", password })
	add("stranger", "respond", []string{"extended-authentication: server"}, func(t *topo.SiteTunnel) { t.User, t.Password = "user1", "incorrect horse" })
	for i := range tunnels {
		if tunnels[i].Name[:4] == "dial" { // the back-off of good ones is in the way
			tunnels[i].Replace = strings.NewReplacer("back-off: 1s\n    ", "", "back-off-max: 4s\n    ", "")
		}
	}
	w.while(func() { w.runOne(vrConfig{IPsec: siteIPsec, Extra: staticYAML(tunnels...)}) }, w.starts(far, nil, tunnels...))
	w.joined("good", "client")
	w.upAt(far, "good", "client")
	w.check(far.Initiate(w.ctx, "server"))
	w.joined("server")
	inside := []string{"10.2.0.2", "10.2.11.2", "10.2.12.2"}
	var ways []way
	for _, a := range inside {
		ways = append(ways, bothWays(w.intranet, intranetHost.String(), far.Inside, a)...)
	}
	w.reaches(ways...)
	for name, part := range map[string]string{"client": "client", "server": "server"} {
		if s := w.statics()[name]; s.ExtendedAuthentication != part {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if list := w.subscribers(); len(list) > 0 {
		t.Errorf("the peer's user is a subscriber: %+v", list)
	}

	w.under(func() {
		// Three at a time: each keeps one of the few threads busy that strongSwan has for those who tell it what to do.
		var calling sync.WaitGroup
		turns := make(chan struct{}, 3)
		for _, x := range tunnels {
			if strings.HasPrefix(x.Name, "call") || x.Name == "stranger" {
				calling.Go(func() {
					turns <- struct{}{}
					defer func() { <-turns }()
					if err := far.Initiate(w.ctx, x.Name); err == nil {
						t.Errorf("%s has come up", x.Name)
					}
				})
			}
		}
		calling.Wait()
		for _, k := range kinds {
			i := slices.IndexFunc(tunnels, func(x static) bool { return x.Name == "call"+k.name })
			w.eventually("reason "+k.called+" in the log for call"+k.name, func() bool { return w.logsOf(tunnels[i].Theirs, k.called) })
			if w.metric(k.called) == 0 {
				t.Errorf("call%s: no metric counts %s", k.name, k.called)
			}
			shown := w.is("dial"+k.name, "refused with reason "+k.dialled, func(x api.Tunnel) bool { return x.Failures[k.dialled] > 0 })
			if shown.State == "up" || shown.Reason == "" {
				t.Errorf("dial%s: %+v", k.name, shown)
			}
		}
		last := tunnels[len(tunnels)-1]
		w.eventually("the reason why a user is refused", func() bool { return w.logsOf(last.Theirs, "aaa-wrong-password") })
	}, ways[:2]...)
	for name, s := range w.statics() {
		if up := name == "good" || name == "client" || name == "server"; (s.State == "up") != up || up && s.Ups != 1 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	for _, secret := range []string{siteKey, "swordfish", "incorrect horse"} {
		out, err := w.daemon.Run(w.ctx, "show", "tunnels", "--json")
		w.check(err)
		if strings.Contains(out, secret) || strings.Contains(w.daemon.Log(), secret) {
			t.Errorf("%q is shown or logged", secret)
		}
	}
}
