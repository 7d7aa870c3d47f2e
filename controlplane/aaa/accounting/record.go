package accounting

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"vrgate/controlplane/subscriber"
)

// Kind is what a record says; the numbers are those of Acct-Status-Type (RFC 2866 section 5.1).
type Kind uint8

// Kinds of records.
const (
	KindStart   Kind = 1
	KindStop    Kind = 2
	KindInterim Kind = 3
	KindOn      Kind = 7 // Accounting-On: the router begins to serve
	KindOff     Kind = 8 // Accounting-Off: it stops
)

// String returns the name that logs have.
func (k Kind) String() string {
	switch k {
	case KindStart:
		return "start"
	case KindStop:
		return "stop"
	case KindInterim:
		return "interim"
	case KindOn:
		return "on"
	case KindOff:
		return "off"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// barrier tells whether everything before must have been delivered, and nothing after.
func (k Kind) barrier() bool { return k == KindOn || k == KindOff }

// MaxAttributes bounds the attributes of one record, in bytes: RFC 2865 section 3 allows packets
// of 4096 with a header of 20, and 6 go to Acct-Delay-Time.
const MaxAttributes = 4096 - 20 - 6

// recordVersion begins a stored record, sessionVersion an open session.
const (
	recordVersion  = 1
	sessionVersion = 1
)

// maxRouterName bounds the names of virtual routers and of groups in the journal, in bytes.
const maxRouterName = 255

var errDamaged = errors.New("accounting: damaged entry in the journal")

// sessionKey names a session: IDs are drawn by each virtual router for itself.
type sessionKey struct {
	router string
	id     subscriber.ID
}

func (k sessionKey) appendTo(b []byte) []byte {
	return append(binary.BigEndian.AppendUint64(b, uint64(k.id)), k.router...)
}

func parseSessionKey(b []byte) (sessionKey, error) {
	if len(b) < 8 || len(b) > 8+maxRouterName {
		return sessionKey{}, errDamaged
	}
	return sessionKey{router: string(b[8:]), id: subscriber.ID(binary.BigEndian.Uint64(b))}, nil
}

// recordID names a record. Its key orders the records of one queue as they happened.
type recordID struct {
	queue uint32
	seq   uint64
}

func (id recordID) key() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, id.queue), id.seq)
}

func parseRecordID(b []byte) (recordID, error) {
	if len(b) != 12 {
		return recordID{}, errDamaged
	}
	return recordID{binary.BigEndian.Uint32(b), binary.BigEndian.Uint64(b[4:])}, nil
}

// record is what the journal keeps of one event.
type record struct {
	kind       Kind
	at         time.Time  // of the event
	session    sessionKey // zero ID for barriers
	attributes []byte     // encoded once, sent as they are
}

