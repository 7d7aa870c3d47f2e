package l2tp

import "time"

// params are the settings that a tunnel keeps for life, so that a reload does not touch it.
type params struct {
	Hello                time.Duration // 0: off
	RetransmitMax        int
	RetransmitMaxOpening int
	Idle                 time.Duration // 0: for ever
	Setup                time.Duration
	Destruct             time.Duration
	Drain                time.Duration // 0: do not wait
	DisconnectCause      bool
}

// withDefaults returns c with every zero value replaced by the default of requirements.md section 1.7 and every figure
// brought into its range.
func (c Config) withDefaults() Config {
	duration := func(d *time.Duration, standard time.Duration) {
		if *d == 0 {
			*d = standard
		}
	}
	tries := func(n *int) {
		if *n == 0 {
			*n = 5
		}
		*n = min(max(*n, 2), 7)
	}
	if c.HostName == "" {
		c.HostName = "vrgate"
	}
	if c.VendorName == "" {
		c.VendorName = "vrgate"
	}
	c.ReceiveWindow = window(c.ReceiveWindow)
	duration(&c.Hello, 60*time.Second)
	tries(&c.RetransmitMax)
	tries(&c.RetransmitMaxOpening)
	duration(&c.RetransmitBase, time.Second)
	duration(&c.RetransmitCap, 16*time.Second)
	c.RetransmitBase = max(c.RetransmitBase, minRetransmit)
	c.RetransmitCap = max(c.RetransmitCap, c.RetransmitBase)
	duration(&c.IdleTimeout, 60*time.Second)
	duration(&c.SetupTimeout, 60*time.Second)
	duration(&c.DestructTimeout, 600*time.Second)
	duration(&c.ShortDrain, 2*time.Second)
	c.ShortDrain = min(c.ShortDrain, 31*time.Second)
	if c.MaxHalfOpen == 0 {
		c.MaxHalfOpen = 1024
	}
	if c.MaxHalfOpenPerPeer == 0 {
		c.MaxHalfOpenPerPeer = 16
	}
	return c
}

// minRetransmit is the shortest retransmission interval that a configuration may ask for.
const minRetransmit = 50 * time.Millisecond

// window is our receive window for a configured figure: 0 means the default.
func window(n uint16) uint16 {
	if n == 0 {
		return 4
	}
	return min(n, maxWindow)
}

func (c *Config) params() params {
	off := func(d time.Duration) time.Duration { return max(d, 0) }
	return params{
		Hello: off(c.Hello), RetransmitMax: c.RetransmitMax, RetransmitMaxOpening: c.RetransmitMaxOpening,
		Idle: off(c.IdleTimeout), Setup: off(c.SetupTimeout), Destruct: off(c.DestructTimeout), Drain: off(c.ShortDrain),
		DisconnectCause: c.DisconnectCause,
	}
}
