package radius

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"vrgate/controlplane/aaa"
)

// Bounds on what a server may grant; more is counted and left out. Those of routes and classes are aaa's.
const (
	MaxNetworks  = 64   // networks of split tunnelling
	MaxSplitDNS  = 32   // domains
	MaxBanner    = 1000 // bytes
	MaxPrefixes  = 8    // of IPv6, of each kind
	maxName      = 64   // bytes of the names of policies, pools and routers
	minMTU       = 576
	maxMTU       = 9000
	minFramedMTU = 64 // RFC 2865 section 5.12
)

// source is who defined an attribute. Where several say the same the lower one holds.
type source uint8

// The order of precedence.
const (
	fromStandard source = iota
	fromMicrosoft
	fromERX
	fromASA
	fromCisco
	fromWISPr
	fromMikrotik
	fromRoaringPenguin
	fromAscend
	numSources
)

// choice is something of which only one can hold, as each source says it.
type choice[T any] struct {
	said  [numSources]bool
	value [numSources]T
}

// add notes what a source says; its first word counts.
func (c *choice[T]) add(s source, v T) Problem {
	if c.said[s] {
		return ProblemSurplus
	}
	c.said[s], c.value[s] = true, v
	return ""
}

// get returns what holds; false: nobody has said anything.
func (c *choice[T]) get() (T, bool) {
	for s := range c.said {
		if c.said[s] {
			return c.value[s], true
		}
	}
	var none T
	return none, false
}

// any says whether somebody has said something.
func (c *choice[T]) any() bool {
	_, said := c.get()
	return said
}

// pair are primary and secondary server. They are chosen together: two vendors' name servers are not mixed.
type pair struct {
	at [numSources][2]netip.Addr
}

func (p *pair) add(s source, which int, a netip.Addr) Problem {
	switch {
	case !unicast(a):
		return ProblemBadValue
	case p.at[s][which].IsValid():
		return ProblemSurplus
	}
	p.at[s][which] = a
	return ""
}

// next adds to a list without names for its places.
func (p *pair) next(s source, a netip.Addr) Problem {
	if p.at[s][0].IsValid() {
		return p.add(s, 1, a)
	}
	return p.add(s, 0, a)
}

func (p *pair) get() [2]netip.Addr {
	for _, v := range p.at {
		if !v[0].IsValid() {
			v[0], v[1] = v[1], netip.Addr{}
		}
		if v[0].IsValid() {
			return v
		}
	}
	return [2]netip.Addr{}
}

// builder collects what an accept, or a change, says.
type builder struct {
	mayMove bool // R6

	address, netmask, gateway   choice[netip.Addr]
	anyAddress                  bool // the server says that the address is from the pool
	pool, terminating, user     choice[string]
	inPolicy, outPolicy         choice[string]
	in, out                     choice[rate]
	ascendRates                 []uint64
	session, idle, interim      choice[time.Duration]
	ingressOnly                 bool
	mtu                         choice[int]
	routes                      []aaa.Route
	routeTag                    choice[uint32]
	dns, nbns                   pair
	banners                     [2]choice[string]
	domain                      choice[string]
	splitDNS                    choice[[]string]
	splitPolicy                 choice[uint32]
	networks                    choice[[]netip.Prefix]
	framedPrefixes, delegations []netip.Prefix
	class                       [][]byte
	tunnels                     map[uint8]*tunnel // by tag
	// refuse says why an accept cannot be used; empty: it can.
	refuse string
}

// apply has all values take effect and notes what did not.
func (b *builder) apply(r *reading, rules map[Attribute]rule) {
	for _, v := range r.values {
		use, ok := rules[v.attribute]
		problem := ProblemUnused
		if ok {
			problem = use(b, v)
		}
		if problem == "" {
			continue
		}
		r.find(v.attribute, problem)
		if problem == ProblemBadValue && v.vital {
			b.unusable("the server's " + v.String() + " cannot be used")
		}
	}
	for _, a := range r.unreadable {
		b.unusable(fmt.Sprintf("the server's %s cannot be read", a))
	}
}

// unusable refuses, with the first sentence said.
func (b *builder) unusable(text string) {
	if b.refuse == "" {
		b.refuse = text
	}
}

