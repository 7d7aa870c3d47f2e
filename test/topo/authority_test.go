package topo

import (
	"os"
	"path/filepath"
	"testing"
)

// Ready keys are given out once each; then keys are made.
func TestNewKey(t *testing.T) {
	ready, dir := t.TempDir(), t.TempDir()
	t.Setenv(Keys, ready)
	for _, name := range []string{"1", "2"} {
		if err := os.WriteFile(filepath.Join(ready, name), []byte("key "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]bool{}
	for _, name := range []string{"a", "b", "c"} {
		file, err := NewKey(t.Context(), dir, name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil || file != filepath.Join(dir, name+".key") {
			t.Fatalf("%s: %v", file, err)
		}
		got[string(b)] = true
	}
	if len(got) != 3 || !got["key 1"] || !got["key 2"] {
		t.Errorf("keys: %v", got)
	}
}
