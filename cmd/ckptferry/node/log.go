package node

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/config"
)

// NewLog makes a log whose level and format follow the configuration while the agent that Run was given it for runs.
func NewLog(to io.Writer, cfg config.Log) *slog.Logger {
	h := &logHandler{way: &logWay{to: to}}
	h.way.set(cfg)
	return slog.New(h)
}

// logWay is how all of a log's handlers write now.
type logWay struct {
	to    io.Writer
	level slog.LevelVar
	now   atomic.Pointer[slog.Handler]
}

func (w *logWay) set(cfg config.Log) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Level)) // config knows which there are
	w.level.Set(level)
	options := &slog.HandlerOptions{Level: &w.level}
	var h slog.Handler = slog.NewTextHandler(w.to, options)
	if cfg.Format == "json" {
		h = slog.NewJSONHandler(w.to, options)
	}
	w.now.Store(&h)
}

// logHandler is a slog.Handler that may be changed while it, and those made of it, are in use.
type logHandler struct {
	way  *logWay
	with []func(slog.Handler) slog.Handler // attributes and groups, in their order
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.way.level.Level()
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	to := *h.way.now.Load()
	for _, with := range h.with {
		to = with(to)
	}
	return to.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.and(func(to slog.Handler) slog.Handler { return to.WithAttrs(attrs) })
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	return h.and(func(to slog.Handler) slog.Handler { return to.WithGroup(name) })
}

func (h *logHandler) and(with func(slog.Handler) slog.Handler) slog.Handler {
	return &logHandler{h.way, append(h.with[:len(h.with):len(h.with)], with)}
}
