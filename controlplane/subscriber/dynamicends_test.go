package subscriber

import (
	"fmt"
	"testing"
	"time"

	"vrgate/controlplane/aaa"
)

// dynamicStages bring a dynamic subscriber to each point of its life.
var dynamicStages = []struct {
	name  string
	reach func(b *bed)
}{
	{"asking", func(*bed) {}},
	{"deciding", func(b *bed) { b.answer(testUser, testPassword) }},
	{"deciding, phase 1 rekeyed", func(b *bed) { b.answer(testUser, testPassword); b.dynamicUp(someone, "staff") }},
	{"asking again", func(b *bed) { b.answer(testUser, "wrong"); b.decide("") }},
	{"opening", func(b *bed) { b.answer(testUser, testPassword); b.decide("") }},
	{"opening, phase 1 rekeyed", func(b *bed) { b.answer(testUser, testPassword); b.decide(""); b.dynamicUp(someone, "staff") }},
	{"opening, deciding again", func(b *bed) {
		b.answer(testUser, testPassword)
		b.decide("")
		b.dynamicUp(someone, "staff")
		b.answer(testUser, testPassword)
	}},
	{"network", func(b *bed) { b.answerAll() }},
	{"up", func(b *bed) { b.answerAll(); b.dynamicConnUp(someone) }},
	{"up, asking", func(b *bed) { b.answerAll(); b.dynamicConnUp(someone); b.dynamicUp(someone, "staff") }},
	{"up, deciding", func(b *bed) {
		b.answerAll()
		b.dynamicConnUp(someone)
		b.dynamicUp(someone, "staff")
		b.answer(testUser, testPassword)
	}},
	{"up, deciding on another", func(b *bed) {
		b.answerAll()
		b.dynamicConnUp(someone)
		b.dynamicUp(someone, "staff")
		b.answer(otherUser, testPassword)
	}},
	{"leaving", func(b *bed) {
		b.answerAll()
		b.dynamicConnUp(someone)
		b.step(Disconnect{IDs: []ID{1}, Reason: ReasonAdmin})
	}},
	{"kernel closing", func(b *bed) { b.answerAll(); b.dynamicConnUp(someone); b.dynamicDown(someone, "early") }},
}

// dynamicBlows end it from each side (J9).
var dynamicBlows = []struct {
	name   string
	strike func(b *bed)
	reason Reason // unless something came first
}{
	{"connection lost", func(b *bed) { b.dynamicDown(someone, "peer-dead") }, "peer-dead"},
	{"disconnected", func(b *bed) { b.step(Disconnect{IDs: []ID{1}, Reason: ReasonAdmin}) }, ReasonAdmin},
	{"interface gone", func(b *bed) { b.step(Disconnect{IDs: []ID{1}, Reason: ReasonInterface}) }, ReasonInterface},
	{"user refuses", func(b *bed) {
		for len(b.asks) > 0 {
			b.reply(UserAnswered{Refused: true})
		}
	}, ""},
	{"AAA refuses", func(b *bed) {
		for len(b.decides)+len(b.asks) > 0 {
			for len(b.asks) > 0 {
				b.answer(testUser, testPassword)
			}
			for len(b.decides) > 0 {
				b.decide(aaa.ReasonWrongPassword)
			}
		}
	}, ""},
	{"kernel fails", func(b *bed) {
		for len(b.accesses) > 0 {
			b.accessOpened("no-xfrm-interface")
		}
	}, ""},
	{"session timeout", func(b *bed) { b.pass(2 * time.Hour) }, ""},
}

// TestDynamicEnds strikes in every stage, lets what is outstanding come at different times and in
// different orders, and checks by the bed's ledgers that all is undone, once, and reported, once.
func TestDynamicEnds(t *testing.T) {
	for _, stage := range dynamicStages {
		for _, blow := range dynamicBlows {
			for _, answers := range []string{"first", "after the connection", "very late"} {
				t.Run(fmt.Sprintf("%s/%s/answers %s", stage.name, blow.name, answers), func(t *testing.T) {
					b := newBed(t)
					b.timeouts[0] = time.Hour
					id := b.dynamicUp(someone, "staff")
					stage.reach(b)
					blow.strike(b)
					var reason Reason
					if s := b.e.byID[id]; s != nil {
						reason = s.Reason
					} else {
						reason = b.calls[id].ended.Reason
					}
					switch answers {
					case "after the connection":
						for len(b.leaving) > 0 {
							b.left()
						}
					case "very late":
						b.pass(10 * time.Minute)
						b.restart()
					}
					b.answerAll()
					b.dynamicDown(someone, "over")
					b.answerAll()
					b.assertEmpty()
					end := b.calls[id].ended
					if end == nil {
						return
					}
					if reason != "" && end.Reason != reason {
						t.Errorf("ended with %s, but the first reason was %s", end.Reason, reason)
					}
					if blow.reason != "" && reason == "" {
						t.Errorf("struck by %s and has no reason", blow.name)
					}
				})
			}
		}
	}
}

