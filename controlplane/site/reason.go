package site

// Reason is the typed reason of an end, a failure or a refusal; stable text that appears in logs, the API and metrics. Those
// of connections and dials come from the IKE engine and are passed on as they are.
type Reason string

// Why connections are hung up.
const (
	ReasonOperator    Reason = "operator"
	ReasonRemoved     Reason = "tunnel-removed"
	ReasonChanged     Reason = "tunnel-changed"
	ReasonPeerRemoved Reason = "peer-removed" // from the tunnel's list
	ReasonUnlisted    Reason = "peer-not-listed"
	ReasonFallBack    Reason = "fallen-back"   // a peer before it in the list has the tunnel again
	ReasonMoved       Reason = "peer-moved"    // the peer has it from another address
	ReasonReplaced    Reason = "replaced"      // a dynamic peer has called again
	ReasonTooMany     Reason = "too-many-conn" // more connections than one tunnel needs
	ReasonCheck       Reason = "check-failed"
	ReasonIdle        Reason = "idle"
	ReasonNoReturn    Reason = "no-return-traffic" // Z-6
)

// Why dials fail, beside the reasons of IKE.
const (
	ReasonDialTimeout Reason = "dial-timeout"
	ReasonNameTimeout Reason = "name-timeout"    // the resolver has not answered
	ReasonNoAddress   Reason = "name-no-address" // the name exists and has none that can be dialled
)

// Why a tunnel is not up, and words of the operator are refused.
const (
	ReasonAdminDown   Reason = "admin-down" // by an operator
	ReasonDisabled    Reason = "disabled"   // by its configuration
	ReasonNoTraffic   Reason = "no-traffic" // on-demand: nothing to carry yet
	ReasonAwaitsPeer  Reason = "awaits-peer"
	ReasonBusy        Reason = "too-many-dials" // waits for its turn
	ReasonUnknown     Reason = "unknown-tunnel"
	ReasonRespondOnly Reason = "respond-only"
	ReasonCommand     Reason = "unknown-command"
	ReasonShutdown    Reason = "shutdown"
	// ReasonOther counts what a tunnel has had after too many different reasons.
	ReasonOther Reason = "other"
)
