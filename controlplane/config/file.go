package config

// The types below are the configuration files as they are written. Struct tags
// hold what a machine checks and documents: yaml (the key), default, range and
// zero (numbers and times), len (bytes of a text), items (entries of a list),
// required. The comments of types and fields are the texts of the JSON schema
// and of the reference page; `go generate` writes both.

//go:generate go test -run TestGeneratedFilesAreCurrent -update .

// fileProcess is vrgate.yaml: what concerns the process and not one virtual router.
type fileProcess struct {
	section
	// What is logged, and how.
	Log fileLog `yaml:"log"`
	// The control socket that `vrgate show` and `vrgate disconnect` use.
	API fileAPI `yaml:"api"`
	// Directory for the lock file and durable state; absolute.
	StateDir text `yaml:"state-dir" default:"/var/lib/vrgate" len:"1..4000"`
	// Sizes of the pools for slow work.
	Workers fileWorkers `yaml:"workers"`
	// Bounds on phase 1 negotiations that are not yet authenticated, and on dynamic subscribers without certificate whose user has not been let in, in each virtual router.
	HalfOpen fileHalfOpen `yaml:"half-open"`
	// Bounds on subscribers of all virtual routers together.
	Licences fileLicences `yaml:"licences"`
	// Virtual router whose RADIUS servers may move a user to another virtual router (ERX Virtual-Router); without it none may. Domain maps always can.
	DefaultRouter text `yaml:"default-router" len:"1..31"`
	// Bounds on subscribers that wait for AAA.
	Admission fileAdmission `yaml:"admission"`
	// The journal of accounting records, in the state directory.
	Journal fileJournal `yaml:"accounting-journal"`
	// How long sessions may take to end politely at shutdown.
	ShutdownTimeout duration `yaml:"shutdown-timeout" default:"10s" range:"1..600"`
}

// fileLog says what is logged, and how.
type fileLog struct {
	section
	// The least severity that is logged.
	Level word[LogLevel] `yaml:"level" default:"info"`
	// The form of log lines: for people or for machines.
	Format word[LogFormat] `yaml:"format" default:"console"`
}

// fileAPI is the control socket.
type fileAPI struct {
	section
	// Path of the unix socket; absolute.
	Socket text `yaml:"socket" default:"/run/vrgate/api.sock" len:"1..107"`
	// Group (name or number) whose members may use the socket besides root.
	Group text `yaml:"group"`
}

// fileWorkers sizes the pools for slow work.
type fileWorkers struct {
	section
	// Workers for Diffie-Hellman.
	DH number `yaml:"dh" default:"0" range:"1..1024" zero:"one per CPU"`
	// Workers for calls that wait for the kernel.
	Kernel number `yaml:"kernel" default:"32" range:"1..1024"`
}

// fileHalfOpen bounds phase 1 negotiations that are not yet authenticated, and dynamic subscribers without certificate whose user has not been let in.
type fileHalfOpen struct {
	section
	// The number at which new negotiations are refused.
	Total number `yaml:"total" default:"16384" range:"1..1000000"`
	// The same for one source address.
	PerSource number `yaml:"per-source" default:"512" range:"1..1000000"`
}

// fileRouter is vr/NAME.yaml: the virtual router NAME.
type fileRouter struct {
	section
	// The network namespace of the virtual router; without it the one in which vrgate runs.
	Namespace fileNamespace `yaml:"namespace"`
	// Makes the virtual router a VRF device inside its namespace.
	VRF fileVRF `yaml:"vrf"`
	// What joins the virtual router to its private network. A link that cannot be there yet, because nothing is plugged in or another virtual router does not run, is made when it can be.
	Links []fileLink `yaml:"links" items:"0..256"`
	// Static IPsec tunnels that carry traffic of the virtual router.
	StaticTunnels []fileStaticTunnel `yaml:"static-tunnels" items:"0..4000"`
	// Name servers that know the peers of static tunnels whose encrypted packets this virtual router sends; they are asked from within it. Without them those of the system, from the namespace in which vrgate runs.
	NameServers []address `yaml:"name-servers" items:"0..3"`
	// Addresses on which the virtual router serves clients: UDP 500, 4500 and 1701, on IPv6 addresses 1701 alone (plain L2TP: IPsec is served over IPv4 only). Without them it only terminates subscribers of other virtual routers.
	ServerAddresses []host `yaml:"server-addresses" items:"0..256"`
	// IKE and IPsec.
	IPsec fileIPsec `yaml:"ipsec"`
	// L2TP parameters and who may open tunnels.
	L2TP fileL2TP `yaml:"l2tp"`
	// PPP parameters.
	PPP filePPP `yaml:"ppp"`
	// What subscriber interfaces look like.
	IPProfiles []fileIPProfile `yaml:"ip-profiles" items:"0..10000"`
	// Address pools of subscribers that terminate in this virtual router.
	Pools []filePool `yaml:"pools" items:"0..1000"`
	// Local users of subscribers that arrive in this virtual router.
	Users []fileUser `yaml:"users" items:"0..100000"`
	// RADIUS servers.
	RADIUS fileRADIUS `yaml:"radius"`
	// Who decides about subscribers that arrive in this virtual router, and what they get unless something else says otherwise.
	AAA fileAAA `yaml:"aaa"`
	// Bounds on sessions that arrive in this virtual router, by user, domain and source.
	Limits fileLimits `yaml:"limits"`
	// Filters and rates for subscribers that terminate in this virtual router, by name.
	TrafficPolicies []fileTrafficPolicy `yaml:"traffic-policies" items:"0..1000"`
	// Bounds on subscribers that arrive in this virtual router.
	Licences fileLicences `yaml:"licences"`
}

