package topo

import (
	"context"
	"fmt"
	"net/netip"
)

// outside is the name of the interface towards the internet, in servers, NATs and client hosts.
const outside = "wan0"

// Uplink is a server's link to the internet.
type Uplink struct {
	Interface string
	Address   netip.Addr // the server's public address
	Gateway   netip.Addr
}

// Uplink connects a namespace to the internet by an interface of that name, which becomes a port of the VRF
// device if vrf is not empty, and makes it the default route there. At most 60 per Net.
func (n *Net) Uplink(ctx context.Context, in *Namespace, iface, vrf string) (Uplink, error) {
	n.mu.Lock()
	i := n.uplinks
	n.uplinks++
	n.mu.Unlock()
	if i >= 60 {
		return Uplink{}, fmt.Errorf("topo: no address for uplink %d", i)
	}
	u := Uplink{
		Interface: iface,
		Gateway:   netip.AddrFrom4([4]byte{192, 0, 2, byte(4*i + 1)}),
		Address:   netip.AddrFrom4([4]byte{192, 0, 2, byte(4*i + 2)}),
	}
	err := n.Link(ctx,
		End{In: in, Interface: iface, Address: netip.PrefixFrom(u.Address, 30), Master: vrf},
		End{In: n.router, Interface: fmt.Sprintf("up%d", i), Address: netip.PrefixFrom(u.Gateway, 30)})
	if err != nil {
		return Uplink{}, err
	}
	route := fmt.Sprintf("route add default via %s dev %s", u.Gateway, iface)
	if vrf != "" {
		route += " vrf " + vrf
	}
	return u, in.IP(ctx, route)
}

// Server makes a namespace for vrgate or another server: forwarding on, one uplink by the interface wan0.
func (n *Net) Server(ctx context.Context, role string) (*Namespace, Uplink, error) {
	ns, err := n.Namespace(ctx, role)
	if err != nil {
		return nil, Uplink{}, err
	}
	if err := ns.Forward(); err != nil {
		return nil, Uplink{}, err
	}
	u, err := n.Uplink(ctx, ns, outside, "")
	return ns, u, err
}

// site connects a namespace to the internet router as the next site and returns its address.
func (n *Net) site(ctx context.Context, in *Namespace) (netip.Addr, error) {
	n.mu.Lock()
	i := n.sites
	n.sites++
	n.mu.Unlock()
	if i > 250 {
		return netip.Addr{}, fmt.Errorf("topo: no address for site %d", i)
	}
	gateway := netip.AddrFrom4([4]byte{198, 18, byte(i), 1})
	address := netip.AddrFrom4([4]byte{198, 18, byte(i), 2})
	err := n.Link(ctx,
		End{In: in, Interface: outside, Address: netip.PrefixFrom(address, 24)},
		End{In: n.router, Interface: fmt.Sprintf("site%d", i), Address: netip.PrefixFrom(gateway, 24)})
	if err != nil {
		return netip.Addr{}, err
	}
	return address, in.DefaultRoute(gateway)
}

// NAT is a customer's router that hides its inside behind one address.
type NAT struct {
	Namespace *Namespace
	Address   netip.Addr // outside
	ports     Ports
	clients   int
	forward   netip.Addr // inside address that IKE from outside goes to; the zero Addr: nowhere
}

// Ports says how a NAT chooses outside ports.
type Ports int

const (
	// KeepPorts keeps a port when it is free on the outside, as most home routers do: of several clients on
	// port 500 the first keeps it.
	KeepPorts Ports = iota
	// RandomPorts gives every flow a random port, as carrier-grade NATs do.
	RandomPorts
)

// AddNAT makes a NAT, connected to the internet, with nobody behind it.
func (n *Net) AddNAT(ctx context.Context, ports Ports) (*NAT, error) {
	n.mu.Lock()
	i := n.nats
	n.nats++
	n.mu.Unlock()
	ns, err := n.Namespace(ctx, fmt.Sprintf("nat%d", i))
	if err != nil {
		return nil, err
	}
	nat := &NAT{Namespace: ns, ports: ports}
	if nat.Address, err = n.site(ctx, ns); err != nil {
		return nil, err
	}
	if err := ns.Forward(); err != nil {
		return nil, err
	}
	err = ns.IP(ctx, "link add lan0 type bridge", "addr add 192.168.1.1/24 dev lan0", "link set lan0 up")
	if err != nil {
		return nil, err
	}
	return nat, ns.NFT(ctx, nat.rules())
}

