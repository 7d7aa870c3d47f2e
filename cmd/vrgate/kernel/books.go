package kernel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vrgate/controlplane/ike"
	"vrgate/xfrm"
)

// books are what the virtual routers of one network namespace have in common: its SAs and policies, which know of no VRF. Each router
// knows its own; the books say when that may be compared with what the kernel has, and remember what else there is.
type books struct {
	// changing is held to read while SAs or policies change, in the kernel and in what a router knows of them, and to write while
	// the two are compared. It is taken after static.mu and before dataplane.mu, and never twice. It guards what follows.
	changing sync.RWMutex
	routers  map[*dataplane]bool
	others   xfrm.Census // what was not ours when it was last counted
	counted  time.Time

	doubt atomic.Bool // something may be missing, whatever the count says
}

func newBooks() *books { return &books{routers: map[*dataplane]bool{}} }

// booksOf returns the books of a namespace.
func (k *Kernel) booksOf(namespace string) *books {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.books[namespace] == nil {
		k.books[namespace] = newBooks()
	}
	return k.books[namespace]
}

func (b *books) join(d *dataplane) {
	b.changing.Lock()
	defer b.changing.Unlock()
	b.routers[d] = true
}

func (b *books) leave(d *dataplane) {
	b.changing.Lock()
	defer b.changing.Unlock()
	delete(b.routers, d)
}

// bookPause is between looks at the SAs and policies of a namespace. A flush, of which the kernel tells, is seen at once.
const bookPause = 5 * time.Second

// keepBooks has what somebody removes from the kernel noticed until ctx ends.
func (d *dataplane) keepBooks(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.doubtful:
		case <-time.After(bookPause):
		}
		_ = d.compare() // what could not be done is tried again
		d.mendAccess()
	}
}

// doubt has the books compared soon.
func (d *dataplane) doubt() {
	d.books.doubt.Store(true)
	wake(d.doubtful)
}

// compare puts policies back that are not there, and tells of SAs that are not: they have keys, which only the peers can agree on
// again. It takes two questions to the kernel, whose answer is short, and a dump if something has gone or is said to have. One router of a
// namespace does so for all.
func (d *dataplane) compare() error {
	b := d.books
	b.changing.Lock()
	defer b.changing.Unlock()
	if !b.routers[d] {
		return nil // it is being closed
	}
	doubt := b.doubt.Swap(false)
	if !doubt && time.Since(b.counted) < bookPause/2 {
		return nil
	}
	b.counted = time.Now()
	err := b.balance(d.xfrm, doubt)
	if err != nil {
		b.doubt.Store(true)
	}
	return err
}

// balance is compare with changing held to write. Others' SAs and policies may be fewer too: then nothing of ours is missing.
func (b *books) balance(k *xfrm.Kernel, doubt bool) error {
	ours := b.ours()
	if ours == (xfrm.Census{}) {
		b.others = ours // none that could be taken for ours
		return nil
	}
	all, err := k.Census()
	if err != nil {
		return err
	}
	others := xfrm.Census{SAs: all.SAs - ours.SAs, Policies: all.Policies - ours.Policies}
	missing := map[*dataplane]*xfrm.Census{}
	for d := range b.routers {
		missing[d] = &xfrm.Census{}
	}
	if doubt || others.Policies < b.others.Policies {
		err = errors.Join(err, b.balancePolicies(k, missing))
	}
	if doubt || others.SAs < b.others.SAs {
		err = errors.Join(err, b.balanceSAs(k, missing))
	}
	for d, m := range missing {
		others.SAs, others.Policies = others.SAs+m.SAs, others.Policies+m.Policies
		if *m != (xfrm.Census{}) {
			d.in.IPsecMissing(m.SAs, m.Policies)
		}
	}
	b.others = others
	return err
}

// ours is what there should be.
func (b *books) ours() xfrm.Census {
	var c xfrm.Census
	for d := range b.routers {
		d.mu.Lock()
		c.SAs += len(d.sas)
		for _, a := range d.accesses {
			c.Policies += len(a.policies)
		}
		for _, s := range d.statics {
			c.Policies += len(s.policies)
		}
		d.mu.Unlock()
	}
	return c
}

// balancePolicies puts policies back, those of static tunnels first: without them what is for a tunnel leaves in clear.
func (b *books) balancePolicies(k *xfrm.Kernel, missing map[*dataplane]*xfrm.Census) error {
	list, err := k.ListPolicies()
	if err != nil {
		return err
	}
	there := make(map[xfrm.Slot]bool, len(list))
	for i := range list {
		there[list[i].Slot()] = true
	}
	var failed error
	put := func(d *dataplane, p *xfrm.Policy) (absent bool) {
		if there[p.Slot()] {
			return false
		}
		missing[d].Policies++
		if err := k.UpdatePolicy(*p); err != nil {
			failed = errors.Join(failed, fmt.Errorf("virtual router %s: put back what somebody has removed: %w", d.name, err))
		}
		return true
	}
	for d := range b.routers {
		d.mu.Lock()
		statics := d.staticOrder
		d.mu.Unlock()
		for _, s := range statics {
			absent := false
			for _, p := range s.policies {
				absent = put(d, &p) || absent
			}
			if absent {
				d.stir(s)
			}
		}
	}
	for d := range b.routers {
		d.mu.Lock()
		accesses := slices.Collect(maps.Values(d.accesses))
		d.mu.Unlock()
		for _, a := range accesses {
			for i := range a.policies {
				put(d, &a.policies[i])
			}
		}
	}
	return failed
}

// balanceSAs has the engines told of SAs that are not there, as if they had expired, and forgets them.
func (b *books) balanceSAs(k *xfrm.Kernel, missing map[*dataplane]*xfrm.Census) error {
	list, err := k.List()
	if err != nil {
		return err // the hard lifetimes of the engine end the SAs as well
	}
	there := make(map[xfrm.ID]bool, len(list))
	for i := range list {
		there[list[i].ID] = true
	}
	for d := range b.routers {
		gone := map[xfrm.ID]ike.Direction{}
		d.mu.Lock()
		for id, dir := range d.sas {
			if !there[id] {
				gone[id] = dir
				delete(d.sas, id)
			}
		}
		d.mu.Unlock()
		missing[d].SAs += len(gone)
		for id, dir := range gone {
			d.in.SAExpired(id.SPI, dir, true)
		}
	}
	return nil
}

// mendAccess puts back what else the interfaces of dynamic subscribers need, in other namespaces.
func (d *dataplane) mendAccess() {
	d.mu.Lock()
	links := slices.Collect(maps.Values(d.links))
	d.mu.Unlock()
	for _, l := range links {
		_ = l.Mend() // is tried again; that it has gone is told otherwise
	}
}
