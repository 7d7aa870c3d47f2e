package ike

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
)

// dynamicClients are the clients of clients.md 3.4, 3.5, 3.7 and 3.8 with what
// they ask for, in their order.
var dynamicClients = []struct {
	name    string
	offer   func() offers.Offer
	profile string // that a server needs for it
	nul     bool   // behind name and password
	request []uint16
	nets    []string // that its quick modes ask for
}{
	{"macOS/iOS", offers.AppleCisco, ProfileCompatible, false, []uint16{isakmp.ConfigIP4Address, isakmp.ConfigIP4Netmask, isakmp.ConfigIP4DNS,
		isakmp.ConfigIP4NBNS, isakmp.ConfigAddressExpiry, isakmp.ConfigAppVersion, isakmp.UnityBanner, isakmp.UnityDefaultDomain,
		isakmp.UnitySplitDNS, isakmp.UnitySplitInclude, isakmp.UnityLocalLAN}, []string{"10.0.0.0/8", "192.168.7.0/24"}},
	{"Android", offers.AndroidXAuth, ProfileLegacy, true, []uint16{isakmp.ConfigIP4Address, isakmp.ConfigIP4Netmask, isakmp.ConfigIP4DNS,
		isakmp.ConfigIP4NBNS, isakmp.UnityBanner, isakmp.UnityDefaultDomain, isakmp.UnitySplitDNS, isakmp.UnitySplitInclude,
		isakmp.UnityLocalLAN, isakmp.ConfigAppVersion}, []string{"0.0.0.0/0"}},
	{"vpnc", offers.VPNC, ProfileLegacy, false, []uint16{isakmp.ConfigIP4Address, isakmp.ConfigIP4Netmask, isakmp.ConfigIP4DNS,
		isakmp.ConfigIP4NBNS, isakmp.UnityDefaultDomain, isakmp.UnityUDPPort, isakmp.UnityFirewallType, isakmp.UnityPFS, isakmp.UnityBanner,
		isakmp.UnitySavePassword, isakmp.UnitySplitInclude, isakmp.UnitySplitDNS, isakmp.UnityDDNSHostname, isakmp.ConfigAppVersion}, []string{"0.0.0.0/0"}},
	{"Shrew", offers.Shrew, ProfileLegacy, false, []uint16{isakmp.ConfigAppVersion, isakmp.UnityFirewallType, isakmp.ConfigIP4Address,
		isakmp.ConfigIP4Netmask, isakmp.ConfigIP4DNS, isakmp.ConfigIP4NBNS, isakmp.ConfigIP4Subnet, isakmp.UnitySplitInclude,
		isakmp.UnityLocalLAN, isakmp.UnityPFS, isakmp.UnitySavePassword, isakmp.UnityUDPPort}, []string{"0.0.0.0/0"}},
}

// TestClients replays what each client sends behind phase 1, with and without
// NAT: question, verdict, mode config in its order, tunnels.
func TestClients(t *testing.T) {
	for _, c := range dynamicClients {
		for _, nat := range []bool{false, true} {
			r := dynRig(t, c.profile)
			s := newSubscriber(r, c.offer())
			if nat {
				s.behindNAT()
			}
			q := s.asked()
			if q.set.Identifier == 0 || len(q.set.Attributes) != 2 || q.set.Attributes[0].Type != isakmp.XAuthUserName || len(q.set.Attributes[0].Value) != 0 {
				t.Fatalf("%s is asked with %v", c.name, q.set)
			}
			end := ""
			if c.nul {
				end = "\x00"
			}
			s.answerTo(q, isakmp.ConfigReply, text(isakmp.XAuthUserName, "joe"+end), text(isakmp.XAuthUserPassword, "secret of joe"+end))
			if u := s.lastAnswer(); u.Refused || u.Answer.User != "joe" || !u.Answer.Password.Equal(secret("secret of joe")) {
				t.Fatalf("%s answers %+v", c.name, u)
			}
			v := s.only1(r.give(Admit{Conn: s.id(), Lease: testLease}), isakmp.ConfigSet)
			if a, _ := v.set.Find(isakmp.XAuthStatus); v.set.Identifier != q.set.Identifier || v.mid == q.mid || !slices.Equal(a.Value, []byte{0, 1}) || !a.Short {
				t.Errorf("%s: verdict %v after question %v", c.name, v, q)
			}
			s.answerTo(v, isakmp.ConfigAck, isakmp.Attribute{Type: isakmp.XAuthStatus})
			a := s.only1(s.request(20, c.request...), isakmp.ConfigReply)
			if a.set.Identifier != 20 {
				t.Errorf("%s: REPLY %v", c.name, a)
			}
			checkConfig(t, c.name, c.request, a.set)
			for _, n := range c.nets {
				qm := s.tunnel(c.offer(), "10.9.0.7", n)
				if !qm.run() {
					t.Errorf("%s: tunnel to %s refused with %v\n%v", c.name, n, qm.notify, words(r.reports))
				} else if _, cut := responderLifetime(qm.answer, isakmp.ProtocolESP); cut != (c.name == "vpnc" || c.name == "Android") {
					// 2147483 s and 28800 s.
					t.Errorf("%s: RESPONDER-LIFETIME %v", c.name, cut)
				} else if qm.chosen.Mode.UDP() != nat || !qm.chosen.Mode.Tunnel() {
					t.Errorf("%s: %v", c.name, qm.chosen)
				}
			}
			if len(r.up) != 1 || len(r.kernel) != 2*len(c.nets) {
				t.Errorf("%s: %d up, %d SAs", c.name, len(r.up), len(r.kernel))
			}
			for _, ch := range r.e.Children() {
				if ch.Lifetime != time.Hour {
					t.Errorf("%s: lifetime %v", c.name, ch.Lifetime)
				}
			}
		}
	}
}

