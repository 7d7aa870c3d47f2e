package radius

import (
	"fmt"
	"net/netip"
	"strings"
)

// rule has a value of an attribute take effect. It returns why not, or "".
type rule func(b *builder, v value) Problem

// acceptRules are what an Access-Accept can grant. Where several attributes say the same, the standard one holds, then
// Microsoft's, ERX, VPN 3000, Cisco-AVPair, WISPr, Mikrotik, Roaring Penguin, Ascend; of several from one source the
// first, except in lists. Rates are of the subscriber's traffic: up is from the subscriber (aaa.Traffic.In), and so is
// what a vendor calls received.
var acceptRules = map[Attribute]rule{
	{0, typeUserName}:            func(b *builder, v value) Problem { return b.user.add(fromStandard, string(v.octets)) },
	{0, typeServiceType}:         serviceType,
	{0, typeFramedProtocol}:      framedProtocol,
	{0, typeFramedIPAddress}:     (*builder).framedAddress,
	{0, typeFramedIPNetmask}:     (*builder).netmaskOf,
	{0, typeFilterID}:            func(b *builder, v value) Problem { return b.policy(&b.inPolicy, fromStandard, v) }, // R7
	{0, typeFramedMTU}:           (*builder).framedMTU,
	{0, typeReplyMessage}:        elsewhere,
	{0, typeFramedRoute}:         func(b *builder, v value) Problem { return b.route(v.text) },
	{0, typeState}:               elsewhere,
	{0, typeClass}:               (*builder).classOf,
	{0, typeSessionTimeout}:      func(b *builder, v value) Problem { return b.session.add(fromStandard, sessionTimeout(v.number)) },
	{0, typeIdleTimeout}:         func(b *builder, v value) Problem { return b.idle.add(fromStandard, idleTimeout(v.number)) },
	{0, typeEAPMessage}:          elsewhere,
	{0, typeMessageAuth}:         elsewhere,
	{0, typeProxyState}:          elsewhere,
	{0, typeInterimInterval}:     func(b *builder, v value) Problem { return b.interim.add(fromStandard, interimInterval(v.number)) },
	{0, typeTunnelType}:          func(b *builder, v value) Problem { return b.tunnel(v.tag).kind.add(fromStandard, v.number) },
	{0, typeTunnelMediumType}:    func(b *builder, v value) Problem { return b.tunnel(v.tag).medium.add(fromStandard, v.number) },
	{0, typeTunnelClient}:        func(b *builder, v value) Problem { return b.tunnel(v.tag).client.add(fromStandard, v.text) },
	{0, typeTunnelServer}:        func(b *builder, v value) Problem { return b.tunnel(v.tag).server.add(fromStandard, v.text) },
	{0, typeTunnelPassword}:      elsewhere,
	{0, typeTunnelGroup}:         (*builder).privateGroup,
	{0, typeTunnelAssignment}:    func(b *builder, v value) Problem { return tunnelName(&b.tunnel(v.tag).assignment, v) },
	{0, typeTunnelPreference}:    func(b *builder, v value) Problem { return b.tunnel(v.tag).preference.add(fromStandard, v.number) },
	{0, typeTunnelClientAuthID}:  func(b *builder, v value) Problem { return tunnelName(&b.tunnel(v.tag).clientName, v) },
	{0, typeTunnelServerAuthID}:  func(b *builder, v value) Problem { return tunnelName(&b.tunnel(v.tag).serverName, v) },
	{0, typeFramedPool}:          func(b *builder, v value) Problem { return name(&b.pool, fromStandard, v.text) },
	{0, typeFramedIPv6Prefix}:    func(b *builder, v value) Problem { return b.prefix(&b.framedPrefixes, v.prefix) },
	{0, typeDelegatedIPv6Prefix}: func(b *builder, v value) Problem { return b.prefix(&b.delegations, v.prefix) },

	{vendorMicrosoft, msCHAP2Success}: elsewhere,
	{vendorMicrosoft, msCHAPError}:    elsewhere,
	{vendorMicrosoft, 7}:              encryption,
	{vendorMicrosoft, 8}:              encryption,
	{vendorMicrosoft, 12}:             encryption,
	{vendorMicrosoft, 16}:             encryption,
	{vendorMicrosoft, 17}:             encryption,
	{vendorMicrosoft, 28}:             func(b *builder, v value) Problem { return b.dns.add(fromMicrosoft, 0, v.address) },
	{vendorMicrosoft, 29}:             func(b *builder, v value) Problem { return b.dns.add(fromMicrosoft, 1, v.address) },
	{vendorMicrosoft, 30}:             func(b *builder, v value) Problem { return b.nbns.add(fromMicrosoft, 0, v.address) },
	{vendorMicrosoft, 31}:             func(b *builder, v value) Problem { return b.nbns.add(fromMicrosoft, 1, v.address) },

	{vendorERX, erxVirtualRouter}:  (*builder).virtualRouter,
	{vendorERX, 2}:                 func(b *builder, v value) Problem { return name(&b.pool, fromERX, v.text) },
	{vendorERX, 3}:                 (*builder).localInterface,
	{vendorERX, 4}:                 func(b *builder, v value) Problem { return b.dns.add(fromERX, 0, v.address) },
	{vendorERX, 5}:                 func(b *builder, v value) Problem { return b.dns.add(fromERX, 1, v.address) },
	{vendorERX, 6}:                 func(b *builder, v value) Problem { return b.nbns.add(fromERX, 0, v.address) },
	{vendorERX, 7}:                 func(b *builder, v value) Problem { return b.nbns.add(fromERX, 1, v.address) },
	{vendorERX, erxIngressPolicy}:  func(b *builder, v value) Problem { return b.policy(&b.inPolicy, fromERX, v) },
	{vendorERX, erxEgressPolicy}:   func(b *builder, v value) Problem { return b.policy(&b.outPolicy, fromERX, v) },
	{vendorERX, erxTunnelPassword}: (*builder).clearPassword,
	{vendorERX, erxMaxSessions}:    (*builder).maxSessions,
	{vendorERX, erxTunnelGroup}:    tunnelGroup,
	{vendorERX, 22}:                sourceCheck,
	{vendorERX, 25}:                redirect,
	{vendorERX, 34}:                (*builder).frameRouteTag,
	{vendorERX, erxServiceInterim}: func(b *builder, v value) Problem { return b.interim.add(fromERX, serviceInterim(v.number)) },
	{vendorERX, 144}:               ingressOnly,

	{vendorASA, 5}:              func(b *builder, v value) Problem { return b.dns.add(fromASA, 0, v.address) },
	{vendorASA, 6}:              func(b *builder, v value) Problem { return b.dns.add(fromASA, 1, v.address) },
	{vendorASA, 7}:              func(b *builder, v value) Problem { return b.nbns.add(fromASA, 0, v.address) },
	{vendorASA, 8}:              func(b *builder, v value) Problem { return b.nbns.add(fromASA, 1, v.address) },
	{vendorASA, 15}:             func(b *builder, v value) Problem { return b.banners[0].add(fromASA, v.text) },
	{vendorASA, asaSplitList}:   func(b *builder, v value) Problem { return b.split(fromASA, v.text) },
	{vendorASA, 28}:             func(b *builder, v value) Problem { return b.defaultDomain(fromASA, v.text) },
	{vendorASA, 29}:             func(b *builder, v value) Problem { return b.domains(fromASA, v.text) },
	{vendorASA, 36}:             func(b *builder, v value) Problem { return b.banners[1].add(fromASA, v.text) },
	{vendorASA, asaSplitPolicy}: splitPolicy,

	{vendorCisco, 1}: ciscoPair,

	{vendorWISPr, 7}: func(b *builder, v value) Problem { return b.in.add(fromWISPr, rate{bits: limitRate(uint64(v.number))}) },
	{vendorWISPr, 8}: func(b *builder, v value) Problem {
		return b.out.add(fromWISPr, rate{bits: limitRate(uint64(v.number))})
	},
	{vendorMikrotik, 8}:       (*builder).rateLimit,
	{vendorRoaringPenguin, 1}: func(b *builder, v value) Problem { return b.in.add(fromRoaringPenguin, kilobits(v.number)) },
	{vendorRoaringPenguin, 2}: func(b *builder, v value) Problem { return b.out.add(fromRoaringPenguin, kilobits(v.number)) },
	// MikroTik's reading of Ascend's rates: with Ascend-Xmit-Rate for what we send, Ascend-Data-Rate is what we receive;
	// without it the first is what we send and the second what we receive, and one alone is both.
	{vendorAscend, 197}: (*builder).ascendRate,
	{vendorAscend, 255}: func(b *builder, v value) Problem {
		return b.out.add(fromAscend, rate{bits: limitRate(uint64(v.number))})
	},
	{vendorAscend, 135}: func(b *builder, v value) Problem { return b.dns.add(fromAscend, 0, v.address) },
	{vendorAscend, 136}: func(b *builder, v value) Problem { return b.dns.add(fromAscend, 1, v.address) },
}

