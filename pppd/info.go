package pppd

import "net/netip"

// Info is a link as show commands present it.
type Info struct {
	Phase      Phase
	LCP, IPCP  State
	Ask, Peer  LCPOptions // asked by us, and acknowledged of the peer
	ProxyLCP   bool       // LCP is as a LAC has negotiated it, and not renegotiated since
	User       string     // as the peer presented it; may hold any byte
	Accepted   bool       // AAA has accepted the peer
	Waiting    bool       // AAA has been asked and has not answered
	Local      netip.Addr
	Remote     netip.Addr
	DNS        [2]netip.Addr
	MTU        uint16 // bytes; 0 before LCP is open
	EchoMisses int    // Echo-Requests since the last Echo-Reply
	Counters   Counters
}

// Counters count frames and packets in a link's life. None of them is ever logged above Debug.
type Counters struct {
	FramesIn        uint32
	FramesOut       uint32
	LCPIn           uint32 // well-formed LCP packets received
	Malformed       uint32 // dropped: lengths or contents that make no sense
	Early           uint32 // dropped: not in this phase (a client that pipelines)
	Unexpected      uint32 // dropped: nobody asked for it
	Repeats         uint32 // answered as before
	ProtocolRejects uint32 // protocols refused
	Renegotiations  uint32 // times LCP left Opened to be negotiated anew
	EchoRequests    uint32 // sent
}

// Info describes the link at this moment.
func (l *Link) Info() Info {
	s := &l.s
	i := Info{
		Phase: s.Phase, LCP: s.LCP.FSM.State, IPCP: s.IPCP.FSM.State,
		Ask: s.LCP.Ask, Peer: s.LCP.Peer, ProxyLCP: s.LCP.Taken != nil,
		User: string(s.Auth.User), Accepted: s.Auth.Outcome == accepted, Waiting: s.Auth.Pending && !s.Auth.Stale,
		Local: s.IPCP.Local, Remote: s.IPCP.Peer, DNS: s.Network.DNS,
		EchoMisses: s.EchoMisses, Counters: s.Counters,
	}
	if l.cfg.Dialer != nil {
		i.DNS = s.IPCP.DNS
	}
	if s.LCP.FSM.State == Opened {
		i.MTU = min(l.peerMRU(), l.cfg.MRU)
	}
	return i
}
