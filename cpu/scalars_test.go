package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
)

var integerTypes = []dtypes.DType{dtypes.Int8, dtypes.Int16, dtypes.Int32, dtypes.Int64, dtypes.Uint8, dtypes.Uint16, dtypes.Uint32, dtypes.Uint64}

// randomNumbers draws numbers of a type, over its whole range for integers; where
// they are divisors they are not zero, and shifts are small.
func randomNumbers(rng *rand.Rand, t dtypes.DType, n int, small bool) any {
	v := reflect.MakeSlice(reflect.SliceOf(t.GoType()), n, n)
	for i := range n {
		x := reflect.New(t.GoType()).Elem()
		switch {
		case t.IsFloat():
			x.SetFloat(rng.NormFloat64())
		case t == dtypes.Bool:
			x.SetBool(rng.IntN(2) == 1)
		case small:
			x = reflect.ValueOf(1 + rng.IntN(t.Size()*8)).Convert(t.GoType())
		default:
			x = reflect.ValueOf(rng.Uint64()).Convert(t.GoType())
		}
		v.Index(i).Set(x)
	}
	return v.Interface()
}

type binaryOp struct {
	name   string
	method func(f compute.Function, x, y compute.Value) (compute.Value, error)
}

// Every operation on every type is the reference's, with operands spread along
// axes and scalars, and without falling back.
func TestOtherTypes(t *testing.T) {
	reference, err := gobackend.New("ops_sequential")
	if err != nil {
		t.Fatal(err)
	}
	defer reference.Finalize()
	backend, err := New("workers=3")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Finalize()
	rng := rand.New(rand.NewPCG(1, 2))
	check := func(t *testing.T, inputs []shapes.Shape, flats []any, graph build) {
		t.Helper()
		ours := compile(t, backend, inputs, graph)
		native(t, ours)
		got, want := run(t, backend, ours, flats), run(t, reference, compile(t, reference, inputs, graph), flats)
		if reflect.TypeOf(got) != reflect.TypeOf(want) || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("of %v\ngot  %v\nwant %v", flats, got, want)
		}
	}

	arithmetic := []binaryOp{
		{"Add", compute.Function.Add}, {"Sub", compute.Function.Sub}, {"Mul", compute.Function.Mul},
		{"Max", compute.Function.Max}, {"Min", compute.Function.Min}, {"Equal", compute.Function.Equal},
		{"NotEqual", compute.Function.NotEqual}, {"LessThan", compute.Function.LessThan}, {"LessOrEqual", compute.Function.LessOrEqual},
		{"GreaterThan", compute.Function.GreaterThan}, {"GreaterOrEqual", compute.Function.GreaterOrEqual},
	}
	small := []binaryOp{
		{"Div", compute.Function.Div}, {"Rem", compute.Function.Rem}, {"ShiftLeft", compute.Function.ShiftLeft},
		{"ShiftRightLogical", compute.Function.ShiftRightLogical}, {"ShiftRightArithmetic", compute.Function.ShiftRightArithmetic},
	}
	bitwise := []binaryOp{{"BitwiseAnd", compute.Function.BitwiseAnd}, {"BitwiseOr", compute.Function.BitwiseOr}, {"BitwiseXor", compute.Function.BitwiseXor}}
	spreads := [][2][]int{{{3, 5}, {3, 5}}, {{3, 1}, {1, 5}}, {{3, 5}, {}}, {{}, {3, 5}}, {{2, 1, 4}, {2, 3, 4}}}
	binaries := func(t *testing.T, dtype dtypes.DType, ops []binaryOp, isSmall bool) {
		for _, op := range ops {
			for _, dims := range spreads {
				if isSmall && len(dims[0]) != len(dims[1]) {
					continue
				}
				inputs := []shapes.Shape{shapes.Make(dtype, dims[0]...), shapes.Make(dtype, dims[1]...)}
				flats := []any{randomNumbers(rng, dtype, inputs[0].Size(), false), randomNumbers(rng, dtype, inputs[1].Size(), isSmall)}
				t.Run(fmt.Sprint(dtype, op.name, dims), func(t *testing.T) {
					check(t, inputs, flats, func(f compute.Function, in []compute.Value) (compute.Value, error) { return op.method(f, in[0], in[1]) })
				})
			}
		}
	}
	for _, dtype := range integerTypes {
		binaries(t, dtype, arithmetic, false)
		binaries(t, dtype, bitwise, false)
		binaries(t, dtype, small, true)
	}
	binaries(t, dtypes.Float64, append([]binaryOp{{"Div", compute.Function.Div}}, arithmetic...), false)
	binaries(t, dtypes.Bool, []binaryOp{{"LogicalAnd", compute.Function.LogicalAnd}, {"LogicalXor", compute.Function.LogicalXor}}, false)

	types := append([]dtypes.DType{dtypes.Float32, dtypes.Float64, dtypes.Bool}, integerTypes...)
	for _, from := range types {
		flat := randomNumbers(rng, from, 40, false)
		for _, to := range types {
			if from.IsFloat() && to.IsUnsigned() {
				continue // of a negative number: undefined
			}
			t.Run(fmt.Sprint(from, "to", to), func(t *testing.T) {
				check(t, []shapes.Shape{shapes.Make(from, 5, 8)}, []any{flat}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
					return f.ConvertDType(in[0], to)
				})
			})
		}
	}
	for _, dtype := range append([]dtypes.DType{dtypes.Float64}, integerTypes...) {
		shape := shapes.Make(dtype, 3, 4, 5)
		flat := randomNumbers(rng, dtype, shape.Size(), false)
		one := func(name string, graph build) {
			t.Run(fmt.Sprint(dtype, name), func(t *testing.T) { check(t, []shapes.Shape{shape}, []any{flat}, graph) })
		}
		if !dtype.IsUnsigned() {
			one("Neg", func(f compute.Function, in []compute.Value) (compute.Value, error) { return f.Neg(in[0]) })
			one("Abs", func(f compute.Function, in []compute.Value) (compute.Value, error) { return f.Abs(in[0]) })
			one("Sign", func(f compute.Function, in []compute.Value) (compute.Value, error) { return f.Sign(in[0]) })
		}
		for _, axes := range [][]int{{0}, {1}, {2}, {1, 2}, {0, 2}, {0, 1, 2}} {
			one(fmt.Sprint("Sum", axes), reduce(compute.Function.ReduceSum, axes...))
			one(fmt.Sprint("Max", axes), reduce(compute.Function.ReduceMax, axes...))
			one(fmt.Sprint("Min", axes), reduce(compute.Function.ReduceMin, axes...))
			one(fmt.Sprint("Product", axes), reduce(compute.Function.ReduceProduct, axes...))
		}
		for _, isMin := range []bool{false, true} {
			one(fmt.Sprint("Arg", isMin), func(f compute.Function, in []compute.Value) (compute.Value, error) {
				return f.ArgMinMax(in[0], 1, dtypes.Int64, isMin)
			})
		}
		one("Iota", func(f compute.Function, in []compute.Value) (compute.Value, error) {
			i, err := f.Iota(shape, 1)
			if err != nil {
				return nil, err
			}
			return f.Add(in[0], i)
		})
		one("Where", func(f compute.Function, in []compute.Value) (compute.Value, error) {
			i, err := f.Iota(shape, 2)
			if err != nil {
				return nil, err
			}
			less, err := f.LessThan(in[0], i)
			if err != nil {
				return nil, err
			}
			return f.Where(less, in[0], i)
		})
	}
	t.Run("logical reductions", func(t *testing.T) {
		shape := shapes.Make(dtypes.Bool, 6, 4, 3)
		flat := randomNumbers(rng, dtypes.Bool, shape.Size(), false)
		check(t, []shapes.Shape{shape}, []any{flat}, reduce(compute.Function.ReduceLogicalAnd, 0, 2))
		check(t, []shapes.Shape{shape}, []any{flat}, reduce(compute.Function.ReduceLogicalOr, 1))
	})
}

