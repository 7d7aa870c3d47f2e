package topo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// FreeRADIUSConfig says what a FreeRADIUS is like. Host, Secret and Users are needed.
type FreeRADIUSConfig struct {
	Host   *Host
	Secret string // of every client
	Users  string // text of its users file
	// Certificate is the server's in EAP-TLS, and Authority has issued those of users; both nil: no EAP-TLS.
	Certificate *Certificate
	Authority   *Authority
}

// FreeRADIUS is a FreeRADIUS 3 on UDP 1812 and 1813 of a machine. It knows PAP, CHAP, MS-CHAPv2, EAP-MD5,
// EAP-MSCHAPv2 and, with certificates, EAP-TLS, demands Message-Authenticator, and keeps what it is asked and told.
// It may be started and stopped again and again.
type FreeRADIUS struct {
	net    *Net
	config FreeRADIUSConfig
	dir    string
	daemon *daemon // nil: does not run
}

// NewFreeRADIUS prepares a server on its host; nothing runs yet.
func (n *Net) NewFreeRADIUS(config FreeRADIUSConfig) (*FreeRADIUS, error) {
	if config.Host == nil || config.Secret == "" {
		return nil, errors.New("topo: a FreeRADIUS needs a host and a secret")
	}
	f := &FreeRADIUS{net: n, config: config, dir: filepath.Join(n.dir, "radius-"+strings.TrimPrefix(config.Host.Namespace.name, n.prefix))}
	if err := os.Mkdir(f.dir, 0o700); err != nil {
		return nil, fmt.Errorf("topo: %w", err)
	}
	tls := ""
	if config.Certificate != nil {
		tls = fmt.Sprintf(freeRADIUSTLS, config.Certificate.Key, config.Certificate.File, config.Authority.File)
	}
	text := fmt.Sprintf(freeRADIUSSettings, f.dir, tls, config.Host.Address, config.Secret)
	if err := os.WriteFile(filepath.Join(f.dir, "radiusd.conf"), []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("topo: %w", err)
	}
	return f, f.SetUsers(config.Users)
}

// freeRADIUSSettings loads no more than is used: under emulation each module costs. Releases before 3.2.5 sign
// answers only if told to, in post-auth. The arguments are directory, further EAP methods, address and secret.
const freeRADIUSSettings = `prefix = /usr
libdir = /usr/lib/freeradius
logdir = %[1]s
radacctdir = %[1]s
run_dir = %[1]s
max_request_time = 10
cleanup_delay = 2
max_requests = 16384
log {
	destination = stdout
	auth = yes
}
security {
	reject_delay = 0
	status_server = yes
}
modules {
	pap {
	}
	chap {
	}
	mschap {
	}
	files {
		usersfile = %[1]s/users
	}
	eap {
		default_eap_type = mschapv2
		timer_expire = 60
		md5 {
		}
		mschapv2 {
		}
%[2]s	}
	detail requests {
		filename = %[1]s/requests
		header = "%%I"
		locking = no
	}
	detail records {
		filename = %[1]s/records
		header = "%%I"
		locking = no
	}
}
server default {
	listen {
		type = auth
		ipaddr = %[3]s
		port = 1812
	}
	listen {
		type = acct
		ipaddr = %[3]s
		port = 1813
	}
	client everybody {
		ipaddr = 0.0.0.0/0
		secret = "%[4]s"
		require_message_authenticator = yes
	}
	authorize {
		requests
		files
		chap
		mschap
		eap
		pap
	}
	authenticate {
		Auth-Type PAP {
			pap
		}
		Auth-Type CHAP {
			chap
		}
		Auth-Type MS-CHAP {
			mschap
		}
		eap
	}
	accounting {
		records
	}
	post-auth {
		update reply {
			Message-Authenticator := 0x00
		}
		Post-Auth-Type REJECT {
			update reply {
				Message-Authenticator := 0x00
			}
		}
		Post-Auth-Type Challenge {
			update reply {
				Message-Authenticator := 0x00
			}
		}
	}
}
`

// freeRADIUSTLS has an answer's EAP packet fit into one of PPP. The arguments are key, certificate and authority.
const freeRADIUSTLS = `		tls-config certificates {
			private_key_file = %s
			certificate_file = %s
			ca_file = %s
			fragment_size = 1024
			tls_min_version = "1.2"
			tls_max_version = "1.2"
			cache {
				enable = no
			}
		}
		tls {
			tls = certificates
		}
`

