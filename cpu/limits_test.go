package cpu

import (
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

// Malformed operations and sizes beyond memory are errors, wherever they come up:
// nothing panics, and nothing is computed on memory that is not there.
func TestNothingEscapes(t *testing.T) {
	backend, _ := New("workers=2")
	defer backend.Finalize()
	huge, outer := f32(1<<32, 1<<32), f32(1<<24)
	images := compute.ConvolveAxesConfig{
		InputBatch: 0, InputChannels: 3, InputSpatial: []int{1, 2},
		KernelInputChannels: 2, KernelOutputChannels: 3, KernelSpatial: []int{0, 1},
		OutputBatch: 0, OutputChannels: 3, OutputSpatial: []int{1, 2}}
	product := func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.DotGeneral(in[0], nil, nil, in[1], nil, nil, compute.DotGeneralConfig{})
	}
	for _, c := range []struct {
		name   string
		inputs []shapes.Shape
		build  build
	}{
		{"huge parameter", []shapes.Shape{huge}, func(f compute.Function, in []compute.Value) (compute.Value, error) { return f.Neg(in[0]) }},
		{"huge result", []shapes.Shape{outer, outer}, product},
		{"huge temporary", []shapes.Shape{outer, outer}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			p, err := product(f, in)
			if err != nil {
				return nil, err
			}
			return f.ReduceSum(p, 0, 1)
		}},
		{"huge broadcast", []shapes.Shape{f32(1)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			return f.BroadcastInDim(in[0], huge, []int{1})
		}},
		{"huge iota", nil, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			return f.Iota(f32(1<<33, 1<<31), 0)
		}},
		{"conv of matrices", []shapes.Shape{f32(2, 3), f32(3, 3)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			return f.ConvGeneral(in[0], in[1], compute.ConvolveAxesConfig{}, nil, nil, nil, nil, 1, 1)
		}},
		{"conv axes", []shapes.Shape{f32(2, 8, 8, 3), f32(3, 3, 3, 4)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			return f.ConvGeneral(in[0], in[1], compute.ConvolveAxesConfig{InputBatch: 9, InputChannels: -7, InputSpatial: []int{1, 1}, KernelSpatial: []int{5, 6}}, nil, nil, nil, nil, 1, 1)
		}},
		{"conv stride 0", []shapes.Shape{f32(2, 8, 8, 3), f32(3, 3, 3, 4)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			return f.ConvGeneral(in[0], in[1], images, []int{0, 0}, nil, nil, nil, 1, 1)
		}},
		{"dot sizes", []shapes.Shape{f32(2, 3), f32(4, 5)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			return f.DotGeneral(in[0], []int{1}, nil, in[1], []int{0}, nil, compute.DotGeneralConfig{})
		}},
		{"dot axes", []shapes.Shape{f32(2, 3), f32(4, 5)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			return f.DotGeneral(in[0], []int{7}, nil, in[1], []int{-9}, nil, compute.DotGeneralConfig{})
		}},
		{"window rank", []shapes.Shape{f32(2, 3)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			return f.ReduceWindow(in[0], compute.ReduceOpMax, []int{3}, []int{1}, nil, nil, nil)
		}},
		{"window stride 0", []shapes.Shape{f32(2, 3)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			return f.ReduceWindow(in[0], compute.ReduceOpMax, []int{1, 1}, []int{0, 0}, nil, nil, nil)
		}},
		{"gather axis", []shapes.Shape{f32(2, 3), shapes.Make(dtypes.Int32, 4)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			return f.Gather(in[0], in[1], 9, nil, nil, nil, nil, false)
		}},
		{"slice", []shapes.Shape{f32(2, 3)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			return f.Slice(in[0], []int{-1}, []int{5}, []int{0})
		}},
		{"concatenate nothing", nil, func(f compute.Function, in []compute.Value) (compute.Value, error) { return f.Concatenate(0) }},
		{"transpose", []shapes.Shape{f32(2, 3)}, func(f compute.Function, in []compute.Value) (compute.Value, error) { return f.Transpose(in[0], 5) }},
		{"reverse", []shapes.Shape{f32(2, 3)}, func(f compute.Function, in []compute.Value) (compute.Value, error) { return f.Reverse(in[0], 5) }},
		{"constant", nil, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			return f.Constant([]float32{1, 2}, 7)
		}},
		{"constant text", nil, func(f compute.Function, in []compute.Value) (compute.Value, error) { return f.Constant("text", 7) }},
		{"constant nil", nil, func(f compute.Function, in []compute.Value) (compute.Value, error) { return f.Constant(nil) }},
		{"argmax axis", []shapes.Shape{f32(2, 3)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			return f.ArgMinMax(in[0], 4, dtypes.Int32, true)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := tryGraph(backend, c.inputs, c.build)
			if err == nil || strings.Contains(err.Error(), "runtime error") {
				t.Errorf("error %v", err)
			}
		})
	}
	for name, shape := range map[string]shapes.Shape{
		"overflow": huge, "half of it": f32(1<<31, 1<<31), "a pebibyte": f32(1<<20, 1<<28), "invalid": {}, "negative": {DType: dtypes.Float32, Dimensions: []int{-3}},
	} {
		if _, _, err := backend.NewSharedBuffer(0, shape); err == nil {
			t.Errorf("%s: a buffer of %s was made", name, shape)
		}
		if _, err := backend.BufferFromFlatData(0, []float32{1}, shape); err == nil {
			t.Errorf("%s: a buffer of %s was made of one number", name, shape)
		}
	}
	for _, flat := range []any{nil, 3, "text", []string{"text"}, []float64{1}} {
		if _, err := backend.BufferFromFlatData(0, flat, f32(2)); err == nil {
			t.Errorf("a buffer was made of %T", flat)
		}
	}
}

// tryGraph builds, compiles and runs a graph on zeros, up to the first error.
func tryGraph(backend *Backend, inputs []shapes.Shape, graph build) error {
	builder := backend.Builder("try")
	f := builder.Main()
	var values []compute.Value
	for _, s := range inputs {
		v, err := f.Parameter("", s, nil)
		if err != nil {
			return err
		}
		values = append(values, v)
	}
	out, err := graph(f, values)
	if err != nil {
		return err
	}
	if err := f.Return([]compute.Value{out}, nil); err != nil {
		return err
	}
	exec, err := builder.Compile()
	if err != nil {
		return err
	}
	var buffers []compute.Buffer
	for _, s := range inputs {
		b, _, err := backend.NewSharedBuffer(0, s)
		if err != nil {
			return err
		}
		buffers = append(buffers, b)
	}
	_, err = exec.Execute(buffers, nil, 0)
	return err
}
