package metrics

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// fenced has dc9 promote a job of export mine, or end that.
func (f *fixture) fenced(job string, lifted bool) {
	f.propose(&raftv1.Command{Op: &raftv1.Command_PutExport{PutExport: &raftv1.PutExport{Export: raftstore.ExportMessage(
		raftstore.Export{Name: "mine", Bases: []string{"file:/cp/{job}"}, To: []string{"dc9"}})}}})
	f.propose(&raftv1.Command{Op: &raftv1.Command_FenceJobs{FenceJobs: &raftv1.FenceJobs{Export: "mine", Datacenter: "dc9", Jobs: []*ckptferryv1.FencedJob{
		{Job: job, Epoch: 1, PromotedTime: timestamppb.New(time.Now()), Lifted: lifted}}}}})
}

func TestFencedJobsAreToldUntilTheyAreNoMore(t *testing.T) {
	inGroup(t, func(t *testing.T, f *fixture) {
		told := func(fenced, running string) {
			t.Helper()
			f.compare(`# HELP ckptferry_fenced_jobs Jobs of an export that another datacenter has promoted: they must not run here.
# TYPE ckptferry_fenced_jobs gauge
ckptferry_fenced_jobs{datacenter="dc9",export="mine"} `+fenced+`
# HELP ckptferry_fenced_jobs_running Fenced jobs of which a checkpoint was completed here after the promotion: two lives of one job.
# TYPE ckptferry_fenced_jobs_running gauge
ckptferry_fenced_jobs_running{datacenter="dc9",export="mine"} `+running+`
`, "ckptferry_fenced_jobs", "ckptferry_fenced_jobs_running")
		}
		f.compare("", "ckptferry_fenced_jobs", "ckptferry_fenced_jobs_running")
		f.fenced("orders", false)
		f.fenced("pay", false)
		told("2", "0")
		time.Sleep(time.Minute)
		synctest.Wait()
		found := raftstore.Found{Job: "pay", JobID: raftstore.JobID(jobIDs["orders"]), CheckpointID: 7, MetadataCRC: 7, URI: "file:/cp/pay/" + jobIDs["orders"] + "/chk-7", CompletedAt: time.Now()}
		f.propose(&raftv1.Command{Op: &raftv1.Command_RecordFound{RecordFound: &raftv1.RecordFound{Export: "mine", Found: []*ckptferryv1.FoundCheckpoint{raftstore.FoundMessage(found)}}}})
		told("2", "1")
		f.fenced("orders", true)
		f.fenced("pay", true)
		told("0", "0")
	})
}
