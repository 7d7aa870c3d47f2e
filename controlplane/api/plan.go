package api

// Plan says what a changed configuration changes, and what it ends (G4). Before a reload it is a forecast, afterwards
// what was done.
type Plan struct {
	// Applied is set when the configuration has been taken over.
	Applied bool         `json:"applied"`
	Changes []PlanChange `json:"changes"`
	// Drops lists what ends, by virtual router and by what is the cause. Nothing else is touched.
	Drops []PlanDrop `json:"drops"`
	// Dropped sums them up.
	Dropped PlanCounts `json:"dropped"`
	// Restart lists settings that have changed and hold only after a restart; the old ones hold until then.
	Restart []string `json:"restart"`
	// Failed lists virtual routers that could not take over their configuration, and keep their old one or are tried
	// again.
	Failed []PlanFailure `json:"failed"`
}

// PlanChange is one thing that is configured differently.
type PlanChange struct {
	VR string `json:"vr"` // empty: vrgate.yaml
	// What is the section, such as "destination profile clients"; empty: the virtual router as a whole.
	What string `json:"what"`
	// Change is added, removed or changed.
	Change string `json:"change"`
	// Settings are the paths of what has changed in it.
	Settings []string `json:"settings"`
}

// PlanDrop is what ends for one cause.
type PlanDrop struct {
	VR string `json:"vr"`
	// What is the cause: "virtual router", "virtual router NAME" for sessions that end in that one, or a profile with
	// its kind and name.
	What string `json:"what"`
	// Reason is with which it ends: profile-removed, profile-changed, administratively-disabled, reconfigured or
	// router-removed.
	Reason string `json:"reason"`
	PlanCounts
}

// PlanCounts is how much ends.
type PlanCounts struct {
	Connections int `json:"connections"` // IPsec connections
	Tunnels     int `json:"tunnels"`     // L2TP tunnels
	Sessions    int `json:"sessions"`    // L2TP sessions
	Subscribers int `json:"subscribers"`
}

// Add sums up.
func (c *PlanCounts) Add(more PlanCounts) {
	c.Connections += more.Connections
	c.Tunnels += more.Tunnels
	c.Sessions += more.Sessions
	c.Subscribers += more.Subscribers
}

// Empty says whether a plan has no change in it.
func (p *Plan) Empty() bool { return len(p.Changes) == 0 && len(p.Drops) == 0 && len(p.Restart) == 0 }

// PlanFailure is a virtual router that could not take over its configuration.
type PlanFailure struct {
	VR     string `json:"vr"`
	Reason string `json:"reason"`
	Text   string `json:"text"`
}
