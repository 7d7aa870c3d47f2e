package topo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
)

// tunnelUp is what xl2tpd writes when a tunnel is up, with the number that it has given it.
var tunnelUp = regexp.MustCompile(`(?m)^.*Connection established to \S+ \d+\.  Local: (\d+),`)

// SecondSession asks for another session in the tunnel that Connect has made. It is for servers that refuse it: xl2tpd 1.3.18
// knows of no options for such a session's pppd and would crash. It does not wait for the answer, which xl2tpd logs as
// "Connection closed to" with a serial number and the server's words.
func (c *Client) SecondSession() error {
	m := tunnelUp.FindAllStringSubmatch(textSince(c.xl2tpd.log, 0), -1)
	if len(m) == 0 {
		return errors.New("topo: xl2tpd has no tunnel")
	}
	return c.xl2tpd.command("c " + m[len(m)-1][1])
}

// SecondTunnel asks for another tunnel beside the one that Connect has made, in the same IPsec connection if there is one, and
// for a session in it. It does not wait for the answer, which xl2tpd logs as "Connection closed to" with a port and the server's
// words if it is a refusal.
func (c *Client) SecondTunnel() error { return c.xl2tpd.command("c " + secondLAC) }

// Crash ends the daemons as a power failure does: nobody hears of it, and the kernel has forgotten the SAs. The host and its link
// stay, and Connect starts new daemons.
func (c *Client) Crash(ctx context.Context) error {
	control := c.xl2tpd.control
	c.killDaemons()
	for _, left := range []string{control, c.pppPID()} {
		if err := os.Remove(left); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("topo: %w", err)
		}
	}
	return c.config.Host.Namespace.IP(ctx, "xfrm state flush", "xfrm policy flush")
}
