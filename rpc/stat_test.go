package rpc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
)

// What is asked while one call is under way goes together in the next.
func TestStatsThatComeTogetherGoTogether(t *testing.T) {
	gate, entered := make(chan struct{}), make(chan struct{}, 100)
	var mu sync.Mutex
	var sizes []int
	l := &liar{stat: func(req *peerv1.StatRequest) (*peerv1.StatResponse, error) {
		mu.Lock()
		sizes = append(sizes, len(req.GetPlaces()))
		mu.Unlock()
		entered <- struct{}{}
		<-gate
		answer := &peerv1.StatResponse{}
		for _, place := range req.GetPlaces() {
			answer.Results = append(answer.Results, &peerv1.StatResult{Result: &peerv1.StatResult_Info{Info: &peerv1.FileInfo{Name: place.GetName(), SizeBytes: int64(len(place.GetName()))}}})
		}
		return answer, nil
	}}
	remote := l.remote(t).(*peerFS)
	var calls sync.WaitGroup
	stat := func(name string) {
		calls.Go(func() {
			if info, err := remote.Stat(t.Context(), name); err != nil || info.Size != int64(len(name)) {
				t.Errorf("Stat(%s) = %+v, %v", name, info, err)
			}
		})
	}
	stat("first")
	<-entered
	const more = 1500
	for i := range more {
		stat(strings.Repeat("x", i%200+1))
	}
	eventually(t, "all have asked", func() bool {
		remote.files.stats.mu.Lock()
		defer remote.files.stats.mu.Unlock()
		return len(remote.files.stats.waiting) == more
	})
	close(gate)
	calls.Wait()
	if want := []int{1, 1000, 500}; !slices.Equal(sizes, want) {
		t.Errorf("calls about %v files; want %v", sizes, want)
	}
}

func TestAStatIsLeftAloneWhenItsContextEnds(t *testing.T) {
	gate := make(chan struct{})
	l := &liar{stat: func(req *peerv1.StatRequest) (*peerv1.StatResponse, error) {
		<-gate
		return &peerv1.StatResponse{Results: make([]*peerv1.StatResult, len(req.GetPlaces()))}, nil
	}}
	remote := l.remote(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	_, err := remote.Stat(ctx, "f")
	wantErr(t, "Stat", err, context.Canceled)
	close(gate)
}

func TestAnAnswerThatIsNoneIsCorrupt(t *testing.T) {
	info := func(size int64) *peerv1.StatResult {
		return &peerv1.StatResult{Result: &peerv1.StatResult_Info{Info: &peerv1.FileInfo{SizeBytes: size}}}
	}
	for name, results := range map[string][]*peerv1.StatResult{
		"too few":           {},
		"too many":          {info(1), info(2)},
		"neither":           {{}},
		"a negative length": {info(-1)},
	} {
		l := &liar{stat: func(*peerv1.StatRequest) (*peerv1.StatResponse, error) {
			return &peerv1.StatResponse{Results: results}, nil
		}}
		_, err := l.remote(t).Stat(t.Context(), "f")
		wantErr(t, "Stat with "+name, err, fsutil.ErrCorrupt)
	}
	for name, infos := range map[string][]*peerv1.FileInfo{
		"names that lead out": {{Name: "../x"}},
		"a path":              {{Name: "a/b"}},
		"a dot":               {{Name: "."}},
		"no name":             {{}},
		"another order":       {{Name: "b"}, {Name: "a"}},
		"a name twice":        {{Name: "a"}, {Name: "a"}},
		"a negative length":   {{Name: "a", SizeBytes: -1}},
	} {
		l := &liar{list: []*peerv1.ListResponse{{Infos: infos}}}
		got, err := l.remote(t).List(t.Context(), "d")
		wantErr(t, fmt.Sprintf("List with %s (%v)", name, got), err, fsutil.ErrCorrupt)
	}
	l := &liar{list: []*peerv1.ListResponse{{Infos: []*peerv1.FileInfo{{Name: "a", ModifiedTime: &timestamppb.Timestamp{Seconds: 1 << 60}}}}}}
	if got, err := l.remote(t).List(t.Context(), "d"); err != nil || !got[0].ModTime.IsZero() {
		t.Errorf("List with a time that is none = %+v, %v", got, err)
	}
	l = &liar{list: []*peerv1.ListResponse{{Infos: []*peerv1.FileInfo{{Name: "a"}}}, {Error: &peerv1.FileError{Kind: "unavailable"}}}}
	if got, err := l.remote(t).List(t.Context(), "d"); !errors.Is(err, fsutil.ErrUnavailable) || len(got) > 0 {
		t.Errorf("List that fails in the middle = %v, %v", got, err)
	}
}

func TestTooManyStatsAreRefused(t *testing.T) {
	w := newMemoryWorld(t)
	client := rawClient(t, w.network, "a1", "dc2")
	_, err := client.Stat(t.Context(), &peerv1.StatRequest{Export: "prod", Places: make([]*peerv1.Place, statMost+1)})
	wantSays(t, "Stat of 1001 files", err, "InvalidArgument", "1001", "1000")
}

func TestOpenReadTakesURIsAlone(t *testing.T) {
	w := newMemoryWorld(t)
	for _, root := range []fsutil.URI{{}, {Scheme: "hdfs", Path: "a"}, {Scheme: "hdfs", Path: "/a/../b"}, {Path: "/a"}} {
		_, err := w.peer.Open("prod").OpenRead(t.Context(), root)
		wantErr(t, fmt.Sprintf("OpenRead(%+v)", root), err, fs.ErrInvalid)
	}
}
