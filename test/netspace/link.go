package netspace

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// What follows is done by netlink and not by running ip, because starting a program costs the better part of a
// tenth of a second under software emulation, and a network takes hundreds of them.

// End is one end of a pair of virtual Ethernet devices.
type End struct {
	NetNS   int          // descriptor of the namespace
	Device  string       // at most 15 bytes
	Address netip.Prefix // invalid: none
	Master  string       // device, such as a VRF or a bridge, that the end becomes a port of; empty: none
}

// Join makes a pair of devices, both up.
func Join(a, b End) error {
	err := at(a.NetNS, func(h *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = a.Device
		return h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: b.Device, PeerNamespace: netlink.NsFd(b.NetNS)})
	})
	if err != nil {
		return fmt.Errorf("make %s and %s: %w", a.Device, b.Device, err)
	}
	for _, e := range []End{a, b} {
		if err := at(e.NetNS, e.set); err != nil {
			return fmt.Errorf("set up %s: %w", e.Device, err)
		}
	}
	return nil
}

func (e End) set(h *netlink.Handle) error {
	link, err := h.LinkByName(e.Device)
	if err != nil {
		return err
	}
	if e.Master != "" {
		master, err := h.LinkByName(e.Master)
		if err != nil {
			return err
		}
		if err := h.LinkSetMaster(link, master); err != nil {
			return err
		}
	}
	if e.Address.IsValid() {
		if err := h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(e.Address)}); err != nil {
			return err
		}
	}
	return h.LinkSetUp(link)
}

// Up brings a device of a namespace up.
func Up(ns int, device string) error {
	return at(ns, End{Device: device}.set)
}

// DefaultRoute sends what no other route of the namespace has to a gateway.
func DefaultRoute(ns int, gateway netip.Addr) error {
	return at(ns, func(h *netlink.Handle) error {
		return h.RouteAdd(&netlink.Route{Dst: ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)), Gw: gateway.AsSlice()})
	})
}

// AddAddress gives a device of a namespace an address.
func AddAddress(ns int, device string, p netip.Prefix) error {
	return at(ns, func(h *netlink.Handle) error { return address(h.AddrAdd, h, device, p) })
}

// RemoveAddress takes it away again.
func RemoveAddress(ns int, device string, p netip.Prefix) error {
	return at(ns, func(h *netlink.Handle) error { return address(h.AddrDel, h, device, p) })
}

func address(do func(netlink.Link, *netlink.Addr) error, h *netlink.Handle, device string, p netip.Prefix) error {
	link, err := h.LinkByName(device)
	if err != nil {
		return err
	}
	return do(link, &netlink.Addr{IPNet: ipNet(p)})
}

// AddVRF makes a VRF device that is up.
func AddVRF(ns int, device string, table uint32) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = device
	return add(ns, &netlink.Vrf{LinkAttrs: attrs, Table: table}, End{Device: device})
}

// AddDummy makes a device that is up and leads nowhere. The end's namespace is where.
func AddDummy(e End) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = e.Device
	return add(e.NetNS, &netlink.Dummy{LinkAttrs: attrs}, e)
}

func add(ns int, link netlink.Link, e End) error {
	err := at(ns, func(h *netlink.Handle) error {
		if err := h.LinkAdd(link); err != nil {
			return err
		}
		return e.set(h)
	})
	if err != nil {
		return fmt.Errorf("make %s: %w", e.Device, err)
	}
	return nil
}

// links are the names of the namespace's interfaces.
func links(ns int) (names []string, err error) {
	err = at(ns, func(h *netlink.Handle) error {
		list, err := h.LinkList()
		for _, l := range list {
			names = append(names, l.Attrs().Name)
		}
		return err
	})
	return names, err
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func at(ns int, do func(*netlink.Handle) error) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(ns))
	if err != nil {
		return err
	}
	defer h.Close()
	return do(h)
}