// TestLateAnswers: what was granted before the end comes back after it, in whatever order the
// answers arrive.
func TestLateAnswers(t *testing.T) {
	t.Run("decision", func(t *testing.T) {
		b := newBed(t)
		b.dynamicUp(someone, "staff")
		b.answer(testUser, testPassword)
		b.dynamicDown(someone, "peer-dead")
		b.decide("")
		b.assertLog(`
			ask ""
			decide alice pap
			release 10.2.0.1
			ended: peer-dead`)
		b.assertEmpty()
	})
	t.Run("access", func(t *testing.T) {
		b := newBed(t)
		b.dynamicUp(someone, "staff")
		b.answer(testUser, testPassword)
		b.decide("")
		b.dynamicDown(someone, "peer-dead")
		b.accessOpened("")
		b.accessClosed()
		b.assertLog(`
			ask ""
			decide alice pap
			open access in inside mtu 1440
			close access
			release 10.2.0.1
			ended: peer-dead`)
		b.assertEmpty()
	})
	t.Run("access that failed", func(t *testing.T) {
		b := newBed(t)
		b.dynamicUp(someone, "staff")
		b.answer(testUser, testPassword)
		b.decide("")
		b.accessOpened("no-xfrm-interface")
		b.left()
		b.assertLog(`
			ask ""
			decide alice pap
			open access in inside mtu 1440
			deny 7: no-xfrm-interface
			release 10.2.0.1
			ended: no-xfrm-interface`)
		b.assertEmpty()
	})
}

// TestAcceptWithoutAddress: an accept that brings no address lets nobody in.
func TestAcceptWithoutAddress(t *testing.T) {
	b := newBed(t)
	id := b.dynamicUp(someone, "staff")
	b.answer(testUser, testPassword)
	b.decides, b.calls[id].asked = nil, false
	b.step(Decided{ID: id, Decision: aaa.Decision{Accept: true, User: testUser}})
	b.answerAll()
	if r := b.calls[id].ended; r == nil || r.Reason != Reason(aaa.ReasonNoPool) {
		t.Errorf("ended %+v", r)
	}
	b.assertEmpty()
}

// TestReauthentication: at a rekey the same user keeps all it has, and anybody else loses it.
func TestReauthentication(t *testing.T) {
	rekeyed := func(t *testing.T) (*bed, ID) {
		b := newBed(t)
		id := b.connect(someone, "staff")
		b.dynamicUp(someone, "staff")
		b.log = nil
		return b, id
	}
	t.Run("same user", func(t *testing.T) {
		b, id := rekeyed(t)
		b.answer(testUser, "mistyped")
		b.decide("")
		b.answer(testUser, testPassword)
		b.decide("")
		b.assertLog(`
			decide alice pap
			ask "The user name or the password is wrong."
			decide alice pap
			admit 10.2.0.1`)
		if s := b.state(t); s != StateUp || b.calls[id].started != 1 {
			t.Errorf("state %v, started %d times", s, b.calls[id].started)
		}
		b.pass(time.Hour) // no new deadline for a connection that is there
		b.assertLog("")
		b.dynamicUp(someone, "staff") // and all attempts again
		for range defaultAttempts - 1 {
			b.answer(testUser, "mistyped")
			b.decide("")
		}
		b.answerAll()
		if s := b.state(t); s != StateUp {
			t.Errorf("state %v after the next rekey", s)
		}
	})
	t.Run("another user", func(t *testing.T) {
		b, id := rekeyed(t)
		b.answer(otherUser, testPassword)
		b.decide("")
		b.answerAll()
		b.assertLog(`
			decide bob pap
			close connection 7: user-changed
			close access
			release 10.2.0.1
			ended: user-changed`)
		if r := b.calls[id].ended; r.User != testUser {
			t.Errorf("the session of %s ended as %s's", testUser, r.User)
		}
		b.assertEmpty()
	})
	t.Run("refused", func(t *testing.T) {
		b, _ := rekeyed(t)
		for range defaultAttempts {
			b.answer(testUser, "wrong")
			b.decide("")
		}
		b.log = b.log[len(b.log)-2:]
		b.answerAll()
		b.assertLog(`
			deny 7: aaa-wrong-password
			close connection 7: aaa-wrong-password
			close access
			release 10.2.0.1
			ended: aaa-wrong-password`)
		b.assertEmpty()
	})
	t.Run("while AAA decides for the first time", func(t *testing.T) {
		b := newBed(t)
		b.dynamicUp(someone, "staff")
		b.answer(testUser, testPassword)
		b.dynamicUp(someone, "staff")
		b.decide("") // about a phase 1 SA that has been replaced
		b.answer(otherUser, testPassword)
		b.answerAll()
		b.dynamicConnUp(someone)
		b.assertLog(`
			ask ""
			decide alice pap
			release 10.2.0.1
			ask ""
			decide bob pap
			open access in inside mtu 1440
			admit 10.2.0.1
			started bob`)
	})
	t.Run("while the kernel works", func(t *testing.T) {
		b := newBed(t)
		b.dynamicUp(someone, "staff")
		b.answer(testUser, testPassword)
		b.decide("")
		b.dynamicUp(someone, "staff")
		b.accessOpened("") // nobody is let in before its user has answered
		b.answer(testUser, testPassword)
		b.decide("")
		b.assertLog(`
			ask ""
			decide alice pap
			open access in inside mtu 1440
			ask ""
			decide alice pap
			admit 10.2.0.1`)
	})
}
