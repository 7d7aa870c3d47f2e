// Package pki holds the certificates of one virtual router: its own with their private keys,
// the authorities it trusts, and what is known of revoked ones. It decides whether a peer's
// certificate is good and belongs to the identity that the peer claims in phase 1.
//
// [Load] reads everything once and reports every mistake at once; the [Store] that comes of
// it does not change, but for the revocation lists that [Store.Refetch] replaces as a whole.
// It may be used by any number of workers at the same time. Private keys stay inside: they
// sign and never print.
//
// What is accepted of a peer is RFC 4945 with the tolerance that real clients need:
//
//   - The chain must end at an authority of the configuration; nothing of the system's trust
//     store counts. Authorities may have any kind of key, peers and we ourselves RSA, since
//     IKEv1's method is RSA signatures.
//   - Keys have 1024 to 8192 bits. Certificates that are signed with SHA-1 or MD5 are
//     refused as untrusted, however old the client: their signatures can be forged. (An
//     authority's signature on itself is not looked at, and revocation lists may have SHA-1,
//     since nothing that a peer chooses goes into them.)
//   - The key usage, where there is one, must allow signatures; the extended key usage,
//     where there is one, must be any, IKE, or TLS of either side, because few tools
//     that people make client certificates with know IKE's.
//   - The identity must be the subject or an alternative name (RFC 4945 section 3.1): no
//     wildcards, and no look into the common name.
package pki
