package topo

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// What swanctl 5.9.8 sends of the same file.
func TestViciSection(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := parseSettings("connections {\n\tvpn {\n\t\tproposals = a, b\n\t\tremote {\n\t\t\tid = \"x \\\"y\"\n\t\t\tcacerts = " + file + "\n\t\t}\n\t}\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	var m viciMessage
	if err := m.add(all.lines[0].sub.lines[0].sub); err != nil {
		t.Fatal(err)
	}
	const want = "\x01\x03vpn" + "\x04\x09proposals\x05\x00\x01a\x05\x00\x01b\x06" +
		"\x01\x06remote" + "\x03\x02id\x00\x04x \"y" + "\x04\x07cacerts\x05\x00\x03PEM\x06" + "\x02\x02"
	if string(m) != want {
		t.Errorf("%q", m)
	}
}

func TestViciSecret(t *testing.T) {
	c := connection{to: "%any", secrets: []secret{{kind: "ike", text: `a"b`}, {kind: "ike", id: "me", text: "c"}, {kind: "xauth", id: "you", text: "d"}}}
	all, err := parseSettings(settings(c))
	if err != nil {
		t.Fatal(err)
	}
	var got [][]viciPair
	for _, l := range all.lines {
		for _, one := range l.sub.lines {
			if l.key == "secrets" {
				var m viciMessage
				m.secret(one.sub)
				pairs, err := viciParse(m)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, pairs)
			}
		}
	}
	want := [][]viciPair{
		{{"id", "ike"}, {"type", "ike"}, {"data", `a"b`}},
		{{"id", "ike-1"}, {"type", "ike"}, {"data", "c"}, {"owners", "me"}},
		{{"id", "xauth-2"}, {"type", "xauth"}, {"data", "d"}, {"owners", "you"}},
	}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestParseSettingsRefuses(t *testing.T) {
	for _, text := range []string{"a {\n", "a\n", "}\n", "a = \"b\n"} {
		if _, err := parseSettings(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
