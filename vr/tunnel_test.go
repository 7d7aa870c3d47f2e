package vr

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestTunnelNames: aliases say whose the interface is, whatever the tunnel's name; nobody else's is taken for one of ours, nor ours for
// another kind of ours; and numbers stay clear of those of access interfaces.
func TestTunnelNames(t *testing.T) {
	routers := []string{"red", "blue", "a", "a.to.b", "to", "x-y_z", strings.Repeat("r", maxName)}
	tunnels := []string{"hq", "to", "a tunnel b", " to x tunnel ", "x link y", "vrgate", strings.Repeat("t", MaxTunnelName)}
	passing := map[string]bool{}
	for _, from := range routers {
		for _, tunnel := range tunnels {
			name := tunnelPassing(from, tunnel)
			if len(name) > maxLinkName || passing[name] || !strings.HasPrefix(name, tunnelStem(from)) {
				t.Errorf("%s, %s: name %q", from, tunnel, name)
			}
			passing[name] = true
			for _, to := range routers {
				link := &netlink.Xfrmi{LinkAttrs: netlink.LinkAttrs{Name: "hq0", Alias: tunnelAlias(from, to, tunnel)}}
				if len(link.Alias) > maxAlias {
					t.Errorf("%d bytes of alias", len(link.Alias))
				}
				if f, to2, tunnel2, ours := tunnelOf(link); !ours || f != from || to2 != to || tunnel2 != tunnel {
					t.Errorf("%q is of %q to %q, %q, %t", link.Alias, f, to2, tunnel2, ours)
				}
				if _, _, _, ours := tunnelOf(&netlink.Dummy{LinkAttrs: link.LinkAttrs}); ours {
					t.Error("a device of another kind is ours")
				}
				if _, ours := parseOwnLink(link.Alias); ours {
					t.Errorf("%q is a link", link.Alias)
				}
				if _, _, ours := accessOf(link); ours {
					t.Errorf("%q is an access interface", link.Alias)
				}
				if _, _, _, ours := tunnelOf(&netlink.Xfrmi{LinkAttrs: netlink.LinkAttrs{Alias: accessAlias(from, to, LinkPolicy{ClampMSS: true}.text())}}); ours {
					t.Error("an access interface is a tunnel")
				}
				if n := tunnelNumber(from, to, tunnel); n < accessNumber(from, to, "")|0xffffff+linkTries {
					t.Errorf("number %#x", n)
				}
			}
		}
	}
	for _, alias := range []string{"", "vrgate", "vrgate red", "red to blue tunnel hq", "vrgate red to blue", "vrgate red tunnel hq", "vrgate a b to c tunnel hq"} {
		if _, _, _, ours := tunnelOf(&netlink.Xfrmi{LinkAttrs: netlink.LinkAttrs{Alias: alias}}); ours {
			t.Errorf("%q is ours", alias)
		}
	}
}

// TestTunnelSpec: what cannot be asked for is refused before the kernel is asked.
func TestTunnelSpec(t *testing.T) {
	good := func() TunnelSpec {
		return TunnelSpec{
			Tunnel: "head quarters", Name: "hq0", MTU: 1400, Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.255.1/32")},
			Routes: []TunnelRoute{{Network: netip.MustParsePrefix("10.2.0.0/16")}, {Network: netip.MustParsePrefix("0.0.0.0/0"), Metric: 5}},
		}
	}
	for _, tc := range []struct {
		what   string
		change func(*TunnelSpec)
		bad    bool
	}{
		{"good", func(*TunnelSpec) {}, false},
		{"least MTU", func(s *TunnelSpec) { s.MTU = MinLinkMTU }, false},
		{"greatest MTU", func(s *TunnelSpec) { s.MTU = MaxTunnelMTU }, false},
		{"no tunnel", func(s *TunnelSpec) { s.Tunnel = "" }, true},
		{"long name", func(s *TunnelSpec) { s.Tunnel = strings.Repeat("x", MaxTunnelName+1) }, true},
		{"name of two lines", func(s *TunnelSpec) { s.Tunnel = "a\nb" }, true},
		{"no interface", func(s *TunnelSpec) { s.Name = "" }, true},
		{"long interface", func(s *TunnelSpec) { s.Name = "sixteen-bytes-of" }, true},
		{"path", func(s *TunnelSpec) { s.Name = "../x" }, true},
		{"small MTU", func(s *TunnelSpec) { s.MTU = MinLinkMTU - 1 }, true},
		{"great MTU", func(s *TunnelSpec) { s.MTU = MaxTunnelMTU + 1 }, true},
		{"IPv6", func(s *TunnelSpec) { s.Addresses[0] = netip.MustParsePrefix("2001:db8::1/64") }, true},
		{"no address", func(s *TunnelSpec) { s.Addresses[0] = netip.Prefix{} }, true},
		{"route with host bits", func(s *TunnelSpec) { s.Routes[0].Network = netip.MustParsePrefix("10.2.0.1/16") }, true},
		{"no route", func(s *TunnelSpec) { s.Routes[0].Network = netip.Prefix{} }, true},
	} {
		s := good()
		tc.change(&s)
		err := s.check("red")
		var bad *BadSpec
		if errors.As(err, &bad) != tc.bad || err != nil != tc.bad {
			t.Errorf("%s: %v", tc.what, err)
		}
	}
}