// fileLicences bounds subscribers. One that has either used up is refused.
type fileLicences struct {
	section
	// Most subscribers of any kind.
	Subscribers number `yaml:"subscribers" default:"0" range:"1..1000000" zero:"no limit"`
	// Most subscribers that IPsec protects.
	IPsecTunnels number `yaml:"ipsec-tunnels" default:"0" range:"1..1000000" zero:"no limit"`
}

// fileNamespace names a network namespace.
type fileNamespace struct {
	section
	// Name below /run/netns.
	Name text `yaml:"name" required:"true" len:"1..64"`
	// Make it if it does not exist, and remove it again at the end.
	Create boolean `yaml:"create" default:"false"`
}

// fileVRF is a VRF device.
type fileVRF struct {
	section
	// Name of the interface.
	Device text `yaml:"device" required:"true" len:"1..15"`
	// Its routing table.
	Table number `yaml:"table" required:"true" range:"1..4294967295"`
	// Make it if it does not exist, and remove it again at the end.
	Create boolean `yaml:"create" default:"false"`
}

// fileIPsec is IKE and IPsec of a virtual router.
type fileIPsec struct {
	section
	// NAT traversal; a change affects new IKE SAs only.
	NATT boolean `yaml:"nat-t" default:"true"`
	// Answer IKE messages with unknown cookies by an INVALID-COOKIE notify, at a bounded rate. A peer that missed the end of its SA then notices sooner, and so does a scanner that somebody speaks IKE.
	InvalidCookie boolean `yaml:"tx-invalid-cookie" default:"false"`
	// The algorithms accepted where a rule or profile names none: modern (AES, SHA-2, strong groups), compatible (adds SHA-1, which Windows, Apple and NetworkManager need), legacy (adds 3DES, DES, MD5, MODP 1536, 1024 and 768 for Android, Windows XP and small routers).
	Proposals word[ProposalProfile] `yaml:"proposals" default:"compatible"`
	// Rules that alone decide whether a phase 1 SA is accepted; without any the proposal profile decides.
	Policy []filePolicyRule `yaml:"ike-policy-rules" items:"0..10"`
	// How IPsec transport mode connections that carry L2TP are accepted.
	TransportProfiles []fileTransport `yaml:"transport-profiles" items:"0..1000"`
	// Keys of single peers; they come before group keys.
	Keys []fileKey `yaml:"pre-shared-keys" items:"0..10000"`
	// Certificates of the virtual router, and of authorities that it trusts.
	Certificates fileCertificates `yaml:"certificates"`
	// Which dynamic subscribers (XAuth: "Cisco IPSec", vpnc, Shrew) belong to a VPN, and what they get; the first that matches decides.
	TunnelProfiles []fileTunnel `yaml:"tunnel-profiles" items:"0..1000"`
	// When dynamic subscribers are asked whether they are still there. L2TP clients never are: L2TP has a keepalive of its own.
	DPD fileDPD `yaml:"dead-peer-detection"`
}

