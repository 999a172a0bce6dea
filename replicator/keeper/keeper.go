package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator"
)

// Group is the datacenter's replicated state; *raftstore.Store is the one of the product.
type Group interface {
	Propose(ctx context.Context, cmd *raftv1.Command) error
	View() raftstore.View
}

// Config is what a keeper works with. Group and Stores are needed.
type Config struct {
	Group  Group
	Stores replicator.Opener
	// Every is the time between two passes of retention; 0: DefaultEvery.
	Every time.Duration
	// SweepEvery is the time between two sweeps of everything; what was retired is swept after each pass. 0: DefaultSweepEvery.
	SweepEvery time.Duration
	// ScrubEvery is how old the last look at every byte of a replica may be; 0: nothing is scrubbed by itself.
	ScrubEvery time.Duration
	// ScrubBytesPerSecond bounds what scrubs read, all together; 0: no bound.
	ScrubBytesPerSecond int64
	Log                 *slog.Logger     // nil discards
	Now                 func() time.Time // nil: time.Now; ages of what is in the state
}

// The defaults.
const (
	DefaultEvery      = time.Minute
	DefaultSweepEvery = time.Hour
)

// Keeper keeps the storage of a target in order. Its chores are run by whoever leads; its other methods may be called at any
// time, from any agent for those that only look. It is safe for concurrent use.
type Keeper struct {
	cfg        Config
	scrubLimit *replicator.Limit

	working sync.Mutex // one pass at a time: a retirement, a sweep
	scrubs  sync.Mutex // one scrub at a time

	mu    sync.Mutex // guards what follows
	stats map[string]*Stats
}

// New checks the configuration. Nothing runs before a chore does.
func New(cfg Config) (*Keeper, error) {
	switch {
	case cfg.Group == nil || cfg.Stores == nil:
		return nil, errors.New("a keeper needs a group and stores")
	case cfg.Every < 0 || cfg.SweepEvery < 0 || cfg.ScrubEvery < 0 || cfg.ScrubBytesPerSecond < 0:
		return nil, errors.New("a keeper's times and rates can't be negative")
	}
	cfg.Every, cfg.SweepEvery = cmp.Or(cfg.Every, DefaultEvery), cmp.Or(cfg.SweepEvery, DefaultSweepEvery)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Keeper{cfg: cfg, scrubLimit: replicator.NewLimit(cfg.ScrubBytesPerSecond), stats: map[string]*Stats{}}, nil
}

// SetScrubRate bounds what scrubs read, all together; 0: no bound. One under way follows.
func (k *Keeper) SetScrubRate(bytesPerSecond int64) { k.scrubLimit.Set(bytesPerSecond) }

// Stats is what the keeper of this process has done and seen of a route.
type Stats struct {
	Route string
	// Since the process began.
	Retired     int64 // replicas that were deleted
	Freed       int64 // bytes of files that were deleted
	Quarantined int64 // replicas in which rot was found
	ScrubBytes  int64 // that were read
	// As last seen.
	TrashFiles    int64
	TrashBytes    int64
	ScrubProblems int64  // promoted replicas that were found to be not what they were; they stay in use
	Problem       string // why the route can't be swept or retired, or not all of it; empty when all is well
}

// Stats lists what is known, by route.
func (k *Keeper) Stats() []Stats {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []Stats
	for _, route := range slices.Sorted(maps.Keys(k.stats)) {
		all = append(all, *k.stats[route])
	}
	return all
}

func (k *Keeper) note(route string, change func(*Stats)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.stats[route]
	if s == nil {
		s = &Stats{Route: route}
		k.stats[route] = s
	}
	change(s)
}

// propose is raftstore.ProposeUntilKnown of the keeper's group.
func (k *Keeper) propose(ctx context.Context, cmd *raftv1.Command) error {
	return raftstore.ProposeUntilKnown(ctx, k.cfg.Group, cmd)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// fenceOf is what a command about a replica speaks for.
func fenceOf(view raftstore.View, r raftstore.Replica) *raftv1.Fence {
	return &raftv1.Fence{Epoch: view.JobEpoch(r.Key.Route, r.Job), Attempt: r.Planned.Attempt}
}

// place is a root and the routes that make replicas below it.
type place struct {
	root   fsutil.URI
	routes []string // sorted
	grace  time.Duration
}

// places lists the roots that replicas lie below, or may: those of routes, also of removed ones, and of replicas on record.
func places(view raftstore.View) []place {
	byRoot := map[string]*place{}
	add := func(root fsutil.URI, route string, grace time.Duration) {
		p := byRoot[root.String()]
		if p == nil {
			p = &place{root: root}
			byRoot[root.String()] = p
		}
		if !slices.Contains(p.routes, route) {
			p.routes = append(p.routes, route)
		}
		p.grace = max(p.grace, grace)
	}
	for _, r := range slices.Concat(view.Routes(), view.RemovedRoutes()) {
		if root, err := fsutil.ParseURI(r.Root); err == nil {
			add(root, r.Name, graceOf(r))
		}
	}
	last := ""
	for r := range view.AllReplicas() {
		dir, err := fsutil.ParseURI(r.URI)
		if err != nil {
			continue
		}
		root, _ := replicator.PlaceOf(dir)
		if at := r.Key.Route + " " + root.String(); at != last {
			add(root, r.Key.Route, 0)
			last = at
		}
	}
	all := make([]place, 0, len(byRoot))
	for _, root := range slices.Sorted(maps.Keys(byRoot)) {
		p := byRoot[root]
		slices.Sort(p.routes)
		p.grace = cmp.Or(p.grace, DefaultGrace)
		all = append(all, *p)
	}
	return all
}

// workedOn says of a name below the root (a replica's, or its top) whether an attempt of the place's routes may be at work on it.
func (p place) workedOn(view raftstore.View) func(name string) bool {
	at := map[string]bool{}
	for _, route := range p.routes {
		for r := range view.RouteReplicas(route) {
			if r.Status != raftstore.StatusPlanned && r.Status != raftstore.StatusCopying {
				continue
			}
			if dir, err := fsutil.ParseURI(r.URI); err == nil {
				_, name := replicator.PlaceOf(dir)
				at[name], at[replicator.Top(name)] = true, true
			}
		}
	}
	return func(name string) bool { return at[name] }
}

// jobsOf parts the replicas of a route by job name.
func jobsOf(view raftstore.View, route string) (names []string, replicas map[string][]raftstore.Replica) {
	replicas = map[string][]raftstore.Replica{}
	for r := range view.RouteReplicas(route) {
		if len(replicas[r.Job]) == 0 {
			names = append(names, r.Job)
		}
		replicas[r.Job] = append(replicas[r.Job], r)
	}
	return names, replicas
}

// routesOnRecord are the routes that have replicas, or may: applied ones, removed ones.
func routesOnRecord(view raftstore.View) []string {
	names := map[string]bool{}
	for _, p := range places(view) {
		for _, route := range p.routes {
			names[route] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// reason is one line that the state takes.
func reason(err error) string {
	s := strings.Join(strings.Fields(strings.ToValidUTF8(err.Error(), "�")), " ")
	if len(s) > 1500 {
		s = strings.ToValidUTF8(s[:1500], "") + "…"
	}
	return s
}

// opened is a place's file system.
func (k *Keeper) opened(ctx context.Context, root fsutil.URI) (fsutil.FS, error) {
	dst, err := k.cfg.Stores.Open(ctx, root)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	return dst, nil
}
