package l2tp

import "time"

// channel is the reliable delivery of control messages, RFC 2661 section 5.8 and appendix A: sequence numbers, the peer's
// window, slow start and congestion avoidance, retransmission, duplicates, and messages out of order. It knows neither
// message types nor sockets; its owner passes it header fields, sends what flush and expire return and delivers what
// receive and next give, each message exactly once and in order.
type channel struct {
	Ns uint16 // sequence number of the next message that is queued
	Nr uint16 // sequence number of the next message expected

	Window     uint16 // ours: how far ahead of Nr messages are kept
	PeerWindow uint16 // messages the peer lets us have in flight, at least 1
	Cwnd       uint16 // congestion window
	Ssthresh   uint16
	Growth     uint16 // acknowledgements towards the next step of congestion avoidance

	Queue    []outMessage // not yet acknowledged, oldest first
	Sent     int          // of Queue, transmitted at least once: what the peer may acknowledge
	InFlight int          // of Sent, transmitted since the last timeout
	Held     []inMessage  // received ahead of Nr, fewer than Window

	Base, Cap    time.Duration // retransmission interval: Base doubling up to Cap
	Interval     time.Duration // the one running now
	Tries        int           // timeouts since the peer last acknowledged something new
	RetransmitAt time.Time     // zero: nothing to wait for

	// Passive keeps the channel from sending anything again unasked: the peer has not yet shown that it receives.
	Passive bool
	// Drain ignores both windows: only a StopCCN is left to send and there is little time.
	Drain bool
	// OweAck is set when a message came that nothing sent since acknowledges.
	OweAck bool

	Retransmits uint64
}

// outMessage is a queued message; its packet is built when it is sent, so that it carries the newest Nr.
type outMessage struct {
	Session SessionID
	Body    []byte
}

// inMessage is a message that came too early.
type inMessage struct {
	Ns      uint16
	Session SessionID
	Body    []byte
}

// receipt is what receive found.
type receipt uint8

const (
	receiptDeliver   receipt = iota // the next message: hand it up, then call next until it is empty
	receiptHeld                     // kept until the gap before it is filled
	receiptAck                      // a ZLB
	receiptDuplicate                // already delivered or held
	receiptOutside                  // ahead of the window
	receiptBadAck                   // acknowledges what was never sent: nothing was taken from it
)

func newChannel(window uint16, base, limit time.Duration) channel {
	return channel{Window: window, PeerWindow: 1, Cwnd: 1, Ssthresh: 1, Base: base, Cap: limit, Interval: base}
}

// setPeerWindow takes the peer's Receive Window Size AVP. 0 is forbidden by section 4.4.3 and taken as 1.
func (c *channel) setPeerWindow(n uint16) {
	c.PeerWindow = max(n, 1)
	c.Ssthresh = c.PeerWindow
}

// queue appends a message to be sent; flush sends it when the windows allow.
func (c *channel) queue(session SessionID, body []byte) {
	c.Queue = append(c.Queue, outMessage{session, body})
	c.Ns++
}

// unsent drops the messages that were never transmitted, so that a StopCCN need not wait for them. Their sequence
// numbers are free again.
func (c *channel) unsent() {
	c.Ns -= uint16(len(c.Queue) - c.Sent)
	clear(c.Queue[c.Sent:])
	c.Queue = c.Queue[:c.Sent]
}

// idle tells that everything sent has been acknowledged.
func (c *channel) idle() bool { return len(c.Queue) == 0 }

// oldest is the sequence number of the oldest message not acknowledged.
func (c *channel) oldest() uint16 { return c.Ns - uint16(len(c.Queue)) }

