package controlplane

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"vrgate/controlplane/config"
	"vrgate/controlplane/pki"
)

// built is a configuration as a process takes it. Nothing has been touched for it.
type built struct {
	cfg       *config.Config
	authority *authority
	pools     map[poolKey]builtPool
	numbers   connNumbering
	routers   []builtRouter // as in cfg
}

type builtRouter struct {
	machine machineConfig
	certs   *pki.Store
}

// build translates a configuration that follows the present one. The error has every mistake: it joins
// [config.Errors], a *CertificateError and whatever else there is.
func (p *Process) build(c *config.Config) (*built, error) {
	out := &built{cfg: c}
	var errs [4]error
	var certs []*pki.Store
	out.authority, errs[0] = newAuthority(c)
	certs, errs[1] = loadCertificates(c, time.Now())
	out.pools, errs[2] = buildPools(c)
	out.numbers, errs[3] = p.numbers.follow(c)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	for i, r := range c.Routers {
		m, err := buildRouter(c, r, certs[i])
		if err != nil {
			return nil, err
		}
		m.ike.ConnFirst, m.ike.ConnLast = out.numbers.of(r)
		out.routers = append(out.routers, builtRouter{m, certs[i]})
	}
	return out, nil
}

// router returns what was built for a virtual router; nil: it is not configured.
func (b *built) router(name string) *builtRouter {
	for i, r := range b.cfg.Routers {
		if r.Name == name {
			return &b.routers[i]
		}
	}
	return nil
}

// lasting are the settings of the process that hold for as long as it runs, by their paths in vrgate.yaml.
var lasting = []struct {
	path string
	keep func(next *config.Process, now config.Process) (changed bool)
}{
	{"log.format", func(n *config.Process, o config.Process) bool { return keep(&n.Log.Format, o.Log.Format) }},
	{"api.socket", func(n *config.Process, o config.Process) bool { return keep(&n.API.Socket, o.API.Socket) }},
	{"api.group", func(n *config.Process, o config.Process) bool { return keep(&n.API.Group, o.API.Group) }},
	{"state-dir", func(n *config.Process, o config.Process) bool { return keep(&n.StateDir, o.StateDir) }},
	{"workers.dh", func(n *config.Process, o config.Process) bool { return keep(&n.Workers.DH, o.Workers.DH) }},
	{"workers.kernel", func(n *config.Process, o config.Process) bool { return keep(&n.Workers.Kernel, o.Workers.Kernel) }},
	{"accounting-journal", func(n *config.Process, o config.Process) bool { return keep(&n.Journal, o.Journal) }},
}

// keep keeps an old value, and says whether another was wanted.
func keep[T comparable](next *T, now T) bool {
	changed := *next != now
	*next = now
	return changed
}

// lasts returns a configuration as it can hold while the process runs, and which settings need a restart.
func lasts(next, now *config.Config) (c *config.Config, restart []string) {
	c = &config.Config{Process: next.Process, Routers: next.Routers}
	restart = []string{}
	for _, s := range lasting {
		if s.keep(&c.Process, now.Process) {
			restart = append(restart, s.path)
		}
	}
	return c, restart
}

// reopens says whether a virtual router with that configuration has to be closed and opened again: where it is and
// on which addresses it listens is not to be had otherwise. The order of addresses only says from which other LNSs are called.
func reopens(now, next *config.Router) bool {
	sorted := func(r *config.Router) []netip.Addr {
		return slices.SortedFunc(slices.Values(r.ServerAddresses), netip.Addr.Compare)
	}
	return now.Kind != next.Kind || now.Namespace != next.Namespace || now.VRF != next.VRF || !slices.Equal(sorted(now), sorted(next))
}
