package config

import (
	"fmt"
	"slices"
)

// LogLevel is the least severity that is logged.
type LogLevel uint8

// The log levels.
const (
	LogDebug LogLevel = iota + 1
	LogInfo
	LogWarn
	LogError
)

// LogFormat is the form of log lines.
type LogFormat uint8

// The log formats.
const (
	LogConsole LogFormat = iota + 1
	LogJSON
)

// ProposalProfile is a named set of acceptable algorithms.
type ProposalProfile uint8

// The proposal profiles; each accepts all that the one before accepts.
const (
	// ProposalModern is AES, SHA-2, MODP of 2048 bits and more, elliptic
	// curves.
	ProposalModern ProposalProfile = iota + 1
	// ProposalCompatible adds what Windows 7 to 11, Apple and NetworkManager
	// need: SHA-1.
	ProposalCompatible
	// ProposalLegacy adds 3DES, DES, MD5, MODP 768, 1024 and 1536.
	ProposalLegacy
)

// AuthMethod is a phase 1 authentication method.
type AuthMethod uint8

// The authentication methods.
const (
	AuthPSK AuthMethod = iota + 1
	// AuthRSA is RSA signatures of both sides, AuthHybrid of ours alone: the peer
	// then proves itself by XAuth only.
	AuthRSA
	AuthHybrid
	// AuthAny is every method that there is a key or certificate for.
	AuthAny
)

// AggressiveMode says whether a policy rule lets aggressive mode in (K5).
type AggressiveMode uint8

// The settings of aggressive mode.
const (
	// AggressiveNone is main mode only.
	AggressiveNone AggressiveMode = iota + 1
	// AggressiveAccepted, AggressiveRequested and AggressiveRequired answer
	// either mode, but the last, which refuses main mode. They differ in what we
	// begin with: main mode, aggressive mode, aggressive mode.
	AggressiveAccepted
	AggressiveRequested
	AggressiveRequired
)

// Encryption is a phase 1 cipher with its key length.
type Encryption uint8

// The phase 1 ciphers, all in CBC mode.
const (
	EncryptionAES256 Encryption = iota + 1
	EncryptionAES192
	EncryptionAES128
	Encryption3DES
	EncryptionDES
)

// Hash is a phase 1 hash, which is also the PRF.
type Hash uint8

// The phase 1 hashes.
const (
	HashSHA256 Hash = iota + 1
	HashSHA384
	HashSHA512
	HashSHA1
	HashMD5
)

// Group is a Diffie-Hellman group by its IKE number (IANA "Group Description").
type Group uint16

// The Diffie-Hellman groups.
const (
	// GroupNone is no group; in PFS it means none is demanded.
	GroupNone       Group = 0
	GroupMODP768    Group = 1
	GroupMODP1024   Group = 2
	GroupMODP1536   Group = 5
	GroupMODP2048   Group = 14
	GroupMODP3072   Group = 15
	GroupMODP4096   Group = 16
	GroupECP256     Group = 19
	GroupECP384     Group = 20
	GroupECP521     Group = 21
	GroupCurve25519 Group = 31
)

// ESPEncryption is a phase 2 cipher with its key length.
type ESPEncryption uint8

// The phase 2 ciphers.
const (
	ESPAES256 ESPEncryption = iota + 1
	ESPAES192
	ESPAES128
	// ESPAES256GCM and the next two are AES-GCM with a 16 byte tag; they take
	// no separate integrity.
	ESPAES256GCM
	ESPAES192GCM
	ESPAES128GCM
	ESP3DES
	ESPDES
)

// ESPIntegrity is a phase 2 integrity algorithm with its truncation.
type ESPIntegrity uint8

