//go:build kernel

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vrgate/controlplane/api"
	"vrgate/test/daemon"
)

// TestOperating is what an operator does: look, and throw somebody out.
func TestOperating(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.runOne(vrConfig{})
	a, b := w.client(nil, "user0"), w.client(nil, "user1")
	w.connectAll(a, b)
	subs := w.subscribers()
	if len(subs) != 2 {
		t.Fatalf("%d subscribers", len(subs))
	}
	for what, want := range map[string][]string{
		"vr":          {"office", w.address.String()},
		"ike-sa":      {a.Host().Address.String(), b.Host().Address.String(), w.address.String()},
		"ipsec":       {a.Host().Address.String(), b.Host().Address.String()},
		"l2tp":        {a.Host().Address.String(), "established"},
		"subscribers": {"user0", "user1", subs[0].Address.String(), subs[1].Address.String(), "l2tp/ipsec"},
	} {
		out, err := w.daemon.Run(w.ctx, "show", what)
		w.check(err)
		t.Logf("vrgate show %s:\n%s", what, out)
		for _, s := range want {
			if !strings.Contains(out, s) {
				t.Errorf("show %s does not say %q", what, s)
			}
		}
		out, err = w.daemon.Run(w.ctx, "show", what, "--json")
		w.check(err)
		if !json.Valid([]byte(out)) {
			t.Errorf("show %s --json is not JSON:\n%s", what, out)
		}
		if strings.Contains(out, psk) || strings.Contains(out, password) {
			t.Errorf("show %s --json tells a secret", what)
		}
	}
	out, err := w.daemon.Run(w.ctx, "disconnect", "--user", "user0", "--dry-run")
	w.check(err)
	if !strings.Contains(out, "user0") || strings.Contains(out, "user1") || len(w.subscribers()) != 2 {
		t.Errorf("dry run: %s", out)
	}
	_, err = w.daemon.Run(w.ctx, "disconnect", "--user", "user0")
	w.check(err)
	w.eventually("user0 gone", func() bool { s := w.subscribers(); return len(s) == 1 && s[0].User == "user1" })
	if w.logLine("subscriber ended", map[string]string{"user": "user0", "reason": "admin-reset"}) == nil {
		t.Error("no summary line with reason admin-reset")
	}
	if log := w.daemon.Log(); strings.Contains(log, psk) || strings.Contains(log, password) {
		t.Error("the log tells a secret")
	}
	list, err := w.daemon.API().L2TPSessions(w.ctx, api.Filter{})
	w.check(err)
	live, records := 0, 0
	for i := range list {
		switch s := &list[i]; {
		case s.State == "established" && s.User == "user1":
			live++
		case s.Reason == "admin-reset":
			records++
		}
	}
	if live != 1 || records != 1 || len(list) != 2 {
		t.Errorf("L2TP sessions: %+v", list)
	}
}

// TestMissingModule takes modules away: the daemon says which one it misses and what to do,
// and leaves nothing behind.
func TestMissingModule(t *testing.T) {
	for _, c := range []struct{ modules, name string }{
		{"l2tp_ppp l2tp_netlink", "l2tp_netlink"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			before := w.kernelState()
			for _, m := range strings.Fields(c.modules) {
				// SAs of an earlier test's namespaces keep a module until the kernel has reaped them.
				w.eventually("module "+m+" is out", func() bool { return exec.Command("modprobe", "-r", m).Run() == nil })
			}
			w.check(os.MkdirAll("/run/modprobe.d", 0o755))
			block := filepath.Join("/run/modprobe.d", "vrgate-test.conf")
			text := ""
			for _, m := range strings.Fields(c.modules) {
				text += "install " + m + " /bin/false\n"
			}
			w.check(os.WriteFile(block, []byte(text), 0o644))
			defer os.Remove(block)
			d, err := daemon.New(filepath.Join(w.Dir(), "vrgate"), map[string]string{
				"office": vrConfig{Namespace: w.server.Name(), Address: w.address}.yaml(),
			})
			w.check(err)
			out, err := d.Run(w.ctx, "run")
			if err == nil || !strings.Contains(out, "modprobe") || !strings.Contains(out, c.name) {
				t.Errorf("vrgate run: %v: %s", err, out)
			}
			if after := w.kernelState(); after != before {
				t.Errorf("left behind:\n%s\nwas before:\n%s", after, before)
			}
		})
	}
}
