package node

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/config"
	"github.com/ckptferry/ckptferry/replicator/agent"
)

// written is a log that a test reads while it is written.
type written struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(p)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

func TestTheAgentFollowsItsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.yaml")
	write := func(rest string) {
		t.Helper()
		text := "version: 1\nnode: {id: a, dc: dc1, data_dir: data}\nstores: {\"file:/flink\": {}}\n" + rest + "\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("limits: {link_rate: 1MiB/s}")
	cfg, err := config.ReadAgent(file, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var set []string
		var logged written
		log := NewLog(&logged, cfg.Log)
		hangups, ended := make(chan os.Signal), make(chan struct{})
		f := &follower{now: cfg, log: log, scrubRate: func(int64) {}, tune: func(l agent.Tunable) {
			set = append(set, fmt.Sprintf("%d every %s", l.LinkBytesPerSecond>>20, l.Poll))
		}}
		go func() {
			defer close(ended)
			f.follow(ctx, hangups)
		}()
		for _, step := range []struct {
			rest   string
			want   string // what was set by it; "": nothing
			warned int    // by then
		}{
			{"limits: {link_rate: 1MiB/s}", "", 0},
			{"limits: {link_rate: 2MiB/s}", "2 every 5s", 0},
			{"limits: {link_rate: fast}", "", 1},
			{"limits: {poll: 1s}", "0 every 1s", 1},
			{"limits: {link_rate: 3MiB/s}\nlisten: {api: 127.0.0.1:1}", "", 2}, // together, or not at all
			{"limits: {link_rate: 3MiB/s}", "3 every 5s", 2},
			{"tls: {cert_file: a, key_file: b, ca_file: c}\nlimits: {link_rate: 3MiB/s}", "", 3}, // can't be turned on
			{"limits: {link_rate: 3MiB/s}\nlog: {level: warn}", "", 3},
		} {
			before := len(set)
			write(step.rest)
			time.Sleep(3 * followEvery)
			synctest.Wait()
			var want []string
			if step.want != "" {
				want = []string{step.want}
			}
			if warned := strings.Count(logged.String(), "level=WARN"); !slices.Equal(set[before:], want) || warned != step.warned {
				t.Errorf("%s: set %v, want %v; %d warnings, want %d\n%s", step.rest, set[before:], want, warned, step.warned, logged.String())
			}
		}
		if log.Enabled(ctx, slog.LevelInfo) {
			t.Error("the level is not taken")
		}
		if !strings.Contains(logged.String(), "agent.yaml:5:15: listen.api has changed from \\\"127.0.0.1:7070\\\"") {
			t.Errorf("what can't change is not named with its place:\n%s", logged.String())
		}
		write("limits: {link_rate: 4MiB/s}")
		began := time.Now()
		hangups <- os.Interrupt // any: the channel gets hangups only
		synctest.Wait()
		if set[len(set)-1] != "4 every 5s" || time.Since(began) > 0 || !log.Enabled(ctx, slog.LevelInfo) {
			t.Errorf("a hangup has the file taken after %s: %v", time.Since(began), set)
		}
		hangups <- os.Interrupt
		synctest.Wait()
		if !strings.Contains(logged.String(), "says what the agent has") {
			t.Errorf("a hangup that changes nothing is not answered:\n%s", logged.String())
		}
		cancel()
		<-ended
	})
}

func TestALogChangesItsFormWhileItIsUsed(t *testing.T) {
	var out bytes.Buffer
	log := NewLog(&out, config.Log{Level: "info", Format: "text"})
	of := log.With("route", "prod").WithGroup("copy").With("attempt", 1)
	of.Info("one", "n", 1)
	of.Debug("never")
	log.Handler().(*logHandler).way.set(config.Log{Level: "debug", Format: "json"})
	of.Debug("two", "n", 2)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "msg=one route=prod copy.attempt=1 copy.n=1") ||
		!strings.HasSuffix(lines[1], `"level":"DEBUG","msg":"two","route":"prod","copy":{"attempt":1,"n":2}}`) {
		t.Errorf("logged:\n%s", out.String())
	}
}
