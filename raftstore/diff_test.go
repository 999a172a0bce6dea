package raftstore

import (
	"cmp"
	"maps"
	"testing"

	"pgregory.net/rapid"
)

// differences walks both trees and gives what differs, as it was and as it is.
func differences(before, now tree[int, int]) (was, is map[int]int) {
	was, is = map[int]int{}, map[int]int{}
	var b, n cursor[int, int]
	b.push(before.root)
	n.push(now.root)
	for {
		old, next := nextDifference(&b, &n, cmp.Compare[int])
		if old == nil && next == nil {
			return was, is
		}
		if old != nil {
			was[old.key] = old.value
		}
		if next != nil {
			is[next.key] = next.value
		}
	}
}

func TestDifferenceOfTwoVersionsOfATree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := newTree[int, int](cmp.Compare[int])
		want := map[int]int{}
		fill := rapid.IntRange(0, 200).Draw(t, "fill")
		for key := range fill {
			before = before.with(key, 0)
			want[key] = 0
		}
		now, then := before, maps.Clone(want)
		for i := range rapid.IntRange(0, 30).Draw(t, "changes") {
			key := rapid.IntRange(0, 220).Draw(t, "key")
			if rapid.Bool().Draw(t, "remove") {
				now = now.without(key)
				delete(want, key)
			} else {
				now = now.with(key, i+1)
				want[key] = i + 1
			}
		}
		was, is := differences(before, now)
		for key, value := range was {
			if old, there := then[key]; !there || old != value {
				t.Fatalf("key %d was %d, and it was not there or %d", key, value, old)
			}
		}
		for key := range 221 {
			old, had := then[key]
			next, has := want[key]
			_, toldOld := was[key]
			value, toldNew := is[key]
			if had != has || old != next {
				if toldOld != had || toldNew != has || value != next {
					t.Fatalf("key %d: %d (%t) became %d (%t), told as %t, %d (%t)", key, old, had, next, has, toldOld, value, toldNew)
				}
			}
		}
	})
}

// A watcher of 10,000 replicas must not cost the leader 10,000 steps at each change.
func TestDifferenceCostsWhatChanged(t *testing.T) {
	before := newTree[int, int](cmp.Compare[int])
	for key := range 100_000 {
		before = before.with(key, 0)
	}
	now := before
	for _, key := range []int{3, 50_000, 99_999, 200_000} {
		now = now.with(key, 1)
	}
	now = now.without(70_000)
	compared := 0
	var b, n cursor[int, int]
	b.push(before.root)
	n.push(now.root)
	told := 0
	for {
		old, next := nextDifference(&b, &n, func(x, y int) int { compared++; return cmp.Compare(x, y) })
		if old == nil && next == nil {
			break
		}
		if told++; told > 500 {
			t.Fatal("more than 500 entries are looked at for 5 that changed")
		}
	}
	if compared > 500 {
		t.Errorf("%d comparisons for 5 changes", compared)
	}
}

func TestChangedReplicasBetweenTwoViews(t *testing.T) {
	f := fence(0, 1)
	one := viewOf(stateAfter(t, append(copied(1, f), plan(2, f), plan(3, f))...))
	s := stateAfter(t, append(copied(1, f), plan(2, f), plan(3, f), supersede(2, f), plan(4, f))...)
	two := viewOf(s) // shares nothing with the first: read anew
	got := map[int64]ReplicaChange{}
	for c := range two.ReplicaChanges(one) {
		got[max(c.Before.Key.CheckpointID, c.Now.Key.CheckpointID)] = c
	}
	if len(got) != 2 || got[2].Before.Status != StatusPlanned || got[2].Now.Status != StatusSuperseded || got[4].Was || !got[4].Is {
		t.Errorf("changes are %+v", got)
	}
	all := 0
	for c := range two.ReplicaChanges(View{}) {
		if c.Was || !c.Is {
			t.Errorf("since the beginning: %+v", c)
		}
		all++
	}
	if all != 4 {
		t.Errorf("%d since the beginning", all)
	}
}
