package accounting

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/subscriber"
	"vrgate/pppd"
)

// The stored form is fixed: a journal survives an update of the daemon.
func TestStoredRecord(t *testing.T) {
	r := record{kind: KindStop, at: time.Unix(1, 2).UTC(), session: sessionKey{"vr-1", 0x0102030405060708}, attributes: []byte{40, 6, 0, 0, 0, 2}}
	want := strings.Join([]string{
		"01",               // version
		"02",               // stop
		"000000003b9aca02", // 1.000000002 s
		"0102030405060708", // session
		"04", "76722d31",   // vr-1
		"280600000002", // Acct-Status-Type = Stop
	}, "")
	if got := hex.EncodeToString(r.append(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	back, err := parseRecord(r.append(nil))
	if err != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("back %+v, %v", back, err)
	}
}

func TestDamagedRecords(t *testing.T) {
	good := record{kind: KindStart, at: time.Unix(1, 0), session: sessionKey{"a", 1}}.append(nil)
	for name, change := range map[string]func([]byte) []byte{
		"empty":            func([]byte) []byte { return nil },
		"short":            func(b []byte) []byte { return b[:recordHeader-1] },
		"other version":    func(b []byte) []byte { b[0]++; return b },
		"unknown kind":     func(b []byte) []byte { b[1] = 4; return b },
		"router too long":  func(b []byte) []byte { b[18] = 2; return b },
		"attributes large": func(b []byte) []byte { return append(b, make([]byte, MaxAttributes+1)...) },
	} {
		if _, err := parseRecord(change(bytes.Clone(good))); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := parseRecord(append(bytes.Clone(good), make([]byte, MaxAttributes)...)); err != nil {
		t.Error(err)
	}
	if _, err := parseRecordID(make([]byte, 11)); err == nil {
		t.Error("a short key was taken")
	}
	if _, err := parseSession([]byte(`{"Version":2}`)); err == nil {
		t.Error("another version was taken")
	}
	if _, err := parseSession([]byte(`{"Version":1,"Raw":{"Nothing":"AA=="}}`)); err == nil {
		t.Error("an unknown text was taken")
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add(record{kind: KindStart, at: time.Unix(1, 0), session: sessionKey{"a", 1}, attributes: []byte("x")}.append(nil))
	f.Add(record{kind: KindOff, session: sessionKey{strings.Repeat("r", maxRouterName), 0}}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			return
		}
		if len(r.attributes) > MaxAttributes || len(r.session.router) > maxRouterName {
			t.Errorf("%+v is out of bounds", r)
		}
		if !bytes.Equal(r.append(nil), b) {
			t.Errorf("%x becomes %x", b, r.append(nil))
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add(figures{subscriber.Counters{InBytes: 1}, time.Unix(5, 0)}.append(nil))
	f.Add(sessionKey{"a", 7}.appendTo(nil))
	f.Add(recordID{1, 2}.key())
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := parseFigures(b); err == nil && !bytes.Equal(v.append(nil), b) {
			t.Errorf("figures %x", b)
		}
		if k, err := parseSessionKey(b); err == nil && !bytes.Equal(k.appendTo(nil), b) {
			t.Errorf("session %x", b)
		}
		if id, err := parseRecordID(b); err == nil && !bytes.Equal(id.key(), b) {
			t.Errorf("record %x", b)
		}
	})
}

func FuzzParseSession(f *testing.F) {
	b, err := appendSession(fullRecord(), time.Unix(9, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseSession(b)
		if err != nil {
			return
		}
		again, err := appendSession(o.Record, o.At)
		if err != nil {
			return // a time out of JSON's range
		}
		back, err := parseSession(again)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(o, back, sessionCmp...); d != "" {
			t.Error(d)
		}
	})
}

var sessionCmp = []cmp.Option{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}

// fullRecord has something in every field.
func fullRecord() subscriber.Record {
	ap := netip.MustParseAddrPort("192.0.2.1:4500")
	return subscriber.Record{
		ID: 1<<63 + 5, Router: "a", Terminating: "t", User: "u", Access: aaa.AccessXAuth, Call: subscriber.CallKey{Tunnel: 1, Session: 2},
		PeerTunnel: 3, PeerSession: 4, Conn: 5, Local: ap, Remote: ap, PeerHost: "h", LocalHost: "l", Peer: "p", CallingNumber: "c", CalledNumber: "n", TxSpeed: 1, RxSpeed: 2, SingleShot: true,
		Far: subscriber.CallKey{Tunnel: 9, Session: 8}, Server: ap.Addr(), Protocol: aaa.PAP, Profile: "f",
		PeerID: "i", Address: ap.Addr(), Gateway: ap.Addr(), Routes: []aaa.Route{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Metric: 1, Tag: 2}},
		Traffic:   aaa.Traffic{In: 1, Out: 2, InBurst: 3, OutBurst: 4, InPolicy: "x", OutPolicy: "y"},
		Interface: "ppp0", Ifindex: 7, MTU: 1400, By: aaa.Authority{Router: "a", Domain: "d", Method: "radius", Server: "s", Accounting: "g"},
		Class: [][]byte{{0, 255}}, Accounted: true, State: subscriber.StateUp, Called: time.Unix(1, 1).UTC(), Up: time.Unix(2, 1).UTC(),
		Ended: time.Unix(3, 1).UTC(), Reason: "r", Text: "x", ByPeer: true, Cause: pppd.DisconnectCause{Code: 1, Direction: 1},
		Netmask: ap.Addr(), Pool: "o", SessionTimeout: time.Hour, IdleTimeout: time.Minute, IdleIngress: true, Interim: time.Minute, Counters: subscriber.Counters{InBytes: 1 << 63, OutBytes: 2, InPackets: 3, OutPackets: 4},
	}
}

// An open session is stored whole, and any bytes in its texts are kept: a user may be called so.
func TestStoredSession(t *testing.T) {
	full := fullRecord()
	v := reflect.ValueOf(&full).Elem()
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("fullRecord has nothing in %s", v.Type().Field(i).Name)
		}
	}
	for name, change := range map[string]func(s string) string{
		"as it is": func(s string) string { return s },
		"raw":      func(s string) string { return s + "\xff\x00\xfe" },
	} {
		rec := full
		eachString(reflect.ValueOf(&rec).Elem(), func(s reflect.Value) { s.SetString(change(s.String())) })
		b, err := appendSession(rec, time.Unix(9, 0))
		if err != nil {
			t.Fatal(err)
		}
		o, err := parseSession(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(rec, o.Record, sessionCmp...); d != "" || !o.At.Equal(time.Unix(9, 0)) {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func eachString(v reflect.Value, fn func(reflect.Value)) {
	switch {
	case v.Kind() == reflect.String:
		fn(v)
	case v.Kind() == reflect.Struct && !strings.HasPrefix(v.Type().PkgPath(), "net") && v.Type() != reflect.TypeFor[time.Time]():
		for i := range v.NumField() {
			eachString(v.Field(i), fn)
		}
	}
}
