package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A machine whose emulator stood still counts for nothing but its failures: what had not ended runs again, once.
func TestFrozenMachine(t *testing.T) {
	const ended = `{"Action":"pass","Package":"e","Test":"TestE","Elapsed":0}
{"Action":"pass","Package":"e","Elapsed":0}
`
	begun := passing[:strings.Index(passing, `{"Action":"pass","Package":"p","Elapsed"`)]
	for _, c := range []struct {
		name          string
		first, second string
		status        int // of the second machine
		good          bool
		last          string
	}{
		{"passes then", ended + begun + `{"Action":"run","Package":"p","Test":"TestZ"}` + "\n", passing, 0, true, "2 passed, 0 failed, 0 skipped"},
		{"breaks off within a line", ended + begun + `{"Action":"ru`, passing, 0, true, "2 passed, 0 failed, 0 skipped"},
		{"fails then", ended + begun, failing, 1, false, "1 passed, 1 failed, 0 skipped"},
		{"stands still again", ended + begun, begun, machineFrozen, false, "2 passed, 2 failed, 0 skipped"},
		{"failed before", ended + failing[:strings.Index(failing, `{"Action":"fail","Package":"p","Elapsed"`)], passing, 0, false, "2 passed, 1 failed, 0 skipped"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{
				"first": c.first, "second": c.second,
				"vm": fmt.Sprintf("#!/bin/sh\ncd %s\nif [ -e ran ]; then case \"$*\" in */e*) exit 9;; esac; cat second; exit %d; fi\ntouch ran; cat first; exit %d\n", dir, c.status, machineFrozen),
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			var out bytes.Buffer
			r := newResults(&out)
			j := job{kernel: "6.1", packages: []kernelPackage{{path: "e", dir: "/e", file: "e.test"}, {path: "p", dir: "/p", file: "p.test"}}}
			if err := runJob(context.Background(), r, filepath.Join(dir, "vm"), dir, dir, j); err != nil {
				r.add(testKey{environment: "6.1", test: "machine"}, err, 0, "")
			}
			good := r.summary(0)
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if last := lines[len(lines)-1]; good != c.good || last != c.last {
				t.Errorf("good %v, %q; want %v, %q\n%s", good, last, c.good, c.last, out.String())
			}
			if !strings.Contains(out.String(), "once more in a fresh machine: kernel tests [6.1] of p: 0") {
				t.Errorf("does not say that p runs again:\n%s", out.String())
			}
		})
	}
}
