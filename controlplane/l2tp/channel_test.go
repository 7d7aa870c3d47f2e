package l2tp

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Two channels joined by a network that rapid makes lose, repeat and reorder: every message arrives once and in order,
// no more are in flight than the peer's window allows, and what is kept out of order is bounded.
func TestChannelExactlyOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_700_000_000, 0)
		windows := [2]uint16{uint16(rapid.IntRange(1, 8).Draw(t, "window a")), uint16(rapid.IntRange(1, 8).Draw(t, "window b"))}
		start := uint16(rapid.SampledFrom([]int{0, 65530, 32765}).Draw(t, "first sequence number"))
		var ends [2]*channel
		for i := range ends {
			c := newChannel(windows[i], time.Second, 16*time.Second)
			c.setPeerWindow(windows[1-i])
			c.Ns, c.Nr = start, start
			ends[i] = &c
		}
		type packet struct {
			to     int
			ns, nr uint16
			body   []byte
		}
		var air []packet
		var queued, got [2]int
		drain := func(i int) {
			c := ends[i]
			c.flush(now, func(_ SessionID, ns uint16, body []byte) { air = append(air, packet{1 - i, ns, c.Nr, body}) })
			if c.InFlight > int(windows[1-i]) {
				t.Fatalf("%d in flight, the peer's window is %d", c.InFlight, windows[1-i])
			}
			if c.Cwnd > windows[1-i] || c.Cwnd == 0 {
				t.Fatalf("congestion window %d, the peer's window is %d", c.Cwnd, windows[1-i])
			}
			if c.OweAck {
				c.OweAck = false
				air = append(air, packet{1 - i, c.Ns, c.Nr, nil})
			}
		}
		accept := func(i int, body []byte) {
			if n := int(binary.BigEndian.Uint32(body)); n != got[i] {
				t.Fatalf("end %d got message %d, want %d", i, n, got[i])
			}
			got[i]++
		}
		deliver := func(p packet) {
			c := ends[p.to]
			if r, _ := c.receive(now, p.ns, p.nr, 0, p.body); r == receiptDeliver {
				accept(p.to, p.body)
				for m, ok := c.next(); ok; m, ok = c.next() {
					accept(p.to, m.Body)
				}
			} else if r == receiptBadAck {
				t.Fatalf("end %d: bad acknowledgement %d, oldest %d, sent %d", p.to, p.nr, c.oldest(), c.Sent)
			}
			if len(c.Held) >= int(windows[p.to]) {
				t.Fatalf("%d messages held, window %d", len(c.Held), windows[p.to])
			}
			drain(p.to)
		}
		say := func(i int) {
			ends[i].queue(0, binary.BigEndian.AppendUint32(nil, uint32(queued[i])))
			queued[i]++
			drain(i)
		}
		t.Repeat(map[string]func(*rapid.T){
			"say a": func(*rapid.T) { say(0) },
			"say b": func(*rapid.T) { say(1) },
			"deliver": func(t *rapid.T) {
				if len(air) == 0 {
					t.Skip("nothing in the air")
				}
				at := rapid.IntRange(0, len(air)-1).Draw(t, "packet")
				p := air[at]
				switch rapid.SampledFrom([]string{"once", "once", "twice", "never"}).Draw(t, "fate") {
				case "once":
					air = append(air[:at:at], air[at+1:]...)
				case "never":
					air = append(air[:at:at], air[at+1:]...)
					return
				}
				deliver(p)
			},
			"time": func(*rapid.T) {
				now = now.Add(17 * time.Second)
				for i, c := range ends {
					c.Tries = 0 // patience is another test's matter
					if c.expire(now, 5) {
						t.Fatal("gave up")
					}
					drain(i)
				}
			},
		})
		// With a network that works, everything arrives.
		for range 1000 {
			if len(air) == 0 && got[0] == queued[1] && got[1] == queued[0] && ends[0].idle() && ends[1].idle() {
				return
			}
			round := air
			air = nil
			for _, p := range round {
				deliver(p)
			}
			now = now.Add(17 * time.Second)
			for i, c := range ends {
				c.expire(now, 1000)
				drain(i)
			}
		}
		t.Fatalf("sent %v, got %v", queued, got)
	})
}

