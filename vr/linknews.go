package vr

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// linkNews opens a socket in the thread's namespace that receives the kernel's messages about one interface
// and about no other: the namespace may hold ten thousand PPP devices that come and go.
func linkNews(index int) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, failed(err, "listen to link %d", index)
	}
	const ifiIndex = unix.SizeofNlMsghdr + 4 // struct ifinfomsg.ifi_index
	// Filters load numbers in network order, which these are not in.
	want := binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, uint32(index)))
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: ifiIndex},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: want, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: ^uint32(0)},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.RTNLGRP_LINK - 1)})
	}
	if err != nil {
		unix.Close(fd)
		return -1, failed(err, "listen to link %d", index)
	}
	return fd, nil
}

// linkMessage is more than what is read of a message; the rest is cut off.
const linkMessage = 4096

// fate is what has become of a link.
type fate uint8

const (
	fine fate = iota
	down
	gone
)

// readNews reads all messages and says the worst of them; missed when messages were lost.
func readNews(fd, index int) (worst fate, missed bool) {
	b := make([]byte, linkMessage)
	for {
		n, _, err := unix.Recvfrom(fd, b, 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS):
			missed = true
		case err != nil:
			return worst, missed
		default:
			worst = max(worst, parseNews(b[:n], index))
		}
	}
}

// parseNews says what a message of the kernel's means for a link: struct nlmsghdr (length
// u32, type u16, …) and struct ifinfomsg (family u8, pad, type u16, index s32, flags u32, change u32).
func parseNews(b []byte, index int) fate {
	const (
		typeAt  = 4
		indexAt = unix.SizeofNlMsghdr + 4
		flagsAt = unix.SizeofNlMsghdr + 8
	)
	if len(b) < unix.SizeofNlMsghdr+unix.SizeofIfInfomsg || binary.NativeEndian.Uint32(b[indexAt:]) != uint32(index) {
		return fine
	}
	switch typ, up := binary.NativeEndian.Uint16(b[typeAt:]), binary.NativeEndian.Uint32(b[flagsAt:])&unix.IFF_UP != 0; {
	case typ == unix.RTM_DELLINK:
		return gone
	case typ == unix.RTM_NEWLINK && !up:
		return down
	}
	return fine
}
