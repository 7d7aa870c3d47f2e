// Package nlattr reads and writes netlink attributes (struct nlattr of linux/netlink.h) for the
// packages that write kernel messages themselves: those of IPsec, L2TP and PPP. The libraries
// do it too, but allocate and fail where nothing can, and keep copies of keys.
package nlattr
