package aaa

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// dialogue is what is remembered between the rounds of one authentication: who asked for the next
// round, what it wants back, and about whom. It is the State of a Prompt or an EAPRound, which
// the session keeps: no peer ever sees it, so nothing has to protect it.
type dialogue struct {
	router string // whose AAA was asked
	step
	user   string // as received
	server string // of the method, that has asked for the next round
	state  []byte // of the method itself
}

// maxDialogue bounds an encoded dialogue, in bytes: the names are short, and a server's State is
// one attribute.
const maxDialogue = 2048

const dialogueVersion = 1

var errDialogue = errors.New("the state of a dialogue cannot be read")

func (d dialogue) append(b []byte) []byte {
	b = append(b, dialogueVersion)
	for _, field := range []string{d.router, string(d.method), d.group, d.user, d.server, string(d.state)} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
		b = append(b, field...)
	}
	return b
}

func parseDialogue(b []byte) (d dialogue, err error) {
	if len(b) > maxDialogue || len(b) == 0 || b[0] != dialogueVersion {
		return dialogue{}, errDialogue
	}
	b = b[1:]
	var method, state string
	for _, field := range []*string{&d.router, &method, &d.group, &d.user, &d.server, &state} {
		if len(b) < 2 {
			return dialogue{}, errDialogue
		}
		n := int(binary.BigEndian.Uint16(b))
		if b = b[2:]; len(b) < n {
			return dialogue{}, errDialogue
		}
		*field, b = string(b[:n]), b[n:]
	}
	if len(b) > 0 {
		return dialogue{}, errDialogue
	}
	d.method, d.state = MethodName(method), []byte(state)
	return d, nil
}

// wrap puts the state of a further round into the dialogue's, which comes back with the answer.
func wrap(d Decision, with dialogue) (Decision, error) {
	if d.Round != nil {
		with.state = d.Round.State
	} else {
		with.state = d.Prompt.State
	}
	if n := len(with.router) + len(with.method) + len(with.group) + len(with.user) + len(with.server) + len(with.state) + 13; n > maxDialogue {
		return d, fmt.Errorf("%v wants %d bytes kept", with.step, len(with.state))
	}
	state := with.append(nil)
	if d.Round != nil {
		round := *d.Round
		round.State = state
		d.Round = &round
	} else {
		prompt := *d.Prompt
		prompt.State = state
		d.Prompt = &prompt
	}
	return d, nil
}
