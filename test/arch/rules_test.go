package arch

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"io/fs"
	"slices"
	"strings"
)

// topLevel is everything that may and must be at the top beside dotfiles (design.md, Tree).
var topLevel = []string{
	"Makefile", "README.md", "cmd", "controlplane", "deploy", "go.mod", "go.sum", "l2tpnl", "pppd", "test", "vr", "xfrm",
}

// buildOutput is where make puts the binary; git ignores it.
const buildOutput = "bin"

func fixedTopLevel(t *tree) []string {
	entries, err := fs.ReadDir(t.fsys, ".")
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	found := map[string]bool{}
	for _, e := range entries {
		name := e.Name()
		found[name] = true
		if !strings.HasPrefix(name, ".") && name != buildOutput && !slices.Contains(topLevel, name) {
			out = append(out, fmt.Sprintf("%s: the top level is fixed; put it below one of %v", name, topLevel))
		}
	}
	for _, name := range topLevel {
		if !found[name] {
			out = append(out, name+": missing at the top level")
		}
	}
	return out
}

// mayImport lists, for every package of ours, the packages of ours that it may import
// outside test code. An entry ending in /... stands for a package and all below it.
// Imports point down: what is not in the line of a package is above it or beside it.
var mayImport = map[string][]string{
	"cmd/vrgate":                  {"cmd/vrgate/kernel", "controlplane", "controlplane/api", "controlplane/config", "controlplane/store"},
	"cmd/vrgate/kernel":           {"controlplane/...", "xfrm", "l2tpnl", "vr", "pppd", "pppd/unit"},
	"controlplane":                {"controlplane/...", "pppd"},
	"controlplane/aaa":            {"controlplane/keymat", "pppd"},
	"controlplane/aaa/accounting": {"controlplane/aaa", "controlplane/deadline", "controlplane/store", "controlplane/subscriber"},
	"controlplane/aaa/coa":        {"controlplane/aaa", "controlplane/aaa/radius", "controlplane/keymat"},
	"controlplane/aaa/radius":     {"controlplane/aaa", "controlplane/keymat"},
	"controlplane/api":            {},
	"controlplane/config":         {},
	"controlplane/deadline":       {},
	"controlplane/ike":            {"controlplane/deadline", "controlplane/isakmp", "controlplane/keymat"},
	"controlplane/isakmp":         {},
	"controlplane/isakmp/offers":  {"controlplane/isakmp"},
	"controlplane/keymat":         {},
	"controlplane/l2tp":           {"controlplane/deadline", "controlplane/keymat"},
	"controlplane/pool":           {},
	"controlplane/pki":            {"controlplane/isakmp"},
	"controlplane/site":           {"controlplane/deadline"},
	"controlplane/store":          {},
	"controlplane/subscriber":     {"controlplane/aaa", "controlplane/deadline", "controlplane/keymat", "pppd"},
	"l2tpnl":                      {"vr/..."},
	"pppd":                        {},
	"pppd/unit":                   {"vr/..."},
	"vr":                          {"vr/nlattr"},
	"vr/nlattr":                   {},
	"xfrm":                        {"vr/..."},
}

func importsPointDown(t *tree) []string {
	var out []string
	untold := map[string]bool{}
	for _, f := range t.files {
		allowed, known := mayImport[f.dir]
		if !known && !f.testCode() && !untold[f.dir] {
			untold[f.dir] = true
			out = append(out, fmt.Sprintf("%s: say in mayImport which packages it may import", f.dir))
		}
		for _, i := range f.imports() {
			dir, ours := i.ours()
			switch {
			case !ours:
			case within(dir, "cmd") && !within(f.dir, "cmd"):
				out = append(out, f.complaint(i.at, "nobody imports cmd"))
			case f.testCode(): // exempt, and may reach anything
			case within(dir, "test"):
				out = append(out, f.complaint(i.at, "%s is test code", i.path))
			case known && !covers(allowed, dir):
				out = append(out, f.complaint(i.at, "%s must not import %s", f.dir, dir))
			}
		}
	}
	return out
}

func covers(allowed []string, dir string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool {
		below, all := strings.CutSuffix(a, "/...")
		return a == dir || all && within(dir, below)
	})
}

// kernelPackages alone speak netlink.
var kernelPackages = []string{"xfrm", "l2tpnl", "pppd/unit", "vr"}

// netlinkModules are the libraries that do.
var netlinkModules = []string{"github.com/vishvananda", "github.com/mdlayher", "github.com/google/nftables"}

func netlinkAtTheEdge(t *tree) []string {
	var out []string
	for _, f := range t.files {
		if f.testCode() || slices.Contains(kernelPackages, f.dir) {
			continue
		}
		for _, i := range f.imports() {
			if slices.ContainsFunc(netlinkModules, func(m string) bool { return within(i.path, m) }) {
				out = append(out, f.complaint(i.at, "only %v import %s", kernelPackages, i.path))
			}
		}
	}
	return out
}