// rules translates what leaves by the outside, and refuses what nobody inside asked for.
func (t *NAT) rules() string {
	verdict := "masquerade"
	if t.ports == RandomPorts {
		verdict = "masquerade fully-random"
	}
	forward := ""
	if t.forward.IsValid() {
		forward = fmt.Sprintf("iifname %q udp dport { 500, 4500 } dnat to %s", outside, t.forward)
	}
	return fmt.Sprintf(`table ip nat {
	chain prerouting {
		type nat hook prerouting priority dstnat
		%[3]s
	}
	chain postrouting {
		type nat hook postrouting priority srcnat
		oifname %[1]q %[2]s
	}
	chain forward {
		type filter hook forward priority filter
		ct status dnat accept
		iifname %[1]q ct state new drop
	}
}
`, outside, verdict, forward)
}

// ForwardIKE sends what comes to UDP ports 500 and 4500 of the outside to a host inside, as the owner of a home router
// sets it for a VPN server behind it.
func (t *NAT) ForwardIKE(ctx context.Context, to *Host) error {
	t.forward = to.Address
	return t.Namespace.NFT(ctx, "delete table ip nat\n"+t.rules())
}

// Rebind makes the NAT forget all its mappings, as a restart or an expired timer does, and use random ports
// from then on: the same flow comes out of another port.
func (t *NAT) Rebind(ctx context.Context) error {
	t.ports = RandomPorts
	if err := t.Namespace.NFT(ctx, "delete table ip nat\n"+t.rules()); err != nil {
		return err
	}
	_, err := t.Namespace.Output(ctx, "conntrack", "-F")
	return err
}

// Host is a machine of a client or in an intranet.
type Host struct {
	Namespace *Namespace
	Interface string
	Address   netip.Addr
}

// AddHost makes a client's machine, behind the NAT, or directly on the internet if nat is nil. At most 240
// behind one NAT.
func (n *Net) AddHost(ctx context.Context, nat *NAT) (*Host, error) {
	n.mu.Lock()
	i := n.hosts
	n.hosts++
	behind := 0
	if nat != nil {
		behind = nat.clients
		nat.clients++
	}
	n.mu.Unlock()
	ns, err := n.Namespace(ctx, fmt.Sprintf("host%d", i))
	if err != nil {
		return nil, err
	}
	h := &Host{Namespace: ns, Interface: outside}
	if nat == nil {
		h.Address, err = n.site(ctx, ns)
		return h, err
	}
	if behind >= 240 {
		return nil, fmt.Errorf("topo: no address for client %d behind one NAT", behind)
	}
	h.Address = netip.AddrFrom4([4]byte{192, 168, 1, byte(10 + behind)})
	port := fmt.Sprintf("lan0p%d", behind)
	err = n.Link(ctx,
		End{In: ns, Interface: outside, Address: netip.PrefixFrom(h.Address, 24)},
		End{In: nat.Namespace, Interface: port, Master: "lan0"})
	if err != nil {
		return nil, err
	}
	return h, ns.DefaultRoute(netip.AddrFrom4([4]byte{192, 168, 1, 1}))
}

// Intranet describes a network behind a server.
type Intranet struct {
	Interface string       // of the server, such as lan0
	Gateway   netip.Prefix // the server's address in it and its length, such as 10.1.0.1/24
	Host      netip.Addr   // the host's address in it
	VRF       string       // device of the server that the interface becomes a port of; empty: none
}

// AddIntranet puts a network with one host behind a server. The host's default route is the server.
func (n *Net) AddIntranet(ctx context.Context, server *Namespace, in Intranet) (*Host, error) {
	n.mu.Lock()
	i := n.intranets
	n.intranets++
	n.mu.Unlock()
	if !in.Gateway.Contains(in.Host) {
		return nil, fmt.Errorf("topo: intranet host %s is not in %s", in.Host, in.Gateway)
	}
	ns, err := n.Namespace(ctx, fmt.Sprintf("lan%d", i))
	if err != nil {
		return nil, err
	}
	err = n.Link(ctx,
		End{In: server, Interface: in.Interface, Address: in.Gateway, Master: in.VRF},
		End{In: ns, Interface: "eth0", Address: netip.PrefixFrom(in.Host, in.Gateway.Bits())})
	if err != nil {
		return nil, err
	}
	h := &Host{Namespace: ns, Interface: "eth0", Address: in.Host}
	return h, ns.DefaultRoute(in.Gateway.Addr())
}
