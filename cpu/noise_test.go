package cpu

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/openpith/evidence/cpu/internal/kernels"
)

// uniformChain is how GoMLX makes uniform numbers of words, and SmoothOut noise of
// them: the last of the values it returns.
func uniformChain(f compute.Function, w, state compute.Value) (u, noisy compute.Value, err error) {
	shape, err := f.Builder().OpShape(w)
	if err != nil {
		return nil, nil, err
	}
	_, bits, err := f.RNGBitGenerator(state, shapes.Make(dtypes.Uint32, shape.Dimensions...))
	if err != nil {
		return nil, nil, err
	}
	x, _ := f.ConvertDType(bits, dtypes.Float32)
	constant := func(v float32) compute.Value { c, _ := f.Constant([]float32{v}); return c }
	x, _ = f.Mul(x, constant(0x1p-32))
	x, _ = f.Abs(x)
	x, _ = f.Min(x, constant(0x1.fffffep-1))
	x, _ = f.Mul(x, constant(2))
	u, _ = f.Add(x, constant(-1))
	x, _ = f.Mul(u, constant(0.013))
	noisy, err = f.Add(w, x)
	return u, noisy, err
}

// Arithmetic that is folded into the drawing has the same bits as what it stands
// for, and noise is rounded once.
func TestFoldedDraws(t *testing.T) {
	forEachISA(t, func(t *testing.T, backend *Backend) {
		for _, n := range []int{1, 130, 40001} {
			for _, low := range []uint64{7, math.MaxUint64 - 5} {
				weights := randomFloats(rand.New(rand.NewPCG(1, 2)), n)
				state := []uint64{5, low, 8}
				noise := compile(t, backend, []shapes.Shape{f32(n), compute.RNGStateShape}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
					_, noisy, err := uniformChain(f, in[0], in[1])
					return noisy, err
				})
				for _, s := range noise.(*Executable).plan.steps {
					if p, ok := s.step.(*programStep); ok && (len(p.instrs) != 1 || p.instrs[0].op != opNoise) {
						t.Errorf("the program has %d instructions, want one that adds noise: %+v", len(p.instrs), p.instrs)
					}
				}
				uniform := compile(t, backend, []shapes.Shape{f32(n), compute.RNGStateShape}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
					u, _, err := uniformChain(f, in[0], in[1])
					return u, err
				})
				noisy := run(t, backend, noise, []any{weights, state}).([]float32)
				u := run(t, backend, uniform, []any{weights, state}).([]float32)
				high := uint64(8)
				for i := range n {
					if i > 0 && i%4 == 0 {
						if low++; low == 0 {
							high++
						}
					}
					word := kernels.Philox4x32(5, low, high)[i%4]
					want := min(float32(word)*0x1p-32, 0x1.fffffep-1)*2 - 1
					if u[i] != want {
						t.Fatalf("number %d of %d is %g, want %g", i, n, u[i], want)
					}
					sum := float64(weights[i]) + float64(float32(0.013))*float64(want)
					if math.Abs(float64(noisy[i])-sum) > 1e-7*(1+math.Abs(sum)) {
						t.Fatalf("weight %d of %d with noise is %g, want %g", i, n, noisy[i], sum)
					}
				}
			}
		}
	})
}

// Draws are the same whatever rows they are summed in, also where the width of a row
// and the numbers of a counter have no common multiple that a block could be.
func TestDrawsOfSummedRows(t *testing.T) {
	forEachISA(t, func(t *testing.T, backend *Backend) {
		for _, cols := range []int{1, 3, 16, 65, 101, 255, 511, 513} {
			const rows = 40
			exec := compile(t, backend, []shapes.Shape{f32(rows, cols), compute.RNGStateShape}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
				u, _, err := uniformChain(f, in[0], in[1])
				if err != nil {
					return nil, err
				}
				return f.ReduceSum(u, 0)
			})
			got := run(t, backend, exec, []any{make([]float32, rows*cols), []uint64{5, 6, 7}}).([]float32)
			want := make([]float64, cols)
			for i := range rows * cols {
				word := kernels.Philox4x32(5, 6+uint64(i/4), 7)[i%4]
				want[i%cols] += float64(min(float32(word)*0x1p-32, 0x1.fffffep-1)*2 - 1)
			}
			for j := range want {
				if math.Abs(float64(got[j])-want[j]) > 1e-5 {
					t.Fatalf("%d columns: the sum of column %d is %g, want %g", cols, j, got[j], want[j])
				}
			}
		}
	})
}

// BenchmarkNoise adds uniform noise to 1.46 million weights, as SmoothOut does in
// a step of F1.
func BenchmarkNoise(b *testing.B) {
	backend, err := New("workers=1")
	if err != nil {
		b.Fatal(err)
	}
	defer backend.Finalize()
	weights := f32(1<<20 + 1<<18 + 1<<17)
	inputs := []shapes.Shape{weights, compute.RNGStateShape}
	exec := compile(b, backend, inputs, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		_, noisy, err := uniformChain(f, in[0], in[1])
		return noisy, err
	})
	w, err := backend.BufferFromFlatData(0, randomFloats(rand.New(rand.NewPCG(1, 2)), weights.Size()), weights)
	if err != nil {
		b.Fatal(err)
	}
	state, err := backend.BufferFromFlatData(0, []uint64{1, 2, 3}, compute.RNGStateShape)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		out, err := exec.Execute([]compute.Buffer{w, state}, nil, 0)
		if err != nil {
			b.Fatal(err)
		}
		_ = out[0].Finalize()
	}
}

