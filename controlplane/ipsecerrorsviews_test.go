package controlplane_test

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"vrgate/controlplane/api"
)

// TestIPsecErrors: each virtual router has the kernel's counters of its namespace, with those who share it; one that is new to us has no text.
func TestIPsecErrors(t *testing.T) {
	files := maps.Clone(redAndBlue)
	files["vr/green.yaml"] = "namespace: {name: red}\nvrf: {device: green, table: 7}\n"
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, loadConfig(t, files))
		synctest.Wait() // until the loops run
		got, err := w.p.IPsecErrors(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for i := range got {
			if got[i].Counter == "XfrmInNoPols" {
				names = append(names, got[i].VR)
			}
			if (got[i].Text == "") != (got[i].Kind == "in-new-and-strange") {
				t.Errorf("%+v", got[i])
			}
			got[i].Text = ""
		}
		if want := []string{"blue", "green", "red"}; !slices.Equal(names, want) || len(got) != 9 {
			t.Fatalf("counters of %q, %d in all", names, len(got))
		}
		if diff := cmp.Diff([]api.IPsecError{
			{VR: "blue", Namespace: "blue", Shared: []string{}, Kind: "in-no-pols", Counter: "XfrmInNoPols", Value: 5},
			{VR: "green", Namespace: "red", Shared: []string{"red"}, Kind: "in-no-pols", Counter: "XfrmInNoPols", Value: 5},
			{VR: "red", Namespace: "red", Shared: []string{"green"}, Kind: "out-no-states", Counter: "XfrmOutNoStates"},
		}, []api.IPsecError{got[0], got[3], got[7]}); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		w.stop()
	})
}
