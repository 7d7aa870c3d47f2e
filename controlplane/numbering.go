package controlplane

import (
	"fmt"
	"maps"
	"slices"

	"vrgate/controlplane/config"
	"vrgate/controlplane/ike"
)

// connNumbering shares the connection numbers of each namespace out among the virtual routers in it. They are marks
// and reqids, which a socket's policy or an SA must never find at another tenant, so a virtual router keeps its share as
// long as it is configured, whatever else comes and goes.
type connNumbering map[string]*connShares

// connShares are the shares of one namespace: all are equal, and there are more than are needed at first.
type connShares struct {
	count int
	of    map[string]int // by virtual router
}

const (
	// connNumbersMax is the largest connection number.
	connNumbersMax = 0xffffff
	// minConnShares is the least number of shares in a namespace: there are so many, or at least twice as many as
	// there are virtual routers at first.
	minConnShares = 16
)

// follow returns the shares for a configuration that follows that of n. The error says which virtual router is one
// too many.
func (n connNumbering) follow(c *config.Config) (connNumbering, error) {
	members := map[string][]string{}
	for _, r := range c.Routers {
		members[r.Namespace.Name] = append(members[r.Namespace.Name], r.Name)
	}
	out := connNumbering{}
	for namespace, names := range members {
		old := n[namespace]
		if old == nil {
			old = &connShares{count: max(minConnShares, 2*len(names))}
		}
		next := &connShares{count: old.count, of: map[string]int{}}
		used := slices.Collect(maps.Values(old.of)) // also of those that go: they may still be there
		free := 0
		for _, name := range names {
			share, has := old.of[name]
			if !has {
				for slices.Contains(used, free) {
					free++
				}
				if share = free; share >= next.count {
					return nil, fmt.Errorf("%s: network namespace %q has no room for one more virtual router before vrgate is restarted: its connection numbers are shared out among %d", c.Router(name).File, namespace, next.count)
				}
				free++
			}
			next.of[name] = share
		}
		out[namespace] = next
	}
	return out, nil
}

// of returns the first and last number of a virtual router.
func (n connNumbering) of(r *config.Router) (first, last ike.ConnID) {
	s := n[r.Namespace.Name]
	size := ike.ConnID(connNumbersMax / s.count)
	first = ike.ConnID(s.of[r.Name])*size + 1
	return first, first + size - 1
}
