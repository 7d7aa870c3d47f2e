package ike

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	mrand "math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// testCA is what the shells of the tests know: a key for each "certificate",
// which is nothing but a name here. Real certificates are package pki's.
var testCA = struct {
	sync.Mutex
	keys map[string]*rsa.PrivateKey
}{keys: map[string]*rsa.PrivateKey{}}

// testKey is the key of a name.
func testKey(name string) *rsa.PrivateKey {
	testCA.Lock()
	defer testCA.Unlock()
	k := testCA.keys[name]
	if k == nil {
		var err error
		if k, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			panic(err)
		}
		testCA.keys[name] = k
	}
	return k
}

// credential makes a certificate of ours, issued by an authority.
func credential(name, issuer string) Credential {
	return Credential{Name: name, Chain: [][]byte{[]byte("certificate of " + name)}, Subject: nameDER(name), Issuers: [][]byte{nameDER(issuer)}}
}

// nameDER is the DER name CN=cn.
func nameDER(cn string) []byte {
	b, err := asn1.Marshal(pkix.Name{CommonName: cn}.ToRDNSequence())
	if err != nil {
		panic(err)
	}
	return b
}

// signTest is a shell's answer to Sign.
func signTest(s Sign) Signed {
	sig, err := rsa.SignPKCS1v15(rand.Reader, testKey(s.Credential), crypto.Hash(0), s.Digest)
	if err != nil {
		return Signed{Job: s.Job, Err: err.Error()}
	}
	return Signed{Job: s.Job, Signature: sig}
}

// verifyTest is a shell's answer to VerifyPeer.
func verifyTest(v VerifyPeer) PeerVerified {
	out := PeerVerified{Job: v.Job}
	name, ok := strings.CutPrefix(string(v.Certs[0]), "certificate of ")
	id, err := isakmp.Payload{Type: isakmp.TypeID, Body: v.ID}.ID()
	switch {
	case !ok:
		out.Reason, out.Text = "certificate-malformed", "not a certificate"
	case err != nil || id.Type == isakmp.IDDERDN && !slices.Equal(id.Data, nameDER(name)):
		out.Reason, out.Text = "certificate-identity", "the certificate is another's"
	case rsa.VerifyPKCS1v15(&testKey(name).PublicKey, crypto.Hash(0), v.Digest, v.Signature) != nil:
		out.Reason, out.Text = "signature-wrong", "the signature is wrong"
	default:
		out.Subject = "CN=" + name
	}
	return out
}

// mode is a kind of phase 1: those with XAuth lead to a dynamic subscriber, the
// others to an L2TP connection.
type mode struct {
	aggressive bool
	method     AuthMethod
}

func (m mode) String() string {
	s := map[AuthMethod]string{AuthPSK: "PSK", AuthRSA: "RSA", AuthXAuthPSK: "XAuth PSK", AuthXAuthRSA: "XAuth RSA", AuthHybridRSA: "hybrid"}[m.method]
	if m.aggressive {
		return "aggressive " + s
	}
	return "main " + s
}

var modes = func() (out []mode) {
	for _, m := range []AuthMethod{AuthPSK, AuthRSA, AuthXAuthPSK, AuthXAuthRSA, AuthHybridRSA} {
		out = append(out, mode{false, m}, mode{true, m})
	}
	return out
}()

// modePair makes a client and a server for a mode.
func modePair(t testing.TB, m mode) (*world, *node, *node, Initiate) {
	w := newWorld(t)
	config := func(local, cred string) Config {
		c := at(testConfig(t, ProfileCompatible, PresharedKey{Name: "office", Key: keymat.Secret("a secret"), ID: "keyid:office"}), local)
		for i := range c.Rules {
			c.Rules[i].Aggressive = AggressiveAccepted
		}
		c.Credentials = []Credential{credential("other", "nobody"), credential(cred, "authority")}
		c.Authorities = [][]byte{nameDER("authority")}
		c.Transports[0].Credential = cred
		if m.method.xauth() {
			c.Tunnels = []TunnelProfile{{Name: "vpn", Local: netip.MustParseAddr(local), ESP: c.Transports[0].ESP, Credential: cred, Lifetime: time.Hour}}
			c.Transports = nil
		}
		return c
	}
	server := w.add("server", "192.0.2.1", config("192.0.2.1", "server"))
	cc := config("198.51.100.7", "client")
	cc.Keys[0].ID, cc.Keys[0].LocalID = "", "keyid:office"
	client := w.add("client", "198.51.100.7", cc)
	server.decide = newDecider()
	if !m.aggressive {
		server.e.cfg.Keys[0].ID = ""
	}
	open := Initiate{Ref: 7, Local: ap("198.51.100.7:500"), Remote: ap("192.0.2.1:500"), Profile: "l2tp", Key: "office", LocalPort: 1701, RemotePort: 1701,
		Aggressive: m.aggressive, Method: m.method, Credential: "client"}
	if m.method.xauth() {
		open.Profile, open.Tunnel, open.User, open.Password = "vpn", true, "joe", keymat.Secret("secret of joe")
		open.Request = []uint16{isakmp.ConfigIP4Address}
		open.LocalPort, open.RemotePort = 0, 0
	}
	return w, client, server, open
}

