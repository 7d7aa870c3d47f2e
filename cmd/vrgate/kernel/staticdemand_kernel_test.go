//go:build kernel

package kernel

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrgate/controlplane/config"
)

// connecting connects by TCP while the test goes on.
type connecting struct {
	what string
	done chan error
}

// connecting begins a connection from an address in a namespace, within a VRF unless it is "", to a port that somebody listens on. It is given up
// after 20 s.
func (w *world) connecting(what, space, vrf, from string, to netip.AddrPort) connecting {
	c := connecting{what: what, done: make(chan error, 1)}
	d := net.Dialer{
		Timeout: 20 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0)),
		Control: func(_, _ string, raw syscall.RawConn) error {
			var bind error
			err := raw.Control(func(fd uintptr) {
				if vrf != "" {
					bind = unix.BindToDevice(int(fd), vrf)
				}
			})
			return errors.Join(err, bind)
		},
	}
	go func() {
		c.done <- w.spaces[space].Do(func() error {
			conn, err := d.Dial("tcp4", to.String())
			if err != nil {
				return err
			}
			return conn.Close()
		})
	}()
	return c
}

// listens accepts connections at an address of the other end.
func (s *office) listens(a netip.Addr) netip.AddrPort {
	s.w.t.Helper()
	var l net.Listener
	inSpace(s.w.t, s.space, func() (err error) {
		l, err = net.Listen("tcp4", netip.AddrPortFrom(a, 0).String())
		return err
	})
	s.w.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// TestStaticFirstPackets: of a tunnel that starts on demand the first TCP connection comes about, from a host and from the router itself, though its
// first packet finds no SA; meanwhile nothing leaves in clear. When the tunnel is down again, the next connection is like the first. Of one that does
// not start on demand hosts are told that it is down.
func TestStaticFirstPackets(t *testing.T) {
	policy := headquarters()
	policy.Mode, policy.Interface = config.StaticPolicy, config.StaticInterface{}
	for _, tc := range []struct {
		layout string
		tunnel config.StaticTunnel
	}{
		{"one router", headquarters()}, {"VRF to VRF in another namespace", headquarters()}, {"one router", policy},
	} {
		t.Run(tc.layout+" "+tc.tunnel.Mode.String(), func(t *testing.T) {
			w := staticWorld(t, tc.layout, tc.tunnel)
			if tc.tunnel.Mode == config.StaticPolicy {
				batch(t, w.transport.space, "route add 10.9.0.0/24 via 198.51.1.2\n")
			}
			s := w.office(w.peers[0], tc.tunnel)
			to := s.listens(s.inner)
			for round := range 2 {
				begun := []connecting{
					w.connecting("a host", w.intranet, "", intranetText, to), w.connecting("the router itself", w.end.space, w.end.vrf, "10.1.0.1", to),
				}
				w.events.await(t, "that the tunnel is wanted", func() bool { return len(w.events.wanted) > round })
				time.Sleep(briefly) // in which an ICMP message would come
				for _, c := range begun {
					select {
					case err := <-c.done:
						t.Errorf("round %d: %s, while nothing carries the tunnel: %v", round, c.what, err)
						c.done <- err
					default:
					}
				}
				s.send(7)
				s.connect(7)
				s.carry(7)
				for _, c := range begun {
					if err := <-c.done; err != nil {
						t.Errorf("round %d: %s: %v\n%s", round, c.what, err, w.diagnosis())
					}
				}
				s.both(s.inner.String())
				if tc.tunnel.Mode == config.StaticRoute {
					if filters := run(t, "tc", "-n", w.end.space, "filter", "show", "dev", "hq0", "egress"); filters != "" {
						t.Errorf("the tunnel is carried, and its interface silent:\n%s", filters)
					}
				}
				s.disconnect(7)
			}
			if tc.tunnel.Mode == config.StaticRoute {
				red := *w.cfg.Routers[0]
				red.StaticTunnels = slices.Clone(red.StaticTunnels)
				red.StaticTunnels[0].Start = config.StartNailedUp
				cfg := *w.cfg
				cfg.Routers = append([]*config.Router{&red}, w.cfg.Routers[1:]...)
				if ok, err := w.plane.Reconfigure(&cfg, &red); !ok || err != nil {
					t.Fatalf("%t, %v", ok, err)
				}
				if err := <-w.connecting("a host", w.intranet, "", intranetText, to).done; !errors.Is(err, unix.EHOSTUNREACH) {
					t.Errorf("a tunnel that is down and not dialled on demand: %v", err)
				}
			}
			w.nothingInClear()
			w.gone("hq0")
		})
	}
}
