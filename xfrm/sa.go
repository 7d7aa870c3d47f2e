package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Direction of an SA as seen from this host.
type Direction uint8

// Directions.
const (
	In  Direction = iota + 1 // remote to local
	Out                      // local to remote
)

// String returns "in" or "out".
func (d Direction) String() string {
	switch d {
	case In:
		return "in"
	case Out:
		return "out"
	}
	return fmt.Sprintf("Direction(%d)", uint8(d))
}

// Mode is the ESP mode, with the kernel's numbers.
type Mode uint8

// Modes.
const (
	Transport Mode = 0
	Tunnel    Mode = 1
)

// String returns "transport" or "tunnel".
func (m Mode) String() string {
	switch m {
	case Transport:
		return "transport"
	case Tunnel:
		return "tunnel"
	}
	return fmt.Sprintf("Mode(%d)", uint8(m))
}

const (
	tagShift  = 24
	tagOurs   = 0x11
	connLimit = 1 << tagShift
)

// Tag is the reqid, and the inbound mark, of connection conn (1..0xffffff):
// 0x11000000|conn. It returns 0, which no SA of ours may have, for a number
// that is out of range.
func Tag(conn uint32) uint32 {
	if conn == 0 || conn >= connLimit {
		return 0
	}
	return tagOurs<<tagShift | conn
}

// Ours tells whether a reqid or mark was made by Tag.
func Ours(reqid uint32) bool { return reqid>>tagShift == tagOurs }

// Conn is the connection number in a reqid or mark of ours.
func Conn(reqid uint32) uint32 { return reqid & (connLimit - 1) }

// ID is what the kernel finds an ESP SA by.
type ID struct {
	Dst netip.Addr // outer destination: our address inbound, the peer's outbound
	SPI uint32
}

// String formats the ID as spi@destination.
func (id ID) String() string { return fmt.Sprintf("%08x@%s", id.SPI, id.Dst) }

// Encap makes an SA's packets ESP in UDP (RFC 3948).
type Encap struct {
	LocalPort, RemotePort uint16 // ours is 4500; the peer's is as its NAT maps it
}

// Selector restricts what may pass an SA; the zero value lets everything pass.
// It is checked against packets as they are delivered: in transport mode the
// peer's addresses and ports must be left open because of NAT (kernel.md section
// 3.1), in tunnel mode the inner packet's addresses are what was negotiated.
type Selector struct {
	Proto    uint8        // IP protocol, 0 any
	Src, Dst netip.Prefix // invalid: any
	// SrcPort and DstPort need a Proto that has ports, 0 any.
	SrcPort, DstPort uint16
}

// String names what it lets pass.
func (s Selector) String() string {
	side := func(p netip.Prefix, port uint16) string {
		switch {
		case !p.IsValid() && port == 0:
			return "any"
		case !p.IsValid():
			return fmt.Sprintf("any port %d", port)
		case port == 0:
			return p.String()
		}
		return fmt.Sprintf("%v port %d", p, port)
	}
	text := side(s.Src, s.SrcPort) + " to " + side(s.Dst, s.DstPort)
	if s.Proto != 0 {
		text += fmt.Sprintf(" protocol %d", s.Proto)
	}
	return text
}

// SA is one security association as it shall be. It is a plain value.
type SA struct {
	Dir           Direction
	SPI           uint32 // 256 or more (RFC 4303 section 2.1)
	Local, Remote netip.Addr
	Encap         *Encap // nil: plain ESP
	Reqid         uint32 // Tag(conn)
	SetMark       uint32 // inbound only: mark of decrypted packets; 0: leave unmarked
	Mode          Mode
	// IfID ties a tunnel mode SA to the XFRM interface with that number: what it
	// decrypts comes out of the interface, and only what is routed into the
	// interface is sent by it. 0: no interface.
	IfID uint32

	Encryption    Encryption
	EncryptionKey Key // for AESGCM16 the key followed by its 4-byte salt (RFC 4106 section 8.1)
	Integrity     Integrity
	IntegrityKey  Key

	// ReplayWindow is in packets, inbound only: 0 means DefaultReplayWindow, at
	// most MaxReplayWindow.
	ReplayWindow uint32

	// Lifetimes: seconds since the SA was added, bytes of what ESP carries. 0 is
	// no limit. At the soft limit an Expire event asks for a successor; at the hard
	// limit the kernel deletes the SA and says so.
	SoftSeconds, HardSeconds uint64
	SoftBytes, HardBytes     uint64

	Selector Selector
}

// Replay windows in packets. 32 is what most peers have and too little for
// multi-queue network cards and Wi-Fi; the kernel's bitmap goes to 4096.
const (
	DefaultReplayWindow = 128
	MaxReplayWindow     = 4096
)

const minSPI = 256

// ID returns what the kernel finds the SA by.
func (s *SA) ID() ID {
	if s.Dir == In {
		return ID{s.Local, s.SPI}
	}
	return ID{s.Remote, s.SPI}
}

// src is the outer source address.
func (s *SA) src() netip.Addr {
	if s.Dir == In {
		return s.Remote
	}
	return s.Local
}

