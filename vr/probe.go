package vr

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/google/nftables"
	"github.com/mdlayher/genetlink"
	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Features that Probe names. FeatureVRF is needed only by routers in a VRF, FeatureDummy only by those with
// gateway addresses, FeatureAccess only by those with dynamic IPsec subscribers, FeatureTraffic only by those whose
// subscribers have rates or rules, and by those with static tunnels that start on demand.
const (
	FeatureXFRM      = "IPsec (XFRM) netlink interface"
	FeatureESP       = "ESP"
	FeatureESPInUDP  = "ESP in UDP"
	FeatureMark      = "SO_RCVMARK"
	FeatureL2TP      = "L2TP netlink family"
	FeaturePPPoL2TP  = "PPP over L2TP sockets"
	FeaturePPP       = "PPP device /dev/ppp"
	FeatureNftables  = "nftables with payload, meta, rt, fib, exthdr and counter"
	FeatureVRF       = "VRF devices"
	FeatureDummy     = "dummy devices"
	FeatureAccess    = "XFRM interfaces"
	FeatureTraffic   = "traffic control with clsact, flower, bpf, matchall, police, gact and skbedit"
	probeRouter      = "probe"
	protocolPPPoL2TP = 1 // PX_PROTO_OL2TP
)

// probeServer is a documentation address.
var probeServer = netip.AddrFrom4([4]byte{192, 0, 2, 1})

// Probe tries everything that the data path needs and returns what the kernel lacks. Trying makes the kernel load
// modules that it can load by itself. It works in a namespace of its own that ends with the call; a process
// that may not make one (ErrPermission) cannot tell, and that is the error.
func Probe() ([]MissingFeature, error) {
	type result struct {
		missing []MissingFeature
		err     error
	}
	done := make(chan result)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and the namespace with the thread.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- result{err: failed(err, "probe: make a network namespace")}
			return
		}
		missing, err := probeHere()
		done <- result{missing, err}
	}()
	r := <-done
	return r.missing, r.err
}

// probeHere probes in the thread's namespace.
func probeHere() (missing []MissingFeature, err error) {
	for _, probe := range []func() error{
		needXFRM, probeESP, probeESPInUDP, probeMark, probeL2TP, probePPPoL2TP, probePPP, probeNftables, probeVRF, probeDummy, probeAccess, probeTraffic,
	} {
		err := probe()
		var m *MissingFeature
		switch {
		case errors.As(err, &m):
			missing = append(missing, *m)
		case err != nil:
			return nil, fmt.Errorf("probe: %w", err)
		}
	}
	return missing, nil
}

// probeESP adds an SA for ESP in transport mode with AES-CBC and HMAC-SHA1, which every client can do.
func probeESP() error {
	return probeSA(FeatureESP, "esp4 authenc cbc aes sha1", nil)
}

// probeESPInUDP does it with UDP encapsulation, and sets the option of the port 4500 socket.
func probeESPInUDP() error {
	const modules = "esp4"
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return failed(err, "UDP socket")
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_ENCAP, unix.UDP_ENCAP_ESPINUDP); err != nil {
		return &MissingFeature{Feature: FeatureESPInUDP, Module: modules, Detail: err.Error()}
	}
	return probeSA(FeatureESPInUDP, modules, &netlink.XfrmStateEncap{Type: netlink.XFRM_ENCAP_ESPINUDP, SrcPort: 4500, DstPort: 4500, OriginalAddress: net.IPv4zero})
}

// probeSA adds an SA between documentation addresses. Its keys protect nothing.
func probeSA(feature, modules string, encap *netlink.XfrmStateEncap) error {
	nl, err := netlink.NewHandle(unix.NETLINK_XFRM)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return &MissingFeature{Feature: feature, Module: "xfrm_user " + modules}
	}
	if err != nil {
		return failed(err, "IPsec netlink")
	}
	defer nl.Close()
	sa := &netlink.XfrmState{
		Src: net.IPv4(192, 0, 2, 1), Dst: net.IPv4(192, 0, 2, 2), Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TRANSPORT,
		Spi: 0x1000, Reqid: int(ClientMark | 0xffffff), ReplayWindow: 32, Encap: encap,
		Crypt: &netlink.XfrmStateAlgo{Name: "cbc(aes)", Key: make([]byte, 16)},
		Auth:  &netlink.XfrmStateAlgo{Name: "hmac(sha1)", Key: make([]byte, 20), TruncateLen: 96},
	}
	err = nl.XfrmStateAdd(sa)
	switch {
	case err == nil:
		return failed(nl.XfrmStateDel(sa), "remove the probe's SA")
	case errors.Is(err, unix.EPERM):
		return failed(err, "add an SA")
	default:
		return &MissingFeature{Feature: feature, Module: modules, Detail: err.Error()}
	}
}

