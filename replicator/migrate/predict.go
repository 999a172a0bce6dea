package migrate

import (
	"fmt"
	"slices"
	"time"

	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/migrate/flinkrest"
)

// What is counted with as long as nothing was measured.
const (
	stopSavepoint  = 1500 * time.Millisecond // Flink stops the sources, and all tasks end
	stopCancel     = 500 * time.Millisecond
	publishTime    = 300 * time.Millisecond // plan, check, rename _metadata, commit, promote
	assumedRate    = 50 << 20               // bytes a second of a link that nothing was measured of
	savepointWrite = 100 << 20              // bytes a second that Flink writes a savepoint with
)

// Measures are what predictions are made from, beside the state.
type Measures struct {
	Poll   time.Duration // between two looks at the source's storage; the source's own is taken to be the same
	Copies *Copies       // nil: nothing was measured
}

// Prediction is how long a job will be away: from when it is told to stop until its last replica is READY and promoted.
type Prediction struct {
	Stop, Find, Copy, Publish time.Duration
	Total                     time.Duration
	Delta                     *int64 // bytes that are copied after the stop; nil: nobody knows
	How                       string // a sentence
}

// Predict says how long a job would be away if it were told to stop now. A savepoint holds the whole state, so all of it
// is copied after the stop. After a cancel only what the last checkpoint lacks is, as it was after each checkpoint
// before; but Flink says for sure which one was the last only after flinkrest.StaleFor.
func Predict(v raftstore.View, j raftstore.MigrationJob, route string, m Measures) Prediction {
	p := Prediction{Find: m.Poll, Publish: publishTime}
	stopped, measuredStop := stopTime(v, route, j.StopMode)
	switch j.StopMode {
	case raftstore.StopSavepoint:
		p.savepoint(v, j, route, m)
		if p.Stop = stopped; !measuredStop {
			p.Stop = stopSavepoint + seconds(p.bytes(), savepointWrite)
		}
		p.Total = p.Stop + p.Find + p.Copy + p.Publish
	default:
		p.delta(v, j, route, m)
		if p.Stop = stopped; !measuredStop {
			p.Stop = stopCancel
		}
		p.Total = p.Stop + p.Find + p.Copy + p.Publish
		if j.StopMode == raftstore.StopCancel {
			p.Total = p.Stop + max(p.Find+p.Copy, flinkrest.StaleFor) + p.Publish
		}
	}
	p.How = p.sentence(j.StopMode, measuredStop) + p.How
	return p
}

func (p *Prediction) bytes() int64 {
	if p.Delta == nil {
		return 0
	}
	return *p.Delta
}

// savepoint counts with the size of the newest checkpoint, which the savepoint will have about.
func (p *Prediction) savepoint(v raftstore.View, j raftstore.MigrationJob, route string, m Measures) {
	newest, ok := newestCheckpoint(v, route, j.Job)
	if !ok {
		p.How = ", how much is to be copied is not known: no checkpoint of the job is"
		return
	}
	bytes := newest.Bytes
	p.Delta = &bytes
	rate, how := rateOf(v, route, m)
	p.Copy = seconds(bytes, rate)
	p.How = fmt.Sprintf(", %s of savepoint (the whole state) at %s", bytesText(bytes), how)
}

// delta counts with what copies of the job's checkpoints took before.
func (p *Prediction) delta(v raftstore.View, j raftstore.MigrationJob, route string, m Measures) {
	if m.Copies != nil {
		if bytes, ok := m.Copies.Delta(route, j.Job); ok {
			p.Delta = &bytes
		}
	}
	var took []time.Duration
	for _, r := range lastReady(v.JobReplicas(route, j.Job), copiesOfJob) {
		took = append(took, r.ReadyAt.Sub(r.PlannedAt))
	}
	switch {
	case len(took) > 0:
		p.Copy = median(took)
		p.How = fmt.Sprintf(", the last delta copied as the newest %d checkpoints were, %s", len(took), rounded(p.Copy))
		if p.Delta != nil {
			p.How += " for " + bytesText(*p.Delta)
		}
	case p.Delta != nil:
		rate, how := rateOf(v, route, m)
		p.Copy = seconds(*p.Delta, rate)
		p.How = fmt.Sprintf(", %s of the last delta at %s", bytesText(*p.Delta), how)
	default:
		p.How = ", how long the last delta takes is not known: no checkpoint of the job was copied yet"
	}
}

