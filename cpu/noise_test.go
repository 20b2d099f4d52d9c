package cpu

import (
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

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
		_, bits, err := f.RNGBitGenerator(in[1], shapes.Make(dtypes.Uint32, weights.Dimensions...))
		if err != nil {
			return nil, err
		}
		x, _ := f.ConvertDType(bits, dtypes.Float32)
		scale, _ := f.Constant([]float32{0x1p-32})
		one, _ := f.Constant([]float32{0x1.fffffep-1})
		x, _ = f.Mul(x, scale)
		x, _ = f.Abs(x)
		x, _ = f.Min(x, one)
		shift, _ := f.Constant([]float32{-0.5})
		x, _ = f.Add(x, shift)
		return f.Add(in[0], x)
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
