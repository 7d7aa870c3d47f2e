// Package pppd is the PPP engine of vrgate: LCP (RFC 1661, with the codes of RFC 1570), authentication by PAP (RFC 1334),
// CHAP-MD5 (RFC 1994), MS-CHAPv2 (RFC 2759) and EAP, which is passed through to a server (RFC 3748, RFC 3579), and IPCP
// (RFC 1332) with the name server options of RFC 1877.
//
// A Link is one end of one PPP link. It is pure: Step takes the time and one event and returns effects; there is no
// socket, clock, goroutine or logger here, and randomness comes from the reader given to NewLink. One goroutine owns a
// Link (the L2TP shell of its virtual router). Everything a Link knows is plain data: MarshalJSON gives it, RestoreLink
// takes it back in the next process.
//
// How it is laid out:
//
//	engine.go     the contract: configuration, events, effects, reasons
//	link.go       Link, Step, phases, demultiplexing of frames, timers
//	automaton.go  the table of RFC 1661 section 4.1, and nothing else
//	negotiate.go  what runs the table: control packets in, actions out, one code for LCP and every NCP
//	lcp.go        LCP's options, loop detection, rejects, echo
//	ipcp.go       IPCP's options; IPv6CP is added the same way: a layer and a protocol number
//	auth.go       the authenticator's side (server), authpeer.go the other (Dialer)
//	eap.go        EAP on either side
//	proxy.go      what a LAC has negotiated before us, and what another LNS is told after us (RFC 2661 section 4.4.5)
//	chap.go       the computations and checks of CHAP, also used by AAA
//	packet.go     control packets and options on the wire
//	cause.go      RFC 3145 disconnect causes
//
// What differs from the letter of RFC 1661, and why:
//
//   - An exact repetition of the Configure-Request that we acknowledged last (same identifier, same options) is answered
//     with the same Configure-Ack in state Opened, instead of taking the link down: it is a duplicate, or our
//     acknowledgement was lost, and in both cases a restart would throw away an authentication (see Link.repeated).
//   - EAP's Success is repeated, which RFC 3748 section 4.2 does not foresee, until the peer enters the network phase:
//     nothing else would bring a lost one back (see Link.retryEAP).
//   - A second Configure-Ack for one request is dropped, as pppd does; the table would restart the negotiation.
//   - CCP and ECP are refused by Protocol-Reject in any phase in which LCP is open, not only in the network phase, because
//     clients that pipeline them (MikroTik) wait for an answer (requirement F1).
package pppd
