package pppd

import (
	"bytes"
	"encoding/binary"
	"time"
)

// layer is what LCP and the NCPs have of their own; everything else about negotiating is common and in this file.
// The methods are called within Step only.
type layer interface {
	protocol() uint16
	fsm() *fsm
	// request appends the options we ask for. It must give the same octets until refused changes something.
	request(b []byte) []byte
	// examine judges the peer's options.
	examine(options []byte) verdict
	// accept takes the peer's options over: we are about to acknowledge them.
	accept(options []byte)
	// refused changes what we ask after a Configure-Nak or -Reject. False means that the packet makes no sense.
	refused(code uint8, options []byte) bool
	// control handles a code beyond the seven common ones; false: unknown.
	control(p packet) bool
	// rejected handles a Code-Reject of one of our codes; it says whether the automaton can live with it.
	rejected(code uint8) (permitted bool)
	// terminating is told of a Terminate-Request before the automaton sees it.
	terminating(p packet)
	up()
	down()
	// finished is the automaton's This-Layer-Finished, with the event that caused it and the state before.
	finished(ev fsmEvent, from State)
	// diverged says that maxRounds has been exceeded.
	diverged()
}

// fsm is the part of the automaton that remembers.
type fsm struct {
	State    State
	Retry    int       // the restart counter
	Timer    time.Time // the restart timer
	LastID   uint8     // identifier used last
	ID       uint8     // identifier of the Configure-Request that is valid
	Answered bool      // a valid answer to it has come: another one is a duplicate
	Naks     int       // Configure-Naks sent since the last Configure-Ack (Max-Failure)
	Refusals int       // Configure-Naks and -Rejects sent since then (maxRounds)
	Refused  int       // Configure-Naks and -Rejects received in a row (maxRounds)

	AckedID uint8
	Acked   []byte // options of the Configure-Request acknowledged last
}

// inbound is the packet being handled and its verdict, for the actions that answer it.
type inbound struct {
	packet
	answer verdict
}

// verdict is the answer to a Configure-Request.
type verdict struct {
	code    uint8 // codeConfigureAck, -Nak or -Reject
	options []byte
}

// judge collects a verdict option by option.
type judge struct {
	nak    []byte // options with the values we would accept
	naked  []byte // the same options as the peer sent them
	reject []byte
}

func (j *judge) rejectOption(o option) { j.reject = o.append(j.reject) }

// verdict decides: rejects go first and alone (RFC 1661 section 5.4). After Max-Failure Naks what would be Nak'd again
// is rejected, and options that we only suggested are given up.
func (j *judge) verdict(options []byte, f *fsm, maxFailure int) verdict {
	switch {
	case len(j.reject) > 0:
		return verdict{codeConfigureReject, j.reject}
	case len(j.nak) > 0 && f.Naks < maxFailure:
		return verdict{codeConfigureNak, j.nak}
	case len(j.naked) > 0:
		return verdict{codeConfigureReject, j.naked}
	}
	return verdict{codeConfigureAck, options}
}

// run feeds one event to a layer's automaton.
func (l *Link) run(y layer, ev fsmEvent) {
	f := y.fsm()
	from := f.State
	c := automaton[ev][from]
	if c == never {
		l.s.Counters.Unexpected++
		return
	}
	f.State = c.next
	if c.next < Closing || c.next > AckSent {
		f.Timer = time.Time{}
	}
	for _, a := range c.do {
		switch a {
		case tlu:
			y.up()
		case tld:
			y.down()
		case tlf:
			y.finished(ev, from)
		case irc:
			f.Retry = l.cfg.MaxConfigure
			if c.do[1] == str || c.do[2] == str {
				f.Retry = l.cfg.MaxTerminate
			}
		case zrc:
			// RFC 1661 section 3.7: the link stays for one restart time, in case our Terminate-Ack is lost.
			f.Retry = 0
			f.Timer = l.now.Add(l.cfg.Restart)
		case scr:
			l.sendRequest(y, ev)
		case sca:
			f.Naks, f.Refusals = 0, 0
			f.AckedID, f.Acked = l.in.id, bytes.Clone(l.in.answer.options)
			y.accept(l.in.answer.options)
			l.send(y.protocol(), packet{codeConfigureAck, l.in.id, l.in.answer.options})
		case scn:
			if l.in.answer.code == codeConfigureNak {
				f.Naks++
			}
			f.Acked = nil
			l.send(y.protocol(), packet{l.in.answer.code, l.in.id, l.in.answer.options})
		case str:
			f.Retry--
			f.Timer = l.now.Add(l.cfg.Restart)
			if ev != evTOplus {
				f.LastID++
			}
			l.send(y.protocol(), packet{codeTerminateRequest, f.LastID, l.farewell()})
		case sta:
			l.send(y.protocol(), packet{codeTerminateAck, l.in.id, nil})
		case scj:
			l.codeReject(y)
		case ser:
			l.echoReply()
		case actNone, tls: // the lower layer of a Link is always up
		}
	}
}

// sendRequest sends our Configure-Request. A repetition keeps its identifier, so that a late answer to the first copy
// still counts when the round trip is longer than the restart time.
func (l *Link) sendRequest(y layer, ev fsmEvent) {
	f := y.fsm()
	f.Retry--
	f.Timer = l.now.Add(l.cfg.Restart)
	if ev != evTOplus || f.Answered {
		f.LastID++
		f.ID, f.Answered = f.LastID, false
	}
	var buf [64]byte
	l.send(y.protocol(), packet{codeConfigureRequest, f.ID, y.request(buf[:0])})
}

