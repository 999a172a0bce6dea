package raftstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

func exportProd() Export {
	return Export{
		Name: "prod", Bases: []string{"hdfs://dc1/flink/checkpoints/{job}", "file:/flink/{job}/savepoints"},
		AlsoReadable: []string{"hdfs://dc1/flink/changelog"}, To: []string{"dc2"},
	}
}

func routeProd() Route {
	return Route{
		Name: "prod", FromDC: "dc1", FromExport: "prod", Root: "hdfs://dc2/flink/replicas/prod",
		Include: []string{"orders*"}, Exclude: []string{"*-test"}, Mode: RouteContinuous, Keep: 3, Priority: 10,
		BytesPerSecond: 200 << 20,
	}
}

// checkpoint is a found checkpoint of the tests' job, with seq as its source numbered it.
func checkpoint(id int64, seq uint64) Found {
	return Found{
		Seq: seq, Job: "orders", JobID: testJob, CheckpointID: id, MetadataCRC: 0xc0ffee,
		URI:         fmt.Sprintf("hdfs://dc1/flink/checkpoints/orders/%s/chk-%d", testJob, id),
		CompletedAt: moment(id), Files: 3, Bytes: 4096,
	}
}

func savepoint(id int64, seq uint64) Found {
	f := checkpoint(id, seq)
	f.JobID, f.Savepoint, f.URI = "", true, fmt.Sprintf("hdfs://dc1/flink/savepoints/orders/savepoint-%d", id)
	return f
}

func putExport(e Export) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_PutExport{PutExport: &raftv1.PutExport{Export: ExportMessage(e)}}}
}

func putRoute(r Route) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_PutRoute{PutRoute: &raftv1.PutRoute{Route: RouteMessage(r)}}}
}

func messagesOf(found []Found) []*ckptferryv1.FoundCheckpoint {
	var messages []*ckptferryv1.FoundCheckpoint
	for _, f := range found {
		messages = append(messages, FoundMessage(f))
	}
	return messages
}

func record(found ...Found) *raftv1.Command {
	return &raftv1.Command{Op: &raftv1.Command_RecordFound{RecordFound: &raftv1.RecordFound{Export: "prod", Found: messagesOf(found)}}}
}

// observe says that the source was seen at that second with what it found; second 0 is no time.
func observe(second int64, found ...Found) *raftv1.Command {
	c := &raftv1.ObserveSource{Route: "prod", Found: messagesOf(found)}
	if second != 0 {
		c.SeenTime = timestamppb.New(moment(second))
	}
	return &raftv1.Command{Op: &raftv1.Command_ObserveSource{ObserveSource: c}}
}

func viewOf(s State) View { return View{AppliedIndex: 1, state: s} }

// ids are the checkpoint ids, in the order of their seqs; -id for a savepoint.
func ids(found []Found) []int64 {
	var all []int64
	for i, f := range found {
		if i > 0 && found[i-1].Seq >= f.Seq {
			panic("not by seq")
		}
		if f.Savepoint {
			f.CheckpointID = -f.CheckpointID
		}
		all = append(all, f.CheckpointID)
	}
	return all
}

func changed[T any](value T, change func(*T)) T {
	change(&value)
	return value
}

