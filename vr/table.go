package vr

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// nft connects to nftables in the router's namespace; each Flush uses a socket of its own.
func (r *Router) nft() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.WithNetNSFd(r.space.fd))
	return c, nftError(err, r.name)
}

// nftError names the modules when the kernel does not know nftables or an expression.
func nftError(err error, router string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		return &MissingFeature{Feature: FeatureNftables, Module: "nf_tables"}
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL):
		// An unknown expression is ENOENT; a kernel without nftables answers the netfilter socket EINVAL.
		return &MissingFeature{Feature: FeatureNftables, Module: "nf_tables nft_fib_ipv4 nft_socket", Detail: err.Error()}
	default:
		return failed(err, "virtual router %s: nftables", router)
	}
}

// installTable makes the tables those of spec in one transaction: a packet meets the old rules of a hook or the new. If
// tables are replaced, a packet that passes a hook then may still be dropped, because the rules of the one clear its mark
// and it meets those of the other. So tables that are there stay, and in them the chains that are the same.
func (r *Router) installTable(spec Spec) error {
	c, err := r.nft()
	if err != nil {
		return err
	}
	sets := []ruleset{steering(spec, r.vrf.index)}
	if six := steering6(spec, r.vrf.index); len(six.server) > 0 {
		sets = append(sets, six)
	}
	same := slices.EqualFunc(sets, r.installed, func(a, b ruleset) bool { return reflect.DeepEqual(a.server, b.server) }) && r.intact(c)
	for i, set := range sets {
		table := &nftables.Table{Family: set.family, Name: tableName(spec.Name)}
		if same {
			exchange(c, table, r.installed[i], set)
			continue
		}
		if i == 0 {
			set.mss = mssElements(spec.Name, r.mss)
		}
		// Adding first makes deleting succeed whether or not the table was there.
		c.AddTable(table)
		c.DelTable(table)
		if err := describe(c, table, set); err != nil {
			return fmt.Errorf("virtual router %s: nftables: %w", spec.Name, err)
		}
	}
	if err := nftError(c.Flush(), spec.Name); err != nil {
		return err
	}
	r.installed = sets
	if len(sets) == 1 && !same {
		return r.removeTableOf(nftables.TableFamilyIPv6)
	}
	return nil
}

// exchange adds to the transaction what makes the chains of one set those of another.
func exchange(c *nftables.Conn, table *nftables.Table, old, set ruleset) {
	for i, ch := range set.chains {
		was := old.chains[i] // in both are all chains, in their order
		if reflect.DeepEqual(was.rules, ch.rules) {
			continue
		}
		if len(was.rules) > 0 {
			c.FlushChain(&nftables.Chain{Table: table, Name: ch.name})
		}
		if len(ch.rules) > 0 {
			ch.add(c, table)
		} else {
			c.DelChain(&nftables.Chain{Table: table, Name: ch.name})
		}
	}
}

// add adds the chain and its rules to the transaction.
func (ch *chain) add(c *nftables.Conn, table *nftables.Table) {
	policy := nftables.ChainPolicyAccept
	chain := c.AddChain(&nftables.Chain{
		Table: table, Name: ch.name, Type: nftables.ChainTypeFilter,
		Hooknum: ch.hook, Priority: &ch.priority, Policy: &policy,
	})
	for _, exprs := range ch.rules {
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
	}
}

// intact says whether everything of the tables is there. Rules that somebody has replaced by as many others are not
// noticed.
func (r *Router) intact(c *nftables.Conn) bool {
	for _, set := range r.installed {
		table := &nftables.Table{Family: set.family, Name: tableName(r.name)}
		for _, ch := range set.chains {
			if len(ch.rules) == 0 {
				continue
			}
			rules, err := c.GetRules(table, &nftables.Chain{Table: table, Name: ch.name})
			if err != nil || len(rules) != len(ch.rules) {
				return false
			}
		}
		server, err := c.GetSetElements(&nftables.Set{Table: table, Name: serverSetName, KeyType: set.address})
		if err != nil || len(server) != len(set.server) {
			return false
		}
		objects, err := c.GetObjects(table)
		if err != nil || len(objects) < len(set.counters) {
			return false
		}
		if set.family != nftables.TableFamilyIPv4 {
			continue
		}
		bounds, err := c.GetSetElements(mssMap(table))
		if err != nil || len(bounds) != len(r.mss) {
			return false
		}
	}
	return true
}

// describe adds the table and everything in it to the transaction.
func describe(c *nftables.Conn, table *nftables.Table, set ruleset) error {
	c.AddTable(table)
	server := &nftables.Set{Table: table, Name: serverSetName, KeyType: set.address}
	if err := c.AddSet(server, set.server); err != nil {
		return err
	}
	if set.family == nftables.TableFamilyIPv4 {
		if err := c.AddSet(mssMap(table), set.mss); err != nil {
			return err
		}
	}
	for _, name := range set.counters {
		c.AddObj(&nftables.CounterObj{Table: table, Name: name})
	}
	for _, ch := range set.chains {
		if len(ch.rules) == 0 {
			continue
		}
		ch.add(c, table)
	}
	return nil
}

// removeTable removes the tables; a missing one is fine.
func (r *Router) removeTable() error {
	return errors.Join(r.removeTableOf(nftables.TableFamilyIPv4), r.removeTableOf(nftables.TableFamilyIPv6))
}

func (r *Router) removeTableOf(family nftables.TableFamily) error {
	c, err := r.nft()
	if err != nil {
		return err
	}
	table := &nftables.Table{Family: family, Name: tableName(r.name)}
	c.AddTable(table)
	c.DelTable(table)
	err = c.Flush()
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // no nftables, or not for IPv6, so no table
	}
	return failed(err, "virtual router %s: remove nftables table", r.name)
}

// families are those that the router has a table of.
func (r *Router) families() []nftables.TableFamily {
	r.mu.Lock()
	defer r.mu.Unlock()
	families := []nftables.TableFamily{nftables.TableFamilyIPv4}
	if slices.ContainsFunc(r.spec.Server, netip.Addr.Is6) {
		families = append(families, nftables.TableFamilyIPv6)
	}
	return families
}

// Drops counts the packets that the router's rules have dropped since the last Set that changed them, by reason: "direct" to a
// tunnel's port, "cleartext" where IPsec is demanded, "foreign" SA, "selector": a client's SA used for something
// else than L2TP, "unproven" ICMP error about decrypted contents, "leak" of an unencrypted datagram, "spoofed"
// source of a subscriber; since Open of the first router of the namespace by the kernel, in the whole of it: "checksum", UDP
// with a wrong one (B4r); and since Open by traffic control: "policy" by a rule of a subscriber, "rate" beyond its rate.
//
// ErrNotFound when somebody has removed the table: Set installs it again.
func (r *Router) Drops() (map[string]uint64, error) {
	c, err := r.nft()
	if err != nil {
		return nil, err
	}
	drops := make(map[string]uint64, len(counters))
	for _, family := range r.families() {
		table := &nftables.Table{Family: family, Name: tableName(r.name)}
		objects, err := c.GetObjects(table)
		if err != nil {
			return nil, failed(err, "virtual router %s: read counters", r.name)
		}
		found := false
		for _, o := range objects {
			if counter, ok := o.(*nftables.CounterObj); ok {
				drops[counter.Name] += counter.Packets
				found = true
			}
		}
		if !found {
			return nil, fmt.Errorf("virtual router %s: nftables table %s: %w", r.name, table.Name, ErrNotFound)
		}
	}
	return drops, errors.Join(r.tallies(drops), r.checksumDrops(drops))
}
