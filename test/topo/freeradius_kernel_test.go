//go:build kernel

package topo

import (
	"context"
	"net/netip"
	"path/filepath"
	"testing"
	"time"
)

// TestFreeRADIUS asks one by radclient, and takes it down and up.
func TestFreeRADIUS(t *testing.T) {
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
	server, _, err := n.Server(ctx, "srv")
	if err != nil {
		t.Fatal(err)
	}
	host, err := n.AddIntranet(ctx, server, Intranet{
		Interface: "lan0", Gateway: netip.MustParsePrefix("10.1.0.1/24"), Host: netip.MustParseAddr("10.1.0.2"),
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(n.Dir(), "ca")
	key, err := NewKey(ctx, dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := NewAuthority(ctx, dir, "Example Authority", key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(ctx, "radius.example.net", CertificateOptions{KeyOf: &Certificate{Key: key}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := n.NewFreeRADIUS(FreeRADIUSConfig{
		Host: host, Secret: "shared", Users: "ann Cleartext-Password := \"pw\"\n\tFilter-Id = \"guests\"\n", Certificate: cert, Authority: ca,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(f.Logs())
		}
	})
	ask := func(kind, password string, unsigned bool) RADIUSAnswer {
		t.Helper()
		r := RADIUSRequest{
			To: netip.AddrPortFrom(host.Address, 1812), Kind: kind, Secret: "shared", Unsigned: unsigned, Timeout: 2 * time.Second,
			Attributes: []string{`User-Name = "ann"`},
		}
		if kind == "acct" {
			r.To = netip.AddrPortFrom(host.Address, 1813)
			r.Attributes = append(r.Attributes, "Acct-Status-Type = Start", `Acct-Session-Id = "1"`)
		} else {
			r.Timeout = 5 * time.Second
			r.Attributes = append(r.Attributes, `User-Password = "`+password+`"`)
		}
		a, err := host.RADIUS(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for range 2 {
		if err := f.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if a := ask("auth", "pw", false); a.Code != "Access-Accept" || a.Get("Filter-Id") != "guests" {
			t.Errorf("right password: %+v", a)
		}
		if a := ask("auth", "no", false); a.Code != "Access-Reject" {
			t.Errorf("wrong password: %+v", a)
		}
		if a := ask("acct", "", true); a.Code != "Accounting-Response" {
			t.Errorf("accounting: %+v", a)
		}
		f.Kill()
		if a := ask("acct", "", true); a.Code != "" {
			t.Errorf("killed, it says %+v", a)
		}
	}
	records, err := f.Records()
	if err != nil || len(records) != 2 || records[1].Get("Acct-Status-Type") != "Start" || records[1].Get("User-Name") != "ann" {
		t.Errorf("%v, %v", records, err)
	}
	requests, err := f.Requests()
	if err != nil || len(requests) != 4 || requests[0].Get("User-Name") != "ann" {
		t.Errorf("%v, %v", requests, err)
	}
}
