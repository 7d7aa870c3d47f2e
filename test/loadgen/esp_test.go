package loadgen

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
)

// The kernel tests of package test/bench check against the kernel's ESP; these, what the
// kernel never sends.

func testSA(t *testing.T) (out, in *espSA) {
	t.Helper()
	enc, auth := make([]byte, 32), make([]byte, 20)
	_, _ = rand.Read(enc)
	_, _ = rand.Read(auth)
	sa := ike.SA{SPI: 0x12345678, Cipher: ike.ESPAESCBC, Auth: ike.ESPAuthSHA1, EncKey: keymat.Secret(enc), AuthKey: keymat.Secret(auth)}
	out, err := newESP(sa)
	if err != nil {
		t.Fatal(err)
	}
	if in, err = newESP(sa); err != nil {
		t.Fatal(err)
	}
	return out, in
}

func TestESPRoundTrip(t *testing.T) {
	out, in := testSA(t)
	for n := range 100 {
		want := bytes.Repeat([]byte{byte(n)}, n)
		packet := out.seal(want)
		if spi, seq := binary.BigEndian.Uint32(packet), binary.BigEndian.Uint32(packet[4:]); spi != 0x12345678 || seq != uint32(n+1) {
			t.Fatalf("SPI %08x, sequence number %d", spi, seq)
		}
		got, err := in.open(packet)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: got %x, %v", n, got, err)
		}
	}
}

func TestESPRefuses(t *testing.T) {
	out, in := testSA(t)
	packet := out.seal([]byte("a datagram"))
	for i := range packet {
		changed := bytes.Clone(packet)
		changed[i] ^= 1
		if _, err := in.open(changed); !errors.Is(err, errICV) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	for n := range packet {
		if _, err := in.open(bytes.Clone(packet[:n])); err == nil {
			t.Errorf("the first %d bytes of %d are taken", n, len(packet))
		}
	}
}

func TestESPOnlyAsOffered(t *testing.T) {
	for _, sa := range []ike.SA{
		{Cipher: ike.ESPAESGCM},
		{Cipher: ike.ESPAESCBC, Auth: ike.ESPAuthSHA256},
		{Cipher: ike.ESPAESCBC, Auth: ike.ESPAuthSHA1, Encap: true},
		{Cipher: ike.ESPAESCBC, Auth: ike.ESPAuthSHA1, EncKey: make([]byte, 5)},
	} {
		if _, err := newESP(sa); err == nil {
			t.Errorf("taken: %+v", sa)
		}
	}
}

// TestChecksum takes the worked example of RFC 1071 section 3, and an odd length.
func TestChecksum(t *testing.T) {
	if got := checksum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}); got != ^uint16(0xddf2) {
		t.Errorf("%04x", got)
	}
	if got := checksum([]byte{0x01}); got != ^uint16(0x0100) {
		t.Errorf("odd: %04x", got)
	}
}

// TestUDPChecksum: a receiver that adds everything up gets all ones (RFC 768), unless an address has been changed; and 0, which
// would say that there is none, is never sent.
func TestUDPChecksum(t *testing.T) {
	inside, outside, server := netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("198.18.0.2"), netip.MustParseAddr("192.0.2.2")
	add := func(from netip.Addr, datagram []byte) uint16 {
		pseudo := append(from.AsSlice(), server.AsSlice()...)
		pseudo = append(pseudo, 0, 17, 0, byte(len(datagram)))
		return checksum(append(pseudo, datagram...))
	}
	for last := range 1 << 16 {
		b := []byte{0x06, 0xa5, 0x06, 0xa5, 0, 11, 0, 0, 'x', byte(last >> 8), byte(last)}
		sum := udpChecksum(inside, server, b)
		b[6], b[7] = byte(sum>>8), byte(sum)
		if sum == 0 || add(inside, b) != 0 || add(outside, b) == 0 {
			t.Fatalf("% x", b)
		}
	}
}

func TestReply(t *testing.T) {
	client, server := netip.MustParseAddr("10.9.0.7"), netip.MustParseAddr("10.9.0.1")
	// What a host does with an echo request: addresses swapped, type 0.
	answer := echo(server, client, 7, 3)
	answer[ipv4Header] = echoReply
	if checksum(answer[:ipv4Header]) != 0 {
		t.Error("checksum of the IPv4 header is wrong")
	}
	if seq, ok := reply(answer, client, 7); !ok || seq != 3 {
		t.Errorf("the reply is %d %v", seq, ok)
	}
	for what, other := range map[string]struct {
		packet []byte
		to     netip.Addr
		id     uint16
	}{
		"of another": {answer, client, 8}, "to another": {answer, server, 7}, "a request": {echo(server, client, 7, 3), client, 7},
	} {
		if _, ok := reply(other.packet, other.to, other.id); ok {
			t.Errorf("%s is taken for the reply", what)
		}
	}
	for n := range answer[:ipv4Header+icmpHeader] {
		if _, ok := reply(answer[:n], client, 7); ok {
			t.Errorf("%d bytes are taken for the reply", n)
		}
	}
}

// TestFlow: an answer counts once, and only if it has been asked for.
func TestFlow(t *testing.T) {
	f := flow{waiting: map[uint16]time.Time{1: time.Now().Add(-time.Second), 2: time.Now()}}
	for _, seq := range []uint16{1, 1, 3} {
		f.reply(seq)
	}
	if len(f.waiting) != 1 || f.answered != 1 || f.late < time.Second {
		t.Errorf("%+v", f)
	}
}

func TestAddress(t *testing.T) {
	c := Config{Sources: netip.MustParsePrefix("198.19.0.0/23")}
	for i, want := range map[int]string{0: "198.19.0.1", 254: "198.19.0.255", 255: "198.19.1.0", 510: "198.19.1.255"} {
		if a, err := c.address(i); err != nil || a.String() != want {
			t.Errorf("client %d: %v, %v; want %s", i, a, err, want)
		}
	}
	if a, err := c.address(511); !errors.Is(err, errNoAddress) {
		t.Errorf("client 511 has %v, %v", a, err)
	}
}
