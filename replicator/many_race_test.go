//go:build race

package replicator

// Fewer under the race detector, which makes everything ten times slower.
const (
	manyFiles  = 5_000
	smallFiles = 1_000
)
