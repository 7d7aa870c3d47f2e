package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"vrgate/controlplane/api"
	"vrgate/test/loadgen"
)

// reloadTarget is what a reload of 4,000 profiles may take.
const reloadTarget = time.Second

// pace is how often a session sends a packet.
const pace = 2 * time.Second

// calm is how long the traffic goes on after the last reload.
const calm = 5 * time.Second

// Kinds of reloads.
const (
	reloadIdle  = "nothing has changed"
	reloadEach  = "another limit in each profile"
	reloadFirst = "one profile has gone, and with it a session"
)

// reloaded is what one configuration took.
type reloaded struct {
	Kind string
	Took time.Duration // from the request to the answer
	CPU  time.Duration // of the daemon
	Plan api.PlanCounts
}

// underReload is what the part reload has measured in the test machine.
type underReload struct {
	Reloads []reloaded
	Traffic loadgen.Traffic // of the sessions that were to stay
}

// reload prints how long a reload takes, in memory and in the test machine, and what it does to the traffic there.
func reload(ctx context.Context, o options, w io.Writer) error {
	const name = "BenchmarkReload4000"
	memory, err := gobench(ctx, "./controlplane", name, "3x")
	if err != nil {
		return err
	}
	kernel, err := o.machine()
	if err != nil {
		return err
	}
	out, err := o.within(ctx, kernel, fmt.Sprintf("reloads with %d sessions", o.sessions), "-sessions", strconv.Itoa(o.sessions), "-profiles", strconv.Itoa(o.profiles),
		"-window", strconv.Itoa(o.window), "-rounds", strconv.Itoa(o.rounds), "-group", o.group, "reload")
	if err != nil {
		return err
	}
	var m underReload
	if err := json.Unmarshal(out, &m); err != nil {
		return fmt.Errorf("what the test machine printed: %w", err)
	}
	return printReload(w, o, kernel, memory[""]["ms-longest"], m)
}

// printReload prints the quickest reload of each kind. ms is the longest of BenchmarkReload4000.
func printReload(w io.Writer, o options, kernel string, ms float64, m underReload) error {
	fmt.Fprintf(w, "\nReload of a configuration with 4000 destination profiles while 500 sessions live, with a kernel in memory:\n")
	fmt.Fprintf(w, "%.0f ms from reading the files on, the longest. Target: %d ms, which is %.1f times that.\n", ms, reloadTarget.Milliseconds(), float64(reloadTarget.Milliseconds())/ms)
	fmt.Fprintf(w, "\nThe same with the daemon and kernel %s: %d profiles, %d sessions that send a packet every %v and expect an answer;\n", kernel, o.profiles, o.sessions, pace)
	fmt.Fprintf(w, "the quickest of %d.\n", o.rounds)
	if kernel != "host" {
		fmt.Fprintln(w, "In the test machine the processor may be emulated, and the traffic needs most of it: only the ratios mean something.")
	}
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\ttime\tof an idle one\tprocessor time\tof an idle one\tsessions ended\t")
	idle, err := quickest(m.Reloads, reloadIdle)
	if err != nil {
		return err
	}
	for _, kind := range []string{reloadIdle, reloadEach, reloadFirst} {
		r, err := quickest(m.Reloads, kind)
		if err != nil {
			return err
		}
		fmt.Fprintf(t, "%s\t%d ms\t%.2f times\t%d ms\t%.2f times\t%d\t\n", kind, r.Took.Milliseconds(), r.Took.Seconds()/idle.Took.Seconds(),
			r.CPU.Milliseconds(), r.CPU.Seconds()/idle.CPU.Seconds(), r.Plan.Sessions)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "Traffic of the %d sessions that were to stay, meanwhile: %d packets sent, %d lost; the latest answer came after %d ms.\n",
		m.Traffic.Sessions, m.Traffic.Sent, m.Traffic.Lost(), m.Traffic.Late.Milliseconds())
	return err
}

