package unit

import (
	"encoding/binary"
	"errors"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vrgate/vr/nlattr"
)

const (
	linkKind     = "ppp"
	statsLink64  = 1 // IFLA_STATS_LINK_64
	sizeStatsMsg = 12
	sizeStats64  = 8 * 8 // of rtnl_link_stats64, what is read

	sizeTrafficControl = 20 // struct tcmsg
	attrQdiscKind      = 1  // TCA_KIND
)

var native = binary.NativeEndian

// ifinfo is struct ifinfomsg: family u8, pad, type u16, index s32, flags u32,
// change u32.
func ifinfo(index int, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	native.PutUint32(b[4:], uint32(index))
	native.PutUint32(b[8:], flags)
	native.PutUint32(b[12:], change)
	return b
}

// newLink is the wish for a PPP interface of the /dev/ppp descriptor fd.
// namespace is a descriptor, or -1 for the one that is asked.
type newLink struct {
	fd        int
	name      string
	mtu       int
	master    int
	group     uint32
	namespace int
}

func (l newLink) encode() []byte {
	b := ifinfo(0, 0, 0)
	b = nlattr.AppendString(b, unix.IFLA_IFNAME, l.name)
	b = nlattr.AppendUint32(b, unix.IFLA_MTU, uint32(l.mtu))
	if l.master != 0 {
		b = nlattr.AppendUint32(b, unix.IFLA_MASTER, uint32(l.master))
	}
	if l.group != 0 {
		b = nlattr.AppendUint32(b, unix.IFLA_GROUP, l.group)
	}
	if l.namespace >= 0 {
		b = nlattr.AppendUint32(b, unix.IFLA_NET_NS_FD, uint32(l.namespace))
	}
	data := nlattr.AppendUint32(nil, unix.IFLA_PPP_DEV_FD, uint32(l.fd))
	info := nlattr.AppendString(nil, unix.IFLA_INFO_KIND, linkKind)
	info = nlattr.Append(info, unix.IFLA_INFO_DATA|unix.NLA_F_NESTED, data)
	return nlattr.Append(b, unix.IFLA_LINKINFO|unix.NLA_F_NESTED, info)
}

// indexByName finds an interface.
func (n *Net) indexByName(name string) (int, error) {
	msgs, err := n.execute(unix.RTM_GETLINK, 0, nlattr.AppendString(ifinfo(0, 0, 0), unix.IFLA_IFNAME, name))
	if err != nil {
		return 0, err
	}
	for _, m := range msgs {
		if m.Header.Type == unix.RTM_NEWLINK && len(m.Data) >= unix.SizeofIfInfomsg {
			return int(int32(native.Uint32(m.Data[4:]))), nil
		}
	}
	return 0, nlattr.ErrMalformed
}

// setFlags brings an interface up or down.
func (n *Net) setFlags(index int, flags, change uint32) error {
	_, err := n.execute(unix.RTM_NEWLINK, netlink.Acknowledge, ifinfo(index, flags, change))
	return err
}

func (n *Net) setMTU(index, mtu int) error {
	_, err := n.execute(unix.RTM_NEWLINK, netlink.Acknowledge, nlattr.AppendUint32(ifinfo(index, 0, 0), unix.IFLA_MTU, uint32(mtu)))
	return err
}

func (n *Net) setGroup(index int, group uint32) error {
	_, err := n.execute(unix.RTM_NEWLINK, netlink.Acknowledge, nlattr.AppendUint32(ifinfo(index, 0, 0), unix.IFLA_GROUP, group))
	return err
}

// noqueue takes the queue from an interface that has not been up. PPP on L2TP hands every packet on at once, so a
// queue never holds one; the usual default, fq_codel, costs each subscriber 64 KiB of kernel memory nonetheless.
// What queues is the link below. A kernel without traffic control has no such default.
func (n *Net) noqueue(index int) error {
	const (
		root  = 0xffffffff // TC_H_ROOT
		title = "noqueue"
	)
	// struct tcmsg: family u8, pad 3, ifindex s32, handle u32, parent u32, info u32
	b := make([]byte, sizeTrafficControl)
	native.PutUint32(b[4:], uint32(index))
	native.PutUint32(b[12:], root)
	_, err := n.execute(unix.RTM_NEWQDISC, netlink.Create|netlink.Replace|netlink.Acknowledge, nlattr.AppendString(b, attrQdiscKind, title))
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// Traffic is what an interface counted since it was made, from our side: Rx is
// from the subscriber. Bytes are those of IP packets and of network control
// protocol frames without PPP's protocol field or L2TP's headers; LCP,
// authentication, and frames handled before the interface was made are not
// counted. This is the base of accounting.
type Traffic struct {
	RxPackets, TxPackets uint64
	RxBytes, TxBytes     uint64
	RxErrors, TxErrors   uint64
	RxDropped, TxDropped uint64
}

// traffic asks for the 64-bit statistics alone, a much smaller answer than a
// whole link's.
func (n *Net) traffic(index int) (Traffic, error) {
	req := make([]byte, sizeStatsMsg) // family u8, pad 3, ifindex u32, filter_mask u32
	native.PutUint32(req[4:], uint32(index))
	native.PutUint32(req[8:], 1<<(statsLink64-1))
	msgs, err := n.execute(unix.RTM_GETSTATS, 0, req)
	if err != nil {
		return Traffic{}, err
	}
	for _, m := range msgs {
		if m.Header.Type == unix.RTM_NEWSTATS {
			return parseStats(m.Data)
		}
	}
	return Traffic{}, nlattr.ErrMalformed
}

// parseStats reads the body of a NEWSTATS message.
func parseStats(b []byte) (Traffic, error) {
	if len(b) < sizeStatsMsg {
		return Traffic{}, nlattr.ErrMalformed
	}
	var t Traffic
	found := false
	err := nlattr.Each(b[sizeStatsMsg:], func(typ uint16, data []byte) error {
		if typ != statsLink64 {
			return nil
		}
		if len(data) < sizeStats64 {
			return nlattr.ErrMalformed
		}
		for i, p := range []*uint64{
			&t.RxPackets, &t.TxPackets, &t.RxBytes, &t.TxBytes,
			&t.RxErrors, &t.TxErrors, &t.RxDropped, &t.TxDropped,
		} {
			*p = native.Uint64(data[8*i:])
		}
		found = true
		return nil
	})
	if err == nil && !found {
		err = nlattr.ErrMalformed
	}
	return t, err
}
