package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// maxAnswer bounds what the client reads: 10,000 subscribers are about 8 MiB.
const maxAnswer = 256 << 20

// Client asks a running daemon through its socket. Its errors are [*Error]
// wherever a reason is known.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client of the daemon at socket. It connects when it is
// asked something.
func NewClient(socket string) *Client {
	return &Client{socket, &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

// Health asks how the daemon is.
func (c *Client) Health(ctx context.Context) (Health, error) {
	return call[Health](ctx, c, http.MethodGet, "/v1/health", nil)
}

// VRs lists virtual routers; the filter's VR is honoured.
func (c *Client) VRs(ctx context.Context, f Filter) ([]VR, error) {
	return call[[]VR](ctx, c, http.MethodGet, "/v1/vrs"+query(f), nil)
}

// IKEPolicyRules lists the IKE policy rules in force; the filter's VR is honoured.
func (c *Client) IKEPolicyRules(ctx context.Context, f Filter) ([]IKEPolicyRule, error) {
	return call[[]IKEPolicyRule](ctx, c, http.MethodGet, "/v1/ike-policy-rules"+query(f), nil)
}

// Certificates lists certificates and revocation lists; the filter's VR is honoured.
func (c *Client) Certificates(ctx context.Context, f Filter) ([]Certificate, error) {
	return call[[]Certificate](ctx, c, http.MethodGet, "/v1/certificates"+query(f), nil)
}

// TunnelProfiles lists tunnel profiles; the filter's VR is honoured.
func (c *Client) TunnelProfiles(ctx context.Context, f Filter) ([]TunnelProfile, error) {
	return call[[]TunnelProfile](ctx, c, http.MethodGet, "/v1/tunnel-profiles"+query(f), nil)
}

// Tunnels lists static tunnels; the filter's VR is honoured, be it where they end or where their outer addresses are.
func (c *Client) Tunnels(ctx context.Context, f Filter) ([]Tunnel, error) {
	return call[[]Tunnel](ctx, c, http.MethodGet, "/v1/tunnels"+query(f), nil)
}

// TellTunnel says a word about a static tunnel.
func (c *Client) TellTunnel(ctx context.Context, q TunnelRequest) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/v1/tunnels", q)
	return err
}

// IKESAs lists phase 1 SAs; the filter's VR is honoured.
func (c *Client) IKESAs(ctx context.Context, f Filter) ([]IKESA, error) {
	return call[[]IKESA](ctx, c, http.MethodGet, "/v1/ike-sas"+query(f), nil)
}

// IPsec lists IPsec connections; the filter's VR is honoured.
func (c *Client) IPsec(ctx context.Context, f Filter) ([]IPsec, error) {
	return call[[]IPsec](ctx, c, http.MethodGet, "/v1/ipsec"+query(f), nil)
}

// L2TPServices shows L2TP of virtual routers; the filter's VR is honoured.
func (c *Client) L2TPServices(ctx context.Context, f Filter) ([]L2TPService, error) {
	return call[[]L2TPService](ctx, c, http.MethodGet, "/v1/l2tp/services"+query(f), nil)
}

// L2TPDestinations lists LACs and LNSs by address; the filter's VR is honoured.
func (c *Client) L2TPDestinations(ctx context.Context, f Filter) ([]L2TPDestination, error) {
	return call[[]L2TPDestination](ctx, c, http.MethodGet, "/v1/l2tp/destinations"+query(f), nil)
}

// L2TPProfiles lists destination profiles; the filter's VR is honoured.
func (c *Client) L2TPProfiles(ctx context.Context, f Filter) ([]L2TPDestinationProfile, error) {
	return call[[]L2TPDestinationProfile](ctx, c, http.MethodGet, "/v1/l2tp/destination-profiles"+query(f), nil)
}

// SetL2TPAdmin sets an administrative state.
func (c *Client) SetL2TPAdmin(ctx context.Context, q L2TPAdminRequest) (L2TPAdminResponse, error) {
	return call[L2TPAdminResponse](ctx, c, http.MethodPost, "/v1/l2tp/admin", q)
}

// L2TPTunnels lists tunnels; the filter's VR is honoured.
func (c *Client) L2TPTunnels(ctx context.Context, f Filter) ([]L2TPTunnel, error) {
	return call[[]L2TPTunnel](ctx, c, http.MethodGet, "/v1/l2tp/tunnels"+query(f), nil)
}

// L2TPSessions lists sessions; the filter's VR is honoured.
func (c *Client) L2TPSessions(ctx context.Context, f Filter) ([]L2TPSession, error) {
	return call[[]L2TPSession](ctx, c, http.MethodGet, "/v1/l2tp/sessions"+query(f), nil)
}

// Subscribers lists subscribers.
func (c *Client) Subscribers(ctx context.Context, f Filter) ([]Subscriber, error) {
	return call[[]Subscriber](ctx, c, http.MethodGet, "/v1/subscribers"+query(f), nil)
}

// Pools lists address pools; the filter's VR is honoured.
func (c *Client) Pools(ctx context.Context, f Filter) ([]VRPool, error) {
	return call[[]VRPool](ctx, c, http.MethodGet, "/v1/pools"+query(f), nil)
}

// RADIUS lists RADIUS servers and what is known of them; the filter's VR is honoured.
func (c *Client) RADIUS(ctx context.Context, f Filter) ([]RADIUS, error) {
	return call[[]RADIUS](ctx, c, http.MethodGet, "/v1/radius"+query(f), nil)
}

// Accounting shows the accounting journal; the filter's VR narrows down its queues.
func (c *Client) Accounting(ctx context.Context, f Filter) (Accounting, error) {
	return call[Accounting](ctx, c, http.MethodGet, "/v1/accounting"+query(f), nil)
}

// AAA shows what became of requests; the filter's VR narrows down the virtual routers.
func (c *Client) AAA(ctx context.Context, f Filter) (AAA, error) {
	return call[AAA](ctx, c, http.MethodGet, "/v1/aaa"+query(f), nil)
}

// DomainMaps lists the entries of domain maps; the filter's VR is honoured.
func (c *Client) DomainMaps(ctx context.Context, f Filter) ([]DomainMap, error) {
	return call[[]DomainMap](ctx, c, http.MethodGet, "/v1/domain-maps"+query(f), nil)
}

// IPsecErrors lists the kernel's IPsec errors; the filter's VR is honoured.
func (c *Client) IPsecErrors(ctx context.Context, f Filter) ([]IPsecError, error) {
	return call[[]IPsecError](ctx, c, http.MethodGet, "/v1/ipsec-errors"+query(f), nil)
}

// Links lists links to private networks; the filter's VR is honoured.
func (c *Client) Links(ctx context.Context, f Filter) ([]Link, error) {
	return call[[]Link](ctx, c, http.MethodGet, "/v1/links"+query(f), nil)
}

// TrafficPolicies lists traffic policies; the filter's VR is honoured.
func (c *Client) TrafficPolicies(ctx context.Context, f Filter) ([]TrafficPolicy, error) {
	return call[[]TrafficPolicy](ctx, c, http.MethodGet, "/v1/traffic-policies"+query(f), nil)
}

// TerminateCodes lists what RADIUS is told of reasons; the filter's VR is honoured.
func (c *Client) TerminateCodes(ctx context.Context, f Filter) ([]TerminateCode, error) {
	return call[[]TerminateCode](ctx, c, http.MethodGet, "/v1/terminate-codes"+query(f), nil)
}

// Explain asks what would be done about a user.
func (c *Client) Explain(ctx context.Context, q ExplainRequest) ([]ExplainStep, error) {
	return call[[]ExplainStep](ctx, c, http.MethodGet, "/v1/explain"+encode(map[string]string{
		"user": q.User, "vr": q.VR, "access": q.Access, "profile": q.Profile, "authentication": q.Authentication,
	}), nil)
}

// Disconnect ends subscribers.
func (c *Client) Disconnect(ctx context.Context, q DisconnectRequest) (DisconnectResponse, error) {
	return call[DisconnectResponse](ctx, c, http.MethodPost, "/v1/disconnect", q)
}

func query(f Filter) string {
	q := map[string]string{"vr": f.VR, "id": f.ID, "user": f.User, "profile": f.Profile, "domain": f.Domain}
	if f.Address.IsValid() {
		q["address"] = f.Address.String()
	}
	return encode(q)
}

// encode makes a query of what is not empty.
func encode(parameters map[string]string) string {
	q := url.Values{}
	for key, v := range parameters {
		if v != "" {
			q.Set(key, v)
		}
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

func call[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var out T
	var in io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return out, fmt.Errorf("control request: %w", err)
		}
		in = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://vrgate"+path, in)
	if err != nil {
		return out, fmt.Errorf("control request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return out, c.connectError(err)
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode != http.StatusOK {
		e := &Error{Status: resp.StatusCode}
		if err := dec.Decode(e); err != nil || e.Text == "" {
			e.Reason, e.Text = ReasonUnavailable, "the daemon answered "+resp.Status
		}
		return out, e
	}
	if err := dec.Decode(&out); err != nil {
		return out, fmt.Errorf("control answer: %w", err)
	}
	return out, nil
}

// connectError says what it means that the socket does not answer.
func (c *Client) connectError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &Error{Reason: ReasonNotRunning, Text: "vrgate is not running (nobody answers at " + c.socket + ")"}
	case errors.Is(err, fs.ErrPermission):
		return &Error{Reason: ReasonNoPermission, Text: "no permission to use " + c.socket + "; ask as root or as a member of the group in vrgate.yaml"}
	}
	return fmt.Errorf("control request: %w", err)
}
