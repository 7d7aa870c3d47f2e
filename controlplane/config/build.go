package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"
)

// builder turns decoded files into a Config and collects what is wrong. Checks
// go on after a mistake: a value that did not decode has its default, and what
// follows from that is kept from being reported by checking only values that
// were decoded.
type builder struct {
	cfg      *Config
	read     secretReader
	now      time.Time
	locate   fileFinder
	errs     []Diagnostic
	warnings []Diagnostic
	// routers are the files behind cfg.Routers, in the same order, for checks
	// between routers.
	routers []*routerSource
	// defaultRouter is checked once the routers are known.
	defaultRouter text
}

// routerSource is a router with the file it came from.
type routerSource struct {
	file *fileRouter
	r    *Router
	maps mapSummary
}

func (b *builder) errorf(p Pos, format string, args ...any) {
	b.errs = append(b.errs, Diagnostic{p, fmt.Sprintf(format, args...)})
}

func (b *builder) warnf(p Pos, format string, args ...any) {
	b.warnings = append(b.warnings, Diagnostic{p, fmt.Sprintf(format, args...)})
}

// source decodes and builds one file.
func (b *builder) source(s source) {
	d := &decoder{file: s.file}
	if s.name == "" {
		var f fileProcess
		d.decode(s.data, &f)
		b.errs = append(b.errs, d.diag...)
		b.process(&f)
		return
	}
	f := new(fileRouter)
	d.decode(s.data, f)
	b.errs = append(b.errs, d.diag...)
	if p, inline := firstSecret(reflect.ValueOf(f).Elem()); inline && s.mode.Perm()&0o007 != 0 {
		b.warnf(p, "this file holds secrets and every local user can read it (mode %#o)", s.mode.Perm())
	}
	b.router(s, f)
}

// firstSecret finds the first secret written in a file.
func firstSecret(v reflect.Value) (Pos, bool) {
	if s, ok := v.Addr().Interface().(*secret); ok {
		return s.pos, s.given()
	}
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			if p, ok := firstSecret(v.Index(i)); ok {
				return p, true
			}
		}
	case reflect.Struct:
		if reflect.PointerTo(v.Type()).Implements(scalarType) {
			break
		}
		shape := shapeOf(v.Type())
		for _, key := range shape.keys {
			if p, ok := firstSecret(v.FieldByIndex(shape.fields[key].Index)); ok {
				return p, true
			}
		}
	}
	return Pos{}, false
}

func (b *builder) process(f *fileProcess) {
	absolute := func(key string, t text) {
		if t.v != "" && (!filepath.IsAbs(t.v) || filepath.Clean(t.v) != t.v) {
			b.errorf(t.pos, "%q is %s but must be an absolute path without . or .. and without a slash at its end", key, quoteShort(t.v))
		}
	}
	absolute("state-dir", f.StateDir)
	absolute("socket", f.API.Socket)
	if per := &f.HalfOpen.PerSource; !per.given() {
		per.v = min(per.v, f.HalfOpen.Total.v)
	} else if per.v > f.HalfOpen.Total.v {
		b.errorf(per.pos, "\"per-source\" is %d but must not be above \"total\", which is %d", per.v, f.HalfOpen.Total.v)
	}
	dh := int(f.Workers.DH.v)
	if dh == 0 {
		dh = runtime.NumCPU()
	}
	b.cfg.Process = Process{
		Log:           Log{f.Log.Level.v, f.Log.Format.v},
		API:           API{f.API.Socket.v, f.API.Group.v},
		StateDir:      f.StateDir.v,
		Workers:       Workers{DH: dh, Kernel: int(f.Workers.Kernel.v)},
		HalfOpen:      HalfOpen{Total: int(f.HalfOpen.Total.v), PerSource: int(f.HalfOpen.PerSource.v)},
		Licences:      f.Licences.value(),
		DefaultRouter: f.DefaultRouter.v,
		Admission: Admission{
			Concurrent: int(f.Admission.Concurrent.v), Waiting: int(f.Admission.Waiting.v), PerSource: int(f.Admission.PerSource.v),
		},
		Journal:         AccountingJournal{MaxRecords: int(f.Journal.MaxRecords.v), Parallel: int(f.Journal.Parallel.v)},
		ShutdownTimeout: f.ShutdownTimeout.v,
	}
	b.defaultRouter = f.DefaultRouter
}