// receive takes a packet's sequence numbers and its body, which is copied only when it has to wait. acked is the number
// of our messages that this packet newly acknowledges.
func (c *channel) receive(now time.Time, ns, nr uint16, session SessionID, body []byte) (r receipt, acked int) {
	if ahead := nr - c.oldest(); ahead < 0x8000 {
		if int(ahead) > c.Sent {
			return receiptBadAck, 0
		}
		acked = int(ahead)
		c.acknowledge(now, acked)
	}
	if len(body) == 0 {
		return receiptAck, acked
	}
	switch ahead := ns - c.Nr; {
	case ahead == 0:
		c.Nr++
		c.OweAck = true
		return receiptDeliver, acked
	case ahead >= 0x8000:
		c.OweAck = true // our acknowledgement was lost
		return receiptDuplicate, acked
	case ahead >= c.Window:
		return receiptOutside, acked
	}
	for _, m := range c.Held {
		if m.Ns == ns {
			return receiptDuplicate, acked
		}
	}
	c.Held = append(c.Held, inMessage{ns, session, append([]byte(nil), body...)})
	return receiptHeld, acked
}

// next returns a held message whose turn has come.
func (c *channel) next() (inMessage, bool) {
	for i, m := range c.Held {
		if m.Ns == c.Nr {
			last := len(c.Held) - 1
			c.Held[i] = c.Held[last]
			c.Held[last] = inMessage{}
			if c.Held = c.Held[:last]; last == 0 {
				c.Held = nil
			}
			c.Nr++
			c.OweAck = true
			return m, true
		}
	}
	return inMessage{}, false
}

// acknowledge removes n messages from the queue and opens the congestion window.
func (c *channel) acknowledge(now time.Time, n int) {
	if n == 0 {
		return
	}
	clear(c.Queue[:n])
	if c.Queue = c.Queue[n:]; len(c.Queue) == 0 {
		c.Queue = nil
	}
	c.Sent -= n
	c.InFlight = max(c.InFlight-n, 0)
	c.Tries = 0
	c.Interval = c.Base
	for range n {
		switch {
		case c.Cwnd >= c.PeerWindow:
		case c.Cwnd < c.Ssthresh: // slow start
			c.Cwnd++
		default: // congestion avoidance: one more for each full window
			if c.Growth++; c.Growth >= c.Cwnd {
				c.Growth = 0
				c.Cwnd++
			}
		}
	}
	c.RetransmitAt = time.Time{}
	if c.InFlight > 0 && !c.Passive {
		c.RetransmitAt = now.Add(c.Interval)
	}
}

// flush calls send for each message that may go out now. send must put the current Nr into the packet: everything
// received is acknowledged by it.
func (c *channel) flush(now time.Time, send func(session SessionID, ns uint16, body []byte)) {
	window := int(min(c.Cwnd, c.PeerWindow))
	if c.Drain {
		window = len(c.Queue)
	}
	for c.InFlight < len(c.Queue) && c.InFlight < window {
		m := c.Queue[c.InFlight]
		if c.InFlight < c.Sent {
			c.Retransmits++
		} else {
			c.Sent++
		}
		send(m.Session, c.oldest()+uint16(c.InFlight), m.Body)
		c.OweAck = false
		c.InFlight++
		if c.RetransmitAt.IsZero() && !c.Passive {
			c.RetransmitAt = now.Add(c.Interval)
		}
	}
}

// resend forgets what is in flight so that the next flush sends the oldest message again: the answer to a peer that
// repeats itself.
func (c *channel) resend() { c.InFlight = 0 }

// awake ends Passive: the peer has shown that it receives what we send.
func (c *channel) awake(now time.Time) {
	if c.Passive {
		c.Passive = false
		if c.InFlight > 0 {
			c.RetransmitAt = now.Add(c.Interval)
		}
	}
}

// expire handles the retransmission timer. dead means that limit repetitions went unanswered; otherwise the next flush
// sends the oldest message again, with the congestion window closed to 1 (appendix A).
func (c *channel) expire(now time.Time, limit int) (dead bool) {
	if c.RetransmitAt.IsZero() || now.Before(c.RetransmitAt) {
		return false
	}
	if c.Tries >= limit {
		return true
	}
	c.Tries++
	c.Ssthresh = max(c.Cwnd/2, 1)
	c.Cwnd = 1
	c.Growth = 0
	c.InFlight = 0
	c.RetransmitAt = time.Time{}
	c.Interval = min(c.Interval*2, c.Cap)
	return false
}
