package config

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// good is a router that serves clients, for tests to add to.
const good = `server-addresses: [192.0.2.1]
ipsec:
  transport-profiles:
    - name: clients
      local-addresses:
        - address: 192.0.2.1
          group-keys:
            - name: main
              key: 0123456789abcdef
l2tp:
  destination-profiles:
    - name: any
      host-profiles:
        - remote-host: default
ip-profiles:
  - name: default
    unnumbered-address: 10.0.0.1
pools:
  - name: main
    ranges: [10.0.0.0/24]
users:
  - name: alice
    password: secret of alice
`

// secretFiles are what tests find when they read a secret file.
var secretFiles = map[string]struct {
	data string
	mode fs.FileMode
	err  error
}{
	"key":      {"a long key in a file\r\n", 0o600, nil},
	"two":      {"two\nlines", 0o600, nil},
	"empty":    {"\n", 0o600, nil},
	"long":     {strings.Repeat("x", 129), 0o600, nil},
	"world":    {"a long key in a file", 0o644, nil},
	"private":  {"", 0, &fs.PathError{Op: "open", Path: "private", Err: fs.ErrPermission}},
	"too-long": {strings.Repeat("x", 257), 0o600, nil},
	"latin1":   {"stra\xdfe", 0o600, nil},
	"huge":     {"", 0, errTooLarge},
	"fifo":     {"", 0, errNotRegular},
}

