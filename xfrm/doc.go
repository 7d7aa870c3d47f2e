// Package xfrm installs IPsec security associations in the kernel and reports
// what happens to them: desired state at the kernel's edge, nothing of IKE.
//
// A [Kernel] works in one network namespace. It is given plain [SA] values with
// addresses, ports, algorithms and keys; it turns them into XFRM netlink
// messages, and errors into [ErrExists], [ErrNotFound] or *vr.MissingFeature.
// Keys are of type [Key], which never prints; the kernel's answers, which have
// them too, are parsed without looking at them, and the buffers of messages made
// and received here are cleared after use.
//
// # What is ours
//
// Every IPsec connection has a 24-bit number; [Tag] makes of it the value
// 0x11xxxxxx that is the reqid of both its SAs, the reqid of its tunnel
// sockets' policies, and the mark that its inbound SA puts on what it decrypts
// (kernel.md section 2.5). Everything whose reqid has 0x11 in its top byte is
// ours, so a new process finds what a crashed one left ([Kernel.Flush],
// [Kernel.FlushPolicies]) and touches nothing else (A8). Policies of static tunnels name no reqid
// for what they receive, because several connections may bring it, and one of [Idle] for what nothing
// carries; the priority of every policy of ours has 0x11 in its top byte too.
//
// # Choices
//
//   - Messages are encoded here rather than by a library, because the bitmap
//     replay window without ESN and the mapping threshold are needed
//     (kernel.md sections 3.6 and 3.7), and because a library that formats keys
//     is one careless %v away from a leak.
//   - SPIs are chosen by the daemon, never by XFRM_MSG_ALLOCSPI, which walks
//     every SA on current kernels (targets.md 2.1).
//   - Policies of L2TP clients live on sockets and belong to package vr.
//   - [Kernel.Watch] never joins the group for acquires: with a listener on that, every packet
//     without an SA makes larval state. [Kernel.WatchAcquires] does, for static tunnels that start
//     on demand. The state is gone after 30 seconds, is one for each reqid, and gives way to an SA.
//
// Message layouts are those of linux/xfrm.h; integers are in host byte order
// except ports, SPIs and addresses.
package xfrm
