package api

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// Bounds on a request. Answers may take as long as the largest table takes.
const (
	maxRequestBody = 64 << 10
	readTimeout    = 10 * time.Second
	answerTimeout  = 30 * time.Second
	stopTimeout    = 2 * time.Second
)

// Server answers API requests from a Source.
type Server struct {
	source   Source
	log      *zap.Logger
	version  string
	started  time.Time
	access   Access
	mux      *http.ServeMux
	registry *prometheus.Registry
}

// NewServer returns a server that answers from source to those whom access
// lets in.
func NewServer(source Source, access Access, version string, log *zap.Logger) *Server {
	s := &Server{source: source, log: log, version: version, started: time.Now(), access: access, mux: http.NewServeMux()}
	s.registry = prometheus.NewRegistry()
	s.registry.MustRegister(newCollector(source, version))

	s.mux.Handle("GET /v1/health", s.handle(s.health))
	s.mux.Handle("GET /v1/vrs", list(s, source.VRs, func(v *VR, f Filter) bool { return f.VR == "" || f.VR == v.Name }))
	s.mux.Handle("GET /v1/ike-policy-rules", list(s, s.policyRules, func(v *IKEPolicyRule, f Filter) bool { return f.VR == "" || f.VR == v.VR }))
	s.mux.Handle("GET /v1/certificates", list(s, source.Certificates, func(v *Certificate, f Filter) bool { return f.VR == "" || f.VR == v.VR }))
	s.mux.Handle("GET /v1/tunnel-profiles", list(s, source.TunnelProfiles, func(v *TunnelProfile, f Filter) bool { return f.VR == "" || f.VR == v.VR }))
	s.mux.Handle("GET /v1/links", list(s, source.Links, func(v *Link, f Filter) bool { return f.VR == "" || f.VR == v.VR }))
	s.mux.Handle("GET /v1/tunnels", list(s, source.Tunnels, func(v *Tunnel, f Filter) bool { return f.VR == "" || f.VR == v.VR || f.VR == v.TransportVR }))
	s.mux.Handle("POST /v1/tunnels", s.handle(s.tell))
	s.mux.Handle("GET /v1/ike-sas", list(s, source.IKESAs, func(v *IKESA, f Filter) bool { return f.VR == "" || f.VR == v.VR }))
	s.mux.Handle("GET /v1/ipsec", list(s, source.IPsec, func(v *IPsec, f Filter) bool { return f.VR == "" || f.VR == v.VR }))
	s.mux.Handle("GET /v1/l2tp/services", list(s, source.L2TPServices, func(v *L2TPService, f Filter) bool { return f.VR == "" || f.VR == v.VR }))
	s.mux.Handle("GET /v1/l2tp/destinations", list(s, source.L2TPDestinations, func(v *L2TPDestination, f Filter) bool { return f.VR == "" || f.VR == v.VR }))
	s.mux.Handle("GET /v1/l2tp/destination-profiles", list(s, source.L2TPProfiles, func(v *L2TPDestinationProfile, f Filter) bool { return f.VR == "" || f.VR == v.VR }))
	s.mux.Handle("POST /v1/l2tp/admin", s.handle(s.l2tpAdmin))
	s.mux.Handle("GET /v1/l2tp/tunnels", list(s, source.L2TPTunnels, func(v *L2TPTunnel, f Filter) bool { return f.VR == "" || f.VR == v.VR }))
	s.mux.Handle("GET /v1/l2tp/sessions", list(s, source.L2TPSessions, func(v *L2TPSession, f Filter) bool { return f.VR == "" || f.VR == v.VR }))
	s.mux.Handle("GET /v1/subscribers", list(s, source.Subscribers, func(v *Subscriber, f Filter) bool { return f.Match(v) }))
	s.mux.Handle("GET /v1/pools", list(s, s.pools, func(v *VRPool, f Filter) bool { return f.VR == "" || f.VR == v.VR }))
	s.mux.Handle("GET /v1/radius", list(s, source.RADIUS, func(v *RADIUS, f Filter) bool { return f.VR == "" || f.VR == v.VR }))
	s.mux.Handle("GET /v1/accounting", s.handle(s.accounting))
	s.mux.Handle("GET /v1/aaa", s.handle(s.aaa))
	s.mux.Handle("GET /v1/domain-maps", list(s, source.DomainMaps, func(v *DomainMap, f Filter) bool { return f.VR == "" || f.VR == v.VR }))
	s.mux.Handle("GET /v1/ipsec-errors", list(s, source.IPsecErrors, func(v *IPsecError, f Filter) bool { return f.VR == "" || f.VR == v.VR }))
	s.mux.Handle("GET /v1/traffic-policies", list(s, source.TrafficPolicies, func(v *TrafficPolicy, f Filter) bool { return f.VR == "" || f.VR == v.VR }))
	s.mux.Handle("GET /v1/terminate-codes", list(s, source.TerminateCodes, func(v *TerminateCode, f Filter) bool { return f.VR == "" || f.VR == v.VR }))
	s.mux.Handle("GET /v1/explain", s.handle(s.explain))
	s.mux.Handle("POST /v1/disconnect", s.handle(s.disconnect))
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.HTTPErrorOnError, Timeout: answerTimeout,
	}))
	s.mux.Handle("/", s.handle(func(*http.Request) (any, error) {
		return nil, &Error{Status: http.StatusNotFound, Reason: ReasonNotFound, Text: "there is no such resource"}
	}))
	return s
}

