package accounting

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"vrgate/controlplane/subscriber"
)

// reasonsOf collects the constants of a package whose type and name say that they are reasons.
// Those that begin otherwise (Drop, Count) are only counted, and end nothing.
func reasonsOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "Reason" || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
				return true
			}
			lit, ok := spec.Values[0].(*ast.BasicLit)
			if !ok {
				t.Fatalf("%s of %s is not a plain string", spec.Names[0].Name, dir)
			}
			word, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			out[word] = spec.Names[0].Name
			return true
		})
	}
	return out
}

// R10: every reason that exists has a code, and the table has no other.
func TestEveryReasonHasACode(t *testing.T) {
	rows := map[[2]string]TerminateCode{}
	codes := map[subscriber.Reason]uint32{}
	for _, r := range NewCodes().List() {
		key := [2]string{r.Application, string(r.Reason)}
		if _, twice := rows[key]; twice {
			t.Errorf("%v twice", key)
		}
		rows[key] = r
		if r.Code < 1 || r.Code > 18 || r.Description == "" || r.Changed {
			t.Errorf("%+v: not a default (RFC 2866 section 5.10)", r)
		}
		if code, again := codes[r.Reason]; again && code != r.Code {
			t.Errorf("%s has the codes %d and %d", r.Reason, code, r.Code)
		}
		codes[r.Reason] = r.Code
	}
	for app, dir := range map[string]string{"aaa": "..", "ike": "../../ike", "l2tp": "../../l2tp", "ppp": "../../../pppd", "subscriber": "../../subscriber"} {
		found := reasonsOf(t, dir)
		if len(found) < 10 {
			t.Fatalf("only %d reasons found in %s", len(found), dir)
		}
		for word, name := range found {
			if _, ok := rows[[2]string{app, word}]; !ok {
				t.Errorf("%s of %s (%q) has no code", name, app, word)
			}
			delete(rows, [2]string{app, word})
		}
	}
	for _, r := range rows {
		t.Errorf("there is no reason %q in %s", r.Reason, r.Application)
	}
}

func TestCodes(t *testing.T) {
	for _, tt := range []struct {
		rule   string
		reason subscriber.Reason
		want   uint32
	}{
		{"R9", "ppp-user-request", 1},
		{"R9", "peer-deleted", 1},
		{"R9", "idle-timeout", 4},
		{"R9", "session-timeout", 5},
		{"R9", "admin-reset", 6},
		{"R9", "interface-gone", 8},
		{"R9", "ppp-ncp-failed", 9},
		{"R9", "pool-empty", 9},
		{"R9", "ppp-auth-timeout", 10},
		{"R9", "ppp-keepalive", 10},
		{"R9", "ipsec-lost", 10},
		{"R11", "lower-layer-down", 8},
		{"R11", "administrative", 6},
		{"R11", "shutdown", 6},
		{"R11", "peer-closed-session", 10},
		{"R11", "outgoing-call-refused", 15},
		{"R11", "session-limit", 9},
		{"R11", "ids-exhausted", 9},
		{"RFC 5176", "radius-disconnect", 6},
		{"issue 4", "daemon-restarted", 11},
		{"no such reason", "from-the-future", 9},
	} {
		if got := NewCodes().Cause(tt.reason); got != tt.want {
			t.Errorf("%s: %s is %d, want %d", tt.rule, tt.reason, got, tt.want)
		}
	}
}

// R10: codes are configurable, for a word in all its applications.
func TestSetCode(t *testing.T) {
	c := NewCodes()
	if err := c.Set("shutdown", 7); err != nil {
		t.Fatal(err)
	}
	if err := c.Set("idle-timeout", 4_000_000_000); err != nil {
		t.Fatal(err)
	}
	if c.Cause("shutdown") != 7 || c.Cause("idle-timeout") != 4_000_000_000 || NewCodes().Cause("shutdown") != 6 {
		t.Error("not set, or set for everybody")
	}
	changed := 0
	for _, r := range c.List() {
		if r.Changed {
			changed++
		}
		if r.Reason == "shutdown" && (r.Code != 7 || !r.Changed) {
			t.Errorf("%+v", r)
		}
	}
	if changed != 5 { // shutdown of ike, l2tp and subscriber; idle-timeout of l2tp and subscriber
		t.Errorf("%d rows changed", changed)
	}
	if err := c.Set("shutdown", 6); err != nil || c.List()[0].Changed {
		t.Error(err)
	}
	if c.Set("no-such-reason", 1) == nil || c.Set("shutdown", 0) == nil {
		t.Error("nonsense was taken")
	}
}
