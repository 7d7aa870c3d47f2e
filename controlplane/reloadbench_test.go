package controlplane_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/api"
	"vrgate/controlplane/config"
)

// BenchmarkReload4000 takes over a configuration of 4,000 destination profiles in one virtual router while 500 sessions
// live: one profile has changed that nobody uses. It counts from reading the files to the last engine; the target is
// 1 s. Every session must be there afterwards.
func BenchmarkReload4000(b *testing.B) {
	const profiles, sessions = config.MaxDestinationProfiles, 500
	files := func(turn int) map[string]string {
		var s strings.Builder
		s.WriteString("  destination-profiles:\n")
		for i := range profiles - 1 {
			name := fmt.Sprintf("lac%d", i)
			if i == profiles-2 {
				name += fmt.Sprint("x", turn)
			}
			fmt.Fprintf(&s, "    - {name: p%d, lac-address: 100.64.%d.%d, host-profiles: [{remote-host: peer, local-host: %s}]}\n", i, i/250, 1+i%250, name)
		}
		return edited(redAndBlue, "vr/red.yaml", "  destination-profiles:\n", s.String(), "ranges: [10.0.0.0/24]", "ranges: [10.0.0.0/20]")
	}
	w := newWorld(b, loadConfig(b, files(0)))
	var clients []*station
	for i := range sessions {
		clients = append(clients, w.connect("red", "bob", fmt.Sprintf("198.51.%d.%d", i/200, 1+i%200), nil))
		if i%20 == 19 { // no more at once than the half-open limits and a small machine like
			for _, s := range clients[i-19:] {
				if a, failed := s.settle(time.Minute); !a.IsValid() {
					b.Fatalf("not up: %q", failed)
				}
			}
		}
	}
	dir := b.TempDir()
	turn := 0
	var longest time.Duration
	for b.Loop() {
		b.StopTimer()
		turn++
		for name, text := range files(turn) {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		began := time.Now()
		cfg, _, err := config.Load(dir)
		if err != nil {
			b.Fatal(err)
		}
		plan, err := w.p.Reload(b.Context(), cfg)
		if err != nil || len(plan.Changes) == 0 || plan.Dropped != (api.PlanCounts{}) {
			b.Fatalf("%+v, %v", plan, err)
		}
		longest = max(longest, time.Since(began))
	}
	b.ReportMetric(longest.Seconds()*1000, "ms-longest")
	subs, err := w.p.Subscribers(b.Context())
	if err != nil || len(subs) != sessions {
		b.Errorf("%d subscribers after the reloads, %v", len(subs), err)
	}
	if err := w.finish(); err != nil {
		b.Error(err)
	}
}
