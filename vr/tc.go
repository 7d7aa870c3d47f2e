package vr

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"vrgate/vr/nlattr"
)

// trafficModules are what rates and rules, and silent links, need. They load by themselves where the system lets them.
const trafficModules = "sch_ingress cls_flower cls_bpf cls_matchall act_police act_gact act_skbedit"

// Traffic control in numbers (linux/pkt_sched.h, pkt_cls.h and tc_act/tc_gact.h), which the libraries lack.
const (
	clsactParent  = 0xfffffff1 // TC_H_CLSACT
	clsactHandle  = 0xffff0000
	ingressParent = 0xfffffff2 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
	egressParent  = 0xfffffff3

	actContinue = 0xffffffff // TC_ACT_UNSPEC: with the next filter
	actOK       = 0          // TC_ACT_OK
	actShot     = 2
	actPipe     = 3
	actJump     = 0x10000000 // with the number of the action in the list to go on with
	actGoto     = 0x20000000 // TC_ACT_GOTO_CHAIN, with the chain's number
	maxChain    = 0x0fffffff
	sizeTcMsg   = 20
	sizeActMsg  = 4
	actTable    = 1 // TCA_ACT_TAB
	actKind     = 1
	actOptions  = 2
	actIndex    = 3
	actStats    = 4
	gactParms   = 2 // TCA_GACT_PARMS
	editParms   = 2 // TCA_SKBEDIT_PARMS
	editType    = 7 // TCA_SKBEDIT_PTYPE
	policeTBF   = 1
	policeRate  = 2
	policeOK    = 5 // TCA_POLICE_RESULT
	policeRate6 = 8 // TCA_POLICE_RATE64
	statsBasic  = 1 // struct gnet_stats_basic: bytes u64, packets u32
	skipHW      = 1 // TCA_CLS_FLAGS_SKIP_HW

	rateTable  = 1024 // bytes; the kernel demands one and has no use for it
	rateCell   = 3    // log2 of the table's step, must not be 0
	rateEther  = 1    // TC_LINKLAYER_ETHERNET: no cells
	tickLength = 64   // ns of the unit of bursts (PSCHED_SHIFT 6)
)

var native = binary.NativeEndian

// control speaks the traffic control part of rtnetlink in one namespace.
type control struct {
	dial func() (*mdnetlink.Conn, error)

	mu   sync.Mutex // held during every exchange
	conn *mdnetlink.Conn
}

// control opens a socket in the namespace. It works after the namespace has been closed.
func (n *namespace) control() (*control, error) {
	return newControl(func() (*mdnetlink.Conn, error) {
		return mdnetlink.Dial(unix.NETLINK_ROUTE, &mdnetlink.Config{NetNS: n.fd})
	})
}

func newControl(dial func() (*mdnetlink.Conn, error)) (*control, error) {
	conn, err := dial()
	if err != nil {
		return nil, failed(err, "traffic control netlink")
	}
	return &control{dial: dial, conn: conn}, nil
}

// close is idempotent.
func (c *control) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		_ = c.conn.Close()
	}
	c.conn, c.dial = nil, nil
}

// execute sends one request. A socket that failed in any other way than by an answer of the kernel is replaced, so that
// a late answer never meets the next request. ErrClosed after close.
func (c *control) execute(typ uint16, flags mdnetlink.HeaderFlags, body []byte) ([]mdnetlink.Message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dial == nil {
		return nil, ErrClosed
	}
	if c.conn == nil {
		conn, err := c.dial()
		if err != nil {
			return nil, err
		}
		c.conn = conn
	}
	msgs, err := c.conn.Execute(mdnetlink.Message{Header: mdnetlink.Header{Type: mdnetlink.HeaderType(typ), Flags: mdnetlink.Request | flags}, Data: body})
	var errno unix.Errno
	if err == nil || errors.As(err, &errno) && errno != unix.ENOBUFS {
		return msgs, err
	}
	_ = c.conn.Close()
	c.conn = nil
	return nil, err
}

// create is execute for what makes something: the kernel answers that the kind does not exist where a module is missing.
func (c *control) create(typ uint16, flags mdnetlink.HeaderFlags, body []byte) error {
	_, err := c.execute(typ, mdnetlink.Create|mdnetlink.Acknowledge|flags, body)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return &MissingFeature{Feature: FeatureTraffic, Module: trafficModules, Detail: err.Error()}
	}
	return err
}

