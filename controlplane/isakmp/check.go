package isakmp

import "fmt"

// want is a rule of the table: how often a payload may appear.
type want struct {
	typ      PayloadType
	min, max int
}

// cipherState says whether a message must be encrypted.
type cipherState uint8

const (
	inClear cipherState = iota
	encrypted
	either
)

// rule is what one message of an exchange must look like.
type rule struct {
	cipher cipherState
	first  []PayloadType // the payloads it must begin with, in order
	oneOf  []PayloadType // exactly one of these in all, by authentication method
	pair   PayloadType   // comes twice or not at all
	wants  []want
}

// Counts that appear in several rules.
const (
	maxVendorIDs = 64 // Apple sends 12, Shrew and Windows up to 20
	maxNATD      = 16 // a host lists every local address it may use
	maxCerts     = 16
	maxRequests  = 100
	maxNotifies  = 16
	maxDeletes   = 16
)

// Payloads that may accompany others.
var (
	anyVendorIDs = want{TypeVendorID, 0, maxVendorIDs}
	anyRequests  = want{TypeCertRequest, 0, maxRequests}
	anyCerts     = want{TypeCert, 0, maxCerts}
	anyNotifies  = want{TypeNotify, 0, maxNotifies}
	anyNATD      = []want{{TypeNATD, 0, maxNATD}, {TypeNATDDraft, 0, maxNATD}, {TypeNATDApple, 0, maxNATD}}
	anyNATOA     = []want{{TypeNATOA, 0, 2}, {TypeNATOADraft, 0, 2}, {TypeNATOAApple, 0, 2}}
	proof        = []PayloadType{TypeHash, TypeSignature}
)

// with joins rules of payloads.
func with(ws []want, more ...want) []want { return append(more, ws...) }

// rules is the table: exchange and number of the message in it, from 1. Odd
// messages come from the initiator of the exchange (RFC 2409 sections 5.1, 5.4,
// 5.5; RFC 3947 section 3.2). In an informational or transaction exchange each
// message stands for itself and is number 1 or 2.
var rules = map[ExchangeType][]rule{
	IdentityProtection: {
		{inClear, []PayloadType{TypeSA}, nil, TypeNone, []want{{TypeSA, 1, 1}, anyVendorIDs, anyNotifies}},
		{inClear, []PayloadType{TypeSA}, nil, TypeNone, []want{{TypeSA, 1, 1}, anyVendorIDs, anyNotifies}},
		{inClear, nil, nil, TypeNone, with(anyNATD, want{TypeKE, 1, 1}, want{TypeNonce, 1, 1}, anyVendorIDs, anyRequests, anyNotifies)},
		{inClear, nil, nil, TypeNone, with(anyNATD, want{TypeKE, 1, 1}, want{TypeNonce, 1, 1}, anyVendorIDs, anyRequests, anyNotifies)},
		{encrypted, nil, proof, TypeNone, []want{{TypeID, 1, 1}, {TypeHash, 0, 1}, {TypeSignature, 0, 1}, anyCerts, anyRequests, anyVendorIDs, anyNotifies}},
		{encrypted, nil, proof, TypeNone, []want{{TypeID, 1, 1}, {TypeHash, 0, 1}, {TypeSignature, 0, 1}, anyCerts, anyRequests, anyVendorIDs, anyNotifies}},
	},
	Aggressive: {
		{inClear, []PayloadType{TypeSA}, nil, TypeNone, []want{{TypeSA, 1, 1}, {TypeKE, 1, 1}, {TypeNonce, 1, 1}, {TypeID, 1, 1}, anyVendorIDs, anyRequests, anyNotifies}},
		{inClear, []PayloadType{TypeSA}, proof, TypeNone, with(anyNATD, want{TypeSA, 1, 1}, want{TypeKE, 1, 1}, want{TypeNonce, 1, 1}, want{TypeID, 1, 1},
			want{TypeHash, 0, 1}, want{TypeSignature, 0, 1}, anyCerts, anyVendorIDs, anyRequests, anyNotifies)},
		// RFC 2409 leaves it to the initiator whether the third message is
		// encrypted.
		{either, nil, proof, TypeNone, with(anyNATD, want{TypeHash, 0, 1}, want{TypeSignature, 0, 1}, anyCerts, anyRequests, anyVendorIDs, anyNotifies)},
	},
	QuickMode: {
		{encrypted, []PayloadType{TypeHash, TypeSA}, nil, TypeID, with(anyNATOA, want{TypeHash, 1, 1}, want{TypeSA, 1, 1}, want{TypeNonce, 1, 1}, want{TypeKE, 0, 1}, want{TypeID, 0, 2}, anyVendorIDs, anyNotifies)},
		{encrypted, []PayloadType{TypeHash, TypeSA}, nil, TypeID, with(anyNATOA, want{TypeHash, 1, 1}, want{TypeSA, 1, 1}, want{TypeNonce, 1, 1}, want{TypeKE, 0, 1}, want{TypeID, 0, 2}, anyVendorIDs, anyNotifies)},
		{encrypted, []PayloadType{TypeHash}, nil, TypeNone, []want{{TypeHash, 1, 1}, anyVendorIDs, anyNotifies}},
		// CONNECTED, which a peer that set the commit bit waits for or sends (RFC
		// 2408 section 3.1).
		{encrypted, []PayloadType{TypeHash}, nil, TypeNone, []want{{TypeHash, 1, 1}, {TypeNotify, 1, maxNotifies}, anyVendorIDs}},
	},
	Informational: {
		// In clear: notifies before there are keys. What they may do is decided
		// by the engine, which trusts them with nothing.
		{inClear, nil, nil, TypeNone, []want{{TypeNotify, 0, maxNotifies}, {TypeDelete, 0, maxDeletes}, {TypeHash, 0, 1}, anyVendorIDs}},
		{encrypted, []PayloadType{TypeHash}, nil, TypeNone, []want{{TypeHash, 1, 1}, {TypeNotify, 0, maxNotifies}, {TypeDelete, 0, maxDeletes}, anyVendorIDs}},
	},
	Transaction: {
		{encrypted, []PayloadType{TypeHash}, nil, TypeNone, []want{{TypeHash, 1, 1}, {TypeAttributes, 1, 1}, anyVendorIDs, anyNotifies}},
		{encrypted, []PayloadType{TypeHash}, nil, TypeNone, []want{{TypeHash, 1, 1}, {TypeAttributes, 1, 1}, anyVendorIDs, anyNotifies}},
	},
}