func probeMark() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return failed(err, "UDP socket")
	}
	defer unix.Close(fd)
	return receiveMark(fd)
}

// receiveMark makes a socket report the mark of what it receives.
func receiveMark(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVMARK, 1)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return &MissingFeature{Feature: FeatureMark, Detail: "needs Linux 5.19 or later"}
	}
	return err
}

// probeL2TP asks for the family, which loads the module by its alias.
func probeL2TP() error {
	c, err := genetlink.Dial(nil)
	if err != nil {
		return failed(err, "generic netlink")
	}
	defer c.Close()
	_, err = c.GetFamily("l2tp")
	if errors.Is(err, unix.ENOENT) || errors.Is(err, os.ErrNotExist) {
		return &MissingFeature{Feature: FeatureL2TP, Module: "l2tp_netlink l2tp_ppp"}
	}
	return failed(err, "generic netlink family l2tp")
}

func probePPPoL2TP() error {
	fd, err := unix.Socket(unix.AF_PPPOX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, protocolPPPoL2TP)
	if err == nil {
		return unix.Close(fd)
	}
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT) {
		return &MissingFeature{Feature: FeaturePPPoL2TP, Module: "pppox l2tp_ppp"}
	}
	return failed(err, "PPPoL2TP socket")
}

// probePPP opens the device; where systemd or udev made its node before the module, that loads the module.
func probePPP() error {
	fd, err := unix.Open("/dev/ppp", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err == nil {
		return unix.Close(fd)
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
		return &MissingFeature{Feature: FeaturePPP, Module: "ppp_generic"}
	}
	return failed(err, "open /dev/ppp")
}

// probeNftables installs the table of a router that wants everything.
func probeNftables() error {
	c, err := nftables.New()
	if err != nil {
		return nftError(err, probeRouter)
	}
	table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: tableName(probeRouter)}
	spec := Spec{Name: probeRouter, SubscriberMTU: defaultMTU}
	spec.Server = append(spec.Server, probeServer)
	if err := describe(c, table, steering(spec, 0)); err != nil {
		return err
	}
	if err := nftError(c.Flush(), probeRouter); err != nil {
		return err
	}
	c.DelTable(table)
	return nftError(c.Flush(), probeRouter)
}

func probeVRF() error {
	return probeLink(&netlink.Vrf{Table: 1}, FeatureVRF, "vrf")
}

func probeDummy() error {
	return probeLink(&netlink.Dummy{}, FeatureDummy, "dummy")
}

func probeAccess() error {
	return probeLink(&netlink.Xfrmi{Ifid: 1}, FeatureAccess, "xfrm_interface")
}

// probeTraffic gives the loopback rates, rules and silence.
func probeTraffic() error {
	tc, err := newControl(func() (*mdnetlink.Conn, error) { return mdnetlink.Dial(unix.NETLINK_ROUTE, nil) })
	if err != nil {
		return err
	}
	defer tc.close()
	s := Shaper{on: &shared{router: probeRouter, link: loopbackIndex, tc: tc, tally: tallyOf(probeRouter)}, networks: []netip.Prefix{{}}, slot: 1}
	if err := s.Set(Traffic{In: Flow{Rates: []Rate{{Bits: MinRate}}, Rules: []Rule{{Permit: true}}}}); err != nil {
		return err
	}
	return errors.Join(tc.set(hushing(loopbackIndex)), tc.remove(hushing(loopbackIndex)), s.Close())
}

// probeLink makes a link of a kind and removes it.
func probeLink(link netlink.Link, feature, module string) error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return failed(err, "route netlink")
	}
	defer nl.Close()
	*link.Attrs() = netlink.NewLinkAttrs()
	link.Attrs().Name = "vrprobe"
	err = nl.LinkAdd(link)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return &MissingFeature{Feature: feature, Module: module}
	}
	if err != nil {
		return failed(err, "make a link of kind %s", link.Type())
	}
	return failed(nl.LinkDel(link), "remove the link of kind %s", link.Type())
}
