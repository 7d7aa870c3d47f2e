package controlplane

import (
	"fmt"
	"net/netip"
	"slices"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/aaa/accounting"
	"vrgate/controlplane/aaa/coa"
	"vrgate/controlplane/aaa/radius"
	"vrgate/controlplane/config"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/subscriber"
)

// The configuration of AAA as the packages take it that do it.

// buildRADIUS translates the servers of a virtual router.
func buildRADIUS(r *config.Router) radius.Config {
	out := radius.Config{NASIdentifier: r.RADIUS.NASIdentifier, NASAddress: r.RADIUS.NASAddress, MaxInFlight: r.RADIUS.InFlight}
	for _, s := range r.RADIUS.Servers {
		out.Servers = append(out.Servers, radius.Server{
			Name: s.Name, Address: s.Address, AuthPort: s.AuthPort, AcctPort: s.AcctPort, Source: s.Source, Secret: keymat.Secret(s.Secret),
			Timeout: s.Timeout, Retransmissions: s.Retransmissions, DeadTime: s.DeadTime,
			AllowUnsigned: !s.RequireMessageAuthenticator, StatusServer: s.StatusServer,
		})
	}
	for _, g := range r.RADIUS.Groups {
		out.Groups = append(out.Groups, radius.Group{Name: g.Name, Servers: g.Servers, RoundRobin: g.Strategy == config.StrategyRoundRobin})
	}
	return out
}

// buildNAS is what a virtual router calls itself towards its servers (R12).
func buildNAS(r *config.Router) radius.NAS {
	return radius.NAS{Identifier: r.RADIUS.NASIdentifier, Address: r.RADIUS.NASAddress, ClientEndpoint: r.RADIUS.NASAddressFromTunnel}
}

// buildCoA translates the dynamic authorization of a virtual router, and says on which addresses
// it listens: none where it is not enabled. Without addresses it is any of the families that
// there are clients of.
func buildCoA(r *config.Router) (coa.Config, []netip.AddrPort) {
	d := r.RADIUS.DynamicAuthorization
	out := coa.Config{NASIdentifier: r.RADIUS.NASIdentifier, AllowUnsigned: !d.RequireMessageAuthenticator, Window: d.Window, AnyNASAddress: r.RADIUS.NASAddressFromTunnel}
	own := func(a netip.Addr) {
		if a.IsValid() && !slices.Contains(out.NASAddresses, a) {
			out.NASAddresses = append(out.NASAddresses, a)
		}
	}
	own(r.RADIUS.NASAddress)
	for _, a := range slices.Concat(d.Addresses, r.ServerAddresses) {
		own(a)
	}
	for _, s := range r.RADIUS.Servers {
		own(s.Source)
	}
	addresses := d.Addresses
	for _, c := range d.Clients {
		out.Clients = append(out.Clients, coa.Client{Address: c.Address, Secret: keymat.Secret(c.Secret)})
		if a := unspecified(c.Address); len(d.Addresses) == 0 && !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}
	if !d.Enabled {
		return out, nil
	}
	var listen []netip.AddrPort
	for _, a := range addresses {
		listen = append(listen, netip.AddrPortFrom(a, d.Port))
	}
	return out, listen
}

// unspecified is any address of the family of a.
func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

var aaaMethods = map[config.AAAMethod]aaa.MethodName{config.MethodLocal: aaa.MethodLocal, config.MethodRADIUS: aaa.MethodRADIUS}

func methodNames(list []config.AAAMethod) []aaa.MethodName {
	var out []aaa.MethodName
	for _, m := range list {
		out = append(out, aaaMethods[m])
	}
	return out
}

// buildPolicies translates the AAA of all virtual routers.
func buildPolicies(c *config.Config) map[string]aaa.RouterPolicy {
	out := make(map[string]aaa.RouterPolicy, len(c.Routers))
	gateways := buildGateways(c)
	for _, r := range c.Routers {
		p := buildPolicy(r)
		p.Gateways = gateways[r.Name]
		out[r.Name] = p
	}
	return out
}