// purePackages are values and functions: time and randomness are given to them, and what
// they want done they return. So they can be simulated, replayed, fuzzed and stored.
var purePackages = []string{
	"controlplane/isakmp", "controlplane/isakmp/offers", "controlplane/keymat", "controlplane/deadline", "controlplane/ike", "controlplane/l2tp",
	"controlplane/subscriber", "controlplane/site", "controlplane/pool", "pppd",
}

// pureFiles begin with these: engines that share a package with their shell.
var pureFiles = []string{"controlplane/aaa/radius/engine", "controlplane/aaa/radius/packet"}

// impureImports reach outside; an entry stands for what is below it too. net/netip is a
// value package and fine.
var impureImports = []string{
	"bufio", "context", "crypto/rand", "database", "embed", "expvar", "flag", "go.uber.org/zap", "golang.org/x/net", "golang.org/x/sys", "golang.org/x/sync",
	"io/fs", "io/ioutil", "log", "math/rand", "net/http", "net/mail", "net/rpc", "net/smtp", "net/textproto", "os", "path/filepath",
	"runtime", "sync/atomic", "syscall", "testing", "unsafe",
}

// clock is what reads or waits for the wall clock.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Local", "LoadLocation"}

func enginesArePure(t *tree) []string {
	var out []string
	for _, f := range t.files {
		begins := func(with string) bool { return strings.HasPrefix(f.path, with) }
		if f.test || !slices.Contains(purePackages, f.dir) && !slices.ContainsFunc(pureFiles, begins) {
			continue
		}
		timeName := ""
		for k, i := range f.imports() {
			if i.path == "net" || slices.ContainsFunc(impureImports, func(m string) bool { return within(i.path, m) }) {
				out = append(out, f.complaint(i.at, "%s is pure and must not import %s", f.dir, i.path))
			}
			if i.path == "time" {
				timeName = "time"
				if n := f.syntax.Imports[k].Name; n != nil {
					timeName = n.Name
				}
			}
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				out = append(out, f.complaint(n.Pos(), "%s is pure and starts no goroutine", f.dir))
			case *ast.ChanType:
				out = append(out, f.complaint(n.Pos(), "%s is pure and has no channel", f.dir))
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && timeName != "" && x.Name == timeName && slices.Contains(clock, n.Sel.Name) {
					out = append(out, f.complaint(n.Pos(), "%s is pure and is told the time; it must not use time.%s", f.dir, n.Sel.Name))
				}
			}
			return true
		})
	}
	return out
}

// packageComments wants one per package: two would be put together in the order of file names.
func packageComments(t *tree) []string {
	var out []string
	dirs, files := t.packages()
	for _, dir := range dirs {
		var in []string
		for _, f := range files[dir] {
			if strings.TrimSpace(f.syntax.Doc.Text()) != "" {
				in = append(in, f.path)
			}
		}
		if len(in) != 1 || strings.HasSuffix(in[0], "_test.go") {
			out = append(out, fmt.Sprintf("%s: wants one package comment outside tests, has it in %v", dir, in))
		}
	}
	return out
}

func formatted(t *tree) []string {
	var out []string
	for _, f := range t.files {
		want, err := format.Source(f.source)
		if err != nil {
			out = append(out, f.path+": "+err.Error())
		} else if !bytes.Equal(want, f.source) {
			out = append(out, f.path+": not formatted by gofmt")
		}
	}
	return out
}

// maxLines is where a file outside tests has become two concepts.
const maxLines = 800

func fileSizes(t *tree) []string {
	var out []string
	for _, f := range t.files {
		if n := bytes.Count(f.source, []byte("\n")); !f.test && n > maxLines {
			out = append(out, fmt.Sprintf("%s: %d lines, at most %d", f.path, n, maxLines))
		}
	}
	return out
}

// emptyNames say nothing about what a package is.
var emptyNames = []string{"base", "common", "helper", "helpers", "lib", "misc", "model", "models", "shared", "type", "types", "util", "utils"}

func packageNames(t *tree) []string {
	var out []string
	dirs, files := t.packages()
	for _, dir := range dirs {
		for _, part := range append(strings.Split(dir, "/"), strings.TrimSuffix(files[dir][0].syntax.Name.Name, "_test")) {
			if slices.Contains(emptyNames, part) {
				out = append(out, fmt.Sprintf("%s: %q does not say what the package is", dir, part))
				break
			}
		}
	}
	return out
}

// noReplace: a replaced module builds here and nowhere else.
func noReplace(t *tree) []string {
	mod, err := fs.ReadFile(t.fsys, "go.mod")
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for n, line := range strings.Split(string(mod), "\n") {
		if word, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.TrimSuffix(word, "(") == "replace" {
			out = append(out, fmt.Sprintf("go.mod:%d: no replace", n+1))
		}
	}
	return out
}
