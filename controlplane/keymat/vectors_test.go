package keymat_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"testing"

	"vrgate/controlplane/keymat"
)

// hexBytes is a string of hexadecimal digits in vectors.json.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// vectorFile is testdata/vectors.json, computed by testdata/vectors.py with
// Python's hmac and hashlib, which share nothing with this package.
type vectorFile struct {
	Ni, Nr, CookieI, CookieR, GXi, GXr, GXY, SAi, IDii, IDir, PSK, Rest, GQM, QNi, QNr hexBytes

	MID, SPI uint32
	Cases    []struct {
		Hash                                                keymat.Hash
		Signature, PublicKey, SKEYID, D, A, E, HashI, HashR hexBytes
		Quick1, Quick2, Quick3, NATD4, NATD6                hexBytes
		KEYMAT, KEYMATPFS                                   hexBytes
		Ciphers                                             []struct {
			Cipher             keymat.Cipher
			Bits               int
			Key, IV, MessageIV hexBytes
		}
	}
}

func loadVectors(t *testing.T) vectorFile {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectorFile
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Cases) != 5 {
		t.Fatalf("%d cases, want one for each of 5 hashes", len(v.Cases))
	}
	return v
}

func TestHierarchyMatchesIndependentVectors(t *testing.T) {
	v := loadVectors(t)
	ci, cr := [8]byte(v.CookieI), [8]byte(v.CookieR)
	psk, gxy := keymat.Secret(v.PSK), keymat.Secret(v.GXY)
	x := keymat.Exchange{CookieI: ci, CookieR: cr, GXi: v.GXi, GXr: v.GXr, SAi: v.SAi}
	for _, c := range v.Cases {
		t.Run(c.Hash.String(), func(t *testing.T) {
			same := func(what string, got, want []byte) {
				t.Helper()
				if !bytes.Equal(got, want) {
					t.Errorf("%s = %x, want %x", what, got, want)
				}
			}
			same("SKEYID of signatures", keymat.SKEYIDSignature(c.Hash, v.Ni, v.Nr, gxy), c.Signature)
			same("SKEYID of public keys", keymat.SKEYIDPublicKey(c.Hash, v.Ni, v.Nr, ci, cr), c.PublicKey)
			skeyid := keymat.SKEYIDPreShared(c.Hash, psk, v.Ni, v.Nr)
			same("SKEYID", skeyid, c.SKEYID)
			same("NAT-D IPv4", keymat.HashNATD(c.Hash, ci, cr, netip.MustParseAddrPort("192.0.2.17:4500")), c.NATD4)
			same("NAT-D mapped", keymat.HashNATD(c.Hash, ci, cr, netip.MustParseAddrPort("[::ffff:192.0.2.17]:4500")), c.NATD4)
			same("NAT-D IPv6", keymat.HashNATD(c.Hash, ci, cr, netip.MustParseAddrPort("[2001:db8::17]:500")), c.NATD6)
			for _, e := range c.Ciphers {
				s := keymat.Suite{Cipher: e.Cipher, KeyBits: e.Bits, Hash: c.Hash}
				k, err := keymat.Derive(s, skeyid, gxy, ci, cr)
				if err != nil {
					t.Fatal(err)
				}
				same("SKEYID_d", k.D, c.D)
				same("SKEYID_a", k.A, c.A)
				same("SKEYID_e", k.E, c.E)
				same(e.Cipher.String()+" key", k.Key, e.Key)
				same(e.Cipher.String()+" first iv", s.FirstIV(v.GXi, v.GXr), e.IV)
				same(e.Cipher.String()+" message iv", s.MessageIV(filler("last", e.Cipher.BlockLen()), v.MID), e.MessageIV)
				same("HASH_I", k.HashI(x, v.IDii), c.HashI)
				same("HASH_R", k.HashR(x, v.IDir), c.HashR)
				same("HASH(1)", k.HashQuick1(v.MID, v.Rest), c.Quick1)
				same("HASH(2)", k.HashQuick2(v.MID, v.QNi, v.Rest), c.Quick2)
				same("HASH(3)", k.HashQuick3(v.MID, v.QNi, v.QNr), c.Quick3)
				same("HASH of informational", k.HashInfo(v.MID, v.Rest), c.Quick1)
				checkESP(t, k, v, c.KEYMAT, nil)
				checkESP(t, k, v, c.KEYMATPFS, keymat.Secret(v.GQM))
			}
		})
	}
}

