// Package topo builds small networks out of network namespaces, with stock L2TP/IPsec clients in them, to test
// and to show vrgate against the real kernel and against peers that nobody here wrote.
//
//	intranet ── server ── internet ─┬─ NAT ─┬─ client
//	 host        │  uplink          │       └─ client
//	             │                  └─ client (direct)
//	       vrgate or a StockServer
//
// Addresses, none of which leaves the namespaces:
//
//	uplink u     192.0.2.4u+2/30, the internet router has .4u+1
//	site s       198.18.s.2/24 is a NAT's outside or a direct client; the internet router has .1
//	behind a NAT 192.168.1.10 and up, the NAT is 192.168.1.1; every NAT has the same inside
//	intranet     chosen by the caller, so that two virtual routers can have the same
//
// A Net owns everything it makes: namespaces, links, rules, daemons and files. All names carry the process
// and a number, so several instances live side by side; Close removes all of it and reports what it could
// not; New removes what a killed process left. It needs root and a kernel that Probe accepts.
//
// A Client is strongSwan's charon, xl2tpd and pppd as Debian ships them, each with a /run and /etc/ppp of its
// own so that a dozen live beside each other. StockServer is the same three as the far end: it proves that
// topology and clients work, and is what benchmarks compare with. XAuthClient is charon as dynamic IPsec
// subscriber, and VPNC is vpnc as another; Authority is openssl making the certificates that they need.
// A Site is a router with a network behind it and charon as its end of static tunnels, Names a name server.
// FreeRADIUS decides about users and keeps their accounting records; Host.RADIUS is its radclient.
//
// Methods of one Net and of one Client are for one goroutine at a time; different clients may be used from
// different goroutines at once, which is how twelve of them connect in affordable time.
package topo