// filterNoise is how AdaSmoothOut measures the noise of w against norms of its
// columns.
func filterNoise(f compute.Function, w, state compute.Value, strength, epsilon float32) (compute.Value, error) {
	shape, err := f.Builder().OpShape(w)
	if err != nil {
		return nil, err
	}
	u, _, err := uniformChain(f, w, state)
	if err != nil {
		return nil, err
	}
	axes, row := make([]int, shape.Rank()-1), make([]int, shape.Rank())
	for i := range axes {
		axes[i], row[i] = i, 1
	}
	row[len(axes)] = shape.Dimensions[len(axes)]
	norm := func(x compute.Value) compute.Value {
		x, _ = f.Mul(x, x)
		x, _ = f.ReduceSum(x, axes...)
		x, _ = f.Reshape(x, row...)
		x, _ = f.Sqrt(x)
		return x
	}
	constant := func(v float32) compute.Value { c, _ := f.Constant([]float32{v}); return c }
	below, _ := f.Add(norm(u), constant(epsilon))
	ratio, _ := f.Div(norm(w), below)
	x, _ := f.Mul(u, ratio)
	x, _ = f.Mul(x, constant(strength))
	return f.Add(w, x)
}

// Noise measured against norms is what its formula says, whether strips of columns
// have it or programs.
func TestFilterNoise(t *testing.T) {
	const strength, epsilon = 0.3, 0.25
	for _, c := range []struct {
		dims  []int
		strip bool
	}{
		{[]int{300, 256}, true}, // more rows than are added up in float32
		{[]int{3, 3, 8, 16}, true},
		{[]int{4, 64}, true},
		{[]int{3, 64}, false}, // half a strip
		{[]int{6, 192}, false},
		{[]int{7, 10}, false},
	} {
		forEachISA(t, func(t *testing.T, backend *Backend) {
			for _, low := range []uint64{7, math.MaxUint64 - 5} {
				shape := f32(c.dims...)
				cols, rows := c.dims[len(c.dims)-1], shape.Size()/c.dims[len(c.dims)-1]
				exec := compile(t, backend, []shapes.Shape{shape, compute.RNGStateShape}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
					return filterNoise(f, in[0], in[1], strength, epsilon)
				})
				strip := false
				for _, s := range exec.(*Executable).plan.steps {
					_, ok := s.step.(*filterNoiseStep)
					strip = strip || ok
				}
				if strip != c.strip {
					t.Fatalf("%v: computed by strips: %t", c.dims, strip)
				}
				weights := randomFloats(rand.New(rand.NewPCG(1, 2)), shape.Size())
				got := run(t, backend, exec, []any{weights, []uint64{5, low, 8}}).([]float32)
				u := make([]float64, len(weights))
				for i := range u {
					at, high := low+uint64(i/4), uint64(8)
					if at < low {
						high++
					}
					u[i] = float64(min(float32(kernels.Philox4x32(5, at, high)[i%4])*0x1p-32, 0x1.fffffep-1)*2 - 1)
				}
				for j := range cols {
					var ofU, ofW float64
					for i := range rows {
						ofU += u[i*cols+j] * u[i*cols+j]
						ofW += float64(weights[i*cols+j]) * float64(weights[i*cols+j])
					}
					factor := strength * math.Sqrt(ofW) / (math.Sqrt(ofU) + epsilon)
					for i := j; i < len(weights); i += cols {
						want := float64(weights[i]) + u[i]*factor
						if math.Abs(float64(got[i])-want) > 1e-6*(1+math.Abs(want)) {
							t.Fatalf("%v: weight %d with noise is %g, want %g", c.dims, i, got[i], want)
						}
					}
				}
			}
		})
	}
}

// What looks like noise measured against norms of columns, but has the ratio of a
// column for a row, is no such noise.
func TestFilterNoiseOfRows(t *testing.T) {
	const n, strength, epsilon = 128, 0.3, 0.25
	forEachISA(t, func(t *testing.T, backend *Backend) {
		exec := compile(t, backend, []shapes.Shape{f32(n, n), compute.RNGStateShape}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			u, _, err := uniformChain(f, in[0], in[1])
			if err != nil {
				return nil, err
			}
			norm := func(x compute.Value) compute.Value {
				x, _ = f.Mul(x, x)
				x, _ = f.ReduceSum(x, 0)
				x, _ = f.Sqrt(x)
				return x
			}
			constant := func(v float32) compute.Value { c, _ := f.Constant([]float32{v}); return c }
			below, _ := f.Add(norm(u), constant(epsilon))
			ratio, _ := f.Div(norm(in[0]), below)
			ratio, _ = f.BroadcastInDim(ratio, f32(n, n), []int{0})
			x, _ := f.Mul(u, ratio)
			x, _ = f.Mul(x, constant(strength))
			return f.Add(in[0], x)
		})
		weights := randomFloats(rand.New(rand.NewPCG(4, 4)), n*n)
		got := run(t, backend, exec, []any{weights, []uint64{5, 6, 7}}).([]float32)
		u := make([]float64, n*n)
		var ofU, ofW [n]float64
		for i, w := range weights {
			u[i] = float64(min(float32(kernels.Philox4x32(5, 6+uint64(i/4), 7)[i%4])*0x1p-32, 0x1.fffffep-1)*2 - 1)
			ofU[i%n] += u[i] * u[i]
			ofW[i%n] += float64(w) * float64(w)
		}
		for i, w := range weights {
			row := i / n
			want := float64(w) + u[i]*strength*math.Sqrt(ofW[row])/(math.Sqrt(ofU[row])+epsilon)
			if math.Abs(float64(got[i])-want) > 1e-5*(1+math.Abs(want)) {
				t.Fatalf("weight %d with noise is %g, want %g", i, got[i], want)
			}
		}
	})
}