func (b *builder) router(s source, f *fileRouter) {
	r := &Router{
		Name:      s.name,
		File:      s.file,
		Kind:      KindNamespace,
		Namespace: Namespace{f.Namespace.Name.v, f.Namespace.Create.v},
		NATT:      f.IPsec.NATT.v,
		Proposals: f.IPsec.Proposals.v,

		InvalidCookie: f.IPsec.InvalidCookie.v,
		Licences:      f.Licences.value(),
	}
	if n := f.Namespace.Name; strings.Contains(n.v, "/") || n.v == "." || n.v == ".." {
		b.errorf(n.pos, "\"name\" is %s but must be the name of a file in /run/netns", quoteShort(n.v))
	}
	if f.VRF.present {
		b.vrf(f, r)
	}
	b.intranet(f, r)
	for i, a := range f.ServerAddresses {
		if !a.v.IsValid() {
			continue
		}
		if slices.Contains(r.ServerAddresses, a.v) {
			b.errorf(a.pos, "entry %d of \"server-addresses\", %v, is there twice", i+1, a.v)
			continue
		}
		if a.v.Is6() && a.v.IsLinkLocalUnicast() {
			b.errorf(a.pos, "entry %d of \"server-addresses\", %v, is on one link only: it is not enough to say where clients arrive", i+1, a.v)
			continue
		}
		r.ServerAddresses = append(r.ServerAddresses, a.v)
	}
	r.NameServers = distinct(b, f.NameServers, "name-servers")
	b.ipsec(f, r)
	b.l2tp(f, r)
	b.ppp(f, r)
	b.ipProfiles(f, r)
	b.pools(f, r)
	b.users(f, r)
	b.trafficPolicies(f, r)
	b.radius(f, r)
	b.aaa(f, r)

	b.cfg.Routers = append(b.cfg.Routers, r)
	b.routers = append(b.routers, &routerSource{file: f, r: r})
}

func (b *builder) vrf(f *fileRouter, r *Router) {
	r.Kind = KindVRF
	r.VRF = VRF{f.VRF.Device.v, uint32(f.VRF.Table.v), f.VRF.Create.v}
	if d := f.VRF.Device; d.v == "." || d.v == ".." || strings.ContainsAny(d.v, "/: \u00a0") {
		b.errorf(d.pos, "\"device\" is %s but must be a name that an interface can have", quoteShort(d.v))
	}
	switch t := f.VRF.Table; t.v {
	case 253, 254, 255:
		b.errorf(t.pos, "\"table\" is %d but must not be one of the kernel's own tables 253, 254 and 255", t.v)
	}
}

// serverAddress checks a reference to one of the router's addresses.
func (b *builder) serverAddress(a placed[netip.Addr], key string, f *fileRouter, r *Router) {
	if v, at := a.value(); v.IsValid() && at.Line != 0 && f.sound("server-addresses") && !slices.Contains(r.ServerAddresses, v) {
		b.errorf(at, "%q is %v but must be one of \"server-addresses\"", key, v)
	}
}

// unique finds names that are there twice. seen maps the names to where they
// were given.
func (b *builder) unique(seen map[string]Pos, name text, what string) {
	if !name.given() || name.v == "" {
		return
	}
	if first, dup := seen[name.v]; dup {
		b.errorf(name.pos, "%s %s is there twice; the first is in line %d", what, quoteShort(name.v), first.Line)
		return
	}
	seen[name.v] = name.pos
}

// secretOf returns the secret that is either written out or in a file. at is
// the place for the message that there is none; an entry that is no section has no place, and
// a message already.
func (b *builder) secretOf(at Pos, s secret, file text, key string, required bool) Secret {
	switch {
	case s.given() && file.given():
		b.errorf(file.pos, "\"%s-file\" and %q exclude each other", key, key)
		return nil
	case s.given():
		return s.v
	case file.given() && file.v != "":
		return b.secretFile(file, key)
	case !file.given() && required && at.Line != 0:
		b.errorf(at, "key %q or \"%s-file\" is missing", key, key)
	}
	return nil
}

// secretFile reads a secret file; one line end after the secret is not part of
// it, because every editor adds one.
func (b *builder) secretFile(file text, key string) Secret {
	data, mode, err := b.read(file.v)
	if err != nil {
		b.errorf(file.pos, "\"%s-file\" is %s but the file cannot be read: %s", key, quoteShort(file.v), reason(err))
		return nil
	}
	if mode.Perm()&0o007 != 0 {
		b.warnf(file.pos, "every local user can read the secret file %s (mode %#o)", quoteShort(file.v), mode.Perm())
	}
	word := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	var s secret
	if err := s.parse(word, ""); err != nil {
		b.errorf(file.pos, "the secret in the file %s %v", quoteShort(file.v), err)
		return nil
	}
	return s.v
}
