package node

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/config"
	"github.com/ckptferry/ckptferry/replicator/agent"
	"github.com/ckptferry/ckptferry/rpc"
)

// followEvery is the time between two looks at the configuration file.
const followEvery = 5 * time.Second

// follower takes what may change of the configuration while the agent runs: what is for a daytime, or for an hour in
// which somebody else needs the link, must not cost a restart.
type follower struct {
	now  config.Agent // as it was taken last
	log  *slog.Logger
	tune func(agent.Tunable)
	// scrubRate takes another limits.scrub_rate, in bytes a second.
	scrubRate func(int64)
	tls       func(rpc.TLS) // nil without TLS
	said      string        // why the file was refused last
}

// follow looks at the file every few seconds, and at each hangup, until ctx ends. A file that is wrong, or that changes
// what can't change, changes nothing, and is told once; after a hangup, whatever came of it is told.
func (f *follower) follow(ctx context.Context, hangups <-chan os.Signal) {
	again := time.NewTicker(followEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			f.look(false)
		case <-hangups:
			f.look(true)
		}
	}
}

func (f *follower) look(asked bool) {
	fresh, changed, err := config.Reload(f.now, os.Getenv)
	if err == nil && fresh.TLS != f.now.TLS {
		err = fresh.CheckCertificates(time.Now())
	}
	switch {
	case err != nil && (asked || err.Error() != f.said):
		f.log.Warn("the configuration file is not taken: the agent goes on with what it had", "file", f.now.File, "err", err)
		f.said = err.Error()
	case err != nil:
	case len(changed) > 0:
		f.take(fresh)
		f.log.Info("the configuration file has changed and is taken", "file", f.now.File, "changed", strings.Join(changed, ", "),
			"link_rate", int64(fresh.Limits.LinkRate), "parallel", fresh.Limits.Parallel, "files", fresh.Limits.Files,
			"poll", fresh.Limits.Poll, "silent_after", fresh.Limits.SilentAfter, "cert_file", fresh.TLS.CertFile, "level", fresh.Log.Level)
		f.said = ""
	default:
		if f.said != "" || asked {
			f.log.Info("the configuration file says what the agent has", "file", f.now.File)
		}
		f.said = ""
	}
}

// take goes on with another configuration.
func (f *follower) take(fresh config.Agent) {
	if fresh.Limits != f.now.Limits {
		f.tune(tunable(fresh.Limits))
		f.scrubRate(int64(fresh.Limits.ScrubRate))
	}
	if fresh.TLS != f.now.TLS && f.tls != nil {
		f.tls(tlsFiles(fresh.TLS))
	}
	if h, ok := f.log.Handler().(*logHandler); ok && fresh.Log != f.now.Log {
		h.way.set(fresh.Log)
	}
	f.now = fresh
}

func tunable(l config.Limits) agent.Tunable {
	return agent.Tunable{Poll: l.Poll, SilentAfter: l.SilentAfter, Parallel: l.Parallel, FilesParallel: l.Files, LinkBytesPerSecond: int64(l.LinkRate)}
}

func tlsFiles(t config.TLS) rpc.TLS {
	return rpc.TLS{CertFile: t.CertFile, KeyFile: t.KeyFile, CAFile: t.CAFile}
}
