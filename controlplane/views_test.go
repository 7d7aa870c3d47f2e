package controlplane_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"vrgate/controlplane"
	"vrgate/controlplane/subscriber"
	"vrgate/test/fakekernel"
)

// TestViews: what show shows of one subscriber, in every table.
func TestViews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue))
		ctx := context.Background()
		address := w.connect("red", "bob", "198.51.100.1", nil).assertUp()

		subs, err := w.p.Subscribers(ctx)
		if err != nil || len(subs) != 1 {
			t.Fatalf("subscribers %+v, %v", subs, err)
		}
		s := subs[0]
		if s.User != "bob" || s.VR != "red" || s.TerminatingVR != "red" || s.Address != address || s.AddressSource != "pool" || s.Access != "l2tp/ipsec" ||
			s.Gateway.String() != "10.0.0.1" || s.Interface == "" || s.MTU != 1400 || s.Remote.Addr().String() != "198.51.100.1" || s.RemoteHost != "bob" ||
			s.Authentication != "mschapv2" || s.InBytes != 1000 || s.OutPackets != 20 || s.Up.IsZero() || s.ID == "" {
			t.Errorf("subscriber %+v", s)
		}
		ikes, err := w.p.IKESAs(ctx)
		if err != nil || len(ikes) != 1 || ikes[0].VR != "red" || ikes[0].Initiator || ikes[0].Key != "everybody" || ikes[0].Connection != s.Connection || ikes[0].RemainingSeconds <= 0 {
			t.Errorf("IKE SAs %+v, %v", ikes, err)
		}
		ipsec, err := w.p.IPsec(ctx)
		if err != nil || len(ipsec) != 1 || ipsec[0].State != "up" || len(ipsec[0].Inbound) != 1 || len(ipsec[0].Outbound) != 1 ||
			ipsec[0].Inbound[0].Bytes != 4096 || ipsec[0].Connection != s.Connection || ipsec[0].RemoteSelector != "198.51.100.1/32 udp 1701" {
			t.Errorf("IPsec %+v, %v", ipsec, err)
		}
		tunnels, err := w.p.L2TPTunnels(ctx)
		if err != nil || len(tunnels) != 1 || tunnels[0].State != "established" || tunnels[0].RemoteHost != "bob" || tunnels[0].Sessions.Active != 1 ||
			tunnels[0].Initiator != "remote" || tunnels[0].LocalID != s.LocalTunnel {
			t.Errorf("tunnels %+v, %v", tunnels, err)
		}
		sessions, err := w.p.L2TPSessions(ctx)
		if err != nil || len(sessions) != 1 || sessions[0].User != "bob" || sessions[0].LocalID != s.LocalSession || sessions[0].State != "established" {
			t.Errorf("sessions %+v, %v", sessions, err)
		}
		counters, err := w.p.Counters(ctx)
		value := map[string]uint64{}
		for _, c := range counters {
			value[c.VR+" "+c.Subsystem+" "+c.Reason] = c.Value
		}
		if err != nil || value["red subscriber started"] != 1 || value["red subscriber ended"] != 0 || value["blue subscriber started"] != 0 || value["red ike connection-up"] != 1 {
			t.Errorf("counters %v, %v", value, err)
		}

		// Disconnected by the operator; IDs of nobody change nothing.
		if err := w.p.Disconnect(ctx, []string{"no number", "1", s.ID}); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		assertEndings(t, w, "bob: admin-reset")
		if subs, err := w.p.Subscribers(ctx); err != nil || len(subs) != 0 {
			t.Errorf("subscribers after disconnect: %+v, %v", subs, err)
		}
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}

// TestSummaryLine: one line says who, from where, how long, how much and why.
func TestSummaryLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue))
		s := w.connect("red", "alice", "198.51.100.1", nil)
		s.assertUp()
		time.Sleep(time.Minute)
		s.hangUp()
		time.Sleep(10 * time.Second)
		lines := w.logs.FilterMessage("subscriber ended").All()
		if len(lines) != 1 {
			t.Fatalf("%d summary lines", len(lines))
		}
		m := lines[0].ContextMap()
		up, _ := m["up"].(time.Duration)
		if m["user"] != "alice" || m["vr"] != "red" || m["address"] != "10.0.0.77" || m["reason"] != "ppp-user-request" || m["by_peer"] != true ||
			m["in_bytes"] != uint64(1000) || m["out_packets"] != uint64(20) || !strings.HasPrefix(m["peer"].(string), "198.51.100.1:") ||
			up < time.Minute || up > time.Minute+5*time.Second {
			t.Errorf("summary line %v", m)
		}
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}

