package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
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
