package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/faultfs"
	"github.com/ckptferry/ckptferry/raftstore"
)

func TestTroubleCostsOnlyItself(t *testing.T) {
	away := fmt.Errorf("namenode: %w", fsutil.ErrUnavailable)
	a, b, c := "cp/a/"+jobA, "cp/b/"+jobA, "other/c/"+jobA
	for name, tc := range map[string]struct {
		fault faultfs.Fault
		found []string // beside it
		whole bool     // it hides nothing
		says  string
		then  []string // when it is over
	}{
		"a base's root is away": {
			faultfs.Fault{Op: faultfs.List, Name: "cp", Do: faultfs.Fail(away)}, []string{c + "/chk-1"}, false, "list file:/cp: ", []string{a + "/chk-1", b + "/chk-1"}},
		"a job's directory is away": {
			faultfs.Fault{Op: faultfs.List, Name: "cp/a", Do: faultfs.Fail(away)}, []string{b + "/chk-1", c + "/chk-1"}, false, "list file:/cp/a: ", []string{a + "/chk-1"}},
		"a job's directory is not for us": {
			faultfs.Fault{Op: faultfs.List, Name: "cp/a", Do: faultfs.Fail(fs.ErrPermission)}, []string{b + "/chk-1", c + "/chk-1"}, true, "permission denied", []string{a + "/chk-1"}},
		"a JobID directory is away": {
			faultfs.Fault{Op: faultfs.List, Name: a, Do: faultfs.Fail(away)}, []string{b + "/chk-1", c + "/chk-1"}, false, "list file:/" + a, []string{a + "/chk-1"}},
		"_metadata can't be looked at": {
			faultfs.Fault{Op: faultfs.Stat, Name: a + "/chk-1/_metadata", Do: faultfs.Fail(away)}, []string{b + "/chk-1", c + "/chk-1"}, false, a + "/chk-1/_metadata", []string{a + "/chk-1"}},
		"_metadata can't be read": {
			faultfs.Fault{Op: faultfs.Open, Name: a + "/chk-1/_metadata", Do: faultfs.Fail(away)}, []string{b + "/chk-1", c + "/chk-1"}, false, a + "/chk-1/_metadata", []string{a + "/chk-1"}},
		"_metadata reads wrong": {
			faultfs.Fault{Op: faultfs.Open, Name: a + "/chk-1/_metadata", Do: faultfs.FailAt(5, fsutil.ErrCorrupt)}, []string{b + "/chk-1", c + "/chk-1"}, false, "corrupt", []string{a + "/chk-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStorage()
			for _, dir := range []string{a, b, c} {
				s.checkpoint(t, dir+"/chk-1", []string{"f"}, nil)
			}
			d := mustDiscover(t, s, nil, cp, "file:/other/{job}")
			s.fault().Inject(tc.fault)
			p := d.poll(t.Context())
			wantNames(t, "found", taken(p), tc.found...)
			if p.whole != tc.whole || !strings.Contains(p.problem(), tc.says) || p.problem() == "" {
				t.Errorf("whole %v, problem %q; want %v, %q", p.whole, p.problem(), tc.whole, tc.says)
			}
			wantNames(t, "found when it is over", take(t, d), tc.then...)
		})
	}
}

// One bad disk block must not make all other jobs of the export look as if nobody knew what they have.
func TestWhatFailsForeverInOnePlaceHidesOnlyItself(t *testing.T) {
	a, b := "cp/a/"+jobA, "cp/b/"+jobA
	for name, fault := range map[string]faultfs.Fault{
		"a job's directory": {Op: faultfs.List, Name: "cp/a"},
		"a JobID directory": {Op: faultfs.List, Name: a},
		"a _metadata":       {Op: faultfs.Open, Name: a + "/chk-1/_metadata"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStorage()
				s.checkpoint(t, a+"/chk-1", []string{"f"}, nil)
				fault.Last, fault.Do = faultfs.Forever, faultfs.Fail(fsutil.ErrUnavailable)
				s.fault().Inject(fault)
				d := mustDiscover(t, s, nil, cp)
				for i := range 5 { // there is no other job: who knows what is there
					elsewhere := i > 0 && name == "a JobID directory" // the job's own directory is listed all the same
					if p := d.poll(t.Context()); p.whole != elsewhere || p.problem() == "" {
						t.Errorf("alone: whole %v, problem %q", p.whole, p.problem())
					}
					time.Sleep(time.Second)
				}
				s.checkpoint(t, b+"/chk-1", []string{"f"}, nil)
				p := d.poll(t.Context())
				wantNames(t, "another job's", taken(p), b+"/chk-1")
				if !p.whole || p.problem() == "" {
					t.Errorf("beside another: whole %v, problem %q", p.whole, p.problem())
				}
				s.calm()
				wantNames(t, "when mended", take(t, d), a+"/chk-1")
			})
		})
	}
}

func TestABaseThatIsNotThereIsNewsOnlyBeforeItsFirstJob(t *testing.T) {
	s := newStorage()
	s.put(t, "elsewhere", nil)
	d := mustDiscover(t, s, nil, cp)
	p := d.poll(t.Context())
	if !p.whole || !strings.Contains(p.problem(), "file:/cp is not there") {
		t.Errorf("before: whole %v, %q", p.whole, p.problem())
	}
	s.checkpoint(t, "cp/a/"+jobA+"/chk-1", []string{"f"}, nil)
	first := d.poll(t.Context())
	wantNames(t, "found", taken(first), "cp/a/"+jobA+"/chk-1")
	s.remove(t, "cp")
	found := *first.found[0].found
	found.Seq = 1
	for name, d := range map[string]*discovery{"the same agent": d, "the next leader": mustDiscover(t, s, []raftstore.Found{found}, cp)} {
		if p := d.poll(t.Context()); p.whole || !strings.Contains(p.problem(), "is not any more") {
			t.Errorf("after, %s: whole %v, %q", name, p.whole, p.problem())
		}
	}
}

func TestErrorsThatHideNothing(t *testing.T) {
	for err, want := range map[error]bool{
		fs.ErrPermission: true, fsutil.ErrUnsupported: true, errUnreadable: true,
		fsutil.ErrUnavailable: false, fsutil.ErrCorrupt: false, context.DeadlineExceeded: false, errors.New("anything else"): false,
	} {
		if got := definite(fmt.Errorf("list: %w", err)); got != want {
			t.Errorf("definite(%v) = %v", err, got)
		}
	}
}
