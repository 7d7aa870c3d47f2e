package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"vrgate/controlplane/api"
)

// table prints rows in columns.
type table struct {
	w   *tabwriter.Writer
	err error
}

func newTable(w io.Writer, columns ...string) *table {
	t := &table{w: tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	t.row(columns...)
	return t
}

// row prints one row; an empty cell is a dash, so that columns can be counted.
func (t *table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = cmp.Or(printable(c), "-")
	}
	if _, err := fmt.Fprintln(t.w, strings.Join(cells, "\t")); err != nil && t.err == nil {
		t.err = err
	}
}

// printable has what clients send, such as their names, write nothing but itself on a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

func (t *table) end() error {
	if err := t.w.Flush(); err != nil && t.err == nil {
		t.err = err
	}
	return t.err
}

func vrTable(w io.Writer, vrs []api.VR, detail bool) error {
	if detail {
		return details(w, vrs)
	}
	t := newTable(w, "NAME", "KIND", "PLACE", "STATE", "ADDRESSES", "NAT-T", "PROPOSALS", "IKE", "IPSEC", "TUNNELS", "SESSIONS", "STATIC", "UP", "POOLS", "LICENCES")
	for i := range vrs {
		v := &vrs[i]
		t.row(v.Name, v.Kind, place(v), state(v), addresses(v.ServerAddresses), onOff(v.NATT), v.Proposals,
			strconv.Itoa(v.IKESAs), strconv.Itoa(v.Connections), strconv.Itoa(v.Tunnels), strconv.Itoa(v.Sessions), staticCount(v.StaticTunnels),
			strconv.Itoa(v.Subscribers.Up), pools(v.Pools), licences(v.Licences))
	}
	return t.end()
}

func place(v *api.VR) string {
	ns := cmp.Or(v.Namespace, "(own)")
	if v.Device == "" {
		return ns
	}
	return fmt.Sprintf("%s/%s table %d", ns, v.Device, v.Table)
}

func state(v *api.VR) string {
	if v.Reason == "" {
		return v.State
	}
	return v.State + " (" + v.Reason + ")"
}

func pools(ps []api.Pool) string {
	words := make([]string, len(ps))
	for i, p := range ps {
		words[i] = fmt.Sprintf("%s %d/%d", p.Name, p.Used, p.Size)
	}
	return strings.Join(words, ", ")
}

// licences prints the licences that are bounded.
func licences(l api.Licences) string {
	var words []string
	add := func(name string, x api.Licence) {
		if x.Limit > 0 {
			words = append(words, fmt.Sprintf("%s %d/%d", name, x.Used, x.Limit))
		}
	}
	add("subscribers", l.Subscribers)
	add("ipsec-tunnels", l.IPsecTunnels)
	return strings.Join(words, ", ")
}

func licenceTable(w io.Writer, rows []licenceView, detail bool) error {
	if detail {
		return details(w, rows)
	}
	t := newTable(w, "VR", "SUBSCRIBERS", "OF", "IPSEC TUNNELS", "OF")
	of := func(x api.Licence) string {
		if x.Limit == 0 {
			return "unlimited"
		}
		return strconv.Itoa(x.Limit)
	}
	for _, r := range rows {
		t.row(cmp.Or(r.VR, "(all)"), strconv.Itoa(r.Subscribers.Used), of(r.Subscribers), strconv.Itoa(r.IPsecTunnels.Used), of(r.IPsecTunnels))
	}
	return t.end()
}

func policyTable(w io.Writer, rules []api.IKEPolicyRule, detail bool) error {
	if detail {
		return details(w, rules)
	}
	t := newTable(w, "VR", "PRIORITY", "AUTHENTICATION", "ENCRYPTION", "HASH", "GROUP", "LIFETIME", "AGGRESSIVE MODE", "ADDRESS")
	for i := range rules {
		r := &rules[i]
		t.row(r.VR, strconv.Itoa(r.Priority), r.Authentication, strings.Join(r.Encryption, ","), strings.Join(r.Hash, ","), strings.Join(r.Group, ","),
			seconds(r.LifetimeSeconds), r.AggressiveMode, cmp.Or(r.LocalAddress, "any"))
	}
	return t.end()
}

func profileTable(w io.Writer, profiles []api.TunnelProfile, detail bool) error {
	if detail {
		return details(w, profiles)
	}
	t := newTable(w, "VR", "PROFILE", "ADDRESS", "LOCAL ID", "PEER IDS", "KEYS", "CERTIFICATE", "SUBSCRIBERS", "XAUTH", "IP PROFILE", "TERMINATES IN",
		"NETWORKS", "TRANSFORMS", "PFS", "LIFETIME", "MTU")
	for i := range profiles {
		p := &profiles[i]
		live := strconv.Itoa(p.Subscribers)
		if p.MaxSubscribers > 0 {
			live += "/" + strconv.Itoa(p.MaxSubscribers)
		}
		t.row(p.VR, p.Name, cmp.Or(p.LocalAddress, "any"), p.LocalIdentity, cmp.Or(strings.Join(p.PeerIdentities, ", "), "any"), strings.Join(p.Keys, ", "),
			p.Certificate, live, p.ExtendedAuthentication, p.IPProfile, p.TerminatingVR, networks(p.Networks), strings.Join(p.Transforms, ","), p.PFS,
			seconds(p.LifetimeSeconds), strconv.Itoa(p.MTU))
	}
	return t.end()
}

