// Package coa is the server for dynamic authorization (RFC 5176): RADIUS servers end sessions with Disconnect-Request and
// change them with CoA-Request. Packets are signed and checked by package radius; what is to be done is told to a
// [Handler], which knows the sessions of the virtual router.
//
// Whoever is not a configured client gets no answer. A client's packet costs one HMAC until its authenticators are found
// right; before that nothing is remembered but a count. A request that is sent again is never done again: it is
// answered from a bounded cache, or dropped while the first is still being worked on (RFC 5080 section 2.2.2).
//
// A request without Event-Timestamp can be replayed once the cache has forgotten it. For one that names the session
// by Acct-Session-Id that is harmless, because no later session has the same.
//
// [Server.Serve] owns one goroutine per request in work, bounded by [Config.Concurrent], and returns after they have.
package coa
