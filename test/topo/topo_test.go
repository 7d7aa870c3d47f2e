package topo

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSession(t *testing.T) {
	const log = `using channel 1
Using interface ppp0
Connect: ppp0 <--> 
CHAP authentication succeeded
rcvd [IPCP ConfAck id=0x2 <addr 10.9.0.10> <ms-dns1 10.1.0.53> <ms-dns2 10.1.0.54>]
local  IP address 10.9.0.10
remote IP address 10.9.0.1
primary   DNS address 10.1.0.53
secondary DNS address 10.1.0.54
`
	want := Session{
		Interface: "ppp0", Local: netip.MustParseAddr("10.9.0.10"), Remote: netip.MustParseAddr("10.9.0.1"),
		DNS: []netip.Addr{netip.MustParseAddr("10.1.0.53"), netip.MustParseAddr("10.1.0.54")},
	}
	got, ok := parseSession(log)
	if !ok {
		t.Fatal("no session found")
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Error(d)
	}
	for _, line := range []string{"remote IP", "primary ", "secondary "} {
		before, _, cut := strings.Cut(log, line)
		if _, ok := parseSession(before); ok || !cut {
			t.Errorf("session found before %q", line)
		}
	}
}

func TestConnectFailure(t *testing.T) {
	for _, c := range []struct{ l2tp, ppp, want string }{
		{"xl2tpd[7]: Connecting to host 192.0.2.2, port 1701\n", "", ""},
		{"xl2tpd[7]: Maximum retries exceeded for tunnel 7.  Closing.\n", "", "xl2tpd[7]: Maximum retries exceeded for tunnel 7.  Closing."},
		{
			"xl2tpd[7]: child_handler : pppd exited for call 2 with code 19\n", "Using interface ppp0\nCHAP authentication failed\n",
			"CHAP authentication failed (xl2tpd[7]: child_handler : pppd exited for call 2 with code 19)",
		},
	} {
		got := ""
		if err := connectFailure(c.l2tp, c.ppp); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("connectFailure(%q, %q) = %q, want %q", c.l2tp, c.ppp, got, c.want)
		}
	}
}

func TestParsePing(t *testing.T) {
	const log = `PING 10.1.0.2 (10.1.0.2) 56(84) bytes of data.
64 bytes from 10.1.0.2: icmp_seq=1 ttl=63 time=1.20 ms
64 bytes from 10.1.0.2: icmp_seq=3 ttl=63 time=1.20 ms

--- 10.1.0.2 ping statistics ---
5 packets transmitted, 2 received, 60% packet loss, time 805ms
`
	for _, c := range []struct{ count, grace, sent, lost int }{
		{0, 0, 5, 3}, // a finished ping: all that were sent count
		{0, 1, 4, 2},
		{0, 6, 3, 1}, // never more than those after the last answer
		{3, 0, 5, 3}, // it was ended by its deadline
		{2, 0, 3, 1}, // two answers were wanted: the last two packets went out before the second came
	} {
		r, err := parsePing(log, c.count, c.grace)
		if err != nil {
			t.Fatal(err)
		}
		if r.Sent != c.sent || r.Lost() != c.lost || r.Late != 5-c.sent {
			t.Errorf("count %d, grace %d: sent %d, lost %d, late %d; want %d, %d", c.count, c.grace, r.Sent, r.Lost(), r.Late, c.sent, c.lost)
		}
	}
	if _, err := parsePing("ping: connect: Network is unreachable\n", 0, 0); err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("error %v, want ping's own words", err)
	}
}

// A kernel without modules, or a process without privileges, must be told from a bug.
func TestProbeErrors(t *testing.T) {
	err := Probe()
	if err == nil {
		return
	}
	var missing *MissingError
	if errors.As(err, &missing) {
		if !errors.Is(err, ErrNotSupported) || missing.Module == "" {
			t.Errorf("%v: not ErrNotSupported with a module", err)
		}
		return
	}
	if !strings.Contains(err.Error(), "operation not permitted") && !strings.Contains(err.Error(), "permission denied") {
		t.Error(err)
	}
}

