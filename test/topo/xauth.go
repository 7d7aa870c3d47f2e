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

// Method is how a dynamic IPsec subscriber and the server prove who they are, before XAuth.
type Method int

// The methods that strongSwan has for XAuth clients.
const (
	XAuthPSK  Method = iota // the group's key, on both sides
	XAuthRSA                // certificates on both sides
	HybridRSA               // a certificate on the server's side only
)

// XAuthConfig says what one dynamic IPsec subscriber is like. Host, Server, User and Password are needed, and
// what the method takes: PSK, Certificate with Authority, or Authority.
type XAuthConfig struct {
	Host   *Host
	Server netip.Addr

	Method     Method
	Aggressive bool
	PSK        string
	ID         string // IKE identity in strongSwan's notation, such as "keyid:sales" or "@sales.example.net"; empty: the host's own address, or the certificate's subject
	ServerID   string // that the server has to have; empty: any
	IKEConfig

	Certificate *Certificate
	Authority   *Authority // that has to have issued the server's certificate

	User, Password string
	Push           bool           // waits for the configuration instead of asking for it
	Networks       []netip.Prefix // wanted through the tunnel; empty: everything
}

// Assigned is what a connected subscriber has got.
type Assigned struct {
	Address netip.Addr
	DNS     []netip.Addr
}

// XAuthClient is one strongSwan as dynamic IPsec subscriber on a host of its own.
type XAuthClient struct {
	net    *Net
	config XAuthConfig
	dir    string
	over   private
	charon *charon
	gone   bool // Kill cut its link
}

// tunnelName names the child of a dynamic subscriber.
const tunnelName = "tunnel"

// NewXAuthClient prepares a client on its host; nothing runs yet.
func (n *Net) NewXAuthClient(config XAuthConfig) (*XAuthClient, error) {
	if config.Host == nil || !config.Server.IsValid() {
		return nil, errors.New("topo: a client needs a host and a server")
	}
	config.IKEConfig = config.withDefaults()
	c := &XAuthClient{net: n, config: config, dir: filepath.Join(n.dir, strings.TrimPrefix(config.Host.Namespace.name, n.prefix))}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return nil, fmt.Errorf("topo: %w", err)
	}
	var err error
	c.over, err = privateDirs(c.dir, "")
	return c, err
}

// Host returns the machine that the client runs on.
func (c *XAuthClient) Host() *Host { return c.config.Host }

// Start starts the daemon if it does not run; Connect does it too.
func (c *XAuthClient) Start(ctx context.Context) error {
	if c.charon != nil {
		return nil
	}
	var err error
	options := charonOptions{virtual: true, resolv: c.resolv()}
	c.charon, err = c.net.startCharon(ctx, c.config.Host.Namespace, c.dir, c.over, options, c.config.Certificate, c.connection())
	if err != nil {
		return &ConnectError{Stage: StageStart, Err: err}
	}
	return nil
}

// connection says it in swanctl's words.
func (c *XAuthClient) connection() connection {
	o := c.config
	conn := connection{
		IKEConfig: o.IKEConfig, to: o.Server.String(),
		secrets: []secret{{kind: "xauth", id: o.User, text: o.Password}},
	}
	conn.Connection = append([]string{"vips = 0.0.0.0", "aggressive = " + yesNo(o.Aggressive), "pull = " + yesNo(!o.Push)}, conn.Connection...)
	user := round{auth: "xauth", xauthID: o.User}
	switch o.Method {
	case XAuthPSK:
		id := o.ServerID
		if id == "" {
			id = "%any"
		}
		conn.local, conn.remote = []round{{auth: "psk", id: o.ID}, user}, []round{{auth: "psk", id: id}}
		conn.secrets = append(conn.secrets, secret{kind: "ike", text: o.PSK})
	case XAuthRSA:
		conn.local, conn.remote = []round{o.Certificate.round(o.ID), user}, []round{o.Authority.round(o.ServerID)}
	case HybridRSA:
		user.id = o.ID
		conn.local, conn.remote = []round{user}, []round{o.Authority.round(o.ServerID)}
	}
	networks := "0.0.0.0/0"
	if len(o.Networks) > 0 {
		var nets []string
		for _, n := range o.Networks {
			nets = append(nets, n.String())
		}
		networks = strings.Join(nets, ",")
	}
	conn.children = []child{{name: tunnelName, tunnel: true, localTS: "dynamic", remoteTS: networks}}
	return conn
}

