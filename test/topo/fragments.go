package topo

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
)

// Path is from one address to another.
type Path struct{ From, To netip.Addr }

// lostFragments are the counters of LoseFragments.
var lostFragments = regexp.MustCompile(`([0-9.]+) \. ([0-9.]+) counter packets (\d+) `)

// LoseFragments has the internet drop all IP fragments, the first of a packet too, as many firewalls and carriers' NATs do. Nobody is
// told.
func (n *Net) LoseFragments(ctx context.Context) error {
	// Before whoever might put them together again.
	return n.router.NFT(ctx, `table ip fragments {
	set lost {
		type ipv4_addr . ipv4_addr
		size 1024
		flags dynamic
	}
	chain prerouting {
		type filter hook prerouting priority -450; policy accept;
		ip frag-off & 0x3fff != 0 update @lost { ip saddr . ip daddr counter } drop
	}
}
`)
}

// LostFragments returns how many LoseFragments has dropped so far on each path.
func (n *Net) LostFragments(ctx context.Context) (map[Path]int, error) {
	out, err := n.router.Output(ctx, "nft", "list", "set", "ip", "fragments", "lost")
	if err != nil {
		return nil, err
	}
	lost := map[Path]int{}
	for _, m := range lostFragments.FindAllStringSubmatch(out, -1) {
		var p Path
		if p.From, err = netip.ParseAddr(m[1]); err == nil {
			p.To, err = netip.ParseAddr(m[2])
		}
		if err != nil {
			return nil, fmt.Errorf("topo: counters of fragments: %w", err)
		}
		if lost[p], err = strconv.Atoi(m[3]); err != nil {
			return nil, fmt.Errorf("topo: counters of fragments: %w", err)
		}
	}
	return lost, nil
}
