package config

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
)

// peerHost is the other end of a static tunnel: an IPv4 address or the name of a host, in lower case.
type peerHost struct{ leaf[StaticPeer] }

func (p *peerHost) parse(word string, _ reflect.StructTag) error {
	if a, err := netip.ParseAddr(word); err == nil {
		switch {
		case !a.Is4():
			return errors.New("must be an IPv4 address or the name of a host: IPsec is served over IPv4 only")
		case !hostAddress(a):
			return errors.New("must be the address of a host; a peer that may have any address has no \"peers\"")
		}
		p.v = StaticPeer{Address: a}
		return nil
	}
	if len(word) > maxHostName || !domainName(word) {
		return errors.New("must be an IPv4 address or the name of a host")
	}
	p.v = StaticPeer{Name: strings.ToLower(word)}
	return nil
}

// maxHostName is the longest name that DNS has (RFC 1035 section 2.3.4).
const maxHostName = 253

// String is the address or the name.
func (p StaticPeer) String() string {
	if p.Address.IsValid() {
		return p.Address.String()
	}
	return p.Name
}

var (
	staticModeNames = names[StaticMode]{
		{StaticRoute, StaticRoute.String()}, {StaticPolicy, StaticPolicy.String()}, {StaticTransport, StaticTransport.String()},
	}
	staticStartNames = names[StaticStart]{
		{StartNailedUp, StartNailedUp.String()}, {StartOnDemand, StartOnDemand.String()}, {StartRespond, StartRespond.String()},
	}
	staticXAuthNames = names[StaticXAuth]{
		{StaticXAuthNone, StaticXAuthNone.String()}, {StaticXAuthServer, StaticXAuthServer.String()}, {StaticXAuthClient, StaticXAuthClient.String()},
	}
)

func (StaticMode) table() names[StaticMode]   { return staticModeNames }
func (StaticStart) table() names[StaticStart] { return staticStartNames }
func (StaticXAuth) table() names[StaticXAuth] { return staticXAuthNames }
