package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// between is a tunnel x of router a, or what differs from that, by its values. Its networks come last.
func between(values ...string) string {
	t := map[string]string{
		"name": "x", "local-address": "192.0.2.1", "peers": "[198.51.100.7]", "pre-shared-key": "{key: the long random key of x}",
		"networks": "[{local: 10.1.0.0/16, remote: 10.2.0.0/16}]",
	}
	order := []string{"name", "local-address", "peers", "pre-shared-key"}
	for i := 0; i < len(values); i += 2 {
		if _, there := t[values[i]]; !there {
			order = append(order, values[i])
		}
		t[values[i]] = values[i+1]
	}
	var parts []string
	for _, k := range append(order, "networks") {
		if t[k] != "" {
			parts = append(parts, k+": "+t[k])
		}
	}
	return "- {" + strings.Join(parts, ", ") + "}\n"
}

// TestStaticsTogether has what static tunnels say of each other, and of the rest of the files.
func TestStaticsTogether(t *testing.T) {
	const other = "[{local: 10.1.0.0/16, remote: 10.3.0.0/16}]"
	const ipsec = "ipsec:\n  pre-shared-keys: [{name: k, peer-address: 198.51.100.7, key: the long random key of all}]\n"
	const certificates = "ipsec:\n  certificates: {authorities: [ca.pem], own: [{name: gate, certificate: gate.pem, key: gate-key.pem}]}\n"
	rule := func(more string) string {
		return "ipsec: {ike-policy-rules: [{priority: 1, encryption: [aes256], hash: [sha256], group: [modp2048]" + more + "}]}\n"
	}
	for name, test := range map[string]struct {
		a, b     string // what is below "static-tunnels:"
		more     string // of a
		want     []string
		warnings []string
	}{
		"one": {
			a: between(),
		},
		"a name twice": {
			a:    between() + between("peers", "[198.51.100.8]", "interface", "{name: y, routes: []}"),
			want: []string{`vr/a.yaml:5:10: a static tunnel "x" is there twice; the first is at vr/a.yaml:4:10`},
		},
		"a name in two files": {
			a:    between(),
			b:    between("transport-virtual-router", "a", "peers", "[198.51.100.8]"),
			want: []string{`vr/b.yaml:3:10: a static tunnel "x" is there twice; the first is at vr/a.yaml:4:10`},
		},
		"an interface of two files": {
			a: between("transport-virtual-router", "a", "interface", "{name: z}"),
			b: between("name", "y", "transport-virtual-router", "a", "peers", "[198.51.100.8]", "interface", "{name: z}"),
		},
		"a route of two": {
			a:    between() + between("name", "y", "peers", "[198.51.100.8]"),
			want: []string{`vr/a.yaml:5:151: virtual router "a" has another route to 10.2.0.0/16 with metric 0, at vr/a.yaml:4:151`},
		},
		"a route of two with metrics": {
			a: between() + between("name", "y", "peers", "[198.51.100.8]", "interface", "{routes: [{network: 10.2.0.0/16, metric: 1}]}"),
		},
		"the same route in two routers": {
			a: between(),
			b: between("name", "y", "transport-virtual-router", "a", "peers", "[198.51.100.8]", "local-address", "192.0.2.2"),
		},
		"one peer, one key": {
			a:    between() + between("name", "y", "networks", other),
			want: []string{`vr/a.yaml:5:3: the static tunnel "y" cannot be told from "x" (vr/a.yaml:4:3): a peer could mean either; give one of them another key or identity, or make them one tunnel with several networks`},
		},
		"one peer, one key, in two files": {
			a:    between(),
			b:    between("name", "y", "transport-virtual-router", "a"),
			want: []string{`vr/b.yaml:3:3: the static tunnel "y" cannot be told from "x" (vr/a.yaml:4:3): a peer could mean either; give one of them another key or identity, or make them one tunnel with several networks`},
		},
		"two keys": {
			a: between() + between("name", "y", "pre-shared-key", "{key: another long random key}", "networks", other),
		},
		"two addresses of ours": {
			a: between() + between("name", "y", "local-address", "192.0.2.2", "networks", other),
		},
		"two identities": {
			a: between("peer-id", `"@x.example"`) + between("name", "y", "peer-id", `"@y.example"`, "networks", other),
		},
		"one identity": {
			a:    between("peer-id", `"@x.example"`) + between("name", "y", "peer-id", `"@X.example"`, "networks", other),
			want: []string{`vr/a.yaml:5:3: the static tunnel "y" cannot be told from "x" (vr/a.yaml:4:3): a peer could mean either; give one of them another key or identity, or make them one tunnel with several networks`},
		},
		"any identity": {
			a:    between("peer-id", `"@x.example"`) + between("name", "y", "peer-id", "any", "networks", other),
			want: []string{`vr/a.yaml:5:3: the static tunnel "y" cannot be told from "x" (vr/a.yaml:4:3): a peer could mean either; give one of them another key or identity, or make them one tunnel with several networks`},
		},
		"its address by name": {
			a:    between() + between("name", "y", "peer-id", "198.51.100.7", "networks", other),
			want: []string{`vr/a.yaml:5:3: the static tunnel "y" cannot be told from "x" (vr/a.yaml:4:3): a peer could mean either; give one of them another key or identity, or make them one tunnel with several networks`},
		},
		"address and name": {
			a: between() + between("name", "y", "peer-id", `"@y.example"`, "networks", other),
		},
		"another address by name": {
			a: between() + between("name", "y", "peer-id", "198.51.100.9", "networks", other),
		},
		"one backup": {
			a:    between("peers", "[198.51.100.8, b.example]") + between("name", "y", "peers", "[198.51.100.9, b.example]", "networks", other),
			want: []string{`vr/a.yaml:5:3: the static tunnel "y" cannot be told from "x" (vr/a.yaml:4:3): a peer could mean either; give one of them another key or identity, or make them one tunnel with several networks`},
		},
		"a server of users": {
			a:        between() + between("name", "y", "extended-authentication", "server", "networks", other),
			warnings: []string{`vr/a.yaml:5:136: the peer is never let in: it is asked for a user, and the virtual router "a" has neither "users" nor RADIUS servers nor domain maps`},
		},
		"a dynamic peer after all": {
			a:    between() + between("name", "y", "peers", "", "peer-id", "any", "networks", other),
			want: []string{`vr/a.yaml:5:3: the static tunnel "y" cannot be told from "x" (vr/a.yaml:4:3): a peer could mean either; give one of them another key or identity, or make them one tunnel with several networks`},
		},
		"a dynamic peer before all": {
			a:    between("peers", "", "peer-id", "any") + between("name", "y", "networks", other),
			want: []string{`vr/a.yaml:5:3: the static tunnel "y" cannot be told from "x" (vr/a.yaml:4:3): a peer could mean either; give one of them another key or identity, or make them one tunnel with several networks`},
		},
		"dynamic peers by identity": {
			a: between("peers", "", "peer-id", `"@x.example"`) + between("name", "y", "peers", "", "peer-id", `"@y.example"`, "networks", other),
		},
		"a common key": {
			a:    between("pre-shared-key", ""),
			more: ipsec,
		},
		"two by a common key": {
			a:    between("pre-shared-key", "") + between("name", "y", "pre-shared-key", "", "networks", other),
			more: ipsec,
			want: []string{`vr/a.yaml:5:3: the static tunnel "y" cannot be told from "x" (vr/a.yaml:4:3): a peer could mean either; give one of them another key or identity, or make them one tunnel with several networks`},
		},
		"a common key of another": {
			a:    between("pre-shared-key", "", "peers", "[198.51.100.8]"),
			more: ipsec,
			want: []string{`vr/a.yaml:4:3: no key can authenticate the peer: the tunnel has neither "pre-shared-key" nor "certificate", and none of "pre-shared-keys" of the virtual router "a" is for its address or identity`},
		},
		"a common key for a name": {
			a:    between("pre-shared-key", "", "peers", "[x.example]"),
			more: ipsec,
		},
		"anybody by a common key": {
			a:    between() + between("name", "y", "pre-shared-key", "", "peers", "", "peer-id", "any", "networks", other),
			more: ipsec,
		},
		"the common key written again": {
			a:        between("pre-shared-key", "{key: the long random key of all}"),
			more:     ipsec,
			warnings: []string{`vr/a.yaml:4:84: the pre-shared key "k" is the same key: who has it may pass for the tunnel's peer, and the peer for one of those; give the tunnel a key of its own`},
		},
		"the common key and the same": {
			a:        between("pre-shared-key", "{key: the long random key of all}") + between("name", "y", "pre-shared-key", "", "networks", other),
			more:     ipsec,
			want:     []string{`vr/a.yaml:5:3: the static tunnel "y" cannot be told from "x" (vr/a.yaml:4:3): a peer could mean either; give one of them another key or identity, or make them one tunnel with several networks`},
			warnings: []string{`vr/a.yaml:4:84: the pre-shared key "k" is the same key: who has it may pass for the tunnel's peer, and the peer for one of those; give the tunnel a key of its own`},
		},
		"common keys by identity": {
			a:    between("pre-shared-key", "", "peer-id", `"@X.example"`) + between("name", "y", "pre-shared-key", "", "peers", "[198.51.100.8]", "peer-id", "U@x.example", "networks", other) + between("name", "z", "pre-shared-key", "", "peers", "[198.51.100.9]", "networks", "[{local: 10.1.0.0/16, remote: 10.4.0.0/16}]"),
			more: "ipsec:\n  pre-shared-keys: [{name: k, peer-identity: x.example, key: the long random key of x}, {name: u, peer-identity: U@x.example, key: the long random key of u}, {name: i, peer-identity: 198.51.100.9, key: the long random key of i}]\n",
		},
		"a common key by identity and anybody": {
			a:    between("pre-shared-key", "", "peer-id", "any"),
			more: "ipsec:\n  pre-shared-keys: [{name: k, peer-identity: x.example, key: the long random key of x}]\n",
			want: []string{`vr/a.yaml:4:3: no key can authenticate the peer: the tunnel has neither "pre-shared-key" nor "certificate", and none of "pre-shared-keys" of the virtual router "a" is for its address or identity`},
		},
		"a common key by identity and anybody that calls": {
			a:    between("pre-shared-key", "", "peer-id", "any", "start", "respond"),
			more: "ipsec:\n  pre-shared-keys: [{name: k, peer-identity: x.example, key: the long random key of x}]\n",
		},
		"a common key by another identity": {
			a:    between("pre-shared-key", "", "peer-id", `"@y.example"`),
			more: "ipsec:\n  pre-shared-keys: [{name: k, peer-identity: x.example, key: the long random key of x}]\n",
			want: []string{`vr/a.yaml:4:3: no key can authenticate the peer: the tunnel has neither "pre-shared-key" nor "certificate", and none of "pre-shared-keys" of the virtual router "a" is for its address or identity`},
		},
		"certificates": {
			a:    between("pre-shared-key", "", "certificate", "gate") + between("name", "y", "networks", other),
			more: certificates,
		},
		"certificates of one peer": {
			a:    between("pre-shared-key", "", "certificate", "gate") + between("name", "y", "pre-shared-key", "", "certificate", "gate", "networks", other),
			more: certificates,
			want: []string{`vr/a.yaml:5:3: the static tunnel "y" cannot be told from "x" (vr/a.yaml:4:3): a peer could mean either; give one of them another key or identity, or make them one tunnel with several networks`},
		},
		"the group key": {
			a:    between("pre-shared-key", "{key: 0123456789abcdef}"),
			more: "ipsec: {transport-profiles: [{name: c, local-addresses: [{address: 192.0.2.1, group-keys: [{name: g, key: 0123456789abcdef}]}, {address: 192.0.2.2, group-keys: [{name: h, key: 0123456789abcdef}]}]}]}\n",
			warnings: []string{
				`vr/a.yaml:4:84: the group key "g" is the same key: who has it may pass for the tunnel's peer, and the peer for one of those; give the tunnel a key of its own`,
				`vr/a.yaml:5:92: whoever knows the group key "g" can pose as this server to its clients; give a client a key of its own where its address is known`,
				`vr/a.yaml:5:162: whoever knows the group key "h" can pose as this server to its clients; give a client a key of its own where its address is known`,
			},
		},
		"the key of a tunnel profile": {
			a:    between("pre-shared-key", "{key: 0123456789abcdef}"),
			more: "ipsec: {tunnel-profiles: [{name: t, local-address: 192.0.2.1, keys: [{name: k, identity: staff, key: 0123456789abcdef}]}]}\nip-profiles: [{name: i, unnumbered-address: 10.9.0.1}]\npools: [{name: p, ranges: [10.9.0.0/24]}]\n",
			warnings: []string{
				`vr/a.yaml:4:84: the key "k" of the tunnel profile "t" is the same key: who has it may pass for the tunnel's peer, and the peer for one of those; give the tunnel a key of its own`,
				`vr/a.yaml:5:70: whoever knows the group key "k" can pose as this server to its clients and learns what they answer; a certificate with hybrid authentication does not have this weakness`,
				`vr/a.yaml:5:90: clients send the group name "staff" in aggressive mode, which no IKE policy rule allows`,
			},
		},
		"the key of a tunnel profile elsewhere": {
			a:    between("local-address", "192.0.2.2", "pre-shared-key", "{key: 0123456789abcdef}"),
			more: "ipsec: {tunnel-profiles: [{name: t, local-address: 192.0.2.1, keys: [{name: k, identity: staff, key: 0123456789abcdef}]}]}\nip-profiles: [{name: i, unnumbered-address: 10.9.0.1}]\npools: [{name: p, ranges: [10.9.0.0/24]}]\n",
			warnings: []string{
				`vr/a.yaml:5:70: whoever knows the group key "k" can pose as this server to its clients and learns what they answer; a certificate with hybrid authentication does not have this weakness`,
				`vr/a.yaml:5:90: clients send the group name "staff" in aggressive mode, which no IKE policy rule allows`,
			},
		},
		"a short key": {
			a:        between("pre-shared-key", "{key: short}"),
			warnings: []string{`vr/a.yaml:4:84: a pre-shared key of fewer than 16 characters can be guessed from one recorded connection`},
		},
		"aggressive mode without rule": {
			a: between("aggressive-mode", "true"),
			warnings: []string{
				`vr/a.yaml:4:128: aggressive mode shows our identity to everybody on the way, and a peer that answers it sends anybody who asks a hash from which the pre-shared key can be guessed`,
				`vr/a.yaml:4:128: the tunnel cannot be dialled: no IKE policy rule of the virtual router "a" allows aggressive mode with "psk" on 192.0.2.1`,
			},
		},
		"aggressive mode": {
			a:    between("aggressive-mode", "true"),
			more: rule(", aggressive-mode: accepted"),
			warnings: []string{
				`vr/a.yaml:4:128: aggressive mode shows our identity to everybody on the way, and a peer that answers it sends anybody who asks a hash from which the pre-shared key can be guessed`,
				`vr/a.yaml:5:116: aggressive mode with a pre-shared key sends anybody who asks a hash from which the key can be guessed`,
			},
		},
		"aggressive mode elsewhere": {
			a:    between("aggressive-mode", "true"),
			more: rule(", local-address: 192.0.2.2, aggressive-mode: accepted"),
			warnings: []string{
				`vr/a.yaml:4:128: aggressive mode shows our identity to everybody on the way, and a peer that answers it sends anybody who asks a hash from which the pre-shared key can be guessed`,
				`vr/a.yaml:4:128: the tunnel cannot be dialled: no IKE policy rule of the virtual router "a" allows aggressive mode with "psk" on 192.0.2.1`,
				`vr/a.yaml:5:142: aggressive mode with a pre-shared key sends anybody who asks a hash from which the key can be guessed`,
			},
		},
		"aggressive mode alone": {
			a:    between(),
			more: rule(", aggressive-mode: required"),
			warnings: []string{
				`vr/a.yaml:4:3: the tunnel cannot be dialled: no IKE policy rule of the virtual router "a" allows main mode with "psk" on 192.0.2.1`,
				`vr/a.yaml:5:116: aggressive mode with a pre-shared key sends anybody who asks a hash from which the key can be guessed`,
			},
		},
		"a rule for others": {
			a:        between(),
			more:     rule(", local-address: 192.0.2.2"),
			warnings: []string{`vr/a.yaml:4:3: the tunnel cannot be dialled: no IKE policy rule of the virtual router "a" allows main mode with "psk" on 192.0.2.1`},
		},
		"a rule for others that call": {
			a:        between("start", "respond"),
			more:     rule(", local-address: 192.0.2.2"),
			warnings: []string{`vr/a.yaml:4:3: the peer is never let in: no IKE policy rule of the virtual router "a" allows "psk" on 192.0.2.1`},
		},
		"aggressive mode of callers": {
			a:        between("start", "respond", "aggressive-mode", "true"),
			more:     rule(", aggressive-mode: required"),
			warnings: []string{`vr/a.yaml:5:116: aggressive mode with a pre-shared key sends anybody who asks a hash from which the key can be guessed`},
		},
		"nobody to be asked for": {
			a:        between("extended-authentication", "server"),
			warnings: []string{`vr/a.yaml:4:136: the peer is never let in: it is asked for a user, and the virtual router "a" has neither "users" nor RADIUS servers nor domain maps`},
		},
		"somebody to be asked for": {
			a:    between("extended-authentication", "server"),
			more: "users: [{name: u, password: p}]\n",
		},
		"policy": {
			a: between("mode", "policy") + between("name", "y", "mode", "policy", "peers", "[198.51.100.8]", "networks", other),
		},
		"policies of the same": {
			a:    between("mode", "policy") + between("name", "y", "mode", "policy", "peers", "[198.51.100.8]"),
			want: []string{`vr/a.yaml:5:136: the pair of networks overlaps one of the static tunnel "x" (vr/a.yaml:4:136), and in mode policy a packet must belong to one tunnel`},
		},
		"policies that overlap": {
			a:    between("mode", "policy", "networks", other) + between("name", "y", "mode", "policy", "peers", "[198.51.100.8]", "networks", "[{local: 10.9.0.0/16, remote: 0.0.0.0/0}, {local: 10.0.0.0/8, remote: 10.3.7.0/24, protocol: tcp}]"),
			want: []string{`vr/a.yaml:5:177: the pair of networks overlaps one of the static tunnel "x" (vr/a.yaml:4:136), and in mode policy a packet must belong to one tunnel`},
		},
		"policies of different ports": {
			a: between("mode", "policy", "networks", "[{local: 10.1.0.0/16, remote: 10.2.0.0/16, protocol: tcp, remote-port: 80}]") + between("name", "y", "mode", "policy", "peers", "[198.51.100.8]", "networks", "[{local: 10.1.0.0/16, remote: 10.2.0.0/16, protocol: tcp, remote-port: 81}, {local: 10.1.0.0/16, remote: 10.2.0.0/16, protocol: udp, remote-port: 80}]"),
		},
		"policies of one port": {
			a:    between("mode", "policy", "networks", "[{local: 10.1.0.0/16, remote: 10.2.0.0/16, protocol: tcp, remote-port: 80}]") + between("name", "y", "mode", "policy", "peers", "[198.51.100.8]", "networks", "[{local: 10.1.0.0/16, remote: 10.2.0.0/16, protocol: tcp, local-port: 80}]"),
			want: []string{`vr/a.yaml:5:136: the pair of networks overlaps one of the static tunnel "x" (vr/a.yaml:4:136), and in mode policy a packet must belong to one tunnel`},
		},
		"policy and route": {
			a: between("mode", "policy") + between("name", "y", "peers", "[198.51.100.8]"),
		},
		"transport": {
			a:    between("mode", "transport", "networks", "[{protocol: gre}, {protocol: 4}]"),
			more: "links:\n- {name: g, gre: {local: 192.0.2.1, remote: 198.51.100.7}}\n- {name: i, ipip: {local: 192.0.2.1, remote: 198.51.100.7}}\n",
		},
		"transport of nothing": {
			a:    between("mode", "transport", "networks", "[{protocol: gre}, {protocol: ipip}]"),
			more: "links:\n- {name: g, gre: {local: 192.0.2.1, remote: 198.51.100.8}}\n- {name: i, ipip: {local: 192.0.2.2, remote: 198.51.100.7}}\n",
			warnings: []string{
				`vr/a.yaml:4:139: no link of kind gre goes from 192.0.2.1 to a peer of the tunnel, so it protects nothing`,
				`vr/a.yaml:4:156: no link of kind ipip goes from 192.0.2.1 to a peer of the tunnel, so it protects nothing`,
			},
		},
		"transport twice": {
			a:    between("mode", "transport", "networks", "[{protocol: gre}]") + between("name", "y", "mode", "transport", "pre-shared-key", "{key: another long random key}", "networks", "[{protocol: gre}]"),
			more: "links:\n- {name: g, gre: {local: 192.0.2.1, remote: 198.51.100.7}}\n",
			want: []string{`vr/a.yaml:5:3: the static tunnel "x" (vr/a.yaml:4:3) protects the same packets to the same peer`},
		},
		"transport of both": {
			a:    between("mode", "transport", "networks", "[{protocol: gre}]") + between("name", "y", "mode", "transport", "pre-shared-key", "{key: another long random key}", "networks", "[{protocol: ipip}]"),
			more: "links:\n- {name: g, gre: {local: 192.0.2.1, remote: 198.51.100.7}}\n- {name: i, ipip: {local: 192.0.2.1, remote: 198.51.100.7}}\n",
		},
		"the peer in the tunnel": {
			a:        between("networks", "[{local: 10.1.0.0/16, remote: 198.51.100.0/24}]"),
			warnings: []string{`vr/a.yaml:4:151: the network 198.51.100.0/24, which is routed into the tunnel, contains the peer 198.51.100.7: without a better route to the peer the tunnel's own packets go into the tunnel`},
		},
		"the peer in another's tunnel": {
			a: between("peers", "[198.51.100.8]"),
			b: between("name", "y", "transport-virtual-router", "a", "networks", "[{local: 10.1.0.0/16, remote: 198.51.100.0/24}]"),
		},
		"a pool behind the tunnel": {
			a:        between(),
			more:     "pools: [{name: p, ranges: [10.2.9.0/24]}]\n",
			warnings: []string{`vr/a.yaml:4:151: the network 10.2.0.0/16 overlaps the pool "p": hosts there cannot reach subscribers with those addresses`},
		},
		"a check that leaves by another address": {
			a:        between("interface", "{addresses: [10.9.0.1/32]}", "check", "{target: 10.2.0.1}"),
			warnings: []string{`vr/a.yaml:4:157: no address of the interface is in the local network that the check needs; give a "source" that is`},
		},
		"a check that leaves by whatever address": {
			a:        between("check", "{target: 10.2.0.1}"),
			warnings: []string{`vr/a.yaml:4:118: no address of the interface is in the local network that the check needs; give a "source" that is`},
		},
		"a check that keeps an on-demand tunnel up": {
			a:        between("start", "on-demand", "idle-timeout", "5m", "check", "{target: 10.2.0.1, source: 10.1.0.1, period: 1m}"),
			warnings: []string{`vr/a.yaml:4:143: the tunnel is never idle: its check sends every 1m0s`},
		},
		"a check that lets an on-demand tunnel go": {
			a: between("start", "on-demand", "idle-timeout", "30s", "check", "{target: 10.2.0.1, source: 10.1.0.1, period: 1m}"),
		},
		"an on-demand tunnel without routes": {
			a:        between("start", "on-demand", "interface", "{withdraw-routes: true}"),
			warnings: []string{`vr/a.yaml:4:158: the tunnel is dialled by its operator only: an on-demand tunnel starts when a packet is routed into it, and its routes are away while it is not up`},
		},
		"an on-demand tunnel with routes of others": {
			a: between("start", "on-demand", "interface", "{withdraw-routes: true, routes: []}"),
		},
		"a check by one of several": {
			a: between("interface", "{addresses: [10.9.0.1/32, 10.1.0.1/32]}", "check", "{target: 10.2.0.1}"),
		},
	} {
		files := map[string]string{"a": "namespace: {name: a}\nserver-addresses: [192.0.2.1, 192.0.2.2]\nstatic-tunnels:\n" + test.a + test.more}
		if test.b != "" {
			files["b"] = "namespace: {name: b}\nstatic-tunnels:\n" + test.b
		}
		c, warnings, errs := parseFiles(files)
		if diff := cmp.Diff(test.want, lines(errs)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(test.warnings, lines(warnings)); diff != "" {
			t.Errorf("%s: warnings (-want +got):\n%s", name, diff)
		}
		if c != nil {
			checkInvariants(t, c)
		}
	}
}

// TestOverlappingPolicies compares what is found in the order of the addresses with what comparing each with each finds.
func TestOverlappingPolicies(t *testing.T) {
	network := rapid.Custom(func(t *rapid.T) netip.Prefix {
		bits := rapid.SampledFrom([]int{0, 8, 9, 16, 24, 31, 32}).Draw(t, "bits")
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(9 + rapid.IntRange(0, 2).Draw(t, "a")), byte(rapid.SampledFrom([]int{0, 1, 128}).Draw(t, "b")), 0, byte(rapid.IntRange(0, 2).Draw(t, "d"))}), bits).Masked()
	})
	rapid.Check(t, func(t *rapid.T) {
		tunnels := make([]*staticSource, rapid.IntRange(1, 6).Draw(t, "tunnels"))
		var all []policyNetwork
		want := map[int]bool{}
		for i := range tunnels {
			tunnels[i] = &staticSource{t: StaticTunnel{Name: fmt.Sprint(i)}}
			for range rapid.IntRange(1, 3).Draw(t, "networks") {
				n := policyNetwork{tunnels[i], i, StaticNetwork{
					Local: network.Draw(t, "local"), Remote: network.Draw(t, "remote"), Protocol: rapid.SampledFrom([]uint8{0, 0, 6, 17}).Draw(t, "protocol"),
				}, Pos{Line: i + 1}}
				for _, o := range all {
					same := o.Protocol == n.Protocol || o.Protocol == 0 || n.Protocol == 0
					if o.tunnel != n.tunnel && same && o.Local.Overlaps(n.Local) && o.Remote.Overlaps(n.Remote) {
						want[i+1] = true
					}
				}
				all = append(all, n)
			}
		}
		b := &builder{}
		b.overlapping(all)
		got := map[int]bool{}
		for _, e := range b.errs {
			if got[e.Pos.Line] {
				t.Fatalf("told twice: %v", e)
			}
			got[e.Pos.Line] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}
