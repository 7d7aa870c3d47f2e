package unit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const devicePath = "/dev/ppp"

// Bounds of an interface's MTU in bytes (RFC 791's minimum, and what one L2TP
// frame can carry with room for every header).
const (
	MinMTU = 68
	MaxMTU = 9000
)

// numbered is what a name pattern has in place of a number.
const numbered = "%d"

// DefaultName is the pattern of interface names.
const DefaultName = "vg" + numbered

const (
	// busyFor bounds the retries while another PPP ioctl of the machine holds the
	// driver's global lock (kernel.md section 1.1 step 7b).
	busyFor   = 5 * time.Second
	busyFirst = 200 * time.Microsecond
	busyMax   = 20 * time.Millisecond
	// nameTries bounds the search for a free numbered name.
	nameTries = 4096
)

// Spec is a unit as it shall be.
type Spec struct {
	// Transport is where the channel is (the L2TP tunnel's namespace), Target where
	// the interface shall be; nil is Transport.
	Transport, Target *Net
	// Channel is the index that PPPIOCGCHAN gave for the PPPoL2TP socket.
	Channel int
	// Name of the interface, at most 15 bytes; a "%d" in it stands for a number of
	// our choice. Empty: DefaultName.
	Name string
	// MTU in bytes, MinMTU..MaxMTU.
	MTU int
	// Master is the index in Target of the VRF device to belong to, 0 for none.
	Master int
	// Group is the link group, 0 for none.
	Group uint32
}

func (s Spec) validate() error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, a...))
	}
	if s.Transport == nil {
		return bad("no transport namespace")
	}
	if s.Channel < 0 || s.Master < 0 {
		return bad("channel %d, master %d", s.Channel, s.Master)
	}
	if s.MTU < MinMTU || s.MTU > MaxMTU {
		return bad("MTU %d is not in %d..%d", s.MTU, MinMTU, MaxMTU)
	}
	plain := strings.Replace(s.Name, numbered, "0", 1)
	if strings.ContainsAny(plain, "%/: \t\n") || plain == "." || plain == ".." || len(plain) >= unix.IFNAMSIZ {
		return bad("interface name %q", s.Name)
	}
	return nil
}

// Unit is a PPP interface on a channel.
type Unit struct {
	// Channel carries LCP and authentication; Interface carries network control
	// protocols.
	Channel, Interface *Port

	target *Net
	index  int
	name   string
	number int
}

// Open attaches to a channel and makes its interface: down, both network
// protocols dropped, without a queue. When a step fails nothing is left, and the channel is as it
// was, less the frames that its queue held. Errors: ErrInvalid, ErrExists,
// ErrNotFound, ErrBusy, *vr.MissingFeature.
func Open(spec Spec) (*Unit, error) {
	if spec.Name == "" {
		spec.Name = DefaultName
	}
	if spec.Target == nil {
		spec.Target = spec.Transport
	}
	if err := spec.validate(); err != nil {
		return nil, err
	}
	u := &Unit{Channel: &Port{fd: -1}, Interface: &Port{fd: -1}, target: spec.Target}
	if err := u.open(spec); err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return u, nil
}

func (u *Unit) open(spec Spec) (err error) {
	if u.Channel.fd, err = openDevice(); err != nil {
		return err
	}
	// An unattached descriptor finds channels in the calling thread's namespace.
	err = spec.Transport.ns.Do(func() error {
		return unix.IoctlSetPointerInt(u.Channel.fd, unix.PPPIOCATTCHAN, spec.Channel)
	})
	if err != nil {
		return mapError(fmt.Sprintf("attach to channel %d", spec.Channel), err)
	}
	if u.Interface.fd, err = openDevice(); err != nil {
		return err
	}
	if err := u.create(spec); err != nil {
		return err
	}
	if u.number, err = unix.IoctlGetInt(u.Interface.fd, unix.PPPIOCGUNIT); err != nil {
		return mapError("read unit number", err)
	}
	for _, p := range []Protocol{IPv4, IPv6} {
		if err := u.SetNetwork(p, false); err != nil {
			return err
		}
	}
	if u.index, err = spec.Target.indexByName(u.name); err != nil {
		return mapError("find interface "+u.name, err)
	}
	if err := spec.Target.noqueue(u.index); err != nil {
		return mapError("take the queue from "+u.name, err)
	}
	if err := unix.IoctlSetPointerInt(u.Channel.fd, unix.PPPIOCCONNECT, u.number); err != nil {
		return mapError(fmt.Sprintf("connect channel %d to %s", spec.Channel, u.name), err)
	}
	return nil
}

func openDevice() (int, error) {
	fd, err := unix.Open(devicePath, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, missingDriver("open "+devicePath, err)
	}
	return fd, nil
}