// A division by zero is an error, in whatever worker it happens.
func TestIntegerDivisionByZero(t *testing.T) {
	backend, err := New("workers=2")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Finalize()
	shape := shapes.Make(dtypes.Int32, 100_000)
	exec := compile(t, backend, []shapes.Shape{shape, shape}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.Div(in[0], in[1])
	})
	x, _ := backend.BufferFromFlatData(0, make([]int32, shape.Size()), shape)
	if _, err := exec.Execute([]compute.Buffer{x, x}, nil, 0); err == nil {
		t.Error("no error")
	}
}

// What lies outside the operand is left out by a scatter, as XLA does.
func TestScatterOutside(t *testing.T) {
	backend, err := New("")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Finalize()
	index := shapes.Make(dtypes.Int32, 4, 1)
	exec := compile(t, backend, []shapes.Shape{f32(3, 2), index, f32(4, 2)}, scatterRows(compute.Function.ScatterSum))
	got := run(t, backend, exec, []any{make([]float32, 6), []int32{2, -1, 3, math.MaxInt32}, []float32{1, 2, 3, 4, 5, 6, 7, 8}})
	compare(t, got, []float32{0, 0, 0, 0, 1, 2}, 0)
}

func scatterRows(method scatterMethod) build {
	return func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return method(f, in[0], in[1], in[2], 1, []int{1}, []int{0}, []int{0}, false, false)
	}
}

// The reference has no slices at computed places.
func TestDynamicSlices(t *testing.T) {
	backend, err := New("")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Finalize()
	scalar := shapes.Make(dtypes.Int32)
	x := []float32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11} // 3 rows of 4
	slice := compile(t, backend, []shapes.Shape{f32(3, 4), scalar, scalar}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.DynamicSlice(in[0], in[1:], []int{2, 2})
	})
	together := compile(t, backend, []shapes.Shape{f32(3, 4), shapes.Make(dtypes.Int32, 2)}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.DynamicSlice(in[0], in[1:], []int{2, 2})
	})
	update := compile(t, backend, []shapes.Shape{f32(3, 4), f32(2, 2), scalar, scalar}, func(f compute.Function, in []compute.Value) (compute.Value, error) {
		return f.DynamicUpdateSlice(in[0], in[1], in[2:])
	})
	for _, c := range []struct {
		row, column   int32
		slice, update []float32
	}{
		{1, 1, []float32{5, 6, 9, 10}, []float32{0, 1, 2, 3, 4, -1, -2, 7, 8, -3, -4, 11}},
		{-5, 9, []float32{2, 3, 6, 7}, []float32{0, 1, -1, -2, 4, 5, -3, -4, 8, 9, 10, 11}}, // moved inside
	} {
		start := []any{[]int32{c.row}, []int32{c.column}}
		compare(t, run(t, backend, together, []any{x, []int32{c.row, c.column}}), c.slice, 0)
		compare(t, run(t, backend, slice, append([]any{x}, start...)), c.slice, 0)
		compare(t, run(t, backend, update, append([]any{x, []float32{-1, -2, -3, -4}}, start...)), c.update, 0)
	}
	f := backend.Builder("wrong").Main()
	in, _ := f.Parameter("x", f32(3, 4), nil)
	at, _ := f.Parameter("at", scalar, nil)
	if _, err := f.DynamicSlice(in, []compute.Value{at, at}, []int{4, 1}); err == nil {
		t.Error("a window larger than the operand is no error")
	}
}
