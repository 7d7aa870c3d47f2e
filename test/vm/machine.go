package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	_ "embed"

	"golang.org/x/sys/unix"
)

//go:embed init.sh
var initScript []byte

//go:embed guest.sh
var guestScript []byte

// bootLimit is how long a machine may take to its first command. It takes 5 s on two idle cores; ten machines
// on two cores still fit.
const bootLimit = 3 * time.Minute

// errTimeout says that the command was still running at the time limit.
var errTimeout = errors.New("time limit reached")

// exitError is the command's exit status, other than 0.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// machine is one run of one command in a fresh virtual machine.
type machine struct {
	image       image
	kernel      kernel
	memory      int // MiB
	cpus        int
	timeout     time.Duration
	shares      []string // absolute directories; the first is the working directory
	environment []string
	command     []string
	stdout      io.Writer
	stderr      io.Writer
	console     io.Writer // the kernel's console, live; nil to keep it for failures only
	log         io.Writer // what the machine does; nil for nothing
}

// run boots, runs the command and waits for power off. It returns nil for exit status 0, an exitError for
// another, errTimeout, errFrozen, or what went wrong with the machine. Nothing remains of it under base.
func (m *machine) run(ctx context.Context, base string) error {
	// The parent-death signal is tied to the thread that starts QEMU, not to the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	ctx, cancel := context.WithTimeoutCause(ctx, m.timeout, fmt.Errorf("%w after %v", errTimeout, m.timeout))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	dir, done, err := scratch(ctx, base)
	if err != nil {
		return err
	}
	defer done()
	control := filepath.Join(dir, "control")
	if err := m.prepare(dir, control); err != nil {
		return err
	}
	_ = os.Chtimes(m.image.dir, time.Now(), time.Now()) // removeOld spares it

	var ports sync.WaitGroup
	var serial tail
	console := io.Writer(&serial)
	if m.console != nil {
		console = io.MultiWriter(&serial, m.console)
	}
	var files []*os.File
	for _, to := range []io.Writer{m.stdout, m.stderr, console} {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer r.Close()
		defer w.Close()
		files = append(files, w)
		ports.Go(func() { _, _ = io.Copy(to, r) })
	}

	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", m.arguments(dir, control)...)
	cmd.SysProcAttr = ownGroup()
	cmd.ExtraFiles = files
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting QEMU (`make deps` installs it): %w", err)
	}
	for _, w := range files {
		w.Close() // the readers end when QEMU does
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	go watchFrozen(ctx, cmd.Process.Pid, frozenAfter, stop)

	booted := m.awaitBoot(ctx, control, start, exited)
	var waitErr error
	if booted.err == nil && !booted.exited {
		waitErr = <-exited
	} else {
		cancel()
		if !booted.exited {
			waitErr = <-exited
		}
	}
	ports.Wait()

	status, err := exitStatus(control)
	switch {
	case err == nil:
		m.logf("vm: %s: command ended with status %d after %.1f s", m.kernel.release, status, time.Since(booted.at).Seconds())
		if status != 0 {
			return exitError(status)
		}
		return nil
	case booted.err != nil:
		err = booted.err
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	default:
		err = errors.Join(errors.New("the machine stopped without telling the command's exit status"), waitErr)
	}
	if text := strings.TrimSpace(complaints.String()); text != "" {
		err = fmt.Errorf("%w\nQEMU says: %s", err, text)
	}
	return fmt.Errorf("%w\nend of the console:\n%s", err, serial.String())
}

// boot is how far a machine came.
type boot struct {
	at     time.Time // when the command started
	exited bool      // QEMU is gone, and has been waited for
	err    error
}

// awaitBoot waits until the guest says that it starts the command.
func (m *machine) awaitBoot(ctx context.Context, control string, start time.Time, exited <-chan error) boot {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(bootLimit)
	defer limit.Stop()
	for {
		select {
		case err := <-exited:
			if _, startErr := os.Stat(filepath.Join(control, "started")); startErr == nil {
				return boot{at: start, exited: true}
			}
			return boot{exited: true, err: errors.Join(errors.New("the machine did not boot"), err, context.Cause(ctx))}
		case <-limit.C:
			return boot{err: fmt.Errorf("the machine did not boot within %v", bootLimit)}
		case <-tick.C:
			if _, err := os.Stat(filepath.Join(control, "started")); err == nil {
				m.logf("vm: %s: booted in %.1f s", m.kernel.release, time.Since(start).Seconds())
				return boot{at: time.Now()}
			}
		}
	}
}

