package api

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// aaaMetrics are the metrics of AAA. Outcomes that have not happened yet are 0 and not missing,
// so that rates are right from the first on; what is counted by attributes and reasons, of which
// there are many, begins with the first. No label is chosen by a client.
type aaaMetrics struct {
	source Source
	descs  []*prometheus.Desc

	radiusRequests, radiusUp, radiusRTT, radiusInFlight, radiusWaiting        *prometheus.Desc
	radiusQueued, radiusRefused, radiusFindings, coaRequests, coaUnknown      *prometheus.Desc
	queued, unsaved, open, oldest, disk, recovered, lost, unknown             *prometheus.Desc
	groupQueued, groupUp, records                                             *prometheus.Desc
	results, answers, policies, running, waiting, admitted, refused, overruns *prometheus.Desc
}

func newAAAMetrics(source Source) *aaaMetrics {
	m := &aaaMetrics{source: source}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		d := prometheus.NewDesc("vrgate_"+name, help, labels, nil)
		m.descs = append(m.descs, d)
		return d
	}
	m.radiusRequests = desc("radius_requests_total", "Requests to a RADIUS server, and packets that came from it, by outcome.", "vr", "server", "role", "outcome")
	m.radiusUp = desc("radius_server_up", "1 if the RADIUS server is asked, 0 if it is passed over because it did not answer, or is being tried out after that.", "vr", "server", "role")
	m.radiusRTT = desc("radius_rtt_seconds", "Smoothed time to an answer of a RADIUS server, once it has answered.", "vr", "server", "role")
	m.radiusInFlight = desc("radius_in_flight", "Requests that wait for an answer of a RADIUS server.", "vr", "server", "role")
	m.radiusWaiting = desc("radius_waiting", "Requests that wait for a socket or an identifier towards a RADIUS server.", "vr", "server", "role")
	m.radiusQueued = desc("radius_queued", "Requests that wait because too many are in flight.", "vr", "role")
	m.radiusRefused = desc("radius_refused_total", "Requests for which there was no room to wait.", "vr", "role")
	m.radiusFindings = desc("radius_findings_total", "Attributes of answers that were not used, by problem; attribute others counts those beyond the first 256.", "vr", "attribute", "problem")
	m.coaRequests = desc("coa_requests_total", "Disconnect- and CoA-Requests by outcome.", "vr", "client", "outcome")
	m.coaUnknown = desc("coa_unknown_sources_total", "Packets to the CoA port from sources that are no clients.", "vr")
	m.queued = desc("accounting_queued", "Accounting records that no server has acknowledged yet.")
	m.unsaved = desc("accounting_unsaved", "Accounting records that are not on disk yet.")
	m.open = desc("accounting_open_sessions", "Sessions whose stop is owed to a server.")
	m.oldest = desc("accounting_oldest_age_seconds", "Age of the oldest queued accounting record, 0 without any.")
	m.disk = desc("accounting_disk_up", "1 if the disk takes accounting records, 0 if they are in memory only.")
	m.recovered = desc("accounting_recovered_total", "Stops that were owed by a daemon that died.")
	m.lost = desc("accounting_lost_total", "Accounting records that are lost.")
	m.unknown = desc("accounting_unknown_total", "Interim records and stops of sessions that had no start.")
	m.groupQueued = desc("accounting_group_queued", "Accounting records that wait for a group of servers.", "vr", "group")
	m.groupUp = desc("accounting_group_up", "1 if the group acknowledges what it is sent, 0 since it has not.", "vr", "group")
	m.records = desc("accounting_records_total", "Accounting records by outcome: delivered, retried, dropped; only interim records are ever dropped.", "vr", "group", "outcome")
	m.results = desc("aaa_results_total", "Requests to be let in, by what came of them: accepted, challenged, or why not.", "vr", "result")
	m.answers = desc("aaa_answers_total", "What the methods said that were asked, one after the other, about one request.", "vr", "method", "result")
	m.policies = desc("aaa_unknown_policies_total", "Traffic policies that users were let in without, because there are none of that name.")
	m.running = desc("admission_running", "Subscribers that are being decided about.")
	m.waiting = desc("admission_waiting", "Subscribers that wait for that.")
	m.admitted = desc("admission_admitted_total", "Questions to AAA that had their turn.")
	m.refused = desc("admission_refused_total", "Questions to AAA that were refused because too many waited.")
	m.overruns = desc("limit_refusals_total", "Sessions refused by a limit, by reason.", "vr", "reason")
	return m
}

