package loadgen

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

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

func TestIsReply(t *testing.T) {
	client, server := netip.MustParseAddr("10.9.0.7"), netip.MustParseAddr("10.9.0.1")
	// What a host does with an echo request: addresses swapped, type 0.
	reply := echo(server, client, 7, 3)
	reply[ipv4Header] = echoReply
	if checksum(reply[:ipv4Header]) != 0 {
		t.Error("checksum of the IPv4 header is wrong")
	}
	if !isReply(reply, client, 7, 3) {
		t.Error("the reply is not recognised")
	}
	if isReply(reply, client, 7, 2) || isReply(reply, client, 8, 3) || isReply(reply, server, 7, 3) || isReply(echo(server, client, 7, 3), client, 7, 3) {
		t.Error("something else is taken for the reply")
	}
	for n := range reply[:ipv4Header+icmpHeader] {
		if isReply(reply[:n], client, 7, 3) {
			t.Errorf("%d bytes are taken for the reply", n)
		}
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
