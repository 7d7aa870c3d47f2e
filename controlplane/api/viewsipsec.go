package api

// IPsecError is a kind of error that the kernel counts per network namespace: it does not say whose packets were lost. Virtual
// routers that share a namespace show the same.
type IPsecError struct {
	VR string `json:"vr"`
	// Namespace is the network namespace that is counted in, empty for the system's own, and Shared says which other virtual routers
	// are in it.
	Namespace string   `json:"namespace"`
	Shared    []string `json:"shared,omitempty"`
	// Kind is Counter, the kernel's name, in other letters: "in-no-pols" for XfrmInNoPols.
	Kind    string `json:"kind"`
	Counter string `json:"counter"`
	// Value counts since the namespace was made; Text says what it may be, empty for a counter of a kernel that is newer than vrgate.
	Value uint64 `json:"value"`
	Text  string `json:"text,omitempty"`
}
