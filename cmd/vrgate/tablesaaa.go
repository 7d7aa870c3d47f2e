package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"vrgate/controlplane/api"
)

// sections prints tables one below the other, with an empty line between; those that are nil are
// left out.
func sections(w io.Writer, tables ...func(io.Writer) error) error {
	first := true
	for _, t := range tables {
		if t == nil {
			continue
		}
		if !first {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		first = false
		if err := t(w); err != nil {
			return err
		}
	}
	return nil
}

func radiusTable(w io.Writer, routers []api.RADIUS, detail bool) error {
	if detail {
		return details(w, routers)
	}
	findings, dynamic := false, false
	for i := range routers {
		findings = findings || len(routers[i].Findings) > 0
		dynamic = dynamic || routers[i].DynamicAuthorization.Enabled
	}
	tables := []func(io.Writer) error{func(w io.Writer) error { return serverTable(w, routers) }}
	if dynamic {
		tables = append(tables, func(w io.Writer) error { return dynamicTable(w, routers) })
	}
	if findings {
		tables = append(tables, func(w io.Writer) error { return findingTable(w, routers) })
	}
	return sections(w, tables...)
}

func serverTable(w io.Writer, routers []api.RADIUS) error {
	t := newTable(w, "VR", "SERVER", "ROLE", "ADDRESS", "STATE", "FOR", "LAST ANSWER", "RTT", "IN FLIGHT", "WAITING", "OUTCOMES")
	for i := range routers {
		for j := range routers[i].Servers {
			s := &routers[i].Servers[j]
			t.row(routers[i].VR, s.Name, s.Role, addrPort(s.Address), s.State, age(s.Since), age(s.LastAnswer), rtt(s.RTTSeconds),
				strconv.Itoa(s.InFlight), strconv.Itoa(s.Waiting), cmp.Or(happened(s.Outcomes), s.SocketError))
		}
	}
	return t.end()
}

// rtt is a time to an answer in milliseconds.
func rtt(seconds float64) string {
	if seconds == 0 {
		return ""
	}
	return strconv.FormatFloat(1000*seconds, 'f', 1, 64) + "ms"
}

func dynamicTable(w io.Writer, routers []api.RADIUS) error {
	t := newTable(w, "VR", "COA CLIENT", "OUTCOMES")
	for i := range routers {
		d := &routers[i].DynamicAuthorization
		for _, c := range d.Clients {
			t.row(routers[i].VR, addr(c.Address), happened(c.Outcomes))
		}
		if d.UnknownSources > 0 {
			t.row(routers[i].VR, "(others)", fmt.Sprint("dropped ", d.UnknownSources))
		}
	}
	return t.end()
}

func findingTable(w io.Writer, routers []api.RADIUS) error {
	t := newTable(w, "VR", "ATTRIBUTE IN ANSWERS", "PROBLEM", "COUNT")
	for i := range routers {
		for _, f := range routers[i].Findings {
			t.row(routers[i].VR, f.Attribute, f.Problem, strconv.FormatUint(f.Count, 10))
		}
	}
	return t.end()
}

// happened are the counts that are not 0, by name.
func happened(counts map[string]uint64) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if counts[name] > 0 {
			words = append(words, fmt.Sprint(name, " ", counts[name]))
		}
	}
	return strings.Join(words, ", ")
}

func accountingTable(w io.Writer, a api.Accounting, detail bool) error {
	if detail {
		return details(w, []api.Accounting{a})
	}
	total := func(w io.Writer) error {
		t := newTable(w, "QUEUED", "OLDEST", "OPEN SESSIONS", "DELIVERED", "RETRIED", "DROPPED INTERIMS", "RECOVERED", "LOST", "DISK", "UNSAVED")
		t.row(strconv.Itoa(a.Queued), age(a.Oldest), strconv.Itoa(a.OpenSessions), strconv.FormatUint(a.Delivered, 10), strconv.FormatUint(a.Retried, 10),
			strconv.FormatUint(a.DroppedInterims, 10), strconv.FormatUint(a.Recovered, 10), strconv.FormatUint(a.Lost, 10), cmp.Or(a.DiskError, "good"), strconv.Itoa(a.Unsaved))
		return t.end()
	}
	if len(a.Queues) == 0 {
		return total(w)
	}
	return sections(w, total, func(w io.Writer) error {
		t := newTable(w, "VR", "GROUP", "STATE", "NEXT ATTEMPT", "QUEUED", "IN FLIGHT", "OLDEST", "DELIVERED", "RETRIED", "DROPPED INTERIMS")
		for i := range a.Queues {
			q := &a.Queues[i]
			next := ""
			switch {
			case q.State == "up":
			case q.NextAttempt.IsZero():
				next = "now"
			default:
				next = "in " + until(q.NextAttempt)
			}
			t.row(q.VR, q.Group, q.State, next, strconv.Itoa(q.Queued), strconv.Itoa(q.InFlight), age(q.Oldest), strconv.FormatUint(q.Delivered, 10),
				strconv.FormatUint(q.Retried, 10), strconv.FormatUint(q.DroppedInterims, 10))
		}
		return t.end()
	})
}