// fileCertificates is what the virtual router shows to peers, and whom it believes.
type fileCertificates struct {
	section
	// Files with certificates of trusted authorities in PEM, relative to the configuration directory.
	Authorities []text `yaml:"authorities" items:"0..64" len:"1..4000"`
	// Certificates of the virtual router.
	Own []fileOwnCertificate `yaml:"own" items:"0..64"`
	// What is known of revoked certificates.
	Revocation fileRevocation `yaml:"revocation"`
	// How long before its end a certificate of ours or of an authority is warned of.
	ExpiryWarning duration `yaml:"expiry-warning" default:"720h" range:"0..31622400"`
}

// fileOwnCertificate is a certificate with its private key: certificate and key, or pkcs12.
type fileOwnCertificate struct {
	section
	// Name by which profiles refer to it.
	Name text `yaml:"name" required:"true" len:"1..64"`
	// File with the certificate in PEM, and after it those of its issuers, relative to the configuration directory.
	Certificate text `yaml:"certificate" len:"1..4000"`
	// File with the RSA private key in PEM, not encrypted, relative to the configuration directory.
	Key text `yaml:"key" len:"1..4000"`
	// File with certificate, issuers and private key as PKCS #12, relative to the configuration directory.
	PKCS12 text `yaml:"pkcs12" len:"1..4000"`
	// Password of the PKCS #12 file; not together with password-file.
	Password secret `yaml:"password"`
	// File that holds the password, relative to the configuration directory.
	PasswordFile text `yaml:"password-file" len:"1..4000"`
}

// fileRevocation is what is known of revoked certificates.
type fileRevocation struct {
	section
	// Files with revocation lists in PEM or DER, relative to the configuration directory.
	Files []text `yaml:"files" items:"0..32" len:"1..4000"`
	// Revocation lists on servers, as http URLs; what was fetched is kept over a restart.
	URLs []text `yaml:"urls" items:"0..32" len:"1..1000"`
	// How often the URLs are fetched.
	Refresh duration `yaml:"refresh" default:"1h" range:"60..604800"`
	// Refuse peers for whose issuer there is no list, or only one that should have been replaced by now.
	Strict boolean `yaml:"strict" default:"false"`
}

// fileTunnel is a tunnel profile: which dynamic subscribers belong to a VPN, and what they get.
type fileTunnel struct {
	section
	// Name of the profile.
	Name text `yaml:"name" required:"true" len:"1..64"`
	// Server address on which it holds; without it any. In main mode a pre-shared key cannot be chosen by identity, so that there each VPN needs an address of its own.
	LocalAddress address `yaml:"local-address" only:"IPsec"`
	// What we call ourselves: an IPv4 address, @domain, user@domain, dn:CN=...,O=... or any other text (a key ID, with keyid: before it if it could be something else); without it the address or the subject of the certificate.
	LocalIdentity peerID `yaml:"local-identity" len:"1..1024"`
	// Our certificate for RSA signatures and hybrid authentication.
	Certificate text `yaml:"certificate" len:"1..64"`
	// Accepted identities of peers, written as local-identity, where * stands for any text; without it any. The users of a domain are *@example.net, its hosts @*.example.net.
	PeerIdentities []peerID `yaml:"peer-identities" items:"0..64" len:"1..1024" wildcard:"true"`
	// Pre-shared keys of the profile.
	Keys []fileTunnelKey `yaml:"keys" items:"0..1000"`
	// How users are asked by XAuth: generic (name and password), chap (a challenge), none (phase 1 alone authenticates).
	XAuth word[XAuth] `yaml:"extended-authentication" default:"generic"`
	// Ask the user again when phase 1 is renewed, except on Apple clients, which would show a dialogue in the middle of the work. Without it whoever knows the group key and can send from the address and port of a client, as on the same LAN, may renew in its place; with hybrid authentication the user is always asked.
	Reauthenticate boolean `yaml:"reauthenticate" default:"false"`
	// How often a user may answer wrongly.
	Attempts number `yaml:"attempts" default:"3" range:"1..10"`
	// Send the configuration unasked; most clients ask.
	Push boolean `yaml:"push-configuration" default:"false"`
	// Most subscribers of this profile.
	MaxSubscribers number `yaml:"max-subscribers" default:"0" range:"1..1000000" zero:"no limit"`
	// Appended to the user name before the user is looked up.
	DomainSuffix text `yaml:"domain-suffix" len:"1..128"`
	// IP profile of the subscribers; without it the only one of the virtual router. It may terminate in a virtual router of another namespace.
	IPProfile text `yaml:"ip-profile" len:"1..64"`
	// Networks that the client reaches through the tunnel (split tunnelling); without it everything.
	Networks []prefix `yaml:"networks" items:"0..64"`
	// Networks that the client may ask for on our side in phase 2; without it any.
	Phase2Local []prefix `yaml:"phase2-local-identities" items:"0..64"`
	// Networks that the client may name as its own side in phase 2 instead of the address that it was given, which must lie within; only packets of that address pass.
	Phase2Peer []prefix `yaml:"phase2-peer-identities" items:"0..64"`
	// Longest life of a phase 2 SA.
	Lifetime duration `yaml:"lifetime" default:"28800" range:"1800..864000"`
	// Most traffic of a phase 2 SA in kilobytes.
	Kilobytes number `yaml:"lifetime-kilobytes" default:"4294967295" range:"102400..4294967295"`
	// Least group for perfect forward secrecy that clients must use; none leaves it to them.
	PFS pfs `yaml:"pfs" default:"none"`
	// ESP transforms as cipher-integrity; without it those of the proposal profile.
	Transforms []transform `yaml:"transforms" items:"1..6"`
	// MTU of the route to a subscriber in bytes.
	MTU number `yaml:"mtu" default:"1440" range:"160..9000"`
	// How long the client is told that its address is good for.
	AddressExpiry duration `yaml:"address-expiry" default:"0" range:"60..31622400" zero:"nothing is said"`
	// What clients that know Cisco Unity show to the user after login.
	Banner text `yaml:"banner" len:"1..1000"`
	// Domain in which such clients look up names without a dot.
	DefaultDomain domain `yaml:"default-domain"`
	// Domains that such clients look up through the tunnel; without it all.
	SplitDNS []domain `yaml:"split-dns" items:"0..32"`
	// Let such clients store the password.
	SavePassword boolean `yaml:"save-password" default:"false"`
}

