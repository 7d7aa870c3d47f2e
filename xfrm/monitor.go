package xfrm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vrgate/vr/nlattr"
)

// Event is something that happened to SAs or policies of ours, without our doing.
type Event interface{ xfrmEvent() }

// Expire says that an SA reached a lifetime.
type Expire struct {
	ID
	Reqid uint32
	// Hard: the kernel has deleted the SA. Else the soft limit was reached and a
	// successor is wanted.
	Hard bool
	// Counters are the SA's at that moment; of a deleted SA the last ones. Bytes,
	// Packets and errors only.
	Counters Counters
}

// Mapping says that a packet which passed the integrity check of an inbound SA
// came from another address or port than the SA's: the peer's NAT has moved it.
// The kernel took the packet; Update both SAs of the connection to send there.
// A mapping that is not followed by Update is reported again every 5 seconds
// while packets come.
type Mapping struct {
	ID
	Reqid    uint32
	Old, New netip.AddrPort
}

// Resync says that events were lost: compare what should be with List.
type Resync struct{}

// Flushed says that somebody has removed all SAs, or all policies, of the namespace, as ip(8) and other IPsec daemons do when
// they are started or stopped: compare what should be with List and ListPolicies. Who removes them one by one is not told of; see
// [Kernel.Census].
type Flushed struct{}

func (Expire) xfrmEvent()  {}
func (Mapping) xfrmEvent() {}
func (Resync) xfrmEvent()  {}
func (Flushed) xfrmEvent() {}

// Multicast groups XFRMNLGRP_….
const (
	groupAcquire = 1 // see doc.go
	groupExpire  = 2
	groupSA      = 3
	groupPolicy  = 4
	groupMapping = 8
)

// watchBuffer is the receive buffer asked for, in bytes: some 10,000 events.
const watchBuffer = 8 << 20

// Watch hands every event about SAs of ours to fn, in order, until ctx ends,
// and returns ctx's error then. fn runs on Watch's goroutine and should not
// block for long. ready, unless nil, is called once events are being received:
// what happens after that is not missed.
func (k *Kernel) Watch(ctx context.Context, ready func(), fn func(Event)) error {
	w := watched{
		groups: []uint32{groupExpire, groupMapping, groupSA, groupPolicy}, types: []uint16{msgExpire, msgMapping, msgFlushSA, msgFlushSPD}, buffer: k.watchBuffer,
	}
	return k.listen(ctx, w, ready, func() { fn(Resync{}) }, func(typ uint16, body []byte) error {
		ev, err := parseEvent(typ, body)
		if ev != nil {
			fn(ev)
		}
		return err
	})
}

// watched is what of the kernel's messages is received.
type watched struct {
	groups []uint32
	// types of messages, since those of some groups have keys, and come for everything that we do: the kernel drops the others
	// before they take room.
	types  []uint16
	buffer int // of the socket, in bytes
}

// filter returns a program for classic BPF that lets messages of the types through. It loads the 16 bits of the type, which are in the
// host's order, as if they were in the network's.
func (w *watched) filter() []unix.SockFilter {
	const offType = 4 // in struct nlmsghdr
	p := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: offType}}
	for i, typ := range w.types {
		p = append(p, unix.SockFilter{
			Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(binary.BigEndian.Uint16(native.AppendUint16(nil, typ))), Jt: uint8(len(w.types) - i),
		})
	}
	return append(p, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: math.MaxUint32})
}

// open returns a socket that receives what is watched from now on.
func (w *watched) open(netns int) (*netlink.Conn, error) {
	conn, err := dial(netns)
	if err != nil {
		return nil, err
	}
	if err := w.join(conn); err != nil {
		return nil, errors.Join(fmt.Errorf("xfrm: watch events: %w", err), conn.Close())
	}
	return conn, nil
}

func (w *watched) join(conn *netlink.Conn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	program := w.filter()
	var filtered error
	if err := raw.Control(func(fd uintptr) {
		// Beyond net.core.rmem_max, which the daemon's CAP_NET_ADMIN allows;
		// without it fewer events fit and some are lost sooner.
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, w.buffer)
		filtered = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	}); err != nil || filtered != nil {
		return errors.Join(err, filtered)
	}
	for _, g := range w.groups {
		if err := conn.JoinGroup(g); err != nil {
			return err
		}
	}
	return nil
}

// listen hands the messages that are watched to each, and to lost that some were lost, until ctx ends or each fails.
func (k *Kernel) listen(ctx context.Context, w watched, ready, lost func(), each func(typ uint16, body []byte) error) error {
	conn, err := w.open(k.netns)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if ready != nil {
		ready()
	}
	for {
		msgs, err := conn.Receive()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, unix.ENOBUFS) {
			lost()
			continue
		}
		if err != nil {
			return fmt.Errorf("xfrm: watch events: %w", err)
		}
		for _, m := range msgs {
			if err := each(uint16(m.Header.Type), m.Data); err != nil {
				return fmt.Errorf("xfrm: watch events: %w", err)
			}
		}
	}
}

// parseEvent reads a multicast message; nil without an error is one that is
// not about an ESP SA of ours. A flush is about everybody's.
func parseEvent(typ uint16, b []byte) (Event, error) {
	switch typ {
	case msgExpire:
		if len(b) < sizeExpire {
			return nil, nlattr.ErrMalformed
		}
		if !isESP(b) || !Ours(native.Uint32(b[offReqid:])) {
			return nil, nil
		}
		s, err := parseInfo(b)
		if err != nil {
			return nil, err
		}
		return Expire{ID: s.ID, Reqid: s.Reqid, Hard: b[offHard] != 0, Counters: s.Counters}, nil
	case msgMapping:
		return parseMapping(b)
	case msgFlushSA, msgFlushSPD:
		return Flushed{}, nil
	}
	return nil, nil
}

// parseMapping reads struct xfrm_user_mapping:
//
//	0 id: daddr 16, spi, family u16 @20, proto @22
//	24 reqid, 28 old_saddr 16, 44 new_saddr 16, 60 old_sport, 62 new_sport
func parseMapping(b []byte) (Event, error) {
	if len(b) < sizeMapping {
		return nil, nlattr.ErrMalformed
	}
	reqid := native.Uint32(b[24:])
	if b[22] != unix.IPPROTO_ESP || !Ours(reqid) {
		return nil, nil
	}
	fam := native.Uint16(b[20:])
	dst, ok := addr(b[:16], fam)
	from, ok2 := addr(b[28:44], fam)
	to, ok3 := addr(b[44:60], fam)
	if !ok || !ok2 || !ok3 {
		return nil, nlattr.ErrMalformed
	}
	return Mapping{
		ID:    ID{Dst: dst, SPI: binary.BigEndian.Uint32(b[16:])},
		Reqid: reqid,
		Old:   netip.AddrPortFrom(from, binary.BigEndian.Uint16(b[60:])),
		New:   netip.AddrPortFrom(to, binary.BigEndian.Uint16(b[62:])),
	}, nil
}
