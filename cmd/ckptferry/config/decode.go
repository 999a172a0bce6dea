package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/units"
)

// maxFileBytes bounds a configuration file; nobody writes a megabyte of it by hand.
const maxFileBytes = 1 << 20

// document is a file that is being read: what is wrong with it so far, and where each value stands.
type document struct {
	file     string
	text     []byte
	problems []Problem
	at       map[string]Problem // by path: where a value stands, or the key of several values (no text)
}

// read decodes the YAML file into a struct, whose fields carry the keys as `yaml` tags. An error is one of reading the
// file; what is wrong inside goes to problems.
func read(file string, into any) (*document, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	d := &document{file: file, text: text, at: map[string]Problem{}}
	if len(text) > maxFileBytes {
		d.problems = append(d.problems, Problem{1, 1, fmt.Sprintf("the file has %d bytes, at most %d are read", len(text), maxFileBytes)})
		return d, nil
	}
	var root yaml.Node
	if err := yaml.Load(text, &root); err != nil {
		d.problems = append(d.problems, syntaxProblem(err))
		return d, nil
	}
	node := &root
	if node.Kind == yaml.DocumentNode && len(node.Content) == 1 {
		node = node.Content[0]
	}
	d.decode(node, reflect.ValueOf(into).Elem(), nil)
	return d, nil
}

// err is everything that was found, nil when all is well.
func (d *document) err() error { return newErrors(d.file, d.text, d.problems) }

// syntaxProblem is the one problem of a file that is no YAML.
func syntaxProblem(err error) Problem {
	var at *yaml.LoadError
	if !errors.As(err, &at) {
		return Problem{1, 1, "this is no YAML: " + err.Error()}
	}
	return Problem{max(at.Mark.Line, 1), max(at.Mark.Column, 1), "this is no YAML: " + at.Message}
}

// keys name a value: keys, and numbers of elements.
type keys []string

func (p keys) in(key string) keys { return append(slices.Clip(p), key) }

func (p keys) key() string { return strings.Join(p, "\x00") }

// problem adds one at the value that path names, or, if it isn't there, at the nearest that holds it.
func (d *document) problem(p keys, format string, args ...any) {
	at := Problem{Line: 1, Column: 1}
	for ; len(p) > 0; p = p[:len(p)-1] {
		if found, ok := d.at[p.key()]; ok {
			at = found
			break
		}
	}
	at.Text = fmt.Sprintf(format, args...)
	d.problems = append(d.problems, at)
}

func (d *document) wrong(n *yaml.Node, format string, args ...any) {
	d.problems = append(d.problems, Problem{n.Line, n.Column, fmt.Sprintf(format, args...)})
}

// has says whether the file sets the value.
func (d *document) has(names ...string) bool {
	_, ok := d.at[keys(names).key()]
	return ok
}

var durationType, rateType = reflect.TypeFor[time.Duration](), reflect.TypeFor[Rate]()

// Rate is bytes per second, 0 for no bound. In a file it has a unit, like 200MiB/s, or is none.
type Rate int64

// decode stores a node into v. What doesn't fit is a problem, and v keeps its value.
func (d *document) decode(n *yaml.Node, v reflect.Value, p keys) {
	switch {
	case n.Kind == yaml.AliasNode, n.Anchor != "":
		d.wrong(n, "anchors and aliases are not read here: write the value out")
	case v.Kind() == reflect.Struct:
		d.decodeStruct(n, v, p)
	case v.Kind() == reflect.Map:
		d.decodeMap(n, v, p)
	case v.Kind() == reflect.Slice:
		d.decodeSlice(n, v, p)
	default:
		d.decodeScalar(n, v, p)
	}
}