// fileTunnelKey is a pre-shared key of a tunnel profile. Exactly one of key and key-file is given.
type fileTunnelKey struct {
	section
	// What logs call the key.
	Name text `yaml:"name" required:"true" len:"1..64"`
	// Identity of the peers that use it, by which aggressive mode chooses the key: an IPv4 address, @domain, user@domain, dn:CN=...,O=... or any other text (a key ID: the group name of Cisco's clients); without it any.
	Identity peerID `yaml:"identity" len:"1..1024"`
	// The key itself.
	Key secret `yaml:"key"`
	// File that holds the key, relative to the configuration directory.
	KeyFile text `yaml:"key-file" len:"1..4000"`
}

// fileDPD says when dynamic subscribers are asked whether they are still there (RFC 3706). Their own questions are always answered.
type fileDPD struct {
	section
	// Ask at all.
	Enabled boolean `yaml:"enabled" default:"false"`
	// Ask if traffic was sent to the peer in this time ...
	Sent duration `yaml:"sent" default:"30s" range:"5..3600"`
	// ... and none came from it for this time.
	Unanswered duration `yaml:"unanswered" default:"60s" range:"5..3600"`
	// Ask if nothing went in either direction for this time.
	Silent duration `yaml:"silent" default:"150s" range:"5..86400"`
}

// filePolicyRule is an IKE policy rule; an offer matches if each value is among the listed ones.
type filePolicyRule struct {
	section
	// Order of the rules, lowest number first.
	Priority number `yaml:"priority" required:"true" range:"1..10000"`
	// Authentication of phase 1, with XAuth or without: psk (pre-shared key), rsa (certificates of both sides), hybrid (a certificate of ours and XAuth), any (whatever there is a key or certificate for).
	Auth word[AuthMethod] `yaml:"authentication" default:"psk"`
	// Ciphers.
	Encryption []word[Encryption] `yaml:"encryption" required:"true" items:"1..16"`
	// Hashes.
	Hash []word[Hash] `yaml:"hash" required:"true" items:"1..16"`
	// Diffie-Hellman groups.
	Group []word[Group] `yaml:"group" required:"true" items:"1..16"`
	// Longest life of a phase 1 SA.
	Lifetime duration `yaml:"lifetime" default:"28800" range:"60..86400"`
	// Whether aggressive mode matches: none (main mode only), accepted and requested (either mode; they differ where we begin), required (aggressive mode only).
	AggressiveMode word[AggressiveMode] `yaml:"aggressive-mode" default:"none"`
	// Server address to which the rule is bound; without it any.
	LocalAddress address `yaml:"local-address" only:"IPsec"`
}

