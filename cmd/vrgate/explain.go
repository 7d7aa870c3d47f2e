package main

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"vrgate/controlplane/api"
)

func explainCommand(dir *string) *cobra.Command {
	ask := &asking{dir: dir}
	c := &cobra.Command{
		Use:   "explain USER",
		Short: "Explain who would decide about a user, and what the user would get",
		Long: "Print the path that a user's request to be let in takes: how the name is taken\n" +
			"apart, which entry of the domain map holds, which methods and servers are asked in\n" +
			"which order, what name they are sent, and what the user gets unless they say\n" +
			"otherwise. No server is asked and no password is looked at.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return &usageError{errors.New("say whom: vrgate explain USER")}
			}
			return nil
		},
	}
	ask.flags(c)
	f := c.Flags()
	var q api.ExplainRequest
	f.StringVar(&q.VR, "vr", "", "the virtual router in which the user arrives (`name`; default: the default or the only one)")
	f.StringVar(&q.Access, "access", "", "the `way` in: l2tp, l2tp/ipsec, xauth or static (default: as the profile says, or else l2tp/ipsec)")
	f.StringVar(&q.Profile, "profile", "", "the tunnel profile, the static tunnel, or for L2TP the destination profile, with or without /HOST (`name`; default: the only one)")
	f.StringVar(&q.Authentication, "authentication", "", "how the user proves who it is: pap, chap, mschapv2 or eap (`method`; default: as configured)")
	c.RunE = func(c *cobra.Command, args []string) error {
		q.User = args[0]
		client, err := ask.client()
		if err != nil {
			return err
		}
		steps, err := client.Explain(c.Context(), q)
		if err != nil {
			return err
		}
		if ask.json {
			return writeJSON(c.OutOrStdout(), steps)
		}
		for _, s := range steps {
			line := s.Topic + ": " + cmp.Or(s.Value, "none")
			if s.Reason != "" {
				line += " (" + s.Reason + ")"
			}
			if _, err := fmt.Fprintln(c.OutOrStdout(), printable(line)); err != nil {
				return err
			}
		}
		return nil
	}
	registerCompletions(c, ask, "vr", "profile")
	completeWords(c, "access", "l2tp", "l2tp/ipsec", "xauth", "static")
	completeWords(c, "authentication", "pap", "chap", "mschapv2", "eap")
	return c
}

// completeWords completes a flag from a fixed list.
func completeWords(c *cobra.Command, flag string, words ...string) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag does not exist, which a test would show
	}
}
