package controlplane_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"vrgate/controlplane/config"
	"vrgate/controlplane/keymat"
	"vrgate/test/peer"
)

const readme = "../README.md"

func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestReadmeConfiguration puts the README's YAML into a directory, each block by the name in
// its first line, and connects the users that it describes.
func TestReadmeConfiguration(t *testing.T) {
	files := map[string]string{}
	for _, m := range regexp.MustCompile("(?ms)^```yaml\n# (\\S+)\n(.*?)^```").FindAllStringSubmatch(readText(t, readme), -1) {
		files[m[1]] = m[2]
	}
	if n := strings.Count(readText(t, readme), "```yaml"); len(files) != 7 || n != 7 {
		t.Fatalf("%d YAML blocks, %d of them with the name of a file", n, len(files))
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "vr"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, warnings, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		inClear := strings.HasSuffix(w.Pos.File, "lns.yaml") && w.Message == "tunnels in clear text are accepted" // as LACs want it
		if !strings.Contains(w.Message, "whoever knows the group key") && !inClear {                              // true of every group key
			t.Errorf("warning: %+v", w)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, cfg)
		for i, c := range []struct{ router, server, key, user, password, address string }{
			{"office", "192.0.2.1", "9fJ2v0sXn8mQ4rT6yB1kLw3Z", "alice", "correct horse battery staple", "10.20.0.2"},
			{"office", "192.0.2.1", "9fJ2v0sXn8mQ4rT6yB1kLw3Z", "bob", "staple battery horse correct", "10.20.0.200"},
			{"tenant", "198.51.100.1", "mM0c2Qe8Rk5uPz7HbT1xVd4N", "alice", "a password of her own", "10.20.0.2"},
			{"lns", "203.0.113.17", "Lf3Vd8QyN6wUz1RbK5hM0pXt", "judy", "the password of judy", "10.80.0.2"},
			{"branch", "203.0.113.9", "b8RkT2mYw5Zq0LxVn3Js6HdC", "heidi", "the password of heidi", "10.70.8.1"}, // no server answers
		} {
			s := w.connect(c.router, c.user, netip.AddrFrom4([4]byte{198, 18, 0, byte(i + 1)}).String(), func(p *peer.Config) {
				p.Server, p.Key, p.Password = netip.MustParseAddr(c.server), keymat.Secret(c.key), keymat.Secret(c.password)
			})
			if a := s.assertUp(); a.String() != c.address {
				t.Errorf("%s of %s got %v, want %s", c.user, c.router, a, c.address)
			}
		}
		if err := w.finish(); err != nil {
			t.Error(err)
		}
	})
}

// TestReadmeReasons: every reason that the README explains is one that the daemon can give.
func TestReadmeReasons(t *testing.T) {
	table := ""
	for _, head := range []string{"| reason | what it means |", "| reason of a tunnel | what to do |"} {
		_, rest, ok := strings.Cut(readText(t, readme), head)
		if !ok {
			t.Fatalf("the README has no table %s", head)
		}
		rest, _, _ = strings.Cut(rest, "\n\n")
		table += rest + "\n"
	}
	known := map[string]bool{}
	for _, dir := range []string{".", "../pppd", "../cmd"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if s, err := strconv.Unquote(lit.Value); err == nil {
						known[s] = true
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	count := 0
	for line := range strings.Lines(table) {
		first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(first, -1) {
			count++
			if !known[m[1]] {
				t.Errorf("no code gives the reason %q", m[1])
			}
		}
	}
	if count < 15 {
		t.Errorf("only %d reasons found", count)
	}
}

// TestReadmeNames: modules, make targets and folders are those that exist.
func TestReadmeNames(t *testing.T) {
	text := readText(t, readme)
	var modules []string
	for line := range strings.Lines(readText(t, "../deploy/modules-load.conf")) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			modules = append(modules, line)
		}
	}
	if want := strings.Join(modules, " "); !strings.Contains(text, "\n"+want+"\n") {
		t.Errorf("the README's modules are not those of deploy/modules-load.conf: %s", want)
	}
	makefile := readText(t, "../Makefile")
	targets := regexp.MustCompile(`\bmake ([a-z]+)\b`).FindAllStringSubmatch(text, -1)
	for _, m := range targets {
		if !strings.Contains(makefile, "\n"+m[1]+":") {
			t.Errorf("the Makefile has no target %q", m[1])
		}
	}
	_, table, _ := strings.Cut(text, "| folder | what is there |")
	var folders []string
	for line := range strings.Lines(table) {
		first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		base := ""
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(first, -1) {
			folder := m[1]
			if _, err := os.Stat(filepath.Join("..", folder)); err != nil {
				folder = filepath.Join(base, folder) // a neighbour of the one before
			}
			if _, err := os.Stat(filepath.Join("..", folder)); err != nil {
				t.Errorf("no folder %q", m[1])
			}
			base = filepath.Dir(folder)
			folders = append(folders, folder)
		}
	}
	for _, want := range []string{"cmd/vrgate", "controlplane", "controlplane/keymat", "controlplane/pool", "controlplane/site", "deploy", "l2tpnl", "pppd/unit", "test", "vr", "xfrm"} {
		if !slices.Contains(folders, want) {
			t.Errorf("the README does not say what is in %s", want)
		}
	}
	if len(targets) < 4 || bytes.Contains([]byte(text), []byte("TODO")) {
		t.Error("the README is not complete")
	}
}
