package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// filePaths are the keys of the files with dots between the levels, those of secret files left out.
func filePaths(t reflect.Type, prefix string, out map[string]bool) {
	shape := shapeOf(t)
	for _, key := range shape.keys {
		ft := shape.fields[key].Type
		path := prefix + key
		if ft.Kind() == reflect.Slice {
			ft = ft.Elem()
			if _, ok := reflect.New(ft).Interface().(scalar); !ok {
				path += "[]"
			}
		}
		if _, ok := reflect.New(ft).Interface().(scalar); ok {
			out[path] = true
			continue
		}
		filePaths(ft, path+".", out)
	}
}

// diffPaths are the settings that Diff can name, as such paths. Lists without names are one setting.
func diffPaths(t reflect.Type, prefix string, out map[string]bool) {
	for _, f := range shapeOfConfig(t) {
		ft := t.Field(f.index).Type
		switch {
		case f.things != nil:
			diffPaths(ft.Elem(), prefix+f.key+"[].", out)
		case f.inner:
			diffPaths(ft, prefix+f.key+".", out)
		default:
			out[prefix+f.key] = true
		}
	}
}

// TestDiffSpeaksOfKeys: every setting that Diff names is a key of the file types, and every key is named but for those that
// say something by other keys, and what things are called.
func TestDiffSpeaksOfKeys(t *testing.T) {
	for _, test := range []struct {
		file, config reflect.Type
		unnamed      []string // keys that Diff does not name
	}{
		{reflect.TypeFor[fileProcess](), reflect.TypeFor[Process](), nil},
		{reflect.TypeFor[fileRouter](), reflect.TypeFor[Router](), []string{
			"aaa.accounting.enabled",                           // none is in force without group
			"radius.dynamic-authorization.servers-are-clients", // the clients
			"radius.source-address",                            // those of servers
			// Those of a link of the other router.
			"links[].veth.addresses", "links[].veth.routes[].network", "links[].veth.routes[].via", "links[].veth.routes[].metric",
		}},
	} {
		files, named := map[string]bool{}, map[string]bool{}
		filePaths(test.file, "", files)
		diffPaths(test.config, "", named)
		for path := range named {
			lists := strings.HasSuffix(path, "[]") || files[path]
			for f := range files {
				lists = lists || strings.HasPrefix(f, path+"[].") // a list without names
			}
			if !lists {
				t.Errorf("no file has the key %q", path)
			}
		}
		for path := range files {
			last := path[strings.LastIndexByte(path, '.')+1:]
			above := path
			for i := strings.LastIndex(above, "[]."); i >= 0; i = strings.LastIndex(above, "[].") {
				above = above[:i]
				if named[above] {
					break
				}
			}
			name := slices.Contains([]string{"name", "priority", "address", "remote-host", "domain", "reason"}, last) && strings.Contains(path, "[]")
			if !named[path] && !named[above] && !name && !strings.HasSuffix(path, "-file") && !slices.Contains(test.unnamed, path) {
				t.Errorf("Diff never names the key %q", path)
			}
		}
	}
}

// everything is a configuration in which each list has an element.
func everything(t *testing.T) *Config {
	t.Helper()
	c := &Config{Routers: []*Router{{Name: "a"}, {Name: "b"}}}
	fill(t, reflect.ValueOf(&c.Process).Elem())
	fill(t, reflect.ValueOf(c.Routers[1]).Elem())
	return c
}

// fill gives each field a value.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Interface().(type) {
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.1")))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.MustParsePrefix("192.0.2.0/24")))
		return
	case time.Time:
		v.Set(reflect.ValueOf(testNow))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0))
	case reflect.String:
		v.SetString("b")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(5)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(5)
	default:
		t.Fatalf("no value for %v", v.Type())
	}
}

// TestDiffOverlooksNothing changes each field of a configuration by itself: Diff tells of it, and of one thing only.
func TestDiffOverlooksNothing(t *testing.T) {
	count := 0
	var walk func(path string, of func(*Config) reflect.Value)
	walk = func(path string, of func(*Config) reflect.Value) {
		v := of(everything(t))
		if slices.Contains([]string{"Router.File", "Router.Kind", "Router.Name", "DomainMap.DNS", "DomainMap.NBNS", "DomainMap.MTU", "Link.Kind", "Link.Far", "VLANLink.Inside", "StaticTunnel.File"}, path) || v.Type() == reflect.TypeFor[Pos]() {
			return
		}
		if v.Kind() == reflect.Struct && v.Type().PkgPath() == reflect.TypeFor[Config]().PkgPath() {
			for i := range v.NumField() {
				walk(v.Type().Name()+"."+v.Type().Field(i).Name, func(c *Config) reflect.Value { return of(c).Field(i) })
			}
			return
		}
		if v.Kind() == reflect.Slice && v.Type() != reflect.TypeFor[Secret]() {
			walk(path, func(c *Config) reflect.Value { return of(c).Index(0) })
			empty := everything(t)
			of(empty).SetZero()
			if got := Diff(everything(t), empty); len(got) != 1 {
				t.Errorf("%s without elements: %v", path, got)
			}
			return
		}
		count++
		c := everything(t)
		switch v := of(c); v.Kind() {
		case reflect.Bool:
			v.SetBool(false)
		case reflect.String:
			v.SetString("c")
		case reflect.Int, reflect.Int64:
			v.SetInt(6)
		case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
			v.SetUint(6)
		default:
			v.SetZero()
		}
		got := Diff(everything(t), c)
		// Another name is another thing.
		renamed := len(got) == 2 && got[0].Kind == Removed && got[1].Kind == Added
		changed := len(got) == 1 && got[0].Kind == Changed && len(got[0].Settings) == 1
		if !renamed && !changed {
			t.Errorf("%s has changed: %v", path, got)
		}
		back := Diff(c, everything(t))
		if len(back) != len(got) {
			t.Errorf("%s has changed back: %v", path, back)
		}
	}
	walk("", func(c *Config) reflect.Value { return reflect.ValueOf(&c.Process).Elem() })
	walk("", func(c *Config) reflect.Value { return reflect.ValueOf(c.Routers[1]).Elem() })
	if count < 250 {
		t.Errorf("only %d fields looked at", count)
	}
	if got := Diff(everything(t), everything(t)); len(got) > 0 {
		t.Errorf("nothing has changed: %v", got)
	}
}

