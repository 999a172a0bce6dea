package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

// agentParts are the parts of section agents, in their order.
var agentParts = []section{
	{"latency", measureLatency},
	{"large", measureAgentsLarge},
	{"wan", measureWAN},
	{"jobs", measureJobs},
	{"memory", measureAgentsMemory},
}

// measureAgents measures two datacenters of one agent each, as processes on loopback, and a group of three.
func measureAgents(ctx context.Context, b *bench) error {
	var failed []error
	for _, part := range agentParts {
		if len(b.agents) > 0 && !slices.Contains(b.agents, part.name) {
			continue
		}
		b.logf("agents, %s …", part.name)
		if err := part.measure(ctx, b); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			failed = append(failed, fmt.Errorf("%s: %w", part.name, err))
		}
	}
	return errors.Join(failed...)
}

func chooseAgents(only string) ([]string, error) {
	if only == "" {
		return nil, nil
	}
	names := strings.Split(only, ",")
	for _, n := range names {
		if !slices.ContainsFunc(agentParts, func(s section) bool { return s.name == n }) {
			return nil, fmt.Errorf("-agents %s: no such part", n)
		}
	}
	return names, nil
}

// What this program is in a process of its own, by its arguments.
var parts = map[string]func(context.Context) error{
	streamServerFlag: serveStreams,
	groupNodeFlag:    runGroupNode,
}

const (
	streamServerFlag = "-stream-server"
	groupNodeFlag    = "-group-node"
)

// playPart runs a part until its standard input, which its parent holds, is closed.
func playPart(part func(context.Context) error) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := part(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// another starts this program once more, as one of its parts that is spoken with. It dies with its parent.
func another(ctx context.Context, part string) (cmd *exec.Cmd, stdin io.WriteCloser, stdout io.ReadCloser, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, nil, err
	}
	cmd = exec.CommandContext(ctx, self, part)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if stdin, err = cmd.StdinPipe(); err != nil {
		return nil, nil, nil, err
	}
	if stdout, err = cmd.StdoutPipe(); err != nil {
		return nil, nil, nil, err
	}
	return cmd, stdin, stdout, cmd.Start()
}
