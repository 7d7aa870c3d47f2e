package vr

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Prober asks hosts, from within a router, whether they are there (Z-11). It has one socket for ICMP, and one for each TCP
// connection that is being tried; all of them count as one descriptor of a Poller.
//
// All methods may be called by several goroutines at once.
type Prober struct {
	r      *Router
	poller *Poller
	epoll  int // readable when one of the sockets is ready
	icmp   int
	vrf    device // the router's, the zero value for none

	mu     sync.Mutex // guards what follows
	echoes map[echoID]*probe
	dials  map[int]*probe  // by descriptor
	flows  map[flow]*probe // those of dials that leave by a given interface
	closed bool
}

// ProbeSpec says whom to ask, and how.
type ProbeSpec struct {
	// Device is the interface by which the packets leave and the answers come; "" for the one to which Target is routed.
	Device string
	// Target is a unicast IPv4 address. Source is one of the router's, the zero Addr for the kernel's choice.
	Target, Source netip.Addr
	// Port is that of TCP to connect to, 0 for an ICMP echo.
	Port uint16
	// Timeout is 1 ms to MaxProbeTimeout.
	Timeout time.Duration
}

// Bounds of probes.
const (
	MaxProbes       = 4096 // of a Prober at a time
	MaxProbeTimeout = time.Minute
)

// ProbeReason says why a probe has failed.
type ProbeReason string

// The reasons.
const (
	ProbeTimeout     ProbeReason = "no-answer"
	ProbeRefused     ProbeReason = "refused"     // by the host, which is there
	ProbeUnreachable ProbeReason = "unreachable" // a router on the way says so, or we ourselves: Code is that of ICMP
	ProbeNoInterface ProbeReason = "no-interface"
	ProbeNoSource    ProbeReason = "no-source" // the source is not an address of the router
	ProbeTooMany     ProbeReason = "too-many"
	ProbeBusy        ProbeReason = "kernel-refused"
)

// ProbeError says why a probe has failed.
type ProbeError struct {
	Target netip.Addr
	Port   uint16 // 0: ICMP echo
	Reason ProbeReason
	// Type and Code are those of the ICMP message with ProbeUnreachable: 3 is destination unreachable (RFC 792), 11 time exceeded.
	Type, Code uint8
	Err        error // of the kernel, nil for none
}

func (e *ProbeError) Error() string {
	what := fmt.Sprintf("ping of %s", e.Target)
	if e.Port != 0 {
		what = fmt.Sprintf("TCP connection to %s", netip.AddrPortFrom(e.Target, e.Port))
	}
	s := what + ": " + e.text()
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *ProbeError) text() string {
	switch e.Reason {
	case ProbeTimeout:
		return "no answer"
	case ProbeRefused:
		return "the host is there, and refuses connections to the port"
	case ProbeUnreachable:
		return icmpText(e.Type, e.Code)
	case ProbeNoInterface:
		return "the interface is not there or is down"
	case ProbeNoSource:
		return "the source is not an address of the virtual router"
	case ProbeTooMany:
		return fmt.Sprintf("%d probes are under way already", MaxProbes)
	}
	return "the kernel refuses"
}

// Unwrap returns what the kernel said.
func (e *ProbeError) Unwrap() error { return e.Err }

// probe is one that is under way. Whoever takes it out of the maps answers it.
type probe struct {
	spec    ProbeSpec
	id      echoID
	token   [sizeToken]byte
	index   int // of Device, 0 for any
	dial    int // descriptor, -1 for ICMP
	flow    flow
	began   time.Time
	timeout *time.Timer
	answer  func(time.Duration, error)
}

// flow is a TCP connection.
type flow struct {
	target      netip.Addr
	local, port uint16
}

// loopbackIndex is that of the loopback device in every namespace.
const loopbackIndex = 1

func (p *probe) fail(reason ProbeReason, err error) *ProbeError {
	return &ProbeError{Target: p.spec.Target, Port: p.spec.Port, Reason: reason, Err: err}
}

// NewProber makes a Prober whose answers are read in the Poller's goroutine. The caller closes it before the router and before the
// Poller, and not in a function of the Poller or an answer.
//
// Errors: ErrClosed, ErrPermission, and what the kernel says.
func (r *Router) NewProber(p *Poller) (*Prober, error) {
	vrf, err := r.device()
	if err != nil {
		return nil, err
	}
	b := &Prober{r: r, poller: p, echoes: map[echoID]*probe{}, dials: map[int]*probe{}, flows: map[flow]*probe{}, icmp: -1, vrf: vrf}
	if b.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, failed(err, "virtual router %s: epoll for probes", r.name)
	}
	if b.icmp, err = r.icmpSocket(vrf.name); err == nil {
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(b.icmp)}
		err = unix.EpollCtl(b.epoll, unix.EPOLL_CTL_ADD, b.icmp, &event)
	}
	if err == nil {
		err = p.Add(b.epoll, b.ready)
	}
	if err != nil {
		return nil, errors.Join(failed(err, "virtual router %s: socket for ICMP", r.name), b.release())
	}
	return b, nil
}

// release closes the descriptors that are there for all.
func (b *Prober) release() error {
	err := unix.Close(b.epoll)
	if b.icmp >= 0 {
		err = errors.Join(err, unix.Close(b.icmp))
	}
	return failed(err, "close probes")
}

