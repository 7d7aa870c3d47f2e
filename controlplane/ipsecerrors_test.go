package controlplane

import (
	"strings"
	"testing"
)

// TestIPsecErrorKinds: each counter that we know has a kind of its own, and a sentence that says which way the packet went.
func TestIPsecErrorKinds(t *testing.T) {
	for counter, want := range map[string]string{
		"XfrmInNoPols": "in-no-pols", "XfrmOutStateSeqError": "out-state-seq-error", "XfrmAcquireError": "acquire-error", "XfrmNew": "new", "Other": "other",
	} {
		if got := ipsecErrorKind(counter); got != want {
			t.Errorf("%s is of kind %q, want %q", counter, got, want)
		}
	}
	kinds, texts := map[string]bool{}, map[string]bool{}
	for counter, text := range ipsecErrorTexts {
		kind := ipsecErrorKind(counter)
		if kinds[kind] || texts[text] {
			t.Errorf("%s: kind %s or %q is another's too", counter, kind, text)
		}
		kinds[kind], texts[text] = true, true
		way := "received: "
		switch {
		case strings.HasPrefix(counter, "XfrmOut"):
			way = "sent: "
		case strings.HasPrefix(counter, "XfrmFwd"):
			way = "forwarded: "
		}
		if !strings.HasPrefix(counter, "Xfrm") || !strings.HasPrefix(text, way) {
			t.Errorf("%s: %q", counter, text)
		}
	}
}
