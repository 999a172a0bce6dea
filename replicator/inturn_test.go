package replicator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
)

// farOpener gives the source as a file system that opens many files at once, some of which fail as a test says.
type farOpener struct {
	Opener
	together, alone *atomic.Int64 // files that were opened
	fail            func(name string) error
	refuse          error // what OpenAll says
}

func (o farOpener) OpenRead(ctx context.Context, root fsutil.URI) (fsutil.ReadFS, error) {
	opened, err := o.Opener.OpenRead(ctx, root)
	return &farFS{opened, o}, err
}

type farFS struct {
	fsutil.ReadFS
	opener farOpener
}

func (f *farFS) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	if strings.Contains(name, "shared/") {
		f.opener.alone.Add(1)
	}
	return f.ReadFS.Open(ctx, name, offset)
}

func (f *farFS) OpenAll(_ context.Context, names []string) (fsutil.Opened, error) {
	return &farFiles{from: f, names: names}, f.opener.refuse
}

type farFiles struct {
	from   *farFS
	names  []string
	closed bool
}

func (f *farFiles) Next(ctx context.Context) (io.ReadCloser, error) {
	if len(f.names) == 0 || f.closed {
		return nil, fmt.Errorf("there is no next file: %w", fsutil.ErrCorrupt)
	}
	name := f.names[0]
	f.names = f.names[1:]
	if f.from.opener.fail != nil {
		if err := f.from.opener.fail(name); err != nil {
			return nil, err
		}
	}
	f.from.opener.together.Add(1)
	return f.from.ReadFS.Open(ctx, name, 0)
}

func (f *farFiles) Close() error {
	f.closed = true
	return nil
}

func TestSmallFilesAreOpenedTogetherWhereTheSourceCan(t *testing.T) {
	const files = 200
	for name, tc := range map[string]struct {
		fail            func(name string) error
		refuse          error
		together, alone int64
		retries         bool
	}{
		"all": {together: files},
		"but for one that fails at first": {together: files - 1, alone: 1, retries: true, fail: func(name string) error {
			if strings.HasSuffix(name, "file-0100") {
				return fsutil.ErrUnavailable
			}
			return nil
		}},
		"not when it refuses": {alone: files, refuse: fsutil.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			source, target, stores, meter := manySmall(t, files), fileURI(t.TempDir()), newStores(t), &Meter{}
			from := farOpener{Opener: stores, together: &atomic.Int64{}, alone: &atomic.Int64{}, fail: tc.fail, refuse: tc.refuse}
			res, err := Replicate(t.Context(), stores, Request{Source: source, Target: target, SourceOpener: from, Parallel: 2, Meter: meter})
			if err != nil || res.Status != StatusReady || res.Files != files+1 {
				t.Fatalf("Replicate = %+v, %v", res, err)
			}
			if together, alone := from.together.Load(), from.alone.Load(); together != tc.together || alone != tc.alone {
				t.Errorf("%d files were opened together, %d alone; want %d, %d", together, alone, tc.together, tc.alone)
			}
			if retried := meter.Retries.Load() > 0; retried != tc.retries {
				t.Errorf("%d retries", meter.Retries.Load())
			}
			report, err := Check(t.Context(), stores, CheckRequest{Dir: fileURI(strings.TrimPrefix(res.Replica, "file:"))})
			if err != nil || !report.Digests || report.Files != files+1 {
				t.Fatalf("Check = %+v, %v", report, err)
			}
		})
	}
}

func TestAFileWhoseTurnItIsNotIsOpenedByItself(t *testing.T) {
	source := manySmall(t, 3)
	from := farOpener{Opener: newStores(t), together: &atomic.Int64{}, alone: &atomic.Int64{}}
	p, err := makePlan(t.Context(), newStores(t), mustDefaults(t, Request{Source: source, Target: fileURI(t.TempDir()), SourceOpener: from}))
	if err != nil {
		t.Fatal(err)
	}
	sources := (&copier{plan: p}).openInTurn(t.Context(), []int{0, 1, 2})
	defer sources.close()
	for _, i := range []int{1, 0, 2} { // nobody asked for 0 when 1 was opened
		r, err := sources.opener(i)(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		alone, err := p.files[i].open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(alone)
		if err = errors.Join(err, alone.Close()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("file %d: %q, want %q (%v)", i, got, want, err)
		}
	}
}

func mustDefaults(t *testing.T, req Request) Request {
	t.Helper()
	req, err := req.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return req
}
