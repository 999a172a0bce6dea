//go:build e2e

package e2e

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/e2e/lab/flinklab"
	"github.com/ckptferry/ckptferry/e2e/lab/hdfslab"
)

// place is a directory that a datacenter keeps its files in: local, or on an HDFS cluster.
type place struct {
	cluster *hdfslab.Cluster // nil: local
	path    string
}

// below is a directory in the place.
func (p place) below(elems ...string) place {
	return place{p.cluster, path.Join(append([]string{p.path}, elems...)...)}
}

func (p place) uri() string {
	if p.cluster == nil {
		return "file://" + p.path
	}
	return p.cluster.URI() + p.path
}

// lose renames the place to where no path leads.
func (p place) lose(t *testing.T) {
	t.Helper()
	var err error
	if p.cluster == nil {
		err = os.Rename(p.path, p.path+"-lost")
	} else {
		_, err = p.cluster.Run("fs", "-mv", p.path, p.path+"-lost")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// pathOf is the path of a file that lies on the place's file system.
func (p place) pathOf(uri string) string {
	if p.cluster == nil {
		return strings.TrimPrefix(strings.TrimPrefix(uri, "file:"), "//")
	}
	return strings.TrimPrefix(uri, p.cluster.URI())
}

func (p place) read(t *testing.T, uri string) []byte {
	t.Helper()
	name := p.pathOf(uri)
	if p.cluster != nil {
		name = filepath.Join(t.TempDir(), "got")
		if _, err := p.cluster.Run("fs", "-get", p.pathOf(uri), name); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// write replaces a file.
func (p place) write(t *testing.T, uri string, content []byte) {
	t.Helper()
	name := p.pathOf(uri)
	if p.cluster != nil {
		name = filepath.Join(t.TempDir(), "put")
	}
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
	if p.cluster == nil {
		return
	}
	if _, err := p.cluster.Run("fs", "-put", "-f", name, p.pathOf(uri)); err != nil {
		t.Fatal(err)
	}
}

func (p place) remove(t *testing.T, uri string) {
	t.Helper()
	var err error
	if p.cluster == nil {
		err = os.Remove(p.pathOf(uri))
	} else {
		_, err = p.cluster.Run("fs", "-rm", "-skipTrash", p.pathOf(uri))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// conf is Flink's configuration of a job that keeps its files in the place.
func (p place) conf(conf map[string]string) []string {
	var pairs []string
	for k, v := range conf {
		pairs = append(pairs, k+"="+strings.ReplaceAll(v, "@DIR@", p.uri()))
	}
	return pairs
}

// site is two datacenters, and the Flink of one version.
type site struct {
	lab            *flinklab.Lab
	source, target place
}

// newSite is two datacenters of local directories.
func newSite(t *testing.T, version string) site {
	t.Helper()
	dir := t.TempDir()
	return site{lab: buildLab(t, version), source: place{path: filepath.Join(dir, "dc-a")}, target: place{path: filepath.Join(dir, "dc-b")}}
}

func buildLab(t *testing.T, version string) *flinklab.Lab {
	t.Helper()
	lab, err := flinklab.Build(t.Context(), version, filepath.Join(t.TempDir(), "lab"))
	if err != nil {
		t.Fatal(err)
	}
	return lab
}

// copySource fills the source with a fixture's files.
func (s site) copySource(t *testing.T, dcA string) {
	t.Helper()
	if err := os.CopyFS(s.source.path, os.DirFS(dcA)); err != nil {
		t.Fatal(err)
	}
}

// replicas is the replica root at the target.
func (s site) replicas() place { return s.target.below("replicas") }

// restore fills in what all restores have in common; the job writes its checkpoints below name.
func (s site) restore(name string, o flinklab.RestoreOptions) flinklab.RestoreOptions {
	o.Dir, o.More, o.Checkpoints, o.Interval = s.target.below(name).uri(), 500, 2, interval
	return o
}

// restoreTwice starts the job from o.Path, and again from the second checkpoint that it then took. The source is out of
// reach before. After a NO_CLAIM restore so is the replica: Flink must need it no more.
func (s site) restoreTwice(t *testing.T, o flinklab.RestoreOptions) {
	t.Helper()
	first, err := s.lab.RestoreCheck(t.Context(), s.restore("restored", o))
	if err != nil {
		t.Fatalf("first restore: %v", err)
	}
	if n := len(first.Ledger.Checkpoints); n < 2 {
		t.Fatalf("the restored job took %d checkpoints; want two", n)
	}
	if o.Mode == noClaim {
		s.replicas().lose(t)
	}
	o.Path, o.Ledger = first.Ledger.Newest().Path, first.Ledger
	if _, err := s.lab.RestoreCheck(t.Context(), s.restore("again", o)); err != nil {
		t.Fatalf("second restore, from the restored job's own checkpoint: %v", err)
	}
}

// wholeMatrix skips what is not part of every run.
func wholeMatrix(t *testing.T) {
	t.Helper()
	if os.Getenv("E2E_ALL") == "" {
		t.Skip("part of the whole matrix: set E2E_ALL=1")
	}
}
