package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
)

// update makes the generator write instead of compare; see file.go.
var update = flag.Bool("update", false, "write the generated files")

const deployDir = "../../deploy"

// TestGeneratedFilesAreCurrent generates the JSON schemas and the reference page
// from the file types and compares them with what is committed. The library for
// schemas is linked into this test only.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	process := schemaOf(t, &fileProcess{}, "vrgate.yaml")
	router := schemaOf(t, &fileRouter{}, "vr/NAME.yaml")
	for path, want := range map[string][]byte{
		"schema/process.schema.json":                              process,
		"schema/router.schema.json":                               router,
		filepath.Join(deployDir, "schema", "process.schema.json"): process,
		filepath.Join(deployDir, "schema", "router.schema.json"):  router,
		filepath.Join(deployDir, "configuration.md"):              reference(t),
	} {
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the types generate; run go generate ./controlplane/config", path)
		}
	}
}

// reflector returns a reflector that knows the scalars and our comments.
func reflector(t *testing.T) *jsonschema.Reflector {
	t.Helper()
	r := &jsonschema.Reflector{
		FieldNameTag: "yaml", Anonymous: true, DoNotReference: true, RequiredFromJSONSchemaTags: true,
		Mapper: func(rt reflect.Type) *jsonschema.Schema {
			if rt.Kind() == reflect.Struct && reflect.PointerTo(rt).Implements(reflect.TypeFor[scalar]()) {
				// Filled in by applyTags, which knows the field.
				return &jsonschema.Schema{}
			}
			return nil
		},
	}
	comments := fileComments(t)
	r.LookupComment = func(rt reflect.Type, field string) string {
		return comments[strings.TrimSuffix(rt.Name()+"."+field, ".")]
	}
	return r
}

// fileComments are the comments of the file types, "type" and "type.Field". The
// library reads those of exported types only.
func fileComments(t *testing.T) map[string]string {
	t.Helper()
	comments := map[string]string{}
	for _, name := range []string{"file.go", "file_links.go", "file_static.go", "file_l2tp.go", "file_aaa.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			gen, ok := d.(*ast.GenDecl)
			if !ok || gen.Tok != token.TYPE {
				continue
			}
			spec := gen.Specs[0].(*ast.TypeSpec)
			// The comment starts with the Go name, which no operator knows.
			_, c, _ := strings.Cut(oneLine(gen.Doc), " ")
			c = strings.TrimPrefix(c, "is ")
			comments[spec.Name.Name] = strings.ToUpper(c[:1]) + c[1:]
			for _, field := range spec.Type.(*ast.StructType).Fields.List {
				for _, name := range field.Names {
					comments[spec.Name.Name+"."+name.Name] = oneLine(field.Doc)
				}
			}
		}
	}
	return comments
}

func oneLine(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }

