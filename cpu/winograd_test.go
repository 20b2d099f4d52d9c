package cpu

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"
	"github.com/openpith/evidence/cpu/internal/winograd"
)

// The three convolutions of a layer with square kernels on n images [size, size, ci],
// as GoMLX writes them, with what they read.
type convolutions struct{ n, size, ci, co, taps int }

func (c convolutions) image() shapes.Shape  { return f32(c.n, c.size, c.size, c.ci) }
func (c convolutions) kernel() shapes.Shape { return f32(c.taps, c.taps, c.ci, c.co) }
func (c convolutions) result() shapes.Shape { return f32(c.n, c.size, c.size, c.co) }

func (c convolutions) same() [][2]int {
	return [][2]int{{c.taps / 2, c.taps / 2}, {c.taps / 2, c.taps / 2}}
}

// forward: y of x and k.
func (c convolutions) forward(f compute.Function, x, k compute.Value) (compute.Value, error) {
	return f.ConvGeneral(x, k, compute.ConvolveAxesConfig{
		InputBatch: 0, InputChannels: 3, InputSpatial: []int{1, 2},
		KernelInputChannels: 2, KernelOutputChannels: 3, KernelSpatial: []int{0, 1},
		OutputBatch: 0, OutputChannels: 3, OutputSpatial: []int{1, 2}}, nil, c.same(), nil, nil, 1, 1)
}

// input: the gradient of x, of dy and k.
func (c convolutions) input(f compute.Function, dy, k compute.Value) (compute.Value, error) {
	k, err := f.Reverse(k, 0, 1)
	if err != nil {
		return nil, err
	}
	return f.ConvGeneral(dy, k, compute.ConvolveAxesConfig{
		InputBatch: 0, InputChannels: 3, InputSpatial: []int{1, 2},
		KernelInputChannels: 3, KernelOutputChannels: 2, KernelSpatial: []int{0, 1},
		OutputBatch: 0, OutputChannels: 3, OutputSpatial: []int{1, 2}}, nil, c.same(), nil, nil, 1, 1)
}

// weights: the gradient of k, of x and dy.
func (c convolutions) weights(f compute.Function, x, dy compute.Value) (compute.Value, error) {
	return f.ConvGeneral(x, dy, compute.ConvolveAxesConfig{
		InputBatch: 3, InputChannels: 0, InputSpatial: []int{1, 2},
		KernelInputChannels: 0, KernelOutputChannels: 3, KernelSpatial: []int{1, 2},
		OutputBatch: 2, OutputChannels: 3, OutputSpatial: []int{0, 1}}, nil, c.same(), nil, nil, 1, 1)
}

