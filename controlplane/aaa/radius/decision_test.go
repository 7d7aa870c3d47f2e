package radius

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	rad "layeh.com/radius"

	"vrgate/controlplane/aaa"
)

const testProof = "S=407A5589115FD0D6209F510FE9C04566932CDA56" // RFC 2759 section 9.2

// signed stands for the Message-Authenticator that the client has verified.
var signed = std(typeMessageAuth, strings.Repeat("m", 16))

// TestAnswers: what each answer to each protocol means.
func TestAnswers(t *testing.T) {
	eap := func(code uint8) *rad.AVP {
		if code == eapRequest {
			return std(typeEAPMessage, string(eapPacket(eapRequest, 20)))
		}
		return std(typeEAPMessage, string([]byte{code, 9, 0, 4}))
	}
	refused := func(text, message string) aaa.Decision {
		return aaa.Decision{Reason: aaa.ReasonRefused, Text: "server s refuses the user" + text, Message: message}
	}
	unusable := func(text string) aaa.Decision {
		return aaa.Decision{Reason: aaa.ReasonBadAnswer, Text: "server s: " + text}
	}
	for _, c := range []struct {
		name       string
		protocol   aaa.Protocol
		code       rad.Code
		attributes []*rad.AVP
		want       aaa.Decision
	}{
		{"PAP accepted", aaa.PAP, rad.CodeAccessAccept, nil, aaa.Decision{Accept: true}},
		{"PAP refused", aaa.PAP, rad.CodeAccessReject, nil, refused("", "")},
		{"PAP refused with words", aaa.PAP, rad.CodeAccessReject, []*rad.AVP{std(18, "no \x07money\r\n"), std(18, "x")}, refused(`: "no money"`, "no money")},
		{"MS-CHAPv2 accepted", aaa.MSCHAPv2, rad.CodeAccessAccept, []*rad.AVP{vsa(311, 26, "\x05"+testProof)}, aaa.Decision{Accept: true, MSCHAPv2Response: testProof}},
		{"with small letters and words", aaa.MSCHAPv2, rad.CodeAccessAccept, []*rad.AVP{vsa(311, 26, "\x05"+strings.ToLower(testProof)+" M=hi")}, aaa.Decision{Accept: true, MSCHAPv2Response: testProof}},
		{"MS-CHAPv2 without proof", aaa.MSCHAPv2, rad.CodeAccessAccept, nil, unusable("it accepted MS-CHAPv2 without the proof of MS-CHAP2-Success, so clients would hang up")},
		{"MS-CHAPv2 with half a proof", aaa.MSCHAPv2, rad.CodeAccessAccept, []*rad.AVP{vsa(311, 26, "\x05"+testProof[:41])}, unusable("it accepted MS-CHAPv2 without the proof of MS-CHAP2-Success, so clients would hang up")},
		{"MS-CHAPv2 with another proof", aaa.MSCHAPv2, rad.CodeAccessAccept, []*rad.AVP{vsa(311, 26, "\x05"+strings.Replace(testProof, "4", "G", 1))}, unusable("it accepted MS-CHAPv2 without the proof of MS-CHAP2-Success, so clients would hang up")},
		{"expired", aaa.MSCHAPv2, rad.CodeAccessReject, []*rad.AVP{vsa(311, 2, "\x05E=648 R=0 C=00 V=3 M=x")}, refused(": the password has expired (MS-CHAP error 648)", "")},
		{"wrong", aaa.MSCHAPv2, rad.CodeAccessReject, []*rad.AVP{vsa(311, 2, "E=691 R=1"), std(18, "try again")}, refused(": wrong name or password (MS-CHAP error 691)", "try again")},
		{"disabled", aaa.MSCHAPv2, rad.CodeAccessReject, []*rad.AVP{vsa(311, 2, "\x00E=647 R=0")}, refused(": the account is disabled (MS-CHAP error 647)", "")},
		{"not allowed", aaa.MSCHAPv2, rad.CodeAccessReject, []*rad.AVP{vsa(311, 2, "\x00E=649 R=0")}, refused(": the user may not dial in (MS-CHAP error 649)", "")},
		{"not now", aaa.MSCHAPv2, rad.CodeAccessReject, []*rad.AVP{vsa(311, 2, "\x00E=646 R=0")}, refused(": the user may not log in at this hour (MS-CHAP error 646)", "")},
		{"for a new reason", aaa.MSCHAPv2, rad.CodeAccessReject, []*rad.AVP{vsa(311, 2, "\x00E=999")}, refused(": MS-CHAP error 999", "")},
		{"for no reason", aaa.MSCHAPv2, rad.CodeAccessReject, []*rad.AVP{vsa(311, 2, "\x00nonsense")}, refused(`: "nonsense"`, "")},
		{"EAP accepted", aaa.EAP, rad.CodeAccessAccept, []*rad.AVP{signed, eap(eapSuccess)}, aaa.Decision{Accept: true, EAP: []byte{3, 9, 0, 4}}},
		{"EAP accepted without a word", aaa.EAP, rad.CodeAccessAccept, []*rad.AVP{signed}, aaa.Decision{Accept: true}},
		{"EAP accepted and failed", aaa.EAP, rad.CodeAccessAccept, []*rad.AVP{signed, eap(eapFailure)}, unusable("its accept has an EAP-Message that is no Success")},
		{"EAP accepted, unsigned", aaa.EAP, rad.CodeAccessAccept, []*rad.AVP{eap(eapSuccess)}, unusable("it answered EAP without Message-Authenticator")},
		{"EAP refused", aaa.EAP, rad.CodeAccessReject, []*rad.AVP{signed, eap(eapFailure)}, func() aaa.Decision { d := refused("", ""); d.EAP = []byte{4, 9, 0, 4}; return d }()},
		{"EAP refused with success", aaa.EAP, rad.CodeAccessReject, []*rad.AVP{signed, eap(eapSuccess)}, refused("", "")},
		{"EAP goes on", aaa.EAP, rad.CodeAccessChallenge, []*rad.AVP{signed, eap(eapRequest), std(24, "st"), std(27, u32(30))},
			aaa.Decision{Round: &aaa.EAPRound{Packet: eapPacket(eapRequest, 20), State: []byte("st"), Timeout: 30 * time.Second}}},
		{"EAP goes on in parts", aaa.EAP, rad.CodeAccessChallenge, []*rad.AVP{std(79, string(eapPacket(eapRequest, 300)[:253])), signed, std(79, string(eapPacket(eapRequest, 300)[253:])), std(27, u32(1<<31))},
			aaa.Decision{Round: &aaa.EAPRound{Packet: eapPacket(eapRequest, 300), Timeout: maxRoundTimeout}}},
		{"EAP goes on with nothing", aaa.EAP, rad.CodeAccessChallenge, []*rad.AVP{signed}, unusable("its challenge has no EAP request")},
		{"EAP goes on with success", aaa.EAP, rad.CodeAccessChallenge, []*rad.AVP{signed, eap(eapSuccess)}, unusable("its challenge has no EAP request")},
		{"a question", aaa.PAP, rad.CodeAccessChallenge, []*rad.AVP{std(18, "Token?"), std(24, "st"), std(24, "other")}, aaa.Decision{Prompt: &aaa.Prompt{Message: "Token?", State: []byte("st")}}},
		{"a question with echo", aaa.CHAPMD5, rad.CodeAccessChallenge, []*rad.AVP{std(76, u32(1))}, aaa.Decision{Prompt: &aaa.Prompt{Answer: true}}},
		{"another code", aaa.PAP, rad.CodeAccountingResponse, nil, unusable("it answered with code 5")},
	} {
		client := &asked{answer: Answer{Code: c.code, Attributes: c.attributes, Server: "s"}}
		m := Method{Client: client}
		in := read(c.attributes)
		got := m.decide(aaa.Request{Protocol: c.protocol, User: "u"}, client.answer, &in)
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n%+v, not\n%+v", c.name, got, c.want)
		}
	}
}

