package topo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// PingOptions are settings of ping; the zero value sends 3 packets of 56 bytes, one each 200 ms.
type PingOptions struct {
	Count        int           // packets; 0: 3, or without end for StartPing
	Interval     time.Duration // 0: 200 ms
	Size         int           // bytes of payload; 0: 56
	DontFragment bool
	Source       netip.Addr    // of the host's addresses; the zero Addr: the kernel's choice
	Wait         time.Duration // how long the answers to Count packets may come late; 0: 6 s
}

// PingResult counts packets.
type PingResult struct {
	Sent, Received int
	Late           int // packets beyond Sent whose answers nobody has waited for
	Output         string
}

// Lost returns how many packets had no answer.
func (r PingResult) Lost() int { return r.Sent - r.Received }

// Ping sends echo requests from the host and returns how many were answered. Lost packets are no error; an
// address that ping cannot send to is.
func (h *Host) Ping(ctx context.Context, to netip.Addr, o PingOptions) (PingResult, error) {
	if o.Count == 0 {
		o.Count = 3
	}
	p, err := h.StartPing(to, o)
	if err != nil {
		return PingResult{}, err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		_, _ = p.Stop()
		return PingResult{}, fmt.Errorf("topo: ping %s: %w", to, ctx.Err())
	}
	return p.Stop()
}

// Ping is Host.Ping from the client's machine.
func (c *Client) Ping(ctx context.Context, to netip.Addr, o PingOptions) (PingResult, error) {
	return c.config.Host.Ping(ctx, to, o)
}

// Pinger is a running ping.
type Pinger struct {
	cmd      *exec.Cmd
	interval time.Duration
	count    int
	out      bytes.Buffer
	done     chan struct{} // closed when ping has ended; out is valid then
	once     sync.Once

	grace int // packets at the end that may have no answer when Stop cut it short
}

// StartPing starts echo requests that go on until Stop, or until Count of them were sent.
func (h *Host) StartPing(to netip.Addr, o PingOptions) (*Pinger, error) {
	if o.Interval == 0 {
		o.Interval = 200 * time.Millisecond
	}
	if o.Wait == 0 {
		o.Wait = 6 * time.Second
	}
	args := []string{"-n", "-i", seconds(o.Interval)}
	if o.Count > 0 {
		// With a count alone ping waits for the last answer no longer than for twice the slowest one before,
		// which a busy machine exceeds. With a deadline too it goes on until so many answers have come.
		args = append(args, "-c", strconv.Itoa(o.Count), "-w", strconv.Itoa(int((time.Duration(o.Count)*o.Interval+o.Wait)/time.Second)+1))
	}
	if o.Size > 0 {
		args = append(args, "-s", strconv.Itoa(o.Size))
	}
	if o.DontFragment {
		args = append(args, "-M", "do")
	}
	if o.Source.IsValid() {
		args = append(args, "-I", o.Source.String())
	}
	p := &Pinger{cmd: exec.Command("ping", append(args, to.String())...), interval: o.Interval, count: o.Count, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := h.Namespace.Start(p.cmd); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // the counts tell more than the status
		close(p.done)
	}()
	return p, nil
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 3, 64) }

// Stop ends the ping and returns its counts. Packets of the last second that have no answer may still be on
// their way and do not count as sent; who allows no loss lets the ping run a second longer than what it watches.
func (p *Pinger) Stop() (PingResult, error) {
	p.once.Do(func() {
		select {
		case <-p.done:
		default:
			p.grace = int(time.Second/p.interval) + 1
			_ = p.cmd.Process.Signal(unix.SIGINT)
		}
	})
	select {
	case <-p.done:
	case <-time.After(goodbye):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	return parsePing(p.out.String(), p.count, p.grace)
}

var (
	pingCounts = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)
	pingAnswer = regexp.MustCompile(`(?m)^\d+ bytes from .*icmp_seq=(\d+) `)
)

// parsePing reads the output of iputils' ping. Up to grace unanswered packets at the end do not count, and none
// of those that were sent after as many as count were answered.
func parsePing(out string, count, grace int) (PingResult, error) {
	m := pingCounts.FindStringSubmatch(out)
	if m == nil {
		return PingResult{Output: out}, errors.New("topo: ping: " + strings.TrimSpace(out))
	}
	sent, err1 := strconv.Atoi(m[1])
	received, err2 := strconv.Atoi(m[2])
	r := PingResult{Sent: sent, Received: received, Output: out}
	last := 0
	for _, answer := range pingAnswer.FindAllStringSubmatch(out, -1) {
		if n, err := strconv.Atoi(answer[1]); err == nil {
			last = max(last, n)
		}
	}
	if count > 0 && received >= count {
		grace = sent
	}
	r.Late = min(grace, max(0, sent-last))
	r.Sent -= r.Late
	return r, errors.Join(err1, err2)
}
