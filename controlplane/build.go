package controlplane

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/pki"
	"vrgate/controlplane/subscriber"
	"vrgate/pppd"
)

// buildRouter translates one virtual router's configuration, and its certificates, into its
// engines'. Which connection numbers it has depends on the past, and is left open.
func buildRouter(c *config.Config, r *config.Router, certs *pki.Store) (machineConfig, error) {
	i, err := buildIKE(c, r)
	if err != nil {
		return machineConfig{}, fmt.Errorf("%s: %w", r.File, err)
	}
	i.Credentials, i.Authorities = credentials(certs), certs.AuthorityNames()
	subs := buildSubscribers(r)
	for n, t := range r.TunnelProfiles {
		p := subs.Tunnels[t.Name]
		p.Revision = tunnelRevision(t, r.IPProfile(t.IPProfile), i.Tunnels[n].ESP)
		subs.Tunnels[t.Name] = p
	}
	sites := buildSites(r, i.Statics)
	if err := sites.Validate(); err != nil {
		return machineConfig{}, fmt.Errorf("%s: %w", r.File, err)
	}
	return machineConfig{ike: i, l2tp: buildL2TP(r), subs: subs, site: sites, servers: r.ServerAddresses, terminating: terminatingOf(r)}, nil
}

func buildIKE(c *config.Config, r *config.Router) (ike.Config, error) {
	rules, proposals, err := ike.ProposalProfile(r.Proposals.String())
	if err != nil {
		return ike.Config{}, err
	}
	out := ike.Config{
		NATT: r.NATT, InvalidCookie: r.InvalidCookie, Rules: rules, Fragmentation: true,
		HalfOpen: ike.HalfOpenLimits{Total: c.Process.HalfOpen.Total, PerSource: c.Process.HalfOpen.PerSource},
	}
	if len(r.Policy) > 0 {
		out.Rules = nil
		for _, p := range r.Policy {
			out.Rules = append(out.Rules, policyRule(p))
		}
	}
	for _, k := range r.Keys {
		key := ike.PresharedKey{Name: k.Name, Key: keymat.Secret(k.Key)}
		if k.PeerAddress.IsValid() {
			key.Peer = netip.PrefixFrom(k.PeerAddress, k.PeerAddress.BitLen())
		} else {
			key.ID = identity(k.PeerIdentity)
		}
		out.Keys = append(out.Keys, key)
	}
	for _, t := range r.TransportProfiles {
		esp := proposals
		if len(t.Transforms) > 0 {
			esp = nil
			for _, x := range t.Transforms {
				p := espProposal(x)
				out.OldAndroidSHA256 = out.OldAndroidSHA256 || x.Integrity == config.IntegritySHA256Trunc96
				esp = append(esp, p)
			}
		}
		for _, l := range t.Locals {
			for _, k := range l.GroupKeys {
				out.Keys = append(out.Keys, ike.PresharedKey{
					Name: k.Name, Key: keymat.Secret(k.Key), Local: l.Address, Group: true, From: k.From, Until: k.Until,
				})
			}
			out.Transports = append(out.Transports, ike.TransportProfile{
				Name: t.Name, Local: l.Address, Remote: t.RemoteAddress, ESP: esp, PFS: keymat.Group(t.PFS),
				Lifetime: t.Lifetime, LifeKB: uint64(t.LifetimeKilobytes), Credential: t.Certificate, NATPassthrough: t.NATPassthrough,
				Revision: transportRevision(t, l, esp),
			})
		}
	}
	for _, t := range r.TunnelProfiles {
		for _, x := range t.Transforms {
			out.OldAndroidSHA256 = out.OldAndroidSHA256 || x.Integrity == config.IntegritySHA256Trunc96
		}
		profile, keys := tunnelProfile(t, r.IPProfile(t.IPProfile), proposals)
		out.Tunnels, out.Keys = append(out.Tunnels, profile), append(out.Keys, keys...)
	}
	for _, t := range r.StaticTunnels {
		for _, x := range t.Transforms {
			out.OldAndroidSHA256 = out.OldAndroidSHA256 || x.Integrity == config.IntegritySHA256Trunc96
		}
		tunnel, keys := ikeStatic(t, terminatingPlace(c, r, t), proposals)
		out.Statics, out.Keys = append(out.Statics, tunnel), append(out.Keys, keys...)
	}
	out.StaticDPD = ike.DPDTimers{Sent: r.DPD.Sent, Unanswered: r.DPD.Unanswered, Silent: r.DPD.Silent}
	if r.DPD.Enabled {
		out.DPD = out.StaticDPD
	}
	return out, nil
}

