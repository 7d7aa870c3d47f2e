package pppd

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
)

// script drives one link by hand: the test is the peer, octet by octet.
type script struct {
	t    testing.TB
	link *Link
	now  time.Time
	out  []Effect // of the last step
}

func newScript(t testing.TB, cfg Config) *script {
	s := &script{t: t, link: NewLink(cfg, chaChaReader(7)), now: epoch}
	s.step(Open{})
	return s
}

func (s *script) step(ev Event) []Effect {
	s.out = s.link.Step(s.now, ev)
	return s.out
}

// frame sends one packet to the link.
func (s *script) frame(protocol uint16, code, id uint8, data ...byte) []Effect {
	return s.step(Frame{protocol, packet{code, id, data}.append(nil)})
}

// sent returns the only packet of a protocol and code in the last step's effects.
func (s *script) sent(protocol uint16, code uint8) packet {
	s.t.Helper()
	p, n := packet{}, 0
	for _, e := range s.out {
		if f, ok := e.(Send); ok && f.Protocol == protocol && f.Data[0] == code {
			q, err := parsePacket(f.Data)
			if err != nil || int(binary.BigEndian.Uint16(f.Data[2:])) != len(f.Data) {
				s.t.Fatalf("sent a bad packet %x", f.Data)
			}
			p = q
			n++
		}
	}
	if n != 1 {
		s.t.Fatalf("%d packets %04x/%d in %v, want one", n, protocol, code, s.out)
	}
	return p
}

// frames counts the frames in the last step's effects.
func (s *script) frames() (n int) {
	for _, e := range s.out {
		if _, ok := e.(Send); ok {
			n++
		}
	}
	return n
}

// ask returns the only Authenticate in the last step's effects.
func (s *script) asked() AuthRequest {
	s.t.Helper()
	for _, e := range s.out {
		if a, ok := e.(Authenticate); ok {
			return a.Request
		}
	}
	s.t.Fatalf("no Authenticate in %v", s.out)
	return AuthRequest{}
}

// down returns the Down in the last step's effects, or nil.
func (s *script) down() *Down {
	for _, e := range s.out {
		if d, ok := e.(Down); ok {
			return &d
		}
	}
	return nil
}

// ack acknowledges the link's own last Configure-Request and returns its options.
func (s *script) ack(protocol uint16) []byte {
	s.t.Helper()
	y, f := layer(lcp{s.link}), &s.link.s.LCP.FSM
	if protocol == ProtocolIPCP {
		y, f = ipcp{s.link}, &s.link.s.IPCP.FSM
	}
	options := y.request(nil)
	s.frame(protocol, codeConfigureAck, f.ID, options...)
	return options
}

const peerMagic = "\x05\x06\xca\xfe\xba\xbe"

// openLCP brings LCP to Opened with the peer asking for these options.
func (s *script) openLCP(options string) {
	s.t.Helper()
	s.frame(ProtocolLCP, codeConfigureRequest, 1, []byte(options)...)
	if p := s.sent(ProtocolLCP, codeConfigureAck); !bytes.Equal(p.data, []byte(options)) {
		s.t.Fatalf("acknowledged %x", p.data)
	}
	s.ack(ProtocolLCP)
	if got := s.link.Info().LCP; got != Opened {
		s.t.Fatalf("LCP is in %v", got)
	}
}

// openAuth goes on to the network phase with PAP.
func (s *script) openAuth() {
	s.t.Helper()
	s.frame(ProtocolPAP, papRequest, 1, []byte("\x01u\x01p")...)
	s.asked()
	s.step(AuthDecision{Accept: true, Network: Network{Local: localAddr, Peer: peerAddr}})
	s.sent(ProtocolPAP, papAck)
	if got := s.link.Info().Phase; got != PhaseNetwork {
		s.t.Fatalf("phase %v", got)
	}
}

// openIPCP goes on until IPCP is Opened.
func (s *script) openIPCP() {
	s.t.Helper()
	s.frame(ProtocolIPCP, codeConfigureRequest, 1, append([]byte{ipcpAddress, 6}, peerAddr.AsSlice()...)...)
	s.sent(ProtocolIPCP, codeConfigureAck)
	s.ack(ProtocolIPCP)
	if got := s.link.Info().IPCP; got != Opened {
		s.t.Fatalf("IPCP is in %v", got)
	}
}

func pap() Config { return Config{Auth: []AuthProtocol{AuthPAP}} }

// wait lets the link's timers run for d.
func (s *script) wait(d time.Duration) {
	var all []Effect
	until := s.now.Add(d)
	for {
		next := s.link.Deadline()
		if next.IsZero() || next.After(until) {
			break
		}
		s.now = next
		all = append(all, s.step(Timer{})...)
	}
	s.now, s.out = until, all
}
