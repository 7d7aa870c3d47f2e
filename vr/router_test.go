package vr

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSpecCheck(t *testing.T) {
	addr := func(s ...string) (list []netip.Addr) {
		for _, a := range s {
			list = append(list, netip.MustParseAddr(a))
		}
		return list
	}
	for _, c := range []struct {
		name string
		spec Spec
		says string // "" is good
	}{
		{"minimum", Spec{Name: "a"}, ""},
		{"everything", Spec{Name: "Tenant-1.x_y", Namespace: "ns", Create: true, VRF: "red", Table: 7, Gateway: addr("10.0.0.1"), Server: addr("192.0.2.1", "::ffff:192.0.2.2"), SubscriberMTU: 1500}, ""},
		{"no name", Spec{}, "name"},
		{"blank in the name", Spec{Name: "a b"}, "name"},
		{"quote inside the name", Spec{Name: `a"b`}, "name"},
		{"long name", Spec{Name: strings.Repeat("x", 65)}, "name"},
		{"namespace is a path", Spec{Name: "a", Namespace: "../x"}, "namespace"},
		{"namespace is the parent", Spec{Name: "a", Namespace: ".."}, "namespace"},
		{"create without a name", Spec{Name: "a", Create: true}, "namespace"},
		{"long VRF", Spec{Name: "a", VRF: "sixteen-letters-", Table: 7}, "VRF"},
		{"VRF without table", Spec{Name: "a", VRF: "red"}, "table"},
		{"table without VRF", Spec{Name: "a", Table: 7}, "without a VRF"},
		{"the main table", Spec{Name: "a", VRF: "red", Table: unix.RT_TABLE_MAIN}, "belongs to the system"},
		{"server of IPv6", Spec{Name: "a", Server: addr("2001:db8::1")}, ""},
		{"gateway of IPv6", Spec{Name: "a", Gateway: addr("2001:db8::1")}, "IPv4"},
		{"server of one link", Spec{Name: "a", Server: addr("fe80::1")}, "more than one link"},
		{"own address that is none", Spec{Name: "a", Gateway: addr("10.0.0.1"), Own: addr("10.0.0.2")}, "no gateway"},
		{"invalid address", Spec{Name: "a", Server: []netip.Addr{{}}}, "unicast"},
		{"unspecified", Spec{Name: "a", Gateway: addr("0.0.0.0")}, "unicast"},
		{"multicast", Spec{Name: "a", Gateway: addr("224.0.0.1")}, "unicast"},
		{"small MTU", Spec{Name: "a", SubscriberMTU: 575}, "MTU"},
		{"large MTU", Spec{Name: "a", SubscriberMTU: 1501}, "MTU"},
	} {
		err := c.spec.clone().check()
		var bad *BadSpec
		if c.says == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		} else if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want something about %q", c.name, err, c.says)
		}
	}
}

func TestSpecSamePlace(t *testing.T) {
	base := Spec{Name: "a", Namespace: "n", VRF: "red", Table: 7}
	if err := base.sameplace(base); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*Spec){
		func(s *Spec) { s.Name = "b" }, func(s *Spec) { s.Namespace = "m" }, func(s *Spec) { s.VRF = "blue" }, func(s *Spec) { s.Table = 8 },
	} {
		to := base
		change(&to)
		var bad *BadSpec
		if err := base.sameplace(to); !errors.As(err, &bad) {
			t.Errorf("%+v: %v", to, err)
		}
	}
}

func TestPortRange(t *testing.T) {
	for present, want := range map[string]string{
		"32768\t60999": "10000\t16383",
		"1024 65535":   "1024\t16383",
		"1024\t16383":  "",
		"9000\t16384":  "9000\t16383",
		"49152 65535":  "10000\t16383",
	} {
		if got, err := portRange(present); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", present, got, err, want)
		}
	}
	for _, present := range []string{"", "1", "a b", "1 70000", "1 2 3"} {
		if got, err := portRange(present); err == nil {
			t.Errorf("%q: %q", present, got)
		}
	}
}

func TestErrors(t *testing.T) {
	for errno, want := range map[unix.Errno]error{
		unix.EADDRINUSE: ErrInUse, unix.EEXIST: ErrExists, unix.ESRCH: ErrNotFound, unix.ENODEV: ErrNotFound, unix.EAGAIN: ErrAgain,
		unix.ECONNREFUSED: ErrRefused, unix.ENETUNREACH: ErrRefused, unix.EPERM: ErrPermission,
	} {
		err := failed(errno, "something")
		if !errors.Is(err, want) || !errors.Is(err, errno) || !strings.HasPrefix(err.Error(), "something: ") {
			t.Errorf("%v: %v", errno, err)
		}
	}
	if failed(nil, "nothing") != nil {
		t.Error("no error became one")
	}
	m := &MissingFeature{Feature: FeatureL2TP, Module: "l2tp_netlink l2tp_ppp"}
	if s := m.Error(); s != "kernel has no L2TP netlink family: modprobe l2tp_netlink l2tp_ppp" {
		t.Error(s)
	}
	if s := gatewayLink(strings.Repeat("x", maxName)); len(s) > maxLinkName {
		t.Errorf("link name %s is too long", s)
	}
}
