package arch

import (
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// rules by name.
var rules = []struct {
	name  string
	check func(*tree) []string
}{
	{"top level", fixedTopLevel},
	{"imports point down", importsPointDown},
	{"netlink at the edge", netlinkAtTheEdge},
	{"engines are pure", enginesArePure},
	{"package comments", packageComments},
	{"formatted", formatted},
	{"file sizes", fileSizes},
	{"package names", packageNames},
	{"no replace", noReplace},
}

// repositoryTree parses this repository, once.
var repositoryTree = sync.OnceValues(func() (*tree, error) { return load(os.DirFS("../..")) })

// TestRepository holds every rule against this repository.
func TestRepository(t *testing.T) {
	repository, err := repositoryTree()
	if err != nil {
		t.Fatal(err)
	}
	if len(repository.files) < 100 {
		t.Fatalf("only %d files found: the rules looked in the wrong place", len(repository.files))
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) { assertNone(t, r.check(repository)) })
	}
}

// TestTablesAreUsed keeps the tables of rules from naming packages that have gone.
func TestTablesAreUsed(t *testing.T) {
	repository, err := repositoryTree()
	if err != nil {
		t.Fatal(err)
	}
	_, files := repository.packages()
	gone := func(table, dir string) {
		if files[dir] == nil {
			t.Errorf("%s names %s, which does not exist", table, dir)
		}
	}
	for dir := range mayImport {
		gone("mayImport", dir)
	}
	for _, dir := range kernelPackages {
		gone("kernelPackages", dir)
	}
	for _, dir := range purePackages {
		gone("purePackages", dir)
	}
	for _, with := range pureFiles {
		if !slices.ContainsFunc(repository.files, func(f *file) bool { return strings.HasPrefix(f.path, with) }) {
			t.Errorf("pureFiles names %s…, and no file begins so", with)
		}
	}
}

// good is a tree that keeps every rule.
func good() fstest.MapFS {
	fsys := fstest.MapFS{
		"go.mod":                        {Data: []byte("module vrgate\n\ngo 1.26\n")},
		"cmd/vrgate/doc.go":             {Data: []byte("// Command vrgate.\npackage main\n")},
		"controlplane/pool/doc.go":      {Data: []byte("// Package pool.\npackage pool\n")},
		"controlplane/pool/lease.go":    {Data: []byte("package pool\n\nimport \"net/netip\"\n\nvar zero netip.Addr\n")},
		"controlplane/pool/x_test.go":   {Data: []byte("package pool\n\nimport (\n\t\"os\"\n\t\"vrgate/controlplane\"\n)\n")},
		"controlplane/doc.go":           {Data: []byte("// Package controlplane.\npackage controlplane\n\nimport \"vrgate/controlplane/pool\"\n")},
		"vr/doc.go":                     {Data: []byte("// Package vr.\npackage vr\n\nimport \"github.com/vishvananda/netlink\"\n")},
		"test/peer/doc.go":              {Data: []byte("// Package peer.\npackage peer\n\nimport \"vrgate/controlplane\"\n")},
		"controlplane/testdata/skip.go": {Data: []byte("not Go")},
		".ci/run":                       {}, "bin/vrgate": {},
	}
	for _, name := range topLevel {
		if !strings.Contains(name, ".") && name != "Makefile" {
			name += "/.keep"
		}
		if fsys[name] == nil {
			fsys[name] = &fstest.MapFile{}
		}
	}
	return fsys
}

