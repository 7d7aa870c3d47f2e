//go:build kernel

package main

import (
	"context"
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
