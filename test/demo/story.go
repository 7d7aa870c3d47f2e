package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vrgate/controlplane/api"
	"vrgate/test/topo"
)

// table is the name of vrgate's nftables table for the virtual router.
const table = "vrgate-" + routerName

// pings is how many echo requests each client sends.
const pings = 5

// tell tells and checks the whole story; each client sends size bytes. The error is what stopped it, or
// errClaims when it came to its end but something was not as told. Nothing is left behind in either case.
func tell(ctx context.Context, t *teller, size int) error {
	start := time.Now()
	if err := topo.Probe(); err != nil {
		return err
	}
	var s *scene
	err := t.doing("making six machines out of network namespaces", func() (err error) {
		s, err = build(ctx)
		return err
	})
	if err == nil {
		err = perform(ctx, t, s, size)
	}
	if err != nil {
		if ctx.Err() == nil {
			t.explain(s)
		}
		if closeErr := s.close(); closeErr != nil {
			t.say("left behind: %v", closeErr)
		}
		return err
	}
	err = t.doing("removing the network", s.close)
	t.check(err == nil, "nothing is left: no namespace, no process, no file")
	if err != nil {
		t.say("%v", err)
	}
	return t.verdict(time.Since(start))
}

// verdict ends the story.
func (t *teller) verdict(took time.Duration) error {
	if len(t.failed) > 0 {
		t.print(text, t.paint(bold+red, fmt.Sprintf("%d of %d things were not as told:", len(t.failed), t.checks)))
		for _, f := range t.failed {
			t.mark(false, f)
		}
		return errClaims
	}
	t.chapter("What it means")
	t.say("Clients that people already have reach their office, unmodified, with a group key and a password. Two of them " +
		"behind one NAT on the same port do not disturb each other. vrgate negotiates, authenticates, gives out the " +
		"addresses and keeps the books; every packet of theirs stays in the kernel. When they or vrgate go, nothing of " +
		"them remains.")
	t.print(text, "\n"+t.paint(bold+green, fmt.Sprintf("All %d checks hold, after %.0f s.", t.checks, took.Seconds())))
	return nil
}

// perform is the story's chapters in order. Each needs those before it.
func perform(ctx context.Context, t *teller, s *scene, size int) error {
	empty, err := kernelObjects(ctx, s)
	if err != nil {
		return err
	}
	chapters := []func(context.Context, *teller, *scene) error{
		network, daemonStarts, clientsConnect, clientsPing,
		func(ctx context.Context, t *teller, s *scene) error { return clientsTransfer(ctx, t, s, size) },
		vrgateShows,
		func(ctx context.Context, t *teller, s *scene) error { return kernelShows(ctx, t, s, size) },
		func(ctx context.Context, t *teller, s *scene) error { return clientsHangUp(ctx, t, s, size) },
		func(ctx context.Context, t *teller, s *scene) error { return daemonEnds(ctx, t, s, empty) },
	}
	for _, c := range chapters {
		if err := c(ctx, t, s); err != nil {
			return err
		}
	}
	return nil
}

// network introduces the machines.
func network(_ context.Context, t *teller, s *scene) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	t.chapter("The network")
	hosts := make([]string, len(s.people))
	for i, p := range s.people {
		hosts[i] = p.client.Host().Address.String()
	}
	t.print(terminal, s.drawing(hosts...))
	t.say("Two people in one place, behind one NAT, want to reach the file server in their office. Their machines "+
		"run what Debian ships: strongSwan for IPsec, xl2tpd for L2TP, pppd for PPP. The NAT hides both behind %v; "+
		"vrgate's only public address is %v. The machines are network namespaces of one kernel, Linux %s.",
		s.nat.Address, s.address, unix.ByteSliceToString(u.Release[:]))
	return nil
}

// drawing shows the machines with their addresses; those of the clients' are given.
func (s *scene) drawing(clients ...string) string {
	hosts := make([]string, len(cast))
	for i, u := range cast {
		hosts[i] = fmt.Sprintf("%-5s %-12s", u.name, clients[i])
	}
	return fmt.Sprintf(`   %s ──┐
                        ├── nat ═══════════════ router ═══════════════ vrgate ─────────────────── files
   %s ──┘              the internet                       the office
%27s ┘ └ %-12s%26s ┘    └ %-19s %s`,
		hosts[0], hosts[1], "192.168.1.1", s.nat.Address, s.address, gateway.Addr(), intranetHost)
}

// daemonStarts shows the configuration and starts vrgate.
func daemonStarts(ctx context.Context, t *teller, s *scene) error {
	t.chapter("vrgate starts")
	t.say("One YAML file describes a tenant, here the virtual router %q: its address, the group key of its clients, "+
		"a pool of addresses, its users. That is all; there is no RADIUS server and no other daemon.", routerName)
	file := "vr/" + routerName + ".yaml"
	if err := t.run(ctx, s.server, "cd "+s.daemon.Dir+" && cat "+file); err != nil {
		return err
	}
	if err := t.vrgate(ctx, s, "check"); err != nil {
		return err
	}
	if err := t.doing("starting vrgate", func() error { return s.daemon.Start(ctx) }); err != nil {
		return err
	}
	if err := t.vrgate(ctx, s, "show", "vr"); err != nil {
		return err
	}
	vrs, err := s.daemon.API().VRs(ctx, api.Filter{})
	if err != nil {
		return err
	}
	t.check(len(vrs) == 1 && vrs[0].State == "up", "vrgate serves: the virtual router is up")
	s.rules, err = output(ctx, s.server, "nft -s list table ip "+table)
	return err
}

