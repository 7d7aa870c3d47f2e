package isakmp_test

import (
	"fmt"
	"testing"

	"vrgate/controlplane/isakmp"
)

// letters abbreviates payload types in the cases below.
var letters = map[rune]isakmp.PayloadType{
	'S': isakmp.TypeSA, 'K': isakmp.TypeKE, 'I': isakmp.TypeID, 'C': isakmp.TypeCert, 'R': isakmp.TypeCertRequest,
	'H': isakmp.TypeHash, 'G': isakmp.TypeSignature, 'N': isakmp.TypeNonce, 'n': isakmp.TypeNotify, 'D': isakmp.TypeDelete,
	'V': isakmp.TypeVendorID, 'A': isakmp.TypeAttributes, 'd': isakmp.TypeNATD, 'o': isakmp.TypeNATOA, 'e': isakmp.TypeNATDDraft,
	'p': isakmp.TypeNATOADraft, 'a': isakmp.TypeNATDApple, 'F': isakmp.TypeFragment, 'P': isakmp.TypeProposal, '?': 77, '!': 200,
}

func payloads(s string) (ps []isakmp.Payload) {
	for _, c := range s {
		t, ok := letters[c]
		if !ok {
			panic("no payload " + string(c))
		}
		ps = append(ps, isakmp.Payload{Type: t})
	}
	return ps
}

const (
	main, aggr, quick, info, trans = isakmp.IdentityProtection, isakmp.Aggressive, isakmp.QuickMode, isakmp.Informational, isakmp.Transaction
	enc, clr                       = true, false
)

func TestCheckAccepts(t *testing.T) {
	for _, c := range []struct {
		ex       isakmp.ExchangeType
		step     int
		payloads string
		enc      bool
	}{
		{main, 1, "S", clr}, {main, 1, "SVVVVVVVVVVVV", clr}, {main, 1, "S?V!", clr}, {main, 2, "SV", clr},
		{main, 3, "KN", clr}, {main, 3, "KNdd", clr}, {main, 3, "NKee", clr}, {main, 3, "KNVVVV", clr}, {main, 3, "KNaa", clr}, {main, 4, "KNRRdddd", clr},
		{main, 5, "IH", enc}, {main, 5, "IHn", enc}, {main, 5, "ICGR", enc}, {main, 5, "HI", enc}, {main, 6, "IH", enc}, {main, 6, "ICCG", enc}, {main, 6, "IHV", enc},
		{aggr, 1, "SKNI", clr}, {aggr, 1, "SKNIVVV", clr}, {aggr, 2, "SKNIHVdd", clr}, {aggr, 2, "SKNICG", clr},
		{aggr, 3, "H", enc}, {aggr, 3, "H", clr}, {aggr, 3, "ddH", enc}, {aggr, 3, "CGn", enc},
		{quick, 1, "HSN", enc}, {quick, 1, "HSNII", enc}, {quick, 1, "HSNKIIoo", enc}, {quick, 2, "HSNIIpp", enc}, {quick, 2, "HSNIIn", enc}, {quick, 3, "H", enc}, {quick, 4, "Hn", enc},
		{info, 1, "n", clr}, {info, 2, "Hn", enc}, {info, 2, "HD", enc}, {info, 2, "HnnDD", enc}, {info, 2, "H", enc},
		{trans, 1, "HA", enc}, {trans, 2, "HA", enc},
	} {
		if err := isakmp.Check(c.ex, c.step, payloads(c.payloads), c.enc); err != nil {
			t.Errorf("%v message %d %s: %v", c.ex, c.step, c.payloads, err)
		}
	}
	if isakmp.InfoStep(clr) != 1 || isakmp.InfoStep(enc) != 2 {
		t.Error("InfoStep")
	}
}

