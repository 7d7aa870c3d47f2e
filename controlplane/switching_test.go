package controlplane

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/keymat"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
	"vrgate/pppd"
)

// TestDialTranslation: what AAA says about an LNS, and the LAC and the peer about the call, all reaches the call to that LNS.
func TestDialTranslation(t *testing.T) {
	addr := netip.MustParseAddr
	target := aaa.Tunnel{
		Server: addr("203.0.113.1"), Client: addr("192.0.2.9"), Secret: keymat.Secret("between us"), ClientName: "lac", ServerName: "lns", Assignment: "a",
		PrivateGroup: "g", Preference: 3, MaxSessions: 7,
	}
	proxy := pppd.Proxy{LastSentLCP: []byte{1}, LastReceivedLCP: []byte{2}, Auth: pppd.AuthCHAPMD5, User: "ann", ID: 9, Challenge: []byte{3}, Response: pppd.Secret{4}}
	f := subscriber.Dial{
		Ref: 5, Target: target, Proxy: proxy, CallingNumber: "555", CalledNumber: "0800", SubAddress: "s", TxSpeed: 2048, RxSpeed: 1024, Timeout: time.Second,
	}
	for _, v := range []any{target, proxy, f} {
		if left := zeroFields(v); len(left) > 0 {
			t.Errorf("%T is not tried in %v", v, left)
		}
	}
	m := &machine{servers: []netip.Addr{addr("2001:db8::1"), addr("192.0.2.1"), addr("192.0.2.2")}}
	want := l2tp.Dial{
		Ref: 5, Local: netip.MustParseAddrPort("192.0.2.9:1701"), Remote: netip.MustParseAddrPort("203.0.113.1:1701"), Secret: target.Secret, HostName: "lac", PeerHost: "lns",
		Assignment: "a", Share: true, MaxSessions: 7, Hold: true, Timeout: time.Second + holdTimeout,
		Info: l2tp.CallInfo{CallingNumber: "555", CalledNumber: "0800", SubAddress: "s", TxSpeed: 2048, RxSpeed: 1024, PrivateGroup: "g"},
		Proxy: &l2tp.Proxy{
			InitialLCP: []byte{2}, LastSentLCP: []byte{1}, LastReceivedLCP: []byte{2}, AuthType: l2tp.ProxyCHAP, AuthName: "ann", AuthID: 9, AuthChallenge: []byte{3}, AuthResponse: []byte{4},
		},
	}
	if got := m.dial(f); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	for server, local := range map[string]string{"203.0.113.1": "192.0.2.1:1701", "2001:db8::9": "[2001:db8::1]:1701"} {
		f.Target.Server, f.Target.Client = addr(server), netip.Addr{}
		if got := m.dial(f).Local.String(); got != local {
			t.Errorf("%s is called from %s, want %s", server, got, local)
		}
	}
}

// TestFarFailedTranslation: an LNS is passed over for a while when it was not heard, and not when it has refused: it may take the
// next call.
func TestFarFailedTranslation(t *testing.T) {
	for reason, silent := range map[l2tp.Reason]bool{
		l2tp.ReasonNoAnswer: true, l2tp.ReasonSetupTimeout: true, l2tp.ReasonSocket: true,
		l2tp.ReasonPeerStop: false, l2tp.ReasonPeerCall: false, l2tp.ReasonAuthentication: false, l2tp.ReasonPeerHost: false, l2tp.ReasonCallQueue: false,
		l2tp.ReasonCancelled: false, l2tp.ReasonDisabled: false,
	} {
		want := subscriber.FarFailed{Ref: 5, Reason: subscriber.Reason(reason), Text: "why", Silent: silent}
		if got := farFailed(l2tp.DialFailed{Ref: 5, Reason: reason, Text: "why"}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}
