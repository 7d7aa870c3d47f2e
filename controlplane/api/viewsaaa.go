package api

import (
	"net/netip"
	"time"
)

// RADIUS is what a virtual router knows of its RADIUS servers, and of those who end and change
// its sessions.
type RADIUS struct {
	VR string `json:"vr"`
	// Servers are in the order of the configuration, once in each role.
	Servers []RADIUSServer `json:"servers"`
	// Requests are those under way in each role.
	Requests []RADIUSRequests `json:"requests"`
	// Findings are attributes of answers that were not used.
	Findings             []RADIUSFinding      `json:"findings"`
	DynamicAuthorization DynamicAuthorization `json:"dynamic_authorization"`
}

// RADIUSServer is a server in one role.
type RADIUSServer struct {
	Name string `json:"name"`
	// Role is "authentication" or "accounting".
	Role    string         `json:"role"`
	Address netip.AddrPort `json:"address"`
	// State is "up", "dead" (passed over because it did not answer) or "trial" (the next
	// request tries it out). Since is its last change, LastAnswer when the server was heard;
	// the zero time for never.
	State      string    `json:"state"`
	Since      time.Time `json:"since,omitzero"`
	LastAnswer time.Time `json:"last_answer,omitzero"`
	// RTTSeconds is the smoothed time to an answer, 0 before the first.
	RTTSeconds float64 `json:"rtt_seconds"`
	// InFlight requests wait for an answer, Waiting ones for a socket or an identifier.
	InFlight int `json:"in_flight"`
	Waiting  int `json:"waiting"`
	Sockets  int `json:"sockets"`
	// SocketError is why there is no socket, empty if there is or none was needed.
	SocketError string `json:"socket_error,omitempty"`
	// Outcomes has a number for every outcome of requests and of the packets that came.
	Outcomes map[string]uint64 `json:"outcomes"`
}

// RADIUSRequests are a virtual router's requests of one role that are under way.
type RADIUSRequests struct {
	Role string `json:"role"`
	// Limit bounds InFlight, which wait for servers, and Queued, which wait for room among
	// those, each.
	Limit    int `json:"limit"`
	InFlight int `json:"in_flight"`
	Queued   int `json:"queued"`
	// Refused had no room to wait in.
	Refused uint64 `json:"refused"`
}

// RADIUSFinding counts an attribute that answers had and that was not used.
type RADIUSFinding struct {
	// Attribute is its name, or its numbers; those of which there are too many to be counted
	// each share one finding.
	Attribute string `json:"attribute"`
	// Problem is "unknown", "bad-value", "surplus", "unused", "not-allowed" or "broken".
	Problem string `json:"problem"`
	Count   uint64 `json:"count"`
}

// DynamicAuthorization counts the Disconnect- and CoA-Requests of a virtual router (RFC 5176).
type DynamicAuthorization struct {
	Enabled bool            `json:"enabled"`
	Clients []DynamicClient `json:"clients"`
	// UnknownSources counts packets from anybody else, which are dropped.
	UnknownSources uint64 `json:"unknown_sources"`
}

// DynamicClient is who may send such requests.
type DynamicClient struct {
	Address  netip.Addr        `json:"address"`
	Outcomes map[string]uint64 `json:"outcomes"`
}

// Accounting is the state of the journal that keeps accounting records until a server has
// acknowledged them. Counts are since the start of the daemon.
type Accounting struct {
	// Queued records wait for a server, of which Unsaved are in memory only; OpenSessions are
	// owed a stop.
	Queued       int `json:"queued"`
	Unsaved      int `json:"unsaved"`
	OpenSessions int `json:"open_sessions"`
	// Oldest is when what the oldest queued record tells of happened; the zero time for none.
	Oldest time.Time `json:"oldest,omitzero"`
	// Delivered records were acknowledged; Retried are attempts that were not; DroppedInterims
	// made room for others.
	Delivered       uint64 `json:"delivered"`
	Retried         uint64 `json:"retried"`
	DroppedInterims uint64 `json:"dropped_interims"`
	// Recovered stops were owed by a daemon that died. Lost records were neither on disk nor in
	// memory, or could not be encoded or read. Unknown are interims and stops without a start.
	Recovered uint64 `json:"recovered"`
	Lost      uint64 `json:"lost"`
	Unknown   uint64 `json:"unknown"`
	// DiskError is why the disk does not take records, empty if it does.
	DiskError string            `json:"disk_error,omitempty"`
	Queues    []AccountingQueue `json:"queues"`
}