// checkConfig checks that a reply has all that was asked for and that the lease
// has, in the forms that clients insist on.
func checkConfig(t *testing.T, name string, asked []uint16, set isakmp.AttributeSet) {
	t.Helper()
	forms := map[uint16][]string{
		isakmp.ConfigIP4Address: {"\x0a\x09\x00\x07"}, isakmp.ConfigIP4Netmask: {"\xff\xff\xff\x00"},
		isakmp.ConfigIP4DNS: {"\x0a\x00\x00\x35", "\x0a\x00\x00\x36"}, isakmp.ConfigIP4NBNS: {"\x0a\x00\x00\x2a"},
		isakmp.ConfigAddressExpiry: {"\x00\x01\x51\x80"}, isakmp.ConfigAppVersion: {"vrgate"},
		isakmp.ConfigIP4Subnet: {"\x0a\x00\x00\x00\xff\x00\x00\x00", "\xc0\xa8\x07\x00\xff\xff\xff\x00"},
		isakmp.UnityBanner:     {"welcome"}, isakmp.UnityDefaultDomain: {"example.net"}, isakmp.UnitySplitDNS: {"example.net,example.org"},
		isakmp.UnitySplitInclude: {"\x0a\x00\x00\x00\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\xc0\xa8\x07\x00\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00"},
		isakmp.UnitySavePassword: {"\x00\x01"}, isakmp.UnityPFS: {"\x00\x01"},
	}
	got := map[uint16][]string{}
	for _, a := range set.Attributes {
		got[a.Type] = append(got[a.Type], string(a.Value))
		if short := a.Type == isakmp.UnitySavePassword || a.Type == isakmp.UnityPFS; short != a.Short {
			t.Errorf("%s: attribute %d in short form: %v", name, a.Type, a.Short)
		}
	}
	want := map[uint16][]string{isakmp.UnitySplitInclude: forms[isakmp.UnitySplitInclude]} // comes unasked
	for _, a := range asked {
		if f := forms[a]; f != nil {
			want[a] = f
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s: %s", name, d)
	}
}

// TestConfigOrders: mode config before the verdict, behind it, pushed, and not at
// all (J8).
func TestConfigOrders(t *testing.T) {
	joe := []isakmp.Attribute{text(isakmp.XAuthUserName, "joe"), text(isakmp.XAuthUserPassword, "secret of joe")}
	offer := offers.AppleCisco()

	t.Run("before", func(t *testing.T) {
		r := dynRig(t, ProfileCompatible)
		s := newSubscriber(r, offer)
		q := s.asked()
		if out := s.request(7, isakmp.ConfigIP4Address); len(out) != 0 {
			t.Fatalf("answered before the decision: %v", s.read(out))
		}
		s.answerTo(q, isakmp.ConfigReply, joe...)
		cs := s.read(r.give(Admit{Conn: s.id(), Lease: testLease}))
		if len(cs) != 2 || cs[0].set.Type != isakmp.ConfigReply || cs[0].set.Identifier != 7 || cs[1].set.Type != isakmp.ConfigSet {
			t.Fatalf("%v", cs)
		}
		s.answerTo(cs[1], isakmp.ConfigAck)
		if !s.tunnel(offer, "10.9.0.7", "0.0.0.0/0").run() {
			t.Errorf("refused\n%v", words(r.reports))
		}
	})
	t.Run("pushed", func(t *testing.T) {
		r := dynRig(t, ProfileCompatible)
		r.e.cfg.Tunnels[0].Push = true
		s := newSubscriber(r, offer)
		s.answerTo(s.asked(), isakmp.ConfigReply, joe...)
		v := s.only1(r.give(Admit{Conn: s.id(), Lease: testLease}), isakmp.ConfigSet)
		p := s.only1(s.answerTo(v, isakmp.ConfigAck), isakmp.ConfigSet)
		checkConfig(t, "push", []uint16{isakmp.ConfigIP4Address, isakmp.ConfigIP4Netmask, isakmp.ConfigIP4DNS, isakmp.ConfigIP4NBNS,
			isakmp.ConfigAddressExpiry, isakmp.ConfigIP4Subnet, isakmp.UnityBanner, isakmp.UnityDefaultDomain, isakmp.UnitySplitDNS,
			isakmp.UnitySavePassword, isakmp.UnityPFS}, p.set)
		if out := s.answerTo(p, isakmp.ConfigAck, isakmp.Attribute{Type: isakmp.ConfigIP4Address}); len(out) != 0 {
			t.Errorf("%d answers to an ACK", len(out))
		}
		if !s.tunnel(offer, "10.9.0.7/32", "0.0.0.0/0").run() {
			t.Errorf("refused\n%v", words(r.reports))
		}
		r.pass(time.Minute)
		if n := r.e.counters[CountRetransmit]; n != 0 {
			t.Errorf("%d repeats of what was acknowledged", n)
		}
	})
	t.Run("not at all", func(t *testing.T) {
		// Apple's client knows its address when it comes back.
		r := dynRig(t, ProfileCompatible)
		s := newSubscriber(r, offer)
		s.in()
		if q := s.tunnel(offer, "10.9.0.8", "0.0.0.0/0"); q.run() || q.notify != isakmp.InvalidIDInformation {
			t.Errorf("another address: %v", q.notify)
		}
		if !s.tunnel(offer, "10.9.0.7", "0.0.0.0/0").run() {
			t.Errorf("refused\n%v", words(r.reports))
		}
	})
	t.Run("quick mode first", func(t *testing.T) {
		r := dynRig(t, ProfileCompatible)
		s := newSubscriber(r, offer)
		ask := s.asked()
		refused := func(when string) {
			t.Helper()
			n := r.e.counters[ReasonTooEarly]
			if q := s.tunnel(offer, "10.9.0.7", "0.0.0.0/0"); q.run() || q.notify != isakmp.NoProposalChosen {
				t.Errorf("%s: notify %v", when, q.notify)
			}
			if r.e.counters[ReasonTooEarly] != n+1 {
				t.Errorf("%s: not counted", when)
			}
		}
		refused("while the user types")
		s.answerTo(ask, isakmp.ConfigReply, joe...)
		refused("before the decision")
		v := s.only1(r.give(Admit{Conn: s.id(), Lease: testLease}), isakmp.ConfigSet)
		q := s.tunnel(offer, "10.9.0.7", "0.0.0.0/0")
		first := q.message1()
		if out := s.send(first); len(out) != 0 {
			t.Errorf("%d answers before the ACK", len(out))
		}
		s.answerTo(v, isakmp.ConfigAck)
		if out := s.send(first); len(out) != 1 || out[0].Data[18] != byte(isakmp.QuickMode) {
			t.Errorf("the repeat is not answered")
		}
		if len(r.up) != 0 || len(r.kernel) != 1 {
			t.Errorf("%d up, %d SAs", len(r.up), len(r.kernel))
		}
	})
}

// TestConfigRoundTrip: what a lease sends is what a subscriber reads.
func TestConfigRoundTrip(t *testing.T) {
	var all []isakmp.Attribute
	for _, x := range slices.Concat(supported, unityAll) {
		all = append(all, isakmp.Attribute{Type: x})
	}
	set, err := isakmp.AttributeSet{Attributes: testLease.attributes(all, true)}.Payload().Attributes()
	if err != nil {
		t.Fatal(err)
	}
	got := parseLease(set.Attributes)
	got.Networks = got.Networks[:2] // they come twice
	if d := cmp.Diff(testLease, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); d != "" {
		t.Error(d)
	}
	// Nothing of Unity without its vendor ID.
	for _, a := range testLease.attributes(all, false) {
		if a.Type >= isakmp.UnityBanner {
			t.Errorf("attribute %d", a.Type)
		}
	}
	// A configuration that an operator has made too large stays one datagram.
	big := Lease{Address: testLease.Address, Banner: strings.Repeat("x", 1<<16)}
	for i := range 1000 {
		big.DNS = append(big.DNS, testLease.Address)
		big.NBNS = append(big.NBNS, testLease.Address)
		big.Networks = append(big.Networks, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24))
	}
	if n := len((isakmp.AttributeSet{Attributes: big.attributes(all, true)}).Payload().Body); n > 4096 {
		t.Errorf("%d bytes", n)
	}
	if as := (&Lease{}).attributes(nil, true); len(as) != 0 {
		t.Errorf("an empty lease sends %v", as)
	}
}
