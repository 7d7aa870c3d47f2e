//go:build kernel

package unit_test

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"vrgate/pppd/unit"
)

// TestNoQueue: a subscriber's interface has no queue, wherever it is made and whatever the machine's default;
// it keeps none when it goes down and up again; and all packets pass, small ones and large ones, both ways at once.
func TestNoQueue(t *testing.T) {
	const setting = "/proc/sys/net/core/default_qdisc"
	old, err := os.ReadFile(setting)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(setting, []byte("fq_codel"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(setting, old, 0); err != nil {
			t.Error(err)
		}
	})
	lns, lac := pair(t)
	s, c := lns.open(t, lnsSpec, unit.Spec{}), lac.open(t, lacSpec, unit.Spec{Name: "vglac"})
	queue := func(when string) {
		t.Helper()
		out := lns.space.Run(t, "tc", "qdisc", "show", "dev", s.Name())
		if !strings.Contains(out, "noqueue") || strings.Contains(out, "fq_codel") {
			t.Errorf("%s: %s", when, out)
		}
	}
	queue("before it is up")
	address(t, lns.space, s.Unit, lnsInner, lacInner)
	queue("when it is up")
	if err := errors.Join(s.Down(), s.Up()); err != nil {
		t.Fatal(err)
	}
	queue("after a while down")
	address(t, lac.space, c.Unit, lacInner, lnsInner)

	var both sync.WaitGroup
	for _, size := range []string{"56", "1372"} {
		both.Go(func() {
			if out, ok := pings(lac.space, lnsInner, "-q", "-c", "500", "-i", "0.002", "-s", size); !ok || !strings.Contains(out, "500 received") {
				t.Errorf("%s bytes:\n%s", size, out)
			}
		})
		both.Go(func() {
			if out, ok := pings(lns.space, lacInner, "-q", "-c", "500", "-i", "0.002", "-s", size); !ok || !strings.Contains(out, "500 received") {
				t.Errorf("%s bytes back:\n%s", size, out)
			}
		})
	}
	both.Wait()
	if n, err := s.Traffic(); err != nil || n.TxDropped != 0 || n.TxPackets < 2000 {
		t.Errorf("%+v, %v", n, err)
	}
	s.close(t)
	c.close(t)
	lns.close(t)
	lac.close(t)
}
