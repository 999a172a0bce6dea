package flinkmeta

import (
	"fmt"
	"hash/maphash"
	"testing"
)

// The hash only says where to look: with a single slot's worth of it left, paths are still told apart.
func TestAPathSetTellsPathsApartThatCollide(t *testing.T) {
	const n = 100
	s := &pathSet{seed: maphash.MakeSeed(), slots: make([]uint32, 128), shift: 31} // no bits left for the hash
	keys := make([]pathKey, 0, n)
	keyOf := func(i int) pathKey { return keys[i] }
	for i := range n {
		keys = append(keys, pathKey{tail: fmt.Sprintf("file:/a/%03d", i)})
		if got := s.put(keys[i], i, keyOf); got != i {
			t.Fatalf("%s is taken for %s", keys[i], keys[got])
		}
	}
	for i := range n {
		if got := s.put(pathKey{"file:/a/", fmt.Sprintf("%03d", i)}, n, keyOf); got != i {
			t.Fatalf("%s in two pieces is taken for number %d", keys[i], got)
		}
	}
}

func TestPathKeysAreEqualHoweverTheyAreCut(t *testing.T) {
	const a, b = "file:/abc/def", "file:/abc/dee"
	for i := range len(a) + 1 {
		for j := range len(a) + 1 {
			if !(pathKey{a[:i], a[i:]}).equal(pathKey{a[:j], a[j:]}) {
				t.Errorf("cut at %d and at %d: different", i, j)
			}
			if (pathKey{a[:i], a[i:]}).equal(pathKey{b[:j], b[j:]}) || (pathKey{a[:i], a[i:]}).equal(pathKey{a[:j], a[j:] + "x"}) {
				t.Errorf("cut at %d and at %d: other paths are equal", i, j)
			}
		}
	}
}
