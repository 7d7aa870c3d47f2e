package fakekernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
)

// Wire takes what the control plane sends to peers. It is called by the loops of virtual
// routers, outside of all locks, and must not block.
type Wire interface {
	SendIKE(router string, f ike.Send)
	// SendESP carries a UDP datagram from port 1701 to port 1701 through an outbound SA.
	SendESP(router string, sa ike.SA, data []byte)
}

// PlainWire is a Wire that takes L2TP without IPsec too; from one that does not it goes nowhere.
type PlainWire interface {
	SendL2TP(router string, local, remote netip.AddrPort, data []byte)
}

// Kernel implements [controlplane.Kernel]. All methods may be called at any time.
type Kernel struct {
	wire Wire

	mu      sync.Mutex
	routers map[string]*plane
	calls   []string
	fail    map[int]bool // by number of the call, from 1
	offline bool         // ListenUDP fails
	// Private networks, and names of peers.
	hosts    map[hostKey]bool
	received map[string][]Packet // by virtual router
	names    map[string][]netip.Addr
}

// ErrInjected is the cause of every failure that a test has asked for.
var ErrInjected = errors.New("injected failure")

// New returns a kernel without virtual routers.
func New(wire Wire) *Kernel {
	return &Kernel{
		wire: wire, routers: map[string]*plane{}, fail: map[int]bool{},
		hosts: map[hostKey]bool{}, received: map[string][]Packet{}, names: map[string][]netip.Addr{},
	}
}

// Fail makes the n-th call fail, counted from 1 since New.
func (k *Kernel) Fail(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail[n] = true
}

// Offline makes every ListenUDP fail: in simulated time there is no network, which nobody would wait for.
func (k *Kernel) Offline() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.offline = true
}

// Calls returns the calls so far, each as "router: what object".
func (k *Kernel) Calls() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.calls)
}

// call notes a call and says whether it fails.
func (k *Kernel) call(router, format string, args ...any) error {
	k.calls = append(k.calls, router+": "+fmt.Sprintf(format, args...))
	if !k.fail[len(k.calls)] {
		return nil
	}
	return &controlplane.DataplaneError{Reason: "injected", Text: "the call was made to fail", Err: ErrInjected}
}

// Open implements [controlplane.Kernel].
func (k *Kernel) Open(_ *config.Config, r *config.Router, in controlplane.Inlet) (controlplane.Dataplane, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.call(r.Name, "open"); err != nil {
		return nil, err
	}
	p := &plane{
		kernel: k, name: r.Name, in: in, config: r, links: map[string]controlplane.LinkState{},
		sas: map[controlplane.SAKey]*sa{}, tunnels: map[l2tp.TunnelID]*tunnel{}, sessions: map[subscriber.ID]*session{},
		accesses: map[subscriber.ID]*access{}, bridges: map[subscriber.ID]*bridge{}, carried: map[ike.ConnID]subscriber.Counters{},
		statics: newStatics(),
	}
	k.routers[r.Name] = p
	return p, nil
}

// String prints everything that exists, sorted by virtual router and line.
func (k *Kernel) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var b strings.Builder
	names := make([]string, 0, len(k.routers))
	for name := range k.routers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "router %s\n", name)
		lines := k.routers[name].lines()
		slices.Sort(lines)
		for _, line := range lines {
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	return b.String()
}

// ReceiveIKE delivers a datagram to UDP port 500 or, with marker, 4500.
func (k *Kernel) ReceiveIKE(router string, local, remote netip.AddrPort, marker bool, data []byte) {
	if in := k.inlet(router); in != nil {
		in.IKEPacket(local, remote, marker, data)
	}
}

// ReceiveESP delivers a UDP datagram from port 1701 to port 1701 that came through the inbound
// SA spi, or not: without the SA, for a tunnel id of somebody else, or for one that is not
// there, the kernel drops it. Data of a session in the kernel becomes a PPP frame.
func (k *Kernel) ReceiveESP(router string, spi uint32, data []byte) {
	k.mu.Lock()
	p := k.routers[router]
	if p == nil {
		k.mu.Unlock()
		return
	}
	deliver := p.steer(spi, data)
	k.mu.Unlock()
	if deliver != nil {
		deliver(p.in)
	}
}

// ReceiveL2TP delivers a UDP datagram to port 1701 that came without IPsec, steered as ReceiveESP does. The router's rules
// about clear text are not checked.
func (k *Kernel) ReceiveL2TP(router string, local, remote netip.AddrPort, data []byte) {
	k.mu.Lock()
	p := k.routers[router]
	id, control, ok := tunnelOf(data)
	if p == nil || !ok {
		k.mu.Unlock()
		return
	}
	deliver := p.arrive(id, control, local, remote, 0, data)
	k.mu.Unlock()
	if deliver != nil {
		deliver(p.in)
	}
}

// LoseInterface takes a session's interface away behind the control plane's back.
func (k *Kernel) LoseInterface(router string, id subscriber.ID) {
	if in := k.inlet(router); in != nil {
		in.SessionLost(id)
	}
}

func (k *Kernel) inlet(router string) controlplane.Inlet {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p := k.routers[router]; p != nil {
		return p.in
	}
	return nil
}
