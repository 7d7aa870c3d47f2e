package accounting

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"vrgate/controlplane/subscriber"
)

// Errors that Start's done gets, where accounting is required.
var (
	// ErrNotAcknowledged: no server has acknowledged the start within AcknowledgeTimeout.
	ErrNotAcknowledged = errors.New("accounting: no server has acknowledged the start in time")
	// ErrClosed: the journal is closed. Start's done gets it whether or not accounting is required.
	ErrClosed = errors.New("accounting: the journal is closed")
)

// Defaults of Config.
const (
	DefaultParallel           = 32
	DefaultMaxRecords         = 1_000_000
	DefaultMaxUnsaved         = 100_000
	DefaultDiskTimeout        = 5 * time.Second
	DefaultAcknowledgeTimeout = 10 * time.Second
)

// Extra is what an encoded record needs besides the session's.
type Extra struct {
	// At is when it happened: Event-Timestamp.
	At time.Time
	// Router and Group say whose servers get it.
	Router, Group string
	// Cause is the Acct-Terminate-Cause of a stop (R9, R10) and of KindOff; 0: none.
	Cause uint32
}

// Config of a journal.
type Config struct {
	// Encode makes the attributes of a record, at most [MaxAttributes] bytes, as type, length,
	// value one after the other. Acct-Delay-Time is not among them. It is called from several
	// goroutines and must give the same bytes for the same arguments. For KindOn and KindOff
	// only Router of the record is set.
	Encode func(kind Kind, rec subscriber.Record, x Extra) ([]byte, error)
	// Required tells of which virtual router sessions must not be without accounting: their
	// starts wait for a server. It is called from several goroutines. Nil: of none.
	Required func(router string) bool
	// Cause gives the Acct-Terminate-Cause of a reason in a virtual router (R10), from several
	// goroutines. Nil: the defaults of [NewCodes].
	Cause func(router string, reason subscriber.Reason) uint32
	// Parallel is how many records of one group may be on their way at once. Of all groups it is
	// eight times as many, besides one of each. Default 32.
	Parallel int
	// MaxRecords bounds the journal: above it the oldest interims are dropped. Starts and stops
	// never are. Default 1,000,000.
	MaxRecords int
	// MaxUnsaved bounds what memory holds while the disk refuses: above it interims are dropped,
	// and then new sessions are not accounted. Default 100,000.
	MaxUnsaved int
	// DiskTimeout is how long anybody waits for the disk. Default 5 s.
	DiskTimeout time.Duration
	// AcknowledgeTimeout is how long a start waits for a server where accounting is required.
	// Default 10 s.
	AcknowledgeTimeout time.Duration
}

// Deliver sends a record and returns nil when a server has acknowledged exactly it. It is called
// from several goroutines, and must end soon after ctx.
type Deliver func(ctx context.Context, router, group string, attributes []byte, at time.Time) error

// Journal is the accounting journal. Its methods may be called from any goroutine, do not block,
// and keep the order in which they are called. Callbacks come from the journal's goroutine, and
// must not block either.
type Journal struct {
	// Constant after Open.
	cfg  Config
	log  *zap.Logger
	send Deliver
	disk Disk

	inbox  inbox
	writes chan write
	stop   context.CancelFunc // ends run
	group  *errgroup.Group

	mu   sync.Mutex // not held while anything is done
	core *core
	// warned is when a kind of notice was logged last; touched by run only.
	warned map[notice]time.Time
}