// AccountingQueue are a virtual router's records for one group of servers.
type AccountingQueue struct {
	VR       string    `json:"vr"`
	Group    string    `json:"group"`
	Queued   int       `json:"queued"`
	InFlight int       `json:"in_flight"`
	Oldest   time.Time `json:"oldest,omitzero"`
	// State is "up"; "failing" if the one record that was sent last, again and again, was not
	// acknowledged; or "silent" if nobody answers. NextAttempt is when the servers are then tried
	// again, the zero time while they are.
	State           string    `json:"state"`
	NextAttempt     time.Time `json:"next_attempt,omitzero"`
	Delivered       uint64    `json:"delivered"`
	Retried         uint64    `json:"retried"`
	DroppedInterims uint64    `json:"dropped_interims"`
}

// AAA is what became of requests to be let in.
type AAA struct {
	Admission Admission `json:"admission"`
	// UnknownPolicies counts traffic policies that users were let in without, because the
	// terminating router has none of that name.
	UnknownPolicies uint64      `json:"unknown_policies"`
	Routers         []AAARouter `json:"routers"`
}

// Admission is the queue before AAA, of the whole process.
type Admission struct {
	// Running are being decided about, Concurrent at most; Waiting wait for that, MaxWaiting at
	// most; of both, PerSource of one outer address at most.
	Running    int `json:"running"`
	Concurrent int `json:"concurrent"`
	Waiting    int `json:"waiting"`
	MaxWaiting int `json:"max_waiting"`
	PerSource  int `json:"per_source"`
	// Admitted had their turn, Refused none.
	Admitted uint64 `json:"admitted"`
	Refused  uint64 `json:"refused"`
}

// AAARouter is the AAA of a virtual router.
type AAARouter struct {
	VR string `json:"vr"`
	// Methods are asked in this order. They and the groups are those that hold where the domain
	// map says nothing else.
	Methods             []string `json:"methods"`
	AuthenticationGroup string   `json:"authentication_group,omitempty"`
	AccountingGroup     string   `json:"accounting_group,omitempty"`
	// AccountingRequired refuses users whose start no server acknowledges.
	AccountingRequired bool `json:"accounting_required"`
	// Results count what came of requests: "accepted", "challenged", or the reason of a
	// refusal. Answers count the same for each method that was asked.
	Results map[string]uint64 `json:"results"`
	Answers []AAAAnswers      `json:"answers"`
	Limits  Limits            `json:"limits"`
}

// AAAAnswers count what one method said.
type AAAAnswers struct {
	// Method is "local", "radius" or "phase1".
	Method  string            `json:"method"`
	Results map[string]uint64 `json:"results"`
}

// Limits bound the sessions that arrive in a virtual router (R5); 0 for none.
type Limits struct {
	// Sessions is how many there are, of PerRouter.
	Sessions  int `json:"sessions"`
	PerRouter int `json:"per_router"`
	PerUser   int `json:"per_user"`
	PerDomain int `json:"per_domain"`
	PerSource int `json:"per_source"`
	// WhenReached is "deny" or "replace-oldest", which is about the limits in Replaces: "user",
	// "domain", "source", "router". The others always refuse.
	WhenReached string   `json:"when_reached"`
	Replaces    []string `json:"replaces"`
	// Refused counts refusals by reason.
	Refused map[string]uint64 `json:"refused"`
}

