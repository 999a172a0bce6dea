package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/watch"
)

// watchFlag adds -w to a command.
func watchFlag(c *cobra.Command, to *bool) {
	c.Flags().BoolVarP(to, "watch", "w", false, "ask again each "+watch.Every.String()+" until Ctrl-C; on a terminal the answer is drawn anew")
}

// watched calls show once, or, when again is set, each two seconds until ctx ends; Ctrl-C is then the end of it and no error.
func (a *app) watched(ctx context.Context, again bool, show func(ctx context.Context, a *app) error) error {
	if !again {
		return show(ctx, a)
	}
	screen := watch.On(a.out)
	return screen.Run(ctx, func(ctx context.Context, to io.Writer) error {
		frame := *a
		frame.out = to
		if screen.Terminal() {
			frame.err = to // notes beside it would stay between the lines
		}
		return show(ctx, &frame)
	})
}
