package coa

import (
	"net/netip"
	"time"

	rad "layeh.com/radius"

	"vrgate/controlplane/aaa/radius"
)

// MaxAnswers bounds the answers that are kept, and answerLifetime how long (RFC 5080 section 2.2.2: 5 to 30 seconds).
// Above the bound the oldest is forgotten first.
const (
	MaxAnswers     = 8192
	answerLifetime = 30 * time.Second
)

// requestKey tells requests apart. The authenticator covers the whole content, so the source's port need not be in it:
// what is the same in all this is the same request, whoever sent it once more.
type requestKey struct {
	from          netip.Addr
	code          rad.Code
	identifier    byte
	authenticator radius.Authenticator
}

// answers remembers what requests were answered, so that none is done twice.
type answers struct {
	of map[requestKey]*[]byte // nil within: no answer yet
	// given are the answered requests, oldest first.
	given []given
}

type given struct {
	key requestKey
	at  time.Time
}

// begin notes a request that is to be done. Where it is not new, it returns what it was answered, or nil while it is
// still being worked on.
func (a *answers) begin(now time.Time, k requestKey) (answer []byte, again bool) {
	a.expire(now)
	if old := a.of[k]; old != nil {
		return *old, true
	}
	if a.of == nil {
		a.of = map[requestKey]*[]byte{}
	}
	a.of[k] = new([]byte)
	return nil, false
}

// done keeps a request's answer, empty if there is none: then it may be done again.
func (a *answers) done(now time.Time, k requestKey, answer []byte) {
	if len(answer) == 0 {
		delete(a.of, k)
		return
	}
	a.of[k] = &answer
	a.given = append(a.given, given{k, now})
	a.expire(now)
}

func (a *answers) expire(now time.Time) {
	n := max(0, len(a.given)-MaxAnswers)
	for n < len(a.given) && now.Sub(a.given[n].at) >= answerLifetime {
		n++
	}
	for _, g := range a.given[:n] {
		delete(a.of, g.key)
	}
	a.given = a.given[n:]
}