func TestWhatARouteOrExportLacksIsRefused(t *testing.T) {
	export := func(change func(*Export)) *raftv1.Command { return putExport(changed(exportProd(), change)) }
	route := func(change func(*Route)) *raftv1.Command { return putRoute(changed(routeProd(), change)) }
	found := func(change func(*Found)) *raftv1.Command { return record(changed(checkpoint(4, 0), change)) }
	noKind := record(checkpoint(4, 0))
	noKind.GetRecordFound().Found[0].Kind = 0
	badTime := record(checkpoint(4, 0))
	badTime.GetRecordFound().Found[0].CompletedTime = &timestamppb.Timestamp{Seconds: 1 << 60}
	seenNever := observe(1)
	seenNever.GetObserveSource().SeenTime = &timestamppb.Timestamp{Seconds: 1 << 60}
	elsewhere := record(checkpoint(4, 0))
	elsewhere.GetRecordFound().Export = "other"
	noRoute := observe(1)
	noRoute.GetObserveSource().Route = "other"

	for name, tc := range map[string]struct {
		cmd  *raftv1.Command
		want error
	}{
		"export without a name":              {export(func(e *Export) { e.Name = "" }), ErrInvalid},
		"export with a path for a name":      {export(func(e *Export) { e.Name = "../prod" }), ErrInvalid},
		"export with a name that is hidden":  {export(func(e *Export) { e.Name = ".prod" }), ErrInvalid},
		"export with an endless name":        {export(func(e *Export) { e.Name = strings.Repeat("x", maxNameBytes+1) }), ErrInvalid},
		"no export":                          {&raftv1.Command{Op: &raftv1.Command_PutExport{PutExport: &raftv1.PutExport{}}}, ErrInvalid},
		"no base":                            {export(func(e *Export) { e.Bases = nil }), ErrInvalid},
		"base that is empty":                 {export(func(e *Export) { e.Bases[0] = "" }), ErrInvalid},
		"base without a scheme":              {export(func(e *Export) { e.Bases[0] = "/flink/{job}" }), ErrInvalid},
		"base with a relative path":          {export(func(e *Export) { e.Bases[0] = "file:flink/{job}" }), ErrInvalid},
		"base with a control character":      {export(func(e *Export) { e.Bases[0] = "file:/flink\n/{job}" }), ErrInvalid},
		"base with a job for its host":       {export(func(e *Export) { e.Bases[0] = "hdfs://{job}/flink" }), ErrInvalid},
		"base without a job":                 {export(func(e *Export) { e.Bases[0] = "hdfs://dc1/flink" }), ErrInvalid},
		"base with two jobs":                 {export(func(e *Export) { e.Bases[0] = "hdfs://dc1/{job}/{job}" }), ErrInvalid},
		"base with a job that is no element": {export(func(e *Export) { e.Bases[0] = "hdfs://dc1/flink-{job}" }), ErrInvalid},
		"also readable, but nowhere":         {export(func(e *Export) { e.AlsoReadable = []string{""} }), ErrInvalid},
		"also readable for each job":         {export(func(e *Export) { e.AlsoReadable = []string{"hdfs://dc1/{job}"} }), ErrInvalid},
		"export to a nameless datacenter":    {export(func(e *Export) { e.To = []string{"dc2", ""} }), ErrInvalid},

		"no route":                           {&raftv1.Command{Op: &raftv1.Command_PutRoute{PutRoute: &raftv1.PutRoute{}}}, ErrInvalid},
		"route without a name":               {route(func(r *Route) { r.Name = "" }), ErrInvalid},
		"route from nowhere":                 {route(func(r *Route) { r.FromDC = "" }), ErrInvalid},
		"route from no export":               {route(func(r *Route) { r.FromExport = "" }), ErrInvalid},
		"route without a root":               {route(func(r *Route) { r.Root = "" }), ErrInvalid},
		"route with a root without a scheme": {route(func(r *Route) { r.Root = "replicas" }), ErrInvalid},
		"route with a bad pattern":           {route(func(r *Route) { r.Exclude = []string{"[a-"} }), ErrInvalid},
		"route with an empty pattern":        {route(func(r *Route) { r.Include = []string{""} }), ErrInvalid},
		"route without a mode":               {route(func(r *Route) { r.Mode = 0 }), ErrInvalid},
		"route with an unknown mode":         {route(func(r *Route) { r.Mode = 9 }), ErrInvalid},
		"route that keeps less than nothing": {route(func(r *Route) { r.Keep = -1 }), ErrInvalid},
		"route with a negative rate":         {route(func(r *Route) { r.BytesPerSecond = -1 }), ErrInvalid},

		"found below an unknown export":        {elsewhere, ErrUnknownExport},
		"nothing found":                        {record(), ErrInvalid},
		"found without a job":                  {found(func(f *Found) { f.Job = "" }), ErrInvalid},
		"found with a job that leads up":       {found(func(f *Found) { f.Job = ".." }), ErrInvalid},
		"found with a job of two elements":     {found(func(f *Found) { f.Job = "a/b" }), ErrInvalid},
		"found with a job id that leads up":    {found(func(f *Found) { f.JobID = JobID("../" + testJob[:29]) }), ErrInvalid},
		"found checkpoint without a job id":    {found(func(f *Found) { f.JobID = "" }), ErrInvalid},
		"found nowhere":                        {found(func(f *Found) { f.URI = "" }), ErrInvalid},
		"found at an endless place":            {found(func(f *Found) { f.URI = "file:/" + strings.Repeat("x", maxURIBytes) }), ErrInvalid},
		"found with a negative id":             {found(func(f *Found) { f.CheckpointID = -1 }), ErrInvalid},
		"found with fewer than no files":       {found(func(f *Found) { f.Files = -1 }), ErrInvalid},
		"found with fewer than no bytes":       {found(func(f *Found) { f.Bytes = -1 }), ErrInvalid},
		"found of no kind":                     {noKind, ErrInvalid},
		"found at a time that cannot be":       {badTime, ErrInvalid},
		"one good and one bad":                 {record(checkpoint(4, 0), Found{}), ErrInvalid},
		"found twice":                          {record(checkpoint(4, 0), checkpoint(4, 0)), ErrInvalid},
		"source that names one twice":          {observe(1, checkpoint(4, 4), checkpoint(4, 5)), ErrInvalid},
		"source that counts down":              {observe(1, checkpoint(4, 5), checkpoint(5, 4)), ErrInvalid},
		"source of an unknown route":           {noRoute, ErrUnknownRoute},
		"source seen never and with nothing":   {observe(0), ErrInvalid},
		"source seen at a time that cannot be": {seenNever, ErrInvalid},
		"source that does not number":          {observe(1, checkpoint(4, 0)), ErrInvalid},
		"source that sends nonsense":           {observe(1, checkpoint(4, 1), Found{Seq: 2}), ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			s := stateAfter(t, putExport(exportProd()), putRoute(routeProd()), record(checkpoint(3, 0)), observe(1, checkpoint(3, 1)))
			before := bytesOf(t, s)
			if err := s.apply(at(tc.cmd, 100)); !errors.Is(err, tc.want) {
				t.Fatalf("apply = %v, want %v", err, tc.want)
			}
			if bytesOf(t, s) != before {
				t.Error("the refused command changed the state")
			}
		})
	}
}

