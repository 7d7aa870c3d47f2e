package pppd

import (
	"fmt"
	"net/netip"
	"time"
)

// IPCP's configuration options: RFC 1332 section 3, RFC 1877 section 1. Header compression is rejected (the kernel's L2TP
// does none), and so are IP-Addresses (deprecated) and Mobile-IPv4.
const (
	ipcpAddress = 3
	ipcpDNS1    = 129
	ipcpNBNS1   = 130
	ipcpDNS2    = 131
	ipcpNBNS2   = 132
)

// ipcpState is what IPCP remembers.
type ipcpState struct {
	FSM   fsm
	Local netip.Addr // our address; on the Dialer's side what the peer gave us
	Peer  netip.Addr // the peer's address as acknowledged
	DNS   [2]netip.Addr
	// NoAddress and NoDNS: the peer has rejected the option.
	NoAddress bool
	NoDNS     [2]bool
}

// ipcp is IPCP as a layer.
type ipcp struct{ l *Link }

func (y ipcp) protocol() uint16 { return ProtocolIPCP }
func (y ipcp) fsm() *fsm        { return &y.l.s.IPCP.FSM }

// ipcpBegin opens IPCP with the addresses that AAA has given.
func (l *Link) ipcpBegin() {
	s := &l.s.IPCP
	*s = ipcpState{FSM: fsm{State: s.FSM.State, LastID: s.FSM.LastID}}
	if l.cfg.Dialer != nil {
		s.Local = netip.IPv4Unspecified()
		s.DNS = [2]netip.Addr{s.Local, s.Local}
	} else {
		if !l.s.Network.Peer.Is4() {
			l.end(Down{Reason: ReasonNetwork, Text: "AAA has given the peer no IPv4 address", Cause: DisconnectCause{causeNoAddress, ProtocolIPCP, directionPeer}})
			return
		}
		s.Local = l.s.Network.Local
	}
	if s.FSM.State == Initial {
		l.run(ipcp{l}, evOpen)
	}
	l.run(ipcp{l}, evUp)
}

func (y ipcp) request(b []byte) []byte {
	s := &y.l.s.IPCP
	add := func(kind uint8, a netip.Addr) {
		v := a.As4()
		b = option{kind, v[:]}.append(b)
	}
	if s.Local.Is4() && !s.NoAddress {
		add(ipcpAddress, s.Local)
	}
	if y.l.cfg.Dialer != nil {
		for i, kind := range []uint8{ipcpDNS1, ipcpDNS2} {
			if s.DNS[i].Is4() && !s.NoDNS[i] {
				add(kind, s.DNS[i])
			}
		}
	}
	return b
}

// address reads an option that holds an IPv4 address.
func (o option) address() (netip.Addr, bool) {
	return netip.AddrFromSlice(o.data)
}

func (y ipcp) examine(options []byte) verdict {
	l, f := y.l, y.fsm()
	var j judge
	named := false
	// offer accepts the option if it holds our value, suggests ours otherwise, and rejects it when we have none.
	offer := func(o option, want netip.Addr) {
		got, ok := o.address()
		switch {
		case len(o.data) != 4 || !ok || !want.Is4():
			j.rejectOption(o)
		case got != want:
			v := want.As4()
			j.nak, j.naked = option{o.kind, v[:]}.append(j.nak), o.append(j.naked)
		}
	}
	n := &l.s.Network
	for rest := options; len(rest) > 0; {
		var o option
		o, rest = nextOption(rest)
		switch {
		case o.kind == ipcpAddress && l.cfg.Dialer != nil:
			named = true
			if a, ok := o.address(); !ok || !a.Is4() || a.IsUnspecified() {
				j.rejectOption(o) // we have no address to give
			}
		case o.kind == ipcpAddress:
			named = true
			offer(o, n.Peer)
		case l.cfg.Dialer != nil:
			j.rejectOption(o)
		case o.kind == ipcpDNS1:
			offer(o, n.DNS[0])
		case o.kind == ipcpDNS2:
			offer(o, n.DNS[1])
		case o.kind == ipcpNBNS1:
			offer(o, n.NBNS[0])
		case o.kind == ipcpNBNS2:
			offer(o, n.NBNS[1])
		default:
			j.rejectOption(o)
		}
	}
	if l.cfg.Dialer == nil {
		if !named && len(j.reject) == 0 {
			// RFC 1332 section 3.3: an address is required, so the option is added to the Nak.
			v := n.Peer.As4()
			j.nak = option{ipcpAddress, v[:]}.append(j.nak)
		}
		if a := wantedAddress(options); a != n.Peer && f.Naks >= l.cfg.MaxFailure {
			// Rejecting the option now, as Max-Failure has it, would let the peer use an address of its own.
			l.end(Down{
				Reason: ReasonNetwork, Text: fmt.Sprintf("the peer does not take the address %v", n.Peer),
				Cause: DisconnectCause{causeNoConvergence, ProtocolIPCP, directionPeer},
			})
		}
	}
	return j.verdict(options, f, l.cfg.MaxFailure)
}

