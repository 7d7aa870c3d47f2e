package l2tp

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
)

// takeRequest keeps what ICRQ says about the call (RFC 2661 section 4.4.4).
func (s *session) takeRequest(m *message) {
	s.Info = CallInfo{
		CalledNumber: m.called, CallingNumber: m.calling, SubAddress: m.subAddress, PhysicalChannel: m.channel, BearerType: m.bearer,
	}
}

// takeConnected keeps what ICCN says about the call, and what the LAC has negotiated with the peer (section 4.4.5).
func (e *Engine) takeConnected(t *tunnel, s *session, m *message) {
	s.Info.FramingType, s.Info.PrivateGroup = m.framing, m.group
	s.Info.TxSpeed, s.Info.RxSpeed = m.txSpeed, m.rxSpeed
	if !m.present.has(attrRxSpeed) {
		s.Info.RxSpeed = m.txSpeed // section 4.4.4: absent means equal
	}
	s.Sequenced = m.present.has(attrSequencingRequired) && !e.cfg.IgnoreSequencing
	proxy, ok := m.proxy.proxy()
	if !ok {
		e.count(ReasonProxy)
		e.report(t, LevelInfo, ReasonProxy, "proxied LCP or authentication contradicts itself", s.ID)
	}
	s.Proxy = proxy
}

// hasLCP and hasAuth tell what the LAC has done for us; of no proxy they are false.
func (p *Proxy) hasLCP() bool  { return p != nil && p.LastSentLCP != nil }
func (p *Proxy) hasAuth() bool { return p != nil && p.AuthType != 0 && p.AuthType != ProxyNone }

// proxies are those of a tunnel's sessions, for Snapshot.
func (t *tunnel) proxies() map[SessionID]proxySnapshot {
	var all map[SessionID]proxySnapshot
	for id, s := range t.Sessions {
		if s.Proxy != nil {
			if all == nil {
				all = make(map[SessionID]proxySnapshot)
			}
			all[id] = s.Proxy.snapshot()
		}
	}
	return all
}

// request is the ICRQ of a call of ours.
func (s *session) request() []byte {
	return build(msgICRQ).u16(attrSessionID, uint16(s.ID)).u32(attrCallSerial, s.Serial).optional(attrBearerType, s.Info.BearerType).
		optional(attrPhysicalChannel, s.Info.PhysicalChannel).number(attrCallingNumber, s.Info.CallingNumber).
		number(attrCalledNumber, s.Info.CalledNumber).number(attrSubAddress, s.Info.SubAddress).b
}

// connect is its ICCN.
func (s *session) connect() []byte {
	w := build(msgICCN).u32(attrTxSpeed, s.Info.TxSpeed).u32(attrFramingType, s.Info.FramingType).
		number(attrPrivateGroup, s.Info.PrivateGroup)
	if s.Info.RxSpeed != s.Info.TxSpeed {
		w.u32(attrRxSpeed, s.Info.RxSpeed)
	}
	return w.proxy(s.Proxy).b
}

// tolerated counts the unknown AVPs that a tolerant tunnel has skipped.
func (e *Engine) tolerated(m *message) {
	if m.tolerated > 0 {
		e.counters[ReasonToleratedAVP] += uint64(m.tolerated)
	}
}

// hideFrom makes a tunnel hide what it sends; false when the random source fails.
func (e *Engine) hideFrom(t *tunnel) bool {
	t.Hide, t.HideSeed = true, make([]byte, sha256.Size)
	_, err := io.ReadFull(e.random, t.HideSeed)
	return err == nil
}

// queue queues a message for the peer, hidden when the tunnel hides. An SCCRP in clear text is not: hidden it is too long an answer for a
// peer whose address may be forged, and holds nothing that an eavesdropper could use.
func (e *Engine) queue(t *tunnel, session SessionID, body []byte) {
	if t.Hide && !t.Channel.Passive {
		// Each message has a random vector of its own. They come from the seed, so that no message can fail for want
		// of randomness.
		t.HideCount++
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(append([]byte(nil), t.HideSeed...), t.HideCount))
		body = hideAll(t.Secret, sum[:vectorLen], body)
	}
	t.Channel.queue(session, body)
}
