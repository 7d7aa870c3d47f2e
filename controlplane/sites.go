package controlplane

import (
	"context"
	"net/netip"
	"time"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/site"
	"vrgate/controlplane/subscriber"
)

// TunnelPlane is the part of a Dataplane that static tunnels need. Their interfaces, addresses, routes and policies are part of the
// configuration, which Open and Reconfigure bring into the kernel and which is kept from then on: what cannot be there yet,
// because the terminating router does not run, is made when it does. An SA of a tunnel is tied to what is there.
type TunnelPlane interface {
	// CarryTunnel has the SAs of a connection carry a tunnel's traffic from now on, in one step for each pair of networks;
	// Conn 0: no packet passes, and the first that wants to is told by [Inlet].TunnelWanted, if the configuration has the tunnel
	// start on demand.
	CarryTunnel(CarryTunnel) error
	// StaticTunnels says what has become of the configured tunnels' kernel objects, in the order of the configuration.
	StaticTunnels() ([]TunnelState, error)
	// StaticTraffic returns what SAs have carried by tunnel, since the tunnel was configured: those of connections that are over
	// included. It never goes back.
	StaticTraffic() map[string]subscriber.Counters
	// CloseStatic forgets a connection of a static tunnel, whose SAs have been removed; what they have carried stays with the tunnel.
	CloseStatic(ike.ConnID)
	// KeepNAT sends a NAT keepalive. It does not block.
	KeepNAT(ike.KeepNAT) error
	// Probe asks a host through a tunnel whether it is there, and calls answer once, from any goroutine, before the check's
	// Timeout is long over. It does not wait for the host, only for what is being done about the tunnel.
	Probe(p site.Probe, answer func(site.CheckResult))
	// Lookup asks name servers, from within the virtual router, for the IPv4 addresses of a name; with no servers those of the
	// system, from the namespace in which vrgate runs. It blocks.
	Lookup(ctx context.Context, servers []netip.Addr, name string) ([]netip.Addr, error)
}

// CarryTunnel names the connection that carries a static tunnel.
type CarryTunnel struct {
	Tunnel        string
	Conn          ike.ConnID
	Local, Remote netip.Addr // outer addresses, when Conn is not 0
}

// TunnelState is what has become of a static tunnel's kernel objects.
type TunnelState struct {
	Tunnel string
	// Reason says why they are not as configured, Text what to do; empty if they are.
	Reason, Text string
	// Index is the interface's, 0 where there is none.
	Index int
	// Conn is what CarryTunnel has named, 0 for none, and Since when.
	Conn  ike.ConnID
	Since time.Time
	// Traffic is what the kernel has counted on the interface since it was made.
	Traffic LinkTraffic
}
