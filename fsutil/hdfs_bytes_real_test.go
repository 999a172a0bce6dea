//go:build e2e

package fsutil_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/e2e/lab/hdfslab"
	"github.com/ckptferry/ckptferry/fsutil"
)

// replicaOf finds the file of a one-block file's replica on a datanode, by its bytes.
func replicaOf(t *testing.T, c *hdfslab.Cluster, node string, content []byte) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		files, err := c.BlockFiles(node)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if b, err := os.ReadFile(file); err == nil && bytes.Equal(b, content) {
				return file
			}
		}
	}
	t.Fatalf("%s has no replica with those %d bytes", node, len(content))
	return ""
}

// damage flips one bit of a replica, behind the datanode's back.
func damage(t *testing.T, replica string, at int64) {
	t.Helper()
	f, err := os.OpenFile(replica, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func TestHDFSReadsPastACorruptReplica(t *testing.T) {
	c := plainCluster(t)
	f := openDir(t, c, quick(c))
	unchecked, ok := f.(fsutil.UncheckedOpener)
	if !ok {
		t.Fatal("HDFS has no OpenUnchecked")
	}
	for i := range 6 { // the namenode's order of the replicas is random, and the client prefers one that was good last time
		node := []string{"dn1", "dn2"}[i%2]
		name, content := fmt.Sprintf("f%d", i), randomBytes(300_000+i)
		if err := putHDFS(t.Context(), f, name, content); err != nil {
			t.Fatal(err)
		}
		replicaOf(t, c, []string{"dn2", "dn1"}[i%2], content) // the good one is there
		damage(t, replicaOf(t, c, node, content), 150_000)
		for _, offset := range []int64{0, 1, 511, 512, 149_999, 150_000, 150_001, 299_999} {
			got, err := getHDFS(t.Context(), f, name, offset)
			if err != nil || !bytes.Equal(got, content[offset:]) {
				t.Errorf("%s corrupt on %s, read from %d: %d bytes, %v; want the bytes of the good replica", name, node, offset, len(got), err)
			}
			r, err := unchecked.OpenUnchecked(t.Context(), name, offset)
			if err != nil {
				t.Fatal(err)
			}
			got, err = io.ReadAll(r)
			_ = r.Close()
			if err != nil || !bytes.Equal(got, content[offset:]) {
				t.Errorf("%s corrupt on %s, unchecked from %d: %d bytes, %v; want the bytes of the good replica", name, node, offset, len(got), err)
			}
		}
	}
}

func TestHDFSTellsWhenEveryReplicaIsCorrupt(t *testing.T) {
	c := plainCluster(t)
	f := openDir(t, c, quick(c))
	content := randomBytes(100_003)
	if err := putHDFS(t.Context(), f, "f", content); err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{"dn1", "dn2"} {
		damage(t, replicaOf(t, c, node, content), 70_000)
	}
	got, err := getHDFS(t.Context(), f, "f", 0)
	if !errors.Is(err, fsutil.ErrCorrupt) || !bytes.Equal(got, content[:len(got)]) {
		t.Errorf("read: %d bytes, %v; want a prefix of the file and ErrCorrupt", len(got), err)
	}
	if tail, err := getHDFS(t.Context(), f, "f", 80_000); err != nil || !bytes.Equal(tail, content[80_000:]) {
		t.Errorf("read behind the damage: %d bytes, %v", len(tail), err)
	}
}

func TestHDFSRefusesErasureCodingAndEncryptionByName(t *testing.T) {
	c := hdfslab.New(t, hdfslab.Options{Datanodes: 1, Properties: map[string]string{
		"hadoop.security.key.provider.path": "jceks://file" + filepath.Join(t.TempDir(), "keys.jceks"),
		// The namenode hears of a block long after it was written: it refuses to complete the file, or to give it
		// a block more, until then.
		"dfs.blockreport.incremental.intervalMsec": "1000",
		"dfs.blocksize": "1048576",
	}})
	run := func(args ...string) {
		t.Helper()
		if _, err := c.Run(args[0], args[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	run("key", "create", "ferry")
	onNode(t, c.Kill, "all") // the namenode reads its keys once
	onNode(t, c.StartNode, "all")
	if err := c.WaitReady(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	run("fs", "-mkdir", "/ec", "/zone", "/plain")
	run("ec", "-enablePolicy", "-policy", "XOR-2-1-1024k")
	run("ec", "-setPolicy", "-path", "/ec", "-policy", "XOR-2-1-1024k")
	run("fs", "-touchz", "/ec/there")
	run("crypto", "-createZone", "-keyName", "ferry", "-path", "/zone")
	run("fs", "-touchz", "/zone/there")
	root := openAt(t, quick(c), c.URI()+"/")
	for dir, name := range map[string]string{"ec": "XOR-2-1-1024k", "zone": "encryption zone"} {
		t.Run(dir, func(t *testing.T) {
			_, err := getHDFS(t.Context(), root, dir+"/there", 0)
			wantRefusal(t, "read", err, name)
			err = putHDFS(t.Context(), root, dir+"/new", []byte("x"))
			wantRefusal(t, "write", err, name)
			_, err = root.Stat(t.Context(), dir+"/new")
			wantErrIs(t, "stat of what was refused", err, fs.ErrNotExist)
		})
	}
	content := randomBytes(3 << 20)
	if err := putHDFS(t.Context(), root, "plain/f", content); err != nil {
		t.Errorf("a directory beside them: %v", err)
	}
	wantBytes(t, root, "plain/f", content)
}

func wantRefusal(t *testing.T, what string, err error, naming string) {
	t.Helper()
	if !errors.Is(err, fsutil.ErrUnsupported) || !strings.Contains(err.Error(), naming) {
		t.Errorf("%s: %v; want ErrUnsupported, naming %q", what, err, naming)
	}
}

func TestHDFSFileThatIsReplacedAfterOpenIsReadAsItWas(t *testing.T) {
	c := plainCluster(t)
	f := openDir(t, c, quick(c))
	before, after := randomBytes(400_000), randomBytes(400_001)
	if err := putHDFS(t.Context(), f, "f", before); err != nil {
		t.Fatal(err)
	}
	r, err := f.Open(t.Context(), "f", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := putHDFS(t.Context(), f, "new", after); err != nil {
		t.Fatal(err)
	}
	if err := f.Rename(t.Context(), "new", "f"); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err == nil && !bytes.Equal(got, before) || err != nil && !errors.Is(err, fsutil.ErrUnavailable) {
		t.Errorf("read: %d bytes, %v; want the old file, or ErrUnavailable", len(got), err)
	}
	wantBytes(t, f, "f", after)
}

func TestHDFSFileThatIsDeletedWhileItIsReadDoesNotExist(t *testing.T) {
	c := plainCluster(t)
	f := openDir(t, c, quick(c))
	content := randomBytes(100_000)
	if err := putHDFS(t.Context(), f, "f", content); err != nil {
		t.Fatal(err)
	}
	replicas := []string{replicaOf(t, c, "dn1", content), replicaOf(t, c, "dn2", content)}
	r, err := f.Open(t.Context(), "f", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := f.Remove(t.Context(), "f"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		_, err1 := os.Stat(replicas[0])
		_, err2 := os.Stat(replicas[1])
		if errors.Is(err1, fs.ErrNotExist) && errors.Is(err2, fs.ErrNotExist) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the datanodes keep the deleted file's replicas")
		}
	}
	_, err = io.ReadAll(r)
	wantErrIs(t, "read of what the datanodes have deleted", err, fs.ErrNotExist)
}

func TestHDFSUnfinishedFileIsNotReadAsAShortOne(t *testing.T) {
	c := plainCluster(t)
	f := openDir(t, c, quick(c))
	w, err := f.Create(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Abort() }() // it was committed below, unless the test has failed
	for _, written := range []string{"nothing", "a part"} {
		_, err = getHDFS(t.Context(), f, "f", 0)
		if !errors.Is(err, fsutil.ErrUnavailable) || !strings.Contains(err.Error(), "still being written") {
			t.Errorf("read of a file with %s written: %v; want ErrUnavailable, saying why", written, err)
		}
		if _, err := w.Write(randomBytes(200_000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, f, "f", append(randomBytes(200_000), randomBytes(200_000)...))
}

func TestHDFSPrefixOfAFileThatIsBeingWritten(t *testing.T) {
	c := plainCluster(t)
	f := openDir(t, c, quick(c))
	prefix := func(length, offset int64) ([]byte, error) {
		r, err := f.(fsutil.PrefixOpener).OpenPrefix(t.Context(), "f", offset, length)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	content := randomBytes(500_000)
	w, err := f.Create(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Abort() }() // it was committed below, unless the test has failed
	_, err = prefix(1, 0)
	wantErrIs(t, "prefix of a file without bytes", err, fsutil.ErrUnavailable)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"being written", "finished"} {
		for _, length := range []int64{0, 1, 100_001, 393_216} { // 6 packets of 64 KiB: what the client has certainly sent
			got, err := prefix(length, 0)
			if err != nil || !bytes.Equal(got, content[:length]) {
				t.Errorf("%s: prefix of %d = %d bytes, %v", state, length, len(got), err)
			}
		}
		got, err := prefix(300_000, 1000)
		if err != nil || !bytes.Equal(got, content[1000:300_000]) {
			t.Errorf("%s: prefix from an offset: %d bytes, %v", state, len(got), err)
		}
		if state == "being written" {
			within(t, 30*time.Second, "a prefix that is not there yet", func() { _, err = prefix(600_000, 0) })
			wantErrIs(t, "a prefix that is not there yet", err, fsutil.ErrUnavailable)
			if err := w.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, err = prefix(500_001, 0)
	wantErrIs(t, "more than a finished file has", err, fs.ErrInvalid)
}

func TestHDFSErrorsHaveTheirSentinel(t *testing.T) {
	c := plainCluster(t)
	f := openDir(t, c, quick(c))
	if err := putHDFS(t.Context(), f, "closed/f", randomBytes(10)); err != nil {
		t.Fatal(err)
	}
	if err := putHDFS(t.Context(), f, "full/f", randomBytes(10)); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		if _, err := c.Run(args[0], args[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	run("fs", "-chmod", "700", f.Root().Path+"/closed")
	run("fs", "-chmod", "777", f.Root().Path)
	run("dfsadmin", "-setQuota", "3", f.Root().Path+"/full")
	run("fs", "-mkdir", f.Root().Path+"/small")
	run("dfsadmin", "-setSpaceQuota", "1m", f.Root().Path+"/small")
	other := quick(c)
	other.User = "somebody"
	o := openAt(t, other, f.Root().String())

	_, err := o.Stat(t.Context(), "closed/f")
	wantErrIs(t, "stat in a closed directory", err, fs.ErrPermission)
	_, err = getHDFS(t.Context(), o, "closed/f", 0)
	wantErrIs(t, "read in a closed directory", err, fs.ErrPermission)
	wantErrIs(t, "write in a closed directory", putHDFS(t.Context(), o, "closed/g", nil), fs.ErrPermission)
	wantErrIs(t, "remove in a closed directory", o.Remove(t.Context(), "closed/f"), fs.ErrPermission)
	if err := putHDFS(t.Context(), o, "mine", nil); err != nil {
		t.Errorf("write in an open directory: %v", err)
	}
	wantErrIs(t, "rename into a closed directory", o.Rename(t.Context(), "mine", "closed/mine"), fs.ErrPermission)

	if err := putHDFS(t.Context(), f, "full/g", nil); err != nil {
		t.Errorf("write within the quota: %v", err)
	}
	wantErrIs(t, "write over the quota of names", putHDFS(t.Context(), f, "full/h", nil), fsutil.ErrNoSpace)
	wantErrIs(t, "write over the quota of space", putHDFS(t.Context(), f, "small/f", randomBytes(1)), fsutil.ErrNoSpace)
}

// The client hands out the bytes of a corrupt replica. Here that is not looked at, and the block's digest must tell.
func TestHDFSDigestCatchesWhatTheClientHandsOut(t *testing.T) {
	c := plainCluster(t)
	f := openDir(t, c, quick(c))
	content := randomBytes(555_555)
	if err := putHDFS(t.Context(), f, "f", content); err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(content)
	damaged[len(damaged)/2] ^= 0x10
	for _, node := range []string{"dn1", "dn2"} {
		damage(t, replicaOf(t, c, node, content), int64(len(content)/2))
	}
	trusting := func(checked bool) ([]byte, error) {
		r, err := fsutil.OpenTrusting(t.Context(), f, "f", checked)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		got := make([]byte, len(content))
		_, err = io.ReadFull(r, got)
		return got, err
	}
	_, err := trusting(true)
	wantErrIs(t, "read", err, fsutil.ErrCorrupt)
	got, err := trusting(false)
	if err != nil || !bytes.Equal(got, damaged) {
		t.Errorf("without the digest: %v; the client does not hand out corrupt bytes any more, so what is there against it can go", err)
	}
}
