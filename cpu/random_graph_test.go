package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
	"pgregory.net/rapid"
)

// Graphs drawn at random, trainings with updates of donated parameters among them, give
// what the reference backend gives: fusion, image loops and the sharing of memory must
// not change values. Donation and the number of workers do not change a bit.
func TestRandomGraphs(t *testing.T) {
	reference, err := gobackend.New("ops_sequential")
	if err != nil {
		t.Fatal(err)
	}
	defer reference.Finalize()
	var backends []*Backend
	for _, config := range []string{"workers=2", "workers=1", "workers=7"} {
		b, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Finalize()
		backends = append(backends, b)
	}
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.SampledFrom([]int{1, 2, 3, 17}).Draw(rt, "n")
		size := rapid.SampledFrom([]int{1, 2, 5}).Draw(rt, "size")
		channels := rapid.SampledFrom([]int{1, 3, 16, 20}).Draw(rt, "channels")
		image, pixels := f32(n, size, size, channels), n*size*size
		inputs := []shapes.Shape{image, image, f32(1, 1, 1, channels), f32(3, 3, channels, channels), f32(n, 1, 1, 1), f32(channels, channels)}
		const steps = 14
		type choice struct{ op, a, b int }
		choices := make([]choice, rapid.IntRange(1, steps).Draw(rt, "length"))
		for i := range choices {
			choices[i] = choice{rapid.IntRange(0, 17).Draw(rt, "op"), rapid.IntRange(0, 1+i).Draw(rt, "a"), rapid.IntRange(0, 1+i).Draw(rt, "b")}
		}
		results := rapid.IntRange(1, 3).Draw(rt, "results")
		// The reference has no batch norm.
		referred := !slices.ContainsFunc(choices, func(c choice) bool { return c.op == 14 })
		graph := func(f compute.Function, in []compute.Value) (all []compute.Value, err error) {
			full := []compute.Value{in[0], in[1]}
			var updates []compute.Value // of parameters
			check := func(v compute.Value, e error) compute.Value {
				if e != nil && err == nil {
					err = e
				}
				return v
			}
			half := check(f.Constant([]float32{0.5}))
			for _, c := range choices {
				if err != nil {
					return nil, err
				}
				a, b := full[c.a], full[c.b]
				var v compute.Value
				switch c.op {
				case 0:
					v = check(f.Add(a, b))
				case 1:
					v = check(f.Mul(check(f.Tanh(a)), b))
				case 2:
					v = check(f.Max(a, check(f.Mul(b, half))))
				case 3:
					v = check(f.Mul(a, in[2]))
				case 4:
					v = check(f.Add(check(f.Mul(a, in[4])), in[2]))
				case 5: // a sum over rows, spread again
					s := check(f.ReduceSum(a, 0, 1, 2))
					v = check(f.Sub(b, check(f.Mul(check(f.Reshape(check(f.Tanh(s)), 1, 1, 1, channels)), half))))
				case 6:
					v = check(f.Tanh(check(f.ConvGeneral(a, in[3], nhwc, nil, pads(1, 1, 1, 1), nil, nil, 1, 1))))
				case 7: // the gradient of a kernel, used as one
					k := check(f.ConvGeneral(a, b, kernelGradient, nil, pads(1, 1, 1, 1), nil, nil, 1, 1))
					updates = append(updates, check(f.Sub(in[3], check(f.Mul(k, half)))))
					v = check(f.ConvGeneral(a, check(f.Mul(check(f.Tanh(k)), half)), nhwc, nil, pads(1, 1, 1, 1), nil, nil, 1, 1))
				case 8:
					p := check(f.ReduceWindow(a, compute.ReduceOpMax, []int{1, 3, 3, 1}, []int{1, 1, 1, 1}, nil, nil, pads(0, 0, 1, 1, 1, 1, 0, 0)))
					v = check(f.Sub(p, b))
				case 9:
					v = check(f.Where(check(f.LessThan(a, b)), a, check(f.Neg(b))))
				case 10: // through another shape
					v = check(f.Reshape(check(f.Abs(check(f.Reshape(a, n*size, size*channels)))), n, size, size, channels))
				case 11:
					v = check(f.Transpose(check(f.Transpose(a, 0, 2, 1, 3)), 0, 1, 2, 3))
				case 12:
					s := check(f.ReduceSum(a, 1, 2))
					v = check(f.Add(b, check(f.Reshape(check(f.Tanh(s)), n, 1, 1, channels))))
				case 13:
					v = check(f.Mul(check(f.Sign(check(f.Add(check(f.Sign(a)), check(f.Constant([]float32{1})))))), b))
				case 14: // batch norm and its gradient
					scale := check(f.Reshape(in[2], channels))
					y, mean, variance, e := f.BatchNormForTraining(a, scale, check(f.Tanh(scale)), 1e-2, 3)
					check(y, e)
					if err != nil {
						return nil, err
					}
					dx, _, _, e := f.BatchNormGradient(a, scale, mean, variance, b, 1e-2, 3)
					v = check(f.Add(y, check(dx, e)))
				case 15:
					d := check(f.DotGeneral(check(f.Reshape(a, pixels, channels)), []int{1}, nil, in[5], []int{0}, nil, compute.DotGeneralConfig{}))
					v = check(f.Reshape(d, n, size, size, channels))
				case 16: // the gradient of a dense layer
					d := check(f.DotGeneral(check(f.Reshape(a, pixels, channels)), []int{0}, nil, check(f.Reshape(b, pixels, channels)), []int{0}, nil, compute.DotGeneralConfig{}))
					updates = append(updates, check(f.Sub(in[5], check(f.Mul(d, half)))))
					v = check(f.Sub(a, in[2]))
				case 17:
					updates = append(updates, check(f.Add(in[c.a%2], check(f.Tanh(b)))), check(f.Sub(in[2], half)))
					v = check(f.Abs(b))
				}
				full = append(full, v)
			}
			return append(full[max(0, len(full)-results):], updates...), err
		}
		flats := randomFlats(rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1)), inputs)
		execute := func(backend compute.Backend, donated bool) [][]float32 {
			builder := backend.Builder("random")
			f := builder.Main()
			var values []compute.Value
			var buffers []compute.Buffer
			var donate []bool
			for i, s := range inputs {
				v, err := f.Parameter(fmt.Sprint("x", i), s, nil)
				if err != nil {
					rt.Fatal(err)
				}
				b, err := backend.BufferFromFlatData(0, flats[i], s)
				if err != nil {
					rt.Fatal(err)
				}
				values, buffers, donate = append(values, v), append(buffers, b), append(donate, donated)
			}
			out, err := graph(f, values)
			if err != nil {
				rt.Fatal(err)
			}
			if err := f.Return(out, nil); err != nil {
				rt.Fatal(err)
			}
			exec, err := builder.Compile()
			if err != nil {
				rt.Fatal(err)
			}
			defer exec.Finalize()
			results, err := exec.Execute(buffers, donate, 0)
			if err != nil {
				rt.Fatal(err)
			}
			var list [][]float32
			for _, r := range results {
				flat, err := r.Data()
				if err != nil {
					rt.Fatal(err)
				}
				list = append(list, flat.([]float32))
			}
			return list
		}
		got := execute(backends[0], true)
		for _, b := range backends {
			for i, other := range execute(b, b == backends[1]) {
				for j, v := range other {
					if math.Float32bits(v) != math.Float32bits(got[i][j]) && v == v {
						rt.Fatalf("result %d of %v, element %d: %g with %d workers, donated: %t, else %g", i, choices, j, v, b.opts.workers, b == backends[1], got[i][j])
					}
				}
			}
		}
		if !referred {
			return
		}
		want := execute(reference, false)
		for i := range want {
			scale := 1.0
			for _, v := range want[i] {
				scale = max(scale, float64(max(v, -v)))
			}
			bad := 0
			for j, w := range want[i] {
				// A rounding difference may turn a comparison or a sign; few elements do.
				if d := float64(got[i][j]) - float64(w); !(d <= 1e-4*scale && d >= -1e-4*scale) {
					bad++
				}
			}
			if bad > len(want[i])/50 {
				rt.Fatalf("result %d of %v: %d of %d elements differ", i, choices, bad, len(want[i]))
			}
		}
	})
}
