package radius

import (
	"encoding/binary"
	"fmt"

	"vrgate/controlplane/aaa"
)

// Codes of EAP packets (RFC 3748 section 4).
const (
	eapRequest  = 1
	eapResponse = 2
	eapSuccess  = 3
	eapFailure  = 4

	eapHeader = 4
)

// checkEAP says what is wrong with a peer's packet that is to be relayed.
func checkEAP(b []byte) error {
	if code, ok := eapCode(b); !ok || code != eapResponse {
		return fmt.Errorf("%d bytes that are no EAP response", len(b))
	}
	return nil
}

// eapCode is the code of an EAP packet; false: its length is not what it says, or more than MaxEAP.
func eapCode(b []byte) (code uint8, ok bool) {
	if len(b) < eapHeader || len(b) > aaa.MaxEAP || int(binary.BigEndian.Uint16(b[2:])) != len(b) {
		return 0, false
	}
	return b[0], true
}

// joinEAP puts the EAP-Message attributes of a packet together (RFC 3579 section 3.1); nil: there are none.
func joinEAP(values []value) []byte {
	var out []byte
	for _, v := range values {
		if v.attribute == (Attribute{Type: typeEAPMessage}) {
			out = append(out, v.octets...)
		}
	}
	return out
}
