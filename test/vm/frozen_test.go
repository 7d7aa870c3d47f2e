package main

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"
)

// A process that takes no processor time is told from one that does and from one that has gone.
func TestWatchFrozen(t *testing.T) {
	for _, c := range []struct {
		script string
		frozen bool
	}{
		{"exec sleep 60", true},
		{"while :; do :; done", false},
		{"exit", false},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
		cmd := exec.Command("sh", "-c", c.script)
		cmd.SysProcAttr = ownGroup()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		exited := make(chan error, 1)
		go func() { exited <- cmd.Wait() }()
		var got error
		watchFrozen(ctx, cmd.Process.Pid, 2*time.Second, func(err error) { got = err })
		cancel()
		_ = cmd.Process.Kill()
		<-exited
		if errors.Is(got, errFrozen) != c.frozen {
			t.Errorf("%q: %v, want frozen %v", c.script, got, c.frozen)
		}
	}
}

func TestProcessorTicks(t *testing.T) {
	const stat = "77 (a b) c) S 1 77 77 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 1 0 1 2 3"
	if n, err := processorTicks(stat); err != nil || n != 175 {
		t.Errorf("%d, %v, want 175", n, err)
	}
	for _, s := range []string{"", "77 (x) S 1 2", "77 (x) S 1 77 77 0 -1 4194560 1 2 3 4 a b 0"} {
		if n, err := processorTicks(s); err == nil {
			t.Errorf("%q: %d, want an error", s, n)
		}
	}
}