// until is how far ahead t is, in whole seconds.
func until(t time.Time) string {
	return max(time.Until(t).Round(time.Second), 0).String()
}

func aaaTable(w io.Writer, a api.AAA, detail bool) error {
	if detail {
		return details(w, []api.AAA{a})
	}
	answers := false
	for i := range a.Routers {
		answers = answers || len(a.Routers[i].Answers) > 0
	}
	tables := []func(io.Writer) error{
		func(w io.Writer) error { return admissionTable(w, &a) },
		func(w io.Writer) error { return limitTable(w, a.Routers) },
		func(w io.Writer) error { return resultTable(w, a.Routers) },
	}
	if answers {
		tables = append(tables, func(w io.Writer) error { return answerTable(w, a.Routers) })
	}
	return sections(w, tables...)
}

func admissionTable(w io.Writer, a *api.AAA) error {
	x := &a.Admission
	t := newTable(w, "DECIDING", "OF", "WAITING", "OF", "PER SOURCE", "ADMITTED", "REFUSED", "UNKNOWN POLICIES")
	t.row(strconv.Itoa(x.Running), strconv.Itoa(x.Concurrent), strconv.Itoa(x.Waiting), strconv.Itoa(x.MaxWaiting), strconv.Itoa(x.PerSource),
		strconv.FormatUint(x.Admitted, 10), strconv.FormatUint(x.Refused, 10), strconv.FormatUint(a.UnknownPolicies, 10))
	return t.end()
}

func limitTable(w io.Writer, routers []api.AAARouter) error {
	t := newTable(w, "VR", "SESSIONS", "OF", "PER USER", "PER DOMAIN", "PER SOURCE", "WHEN REACHED", "REFUSED")
	for i := range routers {
		l := &routers[i].Limits
		t.row(routers[i].VR, strconv.Itoa(l.Sessions), bound(l.PerRouter), bound(l.PerUser), bound(l.PerDomain), bound(l.PerSource), whenReached(l), happened(l.Refused))
	}
	return t.end()
}

// whenReached says what happens at the limits, and at which.
func whenReached(l *api.Limits) string {
	if len(l.Replaces) == 0 {
		return l.WhenReached
	}
	return l.WhenReached + ": " + strings.Join(l.Replaces, ", ")
}

// bound is a limit, 0 for none.
func bound(n int) string {
	if n == 0 {
		return "unlimited"
	}
	return strconv.Itoa(n)
}

func resultTable(w io.Writer, routers []api.AAARouter) error {
	t := newTable(w, "VR", "METHODS", "AUTHENTICATION", "ACCOUNTING", "RESULTS")
	for i := range routers {
		r := &routers[i]
		accounting := r.AccountingGroup
		if r.AccountingRequired {
			accounting += " (required)"
		}
		t.row(r.VR, strings.Join(r.Methods, ", "), r.AuthenticationGroup, accounting, happened(r.Results))
	}
	return t.end()
}

func answerTable(w io.Writer, routers []api.AAARouter) error {
	t := newTable(w, "VR", "METHOD", "ANSWERS")
	for i := range routers {
		for _, x := range routers[i].Answers {
			t.row(routers[i].VR, x.Method, happened(x.Results))
		}
	}
	return t.end()
}

func domainTable(w io.Writer, maps []api.DomainMap, detail bool) error {
	if detail {
		return details(w, maps)
	}
	t := newTable(w, "VR", "DOMAIN", "AAA OF", "METHODS", "AUTHENTICATION", "ACCOUNTING", "NAME", "TERMINATES IN", "POOL", "GATEWAY", "SESSIONS", "TIMEOUT", "IDLE", "TRAFFIC")
	for i := range maps {
		m := &maps[i]
		if m.Deny {
			t.row(m.VR, m.Domain, "denied", "", "", "", "", "", "", "", strconv.Itoa(m.Sessions), "", "", "")
			continue
		}
		sessions := strconv.Itoa(m.Sessions)
		if m.MaxSessions > 0 {
			sessions += "/" + strconv.Itoa(m.MaxSessions)
		}
		t.row(m.VR, m.Domain, m.AAAVR, strings.Join(m.Methods, ", "), m.AuthenticationGroup, m.AccountingGroup, nameSent(m), m.TerminatingVR, m.Pool,
			addr(m.Gateway), sessions, timeout(m.SessionTimeoutSeconds), timeout(m.IdleTimeoutSeconds), traffic(m.Traffic))
	}
	return t.end()
}

