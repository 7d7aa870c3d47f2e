package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// maxFileSize bounds a configuration file. 4000 destination profiles (G3) with
// all attributes written out are about 2 MiB.
const maxFileSize = 16 << 20

// decoder fills file types from a YAML node tree. The YAML library's own
// constructor is not used: its messages name Go types, quote values (which may
// be secrets), and give no place to mistakes that are found later. Walking the
// tree ourselves gives every value its place.
type decoder struct {
	file string
	diag []Diagnostic
}

// section is embedded in every file type that is a mapping.
type section struct {
	pos     Pos
	present bool
	bad     []string
}

// sound says whether everything below a key was decoded. Checks that need all
// of it would otherwise report what follows from a mistake as another one.
func (s *section) sound(key string) bool { return !slices.Contains(s.bad, key) }

func (s *section) at() *section { return s }

// scalar is a file type that is a single word. set is told whether the word was
// written in the file or is the default.
type scalar interface {
	// parse takes the word as written; the error is the end of a sentence that
	// starts with the key's name, such as "must be a number".
	parse(word string, tag reflect.StructTag) error
	// place records where the word was written.
	place(p Pos)
}

// secretive is a scalar whose words may not be quoted in messages.
type secretive interface{ secretive() }

func (d *decoder) errorf(p Pos, format string, args ...any) {
	d.diag = append(d.diag, Diagnostic{Pos: p, Message: fmt.Sprintf(format, args...)})
}

func (d *decoder) pos(n *yaml.Node) Pos { return Pos{d.file, n.Line, n.Column} }

// decode reads data, one YAML document that is a mapping, into out, a pointer to
// a struct that embeds section. An empty document leaves all defaults.
func (d *decoder) decode(data []byte, out any) {
	v := reflect.ValueOf(out).Elem()
	d.defaults(v)
	v.Addr().Interface().(interface{ at() *section }).at().pos = Pos{File: d.file}

	if !utf8.Valid(data) {
		d.errorf(invalidUTF8(d.file, data), "the file is not UTF-8")
		return
	}
	if blank(data) {
		return
	}
	var doc yaml.Node
	if err := yaml.Load(data, &doc); err != nil {
		d.syntax(err)
		return
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		d.errorf(Pos{d.file, 1, 1}, "the file must be a single YAML document")
		return
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return
	}
	d.value(root, v, "", "the file")
}

// blank says whether data has no document: nothing but white space and comments.
func blank(data []byte) bool {
	for line := range strings.Lines(string(data)) {
		if t := strings.TrimSpace(line); t != "" && t[0] != '#' {
			return false
		}
	}
	return true
}

func invalidUTF8(file string, data []byte) Pos {
	p := Pos{file, 1, 1}
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n == 1 {
			break
		}
		p.Column++
		if r == '\n' {
			p.Line, p.Column = p.Line+1, 1
		}
		data = data[n:]
	}
	return p
}

// syntax turns what the YAML library says about malformed text into
// diagnostics. Its messages speak of YAML constructs, never of values.
func (d *decoder) syntax(err error) {
	var many *yaml.LoadErrors
	if errors.As(err, &many) {
		for _, e := range many.Errors {
			d.syntaxOne(e)
		}
		return
	}
	var one *yaml.LoadError
	if errors.As(err, &one) {
		d.syntaxOne(one)
		return
	}
	d.errorf(Pos{d.file, 1, 1}, "the file is not YAML")
}

func (d *decoder) syntaxOne(e *yaml.LoadError) {
	p := Pos{d.file, max(e.Mark.Line, 1), max(e.Mark.Column, 1)}
	d.errorf(p, "not valid YAML: %s", strings.TrimPrefix(e.Message, "yaml: "))
}

// value decodes n into v. name is how messages call it: the quoted key, or for
// an element of a list the key's singular form.
func (d *decoder) value(n *yaml.Node, v reflect.Value, tag reflect.StructTag, name string) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		// Aliases would let a small file stand for an unbounded one.
		d.errorf(d.pos(n), "%s uses a YAML anchor or alias, which a configuration may not; write the value out", name)
		return
	}
	if s, ok := v.Addr().Interface().(scalar); ok {
		d.scalar(n, s, tag, name)
		return
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" && n.Value == "" {
		d.errorf(d.pos(n), "%s has no value; give one or remove the key", name)
		return
	}
	switch v.Kind() {
	case reflect.Slice:
		d.list(n, v, tag, name)
	case reflect.Struct:
		d.section(n, v, name)
	default:
		panic("config: no decoding for " + v.Type().String())
	}
}

