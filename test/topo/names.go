package topo

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
)

// namesAddress is the name server's, in the internet router.
var namesAddress = netip.MustParseAddr("192.0.2.253")

// Names is a name server on the internet. It answers over UDP for the names that it is given, and that there is no other.
type Names struct {
	Address netip.Addr

	mu    sync.Mutex
	of    map[string][]netip.Addr
	asked map[string]int
}

// NewNames starts a name server that knows no name yet. It ends with the network.
func (n *Net) NewNames(ctx context.Context) (*Names, error) {
	if err := n.router.IP(ctx, fmt.Sprintf("addr add %v/32 dev lo", namesAddress)); err != nil {
		return nil, err
	}
	s := &Names{Address: namesAddress, of: map[string][]netip.Addr{}, asked: map[string]int{}}
	var socket net.PacketConn
	err := n.router.Do(func() (err error) {
		socket, err = net.ListenPacket("udp4", net.JoinHostPort(namesAddress.String(), "53"))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("topo: name server: %w", err)
	}
	n.mu.Lock()
	n.closers = append(n.closers, socket)
	n.mu.Unlock()
	go s.serve(socket)
	return s, nil
}

// Set says which addresses a name has from now on; with none there is no such name.
func (s *Names) Set(name string, addresses ...netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[strings.ToLower(name)] = addresses
}

// Asked returns how often the addresses of a name have been asked for.
func (s *Names) Asked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[strings.ToLower(name)]
}

func (s *Names) serve(socket net.PacketConn) {
	b := make([]byte, 1500)
	for {
		size, from, err := socket.ReadFrom(b)
		if err != nil {
			return // closed
		}
		if answer := s.answer(b[:size]); answer != nil {
			_, _ = socket.WriteTo(answer, from) // as reliable as a datagram is
		}
	}
}

// Numbers of RFC 1035.
const (
	dnsHeader   = 12
	dnsResponse = 1<<15 | 1<<10 // with authority
	dnsNoName   = 3
	dnsTypeA    = 1
	dnsClassIN  = 1
	dnsTTL      = 1       // seconds: a change is to be seen soon
	dnsPointer  = 3 << 14 // to the name of the question
)

// answer returns the response to a query, nil to what is none.
func (s *Names) answer(q []byte) []byte {
	if len(q) < dnsHeader || binary.BigEndian.Uint16(q[4:]) != 1 || q[2]&0x80 != 0 {
		return nil
	}
	var labels []string
	at := dnsHeader
	for at < len(q) && q[at] != 0 {
		end := at + 1 + int(q[at])
		if q[at] > 63 || end > len(q) {
			return nil
		}
		labels = append(labels, string(q[at+1:end]))
		at = end
	}
	if at+5 > len(q) {
		return nil
	}
	question := q[dnsHeader : at+5]
	name, kind := strings.ToLower(strings.Join(labels, ".")), binary.BigEndian.Uint16(q[at+1:])
	s.mu.Lock()
	addresses := s.of[name]
	if kind == dnsTypeA {
		s.asked[name]++
	}
	s.mu.Unlock()
	flags := uint16(dnsResponse) | binary.BigEndian.Uint16(q[2:])&(1<<8) // recursion desired, as in the query
	if len(addresses) == 0 {
		flags |= dnsNoName
	}
	if kind != dnsTypeA {
		addresses = nil
	}
	r := append([]byte(nil), q[:2]...)
	for _, n := range []uint16{flags, 1, uint16(len(addresses)), 0, 0} {
		r = binary.BigEndian.AppendUint16(r, n)
	}
	r = append(r, question...)
	for _, a := range addresses {
		for _, n := range []uint16{dnsPointer | dnsHeader, dnsTypeA, dnsClassIN, 0, dnsTTL, 4} {
			r = binary.BigEndian.AppendUint16(r, n)
		}
		r = append(r, a.AsSlice()...)
	}
	return r
}
