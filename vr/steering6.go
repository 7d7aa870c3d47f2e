package vr

import "github.com/google/nftables"

// steering6 builds the rules for L2TP over IPv6, which has no IPsec here: the same steering, and clear text is dropped where
// only IPsec is offered. A tunnel's datagrams carry a checksum, which IPv6 demands, so the rules that rewrite a port always
// correct it. ICMP errors need no rule, because they quote nothing that has been decrypted.
func steering6(spec Spec, vrf int) ruleset {
	b := builder{vrf: uint32(vrf), group: groupOf(spec.Name), six: true}
	set := ruleset{family: nftables.TableFamilyIPv6, address: nftables.TypeIP6Addr, counters: []string{dropDirect, dropClear}}
	for _, a := range spec.Server {
		if a.Is6() {
			set.server = append(set.server, nftables.SetElement{Key: a.AsSlice()})
		}
	}
	if len(set.server) == 0 {
		return set
	}
	prerouting := chain{name: "prerouting", hook: nftables.ChainHookPrerouting, priority: *nftables.ChainPriorityRaw}
	input := chain{name: "input", hook: nftables.ChainHookInput, priority: *nftables.ChainPriorityRaw}
	output := chain{name: "output", hook: nftables.ChainHookOutput, priority: *nftables.ChainPriorityFilter}
	prerouting.rules = []rule{b.steer(true, true), b.steer(false, true)}
	input.rules = []rule{b.direct()}
	if !spec.PlainL2TP {
		input.rules = append(input.rules, b.clearListener(), b.dialled(), b.clearSteered())
	}
	input.rules = append(input.rules, b.unmark())
	output.rules = []rule{b.restore(MarkTunnelPlain, true)}
	set.chains = []chain{prerouting, input, output}
	return set
}
