package node

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/config"
)

// followEvery is the time between two looks at the configuration file.
const followEvery = 5 * time.Second

// followLinkRate reads the configuration file again and again until ctx ends, and calls set when limits.link_rate is
// another one: what is for a daytime, or for an hour in which somebody else needs the link, must not cost a restart. A
// file that is wrong changes nothing.
func followLinkRate(ctx context.Context, cfg config.Agent, log *slog.Logger, set func(bytesPerSecond int64)) {
	rate, said := cfg.Limits.LinkRate, ""
	again := time.NewTicker(followEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
		now, err := config.ReadAgent(cfg.File, os.Getenv)
		if err != nil {
			if err.Error() != said {
				log.Warn("the configuration file can't be used as it is now: the agent goes on with what it said at the start, and its last link_rate", "file", cfg.File, "err", err)
			}
			said = err.Error()
			continue
		}
		said = ""
		if now.Limits.LinkRate != rate {
			rate = now.Limits.LinkRate
			set(int64(rate))
			log.Info("limits.link_rate has changed", "bytes_per_second", int64(rate))
		}
	}
}
