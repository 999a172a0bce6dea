package raftstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// The child processes of these tests are this test binary, started again with this variable.
const childEnv = "RAFTSTORE_TEST_CHILD"

func TestMain(m *testing.M) {
	switch role, arg, _ := strings.Cut(os.Getenv(childEnv), " "); role {
	case "":
		os.Exit(m.Run())
	case "propose":
		fmt.Fprintln(os.Stderr, proposeForEver(arg))
		os.Exit(1)
	case "unknown-command":
		fmt.Fprintln(os.Stderr, proposeUnknownCommand(arg))
		os.Exit(1)
	}
}

// proposeForEver plans one replica after the other and prints each checkpoint id once it is committed.
func proposeForEver(dir string) error {
	s, err := openFast(alone(dir))
	if err != nil {
		return err
	}
	next := int64(len(s.View().Replicas())) + 1
	return s.WhileLeader(context.Background(), func(ctx context.Context, _ uint64) error {
		next = max(next, int64(len(s.View().Replicas()))+1)
		for ; ; next++ {
			if err := s.Propose(ctx, plan(next, fence(0, 1))); err != nil {
				return err
			}
			fmt.Println(next)
			if next%40 == 0 {
				if err := s.raft.Snapshot().Error(); err != nil {
					return err
				}
			}
		}
	})
}

func proposeUnknownCommand(dir string) error {
	s, err := openFast(alone(dir))
	if err != nil {
		return err
	}
	return s.WhileLeader(context.Background(), func(context.Context, uint64) error {
		return s.raft.Apply(fromTheFuture(nil), 0).Error()
	})
}

func child(ctx context.Context, role, arg string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+role+" "+arg)
	return cmd
}

func TestWhatWasAcknowledgedSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged := int64(0)
	for round := range 6 {
		cmd := child(t.Context(), "propose", dir)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killAt := acknowledged + 20 + int64(round)*17
		lines := bufio.NewScanner(out)
		for acknowledged < killAt && lines.Scan() {
			if acknowledged, err = strconv.ParseInt(lines.Text(), 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it acknowledged between the last line read and its death
			if id, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
				acknowledged = id
			}
		}
		_ = cmd.Wait() // killed
		if acknowledged < killAt {
			t.Fatalf("round %d: the child stopped at %d: %s", round, acknowledged, stderr.String())
		}
	}

	s, err := openFast(alone(dir))
	if err != nil {
		t.Fatal(err)
	}
	mustPropose(t, s, raise(1)) // leads, and so has applied its whole log
	for id := int64(1); id <= acknowledged; id++ {
		if _, ok := s.View().Replica(KeyOf(checkpointKey(id))); !ok {
			t.Errorf("checkpoint %d was acknowledged and is gone", id)
		}
	}
	t.Logf("%d acknowledged over 6 kills", acknowledged)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownCommandInTheLogKillsTheProcess(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := child(ctx, "unknown-command", t.TempDir()).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("the process ended with %v, want an exit code:\n%s", err, out)
	}
	if !strings.Contains(string(out), "holds a command that format 1 doesn't know") {
		t.Errorf("the process says:\n%s", out)
	}
}

func TestThreeVotersOnDiskAndNetworkRestart(t *testing.T) {
	var peers []Peer
	for _, id := range []string{"a", "b", "c"} {
		peers = append(peers, Peer{ID: id, Addr: freeAddress(t)})
	}
	dirs := map[string]string{"a": t.TempDir(), "b": t.TempDir(), "c": t.TempDir()}
	for start := range 2 {
		stores := map[string]*Store{}
		for _, p := range peers {
			s, err := open(Config{
				Group: "dc2", ID: p.ID, Dir: dirs[p.ID], Peers: peers, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
			}, func(c *raft.Config) {
				quick(c)
				c.HeartbeatTimeout, c.ElectionTimeout = 300*time.Millisecond, 300*time.Millisecond
			})
			if err != nil {
				t.Fatal(err)
			}
			stores[p.ID] = s
		}
		g := &group{stores: stores}
		s := stores[g.leader(t)]
		if known := len(s.View().Replicas()); known != start {
			t.Errorf("start %d knows %d replicas", start, known)
		}
		if err := s.Propose(t.Context(), plan(int64(4+start), fence(0, 1))); err != nil {
			t.Error(err)
		}
		g.close(t)
	}
}

// freeAddress is an address on which nobody listens now. Somebody may before the node does, which fails the test.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // nothing was written
	return l.Addr().String()
}
