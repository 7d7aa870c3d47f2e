package aaa

import "testing"

// TestChangeOver: a change of one part of the traffic leaves the others alone.
func TestChangeOver(t *testing.T) {
	old := Traffic{In: 1, Out: 2, InBurst: 3, OutBurst: 4, InPolicy: "a", OutPolicy: "b"}
	set := &Traffic{In: 10, Out: 20, InBurst: 30, OutBurst: 40, InPolicy: "c", OutPolicy: "d"}
	for _, c := range []struct {
		name   string
		change Change
		want   Traffic
	}{
		{"nothing set", Change{Keep: RateIn}, old},
		{"all set", Change{Traffic: set}, *set},
		{"all kept", Change{Traffic: set, Keep: RateIn | RateOut | PolicyIn | PolicyOut}, old},
		{"rate in", Change{Traffic: set, Keep: RateOut | PolicyIn | PolicyOut}, Traffic{In: 10, Out: 2, InBurst: 30, OutBurst: 4, InPolicy: "a", OutPolicy: "b"}},
		{"rate out", Change{Traffic: set, Keep: RateIn | PolicyIn | PolicyOut}, Traffic{In: 1, Out: 20, InBurst: 3, OutBurst: 40, InPolicy: "a", OutPolicy: "b"}},
		{"policy in", Change{Traffic: set, Keep: RateIn | RateOut | PolicyOut}, Traffic{In: 1, Out: 2, InBurst: 3, OutBurst: 4, InPolicy: "c", OutPolicy: "b"}},
		{"policy out", Change{Traffic: set, Keep: RateIn | RateOut | PolicyIn}, Traffic{In: 1, Out: 2, InBurst: 3, OutBurst: 4, InPolicy: "a", OutPolicy: "d"}},
	} {
		if got := c.change.Over(old); got != c.want {
			t.Errorf("%s: %+v, not %+v", c.name, got, c.want)
		}
	}
}
