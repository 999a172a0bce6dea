package agent

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
	"github.com/ckptferry/ckptferry/replicator/promote"
)

// dc is a datacenter with one agent: its storage in memory, its group a real one with one voter.
type dc struct {
	name    string
	storage *storage
	store   *raftstore.Store
	group   *breakable
	agent   *Agent
	cfg     Config
	stop    func() // the agent, as a process that ends
}

// breakable is a group whose leadership a test can take away and give back.
type breakable struct {
	*raftstore.Store
	mu   sync.Mutex
	lost context.CancelFunc
	back chan struct{} // closed: it may lead
}

// WhileLeader calls run for each time that the test lets it lead.
func (b *breakable) WhileLeader(ctx context.Context, run func(ctx context.Context, term uint64) error) error {
	return b.Store.WhileLeader(ctx, func(ctx context.Context, term uint64) error {
		for ctx.Err() == nil {
			b.mu.Lock()
			back := b.back
			leading, lost := context.WithCancel(ctx)
			b.lost = lost
			b.mu.Unlock()
			select {
			case <-back:
				if err := run(leading, term); err != nil {
					return err
				}
			case <-ctx.Done():
			}
			lost()
		}
		return nil
	})
}

// depose takes the leadership away until the returned function is called.
func (b *breakable) depose() (restore func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	back := make(chan struct{})
	b.back = back
	b.lost()
	return func() { close(back) }
}

// world is two datacenters: dc1 exports what lies below file:/cp, dc2 replicates it to file:/replicas. Both call
// their own storage file:.
type world struct {
	t        *testing.T
	dc1, dc2 *dc
	link     *link
}

// link is dc1 as dc2 sees it.
type link struct {
	to *dc

	mu  sync.Mutex
	err error // the link is down
}

func (l *link) down(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *link) broken() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Watch is what a source's agents do: all that is known, then what is new, and signs of life.
func (l *link) Watch(ctx context.Context, export string, each func(News) error) error {
	sent := uint64(0)
	for {
		if err := l.broken(); err != nil {
			return err
		}
		n := News{Complete: true}
		n.Gone = l.to.agent.Gone(export)
		n.PolledAt, n.Problem = l.to.agent.Polled(export)
		for _, f := range l.to.store.View().FoundAfter(export, sent) {
			n.Found, sent = append(n.Found, f), f.Seq
		}
		if err := each(n); err != nil {
			return err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func (l *link) TellFences(ctx context.Context, export string, jobs []raftstore.FencedJob) ([]raftstore.FencedJob, error) {
	if err := l.broken(); err != nil {
		return nil, err
	}
	return promote.RecordFences(ctx, l.to.store, promote.Told{Export: export, Datacenter: "dc2", Jobs: jobs})
}

func (l *link) Open(string) ReadOpener { return linkOpener{l} }

type linkOpener struct{ *link }

func (l linkOpener) OpenRead(ctx context.Context, root fsutil.URI) (fsutil.ReadFS, error) {
	if err := l.broken(); err != nil {
		return nil, err
	}
	return l.to.storage.OpenRead(ctx, root)
}

// inWorld runs a test on the fake clock, with two datacenters whose agents run.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, dc1: newDC(t, "dc1"), dc2: newDC(t, "dc2")}
		w.link = &link{to: w.dc1}
		w.dc2.cfg.Sources = map[string]SourceDC{"dc1": w.link}
		w.dc1.run(t)
		w.dc2.run(t)
		w.apply([]raftstore.Export{{Name: "prod", Bases: []string{cp}, To: []string{"dc2"}}}, nil)
		w.route(func(*raftstore.Route) {})
		test(t, w)
	})
}

func newDC(t *testing.T, name string) *dc {
	t.Helper()
	d := &dc{name: name, storage: newStorage()}
	store, err := raftstore.Open(raftstore.Config{Group: name, ID: name + "-a", Dir: t.TempDir(), Peers: []raftstore.Peer{{ID: name + "-a"}}, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	leads := make(chan struct{})
	close(leads)
	d.store, d.group = store, &breakable{Store: store, back: leads}
	d.cfg = Config{ID: name + "-a", Datacenter: name, Group: d.group, Stores: d.storage, Poll: time.Second, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	return d
}

// run starts the agent, also again after stop.
func (d *dc) run(t *testing.T) {
	t.Helper()
	a, err := New(d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.agent = a
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stopped := false
	d.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run of %s = %v", d.name, err)
		}
	}
	t.Cleanup(d.stop)
}

// apply retries until the groups lead.
func (w *world) apply(exports []raftstore.Export, routes []raftstore.Route) {
	w.t.Helper()
	group := w.dc2.group
	if len(exports) > 0 {
		group = w.dc1.group
	}
	var err error
	for range 100 {
		if _, err = ApplyRoutes(w.t.Context(), group, exports, routes, false); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Fatal(err)
}

// route applies dc2's route, changed.
func (w *world) route(change func(*raftstore.Route)) {
	w.t.Helper()
	r := raftstore.Route{Name: "prod", FromDC: "dc1", FromExport: "prod", Root: "file:/replicas", Mode: raftstore.RouteContinuous}
	change(&r)
	w.apply(nil, []raftstore.Route{r})
}

// pass lets time pass, on the bubble's clock: on the real one it fails.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	time.Sleep(d)
	synctest.Wait()
}

// until waits for a condition, a minute at most.
func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	for range 6000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatalf("not within a minute: %s; replicas: %s", what, w.replicas())
}

// replicas lists what dc2 has on record: "orders/chk-3 READY 1", with the attempt.
func (w *world) replicas() []string {
	var out []string
	for _, r := range w.dc2.store.View().Replicas() {
		out = append(out, fmt.Sprintf("%s/%s %s %d", r.Job, path.Base(r.URI), r.Status, r.Planned.Attempt))
	}
	return out
}

func (w *world) is(replica string) func() bool {
	return func() bool { return slices.Contains(w.replicas(), replica) }
}

// whole checks that everything READY is on dc2's storage, by its own manifest.
func (w *world) whole() {
	w.t.Helper()
	n := 0
	for _, r := range w.dc2.store.View().Replicas() {
		if r.Status != raftstore.StatusReady {
			continue
		}
		n++
		report, err := replicator.Check(w.t.Context(), w.dc2.storage, replicator.CheckRequest{Dir: mustURI(r.URI)})
		if err != nil || !report.Digests {
			w.t.Errorf("%s is READY, and its check says %+v, %v", r.Key, report, err)
		}
	}
	if n == 0 {
		w.t.Error("nothing is READY")
	}
}

// entries is how many commands dc2's group has agreed on.
func (d *dc) entries() uint64 { return d.store.View().AppliedIndex }

// raise sets the route's epoch, as a promotion does.
func (w *world) raise(epoch uint64) {
	w.t.Helper()
	err := w.dc2.group.Propose(w.t.Context(), &raftv1.Command{Op: &raftv1.Command_RaiseEpoch{RaiseEpoch: &raftv1.RaiseEpoch{Route: "prod", Epoch: epoch}}})
	if err != nil {
		w.t.Fatal(err)
	}
}
