package controlplane

import (
	"net/netip"
	"slices"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/site"
)

// A static tunnel of the configuration has two halves (Z-1 to Z-11): who its peer may be and what its SAs are is for IKE, when it
// is dialled and by which peer is for the engine of package site.

var (
	staticXAuths = map[config.StaticXAuth]ike.StaticXAuth{
		config.StaticXAuthNone: ike.StaticXAuthNone, config.StaticXAuthServer: ike.StaticXAuthServer, config.StaticXAuthClient: ike.StaticXAuthClient,
	}
	staticStarts = map[config.StaticStart]site.Start{
		config.StartNailedUp: site.NailedUp, config.StartOnDemand: site.OnDemand, config.StartRespond: site.Respond,
	}
)

// noPeerYet is in the list of a tunnel whose peers are all given by name until their addresses are known: nobody has it, and an
// empty list would let anybody in.
var noPeerYet = netip.IPv4Unspecified()

// ikeStatic translates IKE's half, with the tunnel's own key. place is where its terminating virtual router is, proposals are the
// transforms of the proposal profile.
func ikeStatic(t config.StaticTunnel, place string, proposals []ike.ESPProposal) (ike.StaticTunnel, []ike.PresharedKey) {
	out := ike.StaticTunnel{
		Name: t.Name, Local: t.LocalAddress, LocalID: t.LocalID, PeerID: t.PeerID, PeerIDIsAddress: t.PeerIDIsAddress, Method: ike.AuthPSK, Credential: t.Certificate,
		Aggressive: t.Aggressive, ESP: proposals, PFS: keymat.Group(t.PFS), Lifetime: t.Lifetime, LifeKB: uint64(t.LifetimeKilobytes), DPD: t.DPD,
		XAuth: staticXAuths[t.XAuth], User: t.User, Password: keymat.Secret(t.Password),
	}
	if len(t.Transforms) > 0 {
		out.ESP = nil
		for _, x := range t.Transforms {
			out.ESP = append(out.ESP, espProposal(x))
		}
	}
	out.Revision = staticRevision(t, place, out.ESP)
	if t.Certificate != "" {
		out.Method = ike.AuthRSA
	}
	for _, p := range t.Peers {
		if p.Address.IsValid() {
			out.Peers = append(out.Peers, p.Address)
		}
	}
	if len(t.Peers) > 0 && len(out.Peers) == 0 {
		out.Peers = []netip.Addr{noPeerYet}
	}
	for _, n := range t.Networks {
		child := ike.StaticChild{Name: n.Name, Protocol: n.Protocol, LocalPort: n.LocalPort, RemotePort: n.RemotePort}
		if t.Mode != config.StaticTransport {
			child.Tunnel, child.LocalNet, child.RemoteNet = true, n.Local, n.Remote
		}
		out.Children = append(out.Children, child)
	}
	if len(t.Key) == 0 {
		return out, nil
	}
	return out, []ike.PresharedKey{{Name: "static tunnel " + t.Name, Key: keymat.Secret(t.Key), Local: t.LocalAddress, Static: t.Name}}
}

// buildSites translates the other halves; statics are IKE's, in the same order.
func buildSites(r *config.Router, statics []ike.StaticTunnel) site.Config {
	var out site.Config
	for i, t := range r.StaticTunnels {
		out.Tunnels = append(out.Tunnels, siteTunnel(t, statics[i].Revision))
	}
	return out
}

// siteTunnel translates one.
func siteTunnel(t config.StaticTunnel, revision string) site.Tunnel {
	out := site.Tunnel{
		Name: t.Name, Start: staticStarts[t.Start], Disabled: !t.Enabled, Backoff: t.Backoff, BackoffMax: t.BackoffMax, Stable: t.Stable,
		FallBack: t.FallBack, Idle: t.Idle, NoReturn: t.NoReturn, Revision: revision,
		Check: site.Check{
			Target: t.Check.Target, Source: t.Check.Source, Port: t.Check.Port, Period: t.Check.Period, Timeout: t.Check.Timeout, Tolerance: t.Check.Tolerance,
		},
	}
	for _, p := range t.Peers {
		out.Peers = append(out.Peers, site.Peer{Addr: p.Address, Name: p.Name})
	}
	return out
}

// terminatingPlace stands for where a tunnel's terminating virtual router is, if that is another one than r: when it has to be
// made anew the tunnel's interface goes with it.
func terminatingPlace(c *config.Config, r *config.Router, t config.StaticTunnel) string {
	end := c.Router(t.Terminating)
	if end == nil || end.Name == r.Name {
		return ""
	}
	return revision(end.Kind, end.Namespace, end.VRF, slices.SortedFunc(slices.Values(end.ServerAddresses), netip.Addr.Compare))
}

// terminatingOf names the terminating virtual router of each static tunnel of a virtual router.
func terminatingOf(r *config.Router) map[string]string {
	out := make(map[string]string, len(r.StaticTunnels))
	for _, t := range r.StaticTunnels {
		out[t.Name] = t.Terminating
	}
	return out
}