func TestExportIsSetByItsName(t *testing.T) {
	closed := exportProd()
	closed.To = nil
	s := stateAfter(t, putExport(exportProd()), record(checkpoint(4, 0)), putExport(closed))
	v := viewOf(s)
	if e, ok := v.Export("prod"); !ok || len(e.To) != 0 || len(v.Exports()) != 1 {
		t.Errorf("export is %+v of %d", e, len(v.Exports()))
	}
	if got := ids(v.Found("prod")); !slices.Equal(got, []int64{4}) {
		t.Errorf("after a change the export knows %v, want what was found before", got)
	}
	if e, ok := v.Export("other"); ok || v.Found("other") != nil && len(v.Found("other")) > 0 {
		t.Errorf("an unknown export is %+v", e)
	}
}

func TestRouteKeepsSourceAndRootWhileItHasReplicas(t *testing.T) {
	f := fence(0, 1)
	withReplica := commands{putRoute(routeProd()), observe(5, checkpoint(4, 1)), plan(4, f)}
	gone := withReplica.then(fail(4, f), retire(4, f), forget(4, f))
	for name, tc := range map[string]struct {
		given     commands
		change    func(*Route)
		want      error
		forgotten bool // what was known of the source
	}{
		"another root":                    {withReplica, func(r *Route) { r.Root += "2" }, ErrRouteHasReplicas, false},
		"another datacenter":              {withReplica, func(r *Route) { r.FromDC = "dc3" }, ErrRouteHasReplicas, false},
		"another export":                  {withReplica, func(r *Route) { r.FromExport = "test" }, ErrRouteHasReplicas, false},
		"while it is being deleted":       {withReplica.then(fail(4, f), retire(4, f)), func(r *Route) { r.Root += "2" }, ErrRouteHasReplicas, false},
		"something else":                  {withReplica, func(r *Route) { r.Mode, r.Keep, r.Relative = RoutePaused, 0, true }, nil, false},
		"another root after it failed":    {withReplica.then(fail(4, f)), func(r *Route) { r.Root += "2" }, nil, false},
		"another export after it failed":  {withReplica.then(fail(4, f)), func(r *Route) { r.FromExport = "test" }, nil, true},
		"another root after the last":     {gone, func(r *Route) { r.Root += "2" }, nil, false},
		"another export after the last":   {gone, func(r *Route) { r.FromExport = "test" }, nil, true},
		"another datacenter from scratch": {commands{putRoute(routeProd()), observe(5, checkpoint(4, 1))}, func(r *Route) { r.FromDC = "dc3" }, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := stateAfter(t, tc.given...)
			before := bytesOf(t, s)
			want := changed(routeProd(), tc.change)
			if err := s.apply(at(putRoute(want), 100)); !errors.Is(err, tc.want) {
				t.Fatalf("apply = %v, want %v", err, tc.want)
			}
			if tc.want != nil {
				if bytesOf(t, s) != before {
					t.Error("the refused command changed the state")
				}
				return
			}
			v := viewOf(s)
			if moved := want.Root != routeProd().Root || tc.forgotten; moved && len(v.Replicas()) > 0 {
				t.Errorf("the route moved and has %v", v.Replicas())
			}
			if r, ok := v.Route("prod"); !ok || fmt.Sprint(r) != fmt.Sprint(want) {
				t.Errorf("route is %+v, want %+v", r, want)
			}
			if len(v.Known("prod")) == 0 != tc.forgotten || v.SeenAt("prod").IsZero() != tc.forgotten {
				t.Errorf("knows %v, seen at %s; forgotten should be %t", v.Known("prod"), v.SeenAt("prod"), tc.forgotten)
			}
		})
	}
}