// window is the replay window that the kernel shall keep.
func (s *SA) window() uint32 {
	if s.Dir == Out {
		return 0
	}
	if s.ReplayWindow == 0 {
		return DefaultReplayWindow
	}
	return s.ReplayWindow
}

// ErrInvalid is wrapped by every error about an SA that the kernel was not
// even asked about.
var ErrInvalid = errors.New("invalid SA")

// Validate says what is wrong with the SA, wrapping ErrInvalid; no key is part
// of the text.
func (s *SA) Validate() error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, a...))
	}
	if s.Dir != In && s.Dir != Out {
		return bad("direction %v", s.Dir)
	}
	if s.SPI < minSPI {
		return bad("SPI %d is below %d", s.SPI, minSPI)
	}
	if !s.Local.IsValid() || !s.Remote.IsValid() || s.Local.Is4() != s.Remote.Is4() || s.Local.Is4In6() || s.Remote.Is4In6() {
		return bad("addresses %v and %v are not of one family", s.Local, s.Remote)
	}
	if s.Remote.IsUnspecified() || s.Local.IsUnspecified() {
		return bad("unspecified address")
	}
	if !Ours(s.Reqid) || Conn(s.Reqid) == 0 {
		return bad("reqid %#x was not made by Tag", s.Reqid)
	}
	if s.Dir == Out && (s.SetMark != 0 || s.ReplayWindow != 0) {
		return bad("an outbound SA has neither mark nor replay window")
	}
	if s.Mode != Transport && s.Mode != Tunnel {
		return bad("mode %v", s.Mode)
	}
	if s.IfID != 0 && s.Mode != Tunnel {
		return bad("an XFRM interface takes tunnel mode only")
	}
	if s.Encap != nil && (s.Encap.LocalPort == 0 || s.Encap.RemotePort == 0) {
		return bad("UDP encapsulation with port 0")
	}
	if s.ReplayWindow > MaxReplayWindow {
		return bad("replay window %d exceeds %d", s.ReplayWindow, MaxReplayWindow)
	}
	if err := s.validateLifetimes(bad); err != nil {
		return err
	}
	for _, p := range []netip.Prefix{s.Selector.Src, s.Selector.Dst} {
		if p.IsValid() && p.Addr().Is4() != s.Local.Is4() {
			return bad("selector %v is of another family than the SA", p)
		}
	}
	if s.Selector.Proto == 0 && (s.Selector.SrcPort != 0 || s.Selector.DstPort != 0) {
		return bad("ports %d and %d of no protocol", s.Selector.SrcPort, s.Selector.DstPort)
	}
	return s.validateKeys(bad)
}

func (s *SA) validateLifetimes(bad func(string, ...any) error) error {
	if s.HardSeconds != 0 && s.SoftSeconds > s.HardSeconds {
		return bad("soft lifetime %d s exceeds the hard one of %d s", s.SoftSeconds, s.HardSeconds)
	}
	if s.HardBytes != 0 && s.SoftBytes > s.HardBytes {
		return bad("soft lifetime of %d bytes exceeds the hard one of %d", s.SoftBytes, s.HardBytes)
	}
	return nil
}

func (s *SA) validateKeys(bad func(string, ...any) error) error {
	c, ok := ciphers[s.Encryption]
	if !ok {
		return bad("encryption %v", s.Encryption)
	}
	if !slices.Contains(c.keys, len(s.EncryptionKey)) {
		return bad("%v key of %d bytes", s.Encryption, len(s.EncryptionKey))
	}
	if c.aead {
		if s.Integrity != IntegrityNone || len(s.IntegrityKey) != 0 {
			return bad("%v takes no integrity algorithm", s.Encryption)
		}
		return nil
	}
	m, ok := macs[s.Integrity]
	if !ok {
		return bad("integrity %v with %v", s.Integrity, s.Encryption)
	}
	if len(s.IntegrityKey) != m.key {
		return bad("%v key of %d bytes", s.Integrity, len(s.IntegrityKey))
	}
	return nil
}

// Counters are what the kernel counted on one SA.
type Counters struct {
	Bytes, Packets  uint64 // of ESP payload: inner packets with ESP trailer stripped (in) or not yet added (out)
	Replay          uint32 // packets refused by the replay window
	IntegrityFailed uint32 // packets whose integrity check failed
	Sequence        uint32 // last sequence number sent (out), highest received (in)
	Added           time.Time
	// LastUsed is zero when the SA was never used, and on kernels that do not
	// track it for inbound SAs (6.1): compare Packets over time instead.
	LastUsed time.Time
}

// State is an SA as the kernel reports it, without its keys.
type State struct {
	ID
	Src        netip.Addr
	Reqid      uint32
	Mode       Mode
	SetMark    uint32
	IfID       uint32
	Encryption Encryption // EncryptionNone when it is none that this package installs
	Integrity  Integrity
	// SrcPort and DstPort are those of UDP encapsulation, 0 without.
	SrcPort, DstPort         uint16
	ReplayWindow             uint32
	SoftSeconds, HardSeconds uint64 // 0: no limit
	SoftBytes, HardBytes     uint64 // 0: no limit
	Selector                 Selector
	Counters                 Counters

	replay replayState
	life   lifetime
}
