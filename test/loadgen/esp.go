package loadgen

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"vrgate/controlplane/ike"
)

// Sizes in bytes of ESP with AES-CBC and HMAC-SHA1-96 (RFC 3602, RFC 2404).
const (
	espHeader  = 8 // SPI, sequence number
	espTrailer = 2 // padding length, next header
	espICV     = 12
	protoUDP   = 17
	protoESP   = 50
)

// espProposal is the one ESP transform that the clients offer.
var espProposal = ike.ESPProposal{Cipher: ike.ESPAESCBC, KeyBits: 256, Auth: ike.ESPAuthSHA1}

var (
	errNotESP   = errors.New("malformed ESP packet")
	errICV      = errors.New("ESP integrity check failed")
	errNextType = errors.New("ESP carries something else than UDP")
)

// espSA is one direction of a client's security association.
type espSA struct {
	spi     uint32
	seq     uint32
	block   cipher.Block
	authKey []byte
}

// newESP prepares an SA that was negotiated with espProposal.
func newESP(sa ike.SA) (*espSA, error) {
	if sa.Cipher != espProposal.Cipher || sa.Auth != espProposal.Auth || sa.Encap || sa.Tunnel {
		return nil, fmt.Errorf("loadgen: SA %08x is not what the clients offered", sa.SPI)
	}
	block, err := aes.NewCipher(sa.EncKey)
	if err != nil {
		return nil, fmt.Errorf("loadgen: SA %08x: %w", sa.SPI, err)
	}
	return &espSA{spi: sa.SPI, block: block, authKey: sa.AuthKey}, nil
}

// seal makes the ESP packet that carries a UDP datagram:
//
//	SPI | sequence number | IV | datagram, padding, its length, next header | ICV
func (s *espSA) seal(datagram []byte) []byte {
	s.seq++
	pad := -(len(datagram) + espTrailer) & (aes.BlockSize - 1)
	b := make([]byte, espHeader+aes.BlockSize, espHeader+aes.BlockSize+len(datagram)+pad+espTrailer+sha1.Size)
	binary.BigEndian.PutUint32(b, s.spi)
	binary.BigEndian.PutUint32(b[4:], s.seq)
	iv := b[espHeader:]
	_, _ = rand.Read(iv) // never fails
	b = append(b, datagram...)
	for i := range pad {
		b = append(b, byte(i+1))
	}
	b = append(b, byte(pad), protoUDP)
	body := b[espHeader+aes.BlockSize:]
	cipher.NewCBCEncrypter(s.block, iv).CryptBlocks(body, body)
	return s.icv(b)[:len(b)+espICV]
}

// icv appends the whole HMAC of b.
func (s *espSA) icv(b []byte) []byte {
	mac := hmac.New(sha1.New, s.authKey)
	mac.Write(b)
	return mac.Sum(b)
}

// open returns the UDP datagram in an ESP packet, which it decrypts in place.
// Replays are not looked for: the sockets are the only source.
func (s *espSA) open(b []byte) ([]byte, error) {
	body := len(b) - espHeader - aes.BlockSize - espICV
	if body < aes.BlockSize || body%aes.BlockSize != 0 {
		return nil, errNotESP
	}
	signed, icv := b[:len(b)-espICV], b[len(b)-espICV:]
	if subtle.ConstantTimeCompare(s.icv(signed[:len(signed):len(signed)])[len(signed):][:espICV], icv) != 1 {
		return nil, errICV
	}
	iv, plain := signed[espHeader:espHeader+aes.BlockSize], signed[espHeader+aes.BlockSize:]
	cipher.NewCBCDecrypter(s.block, iv).CryptBlocks(plain, plain)
	pad, next := int(plain[len(plain)-2]), plain[len(plain)-1]
	if pad+espTrailer > len(plain) {
		return nil, errNotESP
	}
	if next != protoUDP {
		return nil, errNextType
	}
	return plain[:len(plain)-espTrailer-pad], nil
}
