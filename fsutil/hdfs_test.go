package fsutil

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestClientIsTheOneThatIsReachedInto(t *testing.T) {
	if err := checkClientShape(); err != nil {
		t.Fatal(err)
	}
}

func TestFileMD5IsHadoops(t *testing.T) {
	// What the client answers when no datanode does: of every such file the same, and no error.
	if got := hex.EncodeToString(fileMD5(nil)); got != "70bc8f4b72a86921468bf8e8441dce51" {
		t.Errorf("fileMD5 of nothing = %s", got)
	}
	for blocks, padded := range map[int]int{1: 32, 2: 32, 3: 64, 4: 64, 5: 128} {
		sums := bytes.Repeat([]byte{0xab}, 16*blocks)
		want := md5.Sum(append(bytes.Clone(sums), make([]byte, padded-len(sums))...))
		if got := fileMD5(sums); !bytes.Equal(got, want[:]) {
			t.Errorf("fileMD5 of %d blocks = %x; want %x", blocks, got, want)
		}
	}
}

func TestBlockDigestDoesNotDependOnPieces(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef!"), 300)
	table := crc32.MakeTable(crc32.Castagnoli)
	for _, chunk := range []int{2, 512, 4096} {
		var crcs []byte
		for rest := content; len(rest) > 0; {
			n := min(chunk, len(rest))
			crcs = binary.BigEndian.AppendUint32(crcs, crc32.Checksum(rest[:n], table))
			rest = rest[n:]
		}
		want := md5.Sum(crcs)
		for _, piece := range []int{1, 511, 512, 513, len(content)} {
			var d blockDigest
			d.start(chunk, table, true)
			for rest := content; len(rest) > 0; {
				n := min(piece, len(rest))
				d.write(rest[:n])
				rest = rest[n:]
			}
			if got := d.blockMD5(); !bytes.Equal(got, want[:]) {
				t.Errorf("chunks of %d in pieces of %d: %x; want %x", chunk, piece, got, want)
			}
		}
	}
}

// exception is what the client makes of a namenode's answer.
type exception struct{ class, message string }

func (e exception) Error() string     { return "call failed (" + e.class + ")" }
func (e exception) Method() string    { return "call" }
func (e exception) Desc() string      { return "ERROR_APPLICATION" }
func (e exception) Exception() string { return e.class }
func (e exception) Message() string   { return e.message }