func policyRule(p config.PolicyRule) ike.PolicyRule {
	out := ike.PolicyRule{
		Name: fmt.Sprintf("rule %d", p.Priority), Priority: p.Priority, Local: p.LocalAddress, Auth: authMethods[p.Auth], Lifetime: p.Lifetime,
		Aggressive: aggressiveModes[p.AggressiveMode],
	}
	for _, e := range p.Encryption {
		out.Encryption = append(out.Encryption, encryptions[e])
	}
	for _, h := range p.Hash {
		out.Hash = append(out.Hash, hashes[h])
	}
	for _, g := range p.Group {
		out.Group = append(out.Group, keymat.Group(g))
	}
	return out
}

var (
	encryptions = map[config.Encryption]ike.Encryption{
		config.EncryptionAES256: {Cipher: keymat.AES, KeyBits: 256}, config.EncryptionAES192: {Cipher: keymat.AES, KeyBits: 192},
		config.EncryptionAES128: {Cipher: keymat.AES, KeyBits: 128}, config.Encryption3DES: {Cipher: keymat.DES3}, config.EncryptionDES: {Cipher: keymat.DES},
	}
	hashes = map[config.Hash]keymat.Hash{
		config.HashSHA256: keymat.SHA256, config.HashSHA384: keymat.SHA384, config.HashSHA512: keymat.SHA512,
		config.HashSHA1: keymat.SHA1, config.HashMD5: keymat.MD5,
	}
	espCiphers = map[config.ESPEncryption]ike.ESPProposal{
		config.ESPAES256: {Cipher: ike.ESPAESCBC, KeyBits: 256}, config.ESPAES192: {Cipher: ike.ESPAESCBC, KeyBits: 192},
		config.ESPAES128: {Cipher: ike.ESPAESCBC, KeyBits: 128}, config.ESPAES256GCM: {Cipher: ike.ESPAESGCM, KeyBits: 256},
		config.ESPAES192GCM: {Cipher: ike.ESPAESGCM, KeyBits: 192}, config.ESPAES128GCM: {Cipher: ike.ESPAESGCM, KeyBits: 128},
		config.ESP3DES: {Cipher: ike.ESP3DES}, config.ESPDES: {Cipher: ike.ESPDES},
	}
	espIntegrities = map[config.ESPIntegrity]ike.ESPAuth{
		config.IntegrityNone: ike.ESPAuthNone, config.IntegritySHA256: ike.ESPAuthSHA256, config.IntegritySHA384: ike.ESPAuthSHA384,
		config.IntegritySHA512: ike.ESPAuthSHA512, config.IntegritySHA1: ike.ESPAuthSHA1, config.IntegrityMD5: ike.ESPAuthMD5,
		config.IntegritySHA256Trunc96: ike.ESPAuthSHA256,
	}
	authMethods = map[config.AuthMethod]ike.AuthMethod{
		config.AuthPSK: ike.AuthPSK, config.AuthRSA: ike.AuthRSA, config.AuthHybrid: ike.AuthHybridRSA, config.AuthAny: ike.AuthAny,
	}
	aggressiveModes = map[config.AggressiveMode]ike.Aggressive{
		config.AggressiveNone: ike.AggressiveNotAllowed, config.AggressiveAccepted: ike.AggressiveAccepted,
		config.AggressiveRequested: ike.AggressiveRequested, config.AggressiveRequired: ike.AggressiveRequired,
	}
	pppAuth = map[config.PPPAuth]pppd.AuthProtocol{
		config.PPPMSCHAPv2: pppd.AuthMSCHAPv2, config.PPPCHAP: pppd.AuthCHAPMD5, config.PPPPAP: pppd.AuthPAP,
		config.PPPEAP: pppd.AuthEAP,
	}
)

func espProposal(t config.ESPTransform) ike.ESPProposal {
	p := espCiphers[t.Encryption]
	p.Auth = espIntegrities[t.Integrity]
	return p
}

// identity writes an identity as ike.PresharedKey wants it.
func identity(id config.Identity) string {
	if id.Kind == config.IdentityFQDN {
		return "@" + id.Value
	}
	return id.Value
}

