// Package subscriber knows who is connected. It alone couples the protocols: IKE,
// L2TP and PPP never see each other, they meet here as plain events and effects.
//
// One Engine per virtual router, a pure value owned by that router's goroutine:
// Step(now, event) returns effects. A session's life is
//
//	CallUp ─► PPP link: LCP, authentication ─► Decide ─► OpenSession (kernel objects
//	exist from here on) ─► PPP: IPCP ─► AccountStart ─► Activate ─► Started … ─►
//	CloseSession ─► Ended
//
// and that of a dynamic IPsec subscriber, which has no PPP,
//
//	DynamicUp ─► AskUser ─► Decide ─► OpenAccess (policies and route exist from here
//	on) ─► Admit ─► ConnUp ─► AccountStart ─► Started … ─► ConnDown ─► CloseAccess ─► Ended
//
// A session that AAA hands on to another LNS (tunnel switching) has no kernel objects of its own, no address and, from then
// on, no PPP here:
//
//	CallUp ─► PPP link: LCP, authentication ─► Decide ─► Dial (the next LNS after FarFailed) ─► FarUp ─► AccountStart ─►
//	Bridge (both calls joined in the kernel) ─► Started … ─► CloseBridge ─► Ended
//
// Either call's end ends the other. Until the bridge is there PPP's control frames pass through the process (handover.go);
// LNSs that do not answer are passed over for a while (lockout.go).
//
// Every session that was reported by CallUp or DynamicUp ends in exactly one Ended with
// one typed reason, whichever side ended it. Nothing of a subscriber exists in the kernel
// before AAA has said yes. Lease, kernel objects, timeouts and the end are common to both
// kinds; what differs is in link.go and conn.go for the first, dynamic.go and dialogue.go
// for the second.
//
// What AAA grants comes before what the profiles say (grants.go) and is applied before traffic
// flows; so is the durable start of accounting (account.go). AAA may change a session that is up
// (change.go) or end it.
//
// Who guesses names and passwords is refused after so many wrong answers, without asking AAA
// (guesses.go).
//
// Coupling rules (K12): when IPsec has gone its tunnels end at once; when the last
// tunnel of an IPsec connection has gone, the connection is closed at the end of the
// destruct period (timeout table of requirements.md 1.8, standard tunnels), and at its
// beginning where the tunnel was single-shot (H4, ConnSpent).
//
// A reload touches nobody but the dynamic subscribers of tunnel profiles that it removes or
// changes (reload.go).
package subscriber
