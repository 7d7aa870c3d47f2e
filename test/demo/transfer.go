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
func short(sum [sha256.Size]byte) string { return fmt.Sprintf("%x…", sum[:8]) }
