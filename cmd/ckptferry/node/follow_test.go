package node

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/config"
)

func TestTheLinksRateFollowsTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.yaml")
	write := func(limits string) {
		t.Helper()
		text := "version: 1\nnode: {id: a, dc: dc1, data_dir: data}\nstores: {\"file:/flink\": {}}\n" + limits + "\n"
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
		var set []int64
		var logged bytes.Buffer
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			followLinkRate(ctx, cfg, slog.New(slog.NewTextHandler(&logged, nil)), func(n int64) { set = append(set, n) })
		}()
		for _, step := range []struct {
			limits string
			want   []int64 // all that was set by then
			warned int
		}{
			{"limits: {link_rate: 1MiB/s}", nil, 0},
			{"limits: {link_rate: 2MiB/s}", []int64{2 << 20}, 0},
			{"limits: {link_rate: fast}", []int64{2 << 20}, 1},
			{"limits: {poll: 1s}", []int64{2 << 20, 0}, 1}, // none
			{"limits: {link_rate: 3MiB/s}", []int64{2 << 20, 0, 3 << 20}, 1},
		} {
			write(step.limits)
			time.Sleep(3 * followEvery)
			synctest.Wait()
			if warned := strings.Count(logged.String(), "level=WARN"); !slices.Equal(set, step.want) || warned != step.warned {
				t.Errorf("%s: set %v, want %v; %d warnings, want %d", step.limits, set, step.want, warned, step.warned)
			}
		}
		cancel()
		<-ended
	})
}