func (d *decoder) scalar(n *yaml.Node, s scalar, tag reflect.StructTag, name string) {
	if n.Kind != yaml.ScalarNode {
		d.errorf(d.pos(n), "%s must be a single value, not %s", name, kindWord(n))
		return
	}
	if n.ShortTag() == "!!null" && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0 {
		d.errorf(d.pos(n), "%s has no value; give one or remove the key", name)
		return
	}
	s.place(d.pos(n))
	if err := s.parse(n.Value, tag); err != nil {
		if _, ok := s.(secretive); ok {
			d.errorf(d.pos(n), "%s %v", name, err)
			return
		}
		d.errorf(d.pos(n), "%s is %s but %v", name, quoteShort(n.Value), err)
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, tag reflect.StructTag, name string) {
	if n.Kind != yaml.SequenceNode {
		d.errorf(d.pos(n), "%s must be a list, not %s", name, kindWord(n))
		return
	}
	if lim, ok := tag.Lookup("items"); ok {
		lo, hi := mustRange(lim)
		if l := int64(len(n.Content)); l < lo || l > hi {
			at := n
			if l > hi && n.Content[hi].Line != n.Line {
				at = n.Content[hi] // the first that is too many
			}
			d.errorf(d.pos(at), "%s has %d entries but may have %d to %d", name, l, lo, hi)
			return
		}
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, c := range n.Content {
		e := v.Index(i)
		d.defaults(e)
		d.value(c, e, tag, fmt.Sprintf("entry %d of %s", i+1, name))
	}
}

func (d *decoder) section(n *yaml.Node, v reflect.Value, name string) {
	if n.Kind != yaml.MappingNode {
		d.errorf(d.pos(n), "%s must be a section of keys, not %s", name, kindWord(n))
		return
	}
	s := v.Addr().Interface().(interface{ at() *section }).at()
	s.pos, s.present = d.pos(n), true
	seen := map[string]int{}
	shape := shapeOf(v.Type())
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, val := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			d.errorf(d.pos(k), "a key must be a word")
			continue
		}
		f, ok := shape.fields[k.Value]
		if !ok {
			d.errorf(d.pos(k), "unknown key %s%s", quoteShort(k.Value), suggest(k.Value, shape.keys))
			continue
		}
		if line, dup := seen[k.Value]; dup {
			d.errorf(d.pos(k), "key %q is given twice; the first is in line %d", k.Value, line)
			continue
		}
		seen[k.Value] = k.Line
		before := len(d.diag)
		d.value(val, v.FieldByIndex(f.Index), f.Tag, fmt.Sprintf("%q", k.Value))
		if len(d.diag) > before {
			s.bad = append(s.bad, k.Value)
		}
	}
	for _, key := range shape.keys {
		if _, given := seen[key]; !given && shape.fields[key].Tag.Get("required") == "true" {
			d.errorf(s.pos, "key %q is missing", key)
		}
	}
}

// defaults sets every scalar below v that has a default tag, and places it at
// nowhere in particular.
func (d *decoder) defaults(v reflect.Value) {
	if v.Kind() != reflect.Struct || reflect.PointerTo(v.Type()).Implements(scalarType) {
		return
	}
	v.Set(shapeOf(v.Type()).defaults)
}

// shape is what decoding needs to know of a file type, worked out once.
type shape struct {
	keys   []string
	fields map[string]reflect.StructField
	// defaults is a value of the type with all defaults. It holds no pointers
	// that a copy would share.
	defaults reflect.Value
}

var (
	scalarType = reflect.TypeFor[scalar]()
	shapes     sync.Map // reflect.Type to *shape
)

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := &shape{fields: map[string]reflect.StructField{}, defaults: reflect.New(t).Elem()}
	for _, f := range reflect.VisibleFields(t) {
		key, ok := f.Tag.Lookup("yaml")
		if !ok {
			continue
		}
		s.keys = append(s.keys, key)
		s.fields[key] = f
		fv := s.defaults.FieldByIndex(f.Index)
		sc, isScalar := fv.Addr().Interface().(scalar)
		def, hasDefault := f.Tag.Lookup("default")
		switch {
		case isScalar && hasDefault:
			if err := sc.parse(def, f.Tag); err != nil {
				panic(fmt.Sprintf("config: default of %s.%s %v", t, f.Name, err))
			}
		case !isScalar && fv.Kind() == reflect.Struct:
			fv.Set(shapeOf(f.Type).defaults)
		}
	}
	actual, _ := shapes.LoadOrStore(t, s)
	return actual.(*shape)
}

func kindWord(n *yaml.Node) string {
	switch n.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a section of keys"
	default:
		return "a single value"
	}
}

// quoteShort quotes a word of the file for a message, cut so that a wrong
// paste does not fill the screen.
func quoteShort(s string) string {
	const most = 40
	if utf8.RuneCountInString(s) <= most {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q", string([]rune(s)[:most])+"…")
}

// Suggest returns `; did you mean "x"?` if one of words is near to s, for names that are not in the configuration.
func Suggest(s string, words []string) string { return suggest(s, words) }

// suggest returns `; did you mean "x"?` if one of words is near to s.
func suggest(s string, words []string) string {
	best, bestDist := "", len(s)/3+2
	for _, w := range words {
		if dist := editDistance(strings.ToLower(s), w, bestDist); dist < bestDist {
			best, bestDist = w, dist
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// editDistance is the Levenshtein distance of a and b, or limit if their
// lengths alone put them that far apart.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(diag+cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