// fileTransport is a transport profile: how IPsec transport mode connections that carry L2TP are accepted.
type fileTransport struct {
	section
	// Name of the profile.
	Name text `yaml:"name" required:"true" len:"1..64"`
	// The only peer, or 0.0.0.0 for any.
	RemoteAddress address `yaml:"remote-address" default:"0.0.0.0" any:"true" only:"IPsec"`
	// The server addresses on which it holds.
	Locals []fileTransportLocal `yaml:"local-addresses" required:"true" items:"1..256"`
	// Longest life of a phase 2 SA.
	Lifetime duration `yaml:"lifetime" default:"28800" range:"1800..864000"`
	// Most traffic of a phase 2 SA in kilobytes.
	Kilobytes number `yaml:"lifetime-kilobytes" default:"4294967295" range:"102400..4294967295"`
	// Least group for perfect forward secrecy that clients must use; none leaves it to them.
	PFS pfs `yaml:"pfs" default:"none"`
	// ESP transforms as cipher-integrity; without it those of the proposal profile.
	Transforms []transform `yaml:"transforms" items:"1..32"`
	// Our certificate for clients that authenticate with RSA signatures.
	Certificate text `yaml:"certificate" len:"1..64"`
	// Serve clients without NAT traversal behind a NAT that passes IPsec through: the UDP checksum of their L2TP, which the NAT has made wrong, is not checked. One client per address of such a NAT; nat-t does not have that limit.
	NATPassthrough boolean `yaml:"nat-passthrough" default:"false"`
}

// fileTransportLocal is a server address of a transport profile.
type fileTransportLocal struct {
	section
	// The server address.
	Address address `yaml:"address" required:"true" only:"IPsec"`
	// Pre-shared keys that any client of this address may use; tried in this order.
	GroupKeys []fileGroupKey `yaml:"group-keys" items:"0..8"`
}

// fileGroupKey is a group key. Exactly one of key and key-file is given.
type fileGroupKey struct {
	section
	// What logs call the key.
	Name text `yaml:"name" required:"true" len:"1..64"`
	// The key itself.
	Key secret `yaml:"key"`
	// File that holds the key, relative to the configuration directory.
	KeyFile text `yaml:"key-file" len:"1..4000"`
	// When clients may begin to use it, as a date and time such as 2026-08-01T00:00:00Z; without it at once. Where the times of two keys overlap both work, so that clients can be moved from one to the other.
	From instant `yaml:"valid-from"`
	// When new connections can no longer be made with it; those that were made before go on. Without it never.
	Until instant `yaml:"valid-until"`
}

// fileKey is the key of one peer. Exactly one of key and key-file, and exactly one of peer-address and peer-identity is given.
type fileKey struct {
	section
	// What logs call the key.
	Name text `yaml:"name" required:"true" len:"1..64"`
	// Outer IPv4 address of the peer.
	PeerAddress address `yaml:"peer-address" only:"IPsec"`
	// Identity that the peer sends in phase 1: an IPv4 address, a domain name or user@domain.
	PeerIdentity identity `yaml:"peer-identity"`
	// The key itself.
	Key secret `yaml:"key"`
	// File that holds the key, relative to the configuration directory.
	KeyFile text `yaml:"key-file" len:"1..4000"`
}

// filePPP is PPP of a virtual router.
type filePPP struct {
	section
	// Authentication methods, preferred one first; without it mschapv2 and chap. eap needs RADIUS servers, which alone understand it.
	Authentication []word[PPPAuth] `yaml:"authentication" items:"1..4"`
	// Largest MRU in bytes.
	MRU number `yaml:"mru" default:"1400" range:"576..1500"`
	// Time between LCP Echo-Requests.
	EchoInterval duration `yaml:"echo-interval" default:"30s" range:"1..3600" zero:"none"`
	// Unanswered Echo-Requests that end a session.
	EchoFailures number `yaml:"echo-failures" default:"4" range:"1..100"`
	// Bound on the establishment of a session, without the time authentication servers take.
	SetupTimeout duration `yaml:"setup-timeout" default:"60s" range:"5..300"`
}

