package explain

import (
	"fmt"
	"time"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/units"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// drilled is how the last rehearsals went.
func (j Job) drilled() string {
	newest, passed := j.Drills.GetNewest(), j.Drills.GetNewestPassed()
	switch {
	case j.Drills == nil:
		return ""
	case newest == nil && j.Lag.GetReplica() == "":
		return "" // nothing to drill with
	case newest == nil:
		return fmt.Sprintf("It was never drilled: `ckptferry drill %s --level 1` reads every byte of its newest replica.", j.Lag.GetJob())
	case newest.GetPassed():
		return "Last drill: " + Drill(newest, j.Now) + "."
	case passed == nil:
		return "Last drill: " + Drill(newest, j.Now) + ". None has passed yet."
	}
	return "Last drill: " + Drill(newest, j.Now) + ". The last that passed: " + Drill(passed, j.Now) + "."
}

// Drill says in a clause how a drill went.
func Drill(d *ckptferryv1.Drill, now time.Time) string {
	s := fmt.Sprintf("level %d with chk-%d, %s ago, ", d.GetLevel(), d.GetKey().GetCheckpointId(), age(now.Sub(d.GetStartedTime().AsTime())))
	if !d.GetPassed() {
		return s + "failed: " + stop(d.GetDetail())
	}
	rto := "-" // level 1 starts no job
	if took := d.GetRto().AsDuration(); took > 0 && d.GetLevel() > 1 {
		rto = units.Duration(took)
	}
	s += fmt.Sprintf("passed: RPO %s, RTO %s", units.Duration(d.GetRpo().AsDuration()), rto)
	if v := d.GetFlinkVersion(); v != "" {
		s += ", Flink " + v
	}
	return s
}

// age is a duration that may be months.
func age(d time.Duration) string {
	if d < 48*time.Hour {
		return units.Duration(max(d, 0))
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}
