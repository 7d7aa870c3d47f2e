package controlplane

import (
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/subscriber"
)

// A tunnel profile of the configuration has two halves (J14): which peers belong to it and what
// their phase 2 may be is for IKE, what its users get for the subscribers.

var xauthTypes = map[config.XAuth]ike.XAuthType{
	config.XAuthGeneric: ike.XAuthGeneric, config.XAuthCHAP: ike.XAuthRADIUSCHAP, config.XAuthNone: ike.XAuthNone,
}

// tunnelProfile translates IKE's half, with the profile's keys. i is its IP profile, proposals are the transforms
// of the proposal profile.
func tunnelProfile(t config.TunnelProfile, i *config.IPProfile, proposals []ike.ESPProposal) (ike.TunnelProfile, []ike.PresharedKey) {
	out := ike.TunnelProfile{
		Name: t.Name, Local: t.LocalAddress, LocalID: t.LocalIdentity, Credential: t.Certificate, PeerIDs: t.PeerIdentities,
		XAuth: xauthTypes[t.XAuth], Reauthenticate: t.Reauthenticate, Push: t.Push, ESP: proposals, PFS: keymat.Group(t.PFS),
		Lifetime: t.Lifetime, LifeKB: uint64(t.LifetimeKilobytes), LocalNets: t.Phase2Local, PeerNets: t.Phase2Peer,
	}
	if len(t.Transforms) > 0 {
		out.ESP = nil
		for _, x := range t.Transforms {
			out.ESP = append(out.ESP, espProposal(x))
		}
	}
	out.Revision = tunnelRevision(t, i, out.ESP)
	var keys []ike.PresharedKey
	for _, k := range t.Keys {
		keys = append(keys, ike.PresharedKey{
			Name: t.Name + "/" + k.Name, Key: keymat.Secret(k.Key), Local: t.LocalAddress, ID: k.Identity, Tunnel: t.Name, LocalID: t.LocalIdentity,
		})
	}
	return out, keys
}

// subscriberTunnel translates the subscribers' half.
func subscriberTunnel(t config.TunnelProfile) subscriber.TunnelProfile {
	return subscriber.TunnelProfile{
		Name: t.Name, IPProfile: t.IPProfile, MaxSubscribers: t.MaxSubscribers, DomainSuffix: t.DomainSuffix, XAuth: t.XAuth != config.XAuthNone,
		Attempts: t.Attempts, Networks: t.Networks, Banner: t.Banner, Domain: t.DefaultDomain, SplitDNS: t.SplitDNS, SavePassword: t.SavePassword,
		PFS: t.PFS != config.GroupNone, AddressExpiry: t.AddressExpiry, MTU: t.MTU,
	}
}
