package flinkmeta

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
)

// Paths in _metadata are Flink's own (o.a.f.core.fs.Path 1.20): a URI that is not percent-encoded. Two strings name one
// file when Path brings them to one form; NormalizePath is that form, and the identity of a file in this package.

// NormalizePath brings an absolute path to the form in which Flink writes it: `file:///a//b/../c/` is `file:/a/c`.
// A path without a scheme (`/a/b`) stays without one: which file system it means, only the job's configuration knows.
//
// ErrPath: empty or relative, blank at an end (Flink versions disagree on trimming), an illegal scheme, a Windows drive,
// a path that leads above the root, or text that modified UTF-8 can't hold.
func NormalizePath(s string) (string, error) {
	if plainAbsolute(s) {
		return s, nil
	}
	u, err := splitURI(s)
	if err != nil {
		return "", err
	}
	if u.path == "" && u.authority != "" {
		u.path = "/"
	}
	if !strings.HasPrefix(u.path, "/") {
		return "", fmt.Errorf("%w: %q is not absolute", ErrPath, s)
	}
	if u.path, err = cleanPath(u.path); err != nil {
		return "", fmt.Errorf("%w: %q", err, s)
	}
	return u.String(), nil
}

// ResolvePath is the file that a relative handle names: rel below dir, the absolute directory of its _metadata. Dot
// segments are resolved as URI.resolve does, so `../shared/x` leads into the job's shared directory. The result is
// normalised. Source: Path(Path parent, String child), 1.20 and 2.3.
func ResolvePath(dir, rel string) (string, error) {
	dir, err := NormalizePath(dir)
	if err != nil {
		return "", fmt.Errorf("resolve directory: %w", err)
	}
	if err := checkRelative(rel); err != nil {
		return "", err
	}
	if plainRelative(rel) {
		return joinPrefix(dir) + rel, nil
	}
	u, err := splitURI(dir)
	if err != nil {
		return "", err
	}
	base := u.path
	if u.path, err = cleanPath(u.path + "/" + strings.ReplaceAll(rel, `\`, "/")); err != nil {
		return "", fmt.Errorf("%w: %q below %q", err, rel, dir)
	}
	if u.path == base {
		return "", fmt.Errorf("%w: %q below %q is the directory itself", ErrPath, rel, dir)
	}
	return u.String(), nil
}

// uri is a path string taken apart. The authority is as written, the scheme in lower case.
type uri struct{ scheme, authority, path string }

func (u uri) String() string {
	s := u.path
	if u.authority != "" {
		s = "//" + u.authority + s
	}
	if u.scheme != "" {
		s = u.scheme + ":" + s
	}
	return s
}

// splitURI takes s apart as Path(String) does. The path part is as written and may be relative or empty.
func splitURI(s string) (uri, error) {
	if err := checkText(s); err != nil {
		return uri{}, err
	}
	var u uri
	colon, slash := strings.IndexByte(s, ':'), strings.IndexByte(s, '/')
	rest := s
	if colon >= 0 && (slash < 0 || colon < slash) {
		if !validScheme(s[:colon]) {
			return uri{}, fmt.Errorf("%w: %q does not begin with a scheme", ErrPath, s)
		}
		u.scheme, rest = strings.ToLower(s[:colon]), s[colon+1:]
	}
	if strings.HasPrefix(rest, "//") && len(rest) > 2 {
		rest = rest[2:]
		end := strings.IndexByte(rest, '/')
		if end < 0 {
			end = len(rest)
		}
		u.authority, rest = rest[:end], rest[end:]
	}
	u.path = rest
	return u, nil
}

// checkText refuses what no Flink path holds, whatever its form.
func checkText(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: it is empty", ErrPath)
	case s[0] <= ' ' || s[len(s)-1] <= ' ':
		return fmt.Errorf("%w: %q begins or ends with a blank", ErrPath, s)
	case strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s):
		return fmt.Errorf("%w: %q holds a NUL or is no Unicode text", ErrPath, s)
	}
	return nil
}

// checkRelative refuses what is not the path of a file below a directory.
func checkRelative(rel string) error {
	if err := checkText(rel); err != nil {
		return err
	}
	colon, slash := strings.IndexByte(rel, ':'), strings.IndexByte(rel, '/')
	if colon >= 0 && (slash < 0 || colon < slash) || strings.HasPrefix(rel, "//") {
		return fmt.Errorf("%w: %q is not relative", ErrPath, rel)
	}
	return nil
}

// validScheme is RFC 3986's rule, with at least two letters: `c:` is a Windows drive to Flink.
func validScheme(s string) bool {
	if len(s) < 2 {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i] | 0x20; {
		case 'a' <= c && c <= 'z' && s[i] >= 'A':
		case i > 0 && ('0' <= s[i] && s[i] <= '9' || s[i] == '+' || s[i] == '-' || s[i] == '.'):
		default:
			return false
		}
	}
	return true
}

// cleanPath resolves an absolute path's empty and dot segments. Above the root is an error: Java keeps such a `..`, a
// local file system drops it, HDFS refuses it.
func cleanPath(p string) (string, error) {
	p = strings.ReplaceAll(p, `\`, "/")
	out := make([]byte, 0, len(p))
	for _, segment := range strings.Split(p, "/") {
		switch segment {
		case "", ".":
		case "..":
			if len(out) == 0 {
				return "", fmt.Errorf("%w: it leads above the root", ErrPath)
			}
			out = out[:bytes.LastIndexByte(out, '/')]
		default:
			out = append(append(out, '/'), segment...)
		}
	}
	switch {
	case len(out) == 0:
		return "/", nil
	case out[len(out)-1] <= ' ':
		return "", fmt.Errorf("%w: it ends with a blank", ErrPath)
	}
	return string(out), nil
}

// cleanRelative resolves the dot segments of a relative path within itself: `../a/./b` is `../a/b`.
func cleanRelative(p string) (string, error) {
	if err := checkRelative(p); err != nil {
		return "", err
	}
	return path.Clean(strings.TrimPrefix(strings.ReplaceAll(p, `\`, "/"), "/")), nil
}

// splitRoot splits a normalised path into its file system (`file:`, `hdfs://ns`, or nothing) and the path there.
func splitRoot(uri string) (root, p string) {
	at := strings.IndexByte(uri, '/')
	if strings.HasPrefix(uri[at:], "//") {
		at += 2
		at += strings.IndexByte(uri[at:], '/')
	}
	return uri[:at], uri[at:]
}

// joinPrefix is what stands before a name below the normalised directory dir.
func joinPrefix(dir string) string {
	if strings.HasSuffix(dir, "/") {
		return dir
	}
	return dir + "/"
}

// plainAbsolute says that s is already what NormalizePath makes of it, by a test that is quick and may say no to a few
// that are (a blank or a letter outside of ASCII within, a segment that begins with a dot).
func plainAbsolute(s string) bool {
	colon := strings.IndexByte(s, ':')
	if colon < 2 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := 1; i < colon; i++ {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '+' && c != '-' && c != '.' {
			return false
		}
	}
	p := s[colon+1:]
	if strings.HasPrefix(p, "//") {
		p = p[2:]
		end := strings.IndexByte(p, '/')
		if end < 1 || !plainText(p[:end]) {
			return false
		}
		p = p[end:]
	}
	return len(p) > 1 && p[0] == '/' && plainRelative(p[1:])
}

// plainRelative says that s is non-empty and that resolving it below a directory is to append it.
func plainRelative(s string) bool {
	for {
		slash := strings.IndexByte(s, '/')
		if slash < 0 {
			return plainName(s)
		}
		if !plainName(s[:slash]) {
			return false
		}
		s = s[slash+1:]
	}
}

// plainName says that s is one segment of a plain path: not empty, without a dot in front, all plainText.
func plainName(s string) bool { return s != "" && s[0] != '.' && plainText(s) }

// inDir says that s is a plain name below the directory dir, which ends in a slash. Neighbours in a file mostly lie in
// one directory: what is known of one path is, with this, known of the next.
func inDir(s, dir string) bool {
	return len(s) > len(dir) && dir != "" && s[:len(dir)] == dir && strings.IndexByte(s[len(dir):], '/') < 0 && plainName(s[len(dir):])
}

// plainText says that s is printable ASCII without blanks and backslashes.
func plainText(s string) bool {
	const ones = 0x0101010101010101
	var odd uint64
	for len(s) >= 8 {
		x := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | // one load, once compiled
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		del, back := x^ones*0x7F, x^ones*'\\'
		// A byte below its subtrahend borrows into its high bit; what has that bit already is odd anyway.
		odd |= x | (x - ones*0x21) | (del - ones) | (back - ones)
		s = s[8:]
	}
	if odd&highBits != 0 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7F || c == '\\' {
			return false
		}
	}
	return true
}
