package ike

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// recording is a handshake with a foreign client that an engine answered, with
// the secrets that it takes to read it: the pre-shared key and our private
// Diffie-Hellman value. TestStrongSwan makes them when IKE_RECORD names a
// directory; those in testdata are from strongSwan 5.9.8 of Debian 12.
type recording struct {
	Origin   string
	PSK      string
	Private  string // hexadecimal
	Messages []recorded
	SAs      map[string][]string // what the client's kernel got: keys by SPI, hexadecimal
}

// recorded is one message, without any non-ESP marker.
type recorded struct {
	In   bool // to us
	Data string
}

// TestRecorded reads recorded handshakes with their secrets, without the engine:
// every message decrypts, every hash of both sides is right, and the keys of the
// ESP SAs are those that the client's kernel got.
func TestRecorded(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var r recording
			if err := json.Unmarshal(b, &r); err != nil {
				t.Fatal(err)
			}
			if err := r.read(); err != nil {
				t.Errorf("%s: %v", r.Origin, err)
			}
		})
	}
}

// reader is how far a recording has been read.
type reader struct {
	r       *recording
	x       keymat.Exchange
	ni, nr  []byte
	suite   keymat.Suite
	group   keymat.Group
	keys    keymat.Keys
	iv      []byte
	last    []byte
	qiv     []byte
	qni     []byte
	qnr     []byte
	alg     keymat.ESPAlgorithm
	spis    [2]uint32 // ours, theirs
	main    int       // main mode messages read
	quick   int
	infos   int
	matched int
	parts   [2]isakmp.Reassembler
}

// read reads the whole recording.
func (r *recording) read() error {
	rd := &reader{r: r}
	for i, m := range r.Messages {
		if slices.Contains(r.Messages[:i], m) {
			continue // the machine was slow, and the client repeated itself
		}
		data, err := hex.DecodeString(m.Data)
		if err != nil {
			return err
		}
		h, body, err := isakmp.ParseHeader(data)
		if err != nil {
			return err
		}
		if h.Next == isakmp.TypeFragment {
			ps, err := isakmp.ParsePayloads(h.Next, body)
			if err != nil {
				return err
			}
			f, err := ps[0].Fragment()
			if err != nil {
				return err
			}
			side := &rd.parts[0]
			if m.In {
				side = &rd.parts[1]
			}
			whole, err := side.Add(time.Time{}, f)
			if err != nil {
				return err
			}
			if whole == nil {
				continue
			}
			if h, body, err = isakmp.ParseHeader(whole); err != nil {
				return err
			}
		}
		if err := rd.message(m.In, h, body); err != nil {
			return fmt.Errorf("message %d: %w", i+1, err)
		}
	}
	if rd.main != 6 || rd.quick != 3 || rd.infos < 2 || rd.matched != 2 {
		return fmt.Errorf("%d main mode, %d quick mode, %d informational messages, %d SAs", rd.main, rd.quick, rd.infos, rd.matched)
	}
	return nil
}

// message reads one message.
func (rd *reader) message(in bool, h isakmp.Header, body []byte) error {
	rd.x.CookieI, rd.x.CookieR = h.Initiator, h.Responder
	switch h.Exchange {
	case isakmp.IdentityProtection:
		rd.main++
		return rd.mainMode(in, h, body)
	case isakmp.QuickMode:
		rd.quick++
		return rd.quickMode(h, body)
	case isakmp.Informational:
		rd.infos++
		ps, rest, _, err := rd.open(rd.suite.MessageIV(rd.last, h.MessageID), h, body)
		if err == nil && !keymat.EqualProof(ps[0].Body, rd.keys.HashInfo(h.MessageID, rest)) {
			err = fmt.Errorf("bad hash of an informational message")
		}
		return err
	}
	return fmt.Errorf("exchange %v", h.Exchange)
}

// open decrypts and cuts.
func (rd *reader) open(iv []byte, h isakmp.Header, body []byte) (ps []isakmp.Payload, rest, next []byte, err error) {
	plain, next, err := rd.keys.Decrypt(iv, body)
	if err != nil {
		return nil, nil, nil, err
	}
	if ps, err = isakmp.ParsePayloads(h.Next, plain); err != nil || len(ps) == 0 {
		return nil, nil, nil, fmt.Errorf("does not decrypt: %v", err)
	}
	end := 0
	for _, p := range ps {
		end += 4 + len(p.Body)
	}
	return ps, plain[4+len(ps[0].Body) : end], next, nil
}

