package explain

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

func TestAParagraphSaysHowTheLastDrillWent(t *testing.T) {
	drill := func(level int32, ago time.Duration) *ckptferryv1.Drill {
		return &ckptferryv1.Drill{Key: &ckptferryv1.CheckpointKey{Route: "prod", CheckpointId: 9}, Job: "orders", Level: level, Passed: true, StartedTime: timestamppb.New(now.Add(-ago)),
			Rpo: durationpb.New(4 * time.Second), Rto: durationpb.New(31 * time.Second), Detail: "NO_CLAIM"}
	}
	bytes, flink, failed := drill(1, time.Hour), drill(3, 90*24*time.Hour), drill(2, time.Minute)
	flink.FlinkVersion = "1.20.0"
	failed.Passed, failed.Detail = false, "the drill failed: the command ended with exit status 1."
	for name, tc := range map[string]struct {
		state  ckptferryv1.LagState
		drills *ckptferryv1.JobDrills
		want   string // "": not a word
	}{
		"nobody was asked":            {},
		"never, and there is nothing": {state: ckptferryv1.LagState_LAG_STATE_NO_REPLICA, drills: &ckptferryv1.JobDrills{}},
		"never":                       {drills: &ckptferryv1.JobDrills{}, want: "It was never drilled: `ckptferry drill orders --level 1` reads every byte of its newest replica. There"},
		"passed":                      {drills: &ckptferryv1.JobDrills{Newest: bytes, NewestPassed: bytes}, want: "Last drill: level 1 with chk-9, 1h0m0s ago, passed: RPO 4s, RTO -. There"},
		"failed":                      {drills: &ckptferryv1.JobDrills{Newest: failed}, want: "Last drill: level 2 with chk-9, 1m0s ago, failed: the drill failed: the command ended with exit status 1. None has passed yet. There"},
		"failed after one that passed": {drills: &ckptferryv1.JobDrills{Newest: failed, NewestPassed: flink},
			want: "exit status 1. The last that passed: level 3 with chk-9, 90 days ago, passed: RPO 4s, RTO 31s, Flink 1.20.0. There"},
	} {
		if tc.state == 0 {
			tc.state = ckptferryv1.LagState_LAG_STATE_CAUGHT_UP
		}
		got := Job{Lag: lag(tc.state, ""), Now: now, Drills: tc.drills}.Paragraph()
		if !strings.Contains(got, tc.want) || tc.want == "" && strings.Contains(got, "drill") {
			t.Errorf("%s: %s\nwant %q", name, got, tc.want)
		}
	}
}
