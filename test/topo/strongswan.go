package topo

import (
	"cmp"
	"context"
	"errors"
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

// charonPlugins are what IKEv1 with pre-shared keys, certificates and XAuth takes. Debian loads some sixty
// plugins, which costs each daemon seconds under emulation. The native des and md5 come before openssl, which
// has not got them without its legacy provider.
const charonPlugins = "random nonce des md5 openssl gmp curve25519 pem pkcs1 hmac kdf kernel-netlink socket-default vici xauth-generic"

// virtualPlugins are what a client with a virtual address takes beside them.
const virtualPlugins = " resolve unity"

// charonOptions are strongSwan's own retransmission settings and the usual log of this package unless a test wants otherwise.
type charonOptions struct {
	tries   int
	timeout time.Duration
	quiet   bool   // logs what goes wrong only
	many    bool   // has so many connections that it does not log their settings
	virtual bool   // takes the address that the server gives it, and routes through the tunnel
	resolv  string // file for the name servers that the server gives it
}

// charonSettings returns strongswan.conf, of the daemon and of swanctl. Routes stay ours unless it gets a
// virtual address: transport mode needs none. Left to itself, swanctl would load af-alg, which makes the kernel
// build and test every cipher it knows.
func charonSettings(log string, options charonOptions) string {
	var retransmit string
	if options.tries > 0 {
		retransmit += fmt.Sprintf("\tretransmit_tries = %d\n", options.tries)
	}
	if options.timeout > 0 {
		retransmit += fmt.Sprintf("\tretransmit_timeout = %.1f\n", options.timeout.Seconds())
	}
	virtual, plugins := "no", charonPlugins
	if options.virtual {
		virtual, plugins = "yes", charonPlugins+virtualPlugins
	}
	levels := "\t\t\tdefault = 1\n\t\t\tike = 2\n\t\t\tcfg = 2\n\t\t\tnet = 1\n\t\t\tenc = 1\n"
	switch {
	case options.quiet:
		levels = "\t\t\tdefault = 0\n"
	case options.many:
		levels = strings.Replace(levels, "cfg = 2", "cfg = 1", 1)
	}
	return fmt.Sprintf(`charon {
	load = %s
	install_routes = %s
	install_virtual_ip = %[2]s
	i_dont_care_about_security_and_use_aggressive_mode_psk = yes
	cisco_unity = yes
	plugins {
		resolve {
			file = %s
		}
	}
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
`, plugins, virtual, cmp.Or(options.resolv, os.DevNull), retransmit, log, levels)
}

// IKEConfig is what strongSwan is told of IKE, whatever it is for.
type IKEConfig struct {
	IKE []string // proposals in strongSwan's notation; empty: DefaultIKE
	ESP []string // the same; empty: DefaultESP

	IKELifetime time.Duration // rekeying time; 0: strongSwan's hours
	ESPLifetime time.Duration
	// NeverRekeys leaves rekeying to the server; ESPLifetime, which it needs, is then the whole life.
	NeverRekeys bool
	DPD         time.Duration // interval of dead peer detection; 0: none
	Connection  []string      // further settings of swanctl's connection section, such as "encap = yes"

	// RetransmitTries and RetransmitTimeout shorten strongSwan's 5 tries from 4 s, which give up after
	// nearly three minutes; 0 keeps them.
	RetransmitTries   int
	RetransmitTimeout time.Duration
}

// withDefaults fills in the proposals.
func (c IKEConfig) withDefaults() IKEConfig {
	if len(c.IKE) == 0 {
		c.IKE = DefaultIKE
	}
	if len(c.ESP) == 0 {
		c.ESP = DefaultESP
	}
	return c
}

// charon is one strongSwan daemon.
type charon struct {
	*daemon
	uri      string // of its control socket
	settings string // strongswan.conf
	conf     string // swanctl.conf
	file     string // its log
}

// startCharon starts a daemon in the namespace with its files in dir, waits for it, and loads the connections.
// Its private key, and what is above its certificate, are those of own, nil if there is none.
func (n *Net) startCharon(ctx context.Context, ns *Namespace, dir string, over private, options charonOptions, own *Certificate, c ...connection) (*charon, error) {
	ch := &charon{
		uri:      "unix://" + filepath.Join(over["/run"], "charon.vici"),
		settings: filepath.Join(dir, "strongswan.conf"),
		conf:     filepath.Join(dir, "swanctl.conf"),
		file:     filepath.Join(dir, "charon.log"),
	}
	if len(c) > 0 {
		options.tries, options.timeout = c[0].RetransmitTries, c[0].RetransmitTimeout
	}
	var key []byte
	var above []string
	if own != nil {
		var err error
		above = own.Above
		if key, err = os.ReadFile(own.Key); err != nil {
			return nil, err
		}
		beside := filepath.Join(dir, "rsa") // swanctl looks for keys beside its configuration
		if err := errors.Join(os.MkdirAll(beside, 0o700), os.WriteFile(filepath.Join(beside, "own.pem"), key, 0o600)); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(ch.settings, []byte(charonSettings(ch.file, options)), 0o600); err != nil {
		return nil, err
	}
	conf := settings(c...)
	if err := os.WriteFile(ch.conf, []byte(conf), 0o600); err != nil {
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
	return ch, ch.load(ctx, conf, key, above)
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

// initiate brings a child up, and its connection.
func (c *charon) initiate(ctx context.Context, child string) error {
	_, _, err := c.vici(ctx, "initiate", "", viciPair{"child", child})
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, tailOf(c.file))
	}
	return err
}

// rekeyIKE makes charon negotiate a new phase 1 of a connection.
func (c *charon) rekeyIKE(ctx context.Context, name string) error {
	_, _, err := c.vici(ctx, "rekey", "", viciPair{"ike", name}, viciPair{"reauth", "yes"})
	return err
}

// rekeyChild makes charon negotiate new IPsec SAs.
func (c *charon) rekeyChild(ctx context.Context, child string) error {
	_, _, err := c.vici(ctx, "rekey", "", viciPair{"child", child})
	return err
}

// sas returns swanctl's list of security associations.
func (c *charon) sas(ctx context.Context) (string, error) {
	return c.swanctl(ctx, "--list-sas")
}

// list returns what charon says of each of its phase 1 SAs.
func (c *charon) list(ctx context.Context) ([][]viciPair, error) {
	_, sas, err := c.vici(ctx, "list-sas", "list-sa")
	return sas, err
}

// terminate ends IPsec. It is not asked to wait: it does so in vain when the server was quicker with one of the
// SAs. What counts is that none is left.
func (c *charon) terminate(ctx context.Context) error {
	_, _, failed := c.vici(ctx, "terminate", "", viciPair{"ike", connectionName}, viciPair{"timeout", "-1"})
	var left [][]viciPair
	var err error
	waitErr := c.until(ctx, "ending its SAs", func() bool {
		left, err = c.list(ctx)
		return err != nil || len(left) == 0
	})
	if err = errors.Join(err, waitErr); err != nil {
		return errors.Join(failed, err, fmt.Errorf("%d are left", len(left)))
	}
	return nil
}
