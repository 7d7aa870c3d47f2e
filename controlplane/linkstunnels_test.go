package controlplane

import (
	"testing"

	"vrgate/controlplane/api"
)

// TestTunnelLink: a static tunnel is a link that is up while a connection carries it, whatever its check says, and the kernel's
// reasons go before the tunnel's.
func TestTunnelLink(t *testing.T) {
	there := api.TunnelInterface{Name: "hq0", Index: 7, MTU: 1400}
	for _, c := range []struct {
		name                string
		t                   api.Tunnel
		state, reason, text string
	}{
		{"up", api.Tunnel{State: "up", Connection: 3, Interface: there}, "up", "", ""},
		{"its check has not passed yet", api.Tunnel{State: "checking", Connection: 3, Interface: there}, "up", "", ""},
		{"waits", api.Tunnel{State: "waiting", Reason: "no-answer", Text: "silence", Interface: there}, "down", "no-answer", "silence"},
		{"no interface", api.Tunnel{State: "down", Reason: "awaits-peer", Interface: api.TunnelInterface{Name: "hq0"}}, "missing", "awaits-peer", ""},
		{"the interface is another's", api.Tunnel{State: "down", Reason: "awaits-peer", KernelReason: "name-taken", KernelText: "rename it", Interface: there}, "down", "name-taken", "rename it"},
	} {
		if l := tunnelLink(&c.t); l.State != c.state || l.Reason != c.reason || l.Text != c.text {
			t.Errorf("%s: %s %q %q, want %s %q %q", c.name, l.State, l.Reason, l.Text, c.state, c.reason, c.text)
		}
	}
}
