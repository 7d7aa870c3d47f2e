package config

import (
	"errors"
	"net/netip"
	"reflect"
)

// linkAddress is an IPv4 address of an interface with the length of its network.
type linkAddress struct{ leaf[netip.Prefix] }

func (l *linkAddress) parse(word string, _ reflect.StructTag) error {
	v, err := netip.ParsePrefix(word)
	if err != nil || !v.Addr().Is4() || v.Bits() == 0 {
		return errors.New("must be an IPv4 address with the length of its network, such as 10.0.0.1/24")
	}
	if !hostAddress(v.Addr()) {
		return errors.New("must be the address of a host")
	}
	if v.Bits() < 31 && (v.Addr() == v.Masked().Addr() || v.Addr() == lastOf(v.Masked())) {
		return errors.New("must be the address of a host, not that of the network or its broadcast address")
	}
	l.v = v
	return nil
}
