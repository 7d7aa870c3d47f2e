//go:build kernel

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vrgate/controlplane/api"
	"vrgate/test/loadgen"
	"vrgate/test/topo"
)

// reloaded is a virtual router whose configuration is about to change, and those who must not notice.
type reloaded struct {
	*office
	config  vrConfig
	crowd   *crowd
	pingers map[string]*topo.Pinger
	stop    chan struct{}
	traffic chan loadgen.Traffic
}

// bystanders is how many clients of one machine carry traffic all the time. The benchmark has 500.
const bystanders = 24

// destination is the YAML of a destination profile, as vrConfig.L2TP takes it.
func destination(name string, lac netip.Addr, host string) string {
	return fmt.Sprintf("  - {name: %s, lac-address: %v, host-profiles: [{remote-host: default%s}]}", name, lac, host)
}

// write writes the virtual router's file with these destination profiles besides the one for anybody.
func (r *reloaded) write(change func(*vrConfig), destinations ...string) {
	r.t.Helper()
	c := r.config
	c.L2TP = strings.Join(destinations, "\n")
	if change != nil {
		change(&c)
	}
	r.check(r.daemon.WriteRouter("office", c.yaml()))
}

// plan runs vrgate diff or vrgate reload.
func (w *world) plan(command string) (p api.Plan) {
	w.t.Helper()
	out, err := w.daemon.Run(w.ctx, command, "--json")
	w.check(err)
	w.check(json.Unmarshal([]byte(out), &p))
	return p
}

// drops has vrgate diff say what ends, and vrgate reload end it.
func (w *world) drops(want ...api.PlanDrop) {
	w.t.Helper()
	up := func() int {
		return len(slices.DeleteFunc(w.subscribers(), func(s api.Subscriber) bool { return s.State != "up" }))
	}
	before := up()
	told := w.plan("diff")
	if !slices.Equal(told.Drops, want) || told.Applied {
		w.t.Errorf("vrgate diff says %+v, want %+v", told, want)
	}
	if n := up(); n != before {
		w.t.Errorf("vrgate diff has left %d of %d subscribers", n, before)
	}
	done := w.plan("reload")
	if !slices.Equal(done.Drops, want) || !done.Applied || len(done.Failed) > 0 {
		w.t.Errorf("vrgate reload says %+v, want %+v", done, want)
	}
	w.eventually("the others are left", func() bool { return up() == before-done.Dropped.Subscribers })
}

// refused sees that vrgate reload and vrgate diff take nothing over, with status 1 and these words.
func (w *world) refused(want string) {
	w.t.Helper()
	for _, command := range []string{"diff", "reload"} {
		out, err := w.daemon.Run(w.ctx, command)
		var status *exec.ExitError
		if !errors.As(err, &status) || status.ExitCode() != 1 || !regexp.MustCompile(want).MatchString(out) || !strings.HasSuffix(out, "nothing has been changed\n") {
			w.t.Errorf("vrgate %s: %v, want status 1 and %s", command, err, want)
		}
	}
}

// watch has the clients with these addresses ping, ten times a second, and the crowd twice a second each.
func (r *reloaded) watch(clients map[string]*topo.Host) {
	r.t.Helper()
	r.pingers = map[string]*topo.Pinger{}
	for name, h := range clients {
		p, err := h.StartPing(intranetHost, topo.PingOptions{Interval: 100 * time.Millisecond})
		r.check(err)
		r.pingers[name] = p
	}
	r.stop, r.traffic = make(chan struct{}), make(chan loadgen.Traffic, 1)
	go func() {
		t, err := r.crowd.Stream(r.ctx, intranetHost, 500*time.Millisecond, r.stop)
		if err != nil {
			r.t.Error(err)
		}
		r.traffic <- t
	}()
}

// unharmed ends the traffic and sees that nothing of it was lost: of as many of the crowd.
func (r *reloaded) unharmed(crowd int) {
	r.t.Helper()
	close(r.stop)
	for name, p := range r.pingers {
		res, err := p.Stop()
		r.check(err)
		r.t.Logf("%s: %d packets sent, %d lost", name, res.Sent, res.Lost())
		if res.Lost() > 0 || res.Sent < 10 {
			r.t.Errorf("%s: %d of %d packets lost:\n%s", name, res.Lost(), res.Sent, res.Output)
		}
	}
	t := <-r.traffic
	r.t.Logf("crowd: %+v", t)
	if t.Sessions != crowd || t.Lost() > 0 || t.Sent < 5*t.Sessions {
		r.t.Errorf("crowd: %+v, want no loss of %d sessions; ended: %v", t, crowd, r.crowd.Lost())
	}
}