// wantedAddress finds the address in a Configure-Request; the zero Addr if there is none.
func wantedAddress(options []byte) netip.Addr {
	var a netip.Addr
	for len(options) > 0 {
		var o option
		o, options = nextOption(options)
		if o.kind == ipcpAddress {
			a, _ = o.address()
		}
	}
	return a
}

func (y ipcp) accept(options []byte) { y.l.s.IPCP.Peer = wantedAddress(options) }

func (y ipcp) refused(code uint8, options []byte) bool {
	s := &y.l.s.IPCP
	next := *s
	for len(options) > 0 {
		var o option
		o, options = nextOption(options)
		i, isDNS := 0, o.kind == ipcpDNS1 || o.kind == ipcpDNS2
		if o.kind == ipcpDNS2 {
			i = 1
		}
		if code == codeConfigureReject {
			switch {
			case !inRequest(y, o):
				return false
			case o.kind == ipcpAddress:
				next.NoAddress = true
			case isDNS:
				next.NoDNS[i] = true
			}
			continue
		}
		a, ok := o.address()
		if y.l.cfg.Dialer == nil || !ok || !a.Is4() || a.IsUnspecified() {
			continue // our address is what the operator configured; the peer's wish changes nothing
		}
		switch {
		case o.kind == ipcpAddress:
			next.Local = a
		case isDNS:
			next.DNS[i] = a
		}
	}
	*s = next
	if next.NoAddress && y.l.cfg.Dialer != nil {
		y.l.end(Down{
			Reason: ReasonNetwork, Text: "the peer has no address for us", ByPeer: true,
			Cause: DisconnectCause{causeNoAddress, ProtocolIPCP, directionLocal},
		})
	}
	return true
}

// control: IPCP has no codes of its own.
func (y ipcp) control(packet) bool { return false }

func (y ipcp) rejected(code uint8) bool { return code > codeCodeReject }

func (y ipcp) terminating(packet) {}

func (y ipcp) up() {
	l, s := y.l, &y.l.s.IPCP
	l.s.NetworkUp = true
	l.s.NetworkBy = time.Time{}
	up := NetworkUp{Local: s.Local, Peer: s.Peer, MTU: min(l.peerMRU(), l.cfg.MRU)}
	if l.cfg.Dialer != nil {
		for i, a := range s.DNS {
			if a.Is4() && !a.IsUnspecified() && !s.NoDNS[i] {
				up.DNS[i] = a
			}
		}
	}
	l.emit(up)
}

// down: the link stays for another NetworkTimeout, because the peer may negotiate IPCP anew.
func (y ipcp) down() {
	l := y.l
	l.s.NetworkUp = false
	l.s.NetworkBy = l.now.Add(l.cfg.NetworkTimeout)
	l.emit(NetworkDown{})
}

// finished: when IPCP gives up, the link has no use. If it was the peer that closed IPCP, NetworkBy decides.
func (y ipcp) finished(ev fsmEvent, from State) {
	l := y.l
	if from == Stopping || l.s.Phase != PhaseNetwork {
		return
	}
	d := Down{Reason: ReasonNetwork, Text: "IPCP did not open in time", Cause: DisconnectCause{causeNCPTimeout, ProtocolIPCP, 0}}
	if ev == evRXJminus {
		d.Text, d.ByPeer, d.Cause = "the peer does not know IPCP", true, DisconnectCause{causeNoNCP, ProtocolIPCP, directionPeer}
	}
	l.end(d)
}

func (y ipcp) diverged() {
	y.l.end(Down{
		Reason: ReasonNetwork, Text: "the IPCP options of the two ends do not converge",
		Cause: DisconnectCause{causeNoConvergence, ProtocolIPCP, directionPeer},
	})
}
