package flinkrest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ckptferry/ckptferry/replicator/migrate/flinkrest"
)

const (
	jobID   = "5a3f2c9e8d7b4a1f9c0e6d5b4a3f2c1e"
	trigger = "0123456789abcdef0123456789abcdef"
)

// flink answers as Flink 1.20.0 does; answers are by method and path.
type flink struct {
	t       *testing.T
	answers map[string]answer
	asked   []string // method, path and body
}

type answer struct {
	status int
	body   string
}

func (f *flink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	what := r.Method + " " + r.URL.RequestURI()
	f.asked = append(f.asked, strings.TrimSpace(what+" "+string(body)))
	a, ok := f.answers[what]
	if !ok {
		a = answer{http.StatusNotFound, `{"errors":["Not found: ` + r.URL.Path + `"]}`}
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

func start(t *testing.T, answers map[string]answer) (*flinkrest.Client, *flink) {
	t.Helper()
	f := &flink{t: t, answers: answers}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	c, err := flinkrest.New(server.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, f
}

const (
	overview = `{"jobs":[{"jid":"` + jobID + `","name":"orders","start-time":1732200000000,"end-time":-1,"duration":61234,"state":"RUNNING","last-modification":1732200001000,"tasks":{"running":2,"canceling":0,"canceled":0,"total":2,"created":0,"scheduled":0,"deploying":0,"reconciling":0,"finished":0,"initializing":0,"failed":0},"pending-operators":0},` +
		`{"jid":"ffffffffffffffffffffffffffffffff","name":"old","start-time":1732100000000,"end-time":1732100100000,"duration":100000,"state":"CANCELED","last-modification":1732100100000,"tasks":{"total":2,"canceled":2},"pending-operators":0}]}`
	config120   = `{"refresh-interval":3000,"timezone-name":"Coordinated Universal Time","timezone-offset":0,"flink-version":"1.20.0","flink-revision":"b1fe7b4 @ 2024-07-25T00:00:00+02:00","features":{"web-submit":true,"web-cancel":true,"web-rescale":false,"web-history":false}}`
	checkpoints = `{"counts":{"restored":0,"total":8,"in_progress":1,"completed":7,"failed":0},"summary":{},"latest":{"completed":{"className":"completed","id":7,"status":"COMPLETED","is_savepoint":false,"savepointFormat":null,"trigger_timestamp":1732200060000,"latest_ack_timestamp":1732200060200,"checkpointed_size":1024,"state_size":4096,"end_to_end_duration":200,"alignment_buffered":0,"processed_data":0,"persisted_data":0,"num_subtasks":2,"num_acknowledged_subtasks":2,"checkpoint_type":"CHECKPOINT","tasks":{},"external_path":"hdfs://dc1/flink/orders/` + jobID + `/chk-7","discarded":false},"savepoint":null,"failed":null,"restored":null},"history":[]}`
)

func TestJobsAreFoundByTheirID(t *testing.T) {
	c, _ := start(t, map[string]answer{"GET /jobs/overview": {200, overview}})
	jobs, err := c.Jobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []flinkrest.Job{{ID: jobID, Name: "orders", State: flinkrest.Running}, {ID: strings.Repeat("f", 32), Name: "old", State: flinkrest.Canceled}}
	if diff := cmp.Diff(want, jobs); diff != "" {
		t.Fatal(diff)
	}
	if j, err := c.Job(t.Context(), jobID); err != nil || j.State.Ended() {
		t.Fatalf("Job = %v, %v", j, err)
	}
	_, err = c.Job(t.Context(), strings.Repeat("0", 32))
	if !errors.Is(err, flinkrest.ErrNotFound) || !strings.Contains(err.Error(), jobID+" (orders)") || strings.Contains(err.Error(), "old") {
		t.Fatalf("the error of a job that isn't there names those that run: %v", err)
	}
}

func TestAStopCarriesTheIDThatWasWrittenDownBefore(t *testing.T) {
	for version, fields := range map[string]string{
		"1.20.0":       `{"targetDirectory":"hdfs://dc1/sp","drain":false,"triggerId":"` + trigger + `","formatType":"CANONICAL"}`,
		"1.15.0":       `{"targetDirectory":"hdfs://dc1/sp","drain":false,"triggerId":"` + trigger + `","formatType":"CANONICAL"}`,
		"2.1-SNAPSHOT": `{"targetDirectory":"hdfs://dc1/sp","drain":false,"triggerId":"` + trigger + `","formatType":"CANONICAL"}`,
		"1.14.6":       `{"targetDirectory":"hdfs://dc1/sp","drain":false}`,
		"1.9.0":        `{"targetDirectory":"hdfs://dc1/sp","drain":false}`,
	} {
		t.Run(version, func(t *testing.T) {
			c, f := start(t, map[string]answer{
				"GET /config":                   {200, strings.Replace(config120, "1.20.0", version, 1)},
				"POST /jobs/" + jobID + "/stop": {202, `{"request-id":"` + trigger + `"}`},
			})
			got, err := c.StopWithSavepoint(t.Context(), flinkrest.Stop{JobID: jobID, Trigger: trigger, Directory: "hdfs://dc1/sp"})
			if err != nil || got != trigger {
				t.Fatalf("StopWithSavepoint = %q, %v", got, err)
			}
			var want, asked map[string]any
			_, body, _ := strings.Cut(f.asked[len(f.asked)-1], "/stop ")
			if err := errors.Join(json.Unmarshal([]byte(fields), &want), json.Unmarshal([]byte(body), &asked)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, asked); diff != "" {
				t.Fatalf("body: %s", diff)
			}
		})
	}
}

func TestASavepointIsDoneWhenItIsSaidWhere(t *testing.T) {
	path := "GET /jobs/" + jobID + "/savepoints/" + trigger
	for name, tc := range map[string]struct {
		answer  answer
		want    flinkrest.Savepoint
		wantErr error
	}{
		"under way": {answer: answer{200, `{"status":{"id":"IN_PROGRESS"},"operation":null}`}},
		"done": {
			answer: answer{200, `{"status":{"id":"COMPLETED"},"operation":{"location":"file:/sp/savepoint-5a3f2c-3b1f0a6a4c11"}}`},
			want:   flinkrest.Savepoint{Done: true, Location: "file:/sp/savepoint-5a3f2c-3b1f0a6a4c11"},
		},
		"failed: the innermost cause is told": {
			answer: answer{200, `{"status":{"id":"COMPLETED"},"operation":{"failure-cause":{"class":"java.util.concurrent.CompletionException","stack-trace":"java.util.concurrent.CompletionException: org.apache.flink.runtime.checkpoint.CheckpointException: Could not stop with savepoint\n\tat a.b(C.java:1)\nCaused by: org.apache.flink.runtime.checkpoint.CheckpointException: Checkpoint expired before completing.\n\tat d.e(F.java:2)\n","serialized-throwable":"rO0="}}}`},
			want:   flinkrest.Savepoint{Done: true, Failure: "org.apache.flink.runtime.checkpoint.CheckpointException: Checkpoint expired before completing."},
		},
		"nowhere":          {answer: answer{200, `{"status":{"id":"COMPLETED"},"operation":{}}`}, wantErr: flinkrest.ErrRefused},
		"of nobody's stop": {answer: answer{404, `{"errors":["Operation not found under key: AsynchronousJobOperationKey"]}`}, wantErr: flinkrest.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := start(t, map[string]answer{path: tc.answer})
			got, err := c.Savepoint(t.Context(), jobID, trigger)
			if !errors.Is(err, tc.wantErr) || got != tc.want {
				t.Fatalf("Savepoint = %+v, %v", got, err)
			}
		})
	}
}

func TestCancellingTwiceIsCancellingOnce(t *testing.T) {
	cancel := "PATCH /jobs/" + jobID + "?mode=cancel"
	for name, tc := range map[string]struct {
		answer  answer
		state   flinkrest.State
		wantErr error
	}{
		"accepted":                       {answer: answer{202, `{}`}, state: flinkrest.Running},
		"cancelled already, Flink 1.20":  {answer: answer{409, `{"errors":["Job cancellation failed because the job has already reached another terminal state (CANCELED)."]}`}, state: flinkrest.Canceled},
		"cancelled already, Flink 1.13":  {answer: answer{404, `{"errors":["Job could not be found."]}`}, state: flinkrest.Canceled},
		"finished by itself":             {answer: answer{409, `{"errors":["Job cancellation failed because the job has already reached another terminal state (FINISHED)."]}`}, state: flinkrest.Finished, wantErr: flinkrest.ErrRefused},
		"a time-out inside of Flink":     {answer: answer{504, `{"errors":["Job cancellation timed out."]}`}, state: flinkrest.Running, wantErr: flinkrest.ErrUnreachable},
		"no JobManager leads just now":   {answer: answer{503, `{"errors":["Service temporarily unavailable due to an ongoing leader election. Please refresh."]}`}, state: flinkrest.Running, wantErr: flinkrest.ErrUnreachable},
		"a proxy's page instead of JSON": {answer: answer{502, `<html>bad gateway</html>`}, state: flinkrest.Running, wantErr: flinkrest.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := start(t, map[string]answer{cancel: tc.answer, "GET /jobs/overview": {200, fmt.Sprintf(`{"jobs":[{"jid":%q,"name":"orders","state":%q}]}`, jobID, tc.state)}})
			if err := c.Cancel(t.Context(), jobID); !errors.Is(err, tc.wantErr) {
				t.Fatalf("Cancel = %v, want %v", err, tc.wantErr)
			}
		})
	}
}

func TestCheckpointsAndWhetherTheyStay(t *testing.T) {
	for settings, want := range map[string]bool{
		`{"mode":"exactly_once","interval":500,"externalization":{"enabled":true,"delete_on_cancellation":false}}`: true,
		`{"mode":"exactly_once","interval":500,"externalization":{"enabled":true,"delete_on_cancellation":true}}`:  false,
		`{"mode":"exactly_once","interval":500,"externalization":{"enabled":false,"delete_on_cancellation":true}}`: false,
		`{"mode":"exactly_once","interval":500}`: false,
	} {
		c, _ := start(t, map[string]answer{
			"GET /jobs/" + jobID + "/checkpoints":        {200, checkpoints},
			"GET /jobs/" + jobID + "/checkpoints/config": {200, settings},
		})
		if got, err := c.Retains(t.Context(), jobID); err != nil || got != want {
			t.Errorf("Retains of %s = %v, %v", settings, got, err)
		}
		latest, err := c.Latest(t.Context(), jobID)
		wantLatest := flinkrest.Latest{Checkpoint: &flinkrest.Checkpoint{ID: 7, Path: "hdfs://dc1/flink/orders/" + jobID + "/chk-7"}}
		if diff := cmp.Diff(wantLatest, latest); diff != "" || err != nil {
			t.Errorf("Latest: %v %s", err, diff)
		}
	}
}

func TestErrorsSayWhatWhereAndWhy(t *testing.T) {
	c, f := start(t, map[string]answer{"GET /jobs/overview": {200, `{"jobs":`}})
	if _, err := c.Jobs(t.Context()); !errors.Is(err, flinkrest.ErrUnreachable) || !strings.Contains(err.Error(), "list the jobs at http://127.0.0.1") {
		t.Errorf("half an answer: %v", err)
	}
	f.answers["GET /jobs/overview"] = answer{400, `{"errors":["Bad request","org.apache.flink.X: Y\n\tat z"]}`}
	if _, err := c.Jobs(t.Context()); !errors.Is(err, flinkrest.ErrRefused) || !strings.Contains(err.Error(), "Bad request: org.apache.flink.X: Y") || strings.Contains(err.Error(), "at z") {
		t.Errorf("refused: %v", err)
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	c, err := flinkrest.New(gone.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Jobs(t.Context()); !errors.Is(err, flinkrest.ErrUnreachable) {
		t.Errorf("nobody there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Jobs(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, flinkrest.ErrUnreachable) {
		t.Errorf("a caller that has gone is no silent JobManager: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	for address, ok := range map[string]bool{
		"http://jm:8081": true, "https://gate/flink-a": true, "http://jm:8081/": true,
		"jm:8081": false, "": false, "ftp://jm": false, "http://": false, "http://user:secret@jm:8081": false, "http://jm:8081?x=1": false,
	} {
		_, err := flinkrest.New(address)
		if (err == nil) != ok {
			t.Errorf("New(%q) = %v", address, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("a password in an error: %v", err)
		}
	}
	a, b := flinkrest.NewTrigger(), flinkrest.NewTrigger()
	if a == b || len(a) != 32 {
		t.Errorf("triggers %q and %q", a, b)
	}
}
