package config

// fileL2TP is L2TP of a virtual router.
type fileL2TP struct {
	section
	// How long ended tunnels and sessions are kept for `vrgate show`.
	DestructTimeout duration `yaml:"destruct-timeout" default:"600s" range:"10..3600"`
	// How long a tunnel without session lives.
	IdleTimeout duration `yaml:"idle-timeout" default:"60s" range:"0..86400" zero:"for ever"`
	// Retransmissions before an established tunnel is given up.
	RetransmitEstablished number `yaml:"retransmissions-established" default:"5" range:"2..7"`
	// Retransmissions before a tunnel that is not yet established is given up.
	RetransmitNotEstablished number `yaml:"retransmissions-not-established" default:"5" range:"2..7"`
	// Silence after which a HELLO is sent.
	HelloInterval duration `yaml:"hello-interval" default:"60s" range:"1..3600" zero:"never"`
	// Receive window that we announce, in messages.
	ReceiveWindow number `yaml:"receive-window" default:"0" range:"1..32" zero:"vrgate chooses"`
	// Challenge peers whose host profile has a tunnel password.
	Challenge boolean `yaml:"challenge" default:"true"`
	// Send the RFC 3145 disconnect cause.
	DisconnectCause boolean `yaml:"disconnect-cause" default:"false"`
	// Most sessions in the virtual router.
	MaxSessions number `yaml:"max-sessions" default:"0" range:"1..1000000" zero:"no limit"`
	// Bound on the establishment of a tunnel or call.
	SetupTimeout duration `yaml:"setup-timeout" default:"60s" range:"5..300"`
	// How long the end of a tunnel waits for the acknowledgement of the peer.
	ShortDrain duration `yaml:"short-drain" default:"2s" range:"0..31" zero:"not at all"`
	// enabled, drain (nothing new is taken, what lives goes on) or disabled (what lives is ended too). What an operator sets at run time holds until this changes.
	Admin word[AdminState] `yaml:"admin-state" default:"enabled"`
	// Skip what a message has that we do not know but must (AVPs with the M bit) instead of ending the tunnel or call.
	TolerateUnknownAVP boolean `yaml:"tolerate-unknown-avps" default:"false"`
	// Send data without sequence numbers even to a LAC that requires them.
	IgnoreSequencing boolean `yaml:"ignore-sequencing" default:"false"`
	// Hand sessions on to other LNSs where a domain map or RADIUS says so; without it such sessions are refused.
	Switching boolean `yaml:"tunnel-switching" default:"false"`
	// How long an LNS that did not answer is passed over.
	Lockout duration `yaml:"lns-lockout" default:"300s" range:"60..3600"`
	// See whether such an LNS answers again before sessions are given to it.
	LockoutTest boolean `yaml:"lns-lockout-test" default:"false"`
	// Which LACs may open tunnels; a LAC that matches none is refused.
	Destinations []fileDestination `yaml:"destination-profiles" items:"0..4000"`
}

// fileDestination is a destination profile: LACs by address.
type fileDestination struct {
	section
	// Name of the profile.
	Name text `yaml:"name" required:"true" len:"1..64"`
	// The LAC, 0.0.0.0 for any IPv4 address, or :: for any IPv6 address; an exact address comes before any.
	LACAddress host `yaml:"lac-address" default:"0.0.0.0" any:"true"`
	// Most sessions under this profile.
	MaxSessions number `yaml:"max-sessions" default:"0" range:"1..1000000" zero:"no limit"`
	// LACs by their L2TP Host Name.
	Hosts []fileHost `yaml:"host-profiles" required:"true" items:"1..1000"`
}

