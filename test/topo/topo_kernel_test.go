//go:build kernel

package topo

import (
	"context"
	"errors"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// intranetHost is where the tests' clients want to get.
var intranetHost = netip.MustParseAddr("10.1.0.2")

// How swanctl lists SAs, with numbers that grow.
var (
	ikeSA   = regexp.MustCompile(`(?m)^vpn: #\d+, ESTABLISHED`)
	childSA = regexp.MustCompile(`(?m)^  l2tp: #\d+, reqid \d+, INSTALLED`)
)

// stock makes a network with a stock server and an intranet behind it.
func stock(ctx context.Context, t *testing.T) (*Net, *StockServer, netip.Addr) {
	t.Helper()
	if err := Probe(); err != nil {
		t.Fatal(err)
	}
	n, err := New(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	server, uplink, err := n.Server(ctx, "srv")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.AddIntranet(ctx, server, Intranet{Interface: "lan0", Gateway: netip.MustParsePrefix("10.1.0.1/24"), Host: intranetHost}); err != nil {
		t.Fatal(err)
	}
	s, err := n.NewStockServer(ctx, StockConfig{
		Namespace: server, Listen: uplink.Address, PSK: "open sesame", Users: map[string]string{"ann": "secret", "bob": "secret"},
		Local: netip.MustParseAddr("10.9.0.1"), First: netip.MustParseAddr("10.9.0.10"), Last: netip.MustParseAddr("10.9.0.50"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.Logs())
		}
	})
	return n, s, uplink.Address
}

func newClient(ctx context.Context, t *testing.T, n *Net, nat *NAT, config ClientConfig) *Client {
	t.Helper()
	host, err := n.AddHost(ctx, nat)
	if err != nil {
		t.Fatal(err)
	}
	config.Host = host
	config.Routes = []netip.Prefix{netip.PrefixFrom(intranetHost, 24).Masked()}
	c, err := n.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Logs())
		}
		c.Close()
	})
	return c
}

func mustConnect(ctx context.Context, t *testing.T, c *Client) Session {
	t.Helper()
	start := time.Now()
	s, err := c.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s connected in %.1f s: %+v", c.Host().Address, time.Since(start).Seconds(), s)
	return s
}

