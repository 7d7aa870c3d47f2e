package subscriber

import (
	"bytes"
	"encoding/base64"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// plain compares addresses as values.
var plain = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

// restart goes on with an engine made of the present one's snapshot. The random walk does it
// at any moment: nothing that counts may be lost.
func (b *bed) restart() {
	b.t.Helper()
	data, err := b.e.Snapshot()
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	e, err := Restore(b.e.cfg, rand.NewChaCha8([32]byte{2}), data)
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	if d := cmp.Diff(b.e.Records(), e.Records(), plain); d != "" {
		b.t.Fatalf("records differ after a restart: %s", d)
	}
	if d := cmp.Diff(b.e.Counters(), e.Counters()); d != "" {
		b.t.Fatalf("counters differ after a restart: %s", d)
	}
	again, err := e.Snapshot()
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	if !bytes.Equal(data, again) {
		b.t.Fatalf("a restored engine's snapshot differs:\n%s\n%s", data, again)
	}
	b.e = e
}

// TestSnapshotHoldsNoPassword: what waits for AAA is asked with a password that is not kept.
func TestSnapshotHoldsNoPassword(t *testing.T) {
	b := newBed(t)
	b.connUp(1)
	call := CallKey{Tunnel: 1, Session: 1}
	b.step(TunnelUp{Tunnel: 1, Conn: 1})
	b.callUp(call, 1)
	b.speak(call, testUser)
	if len(b.decides) != 1 {
		t.Fatalf("%d questions to AAA", len(b.decides))
	}
	data, err := b.e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), testUser) || strings.Contains(string(data), testPassword) {
		t.Errorf("snapshot: %s", data)
	}
}

// TestSnapshotHoldsNoAnswer: the same for what a dynamic subscriber answers.
func TestSnapshotHoldsNoAnswer(t *testing.T) {
	b := newBed(t)
	b.dynamicUp(someone, "staff")
	b.reply(UserAnswered{
		User: testUser, Password: []byte(testPassword), Passcode: []byte(testPassword), NextPIN: []byte(testPassword), Answer: []byte(testPassword),
	})
	data, err := b.e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	encoded := base64.StdEncoding.EncodeToString([]byte(testPassword))
	if s := string(data); !strings.Contains(s, testUser) || strings.Contains(s, testPassword) || strings.Contains(s, encoded) {
		t.Errorf("snapshot: %s", data)
	}
}

// TestRestoreRefuses: what is no snapshot of this version gives an error and no engine.
func TestRestoreRefuses(t *testing.T) {
	for _, data := range []string{
		"", "{", "[]", `{"Version":2}`, `{"Version":3,"Sessions":[{"Record":{"State":99}}]}`,
		`{"Version":3,"Sessions":[{"Kernel":9}]}`, `{"Version":3,"Sessions":[{"Accounting":9}]}`, `{"Version":3,"Sessions":[{"Changing":true}]}`,
		`{"Version":3,"Sessions":[{"Changing":true,"Changes":[{"Token":1}]}]}`, `{"Version":3,"Sessions":[{"Record":{"ID":1}},{"Record":{"ID":1}}]}`,
		`{"Version":3,"Sessions":[{"Link":{"Phase":77}}]}`, `{"Version":3,"Sessions":[{"Dynamic":{"Dialogue":9}}]}`,
		`{"Version":3,"Sessions":[{"Dynamic":{},"Link":{}}]}`, `{"Version":3,"Sessions":[{"Dynamic":{},"Far":{}}]}`,
		`{"Version":3,"Sessions":[{"Asked":true,"Far":{}}]}`, `{"Version":3,"Sessions":[{"Far":{"Up":true,"Dialling":true}}]}`,
		`{"Version":3,"Sessions":[{"Record":{"ID":1,"Call":{"Tunnel":1}},"Far":{"Up":true}},{"Record":{"ID":2,"Call":{"Tunnel":2}},"Far":{"Up":true}}]}`,
		`{"Version":3,"Sessions":[{"Record":{"ID":1}},{"Record":{"ID":2}}]}`,
		`{"Version":3,"Sessions":[{"Dynamic":{},"Begin":"2026-01-01T00:00:00Z"}]}`, `{"Version":3,"Conns":[{"ConnUp":{}}]}`,
		`{"Version":3,"Conns":[{"ConnUp":{"Conn":1}},{"ConnUp":{"Conn":1}}]}`,
		`{"Version":3,"Sessions":[{"Record":{"ID":1,"Conn":7},"Dynamic":{}},{"Record":{"ID":2,"Conn":7},"Dynamic":{}}]}`,
	} {
		if e, err := Restore(testConfig(), rand.NewChaCha8([32]byte{}), []byte(data)); err == nil || e != nil {
			t.Errorf("%s: %v %v", data, e, err)
		}
	}
}
