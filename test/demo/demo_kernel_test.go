//go:build kernel

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// testSize is little, but enough for the control traffic of a slow machine to be less than a hundredth of it.
const testSize = 2 << 20

// TestDemo tells the whole story as `make demo` does.
func TestDemo(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	var out strings.Builder
	if err := tell(ctx, &teller{out: &out}, testSize); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > lineWidth {
			t.Errorf("%d characters wide: %s", n, line)
		}
	}
	for _, want := range []string{
		"198.18.0.2", "192.0.2.2", "10.1.0.2", // the drawing
		"show vr\n", "show ike-sa\n", "show ipsec\n", "show l2tp\n", "show subscribers\n",
		"<<Keys hidden>>", "socket out", "encap UDP", "proto 117", "dport set", "subscriber ended",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the story does not show %q", want)
		}
	}
	if strings.Contains(out.String(), "✗") {
		t.Errorf("a claim does not hold, but the story ended well:\n%s", out.String())
	}
}

// TestDemoNotices breaks things behind the story's back: what then is not as told must be said.
func TestDemoNotices(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var out strings.Builder
	story := &teller{out: &out}
	s, err := build(ctx)
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(out.String())
		}
	}()
	if err != nil {
		t.Fatal(err)
	}
	for _, chapter := range []func(context.Context, *teller, *scene) error{daemonStarts, clientsConnect} {
		if err := chapter(ctx, story, s); err != nil {
			t.Fatal(err)
		}
	}
	if len(story.failed) > 0 {
		t.Fatalf("not as told before anything was broken: %q", story.failed)
	}
	bob := s.people[1]
	err = errors.Join(
		s.intranet.Namespace.NFT(ctx, fmt.Sprintf("table ip t {\n chain c {\n type filter hook input priority 0\n ip saddr %v drop\n }\n}\n", bob.session.Local)),
		s.server.NFT(ctx, "add rule ip "+table+" forward accept\n"),
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(clientsPing(ctx, story, s), steering(ctx, story, s)); err != nil {
		t.Fatal(err)
	}
	want := []string{"of bob's packets were answered", "the table is the one from before"}
	if len(story.failed) != len(want) || !slices.EqualFunc(story.failed, want, strings.Contains) {
		t.Errorf("not as told: %q, want %q", story.failed, want)
	}
	if err := story.verdict(0); !errors.Is(err, errClaims) {
		t.Errorf("verdict: %v", err)
	}
}
