//go:build kernel

package main

import (
	"context"
	"slices"
	"testing"
	"time"
)

// TestMeasure runs the comparison with a few clients: every one of them comes up and its
// session carries traffic, on both servers, and the meter has something to say.
func TestMeasure(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for _, name := range []string{"stock", "vrgate"} {
		m, err := measure(ctx, name, options{window: 2, group: "curve25519"}, 1, 3)
		if err != nil {
			t.Fatal(err)
		}
		if m.Up != 3 || m.Answered != 4 || len(m.Failed) > 0 {
			t.Errorf("%s: %+v", name, m)
		}
		if m.CPU <= 0 || m.Busy <= 0 || m.Load <= 0 || m.Took <= 0 || m.Median <= 0 || m.Slowest < m.Median {
			t.Errorf("%s: measured %+v", name, m)
		}
		if processes := map[string]int{"stock": 3, "vrgate": 0}[name]; m.Processes != processes {
			t.Errorf("%s: %d processes for 3 clients, want %d", name, m.Processes, processes)
		}
	}
}

// TestMeasureReload reloads a few profiles under a few sessions, which lose nothing.
func TestMeasureReload(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	m, err := measureReload(ctx, options{window: 2, group: "curve25519", rounds: 1, sessions: 4, profiles: 5})
	if err != nil {
		t.Fatal(err)
	}
	if m.Traffic.Sessions != 3 || m.Traffic.Lost() > 0 || m.Traffic.Sent < 3 {
		t.Errorf("traffic %+v", m.Traffic)
	}
	var kinds []string
	for _, r := range m.Reloads {
		kinds = append(kinds, r.Kind)
		if r.Took <= 0 || r.CPU <= 0 {
			t.Errorf("reload %+v", r)
		}
	}
	if !slices.Equal(kinds, []string{reloadIdle, reloadEach, reloadFirst}) {
		t.Errorf("reloads %q", kinds)
	}
}