func TestErrorsOfTheClientGetTheirSentinel(t *testing.T) {
	for name, tc := range map[string]struct {
		err       error
		want      error
		transient bool
	}{
		"absent":              {exception{"java.io.FileNotFoundException", "File does not exist: /a\n\tat org…"}, fs.ErrNotExist, false},
		"a directory":         {exception{"java.io.FileNotFoundException", "Path is not a file: /a"}, fs.ErrInvalid, false},
		"no permission":       {exception{"org.apache.hadoop.security.AccessControlException", "Permission denied: user=x"}, fs.ErrPermission, false},
		"below a file":        {exception{"org.apache.hadoop.security.AccessControlException", "/a (is not a directory)"}, fs.ErrInvalid, false},
		"standby":             {exception{"org.apache.hadoop.ipc.StandbyException", "Operation category READ is not supported in state standby"}, ErrUnavailable, true},
		"safe mode":           {exception{"org.apache.hadoop.hdfs.server.namenode.SafeModeException", "Cannot create file"}, ErrUnavailable, true},
		"safe mode, retried":  {exception{"org.apache.hadoop.ipc.RetriableException", "org.apache…SafeModeException"}, ErrUnavailable, true},
		"quota of names":      {exception{"org.apache.hadoop.hdfs.protocol.NSQuotaExceededException", "quota"}, ErrNoSpace, false},
		"quota of bytes":      {exception{"org.apache.hadoop.hdfs.protocol.DSQuotaExceededException", "quota"}, ErrNoSpace, false},
		"encryption zone":     {exception{"org.apache.hadoop.hdfs.UnknownCryptoProtocolVersionException", "No crypto"}, ErrUnsupported, false},
		"no datanodes":        {exception{"java.io.IOException", "File /a could only be written to 0 of the 1 minReplication nodes."}, ErrUnavailable, false},
		"file over directory": {exception{"java.io.IOException", "Source /a and destination /b must both be directories"}, fs.ErrInvalid, false},
		"wrapped":             {&os.PathError{Op: "create", Path: "/a", Err: exception{"org.apache.hadoop.ipc.StandbyException", ""}}, ErrUnavailable, true},
		"no namenode":         {errors.New("no available namenodes: dial tcp: connection refused"), ErrUnavailable, true},
		"cut off":             {io.ErrUnexpectedEOF, ErrUnavailable, true},
		"bad ticket":          {errors.New("no available namenodes: SASL handshake: [Root cause: KDC_Error] KRB Error: (6)"), fs.ErrPermission, false},
		"all replicas bad":    {errors.New("invalid checksum"), ErrCorrupt, true},
		"wire mode":           {errors.New("proto: cannot parse invalid wire-format data"), ErrUnsupported, true},
		"cancelled":           {fmt.Errorf("call: %w", context.Canceled), context.Canceled, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := hdfsError(tc.err)
			if !errors.Is(got, tc.want) {
				t.Errorf("hdfsError(%v) = %v; want %v", tc.err, got, tc.want)
			}
			if bytes.Contains([]byte(got.Error()), []byte("\n")) {
				t.Errorf("hdfsError(%v) = %q; want one line", tc.err, got)
			}
			if isTransient(tc.err) != tc.transient {
				t.Errorf("isTransient(%v) = %t", tc.err, !tc.transient)
			}
		})
	}
}

func TestSilentPeerIsAnErrorAndClosesTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		set := &connSet{idle: 20 * time.Second, buffer: 16}
		c := set.add(ours)
		start := time.Now()
		if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil { // the client's deadlines are not kept
			t.Fatal(err)
		}
		_, err := c.Read(make([]byte, 1))
		if !errors.Is(err, ErrUnavailable) || time.Since(start) != set.idle {
			t.Errorf("read from a silent peer: %v after %s; want ErrUnavailable after %s", err, time.Since(start), set.idle)
		}
		if _, err := theirs.Write([]byte("late")); err == nil {
			t.Error("the connection is still open after its time limit: an answer that comes late would be taken for the next")
		}
		if len(set.open) != 0 {
			t.Error("the closed connection is still counted")
		}
	})
}

func TestEachWaitHasItsOwnLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		set := &connSet{idle: 20 * time.Second, buffer: 16}
		c := set.add(ours)
		go func() {
			for range 5 { // a minute in sum, never silent for the limit
				time.Sleep(12 * time.Second)
				if _, err := theirs.Write([]byte("x")); err != nil {
					return // told by the reader
				}
			}
			_ = theirs.Close()
		}()
		if got, err := io.ReadAll(c); err != nil || string(got) != "xxxxx" {
			t.Errorf("read = %q, %v; want all five bytes", got, err)
		}
	})
}

func TestClosingASetEndsItsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, _ := net.Pipe()
		set := &connSet{idle: time.Hour, buffer: 16}
		c := set.add(ours)
		go set.closeAll()
		start := time.Now()
		if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(start) != 0 {
			t.Errorf("read: %v after %s; want an error at once", err, time.Since(start))
		}
		if _, err := set.connect(t.Context(), "tcp", "127.0.0.1:1"); !errors.Is(err, errConnsClosed) && !errors.Is(err, ErrUnavailable) {
			t.Errorf("connect after closeAll: %v; want an error", err)
		}
	})
}

// idleCluster has one client that is never used: what is under test are the calls around it.
func idleCluster() *cluster {
	s := &slot{}
	s.m.Store(&member{})
	c := &cluster{cfg: HDFSConfig{}.withDefaults(), slots: []*slot{s}}
	c.reached.Store(true)
	return c
}

