// Package loadgen is many L2TP/IPsec clients in one process: the load for
// benchmarks of a real server over a real network.
//
// A [Generator] drives the engines of packages ike, l2tp and pppd in their calling
// role, over two sockets: UDP port 500, and a raw socket for ESP, which it
// encrypts itself (RFC 4303, AES-CBC with HMAC-SHA1-96). So a client costs some
// kilobytes and no kernel state, each has a source address of its own, and the
// same clients can be turned on any server. What a stock client would spend on
// processes and netlink is left out of the measurement.
//
// Or it is one LAC of an Internet provider ([Carrier]): the clients are sessions of one plain L2TP tunnel, with numbers, speeds
// and, when wanted, LCP and authentication led by the LAC, as carriers do.
//
// The goroutine that calls the methods of a Generator owns it. Between two calls
// nothing is answered; servers forgive that for as long as their keepalives do.
package loadgen
