package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"

	"vrgate/test/daemon"
	"vrgate/test/topo"
)

// The pieces of the story, with the addresses that are not topo's to choose.
const (
	groupKey   = "shared by the whole office"
	routerName = "office"
)

var (
	gateway      = netip.MustParsePrefix("10.1.0.1/24")
	intranetHost = netip.MustParseAddr("10.1.0.2")
)

// cast are the users.
var cast = []user{{name: "alice", password: "correct horse"}, {name: "bob", password: "battery staple"}}

type user struct{ name, password string }

// person is a user with a machine, a stock client on it, and what the client got.
type person struct {
	user
	client   *topo.Client
	session  topo.Session
	transfer transfer // the last one
	link     string   // of vrgate, where this client's packets come out
}

// scene is the network with everybody in it.
type scene struct {
	net      *topo.Net
	server   *topo.Namespace
	address  netip.Addr // of the server, public
	intranet *topo.Host
	nat      *topo.NAT
	people   []*person
	daemon   *daemon.Daemon
	rules    string // vrgate's nftables table before there are clients
}

// build makes the network and prepares vrgate and the clients; no daemon runs yet. What it returns must be
// closed, also when it returns an error.
func build(ctx context.Context) (*scene, error) {
	s := &scene{}
	var err error
	if s.net, err = topo.New(ctx); err != nil {
		return s, err
	}
	server, uplink, err := s.net.Server(ctx, "gw")
	if err != nil {
		return s, err
	}
	s.server, s.address = server, uplink.Address
	s.intranet, err = s.net.AddIntranet(ctx, server, topo.Intranet{Interface: "lan0", Gateway: gateway, Host: intranetHost})
	if err != nil {
		return s, err
	}
	if s.nat, err = s.net.AddNAT(ctx, topo.KeepPorts); err != nil {
		return s, err
	}
	for _, u := range cast {
		host, err := s.net.AddHost(ctx, s.nat)
		if err != nil {
			return s, err
		}
		client, err := s.net.NewClient(topo.ClientConfig{
			Host: host, Server: s.address, PSK: groupKey, User: u.name, Password: u.password,
			Routes: []netip.Prefix{gateway.Masked()},
		})
		if err != nil {
			return s, err
		}
		s.people = append(s.people, &person{user: u, client: client})
	}
	s.daemon, err = daemon.New(filepath.Join(s.net.Dir(), "vrgate"), map[string]string{routerName: s.configuration()})
	return s, err
}

// configuration is the virtual router's YAML file.
func (s *scene) configuration() string {
	var users strings.Builder
	for _, u := range cast {
		fmt.Fprintf(&users, "  - {name: %s, password: %q}\n", u.name, u.password)
	}
	return fmt.Sprintf(`namespace: {name: %s}     # where this tenant lives
server-addresses: [%s]
ipsec:
  transport-profiles:
    - name: l2tp
      local-addresses:
        - address: %[2]s
          group-keys: [{name: everybody, key: %[3]q}]
l2tp:
  destination-profiles:
    - name: anywhere
      host-profiles: [{remote-host: default}]
ip-profiles:
  - {name: staff, unnumbered-address: 10.9.0.1, dns: [10.1.0.53]}
pools: [{name: main, ranges: [10.9.0.10-10.9.0.99]}]
users:
%[4]s`, s.server.Name(), s.address, groupKey, users.String())
}

// each does something for all people at once.
func (s *scene) each(do func(*person) error) error {
	errs := make([]error, len(s.people))
	var all sync.WaitGroup
	for i, p := range s.people {
		all.Go(func() {
			if err := do(p); err != nil {
				errs[i] = fmt.Errorf("%s: %w", p.name, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// close ends every process and removes everything; an error says what could not be.
func (s *scene) close() error {
	var errs []error
	if s.daemon != nil {
		errs = append(errs, s.daemon.Kill())
	}
	if s.net != nil {
		errs = append(errs, s.net.Close())
	}
	return errors.Join(errs...)
}

// vrgate runs a vrgate command in the configuration directory.
func (s *scene) vrgate(ctx context.Context, args ...string) (string, error) {
	cmd := s.daemon.Command(ctx, append([]string{"--config", "."}, args...)...)
	cmd.Dir = s.daemon.Dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("vrgate %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// output runs a shell command line on a machine.
func output(ctx context.Context, on *topo.Namespace, line string) (string, error) {
	return on.Output(ctx, "sh", "-c", line)
}
