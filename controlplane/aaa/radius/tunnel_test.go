package radius

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	rad "layeh.com/radius"

	"vrgate/controlplane/aaa"
	"vrgate/controlplane/keymat"
	"vrgate/test/faultyradius"
)

// tagged attributes as servers write them (RFC 2868 sections 3.1 and 3.3).
func tagNumber(typ rad.Type, tag byte, n uint32) *rad.AVP {
	return std(typ, string([]byte{tag, byte(n >> 16), byte(n >> 8), byte(n)}))
}

func tagString(typ rad.Type, tag byte, s string) *rad.AVP { return std(typ, string(tag)+s) }

// lns is an LNS in the fewest words that do.
func lns(tag byte, server string) []*rad.AVP {
	return []*rad.AVP{tagNumber(typeTunnelType, tag, tunnelL2TP), tagString(typeTunnelServer, tag, server)}
}

// TestTunnels: tunnel switching by the attributes of RFC 2868 and JunosE's.
func TestTunnels(t *testing.T) {
	a := netip.MustParseAddr
	one := aaa.Tunnel{Server: a("192.0.2.7")}
	full := []*rad.AVP{
		tagNumber(typeTunnelType, 1, tunnelL2TP), tagNumber(typeTunnelMediumType, 1, mediumIPv4), tagString(typeTunnelServer, 1, "192.0.2.7"),
		tagString(typeTunnelClient, 1, "192.0.2.1"), tagString(typeTunnelAssignment, 1, "pool 5"), tagString(typeTunnelGroup, 1, "group"),
		tagNumber(typeTunnelPreference, 1, 70000), tagString(typeTunnelClientAuthID, 1, "us"), tagString(typeTunnelServerAuthID, 1, "them"),
		vsa(vendorERX, erxMaxSessions, "\x01\x00\x01\x00"),
	}
	fullTunnel := aaa.Tunnel{
		Preference: 70000, Server: a("192.0.2.7"), Client: a("192.0.2.1"), ClientName: "us", ServerName: "them", Assignment: "pool 5",
		PrivateGroup: "group", MaxSessions: 256, Secret: keymat.Secret("words"),
	}
	var many []*rad.AVP
	var first []aaa.Tunnel
	for tag := range byte(aaa.MaxTunnels + 2) {
		many = append(many, lns(tag+1, fmt.Sprint("192.0.2.", 100+tag))...)
		first = append(first, aaa.Tunnel{Server: a(fmt.Sprint("192.0.2.", 100+tag))})
	}
	foreign := func(n int) string {
		return fmt.Sprintf("server s: the server wants a tunnel of type %d, only L2TP is spoken here", n)
	}
	unusable := func(tag int, text string) string {
		return fmt.Sprintf("server s: the server's tunnel (tag %d) cannot be used: %s", tag, text)
	}
	tests := []struct {
		name       string
		access     aaa.Access
		attributes []*rad.AVP
		passwords  []TunnelPassword
		want       []aaa.Tunnel
		refused    string
		found      string
	}{
		{name: "all there is", attributes: full, passwords: []TunnelPassword{{Tag: 1, Secret: keymat.Secret("words")}}, want: []aaa.Tunnel{fullTunnel}},
		{name: "the least", attributes: lns(1, "192.0.2.7"), want: []aaa.Tunnel{one}},
		{name: "no tag", attributes: lns(0, "192.0.2.7"), want: []aaa.Tunnel{one}},
		{name: "texts without tag", attributes: []*rad.AVP{tagNumber(typeTunnelType, 0, tunnelL2TP), std(typeTunnelServer, "192.0.2.7")}, want: []aaa.Tunnel{one}},
		{name: "IPv6", attributes: append(lns(31, "2001:db8::7"), tagNumber(typeTunnelMediumType, 31, mediumIPv6)), want: []aaa.Tunnel{{Server: a("2001:db8::7")}}},
		{name: "two, by tag", attributes: append(lns(9, "192.0.2.9"), lns(3, "192.0.2.3")...), want: []aaa.Tunnel{{Server: a("192.0.2.3")}, {Server: a("192.0.2.9")}}},
		{name: "too many", attributes: many, want: first[:aaa.MaxTunnels], found: "[Tunnel-Type: surplus Tunnel-Type: surplus]"},
		{name: "JunosE's password in clear", attributes: append(lns(1, "192.0.2.7"), vsa(vendorERX, erxTunnelPassword, "\x01clear")),
			want: []aaa.Tunnel{{Server: a("192.0.2.7"), Secret: keymat.Secret("clear")}}},
		{name: "after the encrypted one", attributes: append(lns(1, "192.0.2.7"), vsa(vendorERX, erxTunnelPassword, "\x01clear")),
			passwords: []TunnelPassword{{Tag: 1, Secret: keymat.Secret("hidden")}}, want: []aaa.Tunnel{{Server: a("192.0.2.7"), Secret: keymat.Secret("hidden")}}},
		{name: "two passwords", attributes: lns(1, "192.0.2.7"), passwords: []TunnelPassword{{Tag: 1, Secret: keymat.Secret("a")}, {Tag: 1, Secret: keymat.Secret("b")}},
			want: []aaa.Tunnel{{Server: a("192.0.2.7"), Secret: keymat.Secret("a")}}, found: "[Tunnel-Password: surplus]"},
		{name: "a limit without tag", attributes: append(lns(1, "192.0.2.7"), vsa(vendorERX, erxMaxSessions, u32(9))), want: []aaa.Tunnel{{Server: a("192.0.2.7"), MaxSessions: 9}}},
		{name: "a limit beyond", attributes: append(lns(1, "192.0.2.7"), vsa(vendorERX, erxMaxSessions, "\x01\x01\x00\x00")), want: []aaa.Tunnel{one}, found: "[ERX-Tunnel-Maximum-Sessions: bad-value]"},
		{name: "JunosE's router and profile", attributes: append(lns(1, "192.0.2.7"), vsa(vendorERX, 8, "\x01other"), vsa(vendorERX, 91, "profile")), want: []aaa.Tunnel{one},
			found: "[ERX-Tunnel-Virtual-Router: unused ERX-Tunnel-Switch-Profile: unused]"},
		{name: "one that is spoken, one that is not", attributes: append(lns(2, "192.0.2.7"), tagNumber(typeTunnelType, 1, 1), tagString(typeTunnelServer, 1, "192.0.2.8")), want: []aaa.Tunnel{one}, found: "[Tunnel-Type: unused]"},
		{name: "ourselves", attributes: lns(1, "192.0.2.1"), found: "[Tunnel-Server-Endpoint: unused]"},
		{name: "a dynamic subscriber's own", access: aaa.AccessXAuth, attributes: []*rad.AVP{tagNumber(typeTunnelType, 0, tunnelESP), std(typeTunnelServer, "192.0.2.1")}, found: "[Tunnel-Type: unused]"},
		{name: "a VLAN's number alone", attributes: []*rad.AVP{std(typeTunnelGroup, "12")}, found: "[Tunnel-Private-Group-Id: unused]"},
		{name: "nothing"},

		{name: "a VLAN", attributes: []*rad.AVP{tagNumber(typeTunnelType, 0, 13), tagNumber(typeTunnelMediumType, 0, 6), std(typeTunnelGroup, "12")}, refused: foreign(13), found: "[Tunnel-Type: unused]"},
		{name: "PPTP", attributes: append(lns(1, "192.0.2.7")[1:], tagNumber(typeTunnelType, 1, 1)), refused: foreign(1), found: "[Tunnel-Type: unused]"},
		{name: "IPsec", attributes: []*rad.AVP{tagNumber(typeTunnelType, 0, tunnelESP)}, refused: foreign(9), found: "[Tunnel-Type: unused]"},
		{name: "no type", attributes: lns(2, "192.0.2.7")[1:], refused: "server s: the server names a tunnel without Tunnel-Type (tag 2)"},
		{name: "a password alone", passwords: []TunnelPassword{{Secret: keymat.Secret("x")}}, refused: "server s: the server names a tunnel without Tunnel-Type (tag 0)"},
		{name: "no endpoint", attributes: lns(1, "")[:1], refused: unusable(1, "there is no Tunnel-Server-Endpoint")},
		{name: "an empty endpoint", attributes: lns(1, ""), refused: "server s: the server's Tunnel-Server-Endpoint cannot be read", found: "[Tunnel-Server-Endpoint: bad-value]"},
		{name: "a name", attributes: lns(1, "lns.example.net"), refused: unusable(1, `Tunnel-Server-Endpoint "lns.example.net" is not an address`)},
		{name: "no host's", attributes: lns(1, "224.0.0.1"), refused: unusable(1, `Tunnel-Server-Endpoint "224.0.0.1" is not the address of a host`)},
		{name: "this host", attributes: lns(1, "127.0.0.1"), refused: unusable(1, `Tunnel-Server-Endpoint "127.0.0.1" is not the address of a host`)},
		{name: "of a link", attributes: lns(1, "fe80::1%eth0"), refused: unusable(1, `Tunnel-Server-Endpoint "fe80::1%eth0" is not the address of a host`)},
		{name: "our end is a name", attributes: append(lns(1, "192.0.2.7"), tagString(typeTunnelClient, 1, "us")), refused: unusable(1, `Tunnel-Client-Endpoint "us" is not an address`)},
		{name: "our end of another family", attributes: append(lns(1, "192.0.2.7"), tagString(typeTunnelClient, 1, "2001:db8::1")), refused: unusable(1, "its endpoints 2001:db8::1 and 192.0.2.7 are of two families")},
		{name: "another medium", attributes: append(lns(1, "192.0.2.7"), tagNumber(typeTunnelMediumType, 1, 6)), refused: unusable(1, "Tunnel-Medium-Type 6 is not that of 192.0.2.7")},
		{name: "one good, one bad", attributes: append(lns(1, "192.0.2.7"), lns(2, "x")...), refused: unusable(2, `Tunnel-Server-Endpoint "x" is not an address`)},
		{name: "a broken password", attributes: lns(1, "192.0.2.7"), passwords: []TunnelPassword{{Tag: 1, Broken: true}}, refused: "server s: the server's Tunnel-Password cannot be decrypted"},
		{name: "a name of the LNS with control characters", attributes: append(lns(1, "192.0.2.7"), tagString(typeTunnelServerAuthID, 1, "a\x07b")),
			refused: `server s: the server's Tunnel-Server-Auth-Id "a\ab" cannot be used`, found: "[Tunnel-Server-Auth-Id: bad-value]"},
		{name: "half a type", attributes: []*rad.AVP{std(typeTunnelType, "\x00\x03")}, refused: "server s: the server's Tunnel-Type cannot be read", found: "[Tunnel-Type: bad-value]"},
		{name: "JunosE's group", attributes: []*rad.AVP{vsa(vendorERX, erxTunnelGroup, "g")}, refused: `server s: the server's ERX-Tunnel-Group "g" names LNSs of a router's configuration; the domain map does that here`, found: "[ERX-Tunnel-Group: unused]"},
		{name: "Cisco's", attributes: []*rad.AVP{vsa(vendorCisco, 1, "vpdn:ip-addresses=192.0.2.7")}, refused: "server s: the server's Cisco-AVPair names an LNS by vpdn, where the attributes of RFC 2868 are needed", found: "[Cisco-AVPair: unused]"},
	}
	for _, tt := range tests {
		r := aaa.Request{Protocol: aaa.PAP, User: "u", Access: aaa.AccessL2TP, Local: netip.MustParseAddrPort("192.0.2.1:1701")}
		if tt.access != "" {
			r.Access = tt.access
		}
		in := read(tt.attributes)
		d := (&Method{}).decide(r, Answer{Code: rad.CodeAccessAccept, Attributes: tt.attributes, Server: "s", Passwords: tt.passwords}, &in)
		if d.Accept != (tt.refused == "") || d.Text != tt.refused || (d.Reason == aaa.ReasonBadAnswer) != (tt.refused != "") || !reflect.DeepEqual(d.Tunnels, tt.want) {
			t.Errorf("%s: %+v", tt.name, d)
		}
		if got := fmt.Sprint(in.found); got != tt.found && (len(in.found) > 0 || tt.found != "") {
			t.Errorf("%s: found %s", tt.name, got)
		}
		slices.Reverse(tt.attributes)
		in = read(tt.attributes)
		if again := (&Method{}).decide(r, Answer{Code: rad.CodeAccessAccept, Attributes: tt.attributes, Server: "s", Passwords: tt.passwords}, &in); !reflect.DeepEqual(again, d) {
			t.Errorf("%s: the other way round %+v", tt.name, again)
		}
		if s := fmt.Sprintf("%+v %v", d, in.found); strings.Contains(s, "words") || strings.Contains(s, "hidden") || strings.Contains(s, "clear") && tt.refused == "" {
			t.Errorf("%s: tells a secret: %s", tt.name, s)
		}
	}
}

