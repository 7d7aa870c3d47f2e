package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"vrgate/test/loadgen"
)

func TestParseBench(t *testing.T) {
	got := parseBench(`goos: linux
BenchmarkHandshake/MODP1024-2   	    2665	    436154 ns/op	       220.1 cpu-µs/handshake	      4544 handshakes/cpu-s	   55728 B/op
BenchmarkHandshake/ECP256       	    5319	    233250 ns/op	      8745 handshakes/cpu-s
BenchmarkOther/ECP256-2         	    5319	         1 ns/op
PASS
`, "BenchmarkHandshake")
	if len(got) != 2 || got["MODP1024"]["handshakes/cpu-s"] != 4544 || got["MODP1024"]["cpu-µs/handshake"] != 220.1 || got["ECP256"]["ns/op"] != 233250 {
		t.Errorf("%v", got)
	}
}

func TestParseBenchWithoutParts(t *testing.T) {
	got := parseBench("BenchmarkReload4000-2   3   233250 ns/op   80.5 ms-longest\nBenchmarkReload4000More-2   1   1 ns/op   1 ms-longest\n", "BenchmarkReload4000")
	if len(got) != 1 || got[""]["ms-longest"] != 80.5 {
		t.Errorf("%v", got)
	}
}

func TestField(t *testing.T) {
	text := []byte("MemTotal:       3071 kB\nMemFree:  17 kB\nusage_usec 12345\n")
	for word, want := range map[string]uint64{"MemTotal:": 3071, "MemFree:": 17, "usage_usec": 12345} {
		if got, err := field(text, word); err != nil || got != want {
			t.Errorf("%s: %d, %v", word, got, err)
		}
	}
	if _, err := field(text, "Mem"); err == nil {
		t.Error("the beginning of a word is taken for the word")
	}
}

// TestPrintSetups: ratios are per client and say who is better the right way round.
func TestPrintSetups(t *testing.T) {
	stock := measured{
		Server: "stock", Clients: 100, Up: 50, Took: 50 * time.Second, Median: 4 * time.Second, Slowest: 5 * time.Second,
		CPU: 15 * time.Second, Busy: 20 * time.Second, Load: time.Second, Processes: 50, RSS: 50 * 5120 << 10, PSS: 50 * 1000 << 10, Machine: 50 * 1200 << 10,
		Failed: map[string]int{"ike: no-answer": 50},
	}
	ours := measured{
		Server: "vrgate", Clients: 100, Up: 100, Took: 20 * time.Second, Median: time.Second, Slowest: 2 * time.Second,
		CPU: 10 * time.Second, Busy: 10 * time.Second, Load: 2 * time.Second, RSS: 100 * 20 << 10, PSS: 100 * 20 << 10, Machine: 100 * 100 << 10,
	}
	noisy := ours
	noisy.Load *= 3
	noisy.CPU *= 3
	many := ours
	many.Before, many.Answered = 20, 120
	var b bytes.Buffer
	if err := printSetups(&b, options{clients: 100, rounds: 2}, "6.12", []measured{stock, noisy, stock, ours, many}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"set-ups per second 5.0/s 1.0/s 5.0 times",
		"set-up of one client, median 1000 ms 4000 ms 4.0 times",
		"processor time per set-up, server's processes 100 ms 300 ms 3.0 times",
		"memory per subscriber, RSS 20.0 KiB 5120.0 KiB 256.0 times",
		"processes per subscriber 0 1 -",
		"Of 100 clients of stock, 50 did not come up: map[ike: no-answer:50]",
		"only the ratios",
		"server's processor time for one second of the clients' 5.0 s 15.0 s 3.0 times",
		"vrgate alone with 120 clients: 120 up and answering",
	} {
		if !strings.Contains(strings.Join(strings.Fields(b.String()), " "), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// TestPrintReload: the quickest of each kind is compared with the quickest idle one, and losses show.
func TestPrintReload(t *testing.T) {
	m := underReload{Traffic: loadgen.Traffic{Sessions: 499, Sent: 1000, Answered: 998, Late: 30 * time.Millisecond}}
	for i, kind := range []string{reloadIdle, reloadEach, reloadFirst, reloadIdle, reloadEach} {
		m.Reloads = append(m.Reloads, reloaded{Kind: kind, Took: time.Duration(500-100*i) * time.Millisecond, CPU: time.Duration(100*i+100) * time.Millisecond})
	}
	m.Reloads[2].Plan.Sessions = 1
	var b bytes.Buffer
	if err := printReload(&b, options{rounds: 2, sessions: 500, profiles: 4000}, "6.12", 80, m); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"80 ms from reading the files on, the longest. Target: 1000 ms, which is 12.5 times that.",
		reloadIdle + " 200 ms 1.00 times 400 ms 1.00 times 0",
		reloadEach + " 100 ms 0.50 times 500 ms 1.25 times 0",
		reloadFirst + " 300 ms 1.50 times 300 ms 0.75 times 1",
		"499 sessions that were to stay, meanwhile: 1000 packets sent, 2 lost; the latest answer came after 30 ms",
	} {
		if !strings.Contains(strings.Join(strings.Fields(b.String()), " "), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if err := printReload(&b, options{}, "6.12", 80, underReload{}); err == nil {
		t.Error("nothing was measured, and that is not an error")
	}
}

// TestDestinations: there are as many as are wanted with the one for anybody, and the first is that of the first client.
func TestDestinations(t *testing.T) {
	all, rest := destinations(4000, 7, true), destinations(4000, 7, false)
	if len(all) != 3999 || len(rest) != 3998 || !strings.Contains(all[0], "198.19.0.1,") || rest[0] != all[1] || !strings.Contains(all[3998], "100.64.15.249,") {
		t.Errorf("%d of %q … %q, %d", len(all), all[0], all[len(all)-1], len(rest))
	}
}
