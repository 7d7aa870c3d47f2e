package xfrm

import (
	"encoding/binary"
	"math"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"vrgate/vr/nlattr"
)

// Message types of linux/xfrm.h.
const (
	msgNewSA      = 0x10
	msgDelSA      = 0x11
	msgGetSA      = 0x12
	msgDelPolicy  = 0x14
	msgGetPolicy  = 0x15
	msgNewPolicy  = 0x13
	msgAcquire    = 0x17
	msgExpire     = 0x18
	msgUpdPolicy  = 0x19
	msgUpdSA      = 0x1a
	msgFlushSA    = 0x1c
	msgFlushSPD   = 0x1d
	msgNewSADInfo = 0x22
	msgGetSADInfo = 0x23
	msgNewSPDInfo = 0x24
	msgGetSPDInfo = 0x25
	msgMapping    = 0x26
)

// Attributes (XFRMA_…).
const (
	attrAlgCrypt       = 2
	attrEncap          = 4
	attrTemplate       = 5
	attrLifetime       = 9
	attrReplay         = 10
	attrLastUsed       = 15
	attrAlgAEAD        = 18
	attrAlgAuthTrunc   = 20
	attrReplayESN      = 23
	attrSetMark        = 29
	attrSetMarkMask    = 30
	attrIfID           = 31
	attrMappingMaxAge  = 32
	attrSADCount       = 1 // of NEWSADINFO, a space of its own
	attrSPDInfo        = 1 // of NEWSPDINFO, another one
	attrSPDIPv4HThresh = 3
	attrSPDIPv6HThresh = 4
)

// Sizes of the structures. struct xfrm_usersa_info and its parts:
//
//	  0 selector 56     daddr 16, saddr 16, dport, dport_mask, sport, sport_mask,
//	                    family @40, prefixlen_d @42, prefixlen_s @43, proto @44
//	 56 id 24           daddr 16, spi, proto @76
//	 80 saddr 16
//	 96 lifetime cfg 64 soft/hard bytes, soft/hard packets, soft/hard add, soft/hard use
//	160 lifetime cur 32 bytes, packets, add_time, use_time
//	192 stats 12        replay_window, replay, integrity_failed
//	204 seq, 208 reqid, 212 family u16, 214 mode u8, 215 replay_window u8, 216 flags u8
const (
	sizeSelector   = 56
	sizeSAInfo     = 224
	sizeSAID       = 24
	sizeExpire     = 232
	sizeMapping    = 64
	sizePolicyInfo = 168
	sizePolicyID   = 64
	sizeTemplate   = 64
	sizeLifetime   = 32
	sizeAcquire    = 280
	sizeAlgName    = 64
	sizeEncap      = 24
	sizeReplay     = 12
	sizeReplayESN  = 24 // before the bitmap

	offSelPorts = 32 // destination and source, each with its mask
	offSelProto = 44

	offDst      = 56
	offSPI      = 72
	offProto    = 76
	offSrc      = 80
	offLimits   = 96
	offCurrent  = 160
	offStats    = 192
	offReqid    = 208
	offFamily   = 212
	offMode     = 214
	offWindow   = 215
	offHard     = 224 // in xfrm_user_expire
	legacyLimit = 32  // packets, the widest window of the old replay state

	// maxSAMessage is more than any NEWSA body of ours, so that append never
	// moves one and leaves a copy of its keys behind.
	maxSAMessage = 1536
)

const (
	encapESPinUDP = 2
	unlimited     = math.MaxUint64
	// mappingPause, in seconds, is how long the kernel keeps quiet about a mapping
	// that it has reported, unless the port is another one; without it every packet
	// is an event (kernel.md section 3.6). The kernel compares ports only, so the
	// largest value would hide a peer that keeps its port and moves to another
	// address after it has moved to another port.
	mappingPause = 5
)

var native = binary.NativeEndian

// lifetime is struct xfrm_lifetime_cur: what a replaced SA hands on, so that
// its counters and its age go on.
type lifetime struct {
	bytes, packets, added, used uint64
}

// replayState is the sequence number state of an SA.
type replayState struct {
	out, in uint32
	window  uint32
	bitmap  []uint32 // newest packets; nil in the 32-packet form, whose bitmap is bits
	bits    uint32
}

func appendUint32(b []byte, v uint32) []byte { return native.AppendUint32(b, v) }

func family(a netip.Addr) uint16 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// putAddr writes an xfrm_address_t.
func putAddr(b []byte, a netip.Addr) { copy(b, a.AsSlice()) }

