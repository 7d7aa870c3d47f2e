//go:build kernel

package e2e

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// kernelState is everything that vrgate could leave in the server's namespace, in words. Keys and what counts
// or ages is left out. It asks the kernel itself: tests look often, and each program that is started takes the
// better part of a tenth of a second under software emulation.
func (w *world) kernelState() string {
	w.t.Helper()
	var b strings.Builder
	w.check(w.server.Do(func() error {
		ns, err := netns.Get()
		if err != nil {
			return err
		}
		defer ns.Close()
		h, err := netlink.NewHandleAt(ns)
		if err != nil {
			return err
		}
		defer h.Close()
		return describe(&b, h)
	}))
	for _, cmd := range []string{"ip l2tp show tunnel", "nft list tables"} {
		args := strings.Fields(cmd)
		out, err := w.server.Output(w.ctx, args[0], args[1:]...)
		if err != nil && !strings.Contains(cmd, "l2tp") { // no module, no tunnels
			w.check(err)
		}
		fmt.Fprintf(&b, "# %s\n%s", cmd, out)
	}
	return b.String()
}

func describe(b *strings.Builder, h *netlink.Handle) error {
	links, err := h.LinkList()
	if err != nil {
		return err
	}
	name := map[int]string{}
	for _, l := range links {
		name[l.Attrs().Index] = l.Attrs().Name
	}
	section := func(title string, lines []string) {
		slices.Sort(lines) // dumps have no order of their own
		fmt.Fprintf(b, "# %s\n%s\n", title, strings.Join(lines, "\n"))
	}
	section("links", words(links, func(l netlink.Link) string {
		a := l.Attrs()
		return fmt.Sprintf("%s %s mtu %d %v master %q", a.Name, l.Type(), a.MTU, a.Flags&net.FlagUp, name[a.MasterIndex])
	}))
	addresses, err := h.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	section("addresses", words(addresses, func(a netlink.Addr) string { return fmt.Sprint(name[a.LinkIndex], a.IPNet, a.Peer) }))
	routes, err := h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return err
	}
	section("routes", words(routes, func(r netlink.Route) string {
		return fmt.Sprint(r.Dst, " via ", r.Gw, " dev ", name[r.LinkIndex], " src ", r.Src, " table ", r.Table, " type ", r.Type, " metric ", r.Priority)
	}))
	rules, err := h.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	section("rules", words(rules, netlink.Rule.String))
	states, err := h.XfrmStateList(netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	section("SAs", words(states, func(s netlink.XfrmState) string { // never the whole: it prints keys
		return fmt.Sprintf("%v > %v %v spi %#x reqid %d %v if %d", s.Src, s.Dst, s.Proto, s.Spi, s.Reqid, s.Mode, s.Ifid)
	}))
	policies, err := h.XfrmPolicyList(netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	section("policies", words(policies, func(p netlink.XfrmPolicy) string {
		if p.Dir > netlink.XFRM_DIR_FWD { // a socket's
			return ""
		}
		return fmt.Sprintf("%v > %v proto %v ports %d %d %v priority %d if %d mark %+v %+v", p.Src, p.Dst, p.Proto, p.SrcPort, p.DstPort, p.Dir, p.Priority, p.Ifid, p.Mark, p.Tmpls)
	}))
	return nil
}

// words turns things into lines.
func words[T any](list []T, line func(T) string) (out []string) {
	for _, x := range list {
		if s := line(x); s != "" {
			out = append(out, s)
		}
	}
	return out
}
