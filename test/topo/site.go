package topo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// SiteConfig says what a Site is like.
type SiteConfig struct {
	Host *Host // its router, of AddHost: direct or behind a NAT
	// Gateway is the router's address in the network behind it, Addresses those of the one host there, the first its own.
	Gateway   netip.Prefix
	Addresses []netip.Addr
	Tunnels   []SiteTunnel
	// Own is the router's certificate, nil if it has none.
	Own *Certificate
}

// SiteTunnel is one site-to-site tunnel as strongSwan is told of it.
type SiteTunnel struct {
	Name  string
	Local netip.Addr // outer address, one of the router's; the zero Addr: its only one
	Peer  string     // the peer's address or name; "%any" for one that may have any
	IKEConfig
	Aggressive bool
	// PSK, or else the router's certificate and an authority that has to have issued the peer's.
	PSK       string
	Authority *Authority
	ID        string // in strongSwan's notation; empty: the address, or the certificate's subject
	PeerID    string // the same; empty: any
	// Networks are its pairs of networks, of which IKEv1 has one in each child. Child i is the tunnel's name, "-" and i.
	Networks []SiteNetwork
	// Transport is the mode of the children; else tunnel mode.
	Transport bool
	Start     string // strongSwan's start_action: none, trap or start; empty: none
	OnDead    string // its dpd_action: clear, trap or restart; empty: clear
	// User and Password are of extended authentication, which the peer is asked for if AsksUser is set, else we.
	User, Password string
	AsksUser       bool
	Bytes          uint64 // volume after which we rekey a child; 0: none
	LifeBytes      uint64 // that we propose for a child; 0: ten times Bytes
}

// SiteNetwork is a pair of networks in strongSwan's notation: "10.1.0.0/16", or "dynamic[gre]" in transport mode.
type SiteNetwork struct{ Local, Remote string }

// Site is a router with a network behind it, and strongSwan as its end of static tunnels.
type Site struct {
	// Inside is the host of the network behind the router.
	Inside *Host

	net    *Net
	config SiteConfig
	dir    string
	over   private
	charon *charon
}

// NewSite makes a site; strongSwan does not run yet.
func (n *Net) NewSite(ctx context.Context, config SiteConfig) (*Site, error) {
	router := config.Host.Namespace
	s := &Site{net: n, config: config, dir: filepath.Join(n.dir, strings.TrimPrefix(router.name, n.prefix))}
	if err := errors.Join(os.Mkdir(s.dir, 0o700), router.Forward()); err != nil {
		return nil, fmt.Errorf("topo: %w", err)
	}
	var err error
	if s.over, err = privateDirs(s.dir, ""); err != nil {
		return nil, err
	}
	if len(config.Addresses) == 0 {
		return s, nil
	}
	s.Inside, err = n.AddIntranet(ctx, router, Intranet{Interface: "lan0", Gateway: config.Gateway, Host: config.Addresses[0]})
	if err != nil {
		return nil, err
	}
	var more []string
	for _, a := range config.Addresses[1:] {
		more = append(more, fmt.Sprintf("addr add %v/%d dev %s", a, config.Gateway.Bits(), s.Inside.Interface))
	}
	if len(more) > 0 {
		err = s.Inside.Namespace.IP(ctx, more...)
	}
	return s, err
}

// Router returns the machine that strongSwan runs on.
func (s *Site) Router() *Host { return s.config.Host }

// Configure says which tunnels strongSwan has from its next start on.
func (s *Site) Configure(tunnels ...SiteTunnel) { s.config.Tunnels = tunnels }

// Start starts strongSwan with the tunnels, and returns when it takes calls. Tunnels whose Start is "start" are dialled then.
func (s *Site) Start(ctx context.Context) error {
	var connections []connection
	for _, t := range s.config.Tunnels {
		connections = append(connections, t.connection(s.config.Own))
	}
	var err error
	s.charon, err = s.net.startCharon(ctx, s.config.Host.Namespace, s.dir, s.over, charonOptions{many: true}, s.config.Own, connections...)
	return err
}

