package api

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// collector turns snapshots of a Source into metrics at scrape time, so that
// engines keep plain numbers and pay nothing between scrapes.
type collector struct {
	source Source

	build, vrUp, ikeSAs, halfOpen, connections, tunnels, sessions, subscribers, poolSize, poolUsed, events *prometheus.Desc
	licences, licencesUsed, profile, certificate, link, xfrmErrors                                         *prometheus.Desc

	aaa     *aaaMetrics
	static  *tunnelMetrics
	version string
}

func newCollector(source Source, version string) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("vrgate_"+name, help, labels, nil)
	}
	return &collector{
		source:       source,
		aaa:          newAAAMetrics(source),
		static:       newTunnelMetrics(source),
		version:      version,
		build:        desc("build_info", "Always 1; the label is the version.", "version"),
		vrUp:         desc("vr_up", "1 if the virtual router runs, 0 if it has failed or is not up yet.", "vr", "kind"),
		ikeSAs:       desc("ike_sas", "Phase 1 SAs, half-open ones included.", "vr"),
		halfOpen:     desc("ike_half_open", "Phase 1 negotiations that are not yet authenticated, and subscribers without certificate whose user is not in yet.", "vr"),
		connections:  desc("ipsec_connections", "IPsec connections.", "vr"),
		tunnels:      desc("l2tp_tunnels", "L2TP tunnels.", "vr"),
		sessions:     desc("l2tp_sessions", "L2TP sessions.", "vr"),
		subscribers:  desc("subscribers", "Subscribers by state: up, connecting, ending.", "vr", "state"),
		poolSize:     desc("pool_addresses", "Addresses that a pool can lease.", "vr", "pool"),
		poolUsed:     desc("pool_addresses_used", "Addresses that a pool has leased.", "vr", "pool"),
		licences:     desc("licences", "Licences that there are, where they are bounded; an empty vr is the whole process.", "vr", "licence"),
		licencesUsed: desc("licences_used", "Licences that subscribers hold; an empty vr is the whole process.", "vr", "licence"),
		profile:      desc("tunnel_profile_subscribers", "Dynamic subscribers of a tunnel profile.", "vr", "profile"),
		certificate:  desc("certificate_end_seconds", "Unix time at which a certificate expires or a revocation list should be replaced.", "vr", "kind", "name"),
		link:         desc("link_up", "1 if a link to a private network carries packets, 0 if it is down or missing.", "vr", "link", "kind"),
		xfrmErrors:   desc("xfrm_errors_total", "IPsec errors that the kernel has counted in the virtual router's network namespace; virtual routers that share one show the same.", "vr", "kind"),
		events:       desc("events_total", "Ends, refusals, failures and drops by typed reason.", "vr", "subsystem", "reason"),
	}
}

// Describe sends all descriptions.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range append([]*prometheus.Desc{
		c.build, c.vrUp, c.ikeSAs, c.halfOpen, c.connections, c.tunnels, c.sessions, c.subscribers, c.poolSize, c.poolUsed, c.events,
		c.licences, c.licencesUsed, c.profile, c.certificate, c.link, c.xfrmErrors,
	}, append(c.static.descs, c.aaa.descs...)...) {
		ch <- d
	}
}

// Collect takes a snapshot.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	// Collect is given no context; this bounds it like any other answer.
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()

	licences := func(vr string, l Licences) {
		for _, x := range []struct {
			name string
			Licence
		}{{"subscribers", l.Subscribers}, {"ipsec-tunnels", l.IPsecTunnels}} {
			gauge(ch, c.licencesUsed, x.Used, vr, x.name)
			if x.Limit > 0 {
				gauge(ch, c.licences, x.Limit, vr, x.name)
			}
		}
	}
	gauge(ch, c.build, 1, c.version)
	process, err := c.source.Licences(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.licences, err)
		return
	}
	licences("", process)
	vrs, err := c.source.VRs(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.vrUp, err)
		return
	}
	for i := range vrs {
		v := &vrs[i]
		gauge(ch, c.vrUp, truth(v.State == "up"), v.Name, v.Kind)
		gauge(ch, c.ikeSAs, v.IKESAs, v.Name)
		gauge(ch, c.halfOpen, v.HalfOpen, v.Name)
		gauge(ch, c.connections, v.Connections, v.Name)
		gauge(ch, c.tunnels, v.Tunnels, v.Name)
		gauge(ch, c.sessions, v.Sessions, v.Name)
		gauge(ch, c.subscribers, v.Subscribers.Up, v.Name, "up")
		gauge(ch, c.subscribers, v.Subscribers.Connecting, v.Name, "connecting")
		gauge(ch, c.subscribers, v.Subscribers.Ending, v.Name, "ending")
		licences(v.Name, v.Licences)
		for _, p := range v.Pools {
			gauge(ch, c.poolSize, p.Size, v.Name, p.Name)
			gauge(ch, c.poolUsed, p.Used, v.Name, p.Name)
		}
	}
	profiles, err := c.source.TunnelProfiles(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.profile, err)
		return
	}
	for i := range profiles {
		gauge(ch, c.profile, profiles[i].Subscribers, profiles[i].VR, profiles[i].Name)
	}
	certificates, err := c.source.Certificates(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.certificate, err)
		return
	}
	for i := range certificates {
		if x := &certificates[i]; !x.NotAfter.IsZero() {
			gauge(ch, c.certificate, int(x.NotAfter.Unix()), x.VR, x.Kind, x.Name)
		}
	}
	links, err := c.source.Links(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.link, err)
		return
	}
	for i := range links {
		gauge(ch, c.link, truth(links[i].State == "up"), links[i].VR, links[i].Name, links[i].Kind)
	}
	ipsec, err := c.source.IPsecErrors(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.xfrmErrors, err)
		return
	}
	for i := range ipsec {
		counter(ch, c.xfrmErrors, ipsec[i].Value, ipsec[i].VR, ipsec[i].Kind)
	}
	counters, err := c.source.Counters(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.events, err)
		return
	}
	for _, n := range counters {
		counter(ch, c.events, n.Value, n.VR, n.Subsystem, n.Reason)
	}
	c.static.collect(ctx, ch)
	c.aaa.collect(ctx, ch)
}
