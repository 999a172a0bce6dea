package flinklab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
)

var submitted = regexp.MustCompile(`JobID ([0-9a-f]{32})`)

// SubmittedJob finds the job id in the output of `flink run -d`.
func SubmittedJob(output string) (string, error) {
	m := submitted.FindStringSubmatch(output)
	if m == nil {
		return "", fmt.Errorf("no job id in the client's output:\n%s", output)
	}
	return m[1], nil
}

// awaitSlots polls until the task manager has offered its slots.
func (c *Cluster) awaitSlots(ctx context.Context, slots int) error {
	ctx, cancel := context.WithTimeout(ctx, clusterStart)
	defer cancel()
	return c.poll(ctx, "slots", func() (bool, error) {
		var overview struct {
			Slots int `json:"slots-total"`
		}
		if err := c.get(ctx, "/overview", &overview); err != nil {
			return false, c.dead() // not up yet, unless its process is gone
		}
		return overview.Slots >= slots, nil
	})
}

// AwaitCheckpoints waits until the job has completed n checkpoints since it started, and gives the newest one's URI.
// A job that is no longer running is an error with its root cause.
func (c *Cluster) AwaitCheckpoints(ctx context.Context, job string, n int) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var path string
	err := c.poll(ctx, "checkpoints of "+job, func() (bool, error) {
		if err := c.requireAlive(ctx, job); err != nil {
			return false, err
		}
		var stats struct {
			Counts struct {
				Completed int `json:"completed"`
			} `json:"counts"`
			Latest struct {
				Completed *struct {
					Path string `json:"external_path"`
				} `json:"completed"`
			} `json:"latest"`
		}
		if err := c.get(ctx, "/jobs/"+job+"/checkpoints", &stats); err != nil {
			return false, err
		}
		if stats.Counts.Completed < n || stats.Latest.Completed == nil {
			return false, nil
		}
		path = stats.Latest.Completed.Path
		return true, nil
	})
	return path, err
}

func (c *Cluster) requireAlive(ctx context.Context, job string) error {
	state, err := c.JobState(ctx, job)
	if err != nil {
		return err
	}
	switch state {
	case "FAILED", "FAILING", "CANCELED", "FINISHED":
	default:
		return nil
	}
	var failure struct {
		Root    string `json:"root-exception"` // up to 1.x
		History struct {
			Entries []struct {
				Stack string `json:"stacktrace"`
			} `json:"entries"`
		} `json:"exceptionHistory"`
	}
	if err := c.get(ctx, "/jobs/"+job+"/exceptions", &failure); err != nil {
		return fmt.Errorf("job %s is %s: %w", job, state, err)
	}
	cause := failure.Root
	if cause == "" && len(failure.History.Entries) > 0 {
		cause = failure.History.Entries[0].Stack
	}
	return fmt.Errorf("job %s is %s: %s", job, state, cause)
}

// JobState is Flink's word for it, such as RUNNING.
func (c *Cluster) JobState(ctx context.Context, job string) (string, error) {
	var status struct {
		State string `json:"state"`
	}
	err := c.get(ctx, "/jobs/"+job, &status)
	return status.State, err
}

// Cancel cancels the job and waits until it is; its retained checkpoints stay.
func (c *Cluster) Cancel(ctx context.Context, job string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := c.call(ctx, request{method: http.MethodPatch, path: "/jobs/" + job + "?mode=cancel"}); err != nil {
		return err
	}
	return c.poll(ctx, "the end of "+job, func() (bool, error) {
		state, err := c.JobState(ctx, job)
		return state == "CANCELED", err
	})
}

// poll asks until done, an error, or the end of ctx.
func (c *Cluster) poll(ctx context.Context, what string, ask func() (done bool, err error)) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := ask()
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

func (c *Cluster) get(ctx context.Context, path string, into any) error {
	return c.call(ctx, request{method: http.MethodGet, path: path, into: into})
}

type request struct {
	method, path string
	into         any // nil: the answer is of no interest
}

func (c *Cluster) call(ctx context.Context, r request) error {
	req, err := http.NewRequestWithContext(ctx, r.method, c.rest+r.path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode >= 300 {
		var problem struct {
			Errors []string `json:"errors"`
		}
		_ = json.NewDecoder(resp.Body).Decode(&problem) // no body leaves the status alone
		return fmt.Errorf("%s %s: %s %s", r.method, r.path, resp.Status, strings.Join(problem.Errors, "; "))
	}
	if r.into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(r.into)
}
