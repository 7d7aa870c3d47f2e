package l2tpnl

import (
	"encoding/binary"
	"time"

	"vrgate/vr/nlattr"
)

// Commands and attributes of linux/l2tp.h.
const (
	familyVersion = 1

	cmdTunnelCreate  = 1
	cmdTunnelDelete  = 2
	cmdTunnelGet     = 4
	cmdSessionCreate = 5
	cmdSessionDelete = 6
	cmdSessionGet    = 8

	attrPwType        = 1
	attrEncapType     = 2
	attrProtoVersion  = 7
	attrConnID        = 9
	attrPeerConnID    = 10
	attrSessionID     = 11
	attrPeerSessionID = 12
	attrRecvSeq       = 18
	attrSendSeq       = 19
	attrLNSMode       = 20
	attrRecvTimeout   = 22
	attrFD            = 23
	attrStats         = 30

	attrTxPackets     = 1 // of the nested statistics
	attrTxBytes       = 2
	attrTxErrors      = 3
	attrRxPackets     = 4
	attrRxBytes       = 5
	attrRxSeqDiscards = 6
	attrRxOOSPackets  = 7
	attrRxErrors      = 8

	encapUDP     = 0
	pwPPP        = 7
	protoVersion = 2
)

var native = binary.NativeEndian

func encodeTunnel(fd int, local, peer uint16) []byte {
	b := nlattr.AppendUint32(nil, attrConnID, uint32(local))
	b = nlattr.AppendUint32(b, attrPeerConnID, uint32(peer))
	b = nlattr.AppendUint8(b, attrProtoVersion, protoVersion)
	b = nlattr.AppendUint16(b, attrEncapType, encapUDP)
	return nlattr.AppendUint32(b, attrFD, uint32(fd))
}

// encodeIDs names a tunnel, or with a session that is not 0 a session.
func encodeIDs(tunnel, session uint16) []byte {
	b := nlattr.AppendUint32(nil, attrConnID, uint32(tunnel))
	if session != 0 {
		b = nlattr.AppendUint32(b, attrSessionID, uint32(session))
	}
	return b
}

func encodeSession(s SessionSpec) []byte {
	b := encodeIDs(s.Tunnel, s.Session)
	b = nlattr.AppendUint32(b, attrPeerConnID, uint32(s.PeerTunnel))
	b = nlattr.AppendUint32(b, attrPeerSessionID, uint32(s.Peer))
	b = nlattr.AppendUint16(b, attrPwType, pwPPP)
	b = nlattr.AppendUint8(b, attrLNSMode, bit(s.LNS))
	b = nlattr.AppendUint8(b, attrSendSeq, bit(s.Sequence))
	b = nlattr.AppendUint8(b, attrRecvSeq, bit(s.RequireSequence))
	if ms := s.Reorder / time.Millisecond; ms > 0 {
		b = nlattr.AppendUint64(b, attrRecvTimeout, uint64(ms))
	}
	return b
}

func bit(v bool) uint8 {
	if v {
		return 1
	}
	return 0
}

// info is what a TUNNEL_GET or SESSION_GET answer says.
type info struct {
	tunnel, peerTunnel, session, peer uint32
	counters                          Counters
}

func parseInfo(b []byte) (info, error) {
	var in info
	words := map[uint16]*uint32{
		attrConnID: &in.tunnel, attrPeerConnID: &in.peerTunnel,
		attrSessionID: &in.session, attrPeerSessionID: &in.peer,
	}
	err := nlattr.Each(b, func(typ uint16, data []byte) error {
		if p := words[typ]; p != nil {
			if len(data) < 4 {
				return nlattr.ErrMalformed
			}
			*p = native.Uint32(data)
		}
		if typ == attrStats {
			var err error
			in.counters, err = parseCounters(data)
			return err
		}
		return nil
	})
	return in, err
}

func parseCounters(b []byte) (Counters, error) {
	var c Counters
	fields := map[uint16]*uint64{
		attrTxPackets: &c.TxPackets, attrTxBytes: &c.TxBytes, attrTxErrors: &c.TxErrors,
		attrRxPackets: &c.RxPackets, attrRxBytes: &c.RxBytes, attrRxErrors: &c.RxErrors,
		attrRxSeqDiscards: &c.RxSequenceDiscards, attrRxOOSPackets: &c.RxOutOfSequence,
	}
	err := nlattr.Each(b, func(typ uint16, data []byte) error {
		if p := fields[typ]; p != nil {
			if len(data) < 8 {
				return nlattr.ErrMalformed
			}
			*p = native.Uint64(data)
		}
		return nil
	})
	return c, err
}