// TestModes opens connections in each kind of phase 1, with and without NAT, and
// on a network that loses, reorders and duplicates.
func TestModes(t *testing.T) {
	for _, m := range modes {
		for _, nat := range []string{"", "client", "server", "both"} {
			for _, loss := range []float64{0, 0.2} {
				name := m.String() + " NAT " + nat
				if loss > 0 {
					name += " lossy"
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					w, client, server, open := modePair(t, m)
					if nat == "client" || nat == "both" {
						w.nat("203.0.113.9", false, client)
					}
					if nat == "server" || nat == "both" {
						w.nat("203.0.113.80", true, server)
						open.Remote = ap("203.0.113.80:500")
					}
					w.loss, w.dup = loss, loss
					if loss > 0 {
						w.jitter = 200 * time.Millisecond
					}
					tries := 0
					for len(client.up) == 0 && tries < 6 {
						client.step(open)
						w.run(3 * time.Minute)
						tries++
					}
					if loss == 0 && tries > 1 {
						t.Errorf("took %d tries", tries)
					}
					w.loss, w.dup, w.jitter = 0, 0, 0
					w.run(5 * time.Minute)
					if len(client.up) != 1 || len(server.up) == 0 {
						t.Fatalf("client up %d, server up %d\n%v\n%v\n%v", len(client.up), len(server.up), client.e.Counters(), server.e.Counters(), words(client.reports, server.reports))
					}
					agree(t, client, server)
					for _, n := range []*node{client, server} {
						p := n.only(t).newest()
						if p.Method != m.method || p.Aggressive != m.aggressive || p.encap() != (nat != "") {
							t.Errorf("%s: method %d, aggressive %v, encapsulation %v", n.name, p.Method, p.Aggressive, p.encap())
						}
						want := ""
						if m.method.signs(n == server) {
							want = map[*node]string{client: "CN=server", server: "CN=client"}[n]
						}
						if p.Subject != want {
							t.Errorf("%s: subject %q, want %q", n.name, p.Subject, want)
						}
						if c := n.only(t); n == server && (c.Info.Dynamic != m.method.xauth() || c.Info.Auth != m.method || c.Info.Aggressive != m.aggressive || c.Info.Subject != want) {
							t.Errorf("connection %+v", c.Info)
						}
					}
					client.step(CloseAll{Reason: ReasonShutdown})
					w.run(2 * time.Minute)
					empty(t, client, server)
				})
			}
		}
	}
}

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// TestLongChains: certificates that do not fit into one datagram travel in IKE fragments
// in every direction.
func TestLongChains(t *testing.T) {
	for _, m := range []mode{{false, AuthRSA}, {true, AuthRSA}, {false, AuthHybridRSA}, {true, AuthHybridRSA}} {
		w, client, server, open := modePair(t, m)
		largest := 0
		w.tap = func(_, _ netip.AddrPort, _ bool, data []byte) bool {
			if string(data[8:16]) != string(make([]byte, 8)) { // nobody has said that it takes message 1 in pieces
				largest = max(largest, len(data))
			}
			return true
		}
		for _, n := range []*node{client, server} {
			c := &n.e.cfg.Credentials[1]
			c.Chain = append(c.Chain, make([]byte, 3000), make([]byte, 2000))
		}
		client.step(open)
		w.run(5 * time.Second)
		mustUp(t, client, server)
		if largest > defaultMaxFragment {
			t.Errorf("%v: a datagram of %d bytes", m, largest)
		}
	}
}

// TestAggressiveUnderLoss: hardly an attempt fails on a bad link, though message 2 is never
// repeated unasked: each side has something that makes the other repeat itself.
func TestAggressiveUnderLoss(t *testing.T) {
	for _, m := range []mode{{true, AuthPSK}, {true, AuthXAuthPSK}, {true, AuthXAuthRSA}} {
		up := 0
		const tries = 100
		for i := range tries {
			w, client, server, open := modePair(t, m)
			w.rng = mrand.New(mrand.NewPCG(uint64(i), 7))
			w.loss, w.dup, w.jitter = 0.2, 0.1, 100*time.Millisecond
			client.step(open)
			w.run(2 * time.Minute)
			if len(client.up) == 1 {
				up++
			}
			if len(client.up)+len(client.down) == 0 {
				t.Errorf("%v, try %d: neither up nor down", m, i)
			}
			w.loss, w.dup, w.jitter = 0, 0, 0
			client.step(CloseAll{Reason: ReasonShutdown})
			server.step(CloseAll{Reason: ReasonShutdown})
			w.run(10 * time.Minute)
			empty(t, client, server)
		}
		if up < tries*95/100 {
			t.Errorf("%v: %d of %d attempts came up", m, up, tries)
		}
	}
}
