package config

// The types of AAA; see file.go for what comments and tags are for.

// fileAdmission bounds the subscribers that wait for AAA, in all virtual routers together.
type fileAdmission struct {
	section
	// How many are decided about at once.
	Concurrent number `yaml:"concurrent" default:"256" range:"1..10000"`
	// How many more may wait; the rest is refused at once.
	Waiting number `yaml:"waiting" default:"8192" range:"0..1000000"`
	// How many of one outer address may be decided about or wait.
	PerSource number `yaml:"per-source" default:"256" range:"1..1000000"`
}

// fileJournal is the journal that keeps accounting records until a server has acknowledged them.
type fileJournal struct {
	section
	// Number of records at which the oldest interim ones are dropped; starts and stops never are.
	MaxRecords number `yaml:"max-records" default:"1000000" range:"1000..100000000"`
	// How many records are sent at once.
	Parallel number `yaml:"parallel" default:"32" range:"1..1024"`
}

// fileRADIUS is what the virtual router needs to ask RADIUS servers.
type fileRADIUS struct {
	section
	// NAS-Identifier; without it the name of the virtual router.
	NASIdentifier text `yaml:"nas-identifier" len:"1..253"`
	// NAS-IP-Address or NAS-IPv6-Address; without it source-address, or the first of server-addresses.
	NASAddress host `yaml:"nas-address"`
	// Report the LAC's address as NAS-IP-Address of L2TP subscribers in its place.
	NASAddressFromTunnel boolean `yaml:"nas-address-from-tunnel" default:"false"`
	// Address that packets are sent from; without it what the routes say.
	SourceAddress host `yaml:"source-address"`
	// Most requests that wait for an answer.
	InFlight number `yaml:"in-flight" default:"4096" range:"4..65536"`
	// The servers.
	Servers []fileServer `yaml:"servers" items:"0..256"`
	// Groups of servers that stand in for each other.
	Groups []fileGroup `yaml:"groups" items:"0..256"`
	// The reverse way, on which servers end and change sessions (RFC 5176).
	Dynamic fileDynamic `yaml:"dynamic-authorization"`
}

// fileServer is a RADIUS server. Exactly one of secret and secret-file is given.
type fileServer struct {
	section
	// Name of the server.
	Name text `yaml:"name" required:"true" len:"1..64"`
	// Its address.
	Address host `yaml:"address" required:"true"`
	// UDP port for authentication.
	AuthPort number `yaml:"authentication-port" default:"1812" range:"1..65535" zero:"not asked"`
	// UDP port for accounting.
	AcctPort number `yaml:"accounting-port" default:"1813" range:"1..65535" zero:"gets no records"`
	// Address that packets to this server are sent from; without it that of the section.
	SourceAddress host `yaml:"source-address"`
	// The secret that is shared with the server.
	Secret secret `yaml:"secret"`
	// File that holds the secret, relative to the configuration directory.
	SecretFile text `yaml:"secret-file" len:"1..4000"`
	// How long the server has to answer a request, retransmissions included, before the next one of the group is asked.
	Timeout duration `yaml:"timeout" default:"5s" range:"1..60"`
	// How often a request is repeated in that time.
	Retransmissions number `yaml:"retransmissions" default:"2" range:"0..10"`
	// How long the server is left alone once it has stopped to answer.
	DeadTime duration `yaml:"dead-time" default:"60s" range:"1..3600"`
	// Drop answers without Message-Authenticator. Without this whoever can change packets on the way to the server can let anybody in.
	RequireMA boolean `yaml:"require-message-authenticator" default:"true"`
	// Ask a dead server by Status-Server (RFC 5997) whether it is alive again; it must know that.
	StatusServer boolean `yaml:"status-server" default:"false"`
}

// fileGroup is a group of RADIUS servers.
type fileGroup struct {
	section
	// Name of the group.
	Name text `yaml:"name" required:"true" len:"1..64"`
	// Names of its servers.
	Servers []text `yaml:"servers" required:"true" items:"1..16" len:"1..64"`
	// Which server is asked first: priority (the first that is alive) or round-robin (they take turns).
	Strategy word[Strategy] `yaml:"strategy" default:"priority"`
}

