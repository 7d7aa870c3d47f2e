package pppd

import (
	"bytes"
	"crypto/des" // MS-CHAPv2 is defined over DES (RFC 2759 section 8.6)
	"crypto/md5"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/md4" //lint:ignore SA1019 the NT password hash is MD4 (RFC 2759 section 8.3)
)

const (
	md5ResponseLen   = md5.Size // CHAP-MD5 response, RFC 1994 section 4.1
	msChallengeLen   = 16       // both challenges of MS-CHAPv2
	msResponseLen    = 49       // peer challenge 16, reserved 8, NT response 24, flags 1: RFC 2759 section 4
	ntResponseLen    = 24
	ntResponseOffset = 24
)

// CheckCHAPMD5 says whether response is the CHAP-MD5 answer to the challenge sent with this identifier (RFC 1994
// section 4.1: MD5 over identifier, password, challenge). The comparison takes constant time.
func CheckCHAPMD5(id uint8, challenge, response, password []byte) bool {
	return subtle.ConstantTimeCompare(chapMD5(id, challenge, password), response) == 1
}

// chapMD5 computes the response of RFC 1994 section 4.1.
func chapMD5(id uint8, challenge, password []byte) []byte {
	h := md5.New()
	h.Write([]byte{id})
	h.Write(password)
	h.Write(challenge)
	return h.Sum(nil)
}

// CheckMSCHAPv2 verifies an MS-CHAPv2 response and computes the proof that the authenticator owes in return.
// User is the name as the peer sent it; a domain in front of a backslash is not part of the computation (RFC 2759
// section 8.2). Challenge is the 16-byte authenticator challenge, response the 49-byte value of RFC 2759 section 4,
// password the clear text in UTF-8. When ok, authenticatorResponse is the "S=" string of RFC 2759 section 5 for
// AuthDecision.MSCHAPv2Response. Wrong lengths and passwords that are not UTF-8 are not ok.
// The comparison takes constant time.
func CheckMSCHAPv2(user string, challenge, response, password []byte) (authenticatorResponse string, ok bool) {
	if len(challenge) != msChallengeLen || len(response) != msResponseLen || !utf8.Valid(password) {
		return "", false
	}
	hash := ntPasswordHash(password)
	defer clear(hash)
	digest := challengeHash(response[:msChallengeLen], challenge, user)
	want := challengeResponse(digest, hash)
	got := response[ntResponseOffset : ntResponseOffset+ntResponseLen]
	if subtle.ConstantTimeCompare(want, got) != 1 {
		return "", false
	}
	return authenticatorProof(hash, got, digest), true
}

// respondMSCHAPv2 computes the 49-byte response of a peer and the "S=" string that only an authenticator who knows the
// password can return.
func respondMSCHAPv2(user string, challenge, peerChallenge, password []byte) (response []byte, expect string) {
	hash := ntPasswordHash(password)
	defer clear(hash)
	digest := challengeHash(peerChallenge, challenge, user)
	nt := challengeResponse(digest, hash)
	response = make([]byte, msResponseLen)
	copy(response, peerChallenge[:msChallengeLen])
	copy(response[ntResponseOffset:], nt)
	return response, authenticatorProof(hash, nt, digest)
}

// ntPasswordHash is NtPasswordHash of RFC 2759 section 8.3: MD4 over the password in UTF-16LE.
func ntPasswordHash(password []byte) []byte {
	units := utf16.Encode(bytes.Runes(password))
	le := make([]byte, 0, 2*len(units))
	for _, u := range units {
		le = binary.LittleEndian.AppendUint16(le, u)
	}
	clear(units)
	h := md4.New()
	h.Write(le)
	clear(le)
	return h.Sum(nil)
}

// challengeHash is ChallengeHash of RFC 2759 section 8.2. Windows sends DOMAIN\user as the name and computes with user.
func challengeHash(peerChallenge, challenge []byte, user string) []byte {
	if i := strings.LastIndexByte(user, '\\'); i >= 0 {
		user = user[i+1:]
	}
	h := sha1.New()
	h.Write(peerChallenge)
	h.Write(challenge)
	h.Write([]byte(user))
	return h.Sum(nil)[:8]
}

// challengeResponse is ChallengeResponse of RFC 2759 section 8.5: three DES encryptions of the 8-byte challenge hash
// with the 16-byte password hash, zero-padded to 21 bytes, as keys.
func challengeResponse(digest, hash []byte) []byte {
	var keys [21]byte
	copy(keys[:], hash)
	defer clear(keys[:])
	out := make([]byte, ntResponseLen)
	for i := range 3 {
		c, err := des.NewCipher(expandDESKey(keys[7*i : 7*i+7]))
		if err != nil {
			panic(err) // the key length is fixed above
		}
		c.Encrypt(out[8*i:], digest)
	}
	return out
}

// expandDESKey spreads 56 key bits over 8 bytes, leaving the parity bits (which DES ignores) zero: RFC 2759 section 8.6.
func expandDESKey(k []byte) []byte {
	var v uint64
	for _, b := range k[:7] {
		v = v<<8 | uint64(b)
	}
	out := make([]byte, 8)
	for i := range out {
		out[i] = byte(v>>(49-7*i)) << 1
	}
	return out
}

// The two magic constants of RFC 2759 section 8.7.
const (
	proofMagic1 = "Magic server to client signing constant"
	proofMagic2 = "Pad to make it do more than one iteration"
)

// authenticatorProof is GenerateAuthenticatorResponse of RFC 2759 section 8.7 in its wire form "S=" and 40 hexadecimal digits.
func authenticatorProof(hash, ntResponse, digest []byte) string {
	h := md4.New()
	h.Write(hash)
	hashHash := h.Sum(nil)
	defer clear(hashHash)

	s := sha1.New()
	s.Write(hashHash)
	s.Write(ntResponse)
	s.Write([]byte(proofMagic1))
	first := s.Sum(nil)

	s.Reset()
	s.Write(first)
	s.Write(digest)
	s.Write([]byte(proofMagic2))
	return "S=" + strings.ToUpper(hex.EncodeToString(s.Sum(nil)))
}