// Run serves l until ctx ends, then lets running requests finish for a moment.
// It closes l and returns when all its goroutines have ended.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		MaxHeaderBytes:    16 << 10,
		ConnContext:       s.access.connContext,
		ErrorLog:          zap.NewStdLog(s.log),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	// The requests' own contexts go on: this is the moment they get.
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		_ = srv.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := allowed(r.Context()); err != nil {
		s.log.Debug("control request refused", zap.String("path", r.URL.Path), zap.Error(err))
		s.fail(w, &Error{Status: http.StatusForbidden, Reason: ReasonForbidden, Text: err.Error()})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxRequestBody)
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	s.mux.ServeHTTP(w, r.WithContext(ctx))
}

// handle answers with what f returns, as JSON.
func (s *Server) handle(f func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		if err != nil {
			s.fail(w, err)
			return
		}
		s.write(w, http.StatusOK, v)
	})
}

func (s *Server) write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		s.log.Debug("control answer not delivered", zap.Error(err))
	}
}

func (s *Server) fail(w http.ResponseWriter, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Status: http.StatusServiceUnavailable, Reason: ReasonUnavailable, Text: err.Error()}
	}
	s.write(w, e.Status, e)
}

// list answers with the rows of get that match the request's filter.
func list[T any](s *Server, get func(context.Context) ([]T, error), match func(*T, Filter) bool) http.Handler {
	return s.handle(func(r *http.Request) (any, error) {
		f, err := filterOf(r)
		if err != nil {
			return nil, err
		}
		rows, err := get(r.Context())
		if err != nil {
			return nil, err
		}
		matching := make([]T, 0, len(rows))
		for i := range rows {
			if match(&rows[i], f) {
				matching = append(matching, rows[i])
			}
		}
		return matching, nil
	})
}

// filterOf reads a filter from the query. An unknown parameter is refused: a
// filter that is silently not applied shows too much.
func filterOf(r *http.Request) (Filter, error) {
	var f Filter
	for key, values := range r.URL.Query() {
		v := values[len(values)-1]
		subscribers := r.URL.Path == "/v1/subscribers"
		switch {
		case key == "vr":
			f.VR = v
		case key == "id" && subscribers:
			f.ID = v
		case key == "user" && subscribers:
			f.User = v
		case key == "profile" && subscribers:
			f.Profile = v
		case key == "domain" && subscribers:
			f.Domain = v
		case key == "address" && subscribers:
			a, err := netip.ParseAddr(v)
			if err != nil {
				return f, badRequest("address is not an IP address")
			}
			f.Address = a
		default:
			return f, badRequest("unknown parameter " + key)
		}
	}
	return f, nil
}

func badRequest(text string) error {
	return &Error{Status: http.StatusBadRequest, Reason: ReasonBadRequest, Text: text}
}

func (s *Server) health(r *http.Request) (any, error) {
	vrs, err := s.source.VRs(r.Context())
	if err != nil {
		return nil, err
	}
	licences, err := s.source.Licences(r.Context())
	if err != nil {
		return nil, err
	}
	h := Health{Status: "ok", Version: s.version, Started: s.started, VRs: len(vrs), Licences: licences}
	for i := range vrs {
		if vrs[i].State == "failed" {
			h.FailedVRs++
			h.Status = "degraded"
		}
	}
	return h, nil
}

