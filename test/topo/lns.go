package topo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LNSConfig says what an LNS is like. Every field is needed.
type LNSConfig struct {
	Namespace *Namespace
	Listen    netip.Addr        // its public address
	Secret    string            // of the tunnels; without blanks
	Users     map[string]string // name -> password
	Local     netip.Addr        // PPP address of the server
	First     netip.Addr        // pool of the clients
	Last      netip.Addr
}

// LNS is xl2tpd and pppd as LNS of a provider: L2TP without IPsec, for LACs that know the tunnel secret.
type LNS struct {
	dir    string
	run    string // its /run
	xl2tpd *xl2tpd
}

// NewLNS starts an LNS and returns when it takes calls.
func (n *Net) NewLNS(ctx context.Context, config LNSConfig) (*LNS, error) {
	s := &LNS{dir: filepath.Join(n.dir, "lns-"+strings.TrimPrefix(config.Namespace.name, n.prefix))}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("topo: %w", err)
	}
	var users strings.Builder
	for name, password := range config.Users {
		fmt.Fprintf(&users, "%q * %q *\n", name, password)
	}
	over, err := privateDirs(s.dir, users.String())
	if err != nil {
		return nil, err
	}
	s.run = over["/run"]
	s.xl2tpd, err = n.startXl2tpd(ctx, config.Namespace, s.dir, over,
		lnsConfig(config.Listen, config.Local, config.First, config.Last, filepath.Join(s.dir, "ppp.options"), true)+"challenge = yes\n",
		"auth\nrequire-mschap-v2\nnoccp\nmtu 1400\nmru 1400\nlcp-echo-interval 30\nlcp-echo-failure 4\ndebug\n")
	if err != nil {
		return nil, err
	}
	// xl2tpd reads the file whenever it needs a secret.
	if err := os.WriteFile(filepath.Join(s.dir, "l2tp-secrets"), []byte("* * "+config.Secret+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("topo: %w", err)
	}
	return s, nil
}

// HangUp has pppd end all sessions, as an operator does: PPP goes first, the calls follow.
func (s *LNS) HangUp() error {
	files, err := filepath.Glob(filepath.Join(s.run, "ppp*.pid"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New("topo: the LNS has no session")
	}
	var errs []error
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			errs = append(errs, fmt.Errorf("topo: pppd's process: %w", err))
			continue
		}
		errs = append(errs, unix.Kill(pid, unix.SIGHUP))
	}
	return errors.Join(errs...)
}

// Logs returns what the LNS's daemons wrote.
func (s *LNS) Logs() string { return logs(s.dir, "xl2tpd.log", "ppp.log") }
