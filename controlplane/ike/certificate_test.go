package ike

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/isakmp/offers"
)

// certPayload is a certificate of any encoding.
func certPayload(e isakmp.CertEncoding, data []byte) isakmp.Payload {
	return isakmp.Cert{Encoding: e, Data: data}.Payload()
}

// TestReadCerts: what is taken of a peer's certificates, and why not.
func TestReadCerts(t *testing.T) {
	x509 := func(n int) isakmp.Payload { return certPayload(isakmp.CertX509Signature, make([]byte, n)) }
	many := slices.Repeat([]isakmp.Payload{x509(10)}, MaxPeerCerts)
	for _, c := range []struct {
		name   string
		ps     []isakmp.Payload
		n      int
		reason Reason
	}{
		{"none", nil, 0, ReasonNoCertificate},
		{"one", []isakmp.Payload{x509(1000)}, 1, ""},
		{"chain with a CRL", []isakmp.Payload{x509(1000), certPayload(isakmp.CertCRL, make([]byte, 60000)), x509(900)}, 2, ""},
		{"CRL only", []isakmp.Payload{certPayload(isakmp.CertCRL, []byte{1})}, 0, ReasonNoCertificate},
		{"empty payload", []isakmp.Payload{{Type: isakmp.TypeCert}}, 0, ReasonNoCertificate},
		{"PKCS #7", []isakmp.Payload{certPayload(isakmp.CertPKCS7, []byte{1})}, 0, ReasonCertEncoding},
		{"PKCS #7 behind", []isakmp.Payload{x509(1), certPayload(isakmp.CertPKCS7, []byte{1})}, 0, ReasonCertEncoding},
		{"as many as may be", many, MaxPeerCerts, ""},
		{"too many", append(many, x509(10)), 0, ReasonCertLimit},
		{"as large as may be", []isakmp.Payload{x509(maxCertBytes - 1), x509(1)}, 2, ""},
		{"too large", []isakmp.Payload{x509(maxCertBytes), x509(1)}, 0, ReasonCertLimit},
	} {
		certs, r, text := readCerts(c.ps)
		if len(certs) != c.n || r != c.reason || (r == "") != (text == "") {
			t.Errorf("%s: %d certificates, %q %q", c.name, len(certs), r, text)
		}
	}
}

// FuzzReadCerts: any payloads give certificates within the limits, copied, or a reason.
func FuzzReadCerts(f *testing.F) {
	f.Add(uint8(isakmp.TypeCert), isakmp.AppendPayloads(nil, []isakmp.Payload{certPayload(isakmp.CertX509Signature, []byte("x")), certPayload(isakmp.CertCRL, nil)}))
	f.Add(uint8(isakmp.TypeCert), isakmp.AppendPayloads(nil, []isakmp.Payload{certPayload(isakmp.CertPKCS7, []byte("x"))}))
	f.Add(uint8(isakmp.TypeCertRequest), isakmp.AppendPayloads(nil, []isakmp.Payload{isakmp.Cert{Encoding: 4, Data: nameDER("x")}.RequestPayload()}))
	f.Fuzz(func(t *testing.T, first uint8, data []byte) {
		ps, err := isakmp.ParsePayloads(isakmp.PayloadType(first), data)
		if err != nil {
			return
		}
		for _, name := range requestedBy(ps) {
			if len(name) == 0 {
				t.Error("an empty name is asked for")
			}
		}
		certs, r, text := readCerts(ps)
		if (r == "") != (len(certs) > 0) || (r == "") != (text == "") || len(certs) > MaxPeerCerts {
			t.Fatalf("%d certificates, %q %q", len(certs), r, text)
		}
		total := 0
		for i, c := range certs {
			total += len(c)
			if !bytes.Contains(data, c) {
				t.Errorf("certificate %d is not in the message", i)
			}
			clear(c)
		}
		if total > maxCertBytes {
			t.Errorf("%d bytes of certificates", total)
		}
	})
}

