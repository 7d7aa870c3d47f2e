package ike

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"time"

	"vrgate/controlplane/isakmp"
)

// Mode config (draft-dukes-ike-mode-cfg-02): the subscriber asks (pull), which
// most do behind STATUS=OK and some before, or is told (push).

// Bounds of a configuration, so that it stays one datagram.
const (
	maxConfigText     = 1024 // bytes of banner, domain and split DNS each
	maxConfigServers  = 4    // of each kind
	maxConfigNetworks = 64   // in a split-include; as attributes of their own as many as there is room for
)

// appVersion is what we call ourselves, without a version: subscribers are
// strangers to the operator.
const appVersion = "vrgate"

// supported are the attributes that a subscriber can ask for.
var supported = []uint16{isakmp.ConfigIP4Address, isakmp.ConfigIP4Netmask, isakmp.ConfigIP4DNS, isakmp.ConfigIP4NBNS,
	isakmp.ConfigAddressExpiry, isakmp.ConfigAppVersion, isakmp.ConfigIP4Subnet, isakmp.ConfigSupportedAttrs}

// configRequest takes a subscriber's REQUEST. One that comes before the decision
// is answered with it.
func (e *Engine) configRequest(c *conn, p *phase1, r *request) {
	if r.Set.XAuth() {
		e.count(DropUnexpected) // we are not the one to be asked
		return
	}
	if c.Dyn.Stage != stageIn && (!c.Dyn.Again || p.Status == statusNone) {
		r.Set.Attributes = typesOf(r.Set.Attributes) // the rest aliases the datagram
		r.Expires = e.now.Add(userTime)
		d := p.dialogue()
		d.early = r
		e.arm(d)
		return
	}
	e.serve(c, p, r)
}

// typesOf drops the values of attributes, which a request may suggest and which
// are not looked at.
func typesOf(as []isakmp.Attribute) []isakmp.Attribute {
	out := make([]isakmp.Attribute, len(as))
	for i, a := range as {
		out[i].Type = a.Type
	}
	return out
}

// answerEarly serves the REQUEST that came before the decision.
func (e *Engine) answerEarly(c *conn, p *phase1) {
	if d := p.talk; d != nil && d.early != nil {
		r := d.early
		d.early = nil
		e.serve(c, p, r)
	}
}

// serve answers a REQUEST.
func (e *Engine) serve(c *conn, p *phase1, r *request) {
	e.reply(p, r, isakmp.ConfigReply, c.Dyn.Lease.attributes(r.Set.Attributes, p.Vendor.Unity))
}

// pushConfig sends all there is unasked.
func (e *Engine) pushConfig(c *conn, p *phase1) {
	all := make([]isakmp.Attribute, 0, len(supported)+len(unityAll))
	for _, t := range slices.Concat(supported, unityAll) {
		if t != isakmp.ConfigSupportedAttrs && t != isakmp.ConfigAppVersion {
			all = append(all, isakmp.Attribute{Type: t})
		}
	}
	id := uint16(e.rand32())
	e.begin(p, forPush, isakmp.AttributeSet{Type: isakmp.ConfigSet, Identifier: id, Attributes: c.Dyn.Lease.attributes(all, p.Vendor.Unity)}, 0, 0)
}

// unityAll are the attributes of Cisco Unity that a subscriber can be given.
var unityAll = []uint16{isakmp.UnityBanner, isakmp.UnitySavePassword, isakmp.UnityDefaultDomain, isakmp.UnitySplitDNS,
	isakmp.UnitySplitInclude, isakmp.UnityPFS}

// attributes are what the lease has of what was asked for, and the address and
// the networks whether or not they were asked for. Attributes that are unknown,
// or that the lease does not have, are left out. The forms are those that clients
// insist on: four bytes for addresses and times, the short form for switches.
func (l *Lease) attributes(asked []isakmp.Attribute, unity bool) []isakmp.Attribute {
	var as []isakmp.Attribute
	add := func(typ uint16, value []byte) {
		if len(value) > 0 {
			as = append(as, isakmp.Attribute{Type: typ, Value: value})
		}
	}
	wants := func(typ uint16) bool {
		return slices.ContainsFunc(asked, func(a isakmp.Attribute) bool { return a.Type == typ })
	}
	addresses := func(typ uint16, ips []netip.Addr) {
		for i, a := range ips {
			if a.Unmap().Is4() && i < maxConfigServers && wants(typ) {
				add(typ, a.Unmap().AsSlice())
			}
		}
	}
	if a := l.Address.Unmap(); a.Is4() {
		add(isakmp.ConfigIP4Address, a.AsSlice())
	}
	if wants(isakmp.ConfigIP4Netmask) {
		mask := []byte{255, 255, 255, 255}
		if l.Netmask.Is4() {
			mask = l.Netmask.AsSlice()
		}
		add(isakmp.ConfigIP4Netmask, mask)
	}
	addresses(isakmp.ConfigIP4DNS, l.DNS)
	addresses(isakmp.ConfigIP4NBNS, l.NBNS)
	if s := l.Expiry / time.Second; s > 0 && wants(isakmp.ConfigAddressExpiry) {
		as = append(as, isakmp.LongAttribute(isakmp.ConfigAddressExpiry, uint32(min(s, 1<<32-1))))
	}
	if wants(isakmp.ConfigAppVersion) {
		add(isakmp.ConfigAppVersion, []byte(appVersion))
	}
	if wants(isakmp.ConfigSupportedAttrs) {
		var b []byte
		for _, t := range supported {
			b = binary.BigEndian.AppendUint16(b, t)
		}
		add(isakmp.ConfigSupportedAttrs, b)
	}
	if unity {
		as = l.unityAttributes(as, wants)
	}
	if wants(isakmp.ConfigIP4Subnet) {
		nets := l.networks()
		for _, n := range nets[:min(len(nets), isakmp.MaxAttributes-len(as))] {
			as = append(as, isakmp.Attribute{Type: isakmp.ConfigIP4Subnet, Value: isakmp.PrefixID(n, 0, 0).Data})
		}
	}
	return as
}

