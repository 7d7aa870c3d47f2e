//go:build kernel

package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vrgate/controlplane/api"
	"vrgate/controlplane/keymat"
	"vrgate/pppd"
	"vrgate/test/loadgen"
	"vrgate/test/topo"
)

// Addresses of IPv6: of the server, of a LAC, and of the Internet between them.
var (
	server6       = netip.MustParseAddr("2001:db8:1::2")
	serverRouter6 = netip.MustParseAddr("2001:db8:1::1")
	lac6          = netip.MustParseAddr("2001:db8:2::2")
	lacRouter6    = netip.MustParseAddr("2001:db8:2::1")
)

// sixOutside gives the server and a LAC's machine addresses of IPv6 and routes between them.
func (w *world) sixOutside(lac *topo.Host) {
	w.t.Helper()
	both := func(ns *topo.Namespace, iface string, own, router netip.Addr) {
		w.t.Helper()
		w.check(ns.IP(w.ctx, fmt.Sprintf("addr add %v/64 dev %s nodad", own, iface)))
		if router.IsValid() {
			w.check(ns.IP(w.ctx, fmt.Sprintf("route add ::/0 via %v dev %s", router, iface)))
		}
	}
	w.check(w.Internet().Sysctl("net/ipv6/conf/all/forwarding", "1"))
	both(w.Internet(), "up0", serverRouter6, netip.Addr{})
	both(w.server, "wan0", server6, serverRouter6)
	both(w.Internet(), "site0", lacRouter6, netip.Addr{})
	both(lac.Namespace, lac.Interface, lac6, lacRouter6)
}

// TestCarriers is LACs of several providers, each with its own host profile: what they have negotiated with the client is
// used or not, AVPs are hidden, unknown ones refused or tolerated, tunnel 0 is understood, and IPv6 is outside.
func TestCarriers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	six, err := w.AddHost(w.ctx, nil)
	w.check(err)
	w.sixOutside(six)
	before := w.kernelState()
	w.runOne(vrConfig{
		More: []netip.Addr{server6},
		Hosts: []string{
			"{remote-host: believed, ipsec-required: false, proxy-authentication: true}",
			"{remote-host: asked, ipsec-required: false}",
			"{remote-host: anew, ipsec-required: false, proxy-lcp: false}",
			fmt.Sprintf("{remote-host: hidden, ipsec-required: false, tunnel-password: %q, hide-avps: true}", carrierSecret),
			"{remote-host: strict, ipsec-required: false}",
			"{remote-host: tolerated, ipsec-required: false, tolerate-unknown-avps: true}",
			"{remote-host: dir300, ipsec-required: false, tolerate-tunnel-id-zero: true}",
		},
		L2TP: `  - name: six
    lac-address: "::"
    host-profiles: [{remote-host: six, ipsec-required: false}]
idle-timeout: 2s`,
		PPP: "authentication: [mschapv2, chap, pap]", Users: carrierUsers(8), Extra: "aaa: {methods: [local]}",
	})
	t.Run("proxy", func(t *testing.T) { w.in(t).proxies() })
	t.Run("hidden", func(t *testing.T) { w.in(t).hidden() })
	t.Run("unknown AVP", func(t *testing.T) { w.in(t).unknownAVPs() })
	t.Run("tunnel 0", func(t *testing.T) { w.in(t).tunnelZero() })
	t.Run("IPv6", func(t *testing.T) { w.in(t).overSix(six) })
	w.check(w.daemon.Stop(w.ctx))
	if after := w.kernelState(); after != before {
		t.Errorf("left after the daemon ended:\n%s\nwas before:\n%s", after, before)
	}
}

