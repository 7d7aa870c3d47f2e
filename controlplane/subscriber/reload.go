package subscriber

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Affected is a session that another configuration would end, and why.
type Affected struct {
	Record Record
	Reason Reason
	Text   string
}

// Affected returns the dynamic subscribers that Reconfigure with cfg would end (G4), by ID: those whose tunnel profile is gone
// or has another Revision. It changes nothing. Of L2TP subscribers the L2TP engine knows.
func (e *Engine) Affected(cfg Config) (out []Affected) {
	for _, s := range e.byID {
		if s.dyn == nil || s.over || s.Reason != "" {
			continue
		}
		tunnel, there := cfg.Tunnels[s.Profile]
		switch {
		case !there:
			out = append(out, Affected{s.Record, ReasonProfileRemoved, fmt.Sprintf("tunnel profile %s was removed", s.Profile)})
		case tunnel.Revision != s.dyn.Tunnel.Revision:
			out = append(out, Affected{s.Record, ReasonProfileChanged, fmt.Sprintf("tunnel profile %s was changed", s.Profile)})
		}
	}
	slices.SortFunc(out, func(a, b Affected) int { return cmp.Compare(a.Record.ID, b.Record.ID) })
	return out
}

// reconfigure replaces the configuration. IDs go on where they are.
func (e *Engine) reconfigure(now time.Time, cfg Config) {
	affected := e.Affected(cfg)
	cfg.FirstID = 0
	e.cfg = withDefaults(cfg)
	for _, a := range affected {
		e.end(now, e.byID[a.Record.ID], a.Reason, a.Text, false)
	}
}
