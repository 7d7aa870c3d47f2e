package topo

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// charonPath is where Debian puts strongSwan's daemon.
const charonPath = "/usr/lib/ipsec/charon"

// charonPlugins are what IKEv1 with pre-shared keys and XAuth takes. Debian loads some sixty plugins, which
// costs each daemon seconds under emulation. The native des and md5 come before openssl, which has not got
// them without its legacy provider.
const charonPlugins = "random nonce des md5 openssl gmp curve25519 pem pkcs1 hmac kdf kernel-netlink socket-default vici xauth-generic"

// charonOptions are strongSwan's own retransmission settings and the usual log of this package unless a test wants otherwise.
type charonOptions struct {
	tries   int
	timeout time.Duration
	quiet   bool // logs what goes wrong only
}

// charonSettings returns strongswan.conf, of the daemon and of swanctl. Routes stay ours: transport mode needs
// none. Left to itself, swanctl would load af-alg, which makes the kernel build and test every cipher it knows.
func charonSettings(log string, options charonOptions) string {
	var retransmit string
	if options.tries > 0 {
		retransmit += fmt.Sprintf("\tretransmit_tries = %d\n", options.tries)
	}
	if options.timeout > 0 {
		retransmit += fmt.Sprintf("\tretransmit_timeout = %.1f\n", options.timeout.Seconds())
	}
	levels := "\t\t\tdefault = 1\n\t\t\tike = 2\n\t\t\tcfg = 2\n\t\t\tnet = 1\n\t\t\tenc = 1\n"
	if options.quiet {
		levels = "\t\t\tdefault = 0\n"
	}
	return fmt.Sprintf(`charon {
	load = %s
	install_routes = no
	install_virtual_ip = no
%s	filelog {
		file {
			path = %s
			flush_line = yes
			time_format = %%H:%%M:%%S
%s		}
	}
}
swanctl {
	load = random pem pkcs1 openssl
}
`, charonPlugins, retransmit, log, levels)
}

// connection is one swanctl connection with one child, of a client or of a server.
type connection struct {
	remote   string // address, or %any
	id       string // of this side; empty: its address
	remoteID string // empty: %any
	psk      string
	ike      []string // proposals in strongSwan's notation; empty: its defaults
	esp      []string
	ikeLife  time.Duration // rekeying time; 0: strongSwan's
	espLife  time.Duration
	passive  bool          // leaves rekeying to the peer; espLife is then the whole life
	dpd      time.Duration // 0: none
	localTS  string
	remoteTS string
	extra    []string // further settings of the connection
}

// connectionName names the connection, and childName its child, to swanctl.
const (
	connectionName = "vpn"
	childName      = "l2tp"
)

// settings returns swanctl.conf.
func (c connection) settings() string {
	var b strings.Builder
	line := func(indent int, format string, args ...any) {
		b.WriteString(strings.Repeat("\t", indent))
		fmt.Fprintf(&b, format+"\n", args...)
	}
	line(0, "connections {")
	line(1, "%s {", connectionName)
	line(2, "version = 1")
	line(2, "remote_addrs = %s", c.remote)
	if len(c.ike) > 0 {
		line(2, "proposals = %s", strings.Join(c.ike, ","))
	}
	switch {
	case c.passive:
		line(2, "rekey_time = 0s")
	case c.ikeLife > 0:
		line(2, "rekey_time = %ds", int(c.ikeLife.Seconds()))
		line(2, "over_time = %ds", max(1, int(c.ikeLife.Seconds())/2))
		line(2, "rand_time = 0")
	}
	if c.dpd > 0 {
		line(2, "dpd_delay = %ds", int(c.dpd.Seconds()))
		line(2, "dpd_timeout = %ds", 3*int(c.dpd.Seconds()))
	}
	for _, e := range c.extra {
		line(2, "%s", e)
	}
	line(2, "local {")
	line(3, "auth = psk")
	if c.id != "" {
		line(3, "id = %s", c.id)
	}
	line(2, "}")
	line(2, "remote {")
	line(3, "auth = psk")
	if c.remoteID != "" {
		line(3, "id = %s", c.remoteID)
	}
	line(2, "}")
	line(2, "children {")
	line(3, "%s {", childName)
	line(4, "mode = transport")
	line(4, "local_ts = %s", c.localTS)
	line(4, "remote_ts = %s", c.remoteTS)
	if len(c.esp) > 0 {
		line(4, "esp_proposals = %s", strings.Join(c.esp, ","))
	}
	switch {
	case c.passive:
		line(4, "rekey_time = 0s")
		line(4, "life_time = %ds", int(c.espLife.Seconds()))
	case c.espLife > 0:
		line(4, "rekey_time = %ds", int(c.espLife.Seconds()))
		line(4, "life_time = %ds", 2*int(c.espLife.Seconds()))
		line(4, "rand_time = 0")
	}
	line(3, "}")
	line(2, "}")
	line(1, "}")
	line(0, "}")
	line(0, "secrets {")
	line(1, "ike {")
	line(2, "secret = %q", c.psk)
	line(1, "}")
	line(0, "}")
	return b.String()
}

// charon is one strongSwan daemon.
type charon struct {
	*daemon
	uri      string // of its control socket
	settings string // strongswan.conf
	conf     string // swanctl.conf
	file     string // its log
}

// startCharon starts a daemon in the namespace with its files in dir, waits for it, and loads the connection.
func (n *Net) startCharon(ctx context.Context, ns *Namespace, dir string, over private, options charonOptions, c connection) (*charon, error) {
	ch := &charon{
		uri:      "unix://" + filepath.Join(over["/run"], "charon.vici"),
		settings: filepath.Join(dir, "strongswan.conf"),
		conf:     filepath.Join(dir, "swanctl.conf"),
		file:     filepath.Join(dir, "charon.log"),
	}
	if err := os.WriteFile(ch.settings, []byte(charonSettings(ch.file, options)), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(ch.conf, []byte(c.settings()), 0o600); err != nil {
		return nil, err
	}
	var err error
	ch.daemon, err = n.start(ns, over, []string{"STRONGSWAN_CONF=" + ch.settings}, filepath.Join(dir, "charon.out"), charonPath)
	if err != nil {
		return nil, err
	}
	err = ch.until(ctx, "listening for swanctl", func() bool {
		conn, err := net.Dial("unix", strings.TrimPrefix(ch.uri, "unix://"))
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	if err != nil {
		return nil, err
	}
	_, err = ch.swanctl(ctx, "--load-all", "--file", ch.conf)
	return ch, err
}

// swanctl runs strongSwan's control program and returns what it prints.
func (c *charon) swanctl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "swanctl", append(args, "--uri", c.uri)...)
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+c.settings)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("topo: swanctl %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