// fileIPProfile is an IP profile: what a subscriber's interface looks like.
type fileIPProfile struct {
	section
	// Name of the profile.
	Name text `yaml:"name" required:"true" len:"1..64"`
	// Virtual router in which subscribers terminate; without it this one. L2TP subscribers can terminate in the same namespace only.
	Router text `yaml:"virtual-router" len:"1..31"`
	// Our own address on subscriber interfaces, the gateway that clients see, borrowed from an interface of the terminating virtual router; not together with address.
	Unnumbered address `yaml:"unnumbered-address"`
	// The same where no interface has it: vrgate puts it into the terminating virtual router.
	Address address `yaml:"address"`
	// Pool of the terminating virtual router; without it the only one there.
	Pool text `yaml:"pool" len:"1..64"`
	// DNS servers for clients, primary first.
	DNS []address `yaml:"dns" items:"1..2"`
	// NetBIOS name (WINS) servers for clients, primary first.
	NBNS []address `yaml:"nbns" items:"1..2"`
	// MTU of the interface in bytes.
	MTU number `yaml:"mtu" default:"0" range:"576..1500" zero:"from the negotiated MRU"`
	// Lower the MSS of TCP connections to the MTU.
	MSSClamp boolean `yaml:"mss-clamp" default:"true"`
	// Lower the MSS of TCP connections to this number of bytes besides.
	MSS number `yaml:"mss" default:"0" range:"536..1460" zero:"no such bound"`
	// Drop packets from a client with another source address than its own or one of the networks behind it.
	SourceValidation boolean `yaml:"source-validation" default:"true"`
	// Make routes to the client and the networks behind it; without them another routing daemon has to.
	AccessRoutes boolean `yaml:"access-routes" default:"true"`
	// What subscribers may send and receive for whom nothing else says that.
	Traffic fileTraffic `yaml:"traffic"`
	// How long a session may be without traffic.
	IdleTimeout duration `yaml:"idle-timeout" default:"0" range:"300..86400" zero:"that of the aaa section"`
	// Have the idle timeout look at traffic from subscribers only.
	IdleIngress boolean `yaml:"idle-ingress-only" default:"false"`
}

// filePool is an address pool.
type filePool struct {
	section
	// Name of the pool.
	Name text `yaml:"name" required:"true" len:"1..64"`
	// Its addresses: FIRST-LAST, single ones, or prefixes without their network and broadcast address.
	Ranges []addrRange `yaml:"ranges" required:"true" items:"1..1000"`
	// Addresses of the ranges that are not given out; gateway addresses and fixed addresses of users are left out anyway.
	Exclude []addrRange `yaml:"exclude" items:"0..10000"`
	// Percent of the addresses that are given out at which a warning is logged.
	WarnAt number `yaml:"warn-at" default:"90" range:"1..100" zero:"never"`
	// Percent below which the pool is well again; without it 10 less than warn-at.
	WarnUntil number `yaml:"warn-until" range:"0..100"`
}

// fileUser is a local user. Exactly one of password and password-file is given.
type fileUser struct {
	section
	// What the client sends as user name.
	Name text `yaml:"name" required:"true" len:"1..253"`
	// The password itself.
	Password secret `yaml:"password"`
	// File that holds the password, relative to the configuration directory.
	PasswordFile text `yaml:"password-file" len:"1..4000"`
	// Fixed address; without it one of the pool.
	Address address `yaml:"address"`
	// Virtual router in which this user terminates, in place of that of the IP profile.
	Router text `yaml:"virtual-router" len:"1..31"`
	// Pool of the terminating virtual router, in place of that of the IP profile.
	Pool text `yaml:"pool" len:"1..64"`
	// Netmask that dynamic subscribers are told; without it 255.255.255.255.
	Netmask netmask `yaml:"netmask"`
	// Upper bound on the MTU in bytes.
	MTU number `yaml:"mtu" default:"0" range:"576..9000" zero:"none"`
	// Networks behind the user.
	Routes []fileRoute `yaml:"routes" items:"0..32"`
	// DNS servers in place of those of the IP profile.
	DNS []address `yaml:"dns" items:"1..2"`
	// NetBIOS name (WINS) servers in place of those of the IP profile.
	NBNS []address `yaml:"nbns" items:"1..2"`
	// Networks that a dynamic subscriber reaches through the tunnel, in place of those of the tunnel profile.
	Networks []prefix `yaml:"networks" items:"0..64"`
	// What this user may send and receive.
	Traffic fileTraffic `yaml:"traffic"`
	// How long a session of this user may last.
	SessionTimeout duration `yaml:"session-timeout" default:"0" range:"60..31622400" zero:"that of the domain or the aaa section"`
	// How long a session of this user may be without traffic.
	IdleTimeout duration `yaml:"idle-timeout" default:"0" range:"300..86400" zero:"that of the domain or the aaa section"`
	// Have the idle timeout look at traffic from this user only.
	IdleIngress boolean `yaml:"idle-ingress-only" default:"false"`
}