// fileHost is a host profile: the attributes with which tunnels of a LAC are accepted.
type fileHost struct {
	section
	// The LAC's L2TP Host Name, or default for every other.
	RemoteHost text `yaml:"remote-host" default:"default" len:"1..255"`
	// Our own L2TP Host Name; without it the name of the virtual router.
	LocalHost text `yaml:"local-host" len:"1..255"`
	// Server address that the LAC must call; without it any.
	LocalAddress host `yaml:"local-address"`
	// Accept only tunnels that IPsec transport mode protects.
	IPsecRequired boolean `yaml:"ipsec-required" default:"true"`
	// L2TP tunnel secret; not together with tunnel-password-file.
	TunnelPassword secret `yaml:"tunnel-password"`
	// File that holds the tunnel secret, relative to the configuration directory.
	TunnelPasswordFile text `yaml:"tunnel-password-file" len:"1..4000"`
	// Most sessions under this profile.
	MaxSessions number `yaml:"max-sessions" default:"0" range:"1..1000000" zero:"no limit"`
	// Receive window for this LAC; without it that of the virtual router.
	ReceiveWindow number `yaml:"receive-window" range:"1..32" zero:"vrgate chooses"`
	// IP profile of the sessions; without it the only one of the virtual router.
	IPProfile text `yaml:"ip-profile" len:"1..64"`
	// One session per tunnel and one tunnel per IPsec connection, ever: when the session has ended the IPsec connection ends too, and when anything fails the client has to begin with a new one.
	SingleShot boolean `yaml:"single-shot" default:"false"`
	// Send this LAC the RFC 3145 disconnect cause; without it what the l2tp section says.
	DisconnectCause boolean `yaml:"disconnect-cause"`
	// Take over the LCP options that the LAC has negotiated with the client, if we can live with them; otherwise LCP begins anew.
	ProxyLCP boolean `yaml:"proxy-lcp" default:"true"`
	// Take over what the client has answered the LAC's question for name and password; otherwise the client is asked again. The LAC then decides what is asked, so it has to be trusted.
	ProxyAuth boolean `yaml:"proxy-authentication" default:"false"`
	// Hide what can be hidden in messages to the LAC; needs a tunnel password.
	HideAVPs boolean `yaml:"hide-avps" default:"false"`
	// Skip what this LAC's messages have that we do not know but must; without it what the l2tp section says.
	TolerateUnknownAVP boolean `yaml:"tolerate-unknown-avps"`
	// Take control messages of this LAC for tunnel 0 for those of its newest tunnel: some, such as D-Link's DIR-300, never use the number that they are given. In clear text a forger need not know that number then, so give such a LAC a tunnel password.
	ZeroTunnelID boolean `yaml:"tolerate-tunnel-id-zero" default:"false"`
	// Refuse calls for which there is no room with result code 2 and error code 4 instead of 4 or 5: a LAC that knows several LNSs then tries another one.
	ResourceError boolean `yaml:"resource-result-code-override" default:"false"`
}

// fileTunnelServer is an LNS to which the sessions of a domain are handed on.
type fileTunnelServer struct {
	section
	// Address of the LNS.
	Address host `yaml:"address" required:"true"`
	// Server address that we call from; without it the first of the same kind.
	LocalAddress host `yaml:"local-address"`
	// Order of the LNSs, lowest number first; sessions are shared out among equal ones.
	Preference number `yaml:"preference" default:"0" range:"0..16777215"`
	// L2TP tunnel secret; not together with tunnel-password-file.
	Password secret `yaml:"tunnel-password"`
	// File that holds the tunnel secret, relative to the configuration directory.
	PasswordFile text `yaml:"tunnel-password-file" len:"1..4000"`
	// Our own L2TP Host Name; without it the name of the virtual router.
	LocalHost text `yaml:"local-host" len:"1..255"`
	// L2TP Host Name that the LNS must have; without it any.
	RemoteHost text `yaml:"remote-host" len:"1..255"`
	// Most sessions in one tunnel; further ones go to the next LNS.
	MaxSessions number `yaml:"max-sessions" default:"0" range:"1..65535" zero:"no limit"`
}
