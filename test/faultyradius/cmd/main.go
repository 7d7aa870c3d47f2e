// Command cmd is faultyradius on two UDP ports, for tests in the VM. When it is interrupted it prints what it has counted
// and the accounting records it has acknowledged, as JSON.
//
//	cmd -auth 192.0.2.1:1812 -acct 192.0.2.1:1813 -secret testing123 -faults silent,silent,honest -user alice=secret
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"vrgate/test/faultyradius"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "faultyradius:", err)
		os.Exit(1)
	}
}

// attribute is an attribute of a record, its value in base64.
type attribute struct {
	Type  int
	Value string
}

func run() error {
	var cfg faultyradius.Config
	auth := flag.String("auth", "127.0.0.1:1812", "address for authentication")
	acct := flag.String("acct", "127.0.0.1:1813", "address for accounting")
	faults := flag.String("faults", "honest", fmt.Sprint("what is done with each request, by commas; the last holds on: ", faultyradius.Faults))
	flag.StringVar(&cfg.Secret, "secret", "testing123", "shared secret")
	flag.DurationVar(&cfg.Delay, "delay", 0, "of every answer")
	flag.DurationVar(&cfg.Lateness, "lateness", 0, "of late answers, on top")
	flag.DurationVar(&cfg.HonestAfter, "honest-after", 0, "when the honest answer follows a fault; 0: never")
	flag.IntVar(&cfg.Drop, "drop", 0, "lose one packet in so many; 0: none")
	flag.Uint64Var(&cfg.Seed, "seed", 0, "of what is random")
	flag.Func("user", "name=password, more than once; without it everybody is accepted", func(s string) error {
		name, password, ok := strings.Cut(s, "=")
		if !ok {
			return errors.New("wants name=password")
		}
		if cfg.Passwords == nil {
			cfg.Passwords = map[string]string{}
		}
		cfg.Passwords[name] = password
		return nil
	})
	flag.Parse()
	for _, f := range strings.Split(*faults, ",") {
		if !slices.Contains(faultyradius.Faults, faultyradius.Fault(f)) {
			return fmt.Errorf("there is no fault %q", f)
		}
		cfg.Faults = append(cfg.Faults, faultyradius.Fault(f))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := faultyradius.New(cfg)
	var conns []net.PacketConn
	for _, address := range []string{*auth, *acct} {
		conn, err := net.ListenPacket("udp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	var servers errgroup.Group
	for _, conn := range conns {
		servers.Go(func() error { return s.Serve(conn) })
	}
	context.AfterFunc(ctx, func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	if err := servers.Wait(); ctx.Err() == nil {
		return err
	}
	out := struct {
		faultyradius.Stats
		Records [][]attribute
	}{Stats: s.Stats()}
	for _, r := range s.Records() {
		var record []attribute
		for _, a := range r {
			record = append(record, attribute{int(a.Type), base64.StdEncoding.EncodeToString(a.Attribute)})
		}
		out.Records = append(out.Records, record)
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}
