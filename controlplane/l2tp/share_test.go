package l2tp

import (
	"fmt"
	"slices"
)

// checkDials recomputes the indexes of calls and tunnels of ours, for check.
func (e *Engine) checkDials() error {
	waiting, roomy, zero := 0, 0, 0
	for id, t := range e.tunnels {
		listed := slices.Contains(e.roomy[t.shareKey()], id)
		if listed != t.Roomy || t.Roomy && (t.over() || !t.Shared) {
			return fmt.Errorf("tunnel %d: roomy %v, listed %v, phase %d, shared %v", id, t.Roomy, listed, t.Phase, t.Shared)
		}
		if t.Roomy {
			roomy++
		}
		if t.ZeroID && !t.over() && e.zeroIDs[t.dialKey()] == id {
			zero++
		}
		for _, s := range t.Sessions {
			confirming := slices.Contains(t.Confirming, s.ID)
			if s.AwaitsConfirm && !confirming {
				return fmt.Errorf("session %d of tunnel %d waits for an acknowledgement that nobody looks for", s.ID, id)
			}
			if t.Shared && s.State == StateConnecting {
				waiting++
				if e.calls[s.Ref] != (callKey{id, s.ID}) {
					return fmt.Errorf("call %d is not found by its reference", s.Ref)
				}
			}
			if s.State == StateConnecting && !slices.Contains(t.Opening, s.ID) {
				return fmt.Errorf("session %d of tunnel %d has no set-up timeout", s.ID, id)
			}
		}
	}
	listed := 0
	for _, ids := range e.roomy {
		listed += len(ids)
	}
	if waiting != len(e.calls) || roomy != listed || zero != len(e.zeroIDs) {
		return fmt.Errorf("waiting calls %d, indexed %d; tunnels with room %d, listed %d; with id 0 %d, indexed %d",
			waiting, len(e.calls), roomy, listed, zero, len(e.zeroIDs))
	}
	return nil
}
