package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"vrgate/controlplane/api"
	"vrgate/test/topo"
)

// kernelShows prints what the kernel has, and checks it against what the clients sent.
func kernelShows(ctx context.Context, t *teller, s *scene, size int) error {
	t.chapter("What the kernel says")
	t.say("Security associations, two per client, without their keys. The kernel counts: these are the transfers' bytes.")
	if err := t.run(ctx, s.server, `ip -s xfrm state list nokeys | grep -E '^src|proto esp|enc |encap|[0-9]\(packets\)'`); err != nil {
		return err
	}
	full, err := output(ctx, s.server, "ip -s xfrm state list nokeys")
	if err != nil {
		return err
	}
	sas, err := parseSAs(full)
	if err != nil {
		return err
	}
	counted := len(sas) == 2*len(s.people)
	for _, a := range sas {
		counted = counted && a.bytes > uint64(rounds*size)
	}
	t.check(counted, "the kernel has %d SAs, and each has passed more than the %d bytes that a client sent or got", len(sas), rounds*size)

	t.say("No policy names a client: each tunnel's socket carries its own, so that only packets of that client's SA get " +
		"in and its answers leave by no other. Without that SA they do not leave at all.")
	if err := t.run(ctx, s.server, `ip xfrm policy | grep -B2 reqid | grep -E 'socket|reqid' | paste - - | tr -s '\t ' ' '`); err != nil {
		return err
	}
	global, err := output(ctx, s.server, "ip xfrm policy list nosock")
	if err != nil {
		return err
	}
	t.check(strings.TrimSpace(global) == "", "the kernel's policy database is empty")

	t.say("L2TP tunnels and sessions. Each tunnel has a socket whose port is the tunnel's number; that is how two " +
		"tunnels with the same addresses and ports are two to the kernel.")
	for _, line := range []string{"ip l2tp show tunnel", "ip l2tp show session"} {
		if err := t.run(ctx, s.server, line); err != nil {
			return err
		}
	}
	shown, err := output(ctx, s.server, "ip l2tp show tunnel")
	if err != nil {
		return err
	}
	tunnels, err := s.daemon.API().L2TPTunnels(ctx, api.Filter{})
	if err != nil {
		return err
	}
	known := len(tunnels) == len(s.people)
	for _, x := range tunnels {
		known = known && strings.Contains(shown, fmt.Sprintf("Tunnel %d, encap UDP", x.LocalID)) &&
			strings.Contains(shown, fmt.Sprintf("UDP source / dest ports: %d/1701", x.LocalID))
	}
	t.check(known, "these are the tunnels that vrgate shows, each with a port of its own towards the kernel")
	if err := interfaces(ctx, t, s, size); err != nil {
		return err
	}
	return steering(ctx, t, s)
}

// interfaces shows the PPP interfaces and routes.
func interfaces(ctx context.Context, t *teller, s *scene, size int) error {
	t.say("One PPP interface per client, where its packets come out of the tunnel, and one route to it:")
	for _, line := range []string{"ip -s link show type ppp | sed 's/ mode .*//'", "ip route"} {
		if err := t.run(ctx, s.server, line); err != nil {
			return err
		}
	}
	links, err := pppLinks(ctx, s.server)
	if err != nil {
		return err
	}
	for _, p := range s.people {
		l := links[p.link]
		t.check(min(l.Stats.RX.Bytes, l.Stats.TX.Bytes) > uint64(rounds*size),
			"%s passed all of %s's transfers: %d bytes in, %d bytes out", p.link, p.name, l.Stats.RX.Bytes, l.Stats.TX.Bytes)
		text, err := s.server.Output(ctx, "ip", "-j", "route", "show", p.session.Local.String())
		if err != nil {
			return err
		}
		var routes []struct{ Dev string }
		if err := json.Unmarshal([]byte(text), &routes); err != nil {
			return fmt.Errorf("ip -j route: %w", err)
		}
		t.check(len(routes) == 1 && routes[0].Dev == p.link, "%v is routed to %s", p.session.Local, p.link)
	}
	return nil
}

// steering shows vrgate's nftables table.
func steering(ctx context.Context, t *teller, s *scene) error {
	t.say("A few static nftables rules do the rest. The first takes the tunnel number out of a decrypted L2TP packet " +
		"and makes it the UDP port (@th,96,16 is where the number is), so that the packet finds its tunnel's socket:")
	if err := t.run(ctx, s.server, `nft list chain ip `+table+` prerouting | grep -m1 'dport set' | tr -d '\t'`); err != nil {
		return err
	}
	t.say("These drop what does not come through the right SA: packets sent straight to a tunnel's port, L2TP in clear " +
		"text, L2TP of another client's tunnel, anything but L2TP from an L2TP client. Each drop is counted by its reason:")
	if err := t.run(ctx, s.server, `nft list chain ip `+table+` input | grep drop | tr -d '\t'`); err != nil {
		return err
	}
	if err := t.run(ctx, s.server, `nft list counters table ip `+table+` | grep -A1 --no-group-separator 'counter ' | paste - - | tr -d '\t{'`); err != nil {
		return err
	}
	rules, err := output(ctx, s.server, "nft -s list table ip "+table)
	if err != nil {
		return err
	}
	t.check(rules == s.rules, "the table is the one from before there were clients: no client has added a rule or an element")
	return nil
}

