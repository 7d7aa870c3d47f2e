package keymat_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"vrgate/controlplane/keymat"
)

// TestSecretsAreNeverPrinted formats everything that holds a secret in every
// usual way.
func TestSecretsAreNeverPrinted(t *testing.T) {
	const text = "hunter2hunter2"
	s := keymat.Secret(text)
	inside := struct {
		S  keymat.Secret
		P  *keymat.Secret
		L  []keymat.Secret
		M  map[string]keymat.Secret
		KP keymat.KeyPair
		K  keymat.Keys
		E  keymat.ESPKeys
	}{s, &s, []keymat.Secret{s}, map[string]keymat.Secret{"k": s}, keymat.KeyPair{Private: s},
		keymat.Keys{SKEYID: s, D: s, A: s, E: s, Key: s}, keymat.ESPKeys{Enc: s, Salt: s, Auth: s}}
	leaks := []string{text, fmt.Sprintf("%x", text), fmt.Sprintf("%X", text), fmt.Sprint([]byte(text)), "aHVudGVy", "68 75 6e", "0x68"}
	check := func(how, out string) {
		t.Helper()
		for _, l := range leaks {
			if strings.Contains(out, l) {
				t.Errorf("%s shows the secret: %s", how, out)
			}
		}
		if !strings.Contains(out, "[redacted]") {
			t.Errorf("%s does not say [redacted]: %s", how, out)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%08x", "%-20s", "%t"} {
		check(verb, fmt.Sprintf(verb, s))
	}
	// A pointer inside a struct prints as an address with these, which is fine.
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		check(verb+" in a struct", fmt.Sprintf(verb, inside))
	}
	b, err := json.Marshal(inside)
	if err != nil {
		t.Fatal(err)
	}
	check("JSON", string(b))
	check("Println", fmt.Sprintln(s))
	check("error", fmt.Errorf("key %v", s).Error())
	text2, err := s.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	check("text", string(text2))
	if string(s.Reveal()) != text {
		t.Error("Reveal does not give the secret")
	}
}

func TestSecretEqualAndWipe(t *testing.T) {
	a, b := keymat.Secret("abc"), keymat.Secret("abc")
	if !a.Equal(b) || a.Equal(keymat.Secret("abd")) || a.Equal(keymat.Secret("ab")) || a.Equal(nil) {
		t.Error("Equal")
	}
	k := keymat.Keys{SKEYID: a, D: keymat.Secret("d"), A: keymat.Secret("a"), E: keymat.Secret("e"), Key: keymat.Secret("k")}
	k.Wipe()
	for _, s := range []keymat.Secret{k.SKEYID, k.D, k.A, k.E, k.Key} {
		if strings.Trim(string(s), "\x00") != "" || len(s) == 0 {
			t.Errorf("Wipe left %q", string(s))
		}
	}
	e := keymat.ESPKeys{Enc: keymat.Secret("1"), Salt: keymat.Secret("2"), Auth: keymat.Secret("3")}
	e.Wipe()
	if string(e.Enc)+string(e.Salt)+string(e.Auth) != "\x00\x00\x00" {
		t.Error("Wipe of ESP keys")
	}
}

func TestEqualProof(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{{"abc", "abc", true}, {"abc", "abd", false}, {"abc", "ab", false}, {"", "", false}, {"", "a", false}} {
		if got := keymat.EqualProof([]byte(c.a), []byte(c.b)); got != c.want {
			t.Errorf("%q %q: %v", c.a, c.b, got)
		}
	}
}
