// Package isakmp is the wire format of IKEv1: RFC 2408 (ISAKMP), RFC 2409
// (IKE), RFC 2407 (IPsec DOI), RFC 3706 (dead peer detection), RFC 3947 and the
// NAT traversal drafts before it, draft-dukes-ike-mode-cfg-02 and
// draft-beaulieu-ike-xauth-02, and the fragments of Microsoft and Cisco.
//
// It is pure and imports nothing of vrgate. A message is parsed in two steps:
//
//   - [Parse] (or [ParseHeader], and [ParsePayloads] on a decrypted body) cuts
//     it into a chain of [Payload] values, each with the exact bytes of its
//     body, because IKE authenticates bytes and not meanings (SAi_b, IDii_b);
//   - a method such as [Payload.SA] or [Payload.Notify] decodes one body.
//
// Encoding goes the same way back: SA.Payload, then [Message.Append] or
// [AppendPayloads]. Whatever was parsed appends to the bytes it came from,
// except for padding behind the chain, since fields that must be zero are
// checked to be zero.
//
// Parsed values alias the input. Every count and length that a peer controls
// has a named limit (MaxPayloads, MaxTransforms …). All decoders return errors
// of type *[Error], which knows the notify to answer with.
//
// Before any handler runs, [Check] compares the payloads of a message with the
// table of what its exchange allows at that step.
package isakmp