func certificateTable(w io.Writer, certs []api.Certificate, detail bool) error {
	if detail {
		return details(w, certs)
	}
	t := newTable(w, "VR", "KIND", "NAME", "STATE", "UNTIL", "SUBJECT", "ISSUER", "REVOKED")
	for i := range certs {
		c := &certs[i]
		until, revoked := "", ""
		if !c.NotAfter.IsZero() {
			until = c.NotAfter.UTC().Format(time.DateTime)
		}
		if c.Kind == "crl" {
			revoked = strconv.Itoa(c.Revoked)
		}
		t.row(c.VR, c.Kind, c.Name, c.State, until, c.Subject, c.Issuer, revoked)
	}
	return t.end()
}

// networks prints what is reachable through a tunnel.
func networks(ps []netip.Prefix) string {
	if len(ps) == 0 {
		return "everything"
	}
	words := make([]string, len(ps))
	for i, p := range ps {
		words[i] = p.String()
	}
	return strings.Join(words, ",")
}

func ikeTable(w io.Writer, sas []api.IKESA, detail bool) error {
	if detail {
		return details(w, sas)
	}
	t := newTable(w, "VR", "LOCAL", "REMOTE", "REMAINING", "STATE", "MODE", "LOCAL COOKIE", "REMOTE COOKIE", "NAT-T", "PEER ID", "PEER", "TUNNEL", "AUTHENTICATION", "KEY", "PROPOSAL")
	for i := range sas {
		s := &sas[i]
		t.row(s.VR, addrPort(s.Local), addrPort(s.Remote), seconds(s.RemainingSeconds), s.State, s.Mode, s.LocalCookie, s.RemoteCookie,
			onOff(s.NATT), s.PeerID, s.Peer, s.Tunnel, s.Authentication, cmp.Or(s.Key, s.Subject), s.Proposal)
	}
	return t.end()
}

func ipsecTable(w io.Writer, conns []api.IPsec, detail bool) error {
	if detail {
		return details(w, conns)
	}
	t := newTable(w, "VR", "CONN", "STATE", "FOR", "PROFILE", "LOCAL", "REMOTE", "SELECTORS", "NAT", "SPI IN/OUT", "TRANSFORM", "REMAINING", "IN", "OUT", "ERRORS")
	for i := range conns {
		c := &conns[i]
		in, out := newest(c.Inbound), newest(c.Outbound)
		var inBytes, outBytes, bad uint64
		for _, s := range c.Inbound {
			inBytes += s.Bytes
			bad += s.AuthErrors + s.ReplayErrors
		}
		for _, s := range c.Outbound {
			outBytes += s.Bytes
		}
		t.row(c.VR, strconv.FormatUint(uint64(c.Connection), 10), c.State, c.Application, c.Profile, addrPort(c.Local), addrPort(c.Remote), tunnelled(c), nat(c),
			cmp.Or(in.SPI, "-")+"/"+cmp.Or(out.SPI, "-"), cmp.Or(out.Transform, in.Transform), seconds(cmp.Or(out.RemainingSeconds, in.RemainingSeconds)),
			byteSize(inBytes), byteSize(outBytes), strconv.FormatUint(bad, 10))
	}
	return t.end()
}

// tunnelled are the networks that a dynamic subscriber or a static tunnel has negotiated, our side first.
func tunnelled(c *api.IPsec) string {
	if c.Application == "l2tp" || c.LocalSelector == "" {
		return ""
	}
	return c.LocalSelector + " - " + c.RemoteSelector
}

// newest is the SA with most time left; during a rekey there are several.
func newest(sas []api.IPsecSA) api.IPsecSA {
	var best api.IPsecSA
	for _, s := range sas {
		if best.SPI == "" || s.RemainingSeconds > best.RemainingSeconds {
			best = s
		}
	}
	return best
}

func nat(c *api.IPsec) string {
	var words []string
	if c.NATPeer {
		words = append(words, "peer")
	}
	if c.NATLocal {
		words = append(words, "us")
	}
	if c.UDPEncapsulation {
		words = append(words, "udp")
	}
	return strings.Join(words, "+")
}

