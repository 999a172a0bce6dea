package node

import (
	"errors"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/config"
	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/raftstore"
)

func TestWhatTheConfigurationCannotServeIsRefused(t *testing.T) {
	r := &node{
		cfg:    config.Agent{Datacenters: map[string]config.Datacenter{"dc1": {}}},
		places: openPlaces([]config.Place{{Prefixes: []fsutil.URI{uri(t, "hdfs://dc2/")}, Reach: uri(t, "file:"+t.TempDir())}}),
	}
	r.cfg.Node.ID, r.cfg.Node.DC = "dc2-a", "dc2"
	export := raftstore.Export{Name: "e", Bases: []string{"hdfs://dc2/flink/{job}"}, AlsoReadable: []string{"hdfs://dc2/changelog"}}
	route := raftstore.Route{Name: "r", FromDC: "dc1", Root: "hdfs://dc2/replicas"}
	if err := r.usable([]raftstore.Export{export}, []raftstore.Route{route}); err != nil {
		t.Errorf("what can be served: %v", err)
	}
	for name, tc := range map[string]struct {
		change func(*raftstore.Export, *raftstore.Route)
		says   string
	}{
		"a base":           {func(e *raftstore.Export, _ *raftstore.Route) { e.Bases = []string{"hdfs://dc1/flink/{job}"} }, "base of export e: hdfs://dc1/flink/ lies outside of the stores of agent dc2-a's configuration (hdfs://dc2/)"},
		"also readable":    {func(e *raftstore.Export, _ *raftstore.Route) { e.AlsoReadable = []string{"file:/x"} }, "also_readable of export e: file:/x lies outside"},
		"a root":           {func(_ *raftstore.Export, r *raftstore.Route) { r.Root = "hdfs://dc3/x" }, "root of route r: hdfs://dc3/x lies outside"},
		"another's source": {func(_ *raftstore.Export, r *raftstore.Route) { r.FromDC = "dc9" }, "route r pulls from dc9, which agent dc2-a's configuration does not have"},
		"the wrong side":   {func(_ *raftstore.Export, r *raftstore.Route) { r.FromDC = "dc2" }, "route r pulls from dc2, which is this datacenter itself"},
	} {
		t.Run(name, func(t *testing.T) {
			e, ro := export, route
			tc.change(&e, &ro)
			err := r.usable([]raftstore.Export{e}, []raftstore.Route{ro})
			if !errors.Is(err, raftstore.ErrInvalid) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v; want ErrInvalid, saying %q", err, tc.says)
			}
		})
	}
}