// connection says it in swanctl's words.
func (t SiteTunnel) connection(own *Certificate) connection {
	c := connection{IKEConfig: t.withDefaults(), name: t.Name, to: t.Peer}
	if t.Local.IsValid() {
		c.from = t.Local.String()
	}
	// strongSwan ends other tunnels of the same two identities, unless it is told not to.
	c.Connection = append([]string{"aggressive = " + yesNo(t.Aggressive), "unique = never"}, c.Connection...)
	if t.OnDead == "restart" {
		c.Connection = append(c.Connection, "keyingtries = 0") // else it dials once more and no further
	}
	if t.PSK != "" {
		c.local, c.remote = []round{{auth: "psk", id: t.ID}}, []round{{auth: "psk", id: cmp.Or(t.PeerID, "%any")}}
		c.secrets = []secret{{kind: "ike", text: t.PSK}}
		// The key is looked up by both identities, which are addresses where there are no others; without any it would be
		// everybody's.
		if id := cmp.Or(t.PeerID, t.Peer); id != "%any" {
			c.secrets[0].id = id
			c.secrets[0].own = cmp.Or(t.ID, c.from)
		}
	} else {
		c.local, c.remote = []round{own.round(t.ID)}, []round{t.Authority.round(t.PeerID)}
	}
	if t.User != "" {
		c.secrets = append(c.secrets, secret{kind: "xauth", id: t.User, text: t.Password})
		if t.AsksUser {
			c.remote = append(c.remote, round{auth: "xauth"})
		} else {
			c.local = append(c.local, round{auth: "xauth", xauthID: t.User})
		}
	}
	more := []string{"start_action = " + cmp.Or(t.Start, "none"), "dpd_action = " + cmp.Or(t.OnDead, "clear")}
	if t.Bytes+t.LifeBytes > 0 {
		more = append(more, fmt.Sprintf("rekey_bytes = %d", t.Bytes), "rand_bytes = 0", fmt.Sprintf("life_bytes = %d", cmp.Or(t.LifeBytes, 10*t.Bytes)))
	}
	for i, n := range t.Networks {
		c.children = append(c.children, child{name: SiteChild(t.Name, i), tunnel: !t.Transport, localTS: n.Local, remoteTS: n.Remote, settings: more})
	}
	return c
}

// SiteChild names the i-th pair of networks of a tunnel.
func SiteChild(tunnel string, i int) string { return fmt.Sprintf("%s-%d", tunnel, i) }

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// Initiate dials a tunnel: all its pairs of networks, one after the other. It returns when they are up, or with what strongSwan
// says of the failure.
func (s *Site) Initiate(ctx context.Context, tunnel string) error {
	i := slices.IndexFunc(s.config.Tunnels, func(t SiteTunnel) bool { return t.Name == tunnel })
	if i < 0 {
		return fmt.Errorf("topo: no tunnel %q", tunnel)
	}
	for k := range s.config.Tunnels[i].Networks {
		if err := s.charon.initiate(ctx, SiteChild(tunnel, k)); err != nil {
			return err
		}
	}
	return nil
}

// Terminate ends a tunnel politely, and returns before the peer has heard of it.
func (s *Site) Terminate(ctx context.Context, tunnel string) error {
	_, _, err := s.charon.vici(ctx, "terminate", "", viciPair{"ike", tunnel}, viciPair{"timeout", "-1"})
	return err
}

// RekeyIKE makes strongSwan negotiate a new phase 1 of a tunnel.
func (s *Site) RekeyIKE(ctx context.Context, tunnel string) error {
	return s.charon.rekeyIKE(ctx, tunnel)
}

// RekeyChild makes strongSwan negotiate new IPsec SAs of a pair of networks.
func (s *Site) RekeyChild(ctx context.Context, tunnel string, i int) error {
	return s.charon.rekeyChild(ctx, SiteChild(tunnel, i))
}

// Crash ends strongSwan as a power failure does: nobody hears of it, and the kernel has forgotten the SAs. Start starts it again.
func (s *Site) Crash(ctx context.Context) error {
	s.charon.kill()
	if err := os.Remove(strings.TrimPrefix(s.charon.uri, "unix://")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("topo: %w", err)
	}
	return s.config.Host.Namespace.IP(ctx, "xfrm state flush", "xfrm policy flush")
}

// Cut makes the site unreachable, and Mend reachable again. Nobody is told: what is sent to it is lost on the way.
func (s *Site) Cut(ctx context.Context) error {
	return s.config.Host.Namespace.NFT(ctx, fmt.Sprintf(`table netdev cut {
	chain in {
		type filter hook ingress device %q priority 0; policy drop;
	}
}
table inet cut {
	chain out {
		type filter hook output priority 0; policy accept;
		oifname %[1]q drop
	}
	chain forward {
		type filter hook forward priority 0; policy accept;
		oifname %[1]q drop
	}
}
`, s.config.Host.Interface))
}

