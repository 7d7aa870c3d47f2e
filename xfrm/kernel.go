package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vrgate/vr/nlattr"
)

// Kernel is the IPsec configuration of one network namespace. All methods may
// be called at the same time; the kernel serialises them per namespace anyway.
type Kernel struct {
	netns       int // for further sockets; owned by the caller
	watchBuffer int // of Watch's socket, in bytes

	// mu is held during every exchange on conn.
	mu   sync.Mutex
	conn *netlink.Conn // nil: closed
}

// Open connects to the namespace that the file descriptor netns names (of
// /proc/self/ns/net or /run/netns/…). netns stays the caller's and must stay
// open for as long as the Kernel is used. The error is *vr.MissingFeature when
// the kernel has no XFRM netlink.
func Open(netns int) (*Kernel, error) {
	conn, err := dial(netns)
	if err != nil {
		return nil, err
	}
	return &Kernel{netns: netns, watchBuffer: watchBuffer, conn: conn}, nil
}

func dial(netns int) (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_XFRM, &netlink.Config{NetNS: netns})
	if err != nil {
		return nil, dialError(err)
	}
	return conn, nil
}

// Close releases the sockets and leaves what is installed. It is idempotent.
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

// execute sends one request and returns the bodies of the answers. The request
// body is cleared, since it may hold keys. A socket that failed in any other
// way than by an answer of the kernel is replaced, so that a stray reply never
// meets the next request.
func (k *Kernel) execute(typ netlink.HeaderType, body []byte) ([]netlink.Message, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer clear(body)
	if k.conn == nil {
		return nil, ErrClosed
	}
	flags := netlink.Request | netlink.Acknowledge
	if typ == msgNewSA || typ == msgNewPolicy {
		flags |= netlink.Create | netlink.Excl
	}
	if typ == msgGetSA || typ == msgGetSADInfo || typ == msgGetSPDInfo {
		flags = netlink.Request // the answer itself acknowledges
	}
	msgs, err := k.conn.Execute(netlink.Message{Header: netlink.Header{Type: typ, Flags: flags}, Data: body})
	var errno unix.Errno
	if err == nil || errors.As(err, &errno) && errno != unix.ENOBUFS {
		return msgs, err
	}
	fresh, derr := dial(k.netns)
	if derr != nil {
		return nil, errors.Join(err, derr)
	}
	_ = k.conn.Close()
	k.conn = fresh
	return nil, err
}

// dump runs a dump request on a socket of its own and hands each answer to fn,
// after which the answer, which may hold keys, is cleared. The kernel's walk
// is not atomic: objects that change meanwhile may be seen or not.
func (k *Kernel) dump(typ netlink.HeaderType, body []byte, fn func(body []byte) error) error {
	k.mu.Lock()
	closed := k.conn == nil
	k.mu.Unlock()
	if closed {
		return ErrClosed
	}
	conn, err := dial(k.netns)
	if err != nil {
		return err
	}
	defer conn.Close()
	msgs, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: typ, Flags: netlink.Request | netlink.Dump},
		Data:   body,
	})
	defer func() {
		for _, m := range msgs {
			clear(m.Data)
		}
	}()
	if err != nil {
		return err
	}
	for _, m := range msgs {
		if err := fn(m.Data); err != nil {
			return err
		}
	}
	return nil
}

// Add installs an SA. Errors: ErrInvalid, ErrExists, *vr.MissingFeature.
func (k *Kernel) Add(sa SA) error { return k.add(&sa, nil) }

// add installs an SA that goes on where old, unless nil, left off.
func (k *Kernel) add(sa *SA, old *State) error {
	if err := sa.Validate(); err != nil {
		return err
	}
	_, err := k.execute(msgNewSA, encodeSA(sa, old))
	return mapError(fmt.Sprintf("add %v SA %v", sa.Dir, sa.ID()), sa, err)
}

// AddPair installs both SAs of a connection, the inbound one first so that the
// peer's first packet finds it. When one cannot be installed, neither is.
func (k *Kernel) AddPair(in, out SA) error {
	if in.Dir != In || out.Dir != Out {
		return fmt.Errorf("%w: a pair is one inbound and one outbound SA", ErrInvalid)
	}
	if err := out.Validate(); err != nil {
		return err
	}
	if err := k.Add(in); err != nil {
		return err
	}
	if err := k.Add(out); err != nil {
		return errors.Join(err, k.Remove(in.ID()))
	}
	return nil
}

// Remove deletes an SA; one that is not there (any more) is no error. It does
// not ask whose it is: the caller gives IDs of SAs that it added.
func (k *Kernel) Remove(id ID) error {
	_, err := k.execute(msgDelSA, encodeID(id))
	if err = mapError("remove SA "+id.String(), nil, err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Lookup reports one SA, or ErrNotFound. It costs one hash look-up in the kernel.
func (k *Kernel) Lookup(id ID) (State, error) {
	msgs, err := k.execute(msgGetSA, encodeID(id))
	defer func() {
		for _, m := range msgs {
			clear(m.Data)
		}
	}()
	op := "look up SA " + id.String()
	if err != nil {
		return State{}, mapError(op, nil, err)
	}
	for _, m := range msgs {
		if m.Header.Type == msgNewSA {
			s, err := parseSA(m.Data)
			return s, mapError(op, nil, err)
		}
	}
	return State{}, mapError(op, nil, nlattr.ErrMalformed)
}

// Counters reports what was counted on one SA, or ErrNotFound.
func (k *Kernel) Counters(id ID) (Counters, error) {
	s, err := k.Lookup(id)
	return s.Counters, err
}

// List reports all SAs of ours in the namespace. It is a dump, O(all SAs of the
// namespace): for start, stop and an operator's question, not for polling.
func (k *Kernel) List() ([]State, error) {
	var list []State
	err := k.dump(msgGetSA, nil, func(body []byte) error {
		if !isESP(body) || !Ours(native.Uint32(body[offReqid:])) {
			return nil
		}
		s, err := parseSA(body)
		if err == nil {
			list = append(list, s)
		}
		return err
	})
	return list, mapError("list SAs", nil, err)
}

// Flush removes every SA of ours in the namespace, whoever installed it, and
// says how many there were. Others' SAs are not touched. Where several virtual
// routers share the namespace (VRFs), use FlushOf: this takes the neighbours' too.
func (k *Kernel) Flush() (int, error) {
	return k.flush(func(State) bool { return true })
}

// FlushOf removes every SA of ours that begins or ends at one of the given local
// addresses, and says how many there were. Virtual routers of one namespace have
// different server addresses, because the kernel's SAs know of no VRF.
func (k *Kernel) FlushOf(local ...netip.Addr) (int, error) {
	return k.flush(func(s State) bool {
		return slices.Contains(local, s.Src) || slices.Contains(local, s.Dst)
	})
}

func (k *Kernel) flush(which func(State) bool) (int, error) {
	list, err := k.List()
	errs := []error{err}
	n := 0
	for _, s := range list {
		if which(s) {
			n++
			errs = append(errs, k.Remove(s.ID))
		}
	}
	return n, errors.Join(errs...)
}