func buildL2TP(r *config.Router) l2tp.Config {
	out := l2tp.Config{
		HostName: r.Name, VendorName: "vrgate", ReceiveWindow: uint16(r.L2TP.ReceiveWindow),
		Hello: orNever(r.L2TP.HelloInterval), IdleTimeout: orNever(r.L2TP.IdleTimeout), SetupTimeout: r.L2TP.SetupTimeout,
		RetransmitMax: r.L2TP.RetransmitEstablished, RetransmitMaxOpening: r.L2TP.RetransmitNotEstablished,
		DestructTimeout: r.L2TP.DestructTimeout, DisconnectCause: r.L2TP.DisconnectCause, MaxSessions: r.L2TP.MaxSessions,
		ShortDrain: orNever(r.L2TP.ShortDrain), Admin: adminStates[r.L2TP.Admin], TolerateUnknownAVP: r.L2TP.TolerateUnknownAVP,
		IgnoreSequencing: r.L2TP.IgnoreSequencing,
	}
	for _, d := range r.Destinations {
		p := l2tp.DestinationProfile{Name: d.Name, LAC: d.LACAddress, MaxSessions: d.MaxSessions}
		for _, h := range d.Hosts {
			p.Hosts = append(p.Hosts, l2tp.HostProfile{
				Name: hostProfileName(h), Host: h.RemoteHost, RequireIPsec: h.IPsecRequired, Secret: keymat.Secret(h.TunnelPassword),
				Challenge: r.L2TP.Challenge, LocalHost: h.LocalHost, Local: h.LocalAddress, MaxSessions: h.MaxSessions,
				ReceiveWindow: uint16(h.ReceiveWindow), SingleShot: h.SingleShot, HideAVPs: h.HideAVPs, DisconnectCause: new(h.DisconnectCause),
				TolerateUnknownAVP: h.TolerateUnknownAVP, ZeroTunnelID: h.ZeroTunnelID, ResourceError: h.ResourceError, Revision: hostRevision(d, h, r.IPProfile(h.IPProfile)),
			})
		}
		out.Profiles = append(out.Profiles, p)
	}
	return out
}

var adminStates = map[config.AdminState]l2tp.Admin{
	config.AdminEnabled: l2tp.AdminEnabled, config.AdminDrain: l2tp.AdminDrain, config.AdminDisabled: l2tp.AdminDisabled,
}

// hostProfileName is how a host profile is called where it has no host name of its own.
func hostProfileName(h config.HostProfile) string {
	if h.RemoteHost == "" {
		return "default"
	}
	return h.RemoteHost
}

func buildSubscribers(r *config.Router) subscriber.Config {
	out := subscriber.Config{
		Router: r.Name, DestructTimeout: r.L2TP.DestructTimeout,
		Profiles: map[string]subscriber.IPProfile{}, HostProfiles: map[string]subscriber.HostProfile{}, FirstID: firstID(),
		InterimFloor: r.AAA.Accounting.InterimMinimum,
		Switching:    r.L2TP.Switching, Lockout: r.L2TP.Lockout, LockoutTest: r.L2TP.LockoutTest,
		Link: pppd.Config{
			MRU: uint16(r.PPP.MRU), Name: r.Name, EchoInterval: r.PPP.EchoInterval, EchoFailures: r.PPP.EchoFailures,
			AuthTimeout: r.PPP.SetupTimeout, NetworkTimeout: r.PPP.SetupTimeout,
		},
	}
	for _, a := range r.PPP.Authentication {
		out.Link.Auth = append(out.Link.Auth, pppAuth[a])
	}
	for _, p := range r.IPProfiles {
		out.Profiles[p.Name] = subscriber.IPProfile{
			Name: p.Name, Terminating: p.Router, Gateway: p.Unnumbered, DNS: pair(p.DNS), NBNS: pair(p.NBNS), MTU: p.MTU, Pool: p.Pool,
			Link:    subscriber.LinkPolicy{MSSClamp: p.MSSClamp, MSS: p.MSS, SourceValidation: p.SourceValidation, AccessRoutes: p.AccessRoutes},
			Traffic: buildTraffic(p.Traffic), IdleTimeout: p.IdleTimeout, IdleIngress: p.IdleIngress,
		}
	}
	out.Tunnels = map[string]subscriber.TunnelProfile{}
	for _, t := range r.TunnelProfiles {
		out.Tunnels[t.Name] = subscriberTunnel(t)
	}
	for _, d := range r.Destinations {
		for _, h := range d.Hosts {
			out.HostProfiles[d.Name+"/"+hostProfileName(h)] = subscriber.HostProfile{
				IPProfile: h.IPProfile, ProxyLCP: h.ProxyLCP, ProxyAuth: h.ProxyAuth,
				Carrier: len(h.TunnelPassword) > 0 && !h.IPsecRequired,
			}
		}
	}
	return out
}

// orNever turns the configuration's 0, for never, into the engines' negative.
func orNever[T ~int64](d T) T {
	if d == 0 {
		return -1
	}
	return d
}

// firstID draws the number at which subscriber sessions start, so that accounting
// identifiers do not repeat over restarts.
func firstID() subscriber.ID {
	var b [8]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	return subscriber.ID(binary.BigEndian.Uint64(b[:]) >> 16)
}
