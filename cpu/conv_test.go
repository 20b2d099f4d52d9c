package cpu

import (
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

func randomFloats(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

func BenchmarkConvX(b *testing.B) {
	be, _ := New("workers=1")
	ax := compute.ConvolveAxesConfig{InputBatch: 3, InputChannels: 0, InputSpatial: []int{1, 2}, KernelInputChannels: 0, KernelOutputChannels: 3, KernelSpatial: []int{1, 2}, OutputBatch: 2, OutputChannels: 3, OutputSpatial: []int{0, 1}}
	bl := be.Builder("x")
	f := bl.Main()
	x, _ := f.Parameter("x", shapes.Make(dtypes.Float32, 128, 32, 32, 16), nil)
	y, _ := f.Parameter("y", shapes.Make(dtypes.Float32, 128, 16, 16, 32), nil)
	c, err := f.ConvGeneral(x, y, ax, nil, [][2]int{{0, -1}, {0, -1}}, nil, []int{2, 2}, 1, 1)
	if err != nil {
		b.Fatal(err)
	}
	f.Return([]compute.Value{c}, nil)
	e, err := bl.Compile()
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	bx, _ := be.BufferFromFlatData(0, randomFloats(rng, 128*32*32*16), shapes.Make(dtypes.Float32, 128, 32, 32, 16))
	by, _ := be.BufferFromFlatData(0, randomFloats(rng, 128*16*16*32), shapes.Make(dtypes.Float32, 128, 16, 16, 32))
	for b.Loop() {
		o, err := e.Execute([]compute.Buffer{bx, by}, nil, 0)
		if err != nil {
			b.Fatal(err)
		}
		o[0].Finalize()
	}
}
