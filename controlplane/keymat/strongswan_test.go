package keymat_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"os"
	"testing"

	"vrgate/controlplane/keymat"
)

// capture is one case of the capture of two strongSwan 5.9.8 daemons, with the
// keys that they logged (see strongswan.py beside it).
type capture struct {
	Name, PSK                                                                  string
	GXY, GQM, SKEYID, D, A, E, Key, IV, HashI, HashR, EncI, EncR, AuthI, AuthR hexBytes
	Messages                                                                   []struct {
		Initiator   bool
		Wire, Plain hexBytes
	}
}

// algorithms of the cases, by the proposals named in the script.
var captured = map[string]struct {
	suite keymat.Suite
	group keymat.Group
	esp   keymat.ESPAlgorithm
}{
	"main": {keymat.Suite{Cipher: keymat.AES, KeyBits: 256, Hash: keymat.SHA1}, keymat.MODP2048,
		keymat.ESPAlgorithm{Cipher: keymat.ESPAES, KeyBits: 256, Auth: keymat.ESPHMACSHA1}},
	"p256": {keymat.Suite{Cipher: keymat.AES, KeyBits: 128, Hash: keymat.SHA256}, keymat.ECP256,
		keymat.ESPAlgorithm{Cipher: keymat.ESPAESGCM16, KeyBits: 128}},
	"x25519": {keymat.Suite{Cipher: keymat.AES, KeyBits: 256, Hash: keymat.SHA512}, keymat.Curve25519,
		keymat.ESPAlgorithm{Cipher: keymat.ESPAES, KeyBits: 256, Auth: keymat.ESPHMACSHA2512}},
	"tdes": {keymat.Suite{Cipher: keymat.DES3, Hash: keymat.MD5}, keymat.MODP1024,
		keymat.ESPAlgorithm{Cipher: keymat.ESP3DES, Auth: keymat.ESPHMACMD5}},
}

// wirePayload is one payload with the bytes that follow it. The capture is cut
// here by hand, so that this package needs no other of ours.
type wirePayload struct {
	typ        byte
	body, rest []byte
}

func cut(t *testing.T, next byte, b []byte) (ps []wirePayload) {
	t.Helper()
	for next != 0 {
		if len(b) < 4 || int(binary.BigEndian.Uint16(b[2:])) > len(b) {
			t.Fatal("the capture is cut wrongly")
		}
		n := binary.BigEndian.Uint16(b[2:])
		ps = append(ps, wirePayload{typ: next, body: b[4:n], rest: b[n:]})
		next, b = b[0], b[n:]
	}
	// What follows each payload, without the padding behind the last.
	for i := range ps {
		ps[i].rest = ps[i].rest[:len(ps[i].rest)-len(b)]
	}
	return ps
}

// find returns the n-th payload of a type.
func find(t *testing.T, ps []wirePayload, typ byte, n int) []byte {
	t.Helper()
	for _, p := range ps {
		if p.typ == typ {
			if n == 0 {
				return p.body
			}
			n--
		}
	}
	t.Fatalf("no payload of type %d", typ)
	return nil
}

// Payload types of the capture.
const typeSA, typeKE, typeID, typeHash, typeNonce, typeNATD = 1, 4, 5, 8, 10, 20

