package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"vrgate/controlplane/api"
)

// somePlan has one of everything.
func somePlan() api.Plan {
	return api.Plan{
		Changes: []api.PlanChange{{VR: "office", What: "destination profile clients", Change: "changed", Settings: []string{"lac-address"}}, {VR: "red", Change: "removed"}},
		Drops: []api.PlanDrop{
			{VR: "office", What: "destination profile clients host profile default", Reason: "profile-changed", PlanCounts: api.PlanCounts{Tunnels: 2, Sessions: 3, Subscribers: 3}},
			{VR: "red", What: "virtual router", Reason: "router-removed", PlanCounts: api.PlanCounts{Connections: 1, Tunnels: 1, Sessions: 1, Subscribers: 1}},
		},
		Dropped: api.PlanCounts{Connections: 1, Tunnels: 3, Sessions: 4, Subscribers: 4},
		Restart: []string{"state-dir"}, Failed: []api.PlanFailure{},
	}
}

// TestReloadCommand: what a reload will do, and has done, is printed, for people and for programs.
func TestReloadCommand(t *testing.T) {
	dir, _, _ := configure(t)
	plane := &fakePlane{plan: somePlan()}
	messages, stop, _ := daemon(t, dir, plane, 0)
	expect(t, messages, "READY=1\nSTATUS=serving")
	want := `VR      CHANGE   WHAT                         SETTINGS
office  changed  destination profile clients  lac-address
red     removed  -                            -

VR      ENDS                                              REASON           IPSEC  TUNNELS  SESSIONS  SUBSCRIBERS
office  destination profile clients host profile default  profile-changed  0      2        3         3
red     virtual router                                    router-removed   1      1        1         1

only after a restart: state-dir
WOULD 1 IPsec connection, 3 tunnels, 4 sessions, 4 subscribers
`
	for _, tc := range []struct {
		args  []string
		would string
	}{{[]string{"diff"}, "would end"}, {[]string{"reload", "--dry-run"}, "would end"}, {[]string{"reload"}, "ended"}} {
		status, out, stderr := vrgate(t, append(tc.args, "-c", dir)...)
		if want := strings.Replace(want, "WOULD", tc.would, 1); status != 0 || out != want || stderr != "" {
			t.Errorf("%q: %d %s\n%s\nwant:\n%s", tc.args, status, stderr, out, want)
		}
	}
	expectReload(t, messages, "serving")
	_, out, _ := vrgate(t, "diff", "--json", "-c", dir)
	var plan api.Plan
	if err := json.Unmarshal([]byte(out), &plan); err != nil || plan.Applied || plan.Dropped != somePlan().Dropped || len(plan.Changes) != 2 {
		t.Errorf("as JSON: %v %s", err, out)
	}
	plane.plan = api.Plan{}
	if status, out, _ := vrgate(t, "diff", "-c", dir); status != 0 || out != "nothing changes\n" {
		t.Errorf("without a change: %d %q", status, out)
	}
	plane.plan = api.Plan{Failed: []api.PlanFailure{{VR: "red", Reason: "no-address", Text: "192.0.2.9 is not there"}}}
	status, out, stderr := vrgate(t, "reload", "-c", dir)
	if status != exitFailed || !strings.Contains(out, "virtual router red failed: no-address: 192.0.2.9 is not there\n") || !strings.Contains(stderr, "1 virtual router could not take over the configuration") {
		t.Errorf("with a failure: %d %q %q", status, out, stderr)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

var reloadingMessage = regexp.MustCompile("^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]{3,}\nSTATUS=taking over the configuration$")

// expectReload waits until the manager has been told of one reload.
func expectReload(t *testing.T, messages <-chan string, status string) {
	t.Helper()
	select {
	case got := <-messages:
		if !reloadingMessage.MatchString(got) {
			t.Fatalf("the manager was told %q", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the manager was not told of a reload")
	}
	expect(t, messages, "READY=1\nSTATUS="+status)
}

// TestReloadMistakes: all mistakes are printed with their places, the status is 1, and the daemon serves on. SIGHUP does
// the same with the log.
func TestReloadMistakes(t *testing.T) {
	dir, socket, _ := configure(t)
	messages, stop, log := daemon(t, dir, &fakePlane{}, 0)
	expect(t, messages, "READY=1\nSTATUS=serving")
	path := filepath.Join(dir, "vrgate.yaml")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(good, "shutdown-timeout: 1h\nno-such-key: 1\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"reload", "--socket", socket}, {"diff", "--socket", socket}, {"diff", "-c", dir}} {
		status, out, stderr := vrgate(t, args...)
		if status != exitFailed || out != "" || strings.Count(stderr, "vrgate.yaml:") != 2 || !strings.Contains(stderr, "no-such-key") || !strings.HasSuffix(stderr, "nothing has been changed\n") {
			t.Errorf("%q: %d %q %q", args, status, out, stderr)
		}
	}
	first := "serving; the last reload failed: " + path
	takeReload := func() {
		t.Helper()
		select {
		case got := <-messages:
			if !reloadingMessage.MatchString(got) {
				t.Fatalf("the manager was told %q", got)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the manager was not told of a reload")
		}
		if got := <-messages; !strings.HasPrefix(got, "READY=1\nSTATUS="+first) {
			t.Fatalf("the manager was told %q", got)
		}
	}
	takeReload()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	takeReload()
	if err := os.WriteFile(path, bytes.Replace(good, []byte("{format: json}"), []byte("{format: json, level: debug}"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	expectReload(t, messages, "serving")
	if err := stop(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "configuration not taken over"); n != 4 { // two mistakes, twice
		t.Errorf("%d lines about mistakes in the log:\n%s", n, log)
	}
}

// TestReloadWithoutDaemon: there is nothing to reload, and nothing to compare with.
func TestReloadWithoutDaemon(t *testing.T) {
	dir, _, _ := configure(t)
	for _, args := range [][]string{{"reload"}, {"diff"}} {
		if status, out, stderr := vrgate(t, append(args, "-c", dir)...); status != exitFailed || out != "" || !strings.Contains(stderr, "vrgate is not running") {
			t.Errorf("%q: %d %q %q", args, status, out, stderr)
		}
	}
}
