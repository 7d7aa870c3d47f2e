package ike

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
)

// FuzzTransaction is a subscriber that sends arbitrary attributes in each stage,
// properly hashed and encrypted: no panic, bounded state and answers, and nobody
// gets in by itself.
func FuzzTransaction(f *testing.F) {
	for _, set := range []isakmp.AttributeSet{
		{Type: isakmp.ConfigRequest, Identifier: 1, Attributes: []isakmp.Attribute{{Type: isakmp.ConfigIP4Address}, {Type: isakmp.UnitySplitInclude}}},
		{Type: isakmp.ConfigReply, Attributes: []isakmp.Attribute{text(isakmp.XAuthUserName, "joe\x00"), text(isakmp.XAuthUserPassword, "x")}},
		{Type: isakmp.ConfigReply, Attributes: []isakmp.Attribute{isakmp.ShortAttribute(isakmp.XAuthStatus, 0)}},
		{Type: isakmp.ConfigSet, Attributes: []isakmp.Attribute{isakmp.ShortAttribute(isakmp.XAuthStatus, 1)}},
		{Type: isakmp.ConfigAck},
	} {
		for stage := range 3 {
			f.Add(uint8(stage), set.Payload().Body)
		}
	}
	f.Fuzz(func(t *testing.T, stage uint8, body []byte) {
		if len(body) > 8192 {
			return
		}
		r := dynRig(t, ProfileCompatible)
		s := newSubscriber(r, offers.AppleCisco())
		mid := uint32(0x01020304)
		iv := []byte(nil)
		switch stage % 3 {
		case 0: // before any question
			s.phase1()
		case 1: // as the answer to the question
			q := s.asked()
			mid, iv = q.mid, s.ivs[q.mid]
			if len(body) >= 4 {
				body = slices.Clone(body)
				binary.BigEndian.PutUint16(body[2:], q.set.Identifier)
			}
		case 2: // admitted
			s.in()
		}
		if iv == nil {
			iv = s.suite.MessageIV(s.last, mid)
		}
		ps := hashed(func(rest []byte) []byte { return s.keys.HashInfo(mid, rest) }, isakmp.Payload{Type: isakmp.TypeAttributes, Body: body})
		msg := s.seal(isakmp.Transaction, mid, iv, ps...)
		n := len(r.dynamic)
		out := s.send(msg)
		if len(out) > 1 || len(out) == 1 && len(out[0].Data) > 2048 {
			t.Errorf("%d answers", len(out))
		}
		s.send(msg)
		if len(r.dynamic) > n+1 || stage%3 != 1 && len(r.dynamic) != n {
			t.Errorf("%d events", len(r.dynamic)-n)
		}
		if stage%3 != 2 && s.tunnel(offers.AppleCisco(), "10.9.0.7", "0.0.0.0/0").run() {
			t.Error("a subscriber has let itself in")
		}
		r.pass(20 * time.Minute)
		if len(r.e.conns)+len(r.e.sas)+len(r.e.timers)+len(r.kernel) != 0 || len(r.down) != 1 {
			t.Errorf("%d connections, %d timers, down %+v", len(r.e.conns), len(r.e.timers), r.down)
		}
	})
}

// FuzzLease reads arbitrary configurations: what is read is bounded, and written
// and read again the same.
func FuzzLease(f *testing.F) {
	var all []isakmp.Attribute
	for _, x := range slices.Concat(supported, unityAll) {
		all = append(all, isakmp.Attribute{Type: x})
	}
	f.Add(isakmp.AttributeSet{Attributes: testLease.attributes(all, true)}.Payload().Body)
	f.Fuzz(func(t *testing.T, body []byte) {
		set, err := isakmp.Payload{Type: isakmp.TypeAttributes, Body: body}.Attributes()
		if err != nil {
			return
		}
		l := parseLease(set.Attributes)
		if len(l.DNS) > maxConfigServers || len(l.NBNS) > maxConfigServers || len(l.Networks) > maxConfigNetworks || len(l.Banner) > maxConfigText {
			t.Fatalf("%+v", l)
		}
		again, err := isakmp.AttributeSet{Attributes: l.attributes(all, true)}.Payload().Attributes()
		if err != nil {
			t.Fatal(err)
		}
		b := parseLease(again.Attributes)
		b.Networks = b.Networks[:min(len(b.Networks), len(l.Networks))] // they come twice
		if !l.Netmask.IsValid() {
			l.Netmask = b.Netmask // has a default
		}
		if d := cmp.Diff(fmt.Sprintf("%+v", l), fmt.Sprintf("%+v", b)); d != "" {
			t.Error(d)
		}
	})
}
