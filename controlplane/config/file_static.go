package config

// fileStaticTunnel is a static IPsec tunnel (IKEv1, ESP) between two sites: what is behind this virtual router and what is behind the peer. Without pre-shared-key and certificate the key is one of ipsec.pre-shared-keys.
type fileStaticTunnel struct {
	section
	// Name of the tunnel, which no other of the whole configuration has.
	Name text `yaml:"name" required:"true" len:"1..80"`
	// Virtual router that sends and receives the encrypted packets; without it this one. Server address, keys, certificates, IKE policy rules and name servers are those of that one, networks, interface and routes of this one. Goes with mode route.
	Transport text `yaml:"transport-virtual-router" len:"1..31"`
	// Dial the tunnel and answer its peer; without it only after `vrgate tunnel up`.
	Enabled boolean `yaml:"enabled" default:"true"`
	// How packets get into the tunnel: route (what is routed to its interface), policy (whatever goes from a local to a remote network, wherever it is routed; for a virtual router that has its network namespace to itself; where packets are routed otherwise while vrgate does not run, they leave as they are), transport (what GRE or IP-in-IP links send to the peer, in transport mode).
	Mode word[StaticMode] `yaml:"mode" default:"route"`
	// Our end, one of the server addresses; without it the only one of IPv4.
	LocalAddress address `yaml:"local-address" only:"IPsec"`
	// The other end, as IPv4 addresses or names of hosts, the primary first and then backups; without it the peer may have any address, and only it can begin. Mode transport needs addresses.
	Peers []peerHost `yaml:"peers" items:"0..8"`
	// Who begins: nailed-up (we do, always), on-demand (we do when there is something to send; what is sent until the tunnel is up is lost without an answer, so that TCP tries again), respond (the peer does); without it nailed-up, or respond where we cannot begin: without peers, and with extended-authentication server.
	Start word[StaticStart] `yaml:"start"`
	// How often a tunnel on a backup peer tries to go back to one before it in the list.
	FallBack duration `yaml:"fall-back" default:"10m" range:"10..86400" zero:"never"`
	// What we call ourselves: an IPv4 address, @domain, user@domain, dn:CN=...,O=... or any other text (a key ID, with keyid: before it if it could be something else); without it the address or the subject of the certificate.
	LocalID peerID `yaml:"local-id" len:"1..1024"`
	// What the peer has to call itself, written as local-id, or any; without it the address from which it comes. It need not exist anywhere else.
	PeerID peerID `yaml:"peer-id" len:"1..1024"`
	// Pre-shared key of this tunnel alone.
	Key fileStaticKey `yaml:"pre-shared-key"`
	// Our certificate, in place of a pre-shared key.
	Certificate text `yaml:"certificate" len:"1..64"`
	// Begin in aggressive mode. Whether the peer may is for the IKE policy rules to say.
	Aggressive boolean `yaml:"aggressive-mode" default:"false"`
	// Pairs of networks that the tunnel joins. Both sides must have the same, the other way round.
	Networks []fileStaticNetwork `yaml:"networks" required:"true" items:"1..64"`
	// ESP transforms as cipher-integrity, best first; without it those of the proposal profile.
	Transforms []transform `yaml:"transforms" items:"1..30"`
	// Least group for perfect forward secrecy; none leaves it to the peer.
	PFS pfs `yaml:"pfs" default:"none"`
	// Longest life of a phase 2 SA.
	Lifetime duration `yaml:"lifetime" default:"28800" range:"180..3000000"`
	// Most traffic of a phase 2 SA in kilobytes.
	Kilobytes number `yaml:"lifetime-kilobytes" default:"4294967295" range:"102400..4294967295"`
	// Ask the peer whether it is still there, by the times of ipsec.dead-peer-detection, whether that is enabled for subscribers or not.
	DPD boolean `yaml:"dead-peer-detection" default:"true"`
	// Extended authentication (XAuth) besides that of phase 1: none, server (the peer names a user, who is looked up as a subscriber is), client (we name one).
	XAuth word[StaticXAuth] `yaml:"extended-authentication" default:"none"`
	// The user that we name as client: ASCII without spaces.
	User text `yaml:"user" len:"1..31"`
	// The user's password: ASCII without spaces; not together with password-file.
	Password secret `yaml:"password" len:"1..31"`
	// File that holds the password, relative to the configuration directory.
	PasswordFile text `yaml:"password-file" len:"1..4000"`
	// The interface of a tunnel of mode route.
	Interface fileStaticInterface `yaml:"interface"`
	// The pause after every peer has been dialled in vain; it doubles each time up to back-off-max.
	Backoff duration `yaml:"back-off" default:"60s" range:"1..86400"`
	// The longest such pause.
	BackoffMax duration `yaml:"back-off-max" default:"1h" range:"1..86400"`
	// How long the tunnel has to be up before its failures are forgotten.
	Stable duration `yaml:"stable" default:"120s" range:"1..86400"`
	// Hang up an on-demand tunnel that has carried nothing either way for this time.
	Idle duration `yaml:"idle-timeout" default:"0" range:"10..86400" zero:"never"`
	// Hang up a tunnel into which packets went for this time with none coming back. It breaks uses that send one way.
	NoReturn duration `yaml:"no-return-timeout" default:"0" range:"10..86400" zero:"never"`
	// Asks a host behind the tunnel whether it can be reached; a tunnel that fails is taken down and dialled again, with the next peer if there is one.
	Check fileStaticCheck `yaml:"check"`
}

