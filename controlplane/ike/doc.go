// Package ike is the IKEv1 engine of one virtual router (RFC 2408, 2409, 2407,
// 3706, 3947, the drafts of XAuth, mode config and hybrid authentication): main
// and aggressive mode with pre-shared keys, RSA signatures and hybrid
// authentication, XAuth and mode config of dynamic subscribers, quick mode in
// transport mode for L2TP and in tunnel mode, informational exchanges, NAT
// traversal with its drafts, fragmentation, rekeying and dead peer detection, as
// responder and as initiator, for L2TP clients, dynamic subscribers and static tunnels.
//
// An Engine is a pure value. Step takes what happened and the time it happened,
// and returns what is to be done; no socket, clock, goroutine, logger or netlink
// is used, and randomness comes from the reader given to New. One goroutine, the
// shell of the virtual router, owns an engine. Slow work (Diffie-Hellman,
// signatures, certificates, the kernel) leaves as an effect and comes back as an event.
//
// Objects, from the outside in:
//
//	conn     one peer over all its rekeys; owns the kernel's mark and reqid
//	phase1   one ISAKMP SA; several overlap in a conn while one is replaced
//	quick    one quick mode exchange inside a phase1
//	child    one pair of ESP SAs; several overlap in a conn while one is replaced
//	dynamic  what the conn of a dynamic subscriber has beside: profile, stage, lease
//	dialogue the transaction exchanges (XAuth, mode config) inside a phase1
//
// A static tunnel has a conn with each address of its peer, which either side may have begun;
// static.go tells its life, Initiate what becomes of a dial, staticlost.go what is done when one side may have what the
// other has not.
//
// Stance towards strangers (style habits 15 and 16): the cheapest check comes
// first, nothing that is not authenticated changes lasting state, answers to it
// are no larger than what it sent (vendor IDs are answered in kind), are
// repeated only when the peer repeats its message, and are never sent unasked.
// Aggressive mode, where a rule allows it, has to compute before it knows anything
// of the peer, and with certificates has to send ours: both are bounded.
//
// Identifiers such as K2, C9r or D2r in comments are rules of the project's
// requirements table.
package ike
