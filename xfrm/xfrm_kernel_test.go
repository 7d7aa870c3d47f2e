//go:build kernel

package xfrm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrgate/test/netspace"
)

const (
	serverAddr = "192.0.2.1"
	clientAddr = "192.0.2.2"
	otherAddr  = "192.0.2.3" // the client's after its NAT moved it
)

func openKernel(t *testing.T, s *netspace.Space) *Kernel {
	t.Helper()
	k, err := Open(s.NetNS())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func listIDs(t *testing.T, k *Kernel) []ID {
	t.Helper()
	list, err := k.List()
	if err != nil {
		t.Fatal(err)
	}
	var ids []ID
	for _, s := range list {
		ids = append(ids, s.ID)
	}
	slices.SortFunc(ids, func(a, b ID) int { return int(a.SPI) - int(b.SPI) })
	return ids
}

// TestAlgorithms installs every algorithm with every key length and has
// iproute2 tell what the kernel understood.
func TestAlgorithms(t *testing.T) {
	space := netspace.New(t)
	k := openKernel(t, space)
	conn := uint32(1)
	for e, c := range ciphers {
		for i, m := range macs {
			for _, keyLen := range c.keys {
				in, out := pair(conn, serverAddr, clientAddr, &Encap{4500, 40001})
				for _, sa := range []*SA{&in, &out} {
					sa.Encryption, sa.EncryptionKey = e, slices.Repeat(Key{1, 2, 4, 8, 16, 32}, 6)[:keyLen]
					sa.Integrity, sa.IntegrityKey = i, make(Key, m.key)
					if c.aead {
						sa.Integrity, sa.IntegrityKey = IntegrityNone, nil
					}
				}
				if err := k.AddPair(in, out); err != nil {
					t.Fatalf("%v/%v/%d: %v", e, i, keyLen, err)
				}
				got, err := k.Lookup(in.ID())
				if err != nil || got.Encryption != e || got.Integrity != in.Integrity || got.SetMark != in.SetMark ||
					got.ReplayWindow != DefaultReplayWindow || got.SrcPort != 40001 || got.DstPort != 4500 ||
					got.SoftSeconds != in.SoftSeconds || got.HardBytes != in.HardBytes || got.Selector != in.Selector || got.Mode != Transport {
					t.Errorf("%v/%v/%d: %+v, %v", e, i, keyLen, got, err)
				}
				text := space.Run(t, "ip", "-s", "xfrm", "state", "get", "src", clientAddr, "dst", serverAddr, "proto", "esp", "spi", fmt.Sprint(in.SPI))
				want := []string{c.name, fmt.Sprintf("reqid %d", in.Reqid), "type espinudp sport 40001 dport 4500", fmt.Sprintf("output-mark 0x%x", in.SetMark)}
				if !c.aead {
					want = append(want, m.name, fmt.Sprintf("%d", m.truncBits))
				}
				for _, w := range want {
					if !strings.Contains(text, w) {
						t.Errorf("%v/%v/%d: no %q in\n%s", e, i, keyLen, w, text)
					}
				}
				conn++
				if c.aead {
					break
				}
			}
		}
	}
	if n, err := k.Flush(); err != nil || n != 2*int(conn-1) {
		t.Errorf("Flush removed %d SAs, want %d: %v", n, 2*(conn-1), err)
	}
	if text := space.Run(t, "ip", "xfrm", "state"); text != "" {
		t.Errorf("left: %s", text)
	}
}

func TestAddTwiceRemoveTwice(t *testing.T) {
	k := openKernel(t, netspace.New(t))
	in, out := pair(1, "2001:db8::1", "2001:db8::2", nil)
	if err := k.AddPair(in, out); err != nil {
		t.Fatal(err)
	}
	if err := k.Add(in); !errors.Is(err, ErrExists) {
		t.Errorf("second Add: %v", err)
	}
	if got, want := listIDs(t, k), []ID{in.ID(), out.ID()}; !slices.Equal(got, want) {
		t.Errorf("List: %v, want %v", got, want)
	}
	for range 2 {
		if err := errors.Join(k.Remove(in.ID()), k.Remove(out.ID())); err != nil {
			t.Error(err)
		}
	}
	if _, err := k.Counters(in.ID()); !errors.Is(err, ErrNotFound) {
		t.Errorf("counters of a removed SA: %v", err)
	}
	if err := k.Update(in, in); !errors.Is(err, ErrNotFound) {
		t.Errorf("update of a removed SA: %v", err)
	}
	// A pair whose second half cannot be installed leaves no first half.
	if err := k.Add(out); err != nil {
		t.Fatal(err)
	}
	if err := k.AddPair(in, out); !errors.Is(err, ErrExists) {
		t.Errorf("AddPair over an existing SA: %v", err)
	}
	if got, want := listIDs(t, k), []ID{out.ID()}; !slices.Equal(got, want) {
		t.Errorf("List: %v, want %v", got, want)
	}
}

// TestFlushOf: the SAs of another virtual router in the same namespace stay.
func TestFlushOf(t *testing.T) {
	k := openKernel(t, netspace.New(t))
	in, out := pair(1, serverAddr, clientAddr, nil)
	nin, nout := pair(2, otherAddr, clientAddr, nil)
	if err := errors.Join(k.AddPair(in, out), k.AddPair(nin, nout)); err != nil {
		t.Fatal(err)
	}
	if n, err := k.FlushOf(netip.MustParseAddr(serverAddr), netip.MustParseAddr("192.0.2.99")); n != 2 || err != nil {
		t.Errorf("FlushOf: %d, %v", n, err)
	}
	if got, want := listIDs(t, k), []ID{nin.ID(), nout.ID()}; !slices.Equal(got, want) {
		t.Errorf("left %v, want %v", got, want)
	}
}

// TestFlushSparesOthers: what has no tag of ours stays (A8).
func TestFlushSparesOthers(t *testing.T) {
	space := netspace.New(t)
	k := openKernel(t, space)
	space.Run(t, "ip", "xfrm", "state", "add", "src", clientAddr, "dst", serverAddr, "proto", "esp", "spi", "0x999", "reqid", "7", "mode", "transport",
		"aead", "rfc4106(gcm(aes))", "0x"+strings.Repeat("11", 20), "128")
	for i, reqid := range []uint32{7, Tag(9)} {
		for _, dir := range []string{"in", "out", "fwd"} {
			space.Run(t, "ip", "xfrm", "policy", "add", "src", "10.0.0.0/24", "dst", fmt.Sprintf("10.1.%d.0/24", i), "dir", dir,
				"tmpl", "src", clientAddr, "dst", serverAddr, "proto", "esp", "reqid", fmt.Sprint(reqid), "mode", "tunnel")
		}
	}
	in, out := pair(9, serverAddr, clientAddr, nil)
	if err := k.AddPair(in, out); err != nil {
		t.Fatal(err)
	}
	if n, err := k.Flush(); n != 2 || err != nil {
		t.Errorf("Flush: %d, %v", n, err)
	}
	if n, err := k.FlushPolicies(); n != 3 || err != nil {
		t.Errorf("FlushPolicies: %d, %v", n, err)
	}
	states, policies := space.Run(t, "ip", "xfrm", "state"), space.Run(t, "ip", "xfrm", "policy")
	if strings.Count(states, "spi ") != 1 || !strings.Contains(states, "0x00000999") {
		t.Errorf("SAs:\n%s", states)
	}
	if strings.Count(policies, "10.1.0.0/24") != 3 || strings.Contains(policies, "10.1.1.0/24") {
		t.Errorf("policies:\n%s", policies)
	}
	// Another Kernel of the same namespace, as of a process that starts after a
	// crash, sees the same.
	if err := k.AddPair(in, out); err != nil {
		t.Fatal(err)
	}
	if n, err := openKernel(t, space).Flush(); n != 2 || err != nil {
		t.Errorf("Flush by a successor: %d, %v", n, err)
	}
}

func TestHashThresholds(t *testing.T) {
	space := netspace.New(t)
	k := openKernel(t, space)
	for i := range 2 { // the second time nothing is left to do
		if set, err := k.hashThresholds(); set != (i > 0) || err != nil {
			t.Errorf("call %d finds them set: %t, %v", i, set, err)
		}
		if err := SetHashThresholds(space.NetNS()); err != nil {
			t.Fatal(err)
		}
	}
	text := space.Run(t, "ip", "-s", "-s", "xfrm", "policy", "count")
	for _, want := range []string{"IPv4 thresholds: local 0 remote 32", "IPv6 thresholds: local 0 remote 128"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestConcurrent(t *testing.T) {
	space := netspace.New(t)
	k := openKernel(t, space)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 32 {
				in, out := pair(uint32(1+w*100+i), serverAddr, clientAddr, &Encap{4500, 40001})
				err := k.AddPair(in, out)
				if _, cerr := k.Counters(in.ID()); err == nil {
					err = cerr
				}
				if i%2 == 0 {
					err = errors.Join(err, k.Remove(in.ID()), k.Remove(out.ID()))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n, err := k.Flush(); n != 16*32 || err != nil {
		t.Errorf("Flush: %d, %v", n, err)
	}
}

// network is a server and a client namespace with events being watched.
type network struct {
	server, client *netspace.Space
	kernel, peer   *Kernel
	events         chan Event
}

func newNetwork(t *testing.T) *network {
	n := &network{server: netspace.New(t), client: netspace.New(t), events: make(chan Event, 1000)}
	netspace.Connect(t, "wan0", n.server, serverAddr+"/24", n.client, clientAddr+"/24")
	n.client.Run(t, "ip", "addr", "add", otherAddr+"/24", "dev", "wan0")
	n.kernel, n.peer = openKernel(t, n.server), openKernel(t, n.client)
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- n.kernel.Watch(ctx, func() { close(ready) }, func(e Event) { n.events <- e }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch: %v", err)
		}
	})
	return n
}

// event waits for the next event.
func (n *network) event(t *testing.T, within time.Duration) Event {
	t.Helper()
	select {
	case e := <-n.events:
		return e
	case <-time.After(within):
		t.Fatalf("no event within %v", within)
		return nil
	}
}

// expiry waits for the next event, which must be an expiry of sa with at least so many bytes counted.
func (n *network) expiry(t *testing.T, within time.Duration, sa SA, hard bool, bytes uint64) {
	t.Helper()
	e, ok := n.event(t, within).(Expire)
	if !ok || e.ID != sa.ID() || e.Reqid != sa.Reqid || e.Hard != hard || e.Counters.Bytes < bytes {
		t.Errorf("event %+v, want expiry of %v, hard %v, %d bytes or more", e, sa.ID(), hard, bytes)
	}
}

func (n *network) quiet(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case e := <-n.events:
		t.Errorf("unexpected event %+v", e)
	case <-time.After(d):
	}
}

// socket is a UDP socket of a namespace. With reqid it has socket policies that
// want the SAs of that reqid, as package vr makes them.
func socket(t *testing.T, s *netspace.Space, local string, port int, encap bool, reqid uint32) int {
	t.Helper()
	fd := -1
	err := s.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrInet4{Addr: netip.MustParseAddr(local).As4(), Port: port})
	})
	if err == nil && encap {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_ENCAP, encapESPinUDP)
	}
	for dir := 0; reqid != 0 && err == nil && dir < 2; dir++ {
		p := make([]byte, sizePolicyInfo+sizeTemplate)
		native.PutUint16(p[40:], unix.AF_INET)
		for i := range 4 {
			native.PutUint64(p[56+8*i:], unlimited)
		}
		p[offPolicyDir] = byte(dir)
		tmpl := p[sizePolicyInfo:]
		tmpl[20] = unix.IPPROTO_ESP
		native.PutUint16(tmpl[24:], unix.AF_INET)
		native.PutUint32(tmpl[offTemplateReqid:], reqid)
		for i := range 3 {
			native.PutUint32(tmpl[52+4*i:], 0xffffffff)
		}
		err = unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_XFRM_POLICY, string(p))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	tv := unix.NsecToTimeval(int64(2 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		t.Fatal(err)
	}
	return fd
}

