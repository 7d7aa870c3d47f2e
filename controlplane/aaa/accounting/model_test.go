package accounting

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vrgate/controlplane/store"
	"vrgate/controlplane/subscriber"
)

// session is what the model knows of one.
type session struct {
	rec          subscriber.Record
	group        string
	life         int // of the daemon in which it started
	promised     bool
	stopped      bool // Stop was called
	stopPromised bool
	interims     []uint64 // their figures
}

// model drives a journal at random and remembers what it was promised.
type model struct {
	*bed
	rnd      *rand.Rand
	luck     *rand.Rand // of the servers, under their mutex
	sessions map[subscriber.ID]*session
	open     []*session
	next     subscriber.ID
	life     int
	outage   map[string]bool
	kills    int
	// recovered counts the stops that lives before this one have made up.
	recovered uint64
}

var modelGroups = []string{"a/acct", "a/other", "b/acct"}

func (m *model) begin() {
	m.mu.Lock()
	group := modelGroups[m.rnd.IntN(len(modelGroups))]
	m.next++
	s := &session{rec: rec(int(m.next)), group: group, life: m.life}
	s.rec.Router, s.rec.By.Router, s.rec.By.Accounting = "arrival", group[:1], group[2:]
	m.sessions[m.next] = s
	m.open = append(m.open, s)
	m.mu.Unlock()
	m.journal.Start(s.rec, func(err error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		s.promised = err == nil && !m.killed()
	})
}

func (m *model) interim(s *session) {
	s.rec.Counters.InBytes += 1 + m.rnd.Uint64N(1000)
	s.interims = append(s.interims, s.rec.Counters.InBytes)
	m.journal.Interim(s.rec)
}

func (m *model) end(i int) {
	s := m.open[i]
	m.open = slices.Delete(m.open, i, i+1)
	s.rec.Ended, s.rec.Reason = time.Now(), "ppp-user-request"
	s.stopped = true
	m.journal.Stop(s.rec, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		s.stopPromised = !m.killed()
	})
}

// answer is what the servers do: some are out, some answer late, requests and answers are lost.
func (m *model) answer(group, text string) (bool, time.Duration, error) {
	delay := time.Duration(m.luck.IntN(300)) * time.Millisecond
	switch {
	case m.outage[group]:
		return false, 3 * time.Second, errSilent
	case m.luck.IntN(50) == 0:
		return false, 3 * time.Second, errSilent
	case m.luck.IntN(50) == 0:
		return true, 3 * time.Second, errSilent // the answer is lost
	case m.luck.IntN(100) == 0:
		return true, 2 * time.Second, nil
	}
	return true, delay, nil
}

// killed: what the journal says is not heard any more.
func (m *model) killed() bool {
	m.servers.mu.Lock()
	defer m.servers.mu.Unlock()
	return m.servers.dead
}

func (m *model) deliver(ctx context.Context, router, group string, attributes []byte, at time.Time) error {
	return m.servers.deliver(ctx, router, router+"/"+group, attributes, at)
}

// TestModel: whatever happens to servers, disk and daemon, afterwards the servers hold exactly
// what happened.
func TestModel(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { runModel(t, seed, 40) }) })
	}
}

// TestTenThousandSessions is the same with many.
func TestTenThousandSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { runModel(t, 99, 620) })
}