// fileDynamic is the reverse way, on which servers end and change sessions (RFC 5176).
type fileDynamic struct {
	section
	// Listen at all.
	Enabled boolean `yaml:"enabled" default:"false"`
	// UDP port.
	Port number `yaml:"port" default:"3799" range:"1..65535"`
	// Addresses of the virtual router on which requests are taken; without them any.
	Addresses []host `yaml:"addresses" items:"0..16"`
	// Who may send requests.
	Clients []fileDynamicClient `yaml:"clients" items:"0..256"`
	// Let the servers of the virtual router send requests too, each with its secret.
	ServersAreClients boolean `yaml:"servers-are-clients" default:"true"`
	// Drop requests without Message-Authenticator.
	RequireMA boolean `yaml:"require-message-authenticator" default:"true"`
	// How far the clock of a client may be off where it sends its time.
	Window duration `yaml:"clock-window" default:"300s" range:"1..3600"`
}

// fileDynamicClient is somebody who may end and change sessions. Exactly one of secret and secret-file is given.
type fileDynamicClient struct {
	section
	// Address from which the requests come.
	Address host `yaml:"address" required:"true"`
	// The secret that is shared with the client.
	Secret secret `yaml:"secret"`
	// File that holds the secret, relative to the configuration directory.
	SecretFile text `yaml:"secret-file" len:"1..4000"`
}

// fileAAA is who decides about subscribers that arrive in the virtual router, and what they get unless a server, a local user or their domain says otherwise.
type fileAAA struct {
	section
	// Who is asked, in this order: local (the users of the virtual router), radius (the authentication group). A refusal is final; the next is asked if the user is not a local one, or if no server answers. Without it local if there are users, then radius if there is a group.
	Methods []word[AAAMethod] `yaml:"methods" items:"1..2"`
	// Group of servers that is asked; without it the only one.
	AuthenticationGroup text `yaml:"authentication-group" len:"1..64"`
	// Group of servers that gets accounting records; without it the authentication group.
	AccountingGroup text `yaml:"accounting-group" len:"1..64"`
	// How subscribers are accounted for that are authenticated in the virtual router.
	Accounting fileAccounting `yaml:"accounting"`
	// How user names are taken apart: realm/user@domain.
	Names fileNames `yaml:"names"`
	// What the users of a domain get.
	DomainMaps []fileDomainMap `yaml:"domain-maps" items:"0..4000"`
	// How long a session may last.
	SessionTimeout duration `yaml:"session-timeout" default:"0" range:"60..31622400" zero:"366 days for L2TP, for ever for others"`
	// How long a session may be without traffic.
	IdleTimeout duration `yaml:"idle-timeout" default:"0" range:"300..86400" zero:"for ever"`
	// Have the idle timeout look at traffic from subscribers only.
	IdleIngress boolean `yaml:"idle-ingress-only" default:"false"`
	// What becomes of a subscriber for whom a server names a traffic policy that there is not: refuse, or ignore (let in without it).
	UnknownPolicy word[UnknownPolicy] `yaml:"unknown-policy" default:"refuse"`
	// Acct-Terminate-Cause of reasons in place of the built-in one; `vrgate show terminate-codes` lists the reasons.
	TerminateCodes []fileTerminateCode `yaml:"terminate-codes" items:"0..1000"`
}

// fileAccounting is how subscribers are accounted for that are authenticated in the virtual router.
type fileAccounting struct {
	section
	// Send accounting records at all.
	Enabled boolean `yaml:"enabled" default:"true"`
	// Refuse subscribers whose start no server acknowledges. Without it the journal keeps records until one does, and nobody is kept out.
	Required boolean `yaml:"required" default:"false"`
	// Time between interim records where no server says otherwise.
	Interim duration `yaml:"interim-interval" default:"0" range:"60..86400" zero:"none"`
	// Least time between interim records, whatever a server says.
	InterimMinimum duration `yaml:"interim-minimum" default:"60s" range:"60..86400"`
}