// grants is the sum.
func (b *builder) grants() aaa.Grants {
	g := aaa.Grants{
		IdleIngress: b.ingressOnly, Routes: b.routes, DNS: b.dns.get(), NBNS: b.nbns.get(),
		IPv6Prefixes: b.framedPrefixes, DelegatedPrefixes: b.delegations, Class: b.class,
	}
	g.Address, _ = b.address.get()
	g.Netmask, _ = b.netmask.get()
	g.Gateway, _ = b.gateway.get()
	g.Pool, _ = b.pool.get()
	g.Terminating, _ = b.terminating.get()
	g.SessionTimeout, _ = b.session.get()
	g.IdleTimeout, _ = b.idle.get()
	g.Interim, _ = b.interim.get()
	g.MTU, _ = b.mtu.get()
	g.Traffic, _ = b.traffic()
	g.DefaultDomain, _ = b.domain.get()
	g.SplitDNS, _ = b.splitDNS.get()
	if tag, ok := b.routeTag.get(); ok {
		for i := range g.Routes {
			if g.Routes[i].Tag == 0 {
				g.Routes[i].Tag = tag
			}
		}
	}
	first, _ := b.banners[0].get()
	second, _ := b.banners[1].get()
	g.Banner = cut(shown(first+second), MaxBanner)
	if policy, _ := b.splitPolicy.get(); policy != splitInclude {
		b.networks.said[fromASA] = false // strongSwan and the ASA itself heed the list only then
	}
	g.Networks, _ = b.networks.get()
	return g
}

// traffic is what was said of rates and policies, and which parts were not spoken of.
func (b *builder) traffic() (t aaa.Traffic, silent aaa.TrafficParts) {
	switch n := len(b.ascendRates); {
	case n == 0:
	case b.out.said[fromAscend]: // Ascend-Xmit-Rate
		b.in.add(fromAscend, rate{bits: b.ascendRates[0]})
	case n == 1:
		b.in.add(fromAscend, rate{bits: b.ascendRates[0]})
		b.out.add(fromAscend, rate{bits: b.ascendRates[0]})
	default:
		b.out.add(fromAscend, rate{bits: b.ascendRates[0]})
		b.in.add(fromAscend, rate{bits: b.ascendRates[1]})
	}
	in, ok := b.in.get()
	if !ok {
		silent |= aaa.RateIn
	}
	out, ok := b.out.get()
	if !ok {
		silent |= aaa.RateOut
	}
	t = aaa.Traffic{In: in.bits, InBurst: in.burst, Out: out.bits, OutBurst: out.burst}
	if t.InPolicy, ok = b.inPolicy.get(); !ok {
		silent |= aaa.PolicyIn
	}
	if t.OutPolicy, ok = b.outPolicy.get(); !ok {
		silent |= aaa.PolicyOut
	}
	return t, silent
}

// cut shortens s to n bytes, not within a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// The ranges of timeouts, in seconds (R3).
const (
	minSession = 60
	maxSession = 31_622_400 // 366 days
	minIdle    = 300
	maxIdle    = 86_400
)

// sessionTimeout brings a server's session timeout into its range (R4): below a minute it holds as it is, above the
// maximum it is cut, else it is rounded to the nearest minute, a half up. 0 is none.
func sessionTimeout(seconds uint32) time.Duration {
	if seconds >= minSession {
		seconds = nearestMinute(min(seconds, maxSession))
	}
	return time.Duration(seconds) * time.Second
}

// idleTimeout brings a server's idle timeout into its range (R4): below five minutes it is raised, above the maximum
// cut, else rounded to the nearest minute. 0 is none.
func idleTimeout(seconds uint32) time.Duration {
	if seconds > 0 {
		seconds = nearestMinute(min(max(seconds, minIdle), maxIdle))
	}
	return time.Duration(seconds) * time.Second
}

func nearestMinute(seconds uint32) uint32 { return (seconds + 30) / 60 * 60 }

// The ranges of interim intervals, in seconds: RFC 2869 section 5.16, and JunosE's of the service interval.
const (
	minInterim        = 60
	minServiceInterim = 600
	maxServiceInterim = 86_400
)

// interimInterval raises an interval to the floor; 0 is none.
func interimInterval(seconds uint32) time.Duration {
	if seconds > 0 {
		seconds = max(seconds, minInterim)
	}
	return time.Duration(seconds) * time.Second
}

// serviceInterim brings JunosE's service interim interval into its range; 0 is none.
func serviceInterim(seconds uint32) time.Duration {
	if seconds > 0 {
		seconds = min(max(seconds, minServiceInterim), maxServiceInterim)
	}
	return time.Duration(seconds) * time.Second
}

// name adds the name of something that the configuration has.
func name(c *choice[string], s source, text string) Problem {
	if len(text) > maxName || !printable(text) {
		return ProblemBadValue
	}
	return c.add(s, text)
}

// policy adds the name of a traffic policy. A server that names two for one direction is not understood: with either
// alone the subscriber could do what the other forbids.
func (b *builder) policy(c *choice[string], s source, v value) Problem {
	p := name(c, s, v.text)
	if p == ProblemSurplus && c.value[s] != v.text {
		b.unusable(fmt.Sprintf("the server's %s is a second one, after %q", v, c.value[s]))
	}
	return p
}

