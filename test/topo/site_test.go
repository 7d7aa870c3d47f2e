package topo

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// A tunnel with two pairs of networks has two children, and its key is the peer's alone.
func TestSiteSettings(t *testing.T) {
	got := settings(SiteTunnel{
		Name: "hq", Local: netip.MustParseAddr("198.18.0.3"), Peer: "192.0.2.2", IKEConfig: IKEConfig{IKE: []string{"aes256-sha2_256-modp2048"}, ESP: []string{"aes128-sha1"}},
		Aggressive: true, PSK: "open sesame", ID: "@branch", PeerID: "@hq", Start: "trap", OnDead: "restart", User: "branch", Password: "secret", Bytes: 1 << 20,
		Networks: []SiteNetwork{{"10.2.0.0/24", "10.1.0.0/24"}, {"10.2.1.0/24", "10.1.0.0/24"}},
	}.connection(nil), SiteTunnel{Name: "far", Peer: "%any", PSK: "anybody's", Transport: true, Networks: []SiteNetwork{{"dynamic[gre]", "dynamic[gre]"}}}.connection(nil))
	for _, want := range []string{
		"\thq {\n\t\tversion = 1\n\t\tlocal_addrs = 198.18.0.3\n\t\tremote_addrs = 192.0.2.2\n\t\tproposals = aes256-sha2_256-modp2048\n\t\taggressive = yes\n",
		"\t\tlocal {\n\t\t\tauth = psk\n\t\t\tid = @branch\n\t\t}\n\t\tlocal-1 {\n\t\t\tauth = xauth\n\t\t\txauth_id = branch\n\t\t}\n\t\tremote {\n\t\t\tauth = psk\n\t\t\tid = @hq\n",
		"\t\t\thq-1 {\n\t\t\t\tmode = tunnel\n\t\t\t\tlocal_ts = 10.2.1.0/24\n\t\t\t\tremote_ts = 10.1.0.0/24\n\t\t\t\tesp_proposals = aes128-sha1\n\t\t\t\tstart_action = trap\n\t\t\t\tdpd_action = restart\n\t\t\t\trekey_bytes = 1048576\n",
		"\t\t\tfar-0 {\n\t\t\t\tmode = transport\n\t\t\t\tlocal_ts = dynamic[gre]\n",
		"secrets {\n\tike {\n\t\tid = @hq\n\t\tid-own = @branch\n\t\tsecret = \"open sesame\"\n\t}\n\txauth-1 {\n\t\tid = branch\n\t\tsecret = \"secret\"\n\t}\n\tike-2 {\n\t\tsecret = \"anybody's\"\n\t}\n}\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nis not in:\n%s", want, got)
		}
	}
}

// What charon 5.9.8 says of a tunnel with two children.
func TestParseSiteSA(t *testing.T) {
	got := parseSiteSA([]viciPair{
		{viciBegins, "hq"}, {"uniqueid", "3"}, {"version", "1"}, {"state", "ESTABLISHED"}, {"local-host", "198.18.0.2"}, {"remote-host", "192.0.2.2"}, {"remote-port", "4500"},
		{"remote-id", "hq"}, {"remote-xauth-id", "branch"}, {"initiator", "yes"}, {"initiator-spi", "0a0b"}, {"responder-spi", "0c0d"}, {viciBegins, "child-sas"},
		{viciBegins, "hq-0-7"}, {"name", "hq-0"}, {"uniqueid", "7"}, {"reqid", "1"}, {"state", "INSTALLED"}, {"mode", "TUNNEL"}, {"encap", "yes"},
		{"spi-in", "c5a1b2c3"}, {"spi-out", "00000100"}, {"bytes-in", "168"}, {"bytes-out", "84"}, {"dh-group", "MODP_2048"},
		{viciBegins, "hq-1-8"}, {"name", "hq-1"}, {"uniqueid", "8"}, {"state", "REKEYED"},
	})
	want := SiteSA{
		Tunnel: "hq", ID: 3, Established: true, Initiator: true, Cookies: "0a0b0c0d", Remote: netip.MustParseAddrPort("192.0.2.2:4500"), PeerID: "hq", User: "branch",
		Children: []SiteChildSA{
			{Name: "hq-0", ID: 7, Installed: true, Mode: "TUNNEL", Encap: true, SPIIn: 0xc5a1b2c3, SPIOut: 256, BytesIn: 168, BytesOut: 84, DHGroup: "MODP_2048"},
			{Name: "hq-1", ID: 8},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestNames(t *testing.T) {
	s := &Names{of: map[string][]netip.Addr{}, asked: map[string]int{}}
	s.Set("Gate.example.net", netip.MustParseAddr("192.0.2.2"))
	const header, question = "\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", "\x04gaTe\x07example\x03net\x00\x00"
	for _, c := range []struct{ name, query, want string }{
		{"address", "ID" + header + question + "\x01\x00\x01", "ID\x85\x00\x00\x01\x00\x01\x00\x00\x00\x00" + question + "\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\xc0\x00\x02\x02"},
		{"another kind", "ID" + header + question + "\x1c\x00\x01", "ID\x85\x00\x00\x01\x00\x00\x00\x00\x00\x00" + question + "\x1c\x00\x01"},
		{"no such name", "ID" + header + "\x01x\x00\x00\x01\x00\x01", "ID\x85\x03\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x00\x00\x01\x00\x01"},
		{"a response", "ID\x81" + header[1:] + question + "\x01\x00\x01", ""},
		{"cut", "ID" + header + question, ""},
		{"a compressed name", "ID" + header + "\xc0\x0c\x00\x01\x00\x01", ""},
	} {
		if got := string(s.answer([]byte(c.query))); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if n := s.Asked("gate.example.net"); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
}
