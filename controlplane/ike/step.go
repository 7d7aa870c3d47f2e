package ike

import (
	"encoding/binary"
	"io"
	"net/netip"
	"time"

	"vrgate/controlplane/deadline"
	"vrgate/controlplane/isakmp"
)

// Engine is the IKEv1 engine of one virtual router. It is not safe for
// concurrent use: one goroutine owns it.
type Engine struct {
	cfg    Config
	random io.Reader
	now    time.Time
	out    []Effect

	sas        map[cookies]*phase1       // by both cookies
	first      map[firstKey]*phase1      // half-open responders by peer and its cookie: repeated first messages
	own        map[isakmp.Cookie]*phase1 // initiators that do not know the responder's cookie yet
	conns      map[ConnID]*conn
	byPeer     map[peerKey]ConnID
	behind     map[hosts]ConnID      // by NAT passthrough, one for each NAT address (B3r)
	admissions map[string]*admission // of static tunnels, where they differ from the configuration
	natt       map[nattKey]int       // connections that keep NAT-T, or do without, whatever the configuration says by now
	spis       map[uint32]*child     // by inbound SPI
	outs       map[uint32]*child     // by outbound SPI; of equal ones the newest
	jobs       map[JobID]jobRef
	job        JobID

	timers   deadline.Heap[timed]
	guard    guard
	counters map[Reason]uint64
}

// firstKey recognises a repeated first message, in which there is no responder
// cookie.
type firstKey struct {
	peer   netip.AddrPort
	cookie isakmp.Cookie
}

// New makes an engine with no state. random is read for cookies, nonces, SPIs
// and connection numbers and must never fail, like crypto/rand.Reader.
func New(cfg Config, random io.Reader) *Engine {
	return &Engine{
		cfg:        cfg.withDefaults(),
		random:     random,
		sas:        map[cookies]*phase1{},
		first:      map[firstKey]*phase1{},
		own:        map[isakmp.Cookie]*phase1{},
		conns:      map[ConnID]*conn{},
		byPeer:     map[peerKey]ConnID{},
		behind:     map[hosts]ConnID{},
		admissions: map[string]*admission{},
		natt:       map[nattKey]int{},
		spis:       map[uint32]*child{},
		outs:       map[uint32]*child{},
		jobs:       map[JobID]jobRef{},
		guard:      guard{Sources: map[netip.Addr]*source{}},
		counters:   map[Reason]uint64{},
	}
}

// Step tells the engine what happened at time now, which must not go back, and
// returns what is to be done, in this order. Deadlines that have passed by then
// are worked off first, whatever the event.
func (e *Engine) Step(now time.Time, ev Event) []Effect {
	if now.After(e.now) {
		e.now = now
	}
	e.out = nil
	e.due()
	e.sweep()
	switch ev := ev.(type) {
	case Packet:
		e.packet(ev)
	case Timer:
	case DHDone:
		e.dhDone(ev)
	case Signed:
		e.signed(ev)
	case PeerVerified:
		e.peerVerified(ev)
	case SAInstalled:
		e.installed(ev)
	case SAExpired:
		e.saExpired(ev)
	case PeerMoved:
		e.peerMoved(ev)
	case PeerAlive:
		e.peerAlive(ev)
	case Initiate:
		if ev.Static != "" {
			e.dial(ev)
		} else {
			e.initiate(ev)
		}
	case AdmitPeers:
		e.admitPeers(ev)
	case HangUp:
		e.hangUp(ev)
	case Complete:
		if c := e.conns[ev.Conn]; c != nil && c.Announced && c.Static != "" {
			e.complete(c)
		}
	case CloseConn:
		if c := e.conns[ev.Conn]; c != nil {
			e.closeConn(c, ev.Reason, ev.Text, false)
		}
	case CloseAll:
		e.closeAll(ev.Reason)
	case Rekey:
		e.rekeyNow(ev)
	case AskUser:
		e.askUser(ev)
	case Admit:
		e.admitted(ev)
	case Deny:
		e.deny(ev)
	case TrafficRead:
		e.trafficRead(ev)
	case Reconfigure:
		e.reconfigure(ev.Config.withDefaults())
	}
	out := e.out
	e.out = nil
	return out
}

func (e *Engine) emit(f Effect) { e.out = append(e.out, f) }

func (e *Engine) count(r Reason) { e.counters[r]++ }

// rand returns n random bytes. The reader must not fail: without randomness
// there is nothing safe to do.
func (e *Engine) rand(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(e.random, b); err != nil {
		panic("ike: random source failed: " + err.Error())
	}
	return b
}

func (e *Engine) rand32() uint32 { return binary.BigEndian.Uint32(e.rand(4)) }

// newCookie returns a cookie that is not zero.
func (e *Engine) newCookie() (c isakmp.Cookie) {
	for c.IsZero() {
		copy(c[:], e.rand(len(c)))
	}
	return c
}

// newMessageID returns a message id that is not zero and not used in p.
func (e *Engine) newMessageID(p *phase1) uint32 {
	for {
		id := e.rand32()
		if id != 0 && p.quick(id) == nil {
			return id
		}
	}
}

// newJob registers a job of the shell.
func (e *Engine) newJob(r jobRef) JobID {
	e.job++
	e.jobs[e.job] = r
	return e.job
}

// report emits a sentence about a known peer.
func (e *Engine) report(l Level, r Reason, text string, p *phase1) {
	if l == LevelInfo && p.stranger() && !e.mayReport(p.Remote.Addr()) {
		l = LevelDebug
	}
	e.emit(Report{Level: l, Reason: r, Text: text, Local: p.Local, Remote: p.Remote, Conn: p.Conn})
}

// reportStranger emits a sentence about an unauthenticated peer: at LevelInfo as
// long as the limits allow, then at LevelDebug and without the details, which
// cost more to write than the rest of the message to read.
func (e *Engine) reportStranger(r Reason, text func() string, local, remote netip.AddrPort) {
	f := Report{Level: LevelDebug, Reason: r, Text: string(r), Local: local, Remote: remote}
	if e.mayReport(remote.Addr()) {
		f.Level, f.Text = LevelInfo, text()
	}
	e.emit(f)
}