func (b *builder) framedAddress(v value) Problem {
	switch v.address {
	case addrUserChoice, addrNASChoice:
		if b.anyAddress || b.address.said[fromStandard] {
			return ProblemSurplus
		}
		b.anyAddress = true
		return ""
	}
	if !unicast(v.address) {
		return ProblemBadValue
	}
	if b.anyAddress {
		return ProblemSurplus
	}
	return b.address.add(fromStandard, v.address)
}

// The values of Framed-IP-Address that stand for no address (RFC 2865 section 5.8): the user may choose, and we do.
// Nobody chooses here: it is from the pool.
var (
	addrUserChoice = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	addrNASChoice  = netip.AddrFrom4([4]byte{255, 255, 255, 254})
)

func (b *builder) netmaskOf(v value) Problem {
	if maskBits(v.address) < 1 {
		return ProblemBadValue
	}
	return b.netmask.add(fromStandard, v.address)
}

// localInterface is JunosE's loopback that lends its address to subscribers. There are no such interfaces here, but an
// address says what is meant.
func (b *builder) localInterface(v value) Problem {
	a, err := netip.ParseAddr(v.text)
	if err != nil {
		return ProblemUnused
	}
	if !unicast(a) {
		return ProblemBadValue
	}
	return b.gateway.add(fromERX, a)
}

func (b *builder) virtualRouter(v value) Problem {
	if len(v.text) > maxName || !printable(v.text) {
		return ProblemBadValue
	}
	if !b.mayMove {
		return ProblemNotAllowed
	}
	return b.terminating.add(fromERX, v.text)
}

func (b *builder) framedMTU(v value) Problem {
	if v.number < minFramedMTU || v.number > 65535 {
		return ProblemBadValue
	}
	return b.mtu.add(fromStandard, min(max(int(v.number), minMTU), maxMTU))
}

func (b *builder) route(s string) Problem {
	r, ok := parseRoute(s)
	switch {
	case !ok:
		return ProblemBadValue
	case len(b.routes) >= aaa.MaxRoutes || slices.ContainsFunc(b.routes, func(o aaa.Route) bool { return o.Prefix == r.Prefix }):
		return ProblemSurplus
	}
	b.routes = append(b.routes, r)
	return ""
}

func (b *builder) frameRouteTag(v value) Problem {
	n, err := strconv.ParseUint(strings.TrimSpace(v.text), 10, 32)
	if err != nil {
		return ProblemBadValue
	}
	return b.routeTag.add(fromERX, uint32(n))
}

func (b *builder) prefix(list *[]netip.Prefix, p netip.Prefix) Problem {
	if len(*list) >= MaxPrefixes || slices.Contains(*list, p) {
		return ProblemSurplus
	}
	*list = append(*list, p)
	return ""
}

func (b *builder) classOf(v value) Problem {
	if len(b.class) >= aaa.MaxClasses {
		return ProblemSurplus
	}
	b.class = append(b.class, slices.Clone(v.octets))
	return ""
}

func (b *builder) rateLimit(v value) Problem {
	in, out, ok := parseRateLimit(v.text)
	if !ok {
		return ProblemBadValue
	}
	if p := b.in.add(fromMikrotik, in); p != "" {
		return p
	}
	return b.out.add(fromMikrotik, out)
}

func (b *builder) ascendRate(v value) Problem {
	if len(b.ascendRates) >= 2 {
		return ProblemSurplus
	}
	b.ascendRates = append(b.ascendRates, limitRate(uint64(v.number)))
	return ""
}

// domains adds a list of domains, separated by commas or spaces.
func (b *builder) domains(s source, text string) Problem {
	list := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	if len(list) == 0 || !printable(text) {
		return ProblemBadValue
	}
	var more Problem
	if len(list) > MaxSplitDNS {
		list, more = list[:MaxSplitDNS], ProblemSurplus
	}
	if p := b.splitDNS.add(s, list); p != "" {
		return p
	}
	return more
}

func (b *builder) defaultDomain(s source, text string) Problem {
	if !printable(text) || strings.ContainsAny(text, " ,") {
		return ProblemBadValue
	}
	return b.domain.add(s, text)
}

// split adds the networks of split tunnelling. What a server gives in parts is one list.
func (b *builder) split(s source, text string) Problem {
	networks, bad := parseNetworks(text)
	list := b.networks.value[s]
	for _, n := range networks {
		if len(list) >= MaxNetworks || slices.Contains(list, n) {
			return ProblemSurplus
		}
		list = append(list, n)
		b.networks.said[s], b.networks.value[s] = true, list
	}
	if bad {
		return ProblemBadValue
	}
	return ""
}
