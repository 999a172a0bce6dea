package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/ckptferry/ckptferry/fsutil/faultfs"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

func foundNamed(job string) *checkpoint {
	f := chkAt(1, 0)
	f.Seq, f.Job = 0, job
	return &checkpoint{job: job, uri: mustURI(f.URI), found: &f}
}

func inSource(t *testing.T, test func(t *testing.T, tm *term, s *state)) {
	synctest.Test(t, func(t *testing.T) {
		s := newState(t)
		s.do(&raftv1.Command{Op: &raftv1.Command_PutExport{PutExport: &raftv1.PutExport{Export: raftstore.ExportMessage(
			raftstore.Export{Name: "out", Bases: []string{cp}, To: []string{"dc3"}})}}})
		a, err := New(Config{ID: "a", Datacenter: "dc2", Group: s.store, Stores: newStorage()})
		if err != nil {
			t.Fatal(err)
		}
		test(t, &term{agent: a, cfg: a.cfg}, s)
	})
}

func TestWhatTheStateRefusesIsLeftOutAndTheRestNumberedInOrder(t *testing.T) {
	inSource(t, func(t *testing.T, tm *term, s *state) {
		var found []*checkpoint
		for i := range 300 {
			found = append(found, foundNamed(fmt.Sprintf("job-%03d", i)))
		}
		found[7].found.Job, found[250].found.Job = "tab\there", "line\nbreak"
		err := tm.record(t.Context(), "out", found)
		if !errors.Is(err, raftstore.ErrInvalid) || strings.Count(err.Error(), "record file:") != 2 {
			t.Errorf("record = %v", err)
		}
		recorded := s.store.View().Found("out")
		if len(recorded) != 298 {
			t.Errorf("%d are recorded", len(recorded))
		}
		for i := 1; i < len(recorded); i++ {
			if recorded[i].Job <= recorded[i-1].Job {
				t.Errorf("%s comes after %s", recorded[i].Job, recorded[i-1].Job)
			}
		}
		for i, c := range found {
			if !c.recorded {
				t.Errorf("%d would be recorded again and again", i)
			}
		}
	})
}

func TestWhatCanNotBeRecordedNowIsRecordedLater(t *testing.T) {
	inSource(t, func(t *testing.T, tm *term, s *state) {
		r := &recorder{Store: s.store, fail: []error{raftstore.ErrUnknownExport}}
		tm.cfg.Group = r
		c := foundNamed("a")
		if err := tm.record(t.Context(), "out", []*checkpoint{c}); !errors.Is(err, raftstore.ErrUnknownExport) || c.recorded {
			t.Errorf("record = %v, recorded %v", err, c.recorded)
		}
		if err := tm.record(t.Context(), "out", []*checkpoint{c}); err != nil || !c.recorded {
			t.Errorf("record = %v, recorded %v", err, c.recorded)
		}
	})
}

func TestAPollThatDoesNotEndIsSaid(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.chk(1)
		w.until("chk-1 is READY", w.is("orders/chk-1 READY 1"))
		at, problem := w.dc1.agent.Polled("prod")
		if at.IsZero() || problem != "" {
			t.Errorf("Polled = %v, %q", at, problem)
		}
		w.dc1.storage.fault().Inject(faultfs.Fault{Op: faultfs.List, Last: faultfs.Forever, Do: faultfs.Freeze()}) // as a frozen namenode does
		time.Sleep(20 * time.Second)
		later, problem := w.dc1.agent.Polled("prod")
		if later.Sub(at) > 2*time.Second || !strings.Contains(problem, "under way for") {
			t.Errorf("Polled = %v after %v, %q", later, at, problem)
		}
		if _, problem := w.dc1.agent.Polled("unknown"); problem != "" {
			t.Errorf("of an unknown export: %q", problem)
		}
	})
}

func TestConfigurationsThatCanNotBe(t *testing.T) {
	good := Config{ID: "a", Datacenter: "dc1", Group: &recorder{}, Stores: newStorage()}
	if a, err := New(good); err != nil || a.cfg.Poll != DefaultPoll || a.cfg.Parallel != DefaultParallel || a.cfg.SilentAfter != DefaultSilentAfter {
		t.Errorf("New = %+v, %v", a, err)
	}
	for name, change := range map[string]func(*Config){
		"no id":      func(c *Config) { c.ID = "" },
		"no group":   func(c *Config) { c.Group = nil },
		"no stores":  func(c *Config) { c.Stores = nil },
		"a poll < 0": func(c *Config) { c.Poll = -1 },
		"copies < 0": func(c *Config) { c.Parallel = -1 },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRunEndsWithAnErrorOnlyIfTheGroupDoes(t *testing.T) {
	broken := errors.New("the store is closed")
	a, err := New(Config{ID: "a", Datacenter: "dc1", Group: &overGroup{err: broken}, Stores: newStorage()})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("Run = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Run(ctx); err != nil {
		t.Errorf("Run = %v after its context ended", err)
	}
}

// overGroup is a group that is over.
type overGroup struct {
	recorder
	err error
}

func (f *overGroup) View() raftstore.View     { return raftstore.View{} }
func (f *overGroup) Changed() <-chan struct{} { return nil }

func (f *overGroup) WhileLeader(context.Context, func(context.Context, uint64) error) error {
	return f.err
}

func TestReasonsFitTheState(t *testing.T) {
	long := short("first line\n  second\tline " + strings.Repeat("ü", reasonBytes) + "\xff")
	if !strings.HasPrefix(long, "first line second line üü") || len(long) > reasonBytes+3 || !utf8.ValidString(long) || !strings.HasSuffix(long, "…") {
		t.Errorf("short gives %d bytes: %.40q", len(long), long)
	}
	many := make([]string, 50)
	if got := few(many); len(got) != warningsMost || got[warningsMost-1] != "and 31 more" {
		t.Errorf("few = %q", got)
	}
	if got := few(many[:warningsMost]); len(got) != warningsMost {
		t.Errorf("few = %q", got)
	}
}
