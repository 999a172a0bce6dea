package replicator

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ckptferry/ckptferry/fsutil"
)

// ownDir holds ckptferry's own files below a replica's root. It lies outside of every chk-N: an extra file in there
// would keep Flink from removing the directory of a checkpoint that it claimed (the delete is not recursive).
const ownDir = ".ckptferry"

var (
	chkName = regexp.MustCompile(`^chk-[0-9]+$`)
	jobID   = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// layout decides where each file of one checkpoint lies below the replica's root. It is pure and does not depend on
// which other files the checkpoint has, so a shared file gets the same place from every checkpoint of a job.
type layout struct {
	// dir is the checkpoint's directory and base the directory that holds the job's directory, both as _metadata
	// names them. What lies below base keeps its place.
	dir, base fsutil.URI
	// alias is another name that _metadata has for base (say, a nameservice where we came by host:port); zero: none.
	alias fsutil.URI
}

// newLayout reads off the checkpoint's directory where its base is: `<base>/<job>/chk-N` for a checkpoint, or
// `<base>/savepoint-…` for anything that doesn't lie in a job's directory.
func newLayout(dir fsutil.URI) layout {
	parent := dir.Dir()
	if chkName.MatchString(dir.Base()) || jobID.MatchString(parent.Base()) {
		return layout{dir: dir, base: parent.Dir()}
	}
	return layout{dir: dir, base: parent}
}

// flinks is the directory that Flink was given to write in: the base, or with create-subdir=false the directory above
// chk-N, beside which there may be anything.
func (l layout) flinks() fsutil.URI {
	if parent := l.dir.Dir(); chkName.MatchString(l.dir.Base()) && !jobID.MatchString(parent.Base()) {
		return parent
	}
	return l.base
}

// name is the replica's name below the root: "<job>/chk-42" or "savepoint-…".
func (l layout) name() string {
	rel, _ := l.base.Rel(l.dir)
	return rel
}

// top is the first element of name: the directory that holds all files of the job.
func (l layout) top() string {
	first, _, _ := strings.Cut(l.name(), "/")
	return first
}

// split says under which prefix a file (or directory) lies, and its name below that. Prefixes are the base, its alias,
// and for everything else what comes before the job id in the path (a changelog root, an older job's base, an entropy
// directory). Without a job id it is what comes before Flink's own directories, or the file's directory.
func (l layout) split(u fsutil.URI) (prefix fsutil.URI, rest string) {
	for _, b := range []fsutil.URI{l.base, l.alias} {
		if b == (fsutil.URI{}) {
			continue
		}
		if rest, ok := b.Rel(u); ok && rest != "." {
			return b, rest
		}
	}
	elems := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	last := len(elems) - 1
	begins := slices.IndexFunc(elems[:last], jobID.MatchString)
	for i := last - 1; begins < 0 && i >= max(0, last-2); i-- {
		if isFlinkDir(elems[i]) {
			begins = i
		}
	}
	if begins < 0 {
		begins = last
	}
	u.Path = "/" + strings.Join(elems[:begins], "/")
	return u, strings.Join(elems[begins:], "/")
}

// isFlinkDir says whether Flink gives this name to a directory in a job's directory, right above its files or, where
// files are merged, one above that.
func isFlinkDir(name string) bool {
	return name == "shared" || name == "taskowned" || chkName.MatchString(name)
}

// place is the name below the replica's root of the file (or directory) u. Two different URIs never get one name:
// below the base names are kept, and each other prefix has a directory of its own, told apart by a digest.
func (l layout) place(u fsutil.URI) (string, error) {
	prefix, rest := l.split(u)
	if prefix != l.base && prefix != l.alias {
		return path.Join(l.top(), "external", label(prefix), rest), nil
	}
	if first, _, _ := strings.Cut(rest, "/"); first == ownDir {
		return "", refuse("%s lies in a directory that ckptferry keeps for itself", u)
	}
	return rest, nil
}

// placeSegmented is the name of a merged file of which `need` bytes are copied. The length is part of the name,
// since Flink may append to the file for later checkpoints (FLIP-306, across-checkpoint-boundary) while a replica's
// files never change.
func placeSegmented(name string, need int64) string {
	return name + "." + strconv.FormatInt(need, 10)
}

var unsafeInLabel = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// label names a prefix as one path element: readable, and unique by a digest.
func label(prefix fsutil.URI) string {
	readable := strings.Trim(unsafeInLabel.ReplaceAllString(prefix.Base(), "_"), "._")
	if len(readable) > 32 {
		readable = readable[:32]
	}
	if readable == "" {
		readable = prefix.Scheme
	}
	sum := sha256.Sum256([]byte(prefix.String()))
	return readable + "-" + hex.EncodeToString(sum[:6])
}

// own is the name of one of ckptferry's own files for this replica: own("manifest", ".jsonl") and so on.
func own(kind, replica, suffix string) string { return path.Join(ownDir, kind, replica) + suffix }