func TestRetransmission(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	c := newChannel(4, time.Second, 16*time.Second)
	c.setPeerWindow(4)
	now := start
	var at []string
	send := func(_ SessionID, ns uint16, _ []byte) { at = append(at, fmt.Sprintf("%d@%v", ns, now.Sub(start))) }
	c.queue(0, []byte("a"))
	c.queue(0, []byte("b"))
	c.flush(now, send)
	dead := time.Duration(0)
	for dead == 0 {
		now = c.RetransmitAt
		if c.expire(now, 5) {
			dead = now.Sub(start)
			break
		}
		c.flush(now, send)
	}
	// Slow start: one message at first, and again one after each timeout (appendix A).
	if got, want := fmt.Sprint(at), "[0@0s 0@1s 0@3s 0@7s 0@15s 0@31s]"; got != want || dead != 47*time.Second {
		t.Errorf("sent %s, gave up after %v; want %s and 47s", got, dead, want)
	}
	if c.Retransmits != 5 {
		t.Errorf("%d retransmissions counted", c.Retransmits)
	}
}

func TestSlowStart(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	c := newChannel(4, time.Second, 16*time.Second)
	c.setPeerWindow(8)
	for range 40 {
		c.queue(0, []byte("x"))
	}
	var bursts []int
	burst := func() {
		n := 0
		c.flush(now, func(SessionID, uint16, []byte) { n++ })
		bursts = append(bursts, n)
	}
	burst()
	for range 4 { // each burst is acknowledged at once
		c.receive(now, 0, c.oldest()+uint16(c.InFlight), 0, nil)
		burst()
	}
	now = c.RetransmitAt
	c.expire(now, 5)
	burst()
	for range 5 {
		c.receive(now, 0, c.oldest()+uint16(c.InFlight), 0, nil)
		burst()
	}
	// Doubling to the window of 8; after the loss from 1 again, doubling to half the old window, then one more per window.
	if got, want := fmt.Sprint(bursts), "[1 2 4 8 8 1 2 4 5 6 7]"; got != want {
		t.Errorf("bursts %s, want %s", got, want)
	}
}

func TestReceipts(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	c := newChannel(4, time.Second, 16*time.Second)
	c.setPeerWindow(4)
	c.Nr = 100
	c.queue(0, []byte("x"))
	c.flush(now, func(SessionID, uint16, []byte) {})
	c.queue(0, []byte("never sent"))
	body := []byte("m")
	for _, x := range []struct {
		ns, nr uint16
		body   []byte
		want   receipt
	}{
		{100, 2, body, receiptBadAck}, // the second was never sent
		{100, 999, body, receiptBadAck},
		{100, 0, nil, receiptAck},
		{99, 0, body, receiptDuplicate},
		{0x8000 + 100, 0, body, receiptDuplicate},
		{104, 0, body, receiptOutside},
		{100 + 0x7fff, 0, body, receiptOutside},
		{103, 0, body, receiptHeld},
		{103, 0, body, receiptDuplicate},
		{100, 0xfff0, body, receiptDeliver}, // an old acknowledgement does no harm
		{101, 1, body, receiptDeliver},
	} {
		if got, _ := c.receive(now, x.ns, x.nr, 0, x.body); got != x.want {
			t.Errorf("ns %d nr %d: %d, want %d", x.ns, x.nr, got, x.want)
		}
	}
	if _, ok := c.next(); ok {
		t.Error("103 was delivered before 102")
	}
	c.receive(now, 102, 1, 0, body)
	if m, ok := c.next(); !ok || m.Ns != 103 || c.Nr != 104 || c.Held != nil {
		t.Errorf("%+v %v, next expected %d", m, ok, c.Nr)
	}
	if c.setPeerWindow(0); c.PeerWindow != 1 {
		t.Errorf("window 0 taken as %d", c.PeerWindow)
	}
}
