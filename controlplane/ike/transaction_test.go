package ike

import (
	"testing"

	"vrgate/controlplane/isakmp"
)

// TestReplyIdentifier: answers carry the identifier of the question, or none, as strongSwan's
// do; another one answers something else.
func TestReplyIdentifier(t *testing.T) {
	for _, c := range []struct {
		name string
		id   func(asked uint16) uint16
		good bool
	}{
		{"the same", func(id uint16) uint16 { return id }, true},
		{"strongSwan", func(uint16) uint16 { return 0 }, true},
		{"another", func(id uint16) uint16 { return max(1, id+1) }, false},
	} {
		r := dynRig(t, dynamicClients[0].profile)
		s := newSubscriber(r, dynamicClients[0].offer())
		q := s.asked()
		q.set.Identifier = c.id(q.set.Identifier)
		s.answerTo(q, isakmp.ConfigReply, text(isakmp.XAuthUserName, "joe"), text(isakmp.XAuthUserPassword, "secret of joe"))
		answered := 0
		for _, f := range r.dynamic {
			if _, ok := f.(UserAnswered); ok {
				answered++
			}
		}
		if answered == 1 != c.good || answered > 1 {
			t.Errorf("%s: answered %d times, want one: %v", c.name, answered, c.good)
		}
	}
}
