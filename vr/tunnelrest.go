package vr

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// TunnelRest is what is different about a tunnel's interface while nothing carries the tunnel. The zero value is for while something does,
// and what a new interface begins with.
type TunnelRest struct {
	// Withdrawn takes the routes away, so that others to the same networks serve.
	Withdrawn bool
	// Silent has what is routed into the interface and cannot be sent vanish. Else the kernel answers each packet "host unreachable"
	// (ICMP), on which a host gives up a TCP connection that it has just begun. In silence it tries again a second later, so that the
	// connection comes about when the tunnel does.
	//
	// Silence is for a tunnel that nothing carries: it keeps back what says that a packet is too long, too, which others have to hear.
	Silent bool
}

// Rest has the interface be as it is to be while nothing carries the tunnel, or while something does, and mends it.
//
// Errors: as Mend.
func (t *Tunnel) Rest(rest TunnelRest) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return fmt.Errorf("%s: %w", t.title, ErrClosed)
	}
	t.rest = rest
	if t.lost() {
		return fmt.Errorf("%s: %w", t.title, ErrNotFound)
	}
	err := errors.Join(t.mendGate(), t.configure())
	if !rest.Withdrawn {
		return err
	}
	return errors.Join(err, t.trimRoutes())
}

// hush makes the interface silent, or lets it speak.
//
// The kernel offers no such thing: what finds no SA in xfrmi_xmit2 ends in dst_link_failure, whatever net.core.xfrm_larval_drop says, which
// without XFRM interfaces has packets wait for an SA. But it sends no ICMP error about a packet that was not for
// this host (RFC 1122 section 3.2.2, icmp_send), so a filter marks those that are sent so. The kernel asks for SAs all the same, and no packet
// takes another way: the mark is looked at only there, and where a packet is received.
func (t *Tunnel) hush() error {
	f := hushing(t.index)
	if !t.rest.Silent {
		if !t.hushed {
			return nil
		}
		err := t.to.tc.remove(f)
		if err == nil {
			t.hushed = false
		}
		return err
	}
	t.hushed = true
	err := t.to.tc.addClsact(t.index)
	if err == nil {
		err = t.to.tc.set(f)
	}
	if errors.Is(err, unix.EEXIST) { // the filter, which is never another one's
		return nil
	}
	return err
}

// hushing is the filter of a silent link. What somebody else has there has its turn before and after it.
func hushing(index int) filter {
	return filter{
		index: index, parent: egressParent, priority: entryPriority, protocol: unix.ETH_P_ALL, kind: "matchall",
		options: matchAll(skbedit(unix.PACKET_OTHERHOST, actContinue)),
	}
}