// exitStatus reads what the guest left at the end of the command.
func exitStatus(control string) (int, error) {
	b, err := os.ReadFile(filepath.Join(control, "status"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// prepare writes the initramfs and the control folder.
func (m *machine) prepare(dir, control string) error {
	if err := os.Mkdir(control, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"command": commandScript(m.environment, m.shares[0], m.command),
		"shares":  strings.Join(m.shares, "\n") + "\n",
	} {
		if err := os.WriteFile(filepath.Join(control, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return m.writeInitramfs(filepath.Join(dir, "initramfs"))
}

// writeInitramfs makes the first root: busybox, the modules that reach the disk, and init.sh.
func (m *machine) writeInitramfs(path string) error {
	busybox, err := staticBusybox()
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	archive := cpioWriter{w: f}
	for _, d := range []string{"bin", "dev", "proc", "sys", "modules", "image", "rw", "root"} {
		archive.dir(d)
	}
	archive.file("bin/busybox", busybox)
	// Without applet links: the first lines of init make them.
	archive.file("init", append([]byte("#!/bin/busybox sh\n/bin/busybox --install -s /bin\nexport PATH=/bin\n"), initScript...))
	archive.file("guest.sh", guestScript)
	for _, module := range m.kernel.modules {
		b, err := os.ReadFile(module)
		if err != nil {
			return err
		}
		archive.file("modules/"+filepath.Base(module), b)
	}
	if err := archive.close(); err != nil {
		return err
	}
	return f.Close()
}

func staticBusybox() ([]byte, error) {
	for _, dir := range []string{"/bin", "/usr/bin"} {
		if b, err := os.ReadFile(filepath.Join(dir, "busybox")); err == nil {
			return b, nil
		}
	}
	return nil, errors.New("no busybox (`make deps` installs busybox-static)")
}

// arguments returns QEMU's command line. Descriptors 3, 4 and 5 are the command's output, its errors, and the
// kernel's console.
func (m *machine) arguments(dir, control string) []string {
	args := []string{
		"-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
		"-machine", "q35,vmport=off,hpet=off",
		// Software emulation: /dev/kvm, where it exists on build machines, hangs stock kernels. In one thread: with
		// one for each processor, one of them sometimes ran code that the other had just patched (Linux's static
		// keys) as it was before, and the kernel died of "Oops: int3" or stood still.
		"-accel", "tcg,thread=single,tb-size=512",
		// Without the features that say that REP MOVSB and REP STOSB are fast: here they go byte by byte.
		"-cpu", "max,la57=off,erms=off,fsrm=off",
		"-smp", strconv.Itoa(m.cpus), "-m", strconv.Itoa(m.memory),
		"-kernel", m.kernel.image, "-initrd", filepath.Join(dir, "initramfs"),
		// Programs at the same addresses each time they start: then the emulator has translated them already. The
		// TSC even where a busy host was late for the kernel's comparison with other clocks, all of which are
		// slow devices here: each look at the time would be a system call and leave the translated code. No huge
		// pages: the emulator's TLB forgets everything, instead of one page, while it has seen one of user space;
		// nor pages cleared before anybody wants them clear.
		"-append", "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr norandmaps tsc=reliable transparent_hugepage=never init_on_alloc=0 random.trust_cpu=on audit=0 cryptomgr.notests=1 net.ifnames=0",
		"-chardev", "file,id=console,path=/dev/fd/5", "-serial", "chardev:console",
		"-drive", "file=" + m.image.root() + ",if=virtio,format=raw,readonly=on,cache=unsafe",
		"-device", "virtio-serial-pci",
		"-chardev", "file,id=stdout,path=/dev/fd/3", "-device", "virtserialport,chardev=stdout,name=stdout",
		"-chardev", "file,id=stderr,path=/dev/fd/4", "-device", "virtserialport,chardev=stderr,name=stderr",
	}
	share := func(tag, path string) {
		args = append(args, "-virtfs", fmt.Sprintf("local,path=%s,mount_tag=%s,security_model=none,multidevs=remap", path, tag))
	}
	share("control", control)
	for i, s := range m.shares {
		share(fmt.Sprintf("share%d", i), s)
	}
	return args
}

func (m *machine) logf(format string, args ...any) {
	if m.log != nil {
		fmt.Fprintf(m.log, format+"\n", args...)
	}
}

// ownGroup makes a child that dies with the thread that starts it, and that a terminal's interrupt does not
// reach: this process ends it in its own order.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// scratch makes a directory for one run and returns what removes it. A lock held while the process lives lets
// the next run tell and remove what a killed one left.
func scratch(ctx context.Context, base string) (dir string, done func(), err error) {
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", nil, err
	}
	unlock, err := lock(ctx, filepath.Join(base, "lock"))
	if err != nil {
		return "", nil, err
	}
	defer unlock()
	entries, err := os.ReadDir(base)
	if err != nil {
		return "", nil, err
	}
	for _, e := range entries {
		old := filepath.Join(base, e.Name())
		f, err := os.Open(filepath.Join(old, "lock"))
		if err != nil {
			continue // being removed by its owner
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.RemoveAll(old)
		}
		f.Close()
	}
	if dir, err = os.MkdirTemp(base, "vm-*"); err != nil {
		return "", nil, err
	}
	f, err := os.Create(filepath.Join(dir, "lock"))
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		os.RemoveAll(dir)
		return "", nil, err
	}
	return dir, func() {
		os.RemoveAll(dir)
		f.Close()
	}, nil
}

// quote makes one word of the shell from any text.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	data []byte
}

// tailSize is how much of the console a failure shows.
const tailSize = 6 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, b...)
	if len(t.data) > 2*tailSize {
		t.data = append([]byte(nil), t.data[len(t.data)-tailSize:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.data[max(0, len(t.data)-tailSize):])
}