// addr reads an xfrm_address_t, 16 bytes of b, of a family.
func addr(b []byte, fam uint16) (netip.Addr, bool) {
	switch fam {
	case unix.AF_INET:
		return netip.AddrFrom4([4]byte(b)), true
	case unix.AF_INET6:
		return netip.AddrFrom16([16]byte(b)), true
	}
	return netip.Addr{}, false
}

func putSelector(b []byte, sel Selector) {
	if sel == (Selector{}) {
		return // the kernel fills the family in
	}
	b[offSelProto] = sel.Proto
	for i, port := range []uint16{sel.DstPort, sel.SrcPort} {
		if port != 0 {
			binary.BigEndian.PutUint16(b[offSelPorts+4*i:], port)
			binary.BigEndian.PutUint16(b[offSelPorts+4*i+2:], math.MaxUint16)
		}
	}
	for _, p := range []struct {
		prefix    netip.Prefix
		addr, len int
	}{{sel.Dst, 0, 42}, {sel.Src, 16, 43}} {
		if p.prefix.IsValid() {
			putAddr(b[p.addr:], p.prefix.Addr())
			b[p.len] = byte(p.prefix.Bits())
			native.PutUint16(b[40:], family(p.prefix.Addr()))
		}
	}
}

// parseSelector reads a selector of an SA, where a prefix of no bits is any.
func parseSelector(b []byte) Selector {
	sel := Selector{Proto: b[offSelProto]}
	sel.Src, sel.Dst = selectorPrefixes(b)
	sel.SrcPort, sel.DstPort = selectorPorts(b)
	for _, p := range []*netip.Prefix{&sel.Src, &sel.Dst} {
		if p.Bits() == 0 {
			*p = netip.Prefix{}
		}
	}
	return sel
}

// selectorPrefixes reads the networks of a selector, invalid where the family is unknown.
func selectorPrefixes(b []byte) (src, dst netip.Prefix) {
	fam := native.Uint16(b[40:])
	prefix := func(addrAt, bitsAt int) netip.Prefix {
		a, _ := addr(b[addrAt:addrAt+16], fam)
		return netip.PrefixFrom(a, int(b[bitsAt]))
	}
	return prefix(16, 43), prefix(0, 42)
}

// selectorPorts reads the ports of a selector; a range of them, which we never ask for, is any.
func selectorPorts(b []byte) (src, dst uint16) {
	port := func(at int) uint16 {
		if binary.BigEndian.Uint16(b[at+2:]) != math.MaxUint16 {
			return 0
		}
		return binary.BigEndian.Uint16(b[at:])
	}
	return port(offSelPorts + 4), port(offSelPorts)
}

// encodeID is the body of DELSA and of GETSA for one SA.
func encodeID(id ID) []byte {
	b := make([]byte, sizeSAID)
	putAddr(b, id.Dst)
	binary.BigEndian.PutUint32(b[16:], id.SPI)
	native.PutUint16(b[20:], family(id.Dst))
	b[22] = unix.IPPROTO_ESP
	return b
}

// encodeSA is the body of NEWSA and UPDSA. The result holds keys: clear it
// after use. With old the new SA goes on with its sequence numbers, counters
// and age.
func encodeSA(sa *SA, old *State) []byte {
	b := make([]byte, sizeSAInfo, maxSAMessage)
	id := sa.ID()
	putSelector(b, sa.Selector)
	if sa.Selector != (Selector{}) {
		native.PutUint16(b[40:], family(id.Dst))
	}
	putAddr(b[offDst:], id.Dst)
	binary.BigEndian.PutUint32(b[offSPI:], id.SPI)
	b[offProto] = unix.IPPROTO_ESP
	putAddr(b[offSrc:], sa.src())
	for i, v := range [8]uint64{
		orUnlimited(sa.SoftBytes), orUnlimited(sa.HardBytes), unlimited, unlimited,
		sa.SoftSeconds, sa.HardSeconds, 0, 0,
	} {
		native.PutUint64(b[offLimits+8*i:], v)
	}
	native.PutUint32(b[offReqid:], sa.Reqid)
	native.PutUint16(b[offFamily:], family(id.Dst))
	b[offMode] = byte(sa.Mode)
	window := sa.window()
	if window <= legacyLimit {
		b[offWindow] = byte(window)
	}

	c := ciphers[sa.Encryption]
	if c.aead {
		b = appendAlg(b, attrAlgAEAD, c.name, sa.EncryptionKey, c.icvBits)
	} else {
		m := macs[sa.Integrity]
		b = appendAlg(b, attrAlgAuthTrunc, m.name, sa.IntegrityKey, m.truncBits)
		b = appendAlg(b, attrAlgCrypt, c.name, sa.EncryptionKey, 0)
	}
	b = appendEncap(b, sa)
	if sa.SetMark != 0 {
		b = nlattr.Append(b, attrSetMark, appendUint32(nil, sa.SetMark))
		b = nlattr.Append(b, attrSetMarkMask, appendUint32(nil, math.MaxUint32))
	}
	if sa.IfID != 0 {
		b = nlattr.AppendUint32(b, attrIfID, sa.IfID)
	}
	return appendContinuation(b, window, old)
}

