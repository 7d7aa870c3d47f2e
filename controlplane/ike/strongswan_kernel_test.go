//go:build kernel

package ike

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"vrgate/test/netspace"
)

// udpServer runs an engine on real sockets, with a kernel that takes everything.
type udpServer struct {
	t      *testing.T
	mu     sync.Mutex
	e      *Engine
	conns  map[bool]*net.UDPConn // by marker
	kernel map[string]SA
	up     []ConnInfo
	down   []ConnDown
	words  []string
	record *recording // of what comes and goes, if not nil
	closed bool
}

func newUDPServer(t *testing.T, ns *netspace.Space, addr string, cfg Config) *udpServer {
	s := &udpServer{t: t, e: New(cfg, rand.Reader), conns: map[bool]*net.UDPConn{}, kernel: map[string]SA{}}
	var wg sync.WaitGroup
	for marker, port := range map[bool]int{false: 500, true: 4500} {
		err := ns.Do(func() error {
			c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(addr), Port: port})
			s.conns[marker] = c
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for marker, c := range s.conns {
		wg.Go(func() { s.read(marker, c) })
	}
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
				s.give(Timer{})
			}
		}
	})
	t.Cleanup(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		close(stop)
		for _, c := range s.conns {
			c.Close()
		}
		wg.Wait()
	})
	return s
}

func (s *udpServer) read(marker bool, c *net.UDPConn) {
	local := c.LocalAddr().(*net.UDPAddr).AddrPort()
	b := make([]byte, 65536)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		data := b[:n]
		if marker {
			if n < 4 || !bytes.Equal(data[:4], make([]byte, 4)) {
				continue
			}
			data = data[4:]
		}
		s.give(Packet{Local: local, Remote: from, Marker: marker, Data: data})
	}
}

func (s *udpServer) give(ev Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	queue := []Event{ev}
	for len(queue) > 0 {
		if p, ok := queue[0].(Packet); ok && s.record != nil {
			s.record.Messages = append(s.record.Messages, recorded{true, hex.EncodeToString(p.Data)})
		}
		fs := s.e.Step(time.Now(), queue[0])
		queue = queue[1:]
		for _, f := range fs {
			switch f := f.(type) {
			case Send:
				data := f.Data
				if s.record != nil {
					s.record.Messages = append(s.record.Messages, recorded{false, hex.EncodeToString(data)})
				}
				if f.Marker {
					data = append(make([]byte, 4), data...)
				}
				if _, err := s.conns[f.Marker].WriteToUDPAddrPort(data, f.Remote); err != nil {
					s.t.Errorf("send: %v", err)
				}
			case ComputeDH:
				d := computeDH(f)
				if s.record != nil && f.Unauthenticated {
					s.record.Private = hex.EncodeToString(d.Pair.Private)
				}
				queue = append(queue, d)
			case InstallSA:
				s.kernel[saKey(f.SA.Dir, f.SA.SPI, f.SA.Remote.Addr())] = f.SA
				queue = append(queue, SAInstalled{Conn: f.SA.Conn, SPI: f.SA.SPI, Dir: f.SA.Dir})
			case RemoveSA:
				delete(s.kernel, saKey(f.Dir, f.SPI, f.Remote))
			case ConnUp:
				s.up = append(s.up, f.Conn)
			case ConnDown:
				s.down = append(s.down, f)
			case Report:
				s.words = append(s.words, fmt.Sprintf("%d %s: %s", f.Level, f.Reason, f.Text))
			}
		}
	}
}

// until waits for something about the engine.
func (s *udpServer) until(what string, ok func() bool) bool {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		s.mu.Lock()
		yes := ok()
		s.mu.Unlock()
		if yes {
			return true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.Errorf("not within 20 s: %s\nup %+v\ndown %+v\n%s", what, s.up, s.down, strings.Join(s.words, "\n"))
	return false
}

// swan is strongSwan in a namespace.
type swan struct {
	t   *testing.T
	ns  *netspace.Space
	dir string
}

func startSwan(t *testing.T, ns *netspace.Space) *swan {
	w := &swan{t: t, ns: ns, dir: t.TempDir()}
	settings := fmt.Sprintf(`charon {
	load = random nonce des md5 openssl gmp curve25519 pem pkcs1 hmac kdf kernel-netlink socket-default vici
	install_routes = no
	fragment_size = 280
	plugins { vici { socket = unix://%[1]s/vici } }
	filelog { file { path = %[1]s/log
		default = 2 } }
}
swanctl { load = random pem pkcs1 openssl }
`, w.dir)
	if err := os.WriteFile(filepath.Join(w.dir, "strongswan.conf"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/lib/ipsec/charon")
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+filepath.Join(w.dir, "strongswan.conf"))
	if err := ns.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // charon's status says nothing
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(w.dir, "log"))
			t.Logf("%s", log)
		}
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("unix", filepath.Join(w.dir, "vici")); err == nil {
			c.Close()
			return w
		}
		if time.Now().After(end) {
			t.Fatal("charon does not start")
		}
	}
}

