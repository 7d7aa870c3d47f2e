#!/bin/sh
# Makes sure that there is a Go that can build vrgate: says what it installs, and does nothing when one is there.
#
# Any Go from 1.21 on fetches the version that go.mod asks for by itself. Debian 12 has an older one, but its
# backports have not; they are asked just this once, without becoming a source of the host's packages.
# $GO names another go command than the one in $PATH. Called by `make`.
set -eu

go=${GO:-go}

new_enough() {
	version=$(cd / && GOTOOLCHAIN=local "$go" env GOVERSION 2>/dev/null) || return 1
	case $version in
	go1.*) minor=${version#go1.} ;;
	*) return 0 ;; # built from source
	esac
	[ "${minor%%[!0-9]*}" -ge 21 ]
}

! new_enough || exit 0
echo "go.sh: no Go from 1.21 on here; installing Debian's golang-go"
[ "$(id -u)" = 0 ] || { echo "go.sh: needs root" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export DEBIAN_FRONTEND=noninteractive

# Fails with the last command, as update only warns.
install_go() {
	apt-get -q update
	candidate=$(apt-cache policy golang-go | sed -n 's/^ *Candidate: *//p')
	if dpkg --compare-versions "${candidate:-0}" ge 2:1.21; then
		apt-get -qy install --no-install-recommends golang-go ca-certificates
		return
	fi
	suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
	for s in "$suite" "$suite-backports"; do
		echo "deb http://deb.debian.org/debian $s main"
	done >"$work/sources.list"
	apt-get -q update -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0
	apt-get -qy install -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- \
		--no-install-recommends -t "$suite-backports" golang-go ca-certificates
}
install_go >"$work/log" 2>&1 || { cat "$work/log" >&2; echo "go.sh: apt-get failed" >&2; exit 1; }
new_enough || { echo "go.sh: $go is still too old; is another one in front of /usr/bin/go in PATH?" >&2; exit 1; }
