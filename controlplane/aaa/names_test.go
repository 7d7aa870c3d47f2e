package aaa

import (
	"strings"
	"testing"
)

// junose are the defaults of JunosE with its usual realm delimiter.
var junose = NameRules{Domain: "@", Realm: "/"}

// TestParseName is R1. The first rows are JunosE's own examples.
func TestParseName(t *testing.T) {
	domainFirst := NameRules{Domain: "@", Realm: "/", DomainFirst: true}
	outside := NameRules{Domain: "@", Realm: "/", DomainFromLeft: true, RealmFromRight: true}
	tests := []struct {
		rules    NameRules
		user     string
		want     Name
		key      string
		stripped string
	}{
		{junose, "usEast/lori@abc.com", Name{"usEast", "/", "lori", "@", "abc.com", true}, "useast", "lori@abc.com"},
		{domainFirst, "usEast/lori@abc.com", Name{"usEast", "/", "lori", "@", "abc.com", false}, "abc.com", "usEast/lori"},
		{junose, "userjohn@abc.com@xyz.com", Name{"", "", "userjohn@abc.com", "@", "xyz.com", false}, "xyz.com", "userjohn@abc.com"},
		{outside, "userjohn@abc.com@xyz.com", Name{"", "", "userjohn", "@", "abc.com@xyz.com", false}, "abc.com@xyz.com", "userjohn"},
		{NameRules{Domain: "@!"}, "pete!xyz.com", Name{"", "", "pete", "!", "xyz.com", false}, "xyz.com", "pete"},
		{junose, "a/b/c", Name{"a", "/", "b/c", "", "", true}, "a", "b/c"},
		{outside, "a/b/c", Name{"a/b", "/", "c", "", "", true}, "a/b", "c"},
		// The part that is looked for first may hold the other's delimiter.
		{junose, "a@b/c", Name{"a@b", "/", "c", "", "", true}, "a@b", "c"},
		{domainFirst, "a@b/c", Name{"", "", "a", "@", "b/c", false}, "b/c", "a"},
		// A delimiter with nothing beyond it names no domain.
		{junose, "bob@", Name{"", "", "bob", "@", "", false}, "", "bob"},
		{junose, "/bob@abc.com", Name{"", "/", "bob", "@", "abc.com", false}, "abc.com", "/bob"},
		{domainFirst, "r/bob@", Name{"r", "/", "bob", "@", "", true}, "r", "bob@"},
		// Nothing would be left.
		{junose, "@abc.com", Name{"", "", "", "@", "abc.com", false}, "abc.com", "@abc.com"},
		{junose, "", Name{}, "", ""},
		{NameRules{}, "r/bob@abc.com", Name{User: "r/bob@abc.com"}, "", "r/bob@abc.com"},
		// Any bytes: letters outside ASCII keep their case, broken UTF-8 stays as it is.
		{junose, "x@ÄB\xff", Name{"", "", "x", "@", "ÄB\xff", false}, "Äb\xff", "x"},
	}
	for _, tt := range tests {
		got := tt.rules.Parse(tt.user)
		if got != tt.want || got.Key() != tt.key || got.Stripped() != tt.stripped {
			t.Errorf("%+v: %q is %+v with domain %q, stripped %q; want %+v, %q, %q", tt.rules, tt.user, got, got.Key(), got.Stripped(), tt.want, tt.key, tt.stripped)
		}
	}
}

// TestNameRulesCheck: up to eight delimiters of each kind, none of both (R1).
func TestNameRulesCheck(t *testing.T) {
	for rules, ok := range map[NameRules]bool{
		{}: true, {Domain: "@", Realm: "/"}: true, {Domain: "12345678", Realm: "abcdefgh"}: true,
		{Domain: "123456789"}: false, {Realm: "123456789"}: false, {Domain: "@!", Realm: "/!"}: false,
	} {
		if err := rules.Check(); (err == nil) != ok {
			t.Errorf("%+v: %v", rules, err)
		}
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("usEast/lori@abc.com", "@", "/", byte(0))
	f.Add("a@b@c/d", "@!", "/\\", byte(7))
	f.Add("\x00\xff@", "\xff", "\x00", byte(3))
	f.Fuzz(func(t *testing.T, user, domain, realm string, flags byte) {
		rules := NameRules{Domain: domain, Realm: realm, DomainFirst: flags&1 != 0, DomainFromLeft: flags&2 != 0, RealmFromRight: flags&4 != 0}
		n := rules.Parse(user)
		if n.String() != user {
			t.Fatalf("%q became %q", user, n.String())
		}
		if len(n.DomainDelimiter) > 1 || len(n.RealmDelimiter) > 1 || !strings.Contains(domain, n.DomainDelimiter) || !strings.Contains(realm, n.RealmDelimiter) {
			t.Fatalf("%q: delimiters %q and %q", user, n.RealmDelimiter, n.DomainDelimiter)
		}
		if n.DomainDelimiter == "" && n.Domain != "" || n.RealmDelimiter == "" && n.Realm != "" {
			t.Fatalf("%q: a part without delimiter: %+v", user, n)
		}
		if len(n.Key()) > len(user) || len(n.Stripped()) > len(user) || user != "" && n.Stripped() == "" {
			t.Fatalf("%q: %+v stripped %q", user, n, n.Stripped())
		}
		if n.Key() == "" && n.Stripped() != user && len(user)-len(n.Stripped()) != 1 {
			t.Fatalf("%q has no domain but is stripped to %q", user, n.Stripped())
		}
	})
}
