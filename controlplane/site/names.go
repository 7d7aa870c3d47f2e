package site

import (
	"net/netip"
	"slices"
	"time"

	"vrgate/controlplane/deadline"
)

// name is a name of a peer, of however many tunnels.
type name struct {
	place  deadline.Place
	Name   string
	Addrs  []netip.Addr // the last that the name had, in the resolver's order
	Reason Reason       // why the last answer brought none
	Text   string
	At     time.Time // of the last answer or its failure
	NextAt time.Time // when it is asked for again

	pending bool
	until   time.Time // when an answer is no longer waited for
	users   []*tunnel // by name
}

func (n *name) Place() *deadline.Place { return &n.place }

func (n *name) deadline() time.Time {
	if n.pending {
		return n.until
	}
	return n.NextAt
}

func (n *name) expire(e *Engine) {
	if n.pending {
		e.resolved(Resolved{Name: n.Name, Reason: ReasonNameTimeout, Text: "the resolver does not answer"})
		return
	}
	e.resolve(n)
}

// resolve asks for the addresses, once at a time.
func (e *Engine) resolve(n *name) {
	if !n.pending {
		n.pending, n.until = true, e.now.Add(resolveTimeout)
		e.emit(Resolve{Name: n.Name})
	}
	e.arm(n)
}

// resolved takes the addresses of a name. Tunnels that wait for them go on; those that are up with an address that the name
// has no more move.
func (e *Engine) resolved(ev Resolved) {
	n := e.names[ev.Name]
	if n == nil {
		return
	}
	n.pending, n.At = false, e.now
	n.NextAt = e.now.Add(e.between(e.cfg.Resolve-e.cfg.Resolve/10, e.cfg.Resolve))
	addrs := usable(ev.Addrs)
	if ev.Reason == "" && len(addrs) == 0 {
		ev.Reason = ReasonNoAddress
	}
	if n.Reason, n.Text = ev.Reason, cut(ev.Text); n.Reason == "" {
		n.Addrs = addrs
	}
	e.arm(n)
	for _, t := range n.users {
		e.renamed(t, n)
	}
}

// usable bounds and cleans what a resolver says.
func usable(addrs []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		if a.IsValid() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast() && !slices.Contains(out, a) && len(out) < maxAddrs {
			out = append(out, a)
		}
	}
	return out
}

// renamed follows an answer about one of the tunnel's names.
func (e *Engine) renamed(t *tunnel, n *name) {
	e.touch(t)
	e.admission(t)
	is := func(p Peer) bool { return !p.Addr.IsValid() && p.Name == n.Name }
	switch a := t.try; {
	case a != nil && !is(t.cfg.Peers[a.peer]):
	case a != nil && a.stage == stageResolving:
		e.named(t)
		e.advance(t)
	case a != nil: // those that the name has no more are not admitted any more
		a.addrs = slices.DeleteFunc(a.addrs, func(x netip.Addr) bool { return !slices.Contains(n.Addrs, x) })
		if a.stage == stageQueued && len(a.addrs) == 0 {
			e.advance(t)
		}
	case t.active != nil && t.active.Ours && is(t.active.Via) && n.Reason == "" && !slices.Contains(n.Addrs, t.active.Peer):
		if t.dial == nil && !e.closed {
			t.try = &attempt{kind: tryMoved, peer: t.active.peer, addrs: slices.Clone(n.Addrs)}
			e.advance(t)
		}
	}
}

// bindNames brings the names in line with the tunnels.
func (e *Engine) bindNames() {
	for _, n := range e.names {
		n.users = nil
	}
	for _, t := range e.sorted() {
		for _, p := range t.cfg.Peers {
			if p.Addr.IsValid() {
				continue
			}
			n := e.names[p.Name]
			if n == nil {
				n = &name{Name: p.Name}
				e.names[p.Name] = n
			}
			n.users = append(n.users, t)
			if n.At.IsZero() {
				e.resolve(n)
			}
			e.arm(n)
		}
	}
	for _, n := range e.names {
		if n.users == nil {
			e.disarm(n)
			delete(e.names, n.Name)
		}
	}
}

// admission says who may call and answer, if that has changed.
func (e *Engine) admission(t *tunnel) {
	a := Admit{Tunnel: t.cfg.Name, Open: !t.Admin && !e.closed, Any: len(t.cfg.Peers) == 0}
	for _, p := range t.cfg.Peers {
		if p.Addr.IsValid() {
			a.Peers = append(a.Peers, p.Addr)
		} else {
			a.Peers = append(a.Peers, e.names[p.Name].Addrs...)
		}
	}
	slices.SortFunc(a.Peers, netip.Addr.Compare)
	a.Peers = slices.Compact(a.Peers)
	if o := t.admit; o.Tunnel == "" || o.Open != a.Open || o.Any != a.Any || !slices.Equal(o.Peers, a.Peers) {
		t.admit = a
		e.emit(a)
	}
}