// Open reads what an earlier journal has left in the store, which must stay open until Close has
// returned, and begins to deliver it. Sessions that were open get their stops, before anything
// that is called afterwards. Errors: those of the store.
func Open(st Disk, cfg Config, deliver Deliver, log *zap.Logger) (*Journal, error) {
	cfg = cfg.withDefaults()
	c := newCore(limits{
		parallel: cfg.Parallel, inFlight: 8 * cfg.Parallel, maxRecords: cfg.MaxRecords, maxUnsaved: cfg.MaxUnsaved,
		disk: cfg.DiskTimeout, acknowledgement: cfg.AcknowledgeTimeout,
	})
	survivors, damaged, err := c.recall(st)
	if err != nil {
		return nil, err
	}
	if damaged > 0 {
		c.stats.Lost += uint64(damaged)
		log.Error("entries of the accounting journal cannot be read", zap.Int("entries", damaged))
	}
	j := &Journal{
		cfg: cfg, log: log, send: deliver, disk: st, writes: make(chan write, 1), core: c, warned: map[notice]time.Time{},
		inbox: inbox{wake: make(chan struct{}, 1)},
	}
	j.recover(survivors)
	if c.total > 0 {
		log.Info("accounting records were left by the last run", zap.Int("records", c.total), zap.Uint64("stops-of-lost-sessions", c.stats.Recovered))
	}
	ctx, cancel := context.WithCancel(context.Background())
	j.stop = cancel
	j.group = &errgroup.Group{}
	j.group.Go(func() error { return j.run(ctx) })
	j.group.Go(j.runWriter)
	return j, nil
}

func (cfg Config) withDefaults() Config {
	for _, d := range []struct {
		v *int
		n int
	}{{&cfg.Parallel, DefaultParallel}, {&cfg.MaxRecords, DefaultMaxRecords}, {&cfg.MaxUnsaved, DefaultMaxUnsaved}} {
		if *d.v <= 0 {
			*d.v = d.n
		}
	}
	if cfg.DiskTimeout <= 0 {
		cfg.DiskTimeout = DefaultDiskTimeout
	}
	if cfg.AcknowledgeTimeout <= 0 {
		cfg.AcknowledgeTimeout = DefaultAcknowledgeTimeout
	}
	if cfg.Required == nil {
		cfg.Required = func(string) bool { return false }
	}
	if cfg.Cause == nil {
		codes := NewCodes()
		cfg.Cause = func(_ string, reason subscriber.Reason) uint32 { return codes.Cause(reason) }
	}
	return cfg
}

// recover makes the stops that sessions are owed which the daemon's death has ended.
func (j *Journal) recover(survivors []survivor) {
	for _, s := range survivors {
		rec := s.Record
		rec.Ended, rec.Reason, rec.Text, rec.ByPeer = s.At, subscriber.ReasonRestarted, "", false
		r, err := j.encode(KindStop, rec, s.At)
		if err != nil {
			// It stays open: the next version may know better.
			j.log.Error("a session that was lost gets no accounting stop", zap.Error(err), zap.Uint64("session", uint64(rec.ID)))
			continue
		}
		j.core.recovered(nameOf(rec), r)
	}
}

func nameOf(rec subscriber.Record) queueName { return queueName{rec.By.Router, rec.By.Accounting} }

func (j *Journal) encode(kind Kind, rec subscriber.Record, at time.Time) (record, error) {
	x := Extra{At: at, Router: rec.By.Router, Group: rec.By.Accounting}
	switch kind {
	case KindStop:
		x.Cause = j.cfg.Cause(x.Router, rec.Reason)
	case KindOff:
		x.Cause = CauseAdminReboot
	}
	if len(rec.Router) > maxRouterName || len(x.Router) > maxRouterName {
		return record{}, fmt.Errorf("accounting: a virtual router's name has more than %d bytes", maxRouterName)
	}
	a, err := j.cfg.Encode(kind, rec, x)
	if err == nil && len(a) > MaxAttributes {
		err = fmt.Errorf("%d bytes of attributes, at most %d", len(a), MaxAttributes)
	}
	if err != nil {
		return record{}, fmt.Errorf("accounting: %v of session %d: %w", kind, rec.ID, err)
	}
	return record{kind: kind, at: at, session: sessionKey{rec.Router, rec.ID}, attributes: a}, nil
}

