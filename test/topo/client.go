package topo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ClientConfig says what one client is like. Host, Server, User and Password are needed, and PSK unless Plain.
type ClientConfig struct {
	Host   *Host
	Server netip.Addr

	Plain bool   // L2TP without IPsec
	PSK   string // pre-shared key
	ID    string // IKE identity in strongSwan's notation; empty: the host's own address
	IKEConfig

	// Selector is the protocol and port, in strongSwan's notation, that IPsec is asked for to the server instead of UDP port 1701, and
	// TunnelMode is asked for instead of transport mode: what an L2TP server refuses.
	Selector   string
	TunnelMode bool

	// Certificate authenticates the client by RSA signatures instead of the PSK, and Authority, which it needs, the server.
	Certificate *Certificate
	Authority   *Authority

	User, Password string
	// EAP has pppd accept EAP and nothing else: EAP-TLS with UserCertificate, which UserAuthority's servers ask for, and
	// otherwise by password what the server likes of EAP-MSCHAPv2 and EAP-MD5.
	EAP             bool
	UserCertificate *Certificate
	UserAuthority   *Authority

	HostName      string         // of L2TP; empty: the machine's
	EphemeralPort bool           // any L2TP source port instead of 1701
	PPP           []string       // further options of pppd, such as "refuse-mschap-v2"
	Routes        []netip.Prefix // sent into the tunnel once it is up
}

// DefaultIKE and DefaultESP are what NetworkManager-l2tp proposes with strongSwan, strongest first.
var (
	DefaultIKE = []string{"aes256-sha2_256-modp2048", "aes256-sha2_256-modp1536", "aes256-sha2_256-modp1024", "aes256-sha1-modp2048", "aes256-sha1-modp1536", "aes256-sha1-modp1024", "aes256-sha1-ecp384", "aes128-sha1-modp1024", "aes128-sha1-ecp256", "3des-sha1-modp2048", "3des-sha1-modp1024"}
	DefaultESP = []string{"aes256-sha1", "aes128-sha1", "3des-sha1"}
)

// Stage is how far a client came.
type Stage string

// The stages of connecting, in order.
const (
	StageStart Stage = "start" // of the daemons
	StageIKE   Stage = "ike"
	StageL2TP  Stage = "l2tp"
	StagePPP   Stage = "ppp"
)

// ConnectError says that and where a client failed to connect.
type ConnectError struct {
	Stage Stage
	Err   error
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("topo: client failed at %s: %v", e.Stage, e.Err)
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// Session is what a connected client has got.
type Session struct {
	Interface string // of PPP, such as ppp0
	Local     netip.Addr
	Remote    netip.Addr
	DNS       []netip.Addr
}

// Client is one strongSwan, xl2tpd and pppd on a host of its own. A host has one client.
type Client struct {
	net    *Net
	config ClientConfig
	dir    string
	over   private
	charon *charon
	xl2tpd *xl2tpd
	gone   bool // Kill cut its link
}

// NewClient prepares a client on its host; nothing runs yet.
func (n *Net) NewClient(config ClientConfig) (*Client, error) {
	if config.Host == nil || !config.Server.IsValid() {
		return nil, errors.New("topo: a client needs a host and a server")
	}
	config.IKEConfig = config.withDefaults()
	c := &Client{net: n, config: config, dir: filepath.Join(n.dir, strings.TrimPrefix(config.Host.Namespace.name, n.prefix))}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return nil, fmt.Errorf("topo: %w", err)
	}
	var err error
	c.over, err = privateDirs(c.dir, fmt.Sprintf("%q * %q *\n", config.User, config.Password))
	return c, err
}

// Host returns the machine that the client runs on.
func (c *Client) Host() *Host { return c.config.Host }

// Start starts the daemons if they do not run; Connect does it too. It takes a few seconds under emulation.
func (c *Client) Start(ctx context.Context) error {
	var starting sync.WaitGroup
	var ikeErr, l2tpErr error
	if c.charon == nil && !c.config.Plain {
		starting.Go(func() { c.charon, ikeErr = c.startCharon(ctx) })
	}
	if c.xl2tpd == nil {
		starting.Go(func() { c.xl2tpd, l2tpErr = c.startXl2tpd(ctx) })
	}
	starting.Wait()
	if err := errors.Join(ikeErr, l2tpErr); err != nil {
		return &ConnectError{Stage: StageStart, Err: err}
	}
	return nil
}

func (c *Client) startCharon(ctx context.Context) (*charon, error) {
	local, remote := "dynamic[17/1701]", "dynamic[17/1701]"
	if c.config.EphemeralPort {
		local = "dynamic[17]"
	}
	if c.config.Selector != "" {
		local, remote = "dynamic", "dynamic["+c.config.Selector+"]"
	}
	conn := connection{
		IKEConfig: c.config.IKEConfig, to: c.config.Server.String(),
		local: []round{{auth: "psk", id: c.config.ID}}, remote: []round{{auth: "psk", id: "%any"}},
		secrets:  []secret{{kind: "ike", text: c.config.PSK}},
		children: []child{{name: childName, localTS: local, remoteTS: remote, tunnel: c.config.TunnelMode}},
	}
	if c.config.Certificate != nil {
		conn.local, conn.remote = []round{c.config.Certificate.round(c.config.ID)}, []round{c.config.Authority.round("")}
		conn.secrets = nil
	}
	return c.net.startCharon(ctx, c.config.Host.Namespace, c.dir, c.over, charonOptions{}, c.config.Certificate, conn)
}

