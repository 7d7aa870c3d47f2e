// Package daemon runs the vrgate binary for tests, the demonstration and benchmarks: a
// configuration directory, the process, its log, and its control API.
package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"vrgate/controlplane/api"
)

// Binary is the environment variable that names the vrgate binary; without it the file
// "vrgate" beside the running program.
const Binary = "VRGATE_BINARY"

// Daemon is one vrgate process with a configuration directory of its own.
type Daemon struct {
	// Dir is the configuration directory; state and socket are in it too.
	Dir string
	// Within is the named network namespace in which it runs; empty: that of whoever starts it.
	Within string

	binary string
	cmd    *exec.Cmd
	exited chan struct{}
	err    error

	mu  sync.Mutex
	log bytes.Buffer
}

// New writes the configuration below dir: routers maps a virtual router's name to the YAML
// of its file. Nothing runs yet.
func New(dir string, routers map[string]string) (*Daemon, error) {
	binary := os.Getenv(Binary)
	if binary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		binary = filepath.Join(filepath.Dir(self), "vrgate")
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("the vrgate binary: %w (set %s)", err, Binary)
	}
	d := &Daemon{Dir: dir, binary: binary}
	if err := os.MkdirAll(filepath.Join(dir, "vr"), 0o700); err != nil {
		return nil, err
	}
	if err := d.WriteProcess(""); err != nil {
		return nil, err
	}
	for name, text := range routers {
		if err := d.WriteRouter(name, text); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// WriteProcess writes the process's file; more are further keys, such as "default-router: office\n".
func (d *Daemon) WriteProcess(more string) error {
	text := fmt.Sprintf("log: {level: debug, format: json}\napi: {socket: %s}\nstate-dir: %s\nshutdown-timeout: 8s\n%s", d.socket(), filepath.Join(d.Dir, "state"), more)
	return os.WriteFile(filepath.Join(d.Dir, "vrgate.yaml"), []byte(text), 0o600)
}

// WriteRouter writes a virtual router's file.
func (d *Daemon) WriteRouter(name, text string) error {
	return os.WriteFile(filepath.Join(d.Dir, "vr", name+".yaml"), []byte(text), 0o600)
}

func (d *Daemon) socket() string { return filepath.Join(d.Dir, "api.sock") }

// Command prepares a vrgate command on this daemon's configuration.
func (d *Daemon) Command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, d.binary, append([]string{"--config", d.Dir}, args...)...)
}

// Run runs a vrgate command to its end and returns what it printed.
func (d *Daemon) Run(ctx context.Context, args ...string) (string, error) {
	out, err := d.Command(ctx, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("vrgate %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// Start runs the daemon and returns when it serves.
func (d *Daemon) Start(ctx context.Context) error {
	cmd := d.Command(context.WithoutCancel(ctx), "run")
	if d.Within != "" {
		cmd = exec.CommandContext(context.WithoutCancel(ctx), "ip", append([]string{"netns", "exec", d.Within}, cmd.Args...)...)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	d.exited, d.err = make(chan struct{}), nil
	ready, started := make(chan struct{}), make(chan error, 1)
	go func() {
		// Pdeathsig is about the thread that started the process, and threads that have been in
		// another namespace end before their time: this one stays as long as the daemon.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		d.read(out, ready)
		d.err = cmd.Wait()
		close(d.exited)
	}()
	if err := <-started; err != nil {
		return err
	}
	d.cmd = cmd
	select {
	case <-ready:
		return nil
	case <-d.exited:
		return fmt.Errorf("vrgate ended at once: %w: %s", errors.Join(d.err), d.Log())
	case <-ctx.Done():
		_ = d.Kill()
		return fmt.Errorf("vrgate does not serve: %w: %s", ctx.Err(), d.Log())
	}
}

// read keeps the log and closes ready at the line that says that the daemon serves.
func (d *Daemon) read(r io.Reader, ready chan struct{}) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		d.mu.Lock()
		d.log.Write(lines.Bytes())
		d.log.WriteByte('\n')
		d.mu.Unlock()
		var line struct {
			Msg string `json:"msg"`
		}
		if ready != nil && json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
			close(ready)
			ready = nil
		}
	}
}

// Log returns everything the daemon has logged, one JSON object a line.
func (d *Daemon) Log() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

// PID is the process's number.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Stop asks the daemon to end politely and waits for it; the error is its exit status.
func (d *Daemon) Stop(ctx context.Context) error {
	if d.cmd == nil {
		return nil
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.exited:
		return d.err
	case <-ctx.Done():
		return errors.Join(ctx.Err(), d.Kill())
	}
}

// Kill ends the daemon at once, as a crash would.
func (d *Daemon) Kill() error {
	if d.cmd == nil {
		return nil
	}
	err := d.cmd.Process.Kill()
	<-d.exited
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// API returns a client of the daemon's control API.
func (d *Daemon) API() *api.Client { return api.NewClient(d.socket()) }

// Metrics returns what the daemon's /metrics says, lines of its own counters only.
func (d *Daemon) Metrics(ctx context.Context) (string, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.socket())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://vrgate/metrics", nil)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "vrgate_") {
			out.WriteString(line)
		}
	}
	return out.String(), nil
}

// WaitLog returns when the log holds text, or when ctx ends.
func (d *Daemon) WaitLog(ctx context.Context, text string) error {
	for !strings.Contains(d.Log(), text) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("log never says %q: %w", text, ctx.Err())
		case <-d.exited:
			return fmt.Errorf("vrgate ended and its log never said %q", text)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}
