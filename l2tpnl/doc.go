// Package l2tpnl makes L2TPv2 tunnels and sessions in the kernel, so that
// subscribers' packets never enter the process: the generic netlink family
// "l2tp" for tunnels and sessions, and PPPoL2TP sockets, each of which is the
// lower half of a PPP channel (RFC 2661; kernel.md section 1).
//
// The life of a kernel session:
//
//	UDP socket of package vr, bound to the tunnel id as port, connected
//	  └ Kernel.Tunnel            nothing in the kernel yet
//	      └ Tunnel.Open          first session: tunnel; then session, PPPoL2TP
//	        │                    socket, channel index
//	        └ Session.Close      session and channel are gone
//	      UDP socket closed      tunnel is gone
//
// A kernel tunnel lives as long as its UDP socket, and cannot be removed and
// made again on the same socket (6.1 refuses), so the first session makes it
// and only closing the socket ends it. A tunnel without sessions only passes
// everything up to the socket, which is what happens without it too.
//
// The channel index of a session goes to package pppd/unit. Neither package
// knows the other. Order of the end: unit, channel (pppd/unit), session (here),
// UDP socket (vr); see kernel.md section 1.4.
//
// Opening and closing a session wait for RCU grace periods of 10 ms or more in
// the kernel: call from a worker pool, many at a time. All methods may be
// called at the same time. Tunnels and sessions are never dumped outside
// tests; dumps are O(n²) on Linux 6.1.
package l2tpnl
