package agent

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
)

// jobElement stands in a base for the job's name.
const jobElement = "{job}"

// What Flink calls its directories.
const (
	metadataName    = "_metadata"
	savepointPrefix = "savepoint-"
	checkpointFirst = "chk-"
)

var jobIDName = regexp.MustCompile(`^[0-9a-f]{32}$`)

// base is a place where jobs keep checkpoints: <above>/{job}/<below>, and in that JobID directories or savepoints.
type base struct {
	above fsutil.URI
	below string // "" or a name
}

// parseBase reads a base as an export has it.
func parseBase(s string) (base, error) {
	u, err := parsePlace(s)
	if err != nil {
		return base{}, err
	}
	elements := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	at := slices.Index(elements, jobElement)
	if at < 0 || strings.Count(u.Path, jobElement) != 1 || strings.Contains(u.Authority, jobElement) {
		return base{}, fmt.Errorf("%q must have %s once, as a whole element: it stands for the job's name", s, jobElement)
	}
	u.Path = "/" + strings.Join(elements[:at], "/")
	return base{above: u, below: strings.Join(elements[at+1:], "/")}, nil
}

// parsePlace reads a URI that has its scheme: a name from some working directory means nothing to a group.
func parsePlace(s string) (fsutil.URI, error) {
	u, err := fsutil.ParseURI(s)
	if err != nil {
		return u, err
	}
	if !strings.HasPrefix(strings.ToLower(s), u.Scheme+":") {
		return u, fmt.Errorf("%q: write it as Flink names it, hdfs://… or file:/…", s)
	}
	return u, nil
}

// dir is the directory of a job that has a base's JobID directories, as a name below above.
func (b base) dir(job string) string { return path.Join(job, b.below) }

// jobName says whether a directory's name can be a job's.
func jobName(s string) bool {
	return s != "" && s[0] != '.' && utf8.ValidString(s) && len(s) <= 255 && !strings.ContainsAny(s, "/\x00")
}

// checkpointID is the N of chk-N.
func checkpointID(name string) (int64, bool) {
	digits, ok := strings.CutPrefix(name, checkpointFirst)
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, ok && err == nil && n >= 0 && strconv.FormatInt(n, 10) == digits
}

// label is how people call what was found: chk-42, or a savepoint's directory.
func label(f raftstore.Found) string {
	if f.Savepoint {
		return path.Base(f.URI)
	}
	return checkpointFirst + strconv.FormatInt(f.CheckpointID, 10)
}

// checkFound refuses what no discovery records. What another datacenter says is not believed before: the replica's
// name comes from its URI.
func checkFound(f raftstore.Found) error {
	if err := f.Valid(); err != nil {
		return err
	}
	u, err := parsePlace(f.URI)
	if err != nil {
		return err
	}
	id, isCheckpoint := checkpointID(u.Base())
	switch {
	case f.Seq == 0 || f.CompletedAt.IsZero():
		return fmt.Errorf("%s: its number or its time is missing", f.URI)
	case f.Savepoint && (f.JobID != "" || !strings.HasPrefix(u.Base(), savepointPrefix)):
		return fmt.Errorf("%s is not what a savepoint's directory is", f.URI)
	case !f.Savepoint && (u.Dir().Base() != string(f.JobID) || !isCheckpoint || id != f.CheckpointID):
		return fmt.Errorf("%s is not checkpoint %d of job id %q", f.URI, f.CheckpointID, f.JobID)
	}
	return nil
}

// Takes says whether a route pulls a job of this name.
func Takes(r raftstore.Route, job string) bool { return takes(r, job) }

// takes is Takes.
func takes(r raftstore.Route, job string) bool {
	matches := func(pattern string) bool {
		ok, err := path.Match(pattern, job)
		return ok && err == nil
	}
	return (len(r.Include) == 0 || slices.ContainsFunc(r.Include, matches)) && !slices.ContainsFunc(r.Exclude, matches)
}
