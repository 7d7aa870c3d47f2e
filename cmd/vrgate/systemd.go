package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// notifier speaks sd_notify(3): one datagram per message to the socket that the
// service manager named. The zero notifier has nobody to tell and is silent.
type notifier struct {
	socket string
	// watchdog is how often the manager wants to hear from us; 0 for never.
	watchdog time.Duration
}

// maxWatchdog is far above every interval that makes sense.
const maxWatchdog = 24 * time.Hour

// newNotifier reads the service manager's environment variables through getenv.
// They are meant for one process: WATCHDOG_PID says for which.
func newNotifier(getenv func(string) string) notifier {
	n := notifier{socket: getenv("NOTIFY_SOCKET")}
	usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 || usec > int64(maxWatchdog/time.Microsecond) {
		return n
	}
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return n
	}
	n.watchdog = time.Duration(usec) * time.Microsecond
	return n
}

// ready, stopping and status are the messages that a manager knows.
func (n notifier) ready(status string) error {
	return n.send("READY=1\nSTATUS=" + status)
}

// reloading is followed by ready, whatever became of it.
func (n notifier) reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("service manager: monotonic clock: %w", err)
	}
	return n.send("RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(now.Nano()/1000, 10) + "\nSTATUS=taking over the configuration")
}

func (n notifier) stopping() error {
	return n.send("STOPPING=1\nSTATUS=ending all sessions")
}

// failed tells why the start failed, which `systemctl status` shows.
func (n notifier) failed(err error) error {
	return n.send("STATUS=" + firstLine(err.Error()))
}

func (n notifier) send(message string) error {
	if n.socket == "" {
		return nil
	}
	// A name that starts with @ is an abstract socket; package net knows that.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("service manager: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(message)); err != nil {
		return fmt.Errorf("service manager: %w", err)
	}
	return nil
}

// runWatchdog tells the manager that we live, at twice the rate that it asks
// for, as long as alive agrees; it returns when ctx ends. A daemon whose loops
// are stuck is silent, and the manager restarts it.
func (n notifier) runWatchdog(ctx context.Context, alive func(context.Context) error, report func(error)) {
	if n.socket == "" || n.watchdog == 0 {
		return
	}
	tick := time.NewTicker(n.watchdog / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		probe, cancel := context.WithTimeout(ctx, n.watchdog/2)
		err := alive(probe)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = n.send("WATCHDOG=1")
		}
		if err != nil {
			report(err)
		}
	}
}

func firstLine(s string) string {
	for i := range s {
		if s[i] == '\n' {
			return s[:i]
		}
	}
	return s
}
