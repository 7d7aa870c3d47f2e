package pppd

import (
	"net/netip"
	"testing"
)

var allAuth = []AuthProtocol{AuthMSCHAPv2, AuthCHAPMD5, AuthPAP}

func TestLinkComesUpAndGoesDown(t *testing.T) {
	for _, auth := range [][]AuthProtocol{{AuthPAP}, {AuthCHAPMD5}, {AuthMSCHAPv2}, nil} {
		for _, snapshot := range []bool{false, true} {
			s := newSim(t, 1, Config{Auth: auth, MRU: 1400}, dialer())
			s.snapshot = snapshot
			s.open()
			s.run(s.settled)
			if !s.bothUp() {
				t.Fatalf("%v: not up\n%v", auth, s)
			}
			server, client := s.ends[0], s.ends[1]
			if got, want := server.ups[0], (NetworkUp{Local: localAddr, Peer: peerAddr, MTU: 1400}); got != want {
				t.Errorf("%v: server %+v, want %+v", auth, got, want)
			}
			if got, want := client.ups[0], (NetworkUp{Local: peerAddr, Peer: localAddr, MTU: 1400, DNS: [2]netip.Addr{dns1, dns2}}); got != want {
				t.Errorf("%v: client %+v, want %+v", auth, got, want)
			}
			if len(server.asked) != 1 || len(client.asked) != 0 {
				t.Errorf("%v: AAA asked %d and %d times", auth, len(server.asked), len(client.asked))
			}
			s.step(1, Close{})
			s.run(s.bothDown)
			if !s.bothDown() {
				t.Fatalf("%v: not down\n%v", auth, s)
			}
			if server.down.Reason != ReasonUserRequest || !server.down.ByPeer || client.down.Reason != ReasonAdmin || client.down.ByPeer {
				t.Errorf("%v: ended with %+v and %+v", auth, server.down, client.down)
			}
		}
	}
}
