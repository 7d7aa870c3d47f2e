package topo

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"time"
)

// RADIUSRequest is one that radclient sends.
type RADIUSRequest struct {
	To         netip.AddrPort
	Kind       string // radclient's word: "auth", "acct", "coa", "disconnect"
	Secret     string
	Attributes []string // such as `Acct-Session-Id = "1"`
	// Unsigned leaves Message-Authenticator out, which radclient 3.2.1 would never add by itself.
	Unsigned bool
	// Timeout is how long an answer may take; 0: 10 seconds. The request is sent once.
	Timeout time.Duration
}

// RADIUSAnswer is what came back.
type RADIUSAnswer struct {
	Code string // FreeRADIUS' name such as "CoA-NAK"; empty: no answer came
	RADIUSPacket
}

// RADIUS sends a request from a machine by FreeRADIUS' radclient. Refusals and silence are no errors.
func (h *Host) RADIUS(ctx context.Context, r RADIUSRequest) (RADIUSAnswer, error) {
	lines := r.Attributes
	if !r.Unsigned {
		lines = append([]string{"Message-Authenticator = 0x00"}, lines...)
	}
	timeout := r.Timeout
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	args := []string{"-x", "-r", "1", "-t", fmt.Sprint(timeout.Seconds())}
	cmd := exec.Command("radclient", append(args, r.To.String(), r.Kind, r.Secret)...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.Namespace.Start(cmd); err != nil {
		return RADIUSAnswer{}, fmt.Errorf("topo: radclient: %w", err)
	}
	err := wait(ctx, cmd)
	if a, ok := parseAnswer(out.String()); ok {
		return a, nil
	}
	if strings.Contains(out.String(), "No reply from server") {
		return RADIUSAnswer{}, nil
	}
	return RADIUSAnswer{}, fmt.Errorf("topo: radclient: %w: %s", orNil(err), out.String())
}

// parseAnswer finds what was received in radclient's output; false if it is silent about that.
func parseAnswer(out string) (RADIUSAnswer, bool) {
	at := strings.Index(out, "\nReceived ")
	if at < 0 {
		return RADIUSAnswer{}, false
	}
	head, rest, _ := strings.Cut(out[at+1:], "\n")
	words := strings.Fields(head)
	if len(words) < 2 {
		return RADIUSAnswer{}, false
	}
	return RADIUSAnswer{Code: words[1], RADIUSPacket: parseAttributes(rest)}, true
}
