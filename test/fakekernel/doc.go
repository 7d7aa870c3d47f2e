// Package fakekernel is the kernel of controlplane in memory: the same interface as
// cmd/vrgate/kernel, the same rules about what goes through which SA and socket, no
// privilege. Its state prints as canonical text, one line per object, named by the peer it
// belongs to and never by a random number, so that tests compare text.
//
// A test sees every call in order and can make the n-th one fail. What a failed call should
// have made is not made; what it should have removed stays behind until the virtual router
// is closed, and prints as "leaked".
//
// Datagrams do not pass through sockets: Sent takes what the control plane sends, and
// ReceiveIKE and ReceiveESP deliver what peers send, steered as cmd/vrgate/kernel's
// nftables rules do.
package fakekernel
