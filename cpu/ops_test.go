package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
	"github.com/openpith/evidence/cpu/internal/kernels"
)

// forEachISA runs a test with the kernels of every instruction set present.
func forEachISA(t *testing.T, f func(t *testing.T, backend *Backend)) {
	for _, isa := range kernels.Names() {
		t.Run(isa, func(t *testing.T) {
			backend, err := New("workers=3,isa=" + isa)
			if err != nil {
				t.Fatal(err)
			}
			defer backend.Finalize()
			f(t, backend)
		})
	}
}

func f32(dims ...int) shapes.Shape { return shapes.Make(dtypes.Float32, dims...) }

type build func(f compute.Function, in []compute.Value) (compute.Value, error)

// compile builds a graph of one result.
func compile(t testing.TB, backend compute.Backend, inputs []shapes.Shape, graph build) compute.Executable {
	t.Helper()
	builder := backend.Builder(t.Name())
	f := builder.Main()
	values := make([]compute.Value, len(inputs))
	for i, s := range inputs {
		v, err := f.Parameter(fmt.Sprintf("x%d", i), s, nil)
		if err != nil {
			t.Fatal(err)
		}
		values[i] = v
	}
	out, err := graph(f, values)
	if err != nil {
		t.Fatalf("building: %v", err)
	}
	if err := f.Return([]compute.Value{out}, nil); err != nil {
		t.Fatal(err)
	}
	exec, err := builder.Compile()
	if err != nil {
		t.Fatalf("compiling: %v", err)
	}
	return exec
}

// run executes a graph of one result on flat inputs.
func run(t testing.TB, backend compute.Backend, exec compute.Executable, flats []any) any {
	t.Helper()
	_, inputs := exec.Inputs()
	buffers := make([]compute.Buffer, len(inputs))
	for i := range inputs {
		b, err := backend.BufferFromFlatData(0, flats[i], inputs[i])
		if err != nil {
			t.Fatal(err)
		}
		buffers[i] = b
	}
	donate := make([]bool, len(inputs))
	for i := range donate {
		donate[i] = true
	}
	outputs, err := exec.Execute(buffers, donate, 0)
	if err != nil {
		t.Fatalf("running: %v", err)
	}
	flat, err := outputs[0].Data()
	if err != nil {
		t.Fatal(err)
	}
	return flat
}

func randomFloats(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// randomFlats draws inputs of the given shapes.
func randomFlats(rng *rand.Rand, inputs []shapes.Shape) []any {
	flats := make([]any, len(inputs))
	for i, s := range inputs {
		switch s.DType {
		case dtypes.Bool:
			b := make([]bool, s.Size())
			for j := range b {
				b[j] = rng.IntN(2) == 1
			}
			flats[i] = b
		case dtypes.Int32:
			v := make([]int32, s.Size())
			for j := range v {
				v[j] = int32(rng.IntN(12)) - 2
			}
			flats[i] = v
		default:
			flats[i] = randomFloats(rng, s.Size())
		}
	}
	return flats
}

// compare checks a result against the reference backend's.
func compare(t *testing.T, got, want any, tolerance float64) {
	t.Helper()
	if w, ok := want.([]float32); ok {
		g := got.([]float32)
		if len(g) != len(w) {
			t.Fatalf("%d elements, want %d", len(g), len(w))
		}
		scale := 1e-3
		for _, v := range w {
			if v == v && !math.IsInf(float64(v), 0) {
				scale = max(scale, math.Abs(float64(v)))
			}
		}
		for i := range w {
			if w[i] == g[i] || w[i] != w[i] && g[i] != g[i] {
				continue
			}
			if d := math.Abs(float64(g[i]) - float64(w[i])); !(d <= tolerance*scale) {
				t.Fatalf("element %d is %v, want %v", i, g[i], w[i])
			}
		}
		return
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v\nwant %v", got, want)
	}
}

// native fails the test if the plan of an executable has a fallback.
func native(t *testing.T, exec compute.Executable) {
	t.Helper()
	for _, s := range exec.(*Executable).plan.steps {
		if s.fallback {
			t.Errorf("falls back: %s", s.detail)
		}
	}
}

var nhwc = compute.ConvolveAxesConfig{InputBatch: 0, InputChannels: 3, InputSpatial: []int{1, 2},
	KernelInputChannels: 2, KernelOutputChannels: 3, KernelSpatial: []int{0, 1},
	OutputBatch: 0, OutputChannels: 3, OutputSpatial: []int{1, 2}}

// swapped are the axes of the gradient of the input.
var swapped = func() compute.ConvolveAxesConfig {
	a := nhwc.Clone()
	a.KernelInputChannels, a.KernelOutputChannels = 3, 2
	return a
}()

// kernelGradient are the axes of the gradient of the kernel.
var kernelGradient = compute.ConvolveAxesConfig{InputBatch: 3, InputChannels: 0, InputSpatial: []int{1, 2},
	KernelInputChannels: 0, KernelOutputChannels: 3, KernelSpatial: []int{1, 2},
	OutputBatch: 2, OutputChannels: 3, OutputSpatial: []int{0, 1}}

func conv(axes compute.ConvolveAxesConfig, strides []int, pads [][2]int, spread, dilation []int, groups int) build {
	return func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.ConvGeneral(in[0], in[1], axes, strides, pads, spread, dilation, groups, 1)
	}
}