// tcmsg is struct tcmsg: family u8, pad 3, ifindex s32, handle u32, parent u32, info u32.
func tcmsg(index int, handle, parent, info uint32) []byte {
	b := make([]byte, sizeTcMsg)
	native.PutUint32(b[4:], uint32(index))
	native.PutUint32(b[8:], handle)
	native.PutUint32(b[12:], parent)
	native.PutUint32(b[16:], info)
	return b
}

// addClsact gives a link the place for filters. One that is there is fine: somebody may look at packets by it.
func (c *control) addClsact(index int) error {
	err := c.create(unix.RTM_NEWQDISC, mdnetlink.Excl, nlattr.AppendString(tcmsg(index, clsactHandle, clsactParent, 0), nl.TCA_KIND, "clsact"))
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// filter is one filter as it shall be.
type filter struct {
	index    int
	parent   uint32
	chain    uint32
	priority uint16
	protocol uint16 // ETH_P_…
	handle   uint32 // 0: any
	kind     string
	options  []byte
}

func (f filter) encode() []byte {
	var protocol [2]byte
	binary.BigEndian.PutUint16(protocol[:], f.protocol)
	b := tcmsg(f.index, f.handle, f.parent, uint32(f.priority)<<16|uint32(native.Uint16(protocol[:])))
	b = nlattr.AppendUint32(b, nl.TCA_CHAIN, f.chain)
	if f.kind != "" {
		b = nlattr.AppendString(b, nl.TCA_KIND, f.kind)
	}
	if f.options != nil {
		b = nlattr.Append(b, nl.TCA_OPTIONS, f.options)
	}
	return b
}

// set makes a filter, or puts it in the place of the one of its handle, without a moment without one.
func (c *control) set(f filter) error { return c.create(unix.RTM_NEWTFILTER, 0, f.encode()) }

// remove removes a filter. A missing one, or link, is success.
func (c *control) remove(f filter) error {
	_, err := c.execute(unix.RTM_DELTFILTER, mdnetlink.Acknowledge, f.encode())
	return ignoreGone(err)
}

// flush removes all filters of a chain.
func (c *control) flush(index int, parent, chain uint32) error {
	return c.remove(filter{index: index, parent: parent, chain: chain})
}

// ignoreGone is for removals. EINVAL is what a link without the place for filters answers, EOPNOTSUPP a kernel without
// traffic control.
func ignoreGone(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// flower are the options of a filter for packets from (or to) an IPv4 network; the zero Prefix is for all packets.
func flower(network netip.Prefix, from bool, actions ...[]byte) []byte {
	var b []byte
	if network.IsValid() {
		key, mask := uint16(nl.TCA_FLOWER_KEY_IPV4_SRC), uint16(nl.TCA_FLOWER_KEY_IPV4_SRC_MASK)
		if !from {
			key, mask = nl.TCA_FLOWER_KEY_IPV4_DST, nl.TCA_FLOWER_KEY_IPV4_DST_MASK
		}
		b = nlattr.Append(b, nl.TCA_FLOWER_KEY_ETH_TYPE, be16(unix.ETH_P_IP))
		b = nlattr.Append(b, key, network.Addr().AsSlice())
		b = nlattr.Append(b, mask, binary.BigEndian.AppendUint32(nil, uint32(math.MaxUint32<<(32-network.Bits()))))
	}
	b = nlattr.AppendUint32(b, nl.TCA_FLOWER_FLAGS, skipHW)
	return nlattr.Append(b, nl.TCA_FLOWER_ACT, list(actions))
}

// matchAll are the options of a filter for all packets.
func matchAll(actions ...[]byte) []byte {
	return nlattr.Append(nil, nl.TCA_MATCHALL_ACT, list(actions))
}

// Attributes of cls_bpf that carry a classic program.
const (
	bpfLength  = 4 // TCA_BPF_OPS_LEN, instructions
	bpfProgram = 5 // TCA_BPF_OPS
)

// match are the options of a filter for packets that a program passes.
func match(p []unix.SockFilter, actions ...[]byte) []byte {
	b := nlattr.AppendUint16(nil, bpfLength, uint16(len(p)))
	b = nlattr.Append(b, bpfProgram, encodeProgram(p))
	return nlattr.Append(b, nl.TCA_BPF_ACT, list(actions))
}

// list is a list of actions, which the kernel runs in this order.
func list(actions [][]byte) []byte {
	var b []byte
	for i, a := range actions {
		b = nlattr.Append(b, uint16(i+1), a)
	}
	return b
}

// gact is an action that ends the list with a result. index names one that several filters share; 0 is none.
func gact(result, index uint32) []byte {
	// struct tc_gact: index u32, capab u32, action s32, refcnt s32, bindcnt s32
	parms := make([]byte, 20)
	native.PutUint32(parms, index)
	native.PutUint32(parms[8:], result)
	b := nlattr.AppendString(nil, actKind, "gact")
	return nlattr.Append(b, actOptions, nlattr.Append(nil, gactParms, parms))
}

// skbedit is an action that has a packet be one that was sent to whom the type says (unix.PACKET_…), and goes on with a result.
func skbedit(packetType uint16, result uint32) []byte {
	// struct tc_skbedit: index u32, capab u32, action s32, refcnt s32, bindcnt s32
	parms := make([]byte, 20)
	native.PutUint32(parms[8:], result)
	b := nlattr.AppendString(nil, actKind, "skbedit")
	return nlattr.Append(b, actOptions, nlattr.AppendUint16(nlattr.Append(nil, editParms, parms), editType, packetType))
}

// police is an action that tells packets within a rate from those beyond it.
func police(r Rate, within, beyond uint32) []byte {
	bytes := r.Bits / 8
	// struct tc_ratespec: cell_log u8, linklayer u8, overhead u16, cell_align s16, mpu u16, rate u32
	rate := make([]byte, 12)
	rate[0], rate[1] = rateCell, rateEther
	native.PutUint32(rate[8:], uint32(min(bytes, math.MaxUint32)))
	// struct tc_police: index u32, action s32, limit u32, burst u32, mtu u32, rate, peakrate, refcnt s32, bindcnt s32, capab u32
	tbf := make([]byte, 56)
	native.PutUint32(tbf[4:], beyond)
	native.PutUint32(tbf[12:], r.ticks())
	native.PutUint32(tbf[16:], math.MaxUint32) // no packet is too long by itself
	copy(tbf[20:], rate)
	o := nlattr.Append(nil, policeTBF, tbf)
	o = nlattr.Append(o, policeRate, make([]byte, rateTable))
	o = nlattr.AppendUint32(o, policeOK, within)
	if bytes > math.MaxUint32 {
		o = nlattr.AppendUint64(o, policeRate6, bytes)
	}
	b := nlattr.AppendString(nil, actKind, "police")
	return nlattr.Append(b, actOptions, o)
}

// actionMessage is a message about one action that is not in a filter: struct tcamsg, and a list.
func actionMessage(action []byte) []byte {
	return nlattr.Append(make([]byte, sizeActMsg), actTable, list([][]byte{action}))
}

func namedAction(index uint32) []byte {
	return nlattr.AppendUint32(nlattr.AppendString(nil, actKind, "gact"), actIndex, index)
}

// addVerdict makes a shared action.
func (c *control) addVerdict(result, index uint32) error {
	return c.create(unix.RTM_NEWACTION, mdnetlink.Replace, actionMessage(gact(result, index)))
}

// removeVerdict removes a shared action; a missing one is success. EPERM: a filter has it still.
func (c *control) removeVerdict(index uint32) error {
	_, err := c.execute(unix.RTM_DELACTION, mdnetlink.Acknowledge, actionMessage(namedAction(index)))
	return ignoreGone(err)
}

// verdicts is how many packets a shared action has had; none when it does not exist.
func (c *control) verdicts(index uint32) (uint64, error) {
	msgs, err := c.execute(unix.RTM_GETACTION, 0, actionMessage(namedAction(index)))
	if ignoreGone(err) != nil {
		return 0, err
	}
	for _, m := range msgs {
		if m.Header.Type == unix.RTM_GETACTION && len(m.Data) >= sizeActMsg { // the answer has the type of the question
			return parseVerdicts(m.Data[sizeActMsg:])
		}
	}
	return 0, nil
}

// parseVerdicts reads the packets from the attributes of a message about one action.
func parseVerdicts(b []byte) (packets uint64, err error) {
	// Action table, first action, statistics, basic ones.
	path := []uint16{actTable, 1, actStats, statsBasic}
	for depth, want := range path {
		var inner []byte
		err := nlattr.Each(b, func(typ uint16, data []byte) error {
			if typ == want && inner == nil {
				inner = data
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		if inner == nil {
			return 0, fmt.Errorf("%w: no attribute %d at depth %d of an action", nlattr.ErrMalformed, want, depth)
		}
		b = inner
	}
	const packetsAt = 8
	if len(b) < packetsAt+4 {
		return 0, fmt.Errorf("%w: statistics of %d bytes", nlattr.ErrMalformed, len(b))
	}
	return uint64(native.Uint32(b[packetsAt:])), nil
}
