package kernel

import (
	"errors"
	"net/netip"
	"slices"

	"vrgate/controlplane/config"
	"vrgate/vr"
)

// Reconfigure implements [controlplane.Reconfigurable]. The rules are exchanged in one transaction, so that no packet meets
// neither; addresses are added before others are removed.
func (d *dataplane) Reconfigure(cfg *config.Config, c *config.Router) (ok bool, err error) {
	d.changing.Lock()
	defer d.changing.Unlock()
	spec := routerSpec(cfg, c)
	spec.Find = d.kernel.find
	if !samePlace(d.spec, spec) {
		return false, nil
	}
	held, some := withheld(c, spec, d.spec.Links)
	if err := d.vr.Set(held); err != nil {
		return false, typed(err)
	}
	before, _ := d.kernel.router(d.name)
	d.setStatics(c)
	if some {
		if err := d.vr.Set(spec); err != nil {
			d.setStatics(before.config)
			return false, typed(errors.Join(err, d.vr.Set(d.spec)))
		}
	}
	d.spec = spec
	d.kernel.reconfigure(d.name, c)
	wake(d.wake)
	return true, nil
}

// samePlace says whether a router can go from one Spec to the other while it runs. Server addresses have sockets, SAs and
// tunnels, so they are a place too.
func samePlace(a, b vr.Spec) bool {
	return a.Name == b.Name && a.Namespace == b.Namespace && a.Create == b.Create && a.VRF == b.VRF && a.Table == b.Table &&
		slices.Equal(sorted(a.Server), sorted(b.Server))
}

func sorted(addresses []netip.Addr) []netip.Addr {
	return slices.SortedFunc(slices.Values(addresses), netip.Addr.Compare)
}
