// Package pki holds the certificates of one virtual router: its own with their private keys,
// the authorities it trusts, and what is known of revoked ones. It decides whether a peer's
// certificate is good and belongs to the identity that the peer claims in phase 1.
package pki
