package radius

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	rad "layeh.com/radius"

	"vrgate/controlplane/aaa"
)

// std, vsa and u32 write attributes as servers do.
func std(t rad.Type, v string) *rad.AVP { return &rad.AVP{Type: t, Attribute: rad.Attribute(v)} }

func vsa(vendor uint32, t uint8, v string) *rad.AVP {
	return std(typeVendorSpecific, string(binary.BigEndian.AppendUint32(nil, vendor))+string([]byte{t, uint8(2 + len(v))})+v)
}

func u32(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }

func ip4(s string) string { return string(netip.MustParseAddr(s).AsSlice()) }

// TestTable: each line once, with a name of its own, and every rule has its line.
func TestTable(t *testing.T) {
	names, seen := map[string]bool{}, map[Attribute]bool{}
	for _, d := range definitions {
		if names[d.name] || seen[d.attribute] {
			t.Errorf("%s is there twice", d.name)
		}
		names[d.name], seen[d.attribute] = true, true
		if d.attribute.Type == 0 || d.name == "" {
			t.Errorf("%+v", d)
		}
	}
	for a := range acceptRules {
		if table[a] == nil {
			t.Errorf("%v has a rule and no line", a)
		}
	}
	for _, a := range changeable {
		if acceptRules[a] == nil {
			t.Errorf("%v can change and has no rule", a)
		}
	}
	for _, c := range []struct {
		a    Attribute
		want string
	}{
		{Attribute{0, 8}, "Framed-IP-Address"}, {Attribute{4874, 10}, "ERX-Ingress-Policy-Name"},
		{Attribute{9, 250}, "vendor 9 type 250"}, {Attribute{429, 0}, "vendor 429"}, {Attribute{0, 200}, "attribute 200"},
	} {
		if got := c.a.String(); got != c.want {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
}

// TestVendorSpecific: RFC 2865 section 5.26, and what can be wrong with it.
func TestVendorSpecific(t *testing.T) {
	hexAVP := func(s string) *rad.AVP {
		b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return std(typeVendorSpecific, string(b))
	}
	for _, c := range []struct {
		name   string
		avp    *rad.AVP
		values []string
		found  []Finding
	}{
		{"one", hexAVP("0000130a 0a 04 6162"), []string{`ERX-Ingress-Policy-Name "ab"`}, nil},
		{"two in one", hexAVP("0000130a 0a 04 6162 0b 04 6364"), []string{`ERX-Ingress-Policy-Name "ab"`, `ERX-Egress-Policy-Name "cd"`}, nil},
		{"a broken second", hexAVP("0000130a 0a 04 6162 0b 05 6364"), []string{`ERX-Ingress-Policy-Name "ab"`}, []Finding{{Attribute{4874, 0}, ProblemBroken}}},
		{"length 0", hexAVP("0000130a 0a 00"), nil, []Finding{{Attribute{4874, 0}, ProblemBroken}}},
		{"length 1", hexAVP("0000130a 0a 01 61"), nil, []Finding{{Attribute{4874, 0}, ProblemBroken}}},
		{"empty value", hexAVP("0000130a 0a 02"), nil, []Finding{{Attribute{4874, 10}, ProblemBadValue}}},
		{"no length", hexAVP("0000130a 0a"), nil, []Finding{{Attribute{4874, 0}, ProblemBroken}}},
		{"nothing", hexAVP("0000130a"), nil, []Finding{{Attribute{4874, 0}, ProblemBroken}}},
		{"short vendor", hexAVP("000013"), nil, []Finding{{Attribute{0, 26}, ProblemBroken}}},
		{"vendor of four bytes", hexAVP("0100130a 0a 04 6162"), nil, []Finding{{Attribute{0, 26}, ProblemBroken}}},
		{"unknown vendor", hexAVP("000001ad 0000abcd 00000001"), nil, []Finding{{Attribute{429, 0}, ProblemUnknown}}},
		{"unknown type", hexAVP("00000009 fa 03 61"), nil, []Finding{{Attribute{9, 250}, ProblemUnknown}}},
		{"wrong length of an address", hexAVP("0000130a 04 05 0a0000"), nil, []Finding{{Attribute{4874, 4}, ProblemBadValue}}},
	} {
		r := read(rad.Attributes{c.avp})
		var values []string
		for _, v := range r.values {
			values = append(values, v.String())
		}
		if !slices.Equal(values, c.values) || !slices.Equal(r.found, c.found) {
			t.Errorf("%s: %q, %v", c.name, values, r.found)
		}
	}
}

// TestDecode: every kind at its limits.
func TestDecode(t *testing.T) {
	for _, c := range []struct {
		kind kind
		in   string
		want string // value.String without name; empty: refused
	}{
		{integer, "\x00\x00\x01\x00", "256"}, {integer, "\x00\x00\x01", ""}, {integer, "\x00\x00\x01\x00\x00", ""},
		{address, "\x0a\x00\x00\x01", "10.0.0.1"}, {address, "\x0a\x00\x00", ""},
		{address6, "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01", "2001:db8::1"}, {address6, "\x20\x01", ""},
		{prefix6, "\x00\x20\x20\x01\x0d\xb8", "2001:db8::/32"}, {prefix6, "\x00\x00", "::/0"}, {prefix6, "\x00\x21\x20\x01\x0d\xb8", ""},
		{prefix6, "\x00\x81" + strings.Repeat("\x00", 16), ""}, {prefix6, "\x00\x10\x20\x01\x0d\xb8", "2001::/16"},
		{tagInteger, "\x00\x00\x00\x03", "3"}, {tagInteger, "\x1f\x00\x00\x03", "3"}, {tagInteger, "\x20\x00\x00\x03", "536870915"},
		{tagText, "\x01abc", `"abc"`}, {tagText, "abc", `"abc"`}, {tagText, "\x01", ""},
		{text, "abc\x00", `"abc"`}, {text, "\x00", ""}, {text, "a\xff", ""}, {text, strings.Repeat("x", 253), `"` + strings.Repeat("x", 253) + `"`},
		{text, strings.Repeat("x", 254), ""},
	} {
		d := definition{attribute: Attribute{Type: 200}, kind: c.kind}
		v, ok := d.decode([]byte(c.in))
		got := strings.TrimPrefix(v.String(), "attribute 200 ")
		if !ok {
			got = ""
		}
		if got != c.want {
			t.Errorf("kind %d, %q: %q, not %q", c.kind, c.in, got, c.want)
		}
	}
}

// TestFindingsBounded: a server that sends ever new attributes cannot fill the memory.
func TestFindingsBounded(t *testing.T) {
	var c Findings
	for vendor := range uint32(1000) {
		c.add([]Finding{{Attribute{vendor + 1, 1}, ProblemUnknown}})
	}
	counts := c.Counts()
	if len(counts) != MaxFindings+1 || counts[0].Attribute != (Attribute{}) || counts[0].Count != 1000-MaxFindings {
		t.Fatalf("%d findings, first %+v", len(counts), counts[0])
	}
	c.add([]Finding{{Attribute{2, 1}, ProblemUnknown}})
	if n := c.Counts()[2]; n.Attribute != (Attribute{2, 1}) || n.Count != 2 {
		t.Fatalf("%+v", n)
	}
	if got := (Finding{Attribute{9, 250}, ProblemUnknown}).String(); got != "vendor 9 type 250: unknown" {
		t.Error(got)
	}
}

// encoded writes values as attributes again.
func encoded(values []value) rad.Attributes {
	p := packer{room: 1 << 20}
	for _, v := range values {
		if v.attribute.Vendor == 0 {
			p.add(rad.Type(v.attribute.Type), v.octets)
		} else {
			p.vendor(v.attribute, v.octets)
		}
	}
	return p.out
}

func FuzzAttributes(f *testing.F) {
	add := func(attributes ...*rad.AVP) {
		p := packer{room: 1 << 20}
		for _, a := range attributes {
			p.add(a.Type, a.Attribute)
		}
		var b []byte
		for _, a := range p.out {
			b = append(append(b, byte(a.Type), byte(2+len(a.Attribute))), a.Attribute...)
		}
		f.Add(b)
	}
	add(fullAccept...)
	add(std(typeFramedIPAddress, ip4("255.255.255.254")), std(typeFilterID, "a"), vsa(4874, 10, "b"), std(99, "x"), std(200, "y"))
	for s := range ciscoRules {
		add(vsa(9, 1, s+"=10.0.0.1 255.255.255.0, 10.0.0.0/8 example.com"))
	}
	add(tagNumber(typeTunnelType, 1, 3), tagString(typeTunnelServer, 1, "192.0.2.7"), tagString(typeTunnelClient, 1, "192.0.2.8"), vsa(4874, 9, "\x01p"), vsa(4874, 33, u32(5)))
	add(vsa(14988, 8, "1M/2M 3M/4M 1M/1M 8/8 5 1k/1k"), std(typeFramedRoute, "10.0.0.0/8 0.0.0.0 1 tag 3"))
	f.Fuzz(func(t *testing.T, b []byte) {
		attributes, err := rad.ParseAttributes(b)
		if err != nil || len(b) > MaxPacket {
			return
		}
		r := read(attributes)
		again := read(encoded(r.values))
		if !reflect.DeepEqual(r.values, again.values) || len(again.found) != 0 {
			t.Fatalf("read again: %v, not %v", again.values, r.values)
		}
		for _, v := range r.values {
			if table[v.attribute] == nil || len(v.octets) == 0 {
				t.Fatalf("%+v", v)
			}
		}
		m := Method{MayMove: true}
		for _, r := range []aaa.Request{{Protocol: aaa.PAP}, {Protocol: aaa.MSCHAPv2}, {Protocol: aaa.EAP}} {
			for _, code := range []rad.Code{rad.CodeAccessAccept, rad.CodeAccessReject, rad.CodeAccessChallenge} {
				in := read(attributes)
				checkDecision(t, r, m.decide(r, Answer{Code: code, Attributes: attributes}, &in))
			}
		}
		c, _, err := ParseChange(attributes)
		if err != nil && !reflect.DeepEqual(c, aaa.Change{}) {
			t.Fatalf("an error and a change: %+v", c)
		}
		if c.Traffic != nil {
			checkTraffic(t, *c.Traffic)
		}
		c2, _, err2 := ParseChange(encoded(r.values))
		if err == nil && (err2 != nil || !reflect.DeepEqual(c, c2)) {
			t.Fatalf("changed again: %+v %v, not %+v", c2, err2, c)
		}
	})
}

// checkDecision: whatever a server sends, the bounds of aaa.Grants hold.
func checkDecision(t *testing.T, r aaa.Request, d aaa.Decision) {
	t.Helper()
	outcomes := 0
	for _, is := range []bool{d.Accept, d.Reason != "", d.Prompt != nil, d.Round != nil} {
		if is {
			outcomes++
		}
	}
	if outcomes != 1 {
		t.Fatalf("%d outcomes: %+v", outcomes, d)
	}
	if len(d.User) > aaa.MaxUserName || len(d.EAP) > aaa.MaxEAP || d.Accept && r.Protocol == aaa.MSCHAPv2 && len(d.MSCHAPv2Response) != 42 {
		t.Fatalf("%+v", d)
	}
	if d.Round != nil && (r.Protocol != aaa.EAP || len(d.Round.Packet) > aaa.MaxEAP || d.Round.Timeout > maxRoundTimeout) {
		t.Fatalf("%+v", d.Round)
	}
	g := d.Grants
	if !d.Accept {
		if !reflect.DeepEqual(g, aaa.Grants{}) {
			t.Fatalf("grants without accept: %+v", g)
		}
		return
	}
	if g.Address.IsValid() && !unicast(g.Address) || g.Gateway.IsValid() && !unicast(g.Gateway) {
		t.Fatalf("%v %v", g.Address, g.Gateway)
	}
	if g.SessionTimeout.Seconds() > maxSession || g.IdleTimeout.Seconds() > maxIdle || g.IdleTimeout > 0 && g.IdleTimeout.Seconds() < minIdle ||
		g.Interim > 0 && g.Interim.Seconds() < minInterim || g.MTU != 0 && (g.MTU < minMTU || g.MTU > maxMTU) {
		t.Fatalf("%v %v %v %d", g.SessionTimeout, g.IdleTimeout, g.Interim, g.MTU)
	}
	if len(g.Routes) > aaa.MaxRoutes || len(g.Class) > aaa.MaxClasses || len(g.Networks) > MaxNetworks || len(g.SplitDNS) > MaxSplitDNS ||
		len(g.Banner) > MaxBanner || len(g.IPv6Prefixes) > MaxPrefixes || len(g.DelegatedPrefixes) > MaxPrefixes ||
		len(g.Pool) > maxName || len(g.Terminating) > maxName || len(g.DefaultDomain) > maxValue {
		t.Fatalf("%+v", g)
	}
	for _, n := range g.Networks {
		if n != n.Masked() || !n.Addr().Is4() {
			t.Fatal(n)
		}
	}
	for _, r := range g.Routes {
		if r.Prefix != r.Prefix.Masked() || r.Prefix.Bits() == 0 || !unicast(r.Prefix.Addr()) {
			t.Fatal(r)
		}
	}
	for _, a := range append(g.DNS[:], g.NBNS[:]...) {
		if a.IsValid() && !unicast(a) {
			t.Fatal(a)
		}
	}
	checkTraffic(t, g.Traffic)
	if len(d.Tunnels) > aaa.MaxTunnels {
		t.Fatalf("%d tunnels", len(d.Tunnels))
	}
	for _, n := range d.Tunnels {
		if !n.Server.IsValid() || n.Server.IsMulticast() || n.Server.IsLoopback() || n.Client.IsValid() && n.Client.Is4() != n.Server.Is4() ||
			n.Preference > 0xffffff || n.MaxSessions < 0 || n.MaxSessions > maxTunnelSessions || !printable(n.ClientName+n.ServerName+n.Assignment+n.PrivateGroup) {
			t.Fatalf("%+v", n)
		}
	}
}

func checkTraffic(t *testing.T, x aaa.Traffic) {
	t.Helper()
	for _, r := range []rate{{x.In, x.InBurst}, {x.Out, x.OutBurst}} {
		if r.bits != 0 && (r.bits < minRate || r.bits > maxRate) || r.burst != 0 && (r.burst < minBurst || r.burst > maxBurst || r.bits == 0) {
			t.Fatalf("%+v", x)
		}
	}
	if len(x.InPolicy) > maxName || len(x.OutPolicy) > maxName || !printable(x.InPolicy+x.OutPolicy) {
		t.Fatalf("%+v", x)
	}
}

// dump prints attributes by name, one a line, for golden packets.
func dump(attributes rad.Attributes) string {
	var b strings.Builder
	r := read(attributes)
	for _, v := range r.values {
		switch table[v.attribute].kind {
		case octets:
			fmt.Fprintf(&b, "%s %s\n", v.attribute, quoted(v.octets))
		default:
			fmt.Fprintln(&b, v)
		}
	}
	for _, f := range r.found {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

// quoted is text as text and anything else in hexadecimal.
func quoted(b []byte) string {
	if bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' || r > '~' }) {
		return hex.EncodeToString(b)
	}
	return fmt.Sprintf("%q", b)
}