// entries calls each for the keys of a mapping, the repeated ones left out.
func (d *document) entries(n *yaml.Node, p keys, each func(key, value *yaml.Node, p keys)) {
	if n.Kind == 0 || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return // `limits:` with nothing below it
	}
	if n.Kind != yaml.MappingNode {
		d.wrong(n, "want keys with values below %s", describe(p))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.wrong(key, "a key must be a word")
			continue
		}
		if line, twice := seen[key.Value]; twice {
			d.wrong(key, "key %q is there twice: first in line %d", key.Value, line)
			continue
		}
		seen[key.Value] = key.Line
		each(key, value, p.in(key.Value))
	}
}

func (d *document) decodeStruct(n *yaml.Node, v reflect.Value, p keys) {
	fields := map[string]int{}
	var known []string
	for i := range v.NumField() {
		if tag := v.Type().Field(i).Tag.Get("yaml"); tag != "" {
			fields[tag] = i
			known = append(known, tag)
		}
	}
	d.entries(n, p, func(key, value *yaml.Node, at keys) {
		i, ok := fields[key.Value]
		if !ok {
			d.wrong(key, "unknown key %q%s", key.Value, didYouMean(key.Value, known))
			return
		}
		d.at[at.key()] = Problem{Line: value.Line, Column: value.Column}
		if value.Kind != yaml.ScalarNode {
			d.at[at.key()] = Problem{Line: key.Line, Column: key.Column}
		}
		d.decode(value, v.Field(i), at)
	})
}

func (d *document) decodeMap(n *yaml.Node, v reflect.Value, p keys) {
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	d.entries(n, p, func(key, value *yaml.Node, at keys) {
		d.at[at.key()] = Problem{Line: key.Line, Column: key.Column}
		element := reflect.New(v.Type().Elem()).Elem()
		d.decode(value, element, at)
		v.SetMapIndex(reflect.ValueOf(key.Value), element)
	})
}

func (d *document) decodeSlice(n *yaml.Node, v reflect.Value, p keys) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.wrong(n, "%s: want a list, like [a, b]", describe(p))
		return
	}
	for i, element := range n.Content {
		at := p.in(strconv.Itoa(i))
		d.at[at.key()] = Problem{Line: element.Line, Column: element.Column}
		to := reflect.New(v.Type().Elem()).Elem()
		d.decode(element, to, at)
		v.Set(reflect.Append(v, to))
	}
}

func (d *document) decodeScalar(n *yaml.Node, v reflect.Value, p keys) {
	if n.Kind != yaml.ScalarNode {
		d.wrong(n, "%s: want one value", describe(p))
		return
	}
	if n.ShortTag() == "!!null" {
		d.wrong(n, "%s has no value: give one, or leave the key out", describe(p))
		return
	}
	var (
		err  error
		want string
	)
	switch {
	case v.Type() == durationType:
		var got time.Duration
		if got, err = time.ParseDuration(n.Value); err == nil {
			v.SetInt(int64(got))
		}
		want = "a duration, like 5s, 200ms or 1h30m"
	case v.Type() == rateType:
		var got int64
		if got, err = units.ParseRate(n.Value); err == nil {
			v.SetInt(got)
		}
		want = "bytes per second, like 200MiB/s, or none"
	case v.Kind() == reflect.String:
		v.SetString(n.Value)
	case v.Kind() == reflect.Bool:
		if n.Value != "true" && n.Value != "false" {
			err = strconv.ErrSyntax
		}
		v.SetBool(n.Value == "true")
		want = "true or false"
	default:
		var got int64
		if got, err = strconv.ParseInt(n.Value, 10, v.Type().Bits()); err == nil {
			v.SetInt(got)
		}
		want = "a whole number"
	}
	if err != nil {
		d.wrong(n, "%s: %q: want %s", describe(p), n.Value, want)
	}
}

// describe is a path as people write it: limits.poll, raft.peers[0].
func describe(p keys) string {
	var b strings.Builder
	for i, key := range p {
		_, err := strconv.Atoi(key)
		switch {
		case err == nil && i > 0:
			b.WriteString("[" + key + "]")
		case i > 0:
			b.WriteString("." + key)
		default:
			b.WriteString(key)
		}
	}
	if b.Len() == 0 {
		return "the top level"
	}
	return b.String()
}
