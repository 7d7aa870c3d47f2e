package ike

import (
	"net/netip"

	"vrgate/controlplane/isakmp"
)

// oneHost tells whether a selector names a single address.
func oneHost(id isakmp.ID) bool {
	p, ok := id.Prefix()
	return ok && p.IsSingleIP()
}

// hostIs tells whether a selector is exactly the address.
func hostIs(id isakmp.ID, a netip.AddrPort) bool {
	p, ok := id.Prefix()
	return ok && p.IsSingleIP() && p.Addr().Unmap() == a.Addr()
}
