package flinkmeta_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta"
)

// stay places every file where it is.
func stay(r flinkmeta.FileRef) (flinkmeta.Placement, error) {
	return flinkmeta.Placement{Path: r.Path, Relative: r.Relative}, nil
}

// at places files by their URI; others stay.
func at(places map[string]flinkmeta.Placement) flinkmeta.Placer {
	return flinkmeta.Placer{File: func(r flinkmeta.FileRef) (flinkmeta.Placement, error) {
		if p, ok := places[r.URI]; ok {
			return p, nil
		}
		return stay(r)
	}}
}

func TestRelocatingOntoItselfGivesTheSameBytes(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, m *flinkmeta.Metadata) {
		for name, p := range map[string]flinkmeta.Placer{
			"as written":           {File: stay, Dir: func(p string) (string, error) { return p, nil }},
			"directories left out": {File: stay},
			"in another spelling": {
				File: func(r flinkmeta.FileRef) (flinkmeta.Placement, error) {
					if r.Relative {
						return flinkmeta.Placement{Path: "./" + r.Path, Relative: true}, nil
					}
					return flinkmeta.Placement{Path: strings.Replace(r.Path, ":/", ":////", 1)}, nil
				},
				Dir: func(p string) (string, error) { return p + "//", nil },
			},
		} {
			out, err := m.Relocate(f.dir, p)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out, f.b) {
				t.Errorf("%s: other bytes", name)
			}
		}
	})
}

func TestEveryFileIsAskedForOnce(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, m *flinkmeta.Metadata) {
		var asked []flinkmeta.FileRef
		_, err := m.Relocate(f.dir, flinkmeta.Placer{File: func(r flinkmeta.FileRef) (flinkmeta.Placement, error) {
			asked = append(asked, r)
			return stay(r)
		}})
		if err != nil {
			t.Fatal(err)
		}
		refs := mustRefs(t, m, f.dir)
		if len(asked) != len(refs) {
			t.Fatalf("asked %d times for %d files", len(asked), len(refs))
		}
		for i := range refs {
			if asked[i] != refs[i] {
				t.Errorf("asked for %v, Refs has %v", asked[i], refs[i])
			}
		}
	})
}

func TestOneFileGetsOneClassAndPathEverywhere(t *testing.T) {
	b := keyedFile(relative("x", 5), file(testDir+"/x", 5), file("file://"+testDir[5:]+"/x", 5))
	for _, to := range []flinkmeta.Placement{{Path: "hdfs://ns/r/x"}, {Path: "../shared/x", Relative: true}, {Path: testDir + "/x"}, {Path: "x", Relative: true}} {
		out, err := mustScan(t, b).Relocate(testDir, at(map[string]flinkmeta.Placement{testDir + "/x": to}))
		if err != nil {
			t.Fatal(err)
		}
		m := mustScan(t, out)
		files := 0
		for _, h := range m.Handles {
			if !h.IsFile() {
				continue
			}
			files++
			path, err := m.Path(h), error(nil)
			if !to.Relative {
				path, err = flinkmeta.NormalizePath(path) // a handle that is right already keeps its spelling
			}
			if err != nil || path != to.Path || h.Size != 5 || (h.Type == flinkmeta.RelativeFileHandle) != to.Relative {
				t.Errorf("placed at %v: %s %s of %d bytes, %v", to, h.Type, m.Path(h), h.Size, err)
			}
		}
		if files != 6 {
			t.Errorf("%d handles, want 6", files)
		}
	}
}

func TestASegmentKeepsItsClassAndPlaceInTheFile(t *testing.T) {
	const merged = testJob + "/shared/job_a_op_b_0_2/y"
	out, err := mustScan(t, keyedFile(segment(merged, 10, 20), file(merged, 40))).Relocate(testDir, at(map[string]flinkmeta.Placement{merged: {Path: "file:/r/y.40"}}))
	if err != nil {
		t.Fatal(err)
	}
	if want := keyedFile(segment("file:/r/y.40", 10, 20), file("file:/r/y.40", 40)); !bytes.Equal(out, want) {
		t.Error("other bytes than with that path from the beginning")
	}
}