func schemaOf(t *testing.T, v any, title string) []byte {
	t.Helper()
	s := reflector(t).Reflect(v)
	s.Title = title
	applyTags(s, reflect.TypeOf(v).Elem())
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// applyTags adds to the schema of a section what the struct tags say.
func applyTags(s *jsonschema.Schema, rt reflect.Type) {
	s.Description = strings.TrimSpace(s.Description)
	for _, f := range reflect.VisibleFields(rt) {
		key, ok := f.Tag.Lookup("yaml")
		if !ok {
			continue
		}
		p, ok := s.Properties.Get(key)
		if !ok {
			panic("no schema for " + key)
		}
		if f.Tag.Get("required") == "true" {
			s.Required = append(s.Required, key)
		}
		target, ft := p, f.Type
		if ft.Kind() == reflect.Slice {
			if lim, ok := f.Tag.Lookup("items"); ok {
				lo, hi := mustRange(lim)
				p.MinItems, p.MaxItems = ptr(uint64(lo)), ptr(uint64(hi))
			}
			target, ft = p.Items, ft.Elem()
		}
		if sc, ok := reflect.New(ft).Interface().(scalar); ok {
			applyScalar(target, sc, f.Tag)
			if def, ok := f.Tag.Lookup("default"); ok && f.Type.Kind() != reflect.Slice {
				p.Default = defaultValue(sc, def)
			}
			continue
		}
		applyTags(target, ft)
	}
}

func ptr[T any](v T) *T { return &v }

// defaultValue is the default as the JSON value that a YAML parser would see.
func defaultValue(sc scalar, def string) any {
	switch sc.(type) {
	case *number:
		return json.Number(def)
	case *boolean:
		return def == "true"
	}
	return def
}

func applyScalar(s *jsonschema.Schema, sc scalar, tag reflect.StructTag) {
	length := func(def string) {
		lim := tag.Get("len")
		if lim == "" {
			lim = def
		}
		lo, hi := mustRange(lim)
		s.Type, s.MinLength, s.MaxLength = "string", ptr(uint64(lo)), ptr(uint64(hi))
	}
	switch sc := sc.(type) {
	case *text, *peerID:
		length("1..255")
	case *secret:
		length("1..256")
	case *number:
		*s = withZero(*s, integer(tag), tag)
	case *duration:
		n := integer(tag)
		*s = withZero(*s, n, tag)
		s.Type, s.Minimum, s.Maximum = "", "", ""
		alternatives := s.AnyOf
		if alternatives == nil {
			alternatives = []*jsonschema.Schema{n}
		}
		s.AnyOf = append(alternatives, &jsonschema.Schema{Type: "string", Pattern: "^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"})
	case *boolean:
		s.Type = "boolean"
	case *address:
		s.Type, s.Format = "string", "ipv4"
	case *identity, *domain:
		s.Type = "string"
	case *domainText:
		s.Type, s.MinLength, s.MaxLength = "string", ptr(uint64(1)), ptr(uint64(253))
	case *host, *peerHost:
		s.Type = "string"
	case *instant:
		s.Type, s.Format = "string", "date-time"
	case *netmask:
		s.Type, s.Format = "string", "ipv4"
	case *delimiters:
		s.Type, s.MaxLength, s.Pattern = "string", ptr(uint64(maxDelimiters)), "^[!-/:-@\\[-`{-~]*$"
	case *rate:
		s.AnyOf = []*jsonschema.Schema{
			{Type: "integer", Minimum: "0", Maximum: json.Number(strconv.Itoa(maxRate))}, {Type: "string", Pattern: "^[0-9]+[kMG]?$"},
		}
	case *protocol:
		least, words := json.Number("1"), protocolNames.words()
		if z := tag.Get("zero"); z != "" {
			least, words = "0", append([]string{z}, words...)
		}
		s.AnyOf = []*jsonschema.Schema{{Type: "integer", Minimum: least, Maximum: "255"}, {Type: "string", Enum: anys(words)}}
	case *ports:
		s.AnyOf = []*jsonschema.Schema{{Type: "integer", Minimum: "1", Maximum: "65535"}, {Type: "string", Pattern: "^[0-9]+(-[0-9]+)?$"}}
	case *prefix:
		s.Type, s.Pattern = "string", `^[0-9.]+(/[0-9]+)?$`
	case *linkAddress:
		s.Type, s.Pattern = "string", `^[0-9.]+/[0-9]+$`
	case *addrRange:
		s.Type, s.Pattern = "string", `^[0-9.]+( *- *[0-9.]+|/[0-9]+)?$`
	case *transform:
		s.Type = "string"
		for _, e := range espEncryptionNames {
			if e.v.AEAD() {
				s.Enum = append(s.Enum, e.s)
				continue
			}
			for _, i := range espIntegrityNames {
				s.Enum = append(s.Enum, e.s+"-"+i.s)
			}
		}
	case *pfs:
		s.Type, s.Enum = "string", anys(append([]string{"none"}, groupNames.words()...))
	case interface{ words() []string }:
		s.Type, s.Enum = "string", anys(sc.words())
	default:
		panic(fmt.Sprintf("no schema for %T", sc))
	}
}

func anys(words []string) []any {
	out := make([]any, len(words))
	for i, w := range words {
		out[i] = w
	}
	return out
}

func integer(tag reflect.StructTag) *jsonschema.Schema {
	lo, hi := mustRange(tag.Get("range"))
	return &jsonschema.Schema{
		Type: "integer", Minimum: json.Number(strconv.FormatInt(lo, 10)), Maximum: json.Number(strconv.FormatInt(hi, 10)),
	}
}

// withZero is s as the integer n, or 0 where that has a meaning of its own.
func withZero(s jsonschema.Schema, n *jsonschema.Schema, tag reflect.StructTag) jsonschema.Schema {
	lo, _ := mustRange(tag.Get("range"))
	if tag.Get("zero") == "" || lo == 0 {
		s.Type, s.Minimum, s.Maximum = n.Type, n.Minimum, n.Maximum
		return s
	}
	s.AnyOf = []*jsonschema.Schema{{Const: json.Number("0")}, n}
	return s
}

// reference generates the reference page.
func reference(t *testing.T) []byte {
	t.Helper()
	r := reflector(t)
	var b bytes.Buffer
	b.WriteString("# Configuration reference\n\n" +
		"Generated from the types in `controlplane/config/file.go`, `file_links.go`, `file_static.go`, `file_l2tp.go` and `file_aaa.go`; do not edit.\n\n" +
		"The configuration is a directory (default `/etc/vrgate`) with `vrgate.yaml` for the process and one\n" +
		"`vr/NAME.yaml` per virtual router. `vrgate check` reports every mistake as file:line:column. Times are\n" +
		"seconds, or a number with unit such as `90s`, `10m`, `24h`. Secret files are read relative to the\n" +
		"directory; one line end after the secret does not count.\n")
	page(&b, r, "vrgate.yaml", reflect.TypeFor[fileProcess](), "")
	page(&b, r, "vr/NAME.yaml", reflect.TypeFor[fileRouter](), "")
	return b.Bytes()
}

// page writes the table of a section and then those of the sections in it.
func page(b *bytes.Buffer, r *jsonschema.Reflector, title string, rt reflect.Type, path string) {
	level := "##"
	if path != "" {
		level, title = "###", "`"+path+"`"
	}
	fmt.Fprintf(b, "\n%s %s\n\n%s\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n", level, title, typeComment(r, rt))
	type inner struct {
		rt   reflect.Type
		path string
	}
	var below []inner
	for _, f := range reflect.VisibleFields(rt) {
		key, ok := f.Tag.Lookup("yaml")
		if !ok {
			continue
		}
		ft, list := f.Type, ""
		p := strings.TrimPrefix(path+"."+key, ".")
		if ft.Kind() == reflect.Slice {
			ft, list = ft.Elem(), "list of "
			p += "[]"
		}
		sc, isScalar := reflect.New(ft).Interface().(scalar)
		value := "section, see below"
		if isScalar {
			value = valueWords(sc, f.Tag)
		} else {
			below = append(below, inner{ft, p})
		}
		def := f.Tag.Get("default")
		if f.Tag.Get("required") == "true" {
			def = "required"
		} else if def != "" {
			def = "`" + def + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s%s | %s | %s |\n", key, list, value, def, fieldComment(r, rt, f.Name))
	}
	for _, s := range below {
		page(b, r, "", s.rt, s.path)
	}
}

func valueWords(sc scalar, tag reflect.StructTag) string {
	code := func(words []string) string { return "`" + strings.Join(words, "`, `") + "`" }
	switch sc := sc.(type) {
	case *text:
		return "text"
	case *secret:
		return "secret text"
	case *number:
		return rangeWords(tag, "")
	case *duration:
		return "time, " + rangeWords(tag, "s")
	case *boolean:
		return "`true`, `false`"
	case *address:
		return "IPv4 address"
	case *addrRange:
		return "range"
	case *identity, *peerID:
		return "identity"
	case *domain:
		return "domain name"
	case *domainText:
		return "domain, `default`, `none`"
	case *host:
		return "IPv4 or IPv6 address"
	case *instant:
		return "date and time"
	case *netmask:
		return "netmask"
	case *delimiters:
		return "up to eight characters"
	case *rate:
		return "rate in bits per second such as `512k`, `10M`, `1G`; 0 (no limit)"
	case *protocol:
		words := protocolNames.words()
		if z := tag.Get("zero"); z != "" {
			words = append([]string{z}, words...)
		}
		return code(words) + " or a number"
	case *peerHost:
		return "IPv4 address or host name"
	case *ports:
		return "port or FIRST-LAST"
	case *linkAddress:
		return "address/length"
	case *prefix:
		return "network"
	case *transform:
		return "`CIPHER-INTEGRITY` of " + code(espEncryptionNames.words()) + " and " + code(espIntegrityNames.words()) + "; AES-GCM alone"
	case *pfs:
		return "`none`, " + code(groupNames.words())
	case interface{ words() []string }:
		return code(sc.words())
	}
	panic(fmt.Sprintf("no words for %T", sc))
}

func typeComment(r *jsonschema.Reflector, rt reflect.Type) string { return comment(r, rt, "") }

func fieldComment(r *jsonschema.Reflector, rt reflect.Type, field string) string {
	return strings.ReplaceAll(comment(r, rt, field), "|", "\\|")
}

func comment(r *jsonschema.Reflector, rt reflect.Type, field string) string {
	c := r.LookupComment(rt, field)
	if c == "" {
		panic("no comment on " + rt.Name() + " " + field)
	}
	return c
}
