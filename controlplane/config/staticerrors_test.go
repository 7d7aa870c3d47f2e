package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// oneStatic is a router a with one tunnel, whose lines start at 4.
const oneStatic = `namespace: {name: a}
server-addresses: [192.0.2.1]
static-tunnels:
- name: hq
  peers: [198.51.100.7]
  pre-shared-key: {key: the long random key of hq}
  networks: [{local: 10.1.0.0/16, remote: 10.2.0.0/16}]
`

// TestStaticErrors has every mistake that a static tunnel can contain by itself, each at its place.
func TestStaticErrors(t *testing.T) {
	const (
		peers, key, networks = "  peers: [198.51.100.7]\n", "  pre-shared-key: {key: the long random key of hq}\n", "  networks: [{local: 10.1.0.0/16, remote: 10.2.0.0/16}]\n"
		name, servers        = "- name: hq\n", "server-addresses: [192.0.2.1]\n"
		all                  = name + peers + key + networks
	)
	for what, test := range map[string]struct {
		from, to string // what is replaced; without from the end
		want     []string
	}{
		"nothing": {all, "- {}\n", []string{
			`vr/a.yaml:4:3: key "name" is missing`,
			`vr/a.yaml:4:3: key "networks" is missing`,
			`vr/a.yaml:4:3: no key can authenticate the peer: the tunnel has neither "pre-shared-key" nor "certificate", and none of "pre-shared-keys" of the virtual router "a" is for its address or identity`,
		}},
		"not a section":     {all, "- x\n", []string{`vr/a.yaml:4:3: entry 1 of "static-tunnels" must be a section of keys, not a single value`}},
		"no name":           {name, "- enabled: true\n", []string{`vr/a.yaml:4:3: key "name" is missing`}},
		"long name":         {name, "- name: nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn\n", []string{`vr/a.yaml:4:9: "name" is "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn…" but must be 1 to 80 bytes long, not 81`}},
		"no server address": {servers, "", []string{`vr/a.yaml:3:3: the virtual router "a", which sends the encrypted packets of the tunnel, has no IPv4 address in "server-addresses"`}},
		"only IPv6":         {servers, "server-addresses: [\"2001:db8::1\"]\n", []string{`vr/a.yaml:4:3: the virtual router "a", which sends the encrypted packets of the tunnel, has no IPv4 address in "server-addresses"`}},
		"two addresses":     {servers, "server-addresses: [192.0.2.1, 192.0.2.2]\n", []string{`vr/a.yaml:4:3: key "local-address" is missing; the virtual router "a" has 2 IPv4 addresses to choose from`}},
		"another's address": {"", "  local-address: 192.0.2.9\n", []string{`vr/a.yaml:8:18: "local-address" is 192.0.2.9 but must be one of "server-addresses" of the virtual router "a"`}},
		"IPv6 address":      {"", "  local-address: 2001:db8::1\n", []string{`vr/a.yaml:8:18: "local-address" is "2001:db8::1" but must be an IPv4 address: IPsec is served over IPv4 only`}},
		"our own end":       {peers, "  peers: [192.0.2.1]\n", []string{`vr/a.yaml:5:11: the peer 192.0.2.1 is our own end`}},
		"peer twice": {peers, "  peers: [198.51.100.7, b.example, 198.51.100.7, B.example]\n", []string{
			`vr/a.yaml:5:36: 198.51.100.7 is twice in "peers"`,
			`vr/a.yaml:5:50: b.example is twice in "peers"`,
		}},
		"peers that are none": {peers, "  peers: [\"2001:db8::7\", 0.0.0.0, 198.51.100.0/24, a b, -x.example, 198.51.100]\n", []string{
			`vr/a.yaml:5:11: entry 1 of "peers" is "2001:db8::7" but must be an IPv4 address or the name of a host: IPsec is served over IPv4 only`,
			`vr/a.yaml:5:26: entry 2 of "peers" is "0.0.0.0" but must be the address of a host; a peer that may have any address has no "peers"`,
			`vr/a.yaml:5:35: entry 3 of "peers" is "198.51.100.0/24" but must be an IPv4 address or the name of a host`,
			`vr/a.yaml:5:52: entry 4 of "peers" is "a b" but must be an IPv4 address or the name of a host`,
			`vr/a.yaml:5:57: entry 5 of "peers" is "-x.example" but must be an IPv4 address or the name of a host`,
			`vr/a.yaml:5:69: entry 6 of "peers" is "198.51.100" but must be an IPv4 address or the name of a host`,
		}},
		"too many peers":           {peers, "  peers: [198.51.100.1, 198.51.100.2, 198.51.100.3, 198.51.100.4, 198.51.100.5, 198.51.100.6, 198.51.100.7, 198.51.100.8, 198.51.100.9]\n", []string{`vr/a.yaml:5:10: "peers" has 9 entries but may have 0 to 8`}},
		"a peer that is a section": {peers, "  peers: [{name: x}]\n", []string{`vr/a.yaml:5:11: entry 1 of "peers" must be a single value, not a section of keys`}},
		"no such router":           {"", "  transport-virtual-router: bb\n", []string{`vr/a.yaml:8:29: "transport-virtual-router" is "bb" but there is no such virtual router; did you mean "b"?`}},
		"a router without address": {"", "  transport-virtual-router: b\n", []string{
			`vr/a.yaml:2:20: the virtual router listens but has neither destination nor tunnel profile nor static tunnel, so it would refuse everybody`,
			`vr/a.yaml:4:3: the virtual router "b", which sends the encrypted packets of the tunnel, has no IPv4 address in "server-addresses"`,
		}},
		"no such mode":        {"", "  mode: routed\n", []string{`vr/a.yaml:8:9: "mode" is "routed" but must be route, policy or transport`}},
		"no such start":       {"", "  start: always\n", []string{`vr/a.yaml:8:10: "start" is "always" but must be nailed-up, on-demand or respond`}},
		"nailed up to nobody": {peers, "  start: nailed-up\n", []string{`vr/a.yaml:5:10: "start" is nailed-up but there are no "peers" that could be dialled`}},
		"on demand to nobody": {peers, "  start: on-demand\n", []string{`vr/a.yaml:5:10: "start" is on-demand but there are no "peers" that could be dialled`}},
		"server that dials":   {"", "  start: on-demand\n  extended-authentication: server\n", []string{`vr/a.yaml:8:10: "start" is on-demand but must be respond with extended-authentication server: it is who begins that is asked for a user`}},
		"client that waits":   {"", "  start: respond\n  extended-authentication: client\n  user: u\n  password: p\n", []string{`vr/a.yaml:9:28: "extended-authentication" is client but we do not begin, and it is who begins that is asked for a user`}},
		"client of anybody":   {peers, "  extended-authentication: client\n  user: u\n  password: p\n", []string{`vr/a.yaml:5:28: "extended-authentication" is client but we do not begin, and it is who begins that is asked for a user`}},
		"client without user": {"", "  extended-authentication: client\n", []string{
			`vr/a.yaml:8:28: key "password" or "password-file" is missing`,
			`vr/a.yaml:8:28: key "user" is missing with extended-authentication client`,
		}},
		"client's user with space":   {"", "  extended-authentication: client\n  user: a b\n  password: p\n", []string{`vr/a.yaml:9:9: "user" is "a b" but must be ASCII without spaces`}},
		"client's secret with space": {"", "  extended-authentication: client\n  user: u\n  password: hunter 2\n", []string{`vr/a.yaml:10:13: the password must be 1 to 31 characters of ASCII without spaces`}},
		"client's secret of 32":      {"", "  extended-authentication: client\n  user: u\n  password: hunter7890123456789012345678901x\n", []string{`vr/a.yaml:10:13: "password" must be 1 to 31 bytes long, not 32`}},
		"client's user of 32":        {"", "  extended-authentication: client\n  user: x1234567890123456789012345678901\n  password: p\n", []string{`vr/a.yaml:9:9: "user" is "x1234567890123456789012345678901" but must be 1 to 31 bytes long, not 32`}},
		"both passwords":             {"", "  extended-authentication: client\n  user: u\n  password: p\n  password-file: key\n", []string{`vr/a.yaml:11:18: "password-file" and "password" exclude each other`}},
		"user of nobody":             {"", "  user: u\n", []string{`vr/a.yaml:8:9: "user" goes with extended-authentication client`}},
		"password of a server":       {"", "  extended-authentication: server\n  password: p\n", []string{`vr/a.yaml:9:13: "password" goes with extended-authentication client`}},
		"no such XAuth":              {"", "  extended-authentication: both\n  user: u\n", []string{`vr/a.yaml:8:28: "extended-authentication" is "both" but must be none, server or client`}},
		"idle without demand":        {"", "  idle-timeout: 60\n", []string{`vr/a.yaml:8:17: "idle-timeout" goes with start on-demand`}},
		"idle too short":             {"", "  start: on-demand\n  idle-timeout: 9\n", []string{`vr/a.yaml:9:17: "idle-timeout" is "9" but must be 10s to 86400s or 0 (never)`}},
		"fall-back too short":        {"", "  fall-back: 9\n", []string{`vr/a.yaml:8:14: "fall-back" is "9" but must be 10s to 86400s or 0 (never)`}},
		"back-off falls":             {"", "  back-off: 2h\n  back-off-max: 1h\n", []string{`vr/a.yaml:9:17: "back-off-max" is 1h0m0s but must not be below "back-off", which is 2h0m0s`}},
		"back-off of nothing": {"", "  back-off: 0\n  back-off-max: 24h1s\n", []string{
			`vr/a.yaml:8:13: "back-off" is "0" but must be 1s to 86400s`,
			`vr/a.yaml:9:17: "back-off-max" is "24h1s" but must be 1s to 86400s`,
		}},
		"no key":              {key, "", []string{`vr/a.yaml:4:3: no key can authenticate the peer: the tunnel has neither "pre-shared-key" nor "certificate", and none of "pre-shared-keys" of the virtual router "a" is for its address or identity`}},
		"key and certificate": {"", "  certificate: gate\n", []string{`vr/a.yaml:8:16: "certificate" and "pre-shared-key" exclude each other`}},
		"no such certificate": {key, "  certificate: gate\n", []string{
			`vr/a.yaml:6:16: "certificate" is "gate" but there is no such certificate in "own"`,
			`vr/a.yaml:6:16: the static tunnel has a certificate but there are no "authorities" that could answer for those of peers`,
		}},
		"empty key":             {key, "  pre-shared-key: {}\n", []string{`vr/a.yaml:6:19: key "key" or "key-file" is missing`}},
		"key as text":           {key, "  pre-shared-key: hunter2\n", []string{`vr/a.yaml:6:19: "pre-shared-key" must be a section of keys, not a single value`}},
		"two keys":              {key, "  pre-shared-key: {key: hunter2, key-file: key}\n", []string{`vr/a.yaml:6:44: "key-file" and "key" exclude each other`}},
		"no key file":           {key, "  pre-shared-key: {key-file: there-is-none}\n", []string{`vr/a.yaml:6:30: "key-file" is "there-is-none" but the file cannot be read: file does not exist`}},
		"star in an identity":   {"", "  peer-id: \"*@example.net\"\n", []string{`vr/a.yaml:8:12: "peer-id" is "*@example.net" but must be one identity, without *`}},
		"identity that is none": {"", "  local-id: \"dn:x\"\n", []string{`vr/a.yaml:8:13: "local-id" is "dn:x" but must be a distinguished name where it starts with dn:, such as dn:CN=alice,O=Example`}},
		"lifetime": {"", "  lifetime: 179\n  lifetime-kilobytes: 102399\n", []string{
			`vr/a.yaml:8:13: "lifetime" is "179" but must be 180s to 3000000s`,
			`vr/a.yaml:9:23: "lifetime-kilobytes" is "102399" but must be 102400 to 4294967295`,
		}},
		"lifetime too long": {"", "  lifetime: 3000001\n", []string{`vr/a.yaml:8:13: "lifetime" is "3000001" but must be 180s to 3000000s`}},
		"transform twice":   {"", "  transforms: [aes256-sha1, aes256-sha1]\n", []string{`vr/a.yaml:8:29: aes256-sha1 is twice in "transforms"`}},
		"no networks":       {networks, "", []string{`vr/a.yaml:4:3: key "networks" is missing`}},
		"empty networks":    {networks, "  networks: []\n", []string{`vr/a.yaml:7:13: "networks" has 0 entries but may have 1 to 64`}},
		"half a pair": {networks, "  networks: [{local: 10.0.0.0/8}, {remote: 10.0.0.0/8}]\n", []string{
			`vr/a.yaml:7:14: key "remote" is missing`,
			`vr/a.yaml:7:35: key "local" is missing`,
		}},
		"host bits":  {networks, "  networks: [{local: 10.1.0.1/16, remote: 10.2.0.0/16}]\n", []string{`vr/a.yaml:7:22: "local" is "10.1.0.1/16" but must be a network without host bits: 10.1.0.0/16`}},
		"pair twice": {networks, "  networks: [{name: x, local: 10.1.0.0/16, remote: 10.2.0.0/16}, {name: y, local: 10.1.0.0/16, remote: 10.2.0.0/16}]\n", []string{`vr/a.yaml:7:66: the pair of networks is there twice; the first is in line 7`}},
		"names of pairs": {networks, "  networks: [{name: \"2\", local: 10.1.0.0/16, remote: 10.2.0.0/16}, {local: 10.1.0.0/16, remote: 10.3.0.0/16}, {name: \"2\", local: 10.1.0.0/16, remote: 10.4.0.0/16}]\n", []string{
			`vr/a.yaml:7:68: a pair of networks "2" is there twice; the first is in line 7`,
			`vr/a.yaml:7:118: a pair of networks "2" is there twice; the first is in line 7`,
		}},
		"port of no protocol": {networks, "  networks: [{local: 10.1.0.0/16, remote: 10.2.0.0/16, local-port: 1, protocol: any}, {local: 10.1.0.0/16, remote: 10.2.0.0/16, remote-port: 1, protocol: gre}]\n", []string{
			`vr/a.yaml:7:68: "local-port" goes with protocol tcp or udp`,
			`vr/a.yaml:7:142: "remote-port" goes with protocol tcp or udp`,
		}},
		"port too large": {networks, "  networks: [{local: 10.1.0.0/16, remote: 10.2.0.0/16, local-port: 65536, protocol: tcp}]\n", []string{`vr/a.yaml:7:68: "local-port" is "65536" but must be 1 to 65535 or 0 (any)`}},
		"protocol": {networks, "  networks: [{local: 10.1.0.0/16, remote: 10.2.0.0/16, protocol: 256}, {local: 10.1.0.0/16, remote: 10.2.0.0/16, protocol: tpc}]\n", []string{
			`vr/a.yaml:7:66: "protocol" is "256" but must be a number, 1 to 255, or icmp, ipip, tcp, udp, gre, esp, ah or sctp`,
			`vr/a.yaml:7:124: "protocol" is "tpc" but must be a number, 1 to 255, or icmp, ipip, tcp, udp, gre, esp, ah or sctp`,
		}},
		"tunnel's name for the interface": {name, "- name: the headquarters\n", []string{`vr/a.yaml:4:3: key "name" of "interface" is missing: the name of the tunnel, "the headquarters", cannot be that of an interface`}},
		"interface's name":                {"", "  interface: {name: a/b}\n", []string{`vr/a.yaml:8:21: "name" is "a/b" but must be a name that an interface can have`}},
		"interface's bounds": {"", "  interface: {mtu: 575, addresses: [10.1.255.0/24], routes: [{network: 10.2.0.1/16, metric: 4294967296}]}\n", []string{
			`vr/a.yaml:8:20: "mtu" is "575" but must be 576 to 9000`,
			`vr/a.yaml:8:37: entry 1 of "addresses" is "10.1.255.0/24" but must be the address of a host, not that of the network or its broadcast address`,
			`vr/a.yaml:8:72: "network" is "10.2.0.1/16" but must be a network without host bits: 10.2.0.0/16`,
			`vr/a.yaml:8:93: "metric" is "4294967296" but must be 0 to 4294967295`,
		}},
		"route without network": {"", "  interface: {routes: [{metric: 1}]}\n", []string{`vr/a.yaml:8:24: key "network" is missing`}},
		"an address twice":      {"", "  interface: {addresses: [10.1.255.1/32, 10.1.255.1/24]}\n", []string{`vr/a.yaml:8:42: the address 10.1.255.1 is there twice in virtual router "a"; the first is at vr/a.yaml:8:27`}},
		"a route twice":         {"", "  interface: {routes: [{network: 10.2.0.0/16}, {network: 10.2.0.0/16, metric: 1}, {network: 10.2.0.0/16}]}\n", []string{`vr/a.yaml:8:93: virtual router "a" has another route to 10.2.0.0/16 with metric 0, at vr/a.yaml:8:34`}},
		"a link's route":        {"", "links:\n- {name: x, interface: {device: x}, addresses: [10.1.255.1/24], routes: [{network: 10.2.0.0/16}]}\n", []string{`vr/a.yaml:7:43: virtual router "a" has another route to 10.2.0.0/16 with metric 0, at vr/a.yaml:9:84`}},
		"a link's name and address": {"", "  interface: {name: x, addresses: [10.1.255.1/32]}\nlinks:\n- {name: x, interface: {device: x}, addresses: [10.1.255.1/24]}\n", []string{
			`vr/a.yaml:8:21: an interface "x" is in this namespace twice; the first is at vr/a.yaml:10:10`,
			`vr/a.yaml:8:36: the address 10.1.255.1 is there twice in virtual router "a"; the first is at vr/a.yaml:10:49`,
		}},
		"check of nobody": {"", "  check: {period: 0, timeout: 0, tolerance: 101, tcp-port: 65536}\n", []string{
			`vr/a.yaml:8:10: key "target" is missing`,
			`vr/a.yaml:8:19: "period" is "0" but must be 1s to 3600s`,
			`vr/a.yaml:8:31: "timeout" is "0" but must be 1s to 3600s`,
			`vr/a.yaml:8:45: "tolerance" is "101" but must be 1 to 100`,
			`vr/a.yaml:8:60: "tcp-port" is "65536" but must be 1 to 65535 or 0 (ICMP)`,
		}},
		"check elsewhere":         {"", "  check: {target: 10.3.0.1}\n", []string{`vr/a.yaml:8:19: "target" is 10.3.0.1 but must be in a remote network of the tunnel`}},
		"check from elsewhere":    {"", "  check: {target: 10.2.0.1, source: 10.3.0.1}\n", []string{`vr/a.yaml:8:37: "source" is 10.3.0.1 but must be in a local network of the tunnel`}},
		"check that waits":        {"", "  check: {target: 10.2.0.1, period: 5, timeout: 6}\n", []string{`vr/a.yaml:8:49: "timeout" is 6s but must not be above "period", which is 5s`}},
		"check that does not fit": {networks, "  networks: [{local: 10.1.0.0/16, remote: 10.2.0.0/16, protocol: tcp, remote-port: 80}]\n  check: {target: 10.2.0.1, tcp-port: 443}\n", []string{`vr/a.yaml:8:10: no pair of networks carries the packets of the check`}},
		"check from a port":       {networks, "  networks: [{local: 10.1.0.0/16, remote: 10.2.0.0/16, protocol: tcp, local-port: 80}]\n  check: {target: 10.2.0.1, tcp-port: 443}\n", []string{`vr/a.yaml:8:10: no pair of networks carries the packets of the check`}},
		"echo in TCP":             {networks, "  networks: [{local: 10.1.0.0/16, remote: 10.2.0.0/16, protocol: tcp}]\n  check: {target: 10.2.0.1}\n", []string{`vr/a.yaml:8:10: no pair of networks carries the packets of the check`}},
		"check across pairs":      {networks, "  networks: [{local: 10.1.0.0/16, remote: 10.2.0.0/16}, {local: 10.3.0.0/16, remote: 10.4.0.0/16}]\n  check: {target: 10.2.0.1, source: 10.3.0.1}\n", []string{`vr/a.yaml:8:10: no pair of networks carries the packets of the check`}},
		"policy with interface":   {"", "  mode: policy\n  interface: {name: x}\n", []string{`vr/a.yaml:9:14: "interface" goes with mode route; a tunnel of mode policy has none`}},
		"policy elsewhere": {"", "  mode: policy\n  transport-virtual-router: b\n", []string{
			`vr/a.yaml:2:20: the virtual router listens but has neither destination nor tunnel profile nor static tunnel, so it would refuse everybody`,
			`vr/a.yaml:4:3: the virtual router "b", which sends the encrypted packets of the tunnel, has no IPv4 address in "server-addresses"`,
			`vr/a.yaml:9:29: "transport-virtual-router" goes with mode route; a tunnel of mode policy has the traffic of the virtual router that sends its packets`,
		}},
		"transport by name": {peers, "  peers: [a.example, 198.51.100.7]\n  mode: transport\n", []string{
			`vr/a.yaml:5:11: the peer is "a.example" but must be an address: links through a tunnel of mode transport have the address of their other end`,
			`vr/a.yaml:8:14: "protocol" must be gre or ipip in mode transport`,
			`vr/a.yaml:8:22: "local" goes with modes route and policy; in mode transport the addresses of the two ends are meant`,
			`vr/a.yaml:8:43: "remote" goes with modes route and policy; in mode transport the addresses of the two ends are meant`,
		}},
		"transport to nobody": {networks, "  mode: transport\n  networks: [{local: 10.0.0.0/8, remote: 10.0.0.0/8, protocol: tcp, local-port: 3}, {}]\n", []string{
			`vr/a.yaml:8:22: "local" goes with modes route and policy; in mode transport the addresses of the two ends are meant`,
			`vr/a.yaml:8:42: "remote" goes with modes route and policy; in mode transport the addresses of the two ends are meant`,
			`vr/a.yaml:8:64: "protocol" must be gre or ipip in mode transport`,
			`vr/a.yaml:8:81: "local-port" goes with modes route and policy`,
			`vr/a.yaml:8:85: "protocol" must be gre or ipip in mode transport`,
		}},
		"transport with anybody": {peers, "  mode: transport\n", []string{
			`vr/a.yaml:4:3: key "peers" is missing: a tunnel of mode transport protects the packets of links to known addresses`,
			`vr/a.yaml:7:14: "protocol" must be gre or ipip in mode transport`,
			`vr/a.yaml:7:22: "local" goes with modes route and policy; in mode transport the addresses of the two ends are meant`,
			`vr/a.yaml:7:43: "remote" goes with modes route and policy; in mode transport the addresses of the two ends are meant`,
		}},
		"name servers":      {"", "name-servers: [192.0.2.53, 192.0.2.53]\n", []string{`vr/a.yaml:8:28: 192.0.2.53 is twice in "name-servers"`}},
		"name server":       {"", "name-servers: [\"2001:db8::53\"]\n", []string{`vr/a.yaml:8:16: entry 1 of "name-servers" is "2001:db8::53" but must be an IPv4 address; IPv6 is not possible here`}},
		"four name servers": {"", "name-servers: [192.0.2.53, 192.0.2.54, 192.0.2.55, 192.0.2.56]\n", []string{`vr/a.yaml:8:15: "name-servers" has 4 entries but may have 0 to 3`}},
		"misspelt key":      {"", "  peer: [198.51.100.7]\n", []string{`vr/a.yaml:8:3: unknown key "peer"; did you mean "peers"?`}},
	} {
		in := oneStatic + test.to
		if test.from != "" {
			in = strings.Replace(oneStatic, test.from, test.to, 1)
		}
		_, _, errs := parseFiles(map[string]string{"a": in, "b": "namespace: {name: b}\n"})
		if diff := cmp.Diff(test.want, lines(errs)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}