// appendAlg appends struct xfrm_algo, or the forms that have a second length
// after the key's (extra is that one's value in bits, 0 for none). It writes in
// place so that no copy of the key is left behind.
func appendAlg(b []byte, typ uint16, name string, key Key, extra uint32) []byte {
	size := sizeAlgName + 4 + len(key)
	if extra != 0 {
		size += 4
	}
	b = native.AppendUint16(b, uint16(unix.SizeofNlAttr+size))
	b = native.AppendUint16(b, typ)
	at := len(b)
	b = append(b, make([]byte, sizeAlgName)...)
	copy(b[at:at+sizeAlgName-1], name)
	b = appendUint32(b, uint32(len(key)*8))
	if extra != 0 {
		b = appendUint32(b, extra)
	}
	b = append(b, key...)
	for len(b)%unix.NLA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

func appendEncap(b []byte, sa *SA) []byte {
	if sa.Encap == nil {
		return b
	}
	src, dst := sa.Encap.LocalPort, sa.Encap.RemotePort
	if sa.Dir == In {
		src, dst = dst, src
	}
	e := make([]byte, sizeEncap) // the original address stays 0: ESP does not use it
	native.PutUint16(e, encapESPinUDP)
	binary.BigEndian.PutUint16(e[2:], src)
	binary.BigEndian.PutUint16(e[4:], dst)
	b = nlattr.Append(b, attrEncap, e)
	if sa.Dir == In {
		b = nlattr.Append(b, attrMappingMaxAge, appendUint32(nil, mappingPause))
	}
	return b
}

// appendContinuation appends the replay state and, with old, its lifetime.
func appendContinuation(b []byte, window uint32, old *State) []byte {
	var r replayState
	if old != nil {
		r = old.replay
		var l []byte
		for _, v := range []uint64{old.life.bytes, old.life.packets, old.life.added, old.life.used} {
			l = native.AppendUint64(l, v)
		}
		b = nlattr.Append(b, attrLifetime, l)
	}
	if window <= legacyLimit {
		if old == nil {
			return b
		}
		data := appendUint32(nil, r.out)
		data = appendUint32(data, r.in)
		return nlattr.Append(b, attrReplay, appendUint32(data, r.bits))
	}
	// The bitmap form without the ESN flag: 32-bit sequence numbers with a wide
	// window (kernel.md section 3.6).
	words := (window + 31) / 32
	var data []byte
	for _, v := range []uint32{words, r.out, r.in, 0, 0, window} {
		data = appendUint32(data, v)
	}
	for i := range words {
		var v uint32
		if int(i) < len(r.bitmap) && r.window == window {
			v = r.bitmap[i]
		} else if old != nil {
			v = math.MaxUint32 // another window: nothing up to now is taken again
		}
		data = appendUint32(data, v)
	}
	return nlattr.Append(b, attrReplayESN, data)
}

func orUnlimited(v uint64) uint64 {
	if v == 0 {
		return unlimited
	}
	return v
}

func orZero(v uint64) uint64 {
	if v == unlimited {
		return 0
	}
	return v
}

// parseSA reads the body of a NEWSA message. Keys in it are not looked at.
func parseSA(b []byte) (State, error) {
	s, err := parseInfo(b)
	if err != nil {
		return s, err
	}
	var auth string
	var trunc uint32
	err = nlattr.Each(b[sizeSAInfo:], func(typ uint16, data []byte) error {
		switch typ {
		case attrAlgAEAD, attrAlgCrypt:
			name, _, ok := algHeader(data, 4)
			if !ok {
				return nlattr.ErrMalformed
			}
			s.Encryption = encryptionByName(name)
		case attrAlgAuthTrunc:
			var ok bool
			if auth, trunc, ok = algHeader(data, 8); !ok {
				return nlattr.ErrMalformed
			}
			s.Integrity = integrityByName(auth, trunc)
		case attrEncap:
			if len(data) < sizeEncap {
				return nlattr.ErrMalformed
			}
			s.SrcPort, s.DstPort = binary.BigEndian.Uint16(data[2:]), binary.BigEndian.Uint16(data[4:])
		case attrSetMark:
			if len(data) < 4 {
				return nlattr.ErrMalformed
			}
			s.SetMark = native.Uint32(data)
		case attrIfID:
			if len(data) < 4 {
				return nlattr.ErrMalformed
			}
			s.IfID = native.Uint32(data)
		case attrLastUsed:
			if len(data) < 8 {
				return nlattr.ErrMalformed
			}
			s.Counters.LastUsed = seconds(native.Uint64(data))
		case attrReplay:
			if len(data) < sizeReplay {
				return nlattr.ErrMalformed
			}
			s.replay = replayState{out: native.Uint32(data), in: native.Uint32(data[4:]), bits: native.Uint32(data[8:]), window: s.ReplayWindow}
		case attrReplayESN:
			r, ok := parseReplayESN(data)
			if !ok {
				return nlattr.ErrMalformed
			}
			s.replay, s.ReplayWindow = r, r.window
		}
		return nil
	})
	s.Counters.Sequence = max(s.replay.out, s.replay.in)
	return s, err
}

// parseInfo reads struct xfrm_usersa_info.
func parseInfo(b []byte) (State, error) {
	var s State
	if len(b) < sizeSAInfo {
		return s, nlattr.ErrMalformed
	}
	fam := native.Uint16(b[offFamily:])
	var ok, ok2 bool
	s.Dst, ok = addr(b[offDst:offDst+16], fam)
	s.Src, ok2 = addr(b[offSrc:offSrc+16], fam)
	if !ok || !ok2 {
		return s, nlattr.ErrMalformed
	}
	s.SPI = binary.BigEndian.Uint32(b[offSPI:])
	s.Reqid = native.Uint32(b[offReqid:])
	s.Mode = Mode(b[offMode])
	s.ReplayWindow = uint32(b[offWindow])
	s.Selector = parseSelector(b[:sizeSelector])
	lim := b[offLimits:]
	s.SoftBytes, s.HardBytes = orZero(native.Uint64(lim)), orZero(native.Uint64(lim[8:]))
	s.SoftSeconds, s.HardSeconds = native.Uint64(lim[32:]), native.Uint64(lim[40:])
	cur := b[offCurrent:]
	s.life = lifetime{
		bytes: native.Uint64(cur), packets: native.Uint64(cur[8:]),
		added: native.Uint64(cur[16:]), used: native.Uint64(cur[24:]),
	}
	s.Counters = Counters{
		Bytes: s.life.bytes, Packets: s.life.packets, Added: seconds(s.life.added),
		Replay: native.Uint32(b[offStats+4:]), IntegrityFailed: native.Uint32(b[offStats+8:]),
	}
	return s, nil
}

// isESP tells whether a NEWSA body of full length is about ESP.
func isESP(b []byte) bool { return len(b) >= sizeSAInfo && b[offProto] == unix.IPPROTO_ESP }

// algHeader reads name and second length of the algorithm structures; lengths
// is the size of their length fields in bytes.
func algHeader(b []byte, lengths int) (name string, second uint32, ok bool) {
	if len(b) < sizeAlgName+lengths {
		return "", 0, false
	}
	n := 0
	for n < sizeAlgName && b[n] != 0 {
		n++
	}
	if lengths == 8 {
		second = native.Uint32(b[sizeAlgName+4:])
	}
	return string(b[:n]), second, true
}

func parseReplayESN(b []byte) (replayState, bool) {
	if len(b) < sizeReplayESN {
		return replayState{}, false
	}
	words := native.Uint32(b)
	r := replayState{out: native.Uint32(b[4:]), in: native.Uint32(b[8:]), window: native.Uint32(b[20:])}
	if words > MaxReplayWindow/32 || int(words)*4 > len(b)-sizeReplayESN || r.window > words*32 {
		return replayState{}, false
	}
	r.bitmap = make([]uint32, words)
	for i := range r.bitmap {
		r.bitmap[i] = native.Uint32(b[sizeReplayESN+4*i:])
	}
	return r, true
}

// seconds converts the kernel's wall clock; 0 is never.
func seconds(v uint64) time.Time {
	if v == 0 || v > math.MaxInt64/2 {
		return time.Time{}
	}
	return time.Unix(int64(v), 0)
}