// fileStaticKey is a pre-shared key. Exactly one of key and key-file is given.
type fileStaticKey struct {
	section
	// The key itself.
	Key secret `yaml:"key"`
	// File that holds the key, relative to the configuration directory.
	KeyFile text `yaml:"key-file" len:"1..4000"`
}

// fileStaticNetwork is a pair of networks, which has IPsec SAs of its own.
type fileStaticNetwork struct {
	section
	// What logs call the pair; without it its number in the list.
	Name text `yaml:"name" len:"1..64"`
	// Network on our side, 0.0.0.0/0 for any; not in mode transport, where the addresses of the two ends are meant.
	Local prefix `yaml:"local"`
	// Network on the peer's side, likewise.
	Remote prefix `yaml:"remote"`
	// Protocol of the packets inside; in mode transport gre or ipip.
	Protocol protocol `yaml:"protocol" default:"0" zero:"any"`
	// Port on our side, with tcp and udp.
	LocalPort number `yaml:"local-port" default:"0" range:"1..65535" zero:"any"`
	// Port on the peer's side, with tcp and udp.
	RemotePort number `yaml:"remote-port" default:"0" range:"1..65535" zero:"any"`
}

// fileStaticInterface is the interface of a tunnel of mode route, in this virtual router.
type fileStaticInterface struct {
	section
	// Name of the interface; without it that of the tunnel.
	Name text `yaml:"name" len:"1..15"`
	// MTU in bytes.
	MTU number `yaml:"mtu" default:"1400" range:"576..9000"`
	// Lower the MSS of TCP connections through the tunnel to the MTU.
	ClampMSS boolean `yaml:"clamp-mss" default:"true"`
	// IPv4 addresses of the interface with the lengths of their networks.
	Addresses []linkAddress `yaml:"addresses" items:"0..64"`
	// Routes into the tunnel; without it to its remote networks except 0.0.0.0/0, and with an empty list none.
	Routes []fileStaticRoute `yaml:"routes" items:"0..1000"`
	// Take the routes away while the tunnel is not up, so that others may serve. Without it its packets are dropped then, and never leave another way.
	Withdraw boolean `yaml:"withdraw-routes" default:"false"`
}

// fileStaticRoute is a route into a static tunnel.
type fileStaticRoute struct {
	section
	// The network.
	Network prefix `yaml:"network" required:"true"`
	// Metric of the route; the lowest is best.
	Metric number `yaml:"metric" default:"0" range:"0..4294967295"`
}

// fileStaticCheck is a question to a host behind a tunnel.
type fileStaticCheck struct {
	section
	// The host, in a remote network of the tunnel.
	Target address `yaml:"target" required:"true"`
	// Our address in the packets, of the interface or in a local network; without it as the kernel chooses.
	Source address `yaml:"source"`
	// TCP port to connect to; without it an ICMP echo request is sent.
	Port number `yaml:"tcp-port" default:"0" range:"1..65535" zero:"ICMP"`
	// Time from one question to the next.
	Period duration `yaml:"period" default:"30s" range:"1..3600"`
	// Time in which the host has to answer, at most period; without it 5 seconds or period if that is less.
	Timeout duration `yaml:"timeout" default:"5s" range:"1..3600"`
	// Unanswered questions in a row that take the tunnel down.
	Tolerance number `yaml:"tolerance" default:"3" range:"1..100"`
}
