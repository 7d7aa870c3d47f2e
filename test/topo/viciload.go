package topo

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// lists are the keys of swanctl.conf whose values are lists, divided by commas.
var lists = []string{"local_addrs", "remote_addrs", "proposals", "esp_proposals", "local_ts", "remote_ts", "pools", "vips"}

// files are the keys whose values are lists of files, of which charon gets the contents.
var files = []string{"certs", "cacerts"}

// section is a section of swanctl.conf: its lines in their order, of which a section within it is one.
type section struct {
	name  string
	lines []sectionLine
}

type sectionLine struct {
	key, value string
	sub        *section // nil for a key with its value
}

// parseSettings reads what swanctlWriter writes.
func parseSettings(text string) (*section, error) {
	open := []*section{{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		at := open[len(open)-1]
		if name, ok := strings.CutSuffix(line, " {"); ok {
			sub := &section{name: name}
			at.lines = append(at.lines, sectionLine{key: name, sub: sub})
			open = append(open, sub)
			continue
		}
		if line == "}" && len(open) > 1 {
			open = open[:len(open)-1]
			continue
		}
		key, value, ok := strings.Cut(line, " = ")
		if !ok {
			return nil, fmt.Errorf("topo: no setting of swanctl.conf: %q", line)
		}
		if strings.HasPrefix(value, `"`) {
			var err error
			if value, err = strconv.Unquote(value); err != nil {
				return nil, fmt.Errorf("topo: value of %s in swanctl.conf: %w", key, err)
			}
		}
		at.lines = append(at.lines, sectionLine{key: key, value: value})
	}
	if len(open) > 1 {
		return nil, fmt.Errorf("topo: section %s of swanctl.conf has no end", open[len(open)-1].name)
	}
	return open[0], nil
}

// add writes the section and those within it.
func (m *viciMessage) add(s *section) error {
	m.open(s.name)
	for _, l := range s.lines {
		switch {
		case l.sub != nil:
			if err := m.add(l.sub); err != nil {
				return err
			}
		case slices.Contains(lists, l.key):
			m.list(l.key, commaWords(l.value)...)
		case slices.Contains(files, l.key):
			var contents []string
			for _, name := range commaWords(l.value) {
				b, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				contents = append(contents, string(b))
			}
			m.list(l.key, contents...)
		default:
			m.value(l.key, l.value)
		}
	}
	m.close()
	return nil
}

func commaWords(text string) []string {
	words := strings.Split(text, ",")
	for i, w := range words {
		words[i] = strings.TrimSpace(w)
	}
	return words
}

// load gives charon the private key in PEM, if there is one, the certificates of authorities in these files, and the secrets, pools and
// connections of a swanctl.conf, as `swanctl --load-all` does.
func (c *charon) load(ctx context.Context, conf string, key []byte, authorities []string) error {
	all, err := parseSettings(conf)
	if err != nil {
		return err
	}
	if key != nil {
		if _, _, err := c.vici(ctx, "load-key", "", viciPair{"type", "rsa"}, viciPair{"data", string(key)}); err != nil {
			return err
		}
	}
	for _, file := range authorities {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if _, _, err := c.vici(ctx, "load-cert", "", viciPair{"type", "X509"}, viciPair{"flag", "CA"}, viciPair{"data", string(b)}); err != nil {
			return err
		}
	}
	// A connection comes after what it refers to.
	for _, kind := range []struct{ section, command string }{{"secrets", "load-shared"}, {"pools", "load-pool"}, {"connections", "load-conn"}} {
		for _, l := range all.lines {
			if l.key != kind.section {
				continue
			}
			for _, one := range l.sub.lines {
				var m viciMessage
				if kind.section == "secrets" {
					m.secret(one.sub)
				} else if err := m.add(one.sub); err != nil {
					return err
				}
				if _, _, err := c.send(ctx, kind.command, "", m); err != nil {
					return fmt.Errorf("%w: %s %s", err, kind.section, one.key)
				}
			}
		}
	}
	return nil
}

// secret writes a section of secrets, whose name has their kind before a hyphen.
func (m *viciMessage) secret(s *section) {
	kind, _, _ := strings.Cut(s.name, "-")
	m.value("id", s.name) // by which swanctl knows it when it loads others
	m.value("type", kind)
	var owners []string
	for _, l := range s.lines {
		if strings.HasPrefix(l.key, "id") {
			owners = append(owners, l.value)
		} else {
			m.value("data", l.value)
		}
	}
	m.list("owners", owners...)
}
