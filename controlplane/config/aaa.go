package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// AAA says who decides about the subscribers that arrive in a virtual router, and
// what they get unless a server, a local user or their domain says otherwise.
type AAA struct {
	// Methods are asked in this order; never empty, no duplicates. A refusal is
	// final, silence is not. Default: MethodLocal where the router has users,
	// then MethodRADIUS where it has an AuthenticationGroup; MethodLocal where
	// there is neither.
	Methods []AAAMethod
	// AuthenticationGroup and AccountingGroup name groups of servers of this
	// router; they resolve with [RADIUS.Group]. AuthenticationGroup defaults to
	// the only group, AccountingGroup to AuthenticationGroup if a server of it
	// takes accounting. Empty for none.
	AuthenticationGroup string
	AccountingGroup     string
	Accounting          Accounting
	Names               Names
	// DomainMaps are the domain maps by ascending domain, at most
	// [MaxDomainMaps] (R2).
	DomainMaps []DomainMap
	// SessionTimeout, 60 s to 31622400 s, and IdleTimeout, 300 s to 86400 s
	// (R3), hold where nothing else says otherwise; 0 for none, default.
	SessionTimeout time.Duration
	IdleTimeout    time.Duration
	// IdleIngress has the idle timeout look at traffic from the subscriber only.
	IdleIngress bool
	// UnknownPolicy says what becomes of a subscriber for whom a server names a
	// traffic policy that the terminating router has not; default
	// UnknownPolicyRefuse.
	UnknownPolicy UnknownPolicy
	// TerminateCodes override the Acct-Terminate-Cause of reasons (R10); reasons
	// are unique, at most [MaxTerminateCodes].
	TerminateCodes []TerminateCode
}

// DomainMap returns the domain map of a domain, in any case; nil if there is none.
func (a *AAA) DomainMap(domain string) *DomainMap {
	i, ok := slices.BinarySearchFunc(a.DomainMaps, lowerASCII(domain), func(m DomainMap, d string) int { return strings.Compare(m.Domain, d) })
	if !ok {
		return nil
	}
	return &a.DomainMaps[i]
}

// Accounting says how subscribers are accounted for that are authenticated in the router.
type Accounting struct {
	// Required refuses subscribers whose start no server acknowledges; default
	// false: the journal keeps records, and a session never ends because
	// accounting is down.
	Required bool
	// Interim is the time between interim records where no server says
	// otherwise, 60 s to 86400 s; 0 for none, default.
	Interim time.Duration
	// InterimMinimum raises what servers say, 60 s to 86400 s, default 60 s.
	InterimMinimum time.Duration
}

// Names says how user names are taken apart: realm/user@domain (R1).
type Names struct {
	// DomainDelimiters and RealmDelimiters are up to eight visible ASCII
	// characters each, none in both; empty: there is no such part. Default "@"
	// and none.
	DomainDelimiters string
	RealmDelimiters  string
	// Order says which part serves as the domain where a name has both; default
	// RealmFirst.
	Order ParseOrder
	// DomainDirection and RealmDirection say from where the delimiter is looked
	// for; default RightToLeft for the domain, LeftToRight for the realm.
	DomainDirection ParseDirection
	RealmDirection  ParseDirection
}

// The domains of domain maps that hold for more than their own name (R2).
const (
	// DomainDefault holds for domains without entry.
	DomainDefault = "default"
	// DomainNone holds for names without domain; without it DomainDefault does.
	DomainNone = "none"
)

// DomainMap says what users of a domain get (R2). A zero value leaves it to the
// subscriber's profile, but for authentication, where everything is filled in.
type DomainMap struct {
	// Domain has its ASCII letters in lower case; domains compare without regard to
	// theirs.
	// [DomainDefault] and [DomainNone] are no domains.
	Domain string
	// Deny refuses the users. Nothing else but Domain is then set.
	Deny bool
	// AuthenticationRouter is the virtual router whose users and servers are
	// asked; default the one that has the map. Always resolves with
	// [Config.Router].
	AuthenticationRouter string
	// Methods, AuthenticationGroup and AccountingGroup as in [AAA]; the groups are
	// those of AuthenticationRouter. Defaults are its own.
	Methods             []AAAMethod
	AuthenticationGroup string
	AccountingGroup     string
	// StripDomain takes the part of the name that serves as the domain, and its
	// delimiter, off the name that servers are sent. Local users match the whole
	// name. It stays whole in EAP, and in MS-CHAPv2 but for a realm before a
	// backslash: there it is part of what the user proves.
	StripDomain bool
	// OverrideUser and OverridePassword are sent in place of the user's; empty
	// OverrideUser for neither. Only with MethodRADIUS alone.
	OverrideUser     string
	OverridePassword Secret
	// Router is the terminating virtual router; empty for that of the profile.
	// Gateway is our address on the interface and Pool the address pool there.
	// With IPProfile these, DNS, NBNS and MTU come from it, already filled in
	// here.
	Router    string
	IPProfile string
	Gateway   netip.Addr
	Pool      string
	DNS, NBNS []netip.Addr
	MTU       int
	// MaxSessions bounds the sessions of all users under the domain map, 1 to
	// 1000000; 0 for no such bound. Of a domain's own map it holds in place
	// of the PerDomain of [Limits].
	MaxSessions int
	// SessionTimeout, IdleTimeout and IdleIngress as in [AAA]; 0 for those.
	SessionTimeout time.Duration
	IdleTimeout    time.Duration
	IdleIngress    bool
	Traffic        Traffic
	// TunnelServers are the LNSs to which the PPP sessions of the domain are handed
	// on, by preference; empty for none, at most [MaxTunnelServers].
	TunnelServers []TunnelServer
}

