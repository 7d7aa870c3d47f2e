package aaa

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net/netip"
	"time"

	"vrgate/controlplane/keymat"
	"vrgate/pppd"
)

// User is one local user. Name matches exactly as the client sends it.
type User struct {
	Name        string
	Password    keymat.Secret
	Address     netip.Addr // fixed inner address; zero: from the pool
	Terminating string     // overrides the IP profile's terminating virtual router
	// SessionTimeout and IdleTimeout bound each of the user's sessions; 0: no bound (J9).
	SessionTimeout, IdleTimeout time.Duration
	IdleIngress                 bool       // the idle timeout looks at traffic from the user only
	Pool                        string     // overrides the IP profile's pool
	Netmask                     netip.Addr // for dynamic subscribers; zero: 255.255.255.255
	MTU                         int        // upper bound, 576 to 9000 bytes; 0: none
	Routes                      []Route    // networks behind the user, at most [MaxRoutes]
	DNS, NBNS                   [2]netip.Addr
	Networks                    []netip.Prefix // for dynamic subscribers, in place of the tunnel profile's
	Traffic                     Traffic
}

// Local decides by a fixed list of users. It is immutable and safe for concurrent use.
type Local struct{ users map[string]User }

// NewLocal copies users; names must be unique (the configuration sees to that).
func NewLocal(users []User) *Local {
	l := &Local{users: make(map[string]User, len(users))}
	for _, u := range users {
		l.users[u.Name] = u
	}
	return l
}

// stranger stands in for unknown users, so that they cost the same as wrong passwords.
var stranger = User{Password: keymat.Secret("\x00 no such user \x00")}

// Decide checks one user. Whom phase 1 has proven needs no entry: the peer identities of its
// tunnel profile have decided that it belongs, and an entry only says what it gets beyond that,
// such as a fixed address.
//
// What the peer is told does not distinguish unknown users from
// wrong passwords; the Reason for the operator does.
func (l *Local) Decide(_ context.Context, r Request) Decision {
	u, known := l.users[r.User]
	if r.Protocol == Proven {
		return u.accept(r.User, "")
	}
	if !known {
		u = stranger
	}
	ok, answer, err := check(u, r)
	switch {
	case err != nil:
		return Decision{Reason: ReasonProtocol, Text: err.Error()}
	case !known:
		return Decision{Reason: ReasonUnknownUser, Text: fmt.Sprintf("no local user %q", r.User)}
	case !ok:
		return Decision{Reason: ReasonWrongPassword, Text: fmt.Sprintf("wrong password for local user %q", r.User)}
	}
	return u.accept(u.Name, answer)
}

// accept lets a user in with what its entry says.
func (u User) accept(name, proof string) Decision {
	return Decision{
		Accept: true, User: name, MSCHAPv2Response: proof,
		Grants: Grants{
			Address: u.Address, Terminating: u.Terminating, Pool: u.Pool, SessionTimeout: u.SessionTimeout, IdleTimeout: u.IdleTimeout,
			IdleIngress: u.IdleIngress, Netmask: u.Netmask, MTU: u.MTU, Routes: u.Routes, DNS: u.DNS, NBNS: u.NBNS, Networks: u.Networks,
			Traffic: u.Traffic,
		},
	}
}

// check verifies the proof against the user's password in constant time.
func check(u User, r Request) (ok bool, answer string, err error) {
	switch r.Protocol {
	case PAP:
		return subtle.ConstantTimeCompare(r.Password, u.Password) == 1, "", nil
	case CHAPMD5:
		return pppd.CheckCHAPMD5(r.ID, r.Challenge, r.Response, pppd.Secret(u.Password)), "", nil
	case MSCHAPv2:
		answer, ok = pppd.CheckMSCHAPv2(r.User, r.Challenge, r.Response, pppd.Secret(u.Password))
		return ok, answer, nil
	}
	return false, "", fmt.Errorf("local users cannot be checked with protocol %q", r.Protocol)
}

// Knows says whether there is a local user of that name.
func (l *Local) Knows(name string) bool {
	_, known := l.users[name]
	return known
}