func dot(lc, lb, rc, rb []int) build {
	return func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.DotGeneral(in[0], lc, lb, in[1], rc, rb, compute.DotGeneralConfig{})
	}
}

func pads(p ...int) (list [][2]int) {
	for i := 0; i < len(p); i += 2 {
		list = append(list, [2]int{p[i], p[i+1]})
	}
	return list
}

// opCases are graphs whose results are those of the reference backend.
var opCases = []struct {
	name   string
	inputs []shapes.Shape
	graph  build
}{
	{"dot NN", []shapes.Shape{f32(37, 45), f32(45, 70)}, dot([]int{1}, nil, []int{0}, nil)},
	{"dot NT", []shapes.Shape{f32(37, 300), f32(70, 300)}, dot([]int{1}, nil, []int{1}, nil)},
	{"dot TN", []shapes.Shape{f32(45, 37), f32(45, 10)}, dot([]int{0}, nil, []int{0}, nil)},
	{"dot TT", []shapes.Shape{f32(45, 37), f32(70, 45)}, dot([]int{0}, nil, []int{1}, nil)},
	{"dot small", []shapes.Shape{f32(1, 1), f32(1, 1)}, dot([]int{1}, nil, []int{0}, nil)},
	{"dot vectors", []shapes.Shape{f32(300), f32(300)}, dot([]int{0}, nil, []int{0}, nil)},
	{"dot outer", []shapes.Shape{f32(30), f32(50)}, dot(nil, nil, nil, nil)},
	{"dot batched", []shapes.Shape{f32(3, 4, 17, 20), f32(3, 4, 20, 33)}, dot([]int{3}, []int{0, 1}, []int{2}, []int{0, 1})},
	{"dot attention", []shapes.Shape{f32(2, 17, 3, 8), f32(2, 19, 3, 8)}, dot([]int{3}, []int{0, 2}, []int{3}, []int{0, 2})},
	{"dot irregular", []shapes.Shape{f32(4, 5, 6), f32(6, 7, 4)}, dot([]int{0, 2}, nil, []int{2, 0}, nil)},
	{"dot of transposed", []shapes.Shape{f32(45, 37), f32(45, 70)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		x, err := f.Transpose(in[0], 1, 0)
		if err != nil {
			return nil, err
		}
		return f.DotGeneral(x, []int{1}, nil, in[1], []int{0}, nil, compute.DotGeneralConfig{})
	}},
	{"transposed dot", []shapes.Shape{f32(37, 45), f32(45, 70)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		x, err := f.DotGeneral(in[0], []int{1}, nil, in[1], []int{0}, nil, compute.DotGeneralConfig{})
		if err != nil {
			return nil, err
		}
		return f.Transpose(x, 1, 0)
	}},

	{"conv 3x3", []shapes.Shape{f32(3, 9, 11, 16), f32(3, 3, 16, 32)}, conv(nhwc, nil, pads(1, 1, 1, 1), nil, nil, 1)},
	{"conv stride 2", []shapes.Shape{f32(2, 10, 9, 16), f32(3, 3, 16, 48)}, conv(nhwc, []int{2, 2}, pads(1, 1, 0, 1), nil, nil, 1)},
	{"conv odd channels", []shapes.Shape{f32(2, 8, 8, 3), f32(5, 5, 3, 10)}, conv(nhwc, nil, pads(2, 2, 2, 2), nil, nil, 1)},
	{"conv 1x1", []shapes.Shape{f32(2, 7, 7, 20), f32(1, 1, 20, 33)}, conv(nhwc, []int{2, 2}, nil, nil, nil, 1)},
	{"conv dilated", []shapes.Shape{f32(2, 12, 12, 8), f32(3, 3, 8, 16)}, conv(nhwc, nil, pads(2, 2, 2, 2), nil, []int{2, 2}, 1)},
	{"conv spread", []shapes.Shape{f32(2, 5, 6, 32), f32(3, 3, 16, 32)}, conv(swapped, nil, pads(1, 2, 1, 2), []int{2, 2}, nil, 1)},
	{"conv negative padding", []shapes.Shape{f32(2, 9, 9, 16), f32(3, 3, 16, 16)}, conv(nhwc, nil, pads(-1, 1, -2, -1), nil, nil, 1)},
	{"conv grouped", []shapes.Shape{f32(2, 8, 8, 12), f32(3, 3, 4, 24)}, conv(nhwc, nil, pads(1, 1, 1, 1), nil, nil, 3)},
	{"conv depthwise", []shapes.Shape{f32(2, 8, 8, 6), f32(3, 3, 1, 6)}, conv(nhwc, nil, pads(1, 1, 1, 1), nil, nil, 6)},
	{"conv mirrored", []shapes.Shape{f32(2, 8, 8, 32), f32(3, 3, 16, 32)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		k, err := f.Reverse(in[1], 0, 1)
		if err != nil {
			return nil, err
		}
		return f.ConvGeneral(in[0], k, swapped, nil, pads(1, 1, 1, 1), []int{1, 1}, nil, 1, 1)
	}},
	{"conv one axis", []shapes.Shape{f32(2, 20, 8), f32(3, 8, 16)}, conv(compute.ConvolveAxesConfig{InputBatch: 0, InputChannels: 2,
		InputSpatial: []int{1}, KernelInputChannels: 1, KernelOutputChannels: 2, KernelSpatial: []int{0},
		OutputBatch: 0, OutputChannels: 2, OutputSpatial: []int{1}}, []int{2}, pads(1, 2), nil, nil, 1)},
	{"spread and cut", []shapes.Shape{f32(2, 2, 1, 3), f32(1, 1, 3, 5)}, conv(nhwc, nil, pads(0, 0, 1, -1), []int{1, 2}, nil, 1)},
	{"spread and stride", []shapes.Shape{f32(2, 2, 1, 3), f32(1, 1, 3, 5)}, conv(nhwc, []int{1, 4}, pads(0, 0, 3, 0), []int{1, 4}, nil, 1)},
	{"its own kernel", []shapes.Shape{f32(3, 3, 16, 16)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		y, err := f.Sqrt(in[0])
		if err != nil {
			return nil, err
		}
		y, err = f.Mul(y, y)
		if err != nil {
			return nil, err
		}
		return conv(nhwc, nil, pads(1, 1, 1, 1), nil, nil, 1)(f, []compute.Value{y, y})
	}},
	{"kernel gradient of a reversed result", []shapes.Shape{f32(3, 6, 6, 16), f32(3, 6, 6, 16)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		r, err := f.Reverse(in[1], 1, 2)
		if err != nil {
			return nil, err
		}
		return conv(kernelGradient, nil, pads(1, 1, 1, 1), nil, nil, 1)(f, []compute.Value{in[0], r})
	}},
	{"kernel gradient", []shapes.Shape{f32(20, 9, 8, 16), f32(20, 9, 8, 32)}, conv(kernelGradient, nil, pads(1, 1, 1, 1), nil, nil, 1)},
	{"kernel gradient odd", []shapes.Shape{f32(5, 9, 8, 3), f32(5, 9, 8, 10)}, conv(kernelGradient, nil, pads(2, 2, 1, 1), nil, nil, 1)},
	{"kernel gradient strided", []shapes.Shape{f32(6, 10, 10, 16), f32(6, 5, 5, 32)}, conv(kernelGradient, nil, pads(1, 0, 1, 0), nil, []int{2, 2}, 1)},
	{"kernel gradient 1x1", []shapes.Shape{f32(6, 10, 10, 16), f32(6, 5, 5, 32)}, conv(kernelGradient, nil, pads(0, -1, 0, -1), nil, []int{2, 2}, 1)},

	{"max pool", []shapes.Shape{f32(2, 9, 9, 20)}, windows(compute.ReduceOpMax, []int{1, 3, 3, 1}, []int{1, 2, 2, 1}, nil)},
	{"max pool padded", []shapes.Shape{f32(2, 9, 8, 16)}, windows(compute.ReduceOpMax, []int{1, 3, 3, 1}, []int{1, 2, 2, 1}, pads(0, 0, 1, 1, 1, 0, 0, 0))},
	{"sum pool", []shapes.Shape{f32(2, 9, 8, 35)}, windows(compute.ReduceOpSum, []int{1, 2, 2, 1}, []int{1, 2, 2, 1}, nil)},
	{"max pool gradient", []shapes.Shape{f32(2, 9, 9, 20), f32(2, 4, 4, 20)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.SelectAndScatterMax(in[0], in[1], []int{1, 3, 3, 1}, []int{1, 2, 2, 1}, nil)
	}},

	{"sum leading", []shapes.Shape{f32(70, 37)}, reduce(compute.Function.ReduceSum, 0)},
	{"sum leading wide", []shapes.Shape{f32(7, 3001)}, reduce(compute.Function.ReduceSum, 0)},
	{"sum wider than a block", []shapes.Shape{f32(5, 9001)}, reduce(compute.Function.ReduceSum, 0)},
	{"sum two leading", []shapes.Shape{f32(7, 11, 48)}, reduce(compute.Function.ReduceSum, 0, 1)},
	{"sum middle", []shapes.Shape{f32(7, 11, 20)}, reduce(compute.Function.ReduceSum, 1)},
	{"sum last", []shapes.Shape{f32(7, 11, 37)}, reduce(compute.Function.ReduceSum, 2)},
	{"sum all", []shapes.Shape{f32(57, 1001)}, reduce(compute.Function.ReduceSum)},
	{"max last", []shapes.Shape{f32(7, 37)}, reduce(compute.Function.ReduceMax, 1)},
	{"max leading", []shapes.Shape{f32(7, 37)}, reduce(compute.Function.ReduceMax, 0)},
	{"min middle", []shapes.Shape{f32(7, 5, 37)}, reduce(compute.Function.ReduceMin, 1)},
	{"arg max", []shapes.Shape{f32(7, 37)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.ArgMinMax(in[0], 1, dtypes.Int32, false)
	}},
	{"arg min", []shapes.Shape{f32(7, 5, 3)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.ArgMinMax(in[0], 1, dtypes.Int64, true)
	}},

	{"broadcast chain", []shapes.Shape{f32(5, 7, 33), f32(1, 1, 33), f32(5, 7, 1), f32(5, 1, 33), f32()},
		func(f compute.Function, in []compute.Value) (compute.Value, error) {
			x, err := f.Mul(in[0], in[1])
			for _, v := range in[2:] {
				if err == nil {
					x, err = f.Add(x, v)
				}
			}
			if err != nil {
				return nil, err
			}
			return f.Exp(x)
		}},
	{"shared product", []shapes.Shape{f32(100), f32(100)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		p, err := f.Mul(in[0], in[1])
		if err != nil {
			return nil, err
		}
		s, err := f.Add(p, in[0])
		if err != nil {
			return nil, err
		}
		return f.Div(p, s)
	}},
	{"compare and choose", []shapes.Shape{f32(9, 13), f32(9, 13), shapes.Make(dtypes.Bool, 9, 13)},
		func(f compute.Function, in []compute.Value) (compute.Value, error) {
			c, err := f.GreaterThan(in[0], in[1])
			if err != nil {
				return nil, err
			}
			if c, err = f.LogicalXor(c, in[2]); err != nil {
				return nil, err
			}
			return f.Where(c, in[0], in[1])
		}},
	{"truth", []shapes.Shape{f32(9, 13), f32(9, 13)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		c, err := f.LessOrEqual(in[0], in[1])
		if err != nil {
			return nil, err
		}
		return f.LogicalNot(c)
	}},
	{"convert", []shapes.Shape{shapes.Make(dtypes.Int32, 37)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		x, err := f.ConvertDType(in[0], dtypes.Float32)
		if err != nil {
			return nil, err
		}
		return f.Sqrt(x)
	}},
	{"transposed product of one operand's axes", []shapes.Shape{f32(4, 5, 3), f32(3)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		d, err := dot([]int{2}, nil, []int{0}, nil)(f, in)
		if err != nil {
			return nil, err
		}
		return f.Transpose(d, 1, 0)
	}},
	{"sums of a chain", []shapes.Shape{f32(130, 24), f32(130, 24)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		p, err := f.Mul(in[0], in[1])
		if err != nil {
			return nil, err
		}
		s, err := f.ReduceSum(p, 0)
		if err != nil {
			return nil, err
		}
		b, err := f.BroadcastInDim(s, f32(130, 24), []int{1})
		if err != nil {
			return nil, err
		}
		return f.Sub(p, b)
	}},
	{"softmax", []shapes.Shape{f32(33, 10)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		m, err := f.ReduceMax(in[0], 1)
		if err != nil {
			return nil, err
		}
		m, _ = f.Reshape(m, 33, 1)
		x, err := f.Sub(in[0], m)
		if err != nil {
			return nil, err
		}
		e, _ := f.Exp(x)
		s, err := f.ReduceSum(e, 1)
		if err != nil {
			return nil, err
		}
		s, _ = f.Reshape(s, 33, 1)
		return f.Div(e, s)
	}},

	{"transpose", []shapes.Shape{f32(5, 7, 11)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.Transpose(in[0], 2, 0, 1)
	}},
	{"transpose large", []shapes.Shape{f32(300, 200)}, func(f compute.Function, in []compute.Value) (compute.Value, error) { return f.Transpose(in[0], 1, 0) }},
	{"reverse", []shapes.Shape{f32(5, 7, 3)}, func(f compute.Function, in []compute.Value) (compute.Value, error) { return f.Reverse(in[0], 0, 2) }},
	{"reverse last", []shapes.Shape{f32(5, 7)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		x, err := f.Reverse(in[0], 1)
		if err != nil {
			return nil, err
		}
		return f.ReduceMax(x, 0)
	}},
	{"slice", []shapes.Shape{f32(9, 10)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.Slice(in[0], []int{1, 2}, []int{9, 9}, []int{3, 2})
	}},
	{"concatenate", []shapes.Shape{f32(3, 4), f32(3, 1), f32(3, 6)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.Concatenate(1, in...)
	}},
	{"pad", []shapes.Shape{f32(3, 4), f32()}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.Pad(in[0], in[1], compute.PadAxis{Start: 2, End: 1, Interior: 1}, compute.PadAxis{Start: 0, End: 3})
	}},
	{"sum over outer and inner", []shapes.Shape{f32(5, 6, 17, 3)}, reduce(compute.Function.ReduceSum, 1, 3)},
	{"product", []shapes.Shape{f32(5, 6)}, reduce(compute.Function.ReduceProduct, 1)},
	{"bitcast", []shapes.Shape{f32(5, 6)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.Bitcast(in[0], dtypes.Uint32)
	}},
	{"gather rows", []shapes.Shape{f32(7, 40), int32s(6, 5, 1)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.Gather(in[0], in[1], 2, []int{2}, []int{0}, []int{0}, []int{1, 40}, false)
	}},
	{"gather windows", []shapes.Shape{f32(5, 9, 4), int32s(2, 6)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.Gather(in[0], in[1], 0, []int{0, 2}, []int{2}, []int{1, 0}, []int{3, 2, 1}, false)
	}},
	{"scatter overlapping", []shapes.Shape{f32(2000), int32s(300, 1), f32(300, 100)}, positive(func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.ScatterMax(in[0], in[1], in[2], 1, []int{1}, nil, []int{0}, false, false)
	})},
	{"scatter overlapping rows", []shapes.Shape{f32(200, 16), int32s(300, 1), f32(300, 10, 16)}, positive(func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.ScatterMax(in[0], in[1], in[2], 1, []int{1, 2}, nil, []int{0}, false, false)
	})},
	{"scatter rows", []shapes.Shape{f32(12, 40), int32s(60, 1), f32(60, 40)}, positive(scatterRows(compute.Function.ScatterSum))},
	{"scatter many", []shapes.Shape{f32(12, 100), int32s(900, 1), f32(900, 100)}, positive(scatterRows(compute.Function.ScatterSum))},
	{"scatter largest", []shapes.Shape{f32(12, 3), int32s(60, 1), f32(60, 3)}, positive(scatterRows(compute.Function.ScatterMax))},
	{"scatter smallest", []shapes.Shape{f32(12, 3), int32s(60, 1), f32(60, 3)}, positive(scatterRows(compute.Function.ScatterMin))},
	{"scatter columns", []shapes.Shape{f32(4, 12), int32s(9), f32(4, 9)}, positive(func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.ScatterSum(in[0], in[1], in[2], 1, []int{0}, []int{1}, []int{1}, false, false)
	})},
}

