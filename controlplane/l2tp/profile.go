package l2tp

import (
	"cmp"
	"net/netip"
	"slices"
)

// directory is the configured profiles, indexed so that a look-up costs the same with one profile and with 4,000 (G3).
type directory struct {
	profiles []DestinationProfile
	byLAC    map[netip.Addr]int
	any      int                // index of the profile for 0.0.0.0, -1: none (G2)
	anyV6    int                // of the one for ::, else the same
	hosts    []map[string][]int // by profile: host name to host profiles in configured order
	known    map[profileKey]known
}

// profileKey names a destination profile, or with Host one of its host profiles.
type profileKey struct{ Profile, Host string }

// known is what a running tunnel asks about its profiles.
type known struct {
	limit    int // sessions; 0: none
	revision string
}

func newDirectory(profiles []DestinationProfile) *directory {
	profiles = slices.Clone(profiles)
	d := &directory{
		profiles: profiles, byLAC: make(map[netip.Addr]int, len(profiles)), any: -1, anyV6: -1,
		hosts: make([]map[string][]int, len(profiles)), known: make(map[profileKey]known, 2*len(profiles)),
	}
	for i := range profiles {
		p := &profiles[i]
		p.Hosts = slices.Clone(p.Hosts)
		if p.Name == "" {
			p.Name = p.LAC.String()
		}
		switch lac := p.LAC.Unmap(); {
		case !lac.IsValid() || lac.IsUnspecified() && lac.Is4():
			d.any = i
		case lac.IsUnspecified():
			d.anyV6 = i
		default:
			d.byLAC[lac] = i
		}
		d.known[profileKey{p.Name, ""}] = known{limit: p.MaxSessions}
		d.hosts[i] = make(map[string][]int, len(p.Hosts))
		for j := range p.Hosts {
			h := &p.Hosts[j]
			if h.Name == "" { // an empty name would stand for the destination profile in profileKey
				h.Name = cmp.Or(h.Host, "default")
			}
			d.hosts[i][h.Host] = append(d.hosts[i][h.Host], j)
			d.known[profileKey{p.Name, h.Name}] = known{h.MaxSessions, h.Revision}
		}
	}
	if d.anyV6 < 0 { // 0.0.0.0 means any LAC, whatever its address family
		d.anyV6 = d.any
	}
	return d
}

// destination finds the destination profile for a LAC's address: an exact one beats the one for any address (G2), and
// then decides alone.
func (d *directory) destination(lac netip.Addr) (index int, ok bool) {
	if i, found := d.byLAC[lac]; found {
		return i, true
	}
	i := d.any
	if lac.Is6() {
		i = d.anyV6
	}
	return i, i >= 0
}

// host finds the host profile for a LAC's Host Name: a named one before the default (G5), one for the address that was
// called before one for any (G8). When the name is configured but not for the called address, default does not step in:
// it may ask for less than the named one.
func (d *directory) host(profile int, name string, called netip.Addr) (HostProfile, bool) {
	list := d.hosts[profile][name]
	if len(list) == 0 {
		list = d.hosts[profile][""]
	}
	found := -1
	for _, j := range list {
		switch local := d.profiles[profile].Hosts[j].Local; {
		case local.IsValid() && !local.IsUnspecified():
			if local.Unmap() == called {
				return d.profiles[profile].Hosts[j], true
			}
		case found < 0:
			found = j
		}
	}
	if found < 0 {
		return HostProfile{}, false
	}
	return d.profiles[profile].Hosts[found], true
}