func TestParseAssigned(t *testing.T) {
	sas := [][]viciPair{{{"uniqueid", "1"}, {"local-vips", "10.9.0.10"}, {"state", "ESTABLISHED"}}}
	const resolv = "nameserver 10.1.0.53   # by strongSwan\nnameserver 10.1.0.54   # by strongSwan\n"
	got, ok := parseAssigned(sas, resolv)
	want := Assigned{Address: netip.MustParseAddr("10.9.0.10"), DNS: []netip.Addr{netip.MustParseAddr("10.1.0.53"), netip.MustParseAddr("10.1.0.54")}}
	if !ok || got.Address != want.Address || !slices.Equal(got.DNS, want.DNS) {
		t.Errorf("%v %v, want %v", got, ok, want)
	}
	if _, ok := parseAssigned([][]viciPair{{{"uniqueid", "1"}}}, resolv); ok {
		t.Error("an address found where there is none")
	}
}

// What charon 5.9.8 sends: a section with a key, and in it a list.
func TestVICI(t *testing.T) {
	message := "\x01\x03vpn\x03\x08uniqueid\x00\x011\x04\x0alocal-vips\x05\x00\x0910.9.0.10\x06\x02"
	want := []viciPair{{viciBegins, "vpn"}, {"uniqueid", "1"}, {"local-vips", "10.9.0.10"}}
	if got, err := viciParse([]byte(message)); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for i := range message {
		if got, err := viciParse([]byte(message[:i])); err == nil && len(got) > len(want) {
			t.Errorf("cut at %d: %q", i, got)
		}
	}
	if _, err := viciParse([]byte(message[:10])); err == nil {
		t.Error("a message that is cut in a key is taken")
	}
	var b bytes.Buffer
	if err := viciWrite(&b, viciRequest, "initiate", viciMessage("\x03\x05child\x00\x04l2tp")); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "\x00\x00\x00\x17\x00\x08initiate\x03\x05child\x00\x04l2tp"; got != want {
		t.Errorf("request %q, want %q", got, want)
	}
	kind, body, err := viciRead(&b)
	if err != nil || kind != viciRequest || string(body[:9]) != "\x08initiate" {
		t.Errorf("read %d %q %v", kind, body, err)
	}
}

func TestParseEnvironment(t *testing.T) {
	got := parseEnvironment("TUNDEV=vpn0\nINTERNAL_IP4_ADDRESS=10.9.0.10\nINTERNAL_IP4_DNS=10.1.0.53 10.1.0.54\nreason=connect\n")
	dns := []netip.Addr{netip.MustParseAddr("10.1.0.53"), netip.MustParseAddr("10.1.0.54")}
	if got.Address != netip.MustParseAddr("10.9.0.10") || !slices.Equal(got.DNS, dns) {
		t.Errorf("%+v", got)
	}
}

func TestSwanctlSettings(t *testing.T) {
	got := settings(connection{
		IKEConfig: IKEConfig{IKE: []string{"aes128-sha1-modp2048"}, ESPLifetime: 100e9, Connection: []string{"encap = yes"}},
		to:        "192.0.2.2", local: []round{{auth: "psk", id: "user@example.com"}}, remote: []round{{auth: "psk", id: "%any"}},
		secrets: []secret{{kind: "ike", text: `a"b`}}, children: []child{{name: childName, localTS: "dynamic[17/1701]", remoteTS: "dynamic[17/1701]"}},
	})
	const want = `connections {
	vpn {
		version = 1
		remote_addrs = 192.0.2.2
		proposals = aes128-sha1-modp2048
		encap = yes
		local {
			auth = psk
			id = user@example.com
		}
		remote {
			auth = psk
			id = %any
		}
		children {
			l2tp {
				mode = transport
				local_ts = dynamic[17/1701]
				remote_ts = dynamic[17/1701]
				rekey_time = 100s
				life_time = 200s
				rand_time = 0
			}
		}
	}
}
secrets {
	ike {
		secret = "a\"b"
	}
}
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
