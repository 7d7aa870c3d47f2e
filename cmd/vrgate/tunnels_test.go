package main

import (
	"context"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/api"
)

// tunnelsSince is when the tunnels of all fakes got into their states.
var tunnelsSince = time.Now().Add(-90 * time.Second)

func (f *fakePlane) Tunnels(context.Context) ([]api.Tunnel, error) {
	since := tunnelsSince
	sa := []api.IPsecSA{{SPI: "0a0b0c0d", Transform: "aes256-sha1", LifetimeSeconds: 3600, RemainingSeconds: 3500, Bytes: 4096}}
	return []api.Tunnel{
		{
			VR: "office", TransportVR: "red", Name: "hq", Type: "signalled", Mode: "route", Start: "nailed-up", State: "up", Since: since, UpSince: since,
			LocalAddress: netip.MustParseAddr("192.0.2.1"), RemoteAddress: netip.MustParseAddr("198.51.100.7"), Peers: []api.TunnelPeer{
				{Peer: "198.51.100.7", Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.7")}},
				{Peer: "backup.example.net", Addresses: []netip.Addr{}, Reason: "name-not-found", Text: "no such host"},
			},
			LocalIdentity: "@gate.example.net", PeerIdentity: "any", PeerID: "198.51.100.7", Networks: []api.TunnelNetwork{
				{Name: "lan", Local: netip.MustParsePrefix("10.1.0.0/16"), Remote: netip.MustParsePrefix("10.2.0.0/16"), State: "up", Inbound: sa, Outbound: sa},
				{Name: "2", Local: netip.MustParsePrefix("10.1.0.0/16"), Remote: netip.MustParsePrefix("10.3.0.0/16"), State: "down", Reason: "peer-refused", Text: "it has no such networks"},
				{Name: "3", Local: netip.MustParsePrefix("10.1.0.0/16"), Remote: netip.MustParsePrefix("10.4.0.0/16"), State: "down"},
			},
			Interface: api.TunnelInterface{Name: "hq0", Index: 9, MTU: 1400}, Connection: 77, FallOvers: 2,
			Check:  api.TunnelCheck{Target: netip.MustParseAddr("10.2.0.1"), OK: true, At: since, RTTSeconds: 0.01251, Tolerance: 3},
			Inside: api.TunnelTraffic{InBytes: 1024, OutBytes: 20480}, Outside: api.TunnelTraffic{InBytes: 5, OutBytes: 6},
		},
		{
			VR: "red", TransportVR: "red", Name: "branch", Mode: "transport", Start: "respond", State: "down", Since: since, Reason: "awaits-peer",
			Networks: []api.TunnelNetwork{{Name: "1", Protocol: 47, State: "down"}}, Outside: api.TunnelTraffic{InBytes: 5, OutBytes: 6},
		},
		{
			VR: "red", TransportVR: "red", Name: "far", Mode: "policy", Start: "nailed-up", State: "waiting", Since: since, RetryAt: since.Add(5 * time.Minute),
			Reason: "no-proposal-chosen", Text: "it offers none", Peers: []api.TunnelPeer{{Peer: "198.51.100.9"}, {Peer: "far.example.net"}},
			Networks: []api.TunnelNetwork{}, Check: api.TunnelCheck{Target: netip.MustParseAddr("10.2.0.1"), At: since, Failed: 2, Tolerance: 3},
			Failures: map[string]uint64{"no-proposal-chosen": 3}, LastFailure: api.TunnelFailure{At: since, Peer: "198.51.100.9", Reason: "no-proposal-chosen"},
		},
		{
			VR: "red", TransportVR: "red", Name: "new", Mode: "route", State: "up", Since: since, Networks: []api.TunnelNetwork{},
			Check: api.TunnelCheck{Target: netip.MustParseAddr("10.2.0.1")}, KernelReason: "interface-name-taken", KernelText: "somebody else has hq1",
		},
		{
			VR: "red", TransportVR: "red", Name: "spare", Mode: "policy", Start: "on-demand", State: "down", Since: since, Reason: "no-traffic", Networks: []api.TunnelNetwork{},
			FailedRounds: 1, LastFailure: api.TunnelFailure{At: since, Peer: "198.51.100.9", Reason: "no-answer"},
		},
	}, nil
}

func (f *fakePlane) TellTunnel(_ context.Context, q api.TunnelRequest) error {
	if q.Tunnel != "hq" {
		return &api.Error{Status: 404, Reason: api.ReasonNotFound, Text: `there is no static tunnel "` + q.Tunnel + `"`}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, q.Tunnel+" "+string(q.Command))
	return nil
}

func TestTunnels(t *testing.T) {
	dir, _, _ := configure(t)
	plane := &fakePlane{}
	messages, _, _ := daemon(t, dir, plane, 0)
	expect(t, messages, "READY=1\nSTATUS=serving")
	ages := regexp.MustCompile(`\b[1-9]m[0-9]{1,2}s\b`)
	run := func(args ...string) (int, string, string) {
		status, out, stderr := vrgate(t, append(args, "-c", dir)...)
		return status, ages.ReplaceAllString(out, "1m30s"), stderr
	}
	const hq = `
VR      TUNNEL  MODE   STATE  SINCE  PEER          NETWORKS                                                            UP   INTERFACE  CHECK   FALL-OVERS  IN    OUT     WHY
office  hq      route  up     1m30s  198.51.100.7  10.1.0.0/16 - 10.2.0.0/16, 10.1.0.0/16 - 10.3.0.0/16, 1 more  1/3  hq0        12.5ms  2           1024  20.0Ki  networks 2: peer-refused: it has no such networks
`
	status, out, stderr := run("show", "tunnels")
	want := []string{
		"VR TUNNEL MODE STATE SINCE PEER NETWORKS UP INTERFACE CHECK FALL-OVERS IN OUT WHY",
		"office hq route up 1m30s 198.51.100.7 10.1.0.0/16 - 10.2.0.0/16, 10.1.0.0/16 - 10.3.0.0/16, 1 more 1/3 hq0 12.5ms 2 1024 20.0Ki networks 2: peer-refused: it has no such networks",
		"red branch transport down 1m30s any protocol 47 0/1 - - 0 5 6 awaits-peer",
		"red far policy waiting 1m30s 198.51.100.9,far.example.net - 0/0 - failed 2/3 0 0 0 no-proposal-chosen: it offers none (again in 1m30s)",
		"red new route up 1m30s any - 0/0 - not yet 0 0 0 interface-name-taken: somebody else has hq1",
		"red spare policy down 1m30s any - 0/0 - - 0 0 0 no-traffic; last dialled in vain: no-answer",
	}
	if got := rows(out); status != 0 || stderr != "" || !slices.Equal(got, want) {
		t.Errorf("show tunnels: %d %s\n%s\nwant\n%s", status, stderr, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if status, out, _ := run("show", "tunnels", "--vr", "office"); status != 0 || !slices.Equal(rows(out), rows(hq)) {
		t.Errorf("of one virtual router: %d\n%s", status, out)
	}
	status, out, _ = run("show", "tunnels", "hq")
	for _, field := range []string{"transport_vr", "local_identity", "0a0b0c0d", "backup.example.net", "name-not-found"} {
		if status != 0 || !strings.Contains(out, field) || strings.Contains(out, "branch") {
			t.Errorf("of one tunnel: %d, no %s:\n%s", status, field, out)
		}
	}
	// Nothing is shown of what there is not, and no fraction of a second.
	if _, out, _ := run("show", "tunnels", "branch"); !slices.Contains(rows(out), "check -") || !slices.Contains(rows(out), "last_failure -") || !slices.Contains(rows(out), "since "+tunnelsSince.Format(time.RFC3339)) {
		t.Errorf("of one that is down:\n%s", out)
	}
	if status, out, stderr := run("show", "tunnels", "hqq"); status != exitFailed || out != "" || stderr != "vrgate: there is no static tunnel \"hqq\"; did you mean \"hq\"?\n" {
		t.Errorf("of none: %d %s%s", status, out, stderr)
	}
	for _, word := range []string{"down", "up", "now"} {
		plane.told = nil
		if status, out, stderr := run("tunnel", word, "hq"); status != 0 || stderr != "" || !slices.Equal(rows(out), rows(hq)) || !slices.Equal(plane.told, []string{"hq " + word}) {
			t.Errorf("tunnel %s: %d %s%s, told %q", word, status, stderr, out, plane.told)
		}
		if status, _, stderr := run("tunnel", word, "nothing"); status != exitFailed || stderr != "vrgate: there is no static tunnel \"nothing\"\n" {
			t.Errorf("tunnel %s nothing: %d %s", word, status, stderr)
		}
		if status, _, stderr := run("tunnel", word); status != exitUsage || stderr != "vrgate: say which: vrgate tunnel "+word+" NAME\n" {
			t.Errorf("tunnel %s: %d %s", word, status, stderr)
		}
		if status, out, _ := vrgate(t, "__complete", "tunnel", "-c", dir, word, ""); status != 0 || out != "branch\nfar\nhq\nnew\nspare\n:4\n" {
			t.Errorf("completion of tunnel %s: %d %q", word, status, out)
		}
	}
	if status, _, stderr := run("show", "tunnels", "hq", "far"); status != exitUsage || !strings.Contains(stderr, "one name") {
		t.Errorf("two names: %d %s", status, stderr)
	}
}

// rows are the rows of a table with one space between words.
func rows(table string) (out []string) {
	for line := range strings.Lines(strings.TrimSpace(table)) {
		out = append(out, strings.Join(strings.Fields(line), " "))
	}
	return out
}
