//go:build kernel

package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"vrgate/test/netspace"
)

// TestPolicies: policies are added once, updated in place, listed as they are, and removed by what they are
// about; iproute2 sees them as meant; those of other addresses and other people's stay (A8).
func TestPolicies(t *testing.T) {
	space := netspace.New(t)
	k := openKernel(t, space)
	if err := SetHashThresholds(space.NetNS()); err != nil {
		t.Fatal(err)
	}
	policy := func(conn uint32, dir PolicyDirection, local string) Policy {
		host, any := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(conn)}), 32), netip.MustParsePrefix("0.0.0.0/0")
		p := Policy{Mode: Tunnel, Dir: dir, Src: host, Dst: any, IfID: 0x56000001, Reqid: Tag(conn), Local: netip.MustParseAddr(local), Remote: netip.MustParseAddr(clientAddr)}
		if dir == PolicyOut {
			p.Src, p.Dst = any, host
		}
		return p
	}
	var want []string
	for _, dir := range []PolicyDirection{PolicyIn, PolicyOut, PolicyForward} {
		for conn, local := range map[uint32]string{1: serverAddr, 2: serverAddr, 3: "192.0.2.9"} {
			p := policy(conn, dir, local)
			if err := k.AddPolicy(p); err != nil {
				t.Fatal(err)
			}
			if err := k.AddPolicy(p); !errors.Is(err, ErrExists) {
				t.Errorf("%v twice: %v", p, err)
			}
			if dir != PolicyOut {
				p.Remote = netip.Addr{}
			}
			want = append(want, fmt.Sprintf("%+v %v %v %#x", p, p.Local, p.Remote, p.Reqid))
		}
	}
	list := func() []string {
		t.Helper()
		policies, err := k.ListPolicies()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range policies {
			got = append(got, fmt.Sprintf("%+v %v %v %#x", p, p.Local, p.Remote, p.Reqid))
		}
		slices.Sort(got)
		return got
	}
	slices.Sort(want)
	if got := list(); !slices.Equal(got, want) {
		t.Errorf("listed\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	moved := policy(1, PolicyOut, serverAddr)
	moved.Remote = netip.MustParseAddr(otherAddr)
	if err := k.UpdatePolicy(moved); err != nil {
		t.Error(err)
	}
	text := space.Run(t, "ip", "xfrm", "policy", "list", "dir", "out")
	for _, w := range []string{"src 0.0.0.0/0 dst 10.9.0.1/32", "tmpl src " + serverAddr + " dst " + otherAddr, "proto esp reqid " + fmt.Sprint(Tag(1)) + " mode tunnel", "if_id 0x56000001"} {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in\n%s", w, text)
		}
	}
	if n := strings.Count(text, "10.9.0.1/32"); n != 1 {
		t.Errorf("%d policies after the update:\n%s", n, text)
	}
	// The same policy of another interface, and one that is not ours.
	space.Run(t, "ip", "xfrm", "policy", "add", "dir", "in", "src", "10.9.0.1/32", "dst", "0.0.0.0/0", "if_id", "5")
	for range 2 {
		if err := k.RemovePolicy(policy(1, PolicyIn, serverAddr)); err != nil {
			t.Error(err)
		}
	}
	if text := space.Run(t, "ip", "xfrm", "policy", "list", "dir", "in"); strings.Count(text, "10.9.0.1/32") != 1 || !strings.Contains(text, "if_id 0x5\n") {
		t.Errorf("removed more, or less, than asked:\n%s", text)
	}
	if n, err := k.FlushPoliciesOf(netip.MustParseAddr(serverAddr)); n != 5 || err != nil {
		t.Errorf("FlushPoliciesOf: %d, %v", n, err)
	}
	if n, err := k.FlushPolicies(); n != 3 || err != nil {
		t.Errorf("FlushPolicies: %d, %v", n, err)
	}
	if text := space.Run(t, "ip", "xfrm", "policy"); strings.Count(text, "dir ") != 1 || !strings.Contains(text, "if_id 0x5\n") {
		t.Errorf("left:\n%s", text)
	}
}

// TestTunnelSA: a tunnel mode SA has its interface and both networks, also after its peer has moved.
func TestTunnelSA(t *testing.T) {
	space := netspace.New(t)
	k := openKernel(t, space)
	in, out := pair(4, serverAddr, clientAddr, &Encap{4500, 40001})
	inner, any := netip.MustParsePrefix("10.9.0.1/32"), netip.MustParsePrefix("10.1.0.0/16")
	for _, sa := range []*SA{&in, &out} {
		sa.Mode, sa.IfID, sa.SetMark = Tunnel, 0x56000001, 0
	}
	in.Selector, out.Selector = Selector{Src: inner, Dst: any}, Selector{Src: any, Dst: inner}
	if err := k.AddPair(in, out); err != nil {
		t.Fatal(err)
	}
	check := func(sa SA) {
		t.Helper()
		got, err := k.Lookup(sa.ID())
		if err != nil || got.IfID != sa.IfID || got.Mode != Tunnel || got.Selector != sa.Selector || got.SetMark != 0 {
			t.Errorf("%+v, %v", got, err)
		}
		text := space.Run(t, "ip", "xfrm", "state", "get", "src", sa.src().String(), "dst", sa.ID().Dst.String(), "proto", "esp", "spi", fmt.Sprint(sa.SPI))
		for _, w := range []string{"mode tunnel", "if_id 0x56000001", "sel src " + sa.Selector.Src.String() + " dst " + sa.Selector.Dst.String()} {
			if !strings.Contains(text, w) {
				t.Errorf("no %q in\n%s", w, text)
			}
		}
	}
	check(in)
	check(out)
	for _, sa := range []SA{in, out} {
		moved := sa
		moved.Remote, moved.Encap = netip.MustParseAddr(otherAddr), &Encap{4500, 40002}
		if err := k.Update(sa, moved); err != nil {
			t.Fatal(err)
		}
		check(moved)
	}
}
