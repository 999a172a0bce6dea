package main

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

func jobLag(job string, lag time.Duration) *ckptferryv1.JobLag {
	return &ckptferryv1.JobLag{
		Route: "prod", Job: job, State: ckptferryv1.LagState_LAG_STATE_BEHIND, TimeLag: durationpb.New(lag),
		CheckpointLag: proto.Int64(0), BytesLag: proto.Int64(2048), Reason: "chk-8 is being copied",
	}
}

func noReplica(job string) *ckptferryv1.JobLag {
	return &ckptferryv1.JobLag{Route: "prod", Job: job, State: ckptferryv1.LagState_LAG_STATE_NO_REPLICA, Reason: "nothing yet"}
}

func TestTheLagIsOverWhenAnyJobIsOrNobodyKnows(t *testing.T) {
	const limit = 5 * time.Minute
	for name, tc := range map[string]struct {
		jobs []*ckptferryv1.JobLag
		read *ckptferryv1.ReadContext
		want []string // a part of each line
	}{
		"all within":        {jobs: []*ckptferryv1.JobLag{jobLag("a", 0), jobLag("b", limit)}},
		"one over":          {jobs: []*ckptferryv1.JobLag{jobLag("a", 0), jobLag("b", limit+1)}, want: []string{"prod/b: 5m0s: BEHIND: chk-8"}},
		"without a replica": {jobs: []*ckptferryv1.JobLag{noReplica("a"), jobLag("b", 0)}, want: []string{"prod/a: unknown: NO_REPLICA: nothing yet"}},
		"no job":            {want: []string{"no job is known"}},
		"an old answer": {
			jobs: []*ckptferryv1.JobLag{jobLag("a", 0)}, read: &ckptferryv1.ReadContext{Stale: proto.Bool(true), Agent: "dc2-a"},
			want: []string{"agent dc2-a knows no leader"},
		},
	} {
		got := lagOver(&ckptferryv1.GetReplicaLagResponse{Jobs: tc.jobs, Read: tc.read}, limit)
		if len(got) != len(tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i], tc.want[i]) {
				t.Errorf("%s: %q, want %q", name, got[i], tc.want[i])
			}
		}
	}
}

func TestLagPrintsZerosAndUnknownsApart(t *testing.T) {
	var out, notes bytes.Buffer
	a := &app{streams: streams{out: &out, err: &notes}}
	answer := &ckptferryv1.GetReplicaLagResponse{Jobs: []*ckptferryv1.JobLag{jobLag("a", 0), noReplica("b")}}
	if err := a.lag(lagFlags{clientFlags: clientFlags{output: "table"}}, &ckptferryv1.GetReplicaLagRequest{}, answer); err != nil {
		t.Fatal(err)
	}
	want := `ROUTE  JOB  STATE       TIME  CHECKPOINTS  BYTES    RPO  SOURCE  READY  REASON
prod   a    BEHIND      0s    0            2.0 KiB  -    -       -      chk-8 is being copied
prod   b    NO_REPLICA  -     -            -        -    -       -      nothing yet
`
	if out.String() != want {
		t.Errorf("printed\n%swant\n%s", out.String(), want)
	}

	out.Reset()
	if err := a.lag(lagFlags{clientFlags: clientFlags{output: "json"}}, &ckptferryv1.GetReplicaLagRequest{}, answer); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"timeLag": "0s"`, `"checkpointLag": "0"`, `"state": "LAG_STATE_NO_REPLICA"`} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("JSON lacks %s:\n%s", part, out.String())
		}
	}
}

func TestAJobThatNobodyKnowsIsNotFound(t *testing.T) {
	a := &app{streams: streams{out: &bytes.Buffer{}, err: &bytes.Buffer{}}}
	err := a.lag(lagFlags{max: time.Minute}, &ckptferryv1.GetReplicaLagRequest{Job: "nope"}, &ckptferryv1.GetReplicaLagResponse{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want %v", err, fs.ErrNotExist)
	}
	if err := a.lag(lagFlags{}, &ckptferryv1.GetReplicaLagRequest{}, &ckptferryv1.GetReplicaLagResponse{}); err != nil {
		t.Errorf("no job at all, and no limit: %v", err)
	}
}
