package fsutil

import (
	"path"
	"path/filepath"
)

// Canonical resolves symbolic links in a file URI, so that two names of one local directory compare equal. Elements
// that aren't there yet are kept as they are. URIs of other schemes come back unchanged.
func Canonical(u URI) URI {
	if u.Scheme != "file" {
		return u
	}
	rest := ""
	for p := u.Path; ; p = path.Dir(p) {
		if real, err := filepath.EvalSymlinks(filepath.FromSlash(p)); err == nil {
			return URI{Scheme: "file", Path: path.Join(filepath.ToSlash(real), rest)}
		}
		if p == "/" {
			return u
		}
		rest = path.Join(path.Base(p), rest)
	}
}
