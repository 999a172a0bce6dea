package rpc

import (
	"context"
	"io"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/fsutil/fsutiltest"
	"github.com/ckptferry/ckptferry/raftstore"
)

// throughPeer reads through a peer and writes at the source itself.
type throughPeer struct {
	fsutil.FS
	remote fsutil.ReadFS
}

func (p throughPeer) Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	return p.remote.Open(ctx, name, offset)
}

func (p throughPeer) Stat(ctx context.Context, name string) (fsutil.FileInfo, error) {
	return p.remote.Stat(ctx, name)
}

func (p throughPeer) List(ctx context.Context, dir string) ([]fsutil.FileInfo, error) {
	return p.remote.List(ctx, dir)
}

// The files of another datacenter keep the contract of every other file system.
func TestPeerFilesKeepTheContractOfReadFS(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		fsutiltest.Run(t, func(t *testing.T) fsutiltest.Place {
			w := newMemoryWorld(t)
			return fsutiltest.Place{
				FS:     throughPeer{w.files, w.remote},
				Reopen: func(t *testing.T) fsutil.FS { return throughPeer{w.files, openRemote(t, w.peer, memoryRoot)} },
			}
		})
	})
	t.Run("local", func(t *testing.T) {
		fsutiltest.Run(t, func(t *testing.T) fsutiltest.Place {
			root, err := fsutil.ParseURI(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			files, err := fsutil.OpenLocal(root)
			if err != nil {
				t.Fatal(err)
			}
			n := newNetwork()
			stores := fsutil.NewStores(fsutil.StoresConfig{})
			servePeers(t, n, "a1", sourceConfig(newGroup(raftstore.Export{Name: "prod", Bases: []string{root.String() + "/{job}"}, To: []string{"dc2"}}), stores))
			peer := dialPeer(t, n, "a1")
			return fsutiltest.Place{
				FS:     throughPeer{files, openRemote(t, peer, root)},
				Reopen: func(t *testing.T) fsutil.FS { return throughPeer{files, openRemote(t, peer, root)} },
			}
		})
	})
}
