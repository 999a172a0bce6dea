// Package metrics is what Prometheus is told of an agent, and the HTTP listener that tells it. It is the only importer of
// the Prometheus library.
//
// Everything but the histograms is read from the agent and its group at each scrape, so that a job, a route or a
// transfer that is gone is gone here too. Start at collector.Collect; the histograms are in stages.go.
package metrics

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/agent"
	"github.com/ckptferry/ckptferry/replicator/promote"
)

// Group is the agent's Raft group, as *raftstore.Store has it.
type Group interface {
	View() raftstore.View
	Leader() (id, addr string) // "" when there is none
	Term() uint64
}

// Agent is what the agent knows that its group does not, as *agent.Agent has it.
type Agent interface {
	Status() agent.Status
	Totals() []agent.Total
}

// Config says what is told of whom.
type Config struct {
	ID, Datacenter, Version string
	Group                   Group
	Agent                   Agent
	Keeper                  Keeper               // nil: nothing is told of what it does
	Stages                  *Stages              // the agent's Observer
	SilentAfter             func() time.Duration // a source that was not heard of for so long is silent
	Now                     func() time.Time
}

// registry holds everything that is told. leaders counts how often the leader was another one than before.
func registry(cfg Config, leaders prometheus.Counter) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{cfg}, leaders, cfg.Stages.stage, cfg.Stages.ready, cfg.Stages.ended,
	)
	return r
}

func newLeaderChanges() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{
		Name: "ckptferry_raft_leader_changes_total", Help: "How often this agent saw another agent become the leader of its group.",
	})
}

// family is one metric, and its labels.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func newFamily(kind prometheus.ValueType, name, help string, labels ...string) family {
	return family{prometheus.NewDesc("ckptferry_"+name, help, labels, nil), kind}
}

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// What is read at each scrape. What isn't known has no series; a zero is a zero.
var (
	agentInfo = newFamily(gauge, "agent_info", "Who the agent is; always 1.", "agent", "datacenter", "version", "goversion")

	jobLag         = newFamily(gauge, "job_lag_seconds", "For how long the newest READY replica has not been the newest checkpoint; grows while the source is silent.", "route", "job")
	jobCheckpoints = newFamily(gauge, "job_lag_checkpoints", "Checkpoints known at the source that are newer than the newest READY replica.", "route", "job")
	jobBytes       = newFamily(gauge, "job_lag_bytes", "Bytes of the newest checkpoint that is not READY; an upper bound, shared files may be there already.", "route", "job")
	jobRPO         = newFamily(gauge, "job_rpo_seconds", "Age of the newest READY replica's checkpoint: the work that would be lost with the source now.", "route", "job")
	jobState       = newFamily(gauge, "job_lag_state", "1 for the state that the job is in: caught_up, behind, no_replica, source_silent or promoted.", "route", "job", "state")

	routeContact   = newFamily(gauge, "route_source_last_contact_timestamp_seconds", "When the route's source last said what it has, in Unix time; 0 before the first time.", "route", "source")
	routeJobs      = newFamily(gauge, "route_jobs", "Jobs that are known of the route's source.", "route")
	routeReplicas  = newFamily(gauge, "route_replicas", "Replicas on record, by status.", "route", "status")
	routeTransfers = newFamily(gauge, "route_transfers", "Copies that this agent has under way.", "route")
	routeProblem   = newFamily(gauge, "route_problem", "1 while this agent, as the leader, can't hear of the route's source or read it all.", "route")
	routeFiles     = newFamily(counter, "route_copied_files_total", "Files that this agent has copied.", "route")
	routeBytes     = newFamily(counter, "route_copied_bytes_total", "Bytes that this agent has read at the source, those of copies that failed too.", "route")
	routeRetries   = newFamily(counter, "route_file_retries_total", "Files that this agent began again after an error that may pass.", "route")

	exportJobs     = newFamily(gauge, "export_jobs", "Jobs that the leader found below an export.", "export")
	exportPolled   = newFamily(gauge, "export_last_poll_timestamp_seconds", "When the leader last saw all of an export, in Unix time; 0 before the first time.", "export")
	exportDuration = newFamily(gauge, "export_poll_duration_seconds", "How long the leader's last look at an export took.", "export")
	exportProblem  = newFamily(gauge, "export_problem", "1 while the leader can't look at an export, or not at all of it.", "export")

	fencedJobs    = newFamily(gauge, "fenced_jobs", "Jobs of an export that another datacenter has promoted: they must not run here.", "export", "datacenter")
	fencedRunning = newFamily(gauge, "fenced_jobs_running", "Fenced jobs of which a checkpoint was completed here after the promotion: two lives of one job.", "export", "datacenter")

	raftLeader      = newFamily(gauge, "raft_is_leader", "1 while this agent leads its group.")
	raftLeaderKnown = newFamily(gauge, "raft_leader_known", "1 while this agent knows a leader of its group.")
	raftTerm        = newFamily(gauge, "raft_term", "The Raft term that this agent is in. It grows with each election.")
	raftApplied     = newFamily(gauge, "raft_applied_index", "The log index of the last command that this agent has applied.")
)

// stateNames are the states of job_lag_state.
var stateNames = map[agent.LagState]string{
	agent.CaughtUp: "caught_up", agent.Behind: "behind", agent.NoReplica: "no_replica", agent.SourceSilent: "source_silent",
	agent.Promoted: "promoted",
}

