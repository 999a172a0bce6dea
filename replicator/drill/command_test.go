package drill

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

var sandbox = Sandbox{
	Replica: raftstore.Replica{Job: "orders", Key: raftstore.Key{Route: "prod", JobID: "aa", CheckpointID: 7}},
	Line:    replicator.StartLine{Path: "hdfs://dc2/r/aa/chk-7", Flink: "1.20", Mode: replicator.NoClaim, Run: "flink run -s hdfs://dc2/r/aa/chk-7 -claimMode NO_CLAIM"},
	Level:   LevelCheckpoint,
}

func TestTheCommandIsToldWhatToStart(t *testing.T) {
	var errs bytes.Buffer
	started, err := Command{Timeout: 90 * time.Second, Stderr: &errs, Line: `
		echo "$CKPTFERRY_JOB $CKPTFERRY_ROUTE $CKPTFERRY_JOB_ID $CKPTFERRY_CHECKPOINT_ID $CKPTFERRY_REPLICA $CKPTFERRY_CLAIM_MODE $CKPTFERRY_START_FLINK $CKPTFERRY_LEVEL $CKPTFERRY_TIMEOUT" >&2
		echo "$CKPTFERRY_START_LINE" >&2
		echo 'flink_version=1.20.0'
		echo 'running_after=0.001'`}.Start(t.Context(), sandbox)
	if want := (Started{FlinkVersion: "1.20.0", RunningAfter: time.Millisecond}); err != nil || started != want {
		t.Errorf("Start = %+v, %v; want %+v", started, err, want)
	}
	for _, want := range []string{"orders prod aa 7 hdfs://dc2/r/aa/chk-7 NO_CLAIM 1.20 3 90\n", "flink run -s hdfs://dc2/r/aa/chk-7 -claimMode NO_CLAIM\n"} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("it was told\n%s; want\n%s", errs.String(), want)
		}
	}
}

func TestWhatTheCommandSaysOfTimeIsBelievedWithinReason(t *testing.T) {
	for _, says := range []string{"true", "echo running_after=nonsense", "echo running_after=1000", "echo running_after=-1"} {
		started, err := Command{Timeout: time.Minute, Line: says}.Start(t.Context(), sandbox)
		if err != nil || started.RunningAfter <= 0 || started.RunningAfter > 30*time.Second {
			t.Errorf("%s: Start = %+v, %v; want about how long it took", says, started, err)
		}
	}
}

func TestACommandThatFailsSaysWhy(t *testing.T) {
	for name, tc := range map[string]struct{ line, want string }{
		"its exit code":      {"exit 3", "exit status 3"},
		"its last words":     {"echo one >&2; echo 'job 1234 is FAILED' >&2; exit 1", "job 1234 is FAILED"},
		"no such command":    {"/nowhere/at-all", "exit status 127"},
		"what stays running": {"sleep 60 & exit 0", "left processes behind"},
	} {
		_, err := Command{Timeout: time.Minute, Grace: 50 * time.Millisecond, Line: tc.line}.Start(t.Context(), sandbox)
		if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: Start = %v; want %q", name, err, tc.want)
		}
	}
}

// Whatever ends it, it may clean up; and what doesn't end by itself is ended.
func TestACommandThatIsEndedCleansUp(t *testing.T) {
	for name, tc := range map[string]struct {
		timeout   time.Duration
		interrupt bool
		line      string
		want      error
		cleans    bool
	}{
		"time is up":                     {timeout: 200 * time.Millisecond, line: `trap 'touch "$DIR/clean"; exit 1' TERM; touch "$DIR/began"; sleep 60 & wait`, want: ErrFailed, cleans: true},
		"interrupted":                    {timeout: time.Minute, interrupt: true, line: `trap 'touch "$DIR/clean"; exit 1' TERM; touch "$DIR/began"; sleep 60 & wait`, want: context.Canceled, cleans: true},
		"interrupted, and does not mind": {timeout: time.Minute, interrupt: true, line: `trap '' TERM; touch "$DIR/began"; sleep 60; sleep 60`, want: context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("DIR", dir)
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			if tc.interrupt {
				go func() {
					for ctx.Err() == nil {
						if _, err := os.Stat(filepath.Join(dir, "began")); err == nil {
							interrupt()
						}
					}
				}()
			}
			began := time.Now()
			_, err := Command{Timeout: tc.timeout, Grace: 2 * time.Second, Line: tc.line}.Start(ctx, sandbox)
			if took := time.Since(began); !errors.Is(err, tc.want) || took > 30*time.Second {
				t.Errorf("Start = %v after %s; want %v", err, took, tc.want)
			}
			if _, err := os.Stat(filepath.Join(dir, "clean")); (err == nil) != tc.cleans {
				t.Errorf("cleaned up: %v; want %t", err, tc.cleans)
			}
		})
	}
}

func TestTheEndOfALongTalkIsKept(t *testing.T) {
	started, err := Command{Timeout: time.Minute, Line: `i=0; while [ $i -lt 3000 ]; do echo "$i 0123456789012345678901234567890123456789012345678901234567890123456789"; i=$((i+1)); done; echo flink_version=2.3.0`}.Start(t.Context(), sandbox)
	if err != nil || started.FlinkVersion != "2.3.0" {
		t.Errorf("Start = %+v, %v", started, err)
	}
}
