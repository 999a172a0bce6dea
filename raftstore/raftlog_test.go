package raftstore

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestRaftLogIsReadable(t *testing.T) {
	var out bytes.Buffer
	log := raftLogger(slog.New(slog.NewTextHandler(&out, nil)))
	log.Info("initial configuration", "index", 1, "servers", hclog.Fmt("%d of %s", 3, "dc1"))
	if got := out.String(); !strings.Contains(got, `component=raft index=1 servers="3 of dc1"`) {
		t.Errorf("the log says %s", got)
	}
}