// resolv is the file in which strongSwan notes name servers.
func (c *XAuthClient) resolv() string { return filepath.Join(c.dir, "resolv.conf") }

// Connect brings the VPN up: phase 1, XAuth, configuration, phase 2. Routes through the tunnel are strongSwan's.
// It returns a ConnectError as soon as strongSwan gives up, or when the context ends.
func (c *XAuthClient) Connect(ctx context.Context) (Assigned, error) {
	if err := c.Start(ctx); err != nil {
		return Assigned{}, err
	}
	if err := c.charon.initiate(ctx, tunnelName); err != nil {
		return Assigned{}, &ConnectError{Stage: StageIKE, Err: err}
	}
	sas, err := c.charon.list(ctx)
	if err != nil {
		return Assigned{}, err
	}
	resolv, err := os.ReadFile(c.resolv())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Assigned{}, err
	}
	a, ok := parseAssigned(sas, string(resolv))
	if !ok {
		return a, &ConnectError{Stage: StageIKE, Err: fmt.Errorf("no virtual address: %q", sas)}
	}
	return a, nil
}

// nameServer is what strongSwan's resolve plugin writes.
var nameServer = regexp.MustCompile(`(?m)^nameserver (\S+)`)

// parseAssigned finds the address; false if there is none.
func parseAssigned(sas [][]viciPair, resolv string) (Assigned, bool) {
	var a Assigned
	for _, sa := range sas {
		if addr, err := netip.ParseAddr(viciValue(sa, "local-vips")); err == nil {
			a.Address = addr
		}
	}
	for _, m := range nameServer.FindAllStringSubmatch(resolv, -1) {
		if dns, err := netip.ParseAddr(m[1]); err == nil {
			a.DNS = append(a.DNS, dns)
		}
	}
	return a, a.Address.IsValid()
}

// Connected says whether the client has any SA, of either phase.
func (c *XAuthClient) Connected(ctx context.Context) (bool, error) {
	sas, err := c.charon.list(ctx)
	return len(sas) > 0, err
}

// Ping is Host.Ping from the client's machine.
func (c *XAuthClient) Ping(ctx context.Context, to netip.Addr, o PingOptions) (PingResult, error) {
	return c.config.Host.Ping(ctx, to, o)
}

// Disconnect takes the VPN down politely. The daemon stays for another Connect.
func (c *XAuthClient) Disconnect(ctx context.Context) error { return c.charon.terminate(ctx) }

// RekeyIKE makes the client negotiate a new phase 1.
func (c *XAuthClient) RekeyIKE(ctx context.Context) error {
	return c.charon.rekeyIKE(ctx, connectionName)
}

// RekeyChild makes the client negotiate new IPsec SAs.
func (c *XAuthClient) RekeyChild(ctx context.Context) error {
	return c.charon.rekeyChild(ctx, tunnelName)
}

// SAs returns swanctl's list of the client's security associations.
func (c *XAuthClient) SAs(ctx context.Context) (string, error) { return c.charon.sas(ctx) }

// Kill makes the client vanish: its link is cut first, so that nobody hears anything of its end.
func (c *XAuthClient) Kill(ctx context.Context) error {
	err := c.config.Host.Namespace.IP(ctx, "link set "+c.config.Host.Interface+" down")
	c.gone = true
	c.kill()
	return err
}

// Close ends the daemon, politely if it is connected, unless Kill was before it.
func (c *XAuthClient) Close() {
	if c.charon != nil && !c.gone {
		c.charon.stop(goodbye)
	}
	c.kill()
}

func (c *XAuthClient) kill() {
	if c.charon != nil {
		c.charon.kill()
		c.charon = nil
	}
}

// Logs returns what the client's daemon wrote.
func (c *XAuthClient) Logs() string { return logs(c.dir, "charon.out", "charon.log") }
