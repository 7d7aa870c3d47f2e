package isakmp

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Fragments: the private IKEv1 scheme of Microsoft and Cisco ([MS-IKEE] section
// 2.2.7, also in racoon, strongSwan and libreswan). A whole message, header
// included and mostly encrypted already, is cut into pieces; each travels as the
// only payload (132) of a message with the same cookies and exchange type.
//
//	+---------------+---------------+-------------------------------+
//	| Next Payload  |   RESERVED    |         Payload Length        |
//	+---------------+---------------+---------------+---------------+
//	|          Fragment ID          |    Number     |     Flags     |
//	+---------------+---------------+---------------+---------------+
//	|                          Fragment Data                        |

// Limits of fragmentation.
const (
	fragmentHeaderLen = 4
	fragmentOverhead  = HeaderLen + payloadHeaderLen + fragmentHeaderLen
	fragmentLast      = 1 // flag

	// MaxFragments is how many pieces a message may have; 64 of 500 bytes hold
	// the longest certificate chain seen.
	MaxFragments = 64
	// MaxReassembly is how many bytes a message may have that came in pieces,
	// and so how much a peer can make us hold.
	MaxReassembly = 32768
	// FragmentTimeout is how long pieces wait for the rest of their message; a
	// sender repeats the whole message much sooner.
	FragmentTimeout = 30 * time.Second
)

// Fragment is one piece of a message.
type Fragment struct {
	ID     uint16
	Number uint8 // from 1
	Last   bool
	Data   []byte
}

// Fragment decodes a fragment payload.
func (p Payload) Fragment() (Fragment, error) {
	if err := p.expect(TypeFragment); err != nil {
		return Fragment{}, err
	}
	b := p.Body
	if len(b) <= fragmentHeaderLen || b[2] == 0 || b[2] > MaxFragments {
		return Fragment{}, fragmentError("%d bytes or number out of range", len(b))
	}
	return Fragment{
		ID:     binary.BigEndian.Uint16(b),
		Number: b[2],
		Last:   b[3]&fragmentLast != 0,
		Data:   b[fragmentHeaderLen:],
	}, nil
}

// Payload encodes the fragment.
func (f Fragment) Payload() Payload {
	b := binary.BigEndian.AppendUint16(nil, f.ID)
	flags := byte(0)
	if f.Last {
		flags = fragmentLast
	}
	b = append(b, f.Number, flags)
	return Payload{Type: TypeFragment, Body: append(b, f.Data...)}
}

// Split cuts a finished message into messages of at most maxLen bytes each (UDP
// payload, without a non-ESP marker) under one fragment id. A message that fits
// comes back alone and unchanged. It fails if maxLen is too small for
// MaxFragments pieces, or msg is no message.
func Split(msg []byte, maxLen int, id uint16) ([][]byte, error) {
	if len(msg) <= maxLen {
		return [][]byte{msg}, nil
	}
	h, _, err := ParseHeader(msg)
	if err != nil {
		return nil, err
	}
	room := maxLen - fragmentOverhead
	if room <= 0 || (len(msg)+room-1)/room > MaxFragments {
		return nil, fragmentError("message of %d bytes does not fit %d pieces of %d", len(msg), MaxFragments, maxLen)
	}
	h.Flags &^= FlagEncrypted // it is the content that is encrypted
	var out [][]byte
	for n := uint8(1); len(msg) > 0; n++ {
		piece := msg[:min(room, len(msg))]
		msg = msg[len(piece):]
		f := Fragment{ID: id, Number: n, Last: len(msg) == 0, Data: piece}
		m := Message{Header: h, Payloads: []Payload{f.Payload()}}
		out = append(out, m.Append(make([]byte, 0, len(piece)+fragmentOverhead)))
	}
	return out, nil
}

// Reassembler collects the pieces of one message at a time from one peer, at
// most MaxReassembly bytes in MaxFragments pieces. It is plain data and can be
// stored. The zero value is ready.
//
// One at a time suffices, because IKEv1 has one message in flight; racoon and
// Cisco give every message the same fragment id, so a piece that contradicts
// what is held starts a new message rather than spoiling it. Pieces are not
// authenticated: what comes out is treated like a datagram from anywhere.
type Reassembler struct {
	ID     uint16
	Since  time.Time // when the first piece came
	Last   uint8     // number of the last piece, 0: not seen
	Bytes  int       // held
	Pieces [][]byte  // by number-1; nil: missing
}

// Add takes a piece at time now. It returns the whole message when the piece
// was the last one missing, else nil. Repeated pieces change nothing. The piece
// is copied. An error (reason fragment or limit) means that everything held was
// dropped.
func (r *Reassembler) Add(now time.Time, f Fragment) ([]byte, error) {
	if f.Number == 0 || f.Number > MaxFragments || len(f.Data) == 0 {
		return nil, fragmentError("number %d with %d bytes", f.Number, len(f.Data))
	}
	if r.Bytes > 0 && (f.ID != r.ID || now.Sub(r.Since) > FragmentTimeout || r.contradicts(f)) {
		*r = Reassembler{}
	}
	if r.Bytes == 0 {
		*r = Reassembler{ID: f.ID, Since: now}
	}
	i := int(f.Number) - 1
	if i < len(r.Pieces) && r.Pieces[i] != nil {
		return nil, nil // the same again
	}
	if r.Bytes+len(f.Data) > MaxReassembly {
		*r = Reassembler{}
		return nil, tooMany(PayloadMalformed, "bytes in fragments", MaxReassembly)
	}
	for len(r.Pieces) <= i {
		r.Pieces = append(r.Pieces, nil)
	}
	r.Pieces[i] = append([]byte(nil), f.Data...)
	r.Bytes += len(f.Data)
	if f.Last {
		r.Last = f.Number
	}
	if !r.complete() {
		return nil, nil
	}
	msg := make([]byte, 0, r.Bytes)
	for _, p := range r.Pieces {
		msg = append(msg, p...)
	}
	*r = Reassembler{}
	return msg, nil
}

// Expire drops what has waited longer than FragmentTimeout and tells whether
// anything was.
func (r *Reassembler) Expire(now time.Time) bool {
	if r.Bytes == 0 || now.Sub(r.Since) <= FragmentTimeout {
		return false
	}
	*r = Reassembler{}
	return true
}

// contradicts tells whether f cannot be of the same message as what is held.
func (r *Reassembler) contradicts(f Fragment) bool {
	i := int(f.Number) - 1
	switch {
	case i < len(r.Pieces) && r.Pieces[i] != nil:
		return string(r.Pieces[i]) != string(f.Data) || f.Last != (r.Last == f.Number)
	case r.Last != 0:
		return f.Last || f.Number > r.Last
	default:
		return f.Last && int(f.Number) < len(r.Pieces)
	}
}

// complete tells whether the last piece and all before it are there.
func (r *Reassembler) complete() bool {
	if r.Last == 0 || len(r.Pieces) != int(r.Last) {
		return false
	}
	for _, p := range r.Pieces {
		if p == nil {
			return false
		}
	}
	return true
}

func fragmentError(format string, args ...any) error {
	return &Error{Notify: PayloadMalformed, Reason: ReasonFragment, Where: "FRAGMENT", Err: fmt.Errorf(format, args...)}
}