func mustPing(ctx context.Context, t *testing.T, c *Client) {
	t.Helper()
	r, err := c.Ping(ctx, intranetHost, PingOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Lost() > 0 {
		t.Fatalf("%d of %d packets lost", r.Lost(), r.Sent)
	}
}

// The topology and the stock clients work: what fails later is vrgate's.
func TestStockClients(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	n, server, address := stock(ctx, t)
	nat, err := n.AddNAT(ctx, KeepPorts)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("direct", func(t *testing.T) {
		c := newClient(ctx, t, n, nil, ClientConfig{Server: address, PSK: "open sesame", User: "ann", Password: "secret"})
		mustConnect(ctx, t, c)
		mustPing(ctx, t, c)
		sas, err := c.SAs(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(sas, "TRANSPORT") || strings.Contains(sas, "TRANSPORT-in-UDP") {
			t.Errorf("not plain ESP in transport mode:\n%s", sas)
		}

		ping, err := c.Host().StartPing(intranetHost, PingOptions{Interval: 100 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		// One after the other: strongSwan puts a new phase 1 off for 10 s while phase 2 is being rekeyed.
		for _, r := range []struct {
			rekey func(context.Context) error
			sa    *regexp.Regexp
		}{{c.RekeyChild, childSA}, {c.RekeyIKE, ikeSA}} {
			was := r.sa.FindAllString(sas, -1)
			if err := r.rekey(ctx); err != nil {
				t.Error(err)
			}
			for {
				is, err := c.SAs(ctx)
				if err != nil {
					t.Fatalf("waiting for a successor of %q: %v", was, err)
				}
				if slices.ContainsFunc(r.sa.FindAllString(is, -1), func(s string) bool { return !slices.Contains(was, s) }) {
					break
				}
				time.Sleep(200 * time.Millisecond)
			}
		}
		time.Sleep(1500 * time.Millisecond)
		// strongSwan as responder takes its new inbound SA into use after the initiator may have sent by it,
		// once per rekeying; what vrgate loses is for its own tests to say.
		if r, err := ping.Stop(); err != nil || r.Sent < 20 || r.Lost() > 2 {
			t.Errorf("rekeying: %v, sent %d, lost %d", err, r.Sent, r.Lost())
		}
		if err := c.Disconnect(ctx); err != nil {
			t.Error(err)
		}
		if r, err := c.Ping(ctx, intranetHost, PingOptions{}); err == nil && r.Received > 0 {
			t.Error("the intranet still answers after Disconnect")
		}
		mustConnect(ctx, t, c)
		mustPing(ctx, t, c)
	})
	t.Run("behind NAT", func(t *testing.T) {
		c := newClient(ctx, t, n, nat, ClientConfig{Server: address, PSK: "open sesame", User: "bob", Password: "secret", EphemeralPort: true})
		mustConnect(ctx, t, c)
		mustPing(ctx, t, c)
		sas, err := server.SAs(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(sas, "TRANSPORT-in-UDP") || !strings.Contains(sas, nat.Address.String()) {
			t.Errorf("not encapsulated in UDP from the NAT:\n%s", sas)
		}
	})
	t.Run("failures", func(t *testing.T) {
		for _, c := range []struct {
			name   string
			config ClientConfig
			want   Stage
		}{
			{"wrong PSK", ClientConfig{PSK: "wrong", User: "ann", Password: "secret", IKEConfig: IKEConfig{RetransmitTries: 1, RetransmitTimeout: time.Second}}, StageIKE},
			{"wrong password", ClientConfig{PSK: "open sesame", User: "ann", Password: "wrong"}, StagePPP},
		} {
			t.Run(c.name, func(t *testing.T) {
				c.config.Server = address
				_, err := newClient(ctx, t, n, nil, c.config).Connect(ctx)
				var failed *ConnectError
				if !errors.As(err, &failed) || failed.Stage != c.want {
					t.Errorf("error %v, want one at stage %s", err, c.want)
				}
			})
		}
	})
}

// A dozen clients connect at once in affordable time. They are not behind one NAT, where the stock server
// would take them for one: that is vrgate's to show.
func TestTwelveClients(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	n, _, address := stock(ctx, t)
	start := time.Now()
	clients := make([]*Client, 12)
	for i := range clients {
		clients[i] = newClient(ctx, t, n, nil, ClientConfig{Server: address, PSK: "open sesame", User: "ann", Password: "secret"})
	}
	t.Logf("hosts made in %.1f s", time.Since(start).Seconds())
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() {
			s, err := c.Connect(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			t.Logf("%s connected after %.1f s as %s", c.Host().Address, time.Since(start).Seconds(), s.Local)
			if r, err := c.Ping(ctx, intranetHost, PingOptions{}); err != nil || r.Lost() > 0 {
				t.Errorf("%s: %v, lost %d", c.Host().Address, err, r.Lost())
			}
		})
	}
	all.Wait()
}

// Plain L2TP reaches the stock server too; only a server's policy can refuse it.
func TestPlainClientAndKill(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	n, _, address := stock(ctx, t)
	c := newClient(ctx, t, n, nil, ClientConfig{Server: address, Plain: true, User: "ann", Password: "secret"})
	mustConnect(ctx, t, c)
	mustPing(ctx, t, c)
	counters := func() int {
		t.Helper()
		out, err := n.Internet().Output(ctx, "sed", "-n", "s/ *site0://p", "/proc/net/dev")
		if err != nil {
			t.Fatal(err)
		}
		received, err := strconv.Atoi(strings.Fields(out)[1]) // packets
		if err != nil {
			t.Fatal(err)
		}
		return received
	}
	before := counters()
	if err := c.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	// A stray packet of IPv6 or ARP may slip in before the link is cut; a farewell is more than one.
	if after := counters(); before == 0 || after > before+1 {
		t.Errorf("a vanished client still sent packets: %d, then %d", before, after)
	}
}

// A NAT that forgets its mappings sends the same flow from another port.
func TestRebind(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := New(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	server, uplink, err := n.Server(ctx, "srv")
	if err != nil {
		t.Fatal(err)
	}
	nat, err := n.AddNAT(ctx, KeepPorts)
	if err != nil {
		t.Fatal(err)
	}
	host, err := n.AddHost(ctx, nat)
	if err != nil {
		t.Fatal(err)
	}
	ports, err := sourcePorts(server, uplink.Address, host, func() error { return nat.Rebind(ctx) })
	if err != nil {
		t.Fatal(err)
	}
	if ports[0].Addr() != nat.Address || ports[1].Addr() != nat.Address {
		t.Errorf("seen from %s and %s, want the NAT's %s", ports[0], ports[1], nat.Address)
	}
	if ports[0].Port() != 4500 || ports[1].Port() == 4500 {
		t.Errorf("seen from %s and %s, want port 4500 and then another", ports[0], ports[1])
	}
}