// DomainMap is what users of a domain get (R2). What is empty or 0 comes from elsewhere.
type DomainMap struct {
	VR string `json:"vr"`
	// Domain is a domain, "default" or "none".
	Domain string `json:"domain"`
	// Deny refuses all of its users.
	Deny bool `json:"deny"`
	// AAAVR is the virtual router whose users and servers are asked.
	AAAVR               string   `json:"aaa_vr,omitempty"`
	Methods             []string `json:"methods"`
	AuthenticationGroup string   `json:"authentication_group,omitempty"`
	AccountingGroup     string   `json:"accounting_group,omitempty"`
	StripDomain         bool     `json:"strip_domain"`
	OverrideUser        string   `json:"override_user,omitempty"`
	TerminatingVR       string   `json:"terminating_vr,omitempty"`
	IPProfile           string   `json:"ip_profile,omitempty"`
	// Gateway is our address on the interface.
	Gateway netip.Addr   `json:"gateway,omitzero"`
	Pool    string       `json:"pool,omitempty"`
	DNS     []netip.Addr `json:"dns"`
	NBNS    []netip.Addr `json:"nbns"`
	// MTU in bytes.
	MTU int `json:"mtu,omitempty"`
	// Sessions is how many there are, of MaxSessions.
	Sessions              int     `json:"sessions"`
	MaxSessions           int     `json:"max_sessions"`
	SessionTimeoutSeconds int64   `json:"session_timeout_seconds"`
	IdleTimeoutSeconds    int64   `json:"idle_timeout_seconds"`
	IdleIngress           bool    `json:"idle_ingress"`
	Traffic               Traffic `json:"traffic"`
}

// Traffic says what a subscriber may send and receive. In is from the subscriber.
type Traffic struct {
	// Rates are in bit/s, 0 for no limit; bursts in bytes, 0 for what suits the rate.
	InRate   uint64 `json:"in_rate"`
	OutRate  uint64 `json:"out_rate"`
	InBurst  uint32 `json:"in_burst"`
	OutBurst uint32 `json:"out_burst"`
	// Policies are names of traffic policies of the terminating router, empty for none.
	InPolicy  string `json:"in_policy,omitempty"`
	OutPolicy string `json:"out_policy,omitempty"`
}

// TrafficPolicy is a traffic policy of subscribers that terminate in a virtual router.
type TrafficPolicy struct {
	VR   string `json:"vr"`
	Name string `json:"name"`
	// Rate is in bit/s, 0 for no limit; Burst in bytes, 0 for what suits the rate.
	Rate  uint64 `json:"rate"`
	Burst uint32 `json:"burst"`
	// Rules are in the order in which they are tried.
	Rules []TrafficRule `json:"rules"`
}

// TrafficRule lets packets pass, or drops them.
type TrafficRule struct {
	// Action is "permit" or "deny".
	Action string `json:"action"`
	// Network is the far side's, the zero Prefix for any.
	Network netip.Prefix `json:"network,omitzero"`
	// Protocol is the number of the IP protocol, 0 for any.
	Protocol uint8 `json:"protocol"`
	// FirstPort and LastPort are the far side's, both 0 for any.
	FirstPort uint16 `json:"first_port"`
	LastPort  uint16 `json:"last_port"`
}

// TerminateCode is what RADIUS is told of a reason for which sessions end (R10).
type TerminateCode struct {
	VR string `json:"vr"`
	// Application is whose reason it is: "aaa", "ike", "l2tp", "ppp" or "subscriber".
	Application string `json:"application"`
	Reason      string `json:"reason"`
	Description string `json:"description"`
	// Code is the value of Acct-Terminate-Cause, Cause its name; empty for a private one.
	Code  uint32 `json:"code"`
	Cause string `json:"cause,omitempty"`
	// Configured is whether the configuration says so.
	Configured bool `json:"configured"`
}

// VRPool is an address pool with the virtual router that it is of.
type VRPool struct {
	VR string `json:"vr"`
	Pool
}

// ExplainRequest asks what would be done about a user.
type ExplainRequest struct {
	// User is the name as the client sends it.
	User string
	// VR is where it arrives; empty for the default or the only virtual router.
	VR string
	// Access is "l2tp", "l2tp/ipsec" or "xauth"; empty for "xauth" if Profile is a tunnel profile,
	// else for "l2tp/ipsec".
	Access string
	// Profile is a tunnel profile for "xauth"; for the others a destination profile, to which
	// "/" and a host profile may be appended. Empty for the only one.
	Profile string
	// Authentication is "pap", "chap", "mschapv2" or "eap"; empty for what the configuration
	// has first.
	Authentication string
}

// ExplainStep is one line of the answer.
type ExplainStep struct {
	Topic string `json:"topic"`
	Value string `json:"value,omitempty"`
	// Reason is why, empty where there is nothing to say.
	Reason string `json:"reason,omitempty"`
}
