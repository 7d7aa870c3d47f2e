package controlplane_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	rad "layeh.com/radius"

	"vrgate/controlplane/config"
	"vrgate/test/faultyradius"
)

// TestReloadRADIUS: after a reload other servers decide and take records, and give orders elsewhere; who was let in before
// notices nothing. Groups of the same servers that are called otherwise are no beginning (Accounting-On would end what
// these know of), and records of sessions that were let in before go to the group that they began with.
func TestReloadRADIUS(t *testing.T) {
	first := newRADIUSNet(t, faultyradius.Config{Passwords: map[string]string{"bob": testPassword}})
	second := newRADIUSNet(t, faultyradius.Config{Passwords: map[string]string{"carol": testPassword, "dave": testPassword}})
	w := startWorld(t, openStore(t), first.config("1s", ""), true)
	take := func(cfg *config.Config) {
		t.Helper()
		if plan, err := w.p.Reload(context.Background(), cfg); err != nil || plan.Dropped.Subscribers != 0 || len(plan.Failed) > 0 {
			t.Fatalf("%+v, %v", plan, err)
		}
	}
	bob := w.connect("red", "bob", "198.51.100.1", nil)
	b := w.up("bob")
	take(second.config("1s", ""))
	w.connect("red", "carol", "198.51.100.2", byXAuth)
	w.up("carol")
	if n := second.users.Stats().Requests; n == 0 {
		t.Error("the new server has not been asked")
	}
	// The same server in a group of another name.
	renamed := renamedGroup(t, second)
	ons := kinds(second.received(), acctOn)
	take(renamed)
	w.connect("red", "dave", "198.51.100.3", nil)
	w.up("dave")
	if got := kinds(second.received(), acctOn); got != ons {
		t.Errorf("%d Accounting-On after the group has another name, %d before", got, ons)
	}
	bob.hangUp()
	w.until("the end of bob's session is on record", func() bool { return kinds(second.received(), acctStop) == 1 })
	// Orders are taken on the new port with the new secret, and not on the old one.
	if a := second.ask(rad.CodeDisconnectRequest, 1, radiusSecret, avp(1, "dave")); a == nil || a.Code != rad.CodeDisconnectACK {
		t.Errorf("the answer to an order is %+v", a)
	}
	w.until("dave is out", func() bool { return strings.Contains(fmt.Sprint(w.endings()), "dave: ") })
	if b.AccountingGroup != "everything" {
		t.Errorf("bob's group is %q", b.AccountingGroup)
	}
	if err := w.finish(); err != nil {
		t.Error(err)
	}
}

// renamedGroup is the configuration of a RADIUS net with another name for its group.
func renamedGroup(t *testing.T, n *radiusNet) *config.Config {
	t.Helper()
	dir := filepath.Dir(filepath.Dir(n.config("1s", "").Router("red").File))
	path := filepath.Join(dir, "vr", "red.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(text, []byte("name: everything"), []byte("name: all-of-it"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// Values of Acct-Status-Type.
const (
	acctStop = 2
	acctOn   = 7
)

// kinds counts the records of one kind.
func kinds(records []booked, status byte) (n int) {
	for _, r := range records {
		for _, a := range r.Attributes {
			if a.Type == 40 && len(a.Attribute) == 4 && a.Attribute[3] == status {
				n++
			}
		}
	}
	return n
}