// TestCertificateRequests: whom we ask for what, and what we present when asked.
func TestCertificateRequests(t *testing.T) {
	request := func(e isakmp.CertEncoding, name []byte) isakmp.Payload {
		return isakmp.Cert{Encoding: e, Data: name}.RequestPayload()
	}
	at := subscriberRig(t, ProfileLegacy).e.cfg
	at.Tunnels = append(at.Tunnels, TunnelProfile{Name: "second", Credential: "spare", LocalID: "@gw.example.net"})
	at.Credentials[1].Issuers = [][]byte{nameDER("an intermediate"), nameDER("second authority")}
	for _, c := range []struct {
		name    string
		request []isakmp.Payload
		cred    string
		id      isakmp.ID
	}{
		{"nothing", nil, "server", isakmp.ID{Type: isakmp.IDDERDN, Data: nameDER("server")}},
		{"anything", []isakmp.Payload{request(isakmp.CertX509Signature, nil)}, "server", isakmp.ID{Type: isakmp.IDDERDN, Data: nameDER("server")}},
		{"ours", []isakmp.Payload{request(isakmp.CertX509Signature, nameDER("authority"))}, "server", isakmp.ID{Type: isakmp.IDDERDN, Data: nameDER("server")}},
		{"the second", []isakmp.Payload{request(isakmp.CertX509Signature, nameDER("unknown")), request(isakmp.CertX509Signature, nameDER("second authority"))}, "spare", isakmp.TextID(isakmp.IDFQDN, "gw.example.net")},
		{"its intermediate", []isakmp.Payload{request(isakmp.CertX509Signature, nameDER("an intermediate"))}, "spare", isakmp.TextID(isakmp.IDFQDN, "gw.example.net")},
		{"unknown", []isakmp.Payload{request(isakmp.CertX509Signature, nameDER("unknown"))}, "server", isakmp.ID{Type: isakmp.IDDERDN, Data: nameDER("server")}},
		{"another kind", []isakmp.Payload{request(isakmp.CertPKCS7, nameDER("second authority"))}, "server", isakmp.ID{Type: isakmp.IDDERDN, Data: nameDER("server")}},
	} {
		for _, o := range []offers.Offer{offers.VPNCHybrid(), asMethod(offers.AppleGroup(), AuthXAuthRSA)} {
			r := newRig(t, at)
			s := newScript(r, o)
			s.id, s.cert = isakmp.TextID(isakmp.IDKeyID, "office"), "client"
			out := s.send(s.aggressiveMessage1(c.request...))
			m, err := isakmp.Parse(out[0].Data)
			if err != nil {
				t.Fatal(err)
			}
			idr, _ := isakmp.Find(m.Payloads, isakmp.TypeID)
			cert, _ := isakmp.Find(m.Payloads, isakmp.TypeCert)
			if string(idr.Body) != string(c.id.Payload().Body) || !strings.HasSuffix(string(cert.Body), "certificate of "+c.cred) {
				t.Errorf("%s: %s with %q", c.name, describe(idr.Body), cert.Body)
			}
			// vpnc gives up at a request that it does not expect, and has nothing to send.
			want := map[string]int{offers.AppleGroup().Name: 2}[o.Name]
			if n := len(isakmp.All(m.Payloads, isakmp.TypeCertRequest)); n != want {
				t.Errorf("%s: %d requests, want %d", c.name, n, want)
			}
		}
	}
	// In aggressive mode the peer's group says whose certificate it wants to see.
	r := newRig(t, at)
	r.e.cfg.Tunnels = slices.Clone(at.Tunnels)
	r.e.cfg.Tunnels[0].PeerIDs = []string{"keyid:headquarters"}
	r.e.cfg.Tunnels[1].PeerIDs = []string{"keyid:off*"}
	groupScript(r, offers.VPNCHybrid()).aggressive1()
	if n := r.only(t).neg; n.Cred != "spare" || describe(n.Ours.Body) != `FQDN "gw.example.net"` {
		t.Errorf("certificate %q, %s", n.Cred, describe(n.Ours.Body))
	}
	// Main mode: the authorities are named in message 4, unless they are too many.
	for _, c := range []struct {
		authorities [][]byte
		names       []string
	}{
		{[][]byte{nameDER("a"), nameDER("b")}, []string{string(nameDER("a")), string(nameDER("b"))}},
		{slices.Repeat([][]byte{nameDER(strings.Repeat("a", 60))}, 20), []string{""}},
	} {
		r := newRig(t, at)
		r.e.cfg.Authorities = c.authorities
		s := newScript(r, offers.AppleRSA())
		if !s.main1() || !s.main3() {
			t.Fatal("no message 4")
		}
		m, _ := isakmp.Parse(r.sends[len(r.sends)-1].Data)
		var got []string
		for _, p := range isakmp.All(m.Payloads, isakmp.TypeCertRequest) {
			x, err := p.CertRequest()
			if err != nil || x.Encoding != isakmp.CertX509Signature {
				t.Errorf("request %v, %v", x, err)
			}
			got = append(got, string(x.Data))
		}
		if !slices.Equal(got, c.names) {
			t.Errorf("requests %q, want %q", got, c.names)
		}
	}
	// Without a certificate there is nothing to sign with, and without an authority nobody to believe (K2).
	for _, change := range []func(*Config){func(c *Config) { c.Credentials = nil }, func(c *Config) { c.Authorities = nil }, func(c *Config) { c.Tunnels = nil }} {
		r := subscriberRig(t, ProfileLegacy)
		change(&r.e.cfg)
		if newScript(r, offers.AppleRSA()).main1() || r.e.Counters()[ReasonNoProposal] != 1 || !strings.Contains(words(r.reports), "no key or certificate for this authentication") {
			t.Errorf("%v\n%s", r.e.Counters(), words(r.reports))
		}
	}
}

