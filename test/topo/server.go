package topo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// StockConfig says what a StockServer is like.
type StockConfig struct {
	Namespace *Namespace
	Listen    netip.Addr        // its public address
	PSK       string            // of everybody
	Users     map[string]string // name -> password
	Local     netip.Addr        // PPP address of the server
	First     netip.Addr        // pool of the clients
	Last      netip.Addr
	IKE, ESP  []string // proposals in strongSwan's notation; empty: DefaultIKE, DefaultESP
	Quiet     bool     // log little, as in production: for measurements
}

// StockServer is strongSwan, xl2tpd and pppd as L2TP/IPsec server. It cannot serve two clients behind
// one NAT: their policies are equal, whether they say port 1701 or any port.
type StockServer struct {
	dir    string
	charon *charon
	xl2tpd *xl2tpd
}

// NewStockServer starts a server and returns when it takes calls.
func (n *Net) NewStockServer(ctx context.Context, config StockConfig) (*StockServer, error) {
	s := &StockServer{dir: filepath.Join(n.dir, strings.TrimPrefix(config.Namespace.name, n.prefix))}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("topo: %w", err)
	}
	var secrets strings.Builder
	for name, password := range config.Users {
		fmt.Fprintf(&secrets, "%q * %q *\n", name, password)
	}
	over, err := privateDirs(s.dir, secrets.String())
	if err != nil {
		return nil, err
	}
	var starting sync.WaitGroup
	var ikeErr, l2tpErr error
	starting.Go(func() {
		ike := IKEConfig{IKE: config.IKE, ESP: config.ESP}.withDefaults()
		ike.Connection = []string{"unique = never"} // a client that comes back does not end its other sessions
		s.charon, ikeErr = n.startCharon(ctx, config.Namespace, s.dir, over, charonOptions{quiet: config.Quiet}, nil, connection{
			IKEConfig: ike, to: "%any",
			local: []round{{auth: "psk"}}, remote: []round{{auth: "psk", id: "%any"}},
			secrets:  []secret{{kind: "ike", text: config.PSK}},
			children: []child{{name: childName, localTS: "dynamic[17/1701]", remoteTS: "dynamic[17]"}},
		})
	})
	starting.Go(func() {
		options := "auth\nrequire-mschap-v2\nnoccp\nproxyarp\nmtu 1400\nmru 1400\nlcp-echo-interval 30\nlcp-echo-failure 4\n"
		if !config.Quiet {
			options += "debug\n"
		}
		s.xl2tpd, l2tpErr = n.startXl2tpd(ctx, config.Namespace, s.dir, over,
			lnsConfig(config.Listen, config.Local, config.First, config.Last, filepath.Join(s.dir, "ppp.options"), !config.Quiet), options)
	})
	starting.Wait()
	return s, errors.Join(ikeErr, l2tpErr)
}

// SAs returns swanctl's list of the server's security associations.
func (s *StockServer) SAs(ctx context.Context) (string, error) {
	return s.charon.sas(ctx)
}

// Logs returns what the server's daemons wrote.
func (s *StockServer) Logs() string {
	return logs(s.dir, "charon.out", "charon.log", "xl2tpd.log", "ppp.log")
}
