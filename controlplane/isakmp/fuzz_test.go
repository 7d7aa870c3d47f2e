package isakmp_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
)

// FuzzParse: what parses appends to the bytes it came from, but for padding
// behind the chain, and every decoder of every payload keeps its promises.
func FuzzParse(f *testing.F) {
	f.Add(unhex(f, clearMessage))
	for _, o := range offers.All() {
		f.Add(o.MainMode(isakmp.Cookie{1}).Append(nil))
	}
	h := isakmp.Header{Initiator: isakmp.Cookie{1}, Exchange: isakmp.QuickMode}
	o := offers.AppleCisco()
	f.Add(isakmp.Message{Header: h, Payloads: []isakmp.Payload{
		{Type: isakmp.TypeHash, Body: make([]byte, 20)},
		o.QuickSA(1, isakmp.NATTDraft03).Payload(),
		isakmp.TextID(isakmp.IDKeyID, "group").Payload(),
		{Type: isakmp.TypeNotify, Body: unhex(f, rUThere)},
		isakmp.DeleteESP(1, 2).Payload(),
		isakmp.Cert{Encoding: 4, Data: []byte{1}}.RequestPayload(),
		isakmp.AttributeSet{Type: 1, Attributes: []isakmp.Attribute{{Type: 16521, Value: []byte("bob")}}}.Payload(),
		isakmp.Fragment{ID: 1, Number: 1, Data: []byte{1}}.Payload(),
		{Type: isakmp.TypeNATOADraft, Body: []byte{1, 0, 0, 0, 1, 2, 3, 4}},
	}}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		if len(b) >= isakmp.HeaderLen && len(b) <= isakmp.MaxMessage && b[24] == 0 {
			// Most mutations would do no more than break the length field.
			binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
		}
		in := bytes.Clone(b)
		m, err := isakmp.Parse(b)
		if err != nil {
			checkError(t, err)
			return
		}
		out := m.Append(nil)
		// Only padding may be missing, and the length field says so.
		if len(out) > len(b) || !bytes.Equal(out[:24], b[:24]) || !bytes.Equal(out[28:], b[28:len(out)]) {
			t.Fatalf("appends to %x", out)
		}
		again, err := isakmp.Parse(out)
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%v: parses again as %v, was %v", err, again, m)
		}
		for _, p := range m.Payloads {
			// A copy, since the checks clear what is not kept.
			checkPayload(t, isakmp.Payload{Type: p.Type, Body: bytes.Clone(p.Body)})
		}
		for step := -1; step < 8; step++ {
			if err := isakmp.Check(m.Header.Exchange, step, m.Payloads, step > 4); err != nil {
				checkError(t, err)
			}
		}
		if !bytes.Equal(in, b) {
			t.Fatal("the input was changed")
		}
	})
}

// checkError: every error of a decoder says what to answer.
func checkError(t *testing.T, err error) {
	t.Helper()
	var e *isakmp.Error
	if !errors.As(err, &e) || !e.Notify.IsError() || e.Reason == isakmp.ReasonNone || e.Where == "" || e.Err == nil || len(e.Error()) > 300 {
		t.Fatalf("error %#v", err)
	}
}

