package topo

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNotSupported is what every MissingError is.
var ErrNotSupported = errors.New("not supported by this kernel")

// MissingError names a kernel feature that the data path needs and the running kernel has not.
type MissingError struct {
	Feature string
	Module  string // that would bring it
	Err     error
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("kernel has no %s (module %s): %v", e.Feature, e.Module, e.Err)
}

// Is says that the error is ErrNotSupported.
func (e *MissingError) Is(target error) bool { return target == ErrNotSupported }

// Unwrap returns the kernel's own error.
func (e *MissingError) Unwrap() error { return e.Err }

// features is what tests of the data path need, each with what finds out. They run in an empty network
// namespace and use what the feature is for, so that a module that exists but is not loaded gets loaded.
var features = []struct {
	name, module string
	try          func(*netlink.Handle) error
}{
	{"virtual Ethernet", "veth", tryLink(func() netlink.Link {
		return &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "probe0"}, PeerName: "probe1"}
	})},
	{"VRF", "vrf", tryLink(func() netlink.Link { return &netlink.Vrf{LinkAttrs: netlink.LinkAttrs{Name: "probe2"}, Table: 100} })},
	{"bridge", "bridge", tryLink(func() netlink.Link { return &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "probe3"}} })},
	{"ESP", "esp4", tryESP},
	{"XFRM interface", "xfrm_interface", tryLink(func() netlink.Link { return &netlink.Xfrmi{LinkAttrs: netlink.LinkAttrs{Name: "probe4"}, Ifid: 1} })},
	{"L2TP", "l2tp_netlink", func(h *netlink.Handle) error {
		_, err := h.GenlFamilyGet("l2tp")
		return err
	}},
	{"PPP", "ppp_generic", func(*netlink.Handle) error {
		f, err := os.OpenFile("/dev/ppp", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return f.Close()
	}},
	{"PPP over L2TP", "l2tp_ppp", func(*netlink.Handle) error {
		// PX_PROTO_OL2TP of linux/if_pppox.h
		fd, err := unix.Socket(unix.AF_PPPOX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 1)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	}},
	{"nftables", "nf_tables", func(*netlink.Handle) error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	}},
}

// Probe says whether the running kernel can carry the data path: nil, or an error that joins a MissingError
// for each feature it has not. An error that is not ErrNotSupported means that it could not be found out, for
// want of privileges mostly.
func Probe() error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread, and with it the namespace, ends with the goroutine
		result <- probe()
	}()
	return <-result
}

func probe() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("topo: probing the kernel needs a network namespace: %w", err)
	}
	h, err := netlink.NewHandle()
	if err != nil {
		return fmt.Errorf("topo: probing the kernel: %w", err)
	}
	defer h.Close()
	var missing []error
	for _, f := range features {
		if err := f.try(h); err != nil {
			if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
				return fmt.Errorf("topo: probing the kernel for %s: %w", f.name, err)
			}
			missing = append(missing, &MissingError{Feature: f.name, Module: f.module, Err: err})
		}
	}
	return errors.Join(missing...)
}

// tryLink makes a link that is a new value each time: the library notes the index that the link was given, and would ask for
// it in the next namespace, where another link may have it.
func tryLink(l func() netlink.Link) func(*netlink.Handle) error {
	return func(h *netlink.Handle) error { return h.LinkAdd(l()) }
}

// tryESP installs an SA with the most common transforms.
func tryESP(h *netlink.Handle) error {
	return h.XfrmStateAdd(&netlink.XfrmState{
		Src: net.IPv4(192, 0, 2, 1), Dst: net.IPv4(192, 0, 2, 2),
		Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TRANSPORT, Spi: 0x1000,
		Auth:  &netlink.XfrmStateAlgo{Name: "hmac(sha1)", Key: make([]byte, 20), TruncateLen: 96},
		Crypt: &netlink.XfrmStateAlgo{Name: "cbc(aes)", Key: make([]byte, 16)},
		Encap: &netlink.XfrmStateEncap{Type: netlink.XFRM_ENCAP_ESPINUDP, SrcPort: 4500, DstPort: 4500},
	})
}
