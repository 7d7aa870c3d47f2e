package vr

import (
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// handles lends netlink sockets in a router's namespace to the XFRM interfaces that live there, of which there may be thousands and
// which may outlive the router. They are open while anybody has them.
type handles struct {
	mu    sync.Mutex
	nl    *netlink.Handle
	users int
}

// lend returns the sockets; each call is followed by one of takeBack.
func (h *handles) lend(n *namespace) (*netlink.Handle, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users == 0 {
		nl, err := netlink.NewHandleAt(n.handle(), unix.NETLINK_ROUTE, unix.NETLINK_XFRM)
		if err != nil {
			return nil, err
		}
		h.nl = nl
	}
	h.users++
	return h.nl, nil
}

// takeBack closes the sockets when nobody has them any more.
func (h *handles) takeBack() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users--; h.users == 0 {
		h.nl.Close()
		h.nl = nil
	}
}
