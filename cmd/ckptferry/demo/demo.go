// Package demo is `ckptferry demo`: two datacenters of agents on this machine, as real processes of this same program
// with mTLS, fed with checkpoints that a real Flink wrote (package fixtures). Nothing in it is simulated but the job,
// whose files appear and are deleted in Flink's own order (feed.go).
//
// It may wire, print and kill only what it started itself: the agents are asked as anybody would ask them. Nothing of it
// is left when it ends. Start at Run.
package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/ckptferry/ckptferry/flinkmeta/fixtures"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/replicator"
)

// Config says what is shown, and to whom.
type Config struct {
	Agents int  // in each datacenter, 1 or 3
	Keep   bool // the directory
	// Program is how a person calls this program, for the lines that say what to try.
	Program string
	// Stores opens local files.
	Stores replicator.Opener
	Out    io.Writer
	Err    io.Writer // the agents' logs, when something went wrong
	// Width is that of the terminal that Out is; nil when it is none.
	Width func() int
}

// show is a demo under way.
type show struct {
	cfg Config
	screen
	*site
	jobs  []*job
	began time.Time
	round int // of feeding, from 1 on
}

// Run shows it. On a terminal until ctx ends, which is no error; else its whole script, once. All processes have ended
// and the directory is removed when it returns.
func Run(ctx context.Context, cfg Config) (err error) {
	if cfg.Agents != 1 && cfg.Agents != 3 {
		return fmt.Errorf("%d agents in a datacenter: want 1 or 3", cfg.Agents)
	}
	s := &show{cfg: cfg, screen: screen{out: cfg.Out, width: cfg.Width}, began: time.Now()}
	dir, err := os.MkdirTemp("", "ckptferry-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the demo: %w", err)
	}
	defer func() { err = errors.Join(err, s.clean(dir)) }()
	if s.site, err = layOut(dir, cfg.Agents, s.began); err != nil {
		return fmt.Errorf("lay out the demo: %w", err)
	}
	defer s.stop()
	if s.jobs, err = readJobs(fixtures.Demo, filepath.Join(dir, "storage")); err != nil {
		return err
	}
	if cfg.Width != nil {
		err = s.live(ctx)
		if ctx.Err() != nil {
			err = nil // Ctrl-C is how it ends
			s.drawn = nil
			s.say("") // behind the terminal's ^C
		}
	} else {
		err = s.script(ctx)
	}
	s.drawn = nil // what was drawn last stays
	if err != nil && ctx.Err() == nil {
		s.tails()
	}
	return err
}

// clean removes the directory, or says where it is.
func (s *show) clean(dir string) error {
	if s.cfg.Keep {
		s.say("kept: %s", dir)
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the demo's directory: %w", err)
	}
	s.say("ended all agents, removed %s", dir)
	return nil
}

// tails prints the end of each agent's log.
func (s *show) tails() {
	const last = 12
	for _, a := range s.agents {
		text, err := os.ReadFile(a.log)
		if err != nil {
			continue // it was never started
		}
		lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		_, _ = fmt.Fprintf(s.cfg.Err, "--- agent %s, end of its log\n%s\n", a.ID, bytes.Join(lines[max(0, len(lines)-last):], []byte("\n")))
	}
}

// Each step of the demo takes a second or two; a machine that is busy with other things gets this much.
const patience = 20 * time.Second

// start brings everything up, until the first checkpoint is READY.
func (s *show) start(ctx context.Context) error {
	for _, a := range s.agents {
		if err := a.start(); err != nil {
			return err
		}
	}
	s.say("Two datacenters of %d on 127.0.0.1, in %s", s.cfg.Agents, s.dir)
	for _, a := range s.agents {
		s.say("  %s  agent %s  pid %-7d  API %s", a.DC, a.ID, a.pid(), a.API)
	}
	s.say("  configurations: %s/{%s1,…}/agent.yaml   logs: %[1]s/logs", s.dir, s.agents[0].ID[:1])
	if err := s.feed(s.jobs[0]); err != nil {
		return err
	}
	s.round = 1
	err := until(ctx, patience, "a leader in each datacenter", func(ctx context.Context) (bool, error) {
		err := errors.Join(s.openRound(ctx), s.allRun())
		return err == nil, err
	})
	if err != nil {
		return err
	}
	err = s.await(ctx, "the first READY replica", func(lag []*ckptferryv1.JobLag) bool {
		return len(lag) > 0 && lag[0].ReadyCheckpointId != nil
	})
	if err == nil {
		s.say("first READY %s after the start", seconds(time.Since(s.began)))
	}
	return err
}

// route is the name of the route, and of the export that it pulls, of this round.
func (s *show) route() string { return fmt.Sprintf("demo-%d", s.round) }

// openRound lets the target pull what is fed from now on, into a new directory. A round has an export and a route of
// its own because what Flink wrote is fed again as it is, and the groups would know it already: nothing would be copied.
func (s *show) openRound(ctx context.Context) error {
	return errors.Join(s.apply(ctx, source, exported(s.route())), s.apply(ctx, target, s.routed(s.route(), ckptferryv1.RouteMode_ROUTE_MODE_CONTINUOUS)))
}

// allRun is errEnded when an agent doesn't.
func (s *show) allRun() error {
	for _, a := range s.agents {
		if !a.running() {
			return fmt.Errorf("%w: %s", errEnded, a.ID)
		}
	}
	return nil
}

// feed completes a job's next checkpoint at the source.
func (s *show) feed(j *job) error {
	before := len(j.kept)
	id, err := j.feed()
	if err != nil {
		return err
	}
	c := j.checkpoints[j.next-1]
	deleted := ""
	if len(j.kept) == before {
		deleted = fmt.Sprintf(", and deleted chk-%d", id-int64(before))
	}
	s.say("Flink in %s completed chk-%d of %s, %d files%s", source, id, j.name, len(c.needs)+1, deleted)
	return nil
}

// await waits until the lag is as it should be.
func (s *show) await(ctx context.Context, what string, holds func([]*ckptferryv1.JobLag) bool) error {
	return until(ctx, patience, what, func(ctx context.Context) (bool, error) {
		lag, err := s.lag(ctx, s.route())
		return err == nil && holds(lag), err
	})
}
