package ike

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"time"

	"vrgate/controlplane/deadline"
	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// State of a phase 1 SA, as K6 names them; AUTH is ours. "-I" and "-R" say
// whether we are the initiator or the responder of the SA.
type State uint8

// States.
const (
	StateStartI   State = iota // before our first message: a Diffie-Hellman job or nothing yet
	StateMMSAI                 // SA offered, waiting for the choice
	StateMMSAR                 // transform chosen, waiting for the peer's public value
	StateMMKEI                 // public value sent, or being computed
	StateMMKER                 // public value received, shared secret being computed
	StateMMFinalI              // our proof sent, waiting for the peer's
	StateMMFinalR              // public value sent, waiting for the peer's proof
	StateAMSAI                 // SA, public value and identity sent, waiting for the responder's
	StateAMSAR                 // the same received, our answer being made
	StateAMFinalI              // the responder's received, shared secret being computed
	StateAMDoneR               // our answer and proof sent, waiting for the peer's proof
	StateAuthI                 // a signature is being made or checked
	StateAuthR
	StateDone    // authenticated
	StateDeleted // over
)

// String returns the name of K6.
func (s State) String() string {
	switch s {
	case StateStartI:
		return "start-I"
	case StateMMSAI:
		return "MM SA-I"
	case StateMMSAR:
		return "MM SA-R"
	case StateMMKEI:
		return "MM KE-I"
	case StateMMKER:
		return "MM KE-R"
	case StateMMFinalI:
		return "MM FINAL-I"
	case StateMMFinalR:
		return "MM FINAL-R"
	case StateAMSAI:
		return "AM SA-I"
	case StateAMSAR:
		return "AM SA-R"
	case StateAMFinalI:
		return "AM FINAL-I"
	case StateAMDoneR:
		return "AM DONE-R"
	case StateAuthI:
		return "AUTH-I"
	case StateAuthR:
		return "AUTH-R"
	case StateDone:
		return "DONE"
	case StateDeleted:
		return "DELETED"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// cookies names an ISAKMP SA.
type cookies struct{ I, R isakmp.Cookie }

// digest recognises repeated datagrams.
type digest [16]byte

func digestOf(b []byte) (d digest) {
	h := sha256.Sum256(b)
	copy(d[:], h[:])
	return d
}

// answer is the last message of an exchange, kept to be repeated.
type answer struct {
	To   digest    // datagram that it answers, zero if none
	Data []byte    // nil: nothing to repeat
	Till time.Time // dropped after; zero: with its exchange
}

// phase1 is one ISAKMP SA. A half-open one, which strangers can make us hold,
// has a negotiation and no session; an authenticated one the reverse.
type phase1 struct {
	Cookies       cookies
	Initiator     bool
	Marker        bool // on the NAT-T port
	NATPeer       bool // a NAT is in front of the peer
	NATLocal      bool // a NAT is in front of us
	State         State
	Group         keymat.Group
	Conn          ConnID // 0 while half open
	Suite         keymat.Suite
	Local, Remote netip.AddrPort
	Created       time.Time
	Life          time.Duration
	Rule          string
	Method        AuthMethod // accepted, as the number on the wire
	Aggressive    bool       // negotiated in aggressive mode
	NATTOff       bool       // we did not speak NAT-T when it began
	Vendor        vendor
	Last          answer // to the last main or aggressive mode message

	*session // once authenticated
	neg      *negotiation
	quicks   []*quick
	talk     *dialogue // transaction exchanges under way, nil without
	frags    *isakmp.Reassembler
	timer    deadline.Place
}

// session is what an authenticated phase 1 SA has. It is plain data and, with the
// exported fields of phase1, what a snapshot holds.
type session struct {
	Keys      keymat.Keys // SKEYID and SKEYID_e are wiped
	LastBlock []byte      // of phase 1's ciphertext: seeds the IV of later exchanges
	KeyName   string      // of the pre-shared key, "" with certificates and for an initiator's hybrid proof
	KeyTunnel string      // tunnel profile that the key belongs to (J19)
	KeyStatic string      // static tunnel that the key belongs to (J11)
	KeyGroup  bool        // the key serves L2TP only (D2r)
	Subject   string      // of the peer's certificate, in words; "" without one
	PeerID    []byte      // body of the identification payload
	Up        time.Time
	RekeyAt   time.Time // zero: not by us, or done
	Expires   time.Time
	Replaced  time.Time // when to delete it since a newer one took over
	// Third is when to repeat message 3 of aggressive mode, which has no answer, until the
	// responder is heard; Thirds counts.
	Third     time.Time
	Thirds    int
	SeenQuick []uint32 // message ids the peer has used
	SeenInfo  []uint32
	SeenTrans []uint32 // those of transaction exchanges, ours included
	Status    xauthStatus
	Info      answer // to the last R-U-THERE
	DPD       dpd
	Doubted   time.Time // since when it is in doubt that the peer still has it, see doubt; zero: it is not
}

// negotiation is what a phase 1 SA needs only until it is authenticated.
type negotiation struct {
	SAi      []byte // body of the initiator's SA payload
	Ni, Nr   []byte
	GXi, GXr []byte
	Shared   keymat.Secret
	Job      JobID // outstanding, 0 if none

	Keys    keymat.Keys   // until the session has them
	IV      []byte        // of the next message of main mode
	Key     *PresharedKey // that proves us and the peer, nil with certificates
	Cred    string        // certificate that proves us, "" with a key
	Ours    isakmp.Payload
	PeerID  []byte // body of the identification payload, not proven yet
	Subject string // of the peer's certificate, once it has been checked
	Choice  isakmp.Payload
	msg     *held

	From     netip.AddrPort // where message 1 came from; failures count against its address
	First    digest         // of message 1
	Counted  bool           // among the half-open
	Verified bool           // the peer has shown that it receives what we send
	Notified bool           // the one error notify was sent
	Talked   bool           // aggressive mode: something encrypted came instead of message 3
	LifeCut  bool           // the peer wanted a longer lifetime
	Attempts uint8          // last messages of the peer whose proof is wrong
	Expires  time.Time      // when it is given up, zero: by retransmission

	// FIFO of unverified responders, oldest first.
	older, newer *phase1

	*attempt // as initiator
}

// attempt is what an initiator has to remember beside.
type attempt struct {
	Open  Initiate
	Rekey ConnID // connection this SA is to serve, 0: a new one
	Offer []isakmp.Phase1Transform
	Pair  keymat.KeyPair // between its two jobs
	Tries int
	Next  time.Time         // of the retransmission
	Hint  isakmp.NotifyType // last error notify in clear: told when all has failed, never acted upon

	next    []byte      // last block of phase 1
	cutLife isakmp.Life // RESPONDER-LIFETIME of message 6
	proof   given       // of message 2 of aggressive mode
	why     Reason      // what was wrong with an answer, told when no better one came
	whyText string
}

// conn is one connection: a peer over all its rekeys.
type conn struct {
	Info      ConnInfo
	Announced bool // ConnUp was emitted
	Initiator bool
	PeerID    []byte   // body of the identification payload
	GroupKey  bool     // Info.Key is a group key
	NATTOff   bool     // its newest phase 1 SA was made without NAT-T because we did not speak it
	Open      Initiate // how to open it again, as initiator
	Phase1    []*phase1
	Children  []*child
	Grace     time.Time // end of it if there still is no child
	WantChild bool      // a quick mode waits for a phase 1 SA
	Retry     time.Time // of a rekey that failed
	Alone     time.Time // since when there are ESP SAs and no phase 1 SA to probe the peer through
	Watch     time.Time // when its traffic is read next, while it is alone
	Lapses    int       // phase 1 SAs in a row that have gone before half of their life, see lapsed
	Dyn       *dynamic  // of a dynamic subscriber, else nil
	Client    client    // where we are the subscriber
	Static    string    // name of the static tunnel, "" for others
	OurID     []byte    // of a static tunnel: what we have called ourselves, likewise
	Wanted    []string  // pairs of networks that were dialled and are not there yet
	Shown     []string  // those of which ChildUp was emitted
	Probe     bool      // a static tunnel's peer is probed
	Beat      time.Time // of the next NAT keepalive, zero: none
	Traffic   traffic   // as last read, for dead peer detection
	opening   *phase1   // half-open SA that we have started for it
	place     place     // under which it is in the engine's tables
	timer     deadline.Place
}

// saStatus of one direction of a child.
type saStatus uint8

const (
	saNone saStatus = iota
	saPending
	saUp
	saFailed
)

// child is one pair of ESP SAs.
type child struct {
	Conn     ConnID
	In, Out  SA
	InState  saStatus
	OutState saStatus
	Proposal ESPProposal
	PFS      keymat.Group
	LocalID  []byte // selectors as bodies of identification payloads; nil: none were sent
	RemoteID []byte
	Profile  string
	Name     string    // of a static tunnel's pair of networks
	Since    time.Time // when its lifetime began
	Ready    time.Time // when both directions were installed
	Soft     time.Time // when we start to replace it
	Hard     time.Time // when it ends
	Rekeying bool
	Switch   time.Time // when its outbound SA is to be installed, while the one that it replaces still serves
	Replaced time.Time // when to delete it since a newer one took over
	Deleted  bool      // by the peer or by us; what is left waits for stragglers
	Pruned   int       // how often we have told the peer that it is deleted, 0: not by us
	Lost     bool      // the peer does not have it any more, as far as we can know: it ends when it cannot be replaced

	timer deadline.Place
}

// quickState of a quick mode.
type quickState uint8

const (
	quickDH         quickState = iota // waiting for Diffie-Hellman
	quickInstalling                   // waiting for the kernel to take the inbound SA
	quickSent                         // waiting for the peer's next message
	quickFinished                     // as initiator: kept to repeat message 3
)

// quick is one quick mode exchange. It is not part of snapshots: a peer repeats
// or restarts it.
type quick struct {
	ID        uint32
	Initiator bool
	State     quickState
	IV        []byte
	Ni, Nr    []byte
	Last      answer
	Tries     int
	Next      time.Time
	Expires   time.Time

	profile *TransportProfile // or what a tunnel profile says in its words
	tunnel  bool
	local   netip.Prefix // networks of a tunnel
	remote  netip.Prefix
	name    string                // of a static tunnel's pair of networks
	sel     selector              // likewise
	why     string                // what was wrong, in words
	offer   []isakmp.ESPTransform // initiator
	chosen  isakmp.Transform      // as the initiator sent it
	number  uint8                 // of the chosen proposal
	esp     isakmp.ESPTransform
	life    childLife
	spiIn   uint32
	spiOut  uint32
	lid     []byte
	rid     []byte
	natOA   bool
	job     JobID
	pair    keymat.KeyPair
	ke      []byte // the peer's public value
	pfs     keymat.Group
	child   *child
	old     *child // that this one is to replace, as initiator
	p       *phase1
	timer   deadline.Place
}

// childLife is what both sides agreed on.
type childLife struct {
	Time   time.Duration
	KB     uint64
	Notify bool // we cut it: RESPONDER-LIFETIME
}

// jobRef says whom the answer of a job is for.
type jobRef struct {
	p *phase1
	q *quick // nil: for phase 1
}

func (p *phase1) Place() *deadline.Place { return &p.timer }
func (c *conn) Place() *deadline.Place   { return &c.timer }
func (c *child) Place() *deadline.Place  { return &c.timer }
func (q *quick) Place() *deadline.Place  { return &q.timer }

// done tells whether the SA is authenticated and not over.
func (p *phase1) done() bool { return p.State == StateDone }

// encap tells whether ESP has to travel in UDP.
func (p *phase1) encap() bool { return p.NATPeer || p.NATLocal }

// newest returns the phase 1 SA to send on, nil if there is none.
func (c *conn) newest() *phase1 {
	for i := len(c.Phase1) - 1; i >= 0; i-- {
		if c.Phase1[i].done() && c.Phase1[i].Replaced.IsZero() {
			return c.Phase1[i]
		}
	}
	for i := len(c.Phase1) - 1; i >= 0; i-- {
		if c.Phase1[i].done() {
			return c.Phase1[i]
		}
	}
	return nil
}

// current returns the newest child that carries traffic, nil if there is none.
func (c *conn) current() *child { return c.currentLike(nil) }

// currentLike returns the child that carries the same traffic as ch, which it may
// be itself; nil stands for any. It returns nil if there is none.
func (c *conn) currentLike(ch *child) *child {
	for i := len(c.Children) - 1; i >= 0; i-- {
		if o := c.Children[i]; o.ready() && o.Replaced.IsZero() && o.rivals(ch) {
			return o
		}
	}
	return nil
}

// ready tells whether both directions are installed.
func (c *child) ready() bool { return c.InState == saUp && c.OutState == saUp && !c.Deleted }