func TestRouteDoesNotSetItsEpoch(t *testing.T) {
	route := routeProd()
	route.Epoch = 9
	s := stateAfter(t, raise(2), putRoute(route))
	if err := s.check(); err != nil {
		t.Error(err)
	}
	if r, _ := viewOf(s).Route("prod"); r.Epoch != 2 || viewOf(s).Routes()[0].Epoch != 2 {
		t.Errorf("route is at epoch %d, want the state's 2", r.Epoch)
	}
	if got := viewOf(stateAfter(t, raise(2))).Routes(); len(got) != 0 {
		t.Errorf("routes %v: want none, a raised epoch is not a route", got)
	}
}

func TestFoundIsNumberedInTheOrderOfItsFinding(t *testing.T) {
	otherLife, otherCRC, otherPlace := checkpoint(1, 0), checkpoint(1, 0), checkpoint(1, 0)
	otherLife.JobID = JobID(strings.Repeat("a", 32))
	otherCRC.MetadataCRC++
	otherPlace.URI += "x"
	described := changed(checkpoint(2, 77), func(f *Found) { f.Files, f.CompletedAt = 9, moment(999) })
	s := stateAfter(t, putExport(exportProd()), record(checkpoint(2, 99), checkpoint(1, 98)), // a proposer's seqs mean nothing
		record(checkpoint(1, 0), otherLife, otherCRC), record(otherPlace, savepoint(7, 0)), record(described))
	found := viewOf(s).Found("prod")
	if got := ids(found); !slices.Equal(got, []int64{2, 1, 1, 1, 1, -7}) {
		t.Fatalf("found %v", got)
	}
	if found[0].Files != 3 || !found[0].CompletedAt.Equal(moment(2)) || found[0].Seq == 99 {
		t.Errorf("the first is %+v, want it as it was found first", found[0])
	}
	if got := viewOf(s).FoundAfter("prod", found[3].Seq); !slices.Equal(ids(got), []int64{1, -7}) {
		t.Errorf("after seq %d: %v", found[3].Seq, got)
	}
	if got := viewOf(s).FoundAfter("prod", 1<<64-1); got != nil {
		t.Errorf("after the highest seq: %v", got)
	}
}