func (c *Client) startXl2tpd(ctx context.Context) (*xl2tpd, error) {
	options := []string{
		"ipcp-accept-local", "ipcp-accept-remote", "noauth", "nodefaultroute", "usepeerdns", "debug",
		"mtu 1400", "mru 1400", "linkname " + lacName,
		fmt.Sprintf("name %q", c.config.User),
	}
	switch {
	case !c.config.EAP:
		options = append(options, "refuse-eap", fmt.Sprintf("password %q", c.config.Password))
	case c.config.UserCertificate != nil:
		options = append(options, "refuse-pap", "refuse-chap", "refuse-mschap", "refuse-mschap-v2",
			"cert "+c.config.UserCertificate.File, "key "+c.config.UserCertificate.Key, "ca "+c.config.UserAuthority.File)
	default:
		options = append(options, "refuse-pap", "refuse-chap", "refuse-mschap", "refuse-mschap-v2", fmt.Sprintf("password %q", c.config.Password))
	}
	options = append(options, c.config.PPP...)
	return c.net.startXl2tpd(ctx, c.config.Host.Namespace, c.dir, c.over,
		lacConfig(c.config, filepath.Join(c.dir, "ppp.options")),
		strings.Join(options, "\n")+"\n")
}

// protected says whether there are SAs already, from a session that is over: charon would negotiate others beside them.
func (c *Client) protected(ctx context.Context) bool {
	list, err := c.charon.list(ctx)
	return err == nil && slices.ContainsFunc(list, func(sa []viciPair) bool { return slices.Contains(sa, viciPair{"state", "INSTALLED"}) })
}

// Connect brings the VPN up: IKE and IPsec if they are not, L2TP, PPP, and the routes. After HangUp it brings up no session in the same
// tunnel: xl2tpd 1.3.18 does not forget a call of which the server heard first from it. It returns a ConnectError as soon as one
// of the daemons gives up, or when the context ends.
func (c *Client) Connect(ctx context.Context) (Session, error) {
	if err := c.Start(ctx); err != nil {
		return Session{}, err
	}
	if c.charon != nil && !c.protected(ctx) {
		if err := c.charon.initiate(ctx, childName); err != nil {
			return Session{}, &ConnectError{Stage: StageIKE, Err: err}
		}
	}
	log, pppLog := sizeOf(c.xl2tpd.log), sizeOf(c.xl2tpd.pppLog)
	if err := c.xl2tpd.command("c " + lacName); err != nil {
		return Session{}, &ConnectError{Stage: StageL2TP, Err: err}
	}
	var s Session
	var failed error
	var seen [2]int64
	err := c.xl2tpd.until(ctx, "connecting", func() bool {
		sizes := [2]int64{sizeOf(c.xl2tpd.log), sizeOf(c.xl2tpd.pppLog)}
		if sizes == seen {
			return false // nothing new in them
		}
		seen = sizes
		ppp := textSince(c.xl2tpd.pppLog, pppLog)
		var up bool
		if s, up = parseSession(ppp); up {
			return true
		}
		failed = connectFailure(textSince(c.xl2tpd.log, log), ppp)
		return failed != nil
	})
	if err = errors.Join(failed, err); err != nil {
		stage := StageL2TP
		if textSince(c.xl2tpd.pppLog, pppLog) != "" {
			stage = StagePPP
		}
		return Session{}, &ConnectError{Stage: stage, Err: err}
	}
	for _, r := range c.config.Routes {
		if err := c.config.Host.Namespace.IP(ctx, fmt.Sprintf("route add %s dev %s", r, s.Interface)); err != nil {
			return s, err
		}
	}
	return s, nil
}

// What pppd 2.4.9 and xl2tpd 1.3.18 write.
var (
	pppInterface = regexp.MustCompile(`(?m)^Using interface (\S+)$`)
	pppLocal     = regexp.MustCompile(`(?m)^local  IP address (\S+)$`)
	pppRemote    = regexp.MustCompile(`(?m)^remote IP address (\S+)$`)
	pppDNS       = regexp.MustCompile(`(?m)^(?:primary|secondary) +DNS address (\S+)$`)
	pppAcked     = regexp.MustCompile(`(?m)^rcvd \[IPCP ConfAck .*$`)
)

// l2tpFailed is what xl2tpd says when it gives up.
var l2tpFailed = []string{"Maximum retries exceeded", "Connection closed to", "pppd exited for call", "Host name lookup failed", "Giving up"}

