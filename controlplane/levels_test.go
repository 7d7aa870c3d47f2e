package controlplane

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"vrgate/controlplane/config"
	"vrgate/controlplane/l2tp"
	"vrgate/controlplane/subscriber"
)

// TestStrangersTunnels: whoever opens L2TP tunnels in clear text, and lets them die half open,
// writes nothing above debug; the same through IPsec is news.
func TestStrangersTunnels(t *testing.T) {
	for _, tc := range []struct {
		conn l2tp.ConnID
		want zapcore.Level
	}{{0, zapcore.DebugLevel}, {5, zapcore.InfoLevel}} {
		core, logs := observer.New(zapcore.DebugLevel)
		r := newRouter(&config.Router{Name: "red"}, machineConfig{l2tp: l2tp.Config{
			HostName: "red", Profiles: []l2tp.DestinationProfile{{Name: "any", LAC: netip.IPv4Unspecified(), Hosts: []l2tp.HostProfile{{Name: "default"}}}},
		}}, nil, nil, nil, zap.New(core), rand.NewChaCha8([32]byte{}))
		// A client of its own, of which only the first message arrives.
		client := l2tp.New(l2tp.Config{HostName: "pc"}, rand.NewChaCha8([32]byte{1}))
		now := time.Unix(1_800_000_000, 0)
		server, peer := netip.MustParseAddrPort("192.0.2.1:1701"), netip.MustParseAddrPort("198.51.100.1:1701")
		var first []byte
		for _, f := range client.Step(now, l2tp.Dial{Ref: 1, Local: peer, Remote: server, HostName: "pc"}) {
			if open, ok := f.(l2tp.OpenSocket); ok {
				for _, g := range client.Step(now, l2tp.SocketOpened{Tunnel: open.Tunnel}) {
					if send, ok := g.(l2tp.Send); ok {
						first = send.Data
					}
				}
			}
		}
		if first == nil {
			t.Fatal("the client says nothing")
		}
		perform := func(effects []any) {
			for _, f := range effects {
				switch f := f.(type) {
				case l2tp.TunnelUp, l2tp.TunnelDown, l2tp.Report:
					r.performL2TP(f.(l2tp.Effect))
				case l2tp.OpenSocket:
					r.machine.step(now, l2tp.SocketOpened{Tunnel: f.Tunnel})
				}
			}
		}
		perform(r.machine.step(now, l2tp.Packet{Local: server, Remote: peer, Conn: tc.conn, Data: first}))
		for range 300 {
			now = now.Add(time.Second)
			perform(r.machine.step(now, tick{}))
		}
		down := logs.FilterMessage("L2TP tunnel down").All()
		if len(down) != 1 || down[0].Level != tc.want {
			t.Errorf("connection %d: %v, want one line at %v", tc.conn, down, tc.want)
		}
		for _, e := range logs.All() {
			if e.Level > tc.want {
				t.Errorf("connection %d: %v %s", tc.conn, e.Level, e.Message)
			}
		}
	}
}

// TestRefusalStorm: strangers that were not let in write so many summary lines and no more; those
// of subscribers that were up are always there.
func TestRefusalStorm(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	r := newRouter(&config.Router{Name: "red"}, machineConfig{}, nil, nil, nil, zap.New(core), rand.NewChaCha8([32]byte{}))
	now := time.Unix(1_800_000_000, 0)
	storm := func() (lines int) {
		before := logs.Len()
		for range 10 * refusalsPerSecond {
			r.log.Log(r.endLevel(now, subscriber.Record{}), "subscriber ended")
		}
		return logs.Len() - before
	}
	if n := storm(); n != refusalsPerSecond {
		t.Errorf("%d lines", n)
	}
	if r.endLevel(now, subscriber.Record{Up: now}) != zapcore.InfoLevel {
		t.Error("the end of a subscriber that was up is not told")
	}
	if n := storm(); n != 0 {
		t.Errorf("%d lines more in the same second", n)
	}
	now = now.Add(time.Second)
	if n := storm(); n != refusalsPerSecond {
		t.Errorf("%d lines a second later", n)
	}
	for range 10 * refusalsPerSecond {
		r.performSubscriber(context.Background(), subscriber.Ended{})
	}
	if n := r.stats.ended.Load(); n != 10*refusalsPerSecond {
		t.Errorf("%d are counted", n)
	}
	if n := logs.Len(); n > 4*refusalsPerSecond {
		t.Errorf("%d lines in all", n)
	}
}
