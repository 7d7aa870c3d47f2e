package ike

import (
	"fmt"
	"net/netip"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// header is the header of a message we send in p.
func (p *phase1) header(ex isakmp.ExchangeType, mid uint32) isakmp.Header {
	return isakmp.Header{Initiator: p.Cookies.I, Responder: p.Cookies.R, Exchange: ex, MessageID: mid}
}

// clear encodes a message in clear.
func (p *phase1) clear(ex isakmp.ExchangeType, ps []isakmp.Payload) []byte {
	return isakmp.Message{Header: p.header(ex, 0), Payloads: ps}.Append(nil)
}

// seal encrypts a message and returns the datagram and the next IV. The keys
// were checked when they were derived, so an error is a bug.
func (p *phase1) seal(k keymat.Keys, ex isakmp.ExchangeType, mid uint32, iv []byte, ps []isakmp.Payload) (datagram, next []byte) {
	ct, next, err := k.Encrypt(iv, isakmp.AppendPayloads(nil, ps))
	if err != nil {
		panic(fmt.Sprintf("ike: cannot encrypt with keys that were checked: %v", err))
	}
	return isakmp.AppendEncrypted(nil, p.header(ex, mid), ps[0].Type, ct), next
}

// opened is a decrypted message.
type opened struct {
	payloads []isakmp.Payload
	rest     []byte // everything behind the first payload, without padding
	next     []byte // IV of the next message of the exchange
}

// open decrypts a body and cuts it into payloads.
func (p *phase1) open(k keymat.Keys, iv []byte, h isakmp.Header, body []byte) (opened, error) {
	plain, next, err := k.Decrypt(iv, body)
	if err != nil {
		return opened{}, err
	}
	ps, err := isakmp.ParsePayloads(h.Next, plain)
	if err != nil {
		return opened{}, err
	}
	end := 0
	for _, q := range ps {
		end += genericHeader + len(q.Body)
	}
	o := opened{payloads: ps, next: next}
	if len(ps) > 0 {
		o.rest = plain[genericHeader+len(ps[0].Body) : end]
	}
	return o, nil
}

// genericHeader is the length of a payload's generic header.
const genericHeader = 4

// messageIV is the IV of the first message of an exchange inside p.
func (p *phase1) messageIV(mid uint32) []byte { return p.Suite.MessageIV(p.LastBlock, mid) }

// hashed puts the HASH that covers the payloads in front of them.
func hashed(hash func(rest []byte) []byte, ps ...isakmp.Payload) []isakmp.Payload {
	h := isakmp.Payload{Type: isakmp.TypeHash, Body: hash(isakmp.AppendPayloads(nil, ps))}
	return append([]isakmp.Payload{h}, ps...)
}

// transmit sends a datagram of p to where the peer is.
func (e *Engine) transmit(p *phase1, data []byte) { e.transmitTo(p, p.Remote, data) }

// transmitTo sends a datagram of p to an address, in fragments when it is large
// and the peer has announced that it takes them.
func (e *Engine) transmitTo(p *phase1, to netip.AddrPort, data []byte) {
	parts := [][]byte{data}
	if p.Vendor.Frag && e.cfg.Fragmentation && len(data) > e.cfg.MaxFragment {
		// The id only has to differ between messages that are in flight at once.
		if cut, err := isakmp.Split(data, e.cfg.MaxFragment, uint16(e.rand32())|1); err == nil {
			parts = cut
		}
	}
	for _, part := range parts {
		e.emit(Send{Local: p.Local, Remote: to, Marker: p.Marker, Data: part})
	}
}

// sendInfo sends an encrypted informational message and returns the datagram.
func (e *Engine) sendInfo(p *phase1, ps ...isakmp.Payload) []byte {
	mid := e.newMessageID(p)
	full := hashed(func(rest []byte) []byte { return p.Keys.HashInfo(mid, rest) }, ps...)
	data, _ := p.seal(p.Keys, isakmp.Informational, mid, p.messageIV(mid), full)
	e.transmit(p, data)
	return data
}

// refuseClear sends an error notify to a stranger, in clear and at a bounded
// rate. The peer may not believe it; those that do fail fast instead of
// repeating themselves for a minute.
func (e *Engine) refuseClear(local, remote netip.AddrPort, marker bool, c cookies, t isakmp.NotifyType) {
	if !e.mayReply(remote.Addr()) {
		return
	}
	n := isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtocolISAKMP, Type: t}
	h := isakmp.Header{Initiator: c.I, Responder: c.R, Exchange: isakmp.Informational, MessageID: e.rand32() | 1}
	m := isakmp.Message{Header: h, Payloads: []isakmp.Payload{n.Payload()}}
	e.emit(Send{Local: local, Remote: remote, Marker: marker, Data: m.Append(nil)})
}
