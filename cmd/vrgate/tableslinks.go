package main

import (
	"io"
	"strconv"
	"strings"

	"vrgate/controlplane/api"
)

func linkTable(w io.Writer, links []api.Link, detail bool) error {
	if detail {
		return details(w, links)
	}
	t := newTable(w, "VR", "LINK", "KIND", "TO", "STATE", "ADDRESSES", "MTU", "IN", "OUT", "ERRORS", "WHAT TO DO")
	for i := range links {
		l := &links[i]
		state := l.State
		if l.Reason != "" {
			state += " (" + l.Reason + ")"
		}
		words := make([]string, len(l.Addresses))
		for j, a := range l.Addresses {
			words[j] = a.String()
		}
		mtu := ""
		if l.MTU > 0 {
			mtu = strconv.Itoa(l.MTU)
		}
		t.row(l.VR, l.Name, l.Kind, l.To, state, strings.Join(words, ","), mtu, byteSize(l.InBytes), byteSize(l.OutBytes),
			strconv.FormatUint(l.InErrors+l.InDrops+l.OutErrors+l.OutDrops, 10), l.Text)
	}
	return t.end()
}