func (rd *reader) mainMode(in bool, h isakmp.Header, body []byte) error {
	if rd.main <= 4 {
		ps, err := isakmp.ParsePayloads(h.Next, body)
		if err != nil {
			return err
		}
		find := func(t isakmp.PayloadType) []byte { p, _ := isakmp.Find(ps, t); return slices.Clone(p.Body) }
		switch rd.main {
		case 1:
			rd.x.SAi = find(isakmp.TypeSA)
		case 2:
			sa, err := ps[0].SA()
			if err != nil {
				return err
			}
			c, _ := sa.Proposals[0].Transforms[0].Phase1()
			rd.suite = keymat.Suite{Cipher: keymat.Cipher(c.Enc), KeyBits: int(c.KeyBits), Hash: keymat.Hash(c.Hash)}
			rd.group = keymat.Group(c.Group)
		case 3:
			rd.x.GXi, rd.ni = find(isakmp.TypeKE), find(isakmp.TypeNonce)
		case 4:
			rd.x.GXr, rd.nr = find(isakmp.TypeKE), find(isakmp.TypeNonce)
			private, err := hex.DecodeString(rd.r.Private)
			if err != nil {
				return err
			}
			gxy, err := keymat.Shared(keymat.KeyPair{Group: rd.group, Private: private, Public: rd.x.GXr}, rd.x.GXi)
			if err != nil {
				return err
			}
			skeyid := keymat.SKEYIDPreShared(rd.suite.Hash, keymat.Secret(rd.r.PSK), rd.ni, rd.nr)
			if rd.keys, err = keymat.Derive(rd.suite, skeyid, gxy, rd.x.CookieI, rd.x.CookieR); err != nil {
				return err
			}
			rd.iv = rd.suite.FirstIV(rd.x.GXi, rd.x.GXr)
		}
		return nil
	}
	ps, _, next, err := rd.open(rd.iv, h, body)
	if err != nil {
		return err
	}
	rd.iv, rd.last = next, next
	id, _ := isakmp.Find(ps, isakmp.TypeID)
	hash, _ := isakmp.Find(ps, isakmp.TypeHash)
	want := rd.keys.HashI(rd.x, id.Body)
	if !in {
		want = rd.keys.HashR(rd.x, id.Body)
	}
	if !keymat.EqualProof(hash.Body, want) {
		return fmt.Errorf("bad proof")
	}
	return nil
}

func (rd *reader) quickMode(h isakmp.Header, body []byte) error {
	if rd.quick == 1 {
		rd.qiv = rd.suite.MessageIV(rd.last, h.MessageID)
	}
	ps, rest, next, err := rd.open(rd.qiv, h, body)
	if err != nil {
		return err
	}
	rd.qiv = next
	nonce, _ := isakmp.Find(ps, isakmp.TypeNonce)
	var want []byte
	switch rd.quick {
	case 1:
		rd.qni = slices.Clone(nonce.Body)
		sa, err := ps[1].SA()
		if err != nil {
			return err
		}
		rd.spis[1], _ = spiOf(sa.Proposals[0].SPI)
		want = rd.keys.HashQuick1(h.MessageID, rest)
	case 2:
		rd.qnr = slices.Clone(nonce.Body)
		sa, err := ps[1].SA()
		if err != nil {
			return err
		}
		rd.spis[0], _ = spiOf(sa.Proposals[0].SPI)
		c := sa.Proposals[0].Transforms[0].ESP()
		rd.alg = keymat.ESPAlgorithm{Cipher: keymat.ESPCipher(c.ID), KeyBits: int(c.KeyBits), Auth: keymat.ESPAuth(c.Auth)}
		want = rd.keys.HashQuick2(h.MessageID, rd.qni, rest)
	case 3:
		want = rd.keys.HashQuick3(h.MessageID, rd.qni, rd.qnr)
	}
	if !keymat.EqualProof(ps[0].Body, want) {
		return fmt.Errorf("bad hash %d of quick mode", rd.quick)
	}
	if rd.quick != 3 {
		return nil
	}
	for _, spi := range rd.spis {
		k, err := rd.keys.ESP(rd.alg, spi, nil, rd.qni, rd.qnr)
		if err != nil {
			return err
		}
		var keys []string
		if len(k.Auth) > 0 {
			keys = append(keys, hex.EncodeToString(k.Auth))
		}
		keys = append(keys, hex.EncodeToString(join(k.Enc, k.Salt)))
		if got := rd.r.SAs[fmt.Sprintf("%08x", spi)]; !slices.Equal(got, keys) {
			return fmt.Errorf("SA %08x: the client's kernel has other keys", spi)
		}
		rd.matched++
	}
	return nil
}
