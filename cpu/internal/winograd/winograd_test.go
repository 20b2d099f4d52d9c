package winograd

import (
	"math"
	"testing"
)

// In one dimension: the algorithm is the convolution, for every unit vector of the
// input and of the kernel, which says it for all.
func TestAlgorithms(t *testing.T) {
	for _, f := range Algorithms {
		bT, aT, g := f.Transforms[Input].Matrix, f.Transforms[Output].Matrix, f.Transforms[Kernel].Matrix
		for i := range f.Size {
			for k := range f.Taps {
				for y := range f.Step {
					want := 0.
					if i == y+k {
						want = 1
					}
					var got float64
					for e := range f.Size {
						got += aT[y][e] * g[e][k] * bT[e][i]
					}
					if math.Abs(got-want) > 1e-12 {
						t.Errorf("F(%d, %d): result %d of input %d and tap %d is %g, want %g", f.Step, f.Taps, y, i, k, got, want)
					}
				}
			}
		}
	}
}