func gauge[N int | float64](ch chan<- prometheus.Metric, d *prometheus.Desc, v N, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
}

func counter(ch chan<- prometheus.Metric, d *prometheus.Desc, v uint64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

// truth is 1 or 0.
func truth(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// collect takes a snapshot.
func (m *aaaMetrics) collect(ctx context.Context, ch chan<- prometheus.Metric) {
	radius, err := m.source.RADIUS(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(m.radiusRequests, err)
		return
	}
	for i := range radius {
		m.radius(ch, &radius[i])
	}
	accounting, err := m.source.Accounting(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(m.queued, err)
		return
	}
	m.accounting(ch, &accounting)
	aaa, err := m.source.AAA(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(m.results, err)
		return
	}
	m.aaa(ch, &aaa)
}

func (m *aaaMetrics) radius(ch chan<- prometheus.Metric, r *RADIUS) {
	for i := range r.Servers {
		s := &r.Servers[i]
		labels := []string{r.VR, s.Name, s.Role}
		gauge(ch, m.radiusUp, truth(s.State == "up"), labels...)
		gauge(ch, m.radiusInFlight, s.InFlight, labels...)
		gauge(ch, m.radiusWaiting, s.Waiting, labels...)
		if s.RTTSeconds > 0 {
			gauge(ch, m.radiusRTT, s.RTTSeconds, labels...)
		}
		for outcome, n := range s.Outcomes {
			counter(ch, m.radiusRequests, n, r.VR, s.Name, s.Role, outcome)
		}
	}
	for _, q := range r.Requests {
		gauge(ch, m.radiusQueued, q.Queued, r.VR, q.Role)
		counter(ch, m.radiusRefused, q.Refused, r.VR, q.Role)
	}
	for _, f := range r.Findings {
		counter(ch, m.radiusFindings, f.Count, r.VR, f.Attribute, f.Problem)
	}
	if !r.DynamicAuthorization.Enabled {
		return
	}
	counter(ch, m.coaUnknown, r.DynamicAuthorization.UnknownSources, r.VR)
	for _, c := range r.DynamicAuthorization.Clients {
		for outcome, n := range c.Outcomes {
			counter(ch, m.coaRequests, n, r.VR, c.Address.String(), outcome)
		}
	}
}

func (m *aaaMetrics) accounting(ch chan<- prometheus.Metric, a *Accounting) {
	age := 0.0
	if !a.Oldest.IsZero() {
		age = max(time.Since(a.Oldest).Seconds(), 0)
	}
	gauge(ch, m.queued, a.Queued)
	gauge(ch, m.unsaved, a.Unsaved)
	gauge(ch, m.open, a.OpenSessions)
	gauge(ch, m.oldest, age)
	gauge(ch, m.disk, truth(a.DiskError == ""))
	counter(ch, m.recovered, a.Recovered)
	counter(ch, m.lost, a.Lost)
	counter(ch, m.unknown, a.Unknown)
	for _, q := range a.Queues {
		gauge(ch, m.groupQueued, q.Queued, q.VR, q.Group)
		gauge(ch, m.groupUp, truth(q.State == "up"), q.VR, q.Group)
		counter(ch, m.records, q.Delivered, q.VR, q.Group, "delivered")
		counter(ch, m.records, q.Retried, q.VR, q.Group, "retried")
		counter(ch, m.records, q.DroppedInterims, q.VR, q.Group, "dropped")
	}
}

func (m *aaaMetrics) aaa(ch chan<- prometheus.Metric, a *AAA) {
	gauge(ch, m.running, a.Admission.Running)
	gauge(ch, m.waiting, a.Admission.Waiting)
	counter(ch, m.admitted, a.Admission.Admitted)
	counter(ch, m.refused, a.Admission.Refused)
	counter(ch, m.policies, a.UnknownPolicies)
	for i := range a.Routers {
		r := &a.Routers[i]
		for result, n := range r.Results {
			counter(ch, m.results, n, r.VR, result)
		}
		for _, x := range r.Answers {
			for result, n := range x.Results {
				counter(ch, m.answers, n, r.VR, x.Method, result)
			}
		}
		for reason, n := range r.Limits.Refused {
			counter(ch, m.overruns, n, r.VR, reason)
		}
	}
}
