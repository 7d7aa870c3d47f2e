package main

import (
	"context"
	crand "crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"
)

// idleTime is how long vrgate is watched while nobody sends.
const idleTime = 3 * time.Second

// rounds is how often the clients transfer: once with a look at the processor, once with strace.
const rounds = 2

// clientsTransfer sends data both ways through both at once and watches vrgate meanwhile. Each client sends
// size bytes in each of the rounds.
func clientsTransfer(ctx context.Context, t *teller, s *scene, size int) error {
	t.chapter("Data through both at once, and what vrgate has to do for it")
	t.say("Each client sends %d MiB of random bytes over TCP to the file server, which sends them back at the same "+
		"time. That happens twice: the first time we look how long vrgate was on a processor, as we do before while "+
		"nobody sends. The second time strace counts the system calls by which it could "+
		"pass on data; so that there are some, vrgate is asked once for its subscribers.", size>>20)
	stop, err := s.serveEcho(ctx)
	if err != nil {
		return err
	}
	defer stop()
	var idle, busy, traced effort
	var moved int
	err = t.doing("nobody sends", func() (err error) {
		idle, err = s.clock(ctx, func() error { return sleep(ctx, idleTime) })
		return err
	})
	if err != nil {
		return err
	}
	transfer := func() error { return s.transferAll(ctx, size) }
	err = t.doing("both transfer", func() (err error) {
		busy, err = s.clock(ctx, transfer)
		return err
	})
	if err != nil {
		return err
	}
	t.transfers(s, size)
	err = t.doing("both transfer again, under strace", func() (err error) {
		traced, err = s.clock(ctx, func() (err error) {
			moved, err = s.trace(ctx, transfer)
			return err
		})
		return err
	})
	if err != nil {
		return err
	}
	t.transfers(s, size)
	t.excerpt(fmt.Sprintf(`                                packets in the kernel,   vrgate on       vrgate's system calls
                      seconds   on both interfaces       a processor     that can carry data
nobody sends          %7.1f   %22d   %9.2f s                         -
both transfer         %7.1f   %22d   %9.2f s                         -
again, under strace   %7.1f   %22d           -   %23d`,
		idle.wall.Seconds(), idle.packets, idle.cpu.Seconds(), busy.wall.Seconds(), busy.packets, busy.cpu.Seconds(),
		traced.wall.Seconds(), traced.packets, moved))
	// Sent and sent back, in packets of at most 1500 bytes.
	least := uint64(2 * len(s.people) * size / 1500)
	t.check(min(busy.packets, traced.packets) >= least,
		"the kernel's own counters have the packets: %d and %d, at least the %d that the bytes need", busy.packets, traced.packets, least)
	t.check(moved > 0 && uint64(moved)*100 <= traced.packets,
		"vrgate moved none of it: %d system calls that could carry data, for %d packets", moved, traced.packets)
	t.check(busy.cpu <= idle.cpu+busy.wall/20+100*time.Millisecond,
		"vrgate's time on a processor did not grow with the transfer: %.2f s of %.1f s", busy.cpu.Seconds(), busy.wall.Seconds())
	t.say("A program that carries the packets itself has to read and write each of them. What vrgate does meanwhile is " +
		"its control traffic: L2TP hellos, PPP echoes, timers.")
	return nil
}

// transfers checks what everybody's last transfer brought.
func (t *teller) transfers(s *scene, size int) {
	for _, p := range s.people {
		d := p.transfer
		t.check(d.intact(size), "%s sent %d bytes, SHA-256 %s, and got %d back, SHA-256 %s; %.0f Mbit/s each way",
			p.name, d.sent, short(d.sentSum), d.received, short(d.receivedSum), d.megabits())
	}
}

// transferAll transfers size bytes for all people at once.
func (s *scene) transferAll(ctx context.Context, size int) error {
	return s.each(func(p *person) (err error) {
		p.transfer, err = s.transfer(ctx, p, size)
		return err
	})
}

// echoPort is of the service that sends back what it gets (RFC 862).
const echoPort = "7"

// transfer is what one client sent and got back.
type transfer struct {
	sent, received       int64
	sentSum, receivedSum [sha256.Size]byte
	took                 time.Duration
}

// intact says whether all size bytes came back, and were the same.
func (t transfer) intact(size int) bool {
	return t.sent == int64(size) && t.received == t.sent && t.sentSum == t.receivedSum
}

// serveEcho sends back whatever connects to the intranet host, until the returned function is called.
func (s *scene) serveEcho(ctx context.Context) (stop func(), err error) {
	var l net.Listener
	err = s.intranet.Namespace.Do(func() error {
		l, err = new(net.ListenConfig).Listen(ctx, "tcp4", net.JoinHostPort(intranetHost.String(), echoPort))
		return err
	})
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				// The client sees a broken connection as bytes that are missing.
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return func() { l.Close() }, nil
}

// transfer sends size random bytes from the person's machine to the intranet host and reads back as many, both
// at once.
func (s *scene) transfer(ctx context.Context, p *person, size int) (t transfer, err error) {
	var c net.Conn
	err = p.client.Host().Namespace.Do(func() error {
		c, err = new(net.Dialer).DialContext(ctx, "tcp4", net.JoinHostPort(intranetHost.String(), echoPort))
		return err
	})
	if err != nil {
		return t, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()

	var seed [32]byte
	if _, err := crand.Read(seed[:]); err != nil {
		return t, err
	}
	start := time.Now()
	sent := make(chan error, 1)
	go func() {
		sum := sha256.New()
		n, err := io.Copy(c, io.TeeReader(io.LimitReader(rand.NewChaCha8(seed), int64(size)), sum))
		t.sent = n
		sum.Sum(t.sentSum[:0])
		sent <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	sum := sha256.New()
	n, err := io.Copy(sum, c)
	err = errors.Join(err, <-sent)
	t.received, t.took = n, time.Since(start)
	sum.Sum(t.receivedSum[:0])
	return t, errors.Join(err, ctx.Err())
}

// megabits is a rate in Mbit/s, of the bytes in one direction.
func (t transfer) megabits() float64 { return float64(t.sent) * 8 / 1e6 / t.took.Seconds() }

// short is the beginning of a checksum.
func short(sum [sha256.Size]byte) string { return fmt.Sprintf("%x…", sum[:6]) }
