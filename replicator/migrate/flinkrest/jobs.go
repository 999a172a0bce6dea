package flinkrest

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// State is Flink's word for how a job is (org.apache.flink.api.common.JobStatus).
type State string

// The states that decisions depend on.
const (
	Running  State = "RUNNING"
	Finished State = "FINISHED"
	Canceled State = "CANCELED"
	Failed   State = "FAILED"
)

// Ended says that the job runs no more and Flink will not start it again by itself.
func (s State) Ended() bool { return s == Finished || s == Canceled || s == Failed }

// Job is one job of a cluster.
type Job struct {
	ID    string `json:"jid"`
	Name  string `json:"name"`
	State State  `json:"state"`
}

// Jobs lists the jobs that run, and those that have ended and that the JobManager remembers (an hour, by default).
func (c *Client) Jobs(ctx context.Context) ([]Job, error) {
	var answer struct {
		Jobs []Job `json:"jobs"`
	}
	err := c.do(ctx, call{what: "list the jobs", method: http.MethodGet, path: "/jobs/overview", into: &answer})
	return answer.Jobs, err
}

// Job finds a job by its JobID. The error of one that isn't there is ErrNotFound and names what is.
func (c *Client) Job(ctx context.Context, id string) (Job, error) {
	jobs, err := c.Jobs(ctx)
	if err != nil {
		return Job{}, err
	}
	var others []string
	for _, j := range jobs {
		if j.ID == id {
			return j, nil
		}
		if !j.State.Ended() && len(others) < 5 {
			others = append(others, fmt.Sprintf("%s (%s)", j.ID, j.Name))
		}
	}
	there := "no job runs there"
	if len(others) > 0 {
		there = "there run " + strings.Join(others, ", ")
	}
	return Job{}, fmt.Errorf("find job %s at %s: %w; %s", id, c.base, ErrNotFound, there)
}

// Version is the cluster's Flink, as "1.20.0".
func (c *Client) Version(ctx context.Context) (string, error) {
	var answer struct {
		Version string `json:"flink-version"`
	}
	err := c.do(ctx, call{what: "ask for the Flink version", method: http.MethodGet, path: "/config", into: &answer})
	return answer.Version, err
}

// Checkpoint is a completed checkpoint or savepoint as a JobManager knows it.
type Checkpoint struct {
	ID        int64  `json:"id"`
	Path      string `json:"external_path"`
	Discarded bool   `json:"discarded"` // deleted by Flink
}

// Latest are the newest of a job since it was started; nil: none.
type Latest struct {
	Checkpoint, Savepoint *Checkpoint
}

// StaleFor is how old an answer about a job's checkpoints may be: Flink keeps them that long when somebody else has
// asked (web.refresh-interval up to 1.18, rest.cache.checkpoint-statistics.timeout since; 3 s by default), and
// the job's end doesn't change that.
const StaleFor = 3500 * time.Millisecond

// Latest asks for the newest checkpoint and savepoint of a job, also of one that has ended. The answer may be as old as
// StaleFor. A job that was restored and has completed nothing since has none.
func (c *Client) Latest(ctx context.Context, id string) (Latest, error) {
	var answer struct {
		Latest struct {
			Completed *Checkpoint `json:"completed"`
			Savepoint *Checkpoint `json:"savepoint"`
		} `json:"latest"`
	}
	err := c.do(ctx, call{what: "ask for the checkpoints of job " + id, method: http.MethodGet, path: jobPath(id) + "/checkpoints", into: &answer})
	return Latest{Checkpoint: answer.Latest.Completed, Savepoint: answer.Latest.Savepoint}, err
}

// Retains says whether the job's checkpoints stay on the storage when it is cancelled.
func (c *Client) Retains(ctx context.Context, id string) (bool, error) {
	var answer struct {
		Externalization struct {
			Enabled bool `json:"enabled"`
			Deletes bool `json:"delete_on_cancellation"`
		} `json:"externalization"`
	}
	err := c.do(ctx, call{what: "ask for the checkpoint settings of job " + id, method: http.MethodGet, path: jobPath(id) + "/checkpoints/config", into: &answer})
	return answer.Externalization.Enabled && !answer.Externalization.Deletes, err
}

func jobPath(id string) string { return "/jobs/" + url.PathEscape(id) }
