// Package api is the control API: HTTP and JSON over a unix socket, and the
// Prometheus metrics.
//
//	GET  /v1/health           is the daemon alive, since when, which version
//	GET  /v1/vrs              virtual routers with counts, pools and policy rules
//	GET  /v1/links            links to private networks
//	GET  /v1/tunnels          static IPsec tunnels
//	POST /v1/tunnels          takes one up or down; body [TunnelRequest]
//	GET  /v1/ike-sas          phase 1 SAs
//	GET  /v1/ipsec            IPsec connections with their phase 2 SAs
//	GET  /v1/l2tp/tunnels     L2TP tunnels
//	GET  /v1/l2tp/sessions    L2TP sessions
//	GET  /v1/subscribers      subscribers
//	POST /v1/disconnect       ends subscribers; body [DisconnectRequest]
//	GET  /v1/certificates     own certificates, authorities, revocation lists
//	GET  /v1/ike-policy-rules IKE policy rules
//	GET  /v1/tunnel-profiles  tunnel profiles
//	GET  /v1/pools            address pools
//	GET  /v1/radius           RADIUS servers, what they did, who may change sessions
//	GET  /v1/accounting       the accounting journal
//	GET  /v1/aaa              what became of requests to be let in, admission, limits
//	GET  /v1/domain-maps      entries of the domain maps
//	GET  /v1/traffic-policies traffic policies
//	GET  /v1/terminate-codes  what RADIUS is told of the reasons for which sessions end
//	GET  /v1/explain          what would be done about a user; query [ExplainRequest]
//	GET  /metrics             Prometheus text format
//
// Every GET below /v1 but health takes ?vr=NAME; /v1/subscribers also takes
// id, user, address, profile and domain. An answer that is not 200 carries an [Error].
//
// Access is by the socket's peer credentials: root, the user the daemon runs
// as, and members of one configured group; the socket's mode says the same.
//
// The package knows nothing of engines. Package controlplane implements
// [Source]; the handlers, the metrics collector and the client in here speak
// plain view structs only. Goroutines: those of net/http, owned by [Server.Run].
package api
