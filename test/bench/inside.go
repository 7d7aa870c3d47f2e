package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"vrgate/test/loadgen"
)

// startTimeout and clientTimeout bound what one server may take: to start, and for each client.
const (
	startTimeout  = 3 * time.Minute
	clientTimeout = 3 * time.Second
)

// measured is what one server did for so many clients. Everything about resources is what was
// added between two samples: after the clients that came before, and with all.
type measured struct {
	Server    string
	Clients   int // that were to come up
	Up        int
	Answered  int // sessions, of all, through which the gateway answered a ping
	Before    int // clients that were up before
	Failed    map[string]int
	Took      time.Duration
	Median    time.Duration // of a client's set-up
	Slowest   time.Duration
	CPU       time.Duration // of the server's processes, between start and end of the set-ups
	Busy      time.Duration // of all processors but for the clients
	Load      time.Duration // processor time of the clients
	Processes int
	RSS, PSS  int64 // bytes, server's processes
	Machine   int64 // bytes, server's processes and kernel
}

// inside runs the set-ups on this kernel and writes each result as a line of JSON.
func inside(ctx context.Context, o options, w io.Writer) error {
	enc := json.NewEncoder(w)
	for round := range o.rounds {
		for _, name := range []string{"stock", "vrgate"} {
			say("round %d: %d clients against %s, after %d that come before", round+1, o.clients, name, o.warm)
			m, err := measure(ctx, name, o, o.warm, o.clients)
			if err == nil {
				err = enc.Encode(m)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if o.many > 0 {
		say("%d clients against vrgate", o.many)
		m, err := measure(ctx, "vrgate", o, o.warm, o.many-o.warm)
		if err != nil {
			return fmt.Errorf("vrgate with %d clients: %w", o.many, err)
		}
		return enc.Encode(m)
	}
	return nil
}

// measure starts a server, connects warm clients, then the measured ones.
func measure(ctx context.Context, name string, o options, warm, clients int) (m measured, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout+time.Duration(warm+clients)*clientTimeout)
	defer cancel()
	n, err := newNetwork(ctx)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	s, err := servers[name](ctx, n, o.group, warm+clients)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	meter, err := newMeter(name, s.pids)
	if err != nil {
		return m, err
	}
	// The group can go when its processes have, and they are gone when the network is.
	defer func() { err = errors.Join(err, s.stop(), n.Close(), meter.close()) }()
	defer func() {
		if err != nil {
			const tail = 8 << 10
			log := s.logs()
			err = fmt.Errorf("%w\nlog of %s:\n%s", err, name, log[max(0, len(log)-tail):])
		}
	}()
	g, err := n.generator(groups[o.group])
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()

	if warm > 0 {
		r, err := connectAndPing(ctx, g, warm, o.window)
		if err != nil {
			return m, err
		}
		if r.Up < warm {
			return m, fmt.Errorf("of the %d clients that come before the measured ones, %d came up: %v", warm, r.Up, r.Failed)
		}
	}
	before, err := meter.sample()
	if err != nil {
		return m, err
	}
	r, err := g.Connect(ctx, clients, o.window)
	if err != nil {
		return m, err
	}
	done, err := meter.sample()
	if err != nil {
		return m, err
	}
	// The time between the samples has the processor time of the set-ups; memory is looked at
	// once the sessions carry traffic and what was begun is done.
	answered, err := g.Ping(ctx, gateway)
	if err != nil {
		return m, fmt.Errorf("%d sessions answer, %v: %w", answered, g, err)
	}
	if err := g.Serve(ctx, 3*time.Second); err != nil {
		return m, err
	}
	after, err := meter.sample()
	if err != nil {
		return m, err
	}
	m = measured{
		Server: name, Clients: clients, Up: r.Up, Answered: answered, Before: warm, Failed: r.Failed, Took: r.Took,
		CPU: done.CPU - before.CPU, Busy: done.Busy - before.Busy, Load: done.Clients - before.Clients, Processes: after.Processes - before.Processes,
		RSS: int64(after.RSS) - int64(before.RSS), PSS: int64(after.PSS) - int64(before.PSS), Machine: int64(after.Machine) - int64(before.Machine),
	}
	if r.Up == 0 {
		return m, fmt.Errorf("no client came up: %v", r.Failed)
	}
	m.Median, m.Slowest = r.Latency[len(r.Latency)/2], r.Latency[len(r.Latency)-1]
	if lost := g.Lost(); len(lost) > 0 {
		return m, fmt.Errorf("sessions were lost while others were set up: %v", lost)
	}
	return m, nil
}

// connectAndPing connects clients and sees that their sessions carry traffic.
func connectAndPing(ctx context.Context, g *loadgen.Generator, n, window int) (loadgen.Result, error) {
	r, err := g.Connect(ctx, n, window)
	if err != nil {
		return r, err
	}
	answered, err := g.Ping(ctx, gateway)
	if err != nil {
		return r, fmt.Errorf("%d sessions answer, %v: %w", answered, g, err)
	}
	return r, nil
}
