package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
)

// askAsSomebodyElse is the child process of TestPeerCredentials; it prints what
// it gets.
func askAsSomebodyElse(socket string) int {
	_, err := NewClient(socket).Health(context.Background())
	var e *Error
	switch {
	case err == nil:
		fmt.Print("ok")
	case errors.As(err, &e):
		fmt.Print(e.Reason)
	default:
		fmt.Print(err)
	}
	return 0
}

// TestPeerCredentials connects as other users and groups.
func TestPeerCredentials(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	// Another user has to reach the socket and this program.
	dir, err := os.MkdirTemp("", "vrgate-api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "test")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	const nobody, group = 65534, 54321
	many := make([]uint32, 200) // more than peerGroups asks for at first
	for i := range many {
		many[i] = uint32(100000 + i)
	}
	for name, test := range map[string]struct {
		group int
		mode  os.FileMode // 0 leaves what Listen chose
		cred  syscall.Credential
		want  string
	}{
		"root":                        {-1, 0, syscall.Credential{}, "ok"},
		"user, socket of root":        {-1, 0, syscall.Credential{Uid: nobody, Gid: nobody}, "no-permission"},
		"user, socket of the group":   {group, 0, syscall.Credential{Uid: nobody, Gid: nobody}, "no-permission"},
		"primary group":               {group, 0, syscall.Credential{Uid: nobody, Gid: group}, "ok"},
		"supplementary group":         {group, 0, syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{7, group}}, "ok"},
		"one of many groups":          {group, 0, syscall.Credential{Uid: nobody, Gid: nobody, Groups: append(many, group)}, "ok"},
		"open socket, wrong user":     {-1, 0o666, syscall.Credential{Uid: nobody, Gid: 0}, "forbidden"},
		"open socket, other group":    {group, 0o666, syscall.Credential{Uid: nobody, Gid: nobody, Groups: many}, "forbidden"},
		"group 0 is not everyone's":   {-1, 0o666, syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{0}}, "forbidden"},
		"open socket, the right user": {-1, 0o666, syscall.Credential{}, "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(dir, "s")
			access := Access{Group: test.group}
			l, err := access.Listen(socket)
			if err != nil {
				t.Fatal(err)
			}
			if test.mode != 0 {
				if err := os.Chmod(socket, test.mode); err != nil {
					t.Fatal(err)
				}
			}
			serve(t, NewServer(&fakeSource{}, access, "", zap.NewNop()), l)
			cmd := exec.CommandContext(t.Context(), program)
			cmd.Env = []string{"VRGATE_TEST_SOCKET=" + socket}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &test.cred}
			out, err := cmd.CombinedOutput()
			if err != nil || string(out) != test.want {
				t.Errorf("got %q, %v; want %q", out, err, test.want)
			}
		})
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	// A predecessor that was killed leaves its socket.
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	for _, test := range []struct {
		group int
		mode  os.FileMode
	}{{-1, 0o600}, {os.Getegid(), 0o660}} {
		l, err := Access{Group: test.group}.Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != test.mode {
			t.Errorf("group %d: mode %v, %v", test.group, info.Mode(), err)
		}
		if test.group >= 0 && int(info.Sys().(*syscall.Stat_t).Gid) != test.group {
			t.Errorf("group %d, want %d", info.Sys().(*syscall.Stat_t).Gid, test.group)
		}
		_ = l.Close()
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Access{Group: -1}).Listen(file); err == nil || !strings.Contains(err.Error(), "exists and is not a socket") {
		t.Errorf("a file in the way: %v", err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "precious" {
		t.Error("the file in the way has gone")
	}
	if _, err := (Access{Group: -1}).Listen(filepath.Join(dir, "no", "s")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

func TestAccessFor(t *testing.T) {
	for name, want := range map[string]int{"": -1, "0": 0, "54321": 54321, "root": 0} {
		if got, err := AccessFor(name); err != nil || got.Group != want {
			t.Errorf("%q: %v, %v; want %d", name, got, err, want)
		}
	}
	for _, name := range []string{"no-such-group-here", "-1", "4294967296"} {
		if got, err := AccessFor(name); err == nil {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// TestUnknownPeer: a request that did not come through Run, or through something
// other than a socket, is nobody's.
func TestUnknownPeer(t *testing.T) {
	if err := allowed(context.Background()); err == nil {
		t.Error("a request without a peer is allowed")
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if v := (Access{Group: 0}).check(a); v.err == nil {
		t.Error("a pipe is allowed")
	}
}

func TestClientErrors(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	for _, socket := range []string{filepath.Join(dir, "nowhere"), dead} {
		_, err := NewClient(socket).Health(t.Context())
		var e *Error
		if !errors.As(err, &e) || e.Reason != ReasonNotRunning || !strings.Contains(e.Text, socket) {
			t.Errorf("%s: %#v", socket, err)
		}
	}
}
