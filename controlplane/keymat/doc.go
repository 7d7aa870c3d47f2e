// Package keymat holds the cryptography of IKEv1: Diffie-Hellman groups, the
// key hierarchy of RFC 2409 section 5 and appendix B, the proofs that the peers
// exchange, the CBC protection of ISAKMP bodies and the key material of ESP.
//
// It is pure: no socket, clock, logger or global randomness. Whoever needs
// random bytes passes an io.Reader, which in the daemon is crypto/rand.Reader.
// Everything exported is plain data, so that an SA can be written to the store
// and taken up by the next process; secrets are of type [Secret], print as
// "[redacted]" and have to be revealed explicitly.
//
// Nothing here parses messages: parts arrive as the exact bytes that were on
// the wire. The wire format is package isakmp, the protocol is package ike.
//
// Time: operations on private exponents, keys and proofs do not depend on
// their values (filippo.io/bigmod, crypto/ecdh, crypto/subtle). DES and 3DES
// come from the standard library, use tables, and are allowed by the legacy
// proposal profiles only.
package keymat