// fileNames is how user names are taken apart: realm/user@domain.
type fileNames struct {
	section
	// Characters before a domain, such as "@!"; "" for none.
	DomainDelimiters delimiters `yaml:"domain-delimiters" default:"@"`
	// Characters behind a realm, such as "/"; "" for none.
	RealmDelimiters delimiters `yaml:"realm-delimiters" default:""`
	// Which part serves as the domain where a name has both: realm-first (the realm) or domain-first (the domain).
	Order word[ParseOrder] `yaml:"parse-order" default:"realm-first"`
	// From where the delimiter of the domain is looked for: of user@a@b the domain is b from right to left, a@b from left to right.
	DomainDirection word[ParseDirection] `yaml:"domain-direction" default:"right-to-left"`
	// From where the delimiter of the realm is looked for: of a/b/user the realm is a from left to right, a/b from right to left.
	RealmDirection word[ParseDirection] `yaml:"realm-direction" default:"left-to-right"`
}

// fileDomainMap is what the users of a domain get. What it leaves out follows from the profile, and for authentication from the aaa section of the virtual router that is asked.
type fileDomainMap struct {
	section
	// The domain, in any case; default for every other domain; none for names without domain (without it default).
	Domain domainText `yaml:"domain" required:"true"`
	// Refuse the users of the domain.
	Deny boolean `yaml:"deny" default:"false"`
	// Virtual router whose users and servers are asked; without it this one.
	AuthenticationRouter text `yaml:"authentication-router" len:"1..31"`
	// Who is asked, as in the aaa section.
	Methods []word[AAAMethod] `yaml:"methods" items:"1..2"`
	// Group of servers of the authentication router that is asked.
	AuthenticationGroup text `yaml:"authentication-group" len:"1..64"`
	// Group of servers of the authentication router that gets accounting records.
	AccountingGroup text `yaml:"accounting-group" len:"1..64"`
	// Take what serves as the domain off the name that servers are sent; not with EAP or MS-CHAPv2, where it is part of the proof.
	StripDomain boolean `yaml:"strip-domain" default:"false"`
	// Whom servers are asked about in place of the user.
	OverrideUser fileOverride `yaml:"override-user"`
	// Virtual router in which the users terminate.
	Router text `yaml:"virtual-router" len:"1..31"`
	// IP profile of the users, in place of virtual-router.
	IPProfile text `yaml:"ip-profile" len:"1..64"`
	// Our own address on their interfaces.
	Gateway address `yaml:"gateway"`
	// Pool of the terminating virtual router; with virtual-router the only one there unless given.
	Pool text `yaml:"pool" len:"1..64"`
	// Most sessions of all users under this entry; in the entry of a domain it holds in place of per-domain of limits.
	MaxSessions number `yaml:"max-sessions" default:"0" range:"1..1000000" zero:"no bound of its own"`
	// How long a session may last.
	SessionTimeout duration `yaml:"session-timeout" default:"0" range:"60..31622400" zero:"that of the aaa section"`
	// How long a session may be without traffic.
	IdleTimeout duration `yaml:"idle-timeout" default:"0" range:"300..86400" zero:"that of the aaa section"`
	// Have the idle timeout look at traffic from subscribers only.
	IdleIngress boolean `yaml:"idle-ingress-only" default:"false"`
	// What the users may send and receive.
	Traffic fileTraffic `yaml:"traffic"`
	// LNSs to which the PPP sessions of the domain are handed on instead of ending here (tunnel switching); then nothing that says where they end, or what traffic they may send, can be given.
	TunnelServers []fileTunnelServer `yaml:"tunnel-servers" items:"1..8"`
}

// fileOverride is whom servers are asked about in place of the user. With a password nobody checks the user, who is refused if it wants the server to prove itself too (mschapv2, eap).
type fileOverride struct {
	section
	// The name.
	Name text `yaml:"name" required:"true" len:"1..253"`
	// The password itself; without it and password-file the user's own proof is sent.
	Password secret `yaml:"password" len:"1..128"`
	// File that holds the password, relative to the configuration directory.
	PasswordFile text `yaml:"password-file" len:"1..4000"`
}

