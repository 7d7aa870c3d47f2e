package isakmp_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// long is an encrypted message of n bytes.
func long(n int) []byte {
	body := make([]byte, n-isakmp.HeaderLen)
	for i := range body {
		body[i] = byte(i * 7)
	}
	h := isakmp.Header{Initiator: isakmp.Cookie{1}, Responder: isakmp.Cookie{2}, Exchange: isakmp.IdentityProtection}
	return isakmp.AppendEncrypted(nil, h, isakmp.TypeID, body)
}

// pieces parses the fragment messages that Split made.
func pieces(t testing.TB, msgs [][]byte) (fs []isakmp.Fragment) {
	t.Helper()
	for _, b := range msgs {
		m, err := isakmp.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Payloads) != 1 {
			t.Fatalf("%d payloads in a fragment message", len(m.Payloads))
		}
		f, err := m.Payloads[0].Fragment()
		if err != nil {
			t.Fatal(err)
		}
		fs = append(fs, f)
	}
	return fs
}

func TestFragmentBytes(t *testing.T) {
	// By hand after [MS-IKEE] section 2.2.7: id 1, number 2, last.
	p := isakmp.Payload{Type: isakmp.TypeFragment, Body: unhex(t, "0001 02 01 aabbcc")}
	f, err := p.Fragment()
	if err != nil || f.ID != 1 || f.Number != 2 || !f.Last || hex.EncodeToString(f.Data) != "aabbcc" {
		t.Errorf("%+v, %v", f, err)
	}
	if !bytes.Equal(f.Payload().Body, p.Body) {
		t.Errorf("%x", f.Payload().Body)
	}
	for _, body := range []string{"", "000102", "00010201", "00010001aa", "000141 00 aa", "0001ff00aa"} {
		_, err := isakmp.Payload{Type: isakmp.TypeFragment, Body: unhex(t, body)}.Fragment()
		wantNotify(t, body, err, isakmp.PayloadMalformed)
	}
}

func TestSplitSizes(t *testing.T) {
	for _, max := range []int{100, 552, 1280} {
		for _, n := range []int{28, 99, 100, 101, 552, 553, 1200, 2500, 2600} {
			msg := long(n)
			out, err := isakmp.Split(msg, max, 9)
			if err != nil {
				t.Fatal(err)
			}
			if n <= max {
				if len(out) != 1 || !bytes.Equal(out[0], msg) {
					t.Errorf("%d bytes in %d: changed", n, max)
				}
				continue
			}
			var r isakmp.Reassembler
			for i, f := range pieces(t, out) {
				h, _, _ := isakmp.ParseHeader(out[i])
				if len(out[i]) > max || h.Encrypted() || h.Initiator != (isakmp.Cookie{1}) || h.Exchange != isakmp.IdentityProtection || f.ID != 9 {
					t.Errorf("%d in %d: piece %d has %d bytes, %+v", n, max, i, len(out[i]), h)
				}
				got, err := r.Add(t0, f)
				if err != nil || (got != nil) != (i == len(out)-1) || got != nil && !bytes.Equal(got, msg) {
					t.Errorf("%d in %d: piece %d gives %d bytes, %v", n, max, i, len(got), err)
				}
			}
		}
	}
	for _, c := range []struct{ n, max int }{{2000, 36}, {2000, 37}, {2000, 60}, {2000, 0}, {2000, -1}} {
		if _, err := isakmp.Split(long(c.n), c.max, 1); err == nil {
			t.Errorf("%d bytes split into pieces of %d", c.n, c.max)
		}
	}
	if _, err := isakmp.Split(make([]byte, 2000), 100, 1); err == nil {
		t.Error("what is no message was split")
	}
}

func TestReassemblyInAnyOrder(t *testing.T) {
	msg := long(3000)
	out, err := isakmp.Split(msg, 400, 1)
	if err != nil {
		t.Fatal(err)
	}
	fs := pieces(t, out)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var r isakmp.Reassembler
		var got []byte
		order := rng.Perm(len(fs))
		for i, k := range order {
			for range 1 + rng.IntN(2) { // duplicates, but not after the end
				m, err := r.Add(t0, fs[k])
				if err != nil {
					t.Fatal(err)
				}
				if m != nil {
					got = m
					break
				}
			}
			if (got != nil) != (i == len(order)-1) {
				t.Fatalf("message after %d of %d pieces", i+1, len(order))
			}
			// What is held survives the store at any time.
			b, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			r = isakmp.Reassembler{}
			if err := json.Unmarshal(b, &r); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, msg) {
			t.Fatal("another message came out")
		}
		if r.Bytes != 0 || len(r.Pieces) != 0 {
			t.Fatal("pieces are left")
		}
	}
}

