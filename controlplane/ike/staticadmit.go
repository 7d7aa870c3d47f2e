package ike

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// admission says from where the peer of a static tunnel may come. It stands beside the configuration, which
// knows no addresses of peers that are given by name, nor what an operator has said.
type admission struct {
	told  bool       // by AdmitPeers; else what is configured holds
	says  AdmitPeers // last
	holds map[netip.Addr]int
}

// admitPeers takes over from where the peer of a tunnel may come.
func (e *Engine) admitPeers(ev AdmitPeers) {
	t := e.cfg.static(ev.Static)
	if t == nil {
		return // it is told again with the configuration that has it
	}
	ev.Peers = slices.Clone(ev.Peers)
	for i, a := range ev.Peers {
		ev.Peers[i] = a.Unmap()
	}
	a := e.admissionOf(ev.Static)
	a.told, a.says = true, ev
	t.admission = a
}

// admissionOf returns the entry of a tunnel, which is made if there is none.
func (e *Engine) admissionOf(tunnel string) *admission {
	a := e.admissions[tunnel]
	if a == nil {
		a = &admission{holds: map[netip.Addr]int{}}
		e.admissions[tunnel] = a
	}
	return a
}

// bindAdmissions ties what was told to the tunnels of a configuration that has come into force, and forgets it of those that
// are gone.
func (e *Engine) bindAdmissions() {
	for name, a := range e.admissions {
		if t := e.cfg.static(name); t != nil {
			t.admission = a
			continue
		}
		a.told = false
		e.forgetAdmission(name)
	}
}

// keep notes that a connection of a tunnel is with an address of the peer, or is no more.
func (e *Engine) keep(tunnel string, remote netip.Addr, by int) {
	a := e.admissionOf(tunnel)
	if t := e.cfg.static(tunnel); t != nil {
		t.admission = a
	}
	if a.holds[remote] += by; a.holds[remote] == 0 {
		delete(a.holds, remote)
		e.forgetAdmission(tunnel)
	}
}

// forgetAdmission drops an entry that says nothing.
func (e *Engine) forgetAdmission(tunnel string) {
	a := e.admissions[tunnel]
	if a.told || len(a.holds) > 0 {
		return
	}
	delete(e.admissions, tunnel)
	if t := e.cfg.static(tunnel); t != nil {
		t.admission = nil
	}
}

// admittedPeers lists what was told, by tunnel.
func (e *Engine) admittedPeers() []AdmitPeers {
	var out []AdmitPeers
	for _, a := range e.admissions {
		if a.told {
			out = append(out, a.says)
		}
	}
	slices.SortFunc(out, func(a, b AdmitPeers) int { return strings.Compare(a.Static, b.Static) })
	return out
}

// anywhere tells whether the peer of the tunnel may have any address.
func (t *StaticTunnel) anywhere() bool {
	if a := t.admission; a != nil && a.told {
		return a.says.Any
	}
	return len(t.Peers) == 0
}

// shut tells whether nobody may come from an address, or be dialled there, at present. Who is up there stays, over its
// rekeys too.
func (t *StaticTunnel) shut(remote netip.Addr) bool {
	a := t.admission
	return a != nil && a.told && !a.says.Open && a.holds[remote] == 0
}

// isShut says so.
func (t *StaticTunnel) isShut() string {
	return fmt.Sprintf("static tunnel %q is down by an operator or by its configuration", t.Name)
}

// admits tells whether an address is one of the tunnel's peer. That where it is up always is: it could not be rekeyed
// otherwise when its name has another address by now. That the tunnel is shut is told to those who have proven themselves.
func (t *StaticTunnel) admits(remote netip.Addr) bool {
	switch a := t.admission; {
	case t.anywhere() || a != nil && a.holds[remote] > 0:
		return true
	case a != nil && a.told:
		return slices.Contains(a.says.Peers, remote)
	}
	return slices.Contains(t.Peers, remote)
}

// between tells whether the tunnel may exist between two addresses.
func (t *StaticTunnel) between(local, remote netip.Addr) bool { return t.at(local) && t.admits(remote) }

// at tells whether an address is ours of the tunnel.
func (t *StaticTunnel) at(local netip.Addr) bool {
	return !t.Local.IsValid() || t.Local.IsUnspecified() || t.Local == local
}
