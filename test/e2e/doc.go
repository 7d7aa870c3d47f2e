// Package e2e holds the end-to-end tests: stock strongSwan, xl2tpd and pppd clients against
// the vrgate binary, through the real kernel, over namespaces with NAT between (package
// topo), with FreeRADIUS or a scripted RADIUS server behind it. They need the build tag kernel
// and are run by `make test`, on the host where its kernel has the data path, else in virtual
// machines with two kernels.
package e2e
