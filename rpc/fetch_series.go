package rpc

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"google.golang.org/protobuf/proto"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
)

// What is asked for ahead of what is read. All of it fits into the window that the other side has for the requests of a
// stream (64 KiB), so that sending them never waits for a reader, who would wait for it.
const (
	aheadMost  = 64
	aheadBytes = 32 << 10
)

// fetchSeries reads files one after the other on one stream. The requests go out ahead of the answers, so that over a
// long link only the first file costs a round trip. When the stream breaks, or a file is not read to its end, those
// that are left are opened one by one.
type fetchSeries struct {
	root  *peerFS
	names []string
	reqs  []*peerv1.FetchRequest

	at, sent int          // how many were asked of Next, and of the other side
	ahead    int          // bytes of the requests between them
	stream   *fetchStream // nil: before the first, and after the stream
	begun    bool
	last     *fetchReader
}

// OpenAll implements fsutil.AllOpener.
func (r *peerFS) OpenAll(ctx context.Context, names []string) (fsutil.Opened, error) {
	s := &fetchSeries{root: r, names: names}
	for _, name := range names {
		place, err := r.place(ctx, "open", name)
		if err != nil {
			return nil, err
		}
		s.reqs = append(s.reqs, &peerv1.FetchRequest{Export: r.files.export, File: place})
	}
	return s, nil
}

// Next implements fsutil.Opened.
func (s *fetchSeries) Next(ctx context.Context) (io.ReadCloser, error) {
	if s.at == len(s.reqs) {
		return nil, fmt.Errorf("open a file after the last of %d: %w", len(s.reqs), fs.ErrInvalid)
	}
	if s.last != nil {
		s.last.end(false)
	}
	if !s.begun {
		s.begun = true
		if err := s.begin(ctx); err != nil {
			s.at++
			return nil, s.root.fail("open", s.names[s.at-1], err)
		}
	}
	name, req := s.names[s.at], s.reqs[s.at]
	s.at++
	if s.stream != nil {
		r, err := s.follow(ctx, req)
		switch {
		case err == nil:
			r.where = s.root.root.Join(name)
			return r, nil
		case s.stream != nil || isAbout(err):
			return nil, s.root.fail("open", name, err)
		}
	}
	return s.root.Open(ctx, name, 0)
}

// isAbout says whether an error is the other side's about a file, and not about the stream.
func isAbout(err error) bool {
	_, said := err.(*remoteError)
	return said
}

// begin takes a stream. It counts as one file that is being read until it is given back.
func (s *fetchSeries) begin(ctx context.Context) error {
	files := s.root.files
	select {
	case files.peer.reading <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	err := files.peer.on(ctx, func(l *link) (err error) {
		s.stream, err = files.pool.get(l)
		return err
	})
	if err != nil {
		s.stream = nil
		<-files.peer.reading
	}
	return err
}

// follow reads the beginning of the next answer.
func (s *fetchSeries) follow(ctx context.Context, req *peerv1.FetchRequest) (*fetchReader, error) {
	files := s.root.files
	files.peer.retain(s.stream.link)
	r := newFetchReader(ctx, &files.pool, s.stream, req)
	r.series, s.last = s, r
	s.ask()
	s.ahead -= proto.Size(req)
	err := r.first()
	if err != nil {
		r.end(false)
	}
	return r, err
}

// ask sends requests ahead. What comes of it is told by the answers.
func (s *fetchSeries) ask() {
	for s.sent < len(s.reqs) && (s.sent < s.at || s.sent-s.at < aheadMost && s.ahead < aheadBytes) {
		if s.stream.stream.Send(s.reqs[s.sent]) != nil {
			return
		}
		s.ahead += proto.Size(s.reqs[s.sent])
		s.sent++
	}
}

// ended takes the stream back from a file's reader. over says that the file's answer is over, and the next one follows.
func (s *fetchSeries) ended(over bool) {
	switch {
	case !over:
		s.stream.cancel()
	case s.at < len(s.reqs):
		return
	default:
		s.root.files.pool.put(s.stream)
	}
	s.stream = nil
	<-s.root.files.peer.reading
}

// Close implements fsutil.Opened.
func (s *fetchSeries) Close() error {
	if s.last != nil {
		s.last.end(false)
	}
	if s.stream != nil {
		s.ended(false)
	}
	s.at = len(s.reqs)
	return nil
}
