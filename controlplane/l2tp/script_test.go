package l2tp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// script drives one engine by hand and looks at every effect.
type script struct {
	t      *testing.T
	e      *Engine
	now    time.Time
	local  netip.AddrPort
	open   map[TunnelID]bool
	manual bool // do not answer OpenSocket
}

func newScript(t *testing.T, cfg Config) *script {
	return &script{
		t: t, e: New(cfg, chacha(1)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), local: netip.MustParseAddrPort("192.0.2.1:1701"),
		open: make(map[TunnelID]bool),
	}
}

// step feeds an event, answers OpenSocket unless told otherwise, and checks the engine.
func (s *script) step(ev Event) []Effect {
	s.t.Helper()
	var all []Effect
	for _, ef := range s.e.Step(s.now, ev) {
		all = append(all, ef)
		switch ef := ef.(type) {
		case OpenSocket:
			if !s.manual {
				s.open[ef.Tunnel] = true
				all = append(all, s.step(SocketOpened{Tunnel: ef.Tunnel})...)
			}
		case CloseSocket:
			if !s.open[ef.Tunnel] && !s.manual {
				s.t.Fatalf("CloseSocket for %d, which is not open", ef.Tunnel)
			}
			delete(s.open, ef.Tunnel)
		case Send:
			if !s.open[ef.Tunnel] && !s.manual {
				s.t.Fatalf("Send through %d, which is not open", ef.Tunnel)
			}
		}
	}
	if err := s.e.check(); err != nil {
		s.t.Fatalf("after %T: %v", ev, err)
	}
	return all
}

// wait lets time pass and runs the timers on the way.
func (s *script) wait(d time.Duration) []Effect {
	s.t.Helper()
	var all []Effect
	end := s.now.Add(d)
	for rounds := 0; ; rounds++ {
		due := s.e.Deadline()
		if due.IsZero() || due.After(end) {
			break
		}
		if due.After(s.now) {
			s.now = due
		}
		all = append(all, s.step(Timer{})...)
		if rounds > 10000 {
			s.t.Fatal("the deadline does not move")
		}
	}
	s.now = end
	return all
}

// peer is a hand-made LAC.
type peer struct {
	s      *script
	conn   ConnID
	remote netip.AddrPort
	id     TunnelID // ours at the LAC
	lns    TunnelID // the LNS's
	ns, nr uint16
}

func (s *script) peer(conn ConnID, remote string, id TunnelID) *peer {
	return &peer{s: s, conn: conn, remote: netip.MustParseAddrPort(remote), id: id}
}

// raw sends a datagram.
func (p *peer) raw(data []byte) []Effect {
	p.s.t.Helper()
	socket := TunnelID(0)
	if h, _, err := parseHeader(data); err == nil && p.s.open[h.tunnel] {
		socket = h.tunnel
	}
	return p.s.step(Packet{Socket: socket, Local: p.s.local, Remote: p.remote, Conn: p.conn, Data: data})
}

// say sends the next control message of a session, 0 for the tunnel.
func (p *peer) say(session SessionID, avps []byte) []Effect {
	p.s.t.Helper()
	data := appendControl(nil, p.lns, session, p.ns, p.nr, avps)
	p.ns++
	return p.raw(data)
}

// ack acknowledges everything with a ZLB.
func (p *peer) ack() []Effect {
	p.s.t.Helper()
	return p.raw(appendControl(nil, p.lns, 0, p.ns, p.nr, nil))
}

// hear takes the control packets out of effects and checks that they are for this peer; messages count as received.
func (p *peer) hear(effects []Effect) (msgs []message) {
	p.s.t.Helper()
	for _, b := range sends(effects) {
		h, body, err := parseHeader(b)
		if err != nil || h.tunnel != p.id {
			p.s.t.Fatalf("packet %x for tunnel %d: %v", b, p.id, err)
		}
		if !h.control || len(body) == 0 {
			continue
		}
		m, failed := decode(body, []byte("geheim"))
		if failed != nil {
			p.s.t.Fatalf("packet %x: %v", b, failed)
		}
		if h.ns == p.nr {
			p.nr++
		}
		if m.kind == msgSCCRP {
			p.lns = m.tunnel
		}
		msgs = append(msgs, m)
	}
	return msgs
}

func sccrq(id TunnelID, host string) *builder {
	return build(msgSCCRQ).u16(attrProtocolVersion, 0x0100).str(attrHostName, host).u32(attrFramingCapabilities, 3).
		u16(attrTunnelID, uint16(id)).u16(attrReceiveWindow, 8)
}

func icrq(id SessionID) []byte {
	return build(msgICRQ).u16(attrSessionID, uint16(id)).u32(attrCallSerial, 1).b
}

func iccn() *builder { return build(msgICCN).u32(attrTxSpeed, 100_000_000).u32(attrFramingType, 1) }

func kinds(msgs []message) string {
	var s []string
	for _, m := range msgs {
		s = append(s, m.kind.String())
	}
	return fmt.Sprint(s)
}

// up opens the tunnel.
func (p *peer) up() {
	p.s.t.Helper()
	if got := p.hear(p.say(0, sccrq(p.id, "pc").b)); kinds(got) != "[SCCRP]" {
		p.s.t.Fatalf("answer to SCCRQ: %v", kinds(got))
	}
	eff := p.say(0, build(msgSCCCN).b)
	if len(find[TunnelUp](eff)) != 1 {
		p.s.t.Fatalf("answer to SCCCN: %v", eff)
	}
}

// call sets up a session and returns the LNS's id.
func (p *peer) call(id SessionID) SessionID {
	p.s.t.Helper()
	got := p.hear(p.say(0, icrq(id)))
	if kinds(got) != "[ICRP]" {
		p.s.t.Fatalf("answer to ICRQ: %v", kinds(got))
	}
	if up := find[SessionUp](p.say(got[0].session, iccn().b)); len(up) != 1 || up[0].Session.Peer != id {
		p.s.t.Fatalf("after ICCN: %+v", up)
	}
	return got[0].session
}

func find[T Effect](effects []Effect) (list []T) {
	for _, ef := range effects {
		if x, ok := ef.(T); ok {
			list = append(list, x)
		}
	}
	return list
}

func sends(effects []Effect) (list [][]byte) {
	for _, ef := range find[Send](effects) {
		list = append(list, ef.Data)
	}
	return list
}

func (s *script) counted(reason Reason, want uint64) {
	s.t.Helper()
	if got := s.e.Counters()[reason]; got != want {
		s.t.Errorf("%s counted %d times, want %d", reason, got, want)
	}
}
