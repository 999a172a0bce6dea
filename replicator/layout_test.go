package replicator

import (
	"path"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ckptferry/ckptferry/fsutil"
)

// somePlace draws URIs out of few names, so that they meet.
func somePlace(t *rapid.T) fsutil.URI {
	elem := rapid.SampledFrom([]string{jobA, jobB, "cp", "old", "shared", "taskowned", "chk-5", "chk-6", "job_x_op_y", "dstl", "external", "a.b", "é ü"})
	u := fsutil.URI{
		Scheme:    rapid.SampledFrom([]string{"file", "hdfs", "ent"}).Draw(t, "scheme"),
		Authority: "",
		Path:      "/" + strings.Join(rapid.SliceOfN(elem, 1, 6).Draw(t, "path"), "/"),
	}
	if u.Scheme == "hdfs" {
		u.Authority = rapid.SampledFrom([]string{"ns", "nn:8020"}).Draw(t, "authority")
	}
	return u
}

func someLayout(t *rapid.T) layout {
	base := somePlace(t)
	return newLayout(base.Join(rapid.SampledFrom([]string{jobA + "/chk-5", jobA + "/chk-6", "chk-5", "my-job/chk-5", "savepoint-1"}).Draw(t, "checkpoint")))
}

func TestEveryFileHasAPlaceOfItsOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := someLayout(t)
		if rapid.Bool().Draw(t, "has alias") {
			l.alias = somePlace(t)
		}
		at := map[string]fsutil.URI{}
		for range 30 {
			u := somePlace(t)
			target, err := l.place(u)
			if err != nil {
				t.Fatal(err)
			}
			// What lies below the alias is the same as what lies below the base: that is what the alias says.
			if rest, ok := l.alias.Rel(u); ok && rest != "." {
				if _, own := l.base.Rel(u); !own {
					u = l.base.Join(rest)
				}
			}
			if other, taken := at[target]; taken && other != u {
				// Only who looks as if we had placed it can meet what we have placed; a plan refuses that.
				if !strings.Contains(u.Path+other.Path, "/external/") {
					t.Fatalf("%s and %s are both placed at %s", u, other, target)
				}
			}
			at[target] = u
			if path.Clean(target) != target || strings.HasPrefix(target, "../") || path.IsAbs(target) || strings.HasPrefix(target, ownDir) {
				t.Fatalf("%s is placed at %s", u, target)
			}
		}
	})
}

func TestCheckpointsOfOneJobGiveAFileTheSamePlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := somePlace(t)
		a, b := newLayout(base.Join(jobA+"/chk-5")), newLayout(base.Join(jobA+"/chk-6"))
		u := somePlace(t)
		if rapid.Bool().Draw(t, "below") {
			u = base.Join(jobA + u.Path)
		}
		first, err1 := a.place(u)
		second, err2 := b.place(u)
		if first != second || err1 != nil || err2 != nil {
			t.Fatalf("%s is placed at %s and %s: %v, %v", u, first, second, err1, err2)
		}
	})
}

func TestADirectoryIsPlacedWhereItsFilesAre(t *testing.T) {
	for _, dir := range []string{
		"file:/cp/" + jobA + "/shared/job_x_op_y_0_1", "file:/old/" + jobB + "/shared/job_x_op_y_0_1",
		"file:/old/shared/job_x_op_y_0_1", "file:/old/taskowned/job_x_tm_y", "hdfs://ns/shared/old/shared/job_x_op_y_0_1",
	} {
		l := newLayout(mustURI("file:/cp/" + jobA + "/chk-5"))
		d, err1 := l.place(mustURI(dir))
		f, err2 := l.place(mustURI(dir + "/f"))
		if err1 != nil || err2 != nil || f != d+"/f" {
			t.Errorf("%s: the directory is at %s and its file at %s: %v, %v", dir, d, f, err1, err2)
		}
	}
}

func TestRelativeNamesLeadFromTheCheckpointToTheFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, name := strings.TrimPrefix(somePlace(t).Path, "/"), strings.TrimPrefix(somePlace(t).Path, "/")
		if rel := relativeTo(dir, name); path.Join(dir, rel) != name || path.IsAbs(rel) {
			t.Fatalf("from %s to %s: %s", dir, name, rel)
		}
	})
}

func TestMapsTryTheLongestPrefixFirstAndLeadBack(t *testing.T) {
	m := func(from, to string) PrefixMap { return PrefixMap{From: mustURI(from), To: mustURI(to)} }
	maps := PrefixMaps{m("file:/dc-a", "file:/mnt/a"), m("file:/dc-a/b", "hdfs://ns/b"), m("hdfs://dc-a", "hdfs://nn:8020/root")}
	for named, reached := range map[string]string{
		"file:/dc-a/x":    "file:/mnt/a/x",
		"file:/dc-a":      "file:/mnt/a",
		"file:/dc-a/b/x":  "hdfs://ns/b/x",
		"file:/dc-a/bb/x": "file:/mnt/a/bb/x",
		"file:/dc-ab/x":   "file:/dc-ab/x",
		"hdfs://dc-a/x":   "hdfs://nn:8020/root/x",
		"hdfs://dc-b/x":   "hdfs://dc-b/x",
		"ent:/dc-a/x":     "ent:/dc-a/x",
	} {
		if got := maps.Reached(mustURI(named)); got != mustURI(reached) {
			t.Errorf("%s is reached at %s, want %s", named, got, reached)
		}
		if got := maps.Named(mustURI(reached)); got != mustURI(named) {
			t.Errorf("%s is named %s, want %s", reached, got, named)
		}
	}
}
