package topo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// VPNCConfig says what one vpnc is like: an XAuth client by the group's key in aggressive mode, with ESP in its
// own process. All but DHGroup and Networks is needed.
type VPNCConfig struct {
	Host   *Host
	Server netip.Addr

	Group, PSK     string
	User, Password string
	DHGroup        string         // dh1, dh2 or dh5; empty: vpnc's own dh2
	Networks       []netip.Prefix // sent into the tunnel once it is up
}

// VPNC is one vpnc on a host of its own.
type VPNC struct {
	net    *Net
	config VPNCConfig
	dir    string
	daemon *daemon
}

// NewVPNC prepares a client on its host; nothing runs yet.
func (n *Net) NewVPNC(config VPNCConfig) (*VPNC, error) {
	if config.Host == nil || !config.Server.IsValid() {
		return nil, errors.New("topo: a client needs a host and a server")
	}
	v := &VPNC{net: n, config: config, dir: filepath.Join(n.dir, strings.TrimPrefix(config.Host.Namespace.name, n.prefix))}
	if err := os.Mkdir(v.dir, 0o700); err != nil {
		return nil, fmt.Errorf("topo: %w", err)
	}
	return v, nil
}

func (v *VPNC) path(name string) string { return filepath.Join(v.dir, name) }

// settings returns vpnc's configuration file.
func (v *VPNC) settings() string {
	lines := []string{
		"IPSec gateway " + v.config.Server.String(), "IPSec ID " + v.config.Group, "IPSec secret " + v.config.PSK,
		"Xauth username " + v.config.User, "Xauth password " + v.config.Password,
		"Interface name vpn0", "Script " + v.path("script"), "Pidfile " + v.path("pid"), "No Detach", "Debug 1",
	}
	if v.config.DHGroup != "" {
		lines = append(lines, "IKE DH Group "+v.config.DHGroup)
	}
	return strings.Join(lines, "\n") + "\n"
}

// script returns what vpnc calls in place of its own script, which would change the host's resolver.
func (v *VPNC) script() string {
	var b strings.Builder
	fmt.Fprintf(&b, `#!/bin/sh -e
case "$reason" in
connect)
	ip link set "$TUNDEV" up mtu "${INTERNAL_IP4_MTU:-1390}"
	ip addr add "$INTERNAL_IP4_ADDRESS/32" dev "$TUNDEV"
`)
	for _, n := range v.config.Networks {
		fmt.Fprintf(&b, "\tip route add %s dev \"$TUNDEV\"\n", n)
	}
	fmt.Fprintf(&b, "\tenv >%[1]q.new\n\tmv %[1]q.new %[1]q\n\t;;\nesac\n", v.path("assigned"))
	return b.String()
}

// Connect brings the VPN up. It returns a ConnectError as soon as vpnc gives up, or when the context ends.
func (v *VPNC) Connect(ctx context.Context) (Assigned, error) {
	for name, f := range map[string]struct {
		text string
		mode os.FileMode
	}{"vpnc.conf": {v.settings(), 0o600}, "script": {v.script(), 0o700}} {
		if err := os.WriteFile(v.path(name), []byte(f.text), f.mode); err != nil {
			return Assigned{}, &ConnectError{Stage: StageStart, Err: err}
		}
	}
	var err error
	v.daemon, err = v.net.start(v.config.Host.Namespace, nil, nil, v.path("vpnc.log"), "vpnc", v.path("vpnc.conf"))
	if err != nil {
		return Assigned{}, &ConnectError{Stage: StageStart, Err: err}
	}
	var a Assigned
	err = v.daemon.until(ctx, "connecting", func() bool {
		text, err := os.ReadFile(v.path("assigned"))
		if err != nil {
			return false
		}
		a = parseEnvironment(string(text))
		return true
	})
	if err != nil {
		return a, &ConnectError{Stage: StageIKE, Err: err}
	}
	return a, nil
}

// What vpnc tells its script.
var (
	vpncAddress = regexp.MustCompile(`(?m)^INTERNAL_IP4_ADDRESS=(\S+)$`)
	vpncDNS     = regexp.MustCompile(`(?m)^INTERNAL_IP4_DNS=(.+)$`)
)

func parseEnvironment(text string) Assigned {
	var a Assigned
	if m := vpncAddress.FindStringSubmatch(text); m != nil {
		a.Address, _ = netip.ParseAddr(m[1])
	}
	if m := vpncDNS.FindStringSubmatch(text); m != nil {
		for _, word := range strings.Fields(m[1]) {
			if dns, err := netip.ParseAddr(word); err == nil {
				a.DNS = append(a.DNS, dns)
			}
		}
	}
	return a
}

// Host returns the machine that the client runs on.
func (v *VPNC) Host() *Host { return v.config.Host }

// Ping is Host.Ping from the client's machine.
func (v *VPNC) Ping(ctx context.Context, to netip.Addr, o PingOptions) (PingResult, error) {
	return v.config.Host.Ping(ctx, to, o)
}

// Close ends vpnc, politely if it is connected.
func (v *VPNC) Close() {
	if v.daemon != nil {
		v.daemon.stop(goodbye)
		v.daemon.kill()
	}
}

// Logs returns what vpnc wrote.
func (v *VPNC) Logs() string { return logs(v.dir, "vpnc.log") }
