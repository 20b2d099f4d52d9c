//go:build !race

// The race detector makes sync.Pool forget, which would be counted here.

package pith

import (
	"testing"

	"github.com/openpith/evidence/pith/seed"
)

// TestAllocations: a verification with its whole result allocates little. The
// number is a promise of docs/benchmarks.md.
func TestAllocations(t *testing.T) {
	data, trust := seed.Bundle(), PinnedTrust()
	for range 100 { // the registry's key gets its table
		Verify(data, trust)
	}
	if got := testing.AllocsPerRun(100, func() { Verify(data, trust) }); got > 25 {
		t.Errorf("%v allocations, want at most 25", got)
	}
}