func int32s(dims ...int) shapes.Shape { return shapes.Make(dtypes.Int32, dims...) }

// positive makes the indices, operand 1, lie inside.
func positive(graph build) build {
	return func(f compute.Function, in []compute.Value) (compute.Value, error) {
		i, err := f.Abs(in[1])
		if err != nil {
			return nil, err
		}
		return graph(f, []compute.Value{in[0], i, in[2]})
	}
}

// looser tolerances: the reference adds up in float32, so sums that cancel differ
// by its errors.
var looser = map[string]float64{"dot vectors": 1e-4, "sum all": 1e-3}

func windows(op compute.ReduceOpType, size, strides []int, padding [][2]int) build {
	return func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.ReduceWindow(in[0], op, size, strides, nil, nil, padding)
	}
}

func reduce(method func(compute.Function, compute.Value, ...int) (compute.Value, error), axes ...int) build {
	return func(f compute.Function, in []compute.Value) (compute.Value, error) { return method(f, in[0], axes...) }
}

func TestOperations(t *testing.T) {
	reference, err := gobackend.New("ops_sequential")
	if err != nil {
		t.Fatal(err)
	}
	defer reference.Finalize()
	forEachISA(t, func(t *testing.T, backend *Backend) {
		for _, c := range opCases {
			t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
				exec := compile(t, backend, c.inputs, c.graph)
				defer exec.Finalize()
				native(t, exec)
				tolerance := 2e-6
				if t, ok := looser[c.name]; ok {
					tolerance = t
				}
				their := compile(t, reference, c.inputs, c.graph)
				for seed := range uint64(2) {
					flats := randomFlats(rand.New(rand.NewPCG(seed, 1)), c.inputs)
					compare(t, run(t, backend, exec, flats), run(t, reference, their, flats), tolerance)
				}
			})
		}
	})
}

