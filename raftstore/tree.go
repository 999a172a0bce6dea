package raftstore

import (
	"iter"
	"slices"
)

// tree is a sorted map that never changes: with and without return another one, which shares all with the first but
// the path to the key (an AVL tree whose paths are copied). So a view of the state costs nothing, and a change after it
// costs a few small allocations, however large the state is.
type tree[K, V any] struct {
	compare func(a, b K) int
	root    *node[K, V]
	size    int
}

type node[K, V any] struct {
	entry       *entry[K, V] // apart, so that copying a path copies no keys and values
	left, right *node[K, V]
	height      int
}

type entry[K, V any] struct {
	key   K
	value V
}

func newTree[K, V any](compare func(a, b K) int) tree[K, V] { return tree[K, V]{compare: compare} }

func (t tree[K, V]) len() int { return t.size }

func (t tree[K, V]) get(key K) (V, bool) {
	for n := t.root; n != nil; {
		switch c := t.compare(key, n.entry.key); {
		case c < 0:
			n = n.left
		case c > 0:
			n = n.right
		default:
			return n.entry.value, true
		}
	}
	var none V
	return none, false
}

// at is get, with the zero value where there is nothing.
func (t tree[K, V]) at(key K) V {
	value, _ := t.get(key)
	return value
}

func (t tree[K, V]) has(key K) bool {
	_, ok := t.get(key)
	return ok
}

func (t tree[K, V]) with(key K, value V) tree[K, V] {
	if !t.has(key) {
		t.size++
	}
	t.root = t.insert(t.root, &entry[K, V]{key, value})
	return t
}

func (t tree[K, V]) without(key K) tree[K, V] {
	if t.has(key) {
		t.size--
		t.root = t.remove(t.root, key)
	}
	return t
}

// last returns the entry with the highest key, zero values where there is none.
func (t tree[K, V]) last() (K, V) {
	if t.root == nil {
		var key K
		var value V
		return key, value
	}
	n := t.root
	for n.right != nil {
		n = n.right
	}
	return n.entry.key, n.entry.value
}

// all lists the map by key.
func (t tree[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		t.root.each(func(e *entry[K, V]) bool { return yield(e.key, e.value) })
	}
}

// from lists the keys that are not below start.
func (t tree[K, V]) from(start K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		t.eachFrom(t.root, start, func(e *entry[K, V]) bool { return yield(e.key, e.value) })
	}
}

// values lists the values by key.
func (t tree[K, V]) values() []V {
	values := make([]V, 0, t.size)
	t.root.each(func(e *entry[K, V]) bool {
		values = append(values, e.value)
		return true
	})
	return values
}

// filled makes a tree of many entries at once, and says whether no key came twice. It keeps the slice.
func (t tree[K, V]) filled(entries []*entry[K, V]) (tree[K, V], bool) {
	slices.SortFunc(entries, func(a, b *entry[K, V]) int { return t.compare(a.key, b.key) })
	for i := 1; i < len(entries); i++ {
		if t.compare(entries[i-1].key, entries[i].key) == 0 {
			return t, false
		}
	}
	t.root, t.size = halves(entries), len(entries)
	return t, true
}

func halves[K, V any](sorted []*entry[K, V]) *node[K, V] {
	if len(sorted) == 0 {
		return nil
	}
	mid := len(sorted) / 2
	return join(halves(sorted[:mid]), sorted[mid], halves(sorted[mid+1:]))
}

func (n *node[K, V]) each(yield func(*entry[K, V]) bool) bool {
	return n == nil || (n.left.each(yield) && yield(n.entry) && n.right.each(yield))
}

func (t tree[K, V]) eachFrom(n *node[K, V], start K, yield func(*entry[K, V]) bool) bool {
	switch {
	case n == nil:
		return true
	case t.compare(n.entry.key, start) < 0:
		return t.eachFrom(n.right, start, yield)
	}
	return t.eachFrom(n.left, start, yield) && yield(n.entry) && n.right.each(yield)
}

func (t tree[K, V]) insert(n *node[K, V], e *entry[K, V]) *node[K, V] {
	if n == nil {
		return join(nil, e, nil)
	}
	switch c := t.compare(e.key, n.entry.key); {
	case c < 0:
		return balanced(t.insert(n.left, e), n.entry, n.right)
	case c > 0:
		return balanced(n.left, n.entry, t.insert(n.right, e))
	default:
		return join(n.left, e, n.right)
	}
}

// remove takes out a key that is there.
func (t tree[K, V]) remove(n *node[K, V], key K) *node[K, V] {
	switch c := t.compare(key, n.entry.key); {
	case c < 0:
		return balanced(t.remove(n.left, key), n.entry, n.right)
	case c > 0:
		return balanced(n.left, n.entry, t.remove(n.right, key))
	case n.left == nil:
		return n.right
	case n.right == nil:
		return n.left
	}
	next := n.right
	for next.left != nil {
		next = next.left
	}
	return balanced(n.left, next.entry, t.remove(n.right, next.entry.key))
}

func (n *node[K, V]) tall() int {
	if n == nil {
		return 0
	}
	return n.height
}

func join[K, V any](left *node[K, V], e *entry[K, V], right *node[K, V]) *node[K, V] {
	return &node[K, V]{entry: e, left: left, right: right, height: 1 + max(left.tall(), right.tall())}
}

// balanced is join for two subtrees whose heights differ by two at most: one insert or remove lies between.
func balanced[K, V any](left *node[K, V], e *entry[K, V], right *node[K, V]) *node[K, V] {
	switch lean := left.tall() - right.tall(); {
	case lean > 1 && left.left.tall() >= left.right.tall():
		return join(left.left, left.entry, join(left.right, e, right))
	case lean > 1:
		mid := left.right
		return join(join(left.left, left.entry, mid.left), mid.entry, join(mid.right, e, right))
	case lean < -1 && right.right.tall() >= right.left.tall():
		return join(join(left, e, right.left), right.entry, right.right)
	case lean < -1:
		mid := right.left
		return join(join(left, e, mid.left), mid.entry, join(mid.right, right.entry, right.right))
	}
	return join(left, e, right)
}