// TestLateDuplicates: racoon gives each message the id 1; a repeated piece of the
// first message must not keep the second from coming through when it is sent
// again.
func TestLateDuplicates(t *testing.T) {
	first, second := long(1000), long(1800)
	split := func(m []byte) []isakmp.Fragment {
		out, err := isakmp.Split(m, 500, 1)
		if err != nil {
			t.Fatal(err)
		}
		return pieces(t, out)
	}
	a, b := split(first), split(second)
	for late := range a {
		var r isakmp.Reassembler
		for _, f := range a {
			if _, err := r.Add(t0, f); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Add(t0, a[late]); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for range 2 {
			for _, f := range b {
				if m, err := r.Add(t0, f); err != nil {
					t.Fatal(err)
				} else if m != nil {
					got = m
				}
			}
		}
		if !bytes.Equal(got, second) {
			t.Errorf("a late piece %d of the first message blocked the second", late+1)
		}
	}
}

func TestReassemblyLimits(t *testing.T) {
	var r isakmp.Reassembler
	big := make([]byte, 1024)
	var err error
	for i := range isakmp.MaxReassembly/1024 + 1 {
		if _, err = r.Add(t0, isakmp.Fragment{ID: 1, Number: uint8(i + 1), Data: big}); err != nil {
			break
		}
		if r.Bytes > isakmp.MaxReassembly {
			t.Fatalf("%d bytes held", r.Bytes)
		}
	}
	wantNotify(t, "too many bytes", err, isakmp.PayloadMalformed)
	if r.Bytes != 0 || r.Pieces != nil {
		t.Error("pieces are left after the limit")
	}
	for _, f := range []isakmp.Fragment{{Number: 0, Data: big}, {Number: isakmp.MaxFragments + 1, Data: big}, {Number: 1}} {
		if _, err := r.Add(t0, f); err == nil {
			t.Errorf("number %d with %d bytes accepted", f.Number, len(f.Data))
		}
	}
	// Two last pieces, or pieces behind the last one, never make a message.
	one := []byte{1}
	for _, fs := range [][]isakmp.Fragment{
		{{ID: 1, Number: 3, Last: true, Data: one}, {ID: 1, Number: 2, Last: true, Data: one}, {ID: 1, Number: 1, Data: one}},
		{{ID: 1, Number: 1, Data: one}, {ID: 1, Number: 3, Data: one}, {ID: 1, Number: 2, Last: true, Data: one}},
		{{ID: 1, Number: 2, Last: true, Data: one}, {ID: 2, Number: 1, Data: one}},
		{{ID: 1, Number: 1, Data: one}, {ID: 1, Number: 1, Last: true, Data: []byte{2}}, {ID: 1, Number: 2, Last: true, Data: one}},
	} {
		var r isakmp.Reassembler
		for i, f := range fs {
			m, err := r.Add(t0, f)
			if err != nil {
				t.Error(err)
			}
			if m != nil && len(m) != 1 && i != len(fs)-1 {
				t.Errorf("%v made a message of %d bytes", fs, len(m))
			}
		}
	}
}

func TestReassemblyExpires(t *testing.T) {
	var r isakmp.Reassembler
	if r.Expire(t0) {
		t.Error("nothing expired")
	}
	one := isakmp.Fragment{ID: 1, Number: 1, Data: []byte{1}}
	if _, err := r.Add(t0, one); err != nil {
		t.Fatal(err)
	}
	if r.Expire(t0.Add(isakmp.FragmentTimeout)) || r.Bytes != 1 {
		t.Error("expired too early")
	}
	// A piece that comes too late begins anew.
	if m, err := r.Add(t0.Add(isakmp.FragmentTimeout+1), isakmp.Fragment{ID: 1, Number: 2, Last: true, Data: []byte{2}}); m != nil || err != nil {
		t.Errorf("%x, %v", m, err)
	}
	if !r.Expire(t0.Add(3*isakmp.FragmentTimeout)) || r.Bytes != 0 {
		t.Error("not expired")
	}
}
