//go:build kernel

package e2e

import (
	"cmp"
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
//
//runner:once
func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
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
	baseline := stateWith(w, good)

	type refusal struct {
		name     string
		stage    topo.Stage
		reason   string
		sentence string
		client   *topo.Client
		limit    time.Duration // for connecting; 0: patience
	}
	// Those of one call are tried side by side: whoever is refused waits, mostly for itself.
	refused := func(list ...refusal) {
		sideBySide(t, func(run func(string, func(*testing.T))) {
			for _, r := range list {
				run(r.name, func(t *testing.T) {
					w := w.in(t)
					w.check(r.client.Start(w.ctx))
					ctx, cancel := context.WithTimeout(w.ctx, cmp.Or(r.limit, patience))
					defer cancel()
					_, err := r.client.Connect(ctx)
					var at *topo.ConnectError
					if !errors.As(err, &at) || at.Stage != r.stage {
						t.Fatalf("connecting: %v, want a failure at %s", err, r.stage)
					}
					// The summary line comes when PPP and L2TP have ended, a moment after the client gave up.
					if r.reason != "" {
						w.eventually("reason "+r.reason+" in the log", func() bool { return strings.Contains(w.daemon.Log(), `"reason":"`+r.reason+`"`) })
					}
					if !strings.Contains(w.daemon.Log(), r.sentence) {
						t.Errorf("no sentence %q in the log", r.sentence)
					}
					r.client.Close()
				})
			}
		})
		w.backTo(baseline, "nothing left of the attempts")
	}
	// By what they say.
	refused(
		refusal{
			name: "wrong PSK", stage: topo.StageIKE, reason: "pre-shared-keys-differ", sentence: "message 5 does not decrypt: pre-shared keys differ",
			client: w.client(nil, "user1", func(c *topo.ClientConfig) {
				c.PSK, c.RetransmitTries, c.RetransmitTimeout = "something else", 2, 2*time.Second
			}),
		},
		refusal{
			name: "no common proposal", stage: topo.StageIKE, reason: "no-proposal-chosen", sentence: "no proposal chosen",
			client: w.client(nil, "user1", func(c *topo.ClientConfig) { c.IKE = []string{"3des-md5-modp1024"} }),
		},
		refusal{
			name: "wrong password", stage: topo.StagePPP, reason: "aaa-wrong-password", sentence: `wrong password for local user`,
			client: w.client(nil, "user1", func(c *topo.ClientConfig) { c.Password = "incorrect horse" }),
		},
		refusal{
			name: "unknown user", stage: topo.StagePPP, reason: "aaa-unknown-user", sentence: `no local user`,
			client: w.client(nil, "nobody"),
		},
		// Clear text never reaches the process: the kernel drops it, and nobody hears of it (G6).
		refusal{
			name: "plain L2TP", stage: topo.StageL2TP, limit: 12 * time.Second,
			client: w.client(nil, "user1", func(c *topo.ClientConfig) { c.Plain = true }),
		},
	)
	if n := w.metric("cleartext"); n == 0 {
		t.Error("the kernel has not counted a dropped clear-text packet")
	}

	first, second := w.client(nil, "fixed"), w.client(nil, "user1")
	w.connectAll(first, second)
	baseline = stateWith(w, first, second)
	// By what is taken.
	refused(
		refusal{
			name: "pool empty", stage: topo.StagePPP, reason: "pool-empty", sentence: "pool main of virtual router office is exhausted: 2 of 2 addresses leased",
			client: w.client(nil, "user2"),
		},
		refusal{
			name: "duplicate address", stage: topo.StagePPP, reason: "duplicate-address", sentence: "address 10.9.0.77 of user",
			client: w.client(nil, "fixed"),
		},
	)

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
