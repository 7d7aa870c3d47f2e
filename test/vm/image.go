package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed packages.txt
var packageList string

//go:embed build.sh
var buildScript string

// kernelSuites are the Debian suites that kernels are taken from, first to last: 6.1 and 6.12. Where the
// mirror has no backports, fallbackSuite stands in for the last of them; it carries 6.12 as well.
var kernelSuites = []string{"bookworm", "bookworm-backports"}

const fallbackSuite = "trixie"

// image is a built root and its kernels, in one directory of the cache.
type image struct{ dir string }

// kernel is one bootable kernel of an image.
type kernel struct {
	release string // as uname -r prints it
	image   string // path of its vmlinuz
	modules []string
}

// root is the path of the ext4 file system that every kernel boots from.
func (i image) root() string { return filepath.Join(i.dir, "root.ext4") }

// kernel finds the kernel whose release begins with the version, such as 6.1; 6.1 does not find 6.12.
func (i image) kernel(version string) (kernel, error) {
	entries, err := os.ReadDir(filepath.Join(i.dir, "kernels"))
	if err != nil {
		return kernel{}, err
	}
	var have []string
	for _, e := range entries {
		have = append(have, e.Name())
		if e.Name() != version && !strings.HasPrefix(e.Name(), version+".") {
			continue
		}
		dir := filepath.Join(i.dir, "kernels", e.Name())
		modules, err := filepath.Glob(filepath.Join(dir, "modules", "*.ko"))
		if err != nil {
			return kernel{}, err
		}
		slices.Sort(modules)
		return kernel{release: e.Name(), image: filepath.Join(dir, "vmlinuz"), modules: modules}, nil
	}
	return kernel{}, fmt.Errorf("no kernel %s in the image, it has: %s", version, strings.Join(have, ", "))
}

// cacheDir is where images are kept: $VRGATE_CACHE, else vrgate in the user's cache directory.
func cacheDir() (string, error) {
	if dir := os.Getenv("VRGATE_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache directory, set VRGATE_CACHE: %w", err)
	}
	return filepath.Join(dir, "vrgate"), nil
}

// packages returns packages.txt without comments.
func packages() []string {
	var names []string
	for line := range strings.Lines(packageList) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			names = append(names, line)
		}
	}
	return names
}

