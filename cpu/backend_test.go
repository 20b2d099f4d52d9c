package cpu

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/compute/support/backendtest"
	"github.com/openpith/evidence/cpu/internal/kernels"
)

// GoMLX's own suite for backends. What it skips: dynamic shapes, which the
// capabilities decline; the fused dense, softmax, gelu and layer norm, which are
// declined so that GoMLX hands over what they are made of; and mixed types of
// dot-general that the reference backend does not have either.
func TestCompliance(t *testing.T) {
	forEachISA(t, func(t *testing.T, backend *Backend) { backendtest.RunAll(t, backend, nil) })
}

func TestOptions(t *testing.T) {
	for _, c := range []struct{ config, wrong string }{
		{"", ""},
		{"workers=2", ""},
		{"isa=go, workers=1", ""},
		{"workers=0", `workers="0"`},
		{"workers=many", `workers="many"`},
		{"isa=mmx", `isa="mmx"`},
		{"threads=2", `unknown option "threads"`},
		{"help", "GOMLX_BACKEND=cpu:"},
	} {
		b, err := New(c.config)
		switch {
		case c.wrong == "" && err != nil:
			t.Errorf("%q: %v", c.config, err)
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%q: error %v does not say %s", c.config, err, c.wrong)
		}
		if err == nil {
			b.Finalize()
		}
	}
}

// normalisation in float64, of rows of c channels.
func batchNormReference(x, scale, offset, dy []float32, c int, epsilon float64) (y, mean, variance, dx, dscale, doffset []float64) {
	n := len(x) / c
	y, dx = make([]float64, len(x)), make([]float64, len(x))
	mean, variance, dscale, doffset = make([]float64, c), make([]float64, c), make([]float64, c), make([]float64, c)
	for j := range c {
		for i := range n {
			mean[j] += float64(x[i*c+j]) / float64(n)
		}
		for i := range n {
			d := float64(x[i*c+j]) - mean[j]
			variance[j] += d * d / float64(n)
		}
		inverse := 1 / math.Sqrt(variance[j]+epsilon)
		for i := range n {
			hat := (float64(x[i*c+j]) - mean[j]) * inverse
			y[i*c+j] = hat*float64(scale[j]) + float64(offset[j])
			dscale[j] += float64(dy[i*c+j]) * hat
			doffset[j] += float64(dy[i*c+j])
		}
		for i := range n {
			hat := (float64(x[i*c+j]) - mean[j]) * inverse
			dx[i*c+j] = float64(scale[j]) * inverse * (float64(dy[i*c+j]) - doffset[j]/float64(n) - hat*dscale[j]/float64(n))
		}
	}
	return
}

func near64(t *testing.T, what string, got any, want []float64, tolerance float64) {
	t.Helper()
	scale := 1e-6
	for _, w := range want {
		scale = max(scale, math.Abs(w))
	}
	for i, g := range got.([]float32) {
		if !(math.Abs(float64(g)-want[i]) <= tolerance*scale) {
			t.Fatalf("%s: element %d is %v, want %v", what, i, g, want[i])
		}
	}
}

func TestBatchNorm(t *testing.T) {
	const epsilon = 1e-5
	forEachISA(t, func(t *testing.T, backend *Backend) {
		for _, c := range []struct {
			rows, channels int
			mean           float64 // far from zero, squares would cancel
		}{{50, 16, 0}, {3000, 24, 100}, {7, 5, 0}, {1000, 64, -30}, {33, 1000, 0}} {
			rng := rand.New(rand.NewPCG(1, uint64(c.rows)))
			x, dy := randomFloats(rng, c.rows*c.channels), randomFloats(rng, c.rows*c.channels)
			for i := range x {
				x[i] += float32(c.mean)
			}
			scale, offset := randomFloats(rng, c.channels), randomFloats(rng, c.channels)
			y, mean, variance, dx, dscale, doffset := batchNormReference(x, scale, offset, dy, c.channels, epsilon)
			full, feature := f32(c.rows, c.channels), f32(c.channels)
			for i, want := range [][]float64{y, mean, variance} {
				exec := compile(t, backend, []shapes.Shape{full, feature, feature}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
					a, b, c, err := f.BatchNormForTraining(in[0], in[1], in[2], epsilon, 1)
					return []compute.Value{a, b, c}[i], err
				})
				near64(t, fmt.Sprintf("%+v: training output %d", c, i), run(t, backend, exec, []any{x, scale, offset}), want, 2e-5)
			}
			m32, v32 := make([]float32, c.channels), make([]float32, c.channels)
			for i := range m32 {
				m32[i], v32[i] = float32(mean[i]), float32(variance[i])
			}
			exec := compile(t, backend, []shapes.Shape{full, feature, feature, feature, feature}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
				return f.BatchNormForInference(in[0], in[1], in[2], in[3], in[4], epsilon, -1)
			})
			near64(t, fmt.Sprintf("%+v: inference", c), run(t, backend, exec, []any{x, scale, offset, m32, v32}), y, 5e-5)
			for i, want := range [][]float64{dx, dscale, doffset} {
				exec := compile(t, backend, []shapes.Shape{full, feature, feature, feature, full}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
					a, b, c, err := f.BatchNormGradient(in[0], in[1], in[2], in[3], in[4], epsilon, 1)
					return []compute.Value{a, b, c}[i], err
				})
				near64(t, fmt.Sprintf("%+v: gradient %d", c, i), run(t, backend, exec, []any{x, scale, m32, v32, dy}), want, 5e-5)
			}
		}
	})
}

