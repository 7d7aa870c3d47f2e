package controlplane

import (
	"context"
	"slices"
	"strings"

	"vrgate/controlplane/api"
)

// ipsecErrorTexts say what to make of the kernel's counters (Documentation/networking/xfrm_proc.rst).
var ipsecErrorTexts = map[string]string{
	"XfrmInError":             "received: lost for a reason of its own",
	"XfrmInBufferError":       "received: no memory, or too many packets wait to be decrypted",
	"XfrmInHdrError":          "received: the ESP header is cut off",
	"XfrmInNoStates":          "received: there is no such SA; the peer uses one that has ended here",
	"XfrmInStateProtoError":   "received: integrity check, decryption or padding is wrong; keys differ, or somebody has changed the packet",
	"XfrmInStateModeError":    "received: what was inside is no IP packet of the SA's mode",
	"XfrmInStateSeqError":     "received: replayed, or so late that the replay window has passed it",
	"XfrmInStateExpired":      "received: by an SA whose hard lifetime is over",
	"XfrmInStateMismatch":     "received: in UDP by an SA without, or the reverse, or for other addresses than the SA's",
	"XfrmInStateInvalid":      "received: by an SA that is about to go",
	"XfrmInTmplMismatch":      "received: by no SA, in clear, or by another SA than the policy for such packets names",
	"XfrmInNoPols":            "received: decrypted, but no policy is for such packets; the peer sends more than was agreed, or a policy is missing",
	"XfrmInPolBlock":          "received: a policy forbids such packets",
	"XfrmInPolError":          "received: the kernel could not look for policies",
	"XfrmInStateDirError":     "received: by an SA for sending",
	"XfrmInIptfsError":        "received: aggregated in a way that cannot be read",
	"XfrmAcquireError":        "received: by an SA that is not complete yet",
	"XfrmFwdHdrError":         "forwarded: the packet cannot be read",
	"XfrmOutError":            "sent: lost for a reason of its own",
	"XfrmOutBundleGenError":   "sent: no route to the peer, or no memory",
	"XfrmOutBundleCheckError": "sent: the route to the peer has changed at that moment",
	"XfrmOutNoStates":         "sent: a policy wants an SA and there is none; the tunnel is down, or connects",
	"XfrmOutStateProtoError":  "sent: encryption has failed",
	"XfrmOutStateModeError":   "sent: too large for the tunnel and not to be fragmented, or not of the SA's mode",
	"XfrmOutStateSeqError":    "sent: the SA has no sequence numbers left",
	"XfrmOutStateExpired":     "sent: by an SA whose hard lifetime is over",
	"XfrmOutPolBlock":         "sent: a policy forbids such packets",
	"XfrmOutPolDead":          "sent: by a policy that went at that moment",
	"XfrmOutPolError":         "sent: the kernel could not look for policies",
	"XfrmOutStateInvalid":     "sent: by an SA that is about to go",
	"XfrmOutStateDirError":    "sent: by an SA for receiving",
	"XfrmOutNoQueueSpace":     "sent: too many packets wait to be aggregated",
}

// ipsecErrorKind writes a counter's name in words with hyphens: "in-no-pols" for XfrmInNoPols.
func ipsecErrorKind(counter string) string {
	var b strings.Builder
	for i, c := range strings.TrimPrefix(counter, "Xfrm") {
		if c >= 'A' && c <= 'Z' && i > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(c)
	}
	return strings.ToLower(b.String())
}

// IPsecErrors implements [api.Source]: the errors of each namespace in which a virtual router runs, those that were never counted included.
func (p *Process) IPsecErrors(context.Context) ([]api.IPsecError, error) {
	routers := p.routers()
	within := map[string][]string{} // by namespace
	for _, r := range routers {
		space := r.cfg().Namespace.Name
		within[space] = append(within[space], r.name)
	}
	out := []api.IPsecError{}
	read := map[string][]IPsecError{} // by namespace: its routers all have the same
	for _, r := range routers {
		if !r.serving.Load() {
			continue
		}
		space := r.cfg().Namespace.Name
		list, known := read[space]
		if !known {
			var err error
			if list, err = r.data.IPsecErrors(); err != nil { // asks the kernel: not in the loop
				continue // the kernel does not count, or the router is just ending
			}
			read[space] = list
		}
		shared := slices.DeleteFunc(slices.Clone(within[space]), func(name string) bool { return name == r.name })
		for _, e := range list {
			out = append(out, api.IPsecError{
				VR: r.name, Namespace: space, Shared: shared, Kind: ipsecErrorKind(e.Name), Counter: e.Name, Value: e.Value, Text: ipsecErrorTexts[e.Name],
			})
		}
	}
	return out, nil
}