// The reference cannot cut off or has no such operation; these are checked by
// hand.
func TestNegativePad(t *testing.T) {
	forEachISA(t, func(t *testing.T, backend *Backend) {
		exec := compile(t, backend, []shapes.Shape{f32(5), f32()}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			return f.Pad(in[0], in[1], compute.PadAxis{Start: -1, End: 2})
		})
		got := run(t, backend, exec, []any{[]float32{1, 2, 3, 4, 5}, []float32{9}})
		compare(t, got, []float32{2, 3, 4, 5, 9, 9}, 0)
	})
}

// Statistics of one row do not join the program that computes their offset, which they
// read from memory. Normalised, one row is its offset.
func TestBatchNormOfOneRow(t *testing.T) {
	forEachISA(t, func(t *testing.T, backend *Backend) {
		exec := compile(t, backend, []shapes.Shape{f32(1, 4), f32(4), f32(4)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			offset, err := f.Neg(in[2])
			if err != nil {
				return nil, err
			}
			y, _, _, err := f.BatchNormForTraining(in[0], in[1], offset, 1e-2, 1)
			if err != nil {
				return nil, err
			}
			z, _, _, err := f.BatchNormForTraining(y, in[1], offset, 1e-2, 1)
			return z, err
		})
		got := run(t, backend, exec, []any{[]float32{5, 6, 7, 8}, []float32{1, 1, 1, 1}, []float32{1, -2, 3, -4}})
		compare(t, got, []float32{-1, 2, -3, 4}, 1e-6)
	})
}