// TestRulesFind breaks each rule in each way and wants that complaint and no other.
func TestRulesFind(t *testing.T) {
	long := "package pool\n" + strings.Repeat("\n// line\n", maxLines/2+1)
	for _, tc := range []struct {
		name, path, source string // source "-" removes the file
		want               string // "" for nothing
	}{
		{name: "nothing wrong"},
		{"stray file at the top", "notes.txt", "", "notes.txt: the top level is fixed"},
		{"stray directory at the top", "internal/x.txt", "", "internal: the top level is fixed"},
		{"README missing", "README.md", "-", "README.md: missing"},
		{"upwards", "controlplane/pool/up.go", "package pool\n\nimport \"vrgate/controlplane\"\n", "controlplane/pool/up.go:3: controlplane/pool must not import controlplane"},
		{"kernel package in the control plane", "controlplane/up.go", "package controlplane\n\nimport \"vrgate/vr\"\n", "controlplane must not import vr"},
		{"test code in the daemon", "controlplane/up.go", "package controlplane\n\nimport \"vrgate/test/peer\"\n", "vrgate/test/peer is test code"},
		{"command imported, even by tests", "test/peer/up.go", "package peer\n\nimport \"vrgate/cmd/vrgate\"\n", "nobody imports cmd"},
		{"package without a line", "controlplane/archive/doc.go", "// Package store.\npackage store\n", "controlplane/archive: say in mayImport"},
		{"netlink elsewhere", "controlplane/nl.go", "package controlplane\n\nimport \"github.com/mdlayher/netlink\"\n", "only [xfrm l2tpnl pppd/unit vr] import"},
		{"nftables elsewhere", "controlplane/nft.go", "package controlplane\n\nimport \"github.com/google/nftables/expr\"\n", "only [xfrm l2tpnl pppd/unit vr] import"},
		{"sockets in an engine", "controlplane/pool/n.go", "package pool\n\nimport \"net\"\n", "pure and must not import net"},
		{"logger in an engine", "controlplane/pool/n.go", "package pool\n\nimport \"go.uber.org/zap/zapcore\"\n", "pure and must not import go.uber.org/zap/zapcore"},
		{"randomness in an engine", "controlplane/pool/n.go", "package pool\n\nimport \"math/rand/v2\"\n", "pure and must not import math/rand/v2"},
		{"clock in an engine", "controlplane/pool/n.go", "package pool\n\nimport \"time\"\n\nvar now = time.Now()\n", "must not use time.Now"},
		{"clock by another name", "controlplane/pool/n.go", "package pool\n\nimport clock \"time\"\n\nvar now = clock.Since\n", "must not use time.Since"},
		{"durations in an engine", "controlplane/pool/n.go", "package pool\n\nimport \"time\"\n\nvar d time.Duration = time.Second\n", ""},
		{"goroutine in an engine", "controlplane/pool/n.go", "package pool\n\nfunc f() { go f() }\n", "starts no goroutine"},
		{"channel in an engine", "controlplane/pool/n.go", "package pool\n\ntype t struct{ c chan int }\n", "has no channel"},
		{"goroutine in an engine beside its shell", "controlplane/aaa/radius/engine_x.go", "// Package radius.\npackage radius\n\nfunc f() { go f() }\n", "starts no goroutine"},
		{"goroutine in a shell", "controlplane/aaa/radius/client.go", "// Package radius.\npackage radius\n\nfunc f() { go f() }\n", ""},
		{"no package comment", "vr/doc.go", "package vr\n", "vr: wants one package comment outside tests, has it in []"},
		{"two package comments", "vr/x.go", "// Package vr.\npackage vr\n", "has it in [vr/doc.go vr/x.go]"},
		{"not formatted", "vr/x.go", "package vr\n\nvar  x int\n", "vr/x.go: not formatted"},
		{"long file", "controlplane/pool/long.go", long, "controlplane/pool/long.go: 80"},
		{"long test", "controlplane/pool/long_test.go", long, ""},
		{"empty name", "test/util/doc.go", "// Package util.\npackage util\n", `test/util: "util" does not say`},
		{"empty name in hiding", "test/peer/x/doc.go", "// Package common.\npackage common\n", `test/peer/x: "common" does not say`},
		{"replace", "go.mod", "module vrgate\n\nreplace a => b v1.0.0\n", "go.mod:3: no replace"},
		{"replace block", "go.mod", "module vrgate\n\nreplace (\n\ta => b v1.0.0\n)\n", "go.mod:3: no replace"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fsys := good()
			switch {
			case tc.source == "-":
				delete(fsys, tc.path)
			case tc.path != "":
				fsys[tc.path] = &fstest.MapFile{Data: []byte(tc.source)}
			}
			parsed, err := load(fsys)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range rules {
				got = append(got, r.check(parsed)...)
			}
			switch {
			case tc.want == "" && len(got) > 0:
				t.Errorf("complaints about a good tree: %q", got)
			case tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)):
				t.Errorf("got %q, want one complaint with %q", got, tc.want)
			}
		})
	}
}
