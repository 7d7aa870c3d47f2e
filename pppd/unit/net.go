package unit

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace; *vr.Router has one. Do runs fn on a thread
// that is in it; NetNS is a descriptor of it that stays open while a Net is used.
type Namespace interface {
	Do(fn func() error) error
	NetNS() int
}

// Net is this package's access to one network namespace.
type Net struct {
	ns   Namespace
	id   [2]uint64     // device and inode: two Nets may be of one namespace
	next atomic.Uint32 // for numbered interface names

	// mu is held during every exchange on conn.
	mu   sync.Mutex
	conn *netlink.Conn // nil: closed
}

// OpenNet connects to a namespace's rtnetlink.
func OpenNet(ns Namespace) (*Net, error) {
	var st unix.Stat_t
	if err := unix.Fstat(ns.NetNS(), &st); err != nil {
		return nil, fmt.Errorf("unit: namespace descriptor: %w", err)
	}
	conn, err := dial(ns)
	if err != nil {
		return nil, err
	}
	return &Net{ns: ns, id: [2]uint64{uint64(st.Dev), st.Ino}, conn: conn}, nil
}

func dial(ns Namespace) (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{NetNS: ns.NetNS()})
	if err != nil {
		return nil, fmt.Errorf("unit: open rtnetlink socket: %w", err)
	}
	return conn, nil
}

// Close releases the socket. Units live on. It is idempotent.
func (n *Net) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conn == nil {
		return nil
	}
	err := n.conn.Close()
	n.conn = nil
	return err
}

// execute sends one rtnetlink request. A socket that failed in any other way
// than by an answer of the kernel is replaced, so that a late answer never meets
// the next request.
func (n *Net) execute(typ netlink.HeaderType, flags netlink.HeaderFlags, body []byte) ([]netlink.Message, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conn == nil {
		return nil, ErrClosed
	}
	msgs, err := n.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: typ, Flags: netlink.Request | flags},
		Data:   body,
	})
	var errno unix.Errno
	if err == nil || errors.As(err, &errno) && errno != unix.ENOBUFS {
		return msgs, err
	}
	fresh, derr := dial(n.ns)
	if derr != nil {
		return nil, errors.Join(err, derr)
	}
	_ = n.conn.Close()
	n.conn = fresh
	return nil, err
}