func send(t *testing.T, fd int, to string, port, size int) error {
	t.Helper()
	return unix.Sendto(fd, make([]byte, size), 0, &unix.SockaddrInet4{Addr: netip.MustParseAddr(to).As4(), Port: port})
}

func mustSend(t *testing.T, fd int, to string, port, size int) {
	t.Helper()
	if err := send(t, fd, to, port, size); err != nil {
		t.Fatal(err)
	}
}

func receive(fd int) error {
	_, _, err := unix.Recvfrom(fd, make([]byte, 2000), 0)
	return err
}

// install puts a pair into the server and its mirror image into the client.
func (n *network) install(t *testing.T, in, out SA) {
	t.Helper()
	cin, cout := mirror(out), mirror(in)
	cin.SoftBytes, cin.HardBytes, cin.SoftSeconds, cin.HardSeconds = 0, 0, 0, 0
	cout.SoftBytes, cout.HardBytes, cout.SoftSeconds, cout.HardSeconds = 0, 0, 0, 0
	if err := errors.Join(n.kernel.AddPair(in, out), n.peer.AddPair(cin, cout)); err != nil {
		t.Fatal(err)
	}
}

// TestByteLifetime: real traffic wears an SA out.
func TestByteLifetime(t *testing.T) {
	n := newNetwork(t)
	in, out := pair(1, serverAddr, clientAddr, nil)
	in.SoftBytes, in.HardBytes = 2000, 5000
	n.install(t, in, out)
	server := socket(t, n.server, serverAddr, 1701, false, in.Reqid)
	client := socket(t, n.client, clientAddr, 1701, false, in.Reqid)
	for range 4 {
		mustSend(t, client, serverAddr, 1701, 500)
		if err := receive(server); err != nil {
			t.Fatal(err)
		}
	}
	c, err := n.kernel.Counters(in.ID())
	if err != nil || c.Packets != 4 || c.Bytes < 2000 || c.Bytes > 2200 || c.Sequence != 4 || time.Since(c.Added).Abs() > time.Minute {
		t.Errorf("counters %+v, %v", c, err)
	}
	// Each packet is checked against what was counted before it.
	n.quiet(t, 100*time.Millisecond)
	mustSend(t, client, serverAddr, 1701, 500)
	n.expiry(t, 5*time.Second, in, false, 2000)
	for range 8 {
		mustSend(t, client, serverAddr, 1701, 500)
	}
	n.expiry(t, 5*time.Second, in, true, 5000)
	if _, err := n.kernel.Lookup(in.ID()); !errors.Is(err, ErrNotFound) {
		t.Errorf("after hard expiry: %v", err)
	}
	if _, err := n.kernel.Lookup(out.ID()); err != nil {
		t.Errorf("the other SA: %v", err)
	}
	// Without the outbound SA nothing leaves, in clear least of all.
	if err := n.kernel.Remove(out.ID()); err != nil {
		t.Fatal(err)
	}
	if err := send(t, server, clientAddr, 1701, 10); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("send without SA: %v", err)
	}
}

