package xfrm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"vrgate/vr"
	"vrgate/vr/nlattr"
)

func TestTag(t *testing.T) {
	for conn, want := range map[uint32]uint32{0: 0, 1: 0x11000001, 0xffffff: 0x11ffffff, 0x1000000: 0} {
		if got := Tag(conn); got != want {
			t.Errorf("Tag(%#x) = %#x, want %#x", conn, got, want)
		}
	}
	if Ours(0x10ffffff) || Ours(0x12000000) || !Ours(Tag(7)) || Conn(Tag(7)) != 7 {
		t.Error("Ours or Conn is wrong about the top byte")
	}
}

func TestKeysNeverPrint(t *testing.T) {
	sa, _ := pair(1, "192.0.2.1", "198.51.100.1", nil)
	sa.EncryptionKey = Key("0123456789abcdef")
	js, err := json.Marshal(sa)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprintf("%v %+v %#v %s %x %q %d", sa, sa, sa, sa.EncryptionKey, sa.EncryptionKey, sa.EncryptionKey, sa.EncryptionKey), string(js),
	} {
		if strings.Contains(text, "0123456789") || strings.Contains(text, "3031323334") || strings.Contains(text, "48 49 50") {
			t.Errorf("key appears in %s", text)
		}
	}
}

func TestValidate(t *testing.T) {
	good, goodOut := pair(1, "192.0.2.1", "198.51.100.1", &Encap{4500, 40001})
	if err := errors.Join(good.Validate(), goodOut.Validate()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*SA){
		"direction":           func(s *SA) { s.Dir = 0 },
		"low SPI":             func(s *SA) { s.SPI = 255 },
		"no address":          func(s *SA) { s.Remote = netip.Addr{} },
		"mixed families":      func(s *SA) { s.Remote = netip.MustParseAddr("2001:db8::1") },
		"mapped address":      func(s *SA) { s.Remote = netip.MustParseAddr("::ffff:192.0.2.1") },
		"unspecified":         func(s *SA) { s.Remote = netip.IPv4Unspecified() },
		"foreign reqid":       func(s *SA) { s.Reqid = 1 },
		"no connection":       func(s *SA) { s.Reqid = 0x11000000 },
		"port 0":              func(s *SA) { s.Encap = &Encap{4500, 0} },
		"window":              func(s *SA) { s.ReplayWindow = 4097 },
		"short key":           func(s *SA) { s.EncryptionKey = s.EncryptionKey[:15] },
		"short integrity key": func(s *SA) { s.IntegrityKey = s.IntegrityKey[:20] },
		"no integrity":        func(s *SA) { s.Integrity = IntegrityNone },
		"GCM and integrity":   func(s *SA) { s.Encryption, s.EncryptionKey = AESGCM16, make(Key, 20) },
		"soft over hard":      func(s *SA) { s.SoftSeconds = s.HardSeconds + 1 },
		"soft over hard, B":   func(s *SA) { s.SoftBytes = s.HardBytes + 1 },
		"selector family":     func(s *SA) { s.Selector.Dst = netip.MustParsePrefix("2001:db8::1/128") },
		"mark on outbound":    func(s *SA) { s.Dir = Out },
		"mode":                func(s *SA) { s.Mode = 4 },
		"interface":           func(s *SA) { s.IfID = 1 }, // in transport mode
		"ports of nothing":    func(s *SA) { s.Selector.Proto, s.Selector.DstPort = 0, 80 },
	} {
		sa := good
		change(&sa)
		if err := sa.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

// TestEncodeAgainstLibrary reads what encodeSA writes with vishvananda/netlink's
// structures, which were written independently.
func TestEncodeAgainstLibrary(t *testing.T) {
	in, out := pair(5, "192.0.2.1", "198.51.100.9", &Encap{LocalPort: 4500, RemotePort: 40001})
	for _, sa := range []SA{in, out} {
		b := encodeSA(&sa, nil)
		info := nl.DeserializeXfrmUsersaInfo(b)
		if got, _ := netip.AddrFromSlice(info.Id.Daddr.ToIP()); got.Unmap() != sa.ID().Dst {
			t.Errorf("%v: destination %v", sa.Dir, got)
		}
		if got, _ := netip.AddrFromSlice(info.Saddr.ToIP()); got.Unmap() != sa.src() {
			t.Errorf("%v: source %v", sa.Dir, got)
		}
		if nl.Swap32(info.Id.Spi) != sa.SPI || info.Id.Proto != unix.IPPROTO_ESP || info.Reqid != sa.Reqid || info.Family != unix.AF_INET {
			t.Errorf("%v: %+v", sa.Dir, info)
		}
		if info.Lft.SoftAddExpiresSeconds != 3000 || info.Lft.HardAddExpiresSeconds != 3600 || info.Lft.SoftByteLimit != 1<<30 ||
			info.Lft.HardByteLimit != 1<<31 || info.Lft.HardPacketLimit != nl.XFRM_INF || info.Lft.HardUseExpiresSeconds != 0 {
			t.Errorf("%v: lifetimes %+v", sa.Dir, info.Lft)
		}
		if info.Sel.Proto != 17 || info.Sel.Family != unix.AF_INET {
			t.Errorf("%v: selector %+v", sa.Dir, info.Sel)
		}
		list, err := nl.ParseRouteAttr(b[nl.SizeofXfrmUsersaInfo:])
		if err != nil {
			t.Fatal(err)
		}
		var types []uint16
		for _, a := range list {
			types = append(types, a.Attr.Type)
			switch a.Attr.Type {
			case nl.XFRMA_ALG_CRYPT:
				alg := nl.DeserializeXfrmAlgo(a.Value)
				if nl.BytesToString(alg.AlgName[:]) != "cbc(aes)" || alg.AlgKeyLen != 256 || !bytes.Equal(alg.AlgKey, sa.EncryptionKey) {
					t.Error("encryption algorithm is not what was asked for")
				}
			case nl.XFRMA_ALG_AUTH_TRUNC:
				alg := nl.DeserializeXfrmAlgoAuth(a.Value)
				if nl.BytesToString(alg.AlgName[:]) != "hmac(sha256)" || alg.AlgKeyLen != 256 || alg.AlgTruncLen != 128 || !bytes.Equal(alg.AlgKey, sa.IntegrityKey) {
					t.Error("integrity algorithm is not what was asked for")
				}
			case nl.XFRMA_ENCAP:
				e := nl.DeserializeXfrmEncapTmpl(a.Value)
				src, dst := nl.Swap16(e.EncapSport), nl.Swap16(e.EncapDport)
				if e.EncapType != 2 || (sa.Dir == In && (src != 40001 || dst != 4500)) || (sa.Dir == Out && (src != 4500 || dst != 40001)) {
					t.Errorf("%v: encapsulation %+v", sa.Dir, e)
				}
			}
		}
		want := []uint16{nl.XFRMA_ALG_AUTH_TRUNC, nl.XFRMA_ALG_CRYPT, nl.XFRMA_ENCAP}
		if sa.Dir == In {
			want = append(want, attrMappingMaxAge, nl.XFRMA_SET_MARK, nl.XFRMA_SET_MARK_MASK, nl.XFRMA_REPLAY_ESN_VAL)
		}
		if !slices.Equal(types, want) {
			t.Errorf("%v: attributes %v, want %v", sa.Dir, types, want)
		}
	}
}

// TestKeyBufferIsNotCopied makes sure that one clear() removes all keys: the
// buffer must not grow beyond its first allocation for any algorithm.
func TestKeyBufferIsNotCopied(t *testing.T) {
	sa, _ := pair(5, "192.0.2.1", "198.51.100.9", &Encap{LocalPort: 4500, RemotePort: 40001})
	sa.Integrity, sa.IntegrityKey, sa.ReplayWindow = SHA512, make(Key, 64), MaxReplayWindow
	full := encodeSA(&sa, &State{})
	if cap(full) != maxSAMessage || len(full) < sizeSAInfo+MaxReplayWindow/8 {
		t.Errorf("message of %d bytes in a buffer of %d", len(full), cap(full))
	}
}

func TestRoundTrip(t *testing.T) {
	for e, c := range ciphers {
		for i, m := range macs {
			for _, keyLen := range c.keys {
				sa, _ := pair(9, "2001:db8::1", "2001:db8::2", nil)
				sa.Encryption, sa.EncryptionKey = e, make(Key, keyLen)
				sa.Integrity, sa.IntegrityKey = i, make(Key, m.key)
				if c.aead {
					sa.Integrity, sa.IntegrityKey = IntegrityNone, nil
				}
				if err := sa.Validate(); err != nil {
					t.Fatal(err)
				}
				got, err := parseSA(encodeSA(&sa, nil))
				if err != nil {
					t.Fatal(err)
				}
				if got.ID != sa.ID() || got.Src != sa.Remote || got.Reqid != sa.Reqid || got.SetMark != sa.SetMark || got.Encryption != e ||
					got.Integrity != sa.Integrity || got.ReplayWindow != DefaultReplayWindow || got.HardBytes != sa.HardBytes || got.Selector != sa.Selector {
					t.Errorf("%v/%v: %+v", e, i, got)
				}
			}
		}
	}
}

// TestContinuation: a successor at another address takes over sequence numbers,
// window, counters and age.
func TestContinuation(t *testing.T) {
	in, out := pair(3, "192.0.2.1", "198.51.100.9", nil)
	old := State{
		replay: replayState{in: 100, window: 128, bitmap: []uint32{1, 2, 3, 4}},
		life:   lifetime{bytes: 1000, packets: 10, added: 1700000000, used: 1700000001},
	}
	got, err := parseSA(encodeSA(&in, &old))
	if err != nil || !slices.Equal(got.replay.bitmap, old.replay.bitmap) || got.Counters.Sequence != 100 {
		t.Errorf("inbound: %+v, %v", got.replay, err)
	}
	var life []byte
	_ = nlattr.Each(encodeSA(&in, &old)[sizeSAInfo:], func(typ uint16, data []byte) error {
		if typ == attrLifetime {
			life = data
		}
		return nil
	})
	if len(life) != sizeLifetime || native.Uint64(life) != 1000 || native.Uint64(life[8:]) != 10 || native.Uint64(life[16:]) != 1700000000 {
		t.Errorf("lifetime %x", life)
	}
	in.ReplayWindow = 256 // another window: nothing seen so far may pass again
	got, err = parseSA(encodeSA(&in, &old))
	if err != nil || !slices.Equal(got.replay.bitmap, slices.Repeat([]uint32{0xffffffff}, 8)) {
		t.Errorf("other window: %+v, %v", got.replay, err)
	}
	got, err = parseSA(encodeSA(&out, &State{replay: replayState{out: 77}}))
	if err != nil || got.replay.out != 77 {
		t.Errorf("outbound: %+v, %v", got.replay, err)
	}
}

func TestErrors(t *testing.T) {
	sa, _ := pair(1, "192.0.2.1", "198.51.100.1", nil)
	gcm := sa
	gcm.Encryption, gcm.Integrity = AESGCM16, IntegrityNone
	for _, c := range []struct {
		sa    *SA
		errno unix.Errno
		is    error
		text  string
	}{
		{nil, unix.ESRCH, ErrNotFound, "no such SA"},
		{nil, unix.ENOENT, ErrNotFound, ""},
		{&sa, unix.ESRCH, ErrNotFound, ""},
		{&sa, unix.EEXIST, ErrExists, "exists"},
		{&sa, unix.EPERM, unix.EPERM, ""},
		{&sa, unix.EPROTONOSUPPORT, nil, "modprobe esp4"},
		{&sa, unix.ENOSYS, nil, "hmac(sha256)"},
		{&gcm, unix.ENOENT, nil, "seqiv"},
	} {
		err := mapError("op", c.sa, c.errno)
		var missing *vr.MissingFeature
		if c.is != nil && !errors.Is(err, c.is) || c.is == nil && !errors.As(err, &missing) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v: %v", c.errno, err)
		}
	}
	if mapError("op", nil, nil) != nil {
		t.Error("no error became one")
	}
}

func TestParseEvent(t *testing.T) {
	in, _ := pair(5, "192.0.2.1", "198.51.100.9", &Encap{4500, 40001})
	b := append(encodeSA(&in, nil)[:sizeSAInfo:sizeSAInfo], 1, 0, 0, 0, 0, 0, 0, 0)
	ev, err := parseEvent(msgExpire, b)
	if want := (Expire{ID: in.ID(), Reqid: in.Reqid, Hard: true}); err != nil || ev != want {
		t.Errorf("%+v, %v; want %+v", ev, err, want)
	}
	native.PutUint32(b[offReqid:], 42)
	if ev, err := parseEvent(msgExpire, b); ev != nil || err != nil {
		t.Errorf("foreign SA: %+v, %v", ev, err)
	}
	if _, err := parseEvent(msgExpire, b[:sizeExpire-1]); !errors.Is(err, nlattr.ErrMalformed) {
		t.Errorf("short: %v", err)
	}
	if ev, err := parseEvent(msgNewSA, nil); ev != nil || err != nil {
		t.Errorf("other message: %+v, %v", ev, err)
	}
}

func FuzzParseSA(f *testing.F) {
	in, out := pair(5, "192.0.2.1", "198.51.100.9", &Encap{4500, 40001})
	f.Add(encodeSA(&in, nil))
	f.Add(encodeSA(&out, &State{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSA(b)
		if err != nil {
			return
		}
		if len(s.replay.bitmap) > MaxReplayWindow/32 || s.replay.window > MaxReplayWindow {
			t.Fatalf("replay window of %d with %d words", s.replay.window, len(s.replay.bitmap))
		}
		// What was read can be written as a successor's state and reads the same.
		// Only a window that the kernel would keep in bitmap form has one.
		if s.ReplayWindow <= legacyLimit || s.ReplayWindow > MaxReplayWindow || uint32(len(s.replay.bitmap)) != (s.ReplayWindow+31)/32 {
			return
		}
		sa := in
		sa.ReplayWindow = s.ReplayWindow
		again, err := parseSA(encodeSA(&sa, &s))
		if err != nil || again.replay.in != s.replay.in || again.replay.out != s.replay.out || !slices.Equal(again.replay.bitmap, s.replay.bitmap) {
			t.Fatalf("replay state %+v came back as %+v, %v", s.replay, again.replay, err)
		}
	})
}

func FuzzParseEvent(f *testing.F) {
	in, _ := pair(5, "192.0.2.1", "198.51.100.9", nil)
	f.Add(uint16(msgExpire), append(encodeSA(&in, nil)[:sizeSAInfo:sizeSAInfo], 1, 0, 0, 0, 0, 0, 0, 0))
	m := make([]byte, sizeMapping)
	copy(m, encodeID(in.ID()))
	native.PutUint32(m[24:], in.Reqid)
	f.Add(uint16(msgMapping), m)
	f.Fuzz(func(t *testing.T, typ uint16, b []byte) {
		ev, err := parseEvent(typ, b)
		if err != nil && ev != nil {
			t.Fatal("event and error")
		}
		switch ev := ev.(type) {
		case Expire:
			if !Ours(ev.Reqid) || !ev.Dst.IsValid() || typ != msgExpire {
				t.Fatalf("%+v", ev)
			}
		case Mapping:
			if !Ours(ev.Reqid) || !ev.Dst.IsValid() || !ev.New.IsValid() || typ != msgMapping {
				t.Fatalf("%+v", ev)
			}
			back := make([]byte, sizeMapping) // write it again from what was read
			copy(back, encodeID(ev.ID))
			if !bytes.Equal(back[:20], b[:20]) && ev.Dst.Is6() {
				t.Fatalf("identity %x read as %v", b[:20], ev.ID)
			}
		}
	})
}

func FuzzParseThresholds(f *testing.F) {
	good := nlattr.Append(appendUint32(nil, 0), attrSPDIPv4HThresh, []byte{0, 32})
	good = nlattr.Append(good, attrSPDIPv6HThresh, []byte{0, 128})
	f.Add(good)
	f.Add(good[:12])
	f.Fuzz(func(t *testing.T, b []byte) {
		set, err := parseThresholds(b)
		if set && (err == nil) && (!bytes.Contains(b, []byte{0, 32}) || !bytes.Contains(b, []byte{0, 128})) {
			t.Fatalf("%x has them", b)
		}
		if bytes.Equal(b, good) && !set {
			t.Fatal("not recognised")
		}
	})
}
