package xfrm

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"vrgate/vr/nlattr"
)

// goodPolicy is valid.
func goodPolicy(dir PolicyDirection) Policy {
	return Policy{
		Dir: dir, Mode: Tunnel, Src: netip.MustParsePrefix("10.9.0.1/32"), Dst: netip.MustParsePrefix("0.0.0.0/0"), IfID: 0x56000001, Reqid: Tag(7),
		Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddr("198.51.100.1"),
	}
}

func TestValidatePolicy(t *testing.T) {
	if p := goodPolicy(PolicyOut); p.Validate() != nil {
		t.Fatal(p.Validate())
	}
	for name, change := range map[string]func(*Policy){
		"direction":           func(p *Policy) { p.Dir = 3 },
		"no source":           func(p *Policy) { p.Src = netip.Prefix{} },
		"no destination":      func(p *Policy) { p.Dst = netip.Prefix{} },
		"mixed families":      func(p *Policy) { p.Dst = netip.MustParsePrefix("::/0") },
		"host bits":           func(p *Policy) { p.Src = netip.MustParsePrefix("10.9.0.1/24") },
		"interface and mode":  func(p *Policy) { p.Mode = Transport },
		"mode":                func(p *Policy) { p.Mode = 2 },
		"ports of nothing":    func(p *Policy) { p.DstPort = 80 },
		"any SA, sending":     func(p *Policy) { p.Reqid, p.Remote = 0, netip.Addr{} },
		"any SA of a peer":    func(p *Policy) { p.Dir, p.Reqid = PolicyIn, 0 },
		"idle with a peer":    func(p *Policy) { p.Reqid = Idle(1) },
		"idle, receiving":     func(p *Policy) { p.Dir, p.Reqid, p.Remote = PolicyIn, Idle(1), netip.Addr{} },
		"idle, no address":    func(p *Policy) { p.Reqid, p.Local, p.Remote = Idle(1), netip.Addr{}, netip.Addr{} },
		"foreign reqid":       func(p *Policy) { p.Reqid = 7 },
		"no connection":       func(p *Policy) { p.Reqid = 0x11000000 },
		"no outer address":    func(p *Policy) { p.Remote = netip.Addr{} },
		"mixed outer":         func(p *Policy) { p.Remote = netip.MustParseAddr("2001:db8::1") },
		"unspecified outer":   func(p *Policy) { p.Local = netip.IPv4Unspecified() },
		"IPv4 mapped to IPv6": func(p *Policy) { p.Local, p.Remote = netip.MustParseAddr("::ffff:1.2.3.4"), netip.MustParseAddr("::1") },
	} {
		p := goodPolicy(PolicyOut)
		change(&p)
		if err := p.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

// staticPolicies are all kinds that static tunnels have.
func staticPolicies() []Policy {
	var out []Policy
	for _, dir := range []PolicyDirection{PolicyIn, PolicyOut, PolicyForward} {
		p := goodPolicy(dir)
		p.Src, p.Dst = netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.0.0/16")
		p.Remote, p.Reqid = netip.Addr{}, 0
		if dir == PolicyOut {
			p.Reqid = Idle(3)
		}
		out = append(out, p)
		p.IfID = 0
		p.Proto, p.SrcPort, p.DstPort = 6, 80, 8080
		out = append(out, p)
		p.Src, p.Dst = netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("198.51.100.1/32")
		p.Proto, p.SrcPort, p.DstPort, p.Mode = 47, 0, 0, Transport
		out = append(out, p)
	}
	return out
}

// TestPolicyRoundTrip: what is written is read again, and known as ours; the peer's address is written where it counts.
func TestPolicyRoundTrip(t *testing.T) {
	all := staticPolicies()
	for _, dir := range []PolicyDirection{PolicyIn, PolicyOut, PolicyForward} {
		all = append(all, goodPolicy(dir))
	}
	for _, want := range all {
		if err := want.Validate(); err != nil {
			t.Errorf("%v: %v", want, err)
		}
		b := encodePolicy(&want)
		if len(b) > policyMessageLength || cap(b) != policyMessageLength {
			t.Errorf("%v: %d bytes of %d", want, len(b), cap(b))
		}
		got, err := parsePolicy(b)
		if want.Dir != PolicyOut {
			want.Remote = netip.Addr{}
		}
		if err != nil || !got.ours || got.Policy != want || got.Slot() != want.Slot() {
			t.Errorf("%v: %+v, %v, want %+v", want.Dir, got, err, want)
		}
	}
}

// TestPolicyOrder: whatever is for a part of another policy's packets goes before it.
func TestPolicyOrder(t *testing.T) {
	policy := func(src, dst string, proto uint8, srcPort, dstPort uint16) Policy {
		p := goodPolicy(PolicyOut)
		p.Src, p.Dst, p.Proto, p.SrcPort, p.DstPort = netip.MustParsePrefix(src), netip.MustParsePrefix(dst), proto, srcPort, dstPort
		return p
	}
	order := []Policy{
		policy("10.1.0.1/32", "10.2.0.1/32", 6, 80, 81), policy("10.1.0.1/32", "10.2.0.1/32", 6, 0, 81), policy("10.1.0.1/32", "10.2.0.1/32", 6, 0, 0),
		policy("10.1.0.1/32", "10.2.0.1/32", 0, 0, 0), policy("10.1.0.1/32", "10.2.0.0/31", 6, 80, 81), policy("10.1.0.0/16", "10.2.0.0/16", 0, 0, 0),
		policy("10.1.0.0/16", "10.0.0.0/8", 17, 1, 1), policy("0.0.0.0/0", "10.0.0.0/8", 0, 0, 0), policy("0.0.0.0/0", "0.0.0.0/0", 0, 0, 0),
	}
	for i := range order[1:] {
		if a, b := order[i].priority(), order[i+1].priority(); a >= b || !Ours(a) || !Ours(b) {
			t.Errorf("%v has priority %#x and %v has %#x", order[i], a, order[i+1], b)
		}
	}
	widest := policy("::/0", "::/0", 0, 0, 0)
	if p := widest.priority(); !Ours(p) {
		t.Errorf("the widest has priority %#x", p)
	}
}

// TestPolicyOfOthers: neither a policy without reqid nor one of our priority alone is ours (A8).
func TestPolicyOfOthers(t *testing.T) {
	change := func(at int, v uint32) []byte {
		p := staticPolicies()[0]
		b := encodePolicy(&p)
		native.PutUint32(b[at:], v)
		return b
	}
	const template = sizePolicyInfo + unix.SizeofNlAttr
	for name, b := range map[string][]byte{
		"priority": change(offPolicyPriority, 1000), "reqid": change(template+offTemplateReqid, 42), "protocol": change(template+offTemplateProto, unix.IPPROTO_AH),
	} {
		if p, err := parsePolicy(b); err != nil || p.ours {
			t.Errorf("another %s: %+v, %v", name, p, err)
		}
	}
}

func TestIdle(t *testing.T) {
	for n, want := range map[uint32]uint32{0: 0, 1: 0x14000001, 0xffffff: 0x14ffffff, 0x1000000: 0} {
		if got := Idle(n); got != want || IsIdle(got) != (want != 0) || Ours(got) {
			t.Errorf("Idle(%#x) = %#x, want %#x", n, got, want)
		}
	}
	if IsIdle(0x14000000) || IsIdle(Tag(1)) {
		t.Error("IsIdle is wrong")
	}
}

// acquireMessage is what the kernel sends about a policy (struct xfrm_user_acquire and the policy's attributes).
func acquireMessage(p *Policy, packet Selector) []byte {
	b := make([]byte, sizeAcquire)
	putSelector(b[offAcquireSelector:], packet)
	policy := encodePolicy(p)
	copy(b[offAcquirePolicy:], policy[:sizePolicyInfo])
	return append(b, policy[sizePolicyInfo:]...)
}

func TestParseAcquire(t *testing.T) {
	packet := Selector{
		Proto: 6, Src: netip.MustParsePrefix("10.1.0.5/32"), Dst: netip.MustParsePrefix("10.2.0.7/32"), SrcPort: 4000, DstPort: 80,
	}
	for _, p := range staticPolicies() {
		a, ours, err := parseAcquire(acquireMessage(&p, packet))
		if want := (Acquire{p, packet}); err != nil || ours != (p.Dir == PolicyOut) || ours && a != want {
			t.Errorf("%v: %+v, %t, %v", p, a, ours, err)
		}
	}
	carried := goodPolicy(PolicyOut)
	if _, ours, err := parseAcquire(acquireMessage(&carried, packet)); ours || err != nil {
		t.Errorf("a policy with a connection: %t, %v", ours, err)
	}
	if _, _, err := parseAcquire(make([]byte, sizeAcquire-1)); !errors.Is(err, nlattr.ErrMalformed) {
		t.Errorf("short: %v", err)
	}
}

func FuzzParseAcquire(f *testing.F) {
	for _, p := range staticPolicies() {
		f.Add(acquireMessage(&p, p.selector()))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ours, err := parseAcquire(b)
		if !ours || err != nil {
			if a != (Acquire{}) {
				t.Fatalf("%+v of what is not ours", a)
			}
			return
		}
		if !IsIdle(a.Policy.Reqid) || a.Policy.Dir != PolicyOut || a.Policy.Remote.IsValid() {
			t.Fatalf("%+v", a)
		}
		if a.Policy.Validate() != nil {
			return
		}
		again, ours, err := parseAcquire(acquireMessage(&a.Policy, Selector{}))
		if !ours || err != nil || again.Policy != a.Policy {
			t.Fatalf("%+v written and read is %+v, %t, %v", a, again, ours, err)
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	b := make([]byte, sizePolicyInfo)
	tmpl := make([]byte, sizeTemplate)
	native.PutUint32(tmpl[offTemplateReqid:], Tag(1))
	f.Add(nlattr.Append(b, attrTemplate, tmpl))
	for _, dir := range []PolicyDirection{PolicyIn, PolicyOut, PolicyForward} {
		p := goodPolicy(dir)
		f.Add(encodePolicy(&p))
	}
	for _, p := range staticPolicies() {
		f.Add(encodePolicy(&p))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePolicy(b)
		if err == nil && p.Policy.Validate() == nil { // only sending ones have a peer's address
			if back, err := parsePolicy(encodePolicy(&p.Policy)); err != nil || back.Policy != p.Policy {
				t.Fatalf("%+v written and read is %+v, %v", p.Policy, back.Policy, err)
			}
		}
		if err == nil && (len(p.wire) != sizeSelector || !bytes.Equal(p.wire, b[:sizeSelector])) {
			t.Fatalf("%+v", p)
		}
		if err == nil && p.ours && len(b) < sizePolicyInfo+unix.SizeofNlAttr+sizeTemplate {
			t.Fatal("ours without a template")
		}
	})
}