// asMethod is the offer with another authentication method.
func asMethod(o offers.Offer, m AuthMethod) offers.Offer {
	o.Phase1.Proposals = slices.Clone(o.Phase1.Proposals)
	p := &o.Phase1.Proposals[0]
	p.Transforms = slices.Clone(p.Transforms)
	for j, t := range p.Transforms {
		p1, _ := t.Phase1()
		p1.Auth = isakmp.AuthMethod(m)
		p.Transforms[j] = p1.Transform()
	}
	return o
}

// TestVPNCChain: vpnc takes the last certificate for the server's own, all others
// the first.
func TestVPNCChain(t *testing.T) {
	for _, c := range []struct {
		o    offers.Offer
		leaf int
	}{{offers.VPNCHybrid(), 1}, {offers.AppleHybrid(), 0}} {
		r := subscriberRig(t, ProfileLegacy)
		r.e.cfg.Credentials[0].Chain = append(r.e.cfg.Credentials[0].Chain, []byte("intermediate"))
		s := newScript(r, c.o)
		s.id = isakmp.TextID(isakmp.IDKeyID, "office")
		m, err := isakmp.Parse(s.send(s.aggressiveMessage1())[0].Data)
		if err != nil {
			t.Fatal(err)
		}
		if certs := isakmp.All(m.Payloads, isakmp.TypeCert); len(certs) != 2 || !strings.HasSuffix(string(certs[c.leaf].Body), "certificate of server") {
			t.Errorf("%s: %q", c.o.Name, certs)
		}
	}
}

// rsaScript brings a peer with a certificate to where its proof is due.
func rsaScript(t *testing.T, r *rig, aggressive bool) *script {
	o := offers.AppleRSA()
	if aggressive {
		o = asMethod(offers.AppleGroup(), AuthXAuthRSA)
	}
	s := newScript(r, o)
	s.cert, s.id = "client", isakmp.ID{Type: isakmp.IDDERDN, Data: nameDER("client")}
	if ok := aggressive && s.aggressive1() || !aggressive && s.main1() && s.main3(); !ok {
		t.Fatalf("no answer\n%s", words(r.reports))
	}
	return s
}

// lastProof is the peer's last message.
func (s *script) lastProof(aggressive bool) []byte {
	if aggressive {
		return s.aggressiveMessage3(true, 500)
	}
	return s.message5()
}

