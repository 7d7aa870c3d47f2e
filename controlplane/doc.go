// Package controlplane turns a configuration into running virtual routers. This comment is the
// architecture of vrgate in prose; the packages below have the details.
//
// # Engines
//
// Everything that thinks is an engine: a pure value with a method Step(now, event) that returns
// effects. Packages ike, l2tp, site and subscriber have one engine per virtual router, package pppd one per
// link. An engine has no socket, no clock, no goroutine, no logger and no randomness of its own, so it
// can be simulated by the thousand, fuzzed, and stored. Package subscriber owns the PPP links, and it
// alone knows who is connected: IKE, L2TP and PPP never see each other. What couples them is a rule
// there: when IPsec has gone its tunnels end, when the last tunnel has gone IPsec ends a while later,
// nothing of a user is in the kernel before AAA has said yes, every session ends exactly once with one
// typed reason.
//
// There are two ways in. With L2TP/IPsec the user is PPP's: quick mode in transport mode comes
// first, then L2TP through it, then PPP asks who it is. A dynamic subscriber is IPsec's own (J2):
// phase 1 is mapped to a tunnel profile, XAuth asks who it is, AAA decides, the kernel gets policies
// and a route for the address, and only then is the peer told that it is in and may have SAs (J8).
// Both are sessions of package subscriber with the same life, records, timeouts and ends; they differ
// in what carries them.
//
// A PPP session can go on to another LNS instead (tunnel switching). It is authenticated here, called on there, and the kernel
// joins the two calls; PPP's other end is then that LNS, which gives it its address. Here it has its places within limits
// and licences, its accounting and its end.
//
// Static tunnels are nobody's session. Package site decides when each is dialled, by which of its peers, and which of its
// connections carries it; IKE dials and answers, and never takes their phase 1 for a subscriber's or the reverse (J11). Their
// interfaces, routes and policies are part of the configuration and stay in the kernel while a tunnel is down, so that its packets
// are dropped and never leave in clear. A tunnel belongs to the virtual router that has its outer addresses; its interface
// may be in another one. Where the peer answers for a user AAA decides about it as about a subscriber's (Z-8), and nothing
// comes of it but the tunnel.
//
// A machine joins the four engines of one virtual router into one value. What one of them reports and
// another must know is passed on inside, before anything later is looked at; so no two of them ever
// disagree about who exists. What concerns the outside comes out as a list of effects.
//
// # Shell
//
// A router is one goroutine that owns one machine. It takes events from a bounded inbox, steps the
// machine and carries out the effects. It never blocks:
//
//   - Sending is done at once and may fail, as datagrams do.
//   - Calls into the kernel that wait (SAs, sockets, interfaces, routes) run in workers shared by all
//     routers, those about the same connection or the same tunnel one after the other. Diffie-Hellman
//     and RSA have workers of their own, of which peers that are not authenticated can take at most
//     half of the queue.
//   - Names of peers are looked up beside all that, a bounded number at a time in each router: a name server that is silent
//     holds up nothing else.
//   - Questions to AAA wait in one admission queue for their turn. It bounds how many are decided
//     about at once and how many wait, is fair to sources, and refuses the rest early.
//   - The answer to each comes back as an event. Answers are never dropped; packets are, and counted,
//     when the loop does not keep up.
//
// There is one timer per router, for the earliest deadline of its engines. No goroutine exists per SA,
// tunnel or session, and no lock inside an engine. Show and disconnect run as functions in the loop;
// what takes a dump of the kernel runs outside of it.
//
// Addresses, licences and limits are the exception to one owner per router: users who arrive in one
// virtual router may end in another, and some licences are the whole process's, so pools, leases,
// licences and the counts of limits are shared and locked. A subscriber gets all that it needs of them
// together or nothing, and gives it back together.
//
// Where a limit says replace-oldest, a new session waits until the oldest one that counts for the
// limit has given everything back, and gets it in the same moment; at a user's limit also a fixed
// address. So a user whose client has vanished without a word need not wait until that is found
// out. Without it the user is refused until then: by the dead peer detection or the echo requests
// of PPP.
//
// What pools remember of their users is written to the store behind their backs. After a restart
// users get the addresses that they had, and nobody waits for the disk.
//
// # AAA
//
// The authority is all of AAA that the process has. A Service of package aaa takes a user's name
// apart, finds the entry of the domain map and asks local users and RADIUS servers in their order;
// its answer is a value that says what the subscriber gets and who has decided. Each virtual router
// with servers has a client of package aaa/radius, whose sockets are in that router; a Decide is work
// of the admission queue, which keeps a crowd that comes back at once from drowning the servers, and
// one source from keeping the others waiting.
//
// Nothing of an L2TP subscriber's traffic flows before the journal of package aaa/accounting has its
// start on disk; a dynamic subscriber's can from its first IPsec SA on, which is what shows that it
// has come, and is in its counters. Accounting servers hear of a virtual router's begin and end, and
// so that it has no sessions, when the process begins and ends. The journal owes a stop to whoever had a start, also after kill -9, sends the records of
// a session in their order and keeps them until a server has acknowledged them. What the disk refuses
// is kept in memory: a session ends for want of accounting only where the configuration says so. The
// traffic of all sessions is put down once a minute, for the stops that a crash would owe.
//
// Package aaa/coa takes the orders of servers: they end and change sessions about which the AAA of
// that virtual router has decided, wherever they have arrived. A change is an event of the engine and
// its answer an effect, like everything else.
//
// Certificates are read before anything is touched. A store of package pki per virtual router holds
// them; IKE is told their public part, and asks the shell for signatures and verdicts. Revocation
// lists are fetched in the background and put in force whole.
//
// # Kernel
//
// Kernel and Dataplane are what this package wants of the kernel, in plain values. cmd/vrgate/kernel
// implements them with the packages that touch the kernel (xfrm, l2tpnl, vr, pppd/unit),
// test/fakekernel in memory. A failed call has undone whatever it did, and its error is typed: a
// reason word for log, API and metrics, and a sentence. A call that fails ends the one connection,
// tunnel or session that it was for. What comes up from the kernel comes through the Inlet.
//
// # Life
//
// New translates the configuration and reads the certificates; a mistake shows before anything is
// touched. Run opens every virtual router, which also removes what a crashed predecessor left, and
// starts the loops. One that cannot be opened is shown as failed and tried again while the others
// serve. When the context ends each router ends its sessions, then its L2TP tunnels, then static tunnels and IPsec, politely,
// with a share of the configured time for each, and the data planes remove what is ours.
//
// # Reload
//
// Reload takes over another configuration meanwhile. All of it is translated and read first, and then put in the place of
// the old in an order in which nothing is named to a client before it is there: data planes, pools and limits, AAA, at last
// the engines, each of which ends what is of a profile that is gone or has another revision, and nothing else (G4). Leases,
// licences and counts go on; RADIUS clients and servers that would be the same are kept, others answer what they were
// asked. A virtual router that a running data plane cannot take over, because it is elsewhere, ends politely and begins
// anew. Plan asks the same engines beforehand what they would end.
package controlplane
