package l2tpnl

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vrgate/vr/nlattr"
)

// Namespace is where tunnels are made; *vr.Router is one. Do runs fn on a
// thread that is in the namespace; NetNS is a descriptor of it that stays open
// while the Kernel is used.
type Namespace interface {
	Do(fn func() error) error
	NetNS() int
}

// Kernel is the L2TP subsystem of one network namespace.
type Kernel struct {
	ns     Namespace
	family uint16

	// mu is held during every exchange on conn.
	mu   sync.Mutex
	conn *genetlink.Conn // nil: closed
}

// familyName of the generic netlink family; the kernel loads its module when
// it is asked for by this name.
const familyName = "l2tp"

// Open finds the kernel's L2TP subsystem. The error is *vr.MissingFeature when
// there is none.
func Open(ns Namespace) (*Kernel, error) {
	conn, err := genetlink.Dial(&netlink.Config{NetNS: ns.NetNS()})
	if err != nil {
		return nil, fmt.Errorf("l2tpnl: open generic netlink socket: %w", err)
	}
	f, err := conn.GetFamily(familyName)
	if err != nil {
		_ = conn.Close()
		if errors.Is(err, unix.ENOENT) {
			return nil, missingFamily()
		}
		return nil, fmt.Errorf("l2tpnl: look up netlink family: %w", err)
	}
	return &Kernel{ns: ns, family: f.ID, conn: conn}, nil
}

// Close releases the netlink socket; tunnels and sessions live on with their
// sockets. It is idempotent.
func (k *Kernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn == nil {
		return nil
	}
	err := k.conn.Close()
	k.conn = nil
	return err
}

// execute sends one command and returns the answers' attributes.
func (k *Kernel) execute(command uint8, body []byte, flags netlink.HeaderFlags) ([]genetlink.Message, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn == nil {
		return nil, ErrClosed
	}
	msgs, err := k.conn.Execute(genetlink.Message{
		Header: genetlink.Header{Command: command, Version: familyVersion},
		Data:   body,
	}, k.family, netlink.Request|flags)
	var errno unix.Errno
	if err == nil || errors.As(err, &errno) && errno != unix.ENOBUFS {
		return msgs, err
	}
	// The exchange broke off in the middle: a late answer must not meet the next
	// request.
	fresh, derr := genetlink.Dial(&netlink.Config{NetNS: k.ns.NetNS()})
	if derr != nil {
		return nil, errors.Join(err, derr)
	}
	_ = k.conn.Close()
	k.conn = fresh
	return nil, err
}

// CreateTunnel makes a kernel tunnel on the connected UDP socket fd of this
// process and namespace. It lives until the socket is closed. Errors: ErrExists
// when the id is taken in the namespace, ErrBusy when the socket has a tunnel.
func (k *Kernel) CreateTunnel(fd int, local, peer uint16) error {
	if local == 0 || peer == 0 {
		return fmt.Errorf("%w: tunnel %d, peer's %d", ErrInvalid, local, peer)
	}
	_, err := k.execute(cmdTunnelCreate, encodeTunnel(fd, local, peer), netlink.Acknowledge)
	return mapError(fmt.Sprintf("create tunnel %d", local), err)
}

// DeleteTunnel removes a tunnel and its sessions before its socket is closed;
// one that is not there is no error. PPPoL2TP sockets and PPP units stay,
// silently useless, until they are closed.
func (k *Kernel) DeleteTunnel(local uint16) error {
	_, err := k.execute(cmdTunnelDelete, encodeIDs(local, 0), netlink.Acknowledge)
	return ignoreNotFound(mapError(fmt.Sprintf("delete tunnel %d", local), err))
}

// SessionSpec is one session as the kernel shall make it.
type SessionSpec struct {
	Tunnel, PeerTunnel uint16 // ids, 1..65535
	Session, Peer      uint16 // ids, 1..65535
	// LNS: we decide about sequence numbers. Else (LAC) the peer's use of them is
	// followed (RFC 2661 section 5.4).
	LNS bool
	// Sequence sends sequence numbers with data; RequireSequence drops data
	// without. Only when the peer asked for sequencing: with ESP's replay window
	// it costs throughput.
	Sequence, RequireSequence bool
	// Reorder is how long out-of-order data waits for its predecessors, in
	// milliseconds resolution; 0 drops it.
	Reorder time.Duration
}