// proxies has LACs lead LCP and authentication with the client. Where the client is asked again everything about LCP begins
// anew, so that the method that we like best is used, or the LAC's method is used once more.
func (w *world) proxies() {
	w.t.Helper()
	for _, c := range []struct {
		host   string
		auth   pppd.AuthProtocol
		shown  string
		method string
		asked  bool // by us
	}{
		{"believed", pppd.AuthCHAPMD5, "chap", "chap", false},
		{"believed", pppd.AuthPAP, "pap", "pap", false},
		{"asked", pppd.AuthCHAPMD5, "chap", "chap", true},
		{"anew", pppd.AuthPAP, "pap", "mschapv2", true},
	} {
		k := w.carrier(w.address, loadgen.Carrier{HostName: c.host, Auth: []pppd.AuthProtocol{c.auth}})
		k.connect(1, 1)
		k.pinged(1)
		k.while(func() {
			s, ok := w.of(lineUser(0))
			calls := w.sessions()
			if !ok || s.Authentication != c.method || len(calls) != 1 || !calls[0].ProxyLCP || calls[0].ProxyAuth != c.shown {
				w.t.Errorf("%+v: %+v, %+v", c, s, calls)
			}
			if n := k.Asked(0); n > 0 != c.asked {
				w.t.Errorf("%+v: the client has been asked %d times for its name by the server", c, n)
			}
		})
		k.gone(0)
	}
}

// gone has clients hang up and waits until we know nothing of any session.
func (l *lac) gone(clients ...int) {
	l.w.t.Helper()
	l.HangUp(clients...)
	l.while(func() { l.w.eventually("the sessions are gone", func() bool { return len(l.w.subscribers()) == 0 }) })
}

// hidden has a LAC that hides its AVPs, and some that do not know the secret.
func (w *world) hidden() {
	w.t.Helper()
	k := w.carrier(w.address, loadgen.Carrier{HostName: "hidden", Secret: keymat.Secret(carrierSecret), HideAVPs: true})
	k.connect(2, 2)
	k.pinged(2)
	k.while(func() {
		for _, s := range w.sessions() {
			if !strings.HasPrefix(s.CallingNumber, "49302") || s.CalledNumber != callInfo(0).CalledNumber || s.RxSpeed != callInfo(0).RxSpeed {
				w.t.Errorf("%+v", s)
			}
		}
	})
	k.gone(0, 1)

	// Either side finds out that the other has another secret.
	for _, secret := range []string{"another secret", ""} {
		wrong := w.carrier(w.address, loadgen.Carrier{HostName: "hidden", Secret: keymat.Secret(secret)})
		ctx, cancel := context.WithTimeout(w.ctx, patience)
		r, err := wrong.Connect(ctx, 1, 1)
		cancel()
		if w.check(err); r.Up > 0 || r.Failed["l2tp: tunnel-authentication"] != 1 {
			w.t.Errorf("a LAC with the secret %q: %d up, failed %v", secret, r.Up, r.Failed)
		}
	}
	x := w.wire(false)
	x.open("hidden")
	if challenge := x.receive(sccrp)[avpChallenge]; len(challenge) == 0 {
		w.t.Error("the LAC is not challenged")
	}
	x.send(0, scccn, avp(mandatory, 0, avpResponse, make([]byte, 16)))
	if result := x.receive(stopCCN)[avpResult]; len(result) < 2 || !slices.Equal(result[:2], []byte{0, 4}) {
		w.t.Errorf("a wrong response is refused with result % x", result)
	}
	if w.metric("tunnel-authentication") == 0 {
		w.t.Error("a wrong response is not counted")
	}
	// What is hidden by another secret cannot be read: there is nobody to answer.
	wrong := w.carrier(w.address, loadgen.Carrier{HostName: "hidden", Secret: keymat.Secret("another secret"), HideAVPs: true})
	ctx, cancel := context.WithTimeout(w.ctx, 3*time.Second)
	r, err := wrong.Connect(ctx, 1, 1)
	cancel()
	if err == nil || w.metric("malformed-message") == 0 {
		w.t.Errorf("a LAC that hides by another secret: %+v", r)
	}
}

