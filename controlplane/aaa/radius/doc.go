// Package radius asks RADIUS servers who a subscriber is and tells them what became of it: authentication by RFC 2865,
// accounting by RFC 2866, EAP by RFC 3579, Status-Server by RFC 5997, retransmission by RFC 5080 section 2.2.1.
// Packets and dictionaries are those of layeh.com/radius.
//
// packet.go signs and verifies packets, for the client and for the CoA server (RFC 5176). The engine, in engine*.go, is a
// pure value that decides which server gets which packet when, over which socket and with which identifier, and what an
// answer is worth. [Client] is its shell: one goroutine owns the engine, one more reads each socket. The other files
// translate between packets and the values of package aaa.
//
// table.go has the attributes that are known. [Method] makes the Access-Request (request.go, packer.go) and reads the answer
// (decision.go): value.go takes it apart, rules.go says what each attribute grants and which holds where several say the
// same, and grants.go adds it up. [ParseChange] reads a CoA-Request by the same rules, [AccountingAttributes] makes
// records. What is unknown, wrong or of no use in an answer is counted ([Findings]) and does no harm; an accept is refused
// only where the subscriber would get more, or be elsewhere, than the server said.
//
// Every Access-Request and Status-Server carries Message-Authenticator as its first attribute and every answer to one
// must carry it (CVE-2024-3596), unless the server is marked as a museum piece.
package radius