func quickest(list []reloaded, kind string) (reloaded, error) {
	list = slices.DeleteFunc(slices.Clone(list), func(r reloaded) bool { return r.Kind != kind })
	if len(list) == 0 {
		return reloaded{}, fmt.Errorf("no reload of the kind %q was measured", kind)
	}
	return slices.MinFunc(list, func(a, b reloaded) int { return cmp.Compare(a.Took, b.Took) }), nil
}

// destinations are the profiles besides the one for anybody, each with a limit. The first one is that of the first client,
// if he is to have one.
func destinations(n, limit int, first bool) []string {
	var list []string
	for i := range n - 1 {
		lac := fmt.Sprintf("100.64.%d.%d", i/250, 1+i%250)
		switch {
		case i > 0:
		case !first:
			continue
		default:
			lac = sources.Masked().Addr().Next().String()
		}
		list = append(list, fmt.Sprintf("{name: lac%d, lac-address: %s, host-profiles: [{remote-host: default, max-sessions: %d}]}", i, lac, limit))
	}
	return list
}

// insideReload measures on this kernel and writes JSON.
func insideReload(ctx context.Context, o options, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout+time.Duration(o.sessions)*clientTimeout+time.Duration(o.rounds)*3*time.Minute)
	defer cancel()
	m, err := measureReload(ctx, o)
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(m)
}

func measureReload(ctx context.Context, o options) (m underReload, err error) {
	n, err := newNetwork(ctx)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	limit := o.sessions
	d, err := startDaemon(ctx, n, n.router(o.sessions, destinations(o.profiles, limit, true)))
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, d.Kill()) }()
	meter, err := newMeter("reload", []int{d.PID()})
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, d.Kill(), n.Close(), meter.close()) }()
	g, err := n.generator(groups[o.group])
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	say("%d sessions", o.sessions)
	r, err := connectAndPing(ctx, g, o.sessions, o.window)
	if err != nil {
		return m, err
	}
	if r.Up < o.sessions {
		return m, fmt.Errorf("%d of %d clients came up: %v", r.Up, o.sessions, r.Failed)
	}

	type result struct {
		t   loadgen.Traffic
		err error
	}
	stop, traffic := make(chan struct{}), make(chan result, 1)
	go func() {
		t, err := g.Stream(ctx, gateway, pace, stop)
		traffic <- result{t, err}
	}()
	take := func(kind string, want api.PlanCounts) error {
		before, err := meter.sample()
		if err != nil {
			return err
		}
		start := time.Now()
		plan, err := d.API().Reload(ctx)
		took := time.Since(start)
		if err != nil {
			return err
		}
		if plan.Dropped != want {
			return fmt.Errorf("%s: %+v ended, not %+v", kind, plan.Dropped, want)
		}
		after, err := meter.sample()
		if err != nil {
			return err
		}
		m.Reloads = append(m.Reloads, reloaded{kind, took, after.CPU - before.CPU, plan.Dropped})
		say("%s: %v", kind, took)
		return nil
	}
	all := func() error {
		if err := take(reloadIdle, api.PlanCounts{}); err != nil {
			return err
		}
		m.Reloads = nil // the first one finds nothing in caches
		for range o.rounds {
			if err := take(reloadIdle, api.PlanCounts{}); err != nil {
				return err
			}
			limit++
			err := d.WriteRouter("bench", n.router(o.sessions, destinations(o.profiles, limit, true)))
			if err == nil {
				err = take(reloadEach, api.PlanCounts{})
			}
			if err != nil {
				return err
			}
		}
		if err := d.WriteRouter("bench", n.router(o.sessions, destinations(o.profiles, limit, false))); err != nil {
			return err
		}
		return take(reloadFirst, api.PlanCounts{Tunnels: 1, Sessions: 1, Subscribers: 1})
	}
	if err = all(); err == nil {
		time.Sleep(calm) // what a reload breaks may show late
	}
	close(stop)
	last := <-traffic
	m.Traffic = last.t
	if err = errors.Join(err, last.err); err != nil {
		return m, err
	}
	if lost := g.Lost(); m.Traffic.Sessions != o.sessions-1 {
		return m, fmt.Errorf("%d sessions are left of %d: %v", m.Traffic.Sessions, o.sessions, lost)
	}
	return m, nil
}
