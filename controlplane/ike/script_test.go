package ike

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
	"vrgate/controlplane/keymat"
)

// rig drives one engine by hand: workers and kernel answer at once, what it
// sends is collected.
type rig struct {
	t       testing.TB
	e       *Engine
	now     time.Time
	sends   []Send
	kernel  map[string]SA
	up      []ConnInfo
	down    []ConnDown
	moved   []MoveConn
	reports []Report
	noDH    bool // workers do not answer
	jobs    []ComputeDH
	refuse  string // of the kernel
	dynamic []Effect
	last    Packet // given

	sign     func(Sign) Signed
	verify   func(VerifyPeer) PeerVerified // nil: never answers
	verifies []VerifyPeer
}

func newRig(t testing.TB, cfg Config) *rig {
	return &rig{t: t, e: New(cfg, rand.Reader), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), kernel: map[string]SA{}, sign: signTest, verify: verifyTest}
}

// give steps the engine and returns what it sent.
func (r *rig) give(ev Event) []Send {
	before := len(r.sends)
	if pk, ok := ev.(Packet); ok {
		r.last = pk
	}
	queue := []Event{ev}
	for len(queue) > 0 {
		fs := r.e.Step(r.now, queue[0])
		queue = queue[1:]
		for _, f := range fs {
			switch f := f.(type) {
			case Send:
				r.sends = append(r.sends, f)
			case ComputeDH:
				r.jobs = append(r.jobs, f)
				if !r.noDH {
					queue = append(queue, computeDH(f))
				}
			case Sign:
				queue = append(queue, r.sign(f))
			case VerifyPeer:
				r.verifies = append(r.verifies, f)
				if r.verify != nil {
					queue = append(queue, r.verify(f))
				}
			case InstallSA:
				if r.refuse == "" {
					r.kernel[saKey(f.SA.Dir, f.SA.SPI, f.SA.Remote.Addr())] = f.SA
				}
				queue = append(queue, SAInstalled{Conn: f.SA.Conn, SPI: f.SA.SPI, Dir: f.SA.Dir, Err: r.refuse})
			case RemoveSA:
				k := saKey(f.Dir, f.SPI, f.Remote)
				if _, ok := r.kernel[k]; !ok {
					r.t.Errorf("removes SA %s which is not there", k)
				}
				delete(r.kernel, k)
			case MoveConn:
				r.moved = append(r.moved, f)
			case ConnUp:
				r.up = append(r.up, f.Conn)
			case ConnDown:
				r.down = append(r.down, f)
			case Report:
				r.reports = append(r.reports, f)
			case DynamicUp, UserAnswered, ReadTraffic:
				r.dynamic = append(r.dynamic, f)
			}
		}
	}
	return r.sends[before:]
}

// pass lets time pass, with the engine's deadlines on the way.
func (r *rig) pass(d time.Duration) {
	end := r.now.Add(d)
	for {
		at := r.e.Deadline()
		if at.IsZero() || at.After(end) {
			break
		}
		if at.After(r.now) {
			r.now = at
		}
		r.give(Timer{})
	}
	r.now = end
}

// script is a peer that is no engine: it builds each message from the parts that
// a real client would, so that any of them can be changed, left out or repeated.
type script struct {
	r             *rig
	local, remote netip.AddrPort // of the engine, of the peer as the engine sees it
	inner         netip.Addr     // the peer's own address, differs behind a NAT
	outer         netip.Addr     // the engine's address as the peer sees it
	marker        bool
	psk           keymat.Secret
	id            isakmp.ID
	sa            isakmp.SA
	vendors       []isakmp.Payload
	natt          isakmp.NATT

	cert string // name of the peer's own certificate, for methods that want one

	cookies cookies
	method  AuthMethod // as chosen
	suite   keymat.Suite
	group   keymat.Group
	pair    keymat.KeyPair
	ni, nr  []byte
	gxr     []byte
	gxy     keymat.Secret
	keys    keymat.Keys
	iv      []byte
	last    []byte // ciphertext block that later IVs are made of
	sent    [][]byte
	clock   *cpuClock // runs while the engine does, and only then; nil: no benchmark
}

