// Command vm runs one command in a virtual machine that has the kernel features vrgate needs: ESP, L2TP, PPP,
// VRF, network namespaces, nftables. Build and CI machines often run a kernel without them.
//
//	go run ./test/vm -kernel 6.1 -share DIR -- ./e2e.test -test.v
//
// The machine is QEMU with software emulation (hardware virtualisation is not to be had on those machines), a
// Debian root with strongSwan, xl2tpd, pppd and the like, and a stock Debian kernel chosen by -kernel. The
// directories named by -share are mounted read-write inside under their own absolute path, and the command
// runs in the first of them. Its standard output and error appear live on this command's, and its exit status
// becomes this command's; 125 says that the machine itself failed. Nothing outlives the command: the root is
// read-only with an overlay in the guest's memory, and QEMU dies with its parent.
//
// The root is built once from Debian packages (packages.txt, build.sh), with the mirror that the host's own
// APT configuration names or $VRGATE_MIRROR, and kept in $VRGATE_CACHE (default vrgate in the user's cache
// directory) under a hash of its recipe. Building needs root and the packages that deps.sh installs.
//
// With -kernel host there is no machine: the command runs on the host's own kernel, in namespaces of its own,
// on the same root, so that nothing has to be installed on the host and nothing of it is changed. That is for
// hosts whose kernel has all features; it needs root.
//
// It also serves as `go test -exec`: without -share it shares the working directory and the directory of the
// command.
package main
