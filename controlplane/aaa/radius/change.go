package radius

import (
	"fmt"
	"slices"
	"strings"

	rad "layeh.com/radius"

	"vrgate/controlplane/aaa"
)

// Unsupported are the attributes of a CoA-Request that cannot change while a session is up: Error-Cause 401.
type Unsupported []Attribute

// String names them.
func (u Unsupported) String() string {
	names := make([]string, len(u))
	for i, a := range u {
		names[i] = a.String()
	}
	return strings.Join(names, ", ")
}

// changeable are the attributes that a CoA-Request can change; their rules are those of an accept.
var changeable = []Attribute{
	{0, typeSessionTimeout}, {0, typeIdleTimeout}, {0, typeInterimInterval}, {vendorERX, erxServiceInterim},
	{0, typeFilterID}, {vendorERX, erxIngressPolicy}, {vendorERX, erxEgressPolicy},
	{vendorWISPr, 7}, {vendorWISPr, 8}, {vendorMikrotik, 8}, {vendorRoaringPenguin, 1}, {vendorRoaringPenguin, 2},
	{vendorAscend, 197}, {vendorAscend, 255}, {0, typeClass},
}

// identifying are the attributes that say which session is meant and who asks (RFC 5176 section 3): the CoA server reads
// them.
var identifying = []Attribute{
	{0, typeUserName}, {0, typeNASIPAddress}, {0, typeServiceType}, {0, typeFramedIPAddress}, {0, typeState}, {0, typeNASIdentifier},
	{0, typeProxyState}, {0, typeAcctSessionID}, {0, typeEventTimestamp}, {0, typeMessageAuth}, {0, typeNASIPv6Address},
}

// ParseChange says what a CoA-Request changes. Attributes that identify the session are passed over, and those that
// cannot change, or are not known, are returned. The error says that one has a value that cannot be, Error-Cause 407:
// of a change all counts or nothing. What the request does not speak of stays (aaa.Change.Keep).
func ParseChange(attributes rad.Attributes) (aaa.Change, Unsupported, error) {
	r := read(attributes)
	var b builder
	var unsupported Unsupported
	for _, f := range r.found {
		if f.Problem != ProblemUnknown && (slices.Contains(changeable, f.Attribute) || f.Problem == ProblemBroken) {
			return aaa.Change{}, nil, fmt.Errorf("%s: the value cannot be read", f.Attribute)
		}
		if !slices.Contains(identifying, f.Attribute) && !slices.Contains(unsupported, f.Attribute) {
			unsupported = append(unsupported, f.Attribute)
		}
	}
	for _, v := range r.values {
		switch {
		case slices.Contains(identifying, v.attribute):
		case slices.Contains(changeable, v.attribute):
			if p := acceptRules[v.attribute](&b, v); p != "" {
				return aaa.Change{}, nil, fmt.Errorf("%s: %s", v, p)
			}
		case !slices.Contains(unsupported, v.attribute):
			unsupported = append(unsupported, v.attribute)
		}
	}
	c := aaa.Change{Class: b.class}
	if t, said := b.session.get(); said {
		c.SessionTimeout = &t
	}
	if t, said := b.idle.get(); said {
		c.IdleTimeout = &t
	}
	if t, said := b.interim.get(); said {
		c.Interim = &t
	}
	const all = aaa.RateIn | aaa.RateOut | aaa.PolicyIn | aaa.PolicyOut
	if t, silent := b.traffic(); silent != all {
		c.Traffic, c.Keep = &t, silent
	}
	return c, unsupported, nil
}