// Traffic says what a subscriber may send and receive; in is from the subscriber.
type Traffic struct {
	// RateIn and RateOut are bits per second, 8000 to 100000000000, 0 for no
	// limit.
	RateIn, RateOut uint64
	// BurstIn and BurstOut are bytes, 1500 to 1000000000, 0 for what suits the
	// rate. The kernel's part raises them to what it needs (vr.MinBurst).
	BurstIn, BurstOut uint32
	// PolicyIn and PolicyOut name traffic policies of the terminating router;
	// empty for none.
	PolicyIn, PolicyOut string
}

// TrafficPolicy is what a server, a local user or a domain map applies to one
// direction of a subscriber's traffic by name (Filter-Id, ERX ingress and egress policy).
type TrafficPolicy struct {
	// Name is unique in the router, 1 to 64 bytes.
	Name string
	// Rate is bits per second, 8000 to 100000000000, 0 for no limit. Where the
	// subscriber has a rate of its own as well, both hold.
	Rate uint64
	// Burst is bytes, 1500 to 1000000000, 0 for what suits the rate.
	Burst uint32
	// Rules are at most [MaxTrafficRules]; the first that matches a packet
	// decides. A packet that none matches passes. What rules drop does not
	// count towards the rate.
	Rules []TrafficRule
}

// TrafficRule lets packets pass, or drops them.
type TrafficRule struct {
	Permit bool
	// Network is the far side: where a packet from the subscriber goes to, where
	// one to it comes from. The zero Prefix is any.
	Network netip.Prefix
	// Protocol is the IP protocol's number; 0 for any.
	Protocol uint8
	// FirstPort and LastPort are the far side's ports, with Protocol 6 (TCP), 17
	// (UDP), 132 (SCTP) only; both 0 for any.
	FirstPort, LastPort uint16
}

// TrafficPolicy returns the traffic policy of that name, nil if there is none.
func (r *Router) TrafficPolicy(name string) *TrafficPolicy {
	i, ok := slices.BinarySearchFunc(r.TrafficPolicies, name, func(p TrafficPolicy, name string) int { return strings.Compare(p.Name, name) })
	if !ok {
		return nil
	}
	return &r.TrafficPolicies[i]
}

// TerminateCode is the Acct-Terminate-Cause of a reason (R10).
type TerminateCode struct {
	// Reason is the typed reason's word, as logs show it. That there is such a
	// reason is checked by those who know them; At is for their message.
	Reason string
	At     Pos
	// Code is 1 to 22 (RFC 2866 and later) or private, up to 4294967295.
	Code uint32
}

// Limits bound sessions that arrive in a virtual router (R5).
type Limits struct {
	// PerUser, PerDomain (of names, with or without domain map), PerSource
	// (outer address) and PerRouter are 1 to 1000000; 0 for no limit, default.
	PerUser, PerDomain, PerSource, PerRouter int
	// WhenReached is what happens at the limits of Replaces; default Deny. The
	// others always refuse.
	WhenReached WhenReached
	// Replaces has each limit once, and is empty with Deny. Default: only
	// LimitUser, because at the others a user ends a stranger's session.
	Replaces []SessionLimit
}

// Admission bounds the subscribers that wait for AAA, in all virtual routers
// together: a storm of reconnects is served in order and the rest refused early.
type Admission struct {
	// Concurrent is how many are decided about at once, 1 to 10000, default 256.
	Concurrent int
	// Waiting is how many more may wait, 0 to 1000000, default 8192.
	Waiting int
	// PerSource is how many of one outer address may be decided about or wait,
	// 1 to 1000000, default 256 (a carrier NAT hides many honest clients).
	PerSource int
}

// AccountingJournal sizes the journal that keeps accounting records until a
// server has acknowledged them.
type AccountingJournal struct {
	// MaxRecords is where the oldest interim records are dropped, 1000 to
	// 100000000, default 1000000. Starts and stops never are.
	MaxRecords int
	// Parallel is how many records are sent at once, 1 to 1024, default 32.
	Parallel int
}

// Limits on the number of configured things.
const (
	// MaxDomainMaps is the number of domain maps per router.
	MaxDomainMaps = 4000
	// MaxTrafficPolicies is the number of traffic policies per router.
	MaxTrafficPolicies = 1000
	// MaxTrafficRules is the number of rules of a traffic policy. The kernel
	// tries them one after the other on each packet of its subscribers.
	MaxTrafficRules = 64
	// MaxTerminateCodes is the number of reasons with another code per router.
	MaxTerminateCodes = 1000
	// MaxUserRoutes is the number of networks behind a local user.
	MaxUserRoutes = 32
)
