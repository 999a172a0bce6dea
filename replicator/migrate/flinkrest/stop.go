package flinkrest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// NewTrigger makes an id for a stop: 32 hexadecimal digits, as Flink's TriggerId.
func NewTrigger() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails, or ends the process
	return hex.EncodeToString(b[:])
}

// Stop says which job is to be stopped, and where its savepoint goes.
type Stop struct {
	JobID string
	// Trigger is the id that the caller chose (NewTrigger) and wrote down before it asks.
	Trigger string
	// Directory is a URI below which Flink makes the savepoint's own directory.
	Directory string
}

// StopWithSavepoint tells a job to write a savepoint and end, and returns the id to ask Savepoint about: the caller's
// own, or Flink's where it takes none (before 1.15). It does not wait. With the caller's id (Flink 1.15 and later,
// FLINK-24208) asking again is asking once, for as long as the JobManager remembers the stop (five minutes after its
// end, or its own restart); see TakesTrigger.
//
// The savepoint is canonical: every Flink restores it in every claim mode and backend. A native one is written faster,
// but a CLAIM restore from it loses state later (FLINK-39964), and both hold the whole state: who has too much state for
// that cancels instead.
func (c *Client) StopWithSavepoint(ctx context.Context, s Stop) (trigger string, err error) {
	takes, err := c.TakesTrigger(ctx)
	if err != nil {
		return "", err
	}
	// Flink refuses a body with a field that it does not know.
	body := map[string]any{"targetDirectory": s.Directory, "drain": false}
	if takes {
		body["triggerId"], body["formatType"] = s.Trigger, "CANONICAL"
	}
	var answer struct {
		Trigger string `json:"request-id"`
	}
	err = c.do(ctx, call{what: "stop job " + s.JobID + " with a savepoint", method: http.MethodPost, path: jobPath(s.JobID) + "/stop", body: body, into: &answer})
	return answer.Trigger, err
}

// TakesTrigger says whether this Flink lets the caller choose a stop's id: 1.15 and later.
func (c *Client) TakesTrigger(ctx context.Context) (bool, error) {
	version, err := c.Version(ctx)
	if err != nil {
		return false, err
	}
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	minor, _, _ = strings.Cut(minor, "-") // 2.1-SNAPSHOT
	x, errX := strconv.Atoi(major)
	y, errY := strconv.Atoi(minor)
	if errX != nil || errY != nil {
		return false, fmt.Errorf("ask for the Flink version at %s: %q is none: %w", c.base, version, ErrRefused)
	}
	return x > 1 || x == 1 && y >= 15, nil
}

// Savepoint is how far a stop with a savepoint is.
type Savepoint struct {
	Done     bool
	Location string // where it lies, when Done and there is no Failure; then the job has ended
	Failure  string // why there is none; then the job goes on
}

// Savepoint asks for a stop by its id. ErrNotFound: the JobManager knows no such stop, because it never heard of it or
// has forgotten it.
func (c *Client) Savepoint(ctx context.Context, job, trigger string) (Savepoint, error) {
	var answer struct {
		Status struct {
			ID string `json:"id"`
		} `json:"status"`
		Operation *struct {
			Location string `json:"location"`
			Failure  *struct {
				Class string `json:"class"`
				Stack string `json:"stack-trace"`
			} `json:"failure-cause"`
		} `json:"operation"`
	}
	err := c.do(ctx, call{what: "ask for the savepoint of job " + job, method: http.MethodGet, path: jobPath(job) + "/savepoints/" + url.PathEscape(trigger), into: &answer})
	if err != nil {
		return Savepoint{}, err
	}
	switch {
	case answer.Status.ID != "COMPLETED":
		return Savepoint{}, nil
	case answer.Operation != nil && answer.Operation.Failure != nil:
		failure := headline(answer.Operation.Failure.Stack)
		if failure == "" {
			failure = answer.Operation.Failure.Class
		}
		return Savepoint{Done: true, Failure: failure}, nil
	case answer.Operation == nil || answer.Operation.Location == "":
		return Savepoint{}, fmt.Errorf("ask for the savepoint of job %s at %s: it is completed, and nobody says where it lies: %w", job, c.base, ErrRefused)
	}
	return Savepoint{Done: true, Location: answer.Operation.Location}, nil
}

// Cancel tells a job to end without a savepoint. It does not wait: ask Job. A job that is cancelled already is done
// already; one that has ended in another way is ErrRefused.
func (c *Client) Cancel(ctx context.Context, id string) error {
	err := c.do(ctx, call{what: "cancel job " + id, method: http.MethodPatch, path: jobPath(id) + "?mode=cancel"})
	if err == nil || errors.Is(err, ErrUnreachable) {
		return err
	}
	// Flink says 404 or 409 of a job that has ended, by its version.
	if job, asked := c.Job(ctx, id); asked == nil && job.State == Canceled {
		return nil
	}
	return err
}