func subscriberTable(w io.Writer, subs []api.Subscriber, detail bool) error {
	if detail {
		return details(w, subs)
	}
	t := newTable(w, "ID", "USER", "TYPE", "STATE", "ADDRESS", "SOURCE", "VR", "TERMINATES IN", "INTERFACE", "PROFILE", "FROM", "CLIENT", "UP", "IN", "OUT")
	for i := range subs {
		s := &subs[i]
		from := s.VR
		t.row(s.ID, s.User, s.Access, s.State, addr(s.Address), s.AddressSource, from, s.TerminatingVR, s.Interface, s.Profile,
			addrPort(s.Remote), cmp.Or(s.Peer, s.RemoteHost), age(s.Up), byteSize(s.InBytes), byteSize(s.OutBytes))
	}
	return t.end()
}

func addr(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func addresses(as []netip.Addr) string {
	words := make([]string, len(as))
	for i, a := range as {
		words[i] = a.String()
	}
	return strings.Join(words, ",")
}

func addrPort(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func number(n uint16) string { return strconv.Itoa(int(n)) }

func connection(n uint32) string {
	if n == 0 {
		return "clear"
	}
	return strconv.FormatUint(uint64(n), 10)
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func seconds(s int64) string { return (time.Duration(s) * time.Second).String() }

// age is how long ago t was, in whole seconds; empty for never.
func age(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return time.Since(t).Truncate(time.Second).String()
}

// byteSize prints a size with a binary unit, exactly below 10 KiB.
func byteSize(n uint64) string {
	const units = "KMGTPE"
	if n < 10<<10 {
		return strconv.FormatUint(n, 10)
	}
	f, unit := float64(n), -1
	for f >= 1024 && unit < len(units)-1 {
		f /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f%ci", f, units[unit])
}

// details prints every field of every row, one a line, under the names that the
// JSON output uses.
func details[T any](w io.Writer, rows []T) error {
	for i := range rows {
		tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		if err := fields(tw, "", reflect.ValueOf(rows[i])); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(tw); err != nil {
			return err
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// fields prints the fields of a struct; structs inside it, and lists of them,
// are indented below their name. What JSON leaves out because there is nothing to say is one dash.
func fields(w io.Writer, indent string, v reflect.Value) error {
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		f := v.Field(i)
		if v.Type().Field(i).Anonymous { // JSON has its fields at this level
			if err := fields(w, indent, f); err != nil {
				return err
			}
			continue
		}
		plain := isPlain(f.Type())
		if f.Kind() == reflect.Slice && !isPlain(f.Type().Elem()) {
			for j := range f.Len() {
				if _, err := fmt.Fprintf(w, "%s%s %d:\n", indent, name, j+1); err != nil {
					return err
				}
				if err := fields(w, indent+"  ", f.Index(j)); err != nil {
					return err
				}
			}
			continue
		}
		if !plain && f.Kind() == reflect.Struct && (options != "omitzero" || !f.IsZero()) {
			if _, err := fmt.Fprintf(w, "%s%s:\n", indent, name); err != nil {
				return err
			}
			if err := fields(w, indent+"  ", f); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintf(w, "%s%s\t%s\n", indent, name, plainText(f)); err != nil {
			return err
		}
	}
	return nil
}

// isPlain says whether a value of type t is one word in JSON.
func isPlain(t reflect.Type) bool {
	return t.Kind() != reflect.Struct || t.Implements(reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]())
}

func plainText(v reflect.Value) string {
	if v.IsZero() && v.Kind() == reflect.Struct {
		return "-"
	}
	if t, ok := v.Interface().(time.Time); ok {
		return t.Format(time.RFC3339) // nobody reads fractions of a second
	}
	if v.Kind() == reflect.Map {
		var words []string
		for _, k := range slices.SortedFunc(slices.Values(v.MapKeys()), func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) }) {
			words = append(words, k.String()+" "+plainText(v.MapIndex(k)))
		}
		return cmp.Or(strings.Join(words, ", "), "-")
	}
	if v.Kind() == reflect.Slice {
		words := make([]string, v.Len())
		for i := range v.Len() {
			words[i] = plainText(v.Index(i))
		}
		return cmp.Or(strings.Join(words, ", "), "-")
	}
	data, err := json.Marshal(v.Interface())
	if err != nil {
		return "-"
	}
	var s string
	if json.Unmarshal(data, &s) == nil {
		return cmp.Or(printable(s), "-")
	}
	return string(data)
}

// ipsecErrorTable leaves out what has never happened.
func ipsecErrorTable(w io.Writer, list []api.IPsecError, detail bool) error {
	if detail {
		return details(w, list)
	}
	t := newTable(w, "VR", "KIND", "COUNT", "SHARED WITH", "WHAT IT MAY BE")
	for i := range list {
		if e := &list[i]; e.Value > 0 {
			t.row(e.VR, e.Kind, strconv.FormatUint(e.Value, 10), strings.Join(e.Shared, ","), e.Text)
		}
	}
	return t.end()
}