func TestRepeatWaitsForTheNamenode(t *testing.T) {
	standby := exception{"org.apache.hadoop.ipc.StandbyException", "standby"}
	for name, tc := range map[string]struct {
		errs        []error // of the tries; then success
		forever     error   // of all further tries, if set
		want        error
		wantUnknown bool
		atLeast     time.Duration
		atMost      time.Duration
	}{
		"success":                     {},
		"standby for a moment":        {errs: []error{standby, standby, standby}, atMost: time.Second},
		"cut off: outcome is unknown": {errs: []error{io.ErrUnexpectedEOF}, wantUnknown: true, atMost: time.Second},
		"for good":                    {errs: []error{exception{"java.io.FileNotFoundException", ""}}, want: fs.ErrNotExist},
		"standby for ever":            {forever: standby, want: ErrUnavailable, atLeast: 38 * time.Second, atMost: 40 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				unknown := false
				_, err := repeat(t.Context(), idleCluster(), func(_ *member, past attempt) (struct{}, error) {
					unknown = past.unknown
					if len(tc.errs) == 0 {
						return struct{}{}, tc.forever
					}
					err := tc.errs[0]
					tc.errs = tc.errs[1:]
					return struct{}{}, err
				})
				if took := time.Since(start); !errors.Is(err, tc.want) || took < tc.atLeast || took > tc.atMost {
					t.Errorf("repeat: %v after %s; want %v after %s to %s", err, took, tc.want, tc.atLeast, tc.atMost)
				}
				if unknown != tc.wantUnknown {
					t.Errorf("the last try was told unknown = %t", unknown)
				}
			})
		})
	}
}

func TestCallThatNeverReturnsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := idleCluster()
		release := make(chan struct{})
		hang := func(*member, attempt) (struct{}, error) { <-release; return struct{}{}, nil }
		start := time.Now()
		_, err := repeat(t.Context(), c, hang)
		if took := time.Since(start); !errors.Is(err, ErrUnavailable) || took != c.cfg.RetryFor+c.cfg.IdleTimeout {
			t.Errorf("repeat: %v after %s; want ErrUnavailable after RetryFor + IdleTimeout", err, took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		start = time.Now()
		time.AfterFunc(time.Second, cancel)
		_, err = repeat(ctx, c, hang)
		if took := time.Since(start); !errors.Is(err, context.Canceled) || took != time.Second {
			t.Errorf("repeat: %v after %s; want the context's error when it ends", err, took)
		}
		close(release)
	})
}

func TestAvoidedDatanodeIsTriedAgainLater(t *testing.T) {
	now := time.Now()
	var l avoidList
	node := newProto("DatanodeInfoProto", nil)
	l.add("10.0.0.1:9866", node, now)
	if !l.has("10.0.0.1:9866", now.Add(avoidFor-1)) || l.has("10.0.0.2:9866", now) || len(l.infos(now)) != 1 {
		t.Error("a datanode that did not answer is not left out, or another one is")
	}
	if l.has("10.0.0.1:9866", now.Add(avoidFor)) || len(l.infos(now.Add(avoidFor))) != 0 {
		t.Error("a datanode is left out for ever")
	}
}

func TestPathIsWrittenByOneAtATime(t *testing.T) {
	var p pathTable
	if !p.begin("/a") || p.begin("/a") || !p.begin("/b") {
		t.Error("begin does not keep paths apart")
	}
	p.commit("/a", 7)
	if id, ok := p.committed("/a"); !ok || id != 7 {
		t.Errorf("committed = %d, %t; want 7", id, ok)
	}
	if !p.begin("/a") {
		t.Error("a committed path can't be written again")
	}
	if _, ok := p.committed("/a"); ok {
		t.Error("a path that is written again has the old file's id")
	}
	for i := range maxWritten + 1 {
		p.commit(fmt.Sprint("/f", i), 1)
	}
	if len(p.written) > maxWritten {
		t.Errorf("the table holds %d names", len(p.written))
	}
}
