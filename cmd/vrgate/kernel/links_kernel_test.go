//go:build kernel

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"vrgate/controlplane"
	"vrgate/controlplane/config"
	"vrgate/controlplane/subscriber"
	"vrgate/vr"
)

// linkNews keeps what a data plane tells of its links.
type linkNews struct {
	nobody
	mu   sync.Mutex
	told []string
}

func (n *linkNews) LinkChanged(s controlplane.LinkState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.told = append(n.told, strings.TrimSpace(fmt.Sprintf("%s %s %s", s.Name, s.Status, s.Reason)))
}

// await waits until the last news of a link are these.
func (n *linkNews) await(t *testing.T, within time.Duration, want string) {
	t.Helper()
	link, _, _ := strings.Cut(want, " ")
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		last := ""
		n.mu.Lock()
		for _, s := range n.told {
			if strings.HasPrefix(s, link+" ") {
				last = s
			}
		}
		n.mu.Unlock()
		if last == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the last of %s is %q, want %q", link, last, want)
		}
	}
}

// TestLinks: links of two virtual routers come when they can, wherever they are placed; a reload changes them while the routers run; all goes at the end.
func TestLinks(t *testing.T) {
	const slow = 6 * linkPause // under emulation
	device := fmt.Sprintf("lnk%d", os.Getpid())
	blue := device + "b"
	for _, name := range []string{device + "r", device + "h"} {
		run(t, "ip", "netns", "add", name)
		t.Cleanup(func() { run(t, "ip", "netns", "del", name) })
	}
	plug := func() {
		t.Helper()
		run(t, "ip", "link", "add", device, "type", "veth", "peer", "name", "lan", "netns", device+"h")
		batch(t, device+"h", "link set lan up\naddr add 10.1.0.2/24 dev lan\nroute replace 10.2.0.0/16 via 10.1.0.1\n")
	}
	unplug := func() { t.Helper(); batch(t, device+"h", "link del lan\n") }

	p := netip.MustParsePrefix
	redConfig := &config.Router{
		Name: "red", Namespace: config.Namespace{Name: device + "r"}, VRF: config.VRF{Device: "vrfr", Table: 77, Create: true}, Kind: config.KindVRF,
		Links: []config.Link{
			{Name: "lan", Kind: config.LinkInterface, Interface: config.InterfaceLink{Device: device}, Addresses: []netip.Prefix{p("10.1.0.1/24")}, Up: true},
			{
				Name: "to-blue", Kind: config.LinkVeth, Veth: config.VethLink{Router: "blue", Name: "to-red"}, Addresses: []netip.Prefix{p("10.2.0.1/24")}, Up: true,
			},
		},
	}
	blueConfig := &config.Router{
		Name: "blue", Namespace: config.Namespace{Name: blue, Create: true}, Kind: config.KindNamespace,
		Links: []config.Link{{
			Name: "to-red", Kind: config.LinkVeth, Far: true, Veth: config.VethLink{Router: "red", Name: "to-blue"}, Addresses: []netip.Prefix{p("10.2.0.2/24")}, Up: true,
			Routes: []config.LinkRoute{{Network: p("10.1.0.0/24"), Via: netip.MustParseAddr("10.2.0.1")}},
		}},
	}
	cfg := &config.Config{Routers: []*config.Router{blueConfig, redConfig}}

	// A server address on a link that is missing: the error says which link.
	k := New()
	bad := *redConfig
	bad.ServerAddresses = []netip.Addr{netip.MustParseAddr("10.1.0.1")}
	_, err := k.Open(&config.Config{Routers: []*config.Router{&bad, blueConfig}}, &bad, nobody{})
	var typed *controlplane.DataplaneError
	if !errors.As(err, &typed) || typed.Reason != subscriber.Reason(vr.LinkNoInterface) || !strings.Contains(typed.Error(), device) {
		t.Fatalf("server address on a link that is missing: %v", err)
	}

	news, blueNews := &linkNews{}, &linkNews{}
	open := func(c *config.Router, in controlplane.Inlet) controlplane.Dataplane {
		t.Helper()
		d, err := k.Open(cfg, c, in)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	a := open(redConfig, news)
	news.await(t, slow, "lan missing no-interface")
	news.await(t, slow, "to-blue missing no-other-router")
	b := open(blueConfig, blueNews)
	news.await(t, slow, "to-blue up")
	blueNews.await(t, slow, "to-red up")
	plug()
	news.await(t, slow, "lan up")
	// From a host behind one router's link to the other router.
	run(t, "ip", "netns", "exec", device+"h", "ping", "-n", "-q", "-c", "2", "-i", "0.05", "-W", "3", "10.2.0.2")

	// Reconfigured: one more, one less.
	extra := config.Link{Name: "extra", Kind: config.LinkVLAN, VLAN: config.VLANLink{Parent: "lan", Inside: true, ID: 9}, Up: true}
	next := *redConfig
	next.Links = append([]config.Link{extra}, redConfig.Links...)
	if ok, err := a.Reconfigure(&config.Config{Routers: []*config.Router{blueConfig, &next}}, &next); !ok || err != nil {
		t.Fatalf("reconfigure: %t, %v", ok, err)
	}
	news.await(t, slow, "extra up")
	if ok, err := a.Reconfigure(cfg, redConfig); !ok || err != nil {
		t.Fatalf("reconfigure back: %t, %v", ok, err)
	}
	if out := run(t, "ip", "-n", device+"r", "-o", "link"); strings.Contains(out, "extra") {
		t.Errorf("left: %s", out)
	}
	states, err := a.Links()
	if err != nil || len(states) != 2 || states[0].Status != controlplane.LinkUp || states[0].Traffic.InPackets == 0 || states[0].Index == 0 || states[1].Name != "to-blue" {
		t.Errorf("links %+v, %v", states, err)
	}

	// The other router goes, with its namespace, and comes back; the cable too.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/run/netns/" + blue); !os.IsNotExist(err) {
		t.Errorf("its namespace is there: %v", err)
	}
	news.await(t, slow, "to-blue missing no-other-router")
	unplug()
	news.await(t, slow, "lan missing no-interface")
	plug()
	b = open(blueConfig, blueNews)
	news.await(t, slow, "lan up")
	news.await(t, slow, "to-blue up")
	blueNews.await(t, slow, "to-red up")
	run(t, "ip", "netns", "exec", device+"h", "ping", "-n", "-q", "-c", "2", "-i", "0.05", "-W", "3", "10.2.0.2")

	// Somebody removes addresses: Repair.
	batch(t, device+"r", "addr flush dev lan\nlink set to-blue down\n")
	if err := a.Repair(); err != nil {
		t.Fatal(err)
	}
	run(t, "ip", "netns", "exec", device+"h", "ping", "-n", "-q", "-c", "2", "-i", "0.05", "-W", "3", "10.2.0.2")
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "ip", "-n", device+"r", "-o", "link"); strings.Contains(out, " lan") || strings.Contains(out, "to-blue") || strings.Contains(out, "vrfr") {
		t.Errorf("left: %s", out)
	}
	if out := run(t, "ip", "-o", "link", "show", device); !strings.Contains(out, device) || strings.Contains(out, "vrgate") {
		t.Errorf("not given back: %s", out)
	}
	unplug()
}