// clientsHangUp disconnects both and shows the summary lines.
func clientsHangUp(ctx context.Context, t *teller, s *scene, size int) error {
	t.chapter("Both hang up")
	err := t.doing("both disconnect", func() error {
		return s.each(func(p *person) error { return p.client.Disconnect(ctx) })
	})
	if err != nil {
		return err
	}
	gone := eventually(ctx, 15*time.Second, func() bool {
		left, err := kernelObjects(ctx, s)
		return err == nil && left.clients == ""
	})
	t.say("vrgate writes one line when a subscriber's session ends: who, from where, how long, how much, why.")
	ends := make([]ended, len(s.people))
	for i, p := range s.people {
		var line string
		if line, ends[i], err = s.summary(p); err != nil {
			return err
		}
		t.excerpt(line)
	}
	for i, p := range s.people {
		e := ends[i]
		t.check(min(e.InBytes, e.OutBytes) > uint64(rounds*size) && e.ByPeer && e.Reason != "",
			"%s's line has the bytes of the transfers and a reason: %s", p.name, e.Reason)
	}
	t.check(gone, "of both clients the kernel has nothing any more: no SA, no tunnel, no session, no interface, no route")
	return nil
}

// ended is what is checked of a summary line.
type ended struct {
	Msg      string `json:"msg"`
	User     string `json:"user"`
	InBytes  uint64 `json:"in_bytes"`
	OutBytes uint64 `json:"out_bytes"`
	ByPeer   bool   `json:"by_peer"`
	Reason   string `json:"reason"`
}

// summary finds a person's summary line in the log.
func (s *scene) summary(p *person) (string, ended, error) {
	for line := range strings.Lines(s.daemon.Log()) {
		var e ended
		if json.Unmarshal([]byte(line), &e) != nil || e.Msg != "subscriber ended" || e.User != p.name {
			continue
		}
		words, err := logLine(line)
		return words, e, err
	}
	return "", ended{}, fmt.Errorf("vrgate's log has no summary line of %s", p.name)
}

// daemonEnds stops vrgate and compares the kernel with how it was at the start.
func daemonEnds(ctx context.Context, t *teller, s *scene, empty objects) error {
	t.chapter("vrgate ends")
	if err := t.doing("stopping vrgate", func() error { return s.daemon.Stop(ctx) }); err != nil {
		return err
	}
	left, err := kernelObjects(ctx, s)
	if err != nil {
		return err
	}
	t.check(left == empty, "the machine is as it was before vrgate started: interfaces, addresses, routes, nftables, IPsec, L2TP")
	if left != empty {
		t.say("It was:")
		t.excerpt(empty.clients + empty.router)
		t.say("It is:")
		t.excerpt(left.clients + left.router)
	}
	return nil
}

// objects is what vrgate can have in the kernel, in words: what belongs to clients, and what to the router.
type objects struct{ clients, router string }

// kernelObjects lists them. Counters and ages are not part of it.
func kernelObjects(ctx context.Context, s *scene) (objects, error) {
	var o objects
	for _, part := range []struct {
		into *string
		line string
	}{
		{&o.clients, "ip xfrm state list nokeys"},
		{&o.clients, "ip l2tp show tunnel"},
		{&o.clients, "ip l2tp show session"},
		{&o.clients, "ip -br link show type ppp"},
		{&o.clients, "ip route show proto 117"},
		{&o.router, "ip -br link"},
		{&o.router, "ip -br -4 addr"},
		{&o.router, "ip route show table all"},
		{&o.router, "ip rule"},
		{&o.router, "ip xfrm policy list nosock"},
		{&o.router, "nft list tables"},
	} {
		text, err := output(ctx, s.server, part.line)
		if err != nil {
			return o, err
		}
		*part.into += text
	}
	return o, nil
}

// run runs a command line on a machine and prints both.
func (t *teller) run(ctx context.Context, on *topo.Namespace, line string) error {
	shown, err := output(ctx, on, line)
	if err != nil {
		return err
	}
	t.command("vrgate", line, shown)
	return nil
}

// eventually says whether ok says yes within the time.
func eventually(ctx context.Context, within time.Duration, ok func() bool) bool {
	for end := time.Now().Add(within); !ok(); {
		if time.Now().After(end) || sleep(ctx, 100*time.Millisecond) != nil {
			return false
		}
	}
	return true
}
