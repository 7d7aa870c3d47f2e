// Package site decides when the static tunnels of one virtual router are dialled and by which peer. It knows no IKE: a shell
// carries its dials to the IKE engine and brings back what became of them, and asks name servers and hosts behind the
// tunnels on its behalf.
//
// An Engine is a pure value: Step takes what happened and the time it happened, and returns what is to be done. One
// goroutine, the shell of the virtual router, owns it.
//
// A tunnel that we dial lives in rounds. A round tries every peer once, the primary first, and of a peer that is given by
// name every address; when all have failed there is a pause that grows from 1 to 60 minutes (D23), unless an operator says
// "now":
//
//	down ─► resolving ─► dialling ─► checking ─► up
//	  ▲         └───────────┴─► next address, next peer; none left: waiting ─► next round
//	  └── on-demand tunnels rest here until the kernel has traffic for them, respond-only ones until the peer calls
//
// A tunnel that is lost after it was up for a while is dialled again at once; one that is lost sooner has failed with that
// peer and the round goes on, so that a peer which accepts and hangs up does not make us dial without end. When the peer is
// dead (no answer to probes, no traffic, connectivity check failed) the next one comes first.
//
// A tunnel may have several connections for a while. One of them carries the traffic (Carry): that to the first peer in the
// list, and of several to one peer the newest. That is how a tunnel on a backup goes back to its primary, and how it follows
// a name whose address has changed: the new connection is made before the old one is hung up, and if it cannot be made
// nothing happens. For a few seconds both receive, since the other end may not have switched yet. When both ends dial at the
// same time both connections stay: each end hanging one up could leave none.
//
// Files: attempt.go rounds and dials, conn.go connections, names.go addresses of peers, check.go connectivity checks,
// pairs.go pairs of networks, traffic.go idle and one-way tunnels, operator.go words of the operator, reload.go other configurations.
//
// Identifiers such as D23 or Z-6 in comments are rules of the project's requirements table.
package site
