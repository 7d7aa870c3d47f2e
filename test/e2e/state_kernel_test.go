//go:build kernel

package e2e

import (
	"github.com/vishvananda/netns"

	"vrgate/test/netspace"
)

// kernelState is everything that vrgate could leave in the server's namespace, in words.
func (w *world) kernelState() string {
	w.t.Helper()
	var state string
	w.check(w.server.Do(func() error {
		ns, err := netns.Get()
		if err != nil {
			return err
		}
		defer ns.Close()
		state, err = netspace.State(int(ns))
		return err
	}))
	tunnels, err := w.server.Output(w.ctx, "ip", "l2tp", "show", "tunnel")
	if err != nil { // no module, no tunnels
		tunnels = ""
	}
	return state + "# tunnels\n" + tunnels
}