// Check compares a message with what its exchange allows, before any handler
// looks at it (style habit 8). step is the number of the message in the
// exchange, from 1: odd ones are sent by whoever began the exchange. In an
// informational exchange step is 1 for a message in clear and 2 for an encrypted
// one; InfoStep tells. enc says whether the message came encrypted.
//
// Payload types without a meaning to this package are ignored, wherever they
// stand behind the leading payloads; known ones that do not belong here are
// refused with INVALID-PAYLOAD-TYPE, missing and surplus ones with
// PAYLOAD-MALFORMED, the wrong encryption with INVALID-FLAGS, and an unknown
// exchange with UNSUPPORTED-EXCHANGE-TYPE.
func Check(ex ExchangeType, step int, ps []Payload, enc bool) error {
	steps, ok := rules[ex]
	if !ok {
		return &Error{Notify: UnsupportedExchangeType, Reason: ReasonHeader, Where: "header", Err: fmt.Errorf("exchange type %v", ex)}
	}
	if step < 1 || step > len(steps) {
		return refuse(InvalidExchangeType, ReasonPayload, ex, step, "there is no such message")
	}
	r := &steps[step-1]
	if r.cipher == inClear && enc || r.cipher == encrypted && !enc {
		return refuse(InvalidFlags, ReasonClear, ex, step, "encrypted is %v", enc)
	}
	for i, t := range r.first {
		if i >= len(ps) || ps[i].Type != t {
			return refuse(PayloadMalformed, ReasonPayload, ex, step, "payload %d is not %v", i+1, t)
		}
	}
	var count [256]uint8 // MaxPayloads fits
	if len(ps) > MaxPayloads {
		return tooMany(PayloadMalformed, "payloads", MaxPayloads)
	}
	for _, p := range ps {
		count[p.Type]++
	}
	var allowed [256]bool
	for _, w := range r.wants {
		allowed[w.typ] = true
		switch n := int(count[w.typ]); {
		case n < w.min:
			return refuse(PayloadMalformed, ReasonPayload, ex, step, "no %v", w.typ)
		case n > w.max:
			return refuse(PayloadMalformed, ReasonPayload, ex, step, "%d times %v, at most %d", n, w.typ, w.max)
		}
	}
	for _, p := range ps {
		if p.Type.known() && !allowed[p.Type] {
			return refuse(InvalidPayloadType, ReasonPayload, ex, step, "%v does not belong here", p.Type)
		}
	}
	if r.pair != TypeNone && count[r.pair] == 1 {
		return refuse(PayloadMalformed, ReasonPayload, ex, step, "one %v, want two or none", r.pair)
	}
	if len(r.oneOf) > 0 {
		n := 0
		for _, t := range r.oneOf {
			n += int(count[t])
		}
		if n != 1 {
			return refuse(PayloadMalformed, ReasonPayload, ex, step, "%d payloads of %v, want one", n, r.oneOf)
		}
	}
	return nil
}

// InfoStep is the step of an informational message for Check.
func InfoStep(enc bool) int {
	if enc {
		return 2
	}
	return 1
}

func refuse(n NotifyType, r Reason, ex ExchangeType, step int, format string, args ...any) error {
	return &Error{Notify: n, Reason: r, Where: fmt.Sprintf("%v message %d", ex, step), Err: fmt.Errorf(format, args...)}
}