// Channels that are not the last axis.
func TestBatchNormFirstAxis(t *testing.T) {
	backend, _ := New("")
	defer backend.Finalize()
	rng := rand.New(rand.NewPCG(1, 1))
	const c, n = 6, 40
	x := randomFloats(rng, c*n)
	turned := make([]float32, c*n)
	for i := range n {
		for j := range c {
			turned[j*n+i] = x[i*c+j]
		}
	}
	scale, offset := randomFloats(rng, c), randomFloats(rng, c)
	y, _, _, _, _, _ := batchNormReference(x, scale, offset, x, c, 1e-3)
	want := make([]float64, c*n)
	for i := range n {
		for j := range c {
			want[j*n+i] = y[i*c+j]
		}
	}
	exec := compile(t, backend, []shapes.Shape{f32(c, n), f32(c), f32(c)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		y, _, _, err := f.BatchNormForTraining(in[0], in[1], in[2], 1e-3, 0)
		return y, err
	})
	near64(t, "normalised", run(t, backend, exec, []any{turned, scale, offset}), want, 1e-5)
}

// Random bits follow XLA's description of Philox for every width, length and
// counter, also where the counter carries.
func TestRandomBits(t *testing.T) {
	forEachISA(t, func(t *testing.T, backend *Backend) {
		for _, state := range [][]uint64{{0, 0, 0}, {0x123456789abcdef0, 1 << 40, 5}, {7, math.MaxUint64 - 100, 9}} {
			for _, n := range []int{1, 3, 4, 33, 10000} {
				for _, dtype := range []dtypes.DType{dtypes.Uint8, dtypes.Uint16, dtypes.Uint32, dtypes.Uint64} {
					words := n
					if dtype == dtypes.Uint64 {
						words = 2 * n
					}
					var stream []uint32
					low, high := state[1], state[2]
					for len(stream) < words {
						w := kernels.Philox4x32(state[0], low, high)
						stream = append(stream, w[:]...)
						if low++; low == 0 {
							high++
						}
					}
					builder := backend.Builder("random")
					f := builder.Main()
					s, _ := f.Parameter("state", compute.RNGStateShape, nil)
					next, bits, err := f.RNGBitGenerator(s, shapes.Make(dtype, n))
					if err != nil {
						t.Fatal(err)
					}
					if err := f.Return([]compute.Value{next, bits}, nil); err != nil {
						t.Fatal(err)
					}
					exec, err := builder.Compile()
					if err != nil {
						t.Fatal(err)
					}
					native(t, exec)
					in, _ := backend.BufferFromFlatData(0, state, compute.RNGStateShape)
					out, err := exec.Execute([]compute.Buffer{in}, nil, 0)
					if err != nil {
						t.Fatal(err)
					}
					flat, _ := out[0].Data()
					if got := [3]uint64(flat.([]uint64)); got != [3]uint64{state[0], low, high} {
						t.Errorf("%x of %d %s: state becomes %x, want %x", state, n, dtype, got, []uint64{state[0], low, high})
					}
					flat, _ = out[1].Data()
					for i := range n {
						var got, want uint64
						switch v := flat.(type) {
						case []uint8:
							got, want = uint64(v[i]), uint64(uint8(stream[i]))
						case []uint16:
							got, want = uint64(v[i]), uint64(uint16(stream[i]))
						case []uint32:
							got, want = uint64(v[i]), uint64(stream[i])
						case []uint64:
							got, want = v[i], uint64(stream[2*i])|uint64(stream[2*i+1])<<32
						}
						if got != want {
							t.Fatalf("%x of %d %s: number %d is %x, want %x", state, n, dtype, i, got, want)
						}
					}
				}
			}
		}
	})
}