// TestNoAnswer: silence and the lack of servers are not refusals, because the next method may be asked then.
func TestNoAnswer(t *testing.T) {
	for _, c := range []struct {
		err  error
		want aaa.Reason
	}{
		{ErrNoServer, aaa.ReasonNoServer},
		{fmt.Errorf("x: %w", ErrNoAnswer), aaa.ReasonTimeout},
		{ErrOverload, aaa.ReasonOverload},
		{context.DeadlineExceeded, aaa.ReasonTimeout},
		{&OpenError{Text: "no"}, aaa.ReasonTimeout},
		{ErrClosed, aaa.ReasonTimeout},
		{&MalformedError{"x"}, aaa.ReasonProtocol},
	} {
		m := Method{Client: &asked{err: c.err}}
		d := m.Authenticate(context.Background(), "g", aaa.Request{Protocol: aaa.PAP, User: "u"})
		if d.Accept || d.Reason != c.want || !strings.Contains(d.Text, c.err.Error()) || d.By.Method != "radius" {
			t.Errorf("%v: %+v", c.err, d)
		}
	}
}

// TestFound: what was in answers and could not be used is counted.
func TestFound(t *testing.T) {
	m := Method{Client: &asked{answer: Answer{Code: rad.CodeAccessAccept, Attributes: rad.Attributes{vsa(9, 250, "x")}}}}
	for range 3 {
		m.Authenticate(context.Background(), "g", aaa.Request{Protocol: aaa.PAP, User: "u"})
	}
	if got := m.Found.Counts(); len(got) != 1 || got[0].Count != 3 || got[0].String() != "vendor 9 type 250: unknown" {
		t.Error(got)
	}
}