// statusNames are the statuses of route_replicas.
var statusNames = map[raftstore.Status]string{
	raftstore.StatusPlanned: "planned", raftstore.StatusCopying: "copying", raftstore.StatusReady: "ready",
	raftstore.StatusRetiring: "retiring", raftstore.StatusSuperseded: "superseded", raftstore.StatusFailed: "failed",
	raftstore.StatusQuarantined: "quarantined",
}

// collector reads the agent at each scrape.
type collector struct{ cfg Config }

// Describe implements prometheus.Collector. It says nothing: which series there are is known at the scrape.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s := scrape{Config: c.cfg, to: to, view: c.cfg.Group.View(), status: c.cfg.Agent.Status()}
	s.tell(agentInfo, 1, c.cfg.ID, c.cfg.Datacenter, c.cfg.Version, runtime.Version())
	s.jobs()
	s.routes()
	s.exports()
	s.drills()
	s.fences()
	s.storage()
	s.raft()
}

// scrape is one reading.
type scrape struct {
	Config
	to     chan<- prometheus.Metric
	view   raftstore.View
	status agent.Status
}

func (s *scrape) tell(f family, value float64, labels ...string) {
	m, err := prometheus.NewConstMetric(f.desc, f.kind, value, labels...)
	if err != nil { // a label that isn't UTF-8
		m = prometheus.NewInvalidMetric(f.desc, err)
	}
	s.to <- m
}

func (s *scrape) jobs() {
	for _, l := range agent.Lags(s.view, s.Now(), s.SilentAfter()) {
		if l.Job == "" {
			continue // a route that knows no job: its last contact says the same
		}
		if l.TimeLag != nil {
			s.tell(jobLag, l.TimeLag.Seconds(), l.Route, l.Job)
		}
		if l.RPO != nil {
			s.tell(jobRPO, l.RPO.Seconds(), l.Route, l.Job)
		}
		if l.Checkpoints != nil {
			s.tell(jobCheckpoints, float64(*l.Checkpoints), l.Route, l.Job)
		}
		if l.Bytes != nil {
			s.tell(jobBytes, float64(*l.Bytes), l.Route, l.Job)
		}
		for state, name := range stateNames {
			s.tell(jobState, truth(l.State == state), l.Route, l.Job, name)
		}
	}
}

func (s *scrape) routes() {
	totals, problems, transfers := map[string]agent.Total{}, map[string]string{}, map[string]int{}
	for _, t := range s.Agent.Totals() {
		totals[t.Route] = t
	}
	for _, r := range s.status.Routes {
		problems[r.Route] = r.Problem
	}
	for _, t := range s.status.Transfers {
		transfers[t.Route]++
	}
	replicas := map[string]map[raftstore.Status]int{}
	for _, r := range s.view.Replicas() {
		if replicas[r.Key.Route] == nil {
			replicas[r.Key.Route] = map[raftstore.Status]int{}
		}
		replicas[r.Key.Route][r.Status]++
	}
	for _, r := range s.view.Routes() {
		s.tell(routeContact, unix(s.view.SeenAt(r.Name)), r.Name, r.FromDC)
		s.tell(routeJobs, float64(len(s.view.RouteJobs(r.Name))), r.Name)
		for status, name := range statusNames {
			s.tell(routeReplicas, float64(replicas[r.Name][status]), r.Name, name)
		}
		s.tell(routeTransfers, float64(transfers[r.Name]), r.Name)
		s.tell(routeProblem, truth(problems[r.Name] != ""), r.Name)
		total := totals[r.Name]
		s.tell(routeFiles, float64(total.Files), r.Name)
		s.tell(routeBytes, float64(total.Bytes), r.Name)
		s.tell(routeRetries, float64(total.Retries), r.Name)
	}
	s.Stages.keep(s.view)
}

func (s *scrape) exports() {
	for _, e := range s.status.Exports {
		s.tell(exportJobs, float64(e.Jobs), e.Export)
		s.tell(exportPolled, unix(e.PolledAt), e.Export)
		s.tell(exportDuration, e.Took.Seconds(), e.Export)
		s.tell(exportProblem, truth(e.Problem != ""), e.Export)
	}
}

// fences tells zeros too, once there was a fence: an alert that ends must see the end.
func (s *scrape) fences() {
	type of struct{ export, datacenter string }
	fenced, running := map[of]int{}, map[of]int{}
	for f := range s.view.Fences() {
		fenced[of{f.Export, f.Datacenter}] += 0
	}
	for _, f := range promote.FencedHere(s.view) {
		fenced[of{f.Export, f.Datacenter}], running[of{f.Export, f.Datacenter}] = len(f.Jobs), len(f.Running)
	}
	for of, n := range fenced {
		s.tell(fencedJobs, float64(n), of.export, of.datacenter)
		s.tell(fencedRunning, float64(running[of]), of.export, of.datacenter)
	}
}

func (s *scrape) raft() {
	leader, _ := s.Group.Leader()
	s.tell(raftLeader, truth(leader == s.ID))
	s.tell(raftLeaderKnown, truth(leader != ""))
	s.tell(raftTerm, float64(s.Group.Term()))
	s.tell(raftApplied, float64(s.view.AppliedIndex))
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// unix is 0 for the zero time, not a time long before that.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / 1e9
}