// policyRules lists the rules of all virtual routers.
func (s *Server) policyRules(ctx context.Context) ([]IKEPolicyRule, error) {
	vrs, err := s.source.VRs(ctx)
	if err != nil {
		return nil, err
	}
	var out []IKEPolicyRule
	for i := range vrs {
		for _, p := range vrs[i].PolicyRules {
			out = append(out, IKEPolicyRule{vrs[i].Name, p})
		}
	}
	return out, nil
}

// pools lists the pools of all virtual routers.
func (s *Server) pools(ctx context.Context) ([]VRPool, error) {
	vrs, err := s.source.VRs(ctx)
	if err != nil {
		return nil, err
	}
	var out []VRPool
	for i := range vrs {
		for _, p := range vrs[i].Pools {
			out = append(out, VRPool{vrs[i].Name, p})
		}
	}
	return out, nil
}

// accounting shows the journal; a filter leaves the queues of one virtual router.
func (s *Server) accounting(r *http.Request) (any, error) {
	f, err := filterOf(r)
	if err != nil {
		return nil, err
	}
	out, err := s.source.Accounting(r.Context())
	if err != nil {
		return nil, err
	}
	out.Queues = slices.DeleteFunc(out.Queues, func(q AccountingQueue) bool { return f.VR != "" && f.VR != q.VR })
	return out, nil
}

// aaa shows AAA; a filter leaves one virtual router's.
func (s *Server) aaa(r *http.Request) (any, error) {
	f, err := filterOf(r)
	if err != nil {
		return nil, err
	}
	out, err := s.source.AAA(r.Context())
	if err != nil {
		return nil, err
	}
	out.Routers = slices.DeleteFunc(out.Routers, func(v AAARouter) bool { return f.VR != "" && f.VR != v.VR })
	return out, nil
}

func (s *Server) explain(r *http.Request) (any, error) {
	var q ExplainRequest
	for key, values := range r.URL.Query() {
		v := values[len(values)-1]
		switch key {
		case "user":
			q.User = v
		case "vr":
			q.VR = v
		case "access":
			q.Access = v
		case "profile":
			q.Profile = v
		case "authentication":
			q.Authentication = v
		default:
			return nil, badRequest("unknown parameter " + key)
		}
	}
	if q.User == "" {
		return nil, badRequest("say whom: user")
	}
	return s.source.Explain(r.Context(), q)
}

// l2tpAdmin sets an administrative state (A8).
func (s *Server) l2tpAdmin(r *http.Request) (any, error) {
	var q L2TPAdminRequest
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil {
		return nil, badRequest("the request is not one for an administrative state: " + err.Error())
	}
	switch {
	case q.VR == "":
		return nil, badRequest("say of which virtual router: vr")
	case q.Session != 0 && q.Tunnel == 0:
		return nil, badRequest("a session is named by its tunnel and its own number")
	case q.Tunnel != 0 && q.Destination.IsValid():
		return nil, badRequest("a destination and a tunnel exclude each other")
	case q.State != "enabled" && q.State != "drain" && q.State != "disabled":
		return nil, badRequest("an administrative state is enabled, drain or disabled")
	}
	resp, err := s.source.SetL2TPAdmin(r.Context(), q)
	if err != nil {
		return nil, err
	}
	s.log.Info("administrative state of L2TP", zap.Any("request", q), zap.Int("tunnels_ending", resp.Tunnels), zap.Int("sessions_ending", resp.Sessions))
	return resp, nil
}

func (s *Server) disconnect(r *http.Request) (any, error) {
	var q DisconnectRequest
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil {
		return nil, badRequest("the request is not a disconnect request: " + err.Error())
	}
	switch {
	case q.Filter.Empty() && !q.All:
		return nil, badRequest("an empty filter would end every session; ask for all explicitly")
	case !q.Filter.Empty() && q.All:
		return nil, badRequest("all and a filter exclude each other")
	}
	subs, err := s.source.Subscribers(r.Context())
	if err != nil {
		return nil, err
	}
	resp := DisconnectResponse{Subscribers: []Subscriber{}, DryRun: q.DryRun}
	var ids []string
	for i := range subs {
		if q.Filter.Match(&subs[i]) {
			resp.Subscribers = append(resp.Subscribers, subs[i])
			ids = append(ids, subs[i].ID)
		}
	}
	if q.DryRun || len(ids) == 0 {
		return resp, nil
	}
	if err := s.source.Disconnect(r.Context(), ids); err != nil {
		return nil, err
	}
	s.log.Info("administrative disconnect", zap.Int("sessions", len(ids)), zap.Any("filter", q.Filter), zap.Bool("all", q.All))
	return resp, nil
}
