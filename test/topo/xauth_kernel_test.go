//go:build kernel

package topo

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The dynamic subscribers work with strongSwan as server: by the group's key in aggressive mode, and by
// certificates in main mode.
func TestXAuthClients(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	n, err := New(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	key, err := NewKey(ctx, filepath.Join(n.Dir(), "ca"), "ca")
	if err != nil {
		t.Fatal(err)
	}
	authority, err := NewAuthority(ctx, filepath.Join(n.Dir(), "ca"), "Test Authority", key)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(name string, o CertificateOptions) *Certificate {
		t.Helper()
		c, err := authority.Issue(ctx, name, o)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	own := issue("vpn.example.net", CertificateOptions{SANs: []string{"DNS:vpn.example.net"}})
	ann := issue("ann", CertificateOptions{SANs: []string{"email:ann@example.net"}, KeyOf: own})

	for _, c := range []struct {
		name   string
		server connection
		own    *Certificate
		client XAuthConfig
	}{
		{
			name: "aggressive PSK",
			server: connection{
				IKEConfig: IKEConfig{Connection: []string{"aggressive = yes"}},
				local:     []round{{auth: "psk"}}, remote: []round{{auth: "psk", id: "keyid:sales"}, {auth: "xauth"}},
				secrets: []secret{{kind: "ike", text: "open sesame"}},
			},
			client: XAuthConfig{Method: XAuthPSK, Aggressive: true, PSK: "open sesame", ID: "keyid:sales"},
		},
		{
			name: "RSA", own: own,
			server: connection{local: []round{own.round("vpn.example.net")}, remote: []round{authority.round(""), {auth: "xauth"}}},
			client: XAuthConfig{Method: XAuthRSA, Certificate: ann, Authority: authority, ID: "ann@example.net", ServerID: "vpn.example.net"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, uplink, err := n.Server(ctx, "srv"+strings.ReplaceAll(c.name, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := n.AddIntranet(ctx, server, Intranet{Interface: "lan0", Gateway: netip.MustParsePrefix("10.1.0.1/24"), Host: intranetHost}); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(n.Dir(), server.Name())
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			over, err := privateDirs(dir, "")
			if err != nil {
				t.Fatal(err)
			}
			conn := c.server
			conn.to, conn.children = "%any", []child{{name: tunnelName, tunnel: true, localTS: "0.0.0.0/0", remoteTS: "dynamic"}}
			conn.pool = netip.MustParsePrefix("10.9.0.8/29")
			conn.secrets = append(conn.secrets, secret{kind: "xauth", id: "ann", text: "secret"})
			if _, err := n.startCharon(ctx, server, dir, over, charonOptions{}, c.own, conn); err != nil {
				t.Fatal(err)
			}
			config := c.client
			config.Server, config.User, config.Password = uplink.Address, "ann", "secret"
			if config.Host, err = n.AddHost(ctx, nil); err != nil {
				t.Fatal(err)
			}
			client, err := n.NewXAuthClient(config)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if t.Failed() {
					t.Log(client.Logs(), logs(dir, "charon.out", "charon.log"))
				}
				client.Close()
			}()
			got, err := client.Connect(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if !conn.pool.Contains(got.Address) {
				t.Errorf("address %s, want one of %s", got.Address, conn.pool)
			}
			if r, err := client.Ping(ctx, intranetHost, PingOptions{}); err != nil || r.Lost() > 0 {
				t.Errorf("%v, lost %d", err, r.Lost())
			}
			if err := client.Disconnect(ctx); err != nil {
				t.Error(err)
			}
			if r, err := client.Ping(ctx, intranetHost, PingOptions{}); err == nil && r.Received > 0 {
				t.Error("the intranet still answers after Disconnect")
			}
		})
	}
}