// fileTerminateCode is the Acct-Terminate-Cause of a reason.
type fileTerminateCode struct {
	section
	// The reason, as logs show it.
	Reason text `yaml:"reason" required:"true" len:"1..64"`
	// The code: 1 to 22 are those of the RFCs, higher ones private.
	Code number `yaml:"code" required:"true" range:"1..4294967295"`
}

// fileLimits bounds the sessions that arrive in the virtual router.
type fileLimits struct {
	section
	// Most sessions of one user name.
	PerUser number `yaml:"per-user" default:"0" range:"1..1000000" zero:"no limit"`
	// Most sessions of one domain, as user names give it, with or without a domain map; names without domain have no such limit.
	PerDomain number `yaml:"per-domain" default:"0" range:"1..1000000" zero:"no limit"`
	// Most sessions from one outer address.
	PerSource number `yaml:"per-source" default:"0" range:"1..1000000" zero:"no limit"`
	// Most sessions of all.
	PerRouter number `yaml:"per-router" default:"0" range:"1..1000000" zero:"no limit"`
	// What happens to one more session: deny (it is refused) or replace-oldest (the oldest one that counts for the limit ends, if replaces has the limit).
	WhenReached word[WhenReached] `yaml:"when-reached" default:"deny"`
	// Limits at which the oldest session makes room; only user if none are given. Each but user lets one user push out another: whoever can log in can end sessions of strangers of the domain, source or virtual router, and clients that connect again by themselves push each other out for ever.
	Replaces []word[SessionLimit] `yaml:"replaces" items:"1..4"`
}

// fileTraffic is what a subscriber may send and receive; in is from the subscriber.
type fileTraffic struct {
	section
	// Rate from the subscriber.
	RateIn rate `yaml:"rate-in" default:"0"`
	// Rate to the subscriber.
	RateOut rate `yaml:"rate-out" default:"0"`
	// Bytes that may come at once above rate-in; fewer than 73728 count as that, which a packet that is yet to be cut into segments can have.
	BurstIn number `yaml:"burst-in" default:"0" range:"1500..1000000000" zero:"what suits the rate"`
	// Bytes that may go at once above rate-out; fewer than 73728 count as that.
	BurstOut number `yaml:"burst-out" default:"0" range:"1500..1000000000" zero:"what suits the rate"`
	// Traffic policy of the terminating virtual router for packets from the subscriber.
	PolicyIn text `yaml:"policy-in" len:"1..64"`
	// Traffic policy of the terminating virtual router for packets to the subscriber.
	PolicyOut text `yaml:"policy-out" len:"1..64"`
}

// fileTrafficPolicy is what servers (Filter-Id, ingress and egress policy), users and domain maps apply by name to one direction of a subscriber's traffic.
type fileTrafficPolicy struct {
	section
	// Name of the policy.
	Name text `yaml:"name" required:"true" len:"1..64"`
	// Rate of what the rules let pass; a rate of the subscriber's own holds besides.
	Rate rate `yaml:"rate" default:"0"`
	// Bytes that may pass at once above the rate; fewer than 73728 count as that.
	Burst number `yaml:"burst" default:"0" range:"1500..1000000000" zero:"what suits the rate"`
	// The first rule that matches a packet decides; what none matches passes.
	Rules []fileTrafficRule `yaml:"rules" items:"0..64"`
}

// fileTrafficRule is a rule of a traffic policy.
type fileTrafficRule struct {
	section
	// permit lets the packet pass, deny drops it.
	Action word[Action] `yaml:"action" required:"true"`
	// Network at the far side: where packets from the subscriber go to, and packets to it come from; without it any.
	Network prefix `yaml:"network"`
	// IP protocol; without it any.
	Protocol protocol `yaml:"protocol"`
	// Port at the far side, or FIRST-LAST; with tcp, udp and sctp only.
	Ports ports `yaml:"ports"`
}

// fileRoute is a network behind a user.
type fileRoute struct {
	section
	// The network.
	Network prefix `yaml:"network" required:"true"`
	// Metric of the route.
	Metric number `yaml:"metric" default:"0" range:"0..4294967295"`
}
