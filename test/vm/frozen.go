package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// errFrozen says that the emulator has come to a halt. A guest that only waits still takes its timers'
// interrupts, which costs the emulator some processor time each second; one that takes none at all for minutes
// has been seen (once in some hundred runs, QEMU 7.2), and then no timer inside fires any more, a test's own
// time limit included.
var errFrozen = errors.New("the emulator stands still")

// frozenAfter is how long an emulator may take no processor time at all.
const frozenAfter = 2 * time.Minute

// watchFrozen calls stop with errFrozen when the process has taken no processor time for the limit. It ends with
// ctx, or when the process has gone.
func watchFrozen(ctx context.Context, pid int, limit time.Duration, stop func(error)) {
	tick := time.NewTicker(limit / 8)
	defer tick.Stop()
	last, since := -1, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return
		}
		used, err := processorTicks(string(b))
		if err != nil {
			return
		}
		if used != last {
			last, since = used, time.Now()
		} else if d := time.Since(since); d >= limit {
			stop(fmt.Errorf("%w: no processor time for %.0f s", errFrozen, d.Seconds()))
			return
		}
	}
}

// processorTicks reads the time a process has run, in clock ticks, from its /proc/PID/stat (proc(5): utime and
// stime, the 12th and 13th field after the command, which is in parentheses and may hold any character).
func processorTicks(stat string) (int, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("process status %q", stat)
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return user + system, errors.Join(err1, err2)
}
