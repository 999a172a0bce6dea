//go:build !race

package replicator

// What a large job has.
const (
	manyFiles  = 100_000
	smallFiles = 10_000
)
