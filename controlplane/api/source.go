package api

import "context"

// Source is what the API shows and does. Package controlplane implements it.
// Methods may be called from several goroutines; they return copies that are
// the caller's, ordered by virtual router and then as is natural, and an error
// only if ctx ended first or the control plane is stopping.
type Source interface {
	VRs(ctx context.Context) ([]VR, error)
	// Licences are those of the whole process.
	Licences(ctx context.Context) (Licences, error)
	Certificates(ctx context.Context) ([]Certificate, error)
	TunnelProfiles(ctx context.Context) ([]TunnelProfile, error)
	// Links are those of the private networks.
	Links(ctx context.Context) ([]Link, error)
	// Tunnels are the static ones.
	Tunnels(ctx context.Context) ([]Tunnel, error)
	// TellTunnel passes a word of the operator about a static tunnel on. The error is an [*Error] if there is none of that name,
	// or it cannot do that.
	TellTunnel(ctx context.Context, q TunnelRequest) error
	IKESAs(ctx context.Context) ([]IKESA, error)
	IPsec(ctx context.Context) ([]IPsec, error)
	// IPsecErrors are what the kernel counts; values never fall while a virtual router's namespace lives.
	IPsecErrors(ctx context.Context) ([]IPsecError, error)
	L2TPServices(ctx context.Context) ([]L2TPService, error)
	L2TPDestinations(ctx context.Context) ([]L2TPDestination, error)
	L2TPProfiles(ctx context.Context) ([]L2TPDestinationProfile, error)
	// L2TPTunnels and L2TPSessions list the records of ended ones too.
	L2TPTunnels(ctx context.Context) ([]L2TPTunnel, error)
	L2TPSessions(ctx context.Context) ([]L2TPSession, error)
	Subscribers(ctx context.Context) ([]Subscriber, error)
	RADIUS(ctx context.Context) ([]RADIUS, error)
	Accounting(ctx context.Context) (Accounting, error)
	AAA(ctx context.Context) (AAA, error)
	DomainMaps(ctx context.Context) ([]DomainMap, error)
	TrafficPolicies(ctx context.Context) ([]TrafficPolicy, error)
	TerminateCodes(ctx context.Context) ([]TerminateCode, error)
	// Explain says what would be done about a user, without asking a server. The error is an
	// [*Error] if the request names what there is not.
	Explain(ctx context.Context, q ExplainRequest) ([]ExplainStep, error)
	// Counters returns every event counter; values never fall while the
	// process lives.
	Counters(ctx context.Context) ([]Counter, error)
	// Disconnect starts the polite end of the sessions with these IDs; unknown
	// ones are ignored, because a session may end while it is being selected.
	Disconnect(ctx context.Context, ids []string) error
	// SetL2TPAdmin sets an administrative state. The error is an [*Error] if the request names
	// what there is not.
	SetL2TPAdmin(ctx context.Context, q L2TPAdminRequest) (L2TPAdminResponse, error)
}
