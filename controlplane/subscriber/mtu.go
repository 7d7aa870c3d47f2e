package subscriber

// ESP is what the size of an ESP packet depends on (RFC 4303 section 2).
type ESP struct {
	Encap bool // ESP in UDP (RFC 3948)
	Align int  // payload alignment, bytes: cipher block, at least 4
	IV    int  // bytes
	ICV   int  // bytes
}

// Bytes that wrap an inner packet, outside in.
const (
	ipv4Header  = 20
	udpHeader   = 8
	espHeader   = 8 // SPI and sequence number
	espTrailer  = 2 // pad length and next header
	l2tpHeader  = 6 // flags, tunnel id, session id: no length, no sequence
	l2tpNsNr    = 4
	pppHeader   = 4 // FF 03 and a two-byte protocol, as the kernel sends it
	minimumMRU  = 576
	defaultPath = 1500
)

// innerMTU is the largest inner packet that crosses a path of pathMTU bytes in one outer
// packet: IPv4 [UDP] ESP(IV UDP L2TP PPP packet) ICV. esp is nil for plain L2TP.
func innerMTU(pathMTU int, esp *ESP, sequencing bool) int {
	room := pathMTU - ipv4Header
	if esp != nil {
		if esp.Encap {
			room -= udpHeader
		}
		room -= espHeader + esp.IV + esp.ICV
		if esp.Align > 0 {
			room -= room % esp.Align
		}
		room -= espTrailer
	}
	room -= udpHeader + l2tpHeader + pppHeader
	if sequencing {
		room -= l2tpNsNr
	}
	return max(room, minimumMRU)
}
