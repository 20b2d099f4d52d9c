package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"
)

// Products large enough to be packed, in all four layouts and in batches, are what the
// formula says, to the rounding of sums of k products. So are those whose left operand
// has the batch in the middle, as attention does.
func TestDot(t *testing.T) {
	for _, c := range []struct{ batch, m, n, k int }{
		{1, 14, 256, 256}, {1, 13, 271, 517}, {1, 61, 128, 19}, {3, 25, 256, 256}, {2, 256, 260, 33}, {1, 1, 300, 600}, {1, 70, 40, 700},
		{64, 21, 128, 20},
	} {
		for _, transposed := range []struct{ a, b, middle bool }{{}, {a: true}, {b: true}, {a: true, b: true}, {middle: true}} {
			a, b := f32(c.batch, c.m, c.k), f32(c.batch, c.k, c.n)
			aM, aK, bK, bN := c.k, 1, c.n, 1
			ca, cb := 2, 1 // contracting axes
			aB, batchAxis := c.m*c.k, 0
			if transposed.a {
				a, aM, aK, ca = f32(c.batch, c.k, c.m), 1, c.m, 1
			}
			if transposed.middle {
				a, aM, aB, batchAxis = f32(c.m, c.batch, c.k), c.batch*c.k, c.k, 1
			}
			if transposed.b {
				b, bK, bN, cb = f32(c.batch, c.n, c.k), 1, c.k, 2
			}
			t.Run(fmt.Sprintf("%v%+v", c, transposed), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(7, 8))
				x, y := randomFloats(rng, a.Size()), randomFloats(rng, b.Size())
				want := make([]float64, c.batch*c.m*c.n)
				for i := range want {
					batch, row, col := i/(c.m*c.n), i/c.n%c.m, i%c.n
					for k := range c.k {
						want[i] += float64(x[batch*aB+row*aM+k*aK]) * float64(y[batch*c.n*c.k+k*bK+col*bN])
					}
				}
				forEachISA(t, func(t *testing.T, backend *Backend) {
					exec := compile(t, backend, []shapes.Shape{a, b}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
						return f.DotGeneral(in[0], []int{ca}, []int{batchAxis}, in[1], []int{cb}, []int{0}, compute.DotGeneralConfig{})
					})
					for i, v := range run(t, backend, exec, []any{x, y}).([]float32) {
						if diff := math.Abs(float64(v) - want[i]); !(diff <= 1e-6*math.Sqrt(float64(c.k))*4) {
							t.Fatalf("element %d is %g, want %g", i, v, want[i])
						}
					}
				})
			})
		}
	}
}