// The phase 2 integrity algorithms.
const (
	// IntegrityNone goes with AES-GCM only.
	IntegrityNone ESPIntegrity = iota + 1
	// IntegritySHA256 is HMAC-SHA2-256-128 (RFC 4868).
	IntegritySHA256
	IntegritySHA384
	IntegritySHA512
	// IntegritySHA1 is HMAC-SHA1-96.
	IntegritySHA1
	// IntegrityMD5 is HMAC-MD5-96.
	IntegrityMD5
	// IntegritySHA256Trunc96 is HMAC-SHA2-256 cut to 96 bits, which Android 6
	// and 7 use in place of RFC 4868's 128 under the same number. It must be
	// asked for by name and excludes IntegritySHA256.
	IntegritySHA256Trunc96
)

// ESPTransform is an ESP transform: cipher and integrity.
type ESPTransform struct {
	Encryption ESPEncryption
	Integrity  ESPIntegrity
}

// IdentityKind is the type of an [Identity].
type IdentityKind uint8

// The kinds of identity; the zero kind is no identity.
const (
	IdentityAddress IdentityKind = iota + 1
	IdentityFQDN
	IdentityUserFQDN
)

// PPPAuth is a PPP authentication method.
type PPPAuth uint8

// The PPP authentication methods.
const (
	PPPMSCHAPv2 PPPAuth = iota + 1
	PPPCHAP
	PPPPAP
	// PPPEAP is relayed to a RADIUS server (RFC 3579).
	PPPEAP
)

// AAAMethod is one way to decide about a user.
type AAAMethod uint8

// The methods.
const (
	// MethodLocal asks the router's own users.
	MethodLocal AAAMethod = iota + 1
	// MethodRADIUS asks the servers of a group.
	MethodRADIUS
)

// ParseOrder says which part of realm/user@domain serves as the domain (R1).
type ParseOrder uint8

// The orders.
const (
	// RealmFirst takes the realm, and the domain where there is none.
	RealmFirst ParseOrder = iota + 1
	// DomainFirst takes the domain, and the realm where there is none.
	DomainFirst
)

// ParseDirection says which of several delimiters counts (R1).
type ParseDirection uint8

// The directions.
const (
	// LeftToRight takes the first delimiter.
	LeftToRight ParseDirection = iota + 1
	// RightToLeft takes the last one.
	RightToLeft
)

// UnknownPolicy says what an unknown traffic policy does to a subscriber.
type UnknownPolicy uint8

// The possibilities.
const (
	// UnknownPolicyRefuse refuses the subscriber: it might get what it must not.
	UnknownPolicyRefuse UnknownPolicy = iota + 1
	// UnknownPolicyIgnore lets it in without the policy.
	UnknownPolicyIgnore
)

// Strategy says which server of a group is asked first.
type Strategy uint8

// The strategies.
const (
	// StrategyPriority asks the first one that is alive.
	StrategyPriority Strategy = iota + 1
	// StrategyRoundRobin takes turns.
	StrategyRoundRobin
)

// SessionLimit is one of the limits on sessions.
type SessionLimit uint8

// The limits.
const (
	// LimitUser is PerUser.
	LimitUser SessionLimit = iota + 1
	// LimitDomain is PerDomain, and the bounds of domain maps.
	LimitDomain
	// LimitSource is PerSource.
	LimitSource
	// LimitRouter is PerRouter.
	LimitRouter
)

// WhenReached says what happens at a limit on sessions.
type WhenReached uint8

// The possibilities.
const (
	// Deny refuses the new session.
	Deny WhenReached = iota + 1
	// ReplaceOldest ends the oldest one that counts for the limit.
	ReplaceOldest
)

// Action is what a rule of a traffic policy does.
type Action uint8

// The actions.
const (
	// Permit lets a packet pass.
	Permit Action = iota + 1
	// Drop drops it.
	Drop
)

// names maps the values of an enumeration to their words in the configuration,
// in the order in which messages list them.
type names[T ~uint8 | ~uint16] []struct {
	v T
	s string
}

func (n names[T]) text(v T) string {
	for _, e := range n {
		if e.v == v {
			return e.s
		}
	}
	return fmt.Sprintf("%T(%d)", v, v)
}