// Words that are only converted to float32 are drawn inside programs; they are
// the same, and so is the next state.
func TestRandomFloats(t *testing.T) {
	forEachISA(t, func(t *testing.T, backend *Backend) {
		for _, n := range []int{1, 130, 5000, 40001} {
			state := []uint64{5, math.MaxUint64 - 3, 8}
			builder := backend.Builder("random")
			f := builder.Main()
			s, _ := f.Parameter("state", compute.RNGStateShape, nil)
			next, bits, err := f.RNGBitGenerator(s, shapes.Make(dtypes.Uint32, n))
			if err != nil {
				t.Fatal(err)
			}
			numbers, _ := f.ConvertDType(bits, dtypes.Float32)
			scale, _ := f.Constant([]float32{0x1p-32})
			numbers, _ = f.Mul(numbers, scale)
			if err := f.Return([]compute.Value{next, numbers}, nil); err != nil {
				t.Fatal(err)
			}
			exec, err := builder.Compile()
			if err != nil {
				t.Fatal(err)
			}
			in, _ := backend.BufferFromFlatData(0, state, compute.RNGStateShape)
			out, err := exec.Execute([]compute.Buffer{in}, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			flat, _ := out[1].Data()
			low, high := state[1], state[2]
			for i := 0; i < n; i += 4 {
				for j, w := range kernels.Philox4x32(state[0], low, high) {
					if i+j < n && flat.([]float32)[i+j] != float32(w)*0x1p-32 {
						t.Fatalf("number %d of %d is %v, want %v", i+j, n, flat.([]float32)[i+j], float32(w)*0x1p-32)
					}
				}
				if low++; low == 0 {
					high++
				}
			}
			flat, _ = out[0].Data()
			if got := [3]uint64(flat.([]uint64)); got != [3]uint64{5, low, high} {
				t.Errorf("state becomes %x, want %x", got, []uint64{5, low, high})
			}
		}
	})
}

// NaN and infinities go through chains as arithmetic says.
func TestSpecialValues(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	forEachISA(t, func(t *testing.T, backend *Backend) {
		exec := compile(t, backend, []shapes.Shape{f32(6)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
			zero, err := f.Constant([]float32{0})
			if err != nil {
				return nil, err
			}
			return f.Max(in[0], zero)
		})
		got := run(t, backend, exec, []any{[]float32{nan, inf, -inf, -1, 2, 0}})
		compare(t, got, []float32{nan, inf, 0, 0, 2, 0}, 0)
		exec = compile(t, backend, []shapes.Shape{f32(2, 20)}, reduce(compute.Function.ReduceMax, 1))
		x := make([]float32, 40)
		x[7], x[30] = nan, inf
		compare(t, run(t, backend, exec, []any{x}), []float32{nan, inf}, 0)
	})
}

// What a backend cannot do is an error that names the operation and shapes.
func TestErrors(t *testing.T) {
	backend, _ := New("")
	other, _ := New("")
	defer backend.Finalize()
	defer other.Finalize()
	f := backend.Builder("errors").Main()
	x, _ := f.Parameter("x", f32(2, 3), nil)
	half, _ := f.Parameter("half", shapes.Make(dtypes.Float64, 3), nil)
	foreign, _ := other.Builder("other").Main().Parameter("x", f32(2, 3), nil)
	for _, c := range []struct {
		name string
		call func() (compute.Value, error)
		says string
	}{
		{"shapes", func() (compute.Value, error) { y, _ := f.Transpose(x, 1, 0); return f.Add(x, y) }, "[3, 2]"},
		{"types", func() (compute.Value, error) { return f.Add(x, half) }, "Float64"},
		{"axes", func() (compute.Value, error) { return f.ReduceSum(x, 7) }, "ReduceSum"},
		{"foreign", func() (compute.Value, error) { return f.Neg(foreign) }, "another function"},
		{"nil", func() (compute.Value, error) { return f.Neg(nil) }, "Neg"},
		{"dynamic", func() (compute.Value, error) {
			return f.Parameter("d", shapes.MakeDynamic(dtypes.Float32, []int{shapes.DynamicDim}, []string{"n"}), nil)
		}, "static"},
		{"batch norm of float64", func() (compute.Value, error) {
			m, _ := f.Parameter("m", shapes.Make(dtypes.Float64, 2, 3), nil)
			return f.BatchNormForInference(m, half, half, half, half, 1e-5, 1)
		}, "float32"},
		{"batch norm axis", func() (compute.Value, error) { return f.BatchNormForInference(x, x, x, x, x, 1e-5, 5) }, "axis 5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.call()
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v does not say %q", err, c.says)
			}
		})
	}
}