// unityAttributes appends those of Cisco Unity. The networks come unasked, since
// a client that does not know them sends everything, or nothing, into the tunnel.
func (l *Lease) unityAttributes(as []isakmp.Attribute, wants func(uint16) bool) []isakmp.Attribute {
	str := func(typ uint16, s string) {
		if s != "" && wants(typ) {
			as = append(as, isakmp.Attribute{Type: typ, Value: []byte(s[:min(len(s), maxConfigText)])})
		}
	}
	str(isakmp.UnityBanner, l.Banner)
	str(isakmp.UnityDefaultDomain, l.Domain)
	str(isakmp.UnitySplitDNS, strings.Join(l.SplitDNS, ","))
	if l.SavePassword && wants(isakmp.UnitySavePassword) {
		as = append(as, isakmp.ShortAttribute(isakmp.UnitySavePassword, 1))
	}
	if l.PFS && wants(isakmp.UnityPFS) {
		as = append(as, isakmp.ShortAttribute(isakmp.UnityPFS, 1))
	}
	var nets []byte
	for _, n := range l.networks() {
		// Address, mask, and protocol and ports that nobody sets.
		nets = append(append(nets, isakmp.PrefixID(n, 0, 0).Data...), make([]byte, unityNetLen-8)...)
	}
	if len(nets) > 0 {
		as = append(as, isakmp.Attribute{Type: isakmp.UnitySplitInclude, Value: nets})
	}
	return as
}

// unityNetLen is the length of one network in a split-include.
const unityNetLen = 14

// networks are those that can be sent.
func (l *Lease) networks() []netip.Prefix {
	var out []netip.Prefix
	for _, n := range l.Networks {
		if n.Addr().Is4() && len(out) < maxConfigNetworks {
			out = append(out, n.Masked())
		}
	}
	return out
}

// parseLease reads a configuration that we are given. Attributes of the wrong
// length and unknown ones are passed over.
func parseLease(as []isakmp.Attribute) Lease {
	var l Lease
	addr := func(b []byte) netip.Addr {
		if len(b) != 4 {
			return netip.Addr{}
		}
		a, _ := netip.AddrFromSlice(b)
		return a
	}
	more := func(list []netip.Addr, b []byte) []netip.Addr {
		if a := addr(b); a.IsValid() && len(list) < maxConfigServers {
			return append(list, a)
		}
		return list
	}
	network := func(b []byte) {
		if n, ok := (isakmp.ID{Type: isakmp.IDIPv4Subnet, Data: b}).Prefix(); ok && len(l.Networks) < maxConfigNetworks {
			l.Networks = append(l.Networks, n)
		}
	}
	str := func(b []byte) string { return string(bytes.TrimRight(b[:min(len(b), maxConfigText)], "\x00")) }
	for _, a := range as {
		n, isNumber := a.Uint()
		switch a.Type {
		case isakmp.ConfigIP4Address:
			l.Address = addr(a.Value)
		case isakmp.ConfigIP4Netmask:
			l.Netmask = addr(a.Value)
		case isakmp.ConfigIP4DNS:
			l.DNS = more(l.DNS, a.Value)
		case isakmp.ConfigIP4NBNS:
			l.NBNS = more(l.NBNS, a.Value)
		case isakmp.ConfigAddressExpiry:
			if isNumber && n < 1<<32 {
				l.Expiry = time.Duration(n) * time.Second
			}
		case isakmp.ConfigIP4Subnet:
			network(a.Value)
		case isakmp.UnityBanner:
			l.Banner = str(a.Value)
		case isakmp.UnityDefaultDomain:
			l.Domain = str(a.Value)
		case isakmp.UnitySplitDNS:
			l.SplitDNS = strings.FieldsFunc(str(a.Value), func(r rune) bool { return r == ',' || r == ' ' || r == 0 })
		case isakmp.UnitySplitInclude:
			for b := a.Value; len(b) >= unityNetLen; b = b[unityNetLen:] {
				network(b[:8])
			}
		case isakmp.UnitySavePassword:
			l.SavePassword = isNumber && n != 0
		case isakmp.UnityPFS:
			l.PFS = isNumber && n != 0
		}
	}
	return l
}
