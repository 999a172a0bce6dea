package fsutil

import (
	"context"
	"path"
	"slices"
	"sync"
)

// dirSync makes directory entries durable by fsync, and lets those who wait for one directory at a time share one:
// a round starts after everybody in it has changed the directory. 10,000 renames into one directory by 32 workers
// need some hundred rounds.
type dirSync struct {
	fsync func(dir string) error // "." is the root

	mu     sync.Mutex
	queues map[string]*dirQueue
	// linked are the directories whose own entry, up to the root, is known to be durable. What this process hasn't
	// synced is not believed: another may have made a directory and died before it synced that.
	linked map[string]bool
	links  map[*linking]struct{} // in progress
	moving map[string]int        // how many calls between beginMove and endMove change this directory's own entry
}

// linking is one call that makes missing linked, if none of them is moved meanwhile.
type linking struct {
	missing []string // deepest first
	moved   bool
}

// dirQueue is the state of one directory while somebody waits for it, or while it has changes that no fsync has
// covered because it failed or nobody waited for it.
type dirQueue struct {
	turn    chan struct{} // holds a token while a round runs
	next    *dirRound     // the round that has not started; nil when nobody waits for it
	waiters int
	dirty   bool
}

type dirRound struct {
	done chan struct{}
	err  error // set before done is closed
}

func newDirSync(fsync func(dir string) error) *dirSync {
	return &dirSync{
		fsync:  fsync,
		queues: map[string]*dirQueue{},
		linked: map[string]bool{},
		links:  map[*linking]struct{}{},
		moving: map[string]int{},
	}
}

// commit makes the entries of dir durable as they are now, and the way to them from the root. If dir was removed
// since, or made again, that becomes durable, and with it that the old entries are gone. With an error, also that of
// ctx, all this may be durable or not.
func (s *dirSync) commit(ctx context.Context, dir string) error {
	if err := s.sync(ctx, dir); err != nil {
		return err
	}
	return s.link(ctx, dir)
}

// sync returns when an fsync of dir that started after the call is over.
func (s *dirSync) sync(ctx context.Context, dir string) error {
	s.mu.Lock()
	q := s.queues[dir]
	if q == nil {
		q = &dirQueue{turn: make(chan struct{}, 1)}
		s.queues[dir] = q
	}
	if q.next == nil {
		q.next = &dirRound{done: make(chan struct{})}
	}
	round := q.next
	q.waiters++
	s.mu.Unlock()

	err := s.wait(ctx, dir, q, round)

	s.mu.Lock()
	defer s.mu.Unlock()
	q.waiters--
	q.dirty = q.dirty || err != nil
	if q.waiters == 0 && !q.dirty {
		delete(s.queues, dir)
	}
	return err
}

// wait returns when round is over. Whoever gets the turn first runs it for all.
func (s *dirSync) wait(ctx context.Context, dir string, q *dirQueue, round *dirRound) error {
	select {
	case <-round.done:
		return round.err
	case <-ctx.Done():
		return ctx.Err()
	case q.turn <- struct{}{}:
	}
	defer func() { <-q.turn }()
	select {
	case <-round.done:
		return round.err
	default:
	}
	s.mu.Lock()
	q.next, q.dirty = nil, false
	s.mu.Unlock()
	round.err = s.fsync(dir)
	close(round.done)
	return round.err
}

// settle commits dir and its parents as far as they have changes that aren't known to be durable.
func (s *dirSync) settle(ctx context.Context, dir string) error {
	for d := dir; ; d = path.Dir(d) {
		s.mu.Lock()
		pending := s.queues[d] != nil
		s.mu.Unlock()
		if pending {
			if err := s.commit(ctx, d); err != nil {
				return err
			}
		}
		if d == "." {
			return nil
		}
	}
}

// link makes the entry of dir durable, and those of its parents up to the root.
func (s *dirSync) link(ctx context.Context, dir string) error {
	l := &linking{}
	s.mu.Lock()
	for d := dir; d != "." && !s.linked[d]; d = path.Dir(d) {
		l.missing = append(l.missing, d)
	}
	s.links[l] = struct{}{}
	s.mu.Unlock()

	var err error
	for i := len(l.missing) - 1; i >= 0 && err == nil; i-- {
		err = s.sync(ctx, path.Dir(l.missing[i]))
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, l)
	if err != nil || l.moved || slices.ContainsFunc(l.missing, func(d string) bool { return s.moving[d] > 0 }) {
		return err
	}
	for _, d := range l.missing {
		s.linked[d] = true
	}
	return nil
}

// beginMove says that these names, which may be directories, are about to be made or removed; endMove must follow.
// Until then nothing is believed about them.
func (s *dirSync) beginMove(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		delete(s.linked, name)
		s.moving[name]++
	}
}

func (s *dirSync) endMove(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		if s.moving[name]--; s.moving[name] == 0 {
			delete(s.moving, name)
		}
		for l := range s.links {
			l.moved = l.moved || slices.Contains(l.missing, name)
		}
	}
}
