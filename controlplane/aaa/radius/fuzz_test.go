package radius

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	rad "layeh.com/radius"
	"pgregory.net/rapid"

	"vrgate/controlplane/keymat"
	"vrgate/test/faultyradius"
)

// FuzzAnswer gives an engine with one request in transit an answer. It is taken exactly if the library finds the response
// authenticator right, and, unless it is a museum piece, HMAC-MD5 finds Message-Authenticator right.
func FuzzAnswer(f *testing.F) {
	q := &rad.Packet{Code: rad.CodeAccessAccept, Secret: testSecret}
	q.Add(18, []byte("welcome"))
	f.Add([]byte{2, 0, 0, 20}, false, false)
	for _, code := range []rad.Code{rad.CodeAccessAccept, rad.CodeAccessReject, rad.CodeAccessChallenge, rad.CodeAccountingResponse} {
		q.Code = code
		b, err := SignAnswer(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true, false)
		f.Add(append(b[:20:20], b[38:]...), true, true)
		f.Add(b[:38], false, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, sign, museum bool) {
		w := newWorld(t, func(c *Config) { c.Servers[0].AllowUnsigned = museum }, silent)
		id := w.ask(pap("a", "b"))
		w.run(10 * time.Millisecond)
		request := w.lastPacket[w.address(1)]
		if sign && len(data) >= headerLen { // so that the fuzzer gets past MD5
			data = bytes.Clone(data)
			data[1] = request[1]
			if n := min(len(data), MaxPacket); data[0] == 2 || data[0] == 3 || data[0] == 11 {
				binary.BigEndian.PutUint16(data[2:], uint16(n))
				data = data[:n]
			}
			if len(data) >= 38 && data[20] == 80 && data[21] == 18 {
				clear(data[22:38])
				copy(data[22:38], messageAuthenticator(data, Authenticator(request[4:]), 20, testSecret))
			}
			sum := authenticatorOf(data, Authenticator(request[4:]), testSecret)
			copy(data[4:], sum[:])
		}
		w.step(received{w.engine.lastSocket, w.address(1), data})
		if err := invariants(w.engine); err != nil {
			t.Fatal(err)
		}
		s := w.status(1, Authentication)
		got, taken := w.ended[id]
		counted := uint64(0)
		for _, o := range []Outcome{Accepted, Rejected, Challenged, BadAuthenticator, NoMessageAuthenticator, Malformed, Unexpected} {
			counted += s.Counts[o]
		}
		if counted != 1 {
			t.Fatalf("counted %d times: %v", counted, s.Counts)
		}
		p, err := rad.Parse(data, testSecret)
		if err != nil {
			if taken {
				t.Fatalf("%x was taken", data)
			}
			return
		}
		wire := data[:binary.BigEndian.Uint16(data[2:])]
		right := rad.IsAuthenticResponse(wire, request, testSecret) && wire[1] == request[1] && len(data) <= MaxPacket &&
			(p.Code == rad.CodeAccessAccept || p.Code == rad.CodeAccessReject || p.Code == rad.CodeAccessChallenge)
		mac, signed := p.Lookup(attrMessageAuthenticator)
		switch {
		case !signed:
			right = right && museum
		case len(mac) != 16 || bytes.Count(typesOf(p.Attributes), []byte{80}) != 1:
			right = false
		default:
			blank := p.Response(p.Code)
			copy(blank.Authenticator[:], request[4:])
			for _, a := range p.Attributes {
				if a.Type == attrMessageAuthenticator {
					blank.Add(a.Type, make([]byte, 16))
				} else {
					blank.Add(a.Type, a.Attribute)
				}
			}
			b, err := blank.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			right = right && bytes.Equal(mac, faultyradius.HMAC(b, testSecret))
		}
		if taken != right {
			t.Fatalf("taken %t, right %t: %x", taken, right, data)
		}
		if taken && (got.Err != nil || got.Answer.Code != p.Code || len(got.Answer.Attributes) != len(p.Attributes)) {
			t.Fatalf("taken as %+v", got)
		}
	})
}

func typesOf(attrs rad.Attributes) []byte {
	var out []byte
	for _, a := range attrs {
		out = append(out, byte(a.Type))
	}
	return out
}

