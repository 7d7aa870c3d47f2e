package ike

import (
	"slices"

	"vrgate/controlplane/isakmp"
)

// vendor is what the peer's vendor IDs say.
type vendor struct {
	NATT    isakmp.NATT // best version both speak, none while NAT-T is off
	DPD     bool
	Frag    bool // it reassembles IKE fragments
	XAuth   bool // it speaks XAuth, which says nothing about its wanting to (J10)
	Unity   bool // it takes Cisco's extensions of mode config
	Apple   bool // racoon of macOS or iOS
	Android bool // racoon as in Android 5 to 11
	VPNC    bool
	Name    string // for logs, "" if not recognised
}

// readVendors looks at the vendor IDs of a first or second message. NAT-T is
// left out when it is off (C1r, C4r).
func readVendors(ps []isakmp.Payload, natt bool) vendor {
	var v vendor
	var has [256]bool
	for _, id := range isakmp.Identities(ps) {
		has[id.Vendor] = true
		switch id.Vendor {
		case isakmp.VendorDPD:
			v.DPD = true
		case isakmp.VendorFragmentation:
			v.Frag = true
		case isakmp.VendorXAuth:
			v.XAuth = true
		case isakmp.VendorUnity:
			v.Unity = true
		case isakmp.VendorMicrosoft:
			v.Name = id.WindowsVersion()
		}
		if n := id.Vendor.NATT(); natt && n > v.NATT {
			v.NATT = n
		}
	}
	switch {
	case v.Name != "":
	case has[isakmp.VendorShrew]:
		v.Name = "Shrew Soft"
	case has[isakmp.VendorStrongSwan]:
		v.Name = "strongSwan"
	case has[isakmp.VendorLibreswan]:
		v.Name = "libreswan"
	case has[isakmp.VendorNATTApple] && has[isakmp.VendorNATT08]:
		v.Apple, v.Name = true, "Apple"
	case has[isakmp.VendorRFC3947] && has[isakmp.VendorNATT02] && has[isakmp.VendorNATT02n] && has[isakmp.VendorNATT00] &&
		!has[isakmp.VendorNATT03] && !has[isakmp.VendorNATT01]:
		// Android's racoon announces exactly this set (clients.md 3.5); vpnc and
		// Shrew announce 01 and 03 too.
		v.Android, v.Name = true, "Android"
	case has[isakmp.VendorXAuth] && has[isakmp.VendorUnity] && has[isakmp.VendorNATT03] && has[isakmp.VendorNATT01] && has[isakmp.VendorNATT00] &&
		!has[isakmp.VendorFragmentation]:
		// clients.md 3.7. Shrew, which announces the same drafts, fragments.
		v.VPNC, v.Name = true, "vpnc"
	case has[isakmp.VendorRacoon]:
		v.Name = "racoon"
	}
	return v
}

// answerVendors are the vendor IDs of message 2: each only if the peer sent its
// own, so that the answer never grows beyond what a stranger sent.
func (e *Engine) answerVendors(p *phase1) []isakmp.Payload {
	v := p.Vendor
	var ps []isakmp.Payload
	if e.cfg.maybeDynamic(p) {
		// racoon (Apple, Android) answers XAuth only of a server that announced it.
		if v.XAuth {
			ps = append(ps, isakmp.VendorPayload(isakmp.VendorXAuth, 0))
		}
		if v.Unity {
			ps = append(ps, isakmp.VendorPayload(isakmp.VendorUnity, 0))
		}
	}
	switch v.NATT {
	case isakmp.NATTNone:
	case isakmp.NATTRFC3947:
		ps = append(ps, isakmp.VendorPayload(isakmp.VendorRFC3947, 0))
	case isakmp.NATTDraft03:
		ps = append(ps, isakmp.VendorPayload(isakmp.VendorNATT03, 0))
	case isakmp.NATTDraft02n:
		ps = append(ps, isakmp.VendorPayload(isakmp.VendorNATT02n, 0))
	case isakmp.NATTDraft02:
		ps = append(ps, isakmp.VendorPayload(isakmp.VendorNATT02, 0))
	case isakmp.NATTDraft00:
		ps = append(ps, isakmp.VendorPayload(isakmp.VendorNATT00, 0))
	case isakmp.NATTApple:
		ps = append(ps, isakmp.VendorPayload(isakmp.VendorNATTApple, 0))
	}
	if v.DPD {
		ps = append(ps, isakmp.VendorPayload(isakmp.VendorDPD, 0))
	}
	if v.Frag && e.cfg.Fragmentation {
		ps = append(ps, isakmp.VendorPayload(isakmp.VendorFragmentation, p.fragmentation()))
	}
	return ps
}

// maybeDynamic tells whether the peer of p may turn out to be a dynamic
// subscriber (J10).
func (c *Config) maybeDynamic(p *phase1) bool {
	local := p.Local.Addr()
	return p.Method.xauth() || slices.ContainsFunc(c.Tunnels, func(t TunnelProfile) bool {
		return !t.Local.IsValid() || t.Local.IsUnspecified() || t.Local == local
	})
}

// xauth tells whether the method announces XAuth.
func (m AuthMethod) xauth() bool { return isakmp.AuthMethod(m).XAuth() }

// fragmentation is the capability word for the kind of exchange.
func (p *phase1) fragmentation() uint32 {
	if p.Aggressive {
		return isakmp.FragmentMainMode | isakmp.FragmentAggressive
	}
	return isakmp.FragmentMainMode
}

// offerVendors are the vendor IDs of our own message 1.
func (e *Engine) offerVendors(p *phase1) []isakmp.Payload {
	var ps []isakmp.Payload
	if p.Method.xauth() {
		ps = append(ps, isakmp.VendorPayload(isakmp.VendorXAuth, 0), isakmp.VendorPayload(isakmp.VendorUnity, 0))
	}
	if !p.NATTOff {
		for _, v := range []isakmp.Vendor{isakmp.VendorRFC3947, isakmp.VendorNATT03, isakmp.VendorNATT02n,
			isakmp.VendorNATT02, isakmp.VendorNATT00} {
			ps = append(ps, isakmp.VendorPayload(v, 0))
		}
	}
	if e.cfg.Fragmentation {
		ps = append(ps, isakmp.VendorPayload(isakmp.VendorFragmentation, p.fragmentation()))
	}
	return append(ps, isakmp.VendorPayload(isakmp.VendorDPD, 0))
}
