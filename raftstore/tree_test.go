package raftstore

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestTreeIsAMapThatNeverChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type version struct {
			tree tree[int, int]
			want map[int]int
		}
		now := version{newTree[int, int](cmp.Compare[int]), map[int]int{}}
		versions := []version{now}
		for i := range rapid.IntRange(1, 120).Draw(t, "length") {
			key := rapid.IntRange(0, 40).Draw(t, "key")
			next := version{want: maps.Clone(now.want)}
			if rapid.IntRange(0, 2).Draw(t, "remove") == 0 {
				next.tree = now.tree.without(key)
				delete(next.want, key)
			} else {
				next.tree = now.tree.with(key, i)
				next.want[key] = i
			}
			now = next
			versions = append(versions, now)
		}
		start := rapid.IntRange(-1, 41).Draw(t, "start")
		for i, v := range versions { // also the old ones: they share their nodes with the new
			if got := maps.Collect(v.tree.all()); !maps.Equal(got, v.want) || v.tree.len() != len(v.want) {
				t.Fatalf("version %d holds %v (%d), want %v", i, got, v.tree.len(), v.want)
			}
			for key := range 41 {
				if value, ok := v.tree.get(key); ok != v.tree.has(key) || value != v.want[key] {
					t.Fatalf("version %d has %d = %d, %t; want %d", i, key, value, ok, v.want[key])
				}
			}
			keys := slices.Sorted(maps.Keys(v.want))
			if got := keysOf(v.tree, math.MinInt); !slices.Equal(got, keys) {
				t.Fatalf("version %d lists %v, want %v", i, got, keys)
			}
			first, _ := slices.BinarySearch(keys, start)
			if got := keysOf(v.tree, start); !slices.Equal(got, keys[first:]) {
				t.Fatalf("version %d lists %v from %d, want %v", i, got, start, keys[first:])
			}
			checkBalance(t, v.tree.root)
		}
	})
}

func keysOf(t tree[int, int], start int) []int {
	var keys []int
	for key := range t.from(start) {
		keys = append(keys, key)
	}
	return keys
}

func checkBalance(t *rapid.T, n *node[int, int]) {
	if n == nil {
		return
	}
	if lean := n.left.tall() - n.right.tall(); lean < -1 || lean > 1 || n.height != 1+max(n.left.tall(), n.right.tall()) {
		t.Fatalf("node %d leans by %d, height %d", n.entry.key, lean, n.height)
	}
	checkBalance(t, n.left)
	checkBalance(t, n.right)
}

func TestListingATreeStopsWhenTold(t *testing.T) {
	tr := newTree[int, int](cmp.Compare[int])
	for i := range 20 {
		tr = tr.with(i, i)
	}
	for name, list := range map[string]func(yield func(int, int) bool){"all": tr.all(), "from": tr.from(0)} {
		var got []int
		for key := range list {
			if got = append(got, key); key == 11 {
				break
			}
		}
		if len(got) != 12 {
			t.Errorf("%s gave %v", name, got)
		}
	}
}
