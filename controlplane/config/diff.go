package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// ChangeKind says how something differs.
type ChangeKind string

// The kinds of change.
const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	Changed ChangeKind = "changed"
)

// Change is one thing that differs between two configurations. It holds no values, so that it can be logged.
type Change struct {
	// Router is the virtual router, empty for what vrgate.yaml says.
	Router string
	// Section is the thing inside it, such as "l2tp destination profile d host profile lac"; empty for the virtual router or
	// the process itself.
	Section string
	Kind    ChangeKind
	// Settings are the keys below Section that have other values, with dots between the levels and in the order of the
	// file types. A value counts as it is in force: a default that has become another one is a change. Empty unless Kind is Changed.
	Settings []string
}

// String returns the change as a line for people.
func (c Change) String() string {
	var where []string
	if c.Router != "" {
		where = append(where, "virtual router "+c.Router)
	}
	if c.Section != "" {
		where = append(where, c.Section)
	}
	if where == nil {
		where = append(where, "process")
	}
	out := strings.Join(where, ": ") + " " + string(c.Kind)
	if len(c.Settings) > 0 {
		out += ": " + strings.Join(c.Settings, ", ")
	}
	return out
}

// Diff lists what has changed from before to after: first the process, then the virtual routers by name, what is in them in the
// order of the types. Of what is added or removed as a whole its parts are not listed. Files that are only named, such as
// certificates, are compared by name.
func Diff(before, after *Config) []Change {
	d := &differ{}
	d.compare(scope{}, reflect.ValueOf(before.Process), reflect.ValueOf(after.Process))
	olds, news := routerMap(before), routerMap(after)
	names := make([]string, 0, len(olds)+len(news))
	for _, r := range slices.Concat(before.Routers, after.Routers) {
		names = append(names, r.Name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		o, n := olds[name], news[name]
		switch {
		case n == nil:
			d.out = append(d.out, Change{Router: name, Kind: Removed})
		case o == nil:
			d.out = append(d.out, Change{Router: name, Kind: Added})
		default:
			d.compare(scope{router: name}, reflect.ValueOf(*o), reflect.ValueOf(*n))
		}
	}
	return d.out
}

func routerMap(c *Config) map[string]*Router {
	m := make(map[string]*Router, len(c.Routers))
	for _, r := range c.Routers {
		m[r.Name] = r
	}
	return m
}

// scope is where a difference is looked for.
type scope struct{ router, section string }

type differ struct{ out []Change }

// compare compares what one scope has.
func (d *differ) compare(s scope, before, after reflect.Value) {
	at := len(d.out)
	settings := d.fields(s, "", before, after)
	if len(settings) == 0 {
		return
	}
	// The thing comes before its parts.
	d.out = slices.Insert(d.out, at, Change{Router: s.router, Section: s.section, Kind: Changed, Settings: settings})
}

// fields returns the settings of a struct that differ, and compares the things in it.
func (d *differ) fields(s scope, prefix string, before, after reflect.Value) []string {
	var out []string
	for _, f := range shapeOfConfig(before.Type()) {
		b, a, key := before.Field(f.index), after.Field(f.index), prefix+f.key
		switch {
		case f.things != nil:
			if d.things(s, f.things, b, a) {
				out = append(out, key)
			}
		case f.inner:
			out = append(out, d.fields(s, key+".", b, a)...)
		case !equal(b, a) && (len(out) == 0 || out[len(out)-1] != key): // two fields may be one setting
			out = append(out, key)
		}
	}
	return out
}

// things compares lists whose elements have names. It says whether those that are in both are in another order.
func (d *differ) things(s scope, kind *things, before, after reflect.Value) (moved bool) {
	index := make(map[string]int, after.Len())
	for i := range after.Len() {
		index[kind.nameOf(after.Index(i))] = i
	}
	there := make(map[int]bool, before.Len())
	last := -1
	for i := range before.Len() {
		name := kind.nameOf(before.Index(i))
		in := scope{s.router, strings.TrimPrefix(s.section+" "+kind.what+" "+name, " ")}
		j, ok := index[name]
		if !ok {
			d.out = append(d.out, Change{Router: in.router, Section: in.section, Kind: Removed})
			continue
		}
		there[j], moved, last = true, moved || j < last, j
		d.compare(in, before.Index(i), after.Index(j))
	}
	for j := range after.Len() {
		if !there[j] {
			section := strings.TrimPrefix(s.section+" "+kind.what+" "+kind.nameOf(after.Index(j)), " ")
			d.out = append(d.out, Change{Router: s.router, Section: section, Kind: Added})
		}
	}
	return moved
}

// nameOf is what messages call an element.
func (k *things) nameOf(v reflect.Value) string {
	name := fmt.Sprint(v.Field(k.name).Interface())
	if name == "" {
		return k.unnamed
	}
	return name
}

// equal compares two settings. An empty list is no list.
func equal(a, b reflect.Value) bool {
	switch x := a.Interface().(type) {
	case Secret:
		return x.Equal(b.Interface().(Secret))
	case time.Time:
		return x.Equal(b.Interface().(time.Time))
	}
	if a.Kind() == reflect.Slice {
		return a.Len() == b.Len() && (a.Len() == 0 || reflect.DeepEqual(a.Interface(), b.Interface()))
	}
	return a.Equal(b)
}