// FuzzVerifyRequest: what verifies is to the byte what signing the parsed packet again gives, when Message-Authenticator
// is first as we have it and nothing follows the packet.
func FuzzVerifyRequest(f *testing.F) {
	for _, code := range []rad.Code{rad.CodeAccessRequest, rad.CodeAccountingRequest, rad.CodeCoARequest, rad.CodeDisconnectRequest, rad.CodeStatusServer} {
		p := &rad.Packet{Code: code, Identifier: 7, Secret: testSecret}
		p.Add(44, []byte("0001"))
		b, err := SignRequest(p, nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, false)
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, sign bool) {
		if sign && len(data) >= headerLen && len(data) <= MaxPacket {
			data = bytes.Clone(data)
			binary.BigEndian.PutUint16(data[2:], uint16(len(data)))
			sum := authenticatorOf(data, Authenticator{}, testSecret)
			copy(data[4:], sum[:])
		}
		p, err := VerifyRequest(data, testSecret, false)
		var m *MalformedError
		if err != nil {
			if !errors.As(err, &m) && !errors.Is(err, ErrCode) && !errors.Is(err, ErrBadAuthenticator) && !errors.Is(err, ErrBadMessageAuth) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if _, err := VerifyRequest(data, keymat.Secret("another secret"), true); err == nil {
			t.Fatal("verifies with any secret")
		}
		signs := p.Code != rad.CodeAccountingRequest
		if first := len(p.Attributes) > 0 && p.Attributes[0].Type == attrMessageAuthenticator; first != signs ||
			bytes.Count(typesOf(p.Attributes), []byte{80}) > 1 || bytes.Contains(typesOf(p.Attributes), []byte{0}) {
			return
		}
		b, err := SignRequest(p, nil)
		if n := binary.BigEndian.Uint16(data[2:]); err != nil || !bytes.Equal(b, data[:n]) {
			t.Fatalf("%x signs again as %x, %v", data[:n], b, err)
		}
	})
}

// TestAnything throws events at an engine in any order: the invariants hold after each, deadlines move on, every request
// ends once, and in the end nothing is left.
func TestAnything(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		faults := rapid.SliceOfN(rapid.SampledFrom(faultyradius.Faults), 1, 8)
		script := func(name string) faultyradius.Config {
			return faultyradius.Config{
				Faults: faults.Draw(rt, name), Delay: time.Duration(rapid.IntRange(0, 3000).Draw(rt, "delay")) * time.Millisecond,
				Drop: rapid.IntRange(0, 4).Draw(rt, "drop"), Lateness: 6 * time.Second, HonestAfter: time.Second,
			}
		}
		w := newWorld(t, func(c *Config) {
			c.MaxInFlight = rapid.IntRange(4, 20).Draw(rt, "in flight")
			c.Groups[0].RoundRobin = rapid.Bool().Draw(rt, "round robin")
			for i := range c.Servers {
				c.Servers[i].StatusServer = rapid.Bool().Draw(rt, "status-server")
				c.Servers[i].Retransmissions = rapid.IntRange(0, 4).Draw(rt, "retransmissions")
				c.Servers[i].DeadTime = time.Duration(rapid.IntRange(0, 20).Draw(rt, "dead time")) * time.Second
			}
		}, script("first"), script("second"))
		abandoned := map[requestID]bool{}
		for range rapid.IntRange(1, 60).Draw(rt, "events") {
			switch rapid.IntRange(0, 9).Draw(rt, "event") {
			case 0, 1, 2:
				w.ask(pap("a", "b"))
			case 3, 4:
				w.ask(record("r", w.now))
			case 5:
				if w.last > 0 {
					id := requestID(rapid.IntRange(1, int(w.last)).Draw(rt, "abandoned"))
					if _, ended := w.ended[id]; !ended {
						abandoned[id] = true
					}
					w.step(abandon{id})
				}
			case 6:
				if len(w.open) > 0 {
					id := slices.Min(slices.Collect(maps.Keys(w.open)))
					delete(w.open, id)
					w.step(socketLost{id, "gone"})
				}
			case 7:
				w.noSocket = !w.noSocket
			default:
				w.run(time.Duration(rapid.IntRange(0, 8000).Draw(rt, "pause")) * time.Millisecond)
			}
		}
		w.run(5 * time.Minute)
		if n := int(w.last); len(w.ended)+len(abandoned) != n {
			rt.Fatalf("%d requests, %d ended, %d abandoned", n, len(w.ended), len(abandoned))
		}
		for id := range abandoned {
			if _, ended := w.ended[id]; ended {
				rt.Fatalf("abandoned request %d ended", id)
			}
		}
		for id, r := range w.engine.requests {
			if !r.Probe {
				rt.Fatalf("request %d is left", id)
			}
		}
	})
}
