package fsutil

import (
	"fmt"
	"io/fs"
	"strings"
)

// maxElementBytes is the longest element of a name. Linux file systems and HDFS (dfs.namenode.fs-limits.
// max-component-length) agree on it.
const maxElementBytes = 255

// checkName refuses what is no name below root, before it reaches a file system. op is the verb of the message.
func checkName(op string, root URI, name string) error {
	why := ""
	switch {
	case name == "":
		why = "an empty name"
	case strings.ContainsRune(name, 0):
		why = "a NUL byte in the name"
	case !fs.ValidPath(name):
		why = "not a relative, slash-separated UTF-8 name without empty, \".\" and \"..\" elements"
	default:
		for element := range strings.SplitSeq(name, "/") {
			if len(element) > maxElementBytes {
				why = fmt.Sprintf("%q has %d bytes, and 255 are the most between two slashes", element[:16]+"…", len(element))
			}
		}
	}
	if why == "" {
		return nil
	}
	return fmt.Errorf("%s %q below %s: %s: %w", op, name, root, why, fs.ErrInvalid)
}

// checkEntry is checkName for what creates, moves or removes a name: the root itself isn't touched by those.
func checkEntry(op string, root URI, name string) error {
	if name == "." {
		return fmt.Errorf("%s %q below %s: the root itself: %w", op, name, root, fs.ErrInvalid)
	}
	return checkName(op, root, name)
}

// ReadOnly hides that fsys can write, also from a type assertion.
func ReadOnly(fsys FS) ReadFS { return readOnly{fsys} }

type readOnly struct{ ReadFS }