func TestRelocateRefuses(t *testing.T) {
	const x, y = testJob + "/shared/x", testJob + "/shared/y"
	errMine := errors.New("no place for it")
	for name, tc := range map[string]struct {
		b    []byte
		p    flinkmeta.Placer
		want error
		says string
	}{
		"a segment placed relative": {keyedFile(segment(x, 0, 1)), at(map[string]flinkmeta.Placement{x: {Path: "../shared/x", Relative: true}}),
			flinkmeta.ErrNoRelativeForm, "segment of a merged file"},
		"a file of which some handle is a segment": {keyedFile(file(x, 9), segment(x, 0, 1)), at(map[string]flinkmeta.Placement{x: {Path: "x", Relative: true}}),
			flinkmeta.ErrNoRelativeForm, x},
		"two files in one place": {keyedFile(file(x, 1), file(y, 1)), at(map[string]flinkmeta.Placement{x: {Path: "file:/r/z"}, y: {Path: "file:/r/z"}}),
			flinkmeta.ErrCollision, "file:/r/z"},
		"a file in the place of one that stays":     {keyedFile(file(x, 1), file(y, 1)), at(map[string]flinkmeta.Placement{x: {Path: y}}), flinkmeta.ErrCollision, x},
		"two directories folded into one":           {keyedFile(file("file:/a/shared/x", 1), file("file:/b/shared/x", 1)), flatten(), flinkmeta.ErrCollision, "file:/b/shared/x"},
		"a path that is too long for Java":          {keyedFile(file(x, 1)), at(map[string]flinkmeta.Placement{x: {Path: "file:/" + strings.Repeat("a", 65530)}}), flinkmeta.ErrPathTooLong, "65536"},
		"a path that is too long in modified UTF-8": {keyedFile(file(x, 1)), at(map[string]flinkmeta.Placement{x: {Path: "file:/" + strings.Repeat("😀", 11000)}}), flinkmeta.ErrPathTooLong, "66006"},
		"a relative path that is too long":          {keyedFile(file(x, 1)), at(map[string]flinkmeta.Placement{x: {Path: strings.Repeat("é", 32768), Relative: true}}), flinkmeta.ErrPathTooLong, ""},
		"an absolute placement that is not":         {keyedFile(file(x, 1)), at(map[string]flinkmeta.Placement{x: {Path: "r/x"}}), flinkmeta.ErrPath, "r/x"},
		"an empty placement":                        {keyedFile(file(x, 1)), at(map[string]flinkmeta.Placement{x: {}}), flinkmeta.ErrPath, x},
		"a relative placement that is absolute":     {keyedFile(file(x, 1)), at(map[string]flinkmeta.Placement{x: {Path: "file:/r/x", Relative: true}}), flinkmeta.ErrPath, x},
		"a placement that is not Unicode":           {keyedFile(file(x, 1)), at(map[string]flinkmeta.Placement{x: {Path: "file:/r/\xff"}}), flinkmeta.ErrPath, x},
		"what the placer refuses": {keyedFile(file(x, 1)), flinkmeta.Placer{File: func(flinkmeta.FileRef) (flinkmeta.Placement, error) {
			return flinkmeta.Placement{}, errMine
		}}, errMine, x},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := mustScan(t, tc.b).Relocate(testDir, tc.p)
			if !errors.Is(err, tc.want) || out != nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%d bytes, %v; want %v, and %q in it", len(out), err, tc.want, tc.says)
			}
		})
	}
}

// flatten places every file by its last name alone.
func flatten() flinkmeta.Placer {
	return flinkmeta.Placer{File: func(r flinkmeta.FileRef) (flinkmeta.Placement, error) {
		return flinkmeta.Placement{Path: "file:/r" + r.URI[strings.LastIndex(r.URI, "/"):]}, nil
	}}
}

func TestThePathLimitIsReachedExactly(t *testing.T) {
	const x = testJob + "/shared/x"
	longest := "file:/" + strings.Repeat("a", 65535-len("file:/"))
	out, err := mustScan(t, keyedFile(file(x, 1))).Relocate(testDir, at(map[string]flinkmeta.Placement{x: {Path: longest}}))
	if err != nil {
		t.Fatal(err)
	}
	if want := keyedFile(file(longest, 1)); !bytes.Equal(out, want) {
		t.Error("other bytes than with that path from the beginning")
	}
}

func TestPathsAreWrittenInModifiedUTF8(t *testing.T) {
	const x = testJob + "/shared/x"
	for _, to := range []string{"file:/r/é/😀/x", "file:/r/x\u0001y", "hdfs://ns/ź"} {
		out, err := mustScan(t, keyedFile(file(x, 1))).Relocate(testDir, at(map[string]flinkmeta.Placement{x: {Path: to}}))
		if err != nil {
			t.Fatal(err)
		}
		if want := keyedFile(file(to, 1)); !bytes.Equal(out, want) { // the test's writer encodes on its own
			t.Errorf("%q: other bytes than with that path from the beginning", to)
		}
	}
}

func TestTheDirectoriesOfMergedFilesAreMovedToo(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, m *flinkmeta.Metadata) {
		if strings.Contains(f.name, "filemerging") != (len(m.Dirs) > 0) {
			t.Fatalf("%d directories", len(m.Dirs))
		}
		asked := map[string]int{}
		out, err := m.Relocate(f.dir, flinkmeta.Placer{File: stay, Dir: func(p string) (string, error) {
			asked[p]++
			return strings.Replace(p, "file:/dc-a", "hdfs://ns", 1), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		moved := mustScan(t, out)
		for i, d := range m.Dirs {
			if asked[d.Path] != 1 {
				t.Errorf("asked %d times for %s", asked[d.Path], d.Path)
			}
			if got, want := moved.Dirs[i], strings.Replace(d.Path, "file:/dc-a", "hdfs://ns", 1); got.Path != want || got.Shared != d.Shared || got.Subtask != d.Subtask {
				t.Errorf("directory %+v, want %s", got, want)
			}
		}
		if _, err := m.Relocate(f.dir, flinkmeta.Placer{File: stay, Dir: func(string) (string, error) { return "r", nil }}); len(m.Dirs) > 0 && !errors.Is(err, flinkmeta.ErrPath) {
			t.Errorf("a relative directory: %v", err)
		}
	})
}
