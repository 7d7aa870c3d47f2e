package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMirrorIn(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"one line", "deb http://archive.example/debian bookworm main\n", "http://archive.example/debian"},
		{"options", "deb [arch=amd64 signed-by=/k.gpg] http://archive.example/debian trixie main contrib\n", "http://archive.example/debian"},
		{"other suites", "# deb http://no.example/debian bookworm main\ndeb-src http://no.example/debian bookworm main\ndeb http://no.example/debian-security bookworm-security main\n", ""},
		{"cut short", "deb [arch=amd64\ndeb\ndeb [x] http://no.example\n", ""},
		{"stanza", "Types: deb\n# URIs: http://no.example\nURIs: http://archive.example/debian\nSuites: bookworm bookworm-updates\n", "http://archive.example/debian"},
		{"stanza, suites first", "Suites: sid\nURIs: http://archive.example/debian\n", "http://archive.example/debian"},
		{"two stanzas", "URIs: http://no.example/vendor\nSuites: nodistro\n\nSuites: bookworm\nURIs: http://archive.example/debian\n", "http://archive.example/debian"},
		{"stanzas do not mix", "URIs: http://no.example/vendor\n\nSuites: bookworm\n", ""},
	} {
		if got := mirrorIn(strings.NewReader(c.text)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// The archive must be one that an independent unpacker accepts.
func TestCPIO(t *testing.T) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal("no busybox: `make deps` installs it")
	}
	var b bytes.Buffer
	archive := cpioWriter{w: &b}
	archive.dir("a")
	archive.file("a/odd", []byte("12345"))
	archive.file("a/empty", nil)
	archive.file("a/even", []byte("12345678"))
	if err := archive.close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	unpack := exec.Command(busybox, "cpio", "-i")
	unpack.Dir, unpack.Stdin = dir, &b
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, want := range map[string]string{"odd": "12345", "empty": "", "even": "12345678"} {
		got, err := os.ReadFile(filepath.Join(dir, "a", name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestKernelByVersion(t *testing.T) {
	img := image{dir: t.TempDir()}
	for _, release := range []string{"6.1.0-50-amd64", "6.12.95+deb12-amd64"} {
		if err := os.MkdirAll(filepath.Join(img.dir, "kernels", release), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for version, want := range map[string]string{"6.1": "6.1.0-50-amd64", "6.12": "6.12.95+deb12-amd64", "6.1.0-50-amd64": "6.1.0-50-amd64"} {
		if k, err := img.kernel(version); err != nil || k.release != want {
			t.Errorf("%s: %s, %v; want %s", version, k.release, err, want)
		}
	}
	if _, err := img.kernel("7.0"); err == nil || !strings.Contains(err.Error(), "6.12.95") {
		t.Errorf("error %v, want one that lists what there is", err)
	}
}

func TestResolveShares(t *testing.T) {
	dir := t.TempDir()
	got, err := resolveShares([]string{dir}, "true")
	if err != nil || len(got) != 1 || got[0] != dir {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"/", "/usr/share", "/tmp", dir + "/missing", "vm_test.go"} {
		if got, err := resolveShares([]string{bad}, "true"); err == nil {
			t.Errorf("share %s accepted as %q", bad, got)
		}
	}
	// As go test -exec: the command's directory comes along.
	program := filepath.Join(dir, "x.test")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := resolveShares(nil, program); err != nil || len(got) != 2 || got[1] != dir {
		t.Errorf("%q, %v", got, err)
	}
}

// The shell that runs the command must see the words that were given.
func TestCommandScript(t *testing.T) {
	dir := t.TempDir()
	script := commandScript([]string{"A=it's $HOME"}, dir, []string{"printf", "%s|", "$A", "two words", "it's", "`id`", ""})
	out, err := exec.Command("sh", "-c", script+"\n").Output()
	if want := "$A|two words|it's|`id`||"; err != nil || string(out) != want {
		t.Errorf("%q, %v; want %q", out, err, want)
	}
	out, err = exec.Command("sh", "-c", commandScript([]string{"A=it's $HOME"}, dir, []string{"sh", "-c", `printf %s "$A"; pwd`})).Output()
	if want := "it's $HOME" + dir + "\n"; err != nil || string(out) != want {
		t.Errorf("%q, %v; want %q", out, err, want)
	}
}

func TestTail(t *testing.T) {
	var l tail
	for range 5 * tailSize / 10 {
		if n, err := l.Write([]byte("123456789\n")); n != 10 || err != nil {
			t.Fatal(n, err)
		}
	}
	l.Write([]byte("end\n"))
	if s := l.String(); len(s) != tailSize || !strings.HasSuffix(s, "9\nend\n") {
		t.Errorf("%d bytes, ending %q", len(s), s[len(s)-10:])
	}
}

// A killed run's directory goes with the next run; a living one's stays.
func TestScratch(t *testing.T) {
	base := filepath.Join(t.TempDir(), "run")
	first, done, err := scratch(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	killed := filepath.Join(base, "vm-killed")
	if err := os.MkdirAll(killed, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(killed, "lock"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, doneToo, err := scratch(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	defer doneToo()
	if _, err := os.Stat(killed); !os.IsNotExist(err) {
		t.Errorf("what a killed run left is still there: %v", err)
	}
	if _, err := os.Stat(first); err != nil {
		t.Errorf("a living run's directory: %v", err)
	}
	done()
	if _, err := os.Stat(first); !os.IsNotExist(err) {
		t.Errorf("a finished run's directory is still there: %v", err)
	}
}

// Two processes never build at once, and one that waits can be interrupted.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, path); err == nil {
		t.Fatal("locked twice")
	}
	unlock()
	again, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestPackages(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages() {
		if p == "" || strings.ContainsAny(p, " #,\t") || seen[p] {
			t.Errorf("package %q", p)
		}
		seen[p] = true
	}
	if !seen["xl2tpd"] || !seen["ppp"] {
		t.Error("packages.txt was not read")
	}
}
