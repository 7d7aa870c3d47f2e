package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"vrgate/controlplane/keymat"
	"vrgate/test/daemon"
	"vrgate/test/loadgen"
	"vrgate/test/topo"
)

// What both servers and the clients share.
const (
	psk      = "an old but long group secret"
	password = "correct horse"
)

// Addresses. The pool has one for each of maxClients and is the same for both servers.
var (
	sources    = netip.MustParsePrefix("198.19.0.0/16") // RFC 2544: the clients', outside
	gateway    = netip.MustParseAddr("10.9.0.1")        // the server's end of every session
	poolFirst  = netip.MustParseAddr("10.9.1.0")
	poolLast   = netip.MustParseAddr("10.9.64.255")
	maxClients = 16384
)

func userName(i int) string { return fmt.Sprint("user", i) }

// network is a topology with a server's namespace and one machine with all the clients.
type network struct {
	*topo.Net
	server  *topo.Namespace
	address netip.Addr // the server's, outside
	clients *topo.Namespace
}

func newNetwork(ctx context.Context) (_ *network, err error) {
	n := &network{}
	if n.Net, err = topo.New(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	var uplink topo.Uplink
	if n.server, uplink, err = n.Server(ctx, "srv"); err != nil {
		return nil, err
	}
	n.address = uplink.Address
	host, err := n.AddHost(ctx, nil)
	if err != nil {
		return nil, err
	}
	n.clients = host.Namespace
	// Every address of the prefix is local there, without being on an interface.
	if err := n.clients.IP(ctx, fmt.Sprintf("route add local %v dev lo", sources)); err != nil {
		return nil, err
	}
	return n, n.Internet().IP(ctx, fmt.Sprintf("route add %v via %v", sources, host.Address))
}

// generator makes the clients.
func (n *network) generator(group keymat.Group) (*loadgen.Generator, error) {
	return loadgen.New(loadgen.Config{
		Do: n.clients.Do, Server: n.address, Sources: sources, PSK: keymat.Secret(psk), Group: group, User: userName, Password: password,
	})
}

// server is one that runs.
type server struct {
	pids []int
	logs func() string
	stop func() error
}

// servers start one of each kind in the network, for so many clients.
var servers = map[string]func(context.Context, *network, string, int) (*server, error){
	"vrgate": startVrgate,
	"stock":  startStock,
}

// startVrgate starts the daemon with its defaults but for the pre-shared key and the users.
func startVrgate(ctx context.Context, n *network, _ string, clients int) (*server, error) {
	d, err := startDaemon(ctx, n, n.router(clients, nil))
	if err != nil {
		return nil, err
	}
	return &server{pids: []int{d.PID()}, logs: d.Log, stop: d.Kill}, nil
}

// router is the YAML of the virtual router, with a destination profile for anybody after the given ones.
func (n *network) router(clients int, destinations []string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("namespace: {name: %s}", n.server.Name())
	line("server-addresses: [%v]", n.address)
	line("ipsec:\n  proposals: legacy\n  transport-profiles:\n    - name: l2tp\n      local-addresses:\n        - address: %v\n          group-keys: [{name: all, key: %q}]", n.address, psk)
	line("l2tp:\n  destination-profiles:")
	for _, d := range destinations {
		line("    - %s", d)
	}
	line("    - name: any\n      host-profiles:\n        - remote-host: default")
	line("ip-profiles:\n  - name: users\n    unnumbered-address: %v", gateway)
	line("pools: [{name: main, ranges: [%v-%v]}]", poolFirst, poolLast)
	line("users:")
	for i := range clients {
		line("  - {name: %s, password: %q}", userName(i), password)
	}
	return b.String()
}

// startDaemon starts the daemon with a virtual router "bench".
func startDaemon(ctx context.Context, n *network, router string) (*daemon.Daemon, error) {
	d, err := daemon.New(filepath.Join(n.Dir(), "vrgate"), map[string]string{"bench": router})
	if err != nil {
		return nil, err
	}
	// The log level that operators have, not that of tests.
	file := filepath.Join(d.Dir, "vrgate.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "level: debug", "level: info")), 0o600); err != nil {
		return nil, err
	}
	return d, d.Start(ctx)
}

// startStock starts strongSwan and xl2tpd, which starts a pppd for each session.
func startStock(ctx context.Context, n *network, group string, clients int) (*server, error) {
	users := make(map[string]string, clients)
	for i := range clients {
		users[userName(i)] = password
	}
	s, err := n.NewStockServer(ctx, topo.StockConfig{
		Namespace: n.server, Listen: n.address, PSK: psk, Users: users, Local: gateway, First: poolFirst, Last: poolLast,
		IKE: []string{"aes256-sha2_256-" + group}, ESP: []string{"aes256-sha1"}, Quiet: true,
	})
	if err != nil {
		return nil, err
	}
	out, err := n.server.Output(ctx, "ip", "netns", "pids", n.server.Name())
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, w := range strings.Fields(out) {
		pid, err := strconv.Atoi(w)
		if err != nil {
			return nil, fmt.Errorf("ip netns pids: %w", err)
		}
		// The command that lists them is listed too, and has ended; and this process is, when its
		// first thread has been in the namespace and waits there for the end.
		if _, err := os.Stat("/proc/" + w); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return &server{pids: pids, logs: s.Logs, stop: func() error { return nil }}, nil // the network's Close stops it
}
