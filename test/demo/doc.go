// Command demo is `make demo`: two stock L2TP/IPsec clients behind one NAT, both on UDP port 1701, reach an
// intranet through vrgate, and every step is explained and checked as it happens.
//
//	go run ./test/demo [-kernel 6.1|6.12|host] [-size MIB]
//
// It builds vrgate and itself and runs itself again (flag -here) in a place where nothing can be left behind:
// by test/vm, on the host's own kernel when topo.Probe accepts that, else in a virtual machine. There it
// builds a network by package topo, starts vrgate, connects both clients, sends data through both at once, and
// shows what vrgate, the kernel and the clients say about it, then hangs up and looks that nothing is left.
//
// Every line under a prompt is the output of that command at that moment. What is claimed is checked, and
// marked ✓ or ✗; one ✗ makes the exit status 1.
package main
