package l2tpnl

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrgate/vr"
	"vrgate/vr/nlattr"
)

// TestSockaddr compares with the layout of struct sockaddr_pppol2tp on a
// little-endian machine, written down by hand.
func TestSockaddr(t *testing.T) {
	if native.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the expected bytes are little-endian")
	}
	b := sockaddr(9, SessionSpec{Tunnel: 0x4001, Session: 0x1234, PeerTunnel: 1, Peer: 2})
	want, _ := hex.DecodeString("1800" + "01000000" + "00000000" + "09000000" + strings.Repeat("00", 16) + "0140" + "3412" + "0100" + "0200")
	if !bytes.Equal(b[:], want) {
		t.Errorf("%x, want %x", b, want)
	}
}

// TestEncode compares with what iproute2's and accel-ppp's use of the family
// looks like on the wire, attribute by attribute.
func TestEncode(t *testing.T) {
	got := map[uint16][]byte{}
	collect := func(typ uint16, data []byte) error { got[typ] = data; return nil }
	spec := SessionSpec{Tunnel: 1, PeerTunnel: 2, Session: 3, Peer: 4, LNS: true, Sequence: true, Reorder: 1500 * time.Millisecond}
	if err := errors.Join(nlattr.Each(encodeTunnel(7, 1, 2), collect), nlattr.Each(encodeSession(spec), collect)); err != nil {
		t.Fatal(err)
	}
	u32 := func(v uint32) []byte { return native.AppendUint32(nil, v) }
	for typ, want := range map[uint16][]byte{
		attrConnID: u32(1), attrPeerConnID: u32(2), attrSessionID: u32(3), attrPeerSessionID: u32(4), attrFD: u32(7),
		attrProtoVersion: {2}, attrEncapType: native.AppendUint16(nil, 0), attrPwType: native.AppendUint16(nil, 7),
		attrLNSMode: {1}, attrSendSeq: {1}, attrRecvSeq: {0}, attrRecvTimeout: native.AppendUint64(nil, 1500),
	} {
		if !bytes.Equal(got[typ], want) {
			t.Errorf("attribute %d is %x, want %x", typ, got[typ], want)
		}
	}
}

func TestValidate(t *testing.T) {
	good := SessionSpec{Tunnel: 1, PeerTunnel: 2, Session: 3, Peer: 4}
	if err := good.validate(); err != nil {
		t.Fatal(err)
	}
	for i, change := range []func(*SessionSpec){
		func(s *SessionSpec) { s.Tunnel = 0 }, func(s *SessionSpec) { s.PeerTunnel = 0 },
		func(s *SessionSpec) { s.Session = 0 }, func(s *SessionSpec) { s.Peer = 0 }, func(s *SessionSpec) { s.Reorder = -1 },
	} {
		s := good
		change(&s)
		if err := s.validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestErrors(t *testing.T) {
	for errno, want := range map[unix.Errno]error{
		unix.EEXIST: ErrExists, unix.ENODEV: ErrNotFound, unix.ESRCH: ErrNotFound, unix.ENOENT: ErrNotFound, unix.EBUSY: ErrBusy, unix.EPERM: unix.EPERM,
	} {
		if err := mapError("op", errno); !errors.Is(err, want) {
			t.Errorf("%v: %v", errno, err)
		}
	}
	var missing *vr.MissingFeature
	if err := mapSessionError("op", unix.EPROTONOSUPPORT); !errors.As(err, &missing) || !strings.Contains(err.Error(), "modprobe l2tp_ppp") {
		t.Error(err)
	}
	if mapError("op", nil) != nil || mapSessionError("op", nil) != nil || ignoreNotFound(mapError("op", unix.ENODEV)) != nil {
		t.Error("no error became one")
	}
}

func FuzzParseInfo(f *testing.F) {
	var stats []byte
	for i := range uint16(8) {
		stats = nlattr.AppendUint64(stats, i+1, uint64(i)<<33)
	}
	f.Add(nlattr.Append(encodeSession(SessionSpec{Tunnel: 1, PeerTunnel: 2, Session: 3, Peer: 4}), attrStats, stats))
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := parseInfo(b)
		if err != nil {
			return
		}
		// What was read, written again, reads the same.
		w := nlattr.AppendUint32(nil, attrConnID, in.tunnel)
		w = nlattr.AppendUint32(w, attrPeerConnID, in.peerTunnel)
		w = nlattr.AppendUint32(w, attrSessionID, in.session)
		w = nlattr.AppendUint32(w, attrPeerSessionID, in.peer)
		var st []byte
		c := in.counters
		for i, v := range []uint64{c.TxPackets, c.TxBytes, c.TxErrors, c.RxPackets, c.RxBytes, c.RxSequenceDiscards, c.RxOutOfSequence, c.RxErrors} {
			st = nlattr.AppendUint64(st, uint16(i+1), v)
		}
		if again, err := parseInfo(nlattr.Append(w, attrStats, st)); err != nil || again != in {
			t.Fatalf("%+v came back as %+v, %v", in, again, err)
		}
	})
}