func (n names[T]) value(s string) (T, bool) {
	i := slices.IndexFunc(n, func(e struct {
		v T
		s string
	}) bool {
		return e.s == s
	})
	if i < 0 {
		var zero T
		return zero, false
	}
	return n[i].v, true
}

func (n names[T]) words() []string {
	w := make([]string, len(n))
	for i, e := range n {
		w[i] = e.s
	}
	return w
}

var (
	logLevelNames = names[LogLevel]{{LogDebug, "debug"}, {LogInfo, "info"}, {LogWarn, "warn"}, {LogError, "error"}}

	logFormatNames = names[LogFormat]{{LogConsole, "console"}, {LogJSON, "json"}}

	proposalNames = names[ProposalProfile]{
		{ProposalModern, "modern"}, {ProposalCompatible, "compatible"}, {ProposalLegacy, "legacy"},
	}

	authNames = names[AuthMethod]{{AuthPSK, "psk"}, {AuthRSA, "rsa"}, {AuthHybrid, "hybrid"}, {AuthAny, "any"}}

	aggressiveNames = names[AggressiveMode]{
		{AggressiveNone, "none"}, {AggressiveAccepted, "accepted"}, {AggressiveRequested, "requested"}, {AggressiveRequired, "required"},
	}

	adminNames = names[AdminState]{{AdminEnabled, "enabled"}, {AdminDrain, "drain"}, {AdminDisabled, "disabled"}}

	xauthNames = names[XAuth]{{XAuthGeneric, "generic"}, {XAuthCHAP, "chap"}, {XAuthNone, "none"}}

	encryptionNames = names[Encryption]{
		{EncryptionAES256, "aes256"}, {EncryptionAES192, "aes192"}, {EncryptionAES128, "aes128"},
		{Encryption3DES, "3des"}, {EncryptionDES, "des"},
	}

	hashNames = names[Hash]{
		{HashSHA256, "sha256"}, {HashSHA384, "sha384"}, {HashSHA512, "sha512"}, {HashSHA1, "sha1"}, {HashMD5, "md5"},
	}

	groupNames = names[Group]{
		{GroupMODP768, "modp768"}, {GroupMODP1024, "modp1024"}, {GroupMODP1536, "modp1536"},
		{GroupMODP2048, "modp2048"}, {GroupMODP3072, "modp3072"}, {GroupMODP4096, "modp4096"},
		{GroupECP256, "ecp256"}, {GroupECP384, "ecp384"}, {GroupECP521, "ecp521"}, {GroupCurve25519, "curve25519"},
	}

	espEncryptionNames = names[ESPEncryption]{
		{ESPAES256, "aes256"}, {ESPAES192, "aes192"}, {ESPAES128, "aes128"},
		{ESPAES256GCM, "aes256gcm16"}, {ESPAES192GCM, "aes192gcm16"}, {ESPAES128GCM, "aes128gcm16"},
		{ESP3DES, "3des"}, {ESPDES, "des"},
	}

	espIntegrityNames = names[ESPIntegrity]{
		{IntegritySHA256, "sha256"}, {IntegritySHA384, "sha384"}, {IntegritySHA512, "sha512"},
		{IntegritySHA1, "sha1"}, {IntegrityMD5, "md5"}, {IntegritySHA256Trunc96, "sha256_96"},
	}

	pppAuthNames = names[PPPAuth]{{PPPMSCHAPv2, "mschapv2"}, {PPPCHAP, "chap"}, {PPPPAP, "pap"}, {PPPEAP, "eap"}}

	aaaMethodNames = names[AAAMethod]{{MethodLocal, "local"}, {MethodRADIUS, "radius"}}

	parseOrderNames = names[ParseOrder]{{RealmFirst, "realm-first"}, {DomainFirst, "domain-first"}}

	parseDirectionNames = names[ParseDirection]{{LeftToRight, "left-to-right"}, {RightToLeft, "right-to-left"}}

	unknownPolicyNames = names[UnknownPolicy]{{UnknownPolicyRefuse, "refuse"}, {UnknownPolicyIgnore, "ignore"}}

	strategyNames = names[Strategy]{{StrategyPriority, "priority"}, {StrategyRoundRobin, "round-robin"}}

	actionNames = names[Action]{{Permit, "permit"}, {Drop, "deny"}}

	whenReachedNames = names[WhenReached]{{Deny, "deny"}, {ReplaceOldest, "replace-oldest"}}

	sessionLimitNames = names[SessionLimit]{{LimitUser, "user"}, {LimitDomain, "domain"}, {LimitSource, "source"}, {LimitRouter, "router"}}

	identityNames = names[IdentityKind]{
		{IdentityAddress, "address"}, {IdentityFQDN, "fqdn"}, {IdentityUserFQDN, "user-fqdn"},
	}

	routerKindNames = names[RouterKind]{{KindNamespace, "namespace"}, {KindVRF, "vrf"}}
)