// ctl runs swanctl.
func (w *swan) ctl(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "swanctl", append(args, "--uri", "unix://"+w.dir+"/vici")...)
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+filepath.Join(w.dir, "strongswan.conf"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// connection loads the only connection.
func (w *swan) connection(ike, esp string, more ...string) {
	w.t.Helper()
	conf := fmt.Sprintf(`connections { vpn {
	version = 1
	remote_addrs = 10.9.0.1
	proposals = %s
	%s
	local { auth = psk }
	remote { auth = psk }
	children { l2tp {
		mode = transport
		local_ts = dynamic[17/1701]
		remote_ts = dynamic[17/1701]
		esp_proposals = %s
	} }
} }
secrets { ike { secret = %q } }
`, ike, strings.Join(more, "\n\t"), esp, groupKey.Key.Reveal())
	file := filepath.Join(w.dir, "swanctl.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if out, err := w.ctl("--load-all", "--file", file); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
}

var xfrmKey = regexp.MustCompile(`0x[0-9a-f]{16,}`)

// keys are the SAs of strongSwan's kernel: by SPI, the keys in hexadecimal.
func (w *swan) keys() map[string][]string {
	out := map[string][]string{}
	spi := ""
	for _, line := range strings.Split(w.ns.Run(w.t, "ip", "xfrm", "state"), "\n") {
		if _, rest, ok := strings.Cut(line, " spi 0x"); ok {
			spi, _, _ = strings.Cut(rest, " ")
		} else if k := xfrmKey.FindString(line); k != "" {
			out[spi] = append(out[spi], k[2:])
		}
	}
	return out
}

// agreeSwan compares every SA of the engine with strongSwan's kernel.
func (w *swan) agreeSwan(s *udpServer) {
	w.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	theirs := w.keys()
	if len(s.kernel) < 2 {
		w.t.Errorf("%d SAs", len(s.kernel))
	}
	for _, sa := range s.kernel {
		got := strings.Join(theirs[fmt.Sprintf("%08x", sa.SPI)], " ")
		for _, k := range [][]byte{sa.EncKey.Reveal(), sa.AuthKey.Reveal()} {
			if !strings.Contains(got, hex.EncodeToString(k)) {
				w.t.Errorf("SA %08x: keys differ from strongSwan's", sa.SPI)
			}
		}
	}
}

// TestStrongSwan has a real client connect with many proposals, rekey from both
// sides, be asked whether it lives, and leave.
//
//runner:once
func TestStrongSwan(t *testing.T) {
	if _, err := os.Stat("/usr/lib/ipsec/charon"); err != nil {
		t.Fatal(err)
	}
	server, client := netspace.New(t), netspace.New(t)
	netspace.Connect(t, "eth0", server, "10.9.0.1/24", client, "10.9.0.2/24")
	w := startSwan(t, client)
	run := func(name, ike, esp string, more []string, f func(t *testing.T, s *udpServer) (closed bool)) {
		t.Run(name, func(t *testing.T) {
			w.t = t
			s := newUDPServer(t, server, "10.9.0.1", at(testConfig(t, ProfileLegacy, groupKey), "10.9.0.1"))
			if name == "fragments" {
				s.e.cfg.MaxFragment = 200 // of ours too
			}
			w.connection(ike, esp, more...)
			if dir := os.Getenv("IKE_RECORD"); dir != "" {
				s.record = &recording{Origin: "strongSwan 5.9.8, " + ike + ", " + esp, PSK: string(groupKey.Key)}
				defer s.save(filepath.Join(dir, "strongswan-"+name+".json"))
			}
			if out, err := w.ctl("--initiate", "--child", "l2tp"); err != nil {
				t.Fatalf("%v: %s\n%s", err, out, strings.Join(s.words, "\n"))
			}
			if s.until("up", func() bool { return len(s.up) == 1 }) {
				w.agreeSwan(s)
				if s.record != nil {
					s.record.SAs = w.keys()
				}
				t.Logf("%s, %s", s.up[0].Proposal, s.up[0].ESP)
			}
			if f != nil && f(t, s) {
				return
			}
			if out, err := w.ctl("--terminate", "--ike", "vpn"); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			if s.until("down", func() bool { return len(s.down) == 1 && len(s.kernel) == 0 }) && s.down[0].Reason != ReasonPeerDelete {
				t.Errorf("down: %+v", s.down[0])
			}
		})
	}
	run("modp2048", "aes256-sha1-modp2048", "aes256-sha1", nil, nil)
	run("ecp256", "aes256-sha256-ecp256", "aes256gcm16", nil, nil)
	run("ecp384", "aes192-sha384-ecp384", "aes192-sha384", nil, nil)
	run("ecp521", "aes128-sha512-ecp521", "aes128-sha512", nil, nil)
	run("curve25519", "aes256-sha256-curve25519", "aes256-sha256", nil, nil)
	run("modp3072-pfs", "aes256-sha256-modp3072", "aes256-sha256-modp2048", nil, nil)
	run("modp4096", "aes256-sha256-modp4096", "aes128gcm16-ecp256", nil, nil)
	run("3des", "3des-md5-modp1024", "3des-md5", nil, nil)
	run("modp1536", "3des-sha1-modp1536", "3des-sha1", nil, nil)
	run("encap", "aes256-sha1-modp2048", "aes256-sha1", []string{"encap = yes"}, func(t *testing.T, s *udpServer) bool {
		if !s.up[0].Encap || s.up[0].Local.Port() != 4500 {
			t.Errorf("up %+v", s.up[0])
		}
		return false
	})
	run("fragments", "aes256-sha1-modp2048", "aes256-sha1,aes128-sha1,aes256-sha256,aes128-sha256,aes256gcm16,aes128gcm16,3des-sha1", []string{"fragmentation = force"}, nil)
	run("rekeys", "aes256-sha256-ecp256", "aes256-sha256", []string{"dpd_delay = 2s"}, func(t *testing.T, s *udpServer) bool {
		step := func(what string, count Reason, do func()) {
			before := s.e.counters[count]
			do()
			if s.until(what, func() bool { return s.e.counters[count] > before && s.e.conns[s.up[0].ID].current() != nil }) {
				w.agreeNewest(s)
			}
		}
		step("phase 2 by strongSwan", CountChildRekey, func() { _, _ = w.ctl("--rekey", "--child", "l2tp") })
		step("phase 2 by us", CountChildRekey, func() { s.give(Rekey{Conn: s.up[0].ID}) })
		step("phase 1 by strongSwan", CountPhase1Rekey, func() { _, _ = w.ctl("--rekey", "--ike", "vpn", "--reauth") })
		step("phase 1 by us", CountPhase1Rekey, func() { s.give(Rekey{Conn: s.up[0].ID, Phase1: true}) })
		step("phase 2 by us again", CountChildRekey, func() { s.give(Rekey{Conn: s.up[0].ID}) })
		time.Sleep(5 * time.Second) // strongSwan asks whether we live
		if len(s.down) != 0 {
			t.Errorf("down %+v", s.down)
		}
		s.give(CloseConn{Conn: s.up[0].ID, Reason: ReasonOperator})
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && len(w.keys()) > 0; time.Sleep(100 * time.Millisecond) {
		}
		if k := w.keys(); len(k) != 0 {
			out, _ := w.ctl("--list-sas")
			t.Errorf("strongSwan keeps %d SAs after our deletes\n%s", len(k), out)
		}
		return true
	})
}

// agreeNewest compares the SA that carries the traffic.
func (w *swan) agreeNewest(s *udpServer) {
	w.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	theirs := w.keys()
	ch := s.e.conns[s.up[0].ID].current()
	for _, sa := range []SA{ch.In, ch.Out} {
		if !strings.Contains(strings.Join(theirs[fmt.Sprintf("%08x", sa.SPI)], " "), hex.EncodeToString(sa.EncKey.Reveal())) {
			w.t.Errorf("SA %08x is not strongSwan's", sa.SPI)
		}
	}
}

// save writes the recording of a handshake for TestRecorded.
func (s *udpServer) save(file string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := json.MarshalIndent(s.record, "", " ")
	if err == nil {
		err = os.WriteFile(file, b, 0o644)
	}
	if err != nil {
		s.t.Error(err)
	}
}
