package raftstore

import (
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// Drill is a rehearsal of a failover.
type Drill struct {
	Key          Key
	Job          string
	Level        int32 // 1: all bytes readable and equal; 2: Flink runs from it; 3: and completes a checkpoint
	Passed       bool
	StartedAt    time.Time
	RPO          time.Duration // the age of the replica's checkpoint then
	RTO          time.Duration // from the beginning to a running job, for level 1 to the last byte
	FlinkVersion string
	Actor        string
	Detail       string // why it failed, or what is to be known
}

// drilled is the newest drill of a job and the newest that passed. A zero Level: there was none.
type drilled struct{ Newest, Passed Drill }

// DrillMessage is a drill as a message.
func DrillMessage(d Drill) *ckptferryv1.Drill {
	return &ckptferryv1.Drill{
		Key: KeyMessage(d.Key), Job: d.Job, Level: d.Level, Passed: d.Passed, StartedTime: timestamp(d.StartedAt),
		Rpo: duration(d.RPO), Rto: duration(d.RTO), FlinkVersion: d.FlinkVersion, Actor: d.Actor, Detail: d.Detail,
	}
}

// DrillOf reads a drill; nil is the zero Drill.
func DrillOf(m *ckptferryv1.Drill) Drill {
	return Drill{
		Key: KeyOf(m.GetKey()), Job: m.GetJob(), Level: m.GetLevel(), Passed: m.GetPassed(), StartedAt: instant(m.GetStartedTime()),
		RPO: m.GetRpo().AsDuration(), RTO: m.GetRto().AsDuration(), FlinkVersion: m.GetFlinkVersion(), Actor: m.GetActor(), Detail: m.GetDetail(),
	}
}

// duration is absent for none.
func duration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// Drills returns the newest drill of a job, and the newest that passed (whose Level is 0 if none did); ok is false when
// the job never had one.
func (v View) Drills(route, job string) (newest, passed Drill, ok bool) {
	d, ok := v.state.Drills.get(jobName{route, job})
	return d.Newest, d.Passed, ok
}

// AllDrills lists by route and job the newest drill of each, and after it the newest that passed if that is another.
func (v View) AllDrills() iter.Seq[Drill] { return v.state.allDrills() }

func (s State) allDrills() iter.Seq[Drill] {
	return func(yield func(Drill) bool) {
		for _, d := range s.Drills.all() {
			if !yield(d.Newest) || (d.Passed.Level > 0 && d.Passed != d.Newest && !yield(d.Passed)) {
				return
			}
		}
	}
}
