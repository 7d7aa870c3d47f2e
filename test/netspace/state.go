package netspace

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// attempts bounds how often State asks again because something has changed while it was told.
const attempts = 10

// fallback devices appear by themselves in every namespace when somebody anywhere first makes a tunnel of their kind.
var fallback = []string{"tunl0", "gre0", "gretap0", "erspan0"}

// State says in words what a namespace has: links, addresses, routes, rules, SAs, policies, and tables of nftables.
// Keys, what counts or ages, and what comes by itself are left out, so that two states can be compared.
func State(ns int) (string, error) {
	var b strings.Builder
	var err error = netlink.ErrDumpInterrupted
	for i := 0; i < attempts && errors.Is(err, netlink.ErrDumpInterrupted); i++ {
		b.Reset()
		err = at(ns, func(h *netlink.Handle) error { return describe(&b, h) })
	}
	if err != nil {
		return "", err
	}
	nft, err := nftables.New(nftables.WithNetNSFd(ns))
	if err != nil {
		return "", err
	}
	tables, err := nft.ListTables()
	if err != nil {
		return "", err
	}
	section(&b, "tables", words(tables, func(t *nftables.Table) string { return fmt.Sprintf("family %d %s", t.Family, t.Name) }))
	return b.String(), nil
}

func section(b *strings.Builder, title string, lines []string) {
	slices.Sort(lines) // dumps have no order of their own
	fmt.Fprintf(b, "# %s\n%s\n", title, strings.Join(lines, "\n"))
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
	section(b, "links", words(links, func(l netlink.Link) string {
		a := l.Attrs()
		if slices.Contains(fallback, a.Name) {
			return ""
		}
		return fmt.Sprintf("%s %s mtu %d %v master %q", a.Name, l.Type(), a.MTU, a.Flags&net.FlagUp, name[a.MasterIndex])
	}))
	addresses, err := h.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	section(b, "addresses", words(addresses, func(a netlink.Addr) string { return fmt.Sprint(name[a.LinkIndex], a.IPNet, a.Peer) }))
	routes, err := h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return err
	}
	section(b, "routes", words(routes, func(r netlink.Route) string {
		return fmt.Sprint(r.Dst, " via ", r.Gw, " dev ", name[r.LinkIndex], " src ", r.Src, " table ", r.Table, " type ", r.Type, " metric ", r.Priority)
	}))
	rules, err := h.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	section(b, "rules", words(rules, func(r netlink.Rule) string {
		if r.Protocol == unix.RTPROT_KERNEL && r.Table == unix.RT_TABLE_UNSPEC { // the kernel's for VRFs, which comes with the first and stays
			return ""
		}
		return r.String()
	}))
	states, err := h.XfrmStateList(netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	section(b, "SAs", words(states, func(s netlink.XfrmState) string { // never the whole: it prints keys
		return fmt.Sprintf("%v > %v %v spi %#x reqid %d %v if %d", s.Src, s.Dst, s.Proto, s.Spi, s.Reqid, s.Mode, s.Ifid)
	}))
	policies, err := h.XfrmPolicyList(netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	section(b, "policies", words(policies, func(p netlink.XfrmPolicy) string {
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