// TestStrongSwan derives from the messages of the capture, its pre-shared key and
// its Diffie-Hellman secrets every key that strongSwan derived, decrypts every
// message and checks every proof in them.
func TestStrongSwan(t *testing.T) {
	b, err := os.ReadFile("../isakmp/testdata/strongswan.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []capture
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) != len(captured) {
		t.Fatalf("%d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { checkCapture(t, c) })
	}
}

func checkCapture(t *testing.T, c capture) {
	same := func(what string, got, want []byte) {
		t.Helper()
		if len(want) == 0 || !bytes.Equal(got, want) {
			t.Errorf("%s = %x, want %x", what, got, want)
		}
	}
	alg := captured[c.Name]
	var mm [4][]wirePayload // in clear
	for i := range mm {
		mm[i] = cut(t, c.Messages[i].Wire[16], c.Messages[i].Wire[28:])
	}
	ckyI, ckyR := [8]byte(c.Messages[1].Wire), [8]byte(c.Messages[1].Wire[8:])
	ni, nr := find(t, mm[2], typeNonce, 0), find(t, mm[3], typeNonce, 0)
	x := keymat.Exchange{CookieI: ckyI, CookieR: ckyR,
		GXi: find(t, mm[2], typeKE, 0), GXr: find(t, mm[3], typeKE, 0), SAi: find(t, mm[0], typeSA, 0)}
	for _, y := range [][]byte{x.GXi, x.GXr} {
		if err := alg.group.CheckPublic(y); err != nil {
			t.Error(err)
		}
	}
	if len(c.GXY) != alg.group.SharedLen() {
		t.Errorf("%v: secret of %d bytes, want %d", alg.group, len(c.GXY), alg.group.SharedLen())
	}
	h := alg.suite.Hash
	server, client := netip.MustParseAddrPort("192.0.2.2:500"), netip.MustParseAddrPort("192.0.2.1:500")
	same("NAT-D of the responder", keymat.HashNATD(h, ckyI, ckyR, server), find(t, mm[2], typeNATD, 0))
	same("NAT-D of the initiator", keymat.HashNATD(h, ckyI, ckyR, client), find(t, mm[2], typeNATD, 1))

	k, err := keymat.Derive(alg.suite, keymat.SKEYIDPreShared(h, keymat.Secret(c.PSK), ni, nr), keymat.Secret(c.GXY), ckyI, ckyR)
	if err != nil {
		t.Fatal(err)
	}
	same("SKEYID", k.SKEYID, c.SKEYID)
	same("SKEYID_d", k.D, c.D)
	same("SKEYID_a", k.A, c.A)
	same("SKEYID_e", k.E, c.E)
	same("Ka", k.Key, c.Key)
	iv := alg.suite.FirstIV(x.GXi, x.GXr)
	same("first iv", iv, c.IV)

	// open decrypts message i and checks it against OpenSSL's work.
	open := func(i int, iv []byte) ([]wirePayload, []byte) {
		m := c.Messages[i]
		plain, next, err := k.Decrypt(iv, m.Wire[28:])
		if err != nil {
			t.Fatal(err)
		}
		same("decrypted body", plain, m.Plain)
		back, _, err := k.Encrypt(iv, plain)
		if err != nil {
			t.Fatal(err)
		}
		same("encrypted again", back, m.Wire[28:])
		return cut(t, m.Wire[16], plain), next
	}
	m5, iv := open(4, iv)
	m6, last := open(5, iv)
	same("HASH_I", k.HashI(x, find(t, m5, typeID, 0)), find(t, m5, typeHash, 0))
	same("HASH_I as logged", k.HashI(x, find(t, m5, typeID, 0)), c.HashI)
	same("HASH_R", k.HashR(x, find(t, m6, typeID, 0)), find(t, m6, typeHash, 0))
	same("HASH_R as logged", k.HashR(x, find(t, m6, typeID, 0)), c.HashR)

	mid := binary.BigEndian.Uint32(c.Messages[6].Wire[20:])
	q1, iv := open(6, alg.suite.MessageIV(last, mid))
	q2, _ := open(7, iv)
	qni, qnr := find(t, q1, typeNonce, 0), find(t, q2, typeNonce, 0)
	same("HASH(1)", k.HashQuick1(mid, q1[0].rest), find(t, q1, typeHash, 0))
	same("HASH(2)", k.HashQuick2(mid, qni, q2[0].rest), find(t, q2, typeHash, 0))
	infoID := binary.BigEndian.Uint32(c.Messages[8].Wire[20:])
	info, _ := open(8, alg.suite.MessageIV(last, infoID))
	same("HASH of the notify", k.HashInfo(infoID, info[0].rest), find(t, info, typeHash, 0))

	// The SPI stands behind DOI, situation and the headers of the proposal. An
	// SA is named by its receiver, so the initiator sends with the responder's.
	spiI := binary.BigEndian.Uint32(find(t, q1, typeSA, 0)[16:])
	spiR := binary.BigEndian.Uint32(find(t, q2, typeSA, 0)[16:])
	for _, d := range []struct {
		name      string
		spi       uint32
		enc, auth []byte
	}{{"initiator to responder", spiR, c.EncI, c.AuthI}, {"responder to initiator", spiI, c.EncR, c.AuthR}} {
		got, err := k.ESP(alg.esp, d.spi, keymat.Secret(c.GQM), qni, qnr)
		if err != nil {
			t.Fatal(err)
		}
		// strongSwan logs the salt of AES-GCM with its key.
		same("ESP key "+d.name, append(bytes.Clone(got.Enc), got.Salt...), d.enc)
		if !bytes.Equal(got.Auth, d.auth) {
			t.Errorf("ESP authentication key %s = %x, want %x", d.name, got.Auth.Reveal(), d.auth)
		}
	}
}
