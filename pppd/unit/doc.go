// Package unit is /dev/ppp: it makes a network interface of a PPP channel and
// carries the frames of PPP's control protocols between the kernel and the PPP
// engine (package pppd). Subscribers' packets stay in the kernel.
//
// A [Unit] is made when AAA has said yes, and not before (A7): attaching to a
// channel, an interface, its name, MTU, routing domain and namespace, all in
// one RTNL section. The interface is down and both network protocols are set to
// drop; [Unit.Up] and [Unit.SetNetwork] open it as IPCP does.
//
// # Descriptors
//
// A unit has two descriptors of /dev/ppp, each a [Port]: Channel carries LCP and
// authentication (protocols 0xC000 and up, and everything that came before the
// unit was there), Interface carries network control protocols. They are
// non-blocking and meant for one poller for all units. When the channel goes
// first, Interface reads io.EOF for ever: take it out of the poller.
//
// # Namespaces
//
// The kernel keeps channel and unit number in the namespace of the L2TP tunnel
// (the transport virtual router's); the interface may be born in another, that
// of the terminating virtual router. A [Net] is this package's access to one
// namespace.
//
// # Order and cost
//
// The end is Unit.Close (interface, then channel descriptor), then the L2TP
// session, then the tunnel's socket (kernel.md section 1.4). Open and Close hold
// RTNL and wait for RCU grace periods, some 10 ms: call from a worker pool. All
// methods may be called at the same time.
//
// Never key anything on an interface's name or on a unit number, both are used
// again; [Unit.Index] is unique in its namespace.
package unit
