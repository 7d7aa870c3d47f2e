package controlplane

import (
	"crypto/rand"
	"sync"

	"vrgate/controlplane/ike"
	"vrgate/controlplane/keymat"
)

// dhPool computes Diffie-Hellman in a bounded number of goroutines. Jobs of peers that are
// not authenticated yet are refused when the queue is half full, so that what is left
// serves rekeys of those who are.
type dhPool struct {
	jobs chan dhJob
	done sync.WaitGroup
}

type dhJob struct {
	job   ike.ComputeDH
	reply func(ike.DHDone)
}

// dhQueuePerWorker bounds how long a job can wait: a peer's retransmission (2 s and more)
// should find it done even for the slow groups.
const dhQueuePerWorker = 512

func newDHPool(n int) *dhPool {
	p := &dhPool{jobs: make(chan dhJob, n*dhQueuePerWorker)}
	for range n {
		p.done.Go(func() {
			for j := range p.jobs {
				j.reply(computeDH(j.job))
			}
		})
	}
	return p
}

// submit queues a job or answers at once that the pool is busy.
func (p *dhPool) submit(job ike.ComputeDH, reply func(ike.DHDone)) {
	if job.Unauthenticated && len(p.jobs) >= cap(p.jobs)/2 {
		reply(ike.DHDone{Job: job.Job, Err: "busy"})
		return
	}
	select {
	case p.jobs <- dhJob{job, reply}:
	default:
		reply(ike.DHDone{Job: job.Job, Err: "busy"})
	}
}

// close waits for the jobs that are queued. submit must not be called any more.
func (p *dhPool) close() {
	close(p.jobs)
	p.done.Wait()
}

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
