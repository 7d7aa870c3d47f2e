//go:build kernel

package l2tpnl

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrgate/test/netspace"
)

func openKernel(t *testing.T, s *netspace.Space) *Kernel {
	t.Helper()
	k, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(k.Close(), k.Close()); err != nil {
			t.Error(err)
		}
		if _, _, err := k.List(); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
	return k
}

// udp is a tunnel's socket: bound to a port and connected to one, on loopback.
func udp(t *testing.T, s *netspace.Space, local, remote uint16) int {
	t.Helper()
	fd := -1
	lo := netip.MustParseAddr("127.0.0.1").As4()
	err := s.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: lo, Port: int(local)}); err != nil {
			return err
		}
		return unix.Connect(fd, &unix.SockaddrInet4{Addr: lo, Port: int(remote)})
	})
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// gone waits until the namespace has no tunnel and no session: kernels from
// 6.11 remove both in a work queue.
func gone(t *testing.T, k *Kernel) {
	t.Helper()
	for range 100 {
		tunnels, sessions, err := k.List()
		if err != nil {
			t.Fatal(err)
		}
		if len(tunnels)+len(sessions) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	tunnels, sessions, err := k.List()
	t.Errorf("left: tunnels %v, sessions %v, %v", tunnels, sessions, err)
}

func TestTunnelAndSession(t *testing.T) {
	space := netspace.New(t)
	k := openKernel(t, space)
	before := netspace.Descriptors(t)
	fd := udp(t, space, 20001, 20002)
	tunnel, err := k.Tunnel(fd, 20001, 7)
	if err != nil {
		t.Fatal(err)
	}
	gone(t, k) // nothing yet
	s, err := tunnel.Open(SessionSpec{Session: 11, Peer: 12, LNS: true, Sequence: true, Reorder: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	tunnels, sessions, err := k.List()
	if err != nil || len(tunnels) != 1 || tunnels[0] != (TunnelInfo{20001, 7}) || len(sessions) != 1 || sessions[0] != (SessionInfo{20001, 11, 7, 12}) {
		t.Errorf("tunnels %v, sessions %v, %v", tunnels, sessions, err)
	}
	if c, err := s.Counters(); err != nil || c != (Counters{}) {
		t.Errorf("counters %+v, %v", c, err)
	}
	if s.FD() < 0 || tunnel.Sessions() != 1 {
		t.Errorf("descriptor %d, %d sessions", s.FD(), tunnel.Sessions())
	}

	// What is there cannot be made again, and the attempt changes nothing.
	if err := k.CreateTunnel(fd, 20001, 7); !errors.Is(err, ErrExists) && !errors.Is(err, ErrBusy) {
		t.Errorf("tunnel twice: %v", err)
	}
	if err := k.CreateTunnel(fd, 20003, 7); !errors.Is(err, ErrBusy) {
		t.Errorf("second tunnel on a socket: %v", err)
	}
	other := udp(t, space, 20004, 20005)
	if err := k.CreateTunnel(other, 20001, 9); !errors.Is(err, ErrExists) {
		t.Errorf("tunnel id twice: %v", err)
	}
	if _, err := tunnel.Open(SessionSpec{Session: 11, Peer: 13, LNS: true}); !errors.Is(err, ErrExists) {
		t.Errorf("session id twice: %v", err)
	}
	if err := k.CreateSession(SessionSpec{Tunnel: 20009, PeerTunnel: 1, Session: 1, Peer: 1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("session without tunnel: %v", err)
	}
	if _, err := k.SessionCounters(20001, 98); !errors.Is(err, ErrNotFound) {
		t.Errorf("counters without a session: %v", err)
	}
	if err := errors.Join(k.DeleteSession(20001, 98), k.DeleteTunnel(20009)); err != nil {
		t.Errorf("deleting what is not there: %v", err)
	}
	if n := tunnel.Sessions(); n != 1 {
		t.Errorf("%d sessions after failures", n)
	}

	if err := tunnel.Close(); err == nil {
		t.Error("tunnel closed with a session open")
	}
	if err := errors.Join(s.Close(), s.Close(), tunnel.Close()); err != nil {
		t.Error(err)
	}
	if _, err := tunnel.Open(SessionSpec{Session: 12, Peer: 12}); !errors.Is(err, ErrClosed) {
		t.Errorf("session in a closed tunnel: %v", err)
	}
	if err := errors.Join(unix.Close(fd), unix.Close(other)); err != nil {
		t.Fatal(err)
	}
	gone(t, k)
	if after := netspace.Descriptors(t); after != before {
		t.Errorf("%d descriptors, were %d", after, before)
	}
}

// TestFailedOpen: when the channel cannot be made the session is unmade.
func TestFailedOpen(t *testing.T) {
	space := netspace.New(t)
	broken := &failing{Space: space}
	k, err := Open(broken)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	fd := udp(t, space, 20001, 20002)
	tunnel, err := k.Tunnel(fd, 20001, 7)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tunnel.Open(SessionSpec{Session: 11, Peer: 12, LNS: true}); !errors.Is(err, errBroken) {
		t.Errorf("Open: %v", err)
	}
	if _, sessions, err := k.List(); err != nil || len(sessions) != 0 || tunnel.Sessions() != 0 {
		t.Errorf("left: %v, %v", sessions, err)
	}
	if err := errors.Join(tunnel.Close(), unix.Close(fd)); err != nil {
		t.Error(err)
	}
	gone(t, k)
}

var errBroken = errors.New("broken")

// failing is a namespace that cannot be entered.
type failing struct{ *netspace.Space }

func (f *failing) Do(func() error) error { return errBroken }

// TestManySessions: several sessions in each of many tunnels, made and ended by
// many workers, leave nothing.
func TestManySessions(t *testing.T) {
	space := netspace.New(t)
	k := openKernel(t, space)
	before := netspace.Descriptors(t)
	const workers, each = 16, 13
	var wg sync.WaitGroup
	for w := range uint16(workers) {
		wg.Go(func() {
			fd := udp(t, space, 20000+w, 30000+w)
			tunnel, err := k.Tunnel(fd, 20000+w, 7)
			if err != nil {
				t.Error(err)
				return
			}
			var sessions []*Session
			var inner sync.WaitGroup
			var mu sync.Mutex
			for i := range uint16(each) { // the first ones race for the tunnel
				inner.Go(func() {
					s, err := tunnel.Open(SessionSpec{Session: 100 + i, Peer: 1 + i, LNS: true})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					sessions = append(sessions, s)
				})
			}
			inner.Wait()
			for _, s := range sessions {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
			if err := errors.Join(tunnel.Close(), unix.Close(fd)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	gone(t, k)
	if after := netspace.Descriptors(t); after != before {
		t.Errorf("%d descriptors, were %d", after, before)
	}
}