// Winograd's algorithms and the direct one give what the formula says, in all three
// forms; F(2x2, 3x3) as exactly as the direct one, those with larger tiles less so.
func TestWinograd(t *testing.T) {
	most := map[[2]int]float64{{2, 3}: 4e-7, {4, 3}: 1e-6, {2, 5}: 1.2e-6} // by step and taps
	for _, c := range []convolutions{{3, 6, 32, 64, 3}, {2, 9, 16, 48, 3}, {3, 12, 16, 16, 3}, {3, 12, 16, 32, 3}, {3, 15, 16, 32, 5}, {3, 15, 16, 16, 5}, {2, 10, 64, 32, 3}, {5, 3, 32, 32, 3}, {2, 8, 32, 64, 5}, {9, 5, 64, 32, 5}} {
		rng := rand.New(rand.NewPCG(5, 6))
		x, k, dy := randomFloats(rng, c.image().Size()), randomFloats(rng, c.kernel().Size()), randomFloats(rng, c.result().Size())
		y, dx, dk := make([]float64, len(dy)), make([]float64, len(x)), make([]float64, len(k))
		for n := range c.n {
			for h := range c.size {
				for w := range c.size {
					for kh := range c.taps {
						for kw := range c.taps {
							i, j := h+kh-c.taps/2, w+kw-c.taps/2
							if i < 0 || j < 0 || i >= c.size || j >= c.size {
								continue
							}
							for ci := range c.ci {
								for co := range c.co {
									to, from, tap := ((n*c.size+h)*c.size+w)*c.co+co, ((n*c.size+i)*c.size+j)*c.ci+ci, ((kh*c.taps+kw)*c.ci+ci)*c.co+co
									y[to] += float64(x[from]) * float64(k[tap])
									dx[from] += float64(dy[to]) * float64(k[tap])
									dk[tap] += float64(x[from]) * float64(dy[to])
								}
							}
						}
					}
				}
			}
		}
		forEachISA(t, func(t *testing.T, backend *Backend) {
			for _, form := range []struct {
				name  string
				build func(f compute.Function, a, b compute.Value) (compute.Value, error)
				in    [2]shapes.Shape
				flats []any
				want  []float64
			}{
				{"forward", c.forward, [2]shapes.Shape{c.image(), c.kernel()}, []any{x, k}, y},
				{"input", c.input, [2]shapes.Shape{c.result(), c.kernel()}, []any{dy, k}, dx},
				{"weights", c.weights, [2]shapes.Shape{c.image(), c.result()}, []any{x, dy}, dk},
			} {
				relativeError := func(t *testing.T, algorithms ...int) float64 {
					backend.opts.winograd = algorithms
					exec := compile(t, backend, form.in[:], func(f compute.Function, in []compute.Value) (compute.Value, error) {
						return form.build(f, in[0], in[1])
					})
					for _, s := range exec.(*Executable).plan.steps {
						switch s.step.(type) {
						case *winogradStep, *winogradGradStep:
							if len(algorithms) == 0 {
								t.Fatal("not direct")
							}
						default:
							if len(algorithms) > 0 {
								t.Fatalf("a %T", s.step)
							}
						}
					}
					var sum, size float64
					for j, v := range run(t, backend, exec, form.flats).([]float32) {
						sum += (float64(v) - form.want[j]) * (float64(v) - form.want[j])
						size += form.want[j] * form.want[j]
					}
					return math.Sqrt(sum / size)
				}
				direct := relativeError(t)
				for i, a := range winograd.Algorithms {
					if a.Taps != c.taps {
						continue
					}
					e := relativeError(t, i)
					if !(direct <= 1e-6) || !(e <= most[[2]int{a.Step, a.Taps}]) {
						t.Errorf("%v, %s: relative error of the direct way %.1e, of F(%d, %d) %.1e", c, form.name, direct, a.Step, a.Taps, e)
					}
					t.Logf("%v, %s: relative error of the direct way %.1e, of F(%d, %d) %.1e", c, form.name, direct, a.Step, a.Taps, e)
				}
			}
		})
	}
}

// BenchmarkConvolution runs convolutions of ResNet-44 and C1 on a batch of 128 on one
// worker, the direct way and Winograd's. GFLOP/s count the products of the direct one,
// at the least time of a run.
func BenchmarkConvolution(b *testing.B) {
	for _, c := range []convolutions{{128, 32, 16, 16, 3}, {128, 16, 32, 32, 3}, {128, 8, 64, 64, 3}, {128, 15, 64, 64, 5}} {
		for _, form := range []struct {
			name  string
			build func(f compute.Function, a, b compute.Value) (compute.Value, error)
			in    []shapes.Shape
		}{
			{"forward", c.forward, []shapes.Shape{c.image(), c.kernel()}},
			{"input", c.input, []shapes.Shape{c.result(), c.kernel()}},
			{"weights", c.weights, []shapes.Shape{c.image(), c.result()}},
		} {
			ways := map[string][]int{"direct": nil}
			for i, a := range winograd.Algorithms {
				if a.Taps == c.taps {
					ways[fmt.Sprintf("F(%d,%d)", a.Step, a.Taps)] = []int{i}
				}
			}
			for _, way := range slices.Sorted(maps.Keys(ways)) {
				b.Run(fmt.Sprintf("%dx%d/%dx%dx%d/%s/%s", c.taps, c.taps, c.size, c.size, c.ci, form.name, way), func(b *testing.B) {
					backend, err := New("workers=1")
					if err != nil {
						b.Fatal(err)
					}
					defer backend.Finalize()
					backend.opts.winograd = ways[way]
					exec := compile(b, backend, form.in, func(f compute.Function, in []compute.Value) (compute.Value, error) {
						return form.build(f, in[0], in[1])
					})
					var inputs []compute.Buffer
					for _, shape := range form.in {
						buffer, err := backend.BufferFromFlatData(0, randomFloats(rand.New(rand.NewPCG(1, 2)), shape.Size()), shape)
						if err != nil {
							b.Fatal(err)
						}
						inputs = append(inputs, buffer)
					}
					least := time.Duration(math.MaxInt64)
					for b.Loop() {
						start := time.Now()
						out, err := exec.Execute(inputs, nil, 0)
						if err != nil {
							b.Fatal(err)
						}
						least = min(least, time.Since(start))
						_ = out[0].Finalize()
					}
					b.ReportMetric(2*float64(c.taps*c.taps*c.result().Size()*c.ci)/least.Seconds()/1e9, "GFLOP/s")
				})
			}
		}
	}
}
