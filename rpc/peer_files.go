package rpc

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

const (
	// statMost is how many files one Stat may ask for.
	statMost = 1000
	// statParallel is how many of them are looked at at a time.
	statParallel = 32
	// listPage is how many children are in one message; with names of 255 bytes far below maxCallBytes.
	listPage = 1000
)

// Stat implements peerv1.PeerServiceServer.
func (s *peerServer) Stat(ctx context.Context, req *peerv1.StatRequest) (*peerv1.StatResponse, error) {
	e, err := s.export(ctx, req.GetExport())
	if err != nil {
		return nil, err
	}
	places := req.GetPlaces()
	if len(places) > statMost {
		return nil, fmt.Errorf("stat: %w: %d files, at most %d are described at once", ErrInvalid, len(places), statMost)
	}
	answer := &peerv1.StatResponse{Results: make([]*peerv1.StatResult, len(places))}
	var group errgroup.Group
	group.SetLimit(statParallel)
	for i, place := range places {
		group.Go(func() error {
			return s.guarded(func() { answer.Results[i] = s.describe(ctx, e, place) })
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return answer, ctx.Err()
}

func (s *peerServer) describe(ctx context.Context, e raftstore.Export, place *peerv1.Place) *peerv1.StatResult {
	at, err := s.jail.find(ctx, e, place)
	var info fsutil.FileInfo
	if err == nil {
		info, err = at.fs.Stat(ctx, at.name)
	}
	if err != nil {
		return &peerv1.StatResult{Result: &peerv1.StatResult_Error{Error: fileError(err)}}
	}
	return &peerv1.StatResult{Result: &peerv1.StatResult_Info{Info: infoMessage(info)}}
}

// List implements peerv1.PeerServiceServer.
func (s *peerServer) List(req *peerv1.ListRequest, out grpc.ServerStreamingServer[peerv1.ListResponse]) error {
	ctx := out.Context()
	e, err := s.export(ctx, req.GetExport())
	if err != nil {
		return err
	}
	at, err := s.jail.find(ctx, e, req.GetDirectory())
	var infos []fsutil.FileInfo
	if err == nil {
		infos, err = at.fs.List(ctx, at.name)
	}
	if err != nil {
		return out.Send(&peerv1.ListResponse{Error: fileError(err)})
	}
	for len(infos) > 0 {
		page := infos[:min(len(infos), listPage)]
		infos = infos[len(page):]
		answer := &peerv1.ListResponse{Infos: make([]*peerv1.FileInfo, 0, len(page))}
		for _, info := range page {
			answer.Infos = append(answer.Infos, infoMessage(info))
		}
		if err := out.Send(answer); err != nil {
			return err
		}
	}
	return nil
}

func infoMessage(i fsutil.FileInfo) *peerv1.FileInfo {
	return &peerv1.FileInfo{Name: i.Name, SizeBytes: i.Size, ModifiedTime: timeMessage(i.ModTime), Directory: i.IsDir}
}

// infoOf is infoMessage's opposite.
func infoOf(m *peerv1.FileInfo) fsutil.FileInfo {
	return fsutil.FileInfo{Name: m.GetName(), Size: m.GetSizeBytes(), ModTime: localTime(timeOf(m.GetModifiedTime())), IsDir: m.GetDirectory()}
}

func localTime(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Local()
}
