//go:build kernel

package kernel

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/xfrm"
)

func (e *events) IPsecMissing(sas, policies int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.missing.SAs, e.missing.Policies = e.missing.SAs+sas, e.missing.Policies+policies
}

// missed waits until so many SAs and policies have been missed since it was last called.
func (w *world) missed(sas, policies int) {
	w.t.Helper()
	want := xfrm.Census{SAs: sas, Policies: policies}
	w.events.await(w.t, fmt.Sprintf("that %+v are missing", want), func() bool { return w.events.missing == want })
	w.events.mu.Lock()
	w.events.missing = xfrm.Census{}
	w.events.mu.Unlock()
}

// look compares what there should be with what there is, now, and mends what else the interfaces need.
func (w *world) look() {
	w.t.Helper()
	d := w.plane.(*dataplane)
	d.books.changing.Lock()
	d.books.counted = time.Time{}
	d.books.changing.Unlock()
	w.check(d.compare())
	d.mendAccess()
	for _, s := range d.allStatics() {
		d.ensureStatic(s)
	}
}

// policies are all of a namespace as ip(8) shows them, without counters.
func (w *world) policies(space string) string { return run(w.t, "ip", "-n", space, "xfrm", "policy") }

// TestFlushedPolicies: policies of subscribers and of a tunnel that somebody removes, all at once or one, are back as they were. When all go it is
// at once, so that what is for the tunnel does not leave in clear for long.
func TestFlushedPolicies(t *testing.T) {
	for _, layout := range []string{"one router", "VRF to VRF", "VRF to another namespace"} {
		t.Run(layout, func(t *testing.T) {
			tunnel := headquarters()
			w := staticWorld(t, layout, tunnel)
			p := w.peers[0]
			w.connect(p)
			spaces := []string{w.transport.space, w.end.space}
			before := []string{w.policies(spaces[0]), w.policies(spaces[1])}
			back := func(what string) {
				t.Helper()
				for i, space := range spaces {
					if after := w.policies(space); sortedParagraphs(after) != sortedParagraphs(before[i]) {
						t.Errorf("%s: policies of %s:\n%s\nbefore:\n%s", what, space, after, before[i])
					}
				}
				for _, way := range [][]string{{p.space, p.inner.String(), intranetText}, {w.intranet, intranetText, p.inner.String()}} {
					if n := ping(t, way[0], way[1], way[2], 3, 100); n != 3 {
						t.Errorf("%s: %s to %s: %d of 3 answered\n%s", what, way[1], way[2], n, w.diagnosis())
					}
				}
			}
			back("in the beginning")
			w.look()
			// Three of the subscriber, and of the tunnel three for each of its pairs of networks.
			run(t, "ip", "-n", spaces[0], "xfrm", "policy", "flush")
			began := time.Now()
			w.missed(0, 9)
			if took := time.Since(began); took > bookPause/2 {
				t.Errorf("it took %v to notice", took)
			}
			back("flushed")
			if spaces[1] != spaces[0] {
				run(t, "ip", "-n", spaces[1], "xfrm", "policy", "flush")
				w.look()
				back("flushed where the subscriber ends")
			}
			// Somebody else's do not hide that one of ours is missing.
			for i := range 3 {
				run(t, "ip", "-n", spaces[0], "xfrm", "policy", "add", "dir", "in", "src", fmt.Sprintf("10.77.%d.0/24", i), "dst", "10.78.0.0/16")
			}
			w.look()
			d := w.plane.(*dataplane)
			w.check(d.xfrm.RemovePolicy(d.accesses[1].policies[0]))
			w.look()
			w.missed(0, 1)
			// And may go.
			for i := range 3 {
				run(t, "ip", "-n", spaces[0], "xfrm", "policy", "delete", "dir", "in", "src", fmt.Sprintf("10.77.%d.0/24", i), "dst", "10.78.0.0/16")
			}
			w.look()
			w.missed(0, 0)
			back("one by one")
			w.gone("hq0")
		})
	}
}

