# make test       everything: checks, unit tests, kernel tests in virtual machines where this kernel cannot
# make demo       two clients behind one NAT reach an intranet through vrgate, explained as it happens
# make bench      handshakes, set-ups per second beside strongSwan, xl2tpd and pppd, and reloads under traffic
# make install    vrgate as a service of this Debian server; make uninstall takes it away again
# make build      bin/vrgate
# make lint       formatting, go vet, staticcheck
# make deps       what tests and demo need on this host, Go included (said and installed by apt-get)

GO ?= go

.PHONY: build test demo bench install uninstall deps go lint

build: go
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/vrgate ./cmd/vrgate

go:
	@GO=$(GO) deploy/go.sh

deps: go
	@test/vm/deps.sh

test: deps
	$(GO) run ./test/runner

lint: go
	$(GO) run ./test/runner check

demo: deps
	$(GO) run ./test/demo

bench: deps
	$(GO) run ./test/bench

install: build
	deploy/install.sh bin/vrgate

uninstall:
	deploy/uninstall.sh