// SetUsers replaces the users file; it holds from the next Start.
func (f *FreeRADIUS) SetUsers(text string) error {
	if err := os.WriteFile(filepath.Join(f.dir, "users"), []byte(text), 0o600); err != nil {
		return fmt.Errorf("topo: %w", err)
	}
	return nil
}

// Start starts the server and returns when it answers.
func (f *FreeRADIUS) Start(ctx context.Context) error {
	log := filepath.Join(f.dir, "log")
	before := sizeOf(log)
	var err error
	f.daemon, err = f.net.start(f.config.Host.Namespace, nil, nil, log, "freeradius", "-s", "-f", "-l", "stdout", "-d", f.dir)
	if err != nil {
		return err
	}
	return f.daemon.until(ctx, "answering", func() bool { return strings.Contains(textSince(log, before), "Ready to process requests") })
}

// Stop ends the server politely; what it was working on may be lost.
func (f *FreeRADIUS) Stop() {
	if f.daemon != nil {
		f.daemon.stop(goodbye)
		f.daemon = nil
	}
}

// Kill ends it at once.
func (f *FreeRADIUS) Kill() {
	if f.daemon != nil {
		f.daemon.kill()
		f.daemon = nil
	}
}

// Pause makes the server stand still: what is sent to it waits in its sockets.
func (f *FreeRADIUS) Pause() error { return unix.Kill(f.daemon.cmd.Process.Pid, unix.SIGSTOP) }

// Resume ends Pause.
func (f *FreeRADIUS) Resume() error { return unix.Kill(f.daemon.cmd.Process.Pid, unix.SIGCONT) }

// Records returns the accounting records that it has, in the order in which they came.
func (f *FreeRADIUS) Records() ([]RADIUSPacket, error) { return f.detail("records") }

// Requests returns the Access-Requests that it has got.
func (f *FreeRADIUS) Requests() ([]RADIUSPacket, error) { return f.detail("requests") }

func (f *FreeRADIUS) detail(name string) ([]RADIUSPacket, error) {
	b, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("topo: %w", err)
	}
	return parseDetail(string(b)), nil
}

// Logs returns what the server wrote.
func (f *FreeRADIUS) Logs() string { return logs(f.dir, "log") }

// RADIUSAttribute is an attribute as FreeRADIUS prints it: by its name there, tags included ("Tunnel-Type:0"), and
// texts without quotes.
type RADIUSAttribute struct{ Name, Value string }

// RADIUSPacket is the attributes of a packet, in its order.
type RADIUSPacket []RADIUSAttribute

// Get returns the first value of an attribute; empty if there is none.
func (p RADIUSPacket) Get(name string) string {
	for _, a := range p {
		if a.Name == name {
			return a.Value
		}
	}
	return ""
}

// All returns all values of an attribute.
func (p RADIUSPacket) All(name string) []string {
	var values []string
	for _, a := range p {
		if a.Name == name {
			values = append(values, a.Value)
		}
	}
	return values
}

// Without returns the packet without some attributes.
func (p RADIUSPacket) Without(names ...string) RADIUSPacket {
	var out RADIUSPacket
next:
	for _, a := range p {
		for _, n := range names {
			if a.Name == n {
				continue next
			}
		}
		out = append(out, a)
	}
	return out
}

// String has an attribute a line.
func (p RADIUSPacket) String() string {
	var b strings.Builder
	for _, a := range p {
		fmt.Fprintf(&b, "%s = %s\n", a.Name, a.Value)
	}
	return b.String()
}

// parseDetail reads a file of the detail module: packets are separated by empty lines, and begin with a header. One
// that is still being written is left out. FreeRADIUS' own additions are too.
func parseDetail(text string) []RADIUSPacket {
	var packets []RADIUSPacket
	for {
		block, rest, complete := strings.Cut(text, "\n\n")
		if !complete {
			return packets
		}
		if p := parseAttributes(block).Without("Packet-Type", "Timestamp", "Acct-Unique-Session-Id", "Tmp-String-9"); len(p) > 0 {
			packets = append(packets, p)
		}
		text = rest
	}
}

// parseAttributes reads the lines that begin with a tab.
func parseAttributes(text string) RADIUSPacket {
	var p RADIUSPacket
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " = ")
		if !ok || !strings.HasPrefix(line, "\t") {
			continue
		}
		if len(value) > 1 && strings.HasPrefix(value, `"`) && strings.HasSuffix(value, `"`) {
			value = strings.ReplaceAll(strings.ReplaceAll(value[1:len(value)-1], `\"`, `"`), `\\`, `\`)
		}
		p = append(p, RADIUSAttribute{name, value})
	}
	return p
}
