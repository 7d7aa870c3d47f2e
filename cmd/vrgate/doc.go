// Command vrgate is the VPN concentrator: the daemon and the tools to look at
// it.
//
//	vrgate run          serves clients until it is told to stop
//	vrgate check        checks a configuration without touching anything
//	vrgate show …       shows virtual routers, SAs, tunnels, subscribers and AAA
//	vrgate explain      says who would decide about a user, and what it would get
//	vrgate disconnect   ends subscribers
//	vrgate schema       prints the JSON schema of the configuration
//	vrgate version      prints the version
//
// This is the only place that joins the packages of the kernel with the control
// plane, and the only one that reads the environment, installs signal handlers
// and exits. Exit status: 0 done, 1 failed, 2 wrong use of the command line, 3
// the configuration is wrong, 4 another vrgate runs already.
package main
