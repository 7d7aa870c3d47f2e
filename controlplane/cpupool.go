package controlplane

import (
	"crypto/rand"
	"sync"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
)

// cpuPool computes what takes milliseconds, Diffie-Hellman and RSA, in a bounded number of
// goroutines. Jobs of peers that are not authenticated yet are refused when the queue is half
// full, so that what is left serves rekeys of those who are.
type cpuPool struct {
	jobs chan func()
	done sync.WaitGroup
}

// cpuQueuePerWorker bounds how long a job can wait: a peer's retransmission (2 s and more)
// should find it done even for the slow groups.
const cpuQueuePerWorker = 512

func newCPUPool(n int) *cpuPool {
	p := &cpuPool{jobs: make(chan func(), n*cpuQueuePerWorker)}
	for range n {
		p.done.Go(func() {
			for work := range p.jobs {
				work()
			}
		})
	}
	return p
}

// submit queues work, or says at once that the pool is busy.
func (p *cpuPool) submit(unauthenticated bool, work func()) bool {
	if unauthenticated && len(p.jobs) >= cap(p.jobs)/2 {
		return false
	}
	select {
	case p.jobs <- work:
		return true
	default:
		return false
	}
}

// close waits for the work that is queued. submit must not be called any more.
func (p *cpuPool) close() {
	close(p.jobs)
	p.done.Wait()
}

// busy is what a job is answered with that the pool has no room for (ike.ComputeDH, ike.Sign,
// ike.VerifyPeer).
const busy = "busy"

func computeDH(job ike.ComputeDH) ike.DHDone {
	done := ike.DHDone{Job: job.Job}
	if job.Pair != nil {
		done.Pair = *job.Pair
	} else {
		pair, err := job.Group.Generate(rand.Reader)
		if err != nil {
			done.Err = err.Error()
			return done
		}
		done.Pair = pair
	}
	if job.Peer != nil {
		shared, err := keymat.Shared(done.Pair, job.Peer)
		if err != nil {
			done.Err = err.Error()
			return done
		}
		done.Shared = shared
	}
	return done
}