// hideTunnelPassword is RFC 2868 section 3.5, as its text has it.
func hideTunnelPassword(tag byte, salt [2]byte, password, secret []byte, sent Authenticator) []byte {
	p := append([]byte{byte(len(password))}, password...)
	for len(p)%16 != 0 {
		p = append(p, 0)
	}
	out, last := []byte{tag, salt[0], salt[1]}, append(sent[:], salt[:]...)
	for block := range slices.Chunk(p, 16) {
		b := md5.Sum(append(slices.Clone(secret), last...))
		for i := range block {
			b[i] ^= block[i]
		}
		out, last = append(out, b[:]...), b[:]
	}
	return out
}

// TestTunnelPasswords: RFC 2868 section 3.5, by a vector that was computed elsewhere.
func TestTunnelPasswords(t *testing.T) {
	const password = "a tunnel secret of 33 characters."
	sent := Authenticator{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	vector := unhex(t, "03800113c524397f744b5da307c30ed1c87087ed415a84670e89728ae689d17731718eb3e59b06a63de651b4781ac918d62cf8")
	if got := hideTunnelPassword(3, [2]byte{0x80, 1}, []byte(password), []byte("testing123"), sent); !bytes.Equal(got, vector) {
		t.Fatalf("%x", got)
	}
	for _, tt := range []struct {
		name   string
		value  []byte
		secret string
		want   TunnelPassword
	}{
		{"the vector", vector, "testing123", TunnelPassword{Tag: 3, Secret: keymat.Secret(password)}},
		{"empty", hideTunnelPassword(0, [2]byte{0xff, 0xff}, nil, []byte("testing123"), sent), "testing123", TunnelPassword{Secret: keymat.Secret{}}},
		{"no tag but a byte in its place", append([]byte{0x20}, vector[1:]...), "testing123", TunnelPassword{Secret: keymat.Secret(password)}},
		{"another secret", vector, "testing124", TunnelPassword{Tag: 3, Broken: true}},
		{"a bit of the salt is missing", append([]byte{3, 0}, vector[2:]...), "testing123", TunnelPassword{Tag: 3, Broken: true}},
		{"cut", vector[:len(vector)-1], "testing123", TunnelPassword{Tag: 3, Broken: true}},
		{"a tag alone", vector[:1], "testing123", TunnelPassword{Tag: 3, Broken: true}},
		{"nothing", nil, "testing123", TunnelPassword{Broken: true}},
	} {
		got := tunnelPasswords(rad.Attributes{std(typeUserName, "u"), std(typeTunnelPassword, string(tt.value))}, keymat.Secret(tt.secret), sent)
		if len(got) != 1 || got[0].Tag != tt.want.Tag || got[0].Broken != tt.want.Broken || !bytes.Equal(got[0].Secret, tt.want.Secret) {
			t.Errorf("%s: %+v %q", tt.name, got, got[0].Secret.Reveal())
		}
		if s := fmt.Sprintf("%+v", got); strings.Contains(s, "characters") {
			t.Errorf("%s: %s", tt.name, s)
		}
	}
}

// FuzzTunnelPassword: what is hidden comes back, and what cannot be read is called broken and is nothing.
func FuzzTunnelPassword(f *testing.F) {
	f.Add([]byte("password"), []byte("secret"), uint8(1), []byte{1, 0x80, 0})
	f.Add([]byte{}, []byte{}, uint8(0), []byte{})
	f.Fuzz(func(t *testing.T, password, secret []byte, tag uint8, raw []byte) {
		sent := Authenticator(md5.Sum(secret))
		if len(password) <= 239 && len(secret) > 0 && tag <= maxTag {
			hidden := hideTunnelPassword(tag, [2]byte{0x80 | tag, tag}, password, secret, sent)
			got := tunnelPasswords(rad.Attributes{std(typeTunnelPassword, string(hidden))}, secret, sent)
			if len(got) != 1 || got[0].Broken || got[0].Tag != tag || !bytes.Equal(got[0].Secret, password) {
				t.Fatalf("%x became %+v", password, got)
			}
		}
		for _, p := range tunnelPasswords(rad.Attributes{std(typeTunnelPassword, string(raw))}, secret, sent) {
			if p.Tag > maxTag || p.Broken && len(p.Secret) > 0 || len(p.Secret) > len(raw) {
				t.Fatalf("%x became %+v", raw, p)
			}
		}
	})
}

// TestTunnelPasswordOfAnAnswer: the request's authenticator and the server's secret go into it, whichever request it was.
func TestTunnelPasswordOfAnAnswer(t *testing.T) {
	w := newWorld(t, nil, faultyradius.Config{Faults: []faultyradius.Fault{faultyradius.Silent}})
	id := w.ask(pap("a", "b"))
	w.run(10 * time.Millisecond)
	request := w.lastPacket[w.address(1)]
	p, err := rad.Parse(request, testSecret)
	if err != nil {
		t.Fatal(err)
	}
	answer := p.Response(rad.CodeAccessAccept)
	answer.Add(typeTunnelPassword, hideTunnelPassword(2, [2]byte{0x81, 0}, []byte("words"), testSecret, p.Authenticator))
	b, err := SignAnswer(answer)
	if err != nil {
		t.Fatal(err)
	}
	w.step(received{w.engine.lastSocket, w.address(1), b})
	got := w.ended[id].Answer.Passwords
	if len(got) != 1 || got[0].Tag != 2 || string(got[0].Secret) != "words" {
		t.Errorf("%+v", got)
	}
}