func TestAGroupThatLostItsStateCountsOn(t *testing.T) {
	first := stateAfter(t, putExport(exportProd()), record(checkpoint(2, 0), checkpoint(3, 0)))
	target := stateAfter(t, putRoute(routeProd()), observe(1, viewOf(first).Found("prod")...))
	rebuilt := newState() // knows nothing, and finds other checkpoints a while later
	for i, cmd := range (commands{putExport(exportProd()), record(checkpoint(4, 0))}) {
		if err := rebuilt.apply(at(cmd, int64(1000+i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := target.apply(at(observe(1001, viewOf(rebuilt).Found("prod")...), 1001)); err != nil {
		t.Fatal(err)
	}
	if got := ids(viewOf(target).Known("prod")); !slices.Equal(got, []int64{2, 3, 4}) {
		t.Errorf("the target knows %v, want the rebuilt group's as the newest", got)
	}
}

func TestClockThatStepsBackDoesNotChangeTheOrder(t *testing.T) {
	s := newState()
	for i, second := range []int64{1000, -3_000_000_000, 1000, 10} { // the second one is before 1970
		cmd := putExport(exportProd())
		if i > 0 {
			cmd = record(checkpoint(int64(i), 0))
		}
		if err := s.apply(at(cmd, second)); err != nil {
			t.Fatal(err)
		}
	}
	if got := viewOf(s).Found("prod"); !slices.Equal(ids(got), []int64{1, 2, 3}) || got[0].Seq != 1 || got[1].Seq != uint64(moment(1000).UnixMilli()) {
		t.Errorf("found %v", got)
	}
}

func TestOfEachJobTheNewestAreKept(t *testing.T) {
	log := commands{putExport(exportProd()), putRoute(routeProd())}
	other := checkpoint(1, 1)
	other.Job = "pay"
	log = log.then(record(other), observe(1, other))
	want := []int64{1}
	for i := int64(1); i <= KeepFound+3; i++ {
		seq := uint64(10 * i)
		log = log.then(record(checkpoint(i, 0), savepoint(i, 0)), observe(1, checkpoint(i, seq), savepoint(i, seq+1)))
		if i > 3 {
			want = append(want, i, -i)
		}
	}
	s := stateAfter(t, log...)
	if got := ids(viewOf(s).Found("prod")); !slices.Equal(got, want) {
		t.Errorf("the source keeps %v, want %v", got, want)
	}
	if got := ids(viewOf(s).Known("prod")); !slices.Equal(got, want) {
		t.Errorf("the target keeps %v, want %v", got, want)
	}
	// An old one again is not news: at the target its seq says so.
	if err := s.apply(at(observe(1, checkpoint(2, 20)), 100)); err != nil {
		t.Fatal(err)
	}
	if got := ids(viewOf(s).Known("prod")); !slices.Equal(got, want) {
		t.Errorf("after an old one the target keeps %v, want %v", got, want)
	}
	if got := viewOf(s).RouteJobs("prod"); !slices.Equal(got, []string{"orders", "pay"}) || !slices.Equal(got, viewOf(s).ExportJobs("prod")) {
		t.Errorf("jobs %v", got)
	}
	if got := ids(viewOf(s).JobKnown("prod", "pay")); !slices.Equal(got, []int64{1}) || len(viewOf(s).JobFound("prod", "pay")) != 1 {
		t.Errorf("known of pay: %v", got)
	}
}

func TestListingWhatWasPushedOutIsNoNews(t *testing.T) {
	var all []Found
	for i := int64(1); i <= 20; i++ {
		all = append(all, checkpoint(i, 0), savepoint(i, 0))
	}
	s := stateAfter(t, putExport(exportProd()), record(all...), record(all...), record(append(all, checkpoint(21, 0))...), record(all...))
	got := ids(viewOf(s).Found("prod"))
	if !slices.Equal(got, []int64{-13, 14, -14, 15, -15, 16, -16, 17, -17, 18, -18, 19, -19, 20, -20, 21}) {
		t.Errorf("found %v, want the newest, once", got)
	}
}

func TestSourceIsSeenNeverEarlierThanBefore(t *testing.T) {
	s := stateAfter(t, putRoute(routeProd()), observe(50), observe(20, checkpoint(4, 1)), observe(0, checkpoint(5, 2)))
	if got := viewOf(s).SeenAt("prod"); !got.Equal(moment(50)) {
		t.Errorf("seen at %s, want %s", got, moment(50))
	}
	if got := ids(viewOf(s).Known("prod")); !slices.Equal(got, []int64{4, 5}) {
		t.Errorf("known %v", got)
	}
}

func TestSourceThatCountedBackIsBelievedFromThere(t *testing.T) {
	s := stateAfter(t, putRoute(routeProd()), observe(1, checkpoint(1, 1), checkpoint(2, 2), checkpoint(3, 3)),
		observe(2, checkpoint(1, 1), checkpoint(3, 2), checkpoint(9, 3)))
	if got := ids(viewOf(s).Known("prod")); !slices.Equal(got, []int64{1, 3, 9}) {
		t.Errorf("known %v", got)
	}
}

func TestHighestNumberOfACheckpointCounts(t *testing.T) {
	log := commands{putRoute(routeProd()), observe(1, checkpoint(1, 1), checkpoint(2, 2)), observe(2, checkpoint(1, 7)), observe(3, checkpoint(1, 1))}
	got := viewOf(stateAfter(t, log...)).Known("prod")
	if !slices.Equal(ids(got), []int64{2, 1}) || got[1].Seq != 7 {
		t.Errorf("known %v", got)
	}
}

func TestReplicaOfASavepointWithoutAJobID(t *testing.T) {
	f := fence(0, 1)
	log := copied(4, f)
	for _, cmd := range log {
		switch op := cmd.GetOp().(type) {
		case *raftv1.Command_PlanReplica:
			op.PlanReplica.Key.JobId = ""
		case *raftv1.Command_StartCopy:
			op.StartCopy.Key.JobId = ""
		case *raftv1.Command_MarkReady:
			op.MarkReady.Key.JobId = ""
			op.MarkReady.Uri = "hdfs://dc2/flink/replicas/prod/savepoint-8fc5c1-1"
		}
	}
	v := viewOf(stateAfter(t, log.then(log[0], log[2])...)) // the same again, also after the replica moved
	replicas := v.JobReplicas("prod", "orders")
	if len(replicas) != 1 || replicas[0].URI != "hdfs://dc2/flink/replicas/prod/savepoint-8fc5c1-1" || replicas[0].Status != StatusReady {
		t.Errorf("replicas %+v", replicas)
	}
	if others := slices.Concat(v.JobReplicas("prod", "order"), v.JobReplicas("pro", "orders")); len(others) != 0 {
		t.Errorf("replicas of other jobs: %v", others)
	}
}
