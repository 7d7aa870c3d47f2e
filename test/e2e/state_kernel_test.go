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

// stateWith is the kernel's state with clients that are connected. A client knows that it is a moment before the server has done
// all; when it is answered nothing is missing.
func stateWith[C peer](w *world, clients ...C) string {
	w.t.Helper()
	pingAll(w, clients...)
	return w.kernelState()
}

// backTo waits until the kernel's state is what it was.
func (w *world) backTo(was, what string) {
	w.t.Helper()
	var now string
	defer func() {
		if now != was {
			w.t.Logf("the kernel has\n%s\nand had\n%s", now, was)
		}
	}()
	w.eventually(what, func() bool { now = w.kernelState(); return now == was })
}