// Probe asks a host and calls answer exactly once: with the time that it took and nil, or with an error. It may be called from any
// goroutine, also before Probe returns, and must not block. Probe itself does not block either.
//
// Errors: *ProbeError; *BadSpec; ErrClosed, also for what is under way at Close.
func (b *Prober) Probe(spec ProbeSpec, answer func(rtt time.Duration, err error)) {
	spec.Target, spec.Source = spec.Target.Unmap(), spec.Source.Unmap()
	if err := spec.check(b.r.name); err != nil {
		answer(0, err)
		return
	}
	p := &probe{spec: spec, dial: -1, answer: answer}
	begin := b.echo
	if spec.Port != 0 {
		begin = b.connect
	}
	b.mu.Lock()
	err := b.begin(p, begin)
	b.mu.Unlock()
	if err != nil {
		answer(0, err)
	}
}

// begin has a probe sent and waited for.
func (b *Prober) begin(p *probe, send func(*probe) error) error {
	if b.closed {
		return fmt.Errorf("virtual router %s: probe: %w", b.r.name, ErrClosed)
	}
	if len(b.echoes)+len(b.dials) >= MaxProbes {
		return p.fail(ProbeTooMany, nil)
	}
	if p.spec.Device != "" {
		request, err := unix.NewIfreq(p.spec.Device)
		if err == nil {
			err = unix.IoctlIfreq(b.icmp, unix.SIOCGIFINDEX, request)
		}
		if err != nil {
			return p.fail(ProbeNoInterface, err)
		}
		p.index = int(request.Uint32())
	}
	p.began = time.Now()
	if err := send(p); err != nil {
		return err
	}
	p.timeout = time.AfterFunc(p.spec.Timeout, func() { b.end(p, p.fail(ProbeTimeout, nil)) })
	return nil
}

// end answers a probe that is still under way.
func (b *Prober) end(p *probe, err error) {
	took := time.Since(p.began)
	b.mu.Lock()
	mine := b.take(p)
	b.mu.Unlock()
	switch {
	case !mine:
	case err != nil:
		p.answer(0, err)
	default:
		p.answer(took, nil)
	}
}

// take ends what is kept of a probe; false: somebody else has.
func (b *Prober) take(p *probe) bool {
	if p.dial < 0 {
		if b.echoes[p.id] != p {
			return false
		}
		delete(b.echoes, p.id)
	} else {
		if b.dials[p.dial] != p {
			return false
		}
		delete(b.dials, p.dial)
		if b.flows[p.flow] == p {
			delete(b.flows, p.flow)
		}
		_ = unix.Close(p.dial) // which takes it out of epoll
	}
	p.timeout.Stop()
	return true
}

// Close answers what is under way and closes the sockets. It is idempotent.
func (b *Prober) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	var list []*probe
	for _, p := range b.echoes {
		list = append(list, p)
	}
	for _, p := range b.dials {
		list = append(list, p)
	}
	for _, p := range list {
		b.take(p)
	}
	b.mu.Unlock()
	b.poller.Remove(b.epoll)
	err := b.release()
	for _, p := range list {
		p.answer(0, fmt.Errorf("virtual router %s: probe of %s: %w", b.r.name, p.spec.Target, ErrClosed))
	}
	return err
}

func (s ProbeSpec) check(router string) error {
	bad := func(format string, args ...any) error {
		return &BadSpec{Router: router, Reason: fmt.Sprintf("a probe of %s: ", s.Target) + fmt.Sprintf(format, args...)}
	}
	switch {
	case !s.Target.Is4() || !unicast(s.Target):
		return bad("the target is not a unicast IPv4 address")
	case s.Source.IsValid() && (!s.Source.Is4() || !unicast(s.Source)):
		return bad("the source %s is not a unicast IPv4 address", s.Source)
	case s.Device != "" && (len(s.Device) > maxLinkName || !validPathElement(s.Device)):
		return bad("%q cannot be the name of an interface", s.Device)
	case s.Timeout < time.Millisecond || s.Timeout > MaxProbeTimeout:
		return bad("the time to wait, %s, is not 1 ms to %s", s.Timeout, MaxProbeTimeout)
	}
	return nil
}

// probeBatch is how many of the sockets one call of ready looks at; the Poller calls again.
const probeBatch = 64

// ready reads what has come. It runs in the Poller's goroutine.
func (b *Prober) ready() {
	var events [probeBatch]unix.EpollEvent
	n, err := unix.EpollWait(b.epoll, events[:], 0)
	if err != nil {
		return // EINTR: the Poller calls again
	}
	for _, e := range events[:n] {
		if int(e.Fd) == b.icmp {
			b.readICMP()
			continue
		}
		b.mu.Lock()
		p := b.dials[int(e.Fd)]
		var err error
		mine := p != nil
		if mine {
			// The number may be another's by now, which would not be ready.
			if mine, err = p.connected(); mine {
				mine = b.take(p)
			}
		}
		b.mu.Unlock()
		switch {
		case !mine:
		case err != nil:
			p.answer(0, err)
		default:
			p.answer(time.Since(p.began), nil)
		}
	}
}