// timeout runs a layer's restart timer out.
func (l *Link) timeout(y layer) {
	if y.fsm().Retry > 0 {
		l.run(y, evTOplus)
	} else {
		l.run(y, evTOminus)
	}
}

// control handles a packet of LCP or an NCP.
func (l *Link) control(y layer, frame []byte) {
	p, err := parsePacket(frame)
	if err != nil {
		l.s.Counters.Malformed++
		return
	}
	l.in = inbound{packet: p}
	if y.protocol() == ProtocolLCP {
		l.s.Counters.LCPIn++
	}
	f := y.fsm()
	if f.State == Initial || f.State == Starting {
		l.s.Counters.Early++
		return
	}
	switch p.code {
	case codeConfigureRequest:
		l.configureRequest(y, p)
	case codeConfigureAck, codeConfigureNak, codeConfigureReject:
		l.configureAnswer(y, p)
	case codeTerminateRequest:
		y.terminating(p)
		l.run(y, evRTR)
	case codeTerminateAck:
		l.run(y, evRTA)
	case codeCodeReject:
		if len(p.data) < 1 {
			l.s.Counters.Malformed++
			return
		}
		if y.rejected(p.data[0]) {
			l.run(y, evRXJplus)
		} else {
			l.run(y, evRXJminus)
		}
	default:
		if !y.control(p) {
			l.run(y, evRUC)
		}
	}
}

func (l *Link) configureRequest(y layer, p packet) {
	f := y.fsm()
	if checkOptions(p.data) != nil {
		l.s.Counters.Malformed++
		return
	}
	if f.State == Closing || f.State == Stopping || f.State == Closed {
		l.run(y, evRCRplus) // the table answers these alike, whatever is asked
		return
	}
	if l.repeated(y, p) {
		l.s.Counters.Repeats++
		l.send(y.protocol(), packet{codeConfigureAck, p.id, p.data})
		return
	}
	l.in.answer = y.examine(p.data)
	if l.closing {
		return
	}
	if l.in.answer.code == codeConfigureAck {
		l.run(y, evRCRplus)
		return
	}
	f.Refusals++
	if f.Refusals > maxRounds {
		y.diverged()
		return
	}
	l.run(y, evRCRminus)
}

// repeated says whether p is the very Configure-Request that we acknowledged to get here. The peer cannot have opened
// without our acknowledgement, so it is either a duplicate or a request for the acknowledgement that was lost; both
// want the same answer. RFC 1661's table would take the layer down, with all the authentication above it. A peer that
// has really started again comes with another magic number or identifier.
func (l *Link) repeated(y layer, p packet) bool {
	f := y.fsm()
	return f.State == Opened && len(f.Acked) > 0 && p.id == f.AckedID && bytes.Equal(p.data, f.Acked)
}

// configureAnswer handles the three answers to our Configure-Request. An answer to another request, or a second answer
// to the same one, is dropped (RFC 1661 sections 5.2 to 5.4).
func (l *Link) configureAnswer(y layer, p packet) {
	f := y.fsm()
	if f.State >= ReqSent && (p.id != f.ID || f.Answered) {
		l.s.Counters.Unexpected++
		return
	}
	if checkOptions(p.data) != nil {
		l.s.Counters.Malformed++
		return
	}
	if p.code == codeConfigureAck {
		var buf [64]byte
		if f.State >= ReqSent && !bytes.Equal(p.data, y.request(buf[:0])) {
			l.s.Counters.Malformed++
			return
		}
		f.Answered, f.Refused = true, 0
		l.run(y, evRCA)
		return
	}
	if f.State >= ReqSent {
		if !y.refused(p.code, p.data) {
			l.s.Counters.Malformed++
			return
		}
		f.Answered = true
		f.Refused++
		if f.Refused > maxRounds {
			y.diverged()
		}
		if l.closing {
			return
		}
	}
	l.run(y, evRCN)
}

// codeReject answers an unknown code with the packet itself, cut to the peer's MRU: RFC 1661 section 5.6.
func (l *Link) codeReject(y layer) {
	p := l.in.packet
	n := min(len(p.data), int(l.peerMRU())-2*packetHeader)
	data := make([]byte, 0, packetHeader+n)
	data = append(data, p.code, p.id)
	data = binary.BigEndian.AppendUint16(data, uint16(packetHeader+len(p.data)))
	l.s.RejectID++
	l.send(y.protocol(), packet{codeCodeReject, l.s.RejectID, append(data, p.data[:n]...)})
}

// farewell is the text in our Terminate-Requests, which peers log.
func (l *Link) farewell() []byte {
	if l.s.End == nil {
		return nil
	}
	return []byte(l.s.End.Text)[:min(len(l.s.End.Text), maxMessage)]
}

// inRequest says whether the option, octet by octet, is one of those in our request.
func inRequest(y layer, o option) bool {
	var buf [64]byte
	for b := y.request(buf[:0]); len(b) > 0; {
		var q option
		q, b = nextOption(b)
		if q.kind == o.kind && bytes.Equal(q.data, o.data) {
			return true
		}
	}
	return false
}
