package raftstore

import (
	"iter"
	"reflect"
)

// ReplicaChange is a replica as it was in an older view and as it is in a newer one.
type ReplicaChange struct {
	Before, Now Replica
	Was, Is     bool // whether there was one, and is one
}

// ReplicaChanges lists by key the replicas that differ between an older view and this one; the zero View is before all.
// It costs what changed and not what there is, as long as the views are of one life of the process: they share the rest.
func (v View) ReplicaChanges(since View) iter.Seq[ReplicaChange] {
	return func(yield func(ReplicaChange) bool) {
		compare := newState().Replicas.compare
		before, now := cursor[Key, Replica]{}, cursor[Key, Replica]{}
		before.push(since.state.Replicas.root)
		now.push(v.state.Replicas.root)
		for {
			was, is := nextDifference(&before, &now, compare)
			var c ReplicaChange
			if was != nil {
				c.Before, c.Was = was.value, true
			}
			if is != nil {
				c.Now, c.Is = is.value, true
			}
			switch {
			case !c.Was && !c.Is:
				return
			case c.Was && c.Is && reflect.DeepEqual(c.Before, c.Now): // written again, or read from a snapshot
			case !yield(c):
				return
			}
		}
	}
}

// cursor is what is left of a walk through a tree, the next on top.
type cursor[K, V any] struct{ left []step[K, V] }

// step is a whole subtree, or one entry alone.
type step[K, V any] struct {
	subtree *node[K, V]
	entry   *entry[K, V]
}

func (c *cursor[K, V]) push(n *node[K, V]) {
	if n != nil {
		c.left = append(c.left, step[K, V]{subtree: n})
	}
}

func (c *cursor[K, V]) top() step[K, V] {
	if len(c.left) == 0 {
		return step[K, V]{}
	}
	return c.left[len(c.left)-1]
}

func (c *cursor[K, V]) pop() { c.left = c.left[:len(c.left)-1] }

// open puts the parts of the subtree on top in its place.
func (c *cursor[K, V]) open() {
	n := c.top().subtree
	c.pop()
	c.push(n.right)
	c.left = append(c.left, step[K, V]{entry: n.entry})
	c.push(n.left)
}

// nextDifference returns the next entry that both trees don't share: of both when they have the key, of one of them when
// only that one does, none at the end. A subtree that both share is passed over whole: the taller one is opened first, so
// the two walks come to it together.
func nextDifference[K, V any](before, now *cursor[K, V], compare func(a, b K) int) (was, is *entry[K, V]) {
	for {
		b, n := before.top(), now.top()
		switch {
		case b == n && b == step[K, V]{}:
			return nil, nil
		case b == n:
			before.pop()
			now.pop()
		case b.subtree != nil && b.subtree.tall() >= n.subtree.tall():
			before.open()
		case n.subtree != nil:
			now.open()
		case n.entry == nil:
			before.pop()
			return b.entry, nil
		case b.entry == nil:
			now.pop()
			return nil, n.entry
		default:
			c := compare(b.entry.key, n.entry.key)
			if c <= 0 {
				before.pop()
				was = b.entry
			}
			if c >= 0 {
				now.pop()
				is = n.entry
			}
			return was, is
		}
	}
}