// TestCertificateRefused: the verdict on a certificate passes through, is told once,
// counts against the source, and leaves the SA to the real peer until it has been wrong
// too often.
func TestCertificateRefused(t *testing.T) {
	for _, aggressive := range []bool{false, true} {
		r := subscriberRig(t, ProfileLegacy)
		s := rsaScript(t, r, aggressive)
		good := s.lastProof(aggressive)
		bad := func(cert string, id isakmp.ID) []byte {
			x := *s
			x.cert, x.id = cert, id
			return x.lastProof(aggressive)
		}
		m := bad("stranger", s.id)
		if out := s.send(m); len(out) != 1 || out[0].Data[18] != byte(isakmp.Informational) || len(r.verifies) != 1 || !r.verifies[0].Unauthenticated {
			t.Errorf("%d answers, %d certificates looked at", len(out), len(r.verifies))
		}
		if r.e.Counters()["certificate-identity"] != 1 || strings.Count(words(r.reports), "the certificate is another's") != 1 {
			t.Errorf("%v\n%s", r.e.Counters(), words(r.reports))
		}
		p := r.only(t)
		if p.done() || r.e.guard.source(p.Remote.Addr()).Failed != 1 {
			t.Errorf("state %v, failures %+v", p.State, r.e.guard.source(p.Remote.Addr()))
		}
		if out := s.send(m); len(out) != 0 {
			t.Error("the same again is answered")
		}
		s.send(good)
		if !p.done() || p.Subject != "CN=client" {
			t.Errorf("state %v, subject %q", p.State, p.Subject)
		}

		r = subscriberRig(t, ProfileLegacy)
		s = rsaScript(t, r, aggressive)
		r.verify = func(v VerifyPeer) PeerVerified {
			return PeerVerified{Job: v.Job, Reason: "certificate-expired", Text: "too late"}
		}
		good = s.lastProof(aggressive)
		for range maxKeyAttempts + 3 {
			s.send(good)
		}
		if len(r.verifies) != maxKeyAttempts || r.e.Counters()["certificate-expired"] != maxKeyAttempts || r.e.Counters()[DropLimit] != 3 {
			t.Errorf("%d certificates looked at, %v", len(r.verifies), r.e.Counters())
		}
		r.pass(2 * time.Minute)
		if len(r.e.sas)+len(r.e.jobs)+len(r.e.timers) != 0 || r.e.guard.HalfOpen != 0 {
			t.Error("something is left")
		}
	}
}

// TestCertificateWaits: while a certificate is looked at, copies are dropped and nothing
// else is taken; a shell that never answers leaves nothing behind, and one without room
// has the peer repeat itself.
func TestCertificateWaits(t *testing.T) {
	for _, aggressive := range []bool{false, true} {
		r := subscriberRig(t, ProfileLegacy)
		s := rsaScript(t, r, aggressive)
		r.verify = nil
		proof := s.lastProof(aggressive)
		for range 5 {
			if out := s.send(proof); len(out) != 0 {
				t.Fatalf("%d answers", len(out))
			}
		}
		p := r.only(t)
		if len(r.verifies) != 1 || p.State != StateAuthR || p.State.String() != "AUTH-R" {
			t.Errorf("%d certificates looked at, state %v", len(r.verifies), p.State)
		}
		s.send(s.lastProof(aggressive)) // another proof
		s.send(s.quick(offers.AppleRSA()).message1())
		if len(r.verifies) != 1 || p.State != StateAuthR {
			t.Errorf("%d certificates looked at, state %v", len(r.verifies), p.State)
		}
		job := r.verifies[0].Job
		r.pass(2 * time.Minute)
		if len(r.e.sas)+len(r.e.jobs)+len(r.e.timers) != 0 || r.e.guard.HalfOpen != 0 {
			t.Errorf("%d SAs, %d jobs, %d timers are left", len(r.e.sas), len(r.e.jobs), len(r.e.timers))
		}
		r.give(PeerVerified{Job: job, Subject: "late"}) // concerns nobody

		r = subscriberRig(t, ProfileLegacy)
		s = rsaScript(t, r, aggressive)
		r.verify = func(v VerifyPeer) PeerVerified { return PeerVerified{Job: v.Job, Reason: busy} }
		proof = s.lastProof(aggressive)
		s.send(proof)
		if r.e.Counters()[DropBusy] != 1 || r.only(t).done() || r.e.guard.source(r.only(t).Remote.Addr()).Failed != 0 {
			t.Errorf("%v", r.e.Counters())
		}
		r.verify = verifyTest
		s.send(proof)
		if !r.only(t).done() {
			t.Errorf("state %v after the repeated message", r.only(t).State)
		}
	}
}

