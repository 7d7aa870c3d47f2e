//go:build kernel

package topo

import (
	"net"
	"net/netip"
	"time"
)

// sourcePorts sends a datagram from port 4500 of the host before and after f, and returns where the server
// saw them come from.
func sourcePorts(server *Namespace, to netip.Addr, host *Host, f func() error) ([2]netip.AddrPort, error) {
	var seen [2]netip.AddrPort
	var receiver, sender *net.UDPConn
	err := server.Do(func() (err error) {
		receiver, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 4500})
		return err
	})
	if err != nil {
		return seen, err
	}
	defer receiver.Close()
	err = host.Namespace.Do(func() (err error) {
		sender, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 4500})
		return err
	})
	if err != nil {
		return seen, err
	}
	defer sender.Close()
	for i := range seen {
		if _, err := sender.WriteToUDPAddrPort([]byte{0xff}, netip.AddrPortFrom(to, 4500)); err != nil {
			return seen, err
		}
		if err := receiver.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return seen, err
		}
		if _, seen[i], err = receiver.ReadFromUDPAddrPort(make([]byte, 16)); err != nil {
			return seen, err
		}
		seen[i] = netip.AddrPortFrom(seen[i].Addr().Unmap(), seen[i].Port())
		if i == 0 {
			if err := f(); err != nil {
				return seen, err
			}
		}
	}
	return seen, nil
}