func buildPolicy(r *config.Router) aaa.RouterPolicy {
	a := &r.AAA
	p := aaa.RouterPolicy{
		Names:   buildNames(r),
		Domains: map[string]*aaa.DomainMap{}, Profiles: map[string]aaa.Place{}, Groups: map[string][]string{},
		Methods: methodNames(a.Methods), Authentication: a.AuthenticationGroup, Accounting: a.AccountingGroup,
		Defaults: aaa.Grants{
			SessionTimeout: a.SessionTimeout, IdleTimeout: a.IdleTimeout, IdleIngress: a.IdleIngress, Interim: a.Accounting.Interim,
		},
		Namespace: r.Namespace.Name,
	}
	for _, m := range a.DomainMaps {
		d := domainMap(m)
		switch m.Domain {
		case config.DomainDefault:
			p.Default = d
		case config.DomainNone:
			p.None = d
		default:
			p.Domains[m.Domain] = d
		}
	}
	for _, i := range r.IPProfiles {
		p.Profiles[i.Name] = aaa.Place{
			Terminating: i.Router, Gateway: i.Unnumbered, Pool: i.Pool, IdleTimeout: i.IdleTimeout, IdleIngress: i.IdleIngress, Traffic: buildTraffic(i.Traffic),
		}
	}
	for _, g := range r.RADIUS.Groups {
		p.Groups[g.Name] = g.Servers
	}
	for _, x := range r.Pools {
		p.Pools = append(p.Pools, x.Name)
	}
	return p
}

// buildNames translates the rules by which names are taken apart.
func buildNames(r *config.Router) aaa.NameRules {
	n := &r.AAA.Names
	return aaa.NameRules{
		Domain: n.DomainDelimiters, Realm: n.RealmDelimiters, DomainFirst: n.Order == config.DomainFirst,
		DomainFromLeft: n.DomainDirection == config.LeftToRight, RealmFromRight: n.RealmDirection == config.RightToLeft,
	}
}

func domainMap(m config.DomainMap) *aaa.DomainMap {
	d := &aaa.DomainMap{
		Name: m.Domain, Deny: m.Deny, Router: m.AuthenticationRouter, Methods: methodNames(m.Methods),
		Authentication: m.AuthenticationGroup, Accounting: m.AccountingGroup, NoAccounting: m.AccountingGroup == "" && !m.Deny, Strip: m.StripDomain, MaxSessions: m.MaxSessions,
		Grants: aaa.Grants{
			Terminating: m.Router, Gateway: m.Gateway, Pool: m.Pool, SessionTimeout: m.SessionTimeout, IdleTimeout: m.IdleTimeout,
			IdleIngress: m.IdleIngress, MTU: m.MTU, DNS: pair(m.DNS), NBNS: pair(m.NBNS), Traffic: buildTraffic(m.Traffic),
		},
	}
	for _, t := range m.TunnelServers {
		d.Tunnels = append(d.Tunnels, aaa.Tunnel{
			Preference: t.Preference, Server: t.Server, Client: t.Client, Secret: keymat.Secret(t.Password), ClientName: t.LocalHost, ServerName: t.RemoteHost,
			MaxSessions: t.MaxSessions,
		})
	}
	if m.OverrideUser != "" {
		d.Override = &aaa.Override{User: m.OverrideUser, Password: keymat.Secret(m.OverridePassword)}
	}
	return d
}

// pair is a primary and a secondary server.
func pair(list []netip.Addr) (out [2]netip.Addr) {
	copy(out[:], list)
	return out
}

func buildTraffic(t config.Traffic) aaa.Traffic {
	return aaa.Traffic{
		In: t.RateIn, Out: t.RateOut, InBurst: t.BurstIn, OutBurst: t.BurstOut, InPolicy: t.PolicyIn, OutPolicy: t.PolicyOut,
	}
}

