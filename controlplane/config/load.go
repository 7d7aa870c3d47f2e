package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// ProcessFile and RouterDir are the names inside a configuration directory.
const (
	ProcessFile = "vrgate.yaml"
	RouterDir   = "vr"
)

// maxSecretFileSize bounds what is read of a secret file; more is a mistake.
const maxSecretFileSize = 4096

// source is a configuration file in memory.
type source struct {
	// file is the path that messages use.
	file string
	// name is the virtual router's name, empty for vrgate.yaml.
	name string
	data []byte
	// mode warns about files that others can read if they hold secrets.
	mode fs.FileMode
}

// fileFinder says where the file is that the configuration gives a path of, and
// which mode it has. The file is regular, or there is an error.
type fileFinder func(path string) (string, fs.FileMode, error)

// secretReader reads the secret file at a path as the configuration gives it.
type secretReader func(path string) ([]byte, fs.FileMode, error)

// Load reads the configuration directory dir (see the package comment for its
// layout) and the secret files that it names; it changes nothing. Of certificates,
// private keys and revocation lists it sees that the files are there. It returns
// either a Config that is complete and consistent, or an error that is [Errors]
// unless the directory itself cannot be read. Warnings may come with both.
func Load(dir string) (*Config, []Diagnostic, error) {
	sources, errs, err := readDir(dir)
	if err != nil {
		return nil, nil, err
	}
	place := func(path string) string {
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		return path
	}
	read := func(path string) ([]byte, fs.FileMode, error) { return readBounded(place(path), maxSecretFileSize) }
	find := func(path string) (string, fs.FileMode, error) {
		path = place(path)
		mode, err := regular(path)
		return path, mode, err
	}
	cfg, warnings, more := parse(sources, read, find, time.Now())
	if errs = append(errs, more...); len(errs) > 0 {
		return nil, warnings, Errors(sorted(errs))
	}
	return cfg, warnings, nil
}

// DefaultSocket is the control socket where vrgate.yaml names none.
const DefaultSocket = "/run/vrgate/api.sock"

// Socket returns the control socket that the file vrgate.yaml at path names, for
// programs that talk to a running daemon and need nothing else of it.
func Socket(path string) (string, error) {
	data, mode, err := readBounded(path, maxFileSize)
	if err != nil {
		return "", fmt.Errorf("configuration: %w", err)
	}
	b := &builder{cfg: &Config{}}
	b.source(source{file: path, data: data, mode: mode})
	if len(b.errs) > 0 {
		return "", Errors(sorted(b.errs))
	}
	return b.cfg.Process.API.Socket, nil
}

// readDir reads the files of a configuration directory. An error means that the
// directory is not there at all.
func readDir(dir string) (sources []source, errs []Diagnostic, err error) {
	if _, err := os.ReadDir(dir); err != nil {
		return nil, nil, fmt.Errorf("configuration directory: %w", err)
	}
	fail := func(file, format string, args ...any) {
		errs = append(errs, Diagnostic{Pos{File: file}, fmt.Sprintf(format, args...)})
	}
	add := func(file, name string) {
		data, mode, err := readBounded(file, maxFileSize)
		if err != nil {
			fail(file, "cannot be read: %s", reason(err))
			return
		}
		sources = append(sources, source{file, name, data, mode})
	}
	add(filepath.Join(dir, ProcessFile), "")

	vrDir := filepath.Join(dir, RouterDir)
	entries, err := os.ReadDir(vrDir)
	if err != nil {
		fail(vrDir, "cannot be read: %s; it holds one NAME.yaml per virtual router", reason(err))
		return sources, errs, nil
	}
	routers := 0
	for _, e := range entries {
		file := filepath.Join(vrDir, e.Name())
		switch name, yaml := strings.CutSuffix(e.Name(), ".yaml"); {
		case strings.HasPrefix(e.Name(), "."):
		case strings.HasSuffix(e.Name(), ".yml"):
			// A tenant that is silently not there is worse than an error.
			fail(file, "the name must end in .yaml, not .yml")
			routers++
		case !yaml:
		default:
			routers++
			if !routerName.MatchString(name) {
				fail(file, "%s cannot be the name of a virtual router: it must be 1 to 31 letters, digits, '-', '_' or '.', starting with a letter or digit", quoteShort(name))
				continue
			}
			add(file, name)
		}
	}
	switch {
	case routers == 0:
		fail(vrDir, "there is no virtual router: the directory has no NAME.yaml")
	case routers > MaxRouters:
		fail(vrDir, "there are %d virtual routers but may be at most %d", routers, MaxRouters)
	}
	return sources, errs, nil
}

var routerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,30}$`)

// errTooLarge and errNotRegular are reasons why a file is not read.
var (
	errTooLarge   = errors.New("it is too large")
	errNotRegular = errors.New("it is not a regular file")
)

// readBounded reads a regular file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, fs.FileMode, error) {
	// Look first: opening a FIFO would wait for a writer.
	mode, err := regular(path)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, 0, err
	}
	if int64(len(data)) > limit {
		return nil, 0, errTooLarge
	}
	return data, mode, nil
}

// regular returns the mode of a regular file.
func regular(path string) (fs.FileMode, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, errNotRegular
	}
	return info.Mode(), nil
}

// reason is err without the path that the message names already.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// parse is everything but reading the directory. The Config is nil iff there
// are errors; those and the warnings are in order and without repetition. Warnings alone depend on
// now.
func parse(sources []source, read secretReader, find fileFinder, now time.Time) (*Config, []Diagnostic, []Diagnostic) {
	b := &builder{read: read, locate: find, now: now, cfg: &Config{}}
	for _, s := range sources {
		b.source(s)
	}
	b.links()
	if len(b.errs) > 0 {
		return nil, sorted(b.warnings), sorted(b.errs)
	}
	return b.cfg, sorted(b.warnings), nil
}