// Indices that are no integers of whole bytes are refused: places would be read that
// are not there.
func TestIndicesAreIntegers(t *testing.T) {
	backend, err := New("")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Finalize()
	for dtype, fits := range map[dtypes.DType]bool{dtypes.Int8: true, dtypes.Uint64: true, dtypes.Float32: false, dtypes.Bool: false, dtypes.Int4: false} {
		f := backend.Builder(t.Name()).Main()
		x, _ := f.Parameter("x", f32(10, 4), nil)
		updates, _ := f.Parameter("updates", f32(6, 4), nil)
		i, err := f.Parameter("i", shapes.Make(dtype, 6, 1), nil)
		if err != nil {
			t.Fatal(err)
		}
		place, _ := f.Parameter("place", shapes.Make(dtype), nil)
		_, gather := f.Gather(x, i, 1, []int{1}, []int{0}, []int{0}, []int{1, 4}, false)
		_, scatter := f.ScatterSum(x, i, updates, 1, []int{1}, []int{0}, []int{0}, false, false)
		_, slice := f.DynamicSlice(x, []compute.Value{place, place}, []int{2, 2})
		for op, err := range map[string]error{"gather": gather, "scatter": scatter, "dynamic slice": slice} {
			if (err == nil) != fits {
				t.Errorf("%s at places of %s: %v", op, dtype, err)
			}
		}
	}
}