// elsewhere is the rule of what decision.go reads.
func elsewhere(*builder, value) Problem { return "" }

// encryption is the rule of MPPE's keys and policies, which servers send with every accept of MS-CHAPv2 or EAP-TLS: nothing
// to remark, PPP is not encrypted here because IPsec is.
func encryption(*builder, value) Problem { return "" }

// kilobits is the unit of Roaring Penguin's rates.
func kilobits(n uint32) rate { return rate{bits: limitRate(uint64(n) * 1000)} }

// The values of Service-Type (RFC 2865 section 5.6, RFC 5176 section 3) that a subscriber's accept can have.
const (
	serviceFramed           = 2
	serviceOutbound         = 5
	serviceAuthenticateOnly = 8
	serviceAuthorizeOnly    = 17
)

// serviceType refuses what is no service for a subscriber, such as an administrator's login: an accept of a service that
// is not supported is a refusal (RFC 2865 section 5.6).
func serviceType(_ *builder, v value) Problem {
	switch v.number {
	case serviceFramed, serviceOutbound, serviceAuthenticateOnly, serviceAuthorizeOnly:
		return ""
	}
	return ProblemBadValue
}

// framedPPP is the Framed-Protocol of PPP; whoever comes by XAuth has none, whatever it says.
const framedPPP = 1

