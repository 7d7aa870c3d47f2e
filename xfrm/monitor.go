package xfrm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vrgate/vr/nlattr"
)

// Event is something that the kernel did by itself to an SA of ours.
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

func (Expire) xfrmEvent()  {}
func (Mapping) xfrmEvent() {}
func (Resync) xfrmEvent()  {}

// Multicast groups XFRMNLGRP_….
const (
	groupAcquire = 1 // see doc.go
	groupExpire  = 2
	groupMapping = 8
)

// watchBuffer is the receive buffer asked for, in bytes: some 10,000 events.
const watchBuffer = 8 << 20

// Watch hands every event about SAs of ours to fn, in order, until ctx ends,
// and returns ctx's error then. fn runs on Watch's goroutine and should not
// block for long. ready, unless nil, is called once events are being received:
// what happens after that is not missed.
func (k *Kernel) Watch(ctx context.Context, ready func(), fn func(Event)) error {
	return k.listen(ctx, 1<<(groupExpire-1)|1<<(groupMapping-1), ready, func() { fn(Resync{}) }, func(typ uint16, body []byte) error {
		ev, err := parseEvent(typ, body)
		if ev != nil {
			fn(ev)
		}
		return err
	})
}

// listen joins multicast groups and hands their messages to each, and to lost that some were lost, until ctx ends or each fails.
func (k *Kernel) listen(ctx context.Context, groups uint32, ready, lost func(), each func(typ uint16, body []byte) error) error {
	conn, err := netlink.Dial(unix.NETLINK_XFRM, &netlink.Config{NetNS: k.netns, Groups: groups})
	if err != nil {
		return dialError(err)
	}
	defer conn.Close()
	if raw, err := conn.SyscallConn(); err == nil {
		// Beyond net.core.rmem_max, which the daemon's CAP_NET_ADMIN allows;
		// without it fewer events fit and some are lost sooner.
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, k.watchBuffer)
		})
	}
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
// not about an ESP SA of ours.
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