// TestCertificateForms: messages with certificates that are refused before anybody
// computes anything.
func TestCertificateForms(t *testing.T) {
	for _, c := range []struct {
		ps     func(proof []isakmp.Payload) []isakmp.Payload
		reason Reason
	}{
		{func(p []isakmp.Payload) []isakmp.Payload { return p[1:] }, ReasonNoCertificate},
		{func(p []isakmp.Payload) []isakmp.Payload {
			return []isakmp.Payload{certPayload(isakmp.CertPKCS7, []byte("x")), p[1]}
		}, ReasonCertEncoding},
		{func(p []isakmp.Payload) []isakmp.Payload {
			return append(slices.Repeat([]isakmp.Payload{certPayload(isakmp.CertX509Signature, make([]byte, 3000))}, 6), p[1])
		}, ReasonCertLimit},
		{func(p []isakmp.Payload) []isakmp.Payload {
			return []isakmp.Payload{p[0], {Type: isakmp.TypeHash, Body: make([]byte, 32)}}
		}, ReasonAuthFailed},
	} {
		r := subscriberRig(t, ProfileLegacy)
		s := rsaScript(t, r, false)
		s.derive()
		id := s.id.Payload()
		s.send(s.seal(isakmp.IdentityProtection, 0, s.iv, append([]isakmp.Payload{id}, c.ps(s.proof())...)...))
		if r.e.Counters()[c.reason] != 1 || len(r.verifies) != 0 || r.only(t).done() {
			t.Errorf("%s: %v, %d looked at", c.reason, r.e.Counters(), len(r.verifies))
		}
	}
}

// TestHybridNeedsXAuth: with hybrid authentication phase 1 proves nothing about the peer,
// so that it never becomes anything but a subscriber who is to be asked, whatever its
// vendor IDs say, and whoever is not the one who exchanged keys gets nowhere.
func TestHybridNeedsXAuth(t *testing.T) {
	for _, o := range []offers.Offer{offers.AndroidHybrid(), offers.AppleHybrid()} {
		r := subscriberRig(t, ProfileLegacy)
		o.Vendors = slices.DeleteFunc(slices.Clone(o.Vendors), func(p isakmp.Payload) bool { return isakmp.Identify(p.Body).Vendor == isakmp.VendorXAuth })
		if _, ok := subscribe(r, o, false); !ok {
			t.Fatalf("%s: no phase 1", o.Name)
		}
		p := r.only(t)
		if c := r.e.conns[p.Conn]; c == nil || !c.Info.Dynamic {
			t.Errorf("%s: is no subscriber: %+v", o.Name, c)
		}
		r = subscriberRig(t, ProfileLegacy)
		r.e.cfg.Tunnels[0].Local = r.e.cfg.Transports[0].Local.Next()
		if _, ok := subscribe(r, o, false); ok || len(r.e.conns) != 0 {
			t.Errorf("%s: is taken without a tunnel profile", o.Name)
		}
	}
	r := subscriberRig(t, ProfileLegacy)
	s := newScript(r, offers.AndroidHybrid())
	if !s.main1() || !s.main3() {
		t.Fatal("no message 4")
	}
	s.derive()
	id := s.id.Payload()
	s.send(s.seal(isakmp.IdentityProtection, 0, s.iv, id, isakmp.Payload{Type: isakmp.TypeHash, Body: make([]byte, s.suite.Hash.Size())}))
	if r.e.Counters()[ReasonAuthFailed] != 1 || r.only(t).done() {
		t.Errorf("%v", r.e.Counters())
	}
	s.send(s.message5())
	if !r.only(t).done() {
		t.Error(fmt.Sprint("the right one is kept out: ", r.only(t).State))
	}
}
