// Command runner is `make test`: everything that decides whether a commit is good.
//
//	go run ./test/runner [-kernel VERSION] [-run REGEXP] [-packages REGEXP] [check] [unit] [kernel]
//
// Without stages it runs all three. check is gofmt, go vet (with and without kernel tests) and staticcheck.
// unit is `go test -race` of every package. kernel is the tests in files *_kernel_test.go, which have the
// build tag kernel, so that `go test ./...` neither sees nor skips them: each package's are compiled into one
// program and run as root where the data path exists: on this host when topo.Probe accepts its kernel, else
// in test/vm under each of two Debian kernels. $VRGATE_KERNELS or -kernel chooses kernels, such as "6.1 6.12";
// "host" is this one.
//
// Everything about vrgate itself runs under every kernel: the packages of its parts one after the other in one
// machine, test/e2e in another. The packages that test what tests and shows it (test/topo, test/demo,
// test/bench) run under one of the kernels each, in turn: under the other they would only test the same again.
// So do the tests of a package whose comments have the line
//
//	//runner:once
//
// because they need the data path, but nothing of what they test could differ between kernels.
//
// Any failure fails the run, and so does a test that was skipped wherever it ran: a skip is only right where
// another kernel of the same run could run the test. The last line has the totals.
package main
