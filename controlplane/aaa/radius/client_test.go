package radius

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	rad "layeh.com/radius"

	"vrgate/controlplane/keymat"
	"vrgate/test/faultyradius"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a scripted server on the loopback and returns its port.
func serve(t testing.TB, s *faultyradius.Server, ip string) uint16 {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(conn) }()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return uint16(conn.LocalAddr().(*net.UDPAddr).Port)
}

func listenLoopback(local netip.AddrPort) (*net.UDPConn, error) {
	return net.ListenUDP("udp", net.UDPAddrFromAddrPort(local))
}

// oneServer is a client of one scripted server, in both roles.
func oneServer(t testing.TB, s *faultyradius.Server, ip string, change func(*Server)) *Client {
	t.Helper()
	port := serve(t, s, ip)
	server := Server{
		Name: "one", Address: netip.MustParseAddr(ip), AuthPort: port, AcctPort: port, Secret: testSecret,
		Timeout: 2 * time.Second, Retransmissions: 1, DeadTime: time.Minute,
	}
	if change != nil {
		change(&server)
	}
	var log = zap.NewNop()
	if t, ok := t.(*testing.T); ok {
		log = zaptest.NewLogger(t)
	}
	c := NewClient(Config{
		NASIdentifier: "gate", Servers: []Server{server}, Groups: []Group{{Name: "all", Servers: []string{"one"}}},
	}, listenLoopback, log)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func pap(user, password string) Exchange {
	var a rad.Attributes
	a.Add(1, []byte(user))
	return Exchange{Code: rad.CodeAccessRequest, Attributes: a, Password: keymat.Secret(password)}
}

func TestHonestServer(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "::1"} {
		t.Run(ip, func(t *testing.T) {
			var accept rad.Attributes
			accept.Add(18, []byte("welcome"))
			s := faultyradius.New(faultyradius.Config{
				Secret: string(testSecret), Passwords: map[string]string{"alice": "secret", "empty": ""}, Accept: accept,
			})
			c := oneServer(t, s, ip, nil)
			for _, tt := range []struct {
				user, password string
				code           rad.Code
			}{
				{"alice", "secret", rad.CodeAccessAccept},
				{"alice", "Secret", rad.CodeAccessReject},
				{"bob", "secret", rad.CodeAccessReject},
				{"empty", "", rad.CodeAccessAccept},
			} {
				a, err := c.Do(t.Context(), "all", pap(tt.user, tt.password))
				if err != nil || a.Code != tt.code || a.Server != "one" {
					t.Errorf("%s/%s: %v %q, %v", tt.user, tt.password, a.Code, a.Server, err)
				}
				if a.Code == rad.CodeAccessAccept && string(a.Attributes.Get(18)) != "welcome" {
					t.Errorf("Reply-Message %q", a.Attributes.Get(18))
				}
			}
			record := []byte{44, 6, 'a', 'b', 'c', 'd', 41, 6, 0, 0, 0, 9}
			if err := c.Account(t.Context(), "all", record, time.Now().Add(-7050*time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			got := s.Records()[0]
			if delay, _ := rad.Integer(got.Get(attrAcctDelayTime)); string(got.Get(44)) != "abcd" || delay != 7 || string(got.Get(attrNASIdentifier)) != "gate" || len(got) != 3 {
				t.Errorf("record %v, delay %d s", got, delay)
			}
			st := c.Servers()
			if len(st) != 2 || st[Authentication].Counts[Accepted] != 2 || st[Authentication].Counts[Rejected] != 2 || st[Accounting].Counts[Acknowledged] != 1 ||
				st[Authentication].RTT == 0 || st[Authentication].Sockets != 1 || st[Authentication].InFlight != 0 {
				t.Errorf("status %+v", st)
			}
		})
	}
}

func TestDoErrors(t *testing.T) {
	s := faultyradius.New(faultyradius.Config{Secret: string(testSecret), Faults: []faultyradius.Fault{faultyradius.Silent}})
	c := oneServer(t, s, "127.0.0.1", func(s *Server) { s.Timeout = 50 * time.Millisecond; s.AcctPort = 0 })
	if _, err := c.Do(t.Context(), "none", pap("a", "b")); !errors.Is(err, ErrNoServer) {
		t.Errorf("unknown group: %v", err)
	}
	if err := c.Account(t.Context(), "all", []byte{44, 3, 'a'}, time.Time{}); !errors.Is(err, ErrNoServer) {
		t.Errorf("no accounting port: %v", err)
	}
	var m *MalformedError
	if err := c.Account(t.Context(), "all", []byte{44, 4, 'a'}, time.Time{}); !errors.As(err, &m) {
		t.Errorf("malformed record: %v", err)
	}
	if _, err := c.Do(t.Context(), "all", pap("a", string(make([]byte, 129)))); !errors.As(err, &m) {
		t.Errorf("long password: %v", err)
	}
	if _, err := c.Do(t.Context(), "all", Exchange{Code: rad.CodeCoARequest}); !errors.Is(err, ErrCode) {
		t.Errorf("no request: %v", err)
	}
	if _, err := c.Do(t.Context(), "all", pap("a", "b")); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("silent server: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := c.Do(ctx, "all", pap("a", "b")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("impatient caller: %v", err)
	}
	pending := make(chan error)
	go func() {
		_, err := c.Do(t.Context(), "all", pap("a", "b"))
		pending <- err
	}()
	_ = c.Close()
	if err := <-pending; !errors.Is(err, ErrClosed) && !errors.Is(err, ErrNoAnswer) {
		t.Errorf("pending at Close: %v", err)
	}
	if _, err := c.Do(t.Context(), "all", pap("a", "b")); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if c.Servers() != nil || c.Close() != nil {
		t.Error("status after Close")
	}
}

// TestDrain: a client that is replaced answers who has asked it.
func TestDrain(t *testing.T) {
	s := faultyradius.New(faultyradius.Config{Secret: string(testSecret), Delay: time.Second})
	c := oneServer(t, s, "127.0.0.1", nil)
	if err := c.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 3)
	for range 3 {
		go func() {
			_, err := c.Do(t.Context(), "all", pap("a", "b"))
			asked <- err
		}()
	}
	for c.Servers()[Authentication].Counts[Sent] < 3 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := c.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with requests pending: %v", err)
	}
	if err := c.Drain(t.Context()); err != nil || c.Pressure()[Authentication].InFlight != 0 {
		t.Errorf("drained: %v, %+v", err, c.Pressure())
	}
	_ = c.Close()
	for range 3 {
		if err := <-asked; err != nil {
			t.Error(err)
		}
	}
	if err := c.Drain(t.Context()); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

// TestManyAtOnce needs more identifiers than one socket has.
func TestManyAtOnce(t *testing.T) {
	s := faultyradius.New(faultyradius.Config{Secret: string(testSecret), Delay: 500 * time.Millisecond})
	ports := struct {
		sync.Mutex
		n int
	}{}
	c := oneServer(t, s, "127.0.0.1", nil)
	c.listen = func(local netip.AddrPort) (*net.UDPConn, error) {
		ports.Lock()
		defer ports.Unlock()
		ports.n++
		return listenLoopback(local)
	}
	var all sync.WaitGroup
	for i := range 600 {
		all.Go(func() {
			if a, err := c.Do(t.Context(), "all", pap(fmt.Sprint("user", i), "x")); err != nil || a.Code != rad.CodeAccessAccept {
				t.Errorf("request %d: %v, %v", i, a.Code, err)
			}
		})
	}
	all.Wait()
	if ports.n < 3 {
		t.Errorf("%d sockets for 600 requests in flight", ports.n)
	}
}

// TestSocketCannotBeOpened fails at once and works again when sockets can be had.
func TestSocketCannotBeOpened(t *testing.T) {
	s := faultyradius.New(faultyradius.Config{Secret: string(testSecret)})
	c := oneServer(t, s, "127.0.0.1", nil)
	fail := true
	c.listen = func(local netip.AddrPort) (*net.UDPConn, error) {
		if fail {
			fail = false
			return nil, errors.New("no such address")
		}
		return listenLoopback(local)
	}
	var open *OpenError
	if _, err := c.Do(t.Context(), "all", pap("a", "b")); !errors.As(err, &open) || open.Server != "one" || open.Text != "no such address" {
		t.Fatalf("error %v", err)
	}
	if _, err := c.Do(t.Context(), "all", pap("a", "b")); !errors.As(err, &open) {
		t.Errorf("too early: %v", err)
	}
	time.Sleep(reopenMin)
	if _, err := c.Do(t.Context(), "all", pap("a", "b")); err != nil {
		t.Errorf("once it can: %v", err)
	}
}

func BenchmarkClient(b *testing.B) {
	s := faultyradius.New(faultyradius.Config{Secret: string(testSecret)})
	c := oneServer(b, s, "127.0.0.1", nil)
	b.SetParallelism(100)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Do(b.Context(), "all", pap("alice", "secret")); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}
