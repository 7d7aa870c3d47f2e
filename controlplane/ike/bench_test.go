package ike

import (
	"testing"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
	"vrgate/controlplane/keymat"
)

// BenchmarkHandshake measures the responder alone: main mode, quick mode without
// PFS and its own Diffie-Hellman, run inline. What the scripted peer costs is
// left out of the time. The figure to compare with targets.md section 3 is
// handshakes/s, of one CPU.
func BenchmarkHandshake(b *testing.B) {
	for _, g := range []keymat.Group{keymat.MODP1024, keymat.MODP2048, keymat.ECP256, keymat.Curve25519} {
		b.Run(g.String(), func(b *testing.B) {
			r := serverRig(b, ProfileLegacy)
			o := offers.NetworkManager()
			o.Phase1 = offerOf(g)
			r.e.cfg.HalfOpen.PerSource = 1 << 30
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				s := newScript(r, o)
				s.clock = b
				if !s.phase1() || !s.quick(o).run() {
					b.Fatal("handshake failed: ", words(r.reports))
				}
				s.clock = nil
				c := r.e.conns[r.e.Phase1SAs()[0].Conn]
				r.e.closeConn(c, ReasonOperator, "", false)
				r.e.out = nil
				clear(r.kernel)
				r.sends, r.reports, r.jobs, r.up = r.sends[:0], r.reports[:0], r.jobs[:0], r.up[:0]
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "handshakes/s")
		})
	}
}

// offerOf is an offer of AES-256, SHA-1 and one group.
func offerOf(g keymat.Group) isakmp.SA {
	t := isakmp.Phase1Transform{Number: 1, Enc: isakmp.EncAES, KeyBits: 256, Hash: isakmp.HashSHA1, Auth: isakmp.AuthPSK, Group: isakmp.GroupID(g), Life: isakmp.Life{Seconds: 28800}}
	return isakmp.SA{DOI: 1, Situation: 1, Proposals: []isakmp.Proposal{{Number: 1, Protocol: 1, Transforms: []isakmp.Transform{t.Transform()}}}}
}