// recipe names the image by what it is made of.
func recipe() string {
	h := sha256.New()
	for _, part := range append([]string{packageList, buildScript, fallbackSuite}, kernelSuites...) {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// openImage returns the image of this recipe from the cache, building it when it is not there. Of several
// processes that want it at once one builds and the others wait; what it does goes to log.
func openImage(ctx context.Context, cache string, log io.Writer) (image, error) {
	img := image{dir: filepath.Join(cache, "image-"+recipe())}
	if _, err := os.Stat(img.dir); err == nil {
		return img, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return image{}, err
	}
	unlock, err := lock(ctx, filepath.Join(cache, "build.lock"))
	if err != nil {
		return image{}, err
	}
	defer unlock()
	if _, err := os.Stat(img.dir); err == nil {
		return img, nil
	}
	if os.Geteuid() != 0 {
		return image{}, errors.New("the image is not built yet, and building it needs root")
	}
	start := time.Now()
	fmt.Fprintf(log, "vm: building the test machine's image from %d Debian packages, once; this takes a minute or three\n", len(packages()))

	work, err := os.MkdirTemp(cache, "build-*")
	if err != nil {
		return image{}, err
	}
	defer os.RemoveAll(work)
	if err := build(ctx, work, log); err != nil {
		return image{}, fmt.Errorf("building the image: %w", err)
	}
	if err := os.Chmod(work, 0o755); err != nil {
		return image{}, err
	}
	removeOld(cache, img)
	if err := os.Rename(work, img.dir); err != nil {
		return image{}, err
	}
	fmt.Fprintf(log, "vm: image built in %.0f s: %s\n", time.Since(start).Seconds(), img.dir)
	return img, nil
}

// removeOld deletes images of earlier recipes that nothing has booted for a week, so that the cache does not
// grow with every change of the package list.
func removeOld(cache string, keep image) {
	old, _ := filepath.Glob(filepath.Join(cache, "image-*"))
	for _, dir := range old {
		if st, err := os.Stat(dir); dir != keep.dir && err == nil && time.Since(st.ModTime()) > 7*24*time.Hour {
			os.RemoveAll(dir)
		}
	}
}

// build runs build.sh into dir.
func build(ctx context.Context, dir string, log io.Writer) error {
	mirror, err := mirror()
	if err != nil {
		return err
	}
	suites := slices.Clone(kernelSuites)
	err = runBuild(ctx, dir, mirror, suites, log)
	if err == nil || ctx.Err() != nil {
		return err
	}
	fmt.Fprintf(log, "vm: %v; trying once more with the kernel of %s\n", err, fallbackSuite)
	if err := clear(dir); err != nil {
		return err
	}
	suites[len(suites)-1] = fallbackSuite
	return runBuild(ctx, dir, mirror, suites, log)
}

func clear(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

func runBuild(ctx context.Context, dir, mirror string, suites []string, log io.Writer) error {
	var sources strings.Builder
	for _, s := range suites {
		fmt.Fprintf(&sources, "deb %s %s main\n", mirror, s)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(in("sources.list"), []byte(sources.String()), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(in("build.sh"), []byte(buildScript), 0o755); err != nil {
		return err
	}
	args := append([]string{in("build.sh"), dir, strings.Join(packages(), ","), in("sources.list")}, suites...)
	cmd := exec.CommandContext(ctx, "/bin/sh", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "TMPDIR="+dir)
	cmd.SysProcAttr = ownGroup()
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stdout, cmd.Stderr = log, log
	return cmd.Run()
}

// mirror returns the archive that the host's own APT configuration uses for Debian, or $VRGATE_MIRROR. It
// reads both forms of sources files and takes the first archive with a plain Debian release suite, which
// rules out security, vendors' and other archives.
func mirror() (string, error) {
	if m := os.Getenv("VRGATE_MIRROR"); m != "" {
		return m, nil
	}
	files := []string{"/etc/apt/sources.list"}
	for _, pattern := range []string{"/etc/apt/sources.list.d/*.sources", "/etc/apt/sources.list.d/*.list"} {
		more, _ := filepath.Glob(pattern)
		files = append(files, more...)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		m := mirrorIn(f)
		f.Close()
		if m != "" {
			return m, nil
		}
	}
	return "", errors.New("found no Debian archive in /etc/apt/sources.list and sources.list.d; name one with VRGATE_MIRROR")
}

// mirrorIn finds the archive in one sources file, in the one-line or the stanza form; empty if there is none.
func mirrorIn(r io.Reader) string {
	release := func(suite string) bool {
		switch suite {
		case "bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable":
			return true
		}
		return false
	}
	var uri string
	var suite bool
	for sc := bufio.NewScanner(r); sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if len(fields) == 0 { // a stanza ends
			uri, suite = "", false
			continue
		}
		switch strings.ToLower(fields[0]) {
		case "deb":
			rest := fields[1:]
			if len(rest) > 0 && strings.HasPrefix(rest[0], "[") {
				for len(rest) > 0 && !strings.HasSuffix(rest[0], "]") {
					rest = rest[1:]
				}
				rest = rest[min(1, len(rest)):]
			}
			if len(rest) >= 2 && release(rest[1]) {
				return rest[0]
			}
		case "uris:":
			if len(fields) > 1 {
				uri = fields[1]
			}
		case "suites:":
			suite = slices.ContainsFunc(fields[1:], release)
		}
		if uri != "" && suite {
			return uri
		}
	}
	return ""
}

// lock takes an exclusive lock on the file, waiting for another process to release it.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}
