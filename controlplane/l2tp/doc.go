// Package l2tp is the L2TPv2 engine of vrgate: an LNS for the subscribers' and carriers' LACs (RFC 2661), and a LAC that places calls at
// other LNSs, for tunnel switching and for test peers.
//
// # What it is
//
// [Engine] is a pure value. [Engine.Step] takes the time and one event and returns the effects; it owns no socket,
// clock, goroutine or logger, and takes its randomness from the reader given to [New]. One goroutine of a virtual router
// owns an Engine; nothing in it is safe for concurrent use. Everything it knows can be written out by [Engine.Snapshot]
// and taken up by [Restore] in the next process.
//
// # How it is put together
//
//   - header.go: control and data headers, RFC 2661 section 3.1.
//   - avp.go, attribute.go: attribute value pairs, hiding, and what each attribute may look like (sections 4.1 to 4.4).
//   - message.go: control messages, validated by a table before any handler sees them (section 6).
//   - channel.go: the reliable control channel (section 5.8 and appendix A), a value of its own.
//   - listen.go: datagrams to their tunnels, new tunnels, limits. profile.go: destination and host profiles (G1 to G11).
//   - tunnel.go, session.go: the machines of sections 7.2 and 7.4; ending.go: how they end.
//   - carrier.go, proxy.go: what a LAC says about a call and has negotiated with its peer (sections 4.4.4 and 4.4.5), both ways.
//   - dial.go: the LAC side. share.go: many calls of ours in one tunnel.
//   - singleshot.go: H1 to H8. admin.go: administrative states (A8), and what a reload ends (G4).
//   - timers.go: one deadline per tunnel in a heap. snapshot.go: state in and out.
//   - figures.go: what show displays. record.go: of what is over, for the destruct period.
//
// # Several clients behind one NAT
//
// A tunnel is found by the id we gave it, never by the peer's address and id: Windows PCs behind one NAT share both.
// Before the peer knows our id, it is (IPsec connection, remote address and port, the peer's tunnel id). A packet that
// comes through another IPsec connection than the one that carried the tunnel's set-up is dropped and counted (K12).
// Each tunnel has a socket of its own, bound to the port that equals its id; see [OpenSocket].
//
// # What a reload does
//
// A tunnel belongs to the destination and host profile that took it, by name, and keeps its settings. A reload ends it when that
// host profile is gone or has another [HostProfile.Revision]; [Engine.Affected] tells beforehand, by the same code. Limits,
// refusals and whatever no revision covers hold from then on. A restart with another configuration is a reload.
//
// # Calls of ours
//
// [Dial] opens a tunnel for one call, which ends with it. With Share it places the call in a tunnel that has the same ends, names and
// password, be it up or still opening, and has room; the tunnel goes on for other calls until it has been idle. A shared Dial has
// exactly one result: [SessionUp] with its Ref, or [DialFailed], whatever became of call, tunnel or connection. [CancelDial] gives up
// one that has none yet. Shared tunnels carry no Tie Breaker, so that two concentrators can call each other.
//
// # Peers that have proved nothing
//
// A clear-text SCCRQ may carry a forged source. It gets at most one answer per received packet, of at most about one
// and a half times its size, and nothing is retransmitted unasked until the peer has used the tunnel id that the answer told it.
// It never raises a [Report] above [LevelDebug] and never ends another tunnel, unless [HostProfile.ZeroTunnelID] lets it.
package l2tp