func TestCheckRefuses(t *testing.T) {
	const (
		malformed, misplaced, flags = isakmp.PayloadMalformed, isakmp.InvalidPayloadType, isakmp.InvalidFlags
	)
	for _, c := range []struct {
		ex       isakmp.ExchangeType
		step     int
		payloads string
		enc      bool
		want     isakmp.NotifyType
	}{
		{main, 1, "", clr, malformed}, {main, 1, "VS", clr, malformed}, {main, 1, "SS", clr, malformed}, {main, 1, "SK", clr, misplaced}, {main, 1, "SH", clr, misplaced},
		{main, 1, "S", enc, flags}, {main, 1, "SF", clr, misplaced}, {main, 1, "SP", clr, misplaced}, {main, 1, "SA", clr, misplaced},
		{main, 3, "K", clr, malformed}, {main, 3, "N", clr, malformed}, {main, 3, "KKN", clr, malformed}, {main, 3, "KNN", clr, malformed}, {main, 3, "KNI", clr, misplaced}, {main, 3, "KN", enc, flags},
		{main, 5, "IH", clr, flags}, {main, 5, "I", enc, malformed}, {main, 5, "H", enc, malformed}, {main, 5, "IHG", enc, malformed}, {main, 5, "IHH", enc, malformed}, {main, 5, "IIH", enc, malformed}, {main, 5, "IHS", enc, misplaced}, {main, 5, "IHD", enc, misplaced},
		{main, 0, "S", clr, isakmp.InvalidExchangeType}, {main, 7, "IH", enc, isakmp.InvalidExchangeType}, {main, -1, "S", clr, isakmp.InvalidExchangeType},
		{aggr, 1, "SKN", clr, malformed}, {aggr, 1, "KSNI", clr, malformed}, {aggr, 1, "SKNIH", clr, misplaced}, {aggr, 2, "SKNI", clr, malformed}, {aggr, 3, "", enc, malformed}, {aggr, 1, "SKNI", enc, flags},
		{quick, 1, "HSN", clr, flags}, {quick, 1, "HNS", enc, malformed}, {quick, 1, "SHN", enc, malformed}, {quick, 1, "HSNI", enc, malformed}, {quick, 1, "HSNIII", enc, malformed},
		{quick, 1, "HSSN", enc, malformed}, {quick, 1, "HS", enc, malformed}, {quick, 1, "HSNKK", enc, malformed}, {quick, 1, "HSNooo", enc, malformed}, {quick, 1, "HSND", enc, misplaced},
		{quick, 3, "n", enc, malformed}, {quick, 3, "HS", enc, misplaced}, {quick, 4, "H", enc, malformed},
		{info, 2, "nH", enc, malformed}, {info, 2, "n", enc, malformed}, {info, 2, "HS", enc, misplaced}, {info, 1, "nK", clr, misplaced}, {info, 2, "Hn", clr, flags}, {info, 1, "n", enc, flags},
		{trans, 1, "A", enc, malformed}, {trans, 1, "HAA", enc, malformed}, {trans, 1, "H", enc, malformed}, {trans, 1, "HA", clr, flags}, {trans, 1, "HAS", enc, misplaced},
		{isakmp.NewGroupMode, 1, "HS", enc, isakmp.UnsupportedExchangeType}, {0, 1, "S", clr, isakmp.UnsupportedExchangeType}, {255, 1, "S", clr, isakmp.UnsupportedExchangeType},
	} {
		wantNotify(t, fmt.Sprintf("%v message %d %s", c.ex, c.step, c.payloads), isakmp.Check(c.ex, c.step, payloads(c.payloads), c.enc), c.want)
	}
}

func TestCheckCounts(t *testing.T) {
	ps := payloads("S")
	for len(ps) <= 64 {
		ps = append(ps, payloads("V")...)
	}
	if err := isakmp.Check(main, 1, ps, clr); err != nil {
		t.Errorf("64 vendor ids: %v", err)
	}
	wantNotify(t, "65 vendor ids", isakmp.Check(main, 1, append(ps, ps[1]), clr), isakmp.PayloadMalformed)
	ps = payloads("S")
	for len(ps) <= isakmp.MaxPayloads {
		ps = append(ps, payloads("?")...)
	}
	// 256 of one type must not count as none.
	for len(ps) < 257 {
		ps = append(ps, payloads("S")...)
	}
	wantNotify(t, "too many payloads", isakmp.Check(main, 1, ps, clr), isakmp.PayloadMalformed)
}
