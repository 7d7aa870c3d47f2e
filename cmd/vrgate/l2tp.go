package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vrgate/controlplane/api"
)

// showL2TP is `show l2tp`: by itself an overview, and a command for each kind of object.
func showL2TP(ask *asking) *cobra.Command {
	c := showing(ask, "l2tp", "L2TP: services, tunnels and sessions", l2tpOf, l2tpTable)
	profile := showing(ask, "destination-profile", "Destination profiles and their host profiles, all or the one with this name", (*api.Client).L2TPProfiles, l2tpProfileTable)
	profile.Use = "destination-profile [NAME]"
	profile.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 1 {
			return &usageError{errors.New("one name, or none for all destination profiles")}
		}
		return nil
	}
	vr, detail := profile.Flag("vr"), profile.Flag("detail")
	profile.RunE = func(c *cobra.Command, args []string) error {
		named := func(client *api.Client, ctx context.Context, f api.Filter) ([]api.L2TPDestinationProfile, error) {
			list, err := client.L2TPProfiles(ctx, f)
			if err != nil || len(args) == 0 {
				return list, err
			}
			return profileNamed(list, args[0])
		}
		return show(c, ask, api.Filter{VR: vr.Value.String()}, detail.Value.String() == "true" || len(args) > 0, named, l2tpProfileTable)
	}
	c.AddCommand(
		showing(ask, "destination", "LACs, and LNSs that we call, by address", (*api.Client).L2TPDestinations, l2tpDestinationTable),
		profile,
		showing(ask, "tunnel", "Tunnels, and records of those that are over", (*api.Client).L2TPTunnels, l2tpTunnelTable),
		showing(ask, "session", "Sessions, and records of those that are over", (*api.Client).L2TPSessions, l2tpSessionTable),
	)
	return c
}