// checkPayload decodes one payload; what decodes must encode to the same body.
func checkPayload(t *testing.T, p isakmp.Payload) {
	t.Helper()
	same := func(q isakmp.Payload, err error) {
		t.Helper()
		if err != nil {
			checkError(t, err)
			return
		}
		if q.Type != p.Type || !bytes.Equal(q.Body, p.Body) {
			t.Fatalf("%v %x encodes again as %v %x", p.Type, p.Body, q.Type, q.Body)
		}
	}
	switch p.Type {
	case isakmp.TypeSA:
		sa, err := p.SA()
		if err != nil {
			checkError(t, err)
			return
		}
		same(sa.Payload(), nil)
		for _, pr := range sa.Proposals {
			for _, tr := range pr.Transforms {
				checkTransform(t, tr)
			}
		}
	case isakmp.TypeID:
		id, err := p.ID()
		if err != nil {
			checkError(t, err)
			return
		}
		same(id.Payload(), nil)
		if from, to, ok := id.Range(); ok && (to.Less(from) || from.BitLen() != to.BitLen()) {
			t.Fatalf("range %v to %v", from, to)
		}
		_ = id.String()
	case isakmp.TypeCert:
		c, err := p.Cert()
		same(c.Payload(), err)
	case isakmp.TypeCertRequest:
		c, err := p.CertRequest()
		same(c.RequestPayload(), err)
	case isakmp.TypeNotify:
		n, err := p.Notify()
		if err != nil {
			checkError(t, err)
			return
		}
		same(n.Payload(), nil)
		if _, err := n.Lifetime(); err != nil {
			checkError(t, err)
		}
	case isakmp.TypeDelete:
		d, err := p.Delete()
		if err != nil {
			checkError(t, err)
			return
		}
		same(d.Payload(), nil)
	case isakmp.TypeAttributes:
		s, err := p.Attributes()
		if err != nil {
			checkError(t, err)
			return
		}
		p.Body[1] = 0 // the reserved byte is not kept
		same(s.Payload(), nil)
	case isakmp.TypeFragment:
		f, err := p.Fragment()
		if err != nil {
			checkError(t, err)
			return
		}
		p.Body[3] &= 1 // nor are unknown flags
		same(f.Payload(), nil)
	case isakmp.TypeNATOA, isakmp.TypeNATOADraft, isakmp.TypeNATOAApple:
		a, err := p.NATOA()
		if err != nil {
			checkError(t, err)
		} else if !a.IsValid() {
			t.Fatal("no address")
		}
	case isakmp.TypeVendorID:
		_ = isakmp.Identify(p.Body).String()
	}
}

// checkTransform: the typed views lose nothing but the form of numbers.
func checkTransform(t *testing.T, tr isakmp.Transform) {
	t.Helper()
	if p, ok := tr.Phase1(); ok && len(p.Unknown) == 0 {
		if q, ok := p.Transform().Phase1(); !ok || !sameLife(&q.Life, p.Life) || !reflect.DeepEqual(p, q) {
			t.Fatalf("phase 1: %+v became %+v", p, q)
		}
		_ = p.String()
	}
	if e := tr.ESP(); len(e.Unknown) == 0 {
		if q := e.Transform().ESP(); !sameLife(&q.Life, e.Life) || !reflect.DeepEqual(e, q) {
			t.Fatalf("ESP: %+v became %+v", e, q)
		}
		_ = e.String()
	}
}

// sameLife allows for lifetimes over 32 bits, which are cut when encoded, and
// makes got equal to want if that is all.
func sameLife(got *isakmp.Life, want isakmp.Life) bool {
	ok := got.Seconds == min(want.Seconds, 1<<32-1) && got.Kilobytes == min(want.Kilobytes, 1<<32-1)
	*got = want
	return ok
}

// FuzzPayloads: the chain of a decrypted body.
func FuzzPayloads(f *testing.F) {
	f.Add(uint8(8), unhex(f, "0d000008aabbccdd00000004ffff"))
	f.Fuzz(func(t *testing.T, first uint8, b []byte) {
		ps, err := isakmp.ParsePayloads(isakmp.PayloadType(first), b)
		if err != nil {
			checkError(t, err)
			return
		}
		out := isakmp.AppendPayloads(nil, ps)
		if len(ps) > isakmp.MaxPayloads || isakmp.First(ps) != isakmp.PayloadType(first) || !bytes.HasPrefix(b, out) {
			t.Fatalf("%d payloads, %x", len(ps), out)
		}
	})
}