func TestTimeLifetime(t *testing.T) {
	n := newNetwork(t)
	in, out := pair(1, serverAddr, clientAddr, &Encap{4500, 40001})
	in.SoftSeconds, in.HardSeconds = 1, 3
	start := time.Now()
	n.install(t, in, out)
	foreign := "0x777" // another's SA expires too, and is none of our business
	n.server.Run(t, "ip", "xfrm", "state", "add", "src", clientAddr, "dst", serverAddr, "proto", "esp", "spi", foreign, "reqid", "7", "mode", "transport",
		"aead", "rfc4106(gcm(aes))", "0x"+strings.Repeat("11", 20), "128", "limit", "time-hard", "2")
	for _, hard := range []bool{false, true} {
		n.expiry(t, 10*time.Second, in, hard, 0)
	}
	if d := time.Since(start); d < time.Second {
		t.Errorf("hard expiry after %v", d)
	}
	if got, want := listIDs(t, n.kernel), []ID{out.ID()}; !slices.Equal(got, want) {
		t.Errorf("left %v, want %v", got, want)
	}
}

// TestMapping: the client's NAT first gives it another port, then another
// address; each is reported once, Update follows, and the SAs go on.
func TestMapping(t *testing.T) {
	n := newNetwork(t)
	in, out := pair(1, serverAddr, clientAddr, &Encap{LocalPort: 4500, RemotePort: 40001})
	in.Selector, out.Selector = Selector{Proto: 17}, Selector{}
	n.install(t, in, out)
	socket(t, n.server, serverAddr, 4500, true, 0)
	server := socket(t, n.server, serverAddr, 1701, false, in.Reqid)
	client := socket(t, n.client, clientAddr, 1701, false, in.Reqid)
	exchange := func(from int, back string) {
		t.Helper()
		for range 3 {
			mustSend(t, from, serverAddr, 1701, 100)
			if err := receive(server); err != nil {
				t.Fatalf("to the server: %v", err)
			}
		}
		mustSend(t, server, back, 1701, 100)
		if err := receive(from); err != nil {
			t.Fatalf("to the client: %v", err)
		}
	}
	socket(t, n.client, clientAddr, 40001, true, 0)
	exchange(client, clientAddr)
	n.quiet(t, 100*time.Millisecond)

	// Another port. The client's kernel plays the NAT: its outbound SA gets the
	// new source port, its inbound one the new destination port.
	cin, cout := mirror(out), mirror(in)
	ncin, ncout := cin, cout
	ncin.Encap, ncout.Encap = &Encap{40002, 4500}, &Encap{40002, 4500}
	socket(t, n.client, clientAddr, 40002, true, 0)
	if err := errors.Join(n.peer.Update(cin, ncin), n.peer.Update(cout, ncout)); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		mustSend(t, client, serverAddr, 1701, 100)
		if err := receive(server); err != nil {
			t.Fatal(err)
		}
	}
	want := Mapping{
		ID: in.ID(), Reqid: in.Reqid,
		Old: netip.MustParseAddrPort(clientAddr + ":40001"), New: netip.MustParseAddrPort(clientAddr + ":40002"),
	}
	if e := n.event(t, 5*time.Second); e != want {
		t.Errorf("event %+v, want %+v", e, want)
	}
	n.quiet(t, 200*time.Millisecond)
	nin, nout := in, out
	nin.Encap, nout.Encap = &Encap{4500, 40002}, &Encap{4500, 40002}
	if err := errors.Join(n.kernel.Update(in, nin), n.kernel.Update(out, nout)); err != nil {
		t.Fatal(err)
	}
	exchange(client, clientAddr)
	n.quiet(t, 200*time.Millisecond)
	if s, err := n.kernel.Lookup(in.ID()); err != nil || s.SrcPort != 40002 || s.SetMark != in.SetMark || s.Counters.Packets != 11 {
		t.Errorf("after the port change: %+v, %v", s, err)
	}

	// Another address.
	mcin, mcout := ncin, ncout
	mcin.Local, mcout.Local = netip.MustParseAddr(otherAddr), netip.MustParseAddr(otherAddr)
	for _, c := range [][2]SA{{ncin, mcin}, {ncout, mcout}} { // Update does not move our own address
		s, err := n.peer.Lookup(c[0].ID())
		if err == nil {
			err = n.peer.Remove(c[0].ID())
		}
		if err == nil {
			err = n.peer.add(&c[1], &s)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	socket(t, n.client, otherAddr, 40002, true, 0)
	moved := socket(t, n.client, otherAddr, 1701, false, in.Reqid)
	want.Old, want.New = want.New, netip.MustParseAddrPort(otherAddr+":40002")
	// The port is the one that was reported last, so the kernel waits.
	var e Event
	for range 100 {
		mustSend(t, moved, serverAddr, 1701, 100)
		if err := receive(server); err != nil {
			t.Fatal(err)
		}
		select {
		case e = <-n.events:
		case <-time.After(100 * time.Millisecond):
			continue
		}
		break
	}
	if e != want {
		t.Errorf("event %+v, want %+v", e, want)
	}
	before, err := n.kernel.Lookup(in.ID())
	if err != nil {
		t.Fatal(err)
	}
	min, mout := nin, nout
	min.Remote, mout.Remote = netip.MustParseAddr(otherAddr), netip.MustParseAddr(otherAddr)
	if err := errors.Join(n.kernel.Update(nin, min), n.kernel.Update(nout, mout)); err != nil {
		t.Fatal(err)
	}
	after, err := n.kernel.Lookup(in.ID())
	if err != nil || after.replay.in != before.replay.in || !slices.Equal(after.replay.bitmap, before.replay.bitmap) ||
		after.Counters.Packets != before.Counters.Packets || !after.Counters.Added.Equal(before.Counters.Added) || after.SetMark != in.SetMark {
		t.Errorf("moved SA is\n%+v, was\n%+v, %v", after, before, err)
	}
	if o, err := n.kernel.Lookup(mout.ID()); err != nil || o.replay.out < sequenceGap {
		t.Errorf("moved outbound SA: %+v, %v", o, err)
	}
	exchange(moved, otherAddr)
	n.quiet(t, 200*time.Millisecond)
	if got, want := listIDs(t, n.kernel), []ID{min.ID(), mout.ID()}; !slices.Equal(got, want) {
		t.Errorf("left %v, want %v", got, want)
	}
}

// TestReplayAndForgery: what the counters of an SA are for.
func TestReplayAndForgery(t *testing.T) {
	n := newNetwork(t)
	in, out := pair(1, serverAddr, clientAddr, nil)
	n.install(t, in, out)
	server := socket(t, n.server, serverAddr, 1701, false, in.Reqid)
	client := socket(t, n.client, clientAddr, 1701, false, in.Reqid)
	for range 10 {
		mustSend(t, client, serverAddr, 1701, 100)
	}
	// The same sequence numbers once more: the client forgets its state.
	cout := mirror(in)
	if err := errors.Join(n.peer.Remove(cout.ID()), n.peer.Add(cout)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		mustSend(t, client, serverAddr, 1701, 100)
	}
	// Another key.
	forged := cout
	forged.IntegrityKey = make(Key, len(cout.IntegrityKey))
	state := State{replay: replayState{out: 1000}}
	if err := errors.Join(n.peer.Remove(cout.ID()), n.peer.add(&forged, &state)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		mustSend(t, client, serverAddr, 1701, 100)
	}
	got := 0
	for receive(server) == nil {
		got++
	}
	c, err := n.kernel.Counters(in.ID())
	if err != nil || got != 10 || c.Packets != 10 || c.Replay != 3 || c.IntegrityFailed != 2 {
		t.Errorf("received %d, counters %+v, %v", got, c, err)
	}
}

// TestLostEvents: when more happens than the socket's buffer holds, the watcher
// is told to look for itself.
func TestLostEvents(t *testing.T) {
	const connections = 100
	k := openKernel(t, netspace.New(t))
	k.watchBuffer = 4096
	ctx, cancel := context.WithCancel(context.Background())
	ready, hold, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var resyncs, expires int
	resync := make(chan struct{}, connections)
	go func() {
		done <- k.Watch(ctx, func() { close(ready) }, func(e Event) {
			<-hold
			switch e.(type) {
			case Resync:
				resyncs++
				resync <- struct{}{}
			case Expire:
				expires++
			}
		})
	}()
	<-ready
	for conn := range uint32(connections) {
		in, _ := pair(conn+1, serverAddr, clientAddr, nil)
		in.SoftSeconds, in.HardSeconds = 1, 2
		if err := k.Add(in); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		if len(listIDs(t, k)) == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	close(hold)
	select {
	case <-resync:
	case <-time.After(10 * time.Second):
		t.Error("no Resync")
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if resyncs == 0 || expires >= 2*connections {
		t.Errorf("%d resyncs, %d of %d expiries seen", resyncs, expires, 2*connections)
	}
}