// buildGateways lists by virtual router our addresses on the interfaces of subscribers that end
// in it: those of its own IP profiles first, then those that others have for it.
func buildGateways(c *config.Config) map[string][]netip.Addr {
	out := map[string][]netip.Addr{}
	add := func(router string, a netip.Addr) {
		if a.IsValid() && !slices.Contains(out[router], a) {
			out[router] = append(out[router], a)
		}
	}
	for _, own := range []bool{true, false} {
		for _, r := range c.Routers {
			for _, p := range r.IPProfiles {
				if (p.Router == r.Name) == own {
					add(p.Router, p.Unnumbered)
				}
			}
		}
	}
	for _, r := range c.Routers {
		for _, m := range r.AAA.DomainMaps {
			if m.Router != "" {
				add(m.Router, m.Gateway)
				continue
			}
			for _, p := range r.IPProfiles {
				add(p.Router, m.Gateway)
			}
		}
	}
	return out
}

// buildLocals translates the local users of all virtual routers.
func buildLocals(c *config.Config) map[string]*aaa.Local {
	out := make(map[string]*aaa.Local, len(c.Routers))
	for _, r := range c.Routers {
		if len(r.Users) > 0 {
			out[r.Name] = buildUsers(r)
		}
	}
	return out
}

func buildUsers(r *config.Router) *aaa.Local {
	users := make([]aaa.User, 0, len(r.Users))
	for _, u := range r.Users {
		x := aaa.User{
			Name: u.Name, Password: keymat.Secret(u.Password), Address: u.Address, Terminating: u.Router, Pool: u.Pool, Netmask: u.Netmask,
			SessionTimeout: u.SessionTimeout, IdleTimeout: u.IdleTimeout, IdleIngress: u.IdleIngress, MTU: u.MTU,
			DNS: pair(u.DNS), NBNS: pair(u.NBNS), Networks: u.Networks, Traffic: buildTraffic(u.Traffic),
		}
		for _, n := range u.Routes {
			x.Routes = append(x.Routes, aaa.Route{Prefix: n.Prefix, Metric: n.Metric})
		}
		users = append(users, x)
	}
	return aaa.NewLocal(users)
}

// buildCodes gives each virtual router its terminate codes (R10). The error is [config.Errors]: the
// configuration does not know which reasons there are.
func buildCodes(c *config.Config) (map[string]*accounting.Codes, error) {
	out := make(map[string]*accounting.Codes, len(c.Routers))
	var errs config.Errors
	for _, r := range c.Routers {
		codes := accounting.NewCodes()
		for _, x := range r.AAA.TerminateCodes {
			if codes.Set(subscriber.Reason(x.Reason), x.Code) != nil {
				errs = append(errs, config.Diagnostic{Pos: x.At, Message: fmt.Sprintf(
					"\"reason\" is %q but no session ends with it; \"vrgate show terminate-codes\" lists the reasons", x.Reason)})
			}
		}
		out[r.Name] = codes
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return out, nil
}

// CheckTerminateCodes finds reasons in the configuration that there are not. The error is
// [config.Errors].
func CheckTerminateCodes(c *config.Config) error {
	_, err := buildCodes(c)
	return err
}

// buildJournal configures the accounting journal but for the encoding of records. codes are by
// virtual router.
func buildJournal(c *config.Config, codes map[string]*accounting.Codes) accounting.Config {
	return accounting.Config{
		Parallel: c.Process.Journal.Parallel, MaxRecords: c.Process.Journal.MaxRecords,
		Required: func(router string) bool {
			r := c.Router(router)
			return r != nil && r.AAA.Accounting.Required
		},
		Cause: func(router string, reason subscriber.Reason) uint32 {
			// A record may have survived the virtual router that it belongs to.
			if of := codes[router]; of != nil {
				return of.Cause(reason)
			}
			return builtInCodes.Cause(reason)
		},
	}
}

var builtInCodes = accounting.NewCodes()
