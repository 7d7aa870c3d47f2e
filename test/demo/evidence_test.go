package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// xfrmText is from iproute2 6.1, shortened.
const xfrmText = `src 192.0.2.2 dst 198.18.0.2
	proto esp spi 0xceaf7618(3467605528) reqid 294769050(0x1191d19a) mode transport
	enc cbc(aes) <<Keys hidden>>
	sel src 192.0.2.2/32 dst 0.0.0.0/0 proto 17 uid 0
	lifetime config:
	  limit: soft 3958241858560(bytes), hard 4398046510080(bytes)
	  limit: soft (INF)(packets), hard (INF)(packets)
	lifetime current:
	  898(bytes), 18(packets)
	  add 2026-11-21 21:49:27 use 2026-11-21 21:49:27
src 198.18.0.2 dst 192.0.2.2
	proto esp spi 0x6001035e(1610679134) reqid 292742505(0x1172e569) mode transport
	output-mark 0x1172e569/0xffffffff
	lifetime current:
	  9355968(bytes), 7788(packets)
`

func TestParseSAs(t *testing.T) {
	got, err := parseSAs(xfrmText)
	want := []sa{
		{src: "192.0.2.2", dst: "198.18.0.2", spi: "0xceaf7618", bytes: 898, packets: 18},
		{src: "198.18.0.2", dst: "192.0.2.2", spi: "0x6001035e", bytes: 9355968, packets: 7788},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(sa{})); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
	if got, err := parseSAs(""); err != nil || len(got) != 0 {
		t.Errorf("no SAs: %v, %v", got, err)
	}
	if _, err := parseSAs("src 192.0.2.2 dst 198.18.0.2\n\t99999999999999999999(bytes), 1(packets)\n"); err == nil {
		t.Error("a count of 67 bits was taken")
	}
}

func TestParseLinks(t *testing.T) {
	got, err := parseLinks(`[{"ifname":"vg1","stats64":{"rx":{"bytes":330,"packets":8},"tx":{"bytes":304,"packets":7}}},{},` +
		`{"ifname":"vg0","stats64":{"rx":{"bytes":3,"packets":1},"tx":{"bytes":4,"packets":2}}}]`)
	if err != nil || len(got) != 2 || got["vg1"].Stats.RX.Bytes != 330 || got["vg0"].Stats.TX.Bytes != 4 {
		t.Errorf("%+v, %v", got, err)
	}
	if n := packets(got); n != 18 {
		t.Errorf("%d packets, want 18", n)
	}
	if got, err := parseLinks("\n"); err != nil || len(got) != 0 {
		t.Errorf("no interfaces: %v, %v", got, err)
	}
	if _, err := parseLinks("Device does not exist"); err == nil {
		t.Error("words were taken for JSON")
	}
}

func TestParseCalls(t *testing.T) {
	const table = `    calls syscall
--------- ------------------
       33 futex
        3 read
        2 sendto
        7 epoll_pwait
--------- ------------------
       45 total
`
	moved, err := parseCalls(table)
	if err != nil || moved != 5 {
		t.Errorf("%d, %v; want the reads and sends, 5", moved, err)
	}
	for _, bad := range []string{"", "       33 futex\n       34 total\n", "       33 futex\n"} {
		if n, err := parseCalls(bad); err == nil {
			t.Errorf("%q: %d calls", bad, n)
		}
	}
}

func TestParseStat(t *testing.T) {
	const stat = "211 (vr) gate 1 2) S 1 211 211 0 -1 4194560 5129 0 12 0 123 45 0 0 20 0 9 0 2345 1266270208 9001"
	got, err := parseStat(stat)
	if err != nil || got != 1680*time.Millisecond {
		t.Errorf("%v, %v; want 123+45 ticks of 10 ms", got, err)
	}
	for _, bad := range []string{"", "211 (vrgate) S 1 2", "211"} {
		if got, err := parseStat(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestIntact(t *testing.T) {
	good := transfer{sent: 10, received: 10, sentSum: [32]byte{1}, receivedSum: [32]byte{1}}
	if !good.intact(10) {
		t.Error("the same bytes are not intact")
	}
	changed, cut, little := good, good, good
	changed.receivedSum[31]++
	cut.received--
	little.sent, little.received = 9, 9
	for _, bad := range []transfer{changed, cut, little, {}} {
		if bad.intact(10) {
			t.Errorf("%+v is intact", bad)
		}
	}
}
