//go:build e2e

package fsutil_test

import (
	"bytes"
	"io"
	"io/fs"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/e2e/lab/hdfslab"
	"github.com/ckptferry/ckptferry/fsutil"
)

// forgetful stands before a namenode and can lose the answer to a call: the call has its effect and the connection is
// cut, as when a network breaks.
type forgetful struct {
	addr   string // of the namenode
	listen net.Listener

	mu   sync.Mutex
	lose string // method whose next answer is lost; "" = none
	lost int
}

func newForgetful(t *testing.T, c *hdfslab.Cluster) *forgetful {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &forgetful{addr: c.Namenodes()[0], listen: l}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // closed below
			}
			conns.Go(func() { p.forward(client) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close() // nothing more is accepted
		conns.Wait()
	})
	return p
}

func (p *forgetful) loseNext(method string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose, p.lost = method, 0
}

func (p *forgetful) losses() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

func (p *forgetful) forward(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.addr)
	if err != nil {
		return // the client sees its connection closed
	}
	defer server.Close()
	var doomed sync.Mutex // held while an answer that is to be lost is awaited
	losing := false
	go func() { // ends with the connections
		defer server.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := client.Read(buf)
			if err != nil {
				return
			}
			p.mu.Lock()
			if p.lose != "" && bytes.Contains(buf[:n], []byte(p.lose)) { // one call at a time, in one write
				p.lose = ""
				p.lost++
				doomed.Lock()
				losing = true
				doomed.Unlock()
			}
			p.mu.Unlock()
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		doomed.Lock()
		drop := losing
		doomed.Unlock()
		if err != nil || drop {
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

func TestHDFSCallWhoseAnswerIsLostHasItsEffectOnce(t *testing.T) {
	c := plainCluster(t)
	proxy := newForgetful(t, c)
	cfg := quick(c)
	cfg.Namenodes = map[string][]string{"lossy": {proxy.listen.Addr().String()}}
	cfg.RetryFor = 20 * time.Second

	root := openDir(t, c, quick(c)).Root()
	f := openAt(t, cfg, "hdfs://lossy"+root.Path)
	content := randomBytes(10_000)
	lossy := func(t *testing.T, method string, do func() error) {
		t.Helper()
		proxy.loseNext(method)
		if err := do(); err != nil {
			t.Errorf("%s with its answer lost: %v", method, err)
		}
		if proxy.losses() != 1 {
			t.Errorf("no answer to %s was lost: the test does not test", method)
		}
	}

	var w fsutil.File
	lossy(t, "create", func() (err error) { w, err = f.Create(t.Context(), "d/tmp"); return err })
	lossy(t, "addBlock", func() error { _, err := w.Write(content); return err })
	lossy(t, "complete", func() error { return w.Commit(t.Context()) })
	wantBytes(t, f, "d/tmp", content)
	lossy(t, "rename2", func() error { return f.Rename(t.Context(), "d/tmp", "e/f") })
	wantBytes(t, f, "e/f", content)
	lossy(t, "getBlockLocations", func() error { _, err := getHDFS(t.Context(), f, "e/f", 0); return err })
	lossy(t, "getListing", func() error { _, err := f.List(t.Context(), "e"); return err })
	lossy(t, "delete", func() error { return f.Remove(t.Context(), "e/f") })
	_, err := f.Stat(t.Context(), "e/f")
	wantErrIs(t, "stat", err, fs.ErrNotExist)

	// What somebody else did is not taken for our own earlier try.
	if err := putHDFS(t.Context(), f, "theirs", content); err != nil {
		t.Fatal(err)
	}
	proxy.loseNext("create")
	_, err = f.Create(t.Context(), "theirs")
	wantErrIs(t, "create of what is there, with its answer lost", err, fs.ErrExist)
	proxy.loseNext("rename2")
	err = f.Rename(t.Context(), "absent", "theirs")
	wantErrIs(t, "rename of what is absent", err, fs.ErrNotExist)
	wantBytes(t, f, "theirs", content)
	other := openAt(t, quick(c), root.String())
	theirs, err := other.Create(t.Context(), "open")
	if err != nil {
		t.Fatal(err)
	}
	proxy.loseNext("create")
	_, err = f.Create(t.Context(), "open")
	wantErrIs(t, "create of what another client has open, with its answer lost", err, fs.ErrExist)
	if _, err := io.Copy(theirs, bytes.NewReader(content)); err != nil {
		t.Errorf("write of the other client: %v", err)
	}
	if err := theirs.Commit(t.Context()); err != nil {
		t.Errorf("commit of the other client: %v", err)
	}
}