// FuzzDecoders: the body of one payload of any type.
func FuzzDecoders(f *testing.F) {
	for _, p := range []isakmp.Payload{
		{Type: isakmp.TypeSA, Body: unhex(f, draytek)},
		{Type: isakmp.TypeSA, Body: unhex(f, quickSA)},
		{Type: isakmp.TypeNotify, Body: unhex(f, rUThere)},
		{Type: isakmp.TypeID, Body: unhex(f, "0600000020010db8000000000000000000000000ffffffff000000000000000000000000")},
		{Type: isakmp.TypeID, Body: unhex(f, "07000000"+"0a000005"+"0a000009")},
		isakmp.DeleteESP(1, 2).Payload(),
		isakmp.Cert{Encoding: 4, Data: []byte{1}}.Payload(),
		isakmp.Cert{Encoding: 4}.RequestPayload(),
		isakmp.AttributeSet{Type: 1, Attributes: []isakmp.Attribute{{Type: 16521, Value: []byte("bob")}}}.Payload(),
		isakmp.ResponderLifetimeNotify(isakmp.ProtocolESP, make([]byte, 4), isakmp.Life{Seconds: 1 << 20}).Payload(),
		isakmp.Fragment{ID: 1, Number: 1, Data: []byte{1}}.Payload(),
		isakmp.VendorPayload(isakmp.VendorMicrosoft, 9),
		{Type: isakmp.TypeNATOA, Body: []byte{1, 0, 0, 0, 1, 2, 3, 4}},
	} {
		f.Add(uint8(p.Type), p.Body)
	}
	f.Fuzz(func(t *testing.T, typ uint8, body []byte) {
		if len(body) > 65531 {
			return // no payload is longer
		}
		checkPayload(t, isakmp.Payload{Type: isakmp.PayloadType(typ), Body: bytes.Clone(body)})
	})
}

// FuzzReassembler: whatever pieces come, the limits hold, nothing panics, and a
// message that comes out is made of pieces of one id in order.
func FuzzReassembler(f *testing.F) {
	f.Add([]byte{0, 1, 0, 3, 0, 2, 1, 4})
	f.Add([]byte{1, 2, 1, 9, 1, 2, 1, 9, 1, 1, 0, 9, 64, 200, 0, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		script = script[:min(len(script), 2048)]
		var r isakmp.Reassembler
		now := t0
		seen := map[byte]bool{} // tags of the id that is being collected
		for ; len(script) >= 4; script = script[4:] {
			id, number, flags, tag := script[0]&3, script[1], script[2], script[3]
			now = now.Add(time.Duration(flags>>4) * time.Second)
			data := bytes.Repeat([]byte{id<<6 | tag&63}, 1+int(tag)*8)
			msg, err := r.Add(now, isakmp.Fragment{ID: uint16(id), Number: number, Last: flags&1 != 0, Data: data})
			if err != nil {
				checkError(t, err)
			}
			seen[id] = true
			held := 0
			for _, p := range r.Pieces {
				held += len(p)
			}
			if held != r.Bytes || held > isakmp.MaxReassembly || len(r.Pieces) > isakmp.MaxFragments {
				t.Fatalf("%d bytes held, %d counted, %d pieces", held, r.Bytes, len(r.Pieces))
			}
			if msg == nil {
				continue
			}
			if len(msg) > isakmp.MaxReassembly || r.Bytes != 0 || flags&1 == 0 && len(msg) <= len(data) && number != 1 {
				t.Fatalf("message of %d bytes, %d left", len(msg), r.Bytes)
			}
			for _, b := range msg {
				if b>>6 != id {
					t.Fatalf("a piece of id %d in a message of id %d", b>>6, id)
				}
			}
		}
		if r.Bytes > 0 && !seen[byte(r.ID)] {
			t.Fatalf("id %d held but never sent", r.ID)
		}
		r.Expire(now.Add(2 * isakmp.FragmentTimeout))
		if r.Bytes != 0 || r.Pieces != nil {
			t.Fatal("pieces are left after the timeout")
		}
	})
}