func framedProtocol(_ *builder, v value) Problem {
	if v.number != framedPPP {
		return ProblemUnused
	}
	return ""
}

// sourceCheck is Sa-Validate: packets from a subscriber must have its address. They always must.
func sourceCheck(_ *builder, v value) Problem {
	if v.number != 1 {
		return ProblemUnused
	}
	return ""
}

// redirect is Redirect-VR: the accept is worth nothing, the user is to authenticate once more in another router. Domain
// maps do that here, before anybody is asked.
func redirect(b *builder, v value) Problem {
	b.unusable(fmt.Sprintf("the server's %s sends the user on to another router's servers, which only domain maps do here", v))
	return ProblemUnused
}

func ingressOnly(b *builder, v value) Problem {
	if v.number > 1 {
		return ProblemBadValue
	}
	b.ingressOnly = v.number == 1
	return ""
}

// The values of ASA-IPsec-Split-Tunneling-Policy.
const (
	splitNothing = 0
	splitInclude = 1
	splitExclude = 2 // all but the networks: there is nothing to tell that to clients with but Unity's local LAN
)

func splitPolicy(b *builder, v value) Problem {
	switch v.number {
	case splitNothing, splitInclude:
		return b.splitPolicy.add(fromASA, v.number)
	case splitExclude:
		return ProblemUnused
	}
	return ProblemBadValue
}

// ciscoRules are the pairs of Cisco-AVPair, "service:attribute=value", that mean something here.
var ciscoRules = map[string]func(b *builder, v string) Problem{
	"ip:addr-pool":         func(b *builder, v string) Problem { return name(&b.pool, fromCisco, v) },
	"ipsec:addr-pool":      func(b *builder, v string) Problem { return name(&b.pool, fromCisco, v) },
	"ip:dns-servers":       func(b *builder, v string) Problem { return servers(&b.dns, v) },
	"ipsec:dns-servers":    func(b *builder, v string) Problem { return servers(&b.dns, v) },
	"ip:wins-servers":      func(b *builder, v string) Problem { return servers(&b.nbns, v) },
	"ipsec:wins-servers":   func(b *builder, v string) Problem { return servers(&b.nbns, v) },
	"ip:route":             (*builder).ciscoRoute,
	"ipsec:route-set":      (*builder).routeSet,
	"ipsec:inacl":          func(b *builder, v string) Problem { return b.split(fromCisco, v) },
	"ipsec:default-domain": func(b *builder, v string) Problem { return b.defaultDomain(fromCisco, v) },
	"ipsec:split-dns":      func(b *builder, v string) Problem { return b.domains(fromCisco, v) },
	"ipsec:banner":         func(b *builder, v string) Problem { return b.banners[0].add(fromCisco, v) },
	"vpdn:tunnel-type":     vpdn,
	"vpdn:ip-addresses":    vpdn,
}

// ciscoPair reads one Cisco-AVPair. A mandatory pair has "=", an optional one "*"; names may end in "#" and a number that
// orders them. Pairs of other services are nobody's mistake.
func ciscoPair(b *builder, v value) Problem {
	at := strings.IndexAny(v.text, "=*")
	if at < 0 {
		return ProblemBadValue
	}
	key, _, _ := strings.Cut(v.text[:at], "#")
	use, ok := ciscoRules[strings.ToLower(strings.TrimSpace(key))]
	text := strings.TrimSpace(v.text[at+1:])
	switch {
	case !ok:
		return ProblemUnused
	case text == "":
		return ProblemBadValue
	}
	return use(b, text)
}

// servers adds addresses that are separated by spaces or commas.
func servers(p *pair, text string) Problem {
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ' ' || r == ',' }) {
		a, err := netip.ParseAddr(word)
		if err != nil {
			return ProblemBadValue
		}
		if problem := p.next(fromCisco, a); problem != "" {
			return problem
		}
	}
	return ""
}

// ciscoRoute is a route behind the subscriber as IOS writes it, "10.1.0.0 255.255.0.0 [nexthop [cost]]", or as
// Framed-Route does.
func (b *builder) ciscoRoute(text string) Problem {
	words := strings.Fields(text)
	if len(words) >= 2 {
		if mask, err := netip.ParseAddr(words[1]); err == nil && mask.Is4() && maskBits(mask) > 0 && !unicast(mask) && !strings.Contains(words[0], "/") {
			words = append([]string{words[0] + "/" + words[1]}, words[2:]...)
		}
	}
	return b.route(strings.Join(words, " "))
}

// routeSet is a network that the client reaches through the tunnel: "prefix 10.0.0.0/8" (FlexVPN). Its other form names
// an access list of the router.
func (b *builder) routeSet(text string) Problem {
	network, ok := strings.CutPrefix(text, "prefix ")
	if !ok {
		return ProblemUnused
	}
	return b.split(fromCisco, network)
}