func runModel(t *testing.T, seed uint64, burst int) {
	m := &model{
		bed: newBed(t, nil), rnd: rand.New(rand.NewPCG(seed, 1)), luck: rand.New(rand.NewPCG(seed, 2)), sessions: map[subscriber.ID]*session{}, outage: map[string]bool{},
	}
	m.servers.answer = m.answer
	m.restart()
	for step := range 60 {
		m.servers.mu.Lock()
		for _, g := range modelGroups {
			if m.rnd.IntN(5) == 0 {
				m.outage[g] = !m.outage[g]
			}
		}
		m.servers.mu.Unlock()
		switch m.rnd.IntN(6) {
		case 0, 1, 2:
			for range m.rnd.IntN(burst) {
				m.begin()
			}
		case 3:
			for range m.rnd.IntN(burst) {
				if len(m.open) > 0 {
					m.interim(m.open[m.rnd.IntN(len(m.open))])
				}
			}
			recs := []subscriber.Record{}
			for _, s := range m.open[:len(m.open)/2] {
				s.rec.Counters.InBytes++
				recs = append(recs, s.rec)
			}
			m.journal.Checkpoint(recs)
		case 4:
			for range m.rnd.IntN(burst) {
				if len(m.open) > 0 {
					m.end(m.rnd.IntN(len(m.open)))
				}
			}
		case 5:
			m.trouble()
		}
		if step%20 == 19 {
			for range 1 + m.rnd.IntN(burst) {
				m.begin()
			}
			time.Sleep(time.Duration(m.rnd.IntN(50)) * time.Millisecond)
			m.restartKilled()
		}
		if m.rnd.IntN(3) > 0 {
			time.Sleep(time.Duration(m.rnd.IntN(20_000)) * time.Millisecond)
		}
	}
	m.restartKilled()
	m.servers.mu.Lock()
	clear(m.outage)
	m.servers.mu.Unlock()
	m.drained()
	for _, g := range modelGroups {
		m.check(g)
	}
	if s := m.journal.Stats(); s.Queued != 0 || s.Open != 0 || s.Lost != 0 || s.DroppedInterims != 0 {
		t.Errorf("at the end %+v", s)
	}
	if err := m.close(time.Minute); err != nil {
		t.Error(err)
	}
	if m.recovered == 0 || m.servers.twice == 0 {
		t.Errorf("the schedule is too tame: %d stops recovered, %d duplicates", m.recovered, m.servers.twice)
	}
	t.Logf("%d sessions, %d kills, %d duplicates, %d transactions in the last life", len(m.sessions), m.kills, m.servers.twice, m.disk.transactions())
}

func (m *model) restart() {
	m.Helper()
	m.life++
	m.openTo(m.deliver)
	for _, g := range modelGroups {
		m.journal.RouterUp(g[:1], g[2:])
	}
	synctest.Wait() // until they are on disk
}

func (m *model) restartKilled() {
	m.recovered += m.journal.Stats().Recovered
	m.kill()
	m.kills++
	m.open = nil
	m.restart()
}

// trouble is a disk that is full, fails, lies or hangs for a while, a kill or a restart.
func (m *model) trouble() {
	switch m.rnd.IntN(3) {
	case 0:
		hang := make(chan struct{})
		m.disk.change([]func(*testDisk){
			func(d *testDisk) { d.err = store.ErrFull },
			func(d *testDisk) { d.err = store.ErrDisk },
			func(d *testDisk) { d.after = store.ErrDisk },
			func(d *testDisk) { d.hang = hang },
		}[m.rnd.IntN(4)])
		for range 3 {
			for range 20 {
				m.begin()
			}
			for range min(10, len(m.open)) {
				m.interim(m.open[m.rnd.IntN(len(m.open))])
			}
			for range min(15, len(m.open)) {
				m.end(m.rnd.IntN(len(m.open)))
			}
			time.Sleep(time.Duration(m.rnd.IntN(60_000)) * time.Millisecond)
		}
		m.disk.change(func(d *testDisk) { d.err, d.after, d.hang = nil, nil, nil })
		close(hang)
		time.Sleep(2 * maxDiskRetry) // what is in memory only does not survive the kills that follow
	case 1:
		if m.rnd.IntN(2) == 0 {
			time.Sleep(time.Duration(m.rnd.IntN(500)) * time.Millisecond)
		}
		m.restartKilled()
	case 2:
		for len(m.open) > 0 {
			m.end(0)
		}
		for _, g := range modelGroups {
			m.journal.RouterDown(g[:1], g[2:])
		}
		_ = m.close(time.Duration(m.rnd.IntN(10)) * time.Second)
		m.restart()
	}
}

