package api

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Reloader has the daemon read its configuration again. The daemon's own directory counts: whoever asks says nothing about
// it. The error is an [*Error] with [ReasonBadConfiguration] and every mistake if the configuration cannot be taken over;
// then nothing has been touched.
type Reloader interface {
	// Reload takes the configuration over and says what that has changed. Once begun it is carried through, whatever
	// becomes of ctx.
	Reload(ctx context.Context) (Plan, error)
	// Diff says what Reload would do.
	Diff(ctx context.Context) (Plan, error)
	// Reloads says how it went so far.
	Reloads() ReloadStatus
}

// ReloadStatus counts reloads since the daemon began.
type ReloadStatus struct {
	Succeeded, Failed uint64
	// Last is when the present configuration was taken over, by a reload or by the start.
	Last time.Time
}

// NewConfigurationError is the answer to a request for a reload of a configuration with mistakes, one a line.
func NewConfigurationError(mistakes []string) *Error {
	return &Error{http.StatusUnprocessableEntity, ReasonBadConfiguration, "the configuration has mistakes; nothing has been changed", mistakes}
}

// ServeReloads adds reloads to what the server does, and their metrics. It is called before the first request.
func (s *Server) ServeReloads(r Reloader) {
	s.mux.Handle("POST /v1/reload", s.handle(func(q *http.Request) (any, error) { return r.Reload(context.WithoutCancel(q.Context())) }))
	s.mux.Handle("POST /v1/diff", s.handle(func(q *http.Request) (any, error) { return r.Diff(q.Context()) }))
	s.registry.MustRegister(reloadMetrics{
		r, prometheus.NewDesc("vrgate_reloads_total", "Reloads of the configuration by result: succeeded, failed.", []string{"result"}, nil),
		prometheus.NewDesc("vrgate_configuration_taken_over_seconds", "Unix time at which the present configuration was taken over.", nil, nil),
	})
}

// reloadMetrics shows how reloads went.
type reloadMetrics struct {
	source      Reloader
	total, last *prometheus.Desc
}

// Describe sends all descriptions.
func (m reloadMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.total
	ch <- m.last
}

// Collect takes a snapshot.
func (m reloadMetrics) Collect(ch chan<- prometheus.Metric) {
	s := m.source.Reloads()
	ch <- prometheus.MustNewConstMetric(m.total, prometheus.CounterValue, float64(s.Succeeded), "succeeded")
	ch <- prometheus.MustNewConstMetric(m.total, prometheus.CounterValue, float64(s.Failed), "failed")
	ch <- prometheus.MustNewConstMetric(m.last, prometheus.GaugeValue, float64(s.Last.UnixNano())/1e9)
}

// Reload has the daemon take over its configuration.
func (c *Client) Reload(ctx context.Context) (Plan, error) {
	return call[Plan](ctx, c, http.MethodPost, "/v1/reload", nil)
}

// Diff asks what a reload would do.
func (c *Client) Diff(ctx context.Context) (Plan, error) {
	return call[Plan](ctx, c, http.MethodPost, "/v1/diff", nil)
}
