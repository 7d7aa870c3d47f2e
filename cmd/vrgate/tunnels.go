package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vrgate/controlplane/api"
	"vrgate/controlplane/config"
)

// showTunnels is `show tunnels`: all static tunnels in a table, or every field of one.
func showTunnels(ask *asking) *cobra.Command {
	c := showing(ask, "tunnels", "Static IPsec tunnels, all or the one with this name: state, peers, networks, traffic", (*api.Client).Tunnels, tunnelTable)
	c.Use = "tunnels [NAME]"
	c.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 1 {
			return &usageError{errors.New("one name, or none for all static tunnels")}
		}
		return nil
	}
	vr, detail := c.Flag("vr"), c.Flag("detail")
	c.RunE = func(c *cobra.Command, args []string) error {
		named := func(client *api.Client, ctx context.Context, f api.Filter) ([]api.Tunnel, error) {
			list, err := client.Tunnels(ctx, f)
			if err != nil || len(args) == 0 {
				return list, err
			}
			return tunnelNamed(list, args[0])
		}
		return show(c, ask, api.Filter{VR: vr.Value.String()}, detail.Value.String() == "true" || len(args) > 0, named, tunnelTable)
	}
	c.ValidArgsFunction = completeTunnel(ask)
	return c
}

func tunnelNamed(list []api.Tunnel, name string) ([]api.Tunnel, error) {
	var names []string
	for i := range list {
		if list[i].Name == name {
			return list[i : i+1], nil
		}
		names = append(names, list[i].Name)
	}
	return nil, fmt.Errorf("there is no static tunnel %q%s", name, config.Suggest(name, names))
}

func completeTunnel(ask *asking) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		client, err := ask.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return known(c.Context(), client, "tunnel"), cobra.ShellCompDirectiveNoFileComp
	}
}

func tunnelTable(w io.Writer, tunnels []api.Tunnel, detail bool) error {
	if detail {
		return details(w, tunnels)
	}
	t := newTable(w, "VR", "TUNNEL", "MODE", "STATE", "SINCE", "PEER", "NETWORKS", "UP", "INTERFACE", "CHECK", "FALL-OVERS", "IN", "OUT", "WHY")
	for i := range tunnels {
		x := &tunnels[i]
		in, out := x.Inside.InBytes, x.Inside.OutBytes
		if x.Interface.Name == "" {
			in, out = x.Outside.InBytes, x.Outside.OutBytes
		}
		t.row(x.VR, x.Name, x.Mode, x.State, age(x.Since), tunnelPeer(x), pairs(x.Networks), pairsUp(x.Networks), x.Interface.Name, checked(&x.Check),
			count(x.FallOvers), byteSize(in), byteSize(out), why(x))
	}
	return t.end()
}

// tunnelPeer is the present peer, or else who may be it.
func tunnelPeer(x *api.Tunnel) string {
	if x.RemoteAddress.IsValid() {
		return x.RemoteAddress.String()
	}
	words := make([]string, len(x.Peers))
	for i := range x.Peers {
		words[i] = x.Peers[i].Peer
	}
	return cmp.Or(strings.Join(words, ","), "any")
}

// shownPairs is how many pairs of networks a table has room for.
const shownPairs = 2

func pairs(list []api.TunnelNetwork) string {
	var words []string
	for i := range list[:min(len(list), shownPairs)] {
		n := &list[i]
		word := n.Local.String() + " - " + n.Remote.String()
		if !n.Local.IsValid() || !n.Remote.IsValid() {
			word = "protocol " + strconv.Itoa(int(n.Protocol))
		}
		words = append(words, word)
	}
	if more := len(list) - shownPairs; more > 0 {
		words = append(words, fmt.Sprintf("%d more", more))
	}
	return strings.Join(words, ", ")
}

func pairsUp(list []api.TunnelNetwork) string {
	up := 0
	for i := range list {
		if list[i].State == "up" {
			up++
		}
	}
	return fmt.Sprintf("%d/%d", up, len(list))
}

// checked is the last result of the connectivity check.
func checked(c *api.TunnelCheck) string {
	switch {
	case !c.Target.IsValid():
		return ""
	case c.At.IsZero():
		return "not yet"
	case c.OK:
		return time.Duration(c.RTTSeconds * float64(time.Second)).Round(100 * time.Microsecond).String()
	}
	return fmt.Sprintf("failed %d/%d", c.Failed, c.Tolerance)
}

// why says why a tunnel is not up, or what is not as configured though it is.
func why(x *api.Tunnel) string {
	out := x.Reason
	if x.Text != "" {
		out += ": " + x.Text
	}
	if x.State == "down" && x.FailedRounds > 0 && x.LastFailure.Reason != "" { // it rests, but has been dialled in vain
		out += "; last dialled in vain: " + x.LastFailure.Reason
	}
	if !x.RetryAt.IsZero() {
		out += " (again in " + max(time.Until(x.RetryAt), 0).Truncate(time.Second).String() + ")"
	}
	if i := slices.IndexFunc(x.Networks, func(n api.TunnelNetwork) bool { return n.Reason != "" }); i >= 0 {
		n := &x.Networks[i]
		out = "networks " + n.Name + ": " + n.Reason
		if n.Text != "" {
			out += ": " + n.Text
		}
	}
	if x.KernelReason != "" {
		out = x.KernelReason + ": " + x.KernelText
	}
	return out
}

// tunnelCommand says words about static tunnels.
func tunnelCommand(dir *string) *cobra.Command {
	ask := &asking{dir: dir}
	c := &cobra.Command{
		Use:   "tunnel",
		Short: "Take static IPsec tunnels up and down",
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	ask.flags(c)
	c.AddCommand(
		tunnelWord(ask, api.TunnelUp, "Let a tunnel come up that was taken down, and dial it"),
		tunnelWord(ask, api.TunnelDown, "Take a tunnel down: it is neither dialled nor answered until `up`, or until a reload changes it"),
		tunnelWord(ask, api.TunnelNow, "Dial a tunnel that waits after failures without further delay, or what is missing of one that is up"),
	)
	return c
}

func tunnelWord(ask *asking, word api.TunnelCommand, short string) *cobra.Command {
	c := &cobra.Command{Use: string(word) + " NAME", Short: short}
	c.Args = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return &usageError{fmt.Errorf("say which: vrgate tunnel %s NAME", word)}
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := ask.client()
		if err != nil {
			return err
		}
		if err := client.TellTunnel(c.Context(), api.TunnelRequest{Tunnel: args[0], Command: word}); err != nil {
			return err
		}
		return show(c, ask, api.Filter{}, false, func(client *api.Client, ctx context.Context, f api.Filter) ([]api.Tunnel, error) {
			list, err := client.Tunnels(ctx, f)
			return slices.DeleteFunc(list, func(t api.Tunnel) bool { return t.Name != args[0] }), err
		}, tunnelTable)
	}
	c.ValidArgsFunction = completeTunnel(ask)
	return c
}

// staticCount is how many of a virtual router's static tunnels are up.
func staticCount(c api.TunnelCounts) string {
	if c.Configured == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", c.Up, c.Configured)
}