// TestDiff compares configurations as operators change them.
func TestDiff(t *testing.T) {
	parse := func(router string) *Config {
		t.Helper()
		files := map[string]string{"a": router}
		if name, text, ok := strings.Cut(router, "+++"); ok {
			files = map[string]string{"a": name, "b": text}
		}
		c, _, errs := parseFiles(files)
		if len(errs) > 0 {
			t.Fatal(Errors(errs))
		}
		return c
	}
	for name, test := range map[string]struct {
		in   string
		want []string
	}{
		"nothing":  {good + "\n# a comment\n", nil},
		"a router": {good + "+++namespace: {name: b}\n" + good, []string{"virtual router b added"}},
		"keys of the same place": {with(t, "l2tp:\n", "l2tp:\n  hello-interval: 30s\n  idle-timeout: 5\n"), []string{
			"virtual router a changed: l2tp.idle-timeout, l2tp.hello-interval",
		}},
		"a secret": {with(t, "0123456789abcdef", "fedcba9876543210"), []string{
			"virtual router a: transport profile clients local address 192.0.2.1 group key main changed: key",
		}},
		"what host profiles inherit": {with(t, "l2tp:\n", "l2tp:\n  disconnect-cause: true\n"), []string{
			"virtual router a changed: l2tp.disconnect-cause",
			"virtual router a: l2tp destination profile any host profile default changed: disconnect-cause",
		}},
		"profiles come and go": {with(t, "    - name: any\n      host-profiles:\n        - remote-host: default\n",
			"    - {name: other, lac-address: 203.0.113.1, host-profiles: [{remote-host: x}]}\n    - name: any\n      host-profiles: [{remote-host: lac, single-shot: true}]\n"), []string{
			"virtual router a: l2tp destination profile any host profile default removed",
			"virtual router a: l2tp destination profile any host profile lac added",
			"virtual router a: l2tp destination profile other added",
		}},
		"several of one profile": {with(t, "- remote-host: default", "- {remote-host: default, single-shot: true, local-host: lns, max-sessions: 4}"), []string{
			"virtual router a: l2tp destination profile any host profile default changed: local-host, max-sessions, single-shot",
		}},
		"a user": {strings.Replace(good, "alice", "bob", 1), []string{
			"virtual router a: user alice removed", "virtual router a: user bob added",
		}},
		"an address that is kept from the pool": {good + "    address: 10.0.0.9\n", []string{
			"virtual router a: pool main changed: exclude", "virtual router a: user alice changed: address",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, c := range Diff(parse(good), parse(test.in)) {
				got = append(got, c.String())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
	process := parse(good)
	process.Process.Workers.Kernel++
	if got := fmt.Sprint(Diff(parse(good), process)); got != "[process changed: workers.kernel]" {
		t.Error(got)
	}
	// The order of group keys is that in which they are tried.
	two := with(t, "              key: 0123456789abcdef\n", "              key: 0123456789abcdef\n            - {name: next, key: 0123456789abcdeg}\n")
	moved := parse(two)
	slices.Reverse(moved.Routers[0].TransportProfiles[0].Locals[0].GroupKeys)
	if got := fmt.Sprint(Diff(parse(two), moved)); got != "[virtual router a: transport profile clients local address 192.0.2.1 changed: group-keys]" {
		t.Error(got)
	}
}

// BenchmarkDiffLargest is what a reload of the largest configuration spends on comparing.
func BenchmarkDiffLargest(b *testing.B) {
	c, _, errs := parseFiles(largest())
	if len(errs) > 0 {
		b.Fatal(Errors(errs[:1]))
	}
	d, _, _ := parseFiles(largest())
	for b.Loop() {
		if got := Diff(c, d); len(got) > 0 {
			b.Fatal(got)
		}
	}
}
