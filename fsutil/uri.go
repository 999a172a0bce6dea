package fsutil

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

// URI names a place as Flink does: scheme, authority and an absolute path that is not percent-encoded. The zero
// URI names nothing. Two URIs are the same place by == : ParseURI brings every spelling of one place to one form.
// Source: Flink org.apache.flink.core.fs.Path 1.20 (initialize, normalizePath, toString).
type URI struct {
	Scheme    string // "file", "hdfs", ...; lower case
	Authority string // "host:port" or a nameservice; empty for file
	Path      string // absolute, cleaned: no "//", ".", "..", no trailing slash but for the root
}

// ParseURI reads a URI as a person or Flink writes it: `file:/a`, `file:///a`, `hdfs://ns/a`, or a local path (a
// relative one is taken from the working directory). Dot segments are resolved, as Flink's Path does.
func ParseURI(s string) (URI, error) {
	if s == "" {
		return URI{}, fmt.Errorf("parse URI: empty: name a directory, file:/… or hdfs://…")
	}
	if strings.ContainsRune(s, 0) {
		return URI{}, fmt.Errorf("parse URI %q: contains a NUL byte", s)
	}
	scheme, rest, ok := cutScheme(s)
	if !ok {
		abs, err := filepath.Abs(s)
		if err != nil {
			return URI{}, fmt.Errorf("parse URI %q: %w", s, err)
		}
		return URI{Scheme: "file", Path: path.Clean(filepath.ToSlash(abs))}, nil
	}
	u := URI{Scheme: scheme}
	if after, has := strings.CutPrefix(rest, "//"); has {
		slash := strings.IndexByte(after, '/')
		if slash < 0 {
			slash = len(after)
		}
		u.Authority, rest = after[:slash], after[slash:]
	}
	switch {
	case rest == "":
		rest = "/"
	case rest[0] != '/':
		return URI{}, fmt.Errorf("parse URI %q: the path after %q must start with a slash (a local file with a colon in its name is ./%s)", s, scheme+":", s)
	}
	if scheme == "file" && u.Authority != "" {
		return URI{}, fmt.Errorf("parse URI %q: a file URI names no host (found %q): write file:/%s%s", s, u.Authority, u.Authority, path.Clean(rest))
	}
	u.Path = path.Clean(rest)
	return u, nil
}

// cutScheme splits "scheme:rest" by RFC 3986's rule for schemes; "a/b:c" has none.
func cutScheme(s string) (scheme, rest string, ok bool) {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'):
		case c == ':' && i > 0:
			return strings.ToLower(s[:i]), s[i+1:], true
		default:
			return "", s, false
		}
	}
	return "", s, false
}

// String is the URI as Flink writes it in _metadata: one slash where there is no authority (`file:/a`).
func (u URI) String() string {
	if u == (URI{}) {
		return ""
	}
	if u.Authority == "" {
		return u.Scheme + ":" + u.Path
	}
	return u.Scheme + "://" + u.Authority + u.Path
}

// Join is the place `name` below u. Dot segments in name are resolved and may lead above u: check with Rel.
func (u URI) Join(name string) URI {
	u.Path = path.Join(u.Path, name)
	return u
}

// Dir is the parent of u; the root is its own parent.
func (u URI) Dir() URI {
	u.Path = path.Dir(u.Path)
	return u
}

// Base is the last element of the path, "/" for the root.
func (u URI) Base() string { return path.Base(u.Path) }

// Rel is the name of v below u ("." for u itself), and whether v is u or lies below it.
func (u URI) Rel(v URI) (string, bool) {
	if u.Scheme != v.Scheme || u.Authority != v.Authority {
		return "", false
	}
	if u.Path == v.Path {
		return ".", true
	}
	prefix := u.Path
	if prefix != "/" {
		prefix += "/"
	}
	return strings.CutPrefix(v.Path, prefix)
}