// Start begins the accounting of a session: the start record and the promise of a stop. A session
// without a group (rec.By.Accounting) has none. done is called once, soon: with nil when the start
// is on disk or the disk refuses; where accounting is required, with nil when a server has
// acknowledged it, and otherwise with an error, after which no Stop may follow.
func (j *Journal) Start(rec subscriber.Record, done func(err error)) {
	if rec.By.Accounting == "" {
		j.post(func(c *core, _ time.Time) { c.emit(answer{done, nil}) }, func() { done(nil) })
		return
	}
	at := rec.Up
	if at.IsZero() {
		at = time.Now()
	}
	required := j.cfg.Required(rec.By.Router)
	r, err := j.encode(KindStart, rec, at)
	// The session comes up only after the answer. Should it be lost with the daemon, it has lasted
	// from now on (Acct-Session-Time).
	stored := rec
	stored.Up = at
	session, serr := appendSession(stored, at)
	if err = errors.Join(err, serr); err != nil {
		j.log.Error("a session has no accounting", zap.Error(err), zap.String("user", rec.User))
		if !required {
			err = nil
		}
		j.post(func(c *core, _ time.Time) { c.stats.Lost++; c.emit(answer{done, err}) }, func() { done(ErrClosed) })
		return
	}
	var w *waiter
	if required {
		w = &waiter{rec: rec}
	}
	j.post(func(c *core, now time.Time) { c.start(now, nameOf(rec), r, session, w, done) }, func() { done(ErrClosed) })
}

// Interim reports the traffic of a session that Start was called for, freshly read.
func (j *Journal) Interim(rec subscriber.Record) {
	now := time.Now()
	r, err := j.encode(KindInterim, rec, now)
	session, serr := appendSession(rec, now)
	if err = errors.Join(err, serr); err != nil {
		j.log.Error("an interim accounting record cannot be made", zap.Error(err))
		return
	}
	f := figures{rec.Counters, now}
	j.post(func(c *core, _ time.Time) { c.interim(r, session, f) }, nil)
}

// Checkpoint keeps the traffic of sessions, freshly read, for the stops they are owed should the
// daemon die. The shell calls it each minute.
func (j *Journal) Checkpoint(recs []subscriber.Record) {
	now := time.Now()
	known := make(map[sessionKey]figures, len(recs))
	for _, rec := range recs {
		known[sessionKey{rec.Router, rec.ID}] = figures{rec.Counters, now}
	}
	j.post(func(c *core, _ time.Time) {
		for key, f := range known {
			c.checkpoint(key, f)
		}
	}, nil)
}

// Stop ends the accounting of a session that Start was called for. done, if it is not nil, is
// called once, soon: when the stop is on disk, or the disk refuses.
func (j *Journal) Stop(rec subscriber.Record, done func()) {
	called := func(error) {
		if done != nil {
			done()
		}
	}
	at := rec.Ended
	if at.IsZero() {
		at = time.Now()
	}
	r, err := j.encode(KindStop, rec, at)
	if err != nil {
		// The session stays open in the journal: the next start of the daemon tries again.
		j.log.Error("an accounting stop cannot be made", zap.Error(err), zap.String("user", rec.User))
		j.post(func(c *core, _ time.Time) { c.emit(answer{called, nil}) }, func() { called(nil) })
		return
	}
	j.post(func(c *core, _ time.Time) { c.stop(r, called) }, func() { called(nil) })
}

// RouterUp has Accounting-On sent to a group of servers of a virtual router: after everything
// before, and before everything after.
func (j *Journal) RouterUp(router, group string) { j.barrier(KindOn, router, group) }

// RouterDown has Accounting-Off sent likewise.
func (j *Journal) RouterDown(router, group string) { j.barrier(KindOff, router, group) }

func (j *Journal) barrier(kind Kind, router, group string) {
	rec := subscriber.Record{Router: router}
	rec.By.Router, rec.By.Accounting = router, group
	r, err := j.encode(kind, rec, time.Now())
	if err != nil {
		j.log.Error("an accounting record of the virtual router cannot be made", zap.Error(err), zap.String("vr", router))
		return
	}
	j.post(func(c *core, _ time.Time) { c.barrier(nameOf(rec), r) }, nil)
}
