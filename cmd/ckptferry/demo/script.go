package demo

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// script shows everything once, without anybody who looks on.
func (s *show) script(ctx context.Context) error {
	s.say("1. Start")
	if err := s.start(ctx); err != nil {
		return err
	}
	s.say("  ask for the lag yourself: %s", s.grpcurl())

	s.say("2. More jobs, and how far %s is behind %s", target, source)
	for _, j := range s.jobs[1:] {
		if err := s.feed(j); err != nil {
			return err
		}
	}
	if err := s.caughtUp(ctx, s.jobs...); err != nil {
		return err
	}

	s.say("3. The leader of %s dies, and the jobs go on", target)
	if err := s.killLeader(ctx); err != nil {
		return err
	}
	for _, j := range s.jobs {
		for !j.done() {
			if err := s.feed(j); err != nil {
				return err
			}
			if err := s.caughtUp(ctx, j); err != nil {
				return err
			}
		}
	}

	s.say("4. %s is lost: kill -9 of all its agents, its storage is removed", source)
	for _, a := range s.of(source) {
		a.kill()
	}
	if err := os.RemoveAll(s.storage(source)); err != nil {
		return fmt.Errorf("take the source away: %w", err)
	}
	var lag []*ckptferryv1.JobLag
	err := s.await(ctx, "the source to be called silent", func(now []*ckptferryv1.JobLag) bool {
		lag = now
		return allJobs(now, len(s.jobs), func(j *ckptferryv1.JobLag) bool { return j.GetState() == ckptferryv1.LagState_LAG_STATE_SOURCE_SILENT })
	})
	if err != nil {
		return err
	}
	s.printLag(lag)

	s.say("5. Failover: the jobs go on in %s, which asks nobody in %s", target, source)
	if err := s.failover(ctx); err != nil {
		return err
	}

	s.say("6. Their replicas, each byte of what is left compared with its manifest")
	for _, j := range lag {
		if err := s.verify(ctx, j.GetReplica()); err != nil {
			return err
		}
	}
	s.say("done in %s", seconds(time.Since(s.began)))
	return nil
}

// grpcurl is the line that asks an agent of the target for the lag of all jobs.
func (s *show) grpcurl() string {
	tls := s.tls()
	return fmt.Sprintf("grpcurl -cacert %s -cert %s -key %s %s ckptferry.v1.ReplicaService/GetReplicaLag",
		tls.CAFile, tls.CertFile, tls.KeyFile, s.of(target)[0].API)
}

// caughtUp waits until the newest checkpoints that these jobs were fed are READY, and prints their lag.
func (s *show) caughtUp(ctx context.Context, jobs ...*job) error {
	newest := map[string]int64{}
	for _, j := range jobs {
		newest[j.name] = j.checkpoints[j.next-1].id
	}
	var lag []*ckptferryv1.JobLag
	err := s.await(ctx, "all that was fed to be READY", func(now []*ckptferryv1.JobLag) bool {
		lag = slices.DeleteFunc(now, func(j *ckptferryv1.JobLag) bool { _, asked := newest[j.GetJob()]; return !asked })
		return allJobs(lag, len(newest), func(j *ckptferryv1.JobLag) bool {
			return j.ReadyCheckpointId != nil && j.GetReadyCheckpointId() == newest[j.GetJob()]
		})
	})
	if err == nil {
		s.printLag(lag)
	}
	return err
}

// allJobs says whether there are n jobs, of all of which holds is true.
func allJobs(lag []*ckptferryv1.JobLag, n int, holds func(*ckptferryv1.JobLag) bool) bool {
	for _, j := range lag {
		if !holds(j) {
			return false
		}
	}
	return len(lag) == n
}

func (s *show) printLag(lag []*ckptferryv1.JobLag) {
	for _, j := range lag {
		s.say("  %s", lagLine(j))
	}
}

// killLeader kills the target's leader, and returns when there is a leader again: another one of the group, or the same
// one when it is a group of one.
func (s *show) killLeader(ctx context.Context) error {
	var old, now *agent
	find := func(to **agent) func(context.Context) (bool, error) {
		return func(ctx context.Context) (ok bool, err error) {
			*to, err = s.leader(ctx, target)
			return err == nil, err
		}
	}
	if err := until(ctx, patience, "the leader of "+target, find(&old)); err != nil {
		return err
	}
	s.say("kill -9 %d, the leader of %s: agent %s", old.pid(), target, old.ID)
	old.kill()
	died := time.Now()
	if s.cfg.Agents == 1 {
		s.say("it was the only one: started again, it goes on from its log")
		if err := old.start(); err != nil {
			return err
		}
	}
	if err := until(ctx, patience, "a new leader of "+target, find(&now)); err != nil {
		return err
	}
	s.say("agent %s leads %s, %s after that", now.ID, target, seconds(time.Since(died)))
	return nil
}