// overSix has a LAC call over IPv6.
func (w *world) overSix(host *topo.Host) {
	w.t.Helper()
	k := w.carrierOn(host, server6, loadgen.Carrier{HostName: "six", Local: lac6})
	k.connect(4, 4)
	k.pinged(4)
	k.while(func() {
		tunnels, err := w.daemon.API().L2TPTunnels(w.ctx, api.Filter{})
		w.check(err)
		i := slices.IndexFunc(tunnels, func(t api.L2TPTunnel) bool { return t.Profile == "six" })
		if i < 0 || tunnels[i].Remote.Addr() != lac6 || tunnels[i].Local.Addr() != server6 || tunnels[i].Sessions.Active != 4 {
			w.t.Errorf("tunnels: %+v", tunnels)
		}
		for _, s := range w.subscribers() {
			if s.InPackets == 0 || s.Remote.Addr() != lac6 {
				w.t.Errorf("%+v", s)
			}
		}
	})
	k.gone(0, 1, 2, 3)
}

// wire is a LAC by hand: a socket at port 1701, and messages as RFC 2661 writes them.
type wire struct {
	w      *world
	conn   *net.UDPConn
	peer   uint16 // tunnel id of the server
	zero   bool   // sends to tunnel 0 whatever the server says
	ns, nr uint16
}

// Message types of RFC 2661 section 3.2, and attributes of section 4.4.
const (
	sccrq, sccrp, scccn, stopCCN        = 1, 2, 3, 4
	icrq, icrp, iccn                    = 10, 11, 12
	avpResult, avpVersion               = 1, 2
	avpFraming, avpHostName             = 3, 7
	avpTunnelID, avpWindow              = 9, 10
	avpSessionID, avpSerial             = 14, 15
	avpSpeed, avpFramingOfCall          = 24, 19
	avpChallenge, avpResponse           = 11, 13
	ownTunnel, ownSession               = 77, 78
	mandatory                    uint16 = 0x8000
)

func (w *world) wire(zero bool) *wire {
	w.t.Helper()
	host, err := w.AddHost(w.ctx, nil)
	w.check(err)
	x := &wire{w: w, zero: zero}
	w.check(host.Namespace.Do(func() (err error) {
		x.conn, err = net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host.Address, 1701)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(w.address, 1701)))
		return err
	}))
	w.t.Cleanup(func() { _ = x.conn.Close() })
	return x
}

func avp(bits, vendor, kind uint16, value []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, bits|uint16(6+len(value)))
	b = binary.BigEndian.AppendUint16(b, vendor)
	return append(binary.BigEndian.AppendUint16(b, kind), value...)
}

