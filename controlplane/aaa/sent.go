package aaa

import (
	"bytes"
	"errors"
)

// sent is the request as servers see it: about the user whom the entry names, or without the
// domain (R1, R2). See DomainMap.Strip and [Override] for where it stays as it is.
func (p *plan) sent(r Request) (Request, error) {
	e := p.entry
	switch {
	case e == nil:
	case e.Override != nil:
		if r.Protocol == EAP {
			return r, errors.New("the domain map overrides the user, which cannot be done with EAP: the name is part of the proof")
		}
		r.User = e.Override.User
		if len(e.Override.Password) == 0 {
			break
		}
		if r.Protocol == MSCHAPv2 {
			return r, errors.New("the domain map overrides user and password, which cannot be done with MS-CHAPv2: the peer wants proof from who knows its own")
		}
		r.Protocol, r.Password = PAP, bytes.Clone(e.Override.Password)
		r.Challenge, r.Response, r.ID = nil, nil, 0
	case e.Strip && p.strippable(r.Protocol):
		r.User = p.name.Stripped()
	}
	return r, nil
}

// strippable says whether the proof holds without the domain in the name.
func (p *plan) strippable(proof Protocol) bool {
	switch proof {
	case EAP:
		return false
	case MSCHAPv2:
		return p.name.ByRealm && p.name.RealmDelimiter == `\`
	}
	return true
}