// nameSent says what becomes of the name that servers are sent.
func nameSent(m *api.DomainMap) string {
	switch {
	case m.OverrideUser != "":
		return "is " + m.OverrideUser
	case m.StripDomain:
		return "stripped"
	}
	return "whole"
}

// timeout is a time in words, empty for none.
func timeout(s int64) string {
	if s == 0 {
		return ""
	}
	return seconds(s)
}

// traffic prints what bounds a subscriber's traffic.
func traffic(x api.Traffic) string {
	var words []string
	add := func(direction string, rate uint64, policy string) {
		if rate > 0 {
			words = append(words, direction+" "+bitRate(rate))
		}
		if policy != "" {
			words = append(words, direction+" by "+policy)
		}
	}
	add("in", x.InRate, x.InPolicy)
	add("out", x.OutRate, x.OutPolicy)
	return strings.Join(words, ", ")
}

// bitRate prints bit/s with the largest unit in which it is whole.
func bitRate(n uint64) string {
	units := [...]string{"bit/s", "kbit/s", "Mbit/s", "Gbit/s"}
	i := 0
	for i < len(units)-1 && n > 0 && n%1000 == 0 {
		n /= 1000
		i++
	}
	return strconv.FormatUint(n, 10) + units[i]
}

func policyTrafficTable(w io.Writer, policies []api.TrafficPolicy, detail bool) error {
	if detail {
		return details(w, policies)
	}
	t := newTable(w, "VR", "POLICY", "RATE", "BURST", "RULES")
	for i := range policies {
		p := &policies[i]
		rate, burst := "unlimited", ""
		if p.Rate > 0 {
			rate = bitRate(p.Rate)
		}
		if p.Burst > 0 {
			burst = strconv.FormatUint(uint64(p.Burst), 10)
		}
		words := make([]string, len(p.Rules))
		for j, r := range p.Rules {
			words[j] = rule(r)
		}
		t.row(p.VR, p.Name, rate, burst, strings.Join(words, "; "))
	}
	return t.end()
}

// rule prints a rule such as "deny tcp 10.0.0.0/8 port 25".
func rule(r api.TrafficRule) string {
	out := r.Action
	switch {
	case r.Protocol == 0 && !r.Network.IsValid():
		return out + " any"
	case r.Protocol != 0:
		out += " " + cmp.Or(protocolNames[r.Protocol], fmt.Sprint("protocol ", r.Protocol))
	}
	if r.Network.IsValid() {
		out += " " + r.Network.String()
	}
	switch {
	case r.FirstPort == 0 && r.LastPort == 0:
	case r.FirstPort == r.LastPort:
		out += fmt.Sprint(" port ", r.FirstPort)
	default:
		out += fmt.Sprintf(" ports %d-%d", r.FirstPort, r.LastPort)
	}
	return out
}

// protocolNames are those of the protocols that the configuration has words for.
var protocolNames = map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 132: "sctp"}

func codeTable(w io.Writer, codes []api.TerminateCode, detail bool) error {
	if detail {
		return details(w, codes)
	}
	t := newTable(w, "VR", "APPLICATION", "REASON", "CODE", "RADIUS", "CONFIGURED", "DESCRIPTION")
	for i := range codes {
		c := &codes[i]
		configured := ""
		if c.Configured {
			configured = "yes"
		}
		t.row(c.VR, c.Application, c.Reason, strconv.FormatUint(uint64(c.Code), 10), cmp.Or(c.Cause, "private"), configured, c.Description)
	}
	return t.end()
}

func poolTable(w io.Writer, pools []api.VRPool, detail bool) error {
	if detail {
		return details(w, pools)
	}
	t := newTable(w, "VR", "POOL", "USED", "OF", "STATE", "WARNS AT", "RANGES", "EXCLUDED")
	for i := range pools {
		p := &pools[i]
		warns := ""
		if p.WarnAt > 0 {
			warns = fmt.Sprintf("%d%%", p.WarnAt)
		}
		t.row(p.VR, p.Name, strconv.Itoa(p.Used), strconv.Itoa(p.Size), p.State, warns, strings.Join(p.Ranges, ", "), strings.Join(p.Exclude, ", "))
	}
	return t.end()
}
