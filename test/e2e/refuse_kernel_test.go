//go:build kernel

package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vrgate/test/topo"
)

// TestRefusals gives each bad thing its typed reason and one sentence, leaves nothing
// behind, and disturbs nobody else: user0 pings through all of it.
func TestRefusals(t *testing.T) {
	w := newWorld(t, 8*time.Minute)
	before := w.kernelState()
	w.runOne(vrConfig{
		Pool: "10.9.0.10-10.9.0.11",
		Users: `  - {name: user0, password: "correct horse"}
  - {name: user1, password: "correct horse"}
  - {name: user2, password: "correct horse"}
  - {name: fixed, password: "correct horse", address: 10.9.0.77}`,
	})
	good := w.client(nil, "user0")
	w.connect(good)
	ping, err := good.Host().StartPing(intranetHost, topo.PingOptions{Interval: 500 * time.Millisecond})
	w.check(err)
	baseline := w.kernelState()

	refused := func(name string, stage topo.Stage, reason string, sentence string, c *topo.Client) {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(w.ctx, 25*time.Second)
			defer cancel()
			_, err := c.Connect(ctx)
			var at *topo.ConnectError
			if !errors.As(err, &at) || at.Stage != stage {
				t.Fatalf("connecting: %v, want a failure at %s", err, stage)
			}
			// The summary line comes when PPP and L2TP have ended, a moment after the client gave up.
			if reason != "" {
				w.eventually(15*time.Second, "reason "+reason+" in the log", func() bool { return strings.Contains(w.daemon.Log(), `"reason":"`+reason+`"`) })
			}
			if !strings.Contains(w.daemon.Log(), sentence) {
				t.Errorf("no sentence %q in the log", sentence)
			}
			c.Close()
			w.eventually(90*time.Second, "nothing left of the attempt", func() bool { return w.kernelState() == baseline })
		})
	}
	refused("wrong PSK", topo.StageIKE, "pre-shared-keys-differ", "message 5 does not decrypt: pre-shared keys differ",
		w.client(nil, "user1", func(c *topo.ClientConfig) { c.PSK = "something else" }))
	refused("no common proposal", topo.StageIKE, "no-proposal-chosen", "no proposal chosen",
		w.client(nil, "user1", func(c *topo.ClientConfig) { c.IKE = []string{"3des-md5-modp1024"} }))
	refused("wrong password", topo.StagePPP, "aaa-wrong-password", `wrong password for local user`,
		w.client(nil, "user1", func(c *topo.ClientConfig) { c.Password = "incorrect horse" }))
	refused("unknown user", topo.StagePPP, "aaa-unknown-user", `no local user`, w.client(nil, "nobody"))
	// Clear text never reaches the process: the kernel drops it, and nobody hears of it (G6).
	refused("plain L2TP", topo.StageL2TP, "", "",
		w.client(nil, "user1", func(c *topo.ClientConfig) { c.Plain = true }))
	if n := w.metric("cleartext"); n == 0 {
		t.Error("the kernel has not counted a dropped clear-text packet")
	}

	second := w.client(nil, "user1")
	w.connect(second)
	baseline = w.kernelState()
	refused("pool empty", topo.StagePPP, "pool-empty", "pool main of virtual router office is exhausted: 2 of 2 addresses leased", w.client(nil, "user2"))
	first := w.client(nil, "fixed")
	w.connect(first)
	baseline = w.kernelState()
	refused("duplicate address", topo.StagePPP, "duplicate-address", "address 10.9.0.77 of user", w.client(nil, "fixed"))

	t.Run("second start", func(t *testing.T) {
		out, err := w.daemon.Run(w.ctx, "run")
		if err == nil || !strings.Contains(out, "already") {
			t.Errorf("a second daemon: %v: %s", err, out)
		}
	})
	t.Run("unreadable secret", func(t *testing.T) {
		dir := t.TempDir()
		w.check(os.MkdirAll(filepath.Join(dir, "vr"), 0o700))
		w.check(os.WriteFile(filepath.Join(dir, "vrgate.yaml"), []byte("log: {level: info}\n"), 0o600))
		w.check(os.WriteFile(filepath.Join(dir, "vr", "a.yaml"), []byte(`server-addresses: [192.0.2.9]
ipsec:
  transport-profiles:
    - name: l2tp
      local-addresses:
        - address: 192.0.2.9
          group-keys:
            - {name: k, key-file: missing.key}
`), 0o600))
		out, err := w.daemon.Run(w.ctx, "--config", dir, "check")
		if err == nil || !strings.Contains(out, "a.yaml:8:") || !strings.Contains(out, "missing.key") {
			t.Errorf("check: %v: %s", err, out)
		}
	})
	time.Sleep(time.Second)
	if r, err := ping.Stop(); err != nil || r.Lost() > 0 || r.Sent < 10 {
		t.Errorf("the good client was disturbed: %v, %d of %d lost", err, r.Lost(), r.Sent)
	}
	w.check(w.daemon.Stop(w.ctx))
	if after := w.kernelState(); after != before {
		t.Errorf("left after the daemon ended:\n%s\nwas before:\n%s", after, before)
	}
}