func number(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func wide(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// send sends a message; session is the server's.
func (x *wire) send(session, kind uint16, avps ...[]byte) {
	x.w.t.Helper()
	body := avp(mandatory, 0, 0, number(kind))
	for _, a := range avps {
		body = append(body, a...)
	}
	tunnel := x.peer
	if x.zero {
		tunnel = 0
	}
	var b []byte
	for _, n := range []uint16{0xc802, uint16(12 + len(body)), tunnel, session, x.ns, x.nr} {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	x.ns++
	_, err := x.conn.Write(append(b, body...))
	x.w.check(err)
}

// open sends an SCCRQ.
func (x *wire) open(host string, more ...[]byte) {
	x.w.t.Helper()
	x.send(0, sccrq, append([][]byte{
		avp(mandatory, 0, avpVersion, []byte{1, 0}), avp(mandatory, 0, avpFraming, wide(3)), avp(mandatory, 0, avpHostName, []byte(host)),
		avp(mandatory, 0, avpTunnelID, number(ownTunnel)), avp(mandatory, 0, avpWindow, number(4)),
	}, more...)...)
}

// receive returns the attributes of the next message of this kind, repetitions of others left out.
func (x *wire) receive(kind uint16) map[uint16][]byte {
	x.w.t.Helper()
	b := make([]byte, 2000)
	x.w.check(x.conn.SetReadDeadline(time.Now().Add(patience)))
	for {
		n, err := x.conn.Read(b)
		x.w.check(err)
		if n < 12 || b[0]&0x80 == 0 || n == 12 {
			continue
		}
		got := map[uint16][]byte{}
		for rest := b[12:n]; len(rest) >= 6; {
			size := int(binary.BigEndian.Uint16(rest) & 0x3ff)
			if size < 6 || size > len(rest) {
				x.w.t.Fatalf("malformed message % x", b[:n])
			}
			got[binary.BigEndian.Uint16(rest[4:])] = slices.Clone(rest[6:size])
			rest = rest[size:]
		}
		seen := binary.BigEndian.Uint16(got[0])
		x.nr = max(x.nr, binary.BigEndian.Uint16(b[8:])+1)
		if id := got[avpTunnelID]; len(id) == 2 {
			x.peer = binary.BigEndian.Uint16(id)
		}
		if seen == kind {
			return got
		}
		if seen == stopCCN {
			x.w.t.Fatalf("StopCCN % x instead of message %d", got[avpResult], kind)
		}
	}
}

// unknownAVPs: a message with something unknown that must be understood ends the tunnel with result 2, error 8 (RFC 2661
// section 4.1), unless the host profile has it tolerated. What need not be understood disturbs nobody.
func (w *world) unknownAVPs() {
	w.t.Helper()
	// Cisco's number, and an attribute that it never had.
	must, may := avp(mandatory, 9, 250, []byte("?")), avp(0, 9, 250, []byte("?"))
	x := w.wire(false)
	x.open("strict", must)
	if result := x.receive(stopCCN)[avpResult]; len(result) < 4 || !slices.Equal(result[:4], []byte{0, 2, 0, 8}) {
		w.t.Errorf("refused with result % x", result)
	}
	for host, unknown := range map[string][]byte{"strict": may, "tolerated": must} {
		x := w.wire(false)
		x.open(host, unknown)
		x.receive(sccrp)
		x.send(0, scccn)
		x.call()
		w.established(host)
		x.send(0, stopCCN, avp(mandatory, 0, avpTunnelID, number(ownTunnel)), avp(mandatory, 0, avpResult, []byte{0, 1}))
	}
}

// call places a call up to its ICCN.
func (x *wire) call() {
	x.w.t.Helper()
	x.send(0, icrq, avp(mandatory, 0, avpSessionID, number(ownSession)), avp(mandatory, 0, avpSerial, wide(1)))
	id := x.receive(icrp)[avpSessionID]
	if len(id) != 2 {
		x.w.t.Fatalf("ICRP with session id % x", id)
	}
	x.send(binary.BigEndian.Uint16(id), iccn, avp(mandatory, 0, avpSpeed, wide(1_000_000)), avp(mandatory, 0, avpFramingOfCall, wide(1)))
}

// established waits for the call of a LAC with this name.
func (w *world) established(host string) {
	w.t.Helper()
	w.eventually("the call of "+host+" is up", func() bool {
		return slices.ContainsFunc(w.sessions(), func(s api.L2TPSession) bool { return s.RemoteHost == host })
	})
}

// tunnelZero: D-Link's DIR-300 sends all its messages to tunnel 0, and gets a call where the profile allows that.
func (w *world) tunnelZero() {
	w.t.Helper()
	x := w.wire(true)
	x.open("dir300")
	x.receive(sccrp)
	x.send(0, scccn)
	x.call()
	w.established("dir300")
	x.send(0, stopCCN, avp(mandatory, 0, avpTunnelID, number(ownTunnel)), avp(mandatory, 0, avpResult, []byte{0, 1}))
	w.eventually("the call is over", func() bool { return len(w.sessions()) == 0 })

	// Another one is not understood: its SCCRP is repeated, and no call comes up.
	x = w.wire(true)
	x.open("strict")
	x.receive(sccrp)
	x.send(0, scccn)
	x.send(0, icrq, avp(mandatory, 0, avpSessionID, number(ownSession)), avp(mandatory, 0, avpSerial, wide(1)))
	b := make([]byte, 2000)
	w.check(x.conn.SetReadDeadline(time.Now().Add(2 * time.Second)))
	for {
		n, err := x.conn.Read(b)
		if err != nil {
			break
		}
		if n > 20 && b[19] == icrp {
			w.t.Error("a call to tunnel 0 is taken from a LAC that is no DIR-300")
		}
	}
}
