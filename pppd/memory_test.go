package pppd

import (
	"runtime"
	"testing"
)

// linkBudget is what one established link may hold on the heap, in bytes. The whole daemon has 16 KiB per subscriber.
const linkBudget = 2048

func TestMemoryOfALink(t *testing.T) {
	const n = 2000
	links := make([]*Link, 0, n)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	cfg := Config{Auth: allAuth}
	before := heap()
	for range n {
		s := newScript(t, cfg)
		s.openLCP(peerMagic)
		c := s.sent(ProtocolCHAP, chapChallenge)
		s.frame(ProtocolCHAP, chapResponse, c.id, append(append([]byte{49}, make([]byte, 49)...), testUser...)...)
		s.step(AuthDecision{Accept: true, MSCHAPv2Response: rfc2759Proof, Network: Network{Local: localAddr, Peer: peerAddr}})
		s.openIPCP()
		links = append(links, s.link)
	}
	per := (heap() - before) / n
	runtime.KeepAlive(links)
	// The test's random sources count too; they are not the link's.
	t.Logf("%d bytes per link, with a ChaCha8 source each", per)
	if per > linkBudget {
		t.Errorf("%d bytes per link, budget %d", per, linkBudget)
	}
}
