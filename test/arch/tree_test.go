package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// tree is the parsed source.
type tree struct {
	fsys  fs.FS
	files []*file // by path
}

// file is one Go file. Its package is known by its directory.
type file struct {
	path   string // slash-separated, from the top
	dir    string
	test   bool // name ends in _test.go
	source []byte
	syntax *ast.File
	set    *token.FileSet
}

const module = "vrgate"

// load parses every Go file below fsys; what starts with a dot, testdata and the build
// output is left out.
func load(fsys fs.FS) (*tree, error) {
	t := &tree{fsys: fsys}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p != "." && (strings.HasPrefix(name, ".") || name == "testdata" || p == buildOutput) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f := &file{path: p, dir: path.Dir(p), test: strings.HasSuffix(name, "_test.go"), set: token.NewFileSet()}
		if f.source, err = fs.ReadFile(fsys, p); err != nil {
			return err
		}
		if f.syntax, err = parser.ParseFile(f.set, p, f.source, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			return err
		}
		t.files = append(t.files, f)
		return nil
	})
	return t, err
}

// complaint is one broken rule, with its place.
func (f *file) complaint(at token.Pos, format string, args ...any) string {
	where := f.path
	if at.IsValid() {
		where = fmt.Sprintf("%s:%d", f.path, f.set.Position(at).Line)
	}
	return where + ": " + fmt.Sprintf(format, args...)
}

// imported is one import of a file.
type imported struct {
	path string
	at   token.Pos
}

func (f *file) imports() []imported {
	var out []imported
	for _, s := range f.syntax.Imports {
		p, err := strconv.Unquote(s.Path.Value)
		if err != nil {
			continue // the parser accepts no such import
		}
		out = append(out, imported{p, s.Pos()})
	}
	return out
}

// ours returns the directory of an imported package of this module, "." for its top.
func (i imported) ours() (dir string, ok bool) {
	if i.path == module {
		return ".", true
	}
	return strings.CutPrefix(i.path, module+"/")
}

// within says whether a package's directory is dir or below it.
func within(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

// testCode says whether a file is never part of the daemon.
func (f *file) testCode() bool { return f.test || within(f.dir, "test") }

// packages returns the directories that hold Go files, sorted, with their files.
func (t *tree) packages() (dirs []string, files map[string][]*file) {
	files = map[string][]*file{}
	for _, f := range t.files {
		if files[f.dir] == nil {
			dirs = append(dirs, f.dir)
		}
		files[f.dir] = append(files[f.dir], f)
	}
	slices.Sort(dirs)
	return dirs, files
}

// assertNone reports complaints as test failures.
func assertNone(t *testing.T, complaints []string) {
	t.Helper()
	for _, c := range complaints {
		t.Error(c)
	}
}
