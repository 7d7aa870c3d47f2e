package controlplane

import (
	"context"
	"fmt"
	"time"

	"vrgate/controlplane/api"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
)

// TunnelProfiles implements [api.Source].
func (p *Process) TunnelProfiles(ctx context.Context) ([]api.TunnelProfile, error) {
	var out []api.TunnelProfile
	for _, r := range p.routers() {
		if len(r.cfg().TunnelProfiles) == 0 {
			continue
		}
		live := map[string]int{}
		if !r.do(ctx, func(time.Time) {
			for i := range r.cfg().TunnelProfiles {
				name := r.cfg().TunnelProfiles[i].Name
				live[name] = r.machine.subs.Admitted(name)
			}
		}) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			live = nil
		}
		for i := range r.cfg().TunnelProfiles {
			out = append(out, tunnelProfileView(r, &r.cfg().TunnelProfiles[i], live))
		}
	}
	return out, nil
}

func tunnelProfileView(r *router, t *config.TunnelProfile, live map[string]int) api.TunnelProfile {
	v := api.TunnelProfile{
		VR: r.name, Name: t.Name, LocalIdentity: t.LocalIdentity, PeerIdentities: t.PeerIdentities, Certificate: t.Certificate,
		MaxSubscribers: t.MaxSubscribers, Subscribers: live[t.Name], DomainSuffix: t.DomainSuffix, Phase2Local: t.Phase2Local, Phase2Peer: t.Phase2Peer,
		IPProfile: t.IPProfile, Networks: t.Networks, ExtendedAuthentication: t.XAuth.String(), Reauthenticate: t.Reauthenticate, Attempts: t.Attempts,
		PushConfiguration: t.Push, LifetimeSeconds: int64(t.Lifetime / time.Second), LifetimeKilobytes: uint64(t.LifetimeKilobytes), PFS: t.PFS.String(),
		MTU: t.MTU, AddressExpirySeconds: int64(t.AddressExpiry / time.Second), DefaultDomain: t.DefaultDomain, SplitDNS: t.SplitDNS,
		SavePassword: t.SavePassword, Banner: t.Banner,
	}
	if t.LocalAddress.IsValid() {
		v.LocalAddress = t.LocalAddress.String()
	}
	if ip := r.cfg().IPProfile(t.IPProfile); ip != nil {
		v.TerminatingVR = ip.Router
	}
	for _, k := range t.Keys {
		word := k.Name
		if k.Identity != "" {
			word = fmt.Sprintf("%s (%s)", k.Name, k.Identity)
		}
		v.Keys = append(v.Keys, word)
	}
	for _, x := range t.Transforms {
		v.Transforms = append(v.Transforms, x.String())
	}
	if len(t.Transforms) == 0 {
		v.Transforms = []string{r.cfg().Proposals.String()}
	}
	return v
}

var aggressiveWords = map[ike.Aggressive]string{
	ike.AggressiveNotAllowed: "none", ike.AggressiveAccepted: "accepted", ike.AggressiveRequested: "requested", ike.AggressiveRequired: "required",
}

// authWords is an authentication method of phase 1 as show prints it.
func authWords(a ike.AuthMethod) string {
	switch a {
	case ike.AuthAny:
		return "any"
	case ike.AuthPSK:
		return "psk"
	case ike.AuthRSA:
		return "rsa"
	case ike.AuthHybridRSA:
		return "hybrid-rsa"
	case ike.AuthXAuthPSK:
		return "xauth-psk"
	case ike.AuthXAuthRSA:
		return "xauth-rsa"
	}
	return fmt.Sprintf("method %d", a)
}

// Certificates implements [api.Source].
func (p *Process) Certificates(context.Context) ([]api.Certificate, error) {
	now := time.Now()
	var out []api.Certificate
	for _, r := range p.routers() {
		for _, i := range r.certs().Items() {
			out = append(out, api.Certificate{
				VR: r.name, Kind: string(i.Kind), Name: i.Name, State: certificateState(i, now, r.cfg().Certificates.ExpiryWarning), Subject: i.Subject,
				Issuer: i.Issuer, Serial: i.Serial, NotBefore: i.From, NotAfter: i.Until, Revoked: i.Revoked,
			})
		}
	}
	return out, nil
}

// Licences implements [api.Source].
func (p *Process) Licences(context.Context) (api.Licences, error) {
	l := p.shared.leases
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.licences.process.view(), nil
}

// licencesOf shows those of the subscribers that arrive in a virtual router.
func (l *leases) licencesOf(router string) api.Licences {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.licences.of(router).view()
}

func (u *licenceUse) view() api.Licences {
	return api.Licences{
		Subscribers:  api.Licence{Used: u.subscribers, Limit: u.limit.Subscribers},
		IPsecTunnels: api.Licence{Used: u.tunnels, Limit: u.limit.IPsecTunnels},
	}
}
