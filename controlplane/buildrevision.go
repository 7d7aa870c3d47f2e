package controlplane

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
)

// A revision stands for everything that running tunnels, sessions and connections have of their profile and that
// cannot be given to them anew. When a reload changes it they end (G4). What a profile has besides holds for new ones from
// then on: limits, keys, pools, name servers, timeouts, filters, what is said to clients at the start.
//
// Revisions are compared within one process only, and are keyed so that nobody can try secrets on one that was logged.

// revisionKey is drawn once per process.
var revisionKey = func() (key [sha256.Size]byte) {
	_, _ = rand.Read(key[:]) // crypto/rand.Read never fails
	return key
}()

// revision is the text for a list of values: the same for the same list, and different for any other.
func revision(values ...any) string {
	h := hmac.New(sha256.New, revisionKey[:])
	for _, v := range values {
		var text []byte
		switch v := v.(type) {
		case config.Secret: // would print as [redacted]
			text = v
		default:
			text = fmt.Append(nil, v)
		}
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(text)))
		h.Write(length[:])
		h.Write(text)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// hostRevision is that of a host profile; i is its IP profile. The number of a receive window is not in it: the one that a tunnel
// has announced does no harm.
func hostRevision(d config.DestinationProfile, h config.HostProfile, i *config.IPProfile) string {
	return revision(d.LACAddress, h.LocalHost, h.LocalAddress, h.IPsecRequired, h.TunnelPassword, h.SingleShot, linkRevision(i))
}

// linkRevision is what a subscriber's interface has of an IP profile. Users and servers may have overridden some of
// it; their sessions end all the same, which is simpler to foresee.
func linkRevision(i *config.IPProfile) string {
	if i == nil {
		return ""
	}
	return revision(i.Router, i.Unnumbered, i.OwnAddress, i.MTU, i.MSSClamp, i.MSS, i.SourceValidation, i.AccessRoutes)
}

// transportRevision is that of a transport profile on one of its server addresses; esp are the transforms that it comes
// to.
func transportRevision(t config.TransportProfile, l config.TransportLocal, esp []ike.ESPProposal) string {
	return revision(l.Address, t.RemoteAddress, esp, t.Lifetime, t.LifetimeKilobytes, t.PFS, t.Certificate, t.NATPassthrough)
}

// staticRevision is that of a static tunnel; place is where its terminating virtual router is, esp are the transforms that it comes
// to. Keys, passwords and what says when it is dialled are not in it, nor is what its interface can be given anew.
func staticRevision(t config.StaticTunnel, place string, esp []ike.ESPProposal) string {
	return revision(t.Terminating, place, t.Mode, t.LocalAddress, t.LocalID, t.PeerID, t.PeerIDIsAddress, t.Certificate, t.XAuth, t.Networks,
		esp, t.Lifetime, t.LifetimeKilobytes, t.PFS, t.Interface.Name)
}

// tunnelRevision is that of a tunnel profile; i is its IP profile, esp are the transforms that it comes to. Who may
// connect is not in it, like keys.
func tunnelRevision(t config.TunnelProfile, i *config.IPProfile, esp []ike.ESPProposal) string {
	return revision(t.LocalAddress, t.LocalIdentity, t.Certificate, t.XAuth, esp, t.Lifetime, t.LifetimeKilobytes, t.PFS,
		t.Phase2Local, t.Phase2Peer, t.MTU, linkRevision(i))
}