// TestReload changes the configuration under real clients and a crowd that send all the time. Who is told by vrgate diff
// to go goes, by vrgate reload and by SIGHUP (G4), and nobody else loses a packet.
func TestReload(t *testing.T) {
	t.Parallel()
	o := newOffice(t, false)
	r := &reloaded{office: o, config: vrConfig{
		Namespace: o.server.Name(), Address: o.address, More: []netip.Addr{o.exclusive}, Users: crowdUsers("stay") + fmt.Sprintf(`
  - {name: leaving, password: %[1]q}
  - {name: altered, password: %[1]q}
  - {name: phone, password: %[1]q}`, password),
		IPsec: fmt.Sprintf("proposals: legacy\ntunnel-profiles:\n  - {name: phones, local-address: %v, keys: [{name: all, key: %q}]}", o.exclusive, exclusiveKey),
	}}
	before := r.kernelState()
	stay, leaving, altered := r.client(nil, "stay"), r.client(nil, "leaving"), r.client(nil, "altered")
	phone := r.dynamic(nil, "phone", inMainMode(o))
	one := netip.MustParseAddr("198.19.0.1") // the first of the crowd
	profiles := []string{
		destination("leaving", leaving.Host().Address, ""), destination("altered", altered.Host().Address, ""), destination("one", one, ""),
	}
	first := r.config
	first.L2TP = strings.Join(profiles, "\n")
	r.run(map[string]string{"office": first.yaml()})
	r.crowd = newCrowd(r.world)
	r.connectAll(stay, leaving, altered)
	r.connectDynamic(phone)
	r.crowd.connect(bystanders)
	r.watch(map[string]*topo.Host{"stay": stay.Host(), "phone": phone.Host()})
	time.Sleep(time.Second)

	// A profile is removed, another is changed.
	profiles = profiles[1:]
	profiles[0] = destination("altered", altered.Host().Address, ", local-host: other")
	r.write(nil, profiles...)
	out, err := r.daemon.Run(r.ctx, "diff")
	r.check(err)
	if t.Logf("vrgate diff:\n%s", out); !strings.Contains(out, "would end 0 IPsec connections, 2 tunnels, 2 sessions, 2 subscribers") {
		t.Error("that is not what will end")
	}
	r.drops(
		api.PlanDrop{VR: "office", What: "l2tp destination profile altered host profile default", Reason: "profile-changed", PlanCounts: api.PlanCounts{Tunnels: 1, Sessions: 1, Subscribers: 1}},
		api.PlanDrop{VR: "office", What: "l2tp destination profile leaving host profile default", Reason: "profile-removed", PlanCounts: api.PlanCounts{Tunnels: 1, Sessions: 1, Subscribers: 1}},
	)
	for user, reason := range map[string]string{"leaving": "profile-removed", "altered": "profile-changed"} {
		if got := r.ended(user).Reason; got != reason {
			t.Errorf("%s ended with reason %s, want %s", user, got, reason)
		}
	}
	for c, told := range map[*topo.Client]string{leaving: "(profile removed)", altered: "(profile changed)"} {
		r.eventually("the client is told "+told, func() bool { return strings.Contains(c.Logs(), told) })
	}

	// SIGHUP does the same as vrgate reload.
	r.write(nil, profiles[0])
	r.hangUp("configuration taken over", 2)
	if got := r.ended(crowdUser(0)).Reason; got != "profile-removed" {
		t.Errorf("the first of the crowd ended with reason %s", got)
	}

	// What ends nobody may be changed again and again. With a profile that takes L2TP in clear the rules of the kernel change.
	for i := range 6 {
		profiles[0] = destination("altered", altered.Host().Address, fmt.Sprintf(", ipsec-required: %t, max-sessions: %d", i%2 == 0, i+1))
		r.write(nil, profiles[0])
		if p := r.plan("reload"); !p.Applied || p.Empty() || p.Dropped != (api.PlanCounts{}) {
			t.Errorf("a limit of %d: %+v", i+1, p)
		}
	}

	// Whoever had to go is let in again, by what is configured now.
	r.connect(leaving)
	r.ping(leaving, topo.PingOptions{})
	r.unharmed(bystanders - 1)
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	r.check(r.daemon.Stop(ctx))
	if after := r.kernelState(); after != before {
		t.Errorf("left after the daemon ended:\n%s\nwas before:\n%s", after, before)
	}
}

// hangUp sends SIGHUP and waits until the log has n lines of it.
func (w *world) hangUp(msg string, n int) {
	w.t.Helper()
	w.check(syscall.Kill(w.daemon.PID(), syscall.SIGHUP))
	w.eventually("line "+msg, func() bool { return len(lines[struct{}](w, msg)) >= n })
}
