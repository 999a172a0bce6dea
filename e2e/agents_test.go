//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/e2e/lab/flinklab"
	"github.com/ckptferry/ckptferry/e2e/lab/hdfslab"
)

// Two datacenters, each an HDFS cluster and three agents with mTLS. A real Flink job takes a checkpoint each second and
// keeps two, so that Flink deletes what is being copied. Agents are killed, the link is cut, a datanode dies, and after
// each of these checkpoints that are newer become READY. Then the source is gone, agents and cluster, and Flink starts
// from what the target says is newest. All the while a checker looks at every replica that ever was READY.
func TestAgentsThroughFailures(t *testing.T) {
	a := hdfslab.New(t, hdfslab.Options{})
	b := hdfslab.New(t, hdfslab.Options{Layout: hdfslab.Separate, Datanodes: 2})
	s := site{lab: buildLab(t, "2.3.0"), source: place{a, "/flink/orders"}, target: place{b, "/flink"}}
	d := newTwoDatacenters(t, s)
	d.source.start(t)
	d.target.start(t)
	job := startJob(t, s, jobOptions{
		// new state in each checkpoint for a minute, and then for as long as faults go on
		params: flinklab.Params{Keys: 2000, Payload: 500, Target: 60_000 + 1000*int64(long().Seconds())}, rate: 500, interval: time.Second, retained: 2,
	})
	d.apply(t, s)

	c := newChecker(s.replicas(), a.URI(), func() ([]byte, error) {
		return d.target.ask(t.Context(), "replica", "list", "-o", "json", "--timeout", "3s")
	})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		c.run(t, stop)
	}()
	stopChecking := func() {
		select {
		case <-stop:
		default:
			close(stop)
		}
		<-stopped
	}
	t.Cleanup(stopChecking)
	x := &chaos{d: d, c: c, target: b}
	x.goesOn(t, "the start")
	d.grpcurlShowsTheJob(t)

	began := time.Now()
	x.kills(t)
	x.cutsLink(t)
	x.killsDatanode(t)
	for long(); time.Since(began) < long(); {
		x.kills(t)
	}
	t.Logf("all faults took %s", time.Since(began).Round(time.Second))

	// The source is lost, at once and altogether.
	job.kill(t)
	d.source.kill()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	lost := time.Now()
	lag := x.silent(t)
	stopChecking()
	rounds, replicas := c.counts()
	newest := c.newest()
	if lag.Replica != newest.URI {
		t.Errorf("the lag names %s as the newest READY replica; on record it is %s", lag.Replica, newest.URI)
	}
	t.Logf("%d replicas were READY, the newest %s; looked at %d times", replicas, newest.URI, rounds)
	t.Logf("RPO: %s (the age of the newest READY replica's checkpoint when the source was lost); the job took one each second",
		lost.Sub(newest.CompletedTime).Round(time.Millisecond))
	if err := c.everythingAgain(); err != nil {
		t.Fatal(err)
	}
	c.requireSight(t)
	output(t, "metadata", "verify", lag.Replica) // a second opinion, not the checker's
	for _, agent := range d.target.agents {
		if code := agent.stop(t); code != 0 {
			t.Errorf("agent %s stopped with exit code %d, want 0", agent.id, code)
		}
	}

	o := flinklab.RestoreOptions{Path: lag.Replica, Mode: noClaim, Ledger: job.ledger()}
	if os.Getenv("E2E_ALL") != "" {
		s.restoreTwice(t, o)
	} else if _, err := s.lab.RestoreCheck(t.Context(), s.restore("restored", o)); err != nil {
		t.Fatal(err)
	}
}

// long is for how long faults go on; in the short matrix each comes once.
func long() time.Duration {
	if os.Getenv("E2E_ALL") != "" {
		return 2 * time.Minute
	}
	return 0
}

// chaos breaks things one after the other, and requires after each that newer checkpoints become READY.
type chaos struct {
	d      twoDatacenters
	c      *checker
	target *hdfslab.Cluster
}

// kills ends the target's leader, the source's leader and a follower, in turn. Each is started again when the two that
// are left have gone on without it.
func (x *chaos) kills(t *testing.T) {
	for _, victim := range []struct {
		what string
		find func(t *testing.T) *agentProcess
	}{
		{"the target's leader", x.d.target.leader}, {"the source's leader", x.d.source.leader}, {"a follower at the target", x.d.target.follower},
	} {
		a := victim.find(t)
		a.kill()
		x.goesOn(t, fmt.Sprintf("kill -9 of %s (%s)", victim.what, a.id))
		a.start(t)
	}
}

// cutsLink takes the network between the datacenters away for a while.
func (x *chaos) cutsLink(t *testing.T) {
	cut := 4 * time.Second
	if long() > 0 {
		cut = 20 * time.Second
	}
	x.d.link.cut()
	time.Sleep(cut) // for as long as the link is dead
	before := x.c.newest()
	x.d.link.mend()
	if age := time.Since(before.CompletedTime); age < cut {
		t.Errorf("the link was cut for %s, and a checkpoint of %s ago is READY: it went another way", cut, age)
	}
	x.goesOn(t, fmt.Sprintf("the link's cut of %s", cut))
}

// killsDatanode takes one of the target's two.
func (x *chaos) killsDatanode(t *testing.T) {
	if err := x.target.Kill("dn2"); err != nil {
		t.Fatal(err)
	}
	x.goesOn(t, "kill -9 of a datanode at the target")
}

// goesOn requires that a checkpoint becomes READY which was completed from now on.
func (x *chaos) goesOn(t *testing.T, after string) {
	t.Helper()
	began := time.Now()
	await(t, "a newer checkpoint to be READY after "+after, func() error {
		if newest := x.c.newest(); !newest.CompletedTime.After(began) {
			return fmt.Errorf("the newest READY one, %s, was completed %s before", newest.URI, began.Sub(newest.CompletedTime).Round(time.Millisecond))
		}
		return nil
	})
	t.Logf("%s after %s a newer checkpoint is READY", time.Since(began).Round(100*time.Millisecond), after)
}

// jobLag is one job of `lag -o json`.
type jobLag struct{ Job, State, TimeLag, RPO, Replica, CheckpointLag, Reason string }

// silent waits until the target says that the source is silent, and gives the job's lag then.
func (x *chaos) silent(t *testing.T) (lag jobLag) {
	t.Helper()
	await(t, "the target to say that the source is silent", func() error {
		out, err := x.d.target.ask(t.Context(), "lag", "orders", "-o", "json")
		if err != nil {
			return err
		}
		var answer struct{ Jobs []jobLag }
		if err := json.Unmarshal(out, &answer); err != nil || len(answer.Jobs) != 1 {
			return fmt.Errorf("lag -o json: %w\n%s", err, out)
		}
		if lag = answer.Jobs[0]; lag.State != "LAG_STATE_SOURCE_SILENT" || lag.Reason == "" {
			return fmt.Errorf("the lag is %+v", lag)
		}
		return nil
	})
	return lag
}
