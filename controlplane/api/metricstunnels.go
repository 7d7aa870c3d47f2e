package api

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// tunnelMetrics are the metrics of static tunnels. The virtual router is the one whose traffic the tunnel carries. Counts of the
// tunnel begin anew when it is configured anew, or its virtual router is opened again.
type tunnelMetrics struct {
	source Source
	descs  []*prometheus.Desc

	up, state, since, networks, checkOK, checkRTT, checks *prometheus.Desc
	packets, bytes, errors, dials, ups, changes, failures *prometheus.Desc
	rekeys                                                *prometheus.Desc
}

func newTunnelMetrics(source Source) *tunnelMetrics {
	m := &tunnelMetrics{source: source}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		d := prometheus.NewDesc("vrgate_tunnel_"+name, help, append([]string{"vr", "tunnel"}, labels...), nil)
		m.descs = append(m.descs, d)
		return d
	}
	m.up = desc("up", "1 if the static tunnel is up, 0 if not, for whatever reason.")
	m.state = desc("state", "Always 1; the label is what the static tunnel is doing.", "state")
	m.since = desc("state_since_seconds", "Unix time since which the static tunnel is in its state.")
	m.networks = desc("networks_up", "Pairs of networks of the static tunnel that have SAs in both directions.")
	m.checkOK = desc("check_ok", "1 if the last connectivity check through the static tunnel was answered, once there was one.")
	m.checkRTT = desc("check_rtt_seconds", "Round trip time of the last connectivity check that was answered.")
	m.checks = desc("checks_total", "Connectivity checks by result: sent, lost.", "result")
	m.packets = desc("packets_total", "Encapsulated packets of the static tunnel; direction in is what we have received.", "direction")
	m.bytes = desc("bytes_total", "Bytes of these packets.", "direction")
	m.errors = desc("errors", "Packets that the SAs which live have dropped, by kind: auth, replay.", "kind")
	m.dials = desc("dials_total", "Dials of the static tunnel.")
	m.ups = desc("ups_total", "Times that the static tunnel has come up.")
	m.changes = desc("peer_changes_total", "Changes of the peer by kind: fall-over, fall-back, move to another address.", "kind")
	m.failures = desc("failures_total", "Dials that failed, connections that ended and pairs of networks that were lost or refused, by reason.", "reason")
	m.rekeys = desc("rekeys_total", "SAs of the present connection that newer ones have replaced, by phase.", "phase")
	return m
}

// collect takes a snapshot.
func (m *tunnelMetrics) collect(ctx context.Context, ch chan<- prometheus.Metric) {
	tunnels, err := m.source.Tunnels(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(m.up, err)
		return
	}
	for i := range tunnels {
		m.tunnel(ch, &tunnels[i])
	}
}

func (m *tunnelMetrics) tunnel(ch chan<- prometheus.Metric, t *Tunnel) {
	up := 0
	for i := range t.Networks {
		up += truth(t.Networks[i].State == "up")
	}
	gauge(ch, m.up, truth(t.State == "up"), t.VR, t.Name)
	gauge(ch, m.state, 1, t.VR, t.Name, t.State)
	if !t.Since.IsZero() {
		gauge(ch, m.since, float64(t.Since.UnixMilli())/1000, t.VR, t.Name)
	}
	gauge(ch, m.networks, up, t.VR, t.Name)
	if c := &t.Check; c.Target.IsValid() {
		if !c.At.IsZero() {
			gauge(ch, m.checkOK, truth(c.OK), t.VR, t.Name)
		}
		if c.RTTSeconds > 0 {
			gauge(ch, m.checkRTT, c.RTTSeconds, t.VR, t.Name)
		}
		counter(ch, m.checks, c.Sent, t.VR, t.Name, "sent")
		counter(ch, m.checks, c.Lost, t.VR, t.Name, "lost")
	}
	counter(ch, m.packets, t.Outside.InPackets, t.VR, t.Name, "in")
	counter(ch, m.packets, t.Outside.OutPackets, t.VR, t.Name, "out")
	counter(ch, m.bytes, t.Outside.InBytes, t.VR, t.Name, "in")
	counter(ch, m.bytes, t.Outside.OutBytes, t.VR, t.Name, "out")
	gauge(ch, m.errors, float64(t.AuthErrors), t.VR, t.Name, "auth")
	gauge(ch, m.errors, float64(t.ReplayErrors), t.VR, t.Name, "replay")
	counter(ch, m.dials, t.Attempts, t.VR, t.Name)
	counter(ch, m.ups, t.Ups, t.VR, t.Name)
	counter(ch, m.changes, t.FallOvers, t.VR, t.Name, "fall-over")
	counter(ch, m.changes, t.FallBacks, t.VR, t.Name, "fall-back")
	counter(ch, m.changes, t.Moves, t.VR, t.Name, "move")
	for reason, n := range t.Failures {
		counter(ch, m.failures, n, t.VR, t.Name, reason)
	}
	counter(ch, m.rekeys, t.Phase1Rekeys, t.VR, t.Name, "1")
	counter(ch, m.rekeys, t.Rekeys, t.VR, t.Name, "2")
}
