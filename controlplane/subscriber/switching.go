package subscriber

import (
	"time"

	"vrgate/controlplane/aaa"
	"vrgate/pppd"
)

// ConnSpent says that the single-shot tunnel of an IPsec connection is over: the connection is ended at once (H4).
type ConnSpent struct {
	Conn   uint32
	Reason Reason
	Text   string
}

// FarUp answers Dial: the LNS takes the call, and waits for ConnectFar before it says anything.
type FarUp struct {
	Ref                     uint64
	Call                    CallKey
	PeerTunnel, PeerSession uint16
	Sequencing              bool
}

// FarFailed answers Dial: the LNS cannot be reached or refuses.
type FarFailed struct {
	Ref    uint64
	Reason Reason
	Text   string
	// Silent: it has not answered at all, and is passed over for a while.
	Silent bool
}

// FarDown says that a call to an LNS is over.
type FarDown struct {
	Call   CallKey
	Reason Reason
	Text   string
	ByPeer bool
	Cause  pppd.DisconnectCause // of the LNS's CDN (RFC 3145)
}

// Bridged answers Bridge; on failure everything of it is undone.
type Bridged struct {
	ID     ID
	Reason Reason
	Text   string
}

// BridgeClosed answers CloseBridge.
type BridgeClosed struct {
	ID       ID
	Counters Counters
}

func (ConnSpent) subscriberEvent()    {}
func (FarUp) subscriberEvent()        {}
func (FarFailed) subscriberEvent()    {}
func (FarDown) subscriberEvent()      {}
func (Bridged) subscriberEvent()      {}
func (BridgeClosed) subscriberEvent() {}

// Dial places a call to an LNS for a session that is handed on. Answer: FarUp or FarFailed with Ref, which is the session's
// ID.
type Dial struct {
	Ref    uint64
	Target aaa.Tunnel
	Proxy  pppd.Proxy
	// What the near LAC said about the call.
	CallingNumber, CalledNumber, SubAddress string
	TxSpeed, RxSpeed                        uint32
	// Timeout bounds the set-up.
	Timeout time.Duration
}

// CancelDial gives up a Dial that has no answer yet. The answer comes: FarFailed, or FarUp if that was on its way.
type CancelDial struct{ Ref uint64 }

// ConnectFar lets the LNS begin: the bridge is there.
type ConnectFar struct{ Call CallKey }

// CallEnds are the ids of one L2TP session in the kernel.
type CallEnds struct {
	Call                    CallKey
	PeerTunnel, PeerSession uint16
	Sequencing              bool
}

// Bridge makes the kernel objects of both calls and joins their PPP channels, so that frames pass from one to the other without
// leaving the kernel. Answer: Bridged.
type Bridge struct {
	ID        ID
	Near, Far CallEnds
}

// CloseBridge takes both calls' kernel objects away. Answer: BridgeClosed.
type CloseBridge struct {
	ID        ID
	Near, Far CallKey
}

func (Dial) subscriberEffect()        {}
func (CancelDial) subscriberEffect()  {}
func (ConnectFar) subscriberEffect()  {}
func (Bridge) subscriberEffect()      {}
func (CloseBridge) subscriberEffect() {}