// parseSession finds what pppd reports when IPCP is open; false if it does not yet.
func parseSession(log string) (Session, bool) {
	iface, local := pppInterface.FindStringSubmatch(log), pppLocal.FindStringSubmatch(log)
	if iface == nil || local == nil {
		return Session{}, false
	}
	s := Session{Interface: iface[1]}
	var err error
	if s.Local, err = netip.ParseAddr(local[1]); err != nil {
		return Session{}, false
	}
	remote := pppRemote.FindStringSubmatch(log)
	if remote == nil { // pppd writes it right after the local one
		return Session{}, false
	}
	if s.Remote, err = netip.ParseAddr(remote[1]); err != nil {
		return Session{}, false
	}
	for _, m := range pppDNS.FindAllStringSubmatch(log, -1) {
		if a, err := netip.ParseAddr(m[1]); err == nil {
			s.DNS = append(s.DNS, a)
		}
	}
	// The name servers come last, each in a line of its own.
	if acks := pppAcked.FindAllString(log, -1); len(acks) > 0 && strings.Count(acks[len(acks)-1], "<ms-dns") > len(s.DNS) {
		return Session{}, false
	}
	return s, true
}

// connectFailure recognises that xl2tpd or pppd has given up, from what they wrote since connecting began.
func connectFailure(l2tp, ppp string) error {
	line := lineWith(l2tp, l2tpFailed)
	if line == "" {
		return nil
	}
	if said := lineWith(ppp, []string{"authentication failed", "LCP terminated by peer", "No auth is possible", "Modem hangup", "not authorized"}); said != "" {
		return fmt.Errorf("%s (%s)", said, line)
	}
	return errors.New(line)
}

// lineWith returns the first line that contains one of the texts, empty if there is none.
func lineWith(log string, texts []string) string {
	for line := range strings.Lines(log) {
		if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(line, text) }) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// Disconnect takes the VPN down politely: PPP, L2TP, IPsec, IKE. The daemons stay for another Connect.
func (c *Client) Disconnect(ctx context.Context) error {
	var errs []error
	if c.xl2tpd != nil {
		if err := c.xl2tpd.command("d " + lacName); err != nil {
			errs = append(errs, err)
		} else {
			errs = append(errs, c.xl2tpd.until(ctx, "disconnecting", func() bool { return !c.pppRuns() }))
		}
	}
	if c.charon != nil {
		errs = append(errs, c.charon.terminate(ctx))
	}
	return errors.Join(errs...)
}

// HangUp has pppd end its link, as a user does who closes the connection: PPP goes first, the rest follows.
func (c *Client) HangUp() error {
	b, err := os.ReadFile(c.pppPID())
	if err != nil {
		return fmt.Errorf("topo: %w", err)
	}
	text, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("topo: pppd's process: %w", err)
	}
	return unix.Kill(pid, unix.SIGHUP)
}

func (c *Client) pppPID() string { return filepath.Join(c.over["/run"], "ppp-"+lacName+".pid") }

// pppRuns tells from pppd's pid file whether a link is, or is being brought, up.
func (c *Client) pppRuns() bool {
	_, err := os.Stat(c.pppPID())
	return err == nil
}

// Connected says whether a PPP link is, or is being brought, up.
func (c *Client) Connected() bool { return c.xl2tpd != nil && c.pppRuns() }

// RekeyIKE makes the client negotiate a new phase 1.
func (c *Client) RekeyIKE(ctx context.Context) error { return c.charon.rekeyIKE(ctx, connectionName) }

// RekeyChild makes the client negotiate new IPsec SAs.
func (c *Client) RekeyChild(ctx context.Context) error { return c.charon.rekeyChild(ctx, childName) }

// SAs returns swanctl's list of the client's security associations.
func (c *Client) SAs(ctx context.Context) (string, error) { return c.charon.sas(ctx) }

// Kill makes the client vanish: its link is cut first, so that nobody hears anything of its end.
func (c *Client) Kill(ctx context.Context) error {
	err := c.config.Host.Namespace.IP(ctx, "link set "+c.config.Host.Interface+" down")
	c.gone = true
	c.killDaemons()
	return err
}

// Close ends the daemons, politely if they are connected, unless Kill was before it.
func (c *Client) Close() {
	if !c.gone {
		if c.xl2tpd != nil {
			c.xl2tpd.stop(goodbye)
		}
		if c.charon != nil {
			c.charon.stop(goodbye)
		}
	}
	c.killDaemons()
}

func (c *Client) killDaemons() {
	if c.charon != nil {
		c.charon.kill()
		c.charon = nil
	}
	if c.xl2tpd != nil {
		c.xl2tpd.kill()
		c.xl2tpd = nil
	}
}

// Logs returns what the client's daemons wrote.
func (c *Client) Logs() string {
	return logs(c.dir, "charon.out", "charon.log", "xl2tpd.log", "ppp.log")
}

// logs returns files under headings.
func logs(dir string, names ...string) string {
	var b strings.Builder
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || len(text) == 0 {
			continue
		}
		fmt.Fprintf(&b, "==== %s of %s\n%s", name, filepath.Base(dir), text)
	}
	return b.String()
}
