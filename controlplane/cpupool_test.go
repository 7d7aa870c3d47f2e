package controlplane

import (
	"bytes"
	"crypto/rand"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
)

// TestDH: both halves of an exchange agree; a bad public value is an error and not a secret.
func TestDH(t *testing.T) {
	group := keymat.Curve25519
	peer, err := group.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	first := computeDH(ike.ComputeDH{Job: 1, Group: group})
	if first.Job != 1 || first.Err != "" || len(first.Pair.Public) == 0 || first.Shared != nil {
		t.Fatalf("key pair: %+v", first)
	}
	second := computeDH(ike.ComputeDH{Job: 2, Group: group, Pair: &first.Pair, Peer: peer.Public})
	want, err := keymat.Shared(peer, first.Pair.Public)
	if err != nil || second.Err != "" || !bytes.Equal(second.Shared, want) {
		t.Errorf("shared secret: %+v, %v", second, err)
	}
	bad := computeDH(ike.ComputeDH{Job: 3, Group: group, Pair: &first.Pair, Peer: make([]byte, 32)})
	if bad.Err == "" || bad.Shared != nil {
		t.Errorf("a public value of all zeros gave %+v", bad)
	}
}

// TestCPUPoolBusy: strangers get half of the queue, rekeys all of it, what does not fit is
// refused at once, and what was taken is done.
func TestCPUPoolBusy(t *testing.T) {
	p := newCPUPool(1)
	hold, started := make(chan struct{}), make(chan struct{})
	var done atomic.Int64
	if !p.submit(false, func() { close(started); <-hold; done.Add(1) }) { // the worker stands still
		t.Fatal("an idle pool is busy")
	}
	<-started
	submit := func(unauthenticated bool) (refused int) {
		for range cap(p.jobs) {
			if !p.submit(unauthenticated, func() { done.Add(1) }) {
				refused++
			}
		}
		return refused
	}
	if refused := submit(true); len(p.jobs) != cap(p.jobs)/2 || refused != cap(p.jobs)/2 {
		t.Errorf("strangers have %d of %d places, %d were refused", len(p.jobs), cap(p.jobs), refused)
	}
	if refused := submit(false); len(p.jobs) != cap(p.jobs) || refused != cap(p.jobs)/2 {
		t.Errorf("%d of %d places are taken, %d were refused", len(p.jobs), cap(p.jobs), refused)
	}
	close(hold)
	p.close()
	if n := int(done.Load()); n != cap(p.jobs)+1 {
		t.Errorf("%d jobs done, want %d", n, cap(p.jobs)+1)
	}
}

// TestBusyAnswers: a job that the workers have no room for is answered all the same, so that the
// peer's negotiation can go on or end.
func TestBusyAnswers(t *testing.T) {
	full := &cpuPool{jobs: make(chan func())}
	r := newRouter(&config.Router{Name: "red"}, machineConfig{}, &shared{cpu: full}, nil, noCertificates(t), zap.NewNop(), nil)
	for _, job := range []ike.Effect{
		ike.ComputeDH{Job: 1, Group: keymat.Curve25519}, ike.Sign{Job: 2}, ike.VerifyPeer{Job: 3},
	} {
		r.performIKE(job)
	}
	got := r.inbox.take(nil)
	if len(got) != 3 || r.pending != 3 {
		t.Fatalf("%d answers to 3 jobs, %d pending", len(got), r.pending)
	}
	if d, ok := got[0].(workDone).event.(ike.DHDone); !ok || d.Job != 1 || d.Err != busy {
		t.Errorf("%+v", got[0])
	}
	if d, ok := got[1].(workDone).event.(ike.Signed); !ok || d.Job != 2 || d.Err != busy {
		t.Errorf("%+v", got[1])
	}
	if d, ok := got[2].(workDone).event.(ike.PeerVerified); !ok || d.Job != 3 || d.Reason != busy || d.Text == "" {
		t.Errorf("%+v", got[2])
	}
}
