// Package api is the control API: HTTP and JSON over a unix socket, and the
// Prometheus metrics.
//
//	GET  /v1/health           is the daemon alive, since when, which version
//	GET  /v1/vrs              virtual routers with counts, pools and policy rules
//	GET  /v1/ike-sas          phase 1 SAs
//	GET  /v1/ipsec            IPsec connections with their phase 2 SAs
//	GET  /v1/l2tp/tunnels     L2TP tunnels
//	GET  /v1/l2tp/sessions    L2TP sessions
//	GET  /v1/subscribers      subscribers
//	POST /v1/disconnect       ends subscribers; body [DisconnectRequest]
//	GET  /metrics             Prometheus text format
//
// Every GET below /v1 but health takes ?vr=NAME; /v1/subscribers also takes
// id, user and address. An answer that is not 200 carries an [Error].
//
// Access is by the socket's peer credentials: root, the user the daemon runs
// as, and members of one configured group; the socket's mode says the same.
//
// The package knows nothing of engines. Package controlplane implements
// [Source]; the handlers, the metrics collector and the client in here speak
// plain view structs only. Goroutines: those of net/http, owned by [Server.Run].
package api