// TestSecretsStayOut looks for the keys and passwords of a whole life in everything logged.
func TestSecretsStayOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue))
		s := w.connect("red", "alice", "198.51.100.1", nil)
		s.assertUp()
		s.hangUp()
		time.Sleep(time.Minute)
		if err := w.finish(); err != nil {
			t.Error(err)
		}
		for _, e := range w.logs.All() {
			if strings.Contains(e.Message, testKey) || strings.Contains(e.Message, testPassword) {
				t.Errorf("a message holds a secret: %s", e.Message)
			}
			for k, v := range e.ContextMap() {
				if text, ok := v.(string); ok && (strings.Contains(text, testKey) || strings.Contains(text, testPassword)) {
					t.Errorf("%s: field %s holds a secret", e.Message, k)
				}
			}
		}
	})
}

// TestInterfaceLost: somebody deletes a subscriber's interface; the session ends, the others stay.
func TestInterfaceLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue))
		w.connect("red", "alice", "198.51.100.1", nil).assertUp()
		subs, err := w.p.Subscribers(context.Background())
		if err != nil || len(subs) != 1 {
			t.Fatalf("subscribers %+v, %v", subs, err)
		}
		w.connect("red", "bob", "198.51.100.2", nil).assertUp()
		w.kernel.LoseInterface("red", parseID(t, subs[0].ID))
		w.kernel.LoseInterface("red", 1) // of nobody
		time.Sleep(10 * time.Second)
		assertEndings(t, w, "alice: interface-gone")
		if subs, err := w.p.Subscribers(context.Background()); err != nil || len(subs) != 1 || subs[0].User != "bob" || subs[0].State != "up" {
			t.Errorf("subscribers %+v, %v, want bob up", subs, err)
		}
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}

func parseID(t *testing.T, text string) subscriber.ID {
	t.Helper()
	var id subscriber.ID
	for _, c := range text {
		id = id*10 + subscriber.ID(c-'0')
	}
	return id
}

// TestNothingOpens: when no virtual router can be opened Run says so, with every reason.
func TestNothingOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue), 1, 2)
		err := w.finish()
		if !errors.Is(err, fakekernel.ErrInjected) || !strings.Contains(err.Error(), "red") || !strings.Contains(err.Error(), "blue") {
			t.Errorf("Run returned %v", err)
		}
	})
}

// TestOneDoesNotOpen: the others serve, show says why, and it is tried again.
func TestOneDoesNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, redAndBlue), 2)
		state := func() string {
			vrs, err := w.p.VRs(context.Background())
			if err != nil || len(vrs) != 2 {
				t.Fatalf("virtual routers %+v, %v", vrs, err)
			}
			return vrs[1].Name + " " + vrs[1].State + " " + vrs[1].Reason
		}
		if got := state(); got != "red failed injected" {
			t.Errorf("shown as %q", got)
		}
		w.connect("blue", "bob", "198.51.100.2", nil).assertUp()
		time.Sleep(time.Minute)
		if got := state(); got != "red up " {
			t.Errorf("shown as %q a minute later", got)
		}
		if n := len(slices.DeleteFunc(w.kernel.Calls(), func(c string) bool { return c != "red: open" })); n != 2 {
			t.Errorf("opened %d times, want once more after the failure", n)
		}
		w.connect("red", "bob", "198.51.100.1", nil).assertUp()
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}

// TestQueriesOutsideLife: before Run and after it show has an answer, and it is empty.
func TestQueriesOutsideLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ask := func(p *controlplane.Process, when string) {
			ctx := context.Background()
			if vrs, err := p.VRs(ctx); err != nil || len(vrs) != 2 || vrs[0].State == "up" {
				t.Errorf("%s: %+v, %v", when, vrs, err)
			}
			if subs, err := p.Subscribers(ctx); err != nil || len(subs) != 0 {
				t.Errorf("%s: %+v, %v", when, subs, err)
			}
			if sas, err := p.IPsec(ctx); err != nil || len(sas) != 0 {
				t.Errorf("%s: %+v, %v", when, sas, err)
			}
			if err := p.Disconnect(ctx, []string{"1"}); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		cfg := loadConfig(t, redAndBlue)
		idle, err := controlplane.New(cfg, fakekernel.New(nil), openStore(t), zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		ask(idle, "before")
		w := newWorld(t, cfg)
		if err := w.finish(); err != nil {
			t.Error(err)
		}
		ask(w.p, "after")
	})
}
