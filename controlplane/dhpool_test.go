package controlplane

import (
	"bytes"
	"crypto/rand"
	"sync"
	"testing"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
)

// TestDH: both halves of an exchange, computed by the pool, agree; a bad public value is an
// error and not a secret.
func TestDH(t *testing.T) {
	p := newDHPool(2)
	defer p.close()
	ask := func(job ike.ComputeDH) ike.DHDone {
		reply := make(chan ike.DHDone, 1)
		p.submit(job, func(d ike.DHDone) { reply <- d })
		return <-reply
	}
	group := keymat.Curve25519
	peer, err := group.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	first := ask(ike.ComputeDH{Job: 1, Group: group})
	if first.Job != 1 || first.Err != "" || len(first.Pair.Public) == 0 || first.Shared != nil {
		t.Fatalf("key pair: %+v", first)
	}
	second := ask(ike.ComputeDH{Job: 2, Group: group, Pair: &first.Pair, Peer: peer.Public})
	want, err := keymat.Shared(peer, first.Pair.Public)
	if err != nil || second.Err != "" || !bytes.Equal(second.Shared, want) {
		t.Errorf("shared secret: %+v, %v", second, err)
	}
	bad := ask(ike.ComputeDH{Job: 3, Group: group, Pair: &first.Pair, Peer: make([]byte, 32)})
	if bad.Err == "" || bad.Shared != nil {
		t.Errorf("a public value of all zeros gave %+v", bad)
	}
}

// TestDHBusy: strangers get half of the queue, rekeys all of it, and what does not fit is
// answered at once.
func TestDHBusy(t *testing.T) {
	p := newDHPool(1)
	hold, started := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	done, busy := 0, 0
	reply := func(d ike.DHDone) {
		if d.Job == 1 { // the worker stands still
			close(started)
			<-hold
		}
		mu.Lock()
		defer mu.Unlock()
		if d.Err == "busy" {
			busy++
		} else {
			done++
		}
	}
	p.submit(ike.ComputeDH{Job: 1, Group: keymat.Curve25519}, reply)
	<-started
	for range cap(p.jobs) {
		p.submit(ike.ComputeDH{Group: keymat.Curve25519, Unauthenticated: true}, reply)
	}
	if n := len(p.jobs); n != cap(p.jobs)/2 || busy != cap(p.jobs)/2 {
		t.Errorf("strangers have %d of %d places, %d were refused", n, cap(p.jobs), busy)
	}
	for range cap(p.jobs) {
		p.submit(ike.ComputeDH{Group: keymat.Curve25519}, reply)
	}
	if n := len(p.jobs); n != cap(p.jobs) || busy != cap(p.jobs) {
		t.Errorf("%d of %d places are taken, %d were refused", n, cap(p.jobs), busy)
	}
	close(hold)
	p.close()
	if done != cap(p.jobs)+1 {
		t.Errorf("%d jobs done, want %d", done, cap(p.jobs)+1)
	}
}
