// Package vr puts a virtual router into the Linux kernel: its network namespace or VRF device, its own
// addresses, its sockets, its access routes and its nftables table. It is one of the packages that touch the
// kernel; it imports nothing of ours, and the others (xfrm, l2tpnl, pppd/unit) build on it.
//
// # Desired state
//
// [Open] takes a [Spec] and makes it true; what a crashed predecessor left under the same name is taken over
// or replaced. [Router.Set] goes from one Spec to the next and adds before it deletes. [Router.Close] removes
// what is ours and nothing else.
//
// What is ours is recognisable without any file of our own: the nftables table vrgate-NAME, a dummy device
// whose alias is "vrgate NAME", XFRM interfaces whose alias is "vrgate NAME to NAME", for static tunnels with " tunnel TUNNEL" behind it, and policies for marks that are
// their numbers (file gate.go), two actions of traffic control whose numbers follow from the router's name (file traffic.go), a VRF device or a namespace (its loopback) with the alias "vrgate", and routes
// whose protocol is [RouteProtocol].
//
// Links to private networks have the alias "vrgate NAME link LINK …" (file link.go), which says of an interface that was moved also
// how it is given back.
//
// One process runs a router at a time, and one router uses a routing table: Open holds the names of both in the
// namespace (file lock.go). [Sweep] removes what a crashed predecessor left for routers that are gone from the
// configuration.
//
// A namespace that Open made survives Close, because PPP devices and IPsec SAs in it may have to survive the
// process; [Router.Remove] removes it.
//
// # Steering
//
// Windows and other clients send L2TP from UDP port 1701 to port 1701 and like to choose tunnel id 1, so that
// several of them behind one NAT cannot be told apart by addresses and ports. Therefore every L2TP tunnel has
// a socket of its own on a local port that equals our tunnel id ([MinTunnelPort] to [MaxTunnelPort]), and a
// handful of static rules steer by the tunnel id in the L2TP header (file steering.go). Per-socket IPsec
// policies ([Router.TunnelSocket]) tie each tunnel to the SAs of one client. Nothing in the kernel's rule set
// grows with the number of clients.
//
// # Links
//
// A [Link] joins the router to its private network: an interface that is moved into it and given back at the end, a VLAN, a
// pair with another router, a tunnel. One that cannot be there yet, because nothing is plugged in or the other router does not run, keeps
// nothing else from working: [Router.Links] says what it waits for, and [Router.Mend], which the caller calls every few seconds, makes
// it when it can be.
//
// # Static tunnels
//
// A [Tunnel] is the XFRM interface of one site-to-site IPsec tunnel of mode route. SAs and policies of static tunnels are package xfrm's, in
// the namespace of the transport router. The rules let through what such an SA has decrypted, also in modes policy and transport, as long
// as the mark that the SA sets is no client's: those of [ClientMark] belong to L2TP. What they drop of it they drop of everybody's: UDP to a server address
// and a tunnel's port, L2TP without IPsec of its own where that is not allowed, and what the policy of the link forbids.
//
// What is routed into a tunnel that is down the kernel answers, unless [Tunnel.Rest] has the interface be silent (file tunnelrest.go).
//
// A [Prober] asks hosts behind a tunnel whether they are there, and [Router.Dial] reaches the router's name servers.
//
// # Traffic control
//
// A [Shaper] bounds what one subscriber sends and receives by rates and rules, on a link of its own or on one that it
// shares with thousands. It hangs on clsact, which holds no packet back: what is beyond a rate is dropped, so a rate costs
// no queue and no memory for packets.
//
// # System controls
//
// Open sets in the namespace of the router: net.ipv4.ip_forward=1; net.ipv4.ip_local_port_range below the
// tunnel ports, if it reaches into them; and, in a namespace that it made itself,
// unless it has server addresses of IPv6, net.ipv6.conf.default.disable_ipv6=1, because per-device IPv6 state makes bringing up the n-th PPP device
// O(n). They are not set back at Close: another router of the namespace may need them.
//
// The SPD hash thresholds of the namespace belong to package xfrm; the program calls xfrm.SetHashThresholds
// right after Open, before any policy exists.
//
// # Threads and goroutines
//
// All methods may be called by several goroutines at once. Only [Poller.Run] is a goroutine that lives long,
// and its caller owns it. Methods that change links or routes wait for the kernel's RTNL lock, tens of
// milliseconds at worst: call them in a worker, not in an engine's goroutine.
package vr
