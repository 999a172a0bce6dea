package agent

import "time"

// Tunable is what of a Config may change while the agent runs. What is 0 is as in Config, but for the rate: 0 is no bound.
type Tunable struct {
	Poll, SilentAfter       time.Duration
	Parallel, FilesParallel int
	LinkBytesPerSecond      int64
}

// Tune changes how the agent works from now on. Copies under way follow the rate at once; of the rest, what begins after
// it has it: the next wait between two looks, the next copy.
func (a *Agent) Tune(to Tunable) {
	a.tune(to)
	a.throttle(a.cfg.Group.View())
}

func (a *Agent) tune(to Tunable) {
	if to.Poll == 0 {
		to.Poll = DefaultPoll
	}
	if to.SilentAfter == 0 {
		to.SilentAfter = DefaultSilentAfter
	}
	if to.Parallel == 0 {
		to.Parallel = DefaultParallel
	}
	a.tuned.Store(&to)
}

// SilentAfter is how long a source may say nothing before its jobs are SOURCE_SILENT.
func (a *Agent) SilentAfter() time.Duration { return a.tuned.Load().SilentAfter }
