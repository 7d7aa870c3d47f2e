package pppd

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// DisconnectCause is what RFC 3145 tells the LAC in a CDN about the end of a link. The zero value says nothing.
type DisconnectCause struct {
	Code      uint16 // RFC 3145 section 3, 0..20
	Protocol  uint16 // PPP protocol concerned; 0 for global and LCP causes
	Direction uint8  // where the cause is: 0 nowhere in particular, 1 at the peer, 2 here
}

// Codes of RFC 3145 section 3 that this package uses (F3).
const (
	causeAdmin         = 1
	causeNormal        = 3
	causeEncryption    = 4
	causeLCPTimeout    = 5
	causeLCPSilent     = 6
	causeMagic         = 7
	causeEcho          = 8
	causeAuthTimeout   = 13
	causeAuthRefused   = 15
	causeAuthFailed    = 16
	causeNCPTimeout    = 17
	causeNoNCP         = 18
	causeNoConvergence = 19
	causeNoAddress     = 20

	directionPeer  = 1
	directionLocal = 2
)

// Cause gives the RFC 3145 cause that belongs to a reason. Down.Cause is more exact where the link knows the protocol
// concerned. Reasons of other packages get the zero value; for ends that the operator's rules bring about (session
// timeout, idle timeout) NormalCause is right.
func Cause(r Reason) DisconnectCause {
	switch r {
	case ReasonAdmin:
		return DisconnectCause{Code: causeAdmin}
	case ReasonUserRequest:
		return DisconnectCause{Code: causeNormal, Direction: directionPeer}
	case ReasonEncryption:
		return DisconnectCause{Code: causeEncryption, Direction: directionLocal}
	case ReasonLCPDiverged:
		return DisconnectCause{Code: causeLCPTimeout}
	case ReasonLCPTimeout:
		return DisconnectCause{Code: causeLCPSilent}
	case ReasonLoop:
		return DisconnectCause{Code: causeMagic}
	case ReasonKeepalive:
		return DisconnectCause{Code: causeEcho}
	case ReasonAuthTimeout:
		return DisconnectCause{Code: causeAuthTimeout}
	case ReasonAuthRefused:
		return DisconnectCause{Code: causeAuthRefused, Direction: directionPeer}
	case ReasonAuthFailed:
		return DisconnectCause{Code: causeAuthFailed, Direction: directionPeer}
	case ReasonNetwork:
		return DisconnectCause{Code: causeNoNCP, Protocol: ProtocolIPCP}
	}
	return DisconnectCause{}
}

// NormalCause is the cause of an end that is nobody's fault: RFC 3145 code 3, direction 1 when the peer brought it
// about, 2 when we did (F3: session timeout, inactivity).
func NormalCause(byPeer bool) DisconnectCause {
	if byPeer {
		return DisconnectCause{Code: causeNormal, Direction: directionPeer}
	}
	return DisconnectCause{Code: causeNormal, Direction: directionLocal}
}

// windowsMark follows the magic number in Windows' Terminate-Requests and precedes a 32-bit RAS error code.
var windowsMark = []byte{0x00, '<', 0xcd, 't'}

// RAS error codes of Windows that say that encryption was demanded.
const (
	rasLocalNoEncryption  = 741 // the local computer does not support the required data encryption type
	rasRemoteNoEncryption = 742 // the remote computer does not
)

// peerEnd interprets the peer's Terminate-Request: why does it go?
func (l *Link) peerEnd(data []byte) Down {
	d := Down{Reason: ReasonUserRequest, Text: "the peer ended the link", ByPeer: true}
	code, windows := windowsCode(data)
	if windows && code != 0 {
		d.Text = fmt.Sprintf("the peer ended the link with Windows error %d", code)
	} else if !windows && len(data) > 0 {
		d.Text = "the peer ended the link: " + printable(data)
	}
	beforeNetwork := !l.s.NetworkUp
	switch {
	case windows && (code == rasLocalNoEncryption || code == rasRemoteNoEncryption),
		!(windows && code == 0) && l.encryptionInsisted(beforeNetwork):
		d.Reason = ReasonEncryption
		d.Text += " (it wants PPP encryption, which is refused)"
	case beforeNetwork && l.s.LCP.AuthDenied && l.s.UpAt.IsZero():
		d.Reason = ReasonAuthRefused
		d.Text += " (it wants us to authenticate, which is refused)"
		d.Cause = DisconnectCause{Code: causeAuthRefused, Direction: directionLocal}
	}
	return d
}

// encryptionInsisted says whether the peer goes because CCP or ECP was refused: it has not gone on to the network
// since, or goes right after the refusal (F1).
func (l *Link) encryptionInsisted(beforeNetwork bool) bool {
	at := l.s.EncryptionReject
	return !at.IsZero() && (beforeNetwork || l.now.Sub(at) < l.cfg.Restart)
}

// MPPE's option of CCP and its bits for 40, 128 and 56-bit keys and the obsolete one (RFC 3078 section 2.1).
const (
	ccpMPPE     = 18
	mppeEncrypt = 0x20 | 0x40 | 0x80 | 0x10
)

// asksEncryption tells a peer that wants PPP encryption, by ECP or MPPE, from one that only offers to compress, as
// pppd does unasked, or only says that MPPE exists, as Windows does over IPsec.
func asksEncryption(f Frame) bool {
	if f.Protocol == ProtocolECP || f.Protocol == ProtocolECPOne {
		return true
	}
	p, err := parsePacket(f.Data)
	if err != nil || p.code != codeConfigureRequest || checkOptions(p.data) != nil {
		return false
	}
	for rest := p.data; len(rest) > 0; {
		var o option
		o, rest = nextOption(rest)
		if bits, ok := o.uint32(); ok && o.kind == ccpMPPE && bits&mppeEncrypt != 0 {
			return true
		}
	}
	return false
}

// windowsCode reads the RAS error code out of a Terminate-Request of Windows: magic number, windowsMark, code.
func windowsCode(data []byte) (code uint32, ok bool) {
	if len(data) != 12 || !bytes.Equal(data[4:8], windowsMark) {
		return 0, false
	}
	return binary.BigEndian.Uint32(data[8:]), true
}