// chain is a graph with sums and products large enough to be shared.
func chain(f compute.Function, in []compute.Value) (compute.Value, error) {
	p, err := f.DotGeneral(in[0], []int{1}, nil, in[1], []int{0}, nil, compute.DotGeneralConfig{})
	if err != nil {
		return nil, err
	}
	e, err := f.Exp(p)
	if err != nil {
		return nil, err
	}
	s, err := f.ReduceSum(e, 0)
	if err != nil {
		return nil, err
	}
	row, err := f.Reshape(s, 1, 80)
	if err != nil {
		return nil, err
	}
	return f.Div(e, row)
}

var chainInputs = []shapes.Shape{f32(700, 90), f32(90, 80)}

func TestConcurrentRuns(t *testing.T) {
	backend, _ := New("workers=3,isa=go")
	defer backend.Finalize()
	exec := compile(t, backend, chainInputs, chain)
	flats := randomFlats(rand.New(rand.NewPCG(1, 2)), chainInputs)
	want := run(t, backend, exec, flats)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 3 {
				compare(t, run(t, backend, exec, flats), want, 0)
			}
		})
	}
	wait.Wait()
	exec.Finalize()
	if _, err := exec.Execute(nil, nil, 0); err == nil {
		t.Error("a finalized executable runs")
	}
}

// Ten thousand steps neither grow memory nor allocate much.
func TestSteadyState(t *testing.T) {
	backend, _ := New("")
	defer backend.Finalize()
	inputs := []shapes.Shape{f32(8, 90), f32(90, 80)}
	exec := compile(t, backend, inputs, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		p, err := f.DotGeneral(in[0], []int{1}, nil, in[1], []int{0}, nil, compute.DotGeneralConfig{})
		if err != nil {
			return nil, err
		}
		e, err := f.Exp(p)
		if err != nil {
			return nil, err
		}
		return f.ReduceSum(e, 0)
	})
	flats := randomFlats(rand.New(rand.NewPCG(1, 2)), inputs)
	buffers := make([]compute.Buffer, len(inputs))
	for i := range inputs {
		buffers[i], _ = backend.BufferFromFlatData(0, flats[i], inputs[i])
	}
	step := func() {
		out, err := exec.Execute(buffers, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = out[0].Finalize()
	}
	step()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const steps = 10000
	for range steps {
		step()
	}
	runtime.ReadMemStats(&after)
	if perStep := (after.TotalAlloc - before.TotalAlloc) / steps; perStep > 1024 {
		t.Errorf("a step allocates %d bytes", perStep)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("the heap grew by %d bytes in %d steps", grown, steps)
	}
}

func TestFinalizeFrees(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	backend, _ := New("workers=4")
	exec := compile(t, backend, []shapes.Shape{f32(4 << 20)}, func(f compute.Function, in []compute.Value) (compute.Value, error) { return f.Exp(in[0]) })
	run(t, backend, exec, []any{make([]float32, 4<<20)})
	exec.Finalize()
	backend.Finalize()
	backend.Finalize()
	if !backend.IsFinalized() {
		t.Error("not finalized")
	}
	if _, err := backend.BufferFromFlatData(0, []float32{1}, f32(1)); err == nil {
		t.Error("a finalized backend makes buffers")
	}
	for range 100 {
		if runtime.NumGoroutine() <= goroutines {
			break
		}
		runtime.Gosched()
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("%d bytes stay", grown)
	}
}

func TestDump(t *testing.T) {
	var out bytes.Buffer
	defer func(w any) { dumpOutput = w.(interface{ Write([]byte) (int, error) }) }(dumpOutput)
	dumpOutput = &out
	backend, _ := New("dump")
	exec := compile(t, backend, chainInputs, chain)
	run(t, backend, exec, randomFlats(rand.New(rand.NewPCG(1, 2)), chainInputs))
	sorted := compile(t, backend, []shapes.Shape{shapes.Make(dtypes.Int32, 3)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.Clz(in[0])
	})
	exec.Finalize()
	sorted.Finalize()
	backend.Finalize()
	for _, want := range []string{"DotGeneral", "Fused", "GFLOP/s", "GB/s", "Clz (fallback)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the dump does not mention %q:\n%s", want, out.String())
		}
	}
}
