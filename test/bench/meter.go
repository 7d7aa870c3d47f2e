package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// meter watches a group of processes, those that will be their children included: a control
// group keeps the processor time of those that have ended too.
type meter struct {
	dir   string // where cgroup2 is mounted
	group string
}

// newMeter makes a group for the processes.
func newMeter(name string, pids []int) (*meter, error) {
	dir, err := os.MkdirTemp("", "vrgate-bench-")
	if err != nil {
		return nil, err
	}
	if err := unix.Mount("none", dir, "cgroup2", 0, ""); err != nil {
		return nil, errors.Join(fmt.Errorf("mounting cgroup2: %w", err), os.Remove(dir))
	}
	m := &meter{dir: dir, group: filepath.Join(dir, fmt.Sprintf("vrgate-bench-%s-%d", name, os.Getpid()))}
	if err := os.Mkdir(m.group, 0o755); err != nil {
		return nil, errors.Join(err, m.close())
	}
	for _, pid := range pids {
		if err := os.WriteFile(filepath.Join(m.group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return nil, errors.Join(fmt.Errorf("process %d: %w", pid, err), m.close())
		}
	}
	return m, nil
}

// leaveTimeout is how long killed processes may take to go: each pppd waits for its interface to be
// taken down, one after the other.
const leaveTimeout = time.Minute

// close removes the group, whose processes must have been killed.
func (m *meter) close() error {
	err := unix.Rmdir(m.group)
	for end := time.Now().Add(leaveTimeout); errors.Is(err, unix.EBUSY) && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
		err = unix.Rmdir(m.group)
	}
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return errors.Join(err, unix.Unmount(m.dir, unix.MNT_DETACH), os.Remove(m.dir))
}

// sample is what was used at one moment. Memory is in bytes.
type sample struct {
	CPU       time.Duration // of the group so far
	Busy      time.Duration // of all processors since the machine began, without what this process used
	Clients   time.Duration // of this process so far
	Processes int
	RSS       uint64 // sum over the group: pages that several processes share count in each
	PSS       uint64 // the same, shared pages divided among those who share them
	Machine   uint64 // all memory of the machine that is neither free nor cache, without this process's
}

func (m *meter) sample() (s sample, err error) {
	stat, err := os.ReadFile(filepath.Join(m.group, "cpu.stat"))
	if err != nil {
		return s, err
	}
	usage, err := field(stat, "usage_usec")
	if err != nil {
		return s, fmt.Errorf("cpu.stat: %w", err)
	}
	s.CPU = time.Duration(usage) * time.Microsecond
	if s.Busy, err = busy(); err != nil {
		return s, err
	}
	var own unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err != nil {
		return s, err
	}
	s.Clients = ownTime(own)
	procs, err := os.ReadFile(filepath.Join(m.group, "cgroup.procs"))
	if err != nil {
		return s, err
	}
	for _, pid := range strings.Fields(string(procs)) {
		rollup, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
			continue // ended
		}
		if err != nil {
			return s, err
		}
		rss, err1 := field(rollup, "Rss:")
		pss, err2 := field(rollup, "Pss:")
		if err := errors.Join(err1, err2); err != nil {
			return s, fmt.Errorf("smaps_rollup of %s: %w", pid, err)
		}
		s.Processes++
		s.RSS += rss << 10
		s.PSS += pss << 10
	}
	s.Machine, err = machineMemory()
	return s, err
}

// field finds the number behind a word at the beginning of a line.
func field(text []byte, word string) (uint64, error) {
	for line := range bytes.Lines(text) {
		if f := strings.Fields(string(line)); len(f) > 1 && f[0] == word {
			return strconv.ParseUint(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s", word)
}

// busy is what all processors have done so far but for this process: the servers, the kernel's
// own threads and interrupts. It is what remains of the time that has passed when the idle time is
// taken away, which the kernel measures; work it only samples, and an emulated machine loses
// samples.
func busy() (time.Duration, error) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		return 0, err
	}
	// user, nice, system, idle, iowait …, in hundredths of a second.
	words := strings.Fields(line)
	if len(words) < 6 || words[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	idle, err1 := strconv.ParseUint(words[4], 10, 64)
	waiting, err2 := strconv.ParseUint(words[5], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, fmt.Errorf("/proc/stat: %w", err)
	}
	var now unix.Timespec
	var own unix.Rusage
	if err := errors.Join(unix.ClockGettime(unix.CLOCK_BOOTTIME, &now), unix.Getrusage(unix.RUSAGE_SELF, &own)); err != nil {
		return 0, err
	}
	passed := time.Duration(now.Nano()) * time.Duration(runtime.NumCPU())
	return passed - time.Duration(idle+waiting)*10*time.Millisecond - ownTime(own), nil
}

// ownTime is the processor time of this process, which is the clients.
func ownTime(r unix.Rusage) time.Duration { return time.Duration(r.Utime.Nano() + r.Stime.Nano()) }

// machineMemory is what user space and kernel use.
func machineMemory() (uint64, error) {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	own, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return 0, err
	}
	var errs []error
	get := func(text []byte, word string) uint64 {
		n, err := field(text, word)
		errs = append(errs, err)
		return n << 10
	}
	used := get(info, "MemTotal:") - get(info, "MemFree:") - get(info, "Buffers:") - get(info, "Cached:") - get(own, "Rss:")
	return used, errors.Join(errs...)
}