// newScript makes a peer at 198.51.100.7 with the offer.
func newScript(r *rig, o offers.Offer) *script {
	s := &script{r: r, local: netip.MustParseAddrPort("192.0.2.1:500"), remote: netip.MustParseAddrPort("198.51.100.7:500"),
		psk: groupKey.Key, sa: o.Phase1, vendors: o.Vendors, natt: o.NATT}
	s.inner, s.outer = s.remote.Addr(), s.local.Addr()
	s.id = isakmp.AddrID(s.inner, 0, 0)
	copy(s.cookies.I[:], randomBytes(8))
	s.ni = randomBytes(20)
	return s
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// behindNAT puts the peer behind a NAT.
func (s *script) behindNAT() *script {
	s.inner = netip.MustParseAddr("10.0.0.5")
	s.id = isakmp.AddrID(s.inner, 0, 0)
	return s
}

// send gives the engine one datagram.
func (s *script) send(b []byte) []Send {
	s.sent = append(s.sent, b)
	if s.clock != nil {
		s.clock.start()
		defer s.clock.stop()
	}
	return s.r.give(Packet{Local: s.local, Remote: s.remote, Marker: s.marker, Data: b})
}

func (s *script) header(ex isakmp.ExchangeType, mid uint32) isakmp.Header {
	return isakmp.Header{Initiator: s.cookies.I, Responder: s.cookies.R, Exchange: ex, MessageID: mid}
}

func (s *script) clear(ps ...isakmp.Payload) []byte {
	return isakmp.Message{Header: s.header(isakmp.IdentityProtection, 0), Payloads: ps}.Append(nil)
}

// main1 sends the offer and reads the choice. It returns false if there was no
// message 2.
func (s *script) main1() bool {
	out := s.send(s.clear(append([]isakmp.Payload{s.sa.Payload()}, s.vendors...)...))
	if len(out) != 1 {
		return false
	}
	m, err := isakmp.Parse(out[0].Data)
	if err != nil {
		s.r.t.Fatal(err)
	}
	if m.Header.Exchange != isakmp.IdentityProtection {
		return false
	}
	if err := isakmp.Check(isakmp.IdentityProtection, 2, m.Payloads, false); err != nil {
		s.r.t.Fatal(err)
	}
	s.cookies.R = m.Header.Responder
	sa, err := m.Payloads[0].SA()
	if err != nil {
		s.r.t.Fatal(err)
	}
	s.choose(sa)
	return true
}

// choose checks that the choice is one of ours, unchanged (RFC 2408 section 4.2).
func (s *script) choose(sa isakmp.SA) {
	if len(sa.Proposals) != 1 || len(sa.Proposals[0].Transforms) != 1 {
		s.r.t.Fatalf("choice of %d proposals", len(sa.Proposals))
	}
	got := isakmp.SA{DOI: sa.DOI, Situation: sa.Situation, Proposals: sa.Proposals}.Payload()
	found := false
	for _, p := range s.sa.Proposals {
		for _, t := range p.Transforms {
			want := isakmp.SA{DOI: sa.DOI, Situation: sa.Situation, Proposals: []isakmp.Proposal{{Number: p.Number, Protocol: p.Protocol, Transforms: []isakmp.Transform{t}}}}
			found = found || string(want.Payload().Body) == string(got.Body)
		}
	}
	if !found {
		s.r.t.Fatalf("choice %x is not part of the offer", got.Body)
	}
	t, _ := sa.Proposals[0].Transforms[0].Phase1()
	s.suite = keymat.Suite{Cipher: keymat.Cipher(t.Enc), KeyBits: int(t.KeyBits), Hash: keymat.Hash(t.Hash)}
	s.group, s.method = keymat.Group(t.Group), AuthMethod(t.Auth)
}

// message3 makes message 3.
func (s *script) message3() []byte {
	var err error
	if s.pair.Public == nil {
		if s.pair, err = s.group.Generate(rand.Reader); err != nil {
			s.r.t.Fatal(err)
		}
	}
	ps := []isakmp.Payload{{Type: isakmp.TypeKE, Body: s.pair.Public}, {Type: isakmp.TypeNonce, Body: s.ni}}
	if t := s.natt.NATD(); t != isakmp.TypeNone && s.r.e.cfg.NATT {
		hash := func(a netip.Addr, port uint16) isakmp.Payload {
			return isakmp.Payload{Type: t, Body: keymat.HashNATD(s.suite.Hash, s.cookies.I, s.cookies.R, netip.AddrPortFrom(a, port))}
		}
		ps = append(ps, hash(s.outer, 500), hash(s.inner, 500))
	}
	return s.clear(ps...)
}

// main3 sends the public value and reads the engine's.
func (s *script) main3() bool {
	out := s.send(s.message3())
	if len(out) != 1 {
		return false
	}
	m, err := isakmp.Parse(out[0].Data)
	if err != nil {
		s.r.t.Fatal(err)
	}
	if err := isakmp.Check(isakmp.IdentityProtection, 4, m.Payloads, false); err != nil {
		s.r.t.Fatal(err)
	}
	ke, _ := isakmp.Find(m.Payloads, isakmp.TypeKE)
	nr, _ := isakmp.Find(m.Payloads, isakmp.TypeNonce)
	s.gxr, s.nr = slices.Clone(ke.Body), slices.Clone(nr.Body)
	if s.gxy, err = keymat.Shared(s.pair, s.gxr); err != nil {
		s.r.t.Fatal(err)
	}
	return true
}

// float moves the peer to the NAT-T port, and to another port of the NAT.
func (s *script) float() {
	s.local = netip.AddrPortFrom(s.local.Addr(), 4500)
	s.remote = netip.AddrPortFrom(s.remote.Addr(), 4500)
	if s.inner != s.remote.Addr() {
		s.remote = netip.AddrPortFrom(s.remote.Addr(), 33333)
	}
	s.marker = true
}

// derive makes the keys.
func (s *script) derive() {
	var err error
	skeyid := keymat.SKEYIDPreShared(s.suite.Hash, s.psk, s.ni, s.nr)
	if s.method != 0 && !s.method.preShared() {
		skeyid = keymat.SKEYIDSignature(s.suite.Hash, s.ni, s.nr, s.gxy)
	}
	s.keys, err = keymat.Derive(s.suite, skeyid, s.gxy, s.cookies.I, s.cookies.R)
	if err != nil {
		s.r.t.Fatal(err)
	}
	s.iv = s.suite.FirstIV(s.pair.Public, s.gxr)
}

func (s *script) exchange() keymat.Exchange {
	return keymat.Exchange{CookieI: s.cookies.I, CookieR: s.cookies.R, GXi: s.pair.Public, GXr: s.gxr, SAi: s.sa.Payload().Body}
}

// message5 makes message 5 with more payloads behind.
func (s *script) message5(more ...isakmp.Payload) []byte {
	s.derive()
	id := s.id.Payload()
	ps := append(append([]isakmp.Payload{id}, s.proof()...), more...)
	return s.seal(isakmp.IdentityProtection, 0, s.iv, ps...)
}

// seal encrypts and moves s.iv on.
func (s *script) seal(ex isakmp.ExchangeType, mid uint32, iv []byte, ps ...isakmp.Payload) []byte {
	ct, next, err := s.keys.Encrypt(iv, isakmp.AppendPayloads(nil, ps))
	if err != nil {
		s.r.t.Fatal(err)
	}
	s.iv = next
	return isakmp.AppendEncrypted(nil, s.header(ex, mid), ps[0].Type, ct)
}

// unseal decrypts and moves s.iv on.
func (s *script) unseal(data, iv []byte) (isakmp.Header, []isakmp.Payload, []byte) {
	h, body, err := isakmp.ParseHeader(data)
	if err != nil {
		s.r.t.Fatal(err)
	}
	plain, next, err := s.keys.Decrypt(iv, body)
	if err != nil {
		s.r.t.Fatal(err)
	}
	ps, err := isakmp.ParsePayloads(h.Next, plain)
	if err != nil {
		s.r.t.Fatal(err)
	}
	s.iv = next
	end := 0
	for _, p := range ps {
		end += 4 + len(p.Body)
	}
	return h, ps, plain[4+len(ps[0].Body) : end]
}

// main5 proves the key and checks the engine's proof.
func (s *script) main5(more ...isakmp.Payload) bool {
	out := s.send(s.message5(more...))
	if len(out) == 0 || out[0].Data[18] != byte(isakmp.IdentityProtection) {
		return false
	}
	_, ps, _ := s.unseal(out[0].Data, s.iv)
	s.checkProof(ps)
	s.last = s.iv
	return true
}

// phase1 runs main mode. It returns false at the first message without answer.
func (s *script) phase1() bool {
	if !s.main1() || !s.main3() {
		return false
	}
	if s.natt != isakmp.NATTNone && (s.inner != s.remote.Addr() || s.outer != s.local.Addr()) {
		s.float()
	}
	return s.main5()
}

// quickScript is one quick mode of the peer.
type quickScript struct {
	s        *script
	mid      uint32
	iv       []byte
	ni, nr   []byte
	sa       isakmp.SA
	spi      uint32 // ours
	theirs   uint32
	idi, idr isakmp.ID
	more     []isakmp.Payload
	pair     keymat.KeyPair
	chosen   isakmp.ESPTransform
	answer   []isakmp.Payload
	notify   isakmp.NotifyType // if refused
	noIDs    bool
}

// quick prepares a quick mode with the offer and the selectors of an L2TP client.
func (s *script) quick(o offers.Offer) *quickScript {
	natt := isakmp.NATTNone
	if s.marker {
		natt = s.natt
	}
	q := &quickScript{s: s, mid: binary.BigEndian.Uint32(randomBytes(4)) | 1, ni: randomBytes(24), spi: binary.BigEndian.Uint32(randomBytes(4)) | 0x1000}
	q.sa = o.QuickSA(q.spi, natt)
	q.idi, q.idr = isakmp.AddrID(s.inner, udp, 1701), isakmp.AddrID(s.outer, udp, 1701)
	if t := s.natt.NATOA(); s.marker && t != isakmp.TypeNone {
		q.more = append(q.more, isakmp.NATOAPayload(t, s.inner), isakmp.NATOAPayload(t, s.outer))
	}
	return q
}

// message1 makes message 1 of quick mode.
func (q *quickScript) message1() []byte {
	s := q.s
	ps := []isakmp.Payload{q.sa.Payload(), {Type: isakmp.TypeNonce, Body: q.ni}}
	if q.pair.Public != nil {
		ps = append(ps, isakmp.Payload{Type: isakmp.TypeKE, Body: q.pair.Public})
	}
	if !q.noIDs {
		ps = append(ps, q.idi.Payload(), q.idr.Payload())
	}
	ps = append(ps, q.more...)
	full := hashed(func(rest []byte) []byte { return s.keys.HashQuick1(q.mid, rest) }, ps...)
	b := s.seal(isakmp.QuickMode, q.mid, s.suite.MessageIV(s.last, q.mid), full...)
	q.iv = s.iv
	return b
}

// send1 sends message 1 and reads message 2. It returns false if the engine
// refuses, with the notify kept.
func (q *quickScript) send1() bool {
	s := q.s
	out := s.send(q.message1())
	if i := slices.IndexFunc(out, func(x Send) bool { return x.Data[18] == byte(isakmp.QuickMode) }); i > 0 {
		out = out[i:] // a delete of what made room came before
	}
	if len(out) == 0 {
		return false
	}
	h, _, err := isakmp.ParseHeader(out[0].Data)
	if err != nil {
		s.r.t.Fatal(err)
	}
	if h.Exchange == isakmp.Informational {
		_, ps, rest := s.unseal(out[0].Data, s.suite.MessageIV(s.last, h.MessageID))
		if !keymat.EqualProof(ps[0].Body, s.keys.HashInfo(h.MessageID, rest)) {
			s.r.t.Fatal("bad hash in the engine's informational message")
		}
		n, err := ps[1].Notify()
		if err != nil {
			s.r.t.Fatal(err)
		}
		q.notify = n.Type
		return false
	}
	_, ps, rest := s.unseal(out[0].Data, q.iv)
	q.iv = s.iv
	if err := isakmp.Check(isakmp.QuickMode, 2, ps, true); err != nil {
		s.r.t.Fatal(err)
	}
	if !keymat.EqualProof(ps[0].Body, s.keys.HashQuick2(q.mid, q.ni, rest)) {
		s.r.t.Fatal("bad HASH(2)")
	}
	q.answer = ps
	sa, err := ps[1].SA()
	if err != nil || len(sa.Proposals) != 1 || len(sa.Proposals[0].Transforms) != 1 {
		s.r.t.Fatalf("choice %+v, %v", sa, err)
	}
	q.chosen = sa.Proposals[0].Transforms[0].ESP()
	q.theirs, _ = spiOf(sa.Proposals[0].SPI)
	nr, _ := isakmp.Find(ps, isakmp.TypeNonce)
	q.nr = slices.Clone(nr.Body)
	ids := isakmp.All(ps, isakmp.TypeID)
	if len(ids) != 2 || string(ids[0].Body) != string(q.idi.Payload().Body) || string(ids[1].Body) != string(q.idr.Payload().Body) {
		s.r.t.Fatalf("selectors are not echoed: %v", ids)
	}
	return true
}

// message3 makes message 3 of quick mode.
func (q *quickScript) message3() []byte {
	s := q.s
	return s.seal(isakmp.QuickMode, q.mid, q.iv, isakmp.Payload{Type: isakmp.TypeHash, Body: s.keys.HashQuick3(q.mid, q.ni, q.nr)})
}

// run runs the whole quick mode and checks the SAs in the kernel against keys
// derived here.
func (q *quickScript) run() bool {
	if !q.send1() {
		return false
	}
	s := q.s
	s.send(q.message3())
	var shared keymat.Secret
	if q.pair.Public != nil {
		ke, _ := isakmp.Find(q.answer, isakmp.TypeKE)
		var err error
		if shared, err = keymat.Shared(q.pair, ke.Body); err != nil {
			s.r.t.Fatal(err)
		}
	}
	prop := espProposal(q.chosen)
	alg := espAlgorithm(prop)
	for dir, spi := range map[Direction]uint32{Inbound: q.theirs, Outbound: q.spi} {
		k, err := s.keys.ESP(alg, spi, shared, q.ni, q.nr)
		if err != nil {
			s.r.t.Fatal(err)
		}
		sa, ok := s.r.kernel[saKey(dir, spi, s.remote.Addr())]
		if !ok || !sa.EncKey.Equal(join(k.Enc, k.Salt)) || !sa.AuthKey.Equal(k.Auth) || sa.Cipher != prop.Cipher || sa.Auth != prop.Auth {
			s.r.t.Errorf("SA %d/%08x: in the kernel %v, keys differ or missing", dir, spi, ok)
		}
	}
	return true
}

// info sends an encrypted informational message.
func (s *script) info(ps ...isakmp.Payload) []Send { return s.send(s.infoMessage(ps...)) }

func (s *script) infoMessage(ps ...isakmp.Payload) []byte {
	mid := binary.BigEndian.Uint32(randomBytes(4)) | 1
	full := hashed(func(rest []byte) []byte { return s.keys.HashInfo(mid, rest) }, ps...)
	return s.seal(isakmp.Informational, mid, s.suite.MessageIV(s.last, mid), full...)
}

// serverRig makes a responder at 192.0.2.1 with the group key.
func serverRig(t testing.TB, profile string, keys ...PresharedKey) *rig {
	if len(keys) == 0 {
		keys = []PresharedKey{groupKey}
	}
	return newRig(t, at(testConfig(t, profile, keys...), "192.0.2.1"))
}

func contains(s, part string) bool { return strings.Contains(s, part) }
