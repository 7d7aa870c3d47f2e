package ike

// Why connections end. The text is stable: it appears in logs, the API, metrics
// and accounting.
const (
	ReasonPeerDelete     Reason = "peer-deleted"
	ReasonExpired        Reason = "expired"         // the last SA reached its hard lifetime
	ReasonNoChild        Reason = "no-ipsec-sa"     // no phase 2 SA within the grace period (J9)
	ReasonPeerDead       Reason = "peer-dead"       // DPD got no answer (K10)
	ReasonInitialContact Reason = "initial-contact" // the peer says that it has restarted
	ReasonInstall        Reason = "kernel-refused"  // the data plane refused an SA
	ReasonOperator       Reason = "operator"
	ReasonShutdown       Reason = "shutdown"
	ReasonTimeout        Reason = "no-answer"     // the peer does not answer our messages
	ReasonUndecided      Reason = "no-decision"   // nobody has said whether a dynamic subscriber may come in
	ReasonXAuthTimeout   Reason = "xauth-timeout" // the user has not answered
	ReasonXAuthFailed    Reason = "xauth-failed"  // as a subscriber: the server refuses us
	ReasonReplaced       Reason = "replaced"      // the peer has come back behind the NAT that it may pass alone (B3r)
	ReasonProfileRemoved Reason = "profile-removed"
	ReasonProfileChanged Reason = "profile-changed" // in what live connections have of it (G4)
)

// Why negotiations fail.
const (
	ReasonNoProposal     Reason = "no-proposal-chosen"
	ReasonNoProposal2    Reason = "no-ipsec-proposal-chosen"
	ReasonPSKMismatch    Reason = "pre-shared-keys-differ"
	ReasonAuthFailed     Reason = "authentication-failed"        // the peer's proof is wrong though its message decrypts
	ReasonNoKey          Reason = "no-pre-shared-key"            // none configured for this pair of addresses
	ReasonKeyExpired     Reason = "pre-shared-key-expired"       // the key is the peer's, but Until has passed
	ReasonKeyEarly       Reason = "pre-shared-key-not-yet-valid" // From is still to come
	ReasonUnknownGroup   Reason = "unknown-group"                // aggressive mode: no pre-shared key for the peer's identity
	ReasonNoCertificate  Reason = "no-certificate"
	ReasonCertEncoding   Reason = "certificate-encoding" // PKCS #7 and the like
	ReasonCertLimit      Reason = "certificates-too-large"
	ReasonSigning        Reason = "signing-failed"   // by our own key
	ReasonIdentity       Reason = "identity-refused" // key and identity do not belong together
	ReasonPublicValue    Reason = "bad-public-value"
	ReasonNoProfile      Reason = "no-transport-profile"
	ReasonSelectors      Reason = "selectors-refused"      // D2r
	ReasonPassthrough    Reason = "nat-passthrough-in-use" // B3r: by another user behind the same NAT
	ReasonNotShared      Reason = "phase1-not-shared"      // J11: quick mode of another kind than phase 1
	ReasonTunnelInUse    Reason = "static-tunnel-in-use"   // by another peer
	ReasonTunnelShut     Reason = "static-tunnel-shut"     // see AdmitPeers
	ReasonAH             Reason = "ah-refused"             // C7r: ESP only
	ReasonTunnelMode     Reason = "tunnel-mode-refused"
	ReasonTransportMode  Reason = "transport-mode-refused" // J11: dynamic subscribers have tunnels only
	ReasonNoTunnel       Reason = "no-tunnel-profile"      // J15
	ReasonTooEarly       Reason = "quick-mode-too-early"   // J8
	ReasonTooMany        Reason = "too-many-ipsec-sas"     // more networks than one subscriber may name
	ReasonEncapsulation  Reason = "encapsulation-mismatch" // NAT found, but no UDP encapsulation offered, or the reverse
	ReasonPFS            Reason = "pfs-refused"
	ReasonAggressiveMode Reason = "aggressive-mode-refused"
	ReasonPeerRefused    Reason = "peer-refused" // the peer answered with an error notify
	ReasonBadAnswer      Reason = "bad-answer"   // the responder's answer does not fit what we offered
	ReasonConfig         Reason = "not-configured"
	ReasonDHFailed       Reason = "diffie-hellman-failed"
	ReasonNoIDs          Reason = "connection-numbers-exhausted"
)

// Why datagrams are dropped.
const (
	DropMalformed      Reason = "drop-malformed"
	DropKeepalive      Reason = "drop-nat-keepalive" // C10r
	DropUnknownCookie  Reason = "drop-unknown-cookie"
	DropWrongAddress   Reason = "drop-wrong-address"
	DropUnexpected     Reason = "drop-unexpected" // valid, but not in this state
	DropDuplicate      Reason = "drop-duplicate"
	DropReplay         Reason = "drop-replay"
	DropClear          Reason = "drop-in-clear" // must be encrypted
	DropBadHash        Reason = "drop-bad-hash"
	DropUndecryptable  Reason = "drop-undecryptable"
	DropHalfOpenTotal  Reason = "drop-half-open-total"
	DropHalfOpenSource Reason = "drop-half-open-source"
	DropBusy           Reason = "drop-busy" // the Diffie-Hellman pool is full
	DropLimit          Reason = "drop-limit"
	DropExchange       Reason = "drop-exchange-type"
	DropFragment       Reason = "drop-fragment"
	DropEvicted        Reason = "half-open-evicted"
	DropTimeout        Reason = "half-open-timeout"
)

// What is counted beside.
const (
	CountPhase1Up    Reason = "phase1-up"
	CountDynamicUp   Reason = "dynamic-up"
	CountPhase1Rekey Reason = "phase1-rekeyed"
	CountChildUp     Reason = "ipsec-sa-up"
	CountChildRekey  Reason = "ipsec-sa-rekeyed"
	CountConnUp      Reason = "connection-up"
	CountRepeat      Reason = "answer-repeated"
	CountRetransmit  Reason = "retransmit"
	CountMoved       Reason = "peer-moved"
	CountWeak        Reason = "weak-algorithm-used" // MD5, DES, 3DES, MODP below 2048 bits
	CountNotify      Reason = "notify-received"
)