// append writes the stored form:
//
//	version 1 | kind 1 | at, ns since 1970 8 | session 8 | length of router 1 | router | attributes
func (r record) append(b []byte) []byte {
	b = append(b, recordVersion, byte(r.kind))
	b = binary.BigEndian.AppendUint64(b, uint64(r.at.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, uint64(r.session.id))
	b = append(b, byte(len(r.session.router)))
	b = append(b, r.session.router...)
	return append(b, r.attributes...)
}

const recordHeader = 1 + 1 + 8 + 8 + 1

// parseRecord reads what append has written. The attributes alias b.
func parseRecord(b []byte) (record, error) {
	if len(b) < recordHeader || b[0] != recordVersion {
		return record{}, errDamaged
	}
	r := record{
		kind: Kind(b[1]), at: time.Unix(0, int64(binary.BigEndian.Uint64(b[2:]))).UTC(),
		session: sessionKey{id: subscriber.ID(binary.BigEndian.Uint64(b[10:]))},
	}
	switch r.kind {
	case KindStart, KindStop, KindInterim, KindOn, KindOff:
	default:
		return record{}, errDamaged
	}
	n := int(b[18])
	if len(b) < recordHeader+n || len(b)-recordHeader-n > MaxAttributes {
		return record{}, errDamaged
	}
	r.session.router = string(b[recordHeader : recordHeader+n])
	r.attributes = b[recordHeader+n:]
	return r, nil
}

// figures are what an open session is known to have counted, and when it was last seen alive.
type figures struct {
	counters subscriber.Counters
	at       time.Time
}

const figuresSize = 1 + 5*8

func (f figures) append(b []byte) []byte {
	b = append(b, sessionVersion)
	for _, n := range []uint64{f.counters.InBytes, f.counters.OutBytes, f.counters.InPackets, f.counters.OutPackets, uint64(f.at.UnixNano())} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

func parseFigures(b []byte) (figures, error) {
	if len(b) != figuresSize || b[0] != sessionVersion {
		return figures{}, errDamaged
	}
	var n [5]uint64
	for i := range n {
		n[i] = binary.BigEndian.Uint64(b[1+8*i:])
	}
	return figures{
		counters: subscriber.Counters{InBytes: n[0], OutBytes: n[1], InPackets: n[2], OutPackets: n[3]},
		at:       time.Unix(0, int64(n[4])).UTC(),
	}, nil
}

// openSession is the stored form of a session whose stop is owed.
type openSession struct {
	Version int
	At      time.Time // last sign of life
	Record  subscriber.Record
	// Raw are the texts that JSON cannot hold, because they are not UTF-8: a user's name may be
	// any bytes.
	Raw map[string][]byte `json:",omitempty"`
}

// texts are the strings of a record.
var texts = map[string]func(*subscriber.Record) *string{
	"Router":        func(r *subscriber.Record) *string { return &r.Router },
	"Terminating":   func(r *subscriber.Record) *string { return &r.Terminating },
	"User":          func(r *subscriber.Record) *string { return &r.User },
	"Access":        func(r *subscriber.Record) *string { return (*string)(&r.Access) },
	"Pool":          func(r *subscriber.Record) *string { return &r.Pool },
	"PeerHost":      func(r *subscriber.Record) *string { return &r.PeerHost },
	"LocalHost":     func(r *subscriber.Record) *string { return &r.LocalHost },
	"Peer":          func(r *subscriber.Record) *string { return &r.Peer },
	"CallingNumber": func(r *subscriber.Record) *string { return &r.CallingNumber },
	"CalledNumber":  func(r *subscriber.Record) *string { return &r.CalledNumber },
	"Protocol":      func(r *subscriber.Record) *string { return (*string)(&r.Protocol) },
	"Profile":       func(r *subscriber.Record) *string { return &r.Profile },
	"PeerID":        func(r *subscriber.Record) *string { return &r.PeerID },
	"Interface":     func(r *subscriber.Record) *string { return &r.Interface },
	"Reason":        func(r *subscriber.Record) *string { return (*string)(&r.Reason) },
	"Text":          func(r *subscriber.Record) *string { return &r.Text },
	"Traffic.In":    func(r *subscriber.Record) *string { return &r.Traffic.InPolicy },
	"Traffic.Out":   func(r *subscriber.Record) *string { return &r.Traffic.OutPolicy },
	"By.Router":     func(r *subscriber.Record) *string { return &r.By.Router },
	"By.Domain":     func(r *subscriber.Record) *string { return &r.By.Domain },
	"By.Method":     func(r *subscriber.Record) *string { return &r.By.Method },
	"By.Server":     func(r *subscriber.Record) *string { return &r.By.Server },
	"By.Accounting": func(r *subscriber.Record) *string { return &r.By.Accounting },
}

func appendSession(rec subscriber.Record, at time.Time) ([]byte, error) {
	o := openSession{Version: sessionVersion, At: at.UTC(), Record: rec}
	for name, text := range texts {
		s := text(&o.Record)
		if utf8.ValidString(*s) {
			continue
		}
		if o.Raw == nil {
			o.Raw = map[string][]byte{}
		}
		o.Raw[name] = []byte(*s)
		*s = ""
	}
	b, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("accounting: session %d: %w", rec.ID, err)
	}
	return b, nil
}

func parseSession(b []byte) (openSession, error) {
	var o openSession
	if err := json.Unmarshal(b, &o); err != nil {
		return o, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if o.Version != sessionVersion {
		return o, fmt.Errorf("%w: version %d", errDamaged, o.Version)
	}
	for name, raw := range o.Raw {
		text := texts[name]
		if text == nil {
			return o, fmt.Errorf("%w: %q", errDamaged, name)
		}
		*text(&o.Record) = string(raw)
	}
	o.Raw = nil
	return o, nil
}