// create makes the interface under the first name that is free.
func (u *Unit) create(spec Spec) error {
	link := newLink{fd: u.Interface.fd, mtu: spec.MTU, master: spec.Master, group: spec.Group, namespace: -1}
	if spec.Target.id != spec.Transport.id {
		link.namespace = spec.Target.ns.NetNS()
	}
	prefix, suffix, pattern := strings.Cut(spec.Name, numbered)
	for range nameTries {
		link.name = spec.Name
		if pattern {
			link.name = prefix + strconv.FormatUint(uint64(spec.Target.next.Add(1)-1), 10) + suffix
			if len(link.name) >= unix.IFNAMSIZ {
				spec.Target.next.Store(0)
				continue
			}
		}
		err := createLink(spec.Transport, link)
		if pattern && errors.Is(err, ErrExists) {
			continue
		}
		if err == nil {
			u.name = link.name
		}
		return err
	}
	return fmt.Errorf("unit: no free interface name for %q: %w", spec.Name, ErrExists)
}

// createLink asks until the driver is free: the kernel only tries for the
// driver's lock and answers EBUSY when anybody on the machine holds it.
func createLink(n *Net, link newLink) error {
	deadline := time.Now().Add(busyFor)
	for pause := busyFirst; ; pause = min(2*pause, busyMax) {
		_, err := n.execute(unix.RTM_NEWLINK, netlink.Create|netlink.Excl|netlink.Acknowledge, link.encode())
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			if errors.Is(err, unix.EOPNOTSUPP) {
				return missingDriver("create interface "+link.name, err)
			}
			return mapError("create interface "+link.name, err)
		}
		time.Sleep(pause/2 + rand.N(pause)) // jitter, so that workers do not meet again
	}
}

// Index is the interface's number, unique in its namespace while it exists.
func (u *Unit) Index() int { return u.index }

// Name of the interface as it was made.
func (u *Unit) Name() string { return u.name }

// Protocol is the PPP protocol number of a network protocol's packets.
type Protocol uint16

// Network protocols.
const (
	IPv4 Protocol = 0x0021
	IPv6 Protocol = 0x0057
)

// npioctl is struct npioctl of linux/ppp-ioctl.h.
type npioctl struct {
	protocol int32
	mode     int32
}

const (
	npPass = 0
	npDrop = 1
)

// SetNetwork lets a protocol's packets through, or drops them both ways. It
// follows the network control protocol's state.
func (u *Unit) SetNetwork(p Protocol, pass bool) error {
	arg := npioctl{protocol: int32(p), mode: npDrop}
	if pass {
		arg.mode = npPass
	}
	return mapError(fmt.Sprintf("set protocol %#04x", uint16(p)), u.Interface.ioctl(unix.PPPIOCSNPMODE, unsafe.Pointer(&arg)))
}

// ioctl passes a pointer to a structure, on the open descriptor.
func (p *Port) ioctl(request uintptr, arg unsafe.Pointer) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.fd < 0 {
		return ErrClosed
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(p.fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// Idle is the time since the last packet was sent or received, whichever is
// shorter, in seconds resolution. Control protocols do not count.
func (u *Unit) Idle() (time.Duration, error) {
	var idle struct{ sent, received int64 } // struct ppp_idle64, seconds
	if err := u.Interface.ioctl(unix.PPPIOCGIDLE64, unsafe.Pointer(&idle)); err != nil {
		return 0, mapError("read idle time", err)
	}
	return time.Duration(min(idle.sent, idle.received)) * time.Second, nil
}

// Up brings the interface up. Addresses and routes are the virtual router's.
func (u *Unit) Up() error {
	return mapError("bring up "+u.name, u.target.setFlags(u.index, unix.IFF_UP, unix.IFF_UP))
}

// Down brings the interface down; its routes go.
func (u *Unit) Down() error {
	return mapError("bring down "+u.name, u.target.setFlags(u.index, 0, unix.IFF_UP))
}

// SetMTU changes the MTU, in bytes, MinMTU..MaxMTU.
func (u *Unit) SetMTU(mtu int) error {
	if mtu < MinMTU || mtu > MaxMTU {
		return fmt.Errorf("%w: MTU %d is not in %d..%d", ErrInvalid, mtu, MinMTU, MaxMTU)
	}
	return mapError("set MTU of "+u.name, u.target.setMTU(u.index, mtu))
}

// SetGroup changes the link group.
func (u *Unit) SetGroup(group uint32) error {
	return mapError("set group of "+u.name, u.target.setGroup(u.index, group))
}

// Traffic reads the interface's counters. Read it before Close: afterwards, and
// when the interface was removed by others, it is ErrNotFound.
func (u *Unit) Traffic() (Traffic, error) {
	t, err := u.target.traffic(u.index)
	return t, mapError("read counters of "+u.name, err)
}

// Close removes the interface, with its addresses and routes, and leaves the
// channel. It is idempotent and waits for RTNL and RCU. The L2TP session is to be
// closed after it.
func (u *Unit) Close() error {
	err := u.Interface.close() // the descriptor that owns the interface
	return mapError("close "+u.name, errors.Join(err, u.Channel.close()))
}
