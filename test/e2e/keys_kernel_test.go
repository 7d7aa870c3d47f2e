//go:build kernel

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/api"
	"vrgate/test/topo"
)

// TestGroupKeys holds what a group key is good for (D2r), what is said of it (D3r), and its rotation, of which those who are in
// notice nothing.
func TestGroupKeys(t *testing.T) {
	t.Parallel()
	const newer = "a longer and newer group secret"
	w := newWorld(t)
	config := vrConfig{Keys: []string{groupKey("old", psk, "")}}
	w.runOne(config)
	with := func(key string) func(*topo.ClientConfig) {
		return func(c *topo.ClientConfig) {
			c.PSK, c.RetransmitTries, c.RetransmitTimeout = key, 2, 2*time.Second
		}
	}
	first := w.client(nil, "user0", with(psk))
	dns := w.client(nil, "user8", with(psk), func(c *topo.ClientConfig) { c.Selector = "17/53" })
	tunnelled := w.client(nil, "user9", with(psk), func(c *topo.ClientConfig) { c.TunnelMode = true })
	// D2r: L2TP, and nothing else.
	each(w, []*topo.Client{first, dns, tunnelled}, func(c *topo.Client) error {
		if c != first {
			return w.refusedAt(c, topo.StageIKE)
		}
		_, err := w.call(c)
		return err
	})
	for c, want := range map[*topo.Client][2]string{
		dns:       {"selectors-refused", "only L2TP (UDP port 1701) is allowed"},
		tunnelled: {"tunnel-mode-refused", ""},
	} {
		if l := w.reported(c, want[0]); !strings.Contains(l.Msg, want[1]) {
			t.Errorf("D2r: %+v", l)
		}
	}
	ping, err := first.Host().StartPing(intranetHost, topo.PingOptions{Interval: 100 * time.Millisecond})
	w.check(err)

	// Both keys work while their times overlap; E2: from any port.
	until := func(d time.Duration) string {
		return groupKey("old", psk, "valid-until: "+time.Now().Add(d).UTC().Format(time.RFC3339))
	}
	config.Keys = []string{until(time.Hour), groupKey("new", newer, "")}
	w.take(config)
	second, third := w.client(nil, "user1", with(psk)), w.client(nil, "user2", with(newer), func(c *topo.ClientConfig) { c.EphemeralPort = true })
	w.callAll(second, third)
	list, err := w.daemon.API().IPsec(w.ctx, api.Filter{})
	w.check(err)
	keys := map[string]int{}
	for _, c := range list {
		if c.State == "up" {
			keys[c.Key]++
		}
	}
	if keys["old"] != 2 || keys["new"] != 1 {
		t.Errorf("connections by key: %v", keys)
	}
	out, err := w.daemon.Run(w.ctx, "check")
	w.check(err)
	for _, name := range []string{"old", "new"} {
		if want := fmt.Sprintf("whoever knows the group key %q can pose as this server", name); !strings.Contains(out, want) {
			t.Errorf("D3r: vrgate check does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, psk) || strings.Contains(out, newer) {
		t.Error("vrgate check tells a secret")
	}

	// The old one's time is over.
	config.Keys = []string{until(-time.Second), groupKey("new", newer, "")}
	w.take(config)
	stale, fresh := w.client(nil, "user3", with(psk)), w.client(nil, "user4", with(newer))
	each(w, []*topo.Client{stale, fresh}, func(c *topo.Client) error {
		if c == stale {
			return w.refusedAt(c, topo.StageIKE)
		}
		_, err := w.call(c)
		return err
	})
	if l := w.reported(stale, "pre-shared-key-expired"); !strings.Contains(l.Msg, `group key "old" has expired`) {
		t.Errorf("an expired key: %+v", l)
	}
	pingAll(w, first, second, third, fresh)
	if r, err := ping.Stop(); err != nil || r.Lost() > 0 || r.Sent < 20 {
		t.Errorf("whoever was in was disturbed: %v, %d of %d lost", err, r.Lost(), r.Sent)
	}
}

// reported waits for what the log says of a client that is not behind a NAT, for a reason.
func (w *world) reported(c *topo.Client, reason string) logged {
	w.t.Helper()
	var found logged
	w.eventually("a report "+reason, func() bool {
		for line := range strings.Lines(w.daemon.Log()) {
			if l, ok := parsed(line); ok && l.Reason == reason && strings.HasPrefix(l.Peer, c.Host().Address.String()+":") {
				found = l
				return true
			}
		}
		return false
	})
	return found
}

// TestNATTSwitched turns NAT-T off and on between the calls of a client that finds a NAT wherever it looks: a call keeps what it
// began with, the next one gets what the option says (C2r).
func TestNATTSwitched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.runOne(vrConfig{})
	c := w.client(nil, "user0", func(c *topo.ClientConfig) { c.Connection = []string{"encap = yes"} })
	encapsulated := func(want bool) {
		t.Helper()
		list, err := w.daemon.API().IPsec(w.ctx, api.Filter{})
		w.check(err)
		port := map[bool]uint16{true: 4500, false: 500}[want]
		if len(list) != 1 || list[0].UDPEncapsulation != want || list[0].Remote.Port() != port {
			t.Fatalf("C2r: %+v, want encapsulation %v", list, want)
		}
		w.ping(c, topo.PingOptions{Count: 2})
	}
	w.connect(c)
	encapsulated(true)
	for _, on := range []bool{false, true} {
		w.pingWhile(c, func() { w.take(vrConfig{IPsec: fmt.Sprintf("nat-t: %v", on)}) })
		encapsulated(!on)
		w.check(c.Disconnect(w.ctx))
		w.eventually("the call is over", func() bool {
			list, err := w.daemon.API().IPsec(w.ctx, api.Filter{})
			return err == nil && len(list) == 0
		})
		w.connect(c)
		encapsulated(on)
	}
	if n := len(lines[logged](w, "IPsec down")); n != 2 {
		t.Errorf("C2r: %d connections have ended, want the two that the client has closed", n)
	}
}
