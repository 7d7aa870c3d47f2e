package controlplane

import (
	"bytes"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/aaa/accounting"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
)

// zeroFields names the fields of a struct that have no value.
func zeroFields(v any) (out []string) {
	rv := reflect.ValueOf(v)
	for i := range rv.NumField() {
		if rv.Field(i).IsZero() {
			out = append(out, rv.Type().Field(i).Name)
		}
	}
	return out
}

// TestBuildPlaces: what an IP profile says of its subscribers (G7) reaches AAA, where it comes before the aaa section.
func TestBuildPlaces(t *testing.T) {
	p := buildPolicy(&config.Router{IPProfiles: []config.IPProfile{{
		Name: "i", Router: "inside", Unnumbered: netip.MustParseAddr("10.0.0.1"), Pool: "p", IdleTimeout: time.Hour, IdleIngress: true, Traffic: config.Traffic{RateIn: 8000},
	}}})
	got := p.Profiles["i"]
	want := aaa.Place{
		Terminating: "inside", Gateway: netip.MustParseAddr("10.0.0.1"), Pool: "p", IdleTimeout: time.Hour, IdleIngress: true, Traffic: aaa.Traffic{In: 8000},
	}
	if got != want || len(zeroFields(got)) > 0 {
		t.Errorf("%+v, nothing in %v", got, zeroFields(got))
	}
}

// TestAccountingOfACall: a record says what the LAC has said, and where the session was handed on to.
func TestAccountingOfACall(t *testing.T) {
	ap := netip.MustParseAddrPort
	rec := subscriber.Record{
		ID: 5, Router: "red", User: "ann", Access: aaa.AccessL2TP, Call: subscriber.CallKey{Tunnel: 1, Session: 2}, Local: ap("192.0.2.1:1701"), Remote: ap("198.51.100.9:1701"),
		PeerHost: "the lac", LocalHost: "the lns", CallingNumber: "555", CalledNumber: "0800", TxSpeed: 2048, RxSpeed: 1024,
		Far: subscriber.CallKey{Tunnel: 3, Session: 4}, Server: netip.MustParseAddr("192.0.2.7"),
	}
	b, err := (&authority{}).encode(accounting.KindStart, rec, accounting.Extra{Router: "red"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"the lac", "the lns", "555", "0800", "2048/1024 ", "\x01192.0.2.7", "tunnel 3 session 4"} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("%q is not in %q", want, b)
		}
	}
}