// Mend undoes Cut.
func (s *Site) Mend(ctx context.Context) error {
	return s.config.Host.Namespace.NFT(ctx, "delete table netdev cut\ndelete table inet cut\n")
}

// SiteSA is what strongSwan says of one connection of a tunnel.
type SiteSA struct {
	Tunnel       string
	ID           int // grows with every phase 1 SA
	Established  bool
	Initiator    bool
	Cookies      string // initiator's and responder's
	Remote       netip.AddrPort
	PeerID, User string
	Children     []SiteChildSA
}

// SiteChildSA is one pair of IPsec SAs of a tunnel.
type SiteChildSA struct {
	Name              string
	ID                int // grows with every pair
	Installed         bool
	Mode              string // TUNNEL or TRANSPORT
	Encap             bool   // in UDP
	SPIIn, SPIOut     uint32
	BytesIn, BytesOut uint64
	DHGroup           string // of PFS; empty: none
}

// SAs returns those of a tunnel, or all if it is empty.
func (s *Site) SAs(ctx context.Context, tunnel string) ([]SiteSA, error) {
	lists, err := s.charon.list(ctx)
	if err != nil {
		return nil, err
	}
	var all []SiteSA
	for _, pairs := range lists {
		if sa := parseSiteSA(pairs); tunnel == "" || sa.Tunnel == tunnel {
			all = append(all, sa)
		}
	}
	return all, nil
}

// parseSiteSA reads a list-sa event.
func parseSiteSA(pairs []viciPair) SiteSA {
	var sa SiteSA
	var c *SiteChildSA // the one that pairs are about; nil: the connection
	number := func(s string, base int) uint64 {
		n, _ := strconv.ParseUint(s, base, 64)
		return n
	}
	var address netip.Addr
	var port uint64
	for i, p := range pairs {
		v := p.value
		if i == 0 && p.key == viciBegins {
			sa.Tunnel = v
			continue
		}
		if p.key == "name" {
			sa.Children = append(sa.Children, SiteChildSA{Name: v})
			c = &sa.Children[len(sa.Children)-1]
			continue
		}
		if c == nil {
			switch p.key {
			case "uniqueid":
				sa.ID = int(number(v, 10))
			case "state":
				sa.Established = v == "ESTABLISHED"
			case "initiator":
				sa.Initiator = v == "yes"
			case "initiator-spi", "responder-spi":
				sa.Cookies += v
			case "remote-host":
				address, _ = netip.ParseAddr(v)
			case "remote-port":
				port = number(v, 10)
			case "remote-id":
				sa.PeerID = v
			case "remote-xauth-id":
				sa.User = v
			}
			continue
		}
		switch p.key {
		case "uniqueid":
			c.ID = int(number(v, 10))
		case "state":
			c.Installed = v == "INSTALLED"
		case "mode":
			c.Mode = v
		case "encap":
			c.Encap = v == "yes"
		case "spi-in":
			c.SPIIn = uint32(number(v, 16))
		case "spi-out":
			c.SPIOut = uint32(number(v, 16))
		case "bytes-in":
			c.BytesIn = number(v, 10)
		case "bytes-out":
			c.BytesOut = number(v, 10)
		case "dh-group":
			c.DHGroup = v
		}
	}
	sa.Remote = netip.AddrPortFrom(address, uint16(port))
	return sa
}

// Up says whether strongSwan has a tunnel with all its pairs of networks.
func (s *Site) Up(ctx context.Context, tunnel string) (bool, error) {
	sas, err := s.SAs(ctx, tunnel)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(s.config.Tunnels, func(t SiteTunnel) bool { return t.Name == tunnel })
	if i < 0 {
		return false, fmt.Errorf("topo: no tunnel %q", tunnel)
	}
	up := map[string]bool{}
	established := false
	for _, sa := range sas {
		established = established || sa.Established
		for _, c := range sa.Children {
			if c.Installed {
				up[c.Name] = true
			}
		}
	}
	return established && len(up) == len(s.config.Tunnels[i].Networks), nil
}

// Close ends strongSwan.
func (s *Site) Close() {
	if s.charon != nil {
		s.charon.kill()
	}
}

// Logs returns what strongSwan wrote.
func (s *Site) Logs() string { return logs(s.dir, "charon.out", "charon.log") }
