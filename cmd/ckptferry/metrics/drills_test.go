package metrics

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/prometheus/client_golang/prometheus/testutil"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// drilled records a drill of that job, which has just begun.
func (f *fixture) drilled(route, job string, level int32, passed bool) {
	f.propose(&raftv1.Command{Op: &raftv1.Command_RecordDrill{RecordDrill: &raftv1.RecordDrill{Drill: &ckptferryv1.Drill{
		Key: &ckptferryv1.CheckpointKey{Route: route, JobId: jobIDs["orders"], CheckpointId: 1, MetadataCrc32C: 1}, Job: job,
		Level: level, Passed: passed, Detail: "seen", StartedTime: timestamppb.New(time.Now()),
	}}}})
}

func TestTheAgeIsThatOfTheNewestDrillThatPassed(t *testing.T) {
	inGroup(t, func(t *testing.T, f *fixture) {
		f.drilled("prod", "orders", 1, true)
		f.drilled("gone", "orders", 1, true)
		time.Sleep(time.Minute)
		synctest.Wait()
		f.drilled("prod", "orders", 3, true)
		time.Sleep(time.Minute)
		synctest.Wait()
		f.drilled("prod", "orders", 2, false)
		f.drilled("prod", "pay", 1, false)
		want := `# HELP ckptferry_drill_age_seconds Time since the beginning of the newest drill of the job that passed; level says how far it went. Nothing before the first.
# TYPE ckptferry_drill_age_seconds gauge
ckptferry_drill_age_seconds{job="orders",level="3",route="prod"} 60
`
		if err := testutil.GatherAndCompare(registry(f.cfg, newLeaderChanges()), strings.NewReader(want), "ckptferry_drill_age_seconds"); err != nil {
			t.Error(err)
		}
	})
}