// check compares what a group's servers hold with what happened.
func (m *model) check(group string) {
	m.Helper()
	m.servers.mu.Lock()
	defer m.servers.mu.Unlock()
	got := map[subscriber.ID][]arrival{}
	last := map[int]int{} // epoch: last first arrival of its records
	begun := map[int]int{}
	barriers := map[int]int{}
	for _, a := range slices.SortedFunc(maps.Values(m.servers.first[group]), func(a, b arrival) int { return a.n - b.n }) {
		epoch := number(a.text, "epoch")
		if at := time.Unix(0, int64(number(a.text, "at"))); !a.at.Equal(at) {
			m.Errorf("%s was sent as of %v", a.text, a.at)
		}
		if id := subscriber.ID(number(a.text, "session")); id != 0 {
			got[id] = append(got[id], a)
			last[epoch] = a.n
			if _, ok := begun[epoch]; !ok {
				begun[epoch] = a.n
			}
			continue
		}
		if _, twice := barriers[epoch]; twice {
			m.Errorf("barrier %d twice with different bytes", epoch)
		}
		barriers[epoch] = a.n
	}
	for epoch, n := range barriers {
		if n < last[epoch-1] {
			m.Errorf("%s: barrier %d came before a record that precedes it", group, epoch)
		}
		if first, any := begun[epoch]; any && first < n {
			m.Errorf("%s: barrier %d came after a record that follows it", group, epoch)
		}
		if before, ok := barriers[epoch-1]; epoch > 1 && (!ok || before > n) {
			m.Errorf("%s: barriers %d and %d changed places", group, epoch-1, epoch)
		}
	}
	if len(barriers) != m.epoch[group] {
		m.Errorf("%s has %d barriers, want %d", group, len(barriers), m.epoch[group])
	}
	for id, s := range m.sessions {
		if s.group == group {
			m.checkSession(s, got[id])
			delete(got, id)
		}
	}
	if len(got) > 0 {
		m.Errorf("%s has records of sessions that are not its: %v", group, got)
	}
}

func (m *model) checkSession(s *session, got []arrival) {
	m.Helper()
	if len(got) == 0 {
		if s.promised {
			m.Errorf("session %d has no records", s.rec.ID)
		}
		return
	}
	first, last := got[0].text, got[len(got)-1].text
	if kindOf(first) != "start" || kindOf(last) != "stop" {
		m.Errorf("session %d has %v", s.rec.ID, got)
		return
	}
	if word(first, "user") != s.rec.User {
		m.Errorf("session %d is of %q", s.rec.ID, word(first, "user"))
	}
	switch reason := word(last, "reason"); {
	case s.stopPromised && reason != "ppp-user-request", !s.stopped && reason != "daemon-restarted":
		m.Errorf("session %d ended with %s: %+v", s.rec.ID, reason, s)
	case reason == "ppp-user-request" && (number(last, "in") != int(s.rec.Counters.InBytes) || number(last, "cause") != 1):
		m.Errorf("session %d: %s, want the figures %d", s.rec.ID, last, s.rec.Counters.InBytes)
	case reason == "daemon-restarted" && (number(last, "in") > int(s.rec.Counters.InBytes) || number(last, "cause") != 11):
		m.Errorf("session %d: %s, want at most %d", s.rec.ID, last, s.rec.Counters.InBytes)
	}
	// Interims are those that were made, from the first on; a kill may have the last.
	for i, a := range got[1 : len(got)-1] {
		if kindOf(a.text) != "interim" || i >= len(s.interims) || number(a.text, "in") != int(s.interims[i]) {
			m.Errorf("session %d: record %d is %s", s.rec.ID, i+1, a.text)
		}
	}
	if s.stopPromised && len(got)-2 != len(s.interims) {
		m.Errorf("session %d has %d of %d interims", s.rec.ID, len(got)-2, len(s.interims))
	}
	for i := 1; i < len(got); i++ {
		if got[i].n < got[i-1].n {
			m.Errorf("session %d: records came in another order", s.rec.ID)
		}
	}
}
