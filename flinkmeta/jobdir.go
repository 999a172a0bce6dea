package flinkmeta

import (
	"fmt"
	"path"
	"strings"
)

// InferBase gives the directory that holds the job's directory, as _metadata names it: for
// `file:/cp/<job id>/{chk-N,shared,…}` it is `file:/cp`. dir is where _metadata lies, and need not be where the job
// wrote it: what the absolute handles say counts more. Without any (savepoints, full snapshots) dir decides.
//
// ErrNoBase: the handles name several job directories in different places, and none of them, or more than one, has the
// name of dir's parent (an entropy-injecting file system does that).
func InferBase(m *Metadata, dir string) (string, error) {
	dir, err := NormalizePath(dir)
	if err != nil {
		return "", err
	}
	jobs := m.jobDirs
	if own := ownJobDir(jobs, dir); own != "" {
		return parentDir(own), nil
	}
	if len(jobs) == 0 {
		if strings.HasPrefix(path.Base(dir), "chk-") {
			dir = parentDir(dir)
		}
		return parentDir(dir), nil
	}
	base := parentDir(jobs[0])
	for _, j := range jobs[1:] {
		if parentDir(j) != base {
			return "", fmt.Errorf("%w: handles name files of %s, which lie in different places; they have %s in common", ErrNoBase,
				listed(jobs), commonDir(jobs))
		}
	}
	return base, nil
}

// InferDir gives the directory of _metadata as the job named it: `file:/cp/<job id>/chk-N` for a _metadata that lies in
// dir now, because of a copy or a mount. Relative handles resolve against it where they are compared with absolute ones.
// It is dir itself when the handles don't tell.
func InferDir(m *Metadata, dir string) (string, error) {
	dir, err := NormalizePath(dir)
	if err != nil {
		return "", err
	}
	own := ownJobDir(m.jobDirs, dir)
	if own == "" {
		return dir, nil
	}
	name := path.Base(dir)
	switch {
	case parentDir(dir) == own || strings.HasPrefix(name, "savepoint-"):
		return dir, nil
	case !isCheckpointDir(name):
		name = fmt.Sprintf("chk-%d", m.CheckpointID)
	}
	return joinPrefix(own) + name, nil
}

// ownJobDir picks from jobs the directory of the job that dir is a checkpoint of; "" when that can't be told.
func ownJobDir(jobs []string, dir string) string {
	parent, own := parentDir(dir), ""
	for _, j := range jobs {
		if j == parent {
			return j
		}
		if path.Base(j) == path.Base(parent) {
			if own != "" {
				return ""
			}
			own = j
		}
	}
	if own == "" && len(jobs) == 1 {
		return jobs[0]
	}
	return own
}

// noteJobDir keeps the job directory of a file that an absolute, normalised path names.
func (s *scanner) noteJobDir(file string) {
	job, ok := jobDirOf(file)
	if !ok || s.seenJobs[job] {
		return
	}
	if s.seenJobs == nil {
		s.seenJobs = map[string]bool{}
	}
	s.seenJobs[job] = true
	s.m.jobDirs = append(s.m.jobDirs, job)
}

// jobDirOf is the job directory of a file in Flink's layout, <job>/{chk-N,shared,taskowned}/<file>, or with one more
// directory, job_…, where files are merged.
func jobDirOf(uri string) (string, bool) {
	root, p := splitRoot(uri)
	_, rest := lastSegment(p)
	parent, rest := lastSegment(rest)
	if strings.HasPrefix(parent, "job_") {
		parent, rest = lastSegment(rest)
	}
	if parent != "shared" && parent != "taskowned" && (!isCheckpointDir(parent) || strings.HasPrefix(parent, "savepoint-")) {
		return "", false
	}
	if rest == "" { // the root itself
		rest = "/"
	}
	return uri[:len(root)+len(rest)], true
}

// parentDir is the normalised directory above a normalised one; the root is its own parent.
func parentDir(dir string) string {
	root, p := splitRoot(dir)
	return root + path.Dir(p)
}

// commonDir is the deepest directory above all of dirs; for messages.
func commonDir(dirs []string) string {
	common := dirs[0]
	for _, d := range dirs[1:] {
		for common != d && !strings.HasPrefix(d, joinPrefix(common)) {
			up := parentDir(common)
			if up == common {
				return "nothing"
			}
			common = up
		}
	}
	return common
}

// listed writes a few of many names; for messages.
func listed(names []string) string {
	const few = 4
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