func profileNamed(list []api.L2TPDestinationProfile, name string) ([]api.L2TPDestinationProfile, error) {
	var out []api.L2TPDestinationProfile
	for i := range list {
		if list[i].Name == name {
			out = append(out, list[i])
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("there is no destination profile %q", name)
	}
	return out, nil
}

// l2tpView joins what `show l2tp` prints.
type l2tpView struct {
	Services []api.L2TPService `json:"services"`
	Tunnels  []api.L2TPTunnel  `json:"tunnels"`
	Sessions []api.L2TPSession `json:"sessions"`
}

func l2tpOf(client *api.Client, ctx context.Context, f api.Filter) (l2tpView, error) {
	var out l2tpView
	var err error
	if out.Services, err = client.L2TPServices(ctx, f); err != nil {
		return out, err
	}
	if out.Tunnels, err = client.L2TPTunnels(ctx, f); err != nil {
		return out, err
	}
	out.Sessions, err = client.L2TPSessions(ctx, f)
	return out, err
}

func l2tpTable(w io.Writer, l l2tpView, detail bool) error {
	if detail {
		return errors.Join(details(w, l.Services), details(w, l.Tunnels), details(w, l.Sessions))
	}
	t := newTable(w, "VR", "STATE", "DESTINATIONS", "TUNNELS", "TOTAL", "FAILED", "AUTH FAILED", "SESSIONS", "TOTAL", "FAILED", "SWITCHED", "IDLE", "DESTRUCT", "HELLO")
	for i := range l.Services {
		x := &l.Services[i]
		t.row(x.VR, x.AdminState, strconv.Itoa(x.Destinations), strconv.Itoa(x.Tunnels.Active), count(x.Tunnels.Total), count(x.Tunnels.Failed), count(x.Tunnels.AuthFailed),
			strconv.Itoa(x.Sessions.Active), count(x.Sessions.Total), count(x.Sessions.Failed), strconv.Itoa(x.SwitchedSessions),
			secondsOr(x.IdleTimeoutSeconds, "for ever"), seconds(x.DestructTimeoutSeconds), secondsOr(x.HelloSeconds, "never"))
	}
	for _, part := range []func() error{t.end, func() error { return blank(w) }, func() error { return l2tpTunnelTable(w, l.Tunnels, false) },
		func() error { return blank(w) }, func() error { return l2tpSessionTable(w, l.Sessions, false) }} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func blank(w io.Writer) error {
	_, err := fmt.Fprintln(w)
	return err
}

func l2tpTunnelTable(w io.Writer, tunnels []api.L2TPTunnel, detail bool) error {
	if detail {
		return details(w, tunnels)
	}
	t := newTable(w, "VR", "TUNNEL", "PEER", "STATE", "ADMIN", "LOCAL", "REMOTE", "CONN", "PROFILE", "HOST", "VENDOR", "NS/NR", "WINDOW", "RETRANS", "SESSIONS", "AGE", "ENDED BY")
	for i := range tunnels {
		x := &tunnels[i]
		sessions := strconv.Itoa(x.Sessions.Active)
		if x.SingleShot {
			sessions += " single-shot"
		}
		t.row(x.VR, number(x.LocalID), number(x.RemoteID), x.State, x.EffectiveState, addrPort(x.Local), addrPort(x.Remote), connection(x.Connection),
			x.Profile+"/"+x.HostProfile, x.RemoteHost, x.RemoteVendor, fmt.Sprintf("%d/%d", x.Ns, x.Nr), number(x.PeerWindow),
			count(x.Retransmits), sessions, age(x.Since), x.Reason)
	}
	return t.end()
}

func l2tpSessionTable(w io.Writer, sessions []api.L2TPSession, detail bool) error {
	if detail {
		return details(w, sessions)
	}
	t := newTable(w, "VR", "TUNNEL", "SESSION", "PEER", "STATE", "ADMIN", "TYPE", "USER", "HOST", "SERIAL", "CALLING", "CALLED", "TX/RX BIT/S", "SEQ", "PROXY", "SWITCHED TO", "AGE", "ENDED BY")
	for i := range sessions {
		x := &sessions[i]
		t.row(x.VR, number(x.LocalTunnel), number(x.LocalID), number(x.RemoteID), x.State, x.EffectiveState, x.CallType, x.User, x.RemoteHost,
			strconv.FormatUint(uint64(x.CallSerial), 10), x.CallingNumber, x.CalledNumber, fmt.Sprintf("%d/%d", x.TxSpeed, x.RxSpeed), onOff(x.Sequencing),
			proxied(x), x.SwitchedTo, age(x.Since), x.Reason)
	}
	return t.end()
}

// proxied says what a LAC has handed on.
func proxied(x *api.L2TPSession) string {
	var words []string
	if x.ProxyLCP {
		words = append(words, "lcp")
	}
	if x.ProxyAuth != "" && x.ProxyAuth != "none" {
		words = append(words, x.ProxyAuth)
	}
	return strings.Join(words, "+")
}

func l2tpDestinationTable(w io.Writer, list []api.L2TPDestination, detail bool) error {
	if detail {
		return details(w, list)
	}
	t := newTable(w, "VR", "LOCAL", "REMOTE", "ADMIN", "EFFECTIVE", "TUNNELS", "TOTAL", "FAILED", "AUTH FAILED", "SESSIONS", "TOTAL", "FAILED", "LOCKOUT")
	for i := range list {
		x := &list[i]
		lockout := x.Lockout
		if x.LockoutRemainingSeconds > 0 {
			lockout += " " + seconds(x.LockoutRemainingSeconds)
		}
		t.row(x.VR, addr(x.Local), addr(x.Remote), x.AdminState, x.EffectiveState, strconv.Itoa(x.Tunnels.Active), count(x.Tunnels.Total), count(x.Tunnels.Failed),
			count(x.Tunnels.AuthFailed), strconv.Itoa(x.Sessions.Active), count(x.Sessions.Total), count(x.Sessions.Failed), lockout)
	}
	return t.end()
}

func l2tpProfileTable(w io.Writer, list []api.L2TPDestinationProfile, detail bool) error {
	if detail {
		return details(w, list)
	}
	t := newTable(w, "VR", "PROFILE", "LAC", "REMOTE HOST", "IPSEC", "SINGLE-SHOT", "IP PROFILE", "LOCAL ADDRESS", "LOCAL HOST", "PASSWORD", "SESSIONS", "OF", "PROFILE'S", "OF")
	for i := range list {
		p := &list[i]
		for j := range p.Hosts {
			h := &p.Hosts[j]
			t.row(p.VR, p.Name, addr(p.LACAddress), h.RemoteHost, onOff(h.IPsecTransport), onOff(h.SingleShot), h.InterfaceProfile, cmp.Or(addr(h.LocalAddress), "any"),
				h.LocalHost, yesNo(h.TunnelPassword), strconv.Itoa(h.Sessions), limit(h.MaxSessions), strconv.Itoa(p.Sessions), limit(p.MaxSessions))
		}
	}
	return t.end()
}

func yesNo(yes bool) string {
	if yes {
		return "set"
	}
	return ""
}

// limit is a bound of which 0 is none.
func limit(n int) string {
	if n == 0 {
		return "unlimited"
	}
	return strconv.Itoa(n)
}

func count(n uint64) string { return strconv.FormatUint(n, 10) }

// secondsOr is a time of which 0 means something else.
func secondsOr(n int64, zero string) string {
	if n == 0 {
		return zero
	}
	return (time.Duration(n) * time.Second).String()
}

// l2tpCommand sets administrative states.
func l2tpCommand(dir *string) *cobra.Command {
	ask := &asking{dir: dir}
	c := &cobra.Command{
		Use:   "l2tp",
		Short: "Administrative states of L2TP: enable, drain, disable",
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	ask.flags(c)
	c.AddCommand(
		l2tpAdmin(ask, "enable", "enabled", "Take new tunnels and sessions"),
		l2tpAdmin(ask, "drain", "drain", "Take nothing new; what lives goes on"),
		l2tpAdmin(ask, "disable", "disabled", "Take nothing new, and end what lives"),
	)
	return c
}

func l2tpAdmin(ask *asking, name, state, short string) *cobra.Command {
	c := &cobra.Command{
		Use:   name + " --vr NAME {--all | --destination ADDR | --tunnel ID [--session ID]}",
		Short: short,
		Long: short + ".\nWhat holds for an object is the strictest of its own state and those above it: virtual router,\n" +
			"destination, tunnel, session. What is set here holds until it is set again, or the configuration\nis reloaded with another admin-state, or vrgate ends.",
		Args: noArgs,
	}
	vr := c.Flags().String("vr", "", "the virtual router (`name`)")
	all := c.Flags().Bool("all", false, "L2TP of the whole virtual router")
	destination := c.Flags().String("destination", "", "the LAC or LNS with this `address`, whether it has tunnels or not")
	tunnel := c.Flags().Uint16("tunnel", 0, "the tunnel with this local `ID`")
	session := c.Flags().Uint16("session", 0, "the session of the tunnel with this local `ID`")
	c.RunE = func(c *cobra.Command, _ []string) error {
		q := api.L2TPAdminRequest{VR: *vr, Tunnel: *tunnel, Session: *session, State: state}
		if *destination != "" {
			a, err := netip.ParseAddr(*destination)
			if err != nil {
				return &usageError{fmt.Errorf("--destination: %q is not an IP address", *destination)}
			}
			q.Destination = a
		}
		targets := 0
		for _, given := range []bool{*all, q.Destination.IsValid(), q.Tunnel != 0} {
			if given {
				targets++
			}
		}
		if q.VR == "" || targets != 1 || q.Session != 0 && q.Tunnel == 0 {
			return &usageError{errors.New("say what: --vr and one of --all, --destination, --tunnel, --tunnel with --session")}
		}
		client, err := ask.client()
		if err != nil {
			return err
		}
		resp, err := client.SetL2TPAdmin(c.Context(), q)
		if err != nil {
			return err
		}
		if ask.json {
			return writeJSON(c.OutOrStdout(), resp)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s; ending %s and %s\n", state, plural(resp.Tunnels, "tunnel"), plural(resp.Sessions, "session"))
		return err
	}
	registerCompletions(c, ask, "vr")
	return c
}