// String returns the word of the configuration.
func (l LogLevel) String() string { return logLevelNames.text(l) }

// String returns the word of the configuration.
func (f LogFormat) String() string { return logFormatNames.text(f) }

// String returns the word of the configuration.
func (p ProposalProfile) String() string { return proposalNames.text(p) }

// String returns the word of the configuration.
func (a AuthMethod) String() string { return authNames.text(a) }

// String returns the word of the configuration.
func (a AggressiveMode) String() string { return aggressiveNames.text(a) }

// String returns the word of the configuration.
func (x XAuth) String() string { return xauthNames.text(x) }

// String returns the word of the configuration.
func (s AdminState) String() string { return adminNames.text(s) }

// String returns the word of the configuration.
func (e Encryption) String() string { return encryptionNames.text(e) }

// String returns the word of the configuration.
func (h Hash) String() string { return hashNames.text(h) }

// String returns the word of the configuration, "none" for GroupNone.
func (g Group) String() string {
	if g == GroupNone {
		return "none"
	}
	return groupNames.text(g)
}

// String returns the word of the configuration.
func (e ESPEncryption) String() string { return espEncryptionNames.text(e) }

// String returns the word of the configuration, "none" for IntegrityNone.
func (i ESPIntegrity) String() string {
	if i == IntegrityNone {
		return "none"
	}
	return espIntegrityNames.text(i)
}

// String returns the word of the configuration, such as "aes256-sha1" or
// "aes128gcm16".
func (t ESPTransform) String() string {
	if t.Integrity == IntegrityNone {
		return t.Encryption.String()
	}
	return t.Encryption.String() + "-" + t.Integrity.String()
}

// AEAD says whether the cipher brings its own integrity.
func (e ESPEncryption) AEAD() bool {
	return e == ESPAES256GCM || e == ESPAES192GCM || e == ESPAES128GCM
}

// String returns "address", "fqdn" or "user-fqdn".
func (k IdentityKind) String() string { return identityNames.text(k) }

// String returns the word of the configuration.
func (a PPPAuth) String() string { return pppAuthNames.text(a) }

// String returns the word of the configuration.
func (m AAAMethod) String() string { return aaaMethodNames.text(m) }

// String returns the word of the configuration.
func (o ParseOrder) String() string { return parseOrderNames.text(o) }

// String returns the word of the configuration.
func (d ParseDirection) String() string { return parseDirectionNames.text(d) }

// String returns the word of the configuration.
func (u UnknownPolicy) String() string { return unknownPolicyNames.text(u) }

// String returns the word of the configuration.
func (s Strategy) String() string { return strategyNames.text(s) }

// String returns the word of the configuration.
func (w WhenReached) String() string { return whenReachedNames.text(w) }

// String returns the word of the configuration.
func (s SessionLimit) String() string { return sessionLimitNames.text(s) }

// String returns the word of the configuration.
func (a Action) String() string { return actionNames.text(a) }

// String returns "namespace" or "vrf".
func (k RouterKind) String() string { return routerKindNames.text(k) }
