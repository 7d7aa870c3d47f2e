// Bench measures vrgate and prints its figures beside those of the programs it
// replaces, with what they mean. No figure is a pass mark.
//
//	go run ./test/bench [-kernel 6.1|6.12|host] [-clients N] [-window N] [-rounds N] [-many N]
//	                  [-group modp2048|…] [-sessions N] [-profiles N] [part ...]
//
// Parts, by default all:
//
//	engine  handshakes per processor second of the IKE responder (go test -bench)
//	memory  heap of one subscriber in the daemon, with 1,000 and 5,000 of them
//	access  what the kernel needs for a packet, and for a change, of a dynamic IPsec
//	        subscriber, with 100 to 10,000 of them
//	reload  taking over a configuration of 4,000 destination profiles while 500 sessions
//	        carry traffic, of which no packet may be lost
//	setup   whole L2TP/IPsec set-ups against strongSwan, xl2tpd and pppd, in one
//	        run of one kernel with the same clients (package loadgen)
//
// The program runs itself in the test machine (package vm) for the last two parts, and the
// kernel tests for the one before them.
package main
