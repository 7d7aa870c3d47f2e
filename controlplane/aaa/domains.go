package aaa

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"vrgate/controlplane/keymat"
)

// MethodName names a way to decide about users.
type MethodName string

// The methods of an order, and who else decides.
const (
	MethodLocal  MethodName = "local"  // the local users of the router that is asked
	MethodRADIUS MethodName = "radius" // a group of RADIUS servers of the router that is asked
	// MethodPhase1: phase 1 has proven who the peer is and nobody else was asked.
	MethodPhase1 MethodName = "phase1"
)

// Backend asks a group of servers of one router. It says by the reason of a refusal whether
// anybody has decided: [ReasonTimeout] and [ReasonNoServer] mean that nobody has.
type Backend interface {
	Authenticate(ctx context.Context, group string, r Request) Decision
}

// RouterPolicy is the AAA of one virtual router: of the subscribers that arrive in it, of those
// whom a domain map sends to it to be authenticated, and of those who end in it.
type RouterPolicy struct {
	// For subscribers that arrive in the router.

	// Names takes their names apart.
	Names NameRules
	// Domains are the entries of the domain map by domain, in lower case (see [Name.Key]).
	// Default is the entry for all other domains, None the one for names without domain (R2).
	Domains       map[string]*DomainMap
	Default, None *DomainMap
	// Profiles are the router's IP profiles by name.
	Profiles map[string]Place

	// For subscribers who are authenticated in the router.

	// Methods are asked in this order; empty: local users only.
	Methods []MethodName
	// Authentication and Accounting are the groups of servers where an entry names no other;
	// empty: none.
	Authentication, Accounting string
	// Groups are the names of the servers in order, by group. They are for [Service.Explain] only.
	Groups map[string][]string
	// Defaults hold where nothing before them in the order of precedence says anything. They are
	// timeouts, the interval of interim records and traffic: what IP profiles say (MTU, name
	// servers) has no place in them, for it would never be looked at.
	Defaults Grants

	// For subscribers who end in the router.

	// Namespace is the network namespace it is in. L2TP subscribers cannot leave that in which
	// they arrived.
	Namespace string
	// Pools are the names of its address pools, Gateways the addresses that it has for
	// subscribers' interfaces: of the IP profiles, of whichever router, and of the domain maps
	// that have subscribers end here. Who is moved here without one of them gets the first.
	Pools    []string
	Gateways []netip.Addr
}

// Place is what an IP profile says: where its subscribers end, and what they may do there. Empty
// fields say nothing.
type Place struct {
	Terminating string
	Gateway     netip.Addr
	Pool        string
	IdleTimeout time.Duration // 0: none
	IdleIngress bool
	Traffic     Traffic
}

// DomainMap is one entry of a domain map (R2): what holds for the users of one domain.
type DomainMap struct {
	// Name is how it is called in show, explain and limits: the domain, "default" or "none".
	Name string
	// Deny refuses all users of the domain, and nobody is asked.
	Deny bool
	// Router is the virtual router whose AAA is asked; empty: that in which the subscriber
	// arrived. Where a subscriber ends does not follow from it, but from Grants.Terminating and
	// what comes after it in the order of precedence.
	Router string
	// Methods, Authentication and Accounting are in the place of those of that router; empty:
	// they are not. The groups are that router's.
	Methods                    []MethodName
	Authentication, Accounting string
	// NoAccounting leaves the users' sessions without records.
	NoAccounting bool
	// Strip takes the domain away from the name that servers are sent (see [Name.Stripped]).
	// Local users keep matching as the client sends them. The name stays whole where the
	// proof covers it: in EAP (RFC 3579 section 2.1 has it equal the identity) and in MS-CHAPv2,
	// which leaves out only what is before a backslash (RFC 2759 section 8.2).
	Strip bool
	// Override has servers asked about another user; nil: about who it is.
	Override *Override
	// MaxSessions bounds the sessions of the entry's users at once, of all domains together that
	// share it; 0: no bound.
	MaxSessions int
	// Tunnels are the LNSs to which PPP sessions of the domain are handed on, unless the server
	// that has accepted the user names others: at most [MaxTunnels]. Dynamic subscribers, who have
	// no PPP, end here all the same. Empty: sessions are not handed on.
	Tunnels []Tunnel
	// Grants hold where the server or the local user says nothing.
	Grants
}

// Override is the user whom servers are asked about in the place of a domain's own. With a
// password it is a whole identity: everybody who comes with the domain is let in as that user, and
// what the peer proves is not looked at. Without one it is a name only, and goes with the peer's
// proof. Neither goes together with EAP, nor a password with MS-CHAPv2, where the peer wants
// proof from who knows its own: such attempts are refused with [ReasonProtocol].
type Override struct {
	User     string
	Password keymat.Secret // empty: the peer's own proof
}

// entry returns the entry for a name, nil if there is none, and why it is that one: an unknown
// domain takes the entry "default", a name without domain "none" and then "default" (R2).
func (p *RouterPolicy) entry(n Name) (e *DomainMap, why string) {
	key := n.Key()
	if key == "" {
		if p.None != nil {
			return p.None, "the name has no domain"
		}
		if p.Default != nil {
			return p.Default, `the name has no domain, and there is no entry "none"`
		}
		return nil, `the name has no domain, and there is neither an entry "none" nor "default"`
	}
	if e := p.Domains[key]; e != nil {
		return e, fmt.Sprintf("it is the entry of domain %q", key)
	}
	if p.Default != nil {
		return p.Default, fmt.Sprintf("domain %q has no entry", key)
	}
	return nil, fmt.Sprintf(`domain %q has no entry, and there is no entry "default"`, key)
}