// clientsConnect brings both clients up at once.
func clientsConnect(ctx context.Context, t *teller, s *scene) error {
	t.chapter("Both clients connect, both from UDP port 1701")
	start := time.Now()
	err := t.doing("both connect at the same time: IKE, IPsec, L2TP, PPP", func() error {
		return s.each(func(p *person) (err error) {
			p.session, err = p.client.Connect(ctx)
			return err
		})
	})
	if err != nil {
		return err
	}
	for _, p := range s.people {
		t.check(p.session.Local.IsValid(), "%s is connected: %v on %s, DNS %v", p.name, p.session.Local, p.session.Interface, p.session.DNS)
	}
	t.check(s.people[0].session.Local != s.people[1].session.Local, "each has an address of its own, after %.1f s for both", time.Since(start).Seconds())
	for _, p := range s.people {
		const line = "ss -Hunlp sport = :1701"
		shown, err := output(ctx, p.client.Host().Namespace, line)
		if err != nil {
			return err
		}
		t.command(p.name, line, shown)
		t.check(strings.Contains(shown, ":1701") && strings.Contains(shown, "xl2tpd"), "%s's L2TP client is on port 1701", p.name)
	}
	const line = "conntrack -L -p udp --dport 4500 2>/dev/null | grep -o 'src=.* dport=[0-9]*'"
	shown, err := output(ctx, s.nat.Namespace, line)
	if err != nil {
		return err
	}
	t.command("nat", line, shown)
	t.say("To vrgate both come from %v. Inside the two IPsec connections are two L2TP tunnels with the same "+
		"addresses and the same ports on both ends. That is what a second Windows PC at home looks like, and what many "+
		"servers cannot tell apart.", s.nat.Address)
	tunnels, err := s.daemon.API().L2TPTunnels(ctx, api.Filter{})
	if err != nil {
		return err
	}
	same := len(tunnels) == 2 && tunnels[0].Remote == tunnels[1].Remote && tunnels[0].Local == tunnels[1].Local &&
		tunnels[0].Remote.Addr() == s.nat.Address && tunnels[0].Remote.Port() == 1701
	t.check(same, "vrgate has two L2TP tunnels that no address and no port tells apart: both %v:1701 to %v:1701", s.nat.Address, s.address)
	return nil
}

// clientsPing pings from both at once.
func clientsPing(ctx context.Context, t *teller, s *scene) error {
	t.chapter("Both reach the office")
	line := fmt.Sprintf("ping -n -i 0.2 -c %d %v", pings, intranetHost)
	shown := make(map[*person]*string)
	for _, p := range s.people {
		shown[p] = new(string)
	}
	// An unanswered ping has a status that says so; the check below says it too.
	_ = s.each(func(p *person) (err error) {
		*shown[p], err = output(ctx, p.client.Host().Namespace, line)
		return err
	})
	for _, p := range s.people {
		t.command(p.name, line, *shown[p])
		t.check(strings.Contains(*shown[p], fmt.Sprintf("%d packets transmitted, %[1]d received", pings)),
			"all %d of %s's packets were answered by %v, while the other one pinged too", pings, p.name, intranetHost)
	}
	return ctx.Err()
}

// vrgateShows prints what an operator would look at.
func vrgateShows(ctx context.Context, t *teller, s *scene) error {
	t.chapter("What vrgate says")
	for _, part := range []struct{ name, before string }{
		{"vr", "The virtual router, with its counts:"},
		{"ike-sa", "Phase 1, one SA per client. The second client's port was changed by the NAT:"},
		{"ipsec", "IPsec, one connection per client; ESP goes inside UDP because of the NAT:"},
		{"l2tp", "L2TP, one tunnel and one session per client. CONN is the IPsec connection that carries it:"},
		{"subscribers", "Subscribers: who is connected, from where, on which interface, how much:"},
	} {
		t.say("%s", part.before)
		if err := t.vrgate(ctx, s, "show", part.name); err != nil {
			return err
		}
	}
	t.say("(Columns that do not fit the width of this screen are below the others. --json has all of it for programs.)")
	subs, err := s.daemon.API().Subscribers(ctx, api.Filter{})
	if err != nil {
		return err
	}
	for _, p := range s.people {
		found := false
		for _, x := range subs {
			if x.User == p.name {
				found = x.State == "up" && x.Address == p.session.Local
				p.link = x.Interface
			}
		}
		t.check(found, "subscriber %s is up with the address that the client has, %v, on interface %s", p.name, p.session.Local, p.link)
	}
	t.check(len(subs) == len(s.people), "and there are no others")
	return nil
}

// vrgate runs a vrgate command and prints both, tables made to fit.
func (t *teller) vrgate(ctx context.Context, s *scene, args ...string) error {
	shown, err := s.vrgate(ctx, args...)
	if err != nil {
		return err
	}
	t.command("vrgate", "vrgate --config . "+strings.Join(args, " "), foldTables(shown, lineWidth-2))
	return nil
}

// sleep waits unless the context ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
