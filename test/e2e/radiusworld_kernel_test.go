//go:build kernel

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/test/topo"
)

// radiusSecret is shared with RADIUS servers, which are on the intranet's host.
const radiusSecret = "a secret of servers"

// toServers is our address on the way to RADIUS servers, where they send their requests.
var toServers = netip.MustParseAddr("10.1.0.1")

// radiusKeys are the keys of a virtual router with one server; more are further ones of the sections
// "radius" and "aaa".
func radiusKeys(radius, aaa string) string {
	text := fmt.Sprintf(`radius:
  servers: [{name: one, address: %v, secret: %q, timeout: 10s, retransmissions: 4, dead-time: 1s, status-server: true}]
  groups: [{name: all, servers: [one]}]
`, intranetHost, radiusSecret)
	if radius != "" {
		text += indent(radius) + "\n"
	}
	return text + "aaa:\n" + indent(aaa)
}

// freeRADIUS makes a server on the intranet's host and starts it.
func (w *world) freeRADIUS(c topo.FreeRADIUSConfig) *topo.FreeRADIUS {
	w.t.Helper()
	c.Host, c.Secret = w.intranet, radiusSecret
	f, err := w.NewFreeRADIUS(c)
	w.check(err)
	w.t.Cleanup(func() {
		if w.t.Failed() {
			records, err := f.Records()
			w.t.Logf("%s%d records, of which the last are\n%v%v", f.Logs(), len(records), records[max(0, len(records)-20):], err)
		}
	})
	w.check(f.Start(w.ctx))
	return f
}

// summary is the summary line of a session that has ended, which says the same as its accounting.
type summary struct {
	Session json.Number `json:"subscriber"`
	User    string
	Peer    netip.AddrPort
	Address string
	Reason  string
	In      uint64 `json:"in_bytes"`
	Out     uint64 `json:"out_bytes"`
	InPkts  uint64 `json:"in_packets"`
	OutPkts uint64 `json:"out_packets"`
}

// lines reads the log's lines with this message.
func lines[T any](w *world, msg string) []T {
	w.t.Helper()
	var list []T
	for line := range strings.Lines(w.daemon.Log()) {
		var head struct{ Msg string }
		if !strings.Contains(line, msg) || json.Unmarshal([]byte(line), &head) != nil || head.Msg != msg {
			continue
		}
		var v T
		w.check(json.Unmarshal([]byte(line), &v))
		list = append(list, v)
	}
	return list
}

// ended returns the summary of a user's only session that was up.
func (w *world) ended(user string) summary {
	w.t.Helper()
	var found []summary
	w.eventually("summary line of "+user, func() bool {
		found = slices.DeleteFunc(lines[summary](w, "subscriber ended"), func(s summary) bool { return s.User != user || s.Address == "" })
		return len(found) > 0
	})
	if len(found) != 1 {
		w.t.Fatalf("%d summary lines of %s", len(found), user)
	}
	return found[0]
}

// book is the accounting records of each session.
type book map[string][]topo.RADIUSPacket

// accounts sorts FreeRADIUS' records by session, without those that only repeat another: a server whose
// acknowledgement was lost is sent a record again, in which nothing but the delay may differ. Records about a
// virtual router are left out.
func (w *world) accounts(f *topo.FreeRADIUS) book {
	w.t.Helper()
	records, err := f.Records()
	w.check(err)
	b, seen := book{}, map[string]bool{}
	for _, r := range records {
		kind := r.Get("Acct-Status-Type")
		if kind == "Accounting-On" || kind == "Accounting-Off" {
			continue
		}
		if same := r.Without("Acct-Delay-Time").String(); !seen[same] {
			seen[same] = true
			b[r.Get("Acct-Session-Id")] = append(b[r.Get("Acct-Session-Id")], r)
		}
	}
	return b
}

// kinds lists what a session's records report, such as "Start Interim-Update Stop": of several interim ones one after
// the other only one.
func kinds(records []topo.RADIUSPacket) string {
	var words []string
	for _, r := range records {
		words = append(words, r.Get("Acct-Status-Type"))
	}
	return strings.Join(slices.CompactFunc(words, func(a, b string) bool { return a == b && a == "Interim-Update" }), " ")
}

// wants compares attributes of a packet.
func wants(t *testing.T, what string, p topo.RADIUSPacket, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got := strings.Join(p.All(name), ", "); got != want[name] {
			t.Errorf("%s: %s is %q, want %q", what, name, got, want[name])
		}
	}
}

// stream sends 400 UDP packets of 1000 bytes, one each 5 ms, and returns how many arrive.
func (w *world) stream(from, to *topo.Host, address netip.Addr) int {
	w.t.Helper()
	const packets, port = 400, 9000
	var in, out *net.UDPConn
	w.check(to.Namespace.Do(func() (err error) {
		in, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		return err
	}))
	defer in.Close()
	w.check(from.Namespace.Do(func() (err error) {
		out, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, port)))
		return err
	}))
	defer out.Close()
	counted := make(chan int)
	go func() {
		b := make([]byte, 2000)
		n := 0
		for ; ; n++ {
			if _, err := in.Read(b); err != nil {
				counted <- n
				return
			}
		}
	}()
	for range packets {
		_, err := out.Write(make([]byte, 1000))
		w.check(err)
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(500 * time.Millisecond)
	w.check(in.SetReadDeadline(time.Now()))
	return <-counted
}
