package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/replicator"
)

// rootJob is what the storage alone tells of a job.
type rootJob struct {
	Job string `json:"job"`
	// Named is false where no manifest says what the job is called: Job is its JobID, or the savepoint's name.
	Named    bool          `json:"named"`
	Newest   string        `json:"newest_whole,omitempty"`
	At       time.Time     `json:"completed,omitzero"`
	Whole    int           `json:"whole"`
	Problems []rootProblem `json:"problems"`
	// AtRisk are whole now, and never offered: Flink may delete files of them.
	AtRisk []rootProblem `json:"at_risk,omitempty"`
	// Claimed are those that were handed to Flink with CLAIM.
	Claimed []string `json:"claimed,omitempty"`

	newest map[string]replicator.Surveyed // by JobID, of the whole ones; savepoints under ""
}

// rootProblem is a replica that is not whole.
type rootProblem struct {
	Replica string `json:"replica"`
	Problem string `json:"problem"`
}

// verifyRoot says of each job below a replica root which replica is the newest whole one. It asks nobody but the storage.
func (a *app) verifyRoot(ctx context.Context, stores *fsutil.Stores, root fsutil.URI, output string) error {
	byJob := map[string]*rootJob{}
	var jobs []*rootJob
	err := replicator.Survey(ctx, stores, replicator.SurveyRequest{Root: root, Deep: true}, func(s replicator.Surveyed) error {
		name, sure := s.Job()
		j := byJob[name]
		if j == nil {
			j = &rootJob{Job: name, Named: sure, Problems: []rootProblem{}, newest: map[string]replicator.Surveyed{}}
			byJob[name] = j
			jobs = append(jobs, j)
		}
		if s.Claimed {
			j.Claimed = append(j.Claimed, s.Dir.String())
		}
		switch {
		case s.Problem != "":
			j.Problems = append(j.Problems, rootProblem{s.Dir.String(), s.Problem})
		case s.AtRisk != "":
			j.AtRisk = append(j.AtRisk, rootProblem{s.Dir.String(), s.AtRisk})
		default:
			j.Whole++
			if best, there := j.newest[s.JobID()]; !there || s.NewerThan(best) {
				j.newest[s.JobID()] = s
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, j := range jobs {
		j.choose()
	}
	slices.SortFunc(jobs, func(a, b *rootJob) int { return strings.Compare(a.Job, b.Job) })
	if output == "json" {
		err = printJSON(a.out, map[string]any{"root": root.String(), "jobs": jobs})
	} else {
		err = a.printRoot(jobs)
	}
	lacking := 0
	for _, j := range jobs {
		if j.Whole == 0 {
			lacking++
		}
	}
	switch {
	case err != nil:
		return err
	case len(jobs) == 0:
		return fmt.Errorf("%w: below %s there is no replica on record", replicator.ErrVerify, root)
	case lacking > 0:
		return fmt.Errorf("%w: %d of %d job(s) below %s have no whole replica that Flink may be started from", replicator.ErrVerify, lacking, len(jobs), root)
	}
	return nil
}

// choose names the newest of all JobIDs that the job had.
func (j *rootJob) choose() {
	var best *replicator.Surveyed
	for _, s := range j.newest {
		if best == nil || s.NewerThan(*best) {
			best = &s
		}
	}
	if best != nil {
		j.Newest, j.At = best.Dir.String(), best.Header.Label.Completed
	}
}

func (a *app) printRoot(jobs []*rootJob) error {
	var rows [][]string
	for _, j := range jobs {
		at := "-"
		if !j.At.IsZero() {
			at = j.At.UTC().Format(time.RFC3339)
		}
		rows = append(rows, []string{j.Job, fmt.Sprint(j.Whole), fmt.Sprint(len(j.Problems)), fmt.Sprint(len(j.AtRisk)), at, orDash(j.Newest)})
	}
	if err := a.printTable("JOB WHOLE BROKEN AT-RISK COMPLETED NEWEST-WHOLE", rows); err != nil {
		return err
	}
	for _, j := range jobs {
		for _, p := range j.Problems {
			if _, err := fmt.Fprintf(a.out, "broken: %s: %s\n", p.Replica, p.Problem); err != nil {
				return fmt.Errorf("write the result: %w", err)
			}
		}
		for _, p := range j.AtRisk {
			if _, err := fmt.Fprintf(a.out, "at risk: %s: %s\n", p.Replica, p.Problem); err != nil {
				return fmt.Errorf("write the result: %w", err)
			}
		}
		for _, replica := range j.Claimed {
			if _, err := fmt.Fprintf(a.out, "claimed: %s: it was handed to Flink with CLAIM, which deletes its files as its job goes on: start from it only when that job does not run\n", replica); err != nil {
				return fmt.Errorf("write the result: %w", err)
			}
		}
	}
	return nil
}

// isRoot says whether a directory is a replica root, not a checkpoint.
func isRoot(ctx context.Context, stores *fsutil.Stores, dir fsutil.URI) (bool, error) {
	at, err := stores.OpenRead(ctx, dir)
	if err == nil {
		_, err = at.Stat(ctx, metadataFile)
	}
	if err == nil {
		return false, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return replicator.IsReplicaRoot(ctx, stores, dir)
}
