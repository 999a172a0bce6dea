package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/config"
	"github.com/ckptferry/ckptferry/cmd/ckptferry/node"
	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
	"github.com/ckptferry/ckptferry/rpc"
)

func TestEveryErrorThatMeansSomethingHasItsExitCode(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("anything"), 1},
		{context.DeadlineExceeded, 1},
		{usageError{errors.New("x")}, 2},
		{configError{&config.Errors{}}, 2},
		{configError{fs.ErrNotExist}, 2},
		{node.ErrConfig, 2},
		{rpc.ErrInvalid, 2},
		{fs.ErrNotExist, 3},
		{errNotKnown, 3},
		{rpc.ErrNotFound, 3},
		{fsutil.ErrUnavailable, 4},
		{rpc.ErrUnavailable, 4},
		{rpc.ErrNotLeader, 4},
		{fs.ErrPermission, 5},
		{rpc.ErrDenied, 5},
		{replicator.ErrRefused, 6},
		{fsutil.ErrUnsupported, 6},
		{flinkmeta.ErrVersion, 6},
		{raftstore.ErrForeign, 6},
		{raftstore.ErrNewer, 6},
		{raftstore.ErrDamaged, 6},
		{raftstore.ErrInUse, 6},
		{rpc.ErrRefused, 6},
		{replicator.ErrBroken, 7},
		{replicator.ErrVerify, 7},
		{fsutil.ErrCorrupt, 7},
		{&flinkmeta.FormatError{}, 7},
		{lagError{}, 8},
		{partialError{errSomeRefused}, 9},
		{partialError{fmt.Errorf("then: %w", rpc.ErrUnavailable)}, 9},
		{timeoutError{last: errors.New("x")}, 10},
		{timeoutError{last: rpc.ErrUnavailable}, 10},
		{replicator.ErrSuperseded, 11},
		{silentError{1, errors.New("x")}, 1},
		// What the domain says outweighs the file system's error inside of it.
		{fmt.Errorf("%w: %w", replicator.ErrSuperseded, fs.ErrNotExist), 11},
		{fmt.Errorf("%w: %w", replicator.ErrRefused, fs.ErrPermission), 6},
		// Of several agents that were tried, the last may have answered something else.
		{errors.Join(rpc.ErrUnavailable, rpc.ErrNotLeader), 4},
	} {
		if got := exitCode(tc.err); got != tc.want {
			t.Errorf("%v: exit code %d, want %d", tc.err, got, tc.want)
		}
		if tc.err == nil {
			continue
		}
		if got := exitCode(fmt.Errorf("do something: %w", tc.err)); got != tc.want {
			t.Errorf("%v, wrapped: exit code %d, want %d", tc.err, got, tc.want)
		}
	}
}

func TestWhatIsNoFileIsNotSaidToBeOne(t *testing.T) {
	for _, err := range []error{errNotKnown, errNoRouteBack} {
		if !errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "file") {
			t.Errorf("%v", err)
		}
	}
}