// sortedParagraphs puts what ip(8) shows of each policy into one order: the kernel shows them in that in which they were made.
func sortedParagraphs(text string) string {
	var all []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "src ") || len(all) == 0 {
			all = append(all, "")
		}
		all[len(all)-1] += line
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

// TestFlushedSAs: of SAs that somebody removes, all at once or one, the engine is told as of those that have expired, once; those that there
// are, and others' that go, are nothing.
func TestFlushedSAs(t *testing.T) {
	w := placed(t, "one router")
	a, b := w.peers[0], w.peers[1]
	w.connect(a)
	w.connect(b)
	foreign := func(verb string) {
		t.Helper()
		args := []string{"-n", w.transport.space, "xfrm", "state", verb, "src", "203.0.113.1", "dst", "203.0.113.2", "proto", "esp", "spi", "0x9999"}
		if verb == "add" {
			args = append(args, "enc", "cbc(aes)", "0x"+strings.Repeat("11", 16), "auth", "hmac(sha1)", "0x"+strings.Repeat("22", 20))
		}
		run(t, "ip", args...)
	}
	expired := func(want ...uint32) {
		t.Helper()
		w.events.mu.Lock()
		defer w.events.mu.Unlock()
		for _, spi := range want {
			if !w.events.expired[spi] {
				t.Errorf("SA %#x has not expired", spi)
			}
			delete(w.events.expired, spi)
		}
		if len(w.events.expired) > 0 {
			t.Errorf("expired too: %v", w.events.expired)
		}
	}
	foreign("add")
	w.look()
	run(t, "ip", "-n", w.transport.space, "xfrm", "state", "delete", "src", a.outer.String(), "dst", serverAddress, "proto", "esp", "spi", fmt.Sprintf("%#x", a.in.SPI))
	w.look()
	w.missed(1, 0)
	expired(a.in.SPI)
	w.remove(a, a.in) // as the engine does then
	w.remove(a, a.out)
	a.in, a.out = nil, nil
	foreign("delete")
	w.look()
	w.missed(0, 0)
	expired()

	w.rekey(a)
	began := time.Now()
	run(t, "ip", "-n", w.transport.space, "xfrm", "state", "flush")
	w.missed(4, 0)
	if took := time.Since(began); took > bookPause/2 {
		t.Errorf("it took %v to notice", took)
	}
	expired(a.in.SPI, a.out.SPI, b.in.SPI, b.out.SPI)
	w.look()
	w.missed(0, 0)
	for _, p := range w.peers {
		w.remove(p, p.in)
		w.remove(p, p.out)
		p.in, p.out = nil, nil
		w.rekey(p)
		if n := ping(t, p.space, p.inner.String(), intranetText, 3, 100); n != 3 {
			t.Errorf("with new SAs %d of 3 answered\n%s", n, w.diagnosis())
		}
	}
	w.close()
}

// TestFlushWhileChanging: subscribers come and go while somebody flushes again and again; in the end everything is there that should be, and
// nothing else.
func TestFlushWhileChanging(t *testing.T) {
	w := placed(t, "one router")
	w.connect(w.peers[0])
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				if out, err := command("ip", "-n", w.transport.space, "xfrm", "policy", "flush"); err != nil {
					t.Errorf("%v: %s", err, out)
					return
				}
			}
		}
	}()
	for range 4 {
		w.crowd(t, 10)
		w.leave(t, 5)
	}
	close(stop)
	<-done
	w.look()
	d := w.plane.(*dataplane)
	d.doubt()
	w.check(d.compare())
	list, err := d.xfrm.ListPolicies()
	w.check(err)
	want := d.books.ours()
	if all, err := d.xfrm.Census(); err != nil || all != want || len(list) != want.Policies || want.Policies != 3*6 || want.SAs != 2*6 {
		t.Errorf("%+v, %v, with %d policies of ours, want %+v", all, err, len(list), want)
	}
	w.leave(t, 5)
	w.close()
	if after := w.state(); strings.Contains(after, "esp") {
		t.Errorf("left:\n%s", after)
	}
}
