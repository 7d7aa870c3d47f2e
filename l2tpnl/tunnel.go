package l2tpnl

import (
	"errors"
	"fmt"
	"sync"
)

// Tunnel is one L2TP tunnel's kernel side. It starts as nothing; the first
// session opened makes the kernel tunnel.
type Tunnel struct {
	kernel      *Kernel
	fd          int
	local, peer uint16

	mu       sync.Mutex
	created  bool
	closed   bool
	sessions int
}

// Tunnel prepares a tunnel on the connected UDP socket fd, which stays the
// caller's, must be open while sessions are opened, and is to be closed after
// the tunnel's Close. local and peer are the tunnel ids.
func (k *Kernel) Tunnel(fd int, local, peer uint16) (*Tunnel, error) {
	if fd < 0 || local == 0 || peer == 0 {
		return nil, fmt.Errorf("%w: tunnel %d, peer's %d", ErrInvalid, local, peer)
	}
	return &Tunnel{kernel: k, fd: fd, local: local, peer: peer}, nil
}

// ensure makes the kernel tunnel once and counts a session that is about to be
// opened.
func (t *Tunnel) ensure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return ErrClosed
	}
	if !t.created {
		if err := t.kernel.CreateTunnel(t.fd, t.local, t.peer); err != nil {
			return err
		}
		t.created = true
	}
	t.sessions++
	return nil
}

func (t *Tunnel) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sessions--
}

// Sessions counts open sessions, those being opened included.
func (t *Tunnel) Sessions() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sessions
}

// Session is one session in the kernel with its PPP channel.
type Session struct {
	tunnel  *Tunnel
	spec    SessionSpec
	channel *channel
	once    sync.Once
	err     error
}

// Open makes a session and connects its channel. The tunnel's ids in spec are
// filled in. When any step fails nothing of the session is left, but the kernel
// tunnel may be: it goes with its UDP socket. Data that arrives between the
// making of the session and of the channel is lost, which PPP's retransmission
// covers; nothing that arrived before is.
func (t *Tunnel) Open(spec SessionSpec) (*Session, error) {
	spec.Tunnel, spec.PeerTunnel = t.local, t.peer
	if err := spec.validate(); err != nil {
		return nil, err
	}
	if err := t.ensure(); err != nil {
		return nil, err
	}
	if err := t.kernel.CreateSession(spec); err != nil {
		t.release()
		return nil, err
	}
	ch, err := t.kernel.openChannel(t.fd, spec)
	if err != nil {
		err = errors.Join(err, t.kernel.DeleteSession(spec.Tunnel, spec.Session))
		t.release()
		return nil, err
	}
	return &Session{tunnel: t, spec: spec, channel: ch}, nil
}

// Index is the PPP channel's number for PPPIOCATTCHAN, valid in the namespace.
func (s *Session) Index() int { return s.channel.index }

// FD is the PPPoL2TP socket, for handing it over at a restart; -1 after Close.
func (s *Session) FD() int { return s.channel.descriptor() }

// Counters reads the session's counters.
func (s *Session) Counters() (Counters, error) {
	return s.tunnel.kernel.SessionCounters(s.spec.Tunnel, s.spec.Session)
}

// Close ends the session. The PPP unit and its descriptors must have been
// closed before. It waits for RCU grace periods, and is idempotent.
func (s *Session) Close() error {
	s.once.Do(func() {
		s.err = s.channel.close()
		s.tunnel.release()
	})
	return s.err
}

// Close ends the use of the tunnel: no session can be opened any more. The
// kernel tunnel goes when the caller closes the UDP socket. It reports an error
// when sessions are still open, since they would go silently. It is idempotent.
func (t *Tunnel) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.sessions > 0 {
		return fmt.Errorf("l2tpnl: tunnel %d: closed with %d sessions open", t.local, t.sessions)
	}
	return nil
}
