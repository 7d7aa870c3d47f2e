package pki

// Peer is what a peer presented in phase 1 to prove who it is.
type Peer struct {
	Certs     [][]byte // DER as received, the peer's first
	Digest    []byte   // HASH_I or HASH_R
	Signature []byte   // RFC 2409 section 5.1: PKCS #1 v1.5 over Digest, without the name of the hash
	ID        []byte   // body of the identification payload
}

// Reason is why a peer's certificate is refused, the same in log, API, metric and accounting.
type Reason string

// Reasons of refusal.
const (
	ReasonNoCertificate Reason = "no-certificate"
	ReasonMalformed     Reason = "certificate-malformed"
	ReasonUntrusted     Reason = "certificate-untrusted"
	ReasonExpired       Reason = "certificate-expired"
	ReasonRevoked       Reason = "certificate-revoked"
	ReasonStaleCRL      Reason = "revocation-unknown"
	ReasonUsage         Reason = "certificate-usage"
	ReasonIdentity      Reason = "certificate-identity"
	ReasonSignature     Reason = "signature-wrong"
)

// Refusal is the error of a peer whose certificate is not accepted.
type Refusal struct {
	Reason Reason
	Text   string // a sentence for the operator
}

// Error returns the sentence.
func (r *Refusal) Error() string { return r.Text }
