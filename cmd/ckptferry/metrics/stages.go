package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
)

// Stages counts how copies end, and how long each stage of those that became READY took. It is the agent's Observer.
// What it counts is this agent's own since it was started.
type Stages struct {
	stage, ready *prometheus.HistogramVec
	ended        *prometheus.CounterVec

	mu     sync.Mutex
	routes map[string]bool // that have series
}

// stageSeconds are the histograms' bounds: from a delta on an idle system to a first copy over a busy link.
var stageSeconds = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200}

// NewStages begins at zero.
func NewStages() *Stages {
	return &Stages{
		stage: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ckptferry_replica_stage_seconds", Buckets: stageSeconds,
			Help: "How long the stages of replicas that became READY took, one after the other: detect (Flink completed the checkpoint, the group is told), " +
				"queue (its turn comes), first_byte (planned, and the source sends), last_byte, verify (all is read back), publish (READY).",
		}, []string{"route", "stage"}),
		ready: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ckptferry_replica_ready_seconds", Buckets: stageSeconds,
			Help: "From a checkpoint's completion, by the source storage's clock, until its replica was READY.",
		}, []string{"route"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ckptferry_route_copies_total",
			Help: "Copies that ended, by result (ready, superseded, failed, stopped) and the class of what kept them from READY.",
		}, []string{"route", "result", "reason"}),
		routes: map[string]bool{},
	}
}

// stage is the time between two moments of a copy.
type stage struct {
	name string
	at   time.Time
}

// stagesOf are the moments at which the stages of a copy ended.
func stagesOf(t agent.CopyTimes) []stage {
	return []stage{
		{"detect", t.Heard}, {"queue", t.Started}, {"first_byte", t.FirstByte}, {"last_byte", t.LastByte}, {"verify", t.Verified}, {"publish", t.Ended},
	}
}

// CopyEnded implements agent.Observer.
func (s *Stages) CopyEnded(c agent.Copy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin(c.Route)
	s.ended.WithLabelValues(c.Route, string(c.Result), string(c.Reason)).Inc()
	if c.Result != agent.CopyReady {
		return
	}
	s.ready.WithLabelValues(c.Route).Observe(between(c.Times.Completed, c.Times.Ended))
	before := c.Times.Completed
	for _, stage := range stagesOf(c.Times) {
		switch {
		case stage.at.IsZero() && stage.name == "detect":
			before = time.Time{} // nobody knows when the wait began
		case stage.at.IsZero(): // it needed no such stage
		default:
			if !before.IsZero() {
				s.stage.WithLabelValues(c.Route, stage.name).Observe(between(before, stage.at))
			}
			before = stage.at
		}
	}
}

// between is in seconds, and never negative: the first moment may be by another clock.
func between(from, to time.Time) float64 { return max(0, to.Sub(from).Seconds()) }

// begin has a route's counters begin at zero, so that the first failure is seen as an increase.
func (s *Stages) begin(route string) {
	if s.routes[route] {
		return
	}
	s.routes[route] = true
	for result, reasons := range agent.CopyOutcomes() {
		for _, reason := range reasons {
			s.ended.WithLabelValues(route, string(result), string(reason))
		}
	}
}

// keep begins the series of the routes that there are, and forgets those of the others.
func (s *Stages) keep(view raftstore.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for route := range s.routes {
		if _, ok := view.Route(route); !ok {
			gone := prometheus.Labels{"route": route}
			s.stage.DeletePartialMatch(gone)
			s.ready.DeletePartialMatch(gone)
			s.ended.DeletePartialMatch(gone)
			delete(s.routes, route)
		}
	}
	for _, route := range view.Routes() {
		s.begin(route.Name)
	}
}
