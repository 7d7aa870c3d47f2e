package topo

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lacName names the section of xl2tpd's configuration, and pppd's link; secondLAC a section for another tunnel.
const (
	lacName   = "vpn"
	secondLAC = "second"
)

// xl2tpd is one L2TP daemon; it starts pppd as its child.
type xl2tpd struct {
	*daemon
	control string // named pipe that takes commands
	pppLog  string
}

// startXl2tpd starts a daemon in the namespace with its files in dir and waits until it takes commands. The
// configuration's file and pppd's options are given as text.
func (n *Net) startXl2tpd(ctx context.Context, ns *Namespace, dir string, over private, conf, options string) (*xl2tpd, error) {
	in := func(name string) string { return filepath.Join(dir, name) }
	x := &xl2tpd{control: in("l2tp-control"), pppLog: in("ppp.log")}
	options += "logfile " + x.pppLog + "\n"
	for name, text := range map[string]string{"xl2tpd.conf": conf, "ppp.options": options, "l2tp-secrets": "", "ppp.log": ""} {
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	var err error
	x.daemon, err = n.start(ns, over, nil, in("xl2tpd.log"), "xl2tpd", "-D",
		"-c", in("xl2tpd.conf"), "-s", in("l2tp-secrets"), "-p", in("xl2tpd.pid"), "-C", x.control)
	if err != nil {
		return nil, err
	}
	return x, x.until(ctx, "taking commands", func() bool {
		st, err := os.Stat(x.control)
		return err == nil && st.Mode()&os.ModeNamedPipe != 0 && strings.Contains(tailOf(x.log), "Listening on IP address")
	})
}

// command hands xl2tpd one line, such as "c vpn" to connect.
func (x *xl2tpd) command(line string) error {
	// Without a reader this fails at once instead of hanging.
	f, err := os.OpenFile(x.control, os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("topo: xl2tpd: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteString(line); err != nil {
		return fmt.Errorf("topo: xl2tpd: %w", err)
	}
	return nil
}

// lacConfig returns a client's xl2tpd.conf. Port 0 takes any free source port, as NetworkManager's "ephemeral
// port" option does. The second section is for another tunnel beside the usual one.
func lacConfig(c ClientConfig, options string) string {
	port := 1701
	if c.EphemeralPort {
		port = 0
	}
	text := fmt.Sprintf("[global]\nport = %d\naccess control = no\ndebug tunnel = yes\n", port)
	for _, name := range []string{lacName, secondLAC} {
		text += fmt.Sprintf("\n[lac %s]\nlns = %s\npppoptfile = %s\nlength bit = yes\nppp debug = yes\nredial = no\n", name, c.Server, options)
		if c.HostName != "" {
			text += "hostname = " + c.HostName + "\n"
		}
	}
	return text
}

// lnsConfig returns a server's xl2tpd.conf.
func lnsConfig(listen, local, first, last netip.Addr, options string, debug bool) string {
	yes := map[bool]string{false: "no", true: "yes"}
	return fmt.Sprintf(`[global]
listen-addr = %s
port = 1701
access control = no

[lns default]
ip range = %s-%s
local ip = %s
require authentication = yes
name = lns
pppoptfile = %s
length bit = yes
ppp debug = %s
`, listen, first, last, local, options, yes[debug])
}

// privateDirs makes the directories that one set of daemons sees as its own /run and /etc/ppp under dir. The
// host's /etc/ppp has scripts that would change the host's resolver.
func privateDirs(dir, secrets string) (private, error) {
	over := private{"/run": filepath.Join(dir, "run"), "/etc/ppp": filepath.Join(dir, "ppp")}
	for _, d := range over {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	for name, text := range map[string]string{"options": "", "chap-secrets": secrets, "pap-secrets": secrets} {
		if err := os.WriteFile(filepath.Join(over["/etc/ppp"], name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return over, nil
}

// textSince returns what was appended to a file since it had the given size.
func textSince(path string, size int64) string {
	b, err := os.ReadFile(path)
	if err != nil || int64(len(b)) < size {
		return ""
	}
	return string(b[size:])
}

// sizeOf returns the size of a file, 0 if there is none.
func sizeOf(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// goodbye is how long a daemon may take to end politely.
const goodbye = 5 * time.Second
