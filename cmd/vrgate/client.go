package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"vrgate/controlplane/api"
	"vrgate/controlplane/config"
)

// asking are the flags of commands that ask a running daemon.
type asking struct {
	dir    *string
	socket string
	json   bool
}

// client finds the daemon's socket: the flag, else what the configuration says,
// else the default. Somebody of the socket's group may not be able to read the
// configuration, hence the default.
func (a *asking) client() (*api.Client, error) {
	if a.socket != "" {
		return api.NewClient(a.socket), nil
	}
	socket, err := config.Socket(filepath.Join(*a.dir, config.ProcessFile))
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return api.NewClient(config.DefaultSocket), nil
	case err != nil:
		return nil, err
	}
	return api.NewClient(socket), nil
}

func (a *asking) flags(c *cobra.Command) {
	c.PersistentFlags().StringVar(&a.socket, "socket", "", "`path` of the daemon's control socket (default: from the configuration)")
	c.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON instead of a table")
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// subscriberFlags are those of filterFlags that complete.
var subscriberFlags = []string{"id", "user", "vr", "profile", "address", "domain"}

// filterFlags adds the flags that select subscribers.
func filterFlags(c *cobra.Command) (filter func() (api.Filter, error)) {
	f := c.Flags()
	id := f.String("id", "", "only the session with this `ID`")
	user := f.String("user", "", "only sessions of this user `name`")
	address := f.String("address", "", "only the session with this inside `address`")
	profile := f.String("profile", "", "only dynamic subscribers of this tunnel profile (`name`)")
	domain := f.String("domain", "", "only users of this `domain`: that of their names, or the entry of the domain map that holds for them")
	vr := f.String("vr", "", "only sessions that arrive or terminate in this virtual router (`name`)")
	return func() (api.Filter, error) {
		out := api.Filter{ID: *id, User: *user, VR: *vr, Profile: *profile, Domain: *domain}
		if *address != "" {
			a, err := netip.ParseAddr(*address)
			if err != nil {
				return out, &usageError{fmt.Errorf("--address: %q is not an IP address", *address)}
			}
			out.Address = a
		}
		return out, nil
	}
}

func disconnectCommand(dir *string) *cobra.Command {
	ask := &asking{dir: dir}
	c := &cobra.Command{
		Use:   "disconnect {--id ID | --user NAME | --address ADDR | --vr NAME | --profile NAME | --domain DOMAIN | --all} [--dry-run]",
		Short: "End subscribers",
		Long: "End the selected subscribers politely, as if they had been logged out. Several\n" +
			"selections narrow each other down. With --dry-run only print who it would be.",
		Args: noArgs,
	}
	ask.flags(c)
	filter := filterFlags(c)
	all := c.Flags().Bool("all", false, "every subscriber")
	dry := c.Flags().Bool("dry-run", false, "change nothing, only print who it would be")
	c.RunE = func(c *cobra.Command, _ []string) error {
		f, err := filter()
		if err != nil {
			return err
		}
		if f.Empty() == !*all {
			return &usageError{errors.New("say whom: --id, --user, --address, --vr, --profile or --domain, or else --all")}
		}
		client, err := ask.client()
		if err != nil {
			return err
		}
		resp, err := client.Disconnect(c.Context(), api.DisconnectRequest{Filter: f, All: *all, DryRun: *dry})
		if err != nil {
			return err
		}
		if ask.json {
			return writeJSON(c.OutOrStdout(), resp)
		}
		if err := subscriberTable(c.OutOrStdout(), resp.Subscribers, false); err != nil {
			return err
		}
		word := "ending"
		if *dry {
			word = "would end"
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s %s\n", word, plural(len(resp.Subscribers), "session"))
		return err
	}
	registerCompletions(c, ask, subscriberFlags...)
	return c
}

// registerCompletions completes flags from what the running daemon knows.
func registerCompletions(c *cobra.Command, ask *asking, flags ...string) {
	for _, name := range flags {
		complete := func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			client, err := ask.client()
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return known(c.Context(), client, name), cobra.ShellCompDirectiveNoFileComp
		}
		// The error says that the flag does not exist, which a test would show.
		if err := c.RegisterFlagCompletionFunc(name, complete); err != nil {
			panic(err)
		}
	}
}

// known lists values for a flag; nothing if the daemon does not answer.
func known(ctx context.Context, client *api.Client, flag string) []string {
	var out []string
	switch flag {
	case "vr":
		vrs, err := client.VRs(ctx, api.Filter{})
		if err != nil {
			return nil
		}
		for i := range vrs {
			out = append(out, vrs[i].Name)
		}
		return out
	case "tunnel":
		tunnels, err := client.Tunnels(ctx, api.Filter{})
		if err != nil {
			return nil
		}
		for i := range tunnels {
			out = append(out, tunnels[i].Name)
		}
		slices.Sort(out)
		return out
	case "profile":
		profiles, err := client.TunnelProfiles(ctx, api.Filter{})
		if err != nil {
			return nil
		}
		for i := range profiles {
			out = append(out, profiles[i].Name)
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	subs, err := client.Subscribers(ctx, api.Filter{})
	if err != nil {
		return nil
	}
	for i := range subs {
		s := &subs[i]
		switch flag {
		case "id":
			out = append(out, s.ID)
		case "user":
			out = append(out, s.User)
		case "address":
			out = append(out, addr(s.Address))
		case "domain":
			out = append(out, s.Domain, s.DomainMap)
		}
	}
	out = slices.DeleteFunc(out, func(v string) bool { return v == "" })
	slices.Sort(out)
	return slices.Compact(out)
}
