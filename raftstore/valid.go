package raftstore

import (
	"fmt"
	"path"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// What the state accepts from people and from other datacenters. Valid is exported for those who would rather say what
// is wrong before they propose it; apply asks it again.
const (
	maxNameBytes  = 64   // of an export, a route, a datacenter
	maxJobBytes   = 255  // a directory's name
	maxURIBytes   = 4096 // so that one command holds some
	maxWordsBytes = 2048 // of a reason, a detail, an actor
	jobElement    = "{job}"
	nameLetters   = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
)

// Valid returns ErrInvalid with what is missing or contradicts itself, nil for an export that the state accepts.
func (e Export) Valid() error {
	if err := validName("export", e.Name); err != nil {
		return err
	}
	if len(e.Bases) == 0 {
		return fmt.Errorf("%w: export %s has no base", ErrInvalid, e.Name)
	}
	for _, base := range e.Bases {
		if err := validURI(base); err != nil {
			return fmt.Errorf("%w: base of export %s: %v", ErrInvalid, e.Name, err)
		}
		if strings.Count(base, jobElement) != 1 || strings.Count(uriPath(base)+"/", "/"+jobElement+"/") != 1 {
			return fmt.Errorf("%w: base %s of export %s: it needs the path element %s once", ErrInvalid, base, e.Name, jobElement)
		}
	}
	for _, place := range e.AlsoReadable {
		if err := validURI(place); err != nil {
			return fmt.Errorf("%w: also_readable of export %s: %v", ErrInvalid, e.Name, err)
		}
		if strings.Contains(place, jobElement) {
			return fmt.Errorf("%w: also_readable %s of export %s: %s belongs to bases", ErrInvalid, place, e.Name, jobElement)
		}
	}
	for _, dc := range e.To {
		if err := validName("datacenter", dc); err != nil {
			return fmt.Errorf("export %s: %w", e.Name, err)
		}
	}
	return nil
}

// Valid returns ErrInvalid with what is missing or contradicts itself, nil for a route that the state accepts.
func (r Route) Valid() error {
	if err := validName("route", r.Name); err != nil {
		return err
	}
	if err := validName("datacenter", r.FromDC); err != nil {
		return fmt.Errorf("route %s: %w", r.Name, err)
	}
	if err := validName("export", r.FromExport); err != nil {
		return fmt.Errorf("route %s: %w", r.Name, err)
	}
	if err := validURI(r.Root); err != nil {
		return fmt.Errorf("%w: root of route %s: %v", ErrInvalid, r.Name, err)
	}
	for _, patterns := range [][]string{r.Include, r.Exclude} {
		for _, p := range patterns {
			if _, err := path.Match(p, ""); err != nil || p == "" {
				return fmt.Errorf("%w: route %s: %q is not a pattern of job names", ErrInvalid, r.Name, p)
			}
		}
	}
	switch {
	case r.Mode < RouteContinuous || r.Mode > RouteOnDemand:
		return fmt.Errorf("%w: route %s has the unknown mode %d", ErrInvalid, r.Name, int32(r.Mode))
	case r.Keep < 0:
		return fmt.Errorf("%w: route %s keeps %d replicas", ErrInvalid, r.Name, r.Keep)
	case r.KeepFor < 0 || r.KeepDaily < 0 || r.KeepSavepoints < 0 || r.Grace < 0:
		return fmt.Errorf("%w: route %s keeps replicas for %s, of %d days, and %d savepoints, with a grace of %s: want 0 or more of each",
			ErrInvalid, r.Name, r.KeepFor, r.KeepDaily, r.KeepSavepoints, r.Grace)
	case r.BytesPerSecond < 0:
		return fmt.Errorf("%w: route %s has a rate of %d bytes per second: want 0 (none) or more", ErrInvalid, r.Name, r.BytesPerSecond)
	}
	return nil
}

// Valid returns ErrInvalid with what is missing or contradicts itself, nil for a checkpoint that the state accepts. It
// does not look at the seq, which is the state's to give.
func (f Found) Valid() error {
	switch {
	case !validJob(f.Job):
		return fmt.Errorf("%w: found checkpoint %.200q: its job's name %.200q is not that of a directory", ErrInvalid, f.URI, f.Job)
	case !validJobID(f.JobID) && (f.JobID != "" || !f.Savepoint):
		return fmt.Errorf("%w: found checkpoint %.200q of job %s: its job id %.200q is not 32 hexadecimal digits", ErrInvalid, f.URI, f.Job, f.JobID)
	case f.CheckpointID < 0 || f.Files < 0 || f.Bytes < 0:
		return fmt.Errorf("%w: found checkpoint %.200q of job %s has a negative id or size", ErrInvalid, f.URI, f.Job)
	case !f.CompletedAt.IsZero() && !storable(f.CompletedAt):
		return fmt.Errorf("%w: found checkpoint %.200q of job %s: completed time is out of range", ErrInvalid, f.URI, f.Job)
	}
	if err := validURI(f.URI); err != nil {
		return fmt.Errorf("%w: found checkpoint of job %s: %v", ErrInvalid, f.Job, err)
	}
	return nil
}

// storable says whether a timestamp message can hold the time.
func storable(t time.Time) bool { return t.Year() >= 1 && t.Year() <= 9999 }

// validName accepts what is safe in a file name, in a log line and in a certificate.
func validName(what, name string) error {
	ok := name != "" && len(name) <= maxNameBytes && !strings.ContainsAny(name[:1], "._-") && strings.Trim(name, nameLetters) == ""
	if !ok {
		return fmt.Errorf("%w: %s name %.100q: use 1 to %d letters, digits, dots, dashes and underscores, a letter or digit first",
			ErrInvalid, what, name, maxNameBytes)
	}
	return nil
}

// validWords accepts what people and errors say, as long as a record of it stays short.
func validWords(texts ...string) error {
	for _, text := range texts {
		if len(text) > maxWordsBytes || !textual(text) {
			return fmt.Errorf("%w: %.100q is longer than %d bytes or has control characters", ErrInvalid, text, maxWordsBytes)
		}
	}
	return nil
}

// textual is printable, but may have lines.
func textual(s string) bool {
	return printable(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		return r
	}, s))
}

// validJob accepts the name of a directory: {job} stands for one.
func validJob(job string) bool {
	return job != "" && job != "." && job != ".." && len(job) <= maxJobBytes && printable(job) && !strings.Contains(job, "/")
}

func validJobID(id JobID) bool {
	return len(id) == 32 && strings.Trim(string(id), "0123456789abcdef") == ""
}

// validURI accepts scheme:/path and scheme://authority/path. Whether such a place can be is for those who go there.
func validURI(uri string) error {
	scheme, _, ok := strings.Cut(uri, ":")
	switch {
	case uri == "":
		return fmt.Errorf("it is empty: name a place as Flink does, scheme://authority/path")
	case len(uri) > maxURIBytes || !printable(uri):
		return fmt.Errorf("%.100q is longer than %d bytes or has control characters", uri, maxURIBytes)
	case !ok || scheme == "" || strings.ContainsAny(scheme, "/{") || !strings.HasPrefix(uriPath(uri), "/"):
		return fmt.Errorf("%.100q is not scheme:/path or scheme://authority/path", uri)
	}
	return nil
}

// uriPath is what follows scheme: or scheme://authority.
func uriPath(uri string) string {
	_, rest, _ := strings.Cut(uri, ":")
	if after, has := strings.CutPrefix(rest, "//"); has {
		if slash := strings.IndexByte(after, '/'); slash >= 0 {
			return after[slash:]
		}
		return ""
	}
	return rest
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}
