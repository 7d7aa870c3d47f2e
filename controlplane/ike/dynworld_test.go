package ike

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"vrgate/controlplane/isakmp"
	"vrgate/controlplane/keymat"
)

// decider stands for everything above the engine: it asks users, checks their
// passwords and leases addresses, each after a while.
type decider struct {
	passwords map[string]string
	lease     Lease
	next      netip.Addr
	took      time.Duration
	asks      int // questions before the verdict, default 1
	ask       AskUser
	silent    bool // never says anything
	noUser    bool // admits at once (XAuthNone)

	ups     []DynamicUp
	answers []UserAnswered
	rounds  map[ConnID]int
	lent    map[ConnID]netip.Addr
}

func newDecider() *decider {
	return &decider{passwords: map[string]string{"joe": "secret of joe"}, next: netip.MustParseAddr("10.9.0.1"), took: 20 * time.Millisecond,
		asks: 1, rounds: map[ConnID]int{}, lent: map[ConnID]netip.Addr{},
		lease: Lease{DNS: []netip.Addr{netip.MustParseAddr("10.0.0.53")}}}
}

// up answers DynamicUp.
func (d *decider) up(n *node, f DynamicUp) {
	d.ups = append(d.ups, f)
	if d.silent {
		return
	}
	d.rounds[f.Conn.ID] = 0
	n.w.after(d.took, func() {
		if d.noUser {
			d.admit(n, f.Conn.ID)
			return
		}
		a := d.ask
		a.Conn = f.Conn.ID
		n.step(a)
	})
}

// answered decides about a user.
func (d *decider) answered(n *node, f UserAnswered) {
	d.answers = append(d.answers, f)
	if d.silent {
		return
	}
	n.w.after(d.took, func() {
		id := f.Conn
		d.rounds[id]++
		want, known := d.passwords[f.Answer.User]
		switch {
		case f.Refused:
			n.step(Deny{Conn: id, Reason: "user-refused"})
		case d.rounds[id] < d.asks:
			n.step(AskUser{Conn: id, Message: "once more"})
		case !known || f.Answer.Response == nil && string(f.Answer.Password.Reveal()) != want,
			f.Answer.Response != nil && string(chapPassword(f.Answer.CHAPID, keymat.Secret(want), f.Answer.Challenge).Reveal()[1:]) != string(f.Answer.Response):
			n.step(Deny{Conn: id, Reason: "bad-password", Text: "wrong password"})
		default:
			d.admit(n, id)
		}
	})
}

func (d *decider) admit(n *node, id ConnID) {
	a, ok := d.lent[id]
	if !ok {
		a = d.next
		d.next = d.next.Next()
		d.lent[id] = a
	}
	l := d.lease
	l.Address = a
	n.step(Admit{Conn: id, Lease: l})
}

// xauthKey is the key of a group of dynamic subscribers.
var xauthKey = PresharedKey{Name: "staff", Key: keymat.Secret("the secret of the staff"), Tunnel: "staff"}

// staff is a tunnel profile for everybody at 192.0.2.1.
func staff(esp []ESPProposal) TunnelProfile {
	return TunnelProfile{Name: "staff", Local: netip.MustParseAddr("192.0.2.1"), ESP: esp, Lifetime: time.Hour}
}

// dynConfig is the configuration of both sides.
func dynConfig(t testing.TB) Config {
	cfg := testConfig(t, ProfileCompatible, xauthKey)
	esp := cfg.Transports[0].ESP
	cfg.Transports = nil
	cfg.Tunnels = []TunnelProfile{staff(esp)}
	return cfg
}

// dynPair is a server at 192.0.2.1 and a client.
func dynPair(t testing.TB) (w *world, client, server *node) {
	w = newWorld(t)
	server = w.add("server", "192.0.2.1", dynConfig(t))
	server.decide = newDecider()
	client = w.add("client", "198.51.100.7", dynConfig(t))
	client.e.cfg.Tunnels[0].Local = netip.Addr{}
	return w, client, server
}

// subscribe opens a connection as dynamic subscriber.
func (n *node) subscribe(change ...func(*Initiate)) {
	ev := Initiate{Ref: 1, Local: netip.AddrPortFrom(n.addr, ikePort), Remote: netip.MustParseAddrPort("192.0.2.1:500"), Profile: "staff",
		Key: "staff", Method: AuthXAuthPSK, User: "joe", Password: keymat.Secret("secret of joe"), Tunnel: true,
		Request: []uint16{isakmp.ConfigIP4Address, isakmp.ConfigIP4Netmask, isakmp.ConfigIP4DNS, isakmp.UnitySplitInclude}}
	for _, c := range change {
		c(&ev)
	}
	n.step(ev)
}

// restart replaces the engine by one that takes its snapshot over.
func (n *node) restart(t testing.TB) {
	t.Helper()
	b, err := n.e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	n.e = New(n.e.cfg, rand.Reader)
	fs, err := n.e.Restore(n.w.now, b)
	if err != nil {
		t.Fatal(err)
	}
	n.perform(fs)
	n.alarm()
}

// dynCrowd makes n clients of one server, every third behind a NAT of its own.
func dynCrowd(t *testing.T, n int) (*world, *node, []*node) {
	w := newWorld(t)
	server := w.add("server", "192.0.2.1", dynConfig(t))
	server.decide, server.e.cfg.Retransmit = newDecider(), eager
	var clients []*node
	for i := range n {
		addr := netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)}).String()
		c := w.add(fmt.Sprint("client ", i), addr, dynConfig(t))
		c.e.cfg.Tunnels[0].Local = netip.Addr{}
		c.e.cfg.Retransmit = eager
		if i%3 == 0 {
			w.nat(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}).String(), i%2 == 0, c)
		}
		clients = append(clients, c)
	}
	return w, server, clients
}

// tunnelSAs are the SAs of a node's kernel in one direction, by their networks.
func (n *node) tunnelSAs(dir Direction) []string {
	var out []string
	for _, sa := range n.kernel {
		if sa.Dir == dir && sa.Tunnel {
			out = append(out, fmt.Sprintf("%v<-%v", sa.LocalNet, sa.RemoteNet))
		}
	}
	slices.Sort(out)
	return out
}
