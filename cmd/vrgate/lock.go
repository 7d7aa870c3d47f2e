package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// alreadyRunningError is the typed reason of a refused second start: two daemons
// with one state directory would fight over the same kernel objects.
type alreadyRunningError struct {
	// pid is 0 when the holder did not say.
	pid  int
	path string
}

// Error says who is in the way.
func (e *alreadyRunningError) Error() string {
	if e.pid == 0 {
		return "another vrgate runs already: it holds " + e.path
	}
	return fmt.Sprintf("another vrgate runs already: process %d holds %s", e.pid, e.path)
}

// lockState takes the lock of a state directory and makes the directory if it
// is not there. The kernel gives the lock up when the process dies, however it
// dies. The returned function gives it up before.
func lockState(dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		running := &alreadyRunningError{path: path}
		if text, err := io.ReadAll(io.LimitReader(f, 32)); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
				running.pid = pid
			}
		}
		_ = f.Close()
		return nil, running
	case err != nil:
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// Only for the message above, so failing to write it is no reason to stop.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return func() { _ = f.Close() }, nil
}