func fakeSecrets(path string) ([]byte, fs.FileMode, error) {
	f, ok := secretFiles[path]
	if !ok {
		return nil, 0, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return []byte(f.data), f.mode, f.err
}

// fakeFiles finds the secret files and every name that ends in .pem.
func fakeFiles(path string) (string, fs.FileMode, error) {
	if strings.HasSuffix(path, ".pem") {
		return "/found/" + path, 0o600, nil
	}
	_, mode, err := fakeSecrets(path)
	return "/found/" + path, mode, err
}

// testNow is when tests load a configuration.
var testNow = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// parseFiles parses files by name: "vrgate" is vrgate.yaml (empty if missing),
// others are routers.
func parseFiles(files map[string]string) (*Config, []Diagnostic, []Diagnostic) {
	sources := []source{{file: "vrgate.yaml", data: []byte(files["vrgate"]), mode: 0o600}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if name != "vrgate" {
			sources = append(sources, source{file: "vr/" + name + ".yaml", name: name, data: []byte(files[name]), mode: 0o600})
		}
	}
	return parse(sources, fakeSecrets, fakeFiles, testNow)
}

func lines(ds []Diagnostic) []string {
	var out []string
	for _, d := range ds {
		out = append(out, d.String())
	}
	return out
}

// with returns good with a piece replaced; the piece must be there once.
func with(t *testing.T, old, replacement string) string {
	t.Helper()
	if strings.Count(good, old) != 1 {
		t.Fatalf("%q is not once in the good router", old)
	}
	return strings.Replace(good, old, replacement, 1)
}

func TestGoodRouterIsGood(t *testing.T) {
	c, _, errs := parseFiles(map[string]string{"a": good})
	if len(errs) > 0 || c == nil {
		t.Fatalf("errors in the base of the other tests: %v", errs)
	}
}

// TestProcessErrors has every mistake that vrgate.yaml can contain, and those of
// YAML itself.
func TestProcessErrors(t *testing.T) {
	for name, test := range map[string]struct {
		in   string
		want []string
	}{
		"nothing":        {"", nil},
		"comments only":  {"# nothing yet\n\n  # still nothing\n", nil},
		"document start": {"---\n", nil},
		"not utf-8":      {"log:\n  level: \xff\n", []string{"vrgate.yaml:2:10: the file is not UTF-8"}},
		"tab":            {"log:\n\tlevel: info\n", []string{"vrgate.yaml:2:1: not valid YAML: found character that cannot start any token"}},
		"unclosed list":  {"a: [1, 2\nb: 3\n", []string{"vrgate.yaml:2:2: not valid YAML: did not find expected ',' or ']'"}},
		"two documents":  {"log: {}\n---\napi: {}\n", []string{"vrgate.yaml:1:1: not valid YAML: expected single document, found multiple"}},
		"unknown anchor": {"log: *x\n", []string{"vrgate.yaml:1:6: not valid YAML: unknown anchor 'x' referenced"}},
		"alias": {"log: &x {level: info}\napi: *x\n", []string{
			`vrgate.yaml:1:6: "log" uses a YAML anchor or alias, which a configuration may not; write the value out`,
			`vrgate.yaml:2:6: "api" uses a YAML anchor or alias, which a configuration may not; write the value out`,
		}},
		"merge key":     {"<<: {log: {}}\n", []string{`vrgate.yaml:1:1: unknown key "<<"`}},
		"a list":        {"- log\n", []string{"vrgate.yaml:1:1: the file must be a section of keys, not a list"}},
		"a word":        {"log\n", []string{"vrgate.yaml:1:1: the file must be a section of keys, not a single value"}},
		"key is a list": {"? [log]\n: {}\n", []string{"vrgate.yaml:1:3: a key must be a word"}},
		"unknown key":   {"frobnicate: 1\n", []string{`vrgate.yaml:1:1: unknown key "frobnicate"`}},
		"mistyped key": {"half_open:\n  totl: 3\nLog: {}\n", []string{
			`vrgate.yaml:1:1: unknown key "half_open"; did you mean "half-open"?`,
			`vrgate.yaml:3:1: unknown key "Log"; did you mean "log"?`,
		}},
		"long unknown key": {strings.Repeat("ä", 50) + ": 1\n", []string{
			`vrgate.yaml:1:1: unknown key "` + strings.Repeat("ä", 40) + `…"`,
		}},
		"twice":    {"log: {}\napi: {}\nlog: {}\n", []string{`vrgate.yaml:3:1: key "log" is given twice; the first is in line 1`}},
		"no value": {"log:\n", []string{`vrgate.yaml:1:5: "log" has no value; give one or remove the key`}},
		"no scalar value": {"state-dir: ~\nlog:\n  level:\n", []string{
			`vrgate.yaml:1:12: "state-dir" has no value; give one or remove the key`,
			`vrgate.yaml:3:9: "level" has no value; give one or remove the key`,
		}},
		"section for value": {"state-dir: {a: 1}\n", []string{`vrgate.yaml:1:12: "state-dir" must be a single value, not a section of keys`}},
		"list for value":    {"state-dir: [a]\n", []string{`vrgate.yaml:1:12: "state-dir" must be a single value, not a list`}},
		"value for section": {"log: info\n", []string{`vrgate.yaml:1:6: "log" must be a section of keys, not a single value`}},
		"log": {"log: {level: loud, format: xml}\n", []string{
			`vrgate.yaml:1:14: "level" is "loud" but must be debug, info, warn or error`,
			`vrgate.yaml:1:28: "format" is "xml" but must be console or json`,
		}},
		"relative paths": {"state-dir: state\napi: {socket: /run/../x}\n", []string{
			`vrgate.yaml:1:12: "state-dir" is "state" but must be an absolute path without . or .. and without a slash at its end`,
			`vrgate.yaml:2:15: "socket" is "/run/../x" but must be an absolute path without . or .. and without a slash at its end`,
		}},
		"long socket": {"api: {socket: /" + strings.Repeat("x", 107) + "}\n", []string{
			`vrgate.yaml:1:15: "socket" is "/` + strings.Repeat("x", 39) + `…" but must be 1 to 107 bytes long, not 108`,
		}},
		"empty text":   {"api: {group: \"\"}\n", []string{`vrgate.yaml:1:14: "group" is "" but must not be empty`}},
		"control text": {"api: {group: \"a\\nb\"}\n", []string{`vrgate.yaml:1:14: "group" is "a\nb" but must not contain control characters`}},
		"numbers": {"workers: {dh: 1025, kernel: 0}\nhalf-open: {total: many, per-source: 1.5}\n", []string{
			`vrgate.yaml:1:15: "dh" is "1025" but must be 1 to 1024 or 0 (one per CPU)`,
			`vrgate.yaml:1:29: "kernel" is "0" but must be 1 to 1024`,
			`vrgate.yaml:2:20: "total" is "many" but must be a decimal number, 1 to 1000000`,
			`vrgate.yaml:2:38: "per-source" is "1.5" but must be a decimal number, 1 to 1000000`,
		}},
		"octal and hexadecimal": {"workers: {dh: 010, kernel: 0x10}\n", []string{
			`vrgate.yaml:1:15: "dh" is "010" but must be a decimal number, 1 to 1024 or 0 (one per CPU)`,
			`vrgate.yaml:1:28: "kernel" is "0x10" but must be a decimal number, 1 to 1024`,
		}},
		"beyond 64 bits": {"workers: {dh: 99999999999999999999}\n", []string{
			`vrgate.yaml:1:15: "dh" is "99999999999999999999" but must be 1 to 1024 or 0 (one per CPU)`,
		}},
		"per source above total": {"half-open:\n  total: 10\n  per-source: 11\n", []string{
			`vrgate.yaml:3:15: "per-source" is 11 but must not be above "total", which is 10`,
		}},
		"total below the default per source": {"half-open: {total: 10}\n", nil},
		"durations":                          {"shutdown-timeout: 11m\n", []string{`vrgate.yaml:1:19: "shutdown-timeout" is "11m" but must be 1s to 600s`}},
		"fractions":                          {"shutdown-timeout: 1500ms\n", []string{`vrgate.yaml:1:19: "shutdown-timeout" is "1500ms" but must be whole seconds`}},
		"no duration": {"shutdown-timeout: soon\n", []string{
			`vrgate.yaml:1:19: "shutdown-timeout" is "soon" but must be a time such as 90, 90s, 10m or 24h, 1s to 600s`,
		}},
		"everything at once": {"log: {level: x}\nfoo: 1\nworkers: {kernel: -1}\n", []string{
			`vrgate.yaml:1:14: "level" is "x" but must be debug, info, warn or error`,
			`vrgate.yaml:2:1: unknown key "foo"; did you mean "log"?`,
			`vrgate.yaml:3:19: "kernel" is "-1" but must be 1 to 1024`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, errs := parseFiles(map[string]string{"vrgate": test.in, "a": good})
			if diff := cmp.Diff(test.want, lines(errs)); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if (c == nil) != (len(errs) > 0) {
				t.Error("there must be a Config iff there are no errors")
			}
		})
	}
}

// TestRouterErrors has every mistake that one router's file can contain.
func TestRouterErrors(t *testing.T) {
	many := func(n int, s string) string { return strings.Repeat(s, n) }
	for name, test := range map[string]struct {
		in   string
		want []string
	}{
		"namespace": {with(t, "server-addresses", "namespace: {name: a/b}\nserver-addresses"), []string{
			`vr/a.yaml:1:19: "name" is "a/b" but must be the name of a file in /run/netns`,
		}},
		"namespace without name": {"namespace: {create: true}\n", []string{`vr/a.yaml:1:12: key "name" is missing`}},
		"flag":                   {"namespace: {name: x, create: yes}\n", []string{`vr/a.yaml:1:30: "create" is "yes" but must be true or false`}},
		"vrf": {"vrf: {device: a/b, table: 254}\n", []string{
			`vr/a.yaml:1:15: "device" is "a/b" but must be a name that an interface can have`,
			`vr/a.yaml:1:27: "table" is 254 but must not be one of the kernel's own tables 253, 254 and 255`,
		}},
		"vrf incomplete": {"vrf: {create: true}\n", []string{
			`vr/a.yaml:1:6: key "device" is missing`,
			`vr/a.yaml:1:6: key "table" is missing`,
		}},
		"addresses": {with(t, "server-addresses: [192.0.2.1]", "server-addresses: [192.0.2.1, 192.0.2.1, fe80::1:2:3, 0.0.0.0, 224.0.0.1, 10.0.0.0/8, here]"), []string{
			`vr/a.yaml:1:31: entry 2 of "server-addresses", 192.0.2.1, is there twice`,
			`vr/a.yaml:1:42: entry 3 of "server-addresses", fe80::1:2:3, is on one link only: it is not enough to say where clients arrive`,
			`vr/a.yaml:1:55: entry 4 of "server-addresses" is "0.0.0.0" but must be the address of a host`,
			`vr/a.yaml:1:64: entry 5 of "server-addresses" is "224.0.0.1" but must be the address of a host`,
			`vr/a.yaml:1:75: entry 6 of "server-addresses" is "10.0.0.0/8" but must be a single address, not a prefix`,
			`vr/a.yaml:1:87: entry 7 of "server-addresses" is "here" but must be an IPv4 or IPv6 address`,
		}},
		"addresses are no list": {with(t, "[192.0.2.1]", "192.0.2.1"), []string{
			`vr/a.yaml:1:19: "server-addresses" must be a list, not a single value`,
		}},
		"policy rules": {with(t, "ipsec:\n", `ipsec:
  proposals: strong
  nat-t: 1
  ike-policy-rules:
    - priority: 0
      authentication: rsa-signature
      encryption: [aes, aes256, aes256]
      hash: []
      group: [modp2048]
      lifetime: 59
      aggressive-mode: yes
      local-address: 192.0.2.9
    - {priority: 7, encryption: [aes256], hash: [sha256], group: [modp2048]}
    - {priority: 7, encryption: [aes256], hash: [sha256], group: [modp2048]}
    - {}
`), []string{
			`vr/a.yaml:3:14: "proposals" is "strong" but must be modern, compatible or legacy`,
			`vr/a.yaml:4:10: "nat-t" is "1" but must be true or false`,
			`vr/a.yaml:6:17: "priority" is "0" but must be 1 to 10000`,
			`vr/a.yaml:7:23: "authentication" is "rsa-signature" but must be psk, rsa, hybrid or any`,
			`vr/a.yaml:8:20: entry 1 of "encryption" is "aes" but must be aes256, aes192, aes128, 3des or des`,
			`vr/a.yaml:8:33: aes256 is twice in "encryption"`,
			`vr/a.yaml:9:13: "hash" has 0 entries but may have 1 to 16`,
			`vr/a.yaml:11:17: "lifetime" is "59" but must be 60s to 86400s`,
			`vr/a.yaml:12:24: "aggressive-mode" is "yes" but must be none, accepted, requested or required`,
			`vr/a.yaml:13:22: "local-address" is 192.0.2.9 but must be one of "server-addresses"`,
			`vr/a.yaml:15:18: priority 7 is there twice; the first is in line 14`,
			`vr/a.yaml:16:7: key "encryption" is missing`,
			`vr/a.yaml:16:7: key "group" is missing`,
			`vr/a.yaml:16:7: key "hash" is missing`,
			`vr/a.yaml:16:7: key "priority" is missing`,
		}},
		"too many policy rules (K2)": {with(t, "ipsec:\n", "ipsec:\n  ike-policy-rules: ["+many(11, "{},")+"]\n"), []string{
			`vr/a.yaml:3:21: "ike-policy-rules" has 11 entries but may have 0 to 10`,
		}},
		"transport profile": {with(t, "          group-keys:\n            - name: main\n              key: 0123456789abcdef\n", `          group-keys:
            - name: main
              key: 0123456789abcdef
              key-file: key
            - name: main
              key: `+many(257, "x")+`
            - key: ""
            - name: f
              key-file: nowhere
            - name: g
        - address: 192.0.2.2
        - address: 192.0.2.1
      remote-address: 1.2.3
      lifetime: 1799
      lifetime-kilobytes: 4294967296
      pfs: modp4
      transforms: [aes256, aes256-sha1, aes256-sha1, aes128gcm16-sha1, rc4-sha1, aes128gcm16, aes256-sha256, aes128-sha256_96]
`), []string{
			`vr/a.yaml:10:25: "key-file" and "key" exclude each other`,
			`vr/a.yaml:11:21: group key "main" is there twice; the first is in line 8`,
			`vr/a.yaml:12:20: "key" must be 1 to 256 bytes long, not 257`,
			`vr/a.yaml:13:15: key "name" is missing`,
			`vr/a.yaml:13:20: "key" must not be empty`,
			`vr/a.yaml:15:25: "key-file" is "nowhere" but the file cannot be read: file does not exist`,
			`vr/a.yaml:16:15: key "key" or "key-file" is missing`,
			`vr/a.yaml:17:11: no key can authenticate a client of 192.0.2.2: it has no "group-keys" and the virtual router no "pre-shared-keys"`,
			`vr/a.yaml:17:20: "address" is 192.0.2.2 but must be one of "server-addresses"`,
			`vr/a.yaml:18:11: no key can authenticate a client of 192.0.2.1: it has no "group-keys" and the virtual router no "pre-shared-keys"`,
			`vr/a.yaml:18:20: local address 192.0.2.1 with remote address 0.0.0.0 is there twice; the first is in line 6`,
			`vr/a.yaml:19:23: "remote-address" is "1.2.3" but must be an IPv4 address such as 192.0.2.1`,
			`vr/a.yaml:20:17: "lifetime" is "1799" but must be 1800s to 864000s`,
			`vr/a.yaml:21:27: "lifetime-kilobytes" is "4294967296" but must be 102400 to 4294967295`,
			`vr/a.yaml:22:12: "pfs" is "modp4" but must be none, modp768, modp1024, modp1536, modp2048, modp3072, modp4096, ecp256, ecp384, ecp521 or curve25519`,
			`vr/a.yaml:23:20: entry 1 of "transforms" is "aes256" but must be aes256-INTEGRITY with sha256, sha384, sha512, sha1, md5 or sha256_96`,
			`vr/a.yaml:23:41: aes256-sha1 is twice in "transforms"`,
			`vr/a.yaml:23:54: entry 4 of "transforms" is "aes128gcm16-sha1" but must be aes128gcm16 alone, which brings its own integrity`,
			`vr/a.yaml:23:72: entry 5 of "transforms" is "rc4-sha1" but must start with a cipher: aes256, aes192, aes128, aes256gcm16, aes192gcm16, aes128gcm16, 3des or des`,
			`vr/a.yaml:23:110: sha256_96 and sha256 exclude each other in one profile: peers offer both by the same number`,
		}},
		"too many group keys": {with(t, "            - name: main\n              key: 0123456789abcdef\n", many(9, "            - {name: x, key: y}\n")), []string{
			`vr/a.yaml:16:15: "group-keys" has 9 entries but may have 0 to 8`,
		}},
		"two transport profiles": {with(t, "l2tp:\n", `    - name: clients
      local-addresses: [{address: 192.0.2.1}]
      remote-address: 198.51.100.1
    - local-addresses: []
  pre-shared-keys: [{name: k, peer-address: 198.51.100.1, key: 0123456789abcdef}]
l2tp:
`), []string{
			`vr/a.yaml:10:13: transport profile "clients" is there twice; the first is in line 4`,
			`vr/a.yaml:13:7: key "name" is missing`,
			`vr/a.yaml:13:24: "local-addresses" has 0 entries but may have 1 to 256`,
		}},
		"pre-shared keys": {with(t, "l2tp:\n", `  pre-shared-keys:
    - {name: a, peer-address: 198.51.100.1, peer-identity: x.example, key: 0123456789abcdef}
    - {name: a, key: 0123456789abcdef}
    - {name: b, peer-address: 198.51.100.2, key-file: private}
    - {name: c, peer-address: 198.51.100.2, key-file: two}
    - {name: d, peer-identity: X.example, key-file: empty}
    - {name: e, peer-identity: x.Example, key-file: too-long}
    - {name: f, peer-identity: "a b@x", key-file: latin1}
    - {name: g, peer-identity: "@x.y", key-file: huge}
    - {name: h, peer-identity: 0.0.0.1, key-file: fifo}
    - {name: i, peer-identity: -x.y, key: 0123456789abcdef}
    - {name: j, peer-identity: 10.0.0.256, key: 0123456789abcdef}
    - {name: k, peer-identity: `+many(81, "x")+`, key: 0123456789abcdef}
l2tp:
`), []string{
			`vr/a.yaml:11:60: "peer-identity" and "peer-address" exclude each other`,
			`vr/a.yaml:12:7: key "peer-address" or "peer-identity" is missing`,
			`vr/a.yaml:12:14: pre-shared key "a" is there twice; the first is in line 11`,
			`vr/a.yaml:13:55: "key-file" is "private" but the file cannot be read: permission denied`,
			`vr/a.yaml:14:31: the peer 198.51.100.2 has a key already, in line 13`,
			`vr/a.yaml:14:55: the secret in the file "two" must not contain control characters`,
			`vr/a.yaml:15:53: the secret in the file "empty" must not be empty`,
			`vr/a.yaml:16:32: the peer "x.example" has a key already, in line 15`,
			`vr/a.yaml:16:53: the secret in the file "too-long" must be 1 to 256 bytes long, not 257`,
			`vr/a.yaml:17:32: "peer-identity" is "a b@x" but must be user@domain`,
			`vr/a.yaml:17:51: the secret in the file "latin1" must be UTF-8`,
			`vr/a.yaml:18:32: "peer-identity" is "@x.y" but must be user@domain`,
			`vr/a.yaml:18:50: "key-file" is "huge" but the file cannot be read: it is too large`,
			`vr/a.yaml:19:32: "peer-identity" is "0.0.0.1" but must be an IPv4 address of a host, a domain name or user@domain`,
			`vr/a.yaml:19:51: "key-file" is "fifo" but the file cannot be read: it is not a regular file`,
			`vr/a.yaml:20:32: "peer-identity" is "-x.y" but must be an IPv4 address, a domain name or user@domain`,
			`vr/a.yaml:21:32: "peer-identity" is "10.0.0.256" but must be an IPv4 address, a domain name or user@domain`,
			`vr/a.yaml:22:32: "peer-identity" is "` + many(40, "x") + `…" but must be at most 80 bytes long`,
		}},
		"l2tp parameters (1.7)": {with(t, "l2tp:\n", `l2tp:
  destruct-timeout: 9
  idle-timeout: 86401
  retransmissions-established: 8
  retransmissions-not-established: 1
  hello-interval: 2h
  receive-window: 33
  challenge: maybe
  disconnect-cause: 7
  max-sessions: 1000001
  setup-timeout: 4s
`), []string{
			`vr/a.yaml:11:21: "destruct-timeout" is "9" but must be 10s to 3600s`,
			`vr/a.yaml:12:17: "idle-timeout" is "86401" but must be 0s to 86400s or 0 (for ever)`,
			`vr/a.yaml:13:32: "retransmissions-established" is "8" but must be 2 to 7`,
			`vr/a.yaml:14:36: "retransmissions-not-established" is "1" but must be 2 to 7`,
			`vr/a.yaml:15:19: "hello-interval" is "2h" but must be 1s to 3600s or 0 (never)`,
			`vr/a.yaml:16:19: "receive-window" is "33" but must be 1 to 32 or 0 (vrgate chooses)`,
			`vr/a.yaml:17:14: "challenge" is "maybe" but must be true or false`,
			`vr/a.yaml:18:21: "disconnect-cause" is "7" but must be true or false`,
			`vr/a.yaml:19:17: "max-sessions" is "1000001" but must be 1 to 1000000 or 0 (no limit)`,
			`vr/a.yaml:20:18: "setup-timeout" is "4s" but must be 5s to 300s`,
		}},
		"destination profiles (G1 to G11)": {with(t, "        - remote-host: default\n", `        - remote-host: default
        - {}
        - remote-host: x
          local-address: 192.0.2.9
          tunnel-password: a
          tunnel-password-file: key
          ip-profile: defualt
          receive-window: -1
          single-shot: once
    - name: any
      lac-address: 0.0.0.0
      host-profiles: []
    - lac-address: 198.51.100.1
    - name: c
      lac-address: 198.51.100.1
      max-sessions: -3
      host-profiles: [x]
`), []string{
			`vr/a.yaml:15:11: host profile "default" is there twice; the first is in line 14`,
			`vr/a.yaml:17:26: "local-address" is 192.0.2.9 but must be one of "server-addresses"`,
			`vr/a.yaml:19:33: "tunnel-password-file" and "tunnel-password" exclude each other`,
			`vr/a.yaml:20:23: "ip-profile" is "defualt" but there is no such IP profile; did you mean "default"?`,
			`vr/a.yaml:21:27: "receive-window" is "-1" but must be 1 to 32 or 0 (vrgate chooses)`,
			`vr/a.yaml:22:24: "single-shot" is "once" but must be true or false`,
			`vr/a.yaml:23:13: destination profile "any" is there twice; the first is in line 12`,
			`vr/a.yaml:24:20: the LAC 0.0.0.0 has a destination profile already, in line 12`,
			`vr/a.yaml:25:22: "host-profiles" has 0 entries but may have 1 to 1000`,
			`vr/a.yaml:26:7: key "host-profiles" is missing`,
			`vr/a.yaml:26:7: key "name" is missing`,
			`vr/a.yaml:28:20: the LAC 198.51.100.1 has a destination profile already, in line 26`,
			`vr/a.yaml:29:21: "max-sessions" is "-3" but must be 1 to 1000000 or 0 (no limit)`,
			`vr/a.yaml:30:23: entry 1 of "host-profiles" must be a section of keys, not a single value`,
		}},
		"4001 destination profiles (G3)": {with(t, "    - name: any\n      host-profiles:\n        - remote-host: default\n", many(4001, "    - {}\n")), []string{
			`vr/a.yaml:4012:7: "destination-profiles" has 4001 entries but may have 0 to 4000`,
		}},
		"listens for nobody": {"server-addresses: [192.0.2.1]\n", []string{
			`vr/a.yaml:1:20: the virtual router listens but has neither destination nor tunnel profile nor static tunnel, so it would refuse everybody`,
		}},
		"listens nowhere": {with(t, "server-addresses: [192.0.2.1]\n", ""), []string{
			`vr/a.yaml:2:3: there are transport profiles but no "server-addresses" on which clients could arrive`,
			`vr/a.yaml:5:20: "address" is 192.0.2.1 but must be one of "server-addresses"`,
		}},
		"plain L2TP nowhere": {"l2tp: {destination-profiles: [{name: a, host-profiles: [{ipsec-required: false}]}]}\nip-profiles: [{name: a, unnumbered-address: 10.0.0.1}]\n", []string{
			`vr/a.yaml:1:7: there are destination profiles but no "server-addresses" on which clients could arrive`,
		}},
		"ppp": {with(t, "ip-profiles:\n", `ppp:
  authentication: [chap, spap, chap]
  mru: 575
  echo-interval: 3601
  echo-failures: 0
  setup-timeout: 5m1s
ip-profiles:
`), []string{
			`vr/a.yaml:16:26: entry 2 of "authentication" is "spap" but must be mschapv2, chap, pap or eap`,
			`vr/a.yaml:16:32: chap is twice in "authentication"`,
			`vr/a.yaml:17:8: "mru" is "575" but must be 576 to 1500`,
			`vr/a.yaml:18:18: "echo-interval" is "3601" but must be 1s to 3600s or 0 (none)`,
			`vr/a.yaml:19:18: "echo-failures" is "0" but must be 1 to 100`,
			`vr/a.yaml:20:18: "setup-timeout" is "5m1s" but must be 5s to 300s`,
		}},
		"ip profiles": {with(t, "    unnumbered-address: 10.0.0.1\n", `    unnumbered-address: 10.0.0.0/24
    dns: [10.0.0.1, 10.0.0.1]
    nbns: [1.1.1.1, 1.1.1.2, 1.1.1.3]
    mtu: 1501
    pool: man
    virtual-router: b
  - name: default
    mss-clamp: no
`), []string{
			`vr/a.yaml:17:25: "unnumbered-address" is "10.0.0.0/24" but must be a single IPv4 address, not a prefix`,
			`vr/a.yaml:18:21: 10.0.0.1 is twice in "dns"`,
			`vr/a.yaml:19:11: "nbns" has 3 entries but may have 1 to 2`,
			`vr/a.yaml:20:10: "mtu" is "1501" but must be 576 to 1500 or 0 (from the negotiated MRU)`,
			`vr/a.yaml:22:21: "virtual-router" is "b" but there is no such virtual router; did you mean "a"?`,
			`vr/a.yaml:23:5: key "unnumbered-address" or "address" is missing`,
			`vr/a.yaml:23:11: IP profile "default" is there twice; the first is in line 16`,
			`vr/a.yaml:24:16: "mss-clamp" is "no" but must be true or false`,
		}},
		"which ip profile": {with(t, "ip-profiles:\n", "ip-profiles:\n  - {name: other, unnumbered-address: 10.0.0.1}\n"), []string{
			`vr/a.yaml:14:11: key "ip-profile" is missing; the virtual router has 2 IP profiles to choose from`,
		}},
		"no ip profile": {with(t, "ip-profiles:\n  - name: default\n    unnumbered-address: 10.0.0.1\n", ""), []string{
			`vr/a.yaml:14:11: the host profile needs an IP profile, but the virtual router has none`,
		}},
		"no such pool": {with(t, "    unnumbered-address: 10.0.0.1\n", "    unnumbered-address: 10.0.0.1\n    pool: man\n"), []string{
			`vr/a.yaml:18:11: "pool" is "man" but the virtual router "a" has no such pool; did you mean "main"?`,
		}},
		"which pool": {with(t, "pools:\n", "pools:\n  - {name: other, ranges: [10.0.1.0/24]}\n"), []string{
			`vr/a.yaml:16:5: key "pool" is missing; the virtual router "a" has 2 pools to choose from`,
		}},
		"no pool": {with(t, "pools:\n  - name: main\n    ranges: [10.0.0.0/24]\n", ""), []string{
			`vr/a.yaml:19:5: the user needs a fixed address: the virtual router "a", in which the IP profile "default" terminates, has no pool`,
		}},
		"pools": {with(t, "    ranges: [10.0.0.0/24]\n", `    ranges: [10.0.0.0/24, 10.0.0.9, 10.1.0.9-10.1.0.1, 10.2.0.1/24, a-b, fe80::1, 0.0.0.0/0]
    exclude: [10.9.0.1, 10.0.0.7]
  - name: main
    ranges: [10.0.0.250-10.0.1.5]
`), []string{
			`vr/a.yaml:20:27: 10.0.0.9 is in two ranges; the other is in line 20`,
			`vr/a.yaml:20:37: entry 3 of "ranges" is "10.1.0.9-10.1.0.1" but its last address comes before its first`,
			`vr/a.yaml:20:56: entry 4 of "ranges" is "10.2.0.1/24" but must be a prefix without host bits: 10.2.0.0/24`,
			`vr/a.yaml:20:69: entry 5 of "ranges" is "a-b" but must be a range such as 10.0.0.10-10.0.0.99, an IPv4 address or a prefix`,
			`vr/a.yaml:20:74: entry 6 of "ranges" is "fe80::1" but must be a range such as 10.0.0.10-10.0.0.99, an IPv4 address or a prefix`,
			`vr/a.yaml:20:83: entry 7 of "ranges" is "0.0.0.0/0" but must consist of addresses that hosts can have`,
			`vr/a.yaml:21:15: 10.9.0.1 is excluded but is in none of the pool's ranges`,
			`vr/a.yaml:22:11: pool "main" is there twice; the first is in line 19`,
			`vr/a.yaml:23:14: 10.0.0.250-10.0.0.254 is in two ranges; the other is in line 20`,
		}},
		"empty pool": {with(t, "    ranges: [10.0.0.0/24]\n", "    ranges: [10.0.0.1-10.0.0.3]\n    exclude: [10.0.0.2-10.0.0.9]\n"), []string{
			`vr/a.yaml:19:11: pool "main" has no address left: exclusions, gateway and fixed addresses take all of them`,
		}},
		"users": {with(t, "    password: secret of alice\n", `    password: secret of alice
  - name: alice
    password: ""
  - name: bob
  - password: x
  - name: carol
    password: x
    password-file: key
    address: 10.0.0.1
  - name: dave
    password-file: nowhere
    address: 10.0.0.77
  - name: erin
    password: x
    address: 10.0.0.77
    virtual-router: aa
`), []string{
			`vr/a.yaml:24:11: user "alice" is there twice; the first is in line 22`,
			`vr/a.yaml:25:15: "password" must not be empty`,
			`vr/a.yaml:26:5: key "password" or "password-file" is missing`,
			`vr/a.yaml:27:5: key "name" is missing`,
			`vr/a.yaml:30:20: "password-file" and "password" exclude each other`,
			`vr/a.yaml:31:14: the address 10.0.0.1 is a gateway address, at vr/a.yaml:17:25`,
			`vr/a.yaml:33:20: "password-file" is "nowhere" but the file cannot be read: file does not exist`,
			`vr/a.yaml:38:21: "virtual-router" is "aa" but there is no such virtual router; did you mean "a"?`,
		}},
		"shared fixed address": {with(t, "    password: secret of alice\n", "    password: secret of alice\n    address: 10.0.0.77\n  - {name: bob, password: b, address: 10.0.0.77}\n"), []string{
			`vr/a.yaml:25:39: the address 10.0.0.77 already belongs to another user of the virtual router "a", at vr/a.yaml:24:14`,
		}},
		"no transport profile": {"server-addresses: [192.0.2.1]\n" + good[strings.Index(good, "l2tp:"):], []string{
			`vr/a.yaml:6:11: the host profile requires IPsec, but the virtual router has no transport profile that would accept it`,
		}},
		"17 keys by identity": {with(t, "l2tp:\n", "  pre-shared-keys:\n"+func() string {
			var s strings.Builder
			for i := range 18 {
				s.WriteString("    - {name: k" + string(rune('a'+i)) + ", peer-identity: " + string(rune('a'+i)) + ".example, key: 0123456789abcdef}\n")
			}
			return s.String()
		}()+"l2tp:\n"), []string{
			`vr/a.yaml:27:33: there are more than 16 keys by identity: in main mode each of them has to be tried`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, errs := parseFiles(map[string]string{"a": test.in})
			slices.Sort(test.want)
			got := lines(errs)
			slices.Sort(got)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if (c == nil) != (len(errs) > 0) {
				t.Error("there must be a Config iff there are no errors")
			}
		})
	}
}

// TestErrorsBetweenFiles has the contradictions between virtual routers.
func TestErrorsBetweenFiles(t *testing.T) {
	// in returns good inside a namespace with an address of its own.
	in := func(place, addr string) string { return place + strings.ReplaceAll(good, "192.0.2.1", addr) }
	for name, test := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"one namespace, two routers": {
			map[string]string{"a": good, "b": in("", "192.0.2.2"), "c": in("namespace: {name: n}\n", "192.0.2.1"), "d": in("namespace:\n  name: n\n", "192.0.2.2")},
			[]string{
				`vr/b.yaml:1:1: the namespace in which vrgate runs is already the virtual router "a" (vr/a.yaml); give this one a namespace or a VRF of its own`,
				`vr/d.yaml:2:9: namespace "n" is already the virtual router "c" (vr/c.yaml); give this one a namespace or a VRF of its own`,
			},
		},
		"one device, one table, one address": {
			map[string]string{
				"a": in("vrf: {device: v, table: 10}\n", "192.0.2.1"),
				"b": in("vrf: {device: v, table: 10}\n", "192.0.2.1"),
				"c": in("namespace: {name: n}\nvrf: {device: v, table: 10}\n", "192.0.2.1"),
			},
			[]string{
				`vr/b.yaml:1:15: the VRF device "v" is already the virtual router "a" (vr/a.yaml)`,
				`vr/b.yaml:1:25: the routing table 10 already belongs to the virtual router "a" (vr/a.yaml)`,
				`vr/b.yaml:2:20: the server address 192.0.2.1 belongs to the virtual router "a" (vr/a.yaml) in the same namespace; the kernel keeps the SAs of both in one table`,
			},
		},
		"who makes the namespace": {
			map[string]string{
				"a": in("namespace: {name: n, create: true}\n", "192.0.2.1"),
				"b": in("namespace: {name: n}\nvrf: {device: v, table: 10}\n", "192.0.2.2"),
			},
			[]string{`vr/b.yaml:1:19: "create" of namespace "n" must be the same as in vr/a.yaml`},
		},
		"terminating in another namespace": {
			map[string]string{
				"a": strings.Replace(good, "    unnumbered-address: 10.0.0.1\n", "    unnumbered-address: 10.0.0.1\n    virtual-router: b\n", 1),
				"b": "namespace: {name: n}\npools: [{name: main, ranges: [10.0.0.0/24]}]\n",
			},
			[]string{`vr/a.yaml:18:21: the virtual router "b" is in another namespace; L2TP subscribers can terminate in another virtual router of the same namespace only`},
		},
		"user without a pool where it terminates": {
			map[string]string{
				"a": good + "    virtual-router: b\n  - {name: bob, password: b, virtual-router: c}\n",
				"b": "vrf: {device: v, table: 10}\npools: [{name: other, ranges: [10.0.0.0/24]}]\n",
				"c": "namespace: {name: n}\n",
			},
			[]string{
				`vr/a.yaml:24:21: the user needs a fixed address: the virtual router "b" has no pool "main", from which the IP profile "default" takes addresses`,
				`vr/a.yaml:25:46: the virtual router "c" is in another namespace; L2TP subscribers can terminate in another virtual router of the same namespace only`,
			},
		},
		"one fixed address in two files": {
			map[string]string{
				"a": good + "    address: 10.0.0.9\n",
				"b": in("vrf: {device: v, table: 10}\n", "192.0.2.2") + "    address: 10.0.0.9\n    virtual-router: a\n",
			},
			[]string{`vr/b.yaml:25:14: the address 10.0.0.9 already belongs to another user of the virtual router "a", at vr/a.yaml:24:14`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, errs := parseFiles(test.files)
			if diff := cmp.Diff(test.want, lines(errs)); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

// TestWarnings has what is legal but unwise.
func TestWarnings(t *testing.T) {
	in := strings.NewReplacer(
		"ipsec:\n", `ipsec:
  proposals: legacy
  ike-policy-rules:
    - {priority: 1, encryption: [des, 3des], hash: [md5], group: [modp768, modp1024]}
  pre-shared-keys:
    - {name: k, peer-address: 198.51.100.1, key-file: world}
`,
		"key: 0123456789abcdef", "key: short\n      transforms: [3des-md5, aes256-sha1]",
		"- remote-host: default", "- ipsec-required: false",
		"ip-profiles:", "ppp: {authentication: [pap]}\nip-profiles:",
	).Replace(good)
	sources := []source{
		{file: "vrgate.yaml", mode: 0o644},
		{file: "vr/a.yaml", name: "a", data: []byte(in), mode: 0o644},
	}
	_, warnings, errs := parse(sources, fakeSecrets, fakeFiles, testNow)
	if len(errs) > 0 {
		t.Fatal(Errors(errs))
	}
	want := []string{
		`vr/a.yaml:3:14: the proposal profile legacy accepts algorithms that are broken (DES, MD5, MODP 768)`,
		`vr/a.yaml:5:34: des has a 64 bit block`,
		`vr/a.yaml:5:39: 3des has a 64 bit block`,
		`vr/a.yaml:5:53: md5 is broken as a hash`,
		`vr/a.yaml:5:67: modp768 can be computed in practice by well equipped attackers`,
		`vr/a.yaml:5:76: modp1024 can be computed in practice by well equipped attackers`,
		`vr/a.yaml:7:55: every local user can read the secret file "world" (mode 0644)`,
		`vr/a.yaml:13:15: whoever knows the group key "main" can pose as this server to its clients; give a client a key of its own where its address is known`,
		`vr/a.yaml:14:20: a pre-shared key of fewer than 16 characters can be guessed from one recorded connection`,
		`vr/a.yaml:14:20: this file holds secrets and every local user can read it (mode 0644)`,
		`vr/a.yaml:15:20: 3des has a 64 bit block`,
		`vr/a.yaml:15:20: md5 is broken as a hash`,
		`vr/a.yaml:20:27: tunnels in clear text are accepted`,
		`vr/a.yaml:21:24: pap shows the password to whoever reads the session; it is safe inside IPsec only`,
	}
	if diff := cmp.Diff(want, lines(warnings)); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestMessagesHoldNoSecrets puts a marker wherever a secret can be, together
// with every kind of mistake around it.
func TestMessagesHoldNoSecrets(t *testing.T) {
	const marker = "hunter2hunter2"
	bad := []string{
		marker + strings.Repeat("x", 300), `"` + marker + `\n"`, "[" + marker + "]", "{" + marker + ": 1}", "&a " + marker, `"` + marker,
	}
	for _, v := range bad {
		for _, old := range []string{"key: 0123456789abcdef", "password: secret of alice"} {
			key, _, _ := strings.Cut(old, ":")
			in := with(t, old, key+": "+v)
			_, warnings, errs := parseFiles(map[string]string{"a": in})
			if len(errs) == 0 {
				t.Errorf("%s: %q is not an error", key, v)
			}
			for _, d := range append(warnings, errs...) {
				if strings.Contains(d.Message, marker) {
					t.Errorf("a message shows a secret: %v", d)
				}
			}
		}
	}
}

func TestErrorsIsOneLinePerMistake(t *testing.T) {
	var err error = Errors{{Pos{"f", 1, 2}, "a"}, {Pos{File: "g"}, "b"}}
	if got, want := err.Error(), "f:1:2: a\ng: b"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var e Errors
	if !errors.As(err, &e) || len(e) != 2 {
		t.Error("Errors is not found in the error chain")
	}
}