// checkESP compares the split of KEYMAT for every supported protection.
func checkESP(t *testing.T, k keymat.Keys, v vectorFile, keymatBytes []byte, gqm keymat.Secret) {
	t.Helper()
	for _, c := range []struct {
		alg             keymat.ESPAlgorithm
		enc, salt, auth int
	}{
		{keymat.ESPAlgorithm{Cipher: keymat.ESPDES, Auth: keymat.ESPHMACMD5}, 8, 0, 16},
		{keymat.ESPAlgorithm{Cipher: keymat.ESP3DES, Auth: keymat.ESPHMACSHA1}, 24, 0, 20},
		{keymat.ESPAlgorithm{Cipher: keymat.ESPNull, Auth: keymat.ESPHMACSHA1}, 0, 0, 20},
		{keymat.ESPAlgorithm{Cipher: keymat.ESPAES, Auth: keymat.ESPHMACSHA1}, 16, 0, 20},
		{keymat.ESPAlgorithm{Cipher: keymat.ESPAES, KeyBits: 192, Auth: keymat.ESPHMACSHA2256}, 24, 0, 32},
		{keymat.ESPAlgorithm{Cipher: keymat.ESPAES, KeyBits: 256, Auth: keymat.ESPHMACSHA2384}, 32, 0, 48},
		{keymat.ESPAlgorithm{Cipher: keymat.ESPAES, KeyBits: 256, Auth: keymat.ESPHMACSHA2512}, 32, 0, 64},
		{keymat.ESPAlgorithm{Cipher: keymat.ESPAESGCM16, KeyBits: 128}, 16, 4, 0},
		{keymat.ESPAlgorithm{Cipher: keymat.ESPAESGCM16, KeyBits: 256}, 32, 4, 0},
	} {
		got, err := k.ESP(c.alg, v.SPI, gqm, v.QNi, v.QNr)
		if err != nil {
			t.Errorf("%+v: %v", c.alg, err)
			continue
		}
		m := keymatBytes
		if !bytes.Equal(got.Enc, m[:c.enc]) || !bytes.Equal(got.Salt, m[c.enc:c.enc+c.salt]) ||
			!bytes.Equal(got.Auth, m[c.enc+c.salt:c.enc+c.salt+c.auth]) {
			t.Errorf("%+v: keys %x %x %x do not follow KEYMAT %x", c.alg,
				got.Enc.Reveal(), got.Salt.Reveal(), got.Auth.Reveal(), m)
		}
	}
}

func TestESPRefusesWhatProtectsNothing(t *testing.T) {
	for _, a := range []keymat.ESPAlgorithm{
		{Cipher: keymat.ESPAES, KeyBits: 128},                                // no authentication
		{Cipher: keymat.ESPNull},                                             // nothing at all
		{Cipher: keymat.ESPAESGCM16, KeyBits: 128, Auth: keymat.ESPHMACSHA1}, // twice
		{Cipher: keymat.ESPAES, KeyBits: 129, Auth: keymat.ESPHMACSHA1},      //
		{Cipher: keymat.ESPAES, KeyBits: 512, Auth: keymat.ESPHMACSHA1},      //
		{Cipher: keymat.ESPAES, KeyBits: -128, Auth: keymat.ESPHMACSHA1},     //
		{Cipher: keymat.ESP3DES, KeyBits: 128, Auth: keymat.ESPHMACSHA1},     //
		{Cipher: 7, KeyBits: 128, Auth: keymat.ESPHMACSHA1},                  // Blowfish
		{Cipher: keymat.ESPAES, KeyBits: 128, Auth: 9},                       // XCBC
		{Auth: keymat.ESPHMACSHA1},                                           // zero value
	} {
		if _, _, _, err := a.KeyLens(); err == nil {
			t.Errorf("%+v accepted", a)
		}
	}
}