func (s SessionSpec) validate() error {
	if s.Tunnel == 0 || s.PeerTunnel == 0 || s.Session == 0 || s.Peer == 0 {
		return fmt.Errorf("%w: session %d/%d, peer's %d/%d", ErrInvalid, s.Tunnel, s.Session, s.PeerTunnel, s.Peer)
	}
	if s.Reorder < 0 {
		return fmt.Errorf("%w: reorder time %v", ErrInvalid, s.Reorder)
	}
	return nil
}

// CreateSession makes a session in an existing tunnel. From now on the kernel
// takes the session's data and drops it until a PPPoL2TP socket is connected.
// Errors: ErrExists, ErrNotFound (no such tunnel), *vr.MissingFeature.
func (k *Kernel) CreateSession(spec SessionSpec) error {
	if err := spec.validate(); err != nil {
		return err
	}
	_, err := k.execute(cmdSessionCreate, encodeSession(spec), netlink.Acknowledge)
	return mapSessionError(fmt.Sprintf("create session %d/%d", spec.Tunnel, spec.Session), err)
}

// DeleteSession removes a session; one that is not there is no error. Closing
// the session's PPPoL2TP socket does it too.
func (k *Kernel) DeleteSession(tunnel, session uint16) error {
	_, err := k.execute(cmdSessionDelete, encodeIDs(tunnel, session), netlink.Acknowledge)
	return ignoreNotFound(mapError(fmt.Sprintf("delete session %d/%d", tunnel, session), err))
}

// Counters are what the kernel counted on one session since it was made. Bytes
// include L2TP headers but not UDP's. They miss frames that went through the
// process; for accounting use those of the PPP unit.
type Counters struct {
	TxPackets, TxBytes, TxErrors        uint64
	RxPackets, RxBytes, RxErrors        uint64
	RxSequenceDiscards, RxOutOfSequence uint64
}

// SessionCounters reads one session's counters by id, or ErrNotFound.
func (k *Kernel) SessionCounters(tunnel, session uint16) (Counters, error) {
	op := fmt.Sprintf("counters of session %d/%d", tunnel, session)
	msgs, err := k.execute(cmdSessionGet, encodeIDs(tunnel, session), 0)
	if err != nil {
		return Counters{}, mapError(op, err)
	}
	for _, m := range msgs {
		if m.Header.Command == cmdSessionGet {
			in, err := parseInfo(m.Data)
			return in.counters, mapError(op, err)
		}
	}
	return Counters{}, mapError(op, nlattr.ErrMalformed)
}

// TunnelInfo and SessionInfo are what List finds.
type TunnelInfo struct{ Tunnel, Peer uint32 }

// SessionInfo names one session.
type SessionInfo struct{ Tunnel, Session, PeerTunnel, Peer uint32 }

// List dumps all tunnels and sessions of the namespace, whoever made them. It
// is for tests and for finding out what a predecessor left, once at start: a
// dump is O(n²) on Linux 6.1.
func (k *Kernel) List() ([]TunnelInfo, []SessionInfo, error) {
	var tunnels []TunnelInfo
	var sessions []SessionInfo
	for _, command := range []uint8{cmdTunnelGet, cmdSessionGet} {
		msgs, err := k.execute(command, nil, netlink.Dump)
		if err != nil {
			return nil, nil, mapError("list", err)
		}
		for _, m := range msgs {
			in, err := parseInfo(m.Data)
			if err != nil {
				return nil, nil, mapError("list", err)
			}
			if command == cmdTunnelGet {
				tunnels = append(tunnels, TunnelInfo{in.tunnel, in.peerTunnel})
			} else {
				sessions = append(sessions, SessionInfo{in.tunnel, in.session, in.peerTunnel, in.peer})
			}
		}
	}
	return tunnels, sessions, nil
}
