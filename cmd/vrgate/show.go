package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"vrgate/controlplane/api"
)

func showCommand(dir *string) *cobra.Command {
	ask := &asking{dir: dir}
	c := &cobra.Command{
		Use:   "show",
		Short: "Show what the running daemon knows",
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	ask.flags(c)
	c.AddCommand(
		showing(ask, "vr", "Virtual routers: place, state, counts, pools, policy rules", (*api.Client).VRs, vrTable),
		showing(ask, "links", "Links to private networks", (*api.Client).Links, linkTable),
		showTunnels(ask),
		showing(ask, "ike-policy", "IKE policy rules in force", (*api.Client).IKEPolicyRules, policyTable),
		showing(ask, "tunnel-profiles", "Tunnel profiles of dynamic IPsec subscribers", (*api.Client).TunnelProfiles, profileTable),
		showing(ask, "licences", "Licences that subscribers hold", licencesOf, licenceTable),
		showing(ask, "certificates", "Certificates of ours, trusted authorities, revocation lists", (*api.Client).Certificates, certificateTable),
		showing(ask, "ike-sa", "Phase 1 SAs", (*api.Client).IKESAs, ikeTable),
		showIPsec(ask),
		showL2TP(ask),
		showSubscribers(ask),
		showing(ask, "radius", "RADIUS servers, CoA clients, attributes that were not used", (*api.Client).RADIUS, radiusTable),
		showing(ask, "accounting", "The journal of accounting records", (*api.Client).Accounting, accountingTable),
		showing(ask, "aaa", "What became of requests to be let in; admission and limits", (*api.Client).AAA, aaaTable),
		showing(ask, "domain-maps", "Entries of the domain maps", (*api.Client).DomainMaps, domainTable),
		showing(ask, "pools", "Address pools", (*api.Client).Pools, poolTable),
		showing(ask, "traffic-policies", "Traffic policies", (*api.Client).TrafficPolicies, policyTrafficTable),
		showing(ask, "terminate-codes", "What RADIUS is told of the reasons for which sessions end", (*api.Client).TerminateCodes, codeTable),
	)
	return c
}

// showing makes a command that prints the rows of get by table.
func showing[T any](ask *asking, name, short string,
	get func(*api.Client, context.Context, api.Filter) (T, error), table func(w io.Writer, v T, detail bool) error,
) *cobra.Command {
	c := &cobra.Command{Use: name, Short: short, Args: noArgs}
	vr := c.Flags().String("vr", "", "only this virtual router (`name`)")
	detail := c.Flags().Bool("detail", false, "show every field")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return show(c, ask, api.Filter{VR: *vr}, *detail, get, table)
	}
	registerCompletions(c, ask, "vr")
	return c
}

func showIPsec(ask *asking) *cobra.Command {
	c := showing(ask, "ipsec", "IPsec connections and their phase 2 SAs", (*api.Client).IPsec, ipsecTable)
	c.AddCommand(showing(ask, "errors", "Packets lost in IPsec, counted by the kernel per network namespace", (*api.Client).IPsecErrors, ipsecErrorTable))
	return c
}

func showSubscribers(ask *asking) *cobra.Command {
	c := &cobra.Command{Use: "subscribers", Short: "Subscribers", Args: noArgs}
	filter := filterFlags(c)
	detail := c.Flags().Bool("detail", false, "show every field")
	c.RunE = func(c *cobra.Command, _ []string) error {
		f, err := filter()
		if err != nil {
			return err
		}
		return show(c, ask, f, *detail, (*api.Client).Subscribers, subscriberTable)
	}
	registerCompletions(c, ask, subscriberFlags...)
	return c
}

func show[T any](c *cobra.Command, ask *asking, f api.Filter, detail bool,
	get func(*api.Client, context.Context, api.Filter) (T, error), table func(w io.Writer, v T, detail bool) error,
) error {
	client, err := ask.client()
	if err != nil {
		return err
	}
	v, err := get(client, c.Context(), f)
	if err != nil {
		return err
	}
	if ask.json {
		return writeJSON(c.OutOrStdout(), v)
	}
	return table(c.OutOrStdout(), v, detail)
}

// licenceView is a row of `show licences`; VR is empty for the whole process.
type licenceView struct {
	VR string `json:"vr"`
	api.Licences
}

// licencesOf lists the licences of the process, unless one virtual router is asked for, and of
// the virtual routers.
func licencesOf(client *api.Client, ctx context.Context, f api.Filter) ([]licenceView, error) {
	var out []licenceView
	if f.VR == "" {
		h, err := client.Health(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, licenceView{Licences: h.Licences})
	}
	vrs, err := client.VRs(ctx, f)
	if err != nil {
		return nil, err
	}
	for i := range vrs {
		out = append(out, licenceView{vrs[i].Name, vrs[i].Licences})
	}
	return out, nil
}
