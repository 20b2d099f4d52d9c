package cpu

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"
)

// A donated parameter is updated in place, one that is not stays, and a buffer given
// twice is not overwritten while it is read.
func TestDonatedIsUpdatedInPlace(t *testing.T) {
	forEachISA(t, func(t *testing.T, backend *Backend) {
		const n = 5000
		shape := f32(n)
		// The sum reads all of x before the last step, which reads it again.
		exec := compile(t, backend, []shapes.Shape{shape, shape}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			sum, _ := f.ReduceSum(in[0], 0)
			y, _ := f.Mul(in[0], in[1])
			y, _ = f.Add(y, sum)
			return f.Sub(in[0], y)
		})
		values := randomFloats(rand.New(rand.NewPCG(3, 4)), n)
		buffer := func() *Buffer {
			b, err := backend.BufferFromFlatData(0, values, shape)
			if err != nil {
				t.Fatal(err)
			}
			return b.(*Buffer)
		}
		flat := func(b compute.Buffer) []float32 {
			data, err := b.Data()
			if err != nil {
				t.Fatal(err)
			}
			return data.([]float32)
		}
		var want []float32
		for _, c := range []struct {
			name    string
			x, y    *Buffer
			donate  []bool
			inPlace bool
		}{
			{name: "none", x: buffer(), y: buffer()},
			{name: "the first", x: buffer(), y: buffer(), donate: []bool{true, false}, inPlace: true},
			{name: "both", x: buffer(), y: buffer(), donate: []bool{true, true}, inPlace: true},
			{name: "one that is also the other", x: buffer(), donate: []bool{true, false}},
		} {
			if c.y == nil {
				c.y = c.x
			}
			before := &flat(c.x)[0]
			out, err := exec.Execute([]compute.Buffer{c.x, c.y}, c.donate, 0)
			if err != nil {
				t.Fatal(err)
			}
			got := flat(out[0])
			if want == nil {
				want = slices.Clone(got)
			}
			if !slices.Equal(got, want) {
				t.Errorf("donating %s: other results than without", c.name)
			}
			if inPlace := &got[0] == before; inPlace != c.inPlace {
				t.Errorf("donating %s: in place: %t", c.name, inPlace)
			}
			for i, b := range []*Buffer{c.x, c.y} {
				donated := c.donate != nil && c.donate[i] || b == c.x && c.donate != nil && c.donate[0]
				if _, err := b.Data(); (err != nil) != donated {
					t.Errorf("donating %s: operand %d has error %v", c.name, i, err)
				} else if err == nil && !slices.Equal(flat(b), values) {
					t.Errorf("donating %s: operand %d was changed", c.name, i)
				}
			}
		}
	})
}

// A result is not computed over an operand that its program reads again.
func TestDonatedIsReadToTheEnd(t *testing.T) {
	forEachISA(t, func(t *testing.T, backend *Backend) {
		const n = 5000
		builder := backend.Builder(t.Name())
		f := builder.Main()
		x, err := f.Parameter("x", f32(n), nil)
		if err != nil {
			t.Fatal(err)
		}
		one, _ := f.Constant([]float32{1})
		sum, _ := f.Add(x, one)
		product, err := f.Mul(x, sum)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Return([]compute.Value{sum, product}, nil); err != nil {
			t.Fatal(err)
		}
		exec, err := builder.Compile()
		if err != nil {
			t.Fatal(err)
		}
		values := randomFloats(rand.New(rand.NewPCG(5, 6)), n)
		buffer, err := backend.BufferFromFlatData(0, values, f32(n))
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Execute([]compute.Buffer{buffer}, []bool{true}, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []func(v float32) float32{func(v float32) float32 { return v + 1 }, func(v float32) float32 { return v * (v + 1) }} {
			data, err := out[i].Data()
			if err != nil {
				t.Fatal(err)
			}
			for j, got := range data.([]float32) {
				if got != want(values[j]) {
					t.Fatalf("result %d, element %d of x=%g is %g, want %g", i, j, values[j], got, want(values[j]))
				}
			}
		}
	})
}

// A result is not computed over an operand that a later loop over images reads.
func TestDonatedIsReadByLoops(t *testing.T) {
	forEachISA(t, func(t *testing.T, backend *Backend) {
		image, kernel := f32(4, 8, 8, 16), f32(3, 3, 16, 16)
		rng := rand.New(rand.NewPCG(9, 9))
		flats := [][]float32{randomFloats(rng, image.Size()), randomFloats(rng, kernel.Size())}
		for updated := range flats { // the image, then the kernel
			builder := backend.Builder(t.Name())
			f := builder.Main()
			x, _ := f.Parameter("x", image, nil)
			k, _ := f.Parameter("k", kernel, nil)
			half, _ := f.Constant([]float32{0.5})
			update, err := f.Mul([]compute.Value{x, k}[updated], half)
			if err != nil {
				t.Fatal(err)
			}
			y, err := conv(nhwc, nil, pads(1, 1, 1, 1), nil, nil, 1)(f, []compute.Value{x, k})
			if err != nil {
				t.Fatal(err)
			}
			y, _ = f.Tanh(y)
			if err := f.Return([]compute.Value{update, y}, nil); err != nil {
				t.Fatal(err)
			}
			exec, err := builder.Compile()
			if err != nil {
				t.Fatal(err)
			}
			result := func(donate bool) []float32 {
				var inputs []compute.Buffer
				for i, shape := range []shapes.Shape{image, kernel} {
					b, err := backend.BufferFromFlatData(0, slices.Clone(flats[i]), shape)
					if err != nil {
						t.Fatal(err)
					}
					inputs = append(inputs, b)
				}
				out, err := exec.Execute(inputs, []bool{donate, donate}, 0)
				if err != nil {
					t.Fatal(err)
				}
				data, err := out[1].Data()
				if err != nil {
					t.Fatal(err)
				}
				return data.([]float32)
			}
			if want, got := result(false), result(true); !slices.Equal(want, got) {
				t.Errorf("updating operand %d changed what the convolution read", updated)
			}
		}
	})
}
