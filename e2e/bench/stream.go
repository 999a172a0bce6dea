package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The bare stream is what gRPC alone can do: a server in a process of its own reads files by 256 KiB and sends them on
// one stream, one after the other, and the caller writes them into files. Nothing is checked, nothing is synced.
const (
	streamPiece  = 256 << 10
	streamWindow = 64 << 20 // both windows, as the agents' are
	streamMethod = "/ckptferry.bench.Files/Read"
)

// serveStreams is this program as the bare stream's server. It prints its address.
func serveStreams(context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "ckptferry.bench.Files", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: "Read", ServerStreams: true, Handler: sendFiles}},
	}, struct{}{})
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until its parent closes it
		s.Stop()
	}()
	return s.Serve(l)
}

// sendFiles sends the files that the request names, a line each; an empty message ends a file.
func sendFiles(_ any, stream grpc.ServerStream) error {
	req := &wrapperspb.StringValue{}
	if err := stream.RecvMsg(req); err != nil {
		return err
	}
	buf := make([]byte, streamPiece)
	for name := range strings.SplitSeq(req.GetValue(), "\n") {
		if err := sendFile(stream, name, buf); err != nil {
			return err
		}
	}
	return nil
}

func sendFile(stream grpc.ServerStream, name string, buf []byte) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		n, err := io.ReadFull(f, buf)
		if n > 0 {
			if err := stream.SendMsg(wrapperspb.Bytes(buf[:n])); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return stream.SendMsg(wrapperspb.Bytes(nil))
		case err != nil:
			return err
		}
	}
}

// streamServer is the server's process.
type streamServer struct {
	cmd   *exec.Cmd
	stdin io.Closer
	addr  string
}

func startStreamServer(ctx context.Context) (*streamServer, error) {
	cmd, stdin, stdout, err := another(ctx, streamServerFlag)
	if err != nil {
		return nil, err
	}
	s := &streamServer{cmd: cmd, stdin: stdin}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the bare stream's server: %w", err), s.close())
	}
	s.addr = strings.TrimSpace(line)
	return s, nil
}

func (s *streamServer) close() error { return errors.Join(s.stdin.Close(), s.cmd.Wait()) }

// side reads all files of a checkpoint that lies below data, and writes them below a new directory in root. after, which
// may be nil, is part of the time.
func (s *streamServer) side(name, addr string, t *transfer, after func(target string) error) side {
	c, data, root := t.c, t.data, filepath.Dir(t.data)
	return side{name: name, run: func(ctx context.Context, _ int) (time.Duration, error) {
		conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(streamWindow), grpc.WithDisableServiceConfig())
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		names := make([]string, len(c.files))
		for i, f := range c.files {
			names[i] = filepath.Join(data, c.jobID(), f.name)
		}
		// The agents are connected too when a checkpoint comes. This file has little in it.
		if _, err := fetchBare(ctx, conn, []string{"/dev/null"}, root); err != nil {
			return 0, err
		}
		target, err := os.MkdirTemp(root, "bare-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(target)
		if err := prepare(data, c.bytes()); err != nil {
			return 0, err
		}
		began := time.Now()
		got, err := fetchBare(ctx, conn, names, target)
		if err == nil && after != nil {
			err = after(target)
		}
		took := time.Since(began)
		if err == nil && got != c.bytes() {
			err = fmt.Errorf("%d bytes of %d came", got, c.bytes())
		}
		return took, err
	}}
}

// fetchBare asks for files on one stream and writes them into the target.
func fetchBare(ctx context.Context, conn *grpc.ClientConn, names []string, target string) (bytes int64, err error) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, streamMethod)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(stream.SendMsg(wrapperspb.String(strings.Join(names, "\n"))), stream.CloseSend()); err != nil {
		return 0, err
	}
	for i := range names {
		n, err := receiveFile(stream, filepath.Join(target, fmt.Sprintf("%06d", i)))
		if err != nil {
			return 0, fmt.Errorf("receive %s: %w", names[i], err)
		}
		bytes += n
	}
	return bytes, nil
}

func receiveFile(stream grpc.ClientStream, name string) (bytes int64, err error) {
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for {
		piece := &wrapperspb.BytesValue{}
		if err := stream.RecvMsg(piece); err != nil {
			return 0, err
		}
		if len(piece.GetValue()) == 0 {
			return bytes, nil
		}
		bytes += int64(len(piece.GetValue()))
		if _, err := f.Write(piece.GetValue()); err != nil {
			return 0, err
		}
	}
}
