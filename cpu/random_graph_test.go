package cpu

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
	"pgregory.net/rapid"
)

// Graphs drawn at random give what the reference backend gives: fusion, image
// loops and the sharing of memory must not change values.
func TestRandomGraphs(t *testing.T) {
	reference, err := gobackend.New("ops_sequential")
	if err != nil {
		t.Fatal(err)
	}
	defer reference.Finalize()
	backend, err := New("workers=2")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Finalize()
	rapid.Check(t, func(rt *rapid.T) {
		const n, size = 3, 5
		channels := rapid.SampledFrom([]int{1, 3, 16, 20}).Draw(rt, "channels")
		image := f32(n, size, size, channels)
		inputs := []shapes.Shape{image, image, f32(1, 1, 1, channels), f32(3, 3, channels, channels), f32(n, 1, 1, 1)}
		const steps = 14
		type choice struct{ op, a, b int }
		choices := make([]choice, rapid.IntRange(1, steps).Draw(rt, "length"))
		for i := range choices {
			choices[i] = choice{rapid.IntRange(0, 13).Draw(rt, "op"), rapid.IntRange(0, 1+i).Draw(rt, "a"), rapid.IntRange(0, 1+i).Draw(rt, "b")}
		}
		results := rapid.IntRange(1, 3).Draw(rt, "results")
		graph := func(f compute.Function, in []compute.Value) (all []compute.Value, err error) {
			full := []compute.Value{in[0], in[1]}
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
				}
				full = append(full, v)
			}
			return full[max(0, len(full)-results):], err
		}
		flats := randomFlats(rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1)), inputs)
		execute := func(backend compute.Backend) [][]float32 {
			builder := backend.Builder("random")
			f := builder.Main()
			var values []compute.Value
			var buffers []compute.Buffer
			for i, s := range inputs {
				v, err := f.Parameter(fmt.Sprint("x", i), s, nil)
				if err != nil {
					rt.Fatal(err)
				}
				b, err := backend.BufferFromFlatData(0, flats[i], s)
				if err != nil {
					rt.Fatal(err)
				}
				values, buffers = append(values, v), append(buffers, b)
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
			results, err := exec.Execute(buffers, nil, 0)
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
		got, want := execute(backend), execute(reference)
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