func (p *Prediction) sentence(mode raftstore.StopMode, measuredStop bool) string {
	stop := fmt.Sprintf("%s to stop it", rounded(p.Stop))
	switch {
	case measuredStop:
		stop += " (as the jobs before)"
	case mode == raftstore.StopManual:
		stop = fmt.Sprintf("%s after you have said that it is stopped", rounded(p.Stop))
	}
	if mode == raftstore.StopCancel {
		stop += fmt.Sprintf(", at least %s until Flink is sure of the last checkpoint", flinkrest.StaleFor)
	}
	return fmt.Sprintf("%s, a poll of %s to find it", stop, rounded(p.Find))
}

// stopTime is the median of how long Flink took to stop the jobs that this route's migrations have stopped in this mode.
func stopTime(v raftstore.View, route string, mode raftstore.StopMode) (time.Duration, bool) {
	if mode == raftstore.StopManual {
		return 0, false
	}
	var all []time.Duration
	for _, m := range v.Migrations() {
		if m.Route != route {
			continue
		}
		for _, j := range v.MigrationJobs(m.Name) {
			if took := j.StoppedAt.Sub(j.StoppingAt); j.StopMode == mode && !j.StoppingAt.IsZero() && !j.StoppedAt.IsZero() && took > 0 {
				all = append(all, took)
			}
		}
	}
	if len(all) == 0 {
		return 0, false
	}
	return median(all), true
}

// rateOf is how fast bytes of the route move, in bytes a second, and how that is known.
func rateOf(v raftstore.View, route string, m Measures) (float64, string) {
	rate, how := 0.0, ""
	if m.Copies != nil {
		rate = m.Copies.Rate(route)
		how = fmt.Sprintf("%s/s, as the route's copies before", bytesText(int64(rate)))
	}
	if rate <= 0 {
		rate = assumedRate
		how = fmt.Sprintf("%s/s, which is assumed: this agent has copied nothing large yet", bytesText(assumedRate))
	}
	if r, _ := v.Route(route); r.BytesPerSecond > 0 && float64(r.BytesPerSecond) < rate {
		rate = float64(r.BytesPerSecond)
		how = fmt.Sprintf("%s/s, the route's limit", bytesText(r.BytesPerSecond))
	}
	return rate, how
}

// lastReady are the newest READY checkpoints, no savepoints, by when they became so.
func lastReady(replicas []raftstore.Replica, n int) []raftstore.Replica {
	ready := slices.DeleteFunc(replicas, func(r raftstore.Replica) bool {
		return r.Status != raftstore.StatusReady || r.Savepoint || r.PlannedAt.IsZero() || r.ReadyAt.Before(r.PlannedAt)
	})
	slices.SortFunc(ready, func(a, b raftstore.Replica) int { return a.ReadyAt.Compare(b.ReadyAt) })
	return last(ready, n)
}

// newestCheckpoint is the newest that is known of the job at the source, no savepoint.
func newestCheckpoint(v raftstore.View, route, job string) (raftstore.Found, bool) {
	for _, f := range slices.Backward(v.JobKnown(route, job)) {
		if !f.Savepoint {
			return f, true
		}
	}
	return raftstore.Found{}, false
}

func seconds(bytes int64, rate float64) time.Duration {
	return time.Duration(float64(bytes) / rate * float64(time.Second))
}

func rounded(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second)
	case d >= time.Second:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(10 * time.Millisecond)
}

// bytesText writes a size as people read it.
func bytesText(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	size, unit := float64(n)/(1<<10), 0
	for size >= 1<<10 && unit < len(units)-1 {
		size /= 1 << 10
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", size, units[unit])
}
