package rpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// watcher is a caller of WatchReplicas. It takes an answer only when it is asked to.
type watcher struct {
	grpc.ServerStream
	ctx     context.Context
	answers chan *ckptferryv1.WatchReplicasResponse
}

func (w *watcher) Context() context.Context { return w.ctx }
func (w *watcher) Send(m *ckptferryv1.WatchReplicasResponse) error {
	select {
	case w.answers <- m:
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

// line writes an answer in one line: what is there now, what is gone, and whether that is all.
func line(m *ckptferryv1.WatchReplicasResponse) string {
	var words []string
	for _, r := range m.GetReplicas() {
		words = append(words, fmt.Sprintf("%s/%d=%s", r.GetJob(), r.GetKey().GetCheckpointId(), strings.TrimPrefix(r.GetStatus().String(), "REPLICA_STATUS_")))
	}
	for _, k := range m.GetGone() {
		words = append(words, fmt.Sprintf("-%d", k.GetCheckpointId()))
	}
	slices.Sort(words)
	if m.GetComplete() {
		words = append(words, "complete")
	}
	return strings.Join(words, " ")
}

// watching starts a watch on the fake clock.
func watching(t *testing.T, g *group, req *ckptferryv1.WatchReplicasRequest) (w *watcher, s *Server, ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	s = newServer(sourceConfig(g, nil))
	s.read = g.snapshot
	w = &watcher{ctx: ctx, answers: make(chan *ckptferryv1.WatchReplicasResponse)}
	end := make(chan error, 1)
	go func() { end <- (&api{Server: s}).WatchReplicas(req, w) }()
	return w, s, end
}

func replicaOf(job string, id int64, status raftstore.Status) raftstore.Replica {
	return raftstore.Replica{Key: raftstore.Key{Route: "prod", JobID: "j", CheckpointID: id}, Job: job, Status: status, URI: "file:/r"}
}

func TestReplicasAreWatchedAsTheyChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		g.routes = []raftstore.Route{{Name: "prod"}}
		g.replicas = []raftstore.Replica{replicaOf("orders", 1, raftstore.StatusReady), replicaOf("pay", 2, raftstore.StatusReady)}
		w, s, ended := watching(t, g, &ckptferryv1.WatchReplicasRequest{Job: "orders"})
		expect := func(want string) {
			t.Helper()
			if got := line(<-w.answers); got != want {
				t.Errorf("answer is %q, want %q", got, want)
			}
		}
		expect("orders/1=READY complete")
		g.change(func() { g.replicas = append(g.replicas, replicaOf("orders", 3, raftstore.StatusPlanned)) })
		expect("orders/3=PLANNED complete")

		// What changes while nobody reads is told once, as it is at last.
		for _, status := range []raftstore.Status{raftstore.StatusCopying, raftstore.StatusReady} {
			g.change(func() { g.replicas[2].Status = status })
			time.Sleep(10 * time.Millisecond)
		}
		expect("orders/3=READY complete")

		g.change(func() { g.replicas[1].Status = raftstore.StatusRetiring }) // not its job
		began := time.Now()
		if m := <-w.answers; line(m) != "complete" || m.GetRead().GetAgent() != "a1" || time.Since(began) > lifeEvery {
			t.Errorf("the sign of life is %v after %s", m, time.Since(began))
		}
		g.change(func() { g.replicas = g.replicas[1:] })
		expect("-1 complete")

		close(s.stopping)
		if err := <-ended; !errors.Is(err, errStopping) {
			t.Errorf("the watch of an agent that stops ends with %v", err)
		}
	})
}

func TestWatchTellsWhatItsFilterNoLongerLetsThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		g.replicas = []raftstore.Replica{replicaOf("orders", 1, raftstore.StatusCopying)}
		w, _, _ := watching(t, g, &ckptferryv1.WatchReplicasRequest{Statuses: []ckptferryv1.ReplicaStatus{ckptferryv1.ReplicaStatus_REPLICA_STATUS_READY}})
		for _, step := range []struct {
			status raftstore.Status
			want   string
		}{{raftstore.StatusCopying, "complete"}, {raftstore.StatusReady, "orders/1=READY complete"}, {raftstore.StatusRetiring, "-1 complete"}} {
			g.change(func() { g.replicas[0].Status = step.status })
			if got := line(<-w.answers); got != step.want {
				t.Errorf("%s: %q, want %q", step.status, got, step.want)
			}
		}
	})
}

// A caller that doesn't read keeps nothing but a view: nothing is collected for it.
func TestASlowWatcherIsToldTheLastOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		for id := range int64(1200) {
			g.replicas = append(g.replicas, replicaOf("orders", id, raftstore.StatusCopying))
		}
		w, _, _ := watching(t, g, &ckptferryv1.WatchReplicasRequest{})
		synctest.Wait() // it has looked
		for range 500 {
			g.change(func() {
				for i := range g.replicas {
					g.replicas[i].Pinned = !g.replicas[i].Pinned
				}
			})
			time.Sleep(time.Second)
		}
		var sizes []int
		for {
			m := <-w.answers
			sizes = append(sizes, len(m.GetReplicas()))
			if m.GetComplete() {
				break
			}
		}
		if !slices.Equal(sizes, []int{500, 500, 200}) {
			t.Errorf("what was there came in answers of %v", sizes)
		}
		g.change(func() { g.replicas[0].Status = raftstore.StatusReady })
		got := line(<-w.answers)
		if got == "complete" {
			got = line(<-w.answers) // after a sign of life
		}
		if got != "orders/0=READY complete" {
			t.Errorf("after 500 changes that came to nothing it is told %.200q", got)
		}
	})
}

func TestWatchOfAnUnknownRouteIsRefused(t *testing.T) {
	c := dialAPI(t, serveAPI(t, sourceConfig(newGroup(), nil)))
	err := c.WatchReplicas(t.Context(), &ckptferryv1.WatchReplicasRequest{Route: "nope"}, func(*ckptferryv1.WatchReplicasResponse) error { return nil })
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("WatchReplicas = %v", err)
	}
}

func TestWatchOverTheWire(t *testing.T) {
	g := newGroup()
	g.replicas = []raftstore.Replica{replicaOf("orders", 1, raftstore.StatusReady)}
	c := dialAPI(t, serveAPI(t, sourceConfig(g, nil)))
	enough := errors.New("enough")
	err := c.WatchReplicas(t.Context(), &ckptferryv1.WatchReplicasRequest{}, func(m *ckptferryv1.WatchReplicasResponse) error {
		if got := line(m); got == "-1 complete" {
			return enough
		} else if got != "orders/1=READY complete" {
			t.Errorf("answer is %q", got)
		}
		g.change(func() { g.replicas = nil })
		return nil
	})
	if !errors.Is(err, enough) {
		t.Errorf("WatchReplicas = %v", err)
	}
}
